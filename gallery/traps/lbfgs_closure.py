"""A small network on iris with L-BFGS, strong Wolfe line search."""
import torch
import torch.nn as nn
from sklearn.datasets import load_iris

torch.manual_seed(0)
X, y = load_iris(return_X_y=True)
X = torch.tensor(X, dtype=torch.float32)
X = (X - X.mean(0)) / X.std(0)
y = torch.tensor(y)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.LBFGS(model.parameters(), lr=1, max_iter=8, line_search_fn="strong_wolfe")


def closure():
    optimizer.zero_grad()
    loss = criterion(model(X), y) + 1e-3 * sum(p.square().sum() for p in model.parameters())
    loss.backward()
    return loss


for i in range(15):
    loss = optimizer.step(closure)
    print(f"{i:2d} {loss.item():.5f}")
print("accuracy", (model(X).argmax(1) == y).float().mean().item())
