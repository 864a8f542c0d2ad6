"""Binary hidden code with a straight-through estimator, written as a custom autograd function."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits


class Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx, grad):
        x, = ctx.saved_tensors
        return grad * (x.abs() <= 1)


class BinaryCodeNet(nn.Module):
    def __init__(self, bits=32):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, bits), nn.BatchNorm1d(bits))
        self.head = nn.Linear(bits, 10)

    def forward(self, x):
        return self.head(Sign.apply(self.encoder(x)))


torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
model = BinaryCodeNet()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for epoch in range(8):
    total = 0.0
    for idx in torch.randperm(len(X)).split(64):
        loss = nn.functional.cross_entropy(model(X[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    print(f"epoch {epoch + 1} loss {total / len(X):.4f}")
