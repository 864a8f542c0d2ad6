"""Is there anything to learn? The probes on the captured (input, label) pairs, worked out once per trace."""

from __future__ import annotations

from typing import Any

import numpy as np

from unstuck.trace.trace import Trace

GAP = 0.1  # of chance: five times the band in which a loss counts as not moved
BUDGET = 5.0  # seconds of one core, after the training has ended


def learnable(trace: Trace) -> Any:
    """`stats.dependence.examine` on the captured pairs; None where there are none."""
    pairs = trace.pairs
    if pairs is None or not len(pairs.y) or not pairs.x.shape[1]:
        return None
    if "learnable" not in trace.known:
        from unstuck.stats import dependence  # heavy: scipy, and only a few rules ask

        trace.known["learnable"] = dependence.examine(pairs.x, pairs.y, kind=pairs.kind, budget=BUDGET)
    return trace.known["learnable"]


def whitened(trace: Trace) -> Any:
    """`learnable` on the same rows along the principal directions of their columns, each scaled to variance 1: what a linear
    classifier reaches where neither scales nor correlations of the columns stand in its way. None where x is not real."""
    pairs = trace.pairs
    if pairs is None or pairs.kind != "real" or not len(pairs.y) or not pairs.x.shape[1]:
        return None
    if "whitened" not in trace.known:
        from unstuck.stats import dependence

        z = np.asarray(pairs.x, dtype=np.float64)
        finite = np.isfinite(z).all(1)
        z = z[finite] - z[finite].mean(0)
        values, vectors = np.linalg.eigh(z.T @ z / max(1, len(z)))
        keep = values > 1e-12 * values[-1]  # below, float32's own rounding is all there is
        z = z @ vectors[:, keep] / np.sqrt(values[keep])
        trace.known["whitened"] = dependence.examine(z, pairs.y[finite], budget=BUDGET) if z.shape[1] else None
    return trace.known["whitened"]


def clearly_better(probe: Any, loss: float, level: float) -> bool:
    """Does this classifier reach less than the network's loss, by a tenth of chance and twice its own uncertainty?"""
    return probe is not None and loss - probe.loss > GAP * level + 2 * probe.gain_error


def linear_probe(learn: Any) -> Any:
    """The logistic regression among the classifiers of `learnable`; None where it was not run or nothing was found."""
    return next((p for p in learn.probes if "logistic" in p.name), None) if learn is not None and learn.found else None


def shifted(trace: Trace) -> Any:
    """`stats.dependence.offsets` on the captured pairs, in the order seen and inside batches; None where there are none."""
    pairs = trace.pairs
    if pairs is None or not len(pairs.y) or not pairs.x.shape[1]:
        return None
    if "shifted" not in trace.known:
        from unstuck.stats import dependence

        trace.known["shifted"] = dependence.offsets(pairs.x, pairs.y, kind=pairs.kind, batch=pairs.batch)
    return trace.known["shifted"]
