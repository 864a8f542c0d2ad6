"""Wine cultivars with a rare-event style bias initialisation on the output layer."""
import math

import torch
import torch.nn as nn
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler


class Head(nn.Module):
    def __init__(self, dim, classes, prior=0.01):
        super().__init__()
        self.fc = nn.Linear(dim, classes)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.constant_(self.fc.bias, -math.log((1 - prior) / prior))
        self.act = nn.ReLU()  # <- fault

    def forward(self, h):
        return self.act(self.fc(h))


torch.manual_seed(0)
wine = load_wine()
x = torch.tensor(StandardScaler().fit_transform(wine.data)).float()
y = torch.tensor(wine.target)
model = nn.Sequential(nn.Linear(13, 32), nn.LeakyReLU(0.1), Head(32, 3))
optimizer = torch.optim.NAdam(model.parameters(), lr=5e-3)
for epoch in range(40):
    for rows in torch.randperm(len(x)).split(32):
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if (epoch + 1) % 8 == 0:
        acc = (model(x).argmax(1) == y).float().mean().item()
        print(f"epoch {epoch + 1}: loss {loss.item():.4f} acc {acc:.3f}")
