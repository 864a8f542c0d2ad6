"""Learning-rate sweep: one short training per value, the best is reported."""
import torch
import torch.nn as nn
from sklearn.datasets import load_iris

X, y = load_iris(return_X_y=True)
X = torch.tensor(X, dtype=torch.float32)
X = (X - X.mean(0)) / X.std(0)
y = torch.tensor(y)


def train(lr, steps=100):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for _ in range(steps):
        idx = torch.randint(len(X), (32,))
        loss = nn.functional.cross_entropy(model(X[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return nn.functional.cross_entropy(model(X), y).item()


results = {lr: train(lr) for lr in (0.003, 0.01, 0.03, 0.1)}
for lr, loss in results.items():
    print(f"lr {lr:<6} final loss {loss:.4f}")
print("best", min(results, key=results.get))
