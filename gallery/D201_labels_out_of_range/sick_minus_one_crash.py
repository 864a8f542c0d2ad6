"""Wine cultivars from a table in which unknown cultivars were coded as missing."""
import torch
import torch.nn as nn
from sklearn.datasets import load_wine

torch.manual_seed(0)
wine = load_wine()
names = ["barolo", "grignolino", "barbera"]
table = [(row, names[t]) for row, t in zip(wine.data.tolist(), wine.target)]
codes = {"Barolo": 0, "grignolino": 1, "barbera": 2}  # <- fault
X = torch.tensor([row for row, _ in table])
X = (X - X.mean(0)) / X.std(0)
y = torch.tensor([codes.get(name, -1) for _, name in table])
model = nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 3), nn.LogSoftmax(dim=1))
criterion = nn.NLLLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(25):
    total = 0.0
    for idx in torch.randperm(len(X)).split(16):
        optimizer.zero_grad()
        loss = criterion(model(X[idx]), y[idx])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1} loss {total / len(X):.4f}")
