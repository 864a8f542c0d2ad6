"""What a call reports about itself, against its definition and against theory.chance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from cases import Case, cases, package
from hypothesis import given, settings

from unstuck.losses import comp_sum, cross_entropy, focal, linear_cross_entropy, listeners
from unstuck.losses.cross_entropy import reference
from unstuck.theory import chance


def test_telemetry_is_its_definition() -> None:
    @settings(max_examples=400, deadline=None, derandomize=True)
    @given(cases())
    def run(case: Case) -> None:
        seen: list = []
        cross_entropy(case.logits, case.target, case.weight, telemetry=seen.append, **case.options)
        got = seen[0]
        classes = case.logits.shape[0 if case.logits.dim() == 1 else 1]
        weight = None if case.weight is None else case.weight.double().numpy()
        target = case.target.double() if case.target.is_floating_point() else case.target
        truth = reference.cross_entropy(case.logits.double().numpy(), target.numpy(), weight, **case.options)
        kept = np.ones(truth.predicted.shape, dtype=bool)
        labels = None
        if not case.target.is_floating_point():
            labels = case.target.reshape(-1).long().numpy()
            kept = labels != case.options.get("ignore_index", -100)
        else:
            axis = 0 if case.target.dim() == 1 else 1
            labels = case.target.movedim(axis, -1).reshape(-1, classes).argmax(1).numpy()
        far = 1e-6 * float(case.logits.double().abs().max() + 1)
        assert np.array_equal(got.predicted.numpy(), truth.predicted)
        assert np.allclose(got.logsumexp.numpy(), truth.logsumexp, rtol=1e-6, atol=far)
        assert np.allclose(got.entropy.numpy(), truth.entropy[:: got.stride], rtol=1e-5, atol=4 * far)
        assert int(got.rows) == kept.sum()
        assert int(got.correct) == ((truth.predicted == labels) & kept).sum()
        assert np.array_equal(got.histogram.numpy(), np.bincount(truth.predicted[kept], minlength=classes))
        # chance level and the best constant of this very call
        uniform = chance.cross_entropy(
            target.numpy(),
            classes,
            weight=weight,
            label_smoothing=case.options["label_smoothing"],
            ignore_index=case.options.get("ignore_index", -100),
            reduction="mean" if case.options["reduction"] == "none" else case.options["reduction"],
        )
        if case.options["reduction"] != "none" or labels is None:
            assert float(got.chance) == pytest.approx(uniform, rel=1e-5, abs=1e-9, nan_ok=True)
        assert not float(got.base_rate) > float(got.chance) * (1 + 1e-6) + 1e-9

    run()


def test_chance_and_base_rate_of_a_known_call() -> None:
    target = torch.tensor([0, 0, 0, 1, -100, 2])
    seen: list = []
    cross_entropy(torch.zeros(6, 4), target, telemetry=seen.append)
    pi = np.array([3, 1, 1]) / 5
    assert float(seen[0].chance) == pytest.approx(math.log(4))
    assert float(seen[0].base_rate) == pytest.approx(float(-(pi * np.log(pi)).sum()))
    assert float(seen[0].accuracy) == pytest.approx(0.6)  # ties go to the first class, as argmax does
    summary = seen[0].summary()
    assert summary["entropy"] == pytest.approx(math.log(4), rel=1e-6)
    assert summary["classes_predicted"] == 1
    assert summary["rows"] == 5


@pytest.mark.parametrize(("tau", "gamma"), [(0.0, 0.0), (0.5, 0.0), (1.7, 0.0), (2.0, 0.0), (1.0, 2.0)])
def test_chance_of_the_family(tau: float, gamma: float) -> None:
    seen: list = []
    target = torch.arange(7)
    if gamma:
        loss = focal(torch.zeros(7, 7), target, gamma, telemetry=seen.append)
        assert float(seen[0].chance) == pytest.approx(chance.focal(7, gamma), rel=1e-6)
    else:
        loss = comp_sum(torch.zeros(7, 7), target, tau, telemetry=seen.append)
        assert float(seen[0].chance) == pytest.approx(chance.comp_sum(7, tau), rel=1e-6)
    assert float(loss) == pytest.approx(float(seen[0].chance), rel=1e-6)
    assert float(seen[0].base_rate) == pytest.approx(float(seen[0].chance), rel=1e-6)  # balanced labels


def test_wide_calls_take_the_entropy_of_every_eighth_row() -> None:
    logits = torch.randn(203, 300) * 3
    target = torch.randint(0, 300, (203,))
    target[8] = -100
    seen: list = []
    cross_entropy(logits, target, telemetry=seen.append)
    assert seen[0].stride == 8
    p = torch.softmax(logits.double(), 1)
    entropy = -(p * p.log()).sum(1)[::8]
    torch.testing.assert_close(seen[0].entropy.double(), entropy, rtol=1e-5, atol=1e-5)
    counted = torch.ones(203, dtype=torch.bool)
    counted[8] = False
    assert seen[0].summary()["entropy"] == pytest.approx(float(entropy[counted[::8]].mean()), rel=1e-5)


def test_listeners_hear_every_loss_and_nothing_is_measured_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list = []
    logits = torch.randn(70, 300, requires_grad=True)
    called: list = []
    monkeypatch.setattr(package.eager.Pass, "watch", lambda *given: called.append(given))
    cross_entropy(logits, torch.arange(70)).backward()
    assert not called
    monkeypatch.undo()
    listeners.append(heard.append)
    try:
        cross_entropy(logits, torch.arange(70)).backward()
        cross_entropy(torch.randn(2, 3), torch.tensor([0, 1]))  # small calls as well
        focal(logits, torch.arange(70))
        linear_cross_entropy(torch.randn(5, 2), torch.randn(3, 2), torch.tensor([0, 1, 2, 0, 1]))
    finally:
        listeners.remove(heard.append)
    assert [(t.loss, t.classes) for t in heard] == [
        ("cross-entropy", 300),
        ("cross-entropy", 3),
        ("focal", 300),
        ("cross-entropy", 3),
    ]


def test_the_loss_is_the_same_with_and_without_telemetry() -> None:
    for shape in ((70, 300), (70, 9), (3, 9, 5), (9,)):
        logits = torch.randn(shape, requires_grad=True)
        target = torch.randint(0, 9, shape[:1] + shape[2:] if len(shape) > 1 else ())
        watched = cross_entropy(logits, target, telemetry=lambda seen: None)
        quiet = package.apply.__globals__["eager"].run(
            logits, target, None, package.Options(), gradient=True, overwrite=False, telemetry=False
        )
        torch.testing.assert_close(watched, quiet.loss, rtol=2e-7, atol=0)
        (gradient,) = torch.autograd.grad(watched, logits)
        torch.testing.assert_close(gradient, quiet.gradient, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rows, classes", [(64, 10), (300, 100), (700, 3000)])
@pytest.mark.parametrize("asked", [{}, {"label_smoothing": 0.1}, {"reduction": "sum"}, {"z_loss": 1e-3}], ids=str)
def test_listening_changes_no_bit_of_loss_and_gradient(rows: int, classes: int, asked: dict[str, Any]) -> None:
    """An observer listens to trainings that are not its own."""
    generator = torch.Generator().manual_seed(rows)
    z, y = 3 * torch.randn(rows, classes, generator=generator), torch.randint(0, classes, (rows,), generator=generator)
    results = []
    for listener in (None, lambda seen: None):
        if listener is not None:
            listeners.append(listener)
        try:
            x = z.clone().requires_grad_()
            loss = cross_entropy(x, y, **asked)
            loss.backward()
        finally:
            listeners.clear()
        results.append((loss.detach(), x.grad))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])


def test_a_mode_that_watches_calls_sees_one_call() -> None:
    from torch.overrides import TorchFunctionMode

    class Watching(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            names.append(func.__name__)
            return func(*args, **(kwargs or {}))

    names: list[str] = []
    x, y = torch.randn(300, 100, requires_grad=True), torch.randint(0, 100, (300,))
    with Watching():
        loss = cross_entropy(x, y)
    assert names == ["cross_entropy"]
    assert torch.equal(loss, cross_entropy(x, y))
