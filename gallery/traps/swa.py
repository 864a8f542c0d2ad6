"""Stochastic weight averaging with torch.optim.swa_utils."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
loader = DataLoader(TensorDataset(X[:1500], y[:1500]), batch_size=50, shuffle=True)
model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
swa_model = AveragedModel(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
swa_scheduler = SWALR(optimizer, swa_lr=0.02, anneal_epochs=2)
for epoch in range(8):
    model.train()
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(xb), yb)
        loss.backward()
        optimizer.step()
    if epoch >= 4:
        swa_model.update_parameters(model)
        swa_scheduler.step()
    print(f"epoch {epoch + 1} loss {loss.item():.4f}")
update_bn(loader, swa_model)
swa_model.eval()
with torch.no_grad():
    print("swa accuracy", (swa_model(X[1500:]).argmax(1) == y[1500:]).float().mean().item())
