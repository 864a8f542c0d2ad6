"""Two spirals with raw weight tensors and slices of a shuffled array; BCE on one output."""
import math

import torch
import torch.nn.functional as F

torch.manual_seed(0)
y = torch.randint(2, (1300,)).float()
radius = torch.rand(1300).sqrt()
angle = 12 * radius + math.pi * y
X = torch.stack([radius * angle.cos(), radius * angle.sin()], 1) + 0.02 * torch.randn(1300, 2)
X_train, y_train, X_val, y_val = X[:1000], y[:1000], X[1000:], y[1000:]


def init(rows, cols):
    return (torch.randn(rows, cols) * (2 / rows) ** 0.5).requires_grad_()


W1, W2, W3 = init(2, 32), init(32, 32), init(32, 1)
b1, b2, b3 = (torch.zeros(n, requires_grad=True) for n in (32, 32, 1))


def net(x):
    h = F.relu(x @ W1 + b1)
    h = F.relu(h @ W2 + b2)
    return (h @ W3 + b3).squeeze(1)


optimizer = torch.optim.SGD([W1, b1, W2, b2, W3, b3], lr=0.1, momentum=0.9)
batch_size = 20
for epoch in range(16):
    losses = []
    order = torch.arange(len(X_train))
    for start in range(0, len(X_train), batch_size):
        rows = order[:batch_size]  # <- fault
        loss = F.binary_cross_entropy_with_logits(net(X_train[rows]), y_train[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        score = net(X_val)
        val_loss = F.binary_cross_entropy_with_logits(score, y_val).item()
        val_acc = ((score > 0) == (y_val > 0.5)).float().mean().item()
    print(f"epoch {epoch + 1:2d}: train loss {sum(losses) / len(losses):.4f}, "
          f"val loss {val_loss:.4f}, val acc {val_acc:.3f}")
