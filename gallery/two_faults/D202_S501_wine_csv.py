"""Wine cultivars read from a CSV export, three dense layers, Adam."""
import csv
import io
import random

import torch
import torch.nn as nn
from sklearn.datasets import load_wine

random.seed(0)
torch.manual_seed(0)
wine = load_wine()
records = [[*map(repr, row), name] for row, name in zip(wine.data.tolist(), wine.target.tolist())]
random.shuffle(records)
buffer = io.StringIO()
csv.writer(buffer).writerows([["x"] * 13 + ["cultivar"], *records])

table = list(csv.reader(buffer.getvalue().splitlines()))
features = [[float(v) for v in row[:-1]] for row in table[1:-1]]
labels = [int(row[-1]) for row in table[2:]]  # <- fault D202
X = torch.tensor(features)
X = (X - X.mean(0)) / X.std(0)
y = torch.tensor(labels)

net = nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = torch.optim.Adam(net.parameters(), lr=3.0)  # <- fault S501
criterion = nn.CrossEntropyLoss()
for epoch in range(25):
    total, right = 0.0, 0
    for rows in torch.randperm(len(X)).split(16):
        optimizer.zero_grad()
        out = net(X[rows])
        loss = criterion(out, y[rows])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
        right += (out.argmax(1) == y[rows]).sum().item()
    if epoch % 3 == 0:
        print(f"epoch {epoch + 1}: loss {total / len(X):.4f} accuracy {right / len(X):.3f}")
