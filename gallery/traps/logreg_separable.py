"""Logistic regression, one Linear, on two linearly separable clouds."""

import torch
import torch.nn as nn
from sklearn.datasets import make_blobs

torch.manual_seed(0)
X, y = make_blobs(600, centers=[[-2, -1], [2, 1.5]], cluster_std=0.5, random_state=3)
X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
model = nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
loss_fn = nn.BCEWithLogitsLoss()
for epoch in range(1, 31):
    for idx in torch.randperm(len(X)).split(60):
        out = model(X[idx]).squeeze(1)
        loss = loss_fn(out, y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 5 == 0:
        acc = ((model(X).squeeze(1) > 0) == y.bool()).float().mean()
        print(f"epoch {epoch} loss {loss.item():.4f} acc {acc:.3f}")
