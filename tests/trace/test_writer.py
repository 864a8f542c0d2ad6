"""The one mutable object: what it writes is whole, or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unstuck.trace import writer as module
from unstuck.trace.facts import Facts
from unstuck.trace.storage import read_run
from unstuck.trace.writer import Writer

ROW = (1.0,) * 9


def test_a_write_that_takes_only_a_part_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(module.os, "write", lambda file, data: real(file, bytes(data)[:7]))
    writer = Writer(tmp_path)
    writer.facts(Facts(id=0))
    for step in range(1, 6):
        writer.row(0, step, ROW)
    writer.close()
    monkeypatch.undo()
    [trace] = read_run(tmp_path).traces
    assert trace.series.steps.tolist() == [1, 2, 3, 4, 5] and trace.series["loss"].tolist() == [1.0] * 5


def test_a_disk_that_is_full_in_the_middle_of_a_row_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(tmp_path)
    writer.facts(Facts(id=0))
    writer.row(0, 1, ROW)
    writer.flush()
    real, left = os.write, [30]

    def full(file: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(28, "No space left on device")
        taken = real(file, bytes(data)[: left[0]])
        left[0] -= taken
        return taken

    monkeypatch.setattr(module.os, "write", full)
    writer.row(0, 2, ROW)
    with pytest.raises(OSError, match="No space"):
        writer.flush()
    monkeypatch.undo()
    [trace] = read_run(tmp_path).traces
    assert trace.series.steps.tolist() == [1]
