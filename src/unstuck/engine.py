"""diagnose(run): symptom, rules, causes before consequences, and what could not be checked."""

from __future__ import annotations

import math

import numpy as np

from unstuck.findings import GRADES, Diagnosis, Excluded, Finding, NotChecked, Role, Symptom, Training
from unstuck.rules import rules
from unstuck.stats.skill import judge
from unstuck.theory import floors
from unstuck.trace.facts import Facts
from unstuck.trace.trace import RunRecord, Series, Trace

# Which finding explains which, as data: the key stands first, those in its value become its consequences.
EXPLAINS: dict[str, tuple[str, ...]] = {
    "D201": ("N701", "W111"),
    "D206": ("N701", "D210"),
    "D210": ("W108",),
    "G301": ("U404", "U406", "U410", "U402", "G302", "W109", "U403"),
    "G302": ("U402",),
    "N701": ("U408", "U410"),
    "U401": ("U402", "G302", "U410", "U409"),
    "U403": ("G301", "G302", "U404", "U402", "U410", "U401"),
    "U404": ("U402", "U405", "U401"),
    "U405": ("N701",),
    "U406": ("U410", "U404"),
    "U407": ("U410",),
    "U408": ("U404", "U410", "N701"),
    "U409": ("U401",),
    "U411": ("D201", "W108", "W113"),
    "W104": ("W101", "W105", "W108", "D210", "W103"),
    "W105": ("W101", "W103", "N701"),
    "W107": ("N701",),
    "W108": ("D201",),
    "W109": ("W110",),
    "W111": ("N701", "W103"),
    "W112": ("N701",),
    "W113": ("D201", "W108"),
}
# What is fixed first where several causes stand side by side: nothing can be learned > the wrong problem is posed.
_BEARINGS = ("blocks", "hinders", "choice", "harmless")
_ROLES: tuple[Role, ...] = ("cause", "latent", "consequence", "note")
_NON_NEGATIVE = {"cross-entropy", "soft-cross-entropy", "bce", "bce-logits"}
_LOSS_NAMES = {"soft-cross-entropy": "cross-entropy (probability targets)", "bce": "binary cross-entropy",
               "bce-logits": "binary cross-entropy with logits", "nll": "negative log-likelihood"}  # fmt: skip


def diagnose(record: RunRecord) -> Diagnosis:
    """The diagnosis of a run; its trainings with the worst first."""
    trainings = [examine(trace) for trace in record.traces]
    trainings.sort(key=_badness)
    if not trainings:
        reason = (
            "a part of unstuck failed before the training could be followed"
            if record.run.own_errors
            else "the script called backward, but on nothing that could be followed"
            if record.run.backward_seen
            else "the script never called backward: no training was seen (steps through torch.func are not followed)"
        )
        trainings = [Training(Symptom("no-training", reason=reason, judged=False))]
    return Diagnosis(record.run, trainings, record.directory)


def examine(trace: Trace) -> Training:
    """Symptom and findings of one training."""
    found, not_checked, excluded = [], [], []
    for rule in rules().values():
        reason = trace.missing(rule.needs)
        if reason:
            not_checked.append(NotChecked(rule.code, reason))
            continue
        try:
            finding = rule.check(trace)
        except Exception as error:  # a bug in one rule must not cost the other rules' answers
            not_checked.append(NotChecked(rule.code, f"our own error: {type(error).__name__}: {error}"))
            continue
        if finding is not None:
            found.append(finding)
    symptom = symptom_of(trace)
    excluded = _in_order(trace, {f.code for f in found}, {n.code for n in not_checked})
    return Training(symptom, assign_roles(found, symptom), excluded, not_checked, trace.facts.name, _steps(trace))


def certain_now(facts: Facts) -> list[Finding]:
    """Structural findings that need no series and no symptom: what can be said in the first steps of a training."""
    trace = Trace(facts, Series.empty())
    found = []
    for rule in rules().values():
        if not trace.missing(rule.needs):
            finding = rule.check(trace)
            if finding is not None and finding.grade == "certain" and finding.bearing in {"blocks", "hinders"}:
                found.append(finding)
    return [f for f in assign_roles(found, Symptom("too-early")) if f.role == "cause"]


# ---------------------------------------------------------------------- symptom


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
    recent = series.where(np.arange(len(series)) >= 0.8 * len(series)).measured("accuracy")
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


def _steps(trace: Trace) -> int:
    return max(trace.facts.loop.steps, int(trace.series.steps[-1]) if len(trace.series) else 0)


# ---------------------------------------------------------------------- roles and order


def assign_roles(found: list[Finding], symptom: Symptom) -> list[Finding]:
    """Role by bearing and symptom; consequences under their causes; what to fix first comes first."""
    for finding in found:
        finding.role = role(finding, symptom)
    present = {f.code: f for f in found if f.role != "note"}
    for code, finding in present.items():
        for other in EXPLAINS.get(code, ()):
            if other in present and present[other].role in {"cause", "latent"} and finding.role in {"cause", "latent"}:
                if code in EXPLAINS.get(other, ()) and other < code:
                    continue  # of two that name each other the lower code stands first
                if finding.role == "latent" and present[other].role == "cause":
                    finding.role = "cause"
                finding.explains.append(other)
    explained = {c for f in found for c in f.explains}
    for code in explained:
        present[code].role = "consequence"
    order = list(rules())
    return sorted(
        found,
        key=lambda f: (_ROLES.index(f.role), _BEARINGS.index(f.bearing), GRADES.index(f.grade), order.index(f.code)),
    )


def role(finding: Finding, symptom: Symptom) -> Role:
    """A fault that does not hold this training back is latent; what may be meant is a cause only where it is stuck.

    A fault with a floor of its own is the cause of a plateau at that floor, although the loss is far below chance.
    """
    if finding.bearing == "harmless":
        return "note"
    if symptom.name == "not-judged":
        return "latent" if finding.bearing in {"choice", "hinders"} else "cause"
    if finding.shown and finding.bearing != "choice":
        return "cause"
    if symptom.name == "learning":
        if finding.floor is not None and symptom.loss is not None and symptom.chance:
            # Within a twentieth of the way from chance down to the fault's own floor: the fault is what ends the descent.
            if (
                symptom.loss - finding.floor <= 0.05 * (symptom.chance - finding.floor)
                and finding.floor > 0.02 * symptom.chance
            ):
                return "cause"
        if (
            symptom.constant_answer is not None
            and symptom.accuracy is not None
            and symptom.accuracy <= symptom.constant_answer
        ):
            return (
                "cause"  # the loss falls, yet the predictions are no better than one constant answer: it is the wrong loss
            )
        return "latent"
    if finding.grade == "possible":
        return "latent"
    if finding.bearing == "choice":
        return "cause" if symptom.stuck else "latent"
    return "cause"


def _badness(training: Training) -> tuple[int, int, int]:
    first = training.findings[0] if training.findings else None
    states = ("non-finite", "diverging", "above-chance", "at-chance", "constant", "at-prior", "plateau", "slow",
              "too-early", "not-judged", "no-training", "learning")  # fmt: skip
    cause = first is not None and first.role == "cause"
    grade = GRADES.index(first.grade) if first is not None and cause else len(GRADES)
    state = states.index(training.symptom.name) if training.symptom.name in states else len(states)
    return (0 if cause else 1, grade, state)


# ---------------------------------------------------------------------- what was found in order


def _in_order(trace: Trace, found: set[str], not_checked: set[str]) -> list[Excluded]:
    """Negative evidence: what was looked at and is as it should be, with the count that says so."""
    facts = trace.facts
    loop, term = facts.loop, facts.term
    said: list[Excluded] = []

    def say(code: str, text: str) -> None:
        if code not in found and code not in not_checked:
            said.append(Excluded(code, text))

    if (
        term is not None
        and term.path
        and term.kind in {"cross-entropy", "soft-cross-entropy"}
        and term.path_end == "parametric"
    ):
        between = [n.op for n in term.path[:-1]]
        say("W101", f"between the last layer and the loss: {', '.join(between) if between else 'nothing'}")
    if term is not None and term.labels.kind == "index" and term.classes and term.labels.kept and not term.labels.outside:
        low, high = int(term.labels.lowest or 0), int(term.labels.highest or 0)
        say("D201", f"labels {low} to {high} for {term.classes} outputs over {term.labels.kept} rows")
    if loop.steps and facts.parameters:
        trained = [p for p in facts.parameters if p.trainable]
        reached = [p for p in trained if p.reached]
        if reached and all(p.held for p in reached):
            say("U401", f"the optimizer holds all {len(reached)} tensors that the loss reaches")
        if trained and len(reached) == len(trained):
            say("G301", f"a gradient path leads from the loss to all {len(trained)} tensors")
    if loop.stale_checked > 1 and not loop.stale:
        say("U405", f"gradients had been zeroed before each of {loop.stale_checked} steps")
    if loop.no_effect_checked and not loop.no_effect:
        say("U410", f"weights changed at each of {loop.no_effect_checked} sampled steps")
    measured = trace.series.measured("loss")
    if len(measured) and np.isfinite(measured).all() and facts.nonfinite is None:
        say("N701", f"all {len(measured)} recorded losses and the final weights are finite")
    return said


def closed_form(symptom: Symptom) -> str:
    """The name of the chance level, where it is a plain logarithm: 'ln 5'. '' otherwise."""
    if symptom.chance is None or not symptom.classes or symptom.classes < 2:
        return ""
    return f"ln {symptom.classes}" if math.isclose(symptom.chance, math.log(symptom.classes), rel_tol=1e-3) else ""
