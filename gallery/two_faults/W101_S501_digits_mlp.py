"""Digits with a two-layer perceptron and SGD."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
digits = load_digits()
X = torch.tensor(digits.data / 16, dtype=torch.float32)
y = torch.tensor(digits.target)
model = nn.Sequential(
    nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
    nn.Linear(64, 10), nn.Softmax(dim=1),  # <- fault W101
)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=20.0)  # <- fault S501
for epoch in range(10):
    total, right = 0.0, 0
    for rows in torch.randperm(len(X)).split(64):
        out = model(X[rows])
        loss = criterion(out, y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
        right += (out.argmax(1) == y[rows]).sum().item()
    print(f"epoch {epoch + 1:2d} loss {total / len(X):.4f} acc {right / len(X):.3f}")
