"""Three concentric rings, a network of configurable depth, options from the command line."""
import argparse
import math

import torch
from torch import nn


def rings(n):
    k = torch.randint(3, (n,))
    radius = 0.5 + k + 0.15 * torch.randn(n)
    angle = 2 * math.pi * torch.rand(n)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1), k


def make(depth, width):
    layers = [nn.Linear(2, width)]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width)]  # <- fault I606
    return nn.Sequential(*layers, nn.Linear(width, 3))


parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=1e-8)  # <- fault S502
parser.add_argument("--depth", type=int, default=3)
parser.add_argument("--steps", type=int, default=500)
args = parser.parse_args()

torch.manual_seed(0)
x, y = rings(2000)
net = make(args.depth, 32)
optimizer = torch.optim.Adam(net.parameters(), lr=args.lr)
for step in range(1, args.steps + 1):
    rows = torch.randint(len(x), (100,))
    loss = nn.functional.cross_entropy(net(x[rows]), y[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        with torch.no_grad():
            acc = (net(x).argmax(1) == y).float().mean().item()
        print(f"step {step} loss {loss.item():.4f} acc {acc:.3f}")
