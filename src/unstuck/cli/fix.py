"""unstuck fix: the change itself, shown as a diff, asked for, and written into the file."""

from __future__ import annotations

import os
import re
import shlex
import sys
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from unstuck.errors import UsageError

if TYPE_CHECKING:
    from unstuck.findings import Diagnosis, Finding
    from unstuck.repair import Change
    from unstuck.trace.facts import Run, Site

WIDTH = 80


def fix(
    trace: Annotated[str, typer.Argument(metavar="TRACE_DIR", help="A directory written by unstuck run.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Make the changes without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the changes and make none.")] = False,
    finding: Annotated[
        list[str] | None,
        typer.Option("--finding", metavar="CODE", help="Fix this finding, whatever its role (default: the causes)."),
    ] = None,
) -> None:
    """Show the change that each cause asks for as a diff, and make it where you agree.

    A file is changed only if it is your own and has not changed since the run. Exit code 0: nothing is left to fix; 11 or 12: a
    certain or likely cause is left; 2: unusable arguments, or a file that has changed since.
    """
    from unstuck.cli.diagnose import folder
    from unstuck.engine import diagnose
    from unstuck.experiments import verdict
    from unstuck.findings import GRADES
    from unstuck.repair import Bench, write
    from unstuck.trace.storage import read_run

    if yes and dry_run:
        raise UsageError("give either --yes or --dry-run, not both")
    path = folder(trace)
    diagnosis = diagnose(read_run(path))
    verdict.load(diagnosis, path)  # what an experiment has refuted is no cause any more
    chosen = _chosen(diagnosis, finding or [])
    if not chosen:
        print("No cause was found: there is nothing to fix.")
        print(f"\nNext: unstuck diagnose {shlex.quote(trace)}")
        raise typer.Exit(0)
    bench = Bench(diagnosis.run)
    left: list[Finding] = []
    seen: set[tuple[str, tuple[Site, ...]]] = set()
    shown, written = 0, ""  # written: the grade of the surest change that was made
    for one in chosen:
        key = (one.code, tuple(one.locations))
        if key in seen:
            continue  # another training of the same script with the same fault
        seen.add(key)
        change = bench.change(one)
        if change is not None and change.stale and not written:
            raise UsageError(f"{change.note} Run it again: {again(diagnosis.run)}")
        print(f"{one.code} {one.name}")
        _say(one.fix.summary if one.fix is not None else one.summary)
        if change is None or not change.diff:
            _say(change.note if change is not None else "It is to be changed by hand.")
            for site in one.locations[:3]:
                print(f"  {site.file}:{site.line}")
            left.append(one)
            print()
            continue
        shown += 1
        print("\n" + folded(change.diff), end="")
        if change.note:
            print()
            _say(("To decide: " if change.applicability == "unsafe" else "") + change.note)
        print()
        if yes and not finding and written and GRADES.index(one.grade) > GRADES.index(written):
            # Nobody is asked, and a weaker cause may have been the surer one's doing: the next run shows whether it is left.
            _say("Left for the next run: it may follow from what was just changed.")
            left.append(one)
            print()
            continue
        if dry_run or not (yes or _agreed(change)):
            left.append(one)
            print()
            continue
        write(change)
        bench.keep(change)
        written = min(written or one.grade, one.grade, key=GRADES.index)
        print(f"Changed {change.file}.\n")
    if written:
        print(f"Next: {again(diagnosis.run)}")
    elif shown:
        print(f"Next: unstuck fix {shlex.quote(trace)}" + "".join(f" --finding {c}" for c in finding or []))
    else:
        print(f"Next: unstuck explain {chosen[0].code}")
    grades = {f.grade for f in left if f.role == "cause"}
    raise typer.Exit(11 if "certain" in grades else 12 if "likely" in grades else 0)


def _chosen(diagnosis: Diagnosis, codes: list[str]) -> list[Finding]:
    """The causes, the worst training first; or what was named. Raises UsageError for a code that was not found."""
    found = [f for t in diagnosis.trainings for f in t.findings]
    if not codes:
        return [f for f in found if f.role == "cause"]
    chosen = []
    for code in codes:
        named = [f for f in found if code.upper() == f.code or code.lower() == f.name]
        if not named:
            there = ", ".join(dict.fromkeys(f.code for f in found)) or "nothing"
            raise UsageError(f"--finding {code}: not found in this run, which has {there}")
        chosen += [f for f in named if f not in chosen]
    return chosen


def _agreed(change: Change) -> bool:
    """Ask on the terminal. Raises UsageError where nobody can answer."""
    try:
        answer = input(f"Make this change in {change.file}? [y/N] ")
    except EOFError:
        print()
        raise UsageError("nobody answers on standard input; use --yes to make the changes, --dry-run to see them") from None
    if not sys.stdin.isatty():
        print(answer)
    return answer.strip().lower() in {"y", "yes"}


def again(run: Run) -> str:
    """The command that runs the same script again, under observation."""
    command = run.script if run.script.startswith("-m ") else shlex.quote(run.script)
    again = " ".join(["unstuck run", command, *map(shlex.quote, run.arguments)])
    try:
        here = os.path.realpath(run.directory) == os.getcwd()
    except OSError:
        here = False
    return again if here or not run.directory else f"cd {shlex.quote(run.directory)} && {again}"


def _say(text: str) -> None:
    for row in textwrap.wrap(text, WIDTH - 2, break_long_words=False, break_on_hyphens=False):
        print(f"  {row}")


def folded(diff: str) -> str:
    """A diff in 80 columns: context is cut, what changes is continued on the next row behind the same sign."""
    rows = []
    for row in re.split(r"\r\n|\n|\r", diff.rstrip("\r\n")):
        row = row.expandtabs(4)
        if len(row) <= WIDTH or row.startswith(("---", "+++", "@@", "\\")):
            rows.append(row)
        elif row.startswith((" ",)):
            rows.append(row[: WIDTH - 1] + "…")
        else:
            sign, rest = row[0], row[1:]
            indentation = " " * min(len(rest) - len(rest.lstrip()) + 4, WIDTH // 2)
            parts = textwrap.wrap(
                rest, WIDTH - 1, subsequent_indent=indentation, break_on_hyphens=False, drop_whitespace=True,
                replace_whitespace=False,
            )  # fmt: skip
            rows += [sign + part for part in parts]
    return "\n".join(rows) + "\n"
