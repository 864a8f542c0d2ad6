"""Regime of a drifting series, read in order of time: neighbouring labels are nearly the same."""

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

rng = np.random.default_rng(0)
torch.manual_seed(0)
n, window = 3000, 24
regime = np.zeros(n, dtype=int)
for t in range(1, n):
    regime[t] = rng.choice(3) if rng.random() < 0.05 else regime[t - 1]
noise = rng.normal(size=n)
phi = np.array([0.9, 0.0, -0.8])[regime]
series = np.zeros(n)
for t in range(1, n):
    series[t] = phi[t] * series[t - 1] + noise[t]
rows = np.stack([series[t - window : t] for t in range(window, n)])
X = torch.tensor(rows, dtype=torch.float32)[:, None]
y = torch.tensor(regime[window - 1 : n - 1])
cut = 2400
loader = DataLoader(TensorDataset(X[:cut], y[:cut]), batch_size=32, shuffle=False)
model = nn.Sequential(
    nn.Conv1d(1, 16, 5, padding=2),
    nn.ReLU(),
    nn.Conv1d(16, 16, 5, padding=2),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(16 * window, 3),
)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(1, 11):
    total = 0.0
    for xb, yb in loader:
        loss = nn.functional.cross_entropy(model(xb), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    with torch.no_grad():
        acc = (model(X[cut:]).argmax(1) == y[cut:]).float().mean()
    print(f"epoch {epoch} loss {total / len(loader):.4f} later acc {acc:.3f}")
