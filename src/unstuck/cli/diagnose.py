"""unstuck diagnose: from a trace directory, from logs of any kind, or from pasted text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unstuck.cli.report import OUTPUT_HELP, catalogue, of_trace
from unstuck.errors import UsageError

if TYPE_CHECKING:
    from unstuck.cli.log_judgement import Known, LogReport

_TABLE_ENDING = ".csv"


def diagnose(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="TRACE_DIR | LOG... | -",
            help="A directory written by unstuck run; logs (CSV, JSON, TensorBoard, W&B, MLflow, terminal text) or folders of"
            " logs; - reads pasted text.",
        ),
    ],
    classes: Annotated[int | None, typer.Option(help="Logs: number of classes K.")] = None,
    vocab: Annotated[int | None, typer.Option(help="Logs: size of the vocabulary, as K for language models.")] = None,
    prior: Annotated[
        str | None, typer.Option(help="Logs: shares of the classes, 0.9,0.1; one number is the share of positives.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Logs: samples per step.")] = None,
    column: Annotated[str | None, typer.Option(metavar="NAME", help="Logs: the column that holds the loss.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", help="Logs: processes (default: one a core).")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the report.")] = False,
    output: Annotated[
        list[str] | None,
        typer.Option("-o", "--output", metavar="FILE", help=f"{OUTPUT_HELP} Many logs: .csv too."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No report on the terminal.")] = False,
) -> None:
    """Diagnose a finished or killed run, or logs. Exit code 0: no cause, 11: a certain cause, 12: a likely one."""
    from unstuck import report

    for file in output or []:
        if Path(file).suffix.lower() != _TABLE_ENDING or not Path(file).resolve().parent.is_dir():
            report.check_writable(file)
    if len(what) == 1 and (Path(what[0]) / "run.json").is_file():
        _trace(what[0], output or [], as_json, quiet)
        return
    if jobs < 0:
        raise UsageError(f"--jobs {jobs}: must be a positive number of processes")
    known = _known(classes, vocab, prior, batch)
    if "-" in what:
        if len(what) > 1:
            raise UsageError("- (pasted text) cannot be combined with files")
        _pasted(known, column, output or [], as_json, quiet)
        return
    _logs(what, known, column, jobs, output or [], as_json, quiet)


def _trace(trace: str, output: list[str], as_json: bool, quiet: bool) -> None:
    from unstuck import report
    from unstuck.report.terminal import render

    result = of_trace(trace)
    if not quiet:
        print(report.render(result, "json") if as_json else render(result, colour=sys.stdout.isatty()), end="")
    for file in output:
        report.write(result, file, catalogue())
    raise typer.Exit(result.exit_code)


def _known(classes: int | None, vocab: int | None, prior: str | None, batch: int | None) -> Known:
    """What the options say, checked. Raises UsageError naming the option."""
    from unstuck.cli.log_judgement import Known
    from unstuck.cli.value import _shares

    for name, value in (("--classes", classes), ("--vocab", vocab), ("--batch", batch)):
        if value is not None and value < 2:
            raise UsageError(f"{name} {value}: must be at least 2")
    if classes is not None and vocab is not None and classes != vocab:
        raise UsageError(f"--classes {classes} and --vocab {vocab} are the same thing here: give one of them")
    count = classes if classes is not None else vocab
    shares = _shares(prior)
    if shares is None:
        return Known(count, None, batch)
    shares = [1.0 - shares[0], shares[0]] if len(shares) == 1 else shares
    total = sum(shares)
    if not all(0.0 <= p <= 1.0 for p in shares) or abs(total - 1.0) > 0.02:
        raise UsageError(f"--prior {prior}: must be one share per class, together 1 (they are {total:.4g})")
    if count is not None and count != len(shares):
        raise UsageError(f"--prior {prior}: {len(shares)} shares for {count} classes; give one per class")
    return Known(len(shares), tuple(p / total for p in shares), batch)


def _pasted(known: Known, column: str | None, output: list[str], as_json: bool, quiet: bool) -> None:
    from unstuck.cli.log_judgement import judge
    from unstuck.observe.logs import read_pasted

    if sys.stdin is None:
        raise UsageError("-: there is no standard input")
    if sys.stdin.isatty() and not quiet:
        print("unstuck: paste the log, then Ctrl-D", file=sys.stderr)
    text = sys.stdin.buffer.read().decode("utf-8", "replace") if hasattr(sys.stdin, "buffer") else sys.stdin.read()
    _single(judge(read_pasted(text, column), known), "-", output, as_json, quiet)


def _logs(names: list[str], known: Known, column: str | None, jobs: int, output: list[str], as_json: bool, quiet: bool) -> None:
    from unstuck.cli.scan import gather, scan_files

    files, failed = gather(names)
    if not files:
        raise UsageError(next(iter(failed.values())))
    found = scan_files(files, known, column, jobs, quiet)
    failed |= found.failed
    if len(files) == 1 and len(names) == 1 and Path(names[0]) == files[0] and not found.stopped:
        if failed:
            raise UsageError(next(iter(failed.values())))
        if len(found.reports) == 1:
            _single(found.reports[0], names[0], output, as_json, quiet)
            return
    if not found.reports and not found.stopped:
        for reason in list(failed.values())[:10]:
            print(f"unstuck: {reason}", file=sys.stderr)
        raise UsageError(f"{', '.join(names[:3])}: none of {len(failed):,} files could be read as a log")
    _many(found.reports, failed, names, found.seconds, found.stopped, output, as_json, quiet)


def _single(one: LogReport, name: str, output: list[str], as_json: bool, quiet: bool) -> None:
    from unstuck.cli import log_report

    text, data = log_report.text_of(one, name), log_report.as_json([one], {})
    result = log_report.diagnosis_of([one], thorough=True)
    if not quiet:
        print(data if as_json else text, end="")
    for file in output:
        _write(file, {".json": data, ".txt": text}, result)
    raise typer.Exit(result.exit_code)


def _many(
    reports: list[LogReport], failed: dict[str, str], names: list[str], seconds: float, stopped: bool, output: list[str],
    as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    from unstuck.cli import log_report

    if not reports:
        raise UsageError("stopped before the first log was read")
    ordered, table = log_report.worst_first(reports)
    said = "Stopped (Ctrl-C): these are the logs that were read until then." if stopped else ""
    root = names[0] if len(names) == 1 else f"{len(names)} names"
    text = log_report.table_text(table, failed, root, seconds, said)
    data = log_report.as_json(ordered, failed, [said] if said else []) if as_json or any(_is(f, ".json") for f in output) else ""
    result = log_report.diagnosis_of(ordered)
    if not quiet:
        print(data if as_json else text, end="")
    for file in output:
        if _is(file, _TABLE_ENDING):
            try:
                table.write_csv(file)
            except OSError as error:
                raise UsageError(f"{file}: the table could not be written: {error.strerror or error}") from None
        else:
            _write(file, {".json": data, ".txt": text}, result)
    raise typer.Exit(result.exit_code)


def _is(file: str, ending: str) -> bool:
    return Path(file).suffix.lower() == ending


def _write(file: str, ready: dict[str, str], result) -> None:
    """A report whose text is at hand, or any other format by its module."""
    from unstuck import report

    text = ready.get(Path(file).suffix.lower())
    if text is None:
        if _is(file, _TABLE_ENDING):
            raise UsageError(f"{file}: the table is written for several logs; for one use {report.endings()}")
        report.write(result, file, catalogue())
        return
    report.save(text, file)


def folder(trace: str) -> Path:
    """The trace directory that was named. Raises UsageError where it is none."""
    path = Path(trace)
    if not path.is_dir():
        known = "is a file, not a trace directory; to explain a number use: unstuck value NUMBER" if path.is_file() else (
            "no such trace directory; 'unstuck run script.py' writes one under .unstuck/"
        )  # fmt: skip
        raise UsageError(f"{trace}: {known}")
    return path
