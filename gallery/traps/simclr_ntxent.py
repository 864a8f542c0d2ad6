"""SimCLR on noisy digit views: NT-Xent over 2B embeddings, positives found by index."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


def augment(img):
    out = torch.roll(img, shifts=int(torch.randint(-1, 2, (1,))), dims=-1)
    return out * (torch.rand_like(out) > 0.1) + 0.1 * torch.randn_like(out)


def nt_xent(z1, z2, tau=0.5):
    n = len(z1)
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    sim = z @ z.t() / tau
    sim.fill_diagonal_(float("-inf"))
    target = torch.cat([torch.arange(n, 2 * n), torch.arange(0, n)])
    return F.cross_entropy(sim, target)


torch.manual_seed(0)
imgs = torch.tensor(load_digits().images).float().unsqueeze(1) / 16
encoder = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(192, 48))
projector = nn.Sequential(nn.ReLU(), nn.Linear(48, 24))
optim = torch.optim.Adam([*encoder.parameters(), *projector.parameters()], lr=2e-3)
for step in range(1, 201):
    batch = imgs[torch.randperm(len(imgs))[:64]]
    loss = nt_xent(projector(encoder(augment(batch))), projector(encoder(augment(batch))))
    optim.zero_grad()
    loss.backward()
    optim.step()
    if step % 40 == 0:
        print(f"step {step}: nt-xent {loss.item():.4f}")
