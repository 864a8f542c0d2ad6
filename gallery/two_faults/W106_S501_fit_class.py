"""Digits with a three-layer network and a Fit class, SGD with momentum."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


class ReluNet(nn.Module):
    def __init__(self, sizes=(64, 32, 32, 10)):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:]))
        nn.init.constant_(self.layers[-1].bias, -0.35)

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return F.relu(self.layers[-1](x))  # <- fault W106


class Fit:
    def __init__(self, net, lr):
        self.net = net
        self.opt = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)

    def step(self, x, y):
        loss = F.cross_entropy(self.net(x), y)
        self.opt.zero_grad()
        loss.backward()
        self.opt.step()
        return loss.item()

    @torch.no_grad()
    def accuracy(self, x, y):
        return (self.net(x).argmax(1) == y).float().mean().item()


torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
parts = train_test_split(X / 16, y, test_size=0.2, random_state=0)
Xtr, Xte = (torch.tensor(p, dtype=torch.float32) for p in parts[:2])
ytr, yte = (torch.tensor(p) for p in parts[2:])
fit = Fit(ReluNet(), lr=4.0)  # <- fault S501
for epoch in range(12):
    losses = [fit.step(Xtr[i], ytr[i]) for i in torch.randperm(len(Xtr)).split(48)]
    print(f"epoch {epoch + 1} loss {sum(losses) / len(losses):.4f} "
          f"test acc {fit.accuracy(Xte, yte):.3f}")
