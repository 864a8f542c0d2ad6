"""Breast cancer screening network built from a dataclass config; width found from the data."""
from dataclasses import dataclass, replace

import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer


@dataclass
class Config:
    n_features: int = 30
    hidden: int = 32
    dropout: float = 0.1
    lr: float = 1e-3
    batch_size: int = 32
    epochs: int = 12


def build_model(cfg):
    return nn.Sequential(
        nn.Linear(cfg.n_features, cfg.hidden),
        nn.BatchNorm1d(cfg.hidden),
        nn.GELU(),
        nn.Dropout(cfg.dropout),
        nn.Linear(cfg.hidden, 1),
    )


torch.manual_seed(11)
cfg = Config()
data = load_breast_cancer()
X = torch.tensor(data.data, dtype=torch.float32)
X = (X - X.mean(0)) / X.std(0)
y = torch.tensor(data.target, dtype=torch.float32)

model = build_model(cfg)
optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=1e-2)
cfg = replace(cfg, hidden=2 * X.shape[1])
model = build_model(cfg)
optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=1e-2)
criterion = nn.BCEWithLogitsLoss()
for epoch in range(cfg.epochs):
    perm = torch.randperm(len(X))
    losses, hits = [], 0
    for i in range(0, len(X) - cfg.batch_size + 1, cfg.batch_size):
        b = perm[i:i + cfg.batch_size]
        optimizer.zero_grad()
        logit = model(X[b]).squeeze(1)
        loss = criterion(logit, y[b])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        hits += ((logit > 0).float() == y[b]).sum().item()
    print(f"epoch {epoch + 1:3d} | loss {sum(losses) / len(losses):.4f} | acc {hits / (len(losses) * cfg.batch_size):.3f}")
