"""What every adapter says of arrays it has seen: inputs and real-valued targets. Numpy only."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from unstuck.trace.facts import Inputs, LabelStats


def summarise(record: Inputs, x: np.ndarray, most: int) -> None:
    """Statistics of captured rows [rows, columns] into `record`; different rows are counted among the first `most`."""
    record.distinct_rows = len({row.tobytes() for row in np.ascontiguousarray(x[:most])})
    with np.errstate(all="ignore"):
        z = x.astype(np.float64)
        good = np.isfinite(z)
        if not good.any():
            return
        record.lowest, record.highest = float(z[good].min()), float(z[good].max())
        if record.kind == "ids":
            record.constant_columns = float((x == x[:1]).all(0).mean()) if len(x) > 1 else None
            return
        record.mean, record.rms = float(z[good].mean()), float(np.sqrt(np.square(z[good]).mean()))
        z[~good] = np.nan
        if len(z) > 1:
            varying = ~np.all((x == x[:1]) | ~good, axis=0)
            record.constant_columns = float(1 - varying.mean())
            if varying.any():
                std = np.nanstd(z[:, varying], axis=0)
                record.column_std_low, record.column_std_mid, record.column_std_high = (
                    float(v) for v in (np.nanmin(std), np.nanmedian(std), np.nanmax(std))
                )
                record.column_mean_high = float(np.nanmax(np.abs(np.nanmean(z[:, varying], axis=0))))


def write_pairs(path: Path, arrays: list[list[np.ndarray]], labels: list[np.ndarray], batches: list[np.ndarray]) -> None:
    """The captured (input, label) pairs as one .npz, whole or not at all. arrays: for each input of the model its parts [rows,
    columns], float32 or int64; labels, batches: parts [rows], ignored labels the smallest int64. Raises OSError."""
    y, batch = np.concatenate(labels), np.concatenate(batches)
    usable = [p for p in arrays if p and sum(map(len, p)) == len(y) and len({q.shape[1] for q in p}) == 1]
    real = [np.concatenate(p) for p in usable if p[0].dtype == np.float32]
    ids = [np.concatenate(p) for p in usable if p[0].dtype == np.int64]
    x = np.concatenate(real, axis=1) if real else np.concatenate(ids, axis=1) if ids else np.zeros((len(y), 0), np.float32)
    keep = y != np.iinfo(np.int64).min
    with open(path.with_suffix(".part"), "wb") as file:
        np.savez(
            file, x=x[keep], y=y[keep], batch=batch[keep],
            kind=np.array("real" if real or not ids else "ids"), columns=np.array(x.shape[1]),
        )  # fmt: skip
    os.replace(path.with_suffix(".part"), path)


def seen_targets(stats: LabelStats, t: np.ndarray) -> None:
    """Range, distinct values and kind of targets [rows, columns], rows > 0, added to what was seen before."""
    low, high = float(t.min()), float(t.max())
    stats.lowest = low if stats.lowest is None else min(stats.lowest, low)
    stats.highest = high if stats.highest is None else max(stats.highest, high)
    if not stats.many_distinct and (stats.calls <= 64 or stats.calls % 16 == 0):
        seen = set(stats.distinct) | set(np.unique(t)[:40].tolist())
        stats.many_distinct = len(seen) > 32
        stats.distinct = sorted(seen)[:33]
        stats.kind = target_kind(stats, t)


def target_kind(stats: LabelStats, t: np.ndarray) -> str:
    """one-hot, probability, binary, integer, real; a kind once lost does not come back."""
    order = ["one-hot", "binary", "integer", "probability", "real"]
    if stats.many_distinct or any(v != round(v) for v in stats.distinct):
        sums = t.sum(1)
        soft = t.shape[1] > 1 and stats.lowest is not None and stats.lowest >= 0 and bool(np.allclose(sums, 1, atol=1e-4))
        kind = "probability" if soft else "real"
    elif set(stats.distinct) <= {0.0, 1.0}:
        kind = "one-hot" if t.shape[1] > 1 and bool((t.sum(1) == 1).all()) else "binary"
    else:
        kind = "integer"
    return max((kind, stats.kind or kind), key=order.index) if stats.kind in order else kind
