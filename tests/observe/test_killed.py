"""kill -9 at random moments, a disk that is full, nowhere to write, nowhere to speak: the training goes on, the trace stays."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import killed
import pytest
import torch
from torch import nn

import unstuck
from unstuck.trace import writer as writer_module

SHOWN = 3  # rows after which the trace of the softmax training says W101; structural facts are written at the first steps


@pytest.mark.slow
def test_killed_at_ten_random_moments(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, killed.__file__, str(tmp_path), "10", "7"], check=True, timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    results = json.loads((tmp_path / "results.json").read_text())
    assert [r for r in results if "error" in r] == []
    assert [r for r in results if r["rows"] >= SHOWN and r["first"] != "W101"] == []
    assert [r for r in results if r["lost seconds"] > 1.0] == []
    assert [r["finished"] for r in results] == [False] * 10
    assert sum(r["first"] == "W101" for r in results) >= 3  # not all of them died before anything was seen


class Disk:
    """os.write of a disk with so many bytes left: the last write is cut short, then there is no space."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.refused = 0
        self.real = os.write

    def __call__(self, file: int, data: bytes) -> int:
        if not self.left:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        data = data[: self.left]
        self.left -= len(data)
        return self.real(file, data)


def trained() -> list[bytes]:
    torch.manual_seed(0)
    x = torch.randn(256, 12)
    y = (x @ torch.randn(12, 4)).argmax(1)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 4), nn.Softmax(dim=1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(150):
        rows = torch.randint(0, 256, (32,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    return [t.numpy().tobytes() for t in (*model.state_dict().values(), torch.get_rng_state())]


@pytest.mark.parametrize("left", [0, 100, 3_000, 20_000, 60_000])
def test_the_disk_is_full(left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = trained()
    disk = Disk(left)
    monkeypatch.setattr(writer_module.os, "write", disk)
    with unstuck.watch(trace=tmp_path / "t", quiet=True) as doctor:
        assert trained() == plain
    monkeypatch.undo()
    assert disk.refused
    assert any("No space left" in note for note in doctor._watch.run.notes)
    said: Any = str(doctor)  # whatever is left of the trace: a report, or one line
    assert "W101" in said or "no training" in said.lower() or said.startswith("unstuck: "), said
    if left >= 60_000:
        assert "W101" in said


SCRIPT = """
import sys, torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Softmax(1)); optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(30):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(torch.randn(8, 4)), torch.randint(0, 3, (8,))).backward(); optimizer.step()
print([p.sum().item() for p in model.parameters()])
raise SystemExit(3)
"""


@pytest.mark.slow
def test_nowhere_to_write_and_nowhere_to_speak(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "file").write_text("")
    python = f"{sys.executable} "
    outs = []
    for command in (
        python + "script.py",
        python + "-m unstuck run script.py 2> /dev/full",
        python + "-m unstuck run --trace file/trace script.py 2>&-",
    ):
        done = subprocess.run(["sh", "-c", command], cwd=tmp_path, stdout=subprocess.PIPE, text=True, timeout=200)
        outs.append((done.returncode, done.stdout))
    assert outs[0][0] == 3 and outs[0][1].startswith("[")
    assert outs == outs[:1] * 3
