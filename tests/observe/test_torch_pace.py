"""How closely each step is looked at: the schedule, and steps that are only glanced at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from watch import watched

from unstuck.observe import torch_pace
from unstuck.observe.torch_pace import is_deep, is_looked_at, is_sampled, number
from unstuck.trace.facts import Facts
from unstuck.trace.storage import read_run
from unstuck.trace.trace import Series


def test_the_schedule() -> None:
    deep = [n for n in range(1, 3001) if is_deep(n)]
    assert deep == [1, 2, 3, 4, 6, 10, 20, 50, 100, 200, 500, 1000, 2000, 3000]
    sampled = [n for n in range(1000) if is_sampled(n)]
    assert sampled == [0, 1, 2, 3, 4, *range(10, 100, 10), *range(100, 1000, 50)]
    assert [n for n in range(1000, 2000) if is_sampled(n)] == [1000, 1200, 1400, 1600, 1800]


@pytest.mark.parametrize("period", range(1, 13))
def test_no_phase_of_a_loop_with_a_period_is_overlooked(period: int) -> None:
    """A phase gets its share of the looks: one call in 32, within a factor of two over 32,000 calls."""
    seen = [n for n in range(1, 32_001) if is_looked_at(n)]
    for phase in range(period):
        share = sum(n % period == phase for n in seen) / (32_000 / period)
        assert 1 / 64 < share < 1 / 16


def test_learning_rates_that_are_no_numbers() -> None:
    assert [number(v) for v in (0.5, torch.tensor(0.25))] == [0.5, 0.25]
    assert all(np.isnan(number(v)) for v in (None, "auto", torch.zeros(2)))


def train(folder: Path, steps: int = 300) -> tuple[Facts, Series]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    with watched(folder) as watch:
        for _ in range(steps):
            opt.zero_grad()
            F.cross_entropy(model(torch.randn(16, 6)), torch.randint(0, 3, (16,))).backward()
            opt.step()
    return watch.facts, read_run(watch.folder).traces[0].series


def test_a_glance_notes_the_same_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_pace, "SHORT_STEP", 0.0)
    facts, series = train(tmp_path / "all")
    monkeypatch.setattr(torch_pace, "SHORT_STEP", float("inf"))
    glanced, glanced_series = train(tmp_path / "few")
    assert facts.loop.stale_checked == 299
    assert 127 < glanced.loop.stale_checked < 160  # all up to the 128th, then one in 32 or so
    for name in ("loss", "lr", "backwards"):
        assert np.array_equal(series[name], glanced_series[name]) and len(series) == 300
    for one in (facts, glanced):
        assert (one.loop.steps, one.loop.backwards, one.loop.forwards, one.optimizers[0].steps) == (300, 300, 300, 300)
    assert np.isnan(glanced_series["chance"]).sum() > 120 and not np.isnan(series["chance"]).any()


def test_what_is_unusual_ends_the_glances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that becomes NaN, and two backward calls before a step, are looked at although neither is due."""
    monkeypatch.setattr(torch_pace, "SHORT_STEP", float("inf"))
    torch.manual_seed(0)
    model = nn.Linear(6, 3)
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    due = next(n for n in range(150, 300) if not any(is_looked_at(n + i) for i in range(-1, 5)))
    with watched(tmp_path) as watch:
        for n in range(1, due + 1):
            x, y = torch.randn(16, 6), torch.randint(0, 3, (16,))
            opt.zero_grad()
            if n == due - 1:
                F.cross_entropy(model(x), y).backward()
            F.cross_entropy(model(x * float("inf") if n == due else x), y).backward()
            opt.step()
        assert watch.facts.nonfinite is not None and watch.facts.nonfinite.what == "loss"
    assert read_run(watch.folder).traces[0].series["backwards"][-2:].tolist() == [2, 1]
