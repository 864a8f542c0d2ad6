"""The only mutable object of the trace: writes a run folder while the training runs.

    run.json      one line: format version
    facts.jsonl   append-only; each line is a whole snapshot of one training's facts (or of the run): the last one wins
    series.bin    append-only; fixed-size little-endian rows (layout in `storage`)

Append-only and flushed at least once a second means that `kill -9` costs at most the last second. Bounded: from step
2^16 on, rows are thinned by a stride that doubles each time the step count doubles, so that a million steps take about
200,000 rows (16 MB). Snapshots are taken at steps that grow geometrically, so their number is logarithmic.

Standard library and msgspec only: numpy may not be loaded before the observed script loads it.
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import msgspec

from unstuck.trace.channels import SERIES_NAMES
from unstuck.trace.facts import Facts, Run

FORMAT = 1
ROW = struct.Struct("<HxxI" + "d" * len(SERIES_NAMES))
THIN_FROM = 1 << 16
FLUSH_ROWS = 64
FLUSH_SECONDS = 0.5
NAN = float("nan")


def stride(step: int) -> int:
    """Every how many steps a row is kept at this step: 1 below 2^16, then doubling with the step count."""
    return 1 if step < THIN_FROM else 1 << (step // THIN_FROM).bit_length()


class Writer:
    """Appends to a run folder. Raises OSError when the folder cannot be written; the caller decides to go on without."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        (directory / "run.json").write_text(
            f'{{"format": {FORMAT}, "series": {msgspec.json.encode(SERIES_NAMES).decode()}}}\n'
        )
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        self._facts = os.open(directory / "facts.jsonl", flags, 0o644)
        self._series = os.open(directory / "series.bin", flags, 0o644)
        self._rows: list[bytes] = []
        self._flushed = time.monotonic()
        self.closed = False

    def row(self, training: int, step: int, values: tuple[float, ...]) -> None:
        """One optimizer step: values in the order of channels.SERIES."""
        if step % stride(step):
            return
        self._rows.append(ROW.pack(training, step, *values))
        if len(self._rows) >= FLUSH_ROWS:
            self.flush()

    def tick(self) -> None:
        """Flush if the last flush is older than half a second."""
        if self._rows and time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        if self._rows and not self.closed:
            data = b"".join(self._rows)
            self._rows.clear()
            _write(self._series, data)
        self._flushed = time.monotonic()

    def facts(self, facts: Facts) -> None:
        """A snapshot of one training's facts."""
        self._line("facts", facts)

    def run(self, run: Run) -> None:
        """A snapshot of the run's own record."""
        self._line("run", run)

    def _line(self, kind: str, value: msgspec.Struct) -> None:
        if not self.closed:
            _write(self._facts, msgspec.json.encode({"kind": kind, "value": value}) + b"\n")

    def close(self) -> None:
        if not self.closed:
            self.flush()
            self.closed = True
            os.close(self._facts)
            os.close(self._series)

    def forget(self) -> None:
        """In a forked child: drop what the parent will write, and never write."""
        self._rows.clear()
        self.closed = True


def _write(file: int, data: bytes) -> None:
    """All of it, or OSError: on a disk that is nearly full a write may end in the middle of a row, and what came after it would be
    read as other numbers."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
