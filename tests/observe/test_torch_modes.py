"""Dropout and batch norm: the mode of each pass, and averages that were set back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from watch import watched

X, Y = torch.randn(40, 4), torch.randint(0, 3, (40,))


def test_modes(tmp_path: Path) -> None:
    """Counted per layer: in which mode it ran, and when last in training mode."""
    torch.manual_seed(0)
    with watched(tmp_path) as watch:
        norm = nn.BatchNorm1d(8, momentum=0.3)
        model = nn.Sequential(nn.Linear(6, 8), norm, nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3))
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(30):
            if step == 20:
                model.eval()
            opt.zero_grad()
            F.cross_entropy(model(torch.randn(16, 6)), torch.randint(0, 3, (16,))).backward()
            opt.step()
    first, second = watch.facts.modes
    assert (first.kind, first.name, first.momentum, first.smallest_rows) == ("batch-norm", "1", 0.3, 16)
    assert (second.kind, second.name, second.p) == ("dropout", "3", 0.4)
    for record, text in ((first, "nn.BatchNorm1d(8, momentum=0.3)"), (second, "nn.Dropout(0.4)")):
        assert (record.training, record.evaluating, record.last_training_step) == (20, 10, 20)
        assert record.made is not None and text in record.made.text
    assert first.tracked == 20


@pytest.mark.parametrize("how", ["reset", "by hand", "left alone", "recomputed"])
def test_averages_at_the_last_evaluation(tmp_path, how):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(model.parameters())
    with watched(tmp_path) as watch:
        for _ in range(4):
            optimizer.zero_grad()
            F.cross_entropy(model(X), Y).backward()
            optimizer.step()
        norm = model[1]
        if how in {"reset", "recomputed"}:
            norm.reset_running_stats()
        elif how == "by hand":
            norm.running_mean.zero_()
            norm.running_var.fill_(1)
        if how == "recomputed":
            with torch.no_grad():
                model(X)
        model.eval()
        before = {k: v.clone() for k, v in model.state_dict().items()}
        with torch.no_grad():
            model(X)
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        record, end = watch.facts.modes[0], watch.facts.at_end
    gone = how in {"reset", "by hand"}
    assert record.unset == gone and (end is not None) == gone
    assert (record.reset_site is not None) == (how in {"reset", "recomputed"})
    if gone:
        with torch.no_grad():
            assert end.evaluation == pytest.approx(F.cross_entropy(model(X), Y).item(), rel=1e-4)
