"""Random loss calls, and how far a result may be from the truth in float64."""

from __future__ import annotations

import importlib
import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor

# the function of the same name hides the package on `import ... as`
package = importlib.import_module("unstuck.losses.cross_entropy")

# largest relative error of one correct rounding
ROUNDING = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.bfloat16: 2.0**-9, torch.float16: 2.0**-12}
ASKED = {torch.float64: 1e-13, torch.float32: 1e-6, torch.bfloat16: 2e-2, torch.float16: 2e-2}
# below these a number of the dtype is stored with a fixed step
SMALLEST_STEP = {torch.float64: 0.0, torch.float32: 2.0**-149, torch.bfloat16: 2.0**-133, torch.float16: 2.0**-24}


class Case(NamedTuple):
    logits: Tensor
    target: Tensor
    weight: Tensor | None
    upstream: Tensor
    options: dict[str, Any]


SHAPES = st.one_of(
    st.tuples(st.integers(1, 40)),
    st.tuples(st.integers(1, 9), st.integers(1, 40)),
    st.tuples(st.integers(30, 90), st.integers(1, 12)),
    st.tuples(st.integers(1, 5), st.sampled_from([64, 127, 255, 256, 257, 320, 1000, 1031])),
    st.tuples(st.integers(1, 4), st.integers(1, 30), st.integers(1, 6)),
    st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 4), st.integers(1, 4)),
)


@st.composite
def cases(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = tuple(ROUNDING)) -> Case:
    """A call of cross_entropy: shape, memory layout, dtype, scale and offset of the logits, kind of target, every option."""
    shape = draw(SHAPES)
    dtype = draw(st.sampled_from(dtypes))
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    axis = 0 if len(shape) == 1 else 1
    classes = shape[axis]
    rows = shape[:axis] + shape[axis + 1 :]
    logits = torch.randn(shape, generator=g, dtype=torch.float64) * draw(st.sampled_from([0.1, 1.0, 3.0, 10.0]))
    logits = (logits + draw(st.sampled_from([0.0, 0.0, -20.0, 300.0]))).to(dtype)
    layout = draw(st.sampled_from(["plain", "plain", "classes last", "padded", "strided"]))
    if layout == "classes last":
        logits = logits.movedim(axis, -1).contiguous().movedim(-1, axis)
    elif layout == "padded":
        logits = torch.nn.functional.pad(logits, (1, 2))[..., 1:-2]
    elif layout == "strided":
        logits = logits.repeat_interleave(2, -1)[..., ::2]
    options: dict[str, Any] = {"reduction": draw(st.sampled_from(["mean", "sum", "none"]))}
    options["label_smoothing"] = draw(st.sampled_from([0.0, 0.0, 0.1, 0.5, 1.0]))
    if draw(st.booleans()):
        target = torch.softmax(torch.randn(shape, generator=g), axis).to(dtype)
        if draw(st.booleans()):
            target = target * 1.7  # they need not sum to 1
    else:
        target = torch.randint(0, classes, rows, generator=g)
        ignore = draw(st.sampled_from([None, None, -100, 0, classes - 1, 7]))
        if ignore is not None:
            options["ignore_index"] = ignore
            target = torch.where(torch.rand(rows, generator=g) < draw(st.sampled_from([0.2, 0.5])), ignore, target)
        if classes <= 255 and options.get("ignore_index", 0) >= 0 and draw(st.integers(0, 5)) == 0:
            target = target.to(torch.uint8)
    weight = torch.rand(classes, generator=g).add(0.05).to(dtype) if draw(st.booleans()) else None
    out = rows if options["reduction"] == "none" else ()
    kind = draw(st.sampled_from(["one", "random", "power"]))
    upstream = {"one": torch.ones(out), "random": torch.randn(out, generator=g), "power": torch.full(out, 8.0)}[kind].to(dtype)
    return Case(logits, target, weight, upstream, options)


def answer(function: Any, case: Case, dtype: torch.dtype | None = None, **more: Any) -> tuple[Tensor, Tensor]:
    """(loss, gradient by the logits) of a function with F.cross_entropy's arguments, in `dtype` if given.
    torch takes uint8 labels for logits of two dimensions only, so it is given int64."""

    def cast(t: Tensor | None) -> Tensor | None:
        return t if t is None or dtype is None or not t.is_floating_point() else t.to(dtype)

    logits = cast(case.logits).detach().requires_grad_()
    target = case.target.long() if function is F.cross_entropy and case.target.dtype == torch.uint8 else case.target
    loss = function(logits, cast(target), cast(case.weight), **case.options, **more)
    (gradient,) = torch.autograd.grad(loss, logits, cast(case.upstream))
    return loss.detach(), gradient


def assert_as_good_as_torch(found: Tensor, of_torch: Tensor, truth: Tensor, floor: float, what: str) -> None:
    """Distances to the truth, all elements together: within the asked tolerance, and not beyond torch's own unless by a rounding.

    `floor`: absolute size of what was subtracted to get there; its rounding cannot be avoided by anybody."""
    dtype = found.dtype
    assert found.shape == of_torch.shape and dtype == of_torch.dtype, what
    a, b, c = (t.detach().double() for t in (found, of_torch, truth))
    strange = ~torch.isfinite(c)
    assert torch.equal(torch.isnan(a) & strange, torch.isnan(c)), f"{what}: NaN elsewhere"
    assert torch.equal(a[strange & ~torch.isnan(c)], c[strange & ~torch.isnan(c)]), f"{what}: infinities differ"
    a, b, c = (t[~strange] for t in (a, b, c))
    size, ours, theirs = float(c.norm()), float((a - c).norm()), float((b - c).norm())
    unit = ROUNDING[dtype]
    step = SMALLEST_STEP[dtype] * math.sqrt(max(1, c.numel()))
    unavoidable = 4 * max(ROUNDING[torch.float32] if dtype != torch.float64 else unit, 0) * floor + step
    asked = ASKED[dtype] * size + unavoidable
    exact = dtype in (torch.float32, torch.float64)
    assert ours <= max(asked, theirs if exact else 0.0), (
        f"{what}: {ours:.3g} off, {asked:.3g} allowed, torch {theirs:.3g}, size {size:.3g}"
    )
    # one rounding at the end is the best any implementation can do; in single precision a handful inside
    best = (8 if exact else 1.01) * unit * size + unavoidable
    if dtype == torch.float64:
        best = asked  # the truth is torch's own answer here: it has no error to compare with
    assert ours <= max(theirs, best), f"{what}: {ours:.3g} off, torch {theirs:.3g}, size {size:.3g}"


def check(case: Case, function: Any, **more: Any) -> None:
    """Loss and gradient of `function` against torch's in the same dtype and in float64."""
    truth = answer(F.cross_entropy, case, torch.float64)
    theirs = answer(F.cross_entropy, case)
    ours = answer(function, case, **more)
    kept = None
    if not case.target.is_floating_point():
        kept = case.target != case.options.get("ignore_index", -100)
        # torch gives NaN where every class weight is 0 or nothing is kept: the gradients of ignored rows are 0 all the same
    size = float(case.upstream.double().abs().max()) if case.upstream.numel() else 0.0
    rows = max(1, case.logits.numel() // case.logits.shape[0 if case.logits.dim() == 1 else 1])
    top = 1.7 * (1.0 if case.weight is None else float(case.weight.double().max()))
    if case.options["reduction"] == "mean":
        if kept is None:
            divisor = float(rows)
        else:
            each = torch.ones(kept.shape) if case.weight is None else case.weight.double()[torch.where(kept, case.target, 0).long()]
            divisor = float((each * kept).sum())
        size = size / divisor if divisor else 0.0
    what = f"{tuple(case.logits.shape)} {case.logits.dtype} {case.options}"
    assert_as_good_as_torch(ours[1], theirs[1], truth[1], size * top * math.sqrt(rows), "gradient " + what)
    reach = float(case.logits.double().max() - case.logits.double().min()) + 4.0
    count = {"mean": 1.0, "sum": rows, "none": math.sqrt(rows)}[case.options["reduction"]]
    assert_as_good_as_torch(ours[0], theirs[0], truth[0], 0.25 * count * top * min(reach, 1.0), "loss " + what)
