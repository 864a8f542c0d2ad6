"""Which training a loss belongs to: models that are built again, outputs that were computed without gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from watch import watched

X, Y = torch.randn(40, 4), torch.randint(0, 3, (40,))


def build():
    model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(model.parameters())
    return model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 1)  # the last two hold each other


def steps(model, optimizer, number=3):
    for _ in range(number):
        loss = F.cross_entropy(model(X), Y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("fate, unused, kept", [("lost", 3, 0), ("kept", 0, 3), ("tested", 0, 0)])
def test_what_became_of_the_model_before(tmp_path, fate, unused, kept):
    models = []
    with watched(tmp_path) as watch:
        for _ in range(4):
            model, optimizer, _ = build()
            steps(model, optimizer)
            if fate == "kept":
                models.append(model)
            elif fate == "tested":
                with torch.no_grad():
                    model(X)
        loop = watch.facts.loop
    assert (loop.rebuilt_total, loop.rebuilt_unused, loop.rebuilt_kept) == (3, unused, kept)


def test_outputs_without_gradients_made_leaves(tmp_path):
    with watched(tmp_path) as watch:
        model, optimizer, _ = build()
        for _ in range(4):
            with torch.no_grad():
                out = model(X)
            out.requires_grad_()
            F.cross_entropy(out, Y).backward()
            optimizer.step()
        loop = watch.facts.loop
    assert loop.backwards == loop.without_graph == 4
    assert {p.name for p in watch.facts.parameters} == {n for n, _ in model.named_parameters()}


def test_a_latent_code_is_no_model_without_gradients(tmp_path):
    encoder = nn.Linear(4, 3)
    with torch.no_grad():
        code = encoder(X)
    code.requires_grad_()
    optimizer = torch.optim.SGD([code], lr=0.1)
    with watched(tmp_path) as watch:
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(code, Y).backward()
            optimizer.step()
        assert watch.facts.loop.without_graph == 0
