"""The story in 80 columns of plain text; colour is added where the terminal has it, and carries no meaning of its own."""

from __future__ import annotations

import re
import shlex
import textwrap

from unstuck.findings import Diagnosis, Finding, Training
from unstuck.report import words
from unstuck.trace.facts import Run, Site

WIDTH = 80
SHOWN = 5  # trainings


def render(diagnosis: Diagnosis, colour: bool = False) -> str:
    """Plain text of at most 80 columns; only commands to be copied (the last lines) may be longer, where a path in them is."""
    paint = _Paint(colour)
    run = diagnosis.run
    lines = [_rule("unstuck", words.script(diagnosis))]
    several = len(diagnosis.trainings) > 1
    failed = words.ended_by(diagnosis)
    if several:
        lines += _wrap(f"{len(diagnosis.trainings)} trainings in this script; the worst first.", 2)
    for number, training in enumerate(diagnosis.trainings[:SHOWN], 1):
        if several:
            name = f" ({words.line(training.name)})" if training.name else ""
            lines += ["", _cut(f"  -- training {number}{name}, {training.steps} steps")]
        lines += _training(training, run, paint, short=number > 1 and training.cause is None, failed=failed)
    if len(diagnosis.trainings) > SHOWN:
        lines += ["", f"  ... and {len(diagnosis.trainings) - SHOWN} more, see the JSON report (-o report.json)"]
    if run.probe_seconds or run.thorough_seconds:
        lines += ["", *_wrap(cost(run), 2)]
    for note in run.notes:
        lines += _wrap(f"Note: {words.line(note).rstrip('.')}.", 2)
    if run.own_errors:
        lines += ["", *_wrap(f"A part of unstuck failed, the training went on: {words.line(run.own_errors[0])}", 2)]
    lines += ["", *_footer(diagnosis)]
    return "\n".join(lines) + "\n"


def cost(run: Run) -> str:
    """What evaluating batches again cost, in the training's own steps where it was thorough."""
    text = f"Probes: batches were evaluated again for {run.probe_seconds:.2f} s in all"
    if run.thorough_seconds:
        text += f", and for {run.thorough_seconds:.2f} s at the end, as long as {run.thorough_steps:.0f} of the training's steps"
    return text + "."


def _training(training: Training, run: Run, paint: _Paint, short: bool, failed: str = "") -> list[str]:
    symptom = training.symptom
    bad = symptom.stuck or training.cause is not None
    colour = "red" if bad else "green" if symptom.name == "learning" else "yellow"
    lines = ["", "  " + paint.bold(_cut(words.headline(training, failed), WIDTH - 2), colour)]
    for text in (words.level(symptom), words.because(symptom)):
        lines += _wrap(text, 2)
    if short:
        return lines
    for finding in training.findings:
        if finding.role == "cause":
            lines += ["", *_finding(finding, paint)]
    unknown = words.unknown(training, run)
    if unknown:
        lines += ["", *_wrap(unknown, 2)]
    for role, title in words.OTHERS.items():
        group = [f for f in training.findings if f.role == role]
        lines += ["", f"  {title}"] if group else []
        for finding in group:
            # The place has a line of its own where it would not stand whole on the first one.
            head = f"{finding.code} {words.line(finding.name)}"
            where = words.place(finding.locations[0]) if finding.locations else ""
            if len(head) + len(where) + 6 > WIDTH:
                lines += [_cut(f"    {head}:"), f"      {_tail(where, WIDTH - 6)}", *_wrap(finding.summary, 6)]
            else:
                lines += _wrap(f"{head}{' ' if where else ''}{where}: {finding.summary}", 4, 6)
            if finding.verdict is not None and finding.verdict.name != "not-verified":
                lines += _wrap(words.verdict(finding.verdict), 6)
    if training.excluded:
        lines += ["", "  Looked at and in order:"]
        for item in training.excluded:
            lines += _wrap(f"{item.code}  {item.text}", 4, 10)
    if training.not_checked and symptom.judged:
        codes = ", ".join(n.code for n in training.not_checked)
        lines += ["", *_wrap(f"Not checked: {codes}. First reason: {training.not_checked[0].reason}.", 2, 4)]
    return lines


def _finding(finding: Finding, paint: _Paint) -> list[str]:
    lines = ["  " + paint.bold(_cut(f"{finding.code} {words.line(finding.name)}", 64), "red") + f"  ({finding.grade})"]
    lines += _wrap(finding.summary, 4)
    for site in finding.locations[:3]:
        lines += _site(site, paint)
    for i, item in enumerate(finding.evidence):
        lines += _wrap(("Seen: " if i == 0 else "      ") + words.line(item.text), 4, 10)
    if finding.fix is not None:
        lines += _wrap("Fix:  " + finding.fix.summary, 4, 10)
    if finding.verdict is not None:
        lines += _wrap(words.verdict(finding.verdict), 4, 10)
    if words.to_decide(finding):
        lines += _wrap("To decide: " + words.to_decide(finding), 4, 10)
    return lines


def _site(site: Site, paint: _Paint) -> list[str]:
    """file:line, and the line itself. What does not fit: of a path the end is kept, of a source line the beginning."""
    text = words.code(site.text).strip()
    return ["    " + paint.bold(_tail(words.place(site), WIDTH - 4), "cyan"), *([_cut(" " * 8 + text)] if text else [])]


def _footer(diagnosis: Diagnosis) -> list[str]:
    """What to do next: whole commands, to be copied as they are."""
    worst = diagnosis.worst
    cause = worst.cause
    first = cause or (worst.findings[0] if worst.findings else None)
    commands = []
    if first is not None:
        commands.append(("Next", f"unstuck explain {words.line(first.code)}"))
    elif worst.symptom.name == "too-early":
        commands.append(("Next", "let it train longer, under unstuck run"))
    elif worst.symptom.name == "no-training":
        commands.append(("Next", "run the script that trains, with its arguments: unstuck run train.py ..."))
    if diagnosis.trace:
        trace = shlex.quote(diagnosis.trace)
        if cause is not None and cause.fix is not None:
            if cause.verdict is None and cause.fix.intervention is not None:
                commands.append(("Prove", f"unstuck verify {trace}"))
            if cause.fix.diff:
                commands.append(("Apply", f"unstuck fix {trace}"))
        commands.append(("Look" if commands else "Next", f"unstuck open {trace}"))
        commands.append(("Share", f"unstuck report {trace} -o report.html"))
    return [f"  {label + ':':<7}{words.visible(command)}" for label, command in commands]


def _rule(left: str, right: str) -> str:
    right = _cut(right, 50)
    return f"── {left} " + "─" * max(3, WIDTH - len(left) - len(right) - 9) + f" {right} ──"


def _cut(text: str, width: int = WIDTH) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _tail(text: str, width: int) -> str:
    return text if len(text) <= width else "…" + text[-(width - 1) :]


def _wrap(text: str, indent: int, hanging: int | None = None) -> list[str]:
    """Rows of at most 80 columns. A word that is too long for any of them (a path, a name) goes on after a / or a dot."""
    hanging = indent if hanging is None else hanging
    room = WIDTH - max(indent, hanging)
    text = words.visible(re.sub(r"[\t\r\n\f\v]", " ", text))
    parts = [part for word in text.split(" ") for part in ([word] if len(word) <= room else _pieces(word, room))]
    return textwrap.wrap(
        " ".join(parts), WIDTH, initial_indent=" " * indent, subsequent_indent=" " * hanging,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _pieces(word: str, room: int) -> list[str]:
    """A long word cut after separators where it has them, else where the row ends; at most `room` characters each."""
    rows = [""]
    for part in re.findall(r"[^/\\.,_=-]*[/\\.,_=-]|[^/\\.,_=-]+", word):
        if len(rows[-1]) + len(part) <= room:
            rows[-1] += part
            continue
        rows += [part[i : i + room] for i in range(0, len(part), room)]
    return [row for row in rows if row]


class _Paint:
    """ANSI colours, or nothing."""

    CODES = {"red": "31", "green": "32", "yellow": "33", "cyan": "36"}  # noqa: RUF012

    def __init__(self, on: bool) -> None:
        self.on = on

    def bold(self, text: str, colour: str) -> str:
        return f"\x1b[1;{self.CODES[colour]}m{text}\x1b[0m" if self.on else text
