"""What a loss knows anyway: row log-sum-exps, maxima, entropies, which classes were predicted, what chance would score.

A loss call measures these only when somebody asked: a receiver passed to the call (`telemetry=seen.append`), or an entry in
`listeners`, which every call of every loss in this room then reports to. With neither, nothing is computed. Every value stays a
tensor on the device of the logits, so that asking never makes the host wait for the device; `summary()` and `float()` do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Receiver = Callable[["Telemetry"], object]

# Called with the Telemetry of every loss call, in order. Append to listen, remove to stop.
listeners: list[Receiver] = []


@dataclass(frozen=True, eq=False)
class Telemetry:
    """One loss call as seen from inside. R rows (samples times positions), C classes; losses and entropies in nats.

    `entropy` belongs to rows 0, `stride`, 2 `stride`, ...: on the CPU the pass over memory it needs would cost a tenth of the loss,
    so wide calls of many rows take every eighth. Its absolute error is about 1e-6 times the largest |logit|.
    Rows whose target is ignored stand in the arrays but in none of the sums (`rows`, `correct`, `histogram`, `label_mass`).
    """

    loss: str  # "cross-entropy", "comp-sum", "focal"
    classes: int
    logsumexp: Tensor  # (R,) float32, float64 for double logits
    max_logit: Tensor  # (R,) as logsumexp
    predicted: Tensor  # (R,) int64, the first class with the largest logit
    entropy: Tensor  # (ceil(R / stride),) of the predicted distribution
    stride: int
    kept: Tensor | None  # (R,) bool, None where every row counts
    rows: Tensor  # () int64, rows that count
    correct: Tensor  # () int64, of them predicted as labelled (as the likeliest class for probability targets)
    histogram: Tensor  # (C,) int64, how often each class was predicted
    # (C,) float64, target mass a_c on each class under weight and smoothing: the constant answer q has the loss sum_c a_c (-ln q_c)
    label_mass: Tensor
    denominator: Tensor  # () float64, what this reduction divides by (1 for a sum; for 'none' what a mean would divide by)
    tau: float = 1.0
    gamma: float = 0.0

    @property
    def chance(self) -> Tensor:
        """() float64: what this very call would have returned for the uniform answer 1/C (without z-loss)."""
        level = torch.full((), math.log(self.classes), dtype=torch.float64, device=self.label_mass.device)
        return self.label_mass.sum() * of_family(level, self.tau, self.gamma)[0] / self.denominator

    @property
    def base_rate(self) -> Tensor:
        """() float64: the same for the constant answer q = a / sum a. For cross-entropy no constant answer scores less (Gibbs)."""
        cost = -torch.log(self.label_mass / self.label_mass.sum())
        terms = self.label_mass * of_family(cost, self.tau, self.gamma)[0]
        return torch.where(self.label_mass > 0, terms, 0.0).sum() / self.denominator

    @property
    def accuracy(self) -> Tensor:
        """() float64: share of the counted rows that were predicted right; NaN where no row counts."""
        return self.correct.double() / self.rows.double()

    def summary(self) -> dict[str, float]:
        """The call in eight numbers, means over the counted rows. Waits for the device."""

        def mean(values: Tensor, step: int = 1) -> float:
            return float((values if self.kept is None else values[self.kept[::step]]).double().mean())

        return {
            "rows": float(self.rows),
            "accuracy": float(self.accuracy),
            "chance": float(self.chance),
            "base_rate": float(self.base_rate),
            "logsumexp": mean(self.logsumexp),
            "max_logit": mean(self.max_logit),
            "entropy": mean(self.entropy, self.stride),
            "classes_predicted": float((self.histogram > 0).sum()),
        }


def of_family(cost: Tensor, tau: float, gamma: float) -> tuple[Tensor, Tensor]:
    """cost = -ln p_y >= 0, any shape -> (loss, its derivative by the cost), both of that shape.

    Comp-sum (Mao, Mohri, Zhong, ICML 2023): (1 - p^(tau-1)) / (tau-1), derivative p^(tau-1); tau = 1 is cross-entropy. Everything
    is a function of the cost, not of p, so p that underflows does no harm and expm1 keeps the digits near tau = 1. Focal (Lin et
    al., ICCV 2017): (1-p)^gamma cost, derivative (1-p)^gamma (1 + gamma p cost / (1-p)).
    """
    if tau != 1.0:
        power = (tau - 1.0) * cost
        return -torch.expm1(-power) / (tau - 1.0), torch.exp(-power)
    if gamma != 0.0:
        rest = -torch.expm1(-cost)
        safe = torch.where(rest > 0, rest, 1.0)  # also for autograd: the power has a pole at 0 for gamma < 1
        modulate = torch.where(rest > 0, safe**gamma, 0.0)
        # cost / (1-p) -> 1 as p -> 1; an infinite cost has p = 0 and nothing to correct
        ratio = torch.where(rest > 0, cost / safe, 1.0)
        correction = torch.where(torch.isinf(cost), 0.0, gamma * torch.exp(-cost) * ratio)
        return modulate * cost, modulate * (1.0 + correction)
    return cost, torch.ones_like(cost)


def report(seen: Telemetry, receiver: Receiver | None) -> None:
    """Hands one call's telemetry to its receiver and to every listener."""
    if receiver is not None:
        receiver(seen)
    for listener in tuple(listeners):
        listener(seen)
