"""Binary cross-entropy of logits, a chunk of elements at a time: loss and gradient while the chunk is in the cache.

With y the (smoothed) target, c = pos_weight, L = 1 + (c - 1) y and softplus(-z) = max(-z, 0) + ln(1 + exp(-|z|)):
  l = v ((1 - y) z + L softplus(-z)),   dl/dz = v ((1 - y) - L sigmoid(-z)),   v = weight.
Both are exact for any z: no probability is formed and then logged. Source: torch's binary_cross_entropy_with_logits, reproduced.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unstuck.losses.cross_entropy import HALF, REDUCTIONS, _reduction, result_dtype, traced
from unstuck.losses.cross_entropy.eager import CHUNK, DEVICE_CHUNK, compute_dtype
from unstuck.losses.protocol import overridable


class BinaryOptions(NamedTuple):
    reduction: str = "mean"
    label_smoothing: float = 0.0


def plain(logits: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None, o: BinaryOptions) -> Tensor:
    """The loss of torch's differentiable operations."""
    if o.label_smoothing:
        target = target * (1.0 - o.label_smoothing) + 0.5 * o.label_smoothing
    return F.binary_cross_entropy_with_logits(logits, target, weight, pos_weight=pos_weight, reduction=o.reduction)


def _run(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    pos_weight: Tensor | None,
    o: BinaryOptions,
    gradient: bool,
    upstream: Tensor | float | None = None,
) -> tuple[Tensor, Tensor | None]:
    """(loss in the compute dtype, gradient or None). The gradient is divided by the count already."""
    z = logits.detach()
    dtype = compute_dtype(z, target, weight, pos_weight)
    made = torch.empty_like(z) if gradient else None
    count = z.numel()
    factor = 1.0 / count if o.reduction == "mean" and count else 1.0
    if isinstance(upstream, float):
        factor *= upstream

    # one leading dimension to walk along; what broadcasts against the rest stays a view
    def leading(t: Tensor | float | None) -> Tensor | None:
        return t.detach().expand(z.shape) if isinstance(t, Tensor) else None

    lead = z if z.dim() else z.reshape(1)
    parts = [
        p if p is None or p.dim() else p.reshape(1)
        for p in (target.detach(), leading(weight), leading(pos_weight), leading(upstream))
    ]
    out = None if made is None else made if made.dim() else made.view(1)
    inner = lead[0].numel() if len(lead) else 1
    budget = CHUNK >> 2 if z.device.type == "cpu" else DEVICE_CHUNK
    losses = torch.empty(lead.shape, dtype=dtype, device=z.device) if o.reduction == "none" else None
    total = torch.zeros((), dtype=torch.float64, device=z.device)
    for i in range(0, len(lead), max(1, budget // max(1, inner))):
        rows = slice(i, i + max(1, budget // max(1, inner)))
        a = lead[rows].to(dtype)
        y, v, c, u = (None if p is None else p[rows].to(dtype) for p in parts)
        if o.label_smoothing:
            y = y * (1.0 - o.label_smoothing) + 0.5 * o.label_smoothing  # type: ignore[operator]
        negative = 1.0 - y  # type: ignore[operator]
        level = None if c is None else (c - 1.0).mul_(y).add_(1.0)
        soft = torch.exp(-a.abs()).log1p_().add_((-a).clamp_(min=0))
        if level is not None:
            soft.mul_(level)
        soft.add_(negative * a)
        if v is not None:
            soft.mul_(v)
        if losses is not None:
            losses[rows] = soft
        else:
            total += soft.sum(dtype=torch.float64 if dtype == torch.float64 else None)
        if out is not None:
            slope = torch.sigmoid(-a)
            if level is not None:
                slope.mul_(level)
            slope.neg_().add_(negative)
            for part in (v, u):
                if part is not None:
                    slope.mul_(part)
            torch.mul(slope, factor, out=slope)
            out[rows] = slope
    if losses is not None:
        return losses.reshape(z.shape), made
    value = total / count if o.reduction == "mean" and count else total * (math.nan if o.reduction == "mean" else 1.0)
    return value.to(dtype), made


class FusedBinaryCrossEntropy(torch.autograd.Function):
    """Saved: logits, target, weight or None, pos_weight or None. Backward as `FusedCrossEntropy`'s."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, weight: Any, pos_weight: Any, o: BinaryOptions, dtype: torch.dtype
    ) -> Tensor:
        # float16 would flush p / N to 0, and rows of their own upstream factor would be rounded twice: those wait for backward
        ctx.wait = logits.dtype == torch.float16 or (logits.dtype in HALF and o.reduction == "none")
        loss, ctx.gradient = _run(logits, target, weight, pos_weight, o, not ctx.wait)
        ctx.save_for_backward(logits, target, weight, pos_weight)
        ctx.o = o
        return loss.to(dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        o: BinaryOptions = ctx.o
        nothing = (None,) * 5
        if torch.is_grad_enabled():
            logits, target, weight, pos_weight = ctx.saved_tensors
            again = plain(logits, target, weight, pos_weight, o)
            (differentiable,) = torch.autograd.grad(again, logits, upstream.to(again.dtype), create_graph=True)
            return differentiable, *nothing
        gradient, ctx.gradient = ctx.gradient, None
        host = upstream.device.type == "cpu"
        if gradient is not None:
            if o.reduction == "none":
                return gradient.mul_(upstream), *nothing
            if not host:
                return gradient.mul_(upstream), *nothing
            factor = float(upstream)
            if gradient.dtype not in HALF or math.frexp(factor)[0] == 0.5:
                return (gradient if factor == 1.0 else gradient.mul_(factor)), *nothing
        logits, target, weight, pos_weight = ctx.saved_tensors
        known = float(upstream) if host and o.reduction != "none" else upstream
        return _run(logits, target, weight, pos_weight, o, True, known)[1], *nothing


@overridable
def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
    *,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Binary cross-entropy of logits, in nats; arguments and values of F.binary_cross_entropy_with_logits.

    input and target: one shape, any; targets in [0, 1], soft ones are fine; (N,) for two classes, (N, C) for many labels at once.
    weight and pos_weight broadcast against them. label_smoothing: y (1 - eps) + eps/2. The mean divides by the elements, whatever
    the weights. ValueError for shapes that differ: torch raises too, while an (N, 1) against (N,) in a loss of one's own would
    broadcast.
    """
    o = BinaryOptions(_reduction(reduction, size_average, reduce), label_smoothing)
    if o.reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {o.reduction!r}")
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing must lie in [0, 1], got {label_smoothing!r}")
    if not input.is_floating_point():
        raise TypeError(f"logits must be floating point, got {input.dtype}: pass the raw scores of the model")
    if target.shape != input.shape:
        raise ValueError(
            f"target has shape {tuple(target.shape)}, logits {tuple(input.shape)}: they must be equal (view or squeeze one of them)"
        )
    if not target.is_floating_point():
        target = target.to(input.dtype)
    dtype = result_dtype(input, target, weight)
    if pos_weight is not None and dtype != torch.float64 and pos_weight.dtype == torch.float64:
        dtype = torch.float64
    others = [t for t in (target, weight, pos_weight) if t is not None]
    recorded = torch.is_grad_enabled()
    if traced(input, *others) or (recorded and any(t.requires_grad for t in others)) or not input.numel():
        return plain(input, target, weight, pos_weight, o)
    if not (recorded and input.requires_grad):
        return _run(input, target, weight, pos_weight, o, False)[0].to(dtype)
    loss: Tensor = FusedBinaryCrossEntropy.apply(input, target, weight, pos_weight, o, dtype)
    return loss


class BinaryCrossEntropyLoss(nn.Module):
    """`binary_cross_entropy` with its options bound, as torch.nn.BCEWithLogitsLoss."""

    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
        *,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)
        self.reduction = _reduction(reduction, size_average, reduce)
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return binary_cross_entropy(
            input, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight, label_smoothing=self.label_smoothing
        )
