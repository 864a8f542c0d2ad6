"""Digits as floats 0..255; the model divides and centres them itself with buffers."""

import torch
import torch.nn as nn
from sklearn.datasets import load_digits


class Normalise(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x):
        return (x / 255.0 - self.mean) / self.std


class Net(nn.Module):
    def __init__(self, x):
        super().__init__()
        x = x / 255.0
        self.prep = Normalise(x.mean(), x.std())
        self.fc1 = nn.Linear(64, 96)
        self.fc2 = nn.Linear(96, 10)

    def forward(self, x):
        x = torch.relu(self.fc1(self.prep(x)))
        return self.fc2(x)


torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X * 255 / 16, dtype=torch.float32), torch.tensor(y)
print(f"inputs from {X.min():.0f} to {X.max():.0f}, mean {X.mean():.1f}")
model = Net(X[:1400])
optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
for epoch in range(15):
    model.train()
    for idx in torch.randperm(1400).split(32):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(X[idx]), y[idx])
        loss.backward()
        optimizer.step()
    if epoch % 3 == 2:
        model.eval()
        acc = (model(X[1400:]).argmax(1) == y[1400:]).float().mean()
        print(f"epoch {epoch + 1} loss {loss.item():.4f} test acc {acc:.3f}")
