"""SARIF: valid against the 2.1.0 schema whatever is in it; levels, places, fingerprints, and fixes that do what the diff does."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema
import msgspec
import pytest
import told
from hypothesis import given
from hypothesis import strategies as st

from unstuck.engine import diagnose
from unstuck.findings import Diagnosis, Finding, NotChecked, Symptom, Training
from unstuck.report import sarif
from unstuck.report.json import read, render
from unstuck.rules import rules
from unstuck.trace.facts import Run, Site
from unstuck.trace.trace import RunRecord

SCHEMA = json.loads((Path(__file__).parent / "schemas" / "sarif-schema-2.1.0.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
CATALOGUE = {c: told.Entry(r.name, r.check.__module__.split(".")[-2], r.page) for c, r in rules().items()}


def run_of(diagnosis: Diagnosis, catalogue: Any = None) -> dict[str, Any]:
    """The one run of the log, read back from its text and validated."""
    text = sarif.render(diagnosis, CATALOGUE if catalogue is None else catalogue)
    text.encode("utf-8")
    log = json.loads(text, parse_constant=pytest.fail)
    VALIDATOR.validate(log)
    (run,) = log["runs"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    for notification in run["invocations"][0]["toolExecutionNotifications"]:
        rule = notification.get("associatedRule")
        assert rule is None or run["tool"]["driver"]["rules"][rule["index"]]["id"] == rule["id"]
    return run


def of(*findings: Finding, **run: Any) -> Diagnosis:
    return Diagnosis(Run(**{"script": "train.py", **run}), [Training(Symptom("plateau"), list(findings))])


def test_the_schema_is_one_that_can_refuse() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    log = sarif.document(told.diagnosis(), CATALOGUE)
    for path, value in ((("version",), "2.0"), (("runs", 0, "results", 0, "level"), "fatal"), (("runs", 0, "extra"), 1)):
        broken: Any = json.loads(json.dumps(log))
        at = broken
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value
        assert not VALIDATOR.is_valid(broken)


@pytest.mark.parametrize(
    ("role", "grade", "level"),
    [("cause", "certain", "error"), ("cause", "likely", "warning"), ("cause", "possible", "note"), ("latent", "certain", "note"),
     ("consequence", "likely", "note"), ("note", "certain", "note")],
)  # fmt: skip
def test_levels(role: Any, grade: Any, level: str) -> None:
    (result,) = run_of(of(Finding("W101", "softmax-twice", grade, "S.", role=role)))["results"]
    assert result["level"] == level
    assert result["properties"] == {"grade": grade, "role": role, "training": ""}


def test_the_rules_page_is_the_help_of_its_rule() -> None:
    run = run_of(told.diagnosis())
    rule = run["tool"]["driver"]["rules"][0]
    assert (rule["id"], rule["name"]) == ("W101", "SoftmaxTwice")
    assert rule["shortDescription"]["text"] == rules()["W101"].summary
    assert rule["help"]["markdown"].startswith(rules()["W101"].page[:200])
    assert "## Not to be confused with" in rule["help"]["text"]
    assert rule["fullDescription"]["text"].startswith("The cross-entropy of this training")
    assert rule["properties"]["tags"] == ["wiring"]
    # Without a catalogue (a use as a library) a rule is described by its finding.
    rule = run_of(told.diagnosis(), {})["tool"]["driver"]["rules"][0]
    assert rule["name"] == "SoftmaxTwice" and "unstuck explain W101" in rule["help"]["text"]


@pytest.mark.parametrize("code", list(rules()))
def test_every_rules_page_and_finding_is_valid(code: str) -> None:
    diagnosis = diagnose(RunRecord(Run(script="train.py", seconds=2.0), [rules()[code].sick()]))
    assert code in {r["ruleId"] for r in run_of(diagnosis)["results"]}


@pytest.mark.parametrize(
    ("file", "uri", "base"),
    [
        ("model.py", "model.py", True),
        ("./src/model.py", "src/model.py", True),
        ("src/a b#c?d%.py", "src/a%20b%23c%3Fd%25.py", True),
        ("a:b.py", "a%3Ab.py", True),
        ("Größe.py", "Gr%C3%B6%C3%9Fe.py", True),
        ("bytes\udcff.py", "bytes%FF.py", True),
        ("src\\model.py", "src/model.py", True),
        ("/home/me/model.py", "file:///home/me/model.py", False),
        ("C:\\me\\model.py", "file:///C%3A/me/model.py", False),
    ],
)
def test_places_are_relative_to_the_working_directory(file: str, uri: str, base: bool) -> None:
    (result,) = run_of(of(Finding("W101", "x", "certain", "S.", locations=[Site(file, 7, "x = 1")])))["results"]
    (location,) = result["locations"]
    assert location["physicalLocation"]["artifactLocation"] == ({"uri": uri, "uriBaseId": "%SRCROOT%"} if base else {"uri": uri})
    assert location["physicalLocation"]["region"] == {"startLine": 7, "snippet": {"text": "x = 1"}}


def test_a_finding_without_a_line_is_shown_at_the_script_and_code_of_no_file_nowhere() -> None:
    bare = Finding("U404", "step-never-called", "certain", "S.")
    (result,) = run_of(of(bare))["results"]
    assert result["locations"] == [{"physicalLocation": {"artifactLocation": {"uri": "train.py", "uriBaseId": "%SRCROOT%"}}}]
    for script in ("-c ...", "-m package.train", ""):
        assert run_of(of(bare, script=script))["results"][0]["locations"] == []
    inline = msgspec.structs.replace(bare, locations=[Site("<string>", 3, "x"), Site("a.py", 0)])
    (result,) = run_of(of(inline))["results"]
    assert result["locations"] == []
    assert "region" not in result["relatedLocations"][0]["physicalLocation"]


def test_fingerprints_survive_moved_lines_and_the_way_through_json() -> None:
    def prints(diagnosis: Diagnosis) -> list[str]:
        return [r["partialFingerprints"]["unstuckLine/v1"] for r in run_of(diagnosis)["results"]]

    before = told.diagnosis()
    moved = told.diagnosis()
    for finding in moved.worst.findings:
        finding.locations = [msgspec.structs.replace(s, line=s.line + 10, text="  " + s.text + " ") for s in finding.locations]
    assert prints(before) == prints(moved) == prints(read(render(before)))
    assert len(set(prints(before))) == len(before.worst.findings)
    moved.worst.findings[0].locations = [msgspec.structs.replace(told.SOFTMAX, text="return self.other(x)")]
    assert prints(moved)[0] != prints(before)[0]


def test_the_same_fault_of_several_trainings_is_one_result_at_its_worst() -> None:
    latent = Finding("W101", "softmax-twice", "certain", "S.", role="latent", locations=[told.SOFTMAX])
    cause = msgspec.structs.replace(latent, role="cause")
    elsewhere = msgspec.structs.replace(latent, locations=[Site("other.py", 1)])
    trainings = [Training(Symptom("plateau"), [f]) for f in (latent, cause, elsewhere)]
    results = run_of(Diagnosis(Run(script="train.py"), trainings))["results"]
    assert [(r["ruleId"], r["level"]) for r in results] == [("W101", "error"), ("W101", "note")]


def test_what_was_not_checked_and_what_failed_of_ours_is_told() -> None:
    run = run_of(told.diagnosis())
    told_of = {n["message"]["text"]: n["level"] for n in run["invocations"][0]["toolExecutionNotifications"]}
    assert told_of["I604 was not checked: no channel: layers (the graph was compiled)"] == "note"
    assert [level for text, level in told_of.items() if "a bug of ours" in text] == ["error"]
    assert run["invocations"][0]["executionSuccessful"] is True
    # One training's answer is the answer, where another could not be asked.
    trainings = [Training(Symptom("plateau"), [Finding("W101", "x", "likely", "S.")]),
                 Training(Symptom("plateau"), not_checked=[NotChecked("W101", "no channel")])]  # fmt: skip
    assert run_of(Diagnosis(Run(), trainings))["invocations"][0]["toolExecutionNotifications"] == []


def test_messages_hold_neither_placeholders_nor_links() -> None:
    """3.11.5 and 3.11.6: braces are doubled, a bracket that would begin a link is escaped."""
    (result,) = run_of(of(Finding("W101", "x", "certain", "Shape {0} of [32, 5](see) and [3] (x).")))["results"]
    assert result["message"]["text"] == r"Shape {{0}} of \[32, 5](see) and [3] (x)."


def test_a_hostile_training_stays_text() -> None:
    run = run_of(told.hostile())
    assert "fixes" not in run["results"][0]  # its lines are no Unicode text
    texts = json.dumps(run["results"], ensure_ascii=False)
    assert "<script>alert('html')</script>" in texts
    assert not set(texts) & set("\x1b\x07\x00\u202e\u2028\x85\udcff")


def test_no_path_of_the_machine_is_in_it(tmp_path: Path) -> None:
    diagnosis = told.diagnosis()
    diagnosis.run.directory = str(tmp_path)
    assert str(tmp_path) not in sarif.render(diagnosis, CATALOGUE)


# ------------------------------------------------------------------------------------------------------------ fixes


def apply(text: str, changes: list[dict[str, Any]]) -> str:
    """What a viewer does: each replacement of the regions of the old text (3.57), the last one first. Lines and columns from 1."""
    starts = [0]
    for line in text.split("\n")[:-1]:
        starts.append(starts[-1] + len(line) + 1)
    starts.append(len(text))

    def offset(line: int, column: int) -> int:
        return starts[line - 1] + column - 1

    (change,) = changes
    for replacement in reversed(change["replacements"]):
        region = replacement["deletedRegion"]
        begin, end = offset(region["startLine"], region["startColumn"]), offset(region["endLine"], region["endColumn"])
        assert 0 <= begin <= end <= len(text)
        text = text[:begin] + replacement["insertedContent"]["text"] + text[end:]
    return text


def unified(old: str, new: str) -> str:
    """As unstuck.repair writes a diff."""
    rows = []
    for row in difflib.unified_diff(old.splitlines(keepends=True), new.splitlines(keepends=True), "a b.py", "a b.py"):
        rows.append(row if row.endswith("\n") else f"{row}\n\\ No newline at end of file\n")
    return "".join(rows)


LINES = st.lists(st.sampled_from(["a", "b", "", "  c", "-- d", "++ e", "@@ -1 +1 @@", "\\ f", "é"]), max_size=12)


@given(LINES, LINES, st.booleans(), st.booleans())
def test_fixes_do_what_the_diff_does(before: list[str], after: list[str], ended: bool, ends: bool) -> None:
    old = "\n".join(before) + ("\n" if ended and before else "")
    new = "\n".join(after) + ("\n" if ends and after else "")
    changes = sarif._changes(unified(old, new))
    if old == new:
        assert changes == []
    else:
        assert apply(old, changes) == new
        assert unquote(changes[0]["artifactLocation"]["uri"]) == "a b.py"


def test_windows_line_ends_stay() -> None:
    old, new = "a\r\nb\r\nc\r\n", "a\r\nB\r\nc\r\n"
    rows = list(difflib.unified_diff(old.splitlines(keepends=True), new.splitlines(keepends=True), "m.py", "m.py"))
    assert apply(old, sarif._changes("".join(rows))) == new


def test_the_fix_of_a_finding() -> None:
    (result, *_) = run_of(told.diagnosis())["results"]
    (fix,) = result["fixes"]
    assert fix["description"]["text"] == "Remove the softmax from the model's output."
    (replacement,) = fix["artifactChanges"][0]["replacements"]
    assert replacement["deletedRegion"]["startLine"] == 22
    unsafe = told.diagnosis()
    first = unsafe.worst.findings[0]
    assert first.fix is not None
    first.fix = msgspec.structs.replace(first.fix, applicability="unsafe")
    assert "needs your decision" in run_of(unsafe)["results"][0]["fixes"][0]["description"]["text"]
