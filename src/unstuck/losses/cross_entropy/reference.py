"""Cross-entropy by its definition, in numpy float64, one formula a line: what every faster implementation is compared with.

Shapes and options as `unstuck.losses.cross_entropy`; losses in nats. Nothing here is tuned; every array is written out in full.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class Reference(NamedTuple):
    """`loss`: () or the targets' shape; `gradient`: of sum(upstream * loss) by the logits, in their shape; `logsumexp`, `entropy`,
    `predicted`: (R,) over the flattened rows."""

    loss: Floats
    gradient: Floats
    logsumexp: Floats
    entropy: Floats
    predicted: NDArray[np.int64]


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    tau: float = 1.0,
    gamma: float = 0.0,
    upstream: ArrayLike = 1.0,
) -> Reference:
    """logits (C,), (N, C) or (N, C, d1, ...); target class indices (integers) or probabilities (floats, of the logits' shape);
    upstream () or, for reduction 'none', of the targets' shape. ValueError for a reduction that is none of mean, sum, none."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    z = np.asarray(logits, dtype=np.float64)
    y = np.asarray(target)
    axis = 0 if z.ndim == 1 else 1
    classes = z.shape[axis]
    row_shape = z.shape[:axis] + z.shape[axis + 1 :]
    moved = np.moveaxis(z, axis, -1)
    rows = moved.reshape(-1, classes)
    w = np.ones(classes) if weight is None else np.asarray(weight, dtype=np.float64)
    eps = label_smoothing

    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        lse = _logsumexp(rows)
        log_p = rows - lse[:, None]
        p = np.exp(log_p)
        if y.dtype.kind == "f":
            q = np.moveaxis(y.astype(np.float64), axis, -1).reshape(-1, classes) * (1 - eps) + eps / classes
            mass = q * w  # l = -sum_k mass_k log p_k
            loss = -_times(mass, log_p).sum(1)
            by_logits = p * mass.sum(1, keepdims=True) - mass
            row, kept = np.ones(len(rows)), np.ones(len(rows), dtype=bool)
            denominator = float(len(rows))
        else:
            labels = y.reshape(-1).astype(np.int64)
            kept = labels != ignore_index
            safe = np.where(kept, labels, 0)
            row = w[safe] * kept
            one_hot = np.eye(classes)[safe]
            cost = -log_p[np.arange(len(rows)), safe]
            value, slope = _family(cost, tau, gamma)
            loss = (1 - eps) * row * value
            by_logits = ((1 - eps) * row * slope)[:, None] * (p - one_hot)
            if eps:
                loss = loss + eps / classes * (-log_p * w).sum(1)
                by_logits = by_logits + eps / classes * (p * w.sum() - w)
            denominator = float(row.sum())
        if z_loss:
            loss = loss + z_loss * row * lse**2
            by_logits = by_logits + (2 * z_loss * row * lse)[:, None] * p
        loss = np.where(kept, loss, 0.0)
        by_logits = np.where(kept[:, None], by_logits, 0.0)

        if reduction == "none":
            out, factor = loss.reshape(row_shape), np.broadcast_to(np.asarray(upstream, dtype=np.float64), row_shape).reshape(-1, 1)
        elif reduction == "sum":
            out, factor = loss.sum(), np.full((len(rows), 1), float(np.asarray(upstream)))
        else:
            out, factor = loss.sum() / np.float64(denominator), np.full((len(rows), 1), np.float64(upstream) / denominator)
        gradient = np.where(kept[:, None], by_logits * factor, 0.0)
    entropy = -_times(p, log_p).sum(1)
    return Reference(
        np.asarray(out),
        np.moveaxis(gradient.reshape(moved.shape), -1, axis),
        lse,
        entropy,
        rows.argmax(1) if classes else rows[:, 0],
    )


def _logsumexp(rows: Floats) -> Floats:
    m = rows.max(1)
    return m + np.log(np.exp(rows - m[:, None]).sum(1))


def _times(a: Floats, b: Floats) -> Floats:
    """a * b with 0 * inf = 0: a class without probability costs nothing."""
    return np.where(a == 0, 0.0, a * b)


def _family(cost: Floats, tau: float, gamma: float) -> tuple[Floats, Floats]:
    """The loss as a function of the cost c = -ln p_y, and its derivative by c."""
    if tau != 1.0:
        return (1 - np.exp(-(tau - 1) * cost)) / (tau - 1), np.exp(-(tau - 1) * cost)
    if gamma != 0.0:
        p = np.exp(-cost)
        with np.errstate(divide="ignore", invalid="ignore"):
            second = np.where((p == 1) | (p == 0), 0.0, gamma * (1 - p) ** (gamma - 1) * p * cost)
        return (1 - p) ** gamma * cost, (1 - p) ** gamma + second
    return cost, np.ones_like(cost)
