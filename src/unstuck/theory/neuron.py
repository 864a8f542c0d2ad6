"""One sigmoid neuron with one input, trained by gradient descent: squared error stands still, cross-entropy descends.

The neuron is a = s(z), z = w x + b with x = 1 and s the sigmoid; the losses are (a - y)^2/2 and
-y ln a - (1-y) ln(1-a). Both parameters get the same gradient g = dL/dz, so that a step at the rate r is

    z <- z - 2 r g(z),    g = (a - y) a (1 - a) for squared error,    g = a - y for cross-entropy.

What can be said for every rate, with a start above the target (below it, mirror everything):
- Along the curve of the loss, dL/dt = -2 g^2 with t = rate times steps. The curve bends down as long as |g| grows and
  up as soon as it shrinks.
- Cross-entropy: g = a - y shrinks from the first step on, so the first step lowers the loss most and every later one
  less. With y = 0 or 1 this holds in discrete steps at any rate, for z cannot overshoot a target at infinity. With a
  target inside (0, 1) it holds for rates up to 2: there 2 r max g' = 2 r / 4 <= 1 and no step passes the target.
- Squared error: |g| grows until 3 a^2 - 2 (1+y) a + y = 0, for y = 0 until a = 2/3. A start above that has the steepest
  step later: that is the plateau. Its length in t is the integral of dz/(2 g), which grows like e^z/2 with the start z.
  No rate changes that, a rate divides it; once the first step is longer than the plateau it is jumped (`leap_rate`).

Losses in nats, float64. ValueError for unusable input. Source: M. Nielsen, Neural Networks and Deep Learning, 2015,
chapter 3, whose start (weight 2, bias 2, rate 0.15, 300 epochs) is the default; the shape for every rate is proved here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LOSSES",
    "Row",
    "Run",
    "Time",
    "flow_time",
    "inflexion",
    "leap_rate",
    "plateau_expected",
    "rates",
    "scan",
    "shape",
    "simulate",
    "stable_rate",
]

Loss = Literal["squared error", "cross-entropy"]
Shape = Literal["plateau", "descent", "leap"]
LOSSES: tuple[Loss, Loss] = ("squared error", "cross-entropy")
LARGEST = 500.0  # of weight and bias: the exponential of twice that is still a float
SCAN_STEPS = 50_000


@dataclass(frozen=True)
class Run:
    """One training. Arrays over the states 0..steps, float64, shape (steps + 1,); `drops` between them, shape (steps,).

    `losses` in nats, `weights`, `gradients` = |dL/dw| at each state, `activations` in 0..1. `drops[k]` is the loss before
    step k+1 minus the loss after it, computed without the cancellation of subtracting two nearly equal losses.
    """

    loss: Loss
    rate: float
    losses: NDArray[np.float64]
    weights: NDArray[np.float64]
    gradients: NDArray[np.float64]
    activations: NDArray[np.float64]
    drops: NDArray[np.float64]
    floor: float

    @property
    def shares(self) -> NDArray[np.float64]:
        """What is left of the loss above its floor, as a share of the start: 1 at the start."""
        excess = self.losses - self.floor
        return excess / excess[0]


@dataclass(frozen=True)
class Row:
    """One rate of a scan. `half`, `steepest` are step numbers counted from 1, None where not reached within the limit."""

    loss: Loss
    rate: float
    half: int | None
    steepest: int | None
    shape: Shape
    steps: int


@dataclass(frozen=True)
class Time:
    """Time to halve the loss, in rate times steps, in the limit of small rates, from a start at z."""

    z: float
    squared_error: float
    cross_entropy: float


def _sigmoid(z: float) -> float:
    if z >= 0.0:
        return 1.0 / (1.0 + math.exp(-z))
    e = math.exp(z)
    return e / (1.0 + e)


def _softplus(z: float) -> float:
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def _gap(z: float, target: float) -> float:
    """a - y; for y = 1 as -s(-z), which keeps its digits when a is nearly 1."""
    return -_sigmoid(-z) if target == 1.0 else _sigmoid(z) - target


def _gradient(loss: Loss, z: float, target: float) -> float:
    gap = _gap(z, target)
    return gap if loss == "cross-entropy" else gap * _sigmoid(z) * _sigmoid(-z)


def _loss(loss: Loss, z: float, target: float) -> float:
    if loss == "cross-entropy":
        return target * _softplus(-z) + (1.0 - target) * _softplus(z)
    return 0.5 * _gap(z, target) ** 2


def _floor(loss: Loss, target: float) -> float:
    if loss == "squared error" or target in (0.0, 1.0):
        return 0.0
    return -target * math.log(target) - (1.0 - target) * math.log1p(-target)


def _drop(loss: Loss, z: float, step: float, target: float) -> float:
    """L(z) - L(z - step) without cancellation, for a step of either sign."""
    if step < 0.0:
        return -_drop(loss, z - step, -step, target)
    after = z - step
    if loss == "cross-entropy":
        # ln((1 + e^z)/(1 + e^after)), through the smaller of the two exponentials of the step
        rise = math.log1p(math.expm1(step) * _sigmoid(after)) if step < 30.0 else _softplus(z) - _softplus(after)
        if target == 1.0:
            # softplus(z) - z = softplus(-z): the part that is left is small where the whole is not
            return -(math.log1p(math.expm1(step) * _sigmoid(-z)) if step < 30.0 else _softplus(-after) - _softplus(-z))
        return rise - target * step
    # s(z) - s(after) = (1 - e^-step) s(z) s(-after)
    difference = -math.expm1(-step) * _sigmoid(z) * _sigmoid(-after)
    return 0.5 * difference * (_gap(z, target) + _gap(after, target))


def _checked(weight: float, bias: float, rate: float, steps: int, target: float) -> None:
    for name, value in (("weight", weight), ("bias", bias)):
        if not abs(value) <= LARGEST:
            raise ValueError(f"{name} must be a number between -{LARGEST:g} and {LARGEST:g}, got {value!r}")
    if not (rate > 0.0 and math.isfinite(rate)):
        raise ValueError(f"rate must be a positive number, got {rate!r}: try 0.15")
    if isinstance(steps, bool) or int(steps) != steps or not 2 <= steps <= 1_000_000:
        raise ValueError(f"steps must be a whole number from 2 to 1000000, got {steps!r}: try 300")
    if not 0.0 <= target <= 1.0:
        raise ValueError(f"target must lie in [0, 1], got {target!r}: a sigmoid answers nothing else")
    if abs(_gap(weight + bias, target)) < 1e-12:
        raise ValueError(f"the neuron starts at its target {target:g}: choose another weight or bias, there is nothing to learn")


def _states(loss: Loss, weight: float, bias: float, rate: float, target: float) -> Iterator[tuple[float, float, float, float]]:
    """(z, weight, gradient, drop of the step that follows), without end."""
    while True:
        z = weight + bias
        gradient = _gradient(loss, z, target)
        move = rate * gradient
        yield z, weight, gradient, _drop(loss, z, 2.0 * move, target)
        weight, bias = weight - move, bias - move


def simulate(
    loss: Loss, *, weight: float = 2.0, bias: float = 2.0, rate: float = 0.15, steps: int = 300, target: float = 0.0
) -> Run:
    """Train for `steps` steps from the given start. ValueError naming the argument for unusable input."""
    _checked(weight, bias, rate, steps, target)
    states = [state for state, _ in zip(_states(loss, weight, bias, rate, target), range(steps + 1))]
    z, weights, gradients, drops = (np.array(column) for column in zip(*states))
    return Run(
        loss,
        rate,
        np.array([_loss(loss, x, target) for x in z]),
        weights,
        np.abs(gradients),
        np.array([_sigmoid(x) for x in z]),
        drops[:-1],
        _floor(loss, target),
    )


def shape(drops: Sequence[float] | NDArray[np.float64]) -> Shape:
    """What the decreases of the loss, step by step, say about its curve.

    "descent": the first step lowers the loss most and no later one more than the one before it (the curve is convex).
    "plateau": the second step lowers it more than the first, and the most comes later (the curve bends down first).
    "leap": neither, as where the first step is so long that it passes the plateau, or overshoots the target.
    """
    values = np.asarray(drops, dtype=np.float64)
    slack = 1e-12 * float(np.max(np.abs(values), initial=0.0))
    if values.size < 2 or (values[0] > 0.0 and np.all(np.diff(values) <= slack) and np.all(values <= values[0] * (1.0 + 1e-9))):
        return "descent"
    if values[0] > 0.0 and values[1] > values[0] and int(np.argmax(values)) > 0:
        return "plateau"
    return "leap"


def rates(middle: float, count: int = 13, decades: float = 3.0) -> tuple[float, ...]:
    """`count` rates over `decades` decades around `middle`, evenly on a logarithmic scale."""
    return tuple(middle * 10.0 ** (decades * (k / (count - 1) - 0.5)) for k in range(count))


def scan(
    loss: Loss, *, weight: float = 2.0, bias: float = 2.0, target: float = 0.0, rates: Sequence[float], limit: int = SCAN_STEPS
) -> tuple[Row, ...]:
    """One `Row` per rate: each training runs until a tenth of the excess over the floor is left, at most `limit` steps."""
    rows = []
    floor = _floor(loss, target)
    for rate in rates:
        _checked(weight, bias, rate, 2, target)
        start = _loss(loss, weight + bias, target) - floor
        drops: list[float] = []
        half = None
        finished = False
        for z, _, _, drop in _states(loss, weight, bias, rate, target):
            excess = _loss(loss, z, target) - floor
            if half is None and excess <= 0.5 * start:
                half = len(drops)
            finished = excess <= 0.1 * start and len(drops) >= 3
            if finished or len(drops) >= limit:
                break
            drops.append(drop)
            if drop == 0.0:  # the step is below what a float resolves: nothing will ever change
                break
        kind, still = shape(drops), max(drops) <= min(drops) * (1.0 + 1e-9)
        if loss == "squared error" and still and plateau_expected(weight + bias, target):
            kind = "plateau"  # so deep that the growth of the gradient is below what a float resolves
        steepest = int(np.argmax(drops)) + 1
        known = finished or (steepest < len(drops) and not still)  # at the limit the steepest step may still lie ahead
        rows.append(
            Row(
                loss,
                rate,
                half,
                steepest if known or loss == "cross-entropy" else None,
                kind,
                limit if drops[-1] == 0.0 else len(drops),
            )
        )
    return tuple(rows)


def inflexion(target: float = 0.0, above: bool = True) -> float:
    """The activation at which squared error's gradient is largest: between 1 and the target, or with above=False below it.

    The roots of 3 a^2 - 2 (1+y) a + y, the derivative of (a - y) a (1 - a): 2/3 for y = 0, 1/3 for y = 1 from below.
    """
    root = math.sqrt(1.0 - target + target * target)
    return (1.0 + target + (root if above else -root)) / 3.0


def plateau_expected(z: float, target: float = 0.0) -> bool:
    """Whether a start at z is beyond the inflexion, on the saturated side: then squared error has a plateau."""
    a = _sigmoid(z)
    return a > inflexion(target) if a > target else a < inflexion(target, above=False)


def stable_rate(target: float) -> float:
    """The rate up to which the statement about cross-entropy is proved: 2 for a target inside (0, 1), else any."""
    return math.inf if target in (0.0, 1.0) else 2.0


def leap_rate(z: float, target: float = 0.0) -> float:
    """The rate from which on squared error's first step ends beyond the inflexion, so that the plateau is no longer seen.

    0 where the start is not saturated, infinite where the gradient is 0 in float64.
    """
    a = _sigmoid(z)
    bend = inflexion(target, above=a > target)
    if not 0.0 < bend < 1.0 or not plateau_expected(z, target):
        return 0.0
    gradient = _gradient("squared error", z, target)
    return math.inf if gradient == 0.0 else (z - math.log(bend / (1.0 - bend))) / (2.0 * gradient)


def flow_time(z: float, target: float = 0.0) -> Time:
    """Rate times steps until half of the excess loss is left, for both losses, in the limit of small rates.

    The integral of dz/(2 |g|) from the start to the z where half is left. For cross-entropy and y = 0 it is
    (z0 - z1 + e^-z1 - e^-z0)/2.
    """
    from scipy import integrate

    _checked(z, 0.0, 1.0, 2, target)

    def time(loss: Loss) -> float:
        wanted = 0.5 * (_loss(loss, z, target) - _floor(loss, target))
        end = _solved(lambda x: _loss(loss, x, target) - _floor(loss, target) - wanted, z, target)
        low, high = min(z, end), max(z, end)
        stops = np.linspace(low, high, 1 + max(1, math.ceil(high - low)))
        parts = (integrate.quad(lambda x: 0.5 / abs(_gradient(loss, x, target)), one, two)[0] for one, two in pairwise(stops))
        return float(sum(parts))

    return Time(z, time("squared error"), time("cross-entropy"))


def _solved(function: Callable[[float], float], start: float, target: float) -> float:
    """The zero between the start, where the function is positive, and the target."""
    if 0.0 < target < 1.0:
        end = math.log(target / (1.0 - target))
    else:
        end = start + (60.0 + abs(start)) * (1.0 if target == 1.0 else -1.0)
    for _ in range(200):
        middle = 0.5 * (start + end)
        if function(middle) > 0.0:
            start = middle
        else:
            end = middle
    return end
