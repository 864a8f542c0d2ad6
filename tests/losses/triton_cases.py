"""The Triton kernel against the eager path, on CPU tensors: run as `TRITON_INTERPRET=1 python triton_cases.py NAME`."""

from __future__ import annotations

import itertools
import math
import sys

import torch

from unstuck.losses.cross_entropy import eager, triton_kernel
from unstuck.losses.cross_entropy.eager import Options

# Triton's interpreter cuts bfloat16 off where the hardware rounds
TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}


def off(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.double(), b.double()
    assert torch.equal(torch.isnan(a), torch.isnan(b)), "NaN elsewhere"
    keep = torch.isfinite(b)
    assert torch.equal(a[~keep & ~torch.isnan(b)], b[~keep & ~torch.isnan(b)]), "infinities differ"
    return float((a[keep] - b[keep]).norm() / (b[keep].norm() + 1e-30))


def compare(
    x: torch.Tensor, t: torch.Tensor, w: torch.Tensor | None, o: Options, block: int | None, **more: object
) -> eager.Result:
    """Runs both, and fails where loss, gradient or telemetry differ."""
    up = more.pop("upstream", None)
    assert triton_kernel.usable(x, t, w, o)
    wanted = eager.run(x.clone(), t, w, o, gradient=True, overwrite=False, telemetry=True, upstream=up)
    found = triton_kernel.run(x, t, w, o, gradient=True, telemetry=True, upstream=up, block=block, **{"overwrite": False, **more})
    limit, what = TOLERANCE[x.dtype], f"{tuple(x.shape)} {x.dtype} {o} block {block}"
    assert off(found.loss, wanted.loss) < 2e-6, what
    assert found.later == wanted.later
    assert off(found.gradient, wanted.gradient) < limit, what
    a, b = found.telemetry, wanted.telemetry
    rows = torch.ones(a.predicted.shape, dtype=torch.bool) if a.kept is None else a.kept
    for name in ("predicted", "logsumexp", "max_logit", "entropy"):
        assert off(getattr(a, name)[rows], getattr(b, name)[rows]) < 1e-5, (what, name)
    for name in ("rows", "correct", "histogram"):
        assert torch.equal(getattr(a, name), getattr(b, name)) or a.kept is not None, (what, name)
    assert off(a.label_mass, b.label_mass) < 1e-6, what
    return found


def options() -> None:
    torch.manual_seed(0)
    turn = itertools.cycle(itertools.product(TOLERANCE, ((70, 32), (130, 64), (257, 128), (100, None))))
    for soft, reduction, eps, zeta, weighted in itertools.product((0, 1), ("mean", "sum", "none"), (0.0, 0.2), (0.0, 0.01), (0, 1)):
        dtype, (classes, block) = next(turn)
        x = (torch.randn(5, classes) * 3).to(dtype)
        t = torch.softmax(torch.randn(5, classes), 1) if soft else torch.randint(0, classes, (5,))
        if not soft and zeta:
            t[2] = -100
        w = torch.rand(classes) if weighted else None
        up = torch.rand(5) if reduction == "none" else None
        o = Options(reduction=reduction, label_smoothing=eps, z_loss=zeta)
        compare(x, t, w, o, block, upstream=up)
        compare(x.clone(), t, w, o, block, upstream=up, overwrite=True)


def layouts() -> None:
    torch.manual_seed(0)
    t = torch.randint(0, 80, (2, 3))
    compare(torch.randn(2, 3, 80).transpose(1, 2), t, None, Options(), 32)  # (N, C, d1) with the classes side by side
    compare(torch.randn(7, 90)[:, 5:85], torch.randint(0, 80, (7,)), None, Options(), 32)
    compare(torch.randn(1, 80).expand(4, 80), torch.randint(0, 80, (4,)), None, Options(), 32)
    compare(torch.randn(70), torch.tensor(3), None, Options(), 32)
    assert not triton_kernel.usable(torch.randn(2, 80, 3), torch.zeros(2, 3).long(), None, Options())
    assert not triton_kernel.usable(torch.randn(2, 80).double(), torch.zeros(2).long(), None, Options())
    assert not triton_kernel.usable(torch.randn(2, 80), torch.zeros(2).long(), None, Options(tau=0.5))


def infinities() -> None:
    """Pitfalls 3 and 17: the first tile, or the whole row, is -inf; classes ruled out beside smoothing and probability 0."""
    x = torch.randn(3, 128)
    x[:, :64] = -math.inf
    compare(x, torch.tensor([70, 80, 127]), None, Options(), 32)
    compare(x, torch.tensor([3, 80, 127]), None, Options(reduction="none"), 32)  # the label itself is ruled out: inf
    soft = torch.softmax(torch.randn(3, 128), 1)
    soft[:, :64] = 0
    compare(x, soft, None, Options(), 32)
    found = triton_kernel.run(
        x,
        torch.tensor([70, 80, 127]),
        None,
        Options(label_smoothing=0.1),
        gradient=False,
        overwrite=False,
        telemetry=False,
        block=32,
    )
    assert math.isinf(float(found.loss))


def tail() -> None:
    """Pitfall 11: the padded columns of the last block must not count as exp(0)."""
    x = torch.full((2, 65), -50.0)
    found = compare(x, torch.tensor([0, 64]), None, Options(), 64)
    assert abs(float(found.loss) - math.log(65)) < 1e-5


def offsets() -> None:
    """Pitfall 5: the third row starts 2^31 elements behind the first. Untouched memory costs nothing."""
    step = 2**30
    x = torch.empty(2 * step + 80, dtype=torch.bfloat16).as_strided((3, 80), (step, 1))
    x.copy_(torch.randn(3, 80))
    t = torch.tensor([1, 2, 3])
    wanted = eager.run(x.contiguous(), t, None, Options(reduction="none"), gradient=False, overwrite=False, telemetry=False)
    for run in (eager.run, triton_kernel.run):
        found = run(x, t, None, Options(reduction="none"), gradient=False, overwrite=False, telemetry=False)
        assert off(found.loss, wanted.loss) < 1e-6


def out_of_range() -> None:
    """Pitfall 13, where asking would make the host wait: nothing is read out of bounds, the row is NaN, the others are right."""
    x, t = torch.randn(4, 80), torch.tensor([1, 80, -3, -100])
    before = eager.Targets.__init__

    def as_on_a_device(self, *given):  # type: ignore[no-untyped-def]
        before(self, *given[:-1], False)

    eager.Targets.__init__ = as_on_a_device
    try:
        for run in (eager.run, triton_kernel.run):
            found = run(x, t, None, Options(reduction="none"), gradient=True, overwrite=False, telemetry=False)
            assert torch.isnan(found.loss).tolist() == [False, True, True, False]
            assert torch.isnan(found.gradient[1:3]).any(1).all()
            assert torch.isfinite(found.gradient[0]).all() and not found.gradient[3].any()
    finally:
        eager.Targets.__init__ = before


if __name__ == "__main__":
    {f.__name__: f for f in (options, layouts, infinities, tail, offsets, out_of_range)}[sys.argv[1]]()
