"""Quantile regression on diabetes: three quantiles per sample against one target column."""
import torch
import torch.nn as nn
from sklearn.datasets import load_diabetes

torch.manual_seed(0)
X, y = load_diabetes(return_X_y=True)
X, y = torch.tensor(X).float() * 21, torch.tensor(y).float()
y = ((y - y.mean()) / y.std()).unsqueeze(1)
taus = torch.tensor([0.1, 0.5, 0.9])
net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 3))
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
for epoch in range(1, 31):
    for i in torch.randperm(len(X)).split(32):
        err = y[i] - net(X[i])
        loss = torch.maximum(taus * err, (taus - 1) * err).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 6 == 0:
        with torch.no_grad():
            q = net(X)
        cover = ((y > q[:, :1]) & (y < q[:, 2:])).float().mean()
        print(f"epoch {epoch}: pinball {loss.item():.4f} 80% interval covers {cover:.3f}")
