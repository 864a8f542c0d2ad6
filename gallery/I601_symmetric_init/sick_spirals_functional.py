"""Three interleaved spirals with a tanh network of plain tensors, Adam, full batches."""
import math

import torch
import torch.nn.functional as F


def spirals(n, classes=3, noise=0.06):
    t = torch.rand(n)
    y = torch.arange(n) % classes
    angle = 2 * math.pi * (y / classes + 0.8 * t)
    x = torch.stack([t * angle.cos(), t * angle.sin()], dim=1)
    return 2 * x + noise * torch.randn(n, 2), y


torch.manual_seed(0)
x, y = spirals(900)
sizes = [2, 40, 40, 3]
weights, biases = [], []
for a, b in zip(sizes, sizes[1:]):
    w = torch.zeros(a, b)  # <- fault
    weights.append(w.requires_grad_())
    biases.append(torch.zeros(b, requires_grad=True))


def predict(x):
    for w, b in zip(weights[:-1], biases[:-1]):
        x = torch.tanh(x @ w + b)
    return x @ weights[-1] + biases[-1]


optimizer = torch.optim.Adam(weights + biases, lr=0.02)
for step in range(1, 501):
    logits = predict(x)
    loss = F.cross_entropy(logits, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        acc = (logits.argmax(1) == y).float().mean().item()
        print(f"step {step:3d} loss {loss.item():.4f} accuracy {acc:.3f}")
