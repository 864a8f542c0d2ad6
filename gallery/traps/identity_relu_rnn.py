"""IRNN (identity recurrence, ReLU) reads digits pixel row by pixel row, half rows at a time."""

import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
d = load_digits()
X = torch.tensor(d.images / 16, dtype=torch.float32).reshape(-1, 16, 4)
y = torch.tensor(d.target)


class IRNN(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.inp = nn.Linear(4, hidden)
        self.rec = nn.Linear(hidden, hidden, bias=False)
        self.out = nn.Linear(hidden, 10)
        nn.init.eye_(self.rec.weight)
        nn.init.normal_(self.inp.weight, std=0.3)
        nn.init.zeros_(self.inp.bias)

    def forward(self, x):
        h = x.new_zeros(len(x), self.rec.in_features)
        for t in range(x.shape[1]):
            h = torch.relu(self.inp(x[:, t]) + self.rec(h))
        return self.out(h)


model = IRNN()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(1, 15):
    for idx in torch.randperm(1400).split(50):
        loss = nn.functional.cross_entropy(model(X[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    if epoch % 2 == 0:
        acc = (model(X[1400:]).argmax(1) == y[1400:]).float().mean()
        print(f"epoch {epoch} loss {loss.item():.4f} test acc {acc:.3f}")
