"""Comp-sum losses and focal loss: cross-entropy's kernel, with one more factor for each row.

Both are functions phi of the cost c = -ln p_y alone, so dl/dz = phi'(c) (p - e_y): loss, gradient and telemetry cost what
cross-entropy's cost. Everything is computed from c, so a p_y that underflows does no harm.
"""

from __future__ import annotations

import math

from torch import Tensor

from unstuck.losses.cross_entropy import apply
from unstuck.losses.cross_entropy.eager import Options
from unstuck.losses.protocol import overridable
from unstuck.losses.telemetry import Receiver


@overridable
def comp_sum(
    input: Tensor,
    target: Tensor,
    tau: float,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    z_loss: float = 0.0,
    overwrite_logits: bool = False,
    telemetry: Receiver | None = None,
) -> Tensor:
    """(1 - p_y^(tau-1)) / (tau-1), and -ln p_y at tau = 1 (Mao, Mohri, Zhong, ICML 2023).

    tau = 0: sum-exponential, sum_{k != y} exp(z_k - z_y), unbounded. 1 < tau < 2: generalised cross-entropy with q = tau - 1, which
    learns less from labels it finds unlikely. tau = 2: half the mean absolute error, 1 - p_y. In nats only at tau = 1.
    Shapes, dtypes, reductions, weight, z_loss, overwrite_logits, telemetry and errors as `cross_entropy`; class indices only.
    ValueError for tau that is negative or not finite.
    """
    if not (tau >= 0.0 and math.isfinite(tau)):
        raise ValueError(f"tau must be finite and not negative, got {tau!r}")
    o = Options(ignore_index, reduction, 0.0, z_loss, tau=float(tau))
    return apply(input, target, weight, o, overwrite_logits=overwrite_logits, receiver=telemetry)


def generalised_cross_entropy(
    input: Tensor,
    target: Tensor,
    q: float = 0.7,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """(1 - p_y^q) / q (Zhang and Sabuncu, NeurIPS 2018): comp-sum at tau = 1 + q. ValueError for q outside (0, 1]."""
    if not 0.0 < q <= 1.0:
        raise ValueError(f"q must lie in (0, 1], got {q!r}: q -> 0 is cross-entropy")
    return comp_sum(input, target, 1.0 + q, weight, ignore_index=ignore_index, reduction=reduction)


def mean_absolute_error(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """sum_k |p_k - e_yk| = 2 (1 - p_y), between 0 and 2 for each row: comp-sum at tau = 2, doubled (Ghosh et al., AAAI 2017)."""
    return 2.0 * comp_sum(input, target, 2.0, weight, ignore_index=ignore_index, reduction=reduction)


@overridable
def focal(
    input: Tensor,
    target: Tensor,
    gamma: float = 2.0,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    z_loss: float = 0.0,
    overwrite_logits: bool = False,
    telemetry: Receiver | None = None,
) -> Tensor:
    """-(1 - p_y)^gamma ln p_y over softmax classes (Lin et al., ICCV 2017); `weight` is its alpha, one for each class.

    The rest as `comp_sum`. ValueError for gamma that is negative or not finite; gamma = 0 is cross-entropy. The mean divides by
    the sum of the weights, as cross-entropy's.
    """
    if not (gamma >= 0.0 and math.isfinite(gamma)):
        raise ValueError(f"gamma must be finite and not negative, got {gamma!r}")
    o = Options(ignore_index, reduction, 0.0, z_loss, gamma=float(gamma))
    return apply(input, target, weight, o, overwrite_logits=overwrite_logits, receiver=telemetry)
