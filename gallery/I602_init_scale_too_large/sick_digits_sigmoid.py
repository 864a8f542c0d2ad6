"""Digits with one sigmoid hidden layer on raw tensors, written out by hand, plain SGD."""
import torch
from sklearn.datasets import load_digits

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X = torch.tensor(X / 16, dtype=torch.float32)
y = torch.tensor(y)
perm = torch.randperm(len(X))
train, test = perm[:1400], perm[1400:]

W = torch.rand(64, 80)  # <- fault
V = torch.randn(80, 10) * 0.1
b, c = torch.zeros(80), torch.zeros(10)
params = [W, b, V, c]
for p in params:
    p.requires_grad_(True)


def model(x):
    hidden = torch.sigmoid(x @ W + b)
    return hidden @ V + c


optimizer = torch.optim.SGD(params, lr=0.05)
criterion = torch.nn.CrossEntropyLoss()
for epoch in range(24):
    total = 0.0
    for idx in train[torch.randperm(len(train))].split(20):
        optimizer.zero_grad()
        loss = criterion(model(X[idx]), y[idx])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    if epoch % 3 == 2:
        with torch.no_grad():
            acc = (model(X[test]).argmax(1) == y[test]).float().mean().item()
        print(f"epoch {epoch + 1:2d}  loss {total / len(train):.4f}  test accuracy {acc:.3f}")
