"""Maximise the mean log-likelihood with an optimizer told to maximise."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_iris

torch.manual_seed(0)
iris = load_iris()
X, y = torch.tensor(iris.data).float(), torch.tensor(iris.target)
X = (X - X.mean(0)) / X.std(0)
model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
opt = torch.optim.Adam(model.parameters(), lr=0.01, maximize=True)
for epoch in range(1, 41):
    for i in torch.randperm(150).split(25):
        loglik = F.log_softmax(model(X[i]), dim=1).gather(1, y[i, None]).mean()
        opt.zero_grad()
        loglik.backward()
        opt.step()
    if epoch % 8 == 0:
        print(f"epoch {epoch}: log-likelihood {loglik.item():.4f} acc {(model(X).argmax(1) == y).float().mean():.3f}")
