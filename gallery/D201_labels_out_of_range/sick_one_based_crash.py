"""Letters-style coding: digits labelled 1 to 10, cross-entropy over ten classes."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
digits = load_digits()
records = [{"pixels": p, "label": f"digit {t + 1}"} for p, t in zip(digits.data, digits.target)]
x = torch.tensor([list(r["pixels"]) for r in records]).float() / 16
y = torch.tensor([int(r["label"].split()[1]) for r in records])  # <- fault
loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(8):
    total = 0.0
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(xb)
    print(f"epoch {epoch + 1} loss {total / len(x):.4f}")
