"""The terms of a loss: along which axis its classes lie."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from watch import watched


@pytest.mark.parametrize("axis, moved", [(1, False), (2, True)])
def test_the_axis_of_nll(tmp_path, axis, moved):
    """The normaliser runs over the units; nll_loss picks from axis 1."""
    tokens = torch.randint(0, 6, (8, 6))
    model = nn.Sequential(nn.Embedding(6, 8), nn.Linear(8, 6))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watched(tmp_path) as watch:
        for _ in range(2):
            log_p = F.log_softmax(model(tokens), -1)
            loss = F.nll_loss(log_p if axis == 2 else log_p.transpose(1, 2), tokens)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        term = watch.facts.term
    assert (term.class_axis != term.feature_axis) == moved
