"""GAN on two-moons whose discriminator settles at 2 ln 2, the balance of the game."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import make_moons


def mlp(*sizes):
    layers = []
    for a, b in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(a, b), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


torch.manual_seed(0)
points = torch.tensor(make_moons(1000, noise=0.05, random_state=0)[0], dtype=torch.float32)
generator, critic = mlp(4, 64, 64, 2), mlp(2, 64, 64, 1)
opt_g = torch.optim.Adam(generator.parameters(), lr=5e-4, betas=(0.5, 0.99))
opt_d = torch.optim.Adam(critic.parameters(), lr=5e-4, betas=(0.5, 0.99))
for step in range(1, 501):
    real = points[torch.randint(1000, (64,))]
    fake = generator(torch.randn(64, 4))
    out = critic(torch.cat([real, fake.detach()])).squeeze(1)
    d_loss = 2 * F.binary_cross_entropy_with_logits(
        out, torch.cat([torch.ones(64), torch.zeros(64)])
    )
    opt_d.zero_grad()
    d_loss.backward()
    opt_d.step()
    for p in critic.parameters():
        p.requires_grad_(False)
    g_loss = F.softplus(-critic(fake)).mean()
    opt_g.zero_grad()
    g_loss.backward()
    opt_g.step()
    for p in critic.parameters():
        p.requires_grad_(True)
    if step % 100 == 0:
        gap = torch.cdist(fake.detach(), points).min(1).values.mean()
        print(f"step {step} D {d_loss.item():.4f} G {g_loss.item():.4f} distance to data {gap:.3f}")
