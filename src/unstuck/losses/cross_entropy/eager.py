"""Cross-entropy in one pass over the logits, in plain torch operations: loss, gradient and telemetry of a few rows at a time.

A few rows of logits fit into the cache. While they are there, softmax(z) is written where the gradient will stand, and everything
else is read off it: with m = max z, s = sum of the softmax as computed (1 up to rounding) and p_m its largest entry,
  ln sum exp(z) - m = ln(s / p_m)                      so the sum of exponentials itself is never needed,
  dl/dz = A p / s - B                                  one multiplication in place, then one subtraction at the target.
Dividing by s costs one read of cached data and takes out the error of summing 10^5 exponentials in float32, which torch keeps.
The only buffer of the logits' size is the gradient (none, where the logits may be overwritten). On a CPU half of the time of a wide
call goes into the page faults of that buffer, not into arithmetic. Huge pages would take most of it away on some machines and
triple it on virtual ones that hand free memory back to their host (both measured), so none are asked for.

The row formulas, y the target, w class weights, eps smoothing, W = sum w, C classes, lse = ln sum exp z, all in nats:
  indices        l = (1-eps) w_y phi(lse - z_y) + eps/C sum_k w_k (lse - z_k) + zeta w_y lse^2;   mean divides by sum w_y
  probabilities  l = sum_k w_k q_k (lse - z_k) + zeta lse^2,   q = p (1-eps) + eps/C;             mean divides by the rows
with phi the identity, or the comp-sum / focal function (`telemetry.of_family`), and zeta the z-loss factor (weighted as its row).
Source: torch 2.13's nll_loss and cross_entropy_loss_prob_target, reproduced; z-loss: Chowdhery et al., PaLM, 2022.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from unstuck.losses.guards import out_of_range, report_later
from unstuck.losses.telemetry import Telemetry, of_family

# Elements of logits worked on at a time: 4 MiB of float32 and as much of result stay in the
# last-level cache, and two dozen calls of some microseconds spread over 32 rows of 32000.
CHUNK = 1 << 20
# The same on an accelerator, where launches dominate and scratch is the only cost.
DEVICE_CHUNK = 1 << 26
# Classes up to which rows are worked on transposed: torch's softmax is scalar along rows shorter than a vector register.
NARROW = 32
# Classes from which the index of the maximum is searched by blocks: amax reads at cache speed, argmax at a fifth of it.
BLOCKED, BLOCK = 256, 64


class Options(NamedTuple):
    """What a loss call was asked for, beside its tensors."""

    ignore_index: int = -100
    reduction: str = "mean"
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    tau: float = 1.0
    gamma: float = 0.0

    @property
    def loss(self) -> str:
        return "comp-sum" if self.tau != 1.0 else "focal" if self.gamma else "cross-entropy"


class Result(NamedTuple):
    """`loss`: of the reduction, in the compute dtype. `gradient`: shape and dtype of the logits, to be multiplied by `later` and
    by the upstream gradient. `telemetry`: None unless asked for."""

    loss: Tensor
    gradient: Tensor | None
    later: float | Tensor
    telemetry: Telemetry | None


def compute_dtype(*tensors: Tensor | None) -> torch.dtype:
    """float64 if any tensor has it, else float32: half precisions are widened a few rows at a time."""
    return torch.float64 if any(t is not None and t.dtype == torch.float64 for t in tensors) else torch.float32


class Targets:
    """The targets of one call, flat over its R rows, with what every row is worth and what the reduction divides by.

    `index`: (R,) int64 safe to gather with, or None; `probability`: None or the user's tensor; `kept`: (R,) bool or None when all
    rows count; `weight`: (C,) in the compute dtype or None; `row`: (R,) factor w_y (0 where ignored) or None for all ones;
    `denominator`: float on the CPU, a () tensor elsewhere.
    """

    def __init__(
        self, target: Tensor, weight: Tensor | None, rows: int, classes: int, o: Options, dtype: torch.dtype, host: bool
    ) -> None:
        self.rows, self.classes, self.host = rows, classes, host
        self.smoothing = o.label_smoothing
        self.weight = None if weight is None else weight.detach().to(dtype)
        self.index: Tensor | None = None
        self.probability: Tensor | None = None
        self.kept: Tensor | None = None
        self.row: Tensor | None = None
        if target.is_floating_point():
            self.probability = target.detach()
            self.denominator: float | Tensor = float(rows)
            return
        if host:
            ignoring = out_of_range(target, classes, o.ignore_index)
        index = target.detach().reshape(-1).to(torch.int64)
        bad = None
        # on the CPU the common case, no row ignored, is found out with one read of the labels
        if not host or (ignoring and bool((index == o.ignore_index).any())):
            self.kept = index != o.ignore_index
            if not host:
                bad = ((index < 0) | (index >= classes)) & self.kept
                report_later(bad.any())
                index = torch.where(self.kept & ~bad, index, 0)
            else:
                index = torch.where(self.kept, index, 0)
        self.index = index
        if self.weight is not None:
            self.row = self.weight[index]
        if self.kept is not None:
            self.row = self.kept.to(dtype) if self.row is None else torch.where(self.kept, self.row, 0)
        if self.row is None:
            self.denominator = float(rows)
        else:
            total = self.row.sum(dtype=torch.float64)
            self.denominator = float(total) if host else total
        if bad is not None:
            self.row = torch.where(bad, math.nan, self.row)

    def divisor(self, reduction: str) -> float | Tensor:
        return self.denominator if reduction == "mean" else 1.0


class View(NamedTuple):
    """A tensor of logits seen as rows: (R, C), or (N, C, P) where positions lie side by side in memory and classes do not."""

    data: Tensor
    transposed: bool  # rows shorter than a vector register, shown as (1, C, R)


def as_rows(t: Tensor, narrow: bool) -> View | None:
    """The view to work on, None if there is none without a copy. Row order is that of the flattened targets."""
    if t.dim() == 1:
        t = t.unsqueeze(0)
    classes = t.shape[1]
    try:
        if t.dim() > 2:
            flat = t.flatten(2) if t.dim() == 3 else t.view(t.shape[0], classes, -1)
            if flat.shape[2] == 1 or flat.stride(1) == 1:
                t = t.movedim(1, -1).view(-1, classes)
            else:
                return View(flat, False)
    except RuntimeError:
        return None
    if t.stride(1) != 1 and t.shape[1] > 1:
        return None
    if narrow and classes <= NARROW and t.shape[0] > classes:
        return View(t.t().unsqueeze(0), True)
    return View(t, False)


def _blocks(shape: torch.Size, budget: int) -> Iterator[tuple[slice, slice, slice]]:
    """(samples, positions, rows of the flattened targets) of chunks of about `budget` elements."""
    samples, classes = shape[0], shape[1]
    positions = shape[2] if len(shape) == 3 else 1
    everything = slice(None)
    if classes * positions <= budget or positions == 1:
        step = max(1, budget // max(1, classes * positions))
        for n in range(0, samples, step):
            last = min(n + step, samples)
            yield slice(n, last), everything, slice(n * positions, last * positions)
        return
    step = max(1, budget // classes)
    for n in range(samples):
        for p in range(0, positions, step):
            last = min(p + step, positions)
            yield slice(n, n + 1), slice(p, last), slice(n * positions + p, n * positions + last)


def top(z: Tensor) -> tuple[Tensor, Tensor]:
    """Maximum over classes and its first index, each with dimension 1 kept. z: (R, C) or (N, C, P)."""
    classes = z.shape[1]
    if z.device.type != "cpu":
        return z.max(1, keepdim=True)
    if z.dim() == 3 and classes < 255:
        # classes lie apart, so comparing them all is vectorised and torch's own search is not
        m = z.amax(1, keepdim=True)
        order = torch.arange(classes, dtype=torch.uint8).view(-1, 1)
        first = torch.where(z == m, order, 255).amin(1, keepdim=True)
        return m, first.to(torch.int64).clamp_(max=classes - 1)
    if z.dim() == 3 or classes < BLOCKED:
        return z.max(1, keepdim=True)
    width = BLOCK if classes < 8192 else 2 * BLOCK
    whole = classes // width
    rows, step = z.shape[0], z.stride(0)
    maxima = z.as_strided((rows, whole, width), (step, width, 1)).amax(2)
    if classes % width:
        maxima = torch.cat((maxima, z[:, whole * width :].amax(1, keepdim=True)), 1)
    m, block = maxima.max(1, keepdim=True)
    start = block.mul_(width)
    if classes % width:
        # the last window ends with the row; what it shares with the block before is smaller than m, or that block had won
        start.clamp_(max=classes - width)
    # every window of the chunk's memory as a row of a view, so that picking one per row is a memcpy
    windows = z.as_strided(((rows - 1) * step + classes - width + 1, width), (1, 1))
    inside = windows.index_select(0, (start + _starts(rows, step)).view(-1)).argmax(1, keepdim=True)
    return m, start.add_(inside)


@functools.lru_cache(maxsize=8)
def _starts(rows: int, step: int) -> Tensor:
    """(rows, 1): where the rows of a chunk begin in its memory. Chunks of a call share it."""
    return torch.arange(rows).mul_(step).unsqueeze(1)


class Pass:
    """One call's way through its rows: chunk by chunk, each chunk once."""

    def __init__(
        self,
        targets: Targets,
        o: Options,
        dtype: torch.dtype,
        device: torch.device,
        scale: float | Tensor,
        upstream: Tensor | None = None,
    ) -> None:
        """`scale`: what the gradient is multiplied by while it is written (1 / denominator, or 1); `upstream`: (R,), the same by
        row."""
        self.t, self.o, self.dtype, self.scale, self.upstream = targets, o, dtype, scale, upstream
        self.host = targets.host
        self.total_weight = float(targets.classes)
        if targets.weight is not None and o.label_smoothing:
            self.total_weight = targets.weight.sum() if not self.host else float(targets.weight.sum())
        self.losses: list[Tensor] = []
        self.watched = False
        self.device = device

    def watch(self, stride: int) -> None:
        """Makes room for the telemetry of the rows."""
        self.watched, self.stride = True, stride
        self.above: list[Tensor] = []
        self.sums: list[Tensor] = []
        self.inner: list[Tensor] = []
        self.maximum: list[Tensor] = []
        self.predicted: list[Tensor] = []
        self.likeliest: list[Tensor] = []
        self.column = torch.zeros(self.t.classes, dtype=torch.float64, device=self.device)

    def chunk(self, z: Tensor, p: Tensor, out: Tensor | None, rows: slice, q: Tensor | None) -> None:
        """z: logits (n, C) or (n, C, k) in the compute dtype; p: scratch of its shape and dtype, not z; out: where the gradient
        goes (may be z or p, other dtypes too) or None; rows: their place among the targets; q: probability targets or None."""
        t, o = self.t, self.o
        shape = (z.shape[0], 1) if z.dim() == 2 else (z.shape[0], 1, z.shape[2])
        column = (-1,) if z.dim() == 2 else (-1, 1)
        eps, spread = o.label_smoothing, o.label_smoothing / t.classes
        m, best = top(z) if self.watched else (z.amax(1, keepdim=True), None)
        if z.dim() == 3 and self.host:  # not along rows: torch's softmax is the slower way
            torch.sub(z, m, out=p).exp_()
            s = p.sum(1, keepdim=True)
            above = torch.log(s)  # lse - m
        else:
            torch.softmax(z, 1, out=p)
            s = p.sum(1, keepdim=True)
            above = torch.log(s / (p.amax(1, keepdim=True) if best is None else p.gather(1, best)))
        row = None if t.row is None else t.row[rows].view(shape)
        kept = None if t.kept is None else t.kept[rows].view(shape)
        factor: Tensor | float  # A
        shift = at = label = None  # sum_k B_k e_k = shift + at e_label
        if q is None:
            label = t.index[rows].view(shape)  # type: ignore[index]
            cost = above + (m - z.gather(1, label))
            losses, slope = (cost, None) if o.loss == "cross-entropy" else of_family(cost, o.tau, o.gamma)
            if eps:
                losses = losses * (1.0 - eps)
            if row is not None:
                losses = losses * row
            at = factor = (1.0 - eps) * self.scale
            for part in (row, slope):
                if part is not None:
                    at = factor = part * factor
            if eps:
                # m - z is exact where it matters; sum(z) - C m would not be for logits with a common offset
                below = torch.sub(m, z)
                if t.weight is not None:
                    shift = t.weight.view(column) * (spread * self.scale)
                    smooth = below.mul_(t.weight.view(column)).sum(1, keepdim=True) + self.total_weight * above
                else:
                    shift = spread * self.scale
                    smooth = below.sum(1, keepdim=True) + self.total_weight * above
                losses = losses + smooth * spread
                factor = factor + self.total_weight * (spread * self.scale)
        else:
            target = q.to(self.dtype)
            if eps:
                target = target * (1.0 - eps) + spread
            if t.weight is not None:
                target = target * t.weight.view(column)
            mass = target.sum(1, keepdim=True)
            terms = torch.sub(m, z).mul_(target)
            losses = terms.sum(1, keepdim=True)
            if not self.host or not bool(torch.isfinite(losses).all()):
                # a class ruled out by -inf costs nothing where its target probability is 0
                losses = torch.where(target == 0, 0.0, terms).sum(1, keepdim=True)
            losses = losses + mass * above
            factor, shift = mass * self.scale, target * self.scale
            if self.watched:
                self.likeliest.append(top(q)[1])
                self.column += target.sum((0, 2) if z.dim() == 3 else 0)
        if o.z_loss:
            lse = above + m
            penalty = lse * (o.z_loss if row is None else o.z_loss * row)
            losses = losses + penalty * lse
            factor = factor + penalty * (2.0 * self.scale)
        if kept is not None:
            losses = losses.masked_fill(~kept, 0.0)
        self.losses.append(losses)
        if self.watched:
            self._see(z, p, s, m, above, best, rows)  # type: ignore[arg-type]
        if out is None:
            return
        if self.upstream is not None:
            by_row = self.upstream[rows].view(shape)
            factor = factor * by_row
            shift = None if shift is None else shift * by_row
            at = None if at is None else at * by_row
        final = out if out.dtype == self.dtype else p
        torch.mul(p, factor / s, out=final)
        if shift is not None:
            final.sub_(shift)
        if at is not None:
            final.scatter_add_(1, label, -at if isinstance(at, Tensor) and at.dim() else torch.zeros_like(s).sub_(at))
        if kept is not None and not (self.host and bool(kept.all())):
            final.masked_fill_(~kept, 0.0)
        if final is not out:
            out.copy_(final)

    def _see(self, z: Tensor, p: Tensor, s: Tensor, m: Tensor, above: Tensor, best: Tensor, rows: slice) -> None:
        """Keeps the numbers of these rows; what can be computed from them is left to the end, in one operation for all chunks."""
        self.above.append(above)
        self.maximum.append(m)
        self.predicted.append(best)
        self.sums.append(s)
        if z.dim() == 2:
            skip = -rows.start % self.stride
            z, p = z[skip :: self.stride], p[skip :: self.stride]
            inner = torch.linalg.vecdot(p, z)
        else:
            inner = (p * z).sum(1)
        if not self.host or not math.isfinite(float(inner.sum())):
            inner = torch.where(p == 0, 0.0, p * z).sum(1)  # p ln p -> 0 for classes ruled out by -inf
        self.inner.append(inner)

    def loss(self) -> Tensor:
        """The reduced loss, () or (R,)."""
        losses = self._flat(self.losses)
        if self.o.reduction == "none":
            return losses
        return losses.sum() / self.t.divisor(self.o.reduction)

    def telemetry(self) -> Telemetry:
        m = self._flat(self.maximum)
        lse = self._flat(self.above) + m
        every = slice(None, None, self.stride)
        return gather_telemetry(
            self.t,
            self.o,
            lse,
            m,
            self._flat(self.predicted, torch.int64),
            (lse[every] - self._flat(self.inner) / self._flat(self.sums)[every]).clamp_(min=0.0),
            self.stride,
            self._flat(self.likeliest, torch.int64) if self.t.probability is not None else None,
            self.column,
        )

    def _flat(self, parts: list[Tensor], dtype: torch.dtype | None = None) -> Tensor:
        """Chunks come in the order of the flattened rows."""
        if not parts:
            return torch.empty(0, dtype=dtype or self.dtype, device=self.device)
        return parts[0].reshape(-1) if len(parts) == 1 else torch.cat([part.reshape(-1) for part in parts])


def gather_telemetry(
    t: Targets,
    o: Options,
    lse: Tensor,
    maximum: Tensor,
    predicted: Tensor,
    entropy: Tensor,
    stride: int,
    likeliest: Tensor | None,
    column: Tensor | None,
) -> Telemetry:
    """Counts over the rows that count, from what a pass left per row. `column`: (C,) summed weighted probability targets."""
    device = lse.device
    right = predicted == (t.index if likeliest is None else likeliest)
    ones = torch.ones_like(predicted) if t.kept is None else t.kept.to(torch.int64)
    if t.kept is not None:
        right = right & t.kept
    histogram = torch.zeros(t.classes, dtype=torch.int64, device=device).scatter_add_(0, predicted, ones)
    if t.index is not None:
        counts = torch.zeros(t.classes, dtype=torch.float64, device=device).scatter_add_(0, t.index, ones.double())
        w = torch.ones_like(counts) if t.weight is None else t.weight.double()
        mass = w * ((1.0 - o.label_smoothing) * counts + o.label_smoothing / t.classes * counts.sum())
    else:
        mass = column
    divide_by = 1.0 if o.reduction == "sum" else t.denominator
    return Telemetry(
        loss=o.loss,
        classes=t.classes,
        logsumexp=lse,
        max_logit=maximum,
        predicted=predicted,
        entropy=entropy,
        stride=stride,
        kept=t.kept,
        rows=ones.sum(),
        correct=right.sum(),
        histogram=histogram,
        label_mass=mass,
        denominator=torch.as_tensor(divide_by, dtype=torch.float64, device=device),
        tau=o.tau,
        gamma=o.gamma,
    )


def gradient_scale(
    targets: Targets, o: Options, dtype: torch.dtype, upstream: float | Tensor | None
) -> tuple[float | Tensor, float | Tensor]:
    """(factor applied while the gradient is written, factor left for backward).

    The division by the denominator is made at once, which leaves backward nothing to do where the upstream gradient is 1. Only in
    float16 would (p - y) / N flush to 0 before a loss scaler could save it: there the fraction of 1 / N is applied and its power of
    two left over, a product that does not round. With a known `upstream` nothing is left over.
    """
    divisor = targets.divisor(o.reduction)
    if isinstance(divisor, float):
        factor = math.inf if divisor == 0 else 1.0 / divisor
        if divisor == 0 and targets.kept is not None and not bool(targets.kept.any()):
            factor = 1.0  # all rows ignored: the gradient is 0, not 0 * inf
        if upstream is not None:
            return factor * upstream if isinstance(upstream, float) else factor, 1.0
        if dtype == torch.float16 and math.isfinite(factor):
            fraction, power = math.frexp(factor)
            return fraction, math.ldexp(1.0, power)
        return factor, 1.0
    reciprocal = divisor.reciprocal()
    if upstream is not None:
        return reciprocal * upstream if isinstance(upstream, float) else reciprocal, 1.0
    if dtype == torch.float16:
        mantissa, exponent = torch.frexp(reciprocal)
        return mantissa, torch.ldexp(torch.ones_like(mantissa), exponent)
    return reciprocal, 1.0


def entropy_stride(shape: torch.Size, device: torch.device) -> int:
    return 8 if device.type == "cpu" and len(shape) == 2 and shape[0] >= 64 and shape[1] >= 256 else 1


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
) -> Result:
    """The whole call. logits (C,), (N, C) or (N, C, d1, ...), floating; target as torch's; nothing here is differentiable.

    With `overwrite` the gradient takes the place of the logits where their memory allows it (any strides that need no copy).
    `upstream`: a number, or one for each row, known beforehand, that multiplies the gradient before it is rounded."""
    logits = logits.detach()
    host = logits.device.type == "cpu"
    dtype = compute_dtype(logits, target if target.is_floating_point() else None, weight)
    classes = logits.shape[0] if logits.dim() == 1 else logits.shape[1]
    rows = logits.numel() // classes if classes else (1 if logits.dim() == 1 else logits.shape[0] * math.prod(logits.shape[2:]))
    targets = Targets(target, weight, rows, classes, o, dtype, host)
    by_row = upstream.reshape(-1).to(dtype) if isinstance(upstream, Tensor) else None
    scale, later = gradient_scale(targets, o, logits.dtype, upstream)
    work = Pass(targets, o, dtype, logits.device, scale, by_row)

    seen = as_rows(logits, host)
    into = logits if overwrite and seen is not None else None
    made = into if into is not None else torch.empty_like(logits) if gradient else None
    target_view = as_rows(made, host) if made is not None else seen
    if seen is None or (target_view is not None and target_view.data.shape != seen.data.shape) or target_view is None:
        logits = logits.contiguous()
        seen = as_rows(logits, host)
        made = torch.empty_like(logits) if gradient else None
        target_view = as_rows(made, host) if made is not None else seen
    x, transposed = seen  # type: ignore[misc]
    q = None
    if targets.probability is not None:
        q = targets.probability.unsqueeze(0) if targets.probability.dim() == 1 else targets.probability
        if x.dim() == 2:
            q = q.movedim(1, -1).reshape(-1, classes)
        elif transposed:
            q = q.movedim(1, -1).reshape(-1, classes).t().unsqueeze(0)
        else:
            q = q.reshape(x.shape)
    if telemetry:
        work.watch(entropy_stride(x.shape, x.device))

    if x.numel():
        budget = CHUNK if host else DEVICE_CHUNK
        widen = x.dtype != dtype
        copied = widen or transposed
        direct = gradient and not copied and made is not logits
        largest = min(x.numel(), max(budget, classes))
        wide_in = torch.empty(largest, dtype=dtype, device=x.device) if copied else None
        wide_out = None if direct else torch.empty(largest, dtype=dtype, device=x.device)
        for samples, positions, place in _blocks(x.shape, budget):
            z = x[samples] if x.dim() == 2 else x[samples, :, positions]
            out = None
            if gradient:
                g = target_view.data
                out = g[samples] if g.dim() == 2 else g[samples, :, positions]
            part = None if q is None else q[samples] if q.dim() == 2 else q[samples, :, positions]
            if wide_in is not None:
                z = wide_in[: z.numel()].view(z.shape).copy_(z)
            p = out if direct else wide_out[: z.numel()].view(z.shape)  # type: ignore[index]
            work.chunk(z, p, out, place, part)  # type: ignore[arg-type]
    elif made is not None:
        made.zero_()
    return Result(work.loss(), made, later, work.telemetry() if telemetry else None)
