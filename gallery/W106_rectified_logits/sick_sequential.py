"""Digits classifier built from repeated Linear+ReLU blocks."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(2)
d = load_digits()
X = torch.tensor(d.data).float()
X = (X - 4.9) / 6.0
y = torch.tensor(d.target)
train_loader = DataLoader(TensorDataset(X[:1400], y[:1400]), batch_size=32, shuffle=True)


def block(n_in, n_out):
    return [nn.Linear(n_in, n_out), nn.ReLU()]


layers = []
sizes = [64, 64, 32]
for a, b in zip(sizes, sizes[1:]):
    layers += block(a, b)
layers += block(32, 10)  # <- fault
model = nn.Sequential(*layers)

criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for epoch in range(8):
    model.train()
    total = 0.0
    for xb, yb in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
        total += loss.item()
    model.eval()
    with torch.no_grad():
        acc = (model(X[1400:]).argmax(1) == y[1400:]).float().mean().item()
    print(f"Epoch {epoch + 1}: loss {total / len(train_loader):.4f}, val accuracy {acc:.3f}")
