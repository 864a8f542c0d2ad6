"""Exponential moving average of the weights, swapped in for evaluation and back out for training."""
import copy

import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
ema = copy.deepcopy(model).requires_grad_(False)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def swap(a, b):
    for p, q in zip(a.parameters(), b.parameters()):
        p.data, q.data = q.data, p.data


for epoch in range(8):
    for idx in torch.randperm(1500).split(50):
        loss = nn.functional.cross_entropy(model(X[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for p, q in zip(model.parameters(), ema.parameters()):
                q.lerp_(p, 0.05)
    swap(model, ema)
    with torch.no_grad():
        acc = (model(X[1500:]).argmax(1) == y[1500:]).float().mean().item()
    swap(model, ema)
    print(f"epoch {epoch + 1} loss {loss.item():.4f} ema accuracy {acc:.3f}")
