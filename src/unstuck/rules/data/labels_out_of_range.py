"""Labels lie outside of the range that the loss is defined for.

## What it means
Class indices must be 0, 1, ..., K-1 for K outputs (and ignore_index). Targets of a binary cross-entropy must lie in
[0, 1]. Here labels count from 1, are negative (a failed look-up, a code for "unknown"), or are -1 and +1, or 1 and 2.

## What is seen
Labels below 0 or not below the number of outputs that are not ignore_index; or targets of a binary cross-entropy below
0 or above 1; or the loss raised an out-of-bounds error.

## Why training gets stuck
On the CPU the loss raises; on a GPU a device-side assert ends the process with a message about something else. With
negative indices in hand-written code, the wrong class is rewarded. A binary cross-entropy with target 2 or -1 has no
lower bound: the logits run away.

## Fix
Encode the labels as 0..K-1 (subtract the smallest, or use a mapping that fails on unknown names); for binary losses
map to 0 and 1. Mark rows without a label with ignore_index.

## Not to be confused with
More distinct labels than outputs, counted from 0: the head is too narrow (W108). The padding label ignore_index. Hinge
and soft-margin losses, which want -1 and +1. Outputs outside [0, 1] (W111).

## References
torch.nn.CrossEntropyLoss: "class indices in the range [0, C)"; torch.nn.BCEWithLogitsLoss: "targets t[i] should be
numbers between 0 and 1".
"""

from __future__ import annotations

import re

from unstuck.findings import Evidence, Finding, Fix
from unstuck.rules.paths import more_classes, sites
from unstuck.trace import synthetic
from unstuck.trace.facts import LabelStats, LossTerm, Raised
from unstuck.trace.trace import Trace

CODE = "D201"
NEEDS = ()
EXPLAINS = ("N701", "W111")

_MESSAGE = re.compile(r"out[ -]of[ -]bounds|device-side assert|t >= 0 && t < n_classes", re.IGNORECASE)
_INDEX = frozenset({"cross-entropy", "nll"})
_BINARY = frozenset({"bce", "bce-logits"})
_SLACK = 1e-6


def check(trace: Trace) -> Finding | None:
    facts = trace.facts
    error = next((e for e in facts.exceptions if e.phase == "loss" and _MESSAGE.search(e.message)), None)
    for term in facts.terms:
        text = ""
        if term.kind in _INDEX:
            text = _indices(term)
        elif term.kind in _BINARY:
            text = _targets(term)
        if text:
            return _finding(term, text, error)
    if error is None or any(_too_many(t) for t in facts.terms) or any(t.labels.kept for t in facts.terms):
        return None  # the labels themselves were seen, and are another rule's
    return _finding(facts.term, "", error)


def _indices(term: LossTerm) -> str:
    labels, classes = term.labels, term.classes
    if not labels.outside or not classes or labels.lowest is None or labels.highest is None or _too_many(term):
        return ""
    low, high = int(labels.lowest), int(labels.highest)
    seen = f"{labels.outside} of {labels.kept} labels are outside 0..{classes - 1}: "
    if low < 0:
        return seen + f"the smallest is {low}, and ignore_index is {term.ignore_index}."
    if low >= 1 and high == classes:
        return seen + f"they go from {low} to {high} for {classes} outputs, so they seem to count from 1."
    return seen + f"the largest is {high} for {classes} outputs."


def _targets(term: LossTerm) -> str:
    labels = term.labels
    if labels.lowest is None or labels.highest is None or _too_many(term):
        return ""
    if labels.lowest >= -_SLACK and labels.highest <= 1 + _SLACK:
        return ""
    if labels.distinct and not labels.many_distinct and len(labels.distinct) <= 8:
        values = " and ".join(f"{v:g}" for v in labels.distinct)
        return f"The targets of the binary cross-entropy are {values}; they must lie in [0, 1]."
    span = f"{labels.lowest:g} to {labels.highest:g}"
    return f"The targets of the binary cross-entropy go from {span}; they must lie in [0, 1]."


def _too_many(term: LossTerm) -> bool:
    """More classes in the labels than the head has outputs: W108's."""
    labels, classes = term.labels, term.classes or 0
    if labels.lowest is None or labels.highest is None or labels.lowest < 0:
        return False
    distinct = sorted(labels.distinct)
    if term.kind in _BINARY:
        return classes == 1 and labels.kind == "integer" and (labels.many_distinct or len(distinct) > 2)
    return more_classes(labels, classes)


def _finding(term: LossTerm | None, text: str, error: Raised | None) -> Finding:
    evidence = []
    labels = term.labels if term is not None else LabelStats()
    if text:
        evidence.append(Evidence(text, value=labels.outside_example, source="values"))
    if error is not None:
        evidence.append(Evidence(f"The loss call raised {error.type}: {error.message}", source="exception"))
    binary = term is not None and term.kind in _BINARY
    wanted = "[0, 1]" if binary else f"0..{term.classes - 1}" if term is not None and term.classes else "the classes"
    return Finding(
        CODE,
        "labels-out-of-range",
        "certain",
        f"Labels are outside of {wanted}, the range of the loss.",
        bearing="blocks" if error is not None and error.fatal else "hinders",
        evidence=evidence,
        locations=sites(term.site if term is not None else None, error.site if error is not None else None),
        fix=Fix(
            "Encode the targets as 0 and 1."
            if binary
            else "Encode the labels as 0..K-1 for K outputs; give rows without a label the ignore_index."
        ),
    )


def in_order(trace: Trace) -> str:
    term = trace.facts.term
    if term is None or term.labels.kind != "index" or not term.classes or not term.labels.kept or term.labels.outside:
        return ""
    low, high = int(term.labels.lowest or 0), int(term.labels.highest or 0)
    return f"labels {low} to {high} for {term.classes} outputs over {term.labels.kept} rows"


def sick() -> Trace:
    labels = LabelStats(
        "index", rows=64, kept=64, calls=1, lowest=1.0, highest=5.0, distinct=[1.0, 2.0, 3.0, 4.0, 5.0], outside=13,
        outside_example=5.0,
    )  # fmt: skip
    trace = synthetic.training(synthetic.cross_entropy(labels=labels), state="at-chance", steps=1)
    trace.facts.exceptions = [
        Raised("IndexError", "Target 5 is out of bounds.", "loss", synthetic.site(41, "loss = criterion(out, y)"), True)
    ]
    return trace


def healthy() -> Trace:
    return synthetic.training(state="learning")
