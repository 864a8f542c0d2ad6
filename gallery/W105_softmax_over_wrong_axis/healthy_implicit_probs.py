"""Iris species with class probabilities and the logarithm taken in the loss."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_iris

torch.manual_seed(0)
iris = load_iris()
x = torch.tensor(iris.data, dtype=torch.float32)
x = (x - x.mean(0)) / x.std(0)
y = torch.tensor(iris.target)

w = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = torch.optim.RMSprop(w.parameters(), lr=0.005)

for it in range(1, 401):
    batch = torch.randint(0, len(x), (30,))
    probs = F.softmax(w(x[batch]), dim=1)
    loss = F.nll_loss(torch.log(probs + 1e-9), y[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if it % 50 == 0:
        acc = (w(x).argmax(1) == y).float().mean()
        print(f"{it:4d}  loss={loss:.4f}  acc={acc:.3f}")
