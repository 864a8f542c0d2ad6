"""Probabilities out of the network, and the logarithm taken explicitly in the loss."""
import torch
import torch.nn as nn
from sklearn.datasets import load_wine
from sklearn.preprocessing import scale

torch.manual_seed(0)
wine = load_wine()
X, y = torch.tensor(scale(wine.data)).float(), torch.tensor(wine.target)
onehot = torch.eye(3)[y]
model = nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 3), nn.Softmax(dim=1))
opt = torch.optim.Adam(model.parameters(), lr=5e-3)
for epoch in range(1, 41):
    for i in torch.randperm(len(X)).split(32):
        p = model(X[i])
        loss = -(onehot[i] * torch.log(p + 1e-8)).sum(dim=1).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 8 == 0:
        print(f"epoch {epoch}: loss {loss.item():.4f} acc {(model(X).argmax(1) == y).float().mean():.3f}")
