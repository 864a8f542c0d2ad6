"""The labels do not belong to the inputs they are paired with.

## What it means
Inputs and labels were shuffled apart, shifted by a row, sorted separately, or read from columns that do not belong together.
There is nothing to learn but the base rates.

## What is seen
On the (input, label) pairs of this training no relation is found by an exact permutation test over linear, smooth and
neighbourhood statistics; how strong a relation would have been found is stated. Or a relation is found when the labels are
shifted by some rows, and not where they are: then the shift is named.

## Why training gets stuck
The best answer is the same for every input, and the loss sits at the entropy of the labels. A large network may learn the
pairs by heart; on new data it is at chance.

## Fix
Shuffle inputs and labels with the same permutation; keep them in one data set; shift them back.

## Not to be confused with
Labels that depend on the inputs in a way these tests are blind to: the parity of many bits. On inputs whose columns are
independent of each other (random bits) silence is therefore no proof: the finding is then only possible. Too few samples:
said, not guessed. A hard task with a weak relation: the test finds it, or states the strength it would have found.

## References
P. Good, Permutation, Parametric and Bootstrap Tests of Hypotheses, 2005. C. Zhang et al., Understanding deep learning
requires rethinking generalization, ICLR 2017.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from unstuck import symptom
from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules import levels
from unstuck.rules.learnable import learnable, shifted
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Inputs
from unstuck.trace.trace import Pairs, Trace

CODE = "D202"
NEEDS = ("pairs",)
EXPLAINS = ("I605", "I606", "S505", "D207", "S502", "S501")
COSTLY = True
FEWEST = 5  # steps that show whether a loss falls
PASSES = 3  # passes over the data after which learning by heart could show


def check(trace: Trace) -> Finding | None:
    if not _asked(trace):
        return None
    learn = learnable(trace)
    if learn is None or learn.classes < 2 or not learn.columns or learn.found:
        return None
    learns = symptom.of(trace).learns
    evidence: list[Evidence] = []
    grade = "likely"
    shift = shifted(trace)
    if not learn.enough and (shift is None or not shift.shift):
        return None  # that nothing was found says nothing here; a shift that is found needs no power
    if shift is not None and shift.shift:
        summary = f"The labels belong to the inputs {abs(shift.shift)} row{'s' if abs(shift.shift) > 1 else ''} " + (
            "earlier." if shift.shift > 0 else "later."
        )
        evidence.append(Evidence(shift.sentence(), float(shift.shift), "rows", "statistics"))
        fix = Fix(
            f"Shift the labels by {-shift.shift} rows against the inputs, or find where the pairs came apart.",
            # y[i + offset] belongs to x[i], over the rows in the order seen (open, cyclic) or inside each batch.
            intervention=Intervention("shift-labels", {"offset": shift.shift, "way": shift.way}),
        )
    else:
        summary = "The labels have nothing to do with the inputs they are paired with."
        grade = "likely" if learn.absent else "possible"
        fix = Fix("Shuffle and slice inputs and labels together; look at a few pairs where they are read and where they enter.")
    evidence.append(Evidence(learn.sentence(), learn.p_value, "p", "statistics"))
    if grade == "possible":
        evidence.append(Evidence(learn.cap, source="statistics"))
    return Finding(
        CODE,
        "labels-unrelated-to-inputs",
        grade,
        summary,
        bearing="blocks",
        shown=learns,  # by heart: what it learns is not what the inputs say
        evidence=evidence,
        locations=sites(*(x.site for x in trace.facts.loaders if x.taken), *(x.made for x in trace.facts.loaders if x.taken),
                        *(i.site for i in trace.facts.inputs)),
        fix=fix,
        separating="Train a small network on pairs that were checked by eye.",
    )  # fmt: skip


def _asked(trace: Trace) -> bool:
    """Is the training not learning, or did it begin to learn only when it saw rows again (by heart)?"""
    state = symptom.of(trace)
    if not state.judged or state.name in {"non-finite", "diverging", "no-training"}:
        return False
    return not state.learns or _by_heart(trace)


def _by_heart(trace: Trace) -> bool:
    """Rows came again, several times, and the loss did not fall before they did.

    Where a pass is too short to show that, nothing but the absence of a relation would speak for it, and of a training that learns
    that is not enough: it may have found what these statistics are blind to (whether two inputs are alike).
    """
    given = _given(trace)
    if given is None or levels.steps(trace) < PASSES * _steps_once(given) or given.distinct_rows >= given.rows:
        return False
    skill, level = _first_pass(trace), levels.chance(trace)
    return skill is not None and level is not None and skill < levels.BAND * level


def _first_pass(trace: Trace) -> float | None:
    """Nats won against the base rates while rows were new, in the second half of that time; None with under five steps."""
    given = _given(trace)
    if given is None:
        return None
    early = trace.series.where(trace.series.steps <= _steps_once(given))
    skill = early["base"] - early["loss"]
    skill = skill[np.isfinite(skill)]
    return float(skill[len(skill) // 2 :].mean()) if len(skill) >= FEWEST else None


def _given(trace: Trace) -> Inputs | None:
    return next((i for i in trace.facts.inputs if i.distinct_rows and i.calls and i.rows), None)


def _steps_once(given: Inputs) -> float:
    """Steps after which every row was seen once."""
    # Of sequences the captured rows are contexts, many of them alike: the set they were cut from says when it is through.
    return (given.part_of or given.distinct_rows) / max((given.shape or [1])[0], 1)


def in_order(trace: Trace) -> str:
    known: Any = trace.known.get("learnable")
    return str(known.sentence()) if known is not None and known.classes >= 2 else ""


def _example(state: str, related: bool) -> Trace:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 600)
    x = (rng.standard_normal((600, 6)) + 4 * np.eye(6)[y]).astype(np.float32)
    trace = synthetic.training(state=state)
    trace.pairs = Pairs(x, y if related else rng.permutation(y), np.arange(len(y)) // 32, columns=6)
    return trace


def sick() -> Trace:
    return _example("at-chance", related=False)


def healthy() -> Trace:
    return _example("at-chance", related=True)
