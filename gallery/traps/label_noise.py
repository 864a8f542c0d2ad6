"""Digits with 30 % of the training labels drawn at random; the clean test set tells the truth."""

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
noisy = y[:1400].clone()
flip = torch.rand(1400) < 0.3
noisy[flip] = torch.randint(10, (int(flip.sum()),))
loader = DataLoader(TensorDataset(X[:1400], noisy), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
for epoch in range(1, 13):
    total = 0.0
    for xb, yb in loader:
        loss = nn.functional.cross_entropy(model(xb), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    if epoch % 2 == 0:
        acc = (model(X[1400:]).argmax(1) == y[1400:]).float().mean()
        print(f"epoch {epoch} noisy loss {total / len(loader):.4f} clean test acc {acc:.3f}")
