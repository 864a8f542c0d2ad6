"""The size of the gradient layer by layer, from the data to the loss."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from unstuck.trace.facts import Facts, Parameter

FEWEST_LAYERS = 4  # a factor per layer is a slope over the depth: three steps are the fewest that can agree or not
LARGE = 1e3  # a layer with 1/1000 of another's gradient needs, at one learning rate, a thousand times the steps
# A sigmoid's derivative is at most 1/4, a healthy layer's factor is about 1: their geometric mean.
PER_LAYER = 2.0
MOSTLY = 0.75  # of the neighbouring pairs: one odd layer in four (another width, a norm) may stand out
# The square of a float32 below this is 0, and with it the norm of a gradient that is not.
SMALLEST = 1e-23


class Profile(NamedTuple):
    """Root mean square of each weight's gradient at one step; the first is nearest to the data."""

    step: int
    sizes: list[float]

    @property
    def ratio(self) -> float:
        """Of the first layer to the last."""
        return self.sizes[0] / self.sizes[-1]

    @property
    def factor(self) -> float:
        """The same per layer."""
        return self.ratio ** (1 / (len(self.sizes) - 1))

    @property
    def rising(self) -> float:
        """Share of the neighbouring pairs in which the one nearer to the data has the smaller gradient."""
        return float(np.mean([a <= b for a, b in zip(self.sizes, self.sizes[1:])]))


def weights_by_depth(facts: Facts) -> list[Parameter]:
    """Trained weight tensors in the order of the forward pass. Of an embedding only the rows of the batch have a
    gradient: it is left out."""
    tables = {name for layer in facts.layers if layer.op == "embedding" for name in layer.parameters}
    weights = [
        p for p in facts.parameters
        if len(p.shape) > 1 and p.trainable and p.reached and p.order is not None and p.looks and p.name not in tables
    ]  # fmt: skip
    return sorted(weights, key=lambda p: p.order or 0)


def profiles(weights: list[Parameter]) -> list[Profile]:
    """At the first and at the middle one of the looks that all weights share; empty where a layer has no gradient."""
    if len(weights) < 2:
        return []
    shared = sorted(set.intersection(*({k.step for k in p.looks} for p in weights)))
    if not shared:
        return []
    found = [profile(weights, step) for step in dict.fromkeys((shared[0], shared[len(shared) // 2]))]
    return [p for p in found if p is not None] if None not in found else []


def profile(weights: list[Parameter], step: int) -> Profile | None:
    """None where a gradient is exactly 0 (another fault) or not finite."""
    sizes: list[float] = []
    for p in reversed(weights):  # from the loss to the data, so that an underflow is seen coming
        look = next(k for k in p.looks if k.step == step)
        entries = math.prod(p.shape)
        if not math.isfinite(look.grad_norm) or entries <= 0:
            return None
        size = look.grad_norm / math.sqrt(entries)
        if size <= 0:
            if look.zero_gradients >= 1 and not (sizes and sizes[-1] <= 10 * SMALLEST):
                return None
            size = SMALLEST
        sizes.append(size)
    return Profile(step, sizes[::-1])
