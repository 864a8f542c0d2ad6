"""diagnose, explain, rules, and how arguments are split between us and the script."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unstuck.cli import main, protect
from unstuck.rules import rules
from unstuck.trace.facts import Run
from unstuck.trace.writer import Writer


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    return int(stop.value.code or 0)


def trace_of(folder: Path, code: str, healthy: bool = False) -> str:
    trace = rules()[code].healthy() if healthy else rules()[code].sick()
    writer = Writer(folder / "trace")
    writer.run(Run(script="train.py"))
    for i, step in enumerate(trace.series.steps):
        writer.row(0, int(step), tuple(float(trace.series[n][i]) for n in trace.series.columns))
    writer.facts(trace.facts)
    writer.close()
    return str(folder / "trace")


def test_diagnose_gives_the_exit_code_and_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("diagnose", trace_of(tmp_path, "U404"), "-o", str(tmp_path / "r.json")) == 11
    assert "U404 step-never-called" in capsys.readouterr().out
    assert json.loads((tmp_path / "r.json").read_text())["findings"][0]["code"] == "U404"
    assert call("diagnose", "--quiet", trace_of(tmp_path, "U404", healthy=True)) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("diagnose", "nowhere"), "nowhere"),
        (("diagnose", "{file}"), "is a file"),
        (("diagnose", "{empty}"), "run.json is missing"),
        (("explain", "W999"), "W999"),
        (("value", "abc"), "abc"),
    ],
)
def test_unusable_input_is_exit_code_2_and_names_it(
    tmp_path: Path, words: tuple[str, ...], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    names = {"file": str(tmp_path / "file"), "empty": str(tmp_path / "empty")}
    assert call(*(w.format(**names) for w in words)) == 2
    assert part in capsys.readouterr().err


@pytest.mark.parametrize("word", ["W101", "w101", "softmax-twice"])
def test_explain_prints_the_page(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("explain", word) == 0
    out = capsys.readouterr().out
    assert out.startswith("W101 softmax-twice")
    assert "Not to be confused with" in out


def test_rules_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("rules") == 0
    out = capsys.readouterr().out
    assert all(code in out for code in rules())
    assert max(map(len, out.splitlines())) <= 80
    assert call("rules", "--json") == 0
    assert [r["code"] for r in json.loads(capsys.readouterr().out)] == list(rules())


def test_value_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("value", "1.6094") == 0
    assert "ln 5" in capsys.readouterr().out
    assert call("--version") == 0
    assert capsys.readouterr().out.startswith("unstuck ")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["run", "a.py", "-m", "x"], ["run", "a.py", "-m", "x"]),
        (["run", "-m", "pkg", "--steps", "3"], ["run", "-m", "pkg", "--", "--steps", "3"]),
        (["run", "-o", "-c", "-m", "pkg", "-q"], ["run", "-o", "-c", "-m", "pkg", "--", "-q"]),
        (["run", "-q", "-c", "print(1)", "-o"], ["run", "-q", "-c", "print(1)", "--", "-o"]),
        (["diagnose", "-m"], ["diagnose", "-m"]),
        ([], []),
    ],
)
def test_what_follows_a_module_belongs_to_it(given: list[str], expected: list[str]) -> None:
    assert protect(given) == expected
