"""Reports: JSON by the contract, a terminal text that fits 80 columns."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from unstuck import report
from unstuck.engine import diagnose
from unstuck.errors import UsageError
from unstuck.report import terminal
from unstuck.report.json import document
from unstuck.rules import rules
from unstuck.trace import synthetic
from unstuck.trace.facts import OpNode, Run
from unstuck.trace.trace import RunRecord

SOFTMAX = OpNode("softmax", "SoftmaxBackward0", [64, 5], dim=1, site=synthetic.site(41, "return softmax(x)"))
SICK = synthetic.training(synthetic.cross_entropy(SOFTMAX), state="at-chance")


def of(*traces):
    return diagnose(RunRecord(Run(script="train.py", framework="torch 2", seconds=2.0, own_seconds=0.1), list(traces)))


def test_json_has_the_keys_of_the_contract() -> None:
    data = json.loads(report.render(of(SICK, synthetic.training()), "json"))
    assert data["schema"] == 1
    assert {"schema", "symptom", "findings", "excluded", "not_checked", "run", "trainings"} <= set(data)
    symptom = {"name", "since_step", "loss", "chance", "base_rate", "floor", "classes", "skill", "skill_interval", "accuracy",
               "recall", "predicted_share", "loss_kind"}  # fmt: skip
    assert symptom <= set(data["symptom"])
    first = data["findings"][0]
    assert {"code", "name", "grade", "role", "summary", "evidence", "locations", "explains", "fix", "verdict"} <= set(first)
    assert (first["code"], first["role"], first["verdict"]) == ("W101", "cause", None)
    assert first["locations"][0] == {"file": "model.py", "line": 41, "text": "return softmax(x)"}
    assert set(first["fix"]) == {"summary", "applicability", "diff"}
    assert {"script", "framework", "steps", "seconds", "overhead", "own_errors"} <= set(data["run"])
    assert data["run"]["overhead"] == pytest.approx(2.0 / 1.9, abs=1e-3)
    assert len(data["trainings"]) == 2
    assert data["trainings"][0]["findings"] == data["findings"]


def test_json_has_no_nan() -> None:
    diagnosis = of(SICK)
    diagnosis.worst.symptom.loss = math.nan
    diagnosis.worst.symptom.recall = [math.inf, 0.5]
    data = json.loads(report.render(diagnosis, "json"), parse_constant=pytest.fail)
    assert data["symptom"]["loss"] is None
    assert document(diagnosis)["symptom"]["recall"] == [None, 0.5]


@pytest.mark.parametrize("code", list(rules()))
def test_the_terminal_report_fits_80_columns(code: str) -> None:
    text = terminal.render(of(rules()[code].sick()))
    for line in text.splitlines():
        assert len(line) <= 80, line
    assert code in text
    assert "\x1b" not in text
    assert "unstuck explain" in text


def test_colour_changes_no_word() -> None:
    import re

    diagnosis = of(SICK)
    coloured = terminal.render(diagnosis, colour=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == terminal.render(diagnosis)


def test_the_chance_level_is_named() -> None:
    assert "ln 5 = 1.6094" in terminal.render(of(SICK)).replace("\n  ", " ")


@pytest.mark.parametrize(("name", "ending"), report.FORMATS.items())
def test_endings_choose_the_format(tmp_path: Path, name: str, ending: str) -> None:
    for file in (tmp_path / f"report{ending}", tmp_path / f"REPORT{ending.upper()}"):
        assert report.format_of(str(file)) == name
        report.check_writable(str(file))
        report.write(of(SICK), str(file))
        assert "W101" in file.read_text(encoding="utf-8")


def test_every_format_says_what_was_found_and_where() -> None:
    for name in report.FORMATS:
        text = report.render(of(SICK), name)
        for part in ("W101", "softmax", "model.py", "41", "return softmax(x)"):
            assert part in text, (name, part)


def test_what_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"\.json, \.txt, \.html, \.md, \.sarif or \.xml"):
        report.format_of("report.docx")
    with pytest.raises(UsageError, match="a name without ending"):
        report.format_of("report")
    with pytest.raises(UsageError, match="does not exist"):
        report.check_writable(str(tmp_path / "no" / "report.json"))
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(UsageError, match="is a directory"):
        report.check_writable(str(tmp_path / "folder.json"))
    with pytest.raises(UsageError, match=r"folder\.json: the report could not be written: Is a directory"):
        report.write(of(SICK), str(tmp_path / "folder.json"))
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(UsageError, match="may not be written"):
        report.check_writable(str(tmp_path / "report.json"))


def test_the_table_is_cheap_to_ask() -> None:
    """`unstuck run` has it in its help text, before the script loads anything."""
    code = "import unstuck.report, unstuck.report.words, sys; print('numpy' in sys.modules, 'jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == ["False"] * 2
