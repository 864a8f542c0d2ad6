"""Reads a run folder back. No pickle; nothing outside the folder is opened; a torn tail is cut, not an error."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

import msgspec
import numpy as np

from unstuck.errors import TraceError
from unstuck.trace import channels
from unstuck.trace.facts import Facts, Run
from unstuck.trace.trace import Pairs, RunRecord, Series, Trace
from unstuck.trace.writer import FORMAT

_KINDS = {"real": "fiu", "ids": "iu"}  # of the pairs, with the kinds of numbers their x may hold


class _Header(msgspec.Struct):
    format: int
    series: list[str]


class _Line(msgspec.Struct):
    kind: str
    value: msgspec.Raw


def read_run(directory: str | os.PathLike[str]) -> RunRecord:
    """Read a run folder written by `unstuck run`.

    Raises TraceError (exit code 2) with one line that names the folder and what is wrong with it.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise TraceError(f"{folder}: no such trace directory; 'unstuck run script.py' writes one under .unstuck/")
    header = _header(folder)
    run, facts = _facts(folder)
    rows = _series(folder, header)
    traces = []
    for number in sorted(facts):
        mine = rows[rows["training"] == number]
        columns = {n: np.ascontiguousarray(mine[n]) for n in header.series if n in channels.SERIES_NAMES}
        for name in channels.SERIES_NAMES:
            columns.setdefault(name, np.full(len(mine), np.nan))
        series = Series(mine["step"].astype(np.int64), columns)
        traces.append(Trace(facts[number], series, _pairs(folder / f"pairs-{number}.npz")))
    return RunRecord(run, traces, str(folder))


def _header(folder: Path) -> _Header:
    try:
        header = msgspec.json.decode((folder / "run.json").read_bytes(), type=_Header)
    except FileNotFoundError:
        raise TraceError(f"{folder}: not a trace: run.json is missing") from None
    except (msgspec.MsgspecError, OSError, UnicodeDecodeError) as error:
        raise TraceError(f"{folder}: damaged trace: run.json: {error}") from None
    if header.format > FORMAT:
        raise TraceError(f"{folder}: written by a newer unstuck (format {header.format}); update this one")
    if len(set(header.series)) != len(header.series) or len(header.series) > 256:
        raise TraceError(f"{folder}: damaged trace: run.json: impossible list of series")
    return header


def _facts(folder: Path) -> tuple[Run, dict[int, Facts]]:
    run = Run()
    facts: dict[int, Facts] = {}
    try:
        lines = (folder / "facts.jsonl").read_bytes().split(b"\n")
    except OSError as error:
        raise TraceError(f"{folder}: damaged trace: facts.jsonl: {error.strerror}") from None
    # What follows the last newline is a line that was being written when the process was killed.
    for number, line in enumerate(lines[:-1], 1):
        try:
            head = msgspec.json.decode(line, type=_Line)
            if head.kind == "facts":
                fact = msgspec.json.decode(head.value, type=Facts)
                facts[fact.id] = fact
            elif head.kind == "run":
                run = msgspec.json.decode(head.value, type=Run)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise TraceError(f"{folder}: damaged trace: facts.jsonl line {number}: {error}") from None
    return run, facts


def _pairs(path: Path) -> Pairs | None:
    """The captured (input, label) pairs; None where there are none or the file was not finished."""
    try:
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            raise ValueError("one array, not an archive of them")
        with stored:
            x, y, batch, kind, columns = (stored[name] for name in ("x", "y", "batch", "kind", "columns"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError, zlib.error, zipfile.BadZipFile) as error:
        told = str(error).strip().split("\n")[0] or type(error).__name__
        raise TraceError(f"{path.parent}: damaged trace: {path.name}: {told}") from None
    wrong = _wrong(x, y, batch, kind, columns)
    if wrong:
        raise TraceError(f"{path.parent}: damaged trace: {path.name}: {wrong}")
    return Pairs(x, y, batch, str(kind), int(columns))


def _wrong(x: np.ndarray, y: np.ndarray, batch: np.ndarray, kind: np.ndarray, columns: np.ndarray) -> str:
    """What keeps these arrays from being captured pairs; '' where nothing does."""
    if kind.ndim or str(kind) not in _KINDS:
        return f"kind is {str(kind)[:40]!r}, not one of {', '.join(_KINDS)}"
    if columns.ndim or columns.dtype.kind not in "iu":
        return "columns is not one integer"
    if x.ndim != 2 or x.dtype.kind not in _KINDS[str(kind)]:
        return f"x is not a table of {'integers' if str(kind) == 'ids' else 'numbers'}"
    for name, array in (("y", y), ("batch", batch)):
        if array.ndim != 1 or array.dtype.kind not in "iu":
            return f"{name} is not a row of integers"
    return "" if len(x) == len(y) == len(batch) else "arrays of different length"


def _series(folder: Path, header: _Header) -> np.ndarray:
    layout = np.dtype([("training", "<u2"), ("pad", "<u2"), ("step", "<u4"), *((n, "<f8") for n in header.series)])
    try:
        data = (folder / "series.bin").read_bytes()
    except OSError as error:
        raise TraceError(f"{folder}: damaged trace: series.bin: {error.strerror}") from None
    return np.frombuffer(data[: len(data) - len(data) % layout.itemsize], dtype=layout)
