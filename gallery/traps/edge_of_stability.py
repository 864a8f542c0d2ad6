"""Full-batch gradient descent at the edge of stability, squared error on one-hot targets."""

import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor((X - X.mean()) / X.std(), dtype=torch.float32)[:500], torch.tensor(y)[:500]
target = nn.functional.one_hot(y, 10).float()
model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
rises, last = 0, float("inf")
for step in range(1, 601):
    optimizer.zero_grad()
    out = model(X)
    loss = nn.functional.mse_loss(out, target)
    loss.backward()
    optimizer.step()
    rises += int(loss.item() > last)
    last = loss.item()
    if step % 60 == 0:
        acc = (out.argmax(1) == y).float().mean()
        print(f"step {step} loss {loss.item():.4f} acc {acc:.3f} steps upwards so far {rises}")
