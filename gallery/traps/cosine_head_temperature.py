"""Cosine-similarity classifier with a fixed scale of 20 on the digits."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class CosineClassifier(nn.Module):
    def __init__(self, dim, n_classes, scale=20.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_classes, dim))
        self.scale = scale

    def forward(self, h):
        return self.scale * F.linear(F.normalize(h), F.normalize(self.weight))


torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X).float() / 16, torch.tensor(y)
net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), CosineClassifier(32, 10))
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
for epoch in range(10):
    total = 0
    for i in torch.randperm(len(X)).split(64):
        loss = F.cross_entropy(net(X[i]), y[i])
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item() * len(i)
    acc = (net(X).argmax(1) == y).float().mean().item()
    print(f"epoch {epoch} loss {total / len(X):.4f} acc {acc:.3f}")
