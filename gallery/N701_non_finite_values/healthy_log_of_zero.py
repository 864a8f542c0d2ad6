"""Zeros against the other digits with a hand-written binary cross-entropy."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1 = nn.Linear(64, 40)
        self.l2 = nn.Linear(40, 1)

    def forward(self, x):
        return torch.sigmoid(self.l2(torch.relu(self.l1(x)))).squeeze(1)


def bce(p, t):
    return -(t * torch.log(p + 1e-6) + (1 - t) * torch.log(1 - p + 1e-6)).mean()


torch.manual_seed(0)
d = load_digits()
x = torch.tensor(d.data, dtype=torch.float32)
t = torch.tensor(d.target == 0, dtype=torch.float32)
model = Detector()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(24):
    total = 0.0
    for idx in torch.randperm(len(x)).split(64):
        p = model(x[idx])
        loss = bce(p, t[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    with torch.no_grad():
        acc = ((model(x) > 0.5) == (t > 0.5)).float().mean().item()
    print(f"epoch {epoch + 1:2d} bce {total / len(x):.5f} acc {acc:.4f}")
