"""What numbers alone say: the state of a logged training, the closed forms its level equals, and how sure that is.

A log has no graph, no labels and no parameters, so nothing here is ever *certain*, and a cause is named only where the
numbers have a signature of their own: c * (1 - accuracy), ln(e+K-1) - accuracy, a floor that an accurate model cannot
pass, NaN. Everything else is a level, with the experiment that would decide. The catalogue's rules stay "not checked".

Two kinds of knowledge are kept apart. With the number of classes given, chance is a fact, and "stuck at chance" is as sure
as the data allow (`stats.skill`, always valid). Without it, a flat loss at ln K is a hypothesis, graded by how many usual K
would have fitted as well.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
import numpy as np

from unstuck.engine import assign_roles
from unstuck.findings import Evidence, Finding, Fix, Grade, Symptom, Training
from unstuck.observe.logs import Log, to_trace
from unstuck.observe.logs.columns import words
from unstuck.rules import rules
from unstuck.stats.sequential import FIRST_LOOK
from unstuck.stats.trend import recent_trend
from unstuck.symptom import symptom_of
from unstuck.theory import chance as levels
from unstuck.theory import floors, lookup

BAND = 0.02  # of chance: no better than
EPOCH = 10  # optimizer steps an epoch counts for at least, where their number is not logged
LIKELY = 1e-3  # accidental matches expected up to which a form at a level is likely
GUESSED = 5e-3  # the same for a loss that has been at ln K from its first value on
HALF = 0.5  # of chance: a run that levels off below has learned; whether it could do better the log cannot say
CERTAIN_COSTS = floors.SATURATION_COST
RUN = "unstuck run train.py"


class Known(msgspec.Struct, frozen=True):
    """What the user adds: number of classes (or size of the vocabulary), class shares, samples per step."""

    classes: int | None = None
    prior: tuple[float, ...] | None = None
    batch: int | None = None

    @property
    def chance(self) -> float | None:
        return levels.uniform(self.classes) if self.classes else None

    @property
    def base(self) -> float | None:
        return levels.entropy(self.prior) if self.prior else None


class Hypothesis(msgspec.Struct, frozen=True):
    """The number of classes, guessed from a flat level."""

    classes: int
    grade: Grade
    accidental: float
    text: str


class LogReport(msgspec.Struct):
    """The diagnosis of one log. Losses as logged; forms are lookup.Match as plain data."""

    file: str
    format: str
    column: str
    training: Training
    values: int  # logged losses
    run: str = ""
    accuracy: float | None = None  # logged last
    first: float | None = None
    last: float | None = None
    level: float | None = None  # where the loss stands, if it stands
    flat: bool = False
    axis: str = "row"
    classes: int | None = None
    hypothesis: Hypothesis | None = None
    forms: list[dict[str, Any]] = msgspec.field(default_factory=list)
    others: list[str] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)
    next: list[str] = msgspec.field(default_factory=list)

    @property
    def title(self) -> str:
        return f"{self.file} ({self.run})" if self.run else self.file


class _Level(msgspec.Struct):
    """Where the newest part of the losses stands."""

    value: float
    error: float  # standard error; 0 where all are the same
    start: float
    flat: bool  # the newest half does not move
    from_start: bool  # and neither did it before
    fell: bool  # it came down to where it is
    text: str  # the value with the digits that mean something


def judge(log: Log, known: Known) -> LogReport:
    """The report of one log."""
    log = _without_gaps(log)
    finite = np.isfinite(log.loss)
    values = log.loss[finite]
    level = _level(log, values)
    accuracy = _last_accuracy(log)
    symptom = _symptom(log, known, level)
    hypothesis = None
    unjudged = _unjudged(log)
    if unjudged and symptom.name != "non-finite":
        symptom = Symptom("not-judged", loss=symptom.loss, reason=unjudged, judged=False)
        training = Training(symptom, name=log.name, steps=int(log.steps[-1]))
        return LogReport(
            log.file, log.format, log.column, training, len(log.loss), log.name, accuracy, float(log.loss[0]), float(log.loss[-1]),
            level.value if level is not None else None, level is not None and level.flat, log.axis, known.classes,
            others=log.others, notes=log.notes, next=[RUN],
        )  # fmt: skip
    if known.classes is None and level is not None:
        symptom, hypothesis = _without_classes(log, symptom, level)
    elif known.classes is not None and level is not None and symptom.name == "plateau" and symptom.chance:
        if level.value < HALF * symptom.chance:
            symptom.name = "learning"
            symptom.reason = f"it fell to {level.value:.4g} and is flat there, far below a uniform guess"
    if hypothesis is not None or known.classes is not None:
        symptom.classes = hypothesis.classes if hypothesis else known.classes
    symptom.accuracy = accuracy if symptom.accuracy is None else symptom.accuracy
    forms = _forms(log, known, level, accuracy, symptom)
    found = _findings(log, known, level, forms, symptom)
    if symptom.name in {"learning", "plateau"} and level is not None and any(f.floor is not None for f in found):
        symptom.name = "plateau"
        symptom.reason = f"the loss is flat at {level.value:.4g}, where a fault has its floor"
    training = Training(symptom, assign_roles(found, symptom), name=log.name, steps=int(log.steps[-1]) if len(log.steps) else 0)
    return LogReport(
        log.file, log.format, log.column, training, len(log.loss), log.name, accuracy,
        float(log.loss[0]) if len(log.loss) else None, float(log.loss[-1]) if len(log.loss) else None,
        level.value if level is not None else None, level is not None and level.flat,
        "epoch" if log.averaged == "epoch" else log.axis, symptom.classes, hypothesis,
        [_plain(m) for m in forms], log.others, log.notes, _next(training, known, hypothesis),
    )  # fmt: skip


def _plain(match: lookup.Match) -> dict[str, Any]:
    return {
        "name": match.name, "formula": match.formula, "value": match.value, "agreement": match.agreement,
        "digits": match.digits, "parameters": match.parameters, "meaning": match.meaning, "code": match.code,
        "accidental": match.accidental,
    }  # fmt: skip


def _without_gaps(log: Log) -> Log:
    """NaN between finite losses, no longer at the end than before: not logged in those rows, or steps that were got over."""
    bad = np.isnan(log.loss)
    good = np.flatnonzero(~bad)
    if not bad.any() or not len(good):
        return log
    gaps = np.diff(good)
    if len(log.loss) - 1 - good[-1] >= (gaps.max() if len(gaps) else 1):
        return log  # it ends in NaN
    if not len(gaps) or gaps.max() == 1:
        return log
    note = f"{int(bad.sum()):,} NaN lie between finite losses: not logged in these rows, or steps that were got over"
    keep = ~bad
    return msgspec.structs.replace(
        log, steps=log.steps[keep], loss=log.loss[keep], accuracy=None if log.accuracy is None else log.accuracy[keep],
        lr=None if log.lr is None else log.lr[keep], notes=[*log.notes, note],
    )  # fmt: skip


# Two players, or an agent: the level of such a loss means nothing (a discriminator at ln 2 is where it should be).
_PLAYERS = ({"g", "d"}, {"gen", "disc"}, {"generator", "discriminator"}, {"policy", "value"}, {"actor", "critic"})
_ALONE = {"discriminator", "critic", "adversarial", "gan", "policy", "actor", "ppo"}


def _unjudged(log: Log) -> str:
    """Why the level of this loss is not judged; '' where it is."""
    named = set(words(log.column))
    beside = named.union(*(words(n) for n in log.others)) if log.others else named
    if named & _ALONE or any(pair <= beside and pair & named for pair in _PLAYERS):
        return f"{log.column} is a loss of an adversarial or reinforcement training: its level says nothing about learning"
    return ""


# --------------------------------------------------------------------------------------------------- the level


def _level(log: Log, values: np.ndarray) -> _Level | None:
    """Level, error and movement of the newest part; None where nothing finite was logged."""
    n = len(values)
    if not n:
        return None
    tail = values[n - max(n // 4, min(n, 4)) :] if n > 4 else values[n // 2 :]
    value, spread = float(tail.mean()), float(tail.std())
    head = values[: max(n // 50, 1)]
    start = float(np.median(head))
    blocks = min(8, len(tail))
    means = np.array([b.mean() for b in np.array_split(tail, blocks)])
    error = float(means.std(ddof=1) / math.sqrt(blocks)) if blocks > 1 else 0.0
    half = values[n // 2 :]
    small = max(0.003 * abs(value), 2.0 * log.unit, 1e-6)
    if n >= 24:
        trend = recent_trend(np.arange(len(half)), half, flat=max(BAND * abs(value), 2.0 * log.unit))
        moving = abs(trend.change) > small and trend.name in {"falling", "rising"}
        flat = trend.name == "flat" or (trend.name in {"falling", "rising"} and not moving)
    else:
        flat = n >= 3 and float(half.max() - half.min()) <= 2.0 * small
    if n >= 3 and float(tail.max() - tail.min()) <= 1.1 * log.unit + 1e-9:
        value = float(np.median(tail))  # the same number again and again: it is the number, not its mean
        error, spread = 0.0, 0.0
    fell = start - value > max(0.05 * abs(start), 3.0 * spread / math.sqrt(max(len(head), 1)), 2.0 * log.unit)
    band = max(BAND * abs(value), 4.0 * spread / math.sqrt(len(head)))
    parts = np.array([p.mean() for p in np.array_split(values, min(n, 8))])
    from_start = flat and abs(start - value) <= band and bool(np.all(np.abs(parts - value) <= max(BAND * abs(value), 3.0 * spread)))
    return _Level(value, error, start, flat, from_start, fell, _written(value, error, log.unit, n))


def _written(value: float, error: float, unit: float, n: int) -> str:
    """The level with the digits that are known: those that were written, and no finer than twice its standard error."""
    finest = unit if n == 1 or error == 0.0 else max(unit / 10.0 if n > 20 else unit, 0.0)
    finest = max(finest, 2.0 * error, 1e-6 * max(1.0, abs(value)))
    digits = max(0, min(6, math.floor(-math.log10(finest) + 1e-9)))
    return f"{value:.{digits}f}"


def _last_accuracy(log: Log) -> float | None:
    if log.accuracy is None:
        return None
    known = log.accuracy[np.isfinite(log.accuracy)]
    return float(known[-max(len(known) // 8, 1) :].mean()) if len(known) else None


# --------------------------------------------------------------------------------------------------- the state


def _symptom(log: Log, known: Known, level: _Level | None, chance: float | None = None) -> Symptom:
    """The state; `chance` stands in for the level of a hypothesis."""
    level_of_chance = chance if chance is not None else known.chance
    base = known.base if chance is None else None
    if int(np.isfinite(log.loss).sum()) < FIRST_LOOK:
        symptom = _short(log, level_of_chance, base, level)
    else:
        scale = EPOCH if log.axis != "step" and log.averaged == "epoch" else log.every if log.axis == "row" else 1
        trace = to_trace(log, level_of_chance, base, log.steps * scale)
        symptom = symptom_of(trace)
        if symptom.since_step is not None:
            symptom.since_step //= scale
        if symptom.due_step is not None:
            symptom.due_step = -(-symptom.due_step // scale)
    symptom.chance = level_of_chance
    symptom.base_rate = base if base is not None else symptom.base_rate if level_of_chance is not None else None
    if symptom.base_rate is not None and base is None:
        symptom.base_rate = None  # it was set to chance for want of anything better
    return symptom


def _short(log: Log, chance: float | None, base: float | None, level: _Level | None) -> Symptom:
    """The state of a log with fewer than 64 losses: epochs, or a few pasted lines. Only plain statements are made."""
    n = len(log.loss)
    symptom = Symptom("too-early", loss=level.value if level is not None else None)
    bad = ~np.isfinite(log.loss)
    if n and bad[-1]:
        since = int(log.steps[n - int(np.argmin(np.append(bad[::-1], False)))]) if not bad.all() else int(log.steps[0])
        what = "NaN" if np.isnan(log.loss[-1]) else "infinite"
        symptom.name, symptom.since_step, symptom.reason = "non-finite", since, f"the loss is {what} since {_at(log, since)}"
        return symptom
    values = log.loss[~bad]
    if level is None or len(values) < 2:
        symptom.reason = "one number shows a level, and no direction"
        if level is not None and chance is not None and level.value < (1 - BAND) * chance:
            symptom.reason += "; it is below a uniform guess"
        return symptom
    n = len(values)
    half = values[n // 2 :]
    span = int(log.steps[-1]) - int(log.steps[0])
    enough = (log.averaged == "epoch" and n >= 3) or (log.axis == "step" and span >= 99 and n >= 8) or n >= 20
    first_half, second_half = float(values[: (n + 1) // 2].mean()), float(half.mean())
    lowest = float(values.min())
    reference = chance if chance is not None else abs(level.start)
    falling = second_half < first_half - 0.005 * reference and values[-1] <= np.median(values)
    sinking = n >= 4 and values[-1] <= lowest + log.unit and half[0] - half[-1] > 0.002 * reference and _orderly(values)
    if n >= 4 and values[-1] > 2.0 * max(abs(lowest), 0.5 * reference) and values[-1] >= values[-3:].max() and not level.flat:
        symptom.name, symptom.reason = "diverging", f"the loss has risen from {lowest:.4g} to {values[-1]:.4g}"
        return symptom
    if chance is not None:
        bases = [(chance, "at-chance", "a uniform guess")]
        if base is not None and base < (1 - BAND) * chance:
            bases.insert(0, (base, "at-prior", "always answering the base rates"))
        for baseline, name, what in bases:
            if np.all(np.abs(half - baseline) <= BAND * chance):
                symptom.reason = f"the loss, {level.value:.4g}, is no better than {what} ({baseline:.4g})"
                if sinking or (falling and not level.flat):
                    symptom.reason += ", but it is falling"
                elif enough:
                    symptom.name = name
                else:
                    symptom.reason += f"; {n} values are too few for a verdict"
                return symptom
        if np.all(half > (1 + BAND) * chance):
            symptom.reason = f"the loss, {level.value:.4g}, is worse than a uniform guess ({chance:.4g})"
            if enough and not falling:
                symptom.name = "above-chance"
            return symptom
    if n >= 3 and float(half.max() - half.min()) <= 1.1 * log.unit + 1e-9 and not level.fell:
        if float(values.max() - values.min()) <= 1.1 * log.unit + 1e-9:
            symptom.name, symptom.reason = "constant", f"the loss is {values[-1]:.6g} in all {n} values"
            return symptom
    if (falling or level.fell) and n >= 3:
        symptom.name = "plateau" if level.flat and chance is not None else "learning"
        symptom.reason = f"the loss fell from {level.start:.4g} to {level.value:.4g}"
        return symptom
    if level.flat and enough:
        symptom.name, symptom.reason = "plateau", f"the loss is flat at {level.value:.4g}"
        return symptom
    symptom.reason = f"{n} values are too few to tell a trend from noise"
    return symptom


def _orderly(values: np.ndarray) -> bool:
    """Do most pairs go down? (Kendall's S, three quarters of the pairs)"""
    order = np.sign(values[None, :] - values[:, None])[np.triu_indices(len(values), 1)].sum()
    pairs = len(values) * (len(values) - 1) / 2
    return bool(order <= -0.5 * pairs)


def _at(log: Log, step: int) -> str:
    return f"{'epoch' if log.axis == 'epoch' else 'step' if log.axis == 'step' else 'value'} {step}"


def _without_classes(log: Log, symptom: Symptom, level: _Level) -> tuple[Symptom, Hypothesis | None]:
    """K unknown: is the flat level that of a guess among a usual number of classes? Otherwise only the direction is said."""
    if symptom.name in {"non-finite", "diverging"}:
        return symptom, None
    hypothesis = _guess(log, level) if level.flat and len(log.loss) >= 3 else None
    if hypothesis is not None:
        again = _symptom(log, Known(), level, chance=math.log(hypothesis.classes))
        if again.name in {"at-chance", "constant"}:
            again.name = "at-chance"
            again.reason = hypothesis.text
            return again, hypothesis
        if again.name == "too-early":
            again.reason = f"{hypothesis.text}; {again.reason}"
            return again, hypothesis
    if symptom.name in {"plateau", "constant", "too-early", "learning"} and level.fell:
        flat = " and is flat there: finished, or held up by a floor" if level.flat else ""
        symptom.name = "learning"
        symptom.reason = f"the loss fell from {level.start:.4g} to {level.value:.4g}{flat}"
    elif symptom.name in {"plateau", "constant"} and level.from_start:
        symptom.reason = (
            f"the loss has been flat at {level.value:.4g} from the first value on; what guessing would score is not known "
            "without the number of classes (--classes K)"
        )
    return symptom, None


def _guess(log: Log, level: _Level) -> Hypothesis | None:
    """The usual K whose ln K the level is, and the number of K that would fit as well by accident."""
    if not level.from_start or level.value <= 0.5:
        return None
    best: tuple[float, int] | None = None
    for tier, counts in enumerate((lookup.CANONICAL_CLASSES, (*lookup.COMMON_CLASSES, *lookup.VOCABULARIES))):
        for classes in counts:
            form = math.log(classes)
            distance = abs(level.value - form)
            # Updates that do nothing but shake leave a loss a little above ln K, and hardly ever below it.
            allowed = max(3.0 * level.error, 0.6 * log.unit, 1e-4)
            allowed = allowed if tier else max(allowed, (0.003 if level.value > form else 0.001) * form)
            if distance > allowed:
                continue
            width = max(distance, 2.0 * level.error, 0.5 * log.unit, 1e-6)
            tried = sum(math.log(k) < max(3.0, 2.0 * level.value) for k in counts)
            accidental = tried * 2.0 * width / max(3.0, 2.0 * level.value)
            if best is None or accidental < best[0]:
                best = accidental, classes
        if best is not None:
            break
    if best is None or best[0] > lookup.ACCIDENTAL_LIMIT:
        return None
    accidental, classes = best
    grade: Grade = "likely" if accidental <= GUESSED else "possible"
    text = (
        f"the loss has been flat at {level.text} from the first value on, which is a uniform guess among {classes} classes "
        f"(ln {classes} = {math.log(classes):.4f}); that there are {classes} is {grade}, not known: --classes {classes} if so"
    )
    if log.accuracy is not None:
        answers = log.accuracy[np.isfinite(log.accuracy)]
        if len(answers) and answers[-max(len(answers) // 4, 1) :].mean() > 1.0 / classes + 0.1:
            if answers.max() - answers.min() > 0.05:
                return None  # the accuracy moves and is far above guessing: the inputs are used
            grade = "possible"
            text += f"; the accuracy, {answers[-1]:.3g}, would then be the share of the most frequent class"
    return Hypothesis(classes, grade, accidental, text)


# --------------------------------------------------------------------------------------------------- the forms


def _forms(log: Log, known: Known, level: _Level | None, accuracy: float | None, symptom: Symptom) -> list[lookup.Match]:
    """Closed forms that the level equals. A loss that is still moving only passes by: nothing is looked up for it."""
    if level is None or symptom.name == "non-finite":
        return []
    few = len(log.loss) <= 2
    if not (few or level.flat):
        return []
    value, shares = level.text, _shares(log, accuracy)
    if few:
        value = f"{log.loss[-1]:.{_decimals(log.unit)}f}"
    try:
        return lookup.explain_value(value, classes=known.classes, batch=known.batch, prior=known.prior, accuracy=shares)
    except ValueError:
        return []


def _decimals(unit: float) -> int:
    return 6 if unit <= 0.0 else max(0, min(6, round(-math.log10(unit))))


def _shares(log: Log, accuracy: float | None) -> str | None:
    """The accuracy as text: with the digits it was logged with, or, where it moves, those that its mean has."""
    if accuracy is None or not 0.0 <= accuracy <= 1.0 or log.accuracy is None:
        return None
    known = log.accuracy[np.isfinite(log.accuracy)]
    tail = known[-max(len(known) // 8, 1) :]
    if float(tail.max() - tail.min()) < 1e-9:
        return repr(round(float(tail[-1]), 6))
    error = float(tail.std()) / math.sqrt(len(tail))
    return f"{accuracy:.{max(2, min(6, math.floor(-math.log10(max(error, 1e-6)))))}f}"


# --------------------------------------------------------------------------------------------------- the findings

# Levels of a model that has learned nothing: they are met at the start, and a run that came down to one did not.
_BEFORE_LEARNING = ("uniform", "guess", "averaged over classes", "summed over", "zero logit", "one half", "start", "base rate")


def _findings(log: Log, known: Known, level: _Level | None, forms: list[lookup.Match], symptom: Symptom) -> list[Finding]:
    found = [
        _not_finite(log, symptom), _certain_answers(log, known, level), _softmax_twice(log, known, level),
        _negative(log, known), _rate_zero(log, level), _too_far(log, symptom), _imbalance(known, symptom),
    ]  # fmt: skip
    named = {f.code for f in found if f is not None}
    if found[1] is not None:
        named.add("W104")  # the rows have been asked one by one, which says more than the level
    for match in forms:
        if match.code is None or match.code in named or level is None:
            continue
        early = any(part in match.name for part in _BEFORE_LEARNING)
        if early and len(log.loss) > 2 and not level.from_start:
            continue
        named.add(match.code)
        found.append(_at_form(match, log, known, level, early))
    return [f for f in found if f is not None]


def _at_form(match: lookup.Match, log: Log, known: Known, level: _Level, early: bool) -> Finding:
    """A level that equals a fault's closed form."""
    sure = match.agreement == "exact" and match.accidental <= LIKELY and known.classes is not None and len(log.loss) >= 3
    odds = f"expected by accident: {match.accidental:.2g} such forms"
    return _finding(
        match.code or "", "likely" if sure and level.flat else "possible",
        f"The loss stands at {level.text}, which is {match.formula} ({match.name}).",
        [Evidence(f"{match.formula} = {match.value:.6g}; the loss is {level.text} ({odds}).", match.value, "nats", "values"),
         Evidence(match.meaning, source="values")],
        None if early else match.value,
    )  # fmt: skip


def _finding(
    code: str, grade: Grade, summary: str, evidence: list[Evidence], floor: float | None = None, separating: str = "",
    bearing: Literal["blocks", "hinders", "choice", "harmless"] = "hinders", fix: str = "",
) -> Finding:  # fmt: skip
    rule = rules().get(code)
    return Finding(
        code, rule.name if rule is not None else code, grade, summary, bearing, evidence=evidence, floor=floor,
        fix=Fix(fix) if fix else None,
        separating=separating or f"{RUN}  (reads the graph, the labels and the update, and says whether it is {code})",
    )  # fmt: skip


def _not_finite(log: Log, symptom: Symptom) -> Finding | None:
    if symptom.name != "non-finite":
        return None
    bad = np.flatnonzero(~np.isfinite(log.loss))
    since = int(np.searchsorted(log.steps, symptom.since_step or 0))
    before = log.loss[:since][np.isfinite(log.loss[:since])]
    what = "NaN" if np.isnan(log.loss[bad[-1]]) else "infinite"
    if len(before):
        lead = before[-min(len(before), 5) :]
        text = f"The last finite losses were {', '.join(f'{x:.4g}' for x in lead)}."
    else:
        text = "No finite loss was ever logged: inputs, labels (a mean over no targets is NaN, D206) or initial weights."
    return _finding(
        "N701", "likely", f"The loss is {what} from {_at(log, int(symptom.since_step or 0))} on.",
        [Evidence(f"{len(bad):,} of {len(log.loss):,} logged losses are not finite.", float(len(bad)), "", "values"),
         Evidence(text, source="values")],
        bearing="blocks", separating=f"{RUN}  (names the first tensor that was not finite: input, layer, gradient or weight)",
    )  # fmt: skip


def _certain_answers(log: Log, known: Known, level: _Level | None) -> Finding | None:
    """loss = c (1 - accuracy) in every row: all answers are certain. From the first row on it is the wiring."""
    if log.accuracy is None or level is None:
        return None
    rows = np.isfinite(log.loss) & np.isfinite(log.accuracy)
    loss, wrong = log.loss[rows], 1.0 - log.accuracy[rows]
    if not len(loss) or wrong[-1] < 0.01:
        return None
    best: tuple[float, str, np.ndarray] | None = None
    for name, cost in CERTAIN_COSTS.items():
        # Keras prints both with four decimals; a mean in float32 is good to 1e-6 of the cap.
        allowed = np.maximum(0.6 * log.unit, 2e-6 * cost) + cost * (0.6e-4 if log.unit else 2e-6)
        fits = np.abs(loss - cost * wrong) <= allowed
        if fits[-1] and fits[len(fits) // 2 :].mean() >= 0.9:
            width = float(np.mean(allowed))
            if best is None or fits.mean() > best[2].mean():
                best = width, name, fits
    if best is None:
        return None
    width, name, fits = best
    cost = CERTAIN_COSTS[name]
    accidental = len(CERTAIN_COSTS) * 2.0 * width / max(3.0, 2.0 * level.value)
    moves = float(loss[fits].max() - loss[fits].min()) > 20.0 * width
    always = bool(fits[0]) and fits.mean() >= 0.9
    sure = len(loss) >= 3 and (moves or accidental <= 2 * LIKELY)
    formula = f"{cost:.4f} (1 - accuracy)"
    evidence = [
        Evidence(
            f"In {int(fits.sum()):,} of {len(fits):,} rows the loss is {formula}: {loss[-1]:.4f} at accuracy {1 - wrong[-1]:.4f}.",
            cost, "nats", "values",
        ),
        Evidence(f"{cost:.4f} is what one entirely wrong, entirely certain answer costs ({_CAPS[name]}).", cost, "nats", "values"),
    ]  # fmt: skip
    if always:
        since = " from the first value on" if len(loss) > 1 else ""
        return _finding(
            "W104", "likely" if sure else "possible",
            f"Every answer is certain{since}: the loss is a constant times the error rate, as with a softmax over one unit.",
            evidence, level.value, bearing="blocks",
            separating="print the model's outputs for one batch: all exactly 1 means a softmax over one unit (W104); 0 and 1 mixed,"
            f" or one class for every row, means saturation: steps or inputs too large (S501, D203).  {RUN}  tells which",
            fix="One unit: sigmoid with a binary loss (or logits with from_logits=True). K classes: K units.",
        )  # fmt: skip
    return _finding(
        "S501", "possible", "The answers became certain during the training: the loss is now a constant times the error rate.",
        evidence, separating=f"repeat the first epoch with a tenth of the learning rate.  {RUN}  measures the steps",
    )  # fmt: skip


_CAPS = {
    "keras-clip": "Keras, probabilities clipped at 1e-7 in float32",
    "keras-clip-plus-epsilon": "Keras, clipped at 1e-7 with 1e-7 added",
    "epsilon-1e-7": "a logarithm limited at 1e-7",
    "epsilon-1e-8": "a logarithm limited at 1e-8",
    "epsilon-1e-12": "a logarithm limited at 1e-12",
    "epsilon-1e-15": "a logarithm limited at 1e-15",
    "torch-bce-clamp": "torch BCELoss, logarithm limited at -100",
}


def _softmax_twice(log: Log, known: Known, level: _Level | None) -> Finding | None:
    """loss = ln(e+K-1) - accuracy: the loss of a softmax of nearly certain probabilities, whatever the accuracy does."""
    if log.accuracy is None or level is None:
        return None
    rows = np.isfinite(log.loss) & np.isfinite(log.accuracy)
    loss, right = log.loss[rows], log.accuracy[rows]
    if len(loss) < 3:
        return None
    whole = _follows(loss, right, known)  # from the first row on, or only once the outputs have become certain
    return whole if whole is not None else _follows(loss[len(loss) // 2 :], right[len(right) // 2 :], known)


def _follows(loss: np.ndarray, right: np.ndarray, known: Known) -> Finding | None:
    if len(loss) > 64:  # batches are noisy: means of blocks
        loss = np.array([b.mean() for b in np.array_split(loss, 32)])
        right = np.array([b.mean() for b in np.array_split(right, 32)])
    sums = loss + right
    middle = float(np.median(sums))
    span = float(right.max() - right.min())
    away = float(np.abs(sums - middle).max())
    steady = away <= 0.02
    classes = known.classes or round(math.exp(middle) - math.e + 1.0)
    if classes < 2:
        return None
    ceiling = math.log(math.e + classes - 1.0)
    off = abs(middle - ceiling)
    floor = floors.softmax_twice(classes)
    accurate = known.classes is not None and right[-1] >= 0.9 and loss[-1] >= 0.98 * floor and loss[-1] >= 0.3 and classes > 2
    signature = steady and off <= 0.02 and span >= 0.05 and abs(middle - math.log(classes)) > 0.03 + 1.0 / classes
    accurate = accurate and off <= 0.05
    if not (accurate or signature):
        return None
    if not accurate and known.classes is None and off > 0.008:
        return None
    formula = f"ln(e+{classes - 1}) - accuracy"
    given = known.classes is not None
    # Equal to a thousandth in every row while the accuracy moves: there is no other way to get there.
    tight = len(loss) >= 4 and span >= 0.08 and away <= 0.003 and off <= 0.002
    text = f"The loss is {loss[-1]:.4f} at accuracy {right[-1]:.4f}; {formula} is {ceiling - right[-1]:.4f}."
    why = f"A cross-entropy of {loss[-1]:.3g} nats does not go with {right[-1]:.0%} right answers otherwise."
    if not accurate:
        why = f"Loss plus accuracy stays at {middle:.4f} while the accuracy moves by {span:.2f}."
    return _finding(
        "W101", "likely" if tight or (given and (accurate or span >= 0.1)) else "possible",
        f"The loss follows {formula}: softmax is applied twice, and the loss cannot fall below {floor:.4f}.",
        [Evidence(text, ceiling - float(right[-1]), "nats", "values"), Evidence(why, source="values")],
        floor,
        separating="print one row of what the loss is given: non-negative and summing to 1 is W101; in 0..1 but not summing to 1, a"
        f" sigmoid, is W103 (the same floor).  {RUN}  reads it from the graph",
        fix="Remove the softmax from the model's output (Keras: or from_logits=False): cross-entropy applies log-softmax itself.",
    )  # fmt: skip


def _negative(log: Log, known: Known) -> Finding | None:
    """A cross-entropy is never negative."""
    values = log.loss[np.isfinite(log.loss)]
    if len(values) < 2 or values[-max(len(values) // 4, 1) :].mean() > -1e-3:
        return None
    inside = bool(values.min() >= -1.0 - 1e-6 and values.max() <= 1e-6)
    start = known.classes is not None and abs(float(np.median(values[:3])) * known.classes + 1.0) < 0.3
    if inside:
        return _finding(
            "W107", "likely" if start and len(values) >= 3 else "possible",
            "The loss lies between -1 and 0, as minus a probability does: NLL without a logarithm.",
            [Evidence(f"It goes from {values[0]:.4g} to {values[-1]:.4g}; minus a probability starts at -1/K and ends at -1.",
                      float(values[-1]), "nats", "values")],
            separating=f"print min and sum of one row of what the loss is given.  {RUN}  looks at it",
            fix="Give NLLLoss log-probabilities (log_softmax), or use CrossEntropyLoss on the logits.",
        )  # fmt: skip
    return _finding(
        "W107", "possible", f"The loss is {values[-1]:.4g}: no cross-entropy of valid labels is negative.",
        [Evidence("NLL on raw outputs (W107), a flipped sign (W112) or labels outside 0..1 fall without bound; losses that are no"
                  " cross-entropy may be negative.", source="values")],
        separating=f"{RUN}  tells W107, W112 and D201 apart",
    )  # fmt: skip


def _rate_zero(log: Log, level: _Level | None) -> Finding | None:
    if log.lr is None or level is None or log.format == "text":
        return None
    rates = log.lr[np.isfinite(log.lr)]
    if len(rates) < 3 or np.any(rates != 0.0) or not level.from_start:
        return None
    return _finding(
        "U407", "likely", "The logged learning rate is 0 throughout.",
        [Evidence(f"All {len(rates):,} logged learning rates are 0, and the loss does not move.", 0.0, "", "values")],
        bearing="blocks", separating=f"{RUN}  (reads the rate from the optimizer)",
    )  # fmt: skip


def _too_far(log: Log, symptom: Symptom) -> Finding | None:
    if symptom.name not in {"diverging", "above-chance"}:
        return None
    what = "rising" if symptom.name == "diverging" else "worse than guessing"
    return _finding(
        "S501", "possible", f"The loss is {what}: steps may be too long.",
        [Evidence(symptom.reason[:1].upper() + symptom.reason[1:] + ".", symptom.loss, "nats", "statistics")],
        separating="the same run with a tenth of the learning rate; if it falls then, the steps were too long."
        f"  {RUN}  measures it (flipped sign W112 and inputs without normalisation D203 look alike)",
    )  # fmt: skip


def _imbalance(known: Known, symptom: Symptom) -> Finding | None:
    if symptom.name != "at-prior" or not known.prior or max(known.prior) < 0.7:
        return None
    return _finding(
        "D207", "possible", "The loss is that of always answering the base rates, and the classes are far from balanced.",
        [Evidence(f"The base rates score {symptom.base_rate or 0.0:.4f}.", symptom.base_rate, "nats", "values")],
        separating=f"recall of the rare class, and a logistic regression on the same inputs.  {RUN}  does both (D202 looks alike)",
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------- what next


def _next(training: Training, known: Known, hypothesis: Hypothesis | None) -> list[str]:
    lines = [RUN]
    if training.findings:
        lines.append(f"unstuck explain {training.findings[0].code}")
    helps = hypothesis is not None or training.symptom.name in {"constant", "plateau", "too-early"}
    if known.classes is None and helps:
        lines.append(f"unstuck diagnose LOG --classes {hypothesis.classes if hypothesis else 'K'}")
    return lines
