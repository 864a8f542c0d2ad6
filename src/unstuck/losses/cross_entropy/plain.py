"""The same losses composed of torch's differentiable operations: for second derivatives, functorch, forward mode and tracing.

Slower and larger, and never taken by a first-order `backward` of a plain tensor.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from unstuck.losses.cross_entropy.eager import Options
from unstuck.losses.telemetry import of_family


def loss(logits: Tensor, target: Tensor, weight: Tensor | None, o: Options, ignoring: bool = True) -> Tensor:
    """Shapes, reductions and errors of F.cross_entropy; differentiable as often as one likes, also by probability targets.
    `ignoring` False: the caller knows that no target is ignored."""
    index = not target.is_floating_point()
    if weight is not None and weight.dtype != logits.dtype and not target.is_floating_point():
        weight = weight.to(logits.dtype)
    kept = None
    if index:
        target = target.to(torch.int64)
        if ignoring:
            kept = target != o.ignore_index
            # torch lets the NaN of an ignored row through into its gradient
            logits = torch.where(kept.unsqueeze(0 if logits.dim() == 1 else 1), logits, 0.0)
    ignore = o.ignore_index if index else -100
    if o.loss == "cross-entropy" and not o.z_loss:
        return F.cross_entropy(
            logits, target, weight, ignore_index=ignore, reduction=o.reduction, label_smoothing=o.label_smoothing
        )
    rows = F.cross_entropy(
        logits,
        target,
        weight if o.loss == "cross-entropy" else None,
        ignore_index=ignore,
        reduction="none",
        label_smoothing=o.label_smoothing,
    )
    worth = torch.ones_like(rows)
    if index and weight is not None:
        worth = weight[target if kept is None else torch.where(kept, target, 0)].to(rows.dtype)
    if kept is not None:
        worth = torch.where(kept, worth, 0.0)
    if o.loss != "cross-entropy":
        rows = of_family(rows, o.tau, o.gamma)[0] * worth
    if o.z_loss:
        lse = torch.logsumexp(logits, 0 if logits.dim() == 1 else 1)
        rows = rows + o.z_loss * worth * lse * lse
    if o.reduction == "none":
        return rows
    return rows.sum() / worth.sum() if o.reduction == "mean" else rows.sum()
