"""What others fell into: one test for each entry of the list in the design notes, numbers as there.

3, 5, 11 and 13 are tested for the Triton kernel too (test_triton_kernel), 10 in the processes of test_parallel, 18 in
test_benchmark.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from cases import package

from unstuck.losses import binary_cross_entropy, cross_entropy, linear_cross_entropy
from unstuck.losses import linear_cross_entropy as linear_function
from unstuck.losses.cross_entropy import eager


@pytest.fixture(autouse=True, params=["ours", "as called"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "ours":
        monkeypatch.setattr(package, "SMALL", 0)


def both(loss, logits: torch.Tensor, *given: object, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
    z = logits.detach().clone().requires_grad_()
    value = loss(z, *given, **options)
    return value.detach(), torch.autograd.grad(value.sum(), z)[0]


def same(logits: torch.Tensor, *given: object, **options: object) -> None:
    for a, b in zip(both(cross_entropy, logits, *given, **options), both(F.cross_entropy, logits, *given, **options)):
        torch.testing.assert_close(a, b, equal_nan=True)


def test_01_the_logits_are_still_there_after_the_loss() -> None:
    logits = torch.randn(70, 300, requires_grad=True)
    before = logits.detach().clone()
    loss = cross_entropy(logits, torch.arange(70))
    loss.backward()
    assert torch.equal(logits.detach(), before)
    # given up on purpose: autograd refuses an earlier operation that needs its overwritten output
    out = torch.exp(torch.randn(70, 300, requires_grad=True))
    loss = cross_entropy(out, torch.arange(70), overwrite_logits=True)
    if loss.grad_fn.name().startswith("FusedCrossEntropy"):
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_02_ignored_rows_keep_their_logits() -> None:
    logits = torch.randn(5, 300, requires_grad=True)
    before = logits.detach().clone()
    cross_entropy(logits, torch.tensor([1, -100, 2, -100, 3])).backward()
    assert torch.equal(logits.detach(), before)
    assert not logits.grad[[1, 3]].any() and logits.grad[[0, 2, 4]].any(1).all()


@pytest.mark.parametrize("classes", [10, 300, 9000])
def test_03_a_first_block_of_minus_infinity(classes: int) -> None:
    logits = torch.randn(40, classes)
    logits[:, : classes - 2] = -math.inf
    target = torch.full((40,), classes - 1)
    same(logits, target)
    seen: list = []
    loss = cross_entropy(logits, target, telemetry=seen.append)
    torch.testing.assert_close(loss, F.cross_entropy(logits, target))
    assert torch.isfinite(seen[0].entropy).all() and (seen[0].predicted >= classes - 2).all()


def test_04_all_rows_ignored() -> None:
    logits, target = torch.randn(6, 300), torch.full((6,), -100)
    for reduction, expected in (("mean", math.nan), ("sum", 0.0), ("none", 0.0)):
        for weight in (None, torch.rand(300)):
            loss, gradient = both(cross_entropy, logits, target, weight, reduction=reduction)
            assert torch.equal(torch.isnan(loss), torch.isnan(torch.full(loss.shape, expected)))
            assert math.isnan(expected) or not loss.any()
            assert not gradient.any()


@pytest.mark.slow
def test_05_more_than_2_to_the_31_elements() -> None:
    rows, classes = 70_000, 32_000
    logits = torch.randn(1, classes).expand(rows, classes)
    assert logits.numel() > 2**31
    target = torch.randint(0, classes, (rows,))
    with torch.no_grad():
        loss = cross_entropy(logits, target)
    lse = torch.logsumexp(logits[0].double(), 0)
    assert float(loss) == pytest.approx(float((lse - logits[0].double()[target]).mean()), rel=1e-6)


def test_06_none_with_an_upstream_gradient_that_differs_by_row() -> None:
    for dtype, limit in ((torch.float32, 1e-6), (torch.bfloat16, 4e-3), (torch.float16, 1e-3)):
        for shape, rows in (((70, 300), (70,)), ((40, 7), (40,)), ((3, 7, 5), (3, 5)), ((9,), ())):
            logits = torch.randn(shape).to(dtype).requires_grad_()
            target = torch.randint(0, shape[min(1, len(shape) - 1)], rows)
            upstream = torch.randn(rows).to(dtype)
            (found,) = torch.autograd.grad(cross_entropy(logits, target, reduction="none"), logits, upstream)
            exact = logits.detach().double().requires_grad_()
            (truth,) = torch.autograd.grad(F.cross_entropy(exact, target, reduction="none"), exact, upstream.double())
            assert float((found.double() - truth).norm() / truth.norm()) < limit


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_07_a_second_backward_is_not_scaled_twice(reduction: str, dtype: torch.dtype) -> None:
    logits = torch.randn(70, 300).to(dtype).requires_grad_()
    loss = cross_entropy(logits, torch.arange(70), reduction=reduction)
    upstream = torch.full_like(loss, 3.0)
    first, second = (torch.autograd.grad(loss, logits, upstream, retain_graph=True)[0] for _ in range(2))
    torch.testing.assert_close(first, second, rtol=1e-6, atol=0.0)
    assert first.data_ptr() != second.data_ptr()
    # and accumulates like any other
    for _ in range(3):
        loss.backward(upstream, retain_graph=True)
    torch.testing.assert_close(logits.grad, 3 * first)


def test_08_half_precision_gradients_survive_the_division_by_n() -> None:
    rows, scale = 1 << 15, 2.0**14
    logits = torch.randn(rows, 40).half()
    target = torch.randint(0, 40, (rows,))
    for weight in (None, torch.rand(40).half()):
        z = logits.clone().requires_grad_()
        (cross_entropy(z, target, weight, label_smoothing=0.1) * scale).backward()  # what a loss scaler does
        exact = logits.double().requires_grad_()
        (F.cross_entropy(exact, target, None if weight is None else weight.double(), label_smoothing=0.1) * scale).backward()
        assert float((z.grad.double() - exact.grad).norm() / exact.grad.norm()) < 5e-4
        assert (z.grad != 0).float().mean() > 0.999
    z = logits.clone().requires_grad_()
    (binary_cross_entropy(z, torch.zeros_like(z)) * scale).backward()
    assert (z.grad != 0).all()


def test_09_the_gradient_of_the_projection_is_summed_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(linear_function.__globals__, "LOGITS", 1)
    monkeypatch.setitem(linear_function.__globals__, "LEAST_ROWS", 1)  # a chunk for each of 3000 rows
    rows, classes = 3000, 3
    hidden = torch.ones(rows, 2).bfloat16().requires_grad_()
    matrix = torch.zeros(classes, 2).bfloat16().requires_grad_()
    linear_cross_entropy(hidden, matrix, torch.zeros(rows, dtype=torch.int64), reduction="sum").backward()
    # every row adds the same (1/3 - 1, 1/3, 1/3); in bfloat16 the sum would stop growing at 256 of them
    torch.testing.assert_close(
        matrix.grad.double(), rows * torch.tensor([[-2 / 3] * 2, [1 / 3] * 2, [1 / 3] * 2]).double(), rtol=4e-3, atol=0
    )


@pytest.mark.parametrize("classes", [65, 129, 257, 300, 1031, 9001])
def test_11_the_tail_beyond_the_last_whole_block(classes: int) -> None:
    logits = torch.full((70, classes), -50.0)
    loss, gradient = both(cross_entropy, logits, torch.arange(70) % classes)
    assert float(loss) == pytest.approx(math.log(classes), rel=1e-6)
    torch.testing.assert_close(gradient.sum(1), torch.zeros(70), atol=1e-7, rtol=0)
    z = torch.randn(70, classes)
    z[torch.arange(70), classes - 1 - torch.arange(70) % 60] = 9.0
    assert torch.equal(eager.top(z)[1].squeeze(1), z.argmax(1))


def test_12_what_the_mean_divides_by_and_how_batches_add_up() -> None:
    torch.manual_seed(0)
    logits, weight = torch.randn(90, 300), torch.rand(300)
    target = torch.randint(0, 300, (90,))
    target[::4] = -100
    for w, eps in ((None, 0.0), (weight, 0.0), (weight, 0.1)):
        same(logits, target, w, label_smoothing=eps)
        same(logits, torch.softmax(torch.randn(90, 300), 1), w, label_smoothing=eps)
        # unequal parts: the mean of means is wrong, the denominators that telemetry reports put it right
        seen: list = []
        parts = [
            cross_entropy(logits[s], target[s], w, label_smoothing=eps, telemetry=seen.append)
            for s in (slice(0, 20), slice(20, 90))
        ]
        whole = F.cross_entropy(logits, target, w, label_smoothing=eps)
        together = sum(p * t.denominator for p, t in zip(parts, seen)) / sum(t.denominator for t in seen)
        assert float(together) == pytest.approx(float(whole), rel=1e-6)
        assert float(sum(parts) / 2) != pytest.approx(float(whole), rel=1e-6)


@pytest.mark.parametrize("classes", [3, 300])
def test_13_a_label_out_of_range_is_named(classes: int) -> None:
    logits = torch.randn(2, classes, 3, requires_grad=True)
    target = torch.zeros(2, 3, dtype=torch.int64)
    target[0, 1], target[1, 2] = -100, classes
    with pytest.raises(IndexError, match=rf"target\[1, 2\] is {classes}, out of bounds for {classes} classes: .* 0..{classes - 1}"):
        cross_entropy(logits, target)
    with pytest.raises(IndexError, match=r"target\[0, 1\] is -100.*2 of 6 do not; ignore_index is -1"):
        cross_entropy(logits, target, ignore_index=-1)
    with pytest.raises(IndexError, match=r"target is 7, out of bounds for 3"):
        cross_entropy(torch.randn(3), torch.tensor(7))
    with pytest.raises(IndexError, match=r"target\[0\] is 9"):
        linear_cross_entropy(torch.randn(2, 4), torch.randn(5, 4), torch.tensor([9, 1]))


def test_14_traced_calls_have_no_early_exit() -> None:
    def loss(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return cross_entropy(z, y, label_smoothing=0.1)

    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    for target in (torch.arange(6), torch.full((6,), -100), torch.tensor([0, -100, 2, 3, -100, 5])):
        logits = torch.randn(6, 300, requires_grad=True)
        (a,) = torch.autograd.grad(compiled(logits, target), logits)
        (b,) = torch.autograd.grad(loss(logits, target), logits)
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(compiled(logits, target), loss(logits, target), equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_15_rows_that_start_anywhere(dtype: torch.dtype) -> None:
    base = torch.randn(70, 1009).to(dtype)
    for start, stop in ((1, 1002), (3, 1004), (7, 264), (5, 12)):
        logits = base[:, start:stop]
        target = torch.arange(70) % (stop - start)
        z = logits.detach().requires_grad_()
        (found,) = torch.autograd.grad(cross_entropy(z, target), z)
        exact = logits.double().requires_grad_()
        (truth,) = torch.autograd.grad(F.cross_entropy(exact, target), exact)
        assert float((found.double() - truth).norm() / truth.norm()) < (1e-6 if dtype == torch.float32 else 4e-3)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_16_nan_in_an_ignored_row_stays_there(value: float) -> None:
    for shape in ((70, 300), (40, 7), (5, 300)):
        logits = torch.randn(shape)
        logits[2, 1] = value
        target = torch.zeros(shape[0], dtype=torch.int64)
        target[2] = -100
        clean = logits.clone()
        clean[2] = 0.0
        for a, b in zip(both(cross_entropy, logits, target), both(F.cross_entropy, clean, target)):
            torch.testing.assert_close(a, b)
        (second,) = torch.autograd.functional.vjp(lambda z, y=target: cross_entropy(z, y), logits, create_graph=True)[1:]
        assert torch.isfinite(second).all()
    logits[3, 1] = math.nan  # and of a row that counts, it shows
    assert torch.isnan(cross_entropy(logits, target))


def test_17_a_class_ruled_out_by_minus_infinity() -> None:
    logits = torch.randn(5, 300)
    logits[:, 7] = -math.inf
    same(logits, torch.arange(5))
    same(logits, torch.tensor([7, 1, 2, 3, 4]))
    same(logits, torch.arange(5), label_smoothing=0.1)
    assert math.isinf(cross_entropy(logits, torch.arange(5), label_smoothing=0.1))
    # torch itself answers NaN to the next
    soft = torch.softmax(logits, 1)
    assert not soft[:, 7].any()
    loss, gradient = both(cross_entropy, logits, soft)
    entropy = -(soft.double().log() * soft.double()).nan_to_num(0.0).sum(1).mean()
    assert float(loss) == pytest.approx(float(entropy), rel=1e-5)
    assert torch.isfinite(gradient).all()
