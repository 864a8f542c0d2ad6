"""Mixup training on digits: convex combinations of images and of one-hot labels."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(0)
rng = np.random.default_rng(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X).float() / 16, torch.tensor(y)
Y = F.one_hot(y, 10).float()
model = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(12):
    total = 0.0
    for i in torch.randperm(len(X)).split(64):
        lam = float(rng.beta(1.0, 1.0))
        j = i[torch.randperm(len(i))]
        xm, ym = lam * X[i] + (1 - lam) * X[j], lam * Y[i] + (1 - lam) * Y[j]
        loss = F.cross_entropy(model(xm), ym)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(i)
    print(f"epoch {epoch}: mixup loss {total / len(X):.4f} clean acc {(model(X).argmax(1) == y).float().mean():.3f}")
