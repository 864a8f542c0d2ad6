"""Tumour classification with BCELoss and a three-layer network."""
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
X, y = load_breast_cancer(return_X_y=True)
X = torch.tensor(StandardScaler().fit_transform(X), dtype=torch.float32)
y = torch.tensor(y, dtype=torch.float32)
loader = DataLoader(TensorDataset(X, y), batch_size=32, shuffle=True)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(30, 24), nn.Linear(24, 12), nn.Linear(12, 1)])

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return torch.sigmoid(self.layers[-1](x)).squeeze(1)


net = Net()
bce = nn.BCELoss()
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
for epoch in range(12):
    total, hits = 0.0, 0
    for xb, yb in loader:
        p = net(xb)
        loss = bce(p, yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item() * len(yb)
        hits += ((p > 0.5) == (yb > 0.5)).sum().item()
    print(f"epoch {epoch}: loss {total / len(X):.4f} acc {hits / len(X):.4f}")
