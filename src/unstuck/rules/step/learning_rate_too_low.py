"""The steps are too short: over the whole run they could not move the loss by more than a fiftieth of chance.

## What it means
To first order a step lowers the loss by the product of gradient and update. Where steps are short this is not an
approximation but what happens, step by step, and the sum over the run is all the training can win.

## What is seen
That sum is below 2 % of the chance level. The same batch evaluated again after the update shows the predicted decrease
(trust ratio about 1), and a hundred times the same update wins thirty times as much or more: the step is far from the
length at which the loss would stop following the gradient.

## Why training gets stuck
It does not: it has not begun. At this rate the run would take hundreds of times as many steps.

## Fix
Multiply the learning rate by 10, then by 100; usual values are 1e-3 for Adam and 1e-2 to 1e-1 for SGD.

## Not to be confused with
A rate that is 0 or has decayed to nothing (U407). A warm-up that is still rising: too early to say. Gradients that
vanish on their way (G303), dead units (I603) or a clipping threshold (G305), which make the same rate too short: then they
are named first. Fine-tuning at 1e-5 that improves.

## References
J. Nocedal, S. Wright, Numerical Optimization, chapter 4 (the ratio of actual to predicted decrease).
"""

from __future__ import annotations

import math

import numpy as np

from unstuck import symptom
from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules import levels
from unstuck.rules.paths import next_op, sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Optimizer, Probe
from unstuck.trace.trace import Trace

CODE = "S502"
NEEDS = ("probes", "predicted")
EXPLAINS = ("D207", "I605", "S505")
LONGER = 100.0  # a step that many times as long is tried
STRAIGHT = 0.3  # of what a straight line would give: at half the largest stable step it is 1/2, at that step 0
RESOLUTION = 1e-5  # relative: a change of the loss below this cannot be told from rounding in float32


def check(trace: Trace) -> Finding | None:
    state = symptom.of(trace)
    if not state.judged or state.learns or state.name in {"diverging", "non-finite"}:
        return None
    level, total = levels.chance(trace), levels.promised(trace)
    first = levels.first_loss(trace)
    if level is not None and first is not None and math.isfinite(first):
        level = max(level, first)  # a start above chance has more to win, and the band is a share of it
    optimizer = next((o for o in trace.facts.optimizers if o.steps), None)
    needed = levels.BAND * level if level is not None else 0.0
    if total is None or not 0 < total < needed or not total * _squashed(trace, optimizer) < needed:
        return None
    largest = optimizer.lr_largest if optimizer is not None else None
    if optimizer is not None and (not largest or (optimizer.lr_last or 0.0) < 1e-3 * largest):
        return None  # zero or decayed: U407
    rates = trace.series.measured("lr")
    if len(rates) > 1 and rates[-1] >= rates.max() and rates[0] < 0.5 * rates[-1]:
        return None  # still warming up
    reach = [r for p in trace.facts.probes if (r := _reach(p)) is not None]
    # Most probes must show it; where even the longer step is below the resolution of the loss, nothing speaks against it.
    if not reach or np.median(reach) < STRAIGHT:
        return None
    shown = next((p for p in trace.facts.probes if _known(p.after) and _known(p.scan.get("100"))), None)
    steps = levels.steps(trace)
    evidence = [
        Evidence(
            f"The first-order decrease of all {steps} steps together is {total:.2g} nats, of a loss of {level:.4g}.",
            value=total, unit="nats", source="statistics",
        )
    ]  # fmt: skip
    if shown is not None:
        after, far = shown.after or 0.0, shown.scan["100"] or 0.0
        evidence.append(
            Evidence(
                f"Step {shown.step} lowered the loss of its own batch by {max(shown.before - after, 0):.2g} "
                f"nats; a hundred times the same update lowers it by {shown.before - far:.2g} nats.",
                value=shown.before - far, unit="nats", source="probe",
            )
        )  # fmt: skip
    return Finding(
        CODE,
        "learning-rate-too-low",
        "likely",
        f"The steps are too short: all {steps} together can win {total:.2g} nats"
        + (f" (learning rate {largest:g})." if largest else "."),
        bearing="hinders",
        evidence=evidence,
        locations=sites(*((optimizer.made, optimizer.scheduler) if optimizer is not None else ())),
        fix=Fix(
            f"Try {100 * largest:.2g}, a hundred times the learning rate." if largest else "Multiply the learning rate by 100.",
            "unsafe",
            intervention=Intervention("scale-learning-rate", {"factor": LONGER}),
        ),
        separating="Train with the learning rate times 10 and times 100, everything else as it is.",
    )


def _squashed(trace: Trace, optimizer: Optimizer | None) -> float:
    """How much more the same steps would promise without a softmax or sigmoid in front of a loss that has its own (W101, W102).

    A softmax that is nearly uniform multiplies the gradient by 1 / K, a sigmoid by 1/4 at most; steps in proportion to the gradient
    (not Adam's) lose the same factor once more. Steps that are short for that reason alone need no other fix.
    """
    term = trace.facts.term
    node = next_op(term.path) if term is not None and term.kind in {"cross-entropy", "soft-cross-entropy", "bce-logits"} else None
    factor = 1.0
    if term is not None and node is not None:
        factor = float(term.classes or 1) if node.op == "softmax" else 4.0 if node.op == "sigmoid" else 1.0
    return factor if optimizer is not None and optimizer.adaptive else factor**2


def _known(value: float | None) -> bool:
    return levels.known(value) is not None


def _reach(probe: Probe) -> float | None:
    """What the hundredfold update wins, over a hundred times the predicted decrease."""
    far = probe.scan.get("100")
    if probe.predicted is None or not probe.predicted > 0:
        return None
    expected = LONGER * probe.predicted
    if expected < RESOLUTION * abs(probe.before):
        return 1.0
    if far is None or not math.isfinite(far):
        return None
    return (probe.before - far) / expected


def sick() -> Trace:
    trace = synthetic.training(state="at-chance")
    trace.facts.probes = [Probe(n, 1.6, 1.6, 1.59999, 1e-5, {"10": 1.5999, "100": 1.59902}) for n in (1, 2, 10, 50)]
    trace.series.columns["predicted"][::10] = 1e-5
    return trace


def healthy() -> Trace:
    trace = synthetic.training(state="learning")
    trace.facts.probes = [Probe(n, 1.5, 1.5, 1.45, 0.05) for n in (1, 2, 10, 50)]
    return trace
