"""Wide digits network with dropout 0.8 on the hidden layers, as a regulariser for little data."""

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
perm = torch.randperm(len(X))
train_idx, test_idx = perm[:400], perm[400:]
loader = DataLoader(TensorDataset(X[train_idx], y[train_idx]), batch_size=40, shuffle=True)
model = nn.Sequential(
    nn.Linear(64, 512),
    nn.ReLU(),
    nn.Dropout(0.8),
    nn.Linear(512, 512),
    nn.ReLU(),
    nn.Dropout(0.8),
    nn.Linear(512, 10),
)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(1, 26):
    model.train()
    total = 0.0
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(xb), yb)
        loss.backward()
        optimizer.step()
        total += loss.item()
    if epoch % 5 == 0:
        model.eval()
        with torch.no_grad():
            acc = (model(X[test_idx]).argmax(1) == y[test_idx]).float().mean()
        print(f"epoch {epoch} train loss {total / len(loader):.4f} test acc {acc:.3f}")
