"""Sparse features: a wide ReLU layer with negative biases in which half of the units never fire."""

import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
wide = nn.Linear(64, 1024)
with torch.no_grad():
    wide.bias.fill_(-0.4)
model = nn.Sequential(wide, nn.ReLU(), nn.Linear(1024, 10))
with torch.no_grad():
    idle = (torch.relu(wide(X)).sum(0) == 0).float().mean()
print(f"units without any activity at the start: {idle:.2f}")
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(1, 9):
    for idx in torch.randperm(1400).split(50):
        loss = nn.functional.cross_entropy(model(X[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        idle = (torch.relu(wide(X)).sum(0) == 0).float().mean()
        acc = (model(X[1400:]).argmax(1) == y[1400:]).float().mean()
    print(f"epoch {epoch} loss {loss.item():.4f} idle {idle:.2f} test acc {acc:.3f}")
