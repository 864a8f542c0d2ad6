"""The probes on captured pairs are worked out once."""

import sys
from types import SimpleNamespace

import numpy as np

from unstuck.rules.learnable import learnable
from unstuck.trace import synthetic
from unstuck.trace.trace import Pairs


def test_no_pairs():
    trace = synthetic.training()
    assert learnable(trace) is None
    trace.pairs = Pairs(np.zeros((0, 2)), np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert learnable(trace) is None


def test_once(monkeypatch):
    asked = []
    stub = SimpleNamespace(examine=lambda x, y, kind, budget: asked.append(kind) or "result")
    import unstuck.stats

    monkeypatch.setitem(sys.modules, "unstuck.stats.dependence", stub)
    monkeypatch.setattr(unstuck.stats, "dependence", stub, raising=False)
    trace = synthetic.training()
    trace.pairs = Pairs(np.zeros((4, 2)), np.arange(4), np.zeros(4, np.int64), "ids")
    assert learnable(trace) == learnable(trace) == "result"
    assert asked == ["ids"]
