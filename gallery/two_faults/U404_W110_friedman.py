"""Regression of a generated response on eight inputs, Adam, test score printed."""
import torch
import torch.nn as nn
from sklearn.datasets import make_friedman1

torch.manual_seed(0)
X, y = make_friedman1(1000, n_features=8, noise=0.3, random_state=0)
X = torch.tensor(X * 2 - 1, dtype=torch.float32)
y = torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32)
train, test = slice(0, 800), slice(800, None)

model = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
warmup = 1000  # <- fault U404
seen = 0
for epoch in range(25):
    losses = []
    for rows in torch.randperm(800).split(40):
        loss = nn.functional.mse_loss(model(X[train][rows]), y[train][rows])  # <- fault W110
        optimizer.zero_grad()
        loss.backward()
        seen += 1
        if seen > warmup:
            optimizer.step()
        losses.append(loss.item())
    if epoch % 3 == 0:
        with torch.no_grad():
            error = (model(X[test]).squeeze(1) - y[test]).pow(2).mean().item()
        r2 = 1 - error / y[test].var().item()
        print(f"epoch {epoch + 1:2d} loss {sum(losses) / len(losses):.4f} test R2 {r2:.3f}")
