"""Outputs [N, 1] against targets [N] in a loss of the user's own: is the loss a sum over all pairs, by mistake?"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from watch import watched

N = 12


def huber(z, y):
    d = z - y
    return torch.where(d.abs() < 1, 0.5 * d**2, d.abs() - 0.5).mean()


def logistic(z, y):
    return (z.clamp(min=0) - z * y + torch.log1p(torch.exp(-z.abs()))).mean()


MISTAKES = {
    "huber": huber,
    "logistic": logistic,
    "hinge": lambda z, y: F.relu(1 - (2 * y - 1) * z).sum() / N,
    "softplus": lambda z, y: (F.softplus(z) - y * z).mean(0).sum(),
    "log-cosh": lambda z, y: torch.log(torch.cosh(z - y)).mean(),
    "targets with an axis more": lambda z, y: huber(z.squeeze(1), y.unsqueeze(1)),
}
MEANT = {
    "one to one": lambda z, y: huber(z.squeeze(1), y),
    "ranking": lambda z, y: F.softplus(-(z - z.squeeze(1)) * torch.sign(y.unsqueeze(1) - y)).mean(),
    "ranking against a copy": lambda z, y: F.softplus(-(z - z.detach().squeeze(1)) * torch.sign(y.unsqueeze(1) - y)).mean(),
    "nearest": lambda z, y: ((z - y) ** 2).min(1).values.mean(),
    "a mask of pairs": lambda z, y: ((z - y) ** 2 * torch.eye(N)).sum() / N,
    "energy distance": lambda z, y: 2 * (z - y).abs().mean() - (z - z.T).abs().mean(),
    "weights of another shape": lambda z, y: ((z.squeeze(1) - y) ** 2 * torch.rand(N, 1)).mean(),
}


def stretched(folder, loss_of):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with watched(folder) as watch:
        for _ in range(3):
            loss = loss_of(model(torch.randn(N, 3)), (torch.randn(N) > 0).float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return watch.facts.stretched, [t.broadcast for t in watch.facts.terms if t.broadcast]


@pytest.mark.parametrize("loss_of", MISTAKES.values(), ids=MISTAKES)
def test_mistakes(tmp_path, loss_of):
    found, _ = stretched(tmp_path, loss_of)
    assert found and max(found[0].shapes[0]) == N and found[0].site is not None


@pytest.mark.parametrize("loss_of", MEANT.values(), ids=MEANT)
def test_meant(tmp_path, loss_of):
    assert stretched(tmp_path, loss_of) == ([], [])
