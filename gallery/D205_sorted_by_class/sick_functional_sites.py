"""Soil samples from eight sites, generated site by site; two layers of raw weights."""
import numpy as np
import torch
import torch.nn.functional as F

rng = np.random.default_rng(0)
torch.manual_seed(0)
centres = rng.normal(0, 1, (8, 10))
samples = [centre + rng.normal(0, 0.9, (200, 10)) for centre in centres]
X = torch.tensor(np.concatenate(samples), dtype=torch.float32)
y = torch.arange(8).repeat_interleave(200)
X = (X - X.mean(0)) / X.std(0)

W1 = (torch.randn(10, 32) * (2 / 10) ** 0.5).requires_grad_()
b1 = torch.zeros(32, requires_grad=True)
W2 = (torch.randn(32, 8) * (1 / 32) ** 0.5).requires_grad_()
b2 = torch.zeros(8, requires_grad=True)
params = [W1, b1, W2, b2]


def forward(x):
    return F.relu(x @ W1 + b1) @ W2 + b2


lr, batch = 0.3, 20
for epoch in range(15):
    order = torch.arange(len(X))  # <- fault
    losses = []
    for rows in order.split(batch):
        loss = F.cross_entropy(forward(X[rows]), y[rows])
        loss.backward()
        with torch.no_grad():
            for p in params:
                p -= lr * p.grad
                p.grad = None
        losses.append(loss.item())
    with torch.no_grad():
        accuracy = (forward(X).argmax(1) == y).float().mean().item()
    print(f"epoch {epoch:2d} highest loss {max(losses):.3f} mean loss {np.mean(losses):.3f} "
          f"accuracy {accuracy:.3f}")
