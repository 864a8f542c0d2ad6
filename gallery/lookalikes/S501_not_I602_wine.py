"""Wine cultivars: a network with a home-made initialisation, plain SGD, mini-batches."""
import torch
from sklearn.datasets import load_wine
from torch import nn

torch.manual_seed(0)
X, y = load_wine(return_X_y=True)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
y = torch.tensor(y)
model = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))
for layer in model:
    if isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight, std=0.6)
lr = 10.0  # <- fault: lr = 0.02
optimizer = torch.optim.SGD(model.parameters(), lr=lr)
for epoch in range(40):
    total = 0.0
    for rows in torch.randperm(len(X)).split(30):
        loss = nn.functional.cross_entropy(model(X[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
    if epoch % 8 == 7:
        print(f"epoch {epoch + 1}: loss {total / len(X):.4f}")
