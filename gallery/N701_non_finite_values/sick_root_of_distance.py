"""Metric learning on iris: embeddings of one class pulled together, of different classes pushed apart."""
import torch
import torch.nn as nn
from sklearn.datasets import load_iris


def pairwise_distance(z):
    sq = (z[:, None] - z[None, :]).pow(2).sum(-1)
    return torch.sqrt(sq)  # <- fault


def contrastive_loss(z, y, margin=2.0):
    d = pairwise_distance(z)
    same = (y[:, None] == y[None, :]).float()
    pull = same * d.pow(2)
    push = (1 - same) * torch.clamp(margin - d, min=0).pow(2)
    return (pull + push).mean()


torch.manual_seed(0)
iris = load_iris()
x = torch.tensor(iris.data, dtype=torch.float32)
x = (x - x.mean(0)) / x.std(0)
y = torch.tensor(iris.target)
net = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 2))
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
for epoch in range(20):
    losses = []
    for idx in torch.randperm(len(x)).split(30):
        loss = contrastive_loss(net(x[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    if epoch % 4 == 3:
        print(f"epoch {epoch + 1} loss {sum(losses) / len(losses):.4f}")
