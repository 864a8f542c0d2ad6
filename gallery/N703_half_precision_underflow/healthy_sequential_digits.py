"""Digits MLP on standardised pixels, DataLoader and plain SGD."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
digits = load_digits()
X = torch.tensor(StandardScaler().fit_transform(digits.data), dtype=torch.float32)
y = torch.tensor(digits.target)
loader = DataLoader(TensorDataset(X, y), batch_size=8, shuffle=True)
dtype = torch.float32

model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10)).to(dtype)
for layer in (model[0], model[2]):
    nn.init.xavier_uniform_(layer.weight)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
for epoch in range(8):
    total, hits = 0.0, 0
    for xb, yb in loader:
        out = model(xb.to(dtype))
        loss = criterion(out.float(), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(yb)
        hits += (out.argmax(1) == yb).sum().item()
    print(f"epoch {epoch + 1:2d} loss {total / len(y):.4f} acc {hits / len(y):.3f}")
