"""The gallery, run for real: one style of every code, every third twin, every eighth trap; all of it in the benchmarks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import detection  # noqa: E402 (the folder above is no package)
import no_harm  # noqa: E402

ALL = detection.cases()
# What is known to be missed, with the reason; the benchmark counts these as wrong.
KNOWN_MISSES: dict[str, str] = {}
SICK = list({c.path.parent: c for c in reversed(ALL) if c.code and c.name not in KNOWN_MISSES}.values())[::-1]
TWINS = [detection.Case(c.path.with_name(c.path.name.replace("sick_", "healthy_")), "") for c in SICK]
TRAPS = [c for c in ALL if c.path.parent.name == "traps"]
pytestmark = pytest.mark.slow


def name(case: detection.Case) -> str:
    return case.name


def test_every_rule_has_a_sick_script_and_every_sick_script_a_twin() -> None:
    from unstuck.rules import rules

    assert {c.code for c in ALL if c.code} == set(rules())
    for case in (c for c in ALL if c.code):
        assert case.path.with_name(case.path.name.replace("sick_", "healthy_")).exists(), case.name
        assert case.line is not None, f"{case.name} marks no line with {detection.MARK!r}"


@pytest.fixture(scope="module")
def server():
    with detection.Server() as running:
        yield running


@pytest.mark.parametrize("case", SICK, ids=name)
def test_the_fault_comes_first(case: detection.Case, server: detection.Server) -> None:
    result = server.observe(case)
    assert not result.trouble
    assert (result.first, result.role in {"cause", "latent", "note"}) == (case.code, True), result


@pytest.mark.parametrize("case", TWINS[::3] + TRAPS[::8], ids=name)
def test_a_healthy_training_has_no_cause(case: detection.Case, server: detection.Server) -> None:
    result = server.observe(case)
    assert not result.trouble
    assert result.causes == [], result


def test_the_command_line_says_the_same_as_the_server(server: detection.Server) -> None:
    one, two = detection.observe(SICK[0]), server.observe(SICK[0])
    assert one._replace(seconds=0) == two._replace(seconds=0)


@pytest.mark.parametrize("case", SICK[::10] + TRAPS[1::24], ids=name)
def test_output_exit_code_and_weights_are_the_same_to_the_bit(case: detection.Case) -> None:
    same = no_harm.compare(case)
    assert same.fine, same


def test_a_quick_measurement_of_error_rates_runs_without_errors_of_our_own(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "detection.py"), "--variations", "1", "--healthy", "6", "-j", "1",
               "--codes", "W101,U404,S501,S502,I601,D208"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "OWN ERROR" not in done.stdout
    first = re.search(r"Sick programs with one fault: (\d+) of (\d+)", done.stdout)
    assert first is not None and int(first[1]) >= 4, done.stdout
