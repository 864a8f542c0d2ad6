"""Deep linear network with its saddle-to-saddle learning on linearly separable data."""

import torch
import torch.nn as nn
from sklearn.datasets import make_classification

torch.manual_seed(0)
X, y = make_classification(
    1000,
    20,
    n_informative=6,
    n_redundant=2,
    class_sep=2.0,
    n_clusters_per_class=1,
    flip_y=0,
    random_state=5,
)
X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
X = (X - X.mean(0)) / X.std(0)
layers = [nn.Linear(20, 20, bias=False) for _ in range(4)]
for layer in layers:
    nn.init.orthogonal_(layer.weight, gain=0.3)
model = nn.Sequential(*layers, nn.Linear(20, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for step in range(1, 801):
    idx = torch.randint(len(X), (64,))
    loss = nn.functional.cross_entropy(model(X[idx]), y[idx])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        acc = (model(X).argmax(1) == y).float().mean()
        print(f"step {step} loss {loss.item():.4f} acc {acc:.3f}")
