"""What shows that two arms of an experiment were the same training: the weights they started from and the labels of their steps.

Same seeds should give both; that they did is not taken on trust. The arm writes `start-<training>.json` into its trace folder,
and whoever compares two arms compares these first.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from unstuck.observe.keras_probes import to_array

STEPS = 64  # whose labels are kept
MAX_NUMBERS = 100_000_000  # weights of a model that are hashed


class Witness:
    """Digests of one training."""

    def __init__(self) -> None:
        self.weights = ""  # '': not known
        self.labels: list[int] = []

    def begin(self, model: Any, jax_state: Any, variables: list[Any]) -> None:
        """Before the first step. Frozen weights count as well, so that unfreezing them makes no other start; order does not."""
        if sum(int(np.prod(v.shape)) for v in variables) > MAX_NUMBERS:
            return
        if jax_state is None:
            self.weights = digest([to_array(v.value) for v in variables])
            return
        held: dict[int, Any] = {}  # JAX has taken the values out of the model
        for group, values in zip((model.trainable_variables, model.non_trainable_variables), jax_state[:2]):
            held |= {id(v): a for v, a in zip(group, values)}
        self.weights = digest([to_array(held[id(v)]) for v in variables])

    def arrived(self, y: np.ndarray) -> None:
        """The labels of one step: one number for those of all its rows, in their order."""
        if len(self.labels) < STEPS:
            self.labels.append(zlib.crc32(np.ascontiguousarray(y).tobytes()))

    def write(self, directory: Path, training: int) -> None:
        """Raises OSError."""
        text = json.dumps({"weights": self.weights, "labels": self.labels})
        (directory / f"start-{training}.json").write_text(text, encoding="utf-8")


def digest(arrays: list[np.ndarray]) -> str:
    """SHA-256 of a set of arrays, whatever their order."""
    each = sorted(hashlib.sha256(f"{a.shape}{a.dtype}".encode() + np.ascontiguousarray(a).tobytes()).digest() for a in arrays)
    return hashlib.sha256(b"".join(each)).hexdigest() if each else ""
