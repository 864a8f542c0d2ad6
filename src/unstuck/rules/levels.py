"""Reading the level of a training: chance, the first losses, what the gradients promised, steps that were too long."""

from __future__ import annotations

import math

import numpy as np

from unstuck import symptom
from unstuck.trace.facts import LayerLook, Probe
from unstuck.trace.trace import Series, Trace

BAND = 0.02  # of chance: within it a loss counts as not moved, here as in the symptom
DIGITS = 1e-4  # relative: below it two losses in float32 are the same number
FIRST = 5  # recorded steps that are called the first ones


def chance(trace: Trace) -> float | None:
    """The level of the uniform predictor in nats, where it is known."""
    known = symptom.of(trace).chance
    if known is None:
        measured = trace.series.measured("chance")
        known = float(measured.mean()) if len(measured) else None
    return known if known is not None and math.isfinite(known) and known > 0 else None


def steps(trace: Trace) -> int:
    """Optimizer steps of the run."""
    return max(trace.facts.loop.steps, int(trace.series.steps[-1]) if len(trace.series) else 0)


def not_finite(series: Series) -> np.ndarray:
    """Rows whose loss was looked at and was NaN or infinite; NaN alone also means that nobody looked."""
    loss = series["loss"]
    return np.isinf(loss) | (np.isnan(loss) & np.isfinite(series["chance"]))


def broke(trace: Trace) -> bool:
    """Was a loss, a weight or a gradient seen that is NaN or infinite?"""
    first = trace.facts.nonfinite
    return bool(not_finite(trace.series).any()) or (first is not None and first.what != "input") or (
        symptom.of(trace).name == "non-finite"
    )


def first_loss(trace: Trace) -> float | None:
    """Mean of the first few recorded losses; infinite where one of them was not a number."""
    series = trace.series
    seen = np.flatnonzero(~np.isnan(series["loss"]) | not_finite(series))[:FIRST]
    if not len(seen):
        return None
    values = series["loss"][seen]
    return float(values.mean()) if np.isfinite(values).all() else math.inf


def promised(trace: Trace) -> float | None:
    """First-order decrease <g, -delta theta> of all steps of the run: the mean of the measured ones times the steps."""
    measured = trace.series.measured("predicted")
    measured = measured[np.isfinite(measured)]
    return float(measured.mean()) * steps(trace) if len(measured) else None


def resolution(probe: Probe) -> float:
    """The least change of this probe's loss, in nats, that is not rounding."""
    return DIGITS * max(1.0, abs(probe.before))


def fifths(trace: Trace) -> tuple[float, float, float] | None:
    """Medians of the first, the middle and the last fifth of the finite losses; None for fewer than five."""
    loss = trace.series.measured("loss")
    loss = loss[np.isfinite(loss)]
    if len(loss) < 5:
        return None
    start, middle, end = (float(np.median(part)) for part in np.array_split(loss, 5)[::2])
    return start, middle, end


def overshot(probe: Probe) -> bool:
    """Did the step raise the loss of its own batch, where a shorter step of the same direction lowers it?"""
    if not math.isfinite(probe.before):
        return False
    same = resolution(probe)
    shorter = [v for factor, v in probe.scan.items() if 0 < float(factor) < 1 and v is not None and math.isfinite(v)]
    # Shorter steps are tried where the whole one did not help; what it gave is not kept where it was not a number.
    worse = probe.after is None or not math.isfinite(probe.after) or probe.after - probe.before > same
    return worse and any(value < probe.before - same for value in shorter)


def too_long(probe: Probe) -> bool:
    """Did the step overshoot, or did the gradient promise more than the whole loss and keep less than a tenth of it?

    A loss that cannot be negative cannot fall by more than itself: such a step is far outside the range in which the
    gradient says anything.
    """
    if overshot(probe):
        return True
    after = probe.after if probe.after is not None and math.isfinite(probe.after) else None
    return (
        probe.predicted is not None and after is not None and probe.before > 0
        and probe.predicted > probe.before and probe.before - after < 0.1 * probe.predicted
    )  # fmt: skip


def trust(probe: Probe) -> float | None:
    """Trust ratio: what the step won on its own batch over what it promised to first order; None where that is within rounding."""
    if probe.after is None or not math.isfinite(probe.after) or not (probe.predicted or 0.0) > resolution(probe):
        return None
    return known((probe.before - probe.after) / (probe.predicted or math.nan))


def looks(seen: list[LayerLook], name: str) -> list[float]:
    """The measured values of one field of a layer's looks."""
    values = [getattr(look, name) for look in seen]
    return [float(v) for v in values if v is not None and math.isfinite(v)]


def known(value: float | None) -> float | None:
    """The number, or None where it is NaN or infinite."""
    return value if value is not None and math.isfinite(value) else None
