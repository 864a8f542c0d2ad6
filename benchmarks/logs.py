"""Scanning logged runs: how long, how much memory, and are the states right?

    python benchmarks/logs.py [--runs 10000] [--steps 10000] [--format csv|jsonl|events|wandb|mixed] [--jobs 2] [--keep DIR]

Writes the runs (six kinds of healthy curve, four of stuck ones, in turn), scans them with `unstuck diagnose DIR` in a
process of its own, and prints: wall time, processor seconds, the largest memory of all its processes together (proportional
set size, sampled), and the table of what was said about each kind. The writers of the formats are used by the tests too.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from unstuck.observe.logs.tensorboard import masked_crc, masked_crcs

Columns = dict[str, np.ndarray]

# ------------------------------------------------------------------------------------------------------- curves


def curve(kind: str, steps: int, rng: np.random.Generator) -> Columns:
    """One logged training of ten classes: step, train_loss, train_acc."""
    t = np.arange(1, steps + 1)
    chance = math.log(10)
    noise = rng.standard_normal(steps)
    share = t / steps
    loss = {
        "healthy": lambda: 0.15 + (chance - 0.15) * np.exp(-6 * share) + 0.05 * noise * np.exp(-3 * share),
        "slow": lambda: chance * (1 - 0.5 * share) + 0.03 * noise,
        "power law": lambda: 0.3 + 2.0 * (1 + 50 * share) ** -0.5 + 0.04 * noise,
        "plateau that ends": lambda: np.where(share < 0.5, chance, chance * np.exp(-8 * (share - 0.5))) + 0.01 * noise,
        "converged": lambda: 0.42 + (chance - 0.42) * np.exp(-40 * share) + 0.02 * noise,
        "stairs": lambda: chance * 0.6 ** np.floor(share * 10) + 0.01 * noise + 0.02,
        "at chance": lambda: chance + 0.004 + 0.02 * noise,
        "not a number": lambda: np.where(share < 0.3, chance * np.exp(-2 * share) + 0.02 * noise, np.nan),
        "constant": lambda: np.full(steps, 7.9712),
        "diverging": lambda: chance + 60 * share**2 + 0.5 * noise * share,
    }[kind]()
    accuracy = np.clip(np.where(np.isfinite(loss), np.exp(-np.nan_to_num(loss)), 0.1) + 0.01 * rng.standard_normal(steps), 0, 1)
    if kind == "constant":
        accuracy = np.full(steps, 0.5)
    return {"step": t, "train_loss": loss, "train_acc": accuracy}


HEALTHY = ("healthy", "slow", "power law", "plateau that ends", "converged", "stairs")
STUCK = ("at chance", "not a number", "constant", "diverging")
KINDS = (*HEALTHY, *STUCK)

# ------------------------------------------------------------------------------------------------------- writers


def to_csv(file: Path, columns: Columns) -> None:
    import polars as pl

    frame = pl.DataFrame(columns).with_columns(pl.col(pl.Float64).round(6))
    frame.write_csv(file)


def to_jsonl(file: Path, columns: Columns) -> None:
    names = list(columns)
    rows = zip(*(c.tolist() for c in columns.values()))
    file.write_text("".join(json.dumps(dict(zip(names, row))) + "\n" for row in rows))  # NaN as Python writes it


def varint(value: int) -> bytes:
    out = bytearray()
    value &= (1 << 64) - 1
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, wire: int, data: bytes) -> bytes:
    return varint(number << 3 | wire) + (varint(len(data)) if wire == 2 else b"") + data


def frame(record: bytes) -> bytes:
    """A TFRecord."""
    head = struct.pack("<Q", len(record))
    return head + struct.pack("<I", masked_crc(head)) + record + struct.pack("<I", masked_crc(record))


def event(step: int, values: dict[str, float], tensor: bool = False, kind: int = 1, wall: float = 1.7e9) -> bytes:
    """An event of scalars; tensor: as TensorFlow 2 writes them (kind 1 float32, 2 float64)."""
    summary = b""
    for tag, value in values.items():
        inner = field(1, 2, tag.encode())
        if tensor:
            content = struct.pack("<f" if kind == 1 else "<d", value)
            body = field(1, 0, varint(kind)) + field(2, 2, b"") + field(4, 2, content)
            inner += field(8, 2, body) + field(9, 2, field(1, 2, field(1, 2, b"scalars")))
        else:
            inner += field(2, 5, struct.pack("<f", value))
        summary += field(1, 2, inner)
    return field(1, 1, struct.pack("<d", wall + step)) + field(2, 0, varint(step)) + field(5, 2, summary)


def to_events(file: Path, columns: Columns, tensor: bool = False) -> None:
    """One event per value, as SummaryWriter.add_scalar writes them. Built by numpy for simple values, thousands at a time."""
    steps = columns["step"]
    version = frame(field(1, 1, struct.pack("<d", 1.7e9)) + field(3, 2, b"brain.Event:2"))
    parts: list[tuple[np.ndarray, list[bytes]]] = [(np.array([-1.0]), [version])]
    for place, (tag, values) in enumerate((k, v) for k, v in columns.items() if k != "step"):
        made: list[bytes] = [b""] * len(steps)
        sizes = np.array([len(varint(int(s))) for s in steps])
        for size in np.unique(sizes):
            group = np.flatnonzero(sizes == size)
            example = event(int(steps[group[0]]), {tag: 1.0}, tensor)
            rows = np.tile(np.frombuffer(example, dtype=np.uint8), (len(group), 1))
            for i in range(size):
                rows[:, 10 + i] = (steps[group] >> (7 * i)) & 0x7F | (0x80 if i < size - 1 else 0)
            value_at = example.rindex(struct.pack("<f", 1.0))
            rows[:, value_at : value_at + 4] = values[group].astype("<f4")[:, None].view(np.uint8)
            head = struct.pack("<Q", len(example))
            head += struct.pack("<I", masked_crc(head))
            tails = masked_crcs(rows).astype("<u4")
            for number, row, tail in zip(group, rows, tails):
                made[number] = head + row.tobytes() + tail.tobytes()
        parts.append((steps + 0.1 * place, made))
    order = np.argsort(np.concatenate([p[0] for p in parts]), kind="stable")
    records = [r for p in parts for r in p[1]]
    file.write_bytes(b"".join(records[i] for i in order))


def to_wandb(file: Path, columns: Columns) -> None:
    """An offline run: history records in a LevelDB log."""
    with file.open("wb") as out:
        out.write(struct.pack("<4sHB", b":W&B", 0xBEE1, 0))
        offset = 7
        names = [c for c in columns if c != "step"]
        for row, step in enumerate(columns["step"].tolist()):
            items = b""
            for name, value in [(n, columns[n][row]) for n in names] + [("_step", step)]:
                items += field(1, 2, field(2, 2, name.encode()) + field(16, 2, json.dumps(float(value)).encode()))
            record = field(1, 0, varint(row)) + field(2, 2, items + field(2, 2, field(1, 0, varint(step))))
            offset = _write_block(out, record, offset)


def _write_block(out, record: bytes, offset: int) -> int:
    left = 32768 - offset % 32768
    if left < 7:
        out.write(b"\x00" * left)
        offset += left
        left = 32768
    first = True
    while True:
        piece = record[: left - 7]
        record = record[left - 7 :]
        kind = (1 if first else 4) if not record else (2 if first else 3)
        out.write(struct.pack("<IHB", zlib.crc32(piece, zlib.crc32(bytes([kind]))), len(piece), kind) + piece)
        offset += 7 + len(piece)
        if not record:
            return offset
        first, left = False, 32768


def to_mlruns(run: Path, columns: Columns) -> None:
    """A run of MLflow's file store."""
    (run / "metrics").mkdir(parents=True)
    (run / "meta.yaml").write_text("run_id: x\n")
    for name, values in columns.items():
        if name != "step":
            lines = (f"{1700000000000 + s} {v!r} {s}\n" for s, v in zip(columns["step"].tolist(), values.tolist()))
            (run / "metrics" / name).write_text("".join(lines))


def to_mlflow(file: Path, runs: dict[str, Columns]) -> None:
    """MLflow's SQLite store, the tables that matter."""
    import sqlite3

    with sqlite3.connect(file) as base:
        base.execute("create table runs (run_uuid text, name text, start_time integer, lifecycle_stage text)")
        base.execute("create table metrics (key text, value real, timestamp integer, step integer, is_nan boolean, run_uuid text)")
        for number, (name, columns) in enumerate(runs.items()):
            base.execute("insert into runs values (?, ?, ?, 'active')", (f"u{number}", name, number))
            for key, values in columns.items():
                if key != "step":
                    rows = [
                        (key, 0.0 if math.isnan(v) else v, 0, s, math.isnan(v), f"u{number}")
                        for s, v in zip(columns["step"].tolist(), values.tolist())
                    ]
                    base.executemany("insert into metrics values (?, ?, ?, ?, ?, ?)", rows)
    base.close()


FORMATS: dict[str, tuple[str, Callable[[Path, Columns], None]]] = {
    "csv": (".csv", to_csv), "jsonl": (".jsonl", to_jsonl), "events": (".tfevents", to_events), "wandb": (".wandb", to_wandb),
}  # fmt: skip


def write_runs(folder: Path, runs: int, steps: int, formats: Iterable[str]) -> None:
    kinds, names = KINDS, list(formats)
    rng = np.random.default_rng(0)
    for number in range(runs):
        kind = kinds[number % len(kinds)]
        ending, write = FORMATS[names[number // len(kinds) % len(names)]]
        place = folder / f"{number // 1000:03d}"
        place.mkdir(exist_ok=True)
        write(place / f"{kind.replace(' ', '-')}_{number:05d}{ending}", curve(kind, steps, rng))


# ------------------------------------------------------------------------------------------------------- measuring


def memory(pid: int) -> int:
    """Proportional set size of a process and its descendants, bytes."""
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
            for task in os.listdir(f"/proc/{one}/task"):
                waiting += [int(c) for c in Path(f"/proc/{one}/task/{task}/children").read_text().split()]
        except (OSError, StopIteration):
            continue
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--format", choices=[*FORMATS, "mixed"], default="csv")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="write the runs here and leave them (they are reused if they are there)")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="unstuck-logs-"))
    try:
        if not any(folder.glob("*/*")):
            folder.mkdir(exist_ok=True, parents=True)
            began = time.monotonic()
            write_runs(folder, options.runs, options.steps, FORMATS if options.format == "mixed" else [options.format])
            print(f"{options.runs:,} runs of {options.steps:,} steps written in {time.monotonic() - began:.0f} s", flush=True)
        answer = folder / "report.json"
        command = [sys.executable, "-m", "unstuck", "diagnose", str(folder), "--quiet", "--jobs", str(options.jobs)]
        command += ["-o", str(answer)]
        load = os.getloadavg()[0]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        process = subprocess.Popen(command)
        largest = 0
        while process.poll() is None:
            largest = max(largest, memory(process.pid))
            time.sleep(0.25)
        wall = time.monotonic() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        result = json.loads(answer.read_text())
        answer.unlink()
        print(f"exit code {process.returncode}; wall {wall:.1f} s; processor {used:.1f} s; load before {load:.1f};"
              f" largest memory {largest / 2**20:.0f} MB; {len(result['unreadable'])} unreadable")  # fmt: skip
        said: dict[str, Counter[str]] = {}
        for training in result["trainings"]:
            kind = Path(training["log"]["file"]).name.rpartition("_")[0].replace("-", " ")
            cause = next((f["code"] for f in training["findings"] if f["role"] == "cause"), "")
            said.setdefault(kind, Counter())[f"{training['symptom']['name']} {cause}".strip()] += 1
        for kind in KINDS:
            if kind in said:
                print(f"  {kind:20} {', '.join(f'{n} {s}' for s, n in said[kind].most_common())}")
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
