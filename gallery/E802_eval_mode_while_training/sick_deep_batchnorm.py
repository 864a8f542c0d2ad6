"""Seven-layer perceptron with batch norm on the digits, plain SGD."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
digits = load_digits()
X = torch.tensor(digits.data, dtype=torch.float32) / 8 - 1
y = torch.tensor(digits.target)
order = torch.randperm(len(X))
train, test = order[:1300], order[1300:]

sizes = [64, 48, 48, 48, 48, 48, 48]
layers = []
for a, b in zip(sizes[:-1], sizes[1:]):
    layers += [nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU()]
model = nn.Sequential(*layers, nn.Linear(48, 10))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

model.eval()
print(f"before training: test loss {criterion(model(X[test]), y[test]).item():.4f}")
model.eval()  # <- fault
for epoch in range(12):
    total = 0.0
    for step in range(26):
        rows = train[torch.randperm(1300)[:50]]
        optimizer.zero_grad()
        loss = criterion(model(X[rows]), y[rows])
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(f"epoch {epoch + 1:2d}  training loss {total / 26:.4f}")
model.eval()
with torch.no_grad():
    acc = (model(X[test]).argmax(1) == y[test]).float().mean().item()
print(f"test accuracy {acc:.3f}")
