"""The gallery, run for real: one style of every code with its twin, and every third trap; all of it in the benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import detection
import no_harm

ALL = detection.cases()
SICK = list({c.path.parent: c for c in reversed(ALL) if c.code}.values())[::-1]
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


@pytest.mark.parametrize("case", SICK, ids=name)
def test_the_fault_comes_first(case: detection.Case) -> None:
    result = detection.observe(case)
    assert not result.trouble
    assert (result.first, result.role in {"cause", "latent", "note"}) == (case.code, True), result


@pytest.mark.parametrize("case", TWINS + TRAPS[::3], ids=name)
def test_a_healthy_training_has_no_cause(case: detection.Case) -> None:
    result = detection.observe(case)
    assert not result.trouble
    assert result.causes == [], result


@pytest.mark.parametrize("case", SICK[::4] + TRAPS[1::7], ids=name)
def test_output_exit_code_and_weights_are_the_same_to_the_bit(case: detection.Case) -> None:
    same = no_harm.compare(case)
    assert same.fine, same
