"""Lightning and Hugging Face, unchanged under `unstuck run` and with a callback: the right first finding or silence, and the
weights, the random state, standard output and the exit code of a run that nobody watches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

SCRIPTS = Path(__file__).parent / "scripts"
STACKS = {
    "lightning": ("lightning_fit.py", []),
    "lightning, manual": ("lightning_fit.py", ["manual"]),
    "hf": ("hf_trainer.py", []),
    "hf, label smoothing": ("hf_trainer.py", ["smoothing"]),
    "hf, checkpointing": ("hf_trainer.py", ["checkpointing"]),
    "hf, reentrant checkpointing": ("hf_trainer.py", ["reentrant"]),
    "hf, bf16": ("hf_trainer.py", ["bf16"]),
}


class Ran(NamedTuple):
    code: int
    left: str  # the line with the weights' hash
    err: str


def ran(folder: Path, command: list[str]) -> Ran:
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "TOKENIZERS_PARALLELISM": "false"},
    )  # fmt: skip
    left = [line for line in done.stdout.splitlines() if line.startswith("left ")]
    assert len(left) == 1, done.stdout + done.stderr
    return Ran(done.returncode, left[0], done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("health", ["sick", "healthy"])
@pytest.mark.parametrize("stack", STACKS)
def test_unchanged_under_unstuck_run(stack: str, health: str, tmp_path: Path) -> None:
    name, options = STACKS[stack]
    words = [str(SCRIPTS / name), health, "none", *options]
    plain = ran(tmp_path, words)
    seen = ran(tmp_path, ["-m", "unstuck", "run", "-o", "report.json", *words])
    assert (seen.code, seen.left) == (plain.code, plain.left) and plain.code == 0
    report = json.loads((tmp_path / "report.json").read_text())
    causes = [f["code"] for f in report["trainings"][0]["findings"] if f["role"] == "cause"]
    assert causes[:1] == (["W101"] if health == "sick" else []), seen.err[-3000:]
    assert "A part of unstuck failed" not in seen.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "health"), [("lightning_fit.py", "sick"), ("hf_trainer.py", "sick"), ("hf_trainer.py", "healthy")]
)
def test_with_a_callback(name: str, health: str, tmp_path: Path) -> None:
    words = [str(SCRIPTS / name), health]
    plain = ran(tmp_path, words)
    seen = ran(tmp_path, [*words, "callback"])
    assert (seen.code, seen.left) == (plain.code, plain.left)
    assert seen.err.count("── unstuck ──") == 1
    assert ("W101 softmax-twice" in seen.err) == (health == "sick")
    twice = ran(tmp_path, ["-m", "unstuck", "run", *words, "callback"])
    assert twice.left == plain.left
    assert twice.err.count("── unstuck ──") == 1
