"""What the tests of several rules need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from unstuck.stats.dependence import Dependence, Probe

NAMES = {
    "logistic": "logistic regression",
    "neighbours": "nearest-neighbour classifier",
    "trees": "boosted-trees classifier",
}


@pytest.fixture
def dependence() -> Callable[..., Dependence]:
    """dependence(logistic=0.3) is the answer of `learnable` where a logistic regression reaches 0.3 nats."""

    def make(*, found: bool = True, error: float = 0.0, base: float = 1.6, **changes: Any) -> Dependence:
        losses = {name: changes.pop(name) for name in NAMES if name in changes}
        probes = tuple(Probe(NAMES[n], v, base, 0.9, 0.2, base - v, error, 400) for n, v in losses.items())
        told: dict[str, Any] = {
            "n": 400, "given": 400, "non_finite": 0, "duplicates": 0, "conflicts": None, "columns": 6, "classes": 5,
            "base": base, "base_accuracy": 0.2, "p_value": 0.001 if found else 0.4, "statistics": {}, "permutations": 999,
            "found": found, "probes": probes, "detectable": 0.1, "detectable_accuracy": 0.15, "detectable_by": {},
            "structured": True, "structure_p": 0.001, "enough": True, "reason": "", "cap": "A cap.", "complete": True,
        }  # fmt: skip
        return Dependence(**(told | changes))

    return make
