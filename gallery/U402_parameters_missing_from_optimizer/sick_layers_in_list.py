"""Digits through a two-dimensional bottleneck (so that the codes can be plotted later)."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class PlanarNet(nn.Module):
    def __init__(self, sizes=(64, 64, 32, 2), n_classes=10):
        super().__init__()
        self.layers = [nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:])]  # <- fault
        self.classifier = nn.Linear(sizes[-1], n_classes)

    def encode(self, x):
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), 0.1)
        return self.layers[-1](x)

    def forward(self, x):
        return self.classifier(self.encode(x))


torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X = torch.as_tensor(X, dtype=torch.float32) / 8 - 1
y = torch.as_tensor(y)
train, test = torch.arange(1400), torch.arange(1400, len(X))

net = PlanarNet()
opt = torch.optim.Adam(net.parameters(), lr=5e-3)
for epoch in range(15):
    for idx in train[torch.randperm(len(train))].split(50):
        opt.zero_grad()
        loss = F.cross_entropy(net(X[idx]), y[idx])
        loss.backward()
        opt.step()
    with torch.no_grad():
        out = net(X[test])
    print(f"epoch {epoch:2d} train loss {loss.item():.3f} test loss {F.cross_entropy(out, y[test]).item():.3f} "
          f"test acc {(out.argmax(1) == y[test]).float().mean().item():.3f}")
