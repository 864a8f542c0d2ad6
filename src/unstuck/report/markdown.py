"""GitHub flavoured Markdown for issues and pull requests: the verdict first, the rest folded.

Names, paths and source lines of the training stand in code spans and blocks, where nothing is interpreted; sentences, which may
quote the training, are escaped: markup, HTML, table bars, and what a code host turns into links (@mentions, #numbers, addresses,
:emoji:). Against the last four a backslash does not help, since they are looked for after Markdown has been read: an invisible
space (&#8203;) stands between, as bots that quote other people's texts do it.
"""

from __future__ import annotations

import html
import re

from unstuck.findings import Diagnosis, Excluded, Finding, NotChecked, Symptom, Training
from unstuck.report import words
from unstuck.report.terminal import cost
from unstuck.trace.facts import Run

_MARKUP = re.compile(r"([\\`*_\[\]<>#~|&$])")
_APART = "&#8203;"
_LINKED = re.compile(r"(@|#|://|www\.|GH-(?=\d)|:(?=[\w+-]+:))", re.IGNORECASE)


def render(diagnosis: Diagnosis) -> str:
    """A comment to be pasted: the worst training in full, the others folded."""
    worst, others = diagnosis.trainings[0], diagnosis.trainings[1:]
    failed = words.ended_by(diagnosis)
    blocks = [f"### {_verdict(worst, failed)}", *_training(worst, diagnosis.run)]
    for number, training in enumerate(others, 2):
        title = f"Training {number} of {len(diagnosis.trainings)}" + (f" ({training.name})" if training.name else "")
        blocks += _folded(title, [f"**{_verdict(training, failed)}**", *_training(training, diagnosis.run)])
    blocks += _folded("How it was run", [_list(_run(diagnosis))])
    first = worst.findings[0] if worst.findings else None
    more = f"; more: {_span(f'unstuck explain {first.code}')}" if first is not None else ""
    blocks.append(f"<sub>Report of unstuck{more}</sub>")
    return "\n\n".join(block for block in blocks if block) + "\n"


def _verdict(training: Training, failed: str) -> str:
    """The state and the cause in one line."""
    head = words.headline(training, failed)
    head = head.capitalize() if head.isupper() else head
    cause = training.cause
    if cause is None:
        return _text(head)
    at = f" at {_span(words.place(cause.locations[0]))}" if cause.locations else ""
    return f"{_text(head)}. Cause: {_text(f'{cause.code} {cause.name}')}{at} ({cause.grade})"


def _training(training: Training, run: Run) -> list[str]:
    symptom = training.symptom
    blocks = [_text(text) for text in (words.because(symptom), words.collapsed(symptom), words.unknown(training, run)) if text]
    blocks.append(_table(training))
    for finding in training.findings:
        if finding.role == "cause":
            blocks += _finding(finding)
    others = [f for f in training.findings if f.role != "cause"]
    if others:
        inside = []
        for role, title in words.OTHERS.items():
            group = [f for f in others if f.role == role]
            inside += [f"**{title}**", _list([_short(f) for f in group])] if group else []
        blocks += _folded(f"{len(others)} more finding{'s' * (len(others) != 1)}, not the cause", inside)
    if training.excluded:
        blocks += _folded(f"Looked at and in order: {_count(training.excluded)}", [_list([
            f"{_text(e.code)} {_text(e.text)}" for e in training.excluded
        ])])  # fmt: skip
    if training.not_checked:
        blocks += _folded(f"Not checked: {_count(training.not_checked)}", [_list(_reasons(training.not_checked))])
    return blocks


def _table(training: Training) -> str:
    """The numbers, each with what it means."""
    rows = [(name, value) for name, value in _numbers(training.symptom) if value]
    if training.steps:
        rows.append(("optimizer steps", f"{training.steps:,}"))
    if not rows:
        return ""
    return "\n".join(["| what | value |", "|---|---:|", *(f"| {_text(name)} | {_text(value)} |" for name, value in rows)])


def _numbers(symptom: Symptom) -> list[tuple[str, str]]:
    if symptom.loss is None:
        return []
    kind = words.line(symptom.loss_kind)
    name = "last finite loss" if symptom.name == "non-finite" else "loss"
    rows = [(name + (f" ({kind})" if kind else ""), f"{symptom.loss:.4f} nats")]
    if not symptom.judged:
        return rows
    if symptom.chance is not None:
        rows.append(("chance level: what a uniform guess scores", f"{words.chance(symptom)} nats"))
    if symptom.base_rate is not None:
        rows.append(("base rates: what knowing the labels' shares alone scores", f"{symptom.base_rate:.4f} nats"))
    if symptom.floor is not None:
        rows.append(("floor: the lowest loss that the loss's options allow", f"{symptom.floor:.4f} nats"))
    if symptom.reachable is not None:
        rows.append(("a simple classifier on the same samples, cross-validated", f"{symptom.reachable:.4f} nats"))
    if symptom.skill is not None:
        interval = symptom.skill_interval
        between = f" ({interval[0]:.4f} to {interval[1]:.4f})" if interval is not None and len(interval) == 2 else ""
        rows.append(("skill: how far the loss is below guessing", f"{symptom.skill:.4f} nats{between}"))
    if symptom.accuracy is not None:
        rows.append(("accuracy on the training batches", f"{symptom.accuracy:.1%}"))
    return rows


def _finding(finding: Finding) -> list[str]:
    blocks = [f"#### {_text(f'{finding.code} {finding.name}')} ({finding.grade})", _text(finding.summary)]
    for site in finding.locations[:3]:
        text = words.code(site.text).strip()
        blocks += [_span(words.place(site)), *([_block(text, "python")] if text else [])]
    if finding.evidence:
        blocks.append(_list([_text(item.text) for item in finding.evidence]))
    fix = finding.fix
    if fix is not None:
        blocks.append(f"**Fix:** {_text(fix.summary)}")
        if fix.diff:
            blocks.append(_block(_diff(fix.diff), "diff"))
    if finding.verdict is not None:
        word, _, rest = words.verdict(finding.verdict).partition(" ")
        blocks.append(f"**{word}** {_text(rest)}" if word.endswith(":") else _text(f"{word} {rest}"))
    if words.to_decide(finding):
        blocks.append(f"**To decide:** {_text(words.to_decide(finding))}")
    return blocks


def _diff(diff: str) -> str:
    """Tabs stay: the change is to be applied from here."""
    return "\n".join(words.visible(row.rstrip("\r"), keep="\t") for row in diff.rstrip("\r\n").split("\n"))


def _short(finding: Finding) -> str:
    at = f" at {_span(words.place(finding.locations[0]))}" if finding.locations else ""
    tried = finding.verdict
    shown = f" {_text(words.verdict(tried))}" if tried is not None and tried.name != "not-verified" else ""
    return f"{_text(f'{finding.code} {finding.name}')}{at} ({finding.grade}): {_text(finding.summary)}{shown}"


def _reasons(items: list[NotChecked]) -> list[str]:
    """The codes of each reason together, in the order in which the reasons come."""
    by_reason: dict[str, list[str]] = {}
    for item in items:
        by_reason.setdefault(item.reason, []).append(item.code)
    return [f"{_text(', '.join(codes))}: {_text(reason)}" for reason, codes in by_reason.items()]


def _run(diagnosis: Diagnosis) -> list[str]:
    run = diagnosis.run
    items = [_span(words.script(diagnosis))] if run.script else []
    facts = [words.line(run.framework), f"Python {words.line(run.python)}" if run.python else ""]
    if run.seconds:
        watched = f", of which {run.own_seconds / run.seconds:.1%} observing" if run.own_seconds else ""
        facts.append(f"{run.seconds:.1f} s{watched}")
    if run.exit not in {"", "0"}:
        facts.append(f"ended with {words.line(run.exit)}")
    if any(facts):
        items.append(_text(", ".join(f for f in facts if f)))
    if run.probe_seconds or run.thorough_seconds:
        items.append(_text(cost(run)))
    items += [_text(words.line(note).rstrip(".") + ".") for note in run.notes]
    items += [_text(f"A part of unstuck failed, the training went on: {error}") for error in run.own_errors[:3]]
    return items


def _count(items: list[Excluded] | list[NotChecked]) -> str:
    return f"{len(items)} diagnos{'es' if len(items) != 1 else 'is'}"


# ------------------------------------------------------------------------------------------------------- markup


def _text(text: str) -> str:
    """A sentence that may quote the training; nothing in it is markup."""
    escaped = _MARKUP.sub(r"\\\1", words.line(text))
    # Only where a block begins: these would make a list of it (a heading's # is escaped above).
    escaped = re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", re.sub(r"^[-+=](?=[-+=\s]|$)", r"\\\g<0>", escaped))
    return _unlinked(escaped)


def _unlinked(text: str) -> str:
    """With an invisible space where a code host would see a mention, a number of an issue, an address or an emoji."""
    return _LINKED.sub(lambda m: m[1][:1] + _APART + m[1][1:] if m[1][0] in "@#:" else m[1][:-1] + _APART + m[1][-1], text)


def _span(text: str) -> str:
    """Code within a line, whatever backticks it holds. In a table a bar would end the cell even here: none stands there."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest or not text.strip() else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _block(text: str, language: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _list(items: list[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _folded(title: str, inside: list[str]) -> list[str]:
    """Folded away; the title is HTML, what is inside is Markdown because of the empty lines around it."""
    body = [block for block in inside if block]
    if not body:
        return []
    return [f"<details><summary>{_unlinked(html.escape(words.line(title), quote=False))}</summary>", *body, "</details>"]
