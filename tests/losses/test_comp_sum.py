"""The comp-sum family and focal loss against their definitions in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import Case, answer, cases, package
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from unstuck.losses import comp_sum, focal, generalised_cross_entropy, mean_absolute_error
from unstuck.losses.cross_entropy import reference


@pytest.fixture(autouse=True, params=["ours", "as called"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "ours":
        monkeypatch.setattr(package, "SMALL", 0)


def test_the_family_is_its_definition() -> None:
    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(
        cases(dtypes=(torch.float32, torch.float64)),
        st.sampled_from([0.0, 0.5, 1.0, 1.3, 1.7, 2.0]),
        st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    )
    def run(case: Case, tau: float, gamma: float) -> None:
        assume(not case.target.is_floating_point() and float(case.logits.double().std(unbiased=False)) < 6)
        case.options.pop("label_smoothing")
        which = {"tau": tau} if tau != 1.0 else {"gamma": gamma}
        one, parameter = (comp_sum, tau) if tau != 1.0 else (focal, gamma)
        loss, gradient = answer(lambda z, y, w, **options: one(z, y, parameter, w, **options), case)
        truth = reference.cross_entropy(
            case.logits.double().numpy(),
            case.target.numpy(),
            None if case.weight is None else case.weight.double().numpy(),
            upstream=case.upstream.double().numpy(),
            **which,
            **case.options,
        )
        near = 2e-5 if case.logits.dtype == torch.float32 else 1e-9
        for found, expected in ((loss, truth.loss), (gradient, truth.gradient)):
            size = (
                np.abs(np.nan_to_num(expected, posinf=0.0, neginf=0.0)).max(initial=0.0) + float(case.upstream.abs().max()) * 1e-2
            )
            assert np.allclose(found.double().numpy(), expected, rtol=near, atol=near * size, equal_nan=True), (which, case.options)

    run()


def test_the_named_members() -> None:
    logits, y = torch.randn(50, 300, dtype=torch.float64), torch.arange(50)
    p = torch.softmax(logits, 1)[torch.arange(50), y]
    torch.testing.assert_close(generalised_cross_entropy(logits, y, 0.7), ((1 - p**0.7) / 0.7).mean())
    torch.testing.assert_close(mean_absolute_error(logits, y), (2 * (1 - p)).mean())
    one_hot = torch.nn.functional.one_hot(y, 300)
    torch.testing.assert_close(mean_absolute_error(logits, y), (torch.softmax(logits, 1) - one_hot).abs().sum(1).mean())
    differences = torch.exp(logits - logits[torch.arange(50), y][:, None]).sum(1) - 1
    torch.testing.assert_close(comp_sum(logits, y, 0.0), differences.mean())
    torch.testing.assert_close(focal(logits, y, 2.0), (-((1 - p) ** 2) * p.log()).mean())
    torch.testing.assert_close(comp_sum(logits, y, 1.0), -p.log().mean())
    close = comp_sum(logits.float(), y, 1 + 1e-5)  # no 0/0 beside cross-entropy: 1 - p^(tau-1) has no digits left here
    torch.testing.assert_close(close, -p.log().mean().float(), rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("tau", [0.5, 1.7, 2.0])
def test_gradcheck_of_the_family(tau: float) -> None:
    torch.manual_seed(0)
    logits, y = torch.randn(4, 5, dtype=torch.float64, requires_grad=True), torch.tensor([0, 4, -100, 2])
    assert torch.autograd.gradcheck(
        lambda z: comp_sum(z, y, tau, torch.rand(5, generator=torch.manual_seed(1)).double()), (logits,)
    )
    assert torch.autograd.gradgradcheck(lambda z: comp_sum(z, y, tau), (logits,))
    assert torch.autograd.gradcheck(lambda z: focal(z, y, tau, z_loss=0.1), (logits,))
    assert torch.autograd.gradgradcheck(lambda z: focal(z, y, tau), (logits,))


def test_a_label_that_is_impossible_by_far_has_finite_loss_where_the_loss_is_bounded() -> None:
    logits = torch.tensor([[2000.0, 0.0, 0.0]], requires_grad=True)
    y = torch.tensor([1])
    for loss, expected in ((comp_sum(logits, y, 1.5), 2.0), (comp_sum(logits, y, 2.0), 1.0), (focal(logits, y, 2.0), 2000.0)):
        assert float(loss.detach()) == pytest.approx(expected)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert torch.isfinite(gradient).all()
    certain = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    for gamma in (0.5, 2.0):  # (1-p)^(gamma-1) has a pole at p = 1
        loss = focal(certain, torch.tensor([0]), gamma)
        assert float(loss) == 0.0
        assert torch.isfinite(torch.autograd.grad(loss, certain)[0]).all()


def test_what_cannot_be_computed_is_named() -> None:
    logits, y = torch.randn(2, 3), torch.tensor([0, 1])
    for match, call in (
        ("tau", lambda: comp_sum(logits, y, -1.0)),
        ("tau", lambda: comp_sum(logits, y, math.inf)),
        ("gamma", lambda: focal(logits, y, -1.0)),
        ("q must", lambda: generalised_cross_entropy(logits, y, 0.0)),
        ("class indices", lambda: focal(logits, torch.rand(2, 3))),
    ):
        with pytest.raises(ValueError, match=match):
            call()
