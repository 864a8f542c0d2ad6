"""Digits with a deep, narrow network of nine hidden layers, SGD on mini-batches."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


def make_model(n_in=64, width=32, depth=9, n_out=10):
    layers = []
    for i in range(depth):
        linear = nn.Linear(n_in if i == 0 else width, width)
        nn.init.kaiming_normal_(linear.weight)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, n_out))


torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X = torch.tensor((X - 5) / 6, dtype=torch.float32)
y = torch.tensor(y)
train_data, test_data = TensorDataset(X[:1400], y[:1400]), TensorDataset(X[1400:], y[1400:])
loader = DataLoader(train_data, batch_size=32, shuffle=True)
model = make_model()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
criterion = nn.CrossEntropyLoss()
for epoch in range(12):
    total = 0.0
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
        total += loss.item()
    with torch.no_grad():
        xt, yt = test_data.tensors
        accuracy = (model(xt).argmax(1) == yt).float().mean().item()
    print(f"epoch {epoch + 1}: loss {total / len(loader):.4f}, test accuracy {accuracy:.3f}")
