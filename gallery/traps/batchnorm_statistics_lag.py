"""Checked in eval mode from the first steps on, when the running statistics still lag behind."""

import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
model = nn.Sequential(
    nn.Linear(64, 64),
    nn.BatchNorm1d(64, momentum=0.02),
    nn.ReLU(),
    nn.Linear(64, 64),
    nn.BatchNorm1d(64, momentum=0.02),
    nn.ReLU(),
    nn.Linear(64, 10),
)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
step = 0
for epoch in range(14):
    for idx in torch.randperm(1400).split(64):
        model.train()
        loss = nn.functional.cross_entropy(model(X[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step in (5, 20, 50, 100, 200, 300):
            model.eval()
            with torch.no_grad():
                out = model(X[1400:])
                val = nn.functional.cross_entropy(out, y[1400:])
                acc = (out.argmax(1) == y[1400:]).float().mean()
            print(f"step {step} train {loss.item():.4f} val {val:.4f} val acc {acc:.3f}")
