"""unstuck report: a run that was recorded, or a report that was saved as JSON, in any format."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unstuck import report as formats
from unstuck.errors import UsageError

if TYPE_CHECKING:
    from unstuck.findings import Diagnosis

OUTPUT_HELP = f"Write the report to FILE ({formats.endings()})."
LARGEST = 256 << 20  # bytes of a saved report; ours are under a megabyte


def report(
    what: Annotated[
        str,
        typer.Argument(metavar="TRACE_DIR | REPORT.json", help="A directory written by unstuck run, or a report saved as JSON."),
    ],
    output: Annotated[list[str] | None, typer.Option("-o", "--output", metavar="FILE", help=OUTPUT_HELP)] = None,
) -> None:
    """Show a run's report, or write it in other formats. The verdicts of unstuck verify are in it. Exit codes as of diagnose."""
    from unstuck.report.terminal import render

    for file in output or []:
        formats.check_writable(file)
    diagnosis = load(what)
    if not output:
        print(render(shown(diagnosis), colour=sys.stdout.isatty()), end="")
    for file in output or []:
        formats.write(diagnosis, file, catalogue())
        print(f"  Report: {file}")
    if output:
        first = diagnosis.worst.findings[0] if diagnosis.worst.findings else None
        print(f"  Next:   {f'unstuck explain {first.code}' if first is not None else f'unstuck report {shlex.quote(what)}'}")
    raise typer.Exit(diagnosis.exit_code)


def load(what: str) -> Diagnosis:
    """The diagnosis of a trace directory or of a saved JSON report. Raises UsageError that names it and says what is wrong."""
    path = Path(what)
    if path.is_dir():
        return of_trace(what)
    try:
        if path.stat().st_size > LARGEST:
            raise UsageError(f"{what}: too large for a report (over {LARGEST >> 20} MB); for a log use: unstuck diagnose {what}")
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        known = "no such trace directory or report; 'unstuck run script.py' writes a trace under .unstuck/"
        raise UsageError(f"{what}: {known}") from None
    except OSError as error:
        raise UsageError(f"{what}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{what}: is no text; name a trace directory or a report saved as JSON") from None
    from unstuck.report.json import read

    try:
        return read(text)
    except UsageError as error:
        raise UsageError(f"{what}: {error}") from None


def of_trace(trace: str) -> Diagnosis:
    """The diagnosis of a recorded run, with the changes to its files and the verdicts that were kept. Raises UsageError."""
    from unstuck.cli.diagnose import folder
    from unstuck.engine import diagnose
    from unstuck.experiments import verdict
    from unstuck.repair import fill
    from unstuck.trace.storage import read_run

    path = folder(trace)
    diagnosis = diagnose(read_run(path))
    diagnosis.trace = trace
    verdict.load(diagnosis, path)
    fill(diagnosis)  # after the verdicts: an experiment may have found another fix
    return diagnosis


def shown(diagnosis: Diagnosis) -> Diagnosis:
    """For the terminal: a trace that is not here (a report from another machine) is in no command that is to be copied."""
    from unstuck.findings import Diagnosis

    if not diagnosis.trace or (Path(diagnosis.trace) / "run.json").is_file():
        return diagnosis
    return Diagnosis(diagnosis.run, diagnosis.trainings, "", diagnosis.record)


def catalogue() -> formats.Catalogue:
    """What the reports quote of the rules: the report's room may not ask them itself."""
    from unstuck.rules import rules

    return {
        code: formats.Entry(rule.name, rule.check.__module__.split(".")[-2], rule.page) for code, rule in rules().items()
    }
