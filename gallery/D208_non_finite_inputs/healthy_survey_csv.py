"""Wine cultivars from a CSV file in which some laboratories left cells blank."""
import csv
import io

import numpy as np
import torch
from sklearn.datasets import load_wine
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def csv_file(seed=0):
    rng = np.random.default_rng(seed)
    wine = load_wine()
    file = io.StringIO()
    writer = csv.writer(file)
    for row, label in zip(wine.data, wine.target):
        writer.writerow(["" if rng.random() < 0.02 else f"{v:g}" for v in row] + [label])
    return io.StringIO(file.getvalue())


table = np.genfromtxt(csv_file(), delimiter=",")
features, labels = table[:, :-1], table[:, -1]
features = (features - np.nanmean(features, axis=0)) / np.nanstd(features, axis=0)
X = torch.tensor(np.nan_to_num(features), dtype=torch.float32)
y = torch.tensor(labels, dtype=torch.long)

torch.manual_seed(0)
loader = DataLoader(TensorDataset(X, y), batch_size=16, shuffle=True)
model = nn.Sequential(nn.Linear(13, 32), nn.GELU(), nn.Linear(32, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
loss_fn = nn.CrossEntropyLoss()
for epoch in range(15):
    running, correct = 0.0, 0
    for xb, yb in loader:
        out = model(xb)
        loss = loss_fn(out, yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running += loss.item() * len(yb)
        correct += (out.argmax(1) == yb).sum().item()
    print(f"epoch {epoch + 1:2d} loss {running / len(y):.4f} accuracy {correct / len(y):.3f}")
