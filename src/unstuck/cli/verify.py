"""unstuck verify: run the script again with the fix, and without it, and say whether it was the cause."""

from __future__ import annotations

import contextlib
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unstuck.cli.diagnose import folder
from unstuck.cli.fix import again
from unstuck.cli.report import OUTPUT_HELP, catalogue
from unstuck.errors import UsageError

if TYPE_CHECKING:
    from unstuck.experiments.arms import Target
    from unstuck.experiments.search import Progress
    from unstuck.findings import Diagnosis
    from unstuck.trace.facts import Run
    from unstuck.trace.trace import RunRecord

DEFAULT = "60s"
_BUDGET = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(s|m|h|)")
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_WIDTH = 80


def verify(
    trace: Annotated[str, typer.Argument(metavar="TRACE_DIR", help="A directory written by unstuck run.")],
    budget: Annotated[str, typer.Option("--budget", metavar="TIME", help="Wall time for all re-runs: 60, 60s, 2m.")] = DEFAULT,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", help="Re-runs at the same time (default: one a core).")] = 0,
    pool: Annotated[str, typer.Option("--pool", metavar="local|ray|ray://...", help="Where they run.")] = "local",
    output: Annotated[list[str] | None, typer.Option("-o", "--output", metavar="FILE", help=OUTPUT_HELP)] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No report on the terminal.")] = False,
) -> None:
    """Prove the fixes: the script runs again with nothing changed but the fix. Exit codes as of diagnose.

    It runs in a copy of its directory; what it would write elsewhere is refused. A script that has changed since the run is
    not run: what came of it would say nothing about this trace.
    """
    from unstuck import report
    from unstuck.engine import diagnose as diagnose_run
    from unstuck.repair import fill
    from unstuck.report.terminal import render
    from unstuck.trace.storage import read_run

    path = folder(trace)
    seconds = parse_budget(budget)
    if jobs < 0:
        raise UsageError(f"--jobs {jobs}: must be a positive number of processes")
    check_pool(pool)
    for file in output or []:
        report.check_writable(file)
    record = read_run(path)
    changed = changed_since(record.run)
    if changed:
        raise UsageError(f"{changed} What would be tried is not what was seen. Run it again: {again(record.run)}")
    result = diagnose_run(record)
    result.trace = trace
    prove(result, record, seconds, jobs=jobs, pool=pool, quiet=quiet)
    fill(result)  # after the verdicts: an experiment may have found another fix
    if not quiet:
        print(render(result, colour=sys.stdout.isatty()), end="")
    for file in output or []:
        report.write(result, file, catalogue())
    raise typer.Exit(result.exit_code)


def changed_since(run: Run) -> str:
    """Why the user's files are not what ran, a sentence on the first that is not; '' where nothing speaks against it.

    Compared are the hashes that the run took; of a run that was killed, which has none, the script's time stamp.
    """
    from unstuck.repair import locate, stale

    files = list(run.sources)
    if not files and run.script and not run.script.startswith("-"):
        files = [run.script]
    for file in files:
        path = locate(file, run)
        try:
            raw = Path(path).read_bytes() if path else None
        except OSError:
            if file in run.sources:
                return f"{file} is not there any more."
            continue  # that it cannot be run is said by the experiment itself
        reason = stale(file, path, raw, {}, run) if raw is not None else ""
        if reason:
            return reason
    return ""


def parse_budget(text: str) -> float:
    """Seconds of wall time: '60', '60s', '2m', '1.5h'. Raises UsageError for anything else."""
    found = _BUDGET.fullmatch(text.strip().lower())
    seconds = float(found[1]) * _UNITS[found[2]] if found else math.nan
    if not seconds > 0:
        raise UsageError(f"{text!r}: not a budget; write seconds or minutes, such as 60s or 2m")
    return seconds


def is_budget(text: str) -> bool:
    """Does this word look like a budget (and not like a script)?"""
    return _BUDGET.fullmatch(text.lower()) is not None


def check_pool(name: str) -> None:
    if name not in {"local", "ray"} and not name.startswith("ray://"):
        raise UsageError(f"--pool {name}: use local, ray (on this machine) or ray://HOST:PORT")


def open_pool(name: str, jobs: int) -> Any:
    """The executor of `--pool`; it is a context manager. Raises UsageError where ray is not installed."""
    from unstuck.experiments import pool

    return pool.LocalPool(jobs or None) if name == "local" else pool.RayPool(None if name == "ray" else name, jobs or None)


def prove(
    diagnosis: Diagnosis, record: RunRecord, seconds: float, *, jobs: int = 0, pool: str = "local", quiet: bool = False,
    target: Target | None = None, spare: Any = None,
) -> None:  # fmt: skip
    """Verdicts into the diagnosis and into the trace directory, with a progress bar where a person is looking.

    target: what to run, where the trace does not keep it (`-c code`). spare: copies of the process, see search.verify.
    """
    from unstuck.experiments import search, verdict

    before = len(diagnosis.run.notes)
    changed = changed_since(record.run)
    if changed:  # between the run and this moment, or while it ran
        for finding in diagnosis.worst.findings:
            if finding.role == "cause":
                finding.verdict = verdict.not_verified(changed.rstrip("."))
        diagnosis.run.notes.append(f"Nothing was run again: {changed}")
        return
    with open_pool(pool, jobs) as workers, _progress(seconds, quiet) as progress:
        search.verify(diagnosis, record, seconds, workers, progress, target=target, spare=spare)
    told = [f.verdict for f in diagnosis.worst.findings if f.verdict is not None and f.verdict.name != "not-verified"]
    if not told and (Path(record.directory) / verdict.FILE).exists():
        return  # nothing came of it (Ctrl-C, a budget too small): what an earlier search found is worth more
    try:
        verdict.save(diagnosis, Path(record.directory), diagnosis.run.notes[before:])
    except OSError as error:
        diagnosis.run.notes.append(f"the verdicts could not be kept in {record.directory}: {error.strerror}")


@contextlib.contextmanager
def _progress(seconds: float, quiet: bool) -> Iterator[Progress | None]:
    """A bar on standard error that says what is being tried and disappears at the end; None where nobody would see it."""
    if quiet or not _seen():
        yield None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=12), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn(f"of {seconds:.0f} s"), console=Console(file=sys.stderr), transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task("verify", total=None)

        def show(done: int, planned: int, doing: str) -> None:
            words = doing or "weighing the results"
            bar.update(task, completed=done, total=max(planned, 1), description="trying " + escape(_cut(words, _WIDTH - 45)))

        yield show


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _seen() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except (ValueError, AttributeError):
        return False  # the script closed or replaced it
