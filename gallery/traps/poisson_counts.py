"""Poisson regression of the number of bright pixels in each digit."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
X = torch.tensor(load_digits().data).float() / 16
count = (X > 0.6).sum(dim=1).float()
net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0))
loss_fn = nn.PoissonNLLLoss(log_input=True, full=True)
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
for step in range(1, 301):
    i = torch.randint(len(X), (64,))
    loss = loss_fn(net(X[i]), count[i])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 60 == 0:
        print(f"step {step}: poisson nll {loss.item():.4f} mae {(net(X).exp() - count).abs().mean():.3f}")
