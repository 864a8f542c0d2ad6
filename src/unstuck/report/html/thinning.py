"""A million steps on a screen: what a picture of a given width can show, and nothing that it would hide."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def thin(steps: ArrayLike, values: ArrayLike, width: int) -> tuple[Array, Array]:
    """The entries of a series that a picture `width` columns wide needs; at most 4 * width + 3 of them.

    steps [n], increasing; values [n], in any unit; what is not finite is a gap. The span of the steps is cut into `width`
    equal columns. Kept are the first and the last entry, of every column the entry with the lowest and the one with the highest
    value (the earliest where several are equal), and between two kept neighbours one of the gaps between them, if there is one:
    so a line is drawn from one kept value to the next exactly where no gap lies between them. A spike of one step in a million
    is drawn at its full height. Entries are only left out, never changed. Up to 2 * width entries all are kept.
    Raises ValueError for different lengths, steps that do not increase, or a width below 1.
    """
    x, y = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"steps and values must be one-dimensional and of one length, got {x.shape} and {y.shape}")
    if width < 1:
        raise ValueError(f"width {width}: must be at least one column")
    if np.any(np.diff(x) <= 0):
        raise ValueError("steps must increase")
    if len(x) <= 2 * width:
        return x, y
    finite = np.isfinite(y)
    places = np.flatnonzero(finite)
    columns = np.minimum(((x[places] - x[0]) * (width / (x[-1] - x[0]))).astype(np.int64), width - 1)
    lowest, highest = _first_of_lowest(columns, y[places], places), _first_of_lowest(columns, -y[places], places)
    kept = np.unique(np.concatenate(([0, len(x) - 1], lowest, highest)))
    gaps = np.flatnonzero(~finite)
    if len(gaps):
        after = np.searchsorted(gaps, kept[:-1], side="right")  # the first gap behind each kept entry
        inside = after < len(gaps)
        inside[inside] = gaps[after[inside]] < kept[1:][inside]
        # Next to a kept gap another one says nothing.
        inside &= finite[kept[:-1]] & finite[kept[1:]]
        kept = np.unique(np.concatenate((kept, gaps[after[inside]])))
    return x[kept], y[kept]


def _first_of_lowest(columns: NDArray[np.int64], values: Array, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each column (they do not decrease) the place of the first of its lowest values."""
    if not len(columns):
        return places
    starts = np.flatnonzero(np.diff(columns, prepend=columns[0] - 1))
    lowest = np.minimum.reduceat(values, starts)
    lengths = np.diff(starts, append=len(columns))
    hits = np.flatnonzero(values == np.repeat(lowest, lengths))
    return places[hits[np.unique(columns[hits], return_index=True)[1]]]


def blocks(steps: ArrayLike, values: ArrayLike, count: int) -> list[tuple[float, float, float, float, float]]:
    """The series in `count` parts of equally many entries: (first step, last step, lowest, mean, highest).

    Of the finite values of each part; NaN where it has none. Fewer parts where there are fewer entries.
    """
    x, y = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    parts = []
    for part in np.array_split(np.arange(len(x)), min(count, len(x))) if len(x) else []:
        seen = y[part][np.isfinite(y[part])]
        low, mean, high = (float(seen.min()), float(seen.mean()), float(seen.max())) if len(seen) else (np.nan,) * 3
        parts.append((float(x[part[0]]), float(x[part[-1]]), low, mean, high))
    return parts
