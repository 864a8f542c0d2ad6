"""Curriculum learning: digits in the order of a teacher's difficulty, a growing share per epoch."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X = X / 16
teacher = LogisticRegression(C=0.05, max_iter=200).fit(X[:1400], y[:1400])
doubt = -teacher.predict_log_proba(X[:1400])[range(1400), y[:1400]]
order = torch.tensor(doubt.argsort())
X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(1, 13):
    share = min(1.0, 0.3 + 0.1 * epoch)
    pool = order[: int(share * len(order))]
    losses = []
    for idx in pool.split(32):
        loss = F.cross_entropy(model(X[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    acc = (model(X[1400:]).argmax(1) == y[1400:]).float().mean()
    print(f"epoch {epoch} first {losses[0]:.3f} last {losses[-1]:.3f} test acc {acc:.3f}")
