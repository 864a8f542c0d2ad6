"""A diagnosis as the page shows it: every sentence and number is decided here, the template only lays them out."""

from __future__ import annotations

import math
import re
import time
from typing import NamedTuple

from unstuck.findings import ROLES, Diagnosis, Evidence, Finding, Site, Symptom, Training, Verdict
from unstuck.report import words as sentences
from unstuck.report.html import curves, network, words
from unstuck.trace import channels
from unstuck.trace.facts import Raised, Run
from unstuck.trace.trace import Trace

OPEN = 24  # trainings that are shown in full; the overview has all
OVERVIEW = 400
POINTS = 4000  # columns of all pictures of the trainings that are folded away
SITES = 6
LINE = 2000  # characters of a source line or a message that are shown
DIFF = 400  # lines
OTHER_LOSS = frozenset({"replace-loss", "insert-activation", "class-weights"})  # after these the two losses are different measures
REDRAWS = frozenset({"reinitialise", "widen", "shuffle"})  # these draw new random numbers


class Figure(NamedTuple):
    """A number of the summary with what it means."""

    term: str
    value: str
    note: str


class Place(NamedTuple):
    """A line of the user's program."""

    where: str
    text: str
    function: str


class Seen(NamedTuple):
    """A piece of evidence and how it was come by."""

    text: str
    how: str


class Line(NamedTuple):
    """A line of a diff. kind: add, remove, place, name, same."""

    kind: str
    text: str


class Proof(NamedTuple):
    """What came of running the fix."""

    title: str
    tone: str
    text: str
    figures: list[Figure]
    gain: curves.Gain | None
    chart: curves.Chart | None
    note: str


class Card(NamedTuple):
    """A finding."""

    code: str
    name: str
    grade: str
    grade_meaning: str
    role: str
    summary: str
    places: list[Place]
    more_places: int
    evidence: list[Seen]
    fix: str
    applicability: str
    diff: list[Line]
    explains: list[str]
    separating: str
    proof: Proof | None


class Group(NamedTuple):
    """Findings of one role."""

    title: str
    meaning: str
    cards: list[Card]


class Reason(NamedTuple):
    """Rules that could not be asked, for one reason."""

    codes: list[str]
    text: str


class Study(NamedTuple):
    """A training."""

    id: str
    title: str
    steps: str
    state: str
    tone: str
    verdict: str  # what is the matter, one sentence without the state; '' where the state says it all
    lede: list[str]
    figures: list[Figure]
    chart: curves.Chart | None
    no_chart: str
    cause: Card | None
    no_cause: str
    paths: list[network.Path]
    flow: network.Flow | None
    labels: network.Labels | None
    groups: list[Group]
    excluded: list[tuple[str, str]]
    not_checked: list[Reason]
    errors: list[Seen]
    unit: str  # of the loss: nats, or ''

    @property
    def charts(self) -> list[curves.Chart]:
        cards = [c for c in [self.cause] if c is not None] + [c for g in self.groups for c in g.cards]
        return [c for c in [self.chart, *(card.proof.chart for card in cards if card.proof is not None)] if c is not None]


class Overview(NamedTuple):
    """A training in one row."""

    id: str  # of its part of the page; '' where it has none
    title: str
    state: str
    steps: str
    loss: str
    cause: str


class Page(NamedTuple):
    """All of it."""

    title: str
    command: str
    worst: Study
    others: list[Study]
    overview: list[Overview]
    trainings: int
    next: list[tuple[str, str]]  # what for, command
    cost: list[str]
    notes: list[str]
    own_errors: list[str]
    errors: list[Seen]
    facts: list[tuple[str, str]]


def page_of(diagnosis: Diagnosis) -> Page:
    """Everything the template needs. A diagnosis without its record has no curve, no path and no layers, and says so."""
    run = diagnosis.run
    total = len(diagnosis.trainings)
    several = total > 1
    shown = diagnosis.trainings[:OPEN]
    studies = [
        _study(diagnosis, training, i, several, curves.COLUMNS if i == 0 else max(120, POINTS // total))
        for i, training in enumerate(shown)
    ]
    overview = [
        _row(t, studies[i].id if i < len(studies) else "", i) for i, t in enumerate(diagnosis.trainings[:OVERVIEW])
    ] if several else []  # fmt: skip
    return Page(
        _cut(f"{studies[0].state}: {run.script or 'training'}", 200), _command(run), studies[0], studies[1:], overview, total,
        _next(diagnosis), _cost(run), [_sentence(_cut(n)) for n in run.notes], [_cut(e) for e in run.own_errors],
        [_raised(e) for e in run.exceptions], _facts(diagnosis),
    )  # fmt: skip


def trace_of(diagnosis: Diagnosis, training: Training) -> Trace | None:
    """What a training's diagnosis was worked out from; None where it is not there."""
    if diagnosis.record is None:
        return None
    # The engine sorts trainings and leaves traces in the order of the script; both hold the very same symptom.
    return next((t for t in diagnosis.record.traces if t.known.get("symptom") is training.symptom), None)


def _study(diagnosis: Diagnosis, training: Training, index: int, several: bool, columns: int) -> Study:
    symptom = training.symptom
    trace = trace_of(diagnosis, training)
    unit = _unit(training)
    id = f"t{index}"
    cards = [_card(f, f"{id}-proof-{i}", unit) for i, f in enumerate(training.findings)]
    first = training.cause
    state, tone = _state(training, diagnosis.run)
    facts = trace.facts if trace is not None else None
    chart = curves.loss(trace, training, unit, f"{id}-loss", columns) if trace is not None else None
    groups = []
    for role in ROLES:
        mine = [c for f, c in zip(training.findings, cards) if f.role == role and f is not first]
        if mine:
            groups.append(Group(*words.ROLES[role], mine))
    return Study(
        id, _title(training, index, several), words.count(training.steps, "optimizer step"), state, tone,
        words.inside(first.summary) if first is not None else _without_cause(training, diagnosis.run), _lede(training, unit),
        _figures(training, unit, diagnosis.run), chart, "" if chart is not None else _no_chart(diagnosis, trace),
        cards[0] if first is not None else None, "" if first is not None else _no_cause(training, diagnosis.run),
        network.paths(facts, training.findings) if facts is not None else [],
        network.flow(facts, training.findings, first is None and not symptom.stuck) if facts is not None else None,
        network.labels(facts.term.labels if facts is not None and facts.term is not None else None, symptom),
        groups, [(e.code, _sentence(e.text)) for e in training.excluded], _reasons(training),
        [_raised(e) for e in facts.exceptions] if facts is not None else [], unit,
    )  # fmt: skip


def _unit(training: Training) -> str:
    symptom = training.symptom
    return words.unit(symptom.loss_kind) or ("nats" if not symptom.loss_kind and symptom.chance is not None else "")


# ------------------------------------------------------------------------------------------------------------ the verdict


def _state(training: Training, run: Run) -> tuple[str, str]:
    """Title and tone of the state; a cause makes the tone bad whatever the loss does."""
    symptom = training.symptom
    state = words.STATES.get(symptom.name, words.State(symptom.name.replace("-", " ").capitalize(), "open", ""))
    title, tone = state.title, state.tone
    if symptom.name == "learning" and symptom.underachieves:
        title, tone = "Learning less than it could", "open"
    if symptom.name in {"too-early", "no-training"} and run.exceptions:
        title, tone = f"Ended by {_cut(run.exceptions[-1].type, 80)}", "bad"
    elif symptom.name == "too-early" and curves.near_chance(symptom):
        title = f"Still at chance after {words.count(training.steps, 'step')}" if training.steps else "Still at chance"
    elif symptom.name in {"too-early", "not-judged"} and training.cause is not None:
        title = "A fault was found"
    elif symptom.name == "learning" and training.cause is not None:
        title = "Learning, but held back"
    return title, "bad" if training.cause is not None else tone


def _without_cause(training: Training, run: Run) -> str:
    symptom = training.symptom
    if symptom.name == "learning" and not symptom.underachieves and symptom.loss is not None:
        unit = _unit(training)
        known = symptom.chance if symptom.chance is not None else symptom.base_rate
        text = f"the loss is {words.measure(symptom.loss, unit)}"
        return text + (f", where guessing scores {words.measure(known, unit)}" if known is not None else "")
    if symptom.stuck:
        return "why, the log cannot say" if _from_log(run) else "no fault was found that explains it"
    return (symptom.reason or words.STATES["no-training"].meaning.rstrip(".").lower()) if symptom.name == "no-training" else ""


def _from_log(run: Run) -> bool:
    return run.framework == "log"


def _no_cause(training: Training, run: Run) -> str:
    if training.symptom.learns:
        return "Nothing was found that holds this training back."
    return sentences.unknown(training, run) or "No cause was found so far."


def _lede(training: Training, unit: str) -> list[str]:
    symptom = training.symptom
    text = []
    state = words.STATES.get(symptom.name)
    if curves.near_chance(symptom) and symptom.chance is not None and symptom.loss is not None and not symptom.learns:
        among = f" among {symptom.classes} classes" if symptom.classes and symptom.classes > 1 else ""
        text.append(
            f"The loss is {words.measure(symptom.loss, unit)}. A network that only guesses{among} scores "
            f"{words.measure(symptom.chance, unit)}: so far nothing was learned."
        )
    elif state is not None and symptom.name not in {"too-early", "no-training"}:
        text.append(state.meaning)
    said = symptom.name in {"no-training", "at-chance", "at-prior"} or (symptom.name == "non-finite" and training.cause is not None)
    if symptom.reason and not said and not symptom.learns:
        reason = _sentence(symptom.reason)
        early = symptom.name == "too-early" and training.cause is not None
        text.append(f"Too early to call it stuck by the curve alone: {reason[:1].lower()}{reason[1:]}" if early else reason)
    if symptom.due_step is not None and symptom.name == "too-early" and training.cause is None:
        text.append(f"A verdict is due at about step {symptom.due_step:,}.")
    share = symptom.predicted_share
    if share and len(share) > 1 and max(share) > 0.98 and not symptom.learns:
        text.append(f"Nearly every answer is class {share.index(max(share))} ({words.share(max(share))}).")
    return text


def _figures(training: Training, unit: str, run: Run) -> list[Figure]:
    """The numbers of the summary. Of a loss whose level is not judged only the loss: what it is compared with says nothing."""
    symptom = training.symptom
    levels = symptom if symptom.judged else Symptom(symptom.name)
    found = []
    if symptom.loss is not None:
        name, _ = words.LOSSES.get(symptom.loss_kind, (symptom.loss_kind, ""))
        kind = f" ({name})" if name else ""
        when = "while it was a number" if symptom.name == "non-finite" else "at the end"
        found.append(Figure("Loss", words.measure(symptom.loss, unit), f"{when}{kind}; lower is better"))
    if levels.chance is not None:
        name = curves.closed_form(levels)
        found.append(Figure(
            "Chance level", words.measure(levels.chance, unit),
            (f"= {name}; " if name else "") + "what a network that only guesses scores",
        ))  # fmt: skip
    if levels.base_rate is not None:
        note = "always answering how frequent each label is" if levels.chance is not None else "always answering the mean"
        found.append(Figure("Base-rate level", words.measure(levels.base_rate, unit), note))
    if levels.skill is not None:
        low, high = levels.skill_interval or (None, None)
        between = f"; between {low:.4f} and {high:.4f} with its noise" if low is not None and high is not None else ""
        found.append(Figure("Skill", words.joined(f"{levels.skill:.4f}", unit),
                            f"how far the loss is below the best answer that ignores the inputs{between}"))  # fmt: skip
    if levels.accuracy is not None:
        constant = levels.constant_answer
        note = f"; always the most frequent label: {words.share(constant)}" if constant is not None else ""
        found.append(Figure("Accuracy", words.share(levels.accuracy), f"right answers on the training batches{note}"))
    if training.steps:
        what = "values in the log" if _from_log(run) else "how often the optimizer changed the weights"
        found.append(Figure("Steps", f"{training.steps:,}", what))
    return [f for f in found if f.value]


# ------------------------------------------------------------------------------------------------------------ the findings


def _card(finding: Finding, id: str, unit: str) -> Card:
    fix = finding.fix
    undecided = finding.verdict is None or finding.verdict.name in {"inconclusive", "not-verified"}
    return Card(
        finding.code, finding.name.replace("-", " "), finding.grade, words.GRADES.get(finding.grade, ""), finding.role,
        finding.summary, [_place(s) for s in finding.locations[:SITES]], max(0, len(finding.locations) - SITES),
        [_seen(e) for e in finding.evidence], fix.summary if fix is not None else "",
        words.APPLICABILITY.get(fix.applicability, "") if fix is not None else "", _diff(fix.diff) if fix is not None else [],
        finding.explains, finding.separating if undecided else "", _proof(finding, id, unit),
    )  # fmt: skip


def _place(site: Site) -> Place:
    inside = "" if re.fullmatch(r"<\w+>", site.function) else site.function  # <module>, <lambda> say nothing
    return Place(f"{_cut(site.file)}:{site.line}", _cut(site.text), _cut(inside, 200))


def _seen(evidence: Evidence) -> Seen:
    return Seen(_cut(evidence.text), words.SOURCES.get(evidence.source, evidence.source))


def _raised(error: Raised) -> Seen:
    site = f"{_cut(error.site.file)}:{error.site.line}, " if error.site is not None else ""
    times = f", {error.count:,} times" if error.count > 1 else ""
    return Seen(_cut(f"{error.type}: {error.message}" if error.message else error.type), f"{site}in {error.phase}{times}")


def _diff(text: str | None) -> list[Line]:
    """The lines of a unified diff, each of its kind."""
    if not text:
        return []
    lines = []
    for line in text.rstrip("\n").split("\n"):  # a line of Python may hold separators of other kinds
        kind = (
            "name" if line.startswith(("--- ", "+++ ")) and not any(x.kind == "place" for x in lines)
            else "place" if line.startswith("@@")
            else "add" if line.startswith("+")
            else "remove" if line.startswith("-")
            else "same"
        )  # fmt: skip
        lines.append(Line(kind, _cut(line)))
    if len(lines) > DIFF:
        return [*lines[:DIFF], Line("place", f"... and {len(lines) - DIFF:,} more lines")]
    return lines


def _proof(finding: Finding, id: str, unit: str) -> Proof | None:
    verdict = finding.verdict
    if verdict is None:
        return None
    title, tone = words.VERDICTS[verdict.name]
    gain = curves.gain(verdict)
    asked = finding.fix.intervention.kind if finding.fix is not None and finding.fix.intervention is not None else ""
    other = asked in OTHER_LOSS
    note = ""
    if verdict.name != "not-verified":
        note = (
            "Both runs have the same seed; the fix draws random numbers itself, so they do not share all weights and batches."
            if asked in REDRAWS else
            "Both runs start from the same weights and see the same batches; nothing differs but the fix."
        )  # fmt: skip
        if other:
            note += " The fix replaces the loss, so the two losses are different measures; the gain below compares what they share."
    text = f"Not tried out because {verdict.reason.rstrip('.')}." if verdict.name == "not-verified" else _sentence(verdict.reason)
    return Proof(title, tone, text, _arms(verdict, unit), gain, curves.proof(finding, id, unit), note)


def _arms(verdict: Verdict, unit: str) -> list[Figure]:
    found = []
    over = f"median of {words.count(verdict.seeds, 'seed')}" if verdict.seeds > 1 else "one seed"
    if verdict.control is not None and math.isfinite(verdict.control):
        found.append(Figure("As it is", words.measure(verdict.control, unit), f"final loss, {over}"))
    if verdict.fixed is not None and math.isfinite(verdict.fixed):
        found.append(Figure("With the fix", words.measure(verdict.fixed, unit), f"final loss, {over}"))
    if verdict.steps:
        found.append(Figure("Steps", f"{verdict.steps:,}", "in each run" + (f", by {verdict.how}" if verdict.how else "")))
    if verdict.seconds:
        found.append(Figure("Time", f"{verdict.seconds:.3g}\N{NO-BREAK SPACE}s", "all these runs together"))
    if verdict.placebo is not None and math.isfinite(verdict.placebo):
        found.append(Figure("Placebo", f"{verdict.placebo:+.3f}", "gain of a change that changes nothing: should be 0"))
    return found


def _reasons(training: Training) -> list[Reason]:
    by_reason: dict[str, list[str]] = {}
    for item in training.not_checked:
        by_reason.setdefault(item.reason, []).append(item.code)
    return [Reason(codes, _sentence(_cut(_plain(reason)))) for reason, codes in by_reason.items()]


def _plain(reason: str) -> str:
    """The name of a channel means nothing to who has not read the vocabulary; what it holds does."""
    found = re.fullmatch(r"no channel: (\w+) \((.*)\)", reason, re.DOTALL)
    channel = channels.BY_NAME.get(found[1]) if found else None
    return reason if channel is None else f"this needs what was not recorded here, {channel.meaning} ({found[2]})"


# ------------------------------------------------------------------------------------------------------- around the trainings


def _title(training: Training, index: int, several: bool) -> str:
    name = _cut(training.name, 200)
    return f"Training {index + 1}{f': {name}' if name else ''}" if several else name


def _row(training: Training, id: str, index: int) -> Overview:
    symptom = training.symptom
    cause = training.cause
    return Overview(
        id, _title(training, index, True), _state(training, Run())[0], f"{training.steps:,}",
        words.measure(symptom.loss, _unit(training)) if symptom.loss is not None else "",
        f"{cause.code} {cause.name.replace('-', ' ')}" if cause is not None else "",
    )  # fmt: skip


def _no_chart(diagnosis: Diagnosis, trace: Trace | None) -> str:
    if trace is not None:
        return "Fewer than two losses were measured in this training, so there is no curve."
    if diagnosis.worst.symptom.name == "no-training":
        return ""
    if _from_log(diagnosis.run):
        return (
            "This diagnosis was worked out from a log: it holds numbers, not the model, so there is no path and there are no "
            "layers. Run the training itself under `unstuck run` to see them."
        )
    again = f"`unstuck report {diagnosis.trace} -o report.html`" if diagnosis.trace else "`unstuck report TRACE_DIR -o report.html`"
    return (
        "This diagnosis was read from a saved report, which keeps the findings and not the recorded steps: there are no curves, "
        f"no path and no layers here. {again} draws them from the trace."
    )


def _next(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    """What to do now, as exact commands."""
    found: list[tuple[str, str]] = []
    worst = diagnosis.worst
    cause, trace = worst.cause, _cut(diagnosis.trace)
    if cause is not None and cause.fix is not None and trace:
        if cause.fix.diff:
            found.append(("make the change shown above", f"unstuck fix {trace}"))
        if cause.verdict is None and cause.fix.intervention is not None:
            found.append(("prove that it is the cause, by running the script with the fix and without", f"unstuck verify {trace}"))
    first = cause or (worst.findings[0] if worst.findings else None)
    if first is not None:
        found.append((f"read what {first.name.replace('-', ' ')} is", f"unstuck explain {first.code}"))
    if worst.symptom.name == "too-early" and cause is None:
        found.append(("let it train longer, watched", f"unstuck run {_command(diagnosis.run) or 'train.py'}"))
    if worst.symptom.name == "no-training":
        found.append(("run the script that trains, with its arguments", "unstuck run train.py ..."))
    return found


def _command(run: Run) -> str:
    return _cut(" ".join([run.script, *run.arguments]))


def _cost(run: Run) -> list[str]:
    """What monitoring cost, in seconds and as a share of the run."""
    found = []
    if run.seconds > 0 and run.own_seconds > 0:
        found.append(f"Watching took {run.own_seconds:.2f} s of the {run.seconds:.2f} s that the script ran "
                     f"({words.share(min(run.own_seconds / run.seconds, 1.0))}).")  # fmt: skip
    if run.probe_seconds:
        found.append(f"Of this, batches were evaluated again (probes) for {run.probe_seconds:.2f} s.")
    if run.thorough_seconds >= 0.005:
        found.append(f"The thorough look at the end, made where a training is stuck, took {run.thorough_seconds:.2f} s, as long as "
                     f"{run.thorough_steps:,.0f} of its steps.")  # fmt: skip
    return found


def _facts(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    run = diagnosis.run
    found = [
        ("Script", _cut(run.script)),
        ("Arguments", _cut(" ".join(run.arguments))),
        ("Directory", _cut(run.directory)),
        ("Framework", _cut(run.framework, 200)),
        ("Python", _cut(run.python, 200)),
        ("Started", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(run.started)) if 0 < run.started < 2**35 else ""),
        ("Ended with", {"0": "exit code 0 (success)"}.get(run.exit, _cut(run.exit, 200))),
        ("Trace", _cut(diagnosis.trace)),
    ]
    return [(name, value) for name, value in found if value]


def _sentence(text: str) -> str:
    """With a capital and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if not text or text[-1] in ".!?" else ".")


def _cut(text: str, size: int = LINE) -> str:
    return text if len(text) <= size else text[: size - 1] + "\N{HORIZONTAL ELLIPSIS}"
