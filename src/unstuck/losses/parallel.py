"""Cross-entropy whose classes are spread over processes: each holds the columns of its own classes, none ever sees a whole row.

Rank r holds logits (N, C_r). With m the maximum over all ranks, three reductions of a few numbers for each row give everything:
  MAX of the row maxima;  SUM of (sum e, z_y - m where the label lives, sum w (m - z), sum e (z - m), probability terms), e =
  exp(z - m); MIN of the index of the maximum, for telemetry only.
The gradient of a rank's columns is then its own business, dl/dz = A e / s - B, and backward exchanges nothing. Smoothing spreads
over the classes of all ranks, not over the shard.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from unstuck.losses import guards
from unstuck.losses.cross_entropy import HALF, REDUCTIONS, scaled
from unstuck.losses.cross_entropy.eager import (
    CHUNK,
    DEVICE_CHUNK,
    Options,
    Targets,
    compute_dtype,
    gather_telemetry,
    gradient_scale,
)
from unstuck.losses.telemetry import Receiver, Telemetry, listeners, report


class Shard(NamedTuple):
    """Which classes a rank holds: the `first`, and how many there are in `all` ranks together."""

    first: int
    all: int


def _run(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    o: Options,
    shard: Shard,
    group: Any,
    gradient: bool,
    watch: bool,
    upstream: float | Tensor | None = None,
) -> tuple[Tensor, Tensor | None, float | Tensor, Telemetry | None]:
    """(loss, gradient of this rank's columns, factor left for backward, telemetry). logits (N, C_r); index target (N,), the same on
    every rank, or probabilities (N, C_r) of this rank's classes; weight (C,) of all classes."""
    z_all = logits.detach()
    rows, mine = z_all.shape
    host = z_all.device.type == "cpu"
    dtype = compute_dtype(logits, weight, target if target.is_floating_point() else None)
    targets = Targets(target, weight, rows, shard.all, o, dtype, host)
    scale, later = gradient_scale(targets, o, logits.dtype, upstream)
    own_weight = None if targets.weight is None else targets.weight[shard.first : shard.first + mine]
    eps, spread = o.label_smoothing, o.label_smoothing / shard.all
    step = max(1, (CHUNK if host else DEVICE_CHUNK) // max(1, mine))
    parts = [slice(i, min(i + step, rows)) for i in range(0, rows, step)]
    real = {"dtype": dtype, "device": z_all.device}

    m = torch.full((rows, 1), -math.inf, **real)
    if mine:
        for part in parts:
            m[part] = z_all[part].amax(1, keepdim=True)
    own_m = m.clone()
    dist.all_reduce(m, dist.ReduceOp.MAX, group=group)
    shift = torch.where(m == -math.inf, 0.0, m)  # a row of nothing but -inf, on every rank

    label = here = None
    if targets.index is not None:
        label = (targets.index - shard.first).unsqueeze(1)
        here = (label >= 0) & (label < mine)
        label = torch.where(here, label, 0)
    # sum e | z_y - m | sum w (m - z) | sum e (z - m) | sum w q | sum w q (m - z)
    sums = torch.zeros(rows, 6, **real)
    made = torch.empty_like(z_all) if gradient else None
    scratch = torch.empty(min(step, rows), mine, **real)
    column = torch.zeros(shard.all, dtype=torch.float64, device=z_all.device)
    for part in parts if mine else ():
        d = scratch[: part.stop - part.start]
        torch.sub(z_all[part].to(dtype), shift[part], out=d)
        if label is not None and here is not None:
            sums[part, 1:2] = torch.where(here[part], d.gather(1, label[part]), 0.0)
        if eps and label is not None:
            sums[part, 2] = -(d.sum(1) if own_weight is None else (d * own_weight).sum(1))
        if targets.probability is not None:
            q = _mass(targets.probability[part].to(dtype), own_weight, eps, spread)
            sums[part, 4] = q.sum(1)
            sums[part, 5] = -torch.where(q == 0, 0.0, q * d).sum(1)
            if watch:
                column[shard.first : shard.first + mine] += q.sum(0)
        e = d.exp()
        sums[part, 0] = e.sum(1)
        if watch:
            sums[part, 3] = torch.where(e == 0, 0.0, e * d).sum(1)
    dist.all_reduce(sums, group=group)
    s = sums[:, 0:1]
    above = s.log()
    lse = above + m
    row = None if targets.row is None else targets.row.unsqueeze(1)
    at: Any = None
    if label is not None:
        losses = (1.0 - eps) * (above - sums[:, 1:2])
        if row is not None:
            losses = losses * row
        at = factor = (torch.ones_like(s) if row is None else row) * ((1.0 - eps) * scale)
        if eps:
            total = float(shard.all) if targets.weight is None else targets.weight.sum()
            losses = losses + spread * (total * above + sums[:, 2:3])
            factor = factor + total * spread * scale
    else:
        losses = sums[:, 4:5] * above + sums[:, 5:6]
        factor = sums[:, 4:5] * scale
    if o.z_loss:
        penalty = lse * o.z_loss if row is None else lse * o.z_loss * row
        losses = losses + penalty * lse
        factor = factor + 2.0 * scale * penalty
    kept = None if targets.kept is None else targets.kept.unsqueeze(1)
    if kept is not None:
        losses = losses.masked_fill(~kept, 0.0)
    by_row = upstream.reshape(-1, 1).to(dtype) if isinstance(upstream, Tensor) else None
    if made is not None and mine:
        factor = factor / s
        for part in parts:
            g = scratch[: part.stop - part.start]
            torch.sub(z_all[part].to(dtype), shift[part], out=g).exp_().mul_(factor[part])
            if targets.probability is not None:
                g.sub_(_mass(targets.probability[part].to(dtype), own_weight, eps, spread).mul_(scale))
            elif eps:
                g.sub_(spread * scale if own_weight is None else own_weight * (spread * scale))
            if label is not None and here is not None:
                g.scatter_add_(1, label[part], -torch.where(here[part], at[part], 0.0))
            if by_row is not None:
                g.mul_(by_row[part])
            if kept is not None:
                g.masked_fill_(~kept[part], 0.0)
            made[part] = g

    seen = None
    if watch:
        best = torch.full((rows, 1), shard.all, dtype=torch.int64, device=z_all.device)
        for part in parts if mine else ():
            best[part] = torch.where(own_m[part] == m[part], z_all[part].argmax(1, keepdim=True) + shard.first, shard.all)
        dist.all_reduce(best, dist.ReduceOp.MIN, group=group)
        likeliest = None
        if targets.probability is not None:
            likeliest = _likeliest(targets.probability, shard, group)
            dist.all_reduce(column, group=group)
        seen = gather_telemetry(
            targets,
            o,
            lse.squeeze(1),
            m.squeeze(1),
            best.squeeze(1).clamp_(max=shard.all - 1),
            (above - sums[:, 3:4] / s).squeeze(1).clamp_(min=0.0),
            1,
            likeliest,
            column,
        )
    flat = losses.squeeze(1)
    loss = flat if o.reduction == "none" else flat.sum() / targets.divisor(o.reduction)
    return loss, made, later, seen


def _mass(q: Tensor, weight: Tensor | None, eps: float, spread: float) -> Tensor:
    """w_k (q_k (1-eps) + eps/C), a new tensor."""
    mass = q * (1.0 - eps) + spread
    return mass if weight is None else mass.mul_(weight)


def _likeliest(q: Tensor, shard: Shard, group: Any) -> Tensor:
    own = q.amax(1) if q.shape[1] else torch.full((q.shape[0],), -math.inf, dtype=q.dtype, device=q.device)
    most = own.clone()
    dist.all_reduce(most, dist.ReduceOp.MAX, group=group)
    where = torch.where(own == most, q.argmax(1) + shard.first, shard.all) if q.shape[1] else torch.full_like(own, shard.all).long()
    dist.all_reduce(where, dist.ReduceOp.MIN, group=group)
    return where


class ShardedCrossEntropy(torch.autograd.Function):
    """Saved: logits of this rank, target, weight. Every rank returns the same loss, so the upstream gradient is the same
    everywhere and backward needs no exchange. Differentiable once."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, weight: Tensor | None, o: Options, shard: Shard, group: Any, listen: Any
    ) -> Tensor:
        ctx.wait = logits.dtype in HALF and o.reduction == "none"
        loss, ctx.gradient, ctx.later, seen = _run(logits, target, weight, o, shard, group, not ctx.wait, listen is not None)
        if seen is not None:
            report(seen, listen[0])
        ctx.save_for_backward(logits, target, weight)
        ctx.o, ctx.shard, ctx.group = o, shard, group
        return loss.to(logits.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:  # every rank comes here or none does: all of them run the same program
            logits, target, weight = ctx.saved_tensors
            known = upstream if ctx.o.reduction == "none" else None
            _, gradient, later, _ = _run(logits, target, weight, ctx.o, ctx.shard, ctx.group, True, False, known)
            if known is None:
                gradient = scaled(gradient, upstream, later, ctx.o)
        else:
            gradient = scaled(gradient, upstream, ctx.later, ctx.o)
        return gradient, None, None, None, None, None, None


def vocabulary_parallel_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    group: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    telemetry: Receiver | None = None,
) -> Tensor:
    """`cross_entropy` of logits whose classes are spread over the processes of `group` (None: the default group), in nats.

    input: (N, C_r), the columns of this rank's classes, ranks in order of classes; shards may differ in size or be empty. Or a
    DTensor (N, C) on a one-dimensional mesh, sharded along classes (or replicated), whose own group is used then. target: indices
    (N,) over all C classes, the same on every rank; or probabilities (N, C_r) of this rank's classes (a DTensor of the logits'
    placement, with DTensor logits). weight: (C,) of all classes, on every rank. Returns the same plain tensor on every rank. All
    ranks must call it, and run backward, alike. Second backward passes exchange again; derivatives of the gradient are not
    offered. Errors as `cross_entropy`, raised on every rank.
    """
    o = Options(ignore_index, reduction, label_smoothing, z_loss)
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing must lie in [0, 1], got {label_smoothing!r}")
    logits, target, group = _local(input, target, group)
    if logits.dim() != 2:
        raise ValueError(f"vocabulary-parallel logits must be (N, C_r), got {tuple(logits.shape)}: flatten the positions into rows")
    expected = logits.shape if target.is_floating_point() else logits.shape[:1]
    if target.shape != expected:
        raise ValueError(f"target has shape {tuple(target.shape)}, expected {tuple(expected)} on this rank")
    sizes = torch.zeros(dist.get_world_size(group), dtype=torch.int64, device=logits.device)
    here = dist.get_rank(group)
    sizes[here] = logits.shape[1]
    dist.all_reduce(sizes, group=group)
    shard = Shard(int(sizes[:here].sum()), int(sizes.sum()))
    if weight is not None and weight.shape != (shard.all,):
        raise ValueError(f"weight must have one entry for each of the {shard.all} classes, got shape {tuple(weight.shape)}")
    if not target.is_floating_point() and target.device.type == "cpu":
        guards.out_of_range(target, shard.all, ignore_index)
    listen = (telemetry,) if telemetry is not None or listeners else None
    if torch.is_grad_enabled() and logits.requires_grad:
        loss: Tensor = ShardedCrossEntropy.apply(logits, target, weight, o, shard, group, listen)
        return loss
    value, _, _, seen = _run(logits, target, weight, o, shard, group, False, listen is not None)
    if seen is not None and listen is not None:
        report(seen, listen[0])
    return value.to(logits.dtype)


def _local(input: Tensor, target: Tensor, group: Any) -> tuple[Tensor, Tensor, Any]:
    """This rank's columns of a DTensor, with its group; anything else as it is."""
    if type(input).__name__ != "DTensor":  # plain tensors need not pay for the import
        return input, target, group
    from torch.distributed.tensor import DTensor, Replicate
    from torch.distributed.tensor import Shard as Sharded

    mesh = input.device_mesh
    if mesh.ndim != 1:
        raise ValueError(
            f"DTensor logits must live on a one-dimensional mesh, got {mesh.ndim} dimensions: pass the vocabulary's submesh"
        )
    wanted = [Sharded(1)]
    placement = input.placements[0]
    if not (isinstance(placement, Replicate) or (isinstance(placement, Sharded) and placement.dim % input.dim() == 1)):
        raise ValueError(f"DTensor logits must be sharded along classes (Shard(1)) or replicated, got {placement}")
    if isinstance(target, DTensor):
        target = target.redistribute(placements=wanted).to_local() if target.is_floating_point() else target.full_tensor()
    return input.redistribute(placements=wanted).to_local(), target, mesh.get_group()
