"""What became of a model that was replaced; averages that were set back; outputs that were computed without gradients."""

from __future__ import annotations

import numpy as np
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


@pytest.mark.parametrize("how", ["reset", "by hand", "left alone", "recomputed"])
def test_averages_at_the_last_evaluation(tmp_path, how):
    torch.manual_seed(0)
    model, optimizer, _ = build()
    with watched(tmp_path) as watch:
        steps(model, optimizer, 4)
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


STORED = np.arange(24 * 40 * 5, dtype=np.float32).reshape(24, 40, 5).copy()
ARRAYS = {
    "renamed": (lambda: STORED.reshape(40, 24, 5), True),
    "renamed, cut": (lambda: STORED.reshape(40, 24, 5)[:30], True),
    "renamed, axes swapped after": (lambda: STORED.reshape(5, 40, 24).transpose(1, 2, 0), True),
    "transposed": (lambda: STORED.transpose(1, 0, 2), False),
    "transposed, cut": (lambda: np.swapaxes(STORED, 0, 1)[:30, ::2], False),
    "as it is": (lambda: STORED, False),
    "flattened": (lambda: STORED.reshape(24, 200), False),
    "split": (lambda: STORED.reshape(24, 8, 5, 5), False),
    "moved": (lambda: np.ascontiguousarray(STORED.transpose(1, 0, 2)).reshape(40, 120)[:, :60], False),
}


@pytest.mark.parametrize("convert", ["tensor", "from_numpy", "as_tensor"])
@pytest.mark.parametrize("make, wrong", ARRAYS.values(), ids=ARRAYS)
def test_numpy_arrays_reshaped_for_transposed(tmp_path, convert, make, wrong):
    with watched(tmp_path) as watch:
        getattr(torch, convert)(make())
        assert [r.samples_mixed for r in watch.observer.spy.reshapes] == [True] * wrong


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
