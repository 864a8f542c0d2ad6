"""Trace = facts + series of one training; RunRecord = the script with all its trainings."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from unstuck.trace import channels
from unstuck.trace.facts import Facts, Run


class Series(msgspec.Struct):
    """Columns over optimizer steps. `steps` is increasing; every column has its length; NaN = not measured."""

    steps: np.ndarray
    columns: dict[str, np.ndarray]

    @classmethod
    def empty(cls) -> Series:
        return cls(np.zeros(0, dtype=np.int64), {n: np.zeros(0) for n in channels.SERIES_NAMES})

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in channels.SERIES_NAMES:
            raise KeyError(f"no series channel {name!r}; there are {', '.join(channels.SERIES_NAMES)}")
        return self.columns.get(name, np.full(len(self.steps), np.nan))

    def __len__(self) -> int:
        return len(self.steps)

    def since(self, step: int) -> Series:
        """The rows from `step` on."""
        return self.where(self.steps >= step)

    def where(self, keep: np.ndarray) -> Series:
        """The rows that a boolean array selects."""
        return Series(self.steps[keep], {n: c[keep] for n, c in self.columns.items()})

    def measured(self, name: str) -> np.ndarray:
        """The values of a channel where it was measured."""
        column = self[name]
        return column[~np.isnan(column)]


class Pairs(msgspec.Struct):
    """Captured (input, label) pairs in the order in which the training saw them.

    x: [n, d] float32 (kind "real") or int64 (kind "ids": token ids); y: [n] int64 class labels; batch: [n] int64, the
    number of the batch a row came from. Wide inputs hold a fixed subset of the columns.
    """

    x: np.ndarray
    y: np.ndarray
    batch: np.ndarray
    kind: str = "real"
    columns: int = 0  # of the whole input


class Trace(msgspec.Struct):
    """Everything seen of one training; what a rule is asked about."""

    facts: Facts
    series: Series
    pairs: Pairs | None = None
    known: dict[str, Any] = msgspec.field(default_factory=dict)  # what was worked out once from this trace: symptom, ...

    def has(self, channel: str) -> bool:
        """Was this channel observed?"""
        f = self.facts
        if channel in f.absent:
            return False
        if channel in channels.SERIES_NAMES:
            return bool(len(self.series.measured(channel)))
        match channel:
            case "terms":
                return any(t.kind != "unknown" for t in f.terms)
            case "path":
                return any(t.path for t in f.terms)
            case "values":
                return any(t.values.calls for t in f.terms)
            case "labels":
                return any(t.labels.calls for t in f.terms)
            case "parameters":
                return bool(f.parameters)
            case "optimizers":
                return bool(f.optimizers)
            case "layers" | "probes" | "gradient_checks" | "inputs" | "operations":
                return bool(getattr(f, channel))
            case "pairs":
                return self.pairs is not None and len(self.pairs.y) > 0
            case "modes" | "loaders" | "clippings" | "reshapes" | "formulas":
                return True
            case "loop" | "breaks" | "exceptions" | "nonfinite":
                return True
        raise KeyError(f"no channel {channel!r}")

    def missing(self, needs: tuple[str, ...]) -> str:
        """'' when all channels are there; otherwise the reason for the first that is not."""
        for channel in needs:
            if not self.has(channel):
                return f"no channel: {channel} ({self.facts.absent.get(channel, 'nothing of it was seen')})"
        return ""


class RunRecord(msgspec.Struct):
    """A script's run with its trainings in the order in which they began."""

    run: Run
    traces: list[Trace]
    directory: str = ""
