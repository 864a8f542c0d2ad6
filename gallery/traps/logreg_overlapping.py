"""Multinomial logistic regression on overlapping clouds, at its optimum for most of the run."""

import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import make_blobs
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

torch.manual_seed(0)
X, y = make_blobs(1200, centers=[[0, 0], [1.5, 0], [0.7, 1.3]], cluster_std=1.1, random_state=0)
best = LogisticRegression(C=np.inf, max_iter=500).fit(X, y)
print(f"optimum {log_loss(y, best.predict_proba(X)):.4f}")
X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
model = nn.Linear(2, 3)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
for epoch in range(1, 61):
    for idx in torch.randperm(len(X)).split(100):
        loss = nn.functional.cross_entropy(model(X[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 10 == 0:
        with torch.no_grad():
            print(f"epoch {epoch} whole set {nn.functional.cross_entropy(model(X), y):.4f}")
