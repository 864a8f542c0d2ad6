"""JSON read back: what was written is read, what is missing has its default, what is wrong is said in one line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import told

from unstuck import report
from unstuck.engine import diagnose
from unstuck.errors import UsageError
from unstuck.report.json import SCHEMA, document, read, render
from unstuck.rules import rules
from unstuck.trace.facts import Run
from unstuck.trace.trace import RunRecord

FIRST = Path(__file__).parent / "data" / "schema1_first.json"


def test_a_report_that_is_read_writes_itself_again() -> None:
    text = render(told.diagnosis())
    again = read(text)
    assert render(again) == text
    assert again.record is None
    assert again.exit_code == told.diagnosis().exit_code == 11
    assert again.worst.cause is not None and again.worst.cause.verdict == told.diagnosis().worst.findings[0].verdict
    assert [t.name for t in again.trainings] == ["DigitNet", "Gate"]
    assert again.run.own_seconds == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("code", list(rules()))
def test_the_finding_of_every_rule_is_read_back(code: str) -> None:
    diagnosis = diagnose(RunRecord(Run(script="train.py", seconds=2.0, own_seconds=0.1), [rules()[code].sick()]))
    assert document(read(render(diagnosis))) == document(diagnosis)


def test_the_first_report_of_schema_1_is_read_whole() -> None:
    text = FIRST.read_text(encoding="utf-8")
    diagnosis = read(text)
    assert document(diagnosis) == json.loads(text)
    assert diagnosis.worst.name == "DigitNet"
    assert [f.code for f in diagnosis.worst.findings] == ["S505", "S502", "W101"]
    assert diagnosis.worst.findings[2].fix is not None and diagnosis.worst.findings[2].fix.diff


@pytest.mark.parametrize("name", list(report.FORMATS))
def test_the_first_report_of_schema_1_renders_in_every_format(name: str) -> None:
    text = report.render(read(FIRST.read_text(encoding="utf-8")), name, told.CATALOGUE)
    for part in ("S505", "W101", "train.py", "optimizer = torch.optim.SGD"):
        assert part in text


def test_unknown_fields_are_left_out_and_missing_ones_have_their_defaults() -> None:
    finding = {"code": "X1", "name": "x", "grade": "likely", "summary": "S.", "evidence": [{"text": "T."}],
               "locations": [{"file": "a.py", "line": 3}]}  # fmt: skip
    least = {"schema": 1, "symptom": {"name": "plateau"}, "findings": [finding]}
    diagnosis = read(json.dumps(least))
    assert diagnosis.worst.symptom.judged and diagnosis.worst.symptom.chance is None
    assert diagnosis.worst.cause is not None and diagnosis.worst.cause.evidence[0].source == "graph"
    assert diagnosis.run == Run() and diagnosis.trace == ""

    def grow(value: Any) -> Any:
        if isinstance(value, dict):
            return {**{k: grow(v) for k, v in value.items()}, "of_the_future": {"a": [1]}}
        return [grow(v) for v in value] if isinstance(value, list) else value

    data = json.loads(render(told.diagnosis()))
    grown = grow(data)
    for training in grown["trainings"]:
        for finding in training["findings"]:
            if finding["verdict"]:
                del finding["verdict"]["curves"]["of_the_future"]  # the names of curves are data
    assert json.loads(render(read(json.dumps(grown)))) == data
    # What reports say of sources of evidence may grow within the schema.
    data["trainings"][0]["findings"][0]["evidence"][0]["source"] = "telescope"
    assert document(read(json.dumps(data)))["findings"][0]["evidence"][0]["source"] == "telescope"


def test_what_was_not_finite_is_read_as_not_known() -> None:
    diagnosis = told.diagnosis()
    symptom, verdict = diagnosis.worst.symptom, diagnosis.worst.findings[0].verdict
    assert verdict is not None
    symptom.loss, symptom.skill_interval, symptom.predicted_share = math.nan, [-math.inf, 0.1], [math.nan, 1.0]
    verdict.curves["fixed"][1] = math.inf
    verdict.interval[0] = -math.inf
    again = read(render(diagnosis))
    assert (again.worst.symptom.loss, again.worst.symptom.skill_interval) == (None, None)
    assert again.worst.symptom.predicted_share is not None and math.isnan(again.worst.symptom.predicted_share[0])
    tried = again.worst.findings[0].verdict
    assert tried is not None and tried.interval == [] and math.isnan(tried.curves["fixed"][1])


def change(path: str, value: Any) -> str:
    """The report with one entry replaced: 'trainings.0.findings.0.grade'."""
    data: Any = json.loads(render(told.diagnosis()))
    at, (*steps, last) = data, path.split(".")
    for step in steps:
        at = at[int(step) if step.isdigit() else step]
    at[int(last) if last.isdigit() else last] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "not JSON"),
        ("{", "not JSON (line 1)"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no report of unstuck"),
        ("3", "no report of unstuck"),
        ('{"loss": [1, 2]}', "unstuck diagnose"),
        ('{"schema": "1", "symptom": {}}', "no report of unstuck"),
        ('{"schema": true, "symptom": {}}', "no report of unstuck"),
        ('{"schema": 0, "symptom": {}}', "no report of unstuck"),
        (f'{{"schema": {SCHEMA + 1}, "symptom": {{}}}}', f"newer unstuck (schema {SCHEMA + 1}"),
        ('{"schema": 1, "trainings": []}', "no training"),
        ('{"schema": 1, "symptom": {}}', "trainings[0].symptom"),
        ('{"schema": 1, "trainings": {}}', "not a list"),
        (change("run", []), "run: not an object"),
        (change("run.seconds", "long"), "run"),
        (change("run.trace", 3), "run.trace: not a text"),
        (change("trainings.0.steps", 1.5), "trainings[0].steps"),
        (change("trainings.1.symptom.loss", "low"), "trainings[1].symptom"),
        (change("trainings.0.findings", None), "trainings[0].findings: not a list"),
        (change("trainings.0.findings.0", 7), "not an object"),
        (change("trainings.0.findings.0.grade", "sure"), "findings[0]: grade is 'sure', not certain, likely or possible"),
        (change("trainings.0.findings.0.role", ["cause"]), "role is"),
        (change("trainings.0.findings.0.verdict.name", "proven"), "supported, refuted"),
        (change("trainings.0.findings.0.verdict.curves", [1]), "curves: not an object"),
        (change("trainings.0.findings.0.verdict.curves.fixed", 1), "curves: not a list"),
        (change("trainings.0.findings.0.fix.applicability", "perhaps"), "applicability"),
        (change("trainings.0.findings.0.locations.0.line", "x"), "locations"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_in_one_line(text: str, part: str) -> None:
    with pytest.raises(UsageError) as error:
        read(text)
    assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_text_that_is_no_text_is_kept_through_the_file(tmp_path: Path) -> None:
    diagnosis = told.hostile()
    file = tmp_path / "r.json"
    report.write(diagnosis, str(file))
    again = read(file.read_text(encoding="utf-8"))
    assert again.worst.name == diagnosis.worst.name
    assert again.worst.findings[0].locations[0].text == told.HOSTILE["html"]
    assert told.HOSTILE["surrogate"] in again.run.arguments
