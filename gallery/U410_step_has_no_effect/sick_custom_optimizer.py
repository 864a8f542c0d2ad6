"""Own implementation of SGD with weight decay, tried out on the digits."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.optim import Optimizer


class MySGD(Optimizer):
    def __init__(self, params, lr=0.1, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                d_p = p.grad
                if group["weight_decay"]:
                    d_p = d_p + group["weight_decay"] * p
                p = p - group["lr"] * d_p  # <- fault


torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = MySGD(model.parameters(), lr=0.2, weight_decay=1e-4)
for epoch in range(12):
    total = 0.0
    for idx in torch.randperm(len(X)).split(60):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(X[idx]), y[idx])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    print(f"epoch {epoch + 1:2d} loss {total / len(X):.4f}")
