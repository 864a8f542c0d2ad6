"""cross_entropy against torch's: values, gradients, dtypes, shapes, errors, derivatives of derivatives."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from cases import Case, answer, cases, check, package
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.losses import CrossEntropyLoss, cross_entropy, guards
from unstuck.losses.cross_entropy import eager, reference

QUICK = settings(max_examples=1000, deadline=None, derandomize=True)
MANY = settings(max_examples=4500, deadline=None, derandomize=True)


@pytest.fixture(autouse=True)
def _no_shortcut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small calls take torch's own way; here they are to take ours."""
    monkeypatch.setattr(package, "SMALL", 0)


def test_no_case_is_worse_than_torch() -> None:
    @QUICK
    @given(cases())
    def run(case: Case) -> None:
        check(case, cross_entropy)

    run()


@pytest.mark.slow
def test_no_case_of_many_more_is_worse_than_torch() -> None:
    @MANY
    @given(cases(), st.booleans(), st.sampled_from([64, 1000, eager.CHUNK]))
    def run(case: Case, watched: bool, chunk: int) -> None:
        before, eager.CHUNK = eager.CHUNK, chunk  # many chunks, also through the middle of a sample's positions
        try:
            check(case, cross_entropy, telemetry=(lambda seen: None) if watched else None)
        finally:
            eager.CHUNK = before

    run()


def test_the_way_of_an_accelerator_is_no_worse_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """The eager path without a single look at a value by the host, on CPU tensors: every decision is made by the device."""
    before = eager.Targets.__init__

    def without_looking(self, *given):
        before(self, *given[:-1], False)

    monkeypatch.setattr(eager.Targets, "__init__", without_looking)
    guards.forget()

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(cases())
    def run(case: Case) -> None:
        check(case, cross_entropy, telemetry=lambda seen: None)

    run()
    guards.forget()


def test_the_reference_is_torch_in_double_precision() -> None:
    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(cases(dtypes=(torch.float64,)))
    def run(case: Case) -> None:
        loss, gradient = answer(F.cross_entropy, case)
        weight = None if case.weight is None else case.weight.numpy()
        found = reference.cross_entropy(
            case.logits.numpy(), case.target.numpy(), weight, upstream=case.upstream.numpy(), **case.options
        )
        torch.testing.assert_close(torch.as_tensor(found.loss), loss, rtol=1e-11, atol=1e-12, equal_nan=True)
        torch.testing.assert_close(torch.as_tensor(found.gradient), gradient, rtol=1e-10, atol=1e-12, equal_nan=True)

    run()


@pytest.mark.parametrize("shape", [(6, 9), (40, 5), (3, 4, 5), (300,)])
@pytest.mark.parametrize("zeta", [0.01, 1.0])
def test_z_loss_is_the_references(shape: tuple[int, ...], zeta: float) -> None:
    torch.manual_seed(0)
    for reduction, weighted, soft, eps in itertools.product(("mean", "sum", "none"), (0, 1), (0, 1), (0.0, 0.1)):
        axis = 0 if len(shape) == 1 else 1
        logits = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        rows = shape[:axis] + shape[axis + 1 :]
        target = torch.softmax(torch.randn(shape).double(), axis) if soft else torch.randint(0, shape[axis], rows)
        weight = torch.rand(shape[axis]).double() if weighted else None
        loss = cross_entropy(logits, target, weight, reduction=reduction, label_smoothing=eps, z_loss=zeta)
        upstream = torch.randn_like(loss)
        (gradient,) = torch.autograd.grad(loss, logits, upstream)
        expected = reference.cross_entropy(
            logits.detach().numpy(),
            target.numpy(),
            None if weight is None else weight.numpy(),
            reduction=reduction,
            label_smoothing=eps,
            z_loss=zeta,
            upstream=upstream.numpy(),
        )
        torch.testing.assert_close(loss.detach(), torch.as_tensor(expected.loss))
        torch.testing.assert_close(gradient, torch.as_tensor(expected.gradient))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(70, 300), (40, 10), (4, 6, 5)])
def test_overwritten_logits_hold_the_same_gradient(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    start = torch.randn(shape).to(dtype).requires_grad_()
    target = torch.randint(0, shape[1], shape[:1] + shape[2:])
    kept, given_up = start * 1, start * 1
    (expected,) = torch.autograd.grad(cross_entropy(kept, target), kept)
    loss = cross_entropy(given_up, target, overwrite_logits=True)
    (found,) = torch.autograd.grad(loss, given_up, retain_graph=True)
    assert torch.equal(found, expected)
    assert found.data_ptr() == given_up.data_ptr()
    with pytest.raises(RuntimeError, match="overwrite_logits"):
        torch.autograd.grad(loss, given_up)
    with pytest.raises(ValueError, match="leaf"):
        cross_entropy(start, target, overwrite_logits=True)


def test_an_upstream_gradient_of_one_costs_no_pass_and_the_buffer_is_handed_over() -> None:
    logits = torch.randn(8, 300, requires_grad=True)
    loss = cross_entropy(logits, torch.arange(8))
    held = loss.grad_fn.gradient.data_ptr()
    loss.backward()
    assert logits.grad.data_ptr() == held


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradcheck_and_gradgradcheck(soft: bool, reduction: str) -> None:
    torch.manual_seed(0)
    for shape, eps, zeta in (((4, 5), 0.0, 0.0), ((3, 4, 2), 0.2, 0.0), ((5, 3), 0.1, 0.01)):
        logits = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        weight = torch.rand(shape[1], dtype=torch.float64)
        target = torch.softmax(torch.randn(shape).double(), 1) if soft else torch.randint(0, shape[1], shape[:1] + shape[2:])
        if not soft:
            target.view(-1)[1] = -100

        def loss(z: torch.Tensor, target=target, weight=weight, eps=eps, zeta=zeta) -> torch.Tensor:
            return cross_entropy(z, target, weight, reduction=reduction, label_smoothing=eps, z_loss=zeta)

        assert torch.autograd.gradcheck(loss, (logits,))
        assert torch.autograd.gradgradcheck(loss, (logits,))


def test_the_gradient_by_probability_targets_and_by_weight_exists() -> None:
    torch.manual_seed(0)
    logits, target, weight = torch.randn(4, 5).double(), torch.rand(4, 5).double(), torch.rand(5).double()
    for t in (logits, target, weight):
        t.requires_grad_()
    ours = torch.autograd.grad(cross_entropy(logits, target, weight), (logits, target, weight))
    theirs = torch.autograd.grad(F.cross_entropy(logits, target, weight), (logits, target, weight))
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b)


def test_functorch_grad_vmap_jvp_hessian() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(3, 4, 5), torch.randint(0, 5, (3, 4))
    target[0, 0] = -100

    def ours(z, y):
        return cross_entropy(z, y, label_smoothing=0.1)

    def theirs(z, y):
        return F.cross_entropy(z, y, label_smoothing=0.1)

    f = torch.func
    for transform in (
        lambda loss: f.grad(loss)(logits[0], target[0]),
        lambda loss: f.vmap(loss)(logits, target),
        lambda loss: f.vmap(f.grad(loss))(logits, target),
        lambda loss: f.hessian(loss)(logits[0], target[0]),
        lambda loss: f.jvp(lambda z: loss(z, target[0]), (logits[0],), (torch.ones(4, 5),)),
    ):
        torch.testing.assert_close(transform(ours), transform(theirs))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(logits[0], torch.ones(4, 5))
        a, b = (torch.autograd.forward_ad.unpack_dual(loss(dual, target[0])).tangent for loss in (ours, theirs))
        torch.testing.assert_close(a, b)


def test_the_dtype_of_the_result_is_torchs() -> None:
    target = torch.tensor([0, 2])
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        logits = torch.randn(2, 3).to(dtype)
        assert cross_entropy(logits, target).dtype == F.cross_entropy(logits, target).dtype == dtype
        for other in (torch.bfloat16, torch.float32, torch.float64):
            soft = torch.rand(2, 3).to(other)
            assert cross_entropy(logits, soft).dtype == F.cross_entropy(logits, soft).dtype
        with torch.autocast("cpu", torch.bfloat16):
            assert cross_entropy(logits, target).dtype == F.cross_entropy(logits, target).dtype


def test_the_retired_flags_and_the_module_agree_with_torch() -> None:
    logits, target, weight = torch.randn(4, 5), torch.tensor([0, 1, 4, -1]), torch.rand(5)
    for flags in ({"size_average": False}, {"reduce": False}, {"size_average": True, "reduce": True}):
        with pytest.warns(UserWarning, match="deprecated"):
            expected = F.cross_entropy(logits, target, ignore_index=-1, **flags)
        torch.testing.assert_close(cross_entropy(logits, target, ignore_index=-1, **flags), expected)
    ours = CrossEntropyLoss(weight, ignore_index=-1, label_smoothing=0.1, keep_telemetry=True)
    theirs = torch.nn.CrossEntropyLoss(weight, ignore_index=-1, label_smoothing=0.1)
    assert ours.telemetry is None
    torch.testing.assert_close(ours(logits, target), theirs(logits, target))
    assert int(ours.telemetry.rows) == 3
    assert set(ours.state_dict()) == set(theirs.state_dict())


def test_what_cannot_be_computed_is_named() -> None:
    logits, target = torch.randn(2, 3), torch.tensor([0, 1])
    for error, match, call in (
        (ValueError, "reduction", lambda: cross_entropy(logits, target, reduction="average")),
        (ValueError, "label_smoothing", lambda: cross_entropy(logits, target, label_smoothing=1.5)),
        (ValueError, "ignore_index", lambda: cross_entropy(logits, torch.rand(2, 3), ignore_index=1)),
        (ValueError, r"call target.squeeze\(-1\)", lambda: cross_entropy(logits, target[:, None])),
        (ValueError, r"need \(2,\)", lambda: cross_entropy(logits, torch.tensor([0, 1, 2]))),
        (ValueError, "probability targets must have", lambda: cross_entropy(logits, torch.rand(2, 2))),
        (ValueError, "weight", lambda: cross_entropy(logits, target, torch.ones(2))),
        (ValueError, "class dimension", lambda: cross_entropy(torch.tensor(1.0), torch.tensor(0))),
        (TypeError, r"call target.long\(\)", lambda: cross_entropy(logits, target.int())),
        (TypeError, "floating", lambda: cross_entropy(logits.long(), target)),
    ):
        with pytest.raises(error, match=match):
            call()


def test_empty_batches_are_torchs() -> None:
    for shape, rows in (((0, 3), (0,)), ((2, 3, 0), (2, 0))):
        for reduction in ("mean", "sum", "none"):
            logits = torch.zeros(shape, requires_grad=True)
            for target in (torch.zeros(rows, dtype=torch.int64), torch.zeros(shape)):
                ours = cross_entropy(logits, target, reduction=reduction)
                torch.testing.assert_close(ours, F.cross_entropy(logits, target, reduction=reduction), equal_nan=True)
                ours.sum().backward()
    torch.testing.assert_close(cross_entropy(torch.zeros(2, 0), torch.zeros(2, 0)), torch.tensor(torch.nan), equal_nan=True)


def test_a_graph_freed_by_backward_says_so() -> None:
    logits = torch.randn(3, 300, requires_grad=True)
    loss = cross_entropy(logits, torch.arange(3))
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_without_gradients_nothing_of_the_logits_size_is_kept() -> None:
    logits = torch.randn(4, 300, requires_grad=True)
    with torch.no_grad():
        assert cross_entropy(logits, torch.arange(4)).grad_fn is None
    assert cross_entropy(logits.detach(), torch.arange(4)).grad_fn is None
