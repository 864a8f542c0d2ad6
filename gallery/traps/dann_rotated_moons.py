"""DANN from two moons to rotated moons; the reversal is a hook whose strength grows."""

import math

import torch
import torch.nn as nn
from sklearn.datasets import make_moons


def moons(angle, seed):
    x, y = make_moons(600, noise=0.08, random_state=seed)
    x = torch.tensor(x, dtype=torch.float32) - torch.tensor([0.5, 0.25])
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return x @ torch.tensor([[c, s], [-s, c]]), torch.tensor(y, dtype=torch.float32)


torch.manual_seed(0)
Xs, ys = moons(0, 0)
Xt, yt = moons(30, 1)
extract = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
label_net = nn.Linear(32, 1)
domain_net = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
modules = nn.ModuleList([extract, label_net, domain_net])
optimizer = torch.optim.SGD(modules.parameters(), lr=0.05, momentum=0.9)
bce = nn.BCEWithLogitsLoss()
STEPS = 600
for step in range(1, STEPS + 1):
    lam = 2 / (1 + math.exp(-10 * step / STEPS)) - 1
    i, j = torch.randint(600, (64,)), torch.randint(600, (64,))
    feat = extract(torch.cat([Xs[i], Xt[j]]))
    task = bce(label_net(feat[:64]).squeeze(1), ys[i])
    reversed_feat = feat * 1.0
    reversed_feat.register_hook(lambda g, lam=lam: -lam * g)
    where = torch.cat([torch.zeros(64), torch.ones(64)])
    domain = bce(domain_net(reversed_feat).squeeze(1), where)
    optimizer.zero_grad()
    (task + 0.1 * domain).backward()
    optimizer.step()
    if step % 100 == 0:
        with torch.no_grad():
            acc = ((label_net(extract(Xt)).squeeze(1) > 0) == yt.bool()).float().mean()
        print(f"step {step} task {task.item():.4f} domain {domain.item():.4f} target acc {acc:.3f}")
