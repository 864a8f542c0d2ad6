"""Look-alikes: what verification makes of a diagnosis that leaves several causes. All of them: benchmarks/lookalikes.py."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import lookalikes  # noqa: E402 (the folder above is no package)

from unstuck.experiments.pool import LocalPool  # noqa: E402
from unstuck.findings import Finding, Symptom, Training, Verdict  # noqa: E402
from unstuck.rules import rules  # noqa: E402

ALL = lookalikes.scripts()


def test_at_least_a_dozen_scripts_each_with_one_marked_fault_and_two_codes_that_exist() -> None:
    assert len(ALL) >= 12
    for path, right, other in ALL:
        source = path.read_text(encoding="utf-8")
        twin = lookalikes.twin_of(source)
        changed = [(a, b) for a, b in zip(source.splitlines(), twin.splitlines()) if a != b]
        assert len(changed) == 1 and "fault" not in twin, path.name
        ast.parse(twin)
        assert {right, other} <= set(rules()), path.name
        assert right != other


def test_a_script_without_a_marked_line_or_with_two_has_no_twin() -> None:
    line = "lr = 10.0  # <- fault: lr = 0.1\n"
    assert lookalikes.twin_of("  " + line) == "  lr = 0.1\n"
    for source in ("lr = 0.1\n", line + line):
        with pytest.raises(ValueError, match="marked as the fault"):
            lookalikes.twin_of(source)


def test_what_counts_as_ambiguous_and_as_answered() -> None:
    def finding(code: str, role: str, verdict: str = "") -> Finding:
        return Finding(code, "x", "likely", "", role=role, verdict=Verdict(verdict) if verdict else None)  # type: ignore[arg-type]

    def training(*findings: Finding) -> Training:
        return Training(Symptom("at-chance"), list(findings))

    assert lookalikes.ambiguous(training(), "S501")
    assert lookalikes.ambiguous(training(finding("S501", "cause"), finding("I602", "cause")), "S501")
    assert lookalikes.ambiguous(training(finding("I602", "cause"), finding("S501", "latent")), "S501")
    assert not lookalikes.ambiguous(training(finding("S501", "cause"), finding("I602", "consequence")), "S501")
    proven = finding("S501", "cause", "supported")
    assert lookalikes.answered(training(proven, finding("I602", "latent", "refuted")), "S501")
    assert not lookalikes.answered(training(proven, finding("I602", "cause", "inconclusive")), "S501")
    assert not lookalikes.answered(training(finding("S501", "cause", "inconclusive")), "S501")
    assert not lookalikes.answered(training(), "S501")


@pytest.fixture(scope="module")
def pool() -> Iterator[LocalPool]:
    with LocalPool(2) as workers:
        yield workers


@pytest.mark.slow
@pytest.mark.parametrize("name", ["S501_not_I602_wine", "D203_not_U402_gauges", "D203_not_S502_metres"])
def test_the_right_cause_comes_first_only_after_verification(name: str, pool: LocalPool) -> None:
    path, right, _ = next(s for s in ALL if s[0].stem == name)
    row = lookalikes.pair(path, right, pool, 60.0)
    assert "error" not in row, row["error"]
    assert row["twin"] == "learning"
    assert row["ambiguous"], row["before"]
    assert row["answered"], row["after"]
