"""Gradients that are shortened between backward and step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from watch import watched


def test_clipping_is_counted(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.arange(80.0)
    x, y = torch.stack((x, x.sin(), x.cos()), dim=1), torch.arange(80) % 5
    model = nn.Linear(3, 5)
    norms, entries = [], []
    with watched(tmp_path) as watch:
        opt = torch.optim.SGD(model.parameters(), lr=1e-4)
        for i in range(0, 80, 8):
            opt.zero_grad()
            F.cross_entropy(model(x[i : i + 8]), y[i : i + 8]).backward()
            norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), 10.0)))
            entries.append(max(float(p.grad.abs().max()) for p in model.parameters()))
            nn.utils.clip_grad_value_(model.parameters(), 1.0)
            opt.step()
    seen = {c.kind: c for c in watch.facts.clippings}
    for kind, limit, values in (("norm", 10.0, norms), ("value", 1.0, entries)):
        one = seen[kind]
        assert (one.threshold, one.calls, one.active) == (limit, 10, sum(v > limit for v in values))
        assert (one.smallest, one.largest, one.total) == pytest.approx((min(values), max(values), sum(values)), rel=1e-5)
        assert one.site is not None and "clip_grad" in one.site.text
        assert 0 < one.active < 10


def test_by_hand(tmp_path: Path) -> None:
    """Every tensor divided by the same number, between backward and step, without torch's functions."""
    torch.manual_seed(0)
    model = nn.Linear(3, 5)
    opt = torch.optim.SGD(model.parameters(), lr=1e-4)
    norms = []
    with watched(tmp_path) as watch:
        for _ in range(4):
            opt.zero_grad()
            F.cross_entropy(model(torch.randn(8, 3)), torch.randint(0, 5, (8,))).backward()
            norms.append(float(torch.stack([p.grad.norm() for p in model.parameters()]).norm()))
            for p in model.parameters():
                p.grad.mul_(0.5)
            opt.step()
    (one,) = watch.facts.clippings
    assert (one.kind, one.calls, one.active) == ("hand", 4, 4)
    assert (one.smallest, one.largest, one.total) == pytest.approx((min(norms), max(norms), sum(norms)), rel=1e-5)
    assert one.threshold == pytest.approx(min(norms) / 2, rel=1e-5)
