"""The steps are too long: each one leaves its own batch worse than it found it.

## What it means
The gradient says how the loss changes for short steps. Beyond 2 over the curvature a step lands higher on the other side
of the valley. With a learning rate above that the loss jumps, oscillates, or throws the weights where nothing moves any
more: units dead or saturated, a loss far above chance or stuck exactly at it.

## What is seen
At some steps the same batch is evaluated again after the update, with the same random numbers. The loss of that batch is
higher than before, although a tenth or a hundredth of the very same update would have lowered it. This happens at half or
more of the probed steps, or in the first steps already by more than the whole level of chance, and the loss has not come
back since.

## Why training gets stuck
Each step overshoots in the steepest directions and undoes what was gained in all others. One single step of that kind at
the start can end a training: ReLUs that are pushed below zero for every input have no gradient and never return.

## Fix
Divide the learning rate by 10, then by 100; warm it up over the first hundred steps; clip the gradient norm.

## Not to be confused with
Training at the edge of stability, where full-batch descent overshoots at every second step and still learns: silent while
the loss falls. A few steps at the start that were too long, after which none is. Inputs that are not normalised (D203) or
weights drawn too large (I602) make an ordinary rate too high: then they are named first. A backward that is not the
derivative of the loss (G306) makes every step length wrong.

## References
J. Cohen et al., Gradient descent on neural networks typically occurs at the edge of stability, ICLR 2021. Y. LeCun et al.,
Efficient BackProp, 1998, section 5 (the largest stable rate is 2 over the largest curvature).
"""

from __future__ import annotations

import math

import numpy as np

from unstuck import symptom
from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules import levels
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Probe
from unstuck.trace.trace import Trace

CODE = "S501"
NEEDS = ("probes",)
EXPLAINS = ("I603", "I604", "G304", "G303", "N701", "D207", "I605", "S503", "W103", "G305", "U408", "I602")
EARLY = 6  # the first steps, before which nothing but the initialisation has an effect


def check(trace: Trace) -> Finding | None:
    state = symptom.of(trace)
    if state.learns or (not state.judged and state.name != "non-finite"):
        return None
    probes = [p for p in trace.facts.probes if math.isfinite(p.before)]
    over = [p for p in probes if levels.too_long(p)]
    if not over:
        return None
    level = levels.chance(trace)
    moved = [p for p in probes if levels.too_long(p) or _moved(p, level)]
    # A step that is short enough improves its own batch to first order, so each overshoot is a fact and not chance; half
    # of the steps that did anything is where they undo each other (an oscillation overshoots at every second step).
    often = len(over) >= 2 and 2 * len(over) >= len(moved) and not (level is None and _recovered(trace, over, moved))
    if state.name == "learning" and not any(levels.too_long(p) for p in probes[len(probes) // 2 :]):
        return None  # it has recovered: steps of this length do not keep it from what is still missing
    # Thrown away in the first steps: the loss rose by more than chance, or (where the loss is bounded) it rose at all beyond
    # the band and hardly anything has moved since: dead or saturated units.
    since = [p for p in probes if p.step > EARLY]
    still = bool(since) and level is not None and sum(abs(_rise(p)) < 0.1 * levels.BAND * level for p in since) >= 0.8 * len(since)
    height = (levels.BAND if still else 1.0) * (level or math.inf)
    rest = min(v for v in (level, state.base_rate, math.inf) if v)  # what is known without looking at the inputs
    thrown = [p for p in over if p.step <= EARLY and _rise(p) > height] if _never_back(trace, rest) else []
    if not often and not thrown:
        return None
    worst = max(thrown or [p for p in over if levels.overshot(p)] or over, key=_rise)
    optimizer = next((o for o in trace.facts.optimizers if o.steps), None)
    rate = next((v for v in (optimizer.lr_largest, optimizer.lr_first) if v), None) if optimizer is not None else None
    shorter = [(float(f), v) for f, v in worst.scan.items() if v is not None and math.isfinite(v) and float(f) < 1]
    factor, best = min(shorter, key=lambda item: item[1], default=(0.1, math.nan))
    text = "not a number" if worst.after is None or not math.isfinite(worst.after) else f"{worst.after:.4g} nats"
    return Finding(
        CODE,
        "learning-rate-too-high",
        "likely",
        "The steps are too long: the loss of a batch is higher after the update that was to lower it"
        + (f" (learning rate {rate:g})." if rate else "."),
        bearing="hinders",
        evidence=[
            Evidence(
                f"Step {worst.step} took the loss of its own batch from {worst.before:.4g} nats to {text}; "
                + (
                    f"{factor:g} times the same update gives {best:.4g} nats." if shorter
                    else f"to first order it would have won {worst.predicted:.4g} nats, more than there was to win."
                ),
                value=_rise(worst), unit="nats", source="probe",
            ),
            Evidence(
                f"{len(over)} of {len(moved)} probed steps made their own batch worse, or promised more than the whole loss"
                + (f", by more than chance ({level:.4g} nats) in the first steps." if thrown and level else "."),
                value=len(over), unit="steps", source="probe",
            ),
        ],
        locations=sites(*((optimizer.made, optimizer.scheduler) if optimizer is not None else ())),
        fix=Fix(
            f"Try {rate * factor:.2g}, a {1 / factor:.0f}th of the learning rate." if rate else "Divide the learning rate by 10.",
            "unsafe",
            intervention=Intervention("scale-learning-rate", {"factor": factor}),
        ),
        separating="Train with the learning rate times 0.1 and times 0.01, everything else as it is.",
    )  # fmt: skip


def _moved(probe: Probe, level: float | None) -> bool:
    """Could this step do anything? Of a network whose units are dead or saturated the steps are neither long nor short."""
    if probe.after is None:
        return False
    return abs(probe.after - probe.before) > (levels.BAND * level if level else levels.resolution(probe))


def _rise(probe: Probe) -> float:
    return math.inf if probe.after is None or not math.isfinite(probe.after) else probe.after - probe.before


def _never_back(trace: Trace, level: float | None) -> bool:
    """Was the loss at or above chance (to the band) in the second half of the run?"""
    loss = trace.series["loss"]
    later = loss[len(loss) // 2 :]
    later = later[~np.isnan(later)]
    if level is None:
        return False
    return not len(later) or bool(np.median(later) > (1 - levels.BAND) * level) or levels.broke(trace)


def _recovered(trace: Trace, over: list[Probe], moved: list[Probe]) -> bool:
    """Did only the first steps overshoot, and has the loss come down since from where it began?

    Probes are dense at the start, so half of all probes may lie in the first six steps. Asked where no level is known,
    because nothing else tells there that the loss falls.
    """
    later = [p for p in moved if p.step > EARLY]
    if not later or 2 * sum(p in over for p in later) >= len(later):
        return False
    loss = trace.series["loss"][len(trace.series) // 2 :]
    loss = loss[~np.isnan(loss)]
    began = moved[0].before
    return bool(len(loss)) and bool(np.median(loss) < (1 - levels.BAND) * began) and not levels.broke(trace)


def in_order(trace: Trace) -> str:
    ratios = [r for p in trace.facts.probes if (r := levels.trust(p)) is not None]
    if not ratios or min(ratios) < 0:
        return ""
    return f"trust ratio {min(ratios):.2g} to {max(ratios):.2g} over {len(ratios)} probes: steps neither too long nor empty"


def sick() -> Trace:
    trace = synthetic.training(state="above-chance")
    trace.facts.probes = [Probe(n, 4.0, 4.0, 5.5, 3.0, {"0.1": 3.8, "0.01": 3.97}) for n in (1, 2, 10, 50)]
    return trace


def healthy() -> Trace:
    trace = synthetic.training(state="learning")
    trace.facts.probes = [Probe(n, 1.5, 1.5, 1.45, 0.05) for n in (1, 2, 10, 50)]
    return trace
