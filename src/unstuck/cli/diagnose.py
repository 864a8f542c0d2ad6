"""unstuck diagnose: from a trace directory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from unstuck.errors import UsageError


def diagnose(
    trace: Annotated[str, typer.Argument(metavar="TRACE_DIR", help="A directory written by unstuck run.")],
    output: Annotated[
        list[str] | None, typer.Option("-o", "--output", metavar="FILE", help="Write the report to FILE (.json, .txt).")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No report on the terminal.")] = False,
) -> None:
    """Diagnose a finished or killed run. Exit code 0: no cause, 11: a certain cause, 12: a likely one."""
    from unstuck import report
    from unstuck.engine import diagnose as diagnose_run
    from unstuck.experiments import verdict
    from unstuck.repair import fill
    from unstuck.report.terminal import render
    from unstuck.trace.storage import read_run

    path = folder(trace)
    for file in output or []:
        report.check_writable(file)
    result = diagnose_run(read_run(path))
    result.trace = trace
    fill(result)
    verdict.load(result, path)
    if not quiet:
        print(render(result, colour=sys.stdout.isatty()), end="")
    for file in output or []:
        report.write(result, file)
    raise typer.Exit(result.exit_code)


def folder(trace: str) -> Path:
    """The trace directory that was named. Raises UsageError where it is none."""
    path = Path(trace)
    if not path.is_dir():
        known = "is a file, not a trace directory; to explain a number use: unstuck value NUMBER" if path.is_file() else (
            "no such trace directory; 'unstuck run script.py' writes one under .unstuck/"
        )  # fmt: skip
        raise UsageError(f"{trace}: {known}")
    return path
