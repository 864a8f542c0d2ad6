"""The Triton kernel, interpreted on the CPU in a process of its own: TRITON_INTERPRET is read when the kernel is made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("triton_cases.py")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "options",
        "layouts",
        "infinities",  # pitfalls 3 and 17
        "tail",  # pitfall 11
        "offsets",  # pitfall 5
        "out_of_range",  # pitfall 13
    ],
)
def test_the_kernel_agrees_with_the_eager_path(name: str) -> None:
    run = subprocess.run(
        [sys.executable, str(CASES), name],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
