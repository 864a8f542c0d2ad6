"""Variational autoencoder on digits: Bernoulli reconstruction plus KL, summed over pixels."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class VAE(nn.Module):
    def __init__(self, z=6):
        super().__init__()
        self.enc = nn.Linear(64, 64)
        self.mu, self.logvar = nn.Linear(64, z), nn.Linear(64, z)
        self.dec = nn.Sequential(nn.Linear(z, 64), nn.ReLU(), nn.Linear(64, 64))

    def forward(self, x):
        h = torch.relu(self.enc(x))
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        return torch.sigmoid(self.dec(z)), mu, logvar


def elbo_loss(recon, x, mu, logvar):
    bce = F.binary_cross_entropy(recon, x, reduction="sum")
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (bce + kld) / len(x)


torch.manual_seed(0)
X = torch.tensor(load_digits().data).float() / 16
vae = VAE()
opt = torch.optim.Adam(vae.parameters(), lr=3e-3)
for epoch in range(12):
    total = 0.0
    for i in torch.randperm(len(X)).split(64):
        loss = elbo_loss(*(lambda r: (r[0], X[i], r[1], r[2]))(vae(X[i])))
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item() * len(i)
    print(f"epoch {epoch}: -elbo {total / len(X):.3f}")
