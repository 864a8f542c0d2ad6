"""unstuck run: somebody's training, unchanged, observed; the report on standard error at the end."""

from __future__ import annotations

import copy
import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unstuck.cli.live import Line, LiveWriter
from unstuck.cli.report import OUTPUT_HELP, catalogue
from unstuck.cli.verify import parse_budget, prove
from unstuck.errors import UnstuckError, UsageError
from unstuck.experiments.snapshot import Snapshot
from unstuck.observe.launch import Observed, Target, observe
from unstuck.trace.writer import Writer

if TYPE_CHECKING:
    from unstuck.findings import Diagnosis
    from unstuck.trace.facts import Facts
    from unstuck.trace.trace import RunRecord

GRADES = ("certain", "likely")


def run(
    target: Annotated[
        list[str] | None, typer.Argument(metavar="SCRIPT [ARGS]...", help="The script and its own arguments.")
    ] = None,
    module: Annotated[str | None, typer.Option("-m", metavar="MODULE", help="Run a module, as python -m does.")] = None,
    code: Annotated[str | None, typer.Option("-c", metavar="CODE", help="Run code, as python -c does.")] = None,
    output: Annotated[list[str] | None, typer.Option("-o", "--output", metavar="FILE", help=OUTPUT_HELP)] = None,
    steps: Annotated[int, typer.Option("--steps", metavar="N", help="End cleanly after N optimizer steps.")] = 0,
    trace: Annotated[
        str | None, typer.Option("--trace", metavar="DIR", help="Where the trace goes (default .unstuck/<time>).")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No report on the terminal.")] = False,
    live: Annotated[
        bool, typer.Option("--live", help="A line that shows how it goes while it runs (in a log: one every 30 s).")
    ] = False,
    verify: Annotated[
        str | None,
        typer.Option("--verify", metavar="[BUDGET]", help="Then run the fixes: is it the cause? (default 60s, also 2m)"),
    ] = None,
    fail_on: Annotated[
        str | None,
        typer.Option(
            "--fail-on", metavar="certain|likely", help="Exit 11/12 on such a cause although the script succeeded."
        ),
    ] = None,
) -> None:
    """Run a training script unchanged and say why its loss is stuck.

    The script's exit code, standard output and exceptions are its own.
    """
    from unstuck import report

    chosen = _target(target or [], module, code)
    if fail_on is not None and fail_on not in GRADES:
        raise UsageError(f"--fail-on {fail_on}: use 'certain' or 'likely'")
    if steps < 0:
        raise UsageError(f"--steps {steps}: must be a positive number of optimizer steps")
    budget = parse_budget(verify) if verify is not None else 0.0
    for file in output or []:
        report.check_writable(file)
    directory = _directory(trace)
    files = [os.path.abspath(f) for f in output or []]  # the script may change the working directory
    snapshot = Snapshot() if budget else None
    line = Line() if live else None
    try:
        try:
            observed = observe(
                chosen, directory, announce=None if quiet else _Announce(), limit=steps, suspicious=partial(suspicious, directory),
                before_backward_once=snapshot, make_writer=Writer if line is None else partial(LiveWriter, line=line),
            )  # fmt: skip
        finally:
            if line is not None:
                line.close()
        drawn = random.getstate()
        # A scheduler that sent SIGTERM wants the process to end; Ctrl-C on a stuck training is when one wants to know.
        proving = bool(budget) and observed.signal != signal.SIGTERM
        diagnosis, record = _report(observed, files, quiet, last=not proving)
        if proving and diagnosis is not None and record is not None:
            diagnosis = _prove(chosen, diagnosis, record, budget, files, quiet, snapshot)
    finally:
        if snapshot is not None:
            snapshot.close()
    random.setstate(drawn)  # libraries draw when they are imported; the script's exit handlers must not notice
    _leave(observed, diagnosis, fail_on)


def _target(words: list[str], module: str | None, code: str | None) -> Target:
    if module is not None and code is not None:
        raise UsageError("give either -m MODULE or -c CODE, not both")
    if module is not None:
        return Target("module", module, words)
    if code is not None:
        return Target("code", code, words)
    if not words:
        raise UsageError("nothing to run: name a script, -m MODULE or -c CODE")
    return Target("script", words[0], words[1:])


def _directory(trace: str | None) -> Path:
    if trace is not None:
        path = Path(trace)
        if path.exists() and (not path.is_dir() or (any(path.iterdir()) and not (path / "run.json").exists())):
            raise UsageError(f"--trace {trace}: exists and is not a trace directory; name a new or empty one")
        return path.absolute()
    base = Path(".unstuck") / time.strftime("%Y%m%d-%H%M%S")
    path, number = base, 1
    while path.exists():
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path.absolute()


def suspicious(directory: Path, training: int) -> bool:
    """Is a thorough look worth its price? Where the training does not learn, has an autograd function of its own, or has
    not won half of what there is to win."""
    from unstuck.symptom import symptom_of
    from unstuck.trace.storage import read_run

    trace = next((t for t in read_run(directory).traces if t.facts.id == training), None)
    if trace is None or not len(trace.series):
        return False
    symptom = symptom_of(trace)
    half = symptom.loss is not None and symptom.chance is not None and symptom.loss > 0.5 * symptom.chance
    return symptom.judged and (not symptom.learns or half or bool(trace.facts.custom))


class _Announce:
    """Says once, in one line, what is certain in the first steps of a training."""

    def __init__(self) -> None:
        self.said: set[tuple[int, str]] = set()

    def __call__(self, facts: Facts) -> None:
        from unstuck.engine import certain_now

        for finding in certain_now(facts)[:1]:
            key = (facts.id, finding.code)
            if key in self.said:
                continue
            self.said.add(key)
            place = f"{finding.locations[0].file}:{finding.locations[0].line}: " if finding.locations else ""
            _say(f"unstuck: {place}{finding.code} {finding.name}: {finding.summary}")


def _report(
    observed: Observed, files: list[str], quiet: bool, last: bool
) -> tuple[Diagnosis | None, RunRecord | None]:  # fmt: skip
    """Read the trace back, diagnose, print and write. A failure of ours is said and costs nothing else. Where the fixes are
    run as well it is not the last word: then one line is printed, and the report comes with what they came to."""
    from unstuck import report

    if observed.directory is None:
        _say("unstuck: no report: " + "; ".join(observed.run.notes))
        return None, None
    try:
        from unstuck.engine import diagnose
        from unstuck.repair import fill
        from unstuck.trace.storage import read_run

        record = read_run(observed.directory)
        diagnosis = diagnose(record)
        diagnosis.trace = _shown(observed.directory)
        fill(diagnosis)
        if not quiet and last:
            _print(diagnosis)
        elif not quiet:
            cause = diagnosis.worst.cause
            _say(f"unstuck: {f'{cause.code} {cause.name}: {cause.summary}' if cause is not None else 'no cause found'}")
        for file in files:
            report.write(diagnosis, file, catalogue())
            if not quiet and last:
                _say(f"  Report: {_shown(Path(file))}")
        return diagnosis, record
    except UnstuckError as error:
        _say(f"unstuck: {error}")
    except Exception as error:
        if os.environ.get("UNSTUCK_DEBUG"):
            raise
        _say(f"unstuck: the report failed ({type(error).__name__}: {error}); the trace is in {observed.directory}")
    return None, None


def _print(diagnosis: Diagnosis) -> None:
    from unstuck.report.terminal import render

    _say("\n" + render(diagnosis, colour=_colours()))


def _prove(
    target: Target, diagnosis: Diagnosis, record: RunRecord, budget: float, files: list[str], quiet: bool,
    snapshot: Snapshot | None = None,
) -> Diagnosis:  # fmt: skip
    """Run the fixes, then report. A failure of ours is said and leaves the diagnosis as it was."""
    from unstuck import report

    if not quiet:
        _say(f"unstuck: verifying: the script is run again with the fix and without, for up to {budget:.0f} s (Ctrl-C ends it)")
    failed, before = "", copy.deepcopy(diagnosis)  # verdicts are written into the diagnosis as they come
    try:
        from unstuck.experiments import arms

        again = arms.Target(target.kind, target.name, target.arguments)
        prove(diagnosis, record, budget, quiet=quiet, target=again, spare=snapshot)
        for file in files:
            report.write(diagnosis, file, catalogue())
    except KeyboardInterrupt:
        failed = "not verified: interrupted"
    except UnstuckError as error:
        failed = f"not verified: {error}"
    except Exception as error:
        if os.environ.get("UNSTUCK_DEBUG"):
            raise
        failed = f"the verification failed ({type(error).__name__}: {error}); the diagnosis stands"
    shown = before if failed else diagnosis
    if not quiet:
        _print(shown)
        for file in files:
            _say(f"  Report: {_shown(Path(file))}")
    if failed:
        _say(f"unstuck: {failed}")
    return shown


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):  # elsewhere, or the script removed its working directory
        return str(path)


def _colours() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.isatty() and "NO_COLOR" not in os.environ
    except (ValueError, AttributeError):
        return False  # the script closed or replaced it


def _say(text: str) -> None:
    if sys.stderr is None:
        return  # print would take standard output instead
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        pass  # standard error is closed: the training's result matters more than our report


def _leave(observed: Observed, diagnosis: Diagnosis | None, fail_on: str | None) -> Any:
    if observed.signal:
        # Die of the signal, as the script would have: a shell or a scheduler looks at that.
        signal.signal(observed.signal, signal.SIG_DFL)
        os.kill(os.getpid(), observed.signal)
    code = observed.code
    if code == 0 and fail_on is not None and diagnosis is not None:
        worst = diagnosis.exit_code
        if worst == 11 or (worst == 12 and fail_on == "likely"):
            code = worst
    raise SystemExit(code)
