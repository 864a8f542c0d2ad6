"""What is drawn: the loss with its named levels, and what the script did with the fix and without. Data, no drawing."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from unstuck.engine import closed_form
from unstuck.findings import Finding, Symptom, Training, Verdict
from unstuck.report.html import words
from unstuck.report.html.thinning import blocks, thin
from unstuck.trace.trace import Trace

COLUMNS = 2000  # of a picture; more than a screen of 4K resolves at the width the page gives it
AVERAGED = 160  # points of the smoothed line at most
STEPS_EACH = 12  # at least that many losses in the mean that makes one of them
SMOOTHED_FROM = 240  # losses; a shorter curve shows its trend by itself
ROWS = 12  # of the table that says the same as the curve
LOGARITHMIC = 30.0  # highest over lowest drawn value from which a logarithmic scale shows more
SAME = 0.005  # of a level: closer to it a curve is said to be at it
TAIL = 50  # measured steps at the end whose mean is the level; as the symptom has it


class Level(NamedTuple):
    """A horizontal line with a name. `kind` chooses its strokes: chance, base, floor, fault, reachable."""

    kind: str
    value: float
    text: str  # beside the line: 1.6094 = ln 5: guessing
    short: str  # where there is no room for it
    meaning: str  # a sentence for the legend


class Row(NamedTuple):
    """A line of the table that stands for a curve."""

    steps: str
    lowest: str
    mean: str
    highest: str


class Chart(NamedTuple):
    """A picture, what it says in words, and its numbers as a table. `data` is what the drawing needs, ready for JSON."""

    id: str
    data: dict[str, Any]
    summary: str
    drawn: str  # how what is drawn was chosen
    levels: list[Level]
    table: list[Row]
    unit: str


def levels(training: Training) -> list[Level]:
    """The levels to compare the loss with, the highest first: those that are known, of a loss that is judged."""
    symptom = training.symptom
    found: list[Level] = []
    if not symptom.judged:
        return found
    if _known(symptom.chance):
        name = closed_form(symptom)
        guess = f"among {symptom.classes} classes" if symptom.classes and symptom.classes > 1 else "without looking"
        found.append(Level(
            "chance", symptom.chance, f"{symptom.chance:.4f}{f' = {name}' if name else ''}: guessing", f"{symptom.chance:.4f}",
            f"Chance level: what a network that only guesses {guess} scores"
            + (f". {name} is the natural logarithm of {symptom.classes}." if name else "."),
        ))  # fmt: skip
    if _known(symptom.base_rate):
        found.append(Level(
            "base", symptom.base_rate, f"{words.number(symptom.base_rate)}: label frequencies", words.number(symptom.base_rate),
            "Base-rate level: what one scores by always answering how frequent each label is, without looking at the inputs."
            if symptom.chance is not None else
            "Base level: what one scores by always answering the mean of the targets, without looking at the inputs.",
        ))  # fmt: skip
    if _known(symptom.floor):
        found.append(Level(
            "floor", symptom.floor, f"{words.number(symptom.floor)}: lowest possible", words.number(symptom.floor),
            "Lowest possible: with the options of this loss (label smoothing) even perfect answers score this.",
        ))  # fmt: skip
    for finding in training.findings:
        if _known(finding.floor) and finding.role in {"cause", "latent"}:
            name = finding.name.replace("-", " ")
            found.append(Level(
                "fault", finding.floor, f"{words.number(finding.floor)}: floor of {finding.code}", words.number(finding.floor),
                f"Floor of the suspected fault ({finding.code} {name}): while it is there, the loss cannot fall below this.",
            ))  # fmt: skip
    if _known(symptom.reachable):
        found.append(Level(
            "reachable", symptom.reachable, f"{words.number(symptom.reachable)}: within reach", words.number(symptom.reachable),
            "Within reach: what a simple classifier scores on samples of this very training (cross-validated).",
        ))  # fmt: skip
    return sorted(found, key=lambda level: -level.value)


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def loss(trace: Trace, training: Training, unit: str, id: str, columns: int = COLUMNS) -> Chart | None:
    """The loss of a training over its optimizer steps; None where no loss was measured.

    columns: of the picture, see `thin`.
    """
    series = trace.series
    values = series["loss"]
    # NaN also means that nobody looked at this step. Where its chance level was measured, somebody did.
    broken = np.isinf(values) | (np.isnan(values) & np.isfinite(series["chance"]))
    seen = np.isfinite(values) | broken
    steps, values, broken = series.steps[seen].astype(np.float64), np.where(broken, np.nan, values)[seen], broken[seen]
    finite = values[np.isfinite(values)]
    if len(finite) < 2:
        return None
    drawn_x, drawn_y = thin(steps, values, columns)
    lines = levels(training)
    shown = np.concatenate((finite, [level.value for level in lines]))
    low, high = float(shown.min()), float(shown.max())
    logarithmic = low > 0 and float(finite.max()) > LOGARITHMIC * max(float(np.median(finite)), low)
    data: dict[str, Any] = {
        "kind": "loss", "unit": unit, "log": logarithmic, "range": _range(low, high, logarithmic),
        "x": _numbers(drawn_x), "y": _numbers(drawn_y), "mean": None,
        "levels": [{"kind": x.kind, "y": x.value, "text": x.text, "short": x.short} for x in lines],
        "broken": _numbers(thin(steps[broken], np.zeros(int(broken.sum())), 100)[0]) if broken.any() else [],
        "since": _since(trace, training), "end": max(training.steps, int(series.steps[-1])),
    }  # fmt: skip
    if len(values) >= SMOOTHED_FROM:
        parts = blocks(steps, values, min(AVERAGED, len(values) // STEPS_EACH))
        data["mean"] = {
            "x": _numbers(np.array([(a + b) / 2 for a, b, *_ in parts])),
            "y": _numbers(np.array([mean for *_, mean, _ in parts])),
            "of": len(values) // len(parts),
        }
    return Chart(
        id, data, _told(steps, values, lines, unit), _drawn(len(steps), len(drawn_x), data["end"], columns), lines,
        [_row(part) for part in blocks(steps, values, ROWS)], unit,
    )  # fmt: skip


def _since(trace: Trace, training: Training) -> int | None:
    """The step after which it was not a number, where that is what is the matter."""
    if training.symptom.name != "non-finite":
        return None
    first = trace.facts.nonfinite
    return first.step if first is not None and first.step else training.symptom.since_step


def _range(low: float, high: float, logarithmic: bool) -> list[float]:
    """The span of the vertical axis, in the numbers of the axis: logarithms to base 10 on a logarithmic one."""
    if logarithmic:
        low, high = math.log10(low), math.log10(high)
    room = 0.07 * (high - low) or 0.05 * abs(high) or 0.05
    return [low - room, high + room]


def _numbers(values: np.ndarray) -> list[float | int | None]:
    """Six significant digits are finer than any screen; what is not finite becomes null, which is a gap."""
    return [None if not math.isfinite(v) else int(v) if v == int(v) else float(f"{v:.6g}") for v in values.tolist()]


def _told(steps: np.ndarray, values: np.ndarray, lines: list[Level], unit: str) -> str:
    """The curve in words: where it starts, its ends, and which level it is at."""
    finite = np.flatnonzero(np.isfinite(values))
    low, high = finite[np.argmin(values[finite])], finite[np.argmax(values[finite])]
    end = float(values[finite[-TAIL:]].mean())
    text = (
        f"From step {steps[0]:,.0f} to {steps[-1]:,.0f} the loss goes from {words.measure(float(values[finite[0]]), unit)} to "
        f"{words.measure(end, unit)} (mean of the last {min(TAIL, len(finite))} measured steps). It is lowest at step "
        f"{steps[low]:,.0f} ({words.measure(float(values[low]), unit)}) and highest at step {steps[high]:,.0f} "
        f"({words.measure(float(values[high]), unit)})."
    )
    if len(finite) < len(values):
        text += f" At {words.count(len(values) - len(finite), 'measured step')} it was not a number."
    at = [level for level in lines if abs(end - level.value) < SAME * abs(level.value)]
    near = min(lines, key=lambda level: abs(level.value - end), default=None)
    if at:
        text += f" The end is at {' and at '.join(f'“{level.text}”' for level in at)}."
    elif near is not None:
        away = end - near.value
        text += f" The end is {words.measure(abs(away), unit)} {'above' if away > 0 else 'below'} “{near.text}”."
    return text


def _drawn(seen: int, kept: int, total: int, columns: int) -> str:
    text = words.count(seen, "measured step")
    if seen < total:
        text += f" of {total:,} (the loss is not looked at in every step where steps are short)"
    if kept < seen:
        text += f"; {kept:,} of them are drawn: the lowest and the highest of each of {columns:,} columns, so no spike is lost"
    return text + "."


def _row(part: tuple[float, float, float, float, float]) -> Row:
    first, last, *three = part
    low, mean, high = (words.number(v) for v in three)
    return Row(f"{first:,.0f}" if first == last else f"{first:,.0f} to {last:,.0f}", low, mean, high)


class Gain(NamedTuple):
    """The interval of the paired gain on a scale from `left` to `right`. Positions in percent of the scale."""

    low: float
    high: float
    what: str  # skill, accuracy
    text: str
    start: float
    width: float
    zero: float
    left: str
    right: str


def proof(finding: Finding, id: str, unit: str) -> Chart | None:
    """The losses of the script as it is and with the fix, seed 0; None where no experiment drew them."""
    verdict = finding.verdict
    if verdict is None or not verdict.curves.get("steps"):
        return None
    steps = np.array(verdict.curves["steps"], dtype=np.float64)
    arms = {name: np.array(verdict.curves.get(name, []), dtype=np.float64) for name in ("control", "fixed")}
    if any(len(values) != len(steps) for values in arms.values()):
        return None  # written by something else
    shown = np.concatenate([values[np.isfinite(values)] for values in arms.values()])
    if not len(shown):
        return None
    low, high = float(shown.min()), float(shown.max())
    logarithmic = low > 0 and high > LOGARITHMIC * max(float(np.median(shown)), low)
    data: dict[str, Any] = {
        "kind": "proof", "unit": unit, "log": logarithmic, "range": _range(low, high, logarithmic), "x": _numbers(steps),
        "control": _numbers(arms["control"]), "fixed": _numbers(arms["fixed"]), "code": finding.code,
    }  # fmt: skip
    ends = {name: values[np.isfinite(values)] for name, values in arms.items()}
    told = " ".join(
        f"{title}: from {words.measure(float(ends[name][0]), unit)} to {words.measure(float(ends[name][-1]), unit)}."
        for name, title in (("control", "As it is"), ("fixed", "With the fix")) if len(ends[name])
    )  # fmt: skip
    rows = [
        Row(f"{steps[i]:,.0f}", words.number(arms["control"][i]), words.number(arms["fixed"][i]), "")
        for i in sorted({round(k * (len(steps) - 1) / (ROWS - 1)) for k in range(ROWS)})
    ]
    return Chart(id, data, f"Over {words.count(int(steps[-1]), 'step')}, seed 0. {told}", "", [], rows, unit)


def gain(verdict: Verdict) -> Gain | None:
    """The interval of the paired gain, fixed minus control; None where there is none."""
    if len(verdict.interval) != 2 or not all(_known(v) for v in verdict.interval):
        return None
    low, high = sorted(verdict.interval)
    what = "skill" if verdict.skill_control is not None else "accuracy"
    left, right = min(low, 0.0), max(high, 1.0 if high > 0.2 else 0.2)
    left -= 0.05 * (right - left)
    span = right - left
    text = f"{low:+.2f} to {high:+.2f}"
    return Gain(
        low, high, what, text, 100 * (low - left) / span, max(100 * (high - low) / span, 0.6), 100 * -left / span,
        f"{left:.2f}", f"{right:.2f}",
    )  # fmt: skip


def near_chance(symptom: Symptom) -> bool:
    """Is the loss where guessing has it, although it is too early for a verdict?"""
    return symptom.loss is not None and bool(symptom.chance) and abs(symptom.loss - symptom.chance) < 0.02 * symptom.chance
