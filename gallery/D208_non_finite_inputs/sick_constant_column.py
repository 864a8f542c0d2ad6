"""Standardised digits pixels into an MLP, plain PyTorch."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
digits = load_digits()
X = torch.tensor(digits.data, dtype=torch.float32)
X = (X - X.mean(0)) / X.std(0)  # <- fault
y = torch.tensor(digits.target)
model = nn.Sequential(nn.Linear(64, 50), nn.ReLU(), nn.Linear(50, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
criterion = nn.CrossEntropyLoss()
for epoch in range(8):
    total = correct = 0
    for idx in torch.randperm(len(X)).split(64):
        out = model(X[idx])
        loss = criterion(out, y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
        correct += (out.argmax(1) == y[idx]).sum().item()
    print(f"epoch {epoch + 1} loss {total / len(X):.4f} acc {correct / len(X):.3f}")
