"""Tumour records read from text fields; binary loss, Nesterov SGD, mini-batches."""
import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer

rng = np.random.default_rng(0)
torch.manual_seed(0)
data = load_breast_cancer()
table = (data.data - data.data.mean(0)) / data.data.std(0)
lines = [[f"{v:.4f}" if rng.random() > 0.002 else "NaN" for v in row] for row in table]

values = np.array(lines, dtype=np.float32)
inputs = torch.from_numpy(values)  # <- fault D208
target = torch.tensor(data.target, dtype=torch.float32).unsqueeze(1)

model = nn.Sequential(nn.Linear(30, 32), nn.Tanh(), nn.Linear(32, 16), nn.Tanh(),
                      nn.Linear(16, 1))
loss_fn = nn.BCEWithLogitsLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
for epoch in range(15):
    total, right = 0.0, 0
    for rows in torch.randperm(len(inputs)).split(32):
        out = model(inputs[rows])
        loss = loss_fn(out, target[rows])
        loss.backward()  # <- fault U405
        optimizer.step()
        total += loss.item() * len(rows)
        right += ((out > 0) == (target[rows] > 0.5)).sum().item()
    print(f"epoch {epoch + 1:2d} loss {total / len(inputs):.4f} acc {right / len(inputs):.3f}")
