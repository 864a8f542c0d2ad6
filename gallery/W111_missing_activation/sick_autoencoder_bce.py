"""Autoencoder on digits with per-pixel binary cross-entropy."""
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


class AutoEncoder(nn.Module):
    def __init__(self, code=12):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, code))
        self.decoder = nn.Sequential(nn.Linear(code, 48), nn.ReLU(), nn.Linear(48, 64))

    def forward(self, x):
        z = self.encoder(x)
        return self.decoder(z)  # <- fault


torch.manual_seed(0)
pixels = torch.tensor(load_digits().data).float() / 16
ae = AutoEncoder()
optimizer = torch.optim.Adam(ae.parameters(), lr=3e-3)
for epoch in range(10):
    total = 0.0
    for i in torch.randperm(len(pixels)).split(64):
        recon = ae(pixels[i])
        loss = F.binary_cross_entropy(recon, pixels[i])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(i)
    print(f"epoch {epoch}: reconstruction {total / len(pixels):.4f}")
