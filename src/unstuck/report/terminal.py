"""The story in 80 columns of plain text; colour is added where the terminal has it, and carries no meaning of its own."""

from __future__ import annotations

import textwrap

from unstuck.findings import Diagnosis, Finding, Symptom, Training, Verdict
from unstuck.trace.facts import Run, Site

WIDTH = 80
_HEADLINES = {
    "learning": "LEARNING",
    "at-chance": "STUCK AT CHANCE",
    "at-prior": "STUCK AT THE BASE RATE",
    "above-chance": "WORSE THAN GUESSING",
    "plateau": "PLATEAU",
    "constant": "CONSTANT LOSS",
    "diverging": "DIVERGING",
    "non-finite": "NOT A NUMBER",
    "slow": "SLOW",
    "too-early": "TOO EARLY TO SAY",
    "not-judged": "LEVEL NOT JUDGED",
    "no-training": "NO TRAINING SEEN",
}


def render(diagnosis: Diagnosis, colour: bool = False) -> str:
    """Plain text, at most 80 columns (long paths and source lines may be wider)."""
    paint = _Paint(colour)
    run = diagnosis.run
    lines = [_rule("unstuck", " ".join([run.script, *run.arguments]))]
    several = len(diagnosis.trainings) > 1
    failed = run.exceptions[-1].type if run.exceptions else ""
    if several:
        lines += _wrap(f"{len(diagnosis.trainings)} trainings in this script; the worst first.", 2)
    for number, training in enumerate(diagnosis.trainings[:5], 1):
        if several:
            lines += [
                "",
                f"  -- training {number}" + (f" ({training.name})" if training.name else "") + f", {training.steps} steps",
            ]
        lines += _training(training, paint, short=number > 1 and not _has_cause(training), failed=failed)
    if len(diagnosis.trainings) > 5:
        lines += ["", f"  ... and {len(diagnosis.trainings) - 5} more, see the JSON report (-o report.json)"]
    if run.probe_seconds or run.thorough_seconds:
        lines += ["", *_wrap(_cost(run), 2)]
    for note in run.notes:
        lines += _wrap(f"Note: {note}.", 2)
    if run.own_errors:
        lines += ["", *_wrap(f"A part of unstuck failed, the training went on: {run.own_errors[0]}", 2)]
    lines += ["", *_footer(diagnosis)]
    return "\n".join(lines) + "\n"


def _cost(run: Run) -> str:
    """What evaluating batches again cost, in the training's own steps where it was thorough."""
    text = f"Probes: batches were evaluated again for {run.probe_seconds:.2f} s in all"
    if run.thorough_seconds:
        text += f", and for {run.thorough_seconds:.2f} s at the end, as long as {run.thorough_steps:.0f} of the training's steps"
    return text + "."


def _has_cause(training: Training) -> bool:
    return training.cause is not None


def _training(training: Training, paint: _Paint, short: bool, failed: str = "") -> list[str]:
    symptom = training.symptom
    headline = _HEADLINES.get(symptom.name, symptom.name.upper())
    if (
        symptom.name == "too-early"
        and symptom.chance
        and symptom.loss is not None
        and abs(symptom.loss - symptom.chance) < 0.02 * symptom.chance
    ):
        headline = "AT CHANCE SO FAR"
    if symptom.name in {"too-early", "no-training"} and failed:
        headline = f"ENDED BY {failed}"
    bad = symptom.stuck or training.cause is not None
    lines = ["", "  " + paint.bold(headline, "red" if bad else "green" if symptom.name == "learning" else "yellow")]
    level = _level(symptom)
    if level:
        lines += _wrap(level, 2)
    if symptom.reason and not symptom.learns:
        lines += _wrap(symptom.reason[0].upper() + symptom.reason[1:].rstrip(".") + ".", 2)
    if short:
        return lines
    groups = {role: [f for f in training.findings if f.role == role] for role in ("cause", "latent", "consequence", "note")}
    for finding in groups["cause"]:
        lines += ["", *_finding(finding, paint)]
    if not groups["cause"] and symptom.judged and symptom.stuck:
        tried = any(f.verdict is not None and f.verdict.name == "refuted" for f in groups["latent"])
        text = (
            "The cause is not known: what was suspected was mended in re-runs, and the training stayed as it is."
            if tried else
            "No structural fault was found: head, loss, gradient path and update loop are wired correctly."
        )  # fmt: skip
        lines += ["", *_wrap(text, 2)]
    for role, title in (("latent", "Also a fault, not shown to hold this training back:"),
                        ("consequence", "Follows from the cause:"), ("note", "Note:")):  # fmt: skip
        for i, finding in enumerate(groups[role]):
            if i == 0:
                lines += ["", f"  {title}"]
            place = f" {_place(finding.locations[0])}" if finding.locations else ""
            lines += _wrap(f"{finding.code} {finding.name}{place}: {finding.summary}", 4)
            if finding.verdict is not None and finding.verdict.name != "not-verified":
                lines += _wrap(_verdict(finding.verdict), 6)
    if training.excluded:
        lines += ["", "  Looked at and in order:"]
        for item in training.excluded:
            lines += _wrap(f"{item.code}  {item.text}", 4, hanging=6)
    if training.not_checked and symptom.judged:
        codes = ", ".join(n.code for n in training.not_checked)
        lines += ["", *_wrap(f"Not checked: {codes}. First reason: {training.not_checked[0].reason}.", 2, hanging=4)]
    return lines


def _level(symptom: Symptom) -> str:
    if symptom.loss is None or not symptom.judged:
        return ""
    from unstuck.engine import closed_form

    parts = [f"The loss ({symptom.loss_kind or 'loss'}) is {symptom.loss:.4f} nats."]
    if symptom.chance is not None:
        name = closed_form(symptom)
        exact = f"{name} = {symptom.chance:.4f}" if name else f"{symptom.chance:.4f}"
        parts.append(f"A uniform guess scores {exact}" + (
            f", the base rates of the labels {symptom.base_rate:.4f}." if symptom.base_rate is not None else "."
        ))  # fmt: skip
    elif symptom.base_rate is not None:
        parts.append(f"Always answering the mean of the targets scores {symptom.base_rate:.4f}.")
    if symptom.accuracy is not None:
        parts.append(f"Accuracy on the training batches: {symptom.accuracy:.1%}.")
    share = symptom.predicted_share
    if share and max(share) > 0.98 and len(share) > 1 and symptom.stuck:
        parts.append(f"Nearly every prediction is class {share.index(max(share))} ({max(share):.0%}).")
    return " ".join(parts)


def _finding(finding: Finding, paint: _Paint) -> list[str]:
    lines = ["  " + paint.bold(f"{finding.code} {finding.name}", "red") + f"  ({finding.grade})"]
    lines += _wrap(finding.summary, 4)
    for site in finding.locations[:3]:
        lines.append("    " + paint.bold(_place(site), "cyan"))
        if site.text:
            lines.append("        " + site.text[: WIDTH - 8])
    for i, item in enumerate(finding.evidence):
        lines += _wrap(("Seen: " if i == 0 else "      ") + item.text, 4, hanging=10)
    if finding.fix is not None:
        lines += _wrap("Fix:  " + finding.fix.summary, 4, hanging=10)
    if finding.verdict is not None:
        lines += _wrap(_verdict(finding.verdict), 4, hanging=10)
    if finding.separating and (finding.verdict is None or finding.verdict.name in {"inconclusive", "not-verified"}):
        lines += _wrap("To decide: " + finding.separating, 4, hanging=10)
    return lines


def _verdict(verdict: Verdict) -> str:
    """One sentence: what running the fix showed, on how many seeds, and how sure that is."""
    reason = verdict.reason.rstrip(".")
    if verdict.name == "not-verified":
        return f"Not verified because {reason}."
    word = {"supported": "Verified", "refuted": "Refuted", "inconclusive": "Inconclusive"}[verdict.name]
    seen = f"{verdict.seeds} seed" + ("s" if verdict.seeds != 1 else "")
    if len(verdict.interval) == 2:
        unit = "skill" if verdict.skill_control is not None else "accuracy"
        seen += f", gain in {unit} {verdict.interval[0]:.2f} to {verdict.interval[1]:.2f}"
    return f"{word}: {reason} ({seen})."


def _footer(diagnosis: Diagnosis) -> list[str]:
    lines = []
    cause = diagnosis.worst.cause
    first = diagnosis.worst.findings[0] if diagnosis.worst.findings else None
    name = cause or first
    if name is not None:
        lines.append(f"  Next: unstuck explain {name.code}")
    elif diagnosis.worst.symptom.name == "too-early":
        lines.append("  Next: let it train longer, under unstuck run")
    elif diagnosis.worst.symptom.name == "no-training":
        lines.append("  Next: run the script that trains, with its arguments: unstuck run train.py ...")
    if diagnosis.trace and cause is not None and cause.verdict is None and cause.fix is not None and cause.fix.intervention:
        lines.append(f"  Prove: unstuck verify {diagnosis.trace}")
    if diagnosis.trace and cause is not None and cause.fix is not None and cause.fix.diff:
        lines.append(f"  Apply: unstuck fix {diagnosis.trace}")
    if diagnosis.trace:
        lines.append(f"  {'Again:' if lines else 'Next:'} unstuck diagnose {diagnosis.trace}")
    return lines


def _place(site: Site) -> str:
    return f"{site.file}:{site.line}"


def _rule(left: str, right: str) -> str:
    right = right if len(right) < 50 else right[:49] + "…"
    return f"── {left} " + "─" * max(3, WIDTH - len(left) - len(right) - 9) + f" {right} ──"


def _wrap(text: str, indent: int, hanging: int | None = None) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * (hanging if hanging is not None else indent),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


class _Paint:
    """ANSI colours, or nothing."""

    CODES = {"red": "31", "green": "32", "yellow": "33", "cyan": "36"}  # noqa: RUF012

    def __init__(self, on: bool) -> None:
        self.on = on

    def bold(self, text: str, colour: str) -> str:
        return f"\x1b[1;{self.CODES[colour]}m{text}\x1b[0m" if self.on else text
