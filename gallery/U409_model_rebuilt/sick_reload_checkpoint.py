"""Resumable training of a character classifier: checkpoint saved at the start, state restored for every epoch."""
import os
import tempfile

import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
ckpt = os.path.join(tempfile.mkdtemp(), "last.pt")
X, y = load_breast_cancer(return_X_y=True)
X = torch.tensor(X, dtype=torch.float32)
X = (X - X.mean(0)) / X.std(0)
y = torch.tensor(y, dtype=torch.float32)
model = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 0}, ckpt)
loader = DataLoader(TensorDataset(X, y), batch_size=48, shuffle=True)
criterion = nn.BCEWithLogitsLoss()
for epoch in range(30):
    state = torch.load(ckpt)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    total = 0.0
    for xb, yb in loader:
        loss = criterion(model(xb).squeeze(1), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(yb)
    print(f"epoch {state['epoch'] + epoch + 1:2d} | loss {total / len(X):.4f}")  # <- fault
