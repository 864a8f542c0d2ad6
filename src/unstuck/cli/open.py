"""unstuck open: the last run as a page in the browser."""

from __future__ import annotations

import shlex
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from unstuck.errors import UsageError

RUNS = Path(".unstuck")
PAGE = "report.html"


def open_(
    trace: Annotated[
        str | None, typer.Argument(metavar="TRACE_DIR", help="A directory written by unstuck run (default: the last run).")
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only write the page and print where it is.")] = False,
) -> None:
    """Write the report of the last run as a page beside its trace and open it in the browser."""
    from unstuck import report
    from unstuck.cli.report import catalogue, of_trace

    folder = Path(trace) if trace is not None else last_run()
    page = folder / PAGE
    diagnosis = of_trace(str(folder))
    report.check_writable(str(page))
    report.write(diagnosis, str(page), catalogue())
    print(f"  Page: {page}")
    if not no_browser and not _opened(page):
        print("  No browser could be opened here: copy the page to where there is one; it is one file.")
    first = diagnosis.worst.findings[0] if diagnosis.worst.findings else None
    print(f"  Next: unstuck {f'explain {first.code}' if first is not None else f'report {shlex.quote(str(folder))}'}")


def last_run() -> Path:
    """The newest trace directory under .unstuck. Raises UsageError where there is none."""
    try:
        marks = [m for m in RUNS.glob("*/run.json") if m.is_file()]
        newest = max(marks, key=lambda mark: (mark.stat().st_mtime_ns, mark.parent.name), default=None)
    except OSError as error:
        raise UsageError(f"{RUNS}: cannot be read: {error.strerror}") from None
    if newest is None:
        raise UsageError("no run in .unstuck/ of this directory; make one with: unstuck run train.py (or name a TRACE_DIR)")
    return newest.parent


def _opened(page: Path) -> bool:
    try:
        return webbrowser.open(page.resolve().as_uri())
    except (webbrowser.Error, OSError):
        return False
