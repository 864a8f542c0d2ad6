"""Softmax regression and one hidden layer by hand, without torch.optim."""
import torch
import torch.nn as nn
from sklearn.datasets import load_wine

torch.manual_seed(0)
wine = load_wine()
X = torch.tensor(wine.data).float()
X = (X - X.mean(0)) / X.std(0)
Y = torch.tensor(wine.target)
net = nn.Sequential(nn.Linear(13, 16), nn.Tanh(), nn.Linear(16, 3))
lr = 0.2
for it in range(300):
    net.zero_grad()
    out = net(X)
    loss = nn.functional.cross_entropy(out, Y)
    loss.backward()
    for p in net.parameters():
        p.data.sub(lr * p.grad)  # <- fault
    if it % 50 == 49:
        print(f"iteration {it + 1} loss {loss.item():.4f} acc {(out.argmax(1) == Y).float().mean().item():.3f}")
