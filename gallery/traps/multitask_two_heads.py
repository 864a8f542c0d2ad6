"""Shared trunk with two heads: digit identity (ten classes) and amount of ink (regression)."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
        self.heads = nn.ModuleDict({"digit": nn.Linear(64, 10), "ink": nn.Linear(64, 1)})

    def forward(self, x):
        h = self.trunk(x)
        return self.heads["digit"](h), self.heads["ink"](h).squeeze(-1)


torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X).float() / 16, torch.tensor(y)
ink = X.mean(1)
ink = (ink - ink.mean()) / ink.std()
model = TwoHeads()
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(8):
    for xb, yb, ib in DataLoader(TensorDataset(X, y, ink), batch_size=64, shuffle=True):
        digit, amount = model(xb)
        ce, mse = F.cross_entropy(digit, yb), F.mse_loss(amount, ib)
        loss = ce + 0.5 * mse
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(f"epoch {epoch}: total {loss.item():.4f} ce {ce.item():.4f} mse {mse.item():.4f}")
