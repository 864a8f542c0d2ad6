"""Imbalanced digits (zeros dominate) with inverse-frequency class weights."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X).float() / 16, torch.tensor(y)
keep = torch.cat([torch.where(y == k)[0][: (170 if k == 0 else 12 + 3 * k)] for k in range(10)])
X, y = X[keep], y[keep]
counts = torch.bincount(y, minlength=10).float()
weights = counts.sum() / (len(counts) * counts)
print("counts", counts.int().tolist())
loader = DataLoader(TensorDataset(X, y), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
criterion = nn.CrossEntropyLoss(weight=weights)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(20):
    total = 0.0
    for xb, yb in loader:
        loss = criterion(model(xb), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    if epoch % 4 == 3:
        pred = model(X).argmax(1)
        recall = torch.stack([(pred[y == k] == k).float().mean() for k in range(10)]).mean()
        print(f"epoch {epoch + 1}: weighted loss {total / len(loader):.4f} balanced acc {recall:.3f}")
