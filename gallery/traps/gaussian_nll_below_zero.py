"""Density regression: mean and log-variance of a smooth function; the loss goes well below zero."""
import torch
import torch.nn as nn

torch.manual_seed(0)
x = torch.rand(2000, 1) * 6 - 3
y = torch.sin(x) + (0.03 + 0.03 * x.abs()) * torch.randn_like(x)
net = nn.Sequential(nn.Linear(1, 48), nn.Tanh(), nn.Linear(48, 2))
opt = torch.optim.Adam(net.parameters(), lr=0.01)
for step in range(1, 501):
    i = torch.randint(len(x), (64,))
    mu, logvar = net(x[i]).chunk(2, dim=1)
    loss = 0.5 * (logvar + (y[i] - mu) ** 2 / logvar.exp()).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 100 == 0:
        print(f"step {step}: nll {loss.item():+.4f} rmse {((y[i] - mu) ** 2).mean().sqrt():.4f}")
