"""Breast cancer measurements where a few values were not recorded; AdamW with cosine schedule."""
import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

rng = np.random.default_rng(0)
torch.manual_seed(0)
X, y = load_breast_cancer(return_X_y=True)
X[rng.integers(0, len(X), 3), rng.integers(0, 30, 3)] = np.nan
mean, std = np.nanmean(X, axis=0), np.nanstd(X, axis=0)
X = (X - mean) / std
X = torch.tensor(X, dtype=torch.float32)  # <- fault
y = torch.tensor(y, dtype=torch.float32).unsqueeze(1)
loader = DataLoader(TensorDataset(X, y), batch_size=16, shuffle=True)
EPOCHS = 8
model = nn.Sequential(nn.Linear(30, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS * len(loader))
criterion = nn.BCEWithLogitsLoss()
for epoch in range(EPOCHS):
    losses = []
    for xb, yb in loader:
        loss = criterion(model(xb), yb)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    print(f"epoch {epoch + 1} loss {np.mean(losses):.4f} lr {scheduler.get_last_lr()[0]:.5f}")
