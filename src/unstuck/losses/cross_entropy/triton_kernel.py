"""Cross-entropy for an accelerator: one Triton program for each row, loss, telemetry and gradient in one launch.

First sweep over the row, by blocks of columns: maximum, sum of exponentials, entropy and argmax, all online, each block shifting
what was summed so far to the new maximum. Second sweep, where a gradient is wanted: dl/dz = A p - B. A row of 262144 bfloat16 is
512 KiB and stays in the second-level cache between the sweeps, so memory sees each logit read once and each gradient written once
(2U).

What bites here, and what is done about it: a block of nothing but -inf (the shift is 0 then, not (-inf) - (-inf)); the columns
beyond the last class (loaded as -inf, never as 0); element offsets beyond 2^31 (the row's base is computed in 64 bits); labels
out of range (read nothing, the row becomes NaN); ignored rows (neither read nor multiplied: their gradient is written as 0). Runs
on CPU tensors under TRITON_INTERPRET=1, which is how it is tested where there is no accelerator. Comp-sum and focal losses,
double precision, class axes that are not contiguous and rows below 64 classes take the eager path.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from unstuck.losses.cross_entropy.eager import NARROW, Options, Result, Targets, as_rows, gather_telemetry, gradient_scale

WIDEST_BLOCK = 8192
DTYPES = (torch.float16, torch.bfloat16, torch.float32)


@triton.jit
def _row(
    z_ptr,  # (R, C) logits
    g_ptr,  # (R, C) gradient, may be z_ptr
    label_ptr,  # (R,) int64, safe to read with
    q_ptr,  # (R, C) probability targets
    weight_ptr,  # (C,) float32
    row_ptr,  # (R,) float32: w_y, 0 where ignored, NaN where the label is out of range
    kept_ptr,  # (R,) int8
    upstream_ptr,  # (R,) float32
    scale_ptr,  # () float32
    total_weight_ptr,  # () float32
    loss_ptr,  # (R,) float32 and so the next three
    lse_ptr,
    max_ptr,
    entropy_ptr,
    best_ptr,  # (R,) int64
    z_step,
    g_step,
    q_step,
    classes,
    eps,
    z_loss,
    INDEX: tl.constexpr,
    WEIGHTED: tl.constexpr,
    SMOOTH: tl.constexpr,
    KEPT: tl.constexpr,
    BY_ROW: tl.constexpr,
    GRADIENT: tl.constexpr,
    WATCH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    r = tl.program_id(0).to(tl.int64)  # rows times classes passes 2^31
    z_ptr += r * z_step
    g_ptr += r * g_step
    q_ptr += r * q_step
    columns = tl.arange(0, BLOCK)
    kept = 1
    if KEPT:
        kept = tl.load(kept_ptr + r).to(tl.int32)
    # an ignored row is still looked at where somebody watches
    wanted = kept
    if WATCH:
        wanted = 1
    first = 0.0  # a value of the row, so that sums of differences keep their digits under a common offset
    if wanted != 0:
        first = tl.load(z_ptr).to(tl.float32)
        first = tl.where((first == first) & (tl.abs(first) != float("inf")), first, 0.0)
    m = float("-inf")
    s = 0.0
    below = 0.0  # sum exp(z - m) (z - m)
    spread = 0.0  # sum w (z - first), smoothing of index targets
    inner = 0.0  # sum w q (z - first), probability targets
    mass = 0.0  # sum w q
    best = tl.zeros((), dtype=tl.int64)
    spread_by = eps / classes
    if wanted != 0:
        for start in range(0, classes, BLOCK):
            at = start + columns
            inside = at < classes
            z = tl.load(z_ptr + at, mask=inside, other=float("-inf")).to(tl.float32)
            block_m = tl.max(z, 0)
            if WATCH:
                where = tl.min(tl.where((z == block_m) & inside, at, classes - 1), 0)
                best = tl.where(block_m > m, where.to(tl.int64), best)
            # tl.max passes over NaN, so a NaN enters through the sums
            new_m = tl.maximum(m, block_m)
            shift = tl.where(new_m == float("-inf"), 0.0, new_m)
            e = tl.where(inside, tl.exp(z - shift), 0.0)
            old = tl.where(m == float("-inf"), 0.0, tl.exp(m - shift))
            if WATCH:
                moved = tl.where(m == float("-inf"), 0.0, m - shift)
                below = old * (below + s * moved) + tl.sum(tl.where(e == 0.0, 0.0, e * (z - shift)), 0)
            s = s * old + tl.sum(e, 0)
            m = new_m
            if INDEX:
                if SMOOTH:
                    d = tl.where(inside, z - first, 0.0)
                    if WEIGHTED:
                        d = d * tl.load(weight_ptr + at, mask=inside, other=0.0)
                    spread += tl.sum(d, 0)
            else:
                q = tl.load(q_ptr + at, mask=inside, other=0.0).to(tl.float32)
                if SMOOTH:
                    q = tl.where(inside, q * (1.0 - eps) + spread_by, 0.0)
                if WEIGHTED:
                    q = q * tl.load(weight_ptr + at, mask=inside, other=0.0)
                mass += tl.sum(q, 0)
                inner += tl.sum(tl.where(q == 0.0, 0.0, q * (z - first)), 0)
    above = tl.log(s)
    lse = m + above
    if WATCH:
        tl.store(lse_ptr + r, lse)
        tl.store(max_ptr + r, m)
        tl.store(best_ptr + r, best)
        tl.store(entropy_ptr + r, tl.maximum(above - below / s, 0.0))

    total_weight = tl.load(total_weight_ptr)
    scale = tl.load(scale_ptr)
    if BY_ROW:
        scale = scale * tl.load(upstream_ptr + r)
    row = tl.load(row_ptr + r)
    label = tl.zeros((), dtype=tl.int64)
    if INDEX:
        label = tl.load(label_ptr + r)
    loss = 0.0
    factor = 0.0
    if kept != 0:
        if INDEX:
            zy = tl.load(z_ptr + label).to(tl.float32)
            loss = (1.0 - eps) * row * (above + (m - zy))
            factor = (1.0 - eps) * row
            if SMOOTH:
                loss += spread_by * (total_weight * (above + (m - first)) - spread)
                factor += spread_by * total_weight
        else:
            loss = mass * (above + (m - first)) - inner
            factor = mass
        loss += z_loss * row * lse * lse
        factor += 2.0 * z_loss * row * lse
    tl.store(loss_ptr + r, loss)
    if GRADIENT:
        hit = (1.0 - eps) * row * scale
        factor = factor * scale / s
        shift = tl.where(m == float("-inf"), 0.0, m)
        for start in range(0, classes, BLOCK):
            at = start + columns
            inside = at < classes
            if kept != 0:
                z = tl.load(z_ptr + at, mask=inside, other=float("-inf")).to(tl.float32)
                g = tl.exp(z - shift) * factor
                if INDEX:
                    if SMOOTH:
                        if WEIGHTED:
                            g -= tl.load(weight_ptr + at, mask=inside, other=0.0) * (spread_by * scale)
                        else:
                            g -= spread_by * scale
                    g = tl.where(at == label, g - hit, g)
                else:
                    q = tl.load(q_ptr + at, mask=inside, other=0.0).to(tl.float32)
                    if SMOOTH:
                        q = q * (1.0 - eps) + spread_by
                    if WEIGHTED:
                        q = q * tl.load(weight_ptr + at, mask=inside, other=0.0)
                    g -= q * scale
                tl.store(g_ptr + at, g.to(g_ptr.dtype.element_ty), mask=inside)
            else:
                tl.store(g_ptr + at, tl.zeros((BLOCK,), dtype=tl.float32).to(g_ptr.dtype.element_ty), mask=inside)


def usable(logits: Tensor, target: Tensor, weight: Tensor | None, o: Options) -> bool:
    """Whether the kernel computes this call; everything else goes the eager way."""
    if o.loss != "cross-entropy" or logits.dtype not in DTYPES or logits.numel() == 0 or logits.dim() == 0:
        return False
    if any(t is not None and t.dtype == torch.float64 for t in (target, weight)):
        return False
    seen = as_rows(logits, narrow=False)
    return seen is not None and seen.data.dim() == 2 and seen.data.shape[1] > 2 * NARROW


def run(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    o: Options,
    *,
    gradient: bool,
    overwrite: bool,
    telemetry: bool,
    upstream: float | Tensor | None = None,
    block: int | None = None,
) -> Result:
    """As `eager.run`, for calls that are `usable`. `block`: columns at a time, a power of two; None for the size that suits."""
    logits = logits.detach()
    view = as_rows(logits, narrow=False)
    assert view is not None
    x = view.data
    rows, classes = x.shape
    device, host = x.device, x.device.type == "cpu"
    real = {"dtype": torch.float32, "device": device}
    targets = Targets(target, weight, rows, classes, o, torch.float32, host)
    scale, later = gradient_scale(targets, o, logits.dtype, upstream)
    made = logits if overwrite and gradient else torch.empty_like(logits) if gradient else None
    out = None if made is None else as_rows(made, narrow=False)
    if made is not None and (out is None or out.data.dim() != 2):  # expanded logits: empty_like came out in another order
        logits = logits.contiguous()
        return run(logits, target, weight, o, gradient=True, overwrite=False, telemetry=telemetry, upstream=upstream, block=block)
    g = x if out is None else out.data
    q = None
    if targets.probability is not None:
        q = targets.probability if targets.probability.dim() > 1 else targets.probability.unsqueeze(0)
        q = q.movedim(1, -1).reshape(-1, classes)
    losses = torch.empty(rows, **real)
    lse, maximum, entropy = (torch.empty(rows if telemetry else 0, **real) for _ in range(3))
    best = torch.empty(rows if telemetry else 0, dtype=torch.int64, device=device)
    row = targets.row if targets.row is not None else torch.ones(rows, **real)
    total = torch.full((), float(classes), **real) if targets.weight is None else targets.weight.sum()
    by_row = upstream.reshape(-1).to(torch.float32) if isinstance(upstream, Tensor) and upstream.dim() else None
    width = block or min(WIDEST_BLOCK, triton.next_power_of_2(classes))
    nothing = losses  # stands where the kernel has no such argument and does not look
    _row[(rows,)](
        x,
        g,
        targets.index if targets.index is not None else best,
        q if q is not None else nothing,
        targets.weight if targets.weight is not None else nothing,
        row,
        targets.kept.to(torch.int8) if targets.kept is not None else nothing,
        by_row if by_row is not None else nothing,
        torch.as_tensor(scale, **real),
        total,
        losses,
        lse,
        maximum,
        entropy,
        best,
        x.stride(0),
        g.stride(0),
        q.stride(0) if q is not None else 0,
        classes,
        o.label_smoothing,
        o.z_loss,
        INDEX=q is None,
        WEIGHTED=targets.weight is not None,
        SMOOTH=o.label_smoothing > 0.0,
        KEPT=targets.kept is not None,
        BY_ROW=by_row is not None,
        GRADIENT=gradient,
        WATCH=telemetry,
        BLOCK=width,
        num_warps=4 if width <= 1024 else 8 if width <= 4096 else 16,
    )
    seen = None
    if telemetry:
        likeliest = column = None
        if q is not None:
            likeliest = q.argmax(1)
            column = q.sum(0, dtype=torch.float64) * (1.0 - o.label_smoothing) + rows * o.label_smoothing / classes
            column = column if targets.weight is None else column * targets.weight
        seen = gather_telemetry(targets, o, lse, maximum, best, entropy, 1, likeliest, column)
    loss = losses if o.reduction == "none" else losses.sum() / targets.divisor(o.reduction)
    return Result(loss, made, later, seen)
