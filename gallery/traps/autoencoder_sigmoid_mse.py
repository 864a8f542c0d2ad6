"""Denoising autoencoder on digits with a sigmoid output layer and mean squared error."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
X = torch.tensor(load_digits().data).float() / 16
ae = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 48), nn.ReLU(),
                   nn.Linear(48, 64), nn.Sigmoid())
criterion, optimizer = nn.MSELoss(), torch.optim.Adam(ae.parameters(), lr=3e-3)
print("pixel variance", round(X.var(0).mean().item(), 4))
for epoch in range(12):
    total = 0.0
    for i in torch.randperm(len(X)).split(64):
        loss = criterion(ae(X[i] + 0.1 * torch.randn(len(i), 64)), X[i])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(i)
    print(f"epoch {epoch}: mse {total / len(X):.4f}")
