"""Many logs: read and judged in parallel processes, in bounded memory, with a bar on standard error.

Files go to the processes a few at a time and only a few chunks ahead, so that neither the list of files nor their numbers
pile up; what comes back of each is its report of a few kilobytes. A file that cannot be read is named and the rest goes
on, also where reading it kills a process.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from unstuck.cli.log_judgement import Known, LogReport, judge
from unstuck.observe.logs import LogError, read

CHUNK = 16  # files a process is given at a time
ALONE = 24  # fewer files than that are read here: a process takes half a second to start
LARGE = 1 << 25  # ... unless they are large: bytes
_QUIET = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Scan(msgspec.Struct):
    """What came of it. failed: file -> one line that says why it could not be read."""

    reports: list[LogReport] = msgspec.field(default_factory=list)
    failed: dict[str, str] = msgspec.field(default_factory=dict)
    seconds: float = 0.0
    stopped: bool = False  # by Ctrl-C


def scan_files(files: list[Path], known: Known, column: str | None, jobs: int = 0, quiet: bool = False) -> Scan:
    """Reports of all files. Ctrl-C keeps what there is."""
    began = time.monotonic()
    result = Scan()
    jobs = jobs or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else jobs or os.cpu_count() or 1
    size = sum(_size(f) for f in files[:ALONE]) if len(files) < ALONE else 0
    with _progress(len(files), quiet) as tick:
        try:
            if jobs < 2 or len(files) < 2 or (len(files) < ALONE and size < LARGE):
                for file in files:
                    _take(_one(str(file), known, column), result)
                    tick(1)
            else:
                _in_processes(files, known, column, jobs, result, tick)
        except KeyboardInterrupt:
            result.stopped = True
    result.seconds = time.monotonic() - began
    return result


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _one(file: str, known: Known, column: str | None) -> tuple[str, list[LogReport], str]:
    """(file, its reports, why it could not be read or '')."""
    try:
        return file, [judge(log, known) for log in read(file, column)], ""
    except LogError as error:
        return file, [], str(error)
    except MemoryError:
        return file, [], f"{file}: not enough memory to read it"
    except Exception as error:  # a bug of ours in one file must not cost the others
        if os.environ.get("UNSTUCK_DEBUG"):
            raise
        return file, [], f"{file}: our own error, {type(error).__name__}: {error}"


def _chunk(files: list[str], known: Known, column: str | None) -> bytes:
    """In a worker process: the reports of a few files, as bytes."""
    return msgspec.msgpack.encode([_one(file, known, column) for file in files])


def _take(outcome: tuple[str, list[LogReport], str], result: Scan) -> None:
    file, reports, why = outcome
    result.reports.extend(reports)
    if why:
        result.failed[file] = why


_DECODER: msgspec.msgpack.Decoder[list[tuple[str, list[LogReport], str]]] | None = None


def _decode(data: bytes) -> list[tuple[str, list[LogReport], str]]:
    global _DECODER
    if _DECODER is None:
        _DECODER = msgspec.msgpack.Decoder(list[tuple[str, list[LogReport], str]])
    return _DECODER.decode(data)


def _in_processes(
    files: list[Path], known: Known, column: str | None, jobs: int, result: Scan, tick: Callable[[int], None]
) -> None:
    """Fresh processes (a fork would copy the locks of Polars' threads), one thread each."""
    from concurrent.futures import FIRST_COMPLETED, Future, wait
    from concurrent.futures.process import BrokenProcessPool

    size = max(1, min(CHUNK, -(-len(files) // (4 * jobs))))
    chunks = iter([[str(f) for f in files[i : i + size]] for i in range(0, len(files), size)])
    suspects: list[str] = []
    with _environment():
        while True:
            pool = _pool(jobs)
            waiting: dict[Future[bytes], list[str]] = {}
            broken = False
            try:
                while True:
                    while len(waiting) < 3 * jobs and not broken and (chunk := next(chunks, None)) is not None:
                        waiting[pool.submit(_chunk, chunk, known, column)] = chunk
                    if not waiting:
                        break
                    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                        chunk = waiting.pop(future)
                        try:
                            for outcome in _decode(future.result()):
                                _take(outcome, result)
                            tick(len(chunk))
                        except BrokenProcessPool:
                            suspects += chunk
                            broken = True
            except BrokenProcessPool:
                broken = True  # between two submissions
            finally:
                pool.shutdown(wait=not broken, cancel_futures=True)
            suspects += [f for chunk in waiting.values() for f in chunk]
            if not broken:
                break
        if not suspects:
            return
        pool = _pool(1)
        try:
            for file in suspects:  # one of them killed its process: one at a time, so that it is known which
                try:
                    for outcome in _decode(pool.submit(_chunk, [file], known, column).result()):
                        _take(outcome, result)
                except BrokenProcessPool:
                    result.failed[file] = f"{file}: the process that read it died (out of memory?)"
                    pool.shutdown(wait=False)
                    pool = _pool(1)
                tick(1)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _pool(jobs: int):
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """One thread for each process: two pools of threads on two cores would spin against each other."""
    before = {name: os.environ.get(name) for name in _QUIET}
    os.environ.update(_QUIET)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on standard error that disappears at the end; nothing where nobody would see it."""
    try:
        seen = not quiet and total > 1 and sys.stderr is not None and sys.stderr.isatty()
    except (ValueError, AttributeError):
        seen = False
    if not seen:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("reading logs"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(file=sys.stderr), transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task("scan", total=total)
        yield lambda count: bar.advance(task, count)


def gather(names: Iterable[str]) -> tuple[list[Path], dict[str, str]]:
    """(files and run directories, what could not be used) for names of files and directories."""
    from unstuck.observe.logs import find
    from unstuck.observe.logs.mlflow import is_run

    files: list[Path] = []
    failed: dict[str, str] = {}
    seen: set[str] = set()
    for name in names:
        path = Path(name)
        if path.is_dir() and not is_run(path):
            if not os.access(path, os.R_OK | os.X_OK):
                failed[name] = f"{name}: this directory may not be read"
                continue
            here = [f for f in find(path) if str(f) not in seen]
            if not here:
                failed[name] = f"{name}: no logs in this directory, and it is no trace directory either (run.json is missing)"
        else:
            here = [path]
        seen.update(map(str, here))
        files += here
    return files, failed
