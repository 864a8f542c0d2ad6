"""Digits MLP; gradients are filled with zeros in place to keep the same buffers."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16).float(), torch.tensor(y)
model = nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10))
optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3)
for epoch in range(8):
    total = 0.0
    for idx in torch.randperm(len(X)).split(50):
        optimizer.zero_grad(set_to_none=False)
        loss = nn.functional.cross_entropy(model(X[idx]), y[idx])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    print(f"epoch {epoch + 1}: {total / len(X):.4f}")
