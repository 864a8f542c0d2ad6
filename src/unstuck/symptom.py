"""The symptom: what state a training is in, judged from its series and closed forms. Rules may ask for it."""

from __future__ import annotations

import numpy as np

from unstuck.findings import Symptom
from unstuck.stats.skill import judge
from unstuck.theory import floors
from unstuck.trace.trace import Series, Trace

_NON_NEGATIVE = {"cross-entropy", "soft-cross-entropy", "bce", "bce-logits"}
_LOSS_NAMES = {"soft-cross-entropy": "cross-entropy (probability targets)", "bce": "binary cross-entropy",
               "bce-logits": "binary cross-entropy with logits", "nll": "negative log-likelihood"}  # fmt: skip


def of(trace: Trace) -> Symptom:
    """The symptom that the engine has put down for this trace; worked out here where no engine was asked."""
    known = trace.known.get("symptom")
    return known if isinstance(known, Symptom) else symptom_of(trace)


def symptom_of(trace: Trace) -> Symptom:
    """The state of a training, judged on its last segment (since the model was last rebuilt), or on the whole."""
    facts, series = trace.facts, trace.series
    term = facts.term
    floor = known_floor(trace)
    last = facts.loop.rebuilt[-1] if facts.loop.rebuilt else 0
    bad = facts.nonfinite is not None
    judged = _judge(series.since(last + 1) if last else series, floor, bad)
    if last and judged.name in {"too-early", "at-chance", "slow"}:
        judged = _judge(series, floor, bad)
    if judged.name == "too-early" and len(series) > 600:
        # On a stuck run one look in a hundred meets a chance hint of improvement; two earlier looks settle it.
        before = {
            (_judge(series.where(np.arange(len(series)) < share * len(series)), floor, bad)).name for share in (0.9, 0.95)
        }
        if len(before) == 1 and before <= {"at-chance", "at-prior", "constant"}:
            judged = _judge(series.where(np.arange(len(series)) < 0.95 * len(series)), floor, bad)
    classes = _classes(trace)
    symptom = Symptom(
        judged.name, judged.since_step, judged.loss, judged.chance, judged.base_rate, floor, classes, judged.skill,
        list(judged.skill_interval) if judged.skill_interval is not None else None, reason=judged.reason,
        due_step=judged.due_step, loss_kind=_LOSS_NAMES.get(term.kind, term.kind) if term is not None else "",
    )  # fmt: skip
    tail = series.measured("loss")[-50:]
    tail = tail[np.isfinite(tail)]
    if symptom.loss is not None and len(tail):
        symptom.loss = float(tail.mean())  # the judgement works on capped losses; the reader wants the number they saw
    if term is not None and symptom.loss is not None and symptom.loss < -1e-3 and term.kind in _NON_NEGATIVE:
        symptom.name = "diverging"
        symptom.reason = "the loss is below 0, where this loss cannot go with valid labels: it falls without bound"
    for share in (0.8, 0.5):  # looked at rarely where steps are short
        recent = series.where(np.arange(len(series)) >= share * len(series)).measured("accuracy")
        if len(recent):
            break
    symptom.accuracy = float(recent.mean()) if len(recent) else None
    if term is not None and sum(term.labels.counts) > 0 and term.labels.kind in {"index", "binary", "one-hot"}:
        symptom.constant_answer = max(term.labels.counts) / sum(term.labels.counts)
    if term is not None and sum(term.labels.seen) > 0:
        labels = term.labels
        symptom.recall = [h / n if n else None for h, n in zip(labels.hits, labels.seen)]
        total = sum(labels.predicted)
        symptom.predicted_share = [p / total for p in labels.predicted] if total else None
    if (
        facts.nonfinite is not None
        and symptom.name in {"too-early", "constant", "plateau", "at-chance", "at-prior"}
        and (facts.nonfinite.what == "parameter")
    ):
        symptom.name, symptom.reason = "non-finite", "weights are NaN or infinite although the loss does not show it"
    if facts.loop.unjudged and symptom.name != "non-finite":
        symptom.name, symptom.reason, symptom.judged = "not-judged", facts.loop.unjudged, False
    return symptom


def _judge(series: Series, floor: float | None, bad_from: bool):
    if not bad_from and len(series):
        # A loss that was not measured is NaN too; only one that was seen not to be finite counts as such.
        series = series.where(~(np.isnan(series["loss"]) & np.isnan(series["chance"])))
    chance, base = _filled(series["chance"]), _filled(series["base"])
    return judge(
        series.steps, series["loss"], chance, base, series["predicted"],
        floor=floor, accuracy=series["accuracy"] if len(series) else None,
    )  # fmt: skip


def _filled(level: np.ndarray) -> np.ndarray:
    """Where steps are short, most calls are not looked at: their level is the mean of the last few that were.

    Exact for the uniform predictor of a plain cross-entropy (ln K at every call). For the base rate it gives up the
    pairing on those steps, not the expectation: the difference of the two is noise with mean 0.
    """
    known = np.flatnonzero(~np.isnan(level))
    if not len(known) or len(known) == len(level):
        return level
    sums = np.concatenate(([0.0], np.cumsum(level[known])))
    upto = np.searchsorted(known, np.arange(len(level)), side="right")
    start = np.maximum(upto - 64, 0)
    mean = (sums[np.maximum(upto, 1)] - sums[start]) / np.maximum(np.maximum(upto, 1) - start, 1)
    return np.where(np.isnan(level), mean, level)


def _classes(trace: Trace) -> int | None:
    term = trace.facts.term
    if term is None:
        return None
    return 2 if term.kind in {"bce", "bce-logits"} and (term.classes or 1) == 1 else term.classes


def known_floor(trace: Trace) -> float | None:
    """The lowest loss the options of a healthy training allow, in nats; None where it is 0 or unknown."""
    term = trace.facts.term
    if term is None or term.kind != "cross-entropy" or not term.classes or term.classes < 2 or not term.label_smoothing:
        return None
    return float(floors.label_smoothing(term.classes, term.label_smoothing))
