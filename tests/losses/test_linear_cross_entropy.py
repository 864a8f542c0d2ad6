"""linear_cross_entropy against the projection and torch's loss, and what it must never allocate."""

from __future__ import annotations

import inspect

import pytest
import torch
import torch.nn.functional as F
from cases import ASKED
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.losses import LinearCrossEntropyLoss, linear_cross_entropy

names = inspect.unwrap(linear_cross_entropy).__globals__


@settings(max_examples=250, deadline=None, derandomize=True)
@given(st.data())
def test_it_is_the_projection_and_the_loss(data: st.DataObject) -> None:
    draw = data.draw
    lead = draw(st.sampled_from([(1,), (9,), (130,), (3, 4)]))
    features, classes = draw(st.integers(1, 8)), draw(st.sampled_from([1, 2, 7, 300]))
    dtype = draw(st.sampled_from([torch.float64, torch.float32, torch.bfloat16]))
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    hidden, matrix = torch.randn(*lead, features, generator=g).to(dtype), torch.randn(classes, features, generator=g).to(dtype)
    bias = torch.randn(classes, generator=g).to(dtype) if draw(st.booleans()) else None
    soft = draw(st.booleans())
    target = (
        torch.softmax(torch.randn(*lead, classes, generator=g), -1).to(dtype)
        if soft
        else torch.randint(0, classes, lead, generator=g)
    )
    weight = torch.rand(classes, generator=g).add(0.1).to(dtype) if draw(st.booleans()) else None
    options = {"reduction": draw(st.sampled_from(["mean", "sum", "none"])), "label_smoothing": draw(st.sampled_from([0.0, 0.1]))}
    if not soft and target.numel() > 1:
        target.view(-1)[0] = -100
    upstream = torch.randn(lead if options["reduction"] == "none" else (), generator=g).to(dtype)
    many = draw(st.sampled_from([1, 1 << 22]))

    def answer(ours: bool) -> list[torch.Tensor]:
        to = dtype if ours else torch.float64
        h, m, b, w = (None if t is None else t.detach().to(to) for t in (hidden, matrix, bias, weight))
        learned = [t.requires_grad_() for t in (h, m, b) if t is not None]
        y = target.to(to) if soft else target
        if ours:
            before, names["LOGITS"] = names["LOGITS"], many
            try:
                loss = linear_cross_entropy(h, m, y, linear_bias=b, weight=w, **options)
            finally:
                names["LOGITS"] = before
        else:
            flat = y.reshape(-1, classes) if soft else y.reshape(-1)
            loss = F.cross_entropy(F.linear(h.reshape(-1, features), m, b), flat, w, **options)
            loss = loss.reshape(lead) if options["reduction"] == "none" else loss
        return [loss.detach(), *torch.autograd.grad(loss, learned, upstream.to(to))]

    size = max(float(t.double().norm()) for t in answer(False)[1:]) * (1 + float(matrix.double().norm()))
    for found, truth in zip(answer(True), answer(False)):
        assert found.dtype == dtype and found.shape == truth.shape
        distance = float((found.double() - truth).norm())
        assert distance <= ASKED[dtype] * float(truth.norm()) + {torch.float32: 2e-6, torch.float64: 1e-14}.get(dtype, 1e-4) * (
            size + 1.0
        )


def test_the_full_logits_never_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(names, "LOGITS", 20_000)
    largest = 0

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.device.type != "meta":
                largest = max(largest, out.numel())
            return out

    hidden, matrix = torch.randn(1000, 4, requires_grad=True), torch.randn(200, 4, requires_grad=True)
    with Sizes():
        linear_cross_entropy(hidden, matrix, torch.arange(1000) % 200, label_smoothing=0.1).backward()
    assert 4 * 1000 <= largest <= 20_000 + 200  # 200 000 logits in all


def test_derivatives_of_derivatives_second_backward_and_functorch() -> None:
    torch.manual_seed(0)
    h, m, b = (torch.randn(s).double().requires_grad_() for s in ((4, 3), (5, 3), (5,)))
    y = torch.tensor([0, 4, -100, 1])

    def loss(h: torch.Tensor, m: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return linear_cross_entropy(h, m, y, linear_bias=b, label_smoothing=0.1, z_loss=0.01)

    assert torch.autograd.gradcheck(loss, (h, m, b))
    assert torch.autograd.gradgradcheck(loss, (h, m, b))
    value = loss(h, m, b) * 3
    first, second = (torch.autograd.grad(value, (h, m, b), retain_graph=True) for _ in range(2))
    for one, two in zip(first, second):
        assert torch.equal(one, two)
    only = torch.autograd.grad(linear_cross_entropy(h.detach(), m, y), m)[0]
    torch.testing.assert_close(only, torch.autograd.grad(F.cross_entropy(F.linear(h.detach(), m), y), m)[0])
    torch.testing.assert_close(torch.func.grad(lambda t: loss(t, m, b))(h), first[0] / 3)


def test_the_module_keeps_telemetry_and_errors_name_the_shape() -> None:
    head = LinearCrossEntropyLoss(4, 7, bias=True, keep_telemetry=True)
    hidden, y = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, -100])
    loss = head(hidden, y)
    logits = F.linear(hidden, head.weight, head.bias)
    torch.testing.assert_close(loss, F.cross_entropy(logits, y))
    assert int(head.telemetry.rows) == 4
    assert torch.equal(head.telemetry.predicted, logits.argmax(1))
    for match, call in (
        ("do not fit", lambda: linear_cross_entropy(hidden, torch.randn(7, 3), y)),
        ("linear_bias", lambda: linear_cross_entropy(hidden, torch.randn(7, 4), y, linear_bias=torch.zeros(3))),
        ("expected", lambda: linear_cross_entropy(hidden, torch.randn(7, 4), y[:3])),
    ):
        with pytest.raises(ValueError, match=match):
            call()
