"""Digits with a tanh perceptron, Adam with a falling step, tensors only."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
digits = load_digits()
X = torch.tensor(digits.data, dtype=torch.float32)
X = (X - X.mean(0)) / (X.std(0) + 1e-6)
y = torch.tensor(digits.target)
order = torch.randperm(len(X))
X, y = X[order], y[order]
train, test = slice(0, 1400), slice(1400, None)

width = 1  # <- fault
model = nn.Sequential(nn.Linear(64, width), nn.Tanh(), nn.Linear(width, 10))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)

for epoch in range(20):
    total = 0.0
    for idx in torch.randperm(1400).split(50):
        optimizer.zero_grad()
        loss = criterion(model(X[train][idx]), y[train][idx])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    schedule.step()
    if epoch % 5 == 4:
        with torch.no_grad():
            acc = (model(X[test]).argmax(1) == y[test]).float().mean().item()
        print(f"epoch {epoch + 1:2d}  loss {total / 1400:.4f}  test acc {acc:.3f}")
