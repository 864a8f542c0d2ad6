"""A run folder: written append-only, bounded, readable after kill -9, and never trusted."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from unstuck.errors import TraceError
from unstuck.trace import channels
from unstuck.trace.facts import Facts, Run, Site
from unstuck.trace.storage import read_run
from unstuck.trace.writer import THIN_FROM, Writer, stride

WIDTH = len(channels.SERIES_NAMES)


def row(value: float) -> tuple[float, ...]:
    return tuple(value + i for i in range(WIDTH))


def test_round_trip(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "trace")
    run = Run(script="train.py", arguments=["--lr", "1"])
    facts = [Facts(id=0, name="Net", made=Site("a.py", 3, "Net()")), Facts(id=1)]
    writer.run(run)
    for step in range(1, 201):
        writer.row(step % 2, step, row(step))
    for fact in facts:
        writer.facts(fact)
    facts[0].name = "Later"
    writer.facts(facts[0])
    writer.close()
    record = read_run(tmp_path / "trace")
    assert record.run == run
    assert [t.facts.name for t in record.traces] == ["Later", ""]
    odd = record.traces[1].series
    assert odd.steps.tolist() == list(range(1, 201, 2))
    assert odd["loss"].tolist() == [float(s) for s in range(1, 201, 2)]
    assert odd[channels.SERIES_NAMES[-1]][0] == 1 + WIDTH - 1


def test_a_million_steps_stay_under_50_mb(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "trace")
    values = row(0.5)
    for step in range(1, 1_000_001):
        writer.row(0, step, values)
    writer.facts(Facts())
    writer.close()
    size = sum(f.stat().st_size for f in (tmp_path / "trace").iterdir())
    assert size < 50e6
    steps = read_run(tmp_path / "trace").traces[0].series.steps
    assert len(steps) > 100_000
    assert (np.diff(steps) > 0).all()
    assert steps[-1] > 1_000_000 - 32


def test_every_step_is_kept_until_thinning_starts_and_the_stride_doubles() -> None:
    assert stride(0) == stride(THIN_FROM - 1) == 1
    assert [stride(THIN_FROM * n) for n in (1, 2, 3, 4, 8)] == [2, 4, 4, 8, 16]


def test_readable_after_kill_9(tmp_path: Path) -> None:
    code = f"""
import time
from unstuck.trace.facts import Facts
from unstuck.trace.writer import Writer
w = Writer(__import__('pathlib').Path({str(tmp_path / "trace")!r}))
w.facts(Facts(name='Net'))
step = 0
while True:
    step += 1
    w.row(0, step, (float(step),) * {WIDTH})
    w.tick()
    if step % 5000 == 0:
        print(step, flush=True)
    time.sleep(0)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    reached = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    series = read_run(tmp_path / "trace").traces[0].series
    assert series.steps[-1] >= reached - 64
    assert (series["loss"] == series.steps).all()


def test_slow_steps_are_flushed_within_a_second(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "trace")
    writer.facts(Facts())
    writer.row(0, 1, row(1.0))
    time.sleep(0.6)
    writer.tick()
    assert len(read_run(tmp_path / "trace").traces[0].series) == 1


def test_a_torn_tail_is_cut(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "trace")
    writer.facts(Facts(name="whole"))
    for step in range(1, 101):
        writer.row(0, step, row(step))
    writer.close()
    folder = tmp_path / "trace"
    with open(folder / "facts.jsonl", "ab") as file:
        file.write(b'{"kind": "facts", "value": {"id": 0, "na')
    data = (folder / "series.bin").read_bytes()
    (folder / "series.bin").write_bytes(data[:-7])
    record = read_run(folder)
    assert record.traces[0].facts.name == "whole"
    assert record.traces[0].series.steps[-1] == 99


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("run.json", b"{", "run.json"),
        ("run.json", b"\xff\xfe", "run.json"),
        ("run.json", b'{"format": 999, "series": []}', "newer"),
        ("run.json", b'{"format": 1, "series": ["a", "a"]}', "run.json"),
        ("facts.jsonl", b'{"kind": "facts", "value": {"id": "x"}}\n', "line 1"),
        ("facts.jsonl", b"not json\n", "line 1"),
        ("run.json", None, "run.json"),
        ("facts.jsonl", None, "facts.jsonl"),
        ("series.bin", None, "series.bin"),
    ],
)
def test_damage_is_one_clear_line(tmp_path: Path, name: str, content: bytes | None, word: str) -> None:
    writer = Writer(tmp_path / "trace")
    writer.facts(Facts())
    writer.close()
    target = tmp_path / "trace" / name
    if content is None:
        target.unlink()
    else:
        target.write_bytes(content)
    with pytest.raises(TraceError) as raised:
        read_run(tmp_path / "trace")
    assert word in str(raised.value)
    assert str(tmp_path / "trace") in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 2


PAIRS = {"x": np.zeros((4, 3), np.float32), "y": np.arange(4), "batch": np.zeros(4, np.int64), "kind": np.array("real"),
         "columns": np.array(3)}  # fmt: skip


def with_pairs(folder: Path, **change: np.ndarray) -> Path:
    writer = Writer(folder)
    writer.facts(Facts())
    writer.close()
    np.savez(folder / "pairs-0.npz", **(PAIRS | change))
    return folder / "pairs-0.npz"


def test_pairs_are_read_back(tmp_path: Path) -> None:
    with_pairs(tmp_path / "trace")
    pairs = read_run(tmp_path / "trace").traces[0].pairs
    assert pairs is not None and (pairs.kind, pairs.columns, pairs.y.tolist()) == ("real", 3, [0, 1, 2, 3])
    with_pairs(tmp_path / "ids", kind=np.array("ids"), x=np.zeros((4, 3), np.int64))
    pairs = read_run(tmp_path / "ids").traces[0].pairs
    assert pairs is not None and (pairs.kind, pairs.x.dtype) == ("ids", np.int64)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"y": np.array(3)}, "y is not"),
        ({"y": np.zeros((4, 2), int)}, "y is not"),
        ({"y": np.zeros(4)}, "y is not"),
        ({"y": np.arange(3)}, "length"),
        ({"batch": np.array(0)}, "batch is not"),
        ({"columns": np.arange(2)}, "columns"),
        ({"columns": np.array("3")}, "columns"),
        ({"x": np.full((4, 3), "a")}, "x is not"),
        ({"x": np.zeros(4)}, "x is not"),
        ({"x": np.zeros((4, 3)), "kind": np.array("ids")}, "x is not"),
        ({"x": np.full((4, 3), None)}, "pickle"),
        ({"kind": np.array("weird")}, "weird"),
        ({"kind": np.array(["real", "ids"])}, "kind"),
    ],
)
def test_damaged_pairs(tmp_path: Path, change: dict[str, np.ndarray], word: str) -> None:
    with_pairs(tmp_path / "trace", **change)
    with pytest.raises(TraceError, match=r"damaged trace: pairs-0\.npz: .*" + word) as raised:
        read_run(tmp_path / "trace")
    assert str(tmp_path / "trace") in str(raised.value) and "\n" not in str(raised.value)


def test_another_file_in_the_place_of_the_pairs(tmp_path: Path) -> None:
    path = with_pairs(tmp_path / "trace")
    whole = path.read_bytes()
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    lacking = io.BytesIO()
    np.savez(lacking, **{name: value for name, value in PAIRS.items() if name != "batch"})
    for content in (buffer.getvalue(), lacking.getvalue(), b"", b"no archive", whole[:-30], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(TraceError, match=r"pairs-0\.npz") as raised:
            read_run(tmp_path / "trace")
        assert "\n" not in str(raised.value)


def test_a_missing_directory_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="unstuck run"):
        read_run(tmp_path / "nowhere")


def test_a_forked_child_never_writes(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "trace")
    writer.facts(Facts())
    writer.row(0, 1, row(1.0))
    pid = os.fork()
    if pid == 0:
        writer.forget()
        writer.row(0, 2, row(2.0))
        writer.flush()
        writer.facts(Facts(name="child"))
        os._exit(0)
    os.waitpid(pid, 0)
    writer.close()
    record = read_run(tmp_path / "trace")
    assert record.traces[0].facts.name == ""
    assert record.traces[0].series.steps.tolist() == [1]
