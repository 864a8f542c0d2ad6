"""The report of one log as text (80 columns) and as JSON (schema 1), and the table of many.

Not `report.terminal`: that one reports on a training whose graph was seen, and says so; a log has numbers only.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from unstuck.cli.log_judgement import RUN, LogReport
from unstuck.findings import GRADES, Diagnosis, NotChecked
from unstuck.report.json import document
from unstuck.trace.facts import Run

if TYPE_CHECKING:
    import polars as pl

WIDTH = 80
ROWS = 40  # of the table, on the terminal
REASON = "a log holds numbers, not the model or the loop"
_HEADLINES = {
    "learning": "LEARNING", "at-chance": "STUCK AT CHANCE", "at-prior": "STUCK AT THE BASE RATE", "plateau": "FLAT",
    "above-chance": "WORSE THAN GUESSING", "constant": "CONSTANT LOSS", "diverging": "DIVERGING", "non-finite": "NOT A NUMBER",
    "slow": "SLOW", "too-early": "TOO LITTLE TO SAY", "not-judged": "LEVEL NOT JUDGED",
}  # fmt: skip
_STATES = (
    "non-finite", "diverging", "above-chance", "at-chance", "at-prior", "constant", "slow", "plateau", "too-early", "not-judged",
    "learning",
)  # fmt: skip


def diagnosis_of(reports: list[LogReport], notes: list[str] | None = None, thorough: bool = False) -> Diagnosis:
    """The reports as a Diagnosis, in their order. thorough: list the rules that could not be asked."""
    if thorough:
        from unstuck.rules import rules

        for report in reports:
            named = {f.code for f in report.training.findings}
            report.training.not_checked = [NotChecked(code, REASON) for code in rules() if code not in named]
    first = reports[0]
    own = first.notes if len(reports) == 1 else []
    run = Run(script=first.file, framework="log", notes=[*(notes or []), *own], finished=True)
    return Diagnosis(run, [r.training for r in reports])


def as_json(reports: list[LogReport], failed: dict[str, str], notes: list[str] | None = None) -> str:
    """Schema 1; each training has what is known of its log under "log", and unreadable files are listed."""
    result = document(diagnosis_of(reports, notes, thorough=len(reports) == 1)) if reports else {"schema": 1, "trainings": []}
    for training, report in zip(result["trainings"], reports):
        training["log"] = _log(report)
    if reports:
        result["log"] = result["trainings"][0]["log"]
    result["unreadable"] = [{"file": name, "reason": reason} for name, reason in failed.items()]
    return json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _log(report: LogReport) -> dict[str, Any]:
    plain = msgspec.to_builtins(report)
    del plain["training"]
    for name in ("first", "last", "level", "accuracy"):
        value = plain[name]
        plain[name] = value if value is not None and abs(value) < float("inf") else None  # NaN fails the comparison too
    return plain


# ------------------------------------------------------------------------------------------------------- one log


def text_of(report: LogReport, again: str) -> str:
    """The report of one log; plain text, 80 columns (long file names may be wider). again: the command with its log."""
    training, symptom = report.training, report.training.symptom
    name = report.title if len(report.title) < 60 else "…" + report.title[-59:]
    lines = [f"── unstuck {'─' * max(3, WIDTH - len(name) - 15)} {name} ──", "", f"  {_headline(report)}"]
    lines += _wrap(_what(report), 2)
    if symptom.reason:
        lines += _wrap(symptom.reason[0].upper() + symptom.reason[1:].rstrip(".") + ".", 2)
    if symptom.chance is not None and "uniform guess" not in symptom.reason:
        base = f", always answering the base rates {symptom.base_rate:.4f}" if symptom.base_rate is not None else ""
        lines += _wrap(f"A uniform guess among {symptom.classes} classes scores {symptom.chance:.4f} nats{base}.", 2)
    causes = [f for f in training.findings if f.role == "cause"]
    for finding in causes:
        lines += ["", f"  {finding.code} {finding.name}  ({finding.grade})", *_wrap(finding.summary, 4)]
        for i, item in enumerate(finding.evidence):
            lines += _wrap(("Seen: " if i == 0 else "      ") + item.text, 4, 10)
        if finding.fix is not None:
            lines += _wrap("Fix:  " + finding.fix.summary, 4, 10)
        lines += _wrap("To decide: " + finding.separating, 4, 10)
    rest = [f for f in training.findings if f.role != "cause"]
    if rest:
        lines += ["", f"  The numbers {'also ' if causes else ''}go with (possible, not shown):"]
        for finding in rest:
            lines += _wrap(f"{finding.code} {finding.name}: {finding.summary}", 4, 6)
            lines += _wrap("To decide: " + finding.separating, 6, 8)
    said = {f.code for f in causes}
    forms = [f for f in report.forms if f["code"] is None or f["code"] not in said]
    if forms:
        lines += ["", "  Closed forms that the number equals:"]
        for form in forms[:3]:
            lines += _wrap(f"{form['formula']} = {form['value']:.6g}: {form['name']} ({_odds(form['accidental'])}).", 4, 6)
    elif (report.flat or report.values <= 2) and not training.findings and symptom.name not in {"non-finite", "not-judged"}:
        lines += ["", *_wrap("No closed form of a fault equals this number.", 2)]
    if symptom.stuck and not causes:
        why = "Why, the numbers cannot say"
        if symptom.name in {"at-chance", "at-prior", "constant", "plateau"}:
            why += ": wiring, update loop, data and step size all end at the same level"
        lines += ["", *_wrap(why + ".", 2)]
    for note in report.notes:
        lines += _wrap(f"Note: {note}.", 2, 4)
    lines += ["", *_wrap("A log holds numbers, not the model: the catalogue's rules need the training itself.", 2)]
    lines += [f"  {'Next:' if i == 0 else 'Or:  '} {step.replace('LOG', again)}" for i, step in enumerate(report.next or [RUN])]
    return "\n".join(lines) + "\n"


def _headline(report: LogReport) -> str:
    headline = _HEADLINES.get(report.training.symptom.name, report.training.symptom.name.upper())
    if report.hypothesis is not None and report.training.symptom.name == "at-chance":
        return f"{headline}, IF THERE ARE {report.hypothesis.classes} CLASSES  ({report.hypothesis.grade})"
    return headline


def _what(report: LogReport) -> str:
    unit = {"epoch": "epochs", "step": "values", "row": "values"}[report.axis]
    span = f"{report.values:,} {unit}" if report.values != 1 else "one value"
    text = f"{report.format}, column {report.column!r}, {span}"
    if report.first is not None and report.values > 1:
        text += f": from {report.first:.4g} to {report.last:.4g}"
    elif report.last is not None:
        text += f": {report.last:.6g}"
    return text + (f", accuracy {report.accuracy:.4g}." if report.accuracy is not None else ".")


def _odds(accidental: float) -> str:
    if accidental < 1e-6:
        return "by accident less than once in a million"
    return f"by accident about once in {1.0 / accidental:,.0f}" if accidental < 0.5 else "by accident often"


def _wrap(text: str, indent: int, hanging: int | None = None) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * (indent if hanging is None else hanging),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------ many logs


def worst_first(reports: list[LogReport]) -> tuple[list[LogReport], pl.DataFrame]:
    """The reports in the order of the table, and the table: a cause before none, by its grade; then by state; then the loss."""
    import polars as pl

    rows = []
    for place, report in enumerate(reports):
        training = report.training
        cause = training.cause
        state = training.symptom.name
        first = cause or (training.findings[0] if training.findings else None)
        chance = training.symptom.chance
        rows.append({
            "place": place,
            "grade": GRADES.index(cause.grade) if cause is not None else len(GRADES),
            "state_order": _STATES.index(state) if state in _STATES else len(_STATES),
            "doubt": 0 if report.hypothesis is None else 1 + GRADES.index(report.hypothesis.grade),
            "ratio": -(report.level / chance) if report.level is not None and chance else 0.0,
            "file": report.title,
            "state": state,
            "finding": (f"{first.code} {first.grade}" if first is not None else ""),
            "form": _form(report),
            "first": report.first,
            "loss": report.last if state == "non-finite" or report.level is None else report.level,
            "accuracy": report.accuracy, "values": report.values, "classes": report.classes, "column": report.column,
            "format": report.format, "reason": training.symptom.reason,
        })  # fmt: skip
    table = pl.DataFrame(rows, infer_schema_length=None).sort(
        ["grade", "state_order", "doubt", "ratio", "file"], maintain_order=True
    )
    return [reports[i] for i in table["place"].to_list()], table.drop("place", "grade", "state_order", "doubt", "ratio")


def table_text(table: pl.DataFrame, failed: dict[str, str], root: str, seconds: float, stopped: str = "") -> str:
    """The table on the terminal: the worst 40, the count of every state, and what could not be read."""
    total = len(table)
    lines = [f"── unstuck {'─' * max(3, WIDTH - len(root) - 15)} {root} ──", ""]
    counts = dict(table.group_by("state").len().sort("len", descending=True).iter_rows()) if total else {}
    told = ", ".join(f"{counts[s]:,} {s}" for s in _STATES if s in counts)
    failures = f"; {len(failed):,} could not be read" if failed else ""
    lines += _wrap(f"{total:,} logged training{'s' * (total != 1)} in {seconds:.1f} s: {told}{failures}.", 2)
    if stopped:
        lines += _wrap(stopped, 2)
    if total:
        lines += ["", f"  {'state':<12}{'loss':>8} {'from':>8}  {'finding':<14}{'level':<11}log"]
    for row in table.head(ROWS).iter_rows(named=True):
        name = row["file"].removeprefix(root.rstrip("/") + "/")
        room = WIDTH - 58
        name = name if len(name) <= room else "…" + name[-(room - 1) :]
        numbers = f"{_short(row['loss']):>8} {_short(row['first']):>8}"
        lines.append(f"  {row['state']:<12}{numbers}  {row['finding']:<14}{row['form'][:10]:<11}{name}")
    if total > ROWS:
        lines += _wrap(f"... and {total - ROWS:,} more (-o FILE.json or -o FILE.csv has all of them)", 2)
    if failed:
        lines += ["", f"  Not read ({len(failed):,}):"]
        for reason in list(failed.values())[:10]:
            lines += _wrap(reason, 4, 6)
        if len(failed) > 10:
            lines.append(f"    ... and {len(failed) - 10:,} more")
    if total:
        lines += ["", f"  Next: unstuck diagnose {_quoted(table['file'][0])}", f"  Then: {RUN}"]
    return "\n".join(lines) + "\n"


def _form(report: LogReport) -> str:
    """The level in a word: 'ln 10', 'ln 10?' where K is a guess, 'c(1-acc)' for certain answers."""
    if report.hypothesis is not None:
        return f"ln {report.hypothesis.classes}?"
    formula = report.forms[0]["formula"] if report.forms else ""
    return "c(1-acc)" if report.forms and report.forms[0]["code"] == "W104" else formula


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}" if -100 < value < 1000 else f"{value:.2g}"


def _quoted(title: str) -> str:
    name = title.partition(" (")[0] if not Path(title).exists() else title
    return f"'{name}'" if " " in name else name
