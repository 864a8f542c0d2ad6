"""Every script of gallery/keras, run for real on its backend: the fault comes first, a healthy training has no cause.

CODE_name_backend_sick.py has CODE as its first finding; ..._healthy.py is its twin and trap_name_backend.py looks like a
fault and is none. Run with .venv-keras/bin/python -m pytest tests_frameworks/keras.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GALLERY = ROOT / "gallery" / "keras"
BACKENDS = {"jax": "jax", "tf": "tensorflow", "torch": "torch"}
MARK = "# <- fault"
ALL = sorted(GALLERY.glob("*.py"))


def backend(path: Path) -> str:
    words = path.stem.split("_")
    return next(b for b in BACKENDS if b in words[-2:])


@functools.cache
def results(name: str) -> dict[str, dict]:
    scripts = [str(p) for p in ALL if backend(p) == name]
    env = os.environ | {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, str(Path(__file__).with_name("gallery_runner.py")), BACKENDS[name], *scripts]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {r["script"]: r for r in found}


def test_there_are_enough_scripts_on_every_backend() -> None:
    assert len(ALL) >= 40
    for name in BACKENDS:
        assert sum(backend(p) == name for p in ALL) >= 12
    for path in ALL:
        first = next(line for line in path.read_text(encoding="utf-8").splitlines() if "KERAS_BACKEND" in line)
        assert BACKENDS[backend(path)] in first
        if path.stem.endswith("_sick") and "weighted" not in path.stem:
            assert path.with_name(path.name.replace("_sick", "_healthy")).exists()


@pytest.mark.slow
@pytest.mark.parametrize(  # one process a backend: `results` is worked out once in each
    "path", [pytest.param(p, id=p.stem, marks=pytest.mark.xdist_group(backend(p))) for p in ALL]
)
def test_first_finding(path: Path) -> None:
    result = results(backend(path))[path.name]
    assert result["own_errors"] == []
    causes = [f[0] for f in result["findings"] if f[1] == "cause"]
    if not path.stem.endswith("_sick"):
        assert (causes, result["exit"]) == ([], 0), result
        return
    assert result["findings"] and result["findings"][0][0] == path.stem.split("_")[0], result
    assert causes, result
    lines = path.read_text(encoding="utf-8").splitlines()
    marked = next((i for i, line in enumerate(lines, 1) if line.rstrip().endswith(MARK)), None)
    if marked is not None:
        assert marked in [line for _, line in result["findings"][0][3][:2]], result
