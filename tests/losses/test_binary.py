"""binary_cross_entropy against torch's binary_cross_entropy_with_logits."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from cases import ASKED, ROUNDING
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.losses import BinaryCrossEntropyLoss, binary, binary_cross_entropy


@settings(max_examples=600, deadline=None, derandomize=True)
@given(st.data())
def test_no_case_is_worse_than_torch(data: st.DataObject) -> None:
    draw = data.draw
    shape = draw(st.sampled_from([(), (1,), (17,), (6, 5), (3, 4, 5), (0, 3)]))
    dtype = draw(st.sampled_from(list(ROUNDING)))
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    logits = (torch.randn(shape, generator=g, dtype=torch.float64) * draw(st.sampled_from([0.1, 3.0, 40.0]))).to(dtype)
    target = torch.rand(shape, generator=g).to(dtype)
    if draw(st.booleans()):
        target = target.round()
    last = shape[-1:]
    pos_weight = torch.rand(last, generator=g).mul(3).to(dtype) if draw(st.booleans()) else None
    weight = torch.rand(draw(st.sampled_from([shape, last])), generator=g).to(dtype) if draw(st.booleans()) else None
    reduction = draw(st.sampled_from(["mean", "sum", "none"]))
    eps = draw(st.sampled_from([0.0, 0.0, 0.1, 1.0]))
    upstream = torch.randn(shape if reduction == "none" else (), generator=g).to(dtype)

    def answer(ours: bool, to: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        z, y, w, c = (None if t is None else t.to(to) for t in (logits, target, weight, pos_weight))
        z.requires_grad_()
        if ours:
            loss = binary_cross_entropy(z, y, w, pos_weight=c, reduction=reduction, label_smoothing=eps)
        else:
            y = y * (1 - eps) + eps / 2 if eps else y
            loss = F.binary_cross_entropy_with_logits(z, y, w, pos_weight=c, reduction=reduction)
        return loss.detach(), torch.autograd.grad(loss, z, upstream.to(to))[0]

    most = 4.0 * (float(weight.double().abs().max()) if weight is not None and weight.numel() else 1.0)
    floor = (
        most
        * max(1.0, float(upstream.double().norm()))
        * (math.sqrt(logits.numel()) if reduction == "none" else logits.numel() ** 0.5)
    )
    for ours, theirs, truth in zip(answer(True, dtype), answer(False, dtype), answer(False, torch.float64)):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        assert torch.equal(torch.isnan(ours), torch.isnan(theirs))
        if torch.isnan(ours).any():
            continue
        a, b, c = (t.double() for t in (ours, theirs, truth))
        unavoidable = 4 * min(ROUNDING[dtype], 2.0**-24) * floor + (
            2.0**-24 * math.sqrt(a.numel()) if dtype == torch.float16 else 0.0
        )
        assert float((a - c).norm()) <= ASKED[dtype] * float(c.norm()) + unavoidable
        half = dtype in (torch.float16, torch.bfloat16)
        best = (1.01 if half else 8) * ROUNDING[dtype] * float(c.norm()) + unavoidable
        assert float((a - c).norm()) <= max(float((b - c).norm()), best)


def test_chunks_and_multi_label_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "CHUNK", 64)
    logits, target = torch.randn(50, 7, requires_grad=True), torch.rand(50, 7).round()
    c, w = torch.rand(7) * 5, torch.rand(50, 1)
    ours = binary_cross_entropy(logits, target, w, pos_weight=c)
    theirs = F.binary_cross_entropy_with_logits(logits, target, w, pos_weight=c)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, logits)[0], torch.autograd.grad(theirs, logits)[0])


def test_derivatives_of_derivatives_and_functorch() -> None:
    torch.manual_seed(0)
    z, y, c = torch.randn(4, 3).double().requires_grad_(), torch.rand(4, 3).double(), torch.rand(3).double()

    def loss(z: torch.Tensor) -> torch.Tensor:
        return binary_cross_entropy(z, y, pos_weight=c, label_smoothing=0.1)

    assert torch.autograd.gradcheck(loss, (z,))
    assert torch.autograd.gradgradcheck(loss, (z,))
    torch.testing.assert_close(torch.func.vmap(lambda a, b: binary_cross_entropy(a, b))(z, y).mean(), binary_cross_entropy(z, y))


def test_extreme_logits_are_exact() -> None:
    z = torch.tensor([800.0, -800.0, 0.0], requires_grad=True)
    loss = binary_cross_entropy(z, torch.tensor([0.0, 1.0, 1.0]), reduction="none")
    torch.testing.assert_close(loss.detach(), torch.tensor([800.0, 800.0, math.log(2)]))
    torch.testing.assert_close(torch.autograd.grad(loss.sum(), z)[0], torch.tensor([1.0, -1.0, -0.5]))


def test_a_second_backward_is_not_scaled_twice_and_the_module_agrees() -> None:
    z, y = torch.randn(6, 2, requires_grad=True), torch.rand(6, 2)
    module = BinaryCrossEntropyLoss(pos_weight=torch.tensor([2.0, 3.0]))
    loss = module(z, y) * 3
    first, second = (torch.autograd.grad(loss, z, retain_graph=True)[0] for _ in range(2))
    torch.testing.assert_close(first, second, rtol=1e-6, atol=0.0)
    theirs = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor([2.0, 3.0]))
    torch.testing.assert_close(first, torch.autograd.grad(theirs(z, y) * 3, z)[0])


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match="view or squeeze"):
        binary_cross_entropy(torch.randn(4, 1), torch.rand(4))
    with pytest.raises(ValueError, match="reduction"):
        binary_cross_entropy(torch.randn(4), torch.rand(4), reduction="average")
    with pytest.raises(ValueError, match="label_smoothing"):
        binary_cross_entropy(torch.randn(4), torch.rand(4), label_smoothing=-0.1)
