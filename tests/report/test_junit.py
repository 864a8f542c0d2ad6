"""JUnit: valid against the schema of Jenkins' xunit plug-in, whatever is in it; a case for each rule that was asked."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import told
import xmlschema

from unstuck.engine import diagnose
from unstuck.findings import Diagnosis
from unstuck.report import junit
from unstuck.report.json import read, render
from unstuck.rules import rules
from unstuck.trace import synthetic
from unstuck.trace.facts import Run
from unstuck.trace.trace import RunRecord

SCHEMA = xmlschema.XMLSchema10(str(Path(__file__).parent / "schemas" / "junit-10.xsd"))


def suites(diagnosis: Diagnosis, catalogue: dict | None = None) -> list[ElementTree.Element]:
    """Rendered, validated and parsed; its counts are those of its elements."""
    text = junit.render(diagnosis, told.CATALOGUE if catalogue is None else catalogue)
    SCHEMA.validate(text)
    root = ElementTree.fromstring(text)
    for suite in root:
        cases = suite.findall("testcase")
        assert int(suite.get("tests", "")) == len(cases)
        assert int(suite.get("failures", "")) == len(suite.findall("testcase/failure"))
        assert int(suite.get("skipped", "")) == len(suite.findall("testcase/skipped"))
    for count in ("tests", "failures", "errors"):
        assert int(root.get(count, "")) == sum(int(suite.get(count, "")) for suite in root)
    return list(root)


def case(suite: ElementTree.Element, code: str) -> ElementTree.Element:
    (found,) = [c for c in suite.findall("testcase") if c.get("name", "").split(" ")[0] == code]
    return found


def test_the_schema_is_one_that_can_refuse() -> None:
    text = junit.render(told.diagnosis(), told.CATALOGUE)
    for wrong in (text.replace("testcase", "case"), text.replace(' tests="8"', ""), text.replace("<skipped", "<ignored")):
        assert not SCHEMA.is_valid(wrong)


def test_a_cause_fails_what_was_not_asked_is_skipped_the_rest_passes() -> None:
    stuck, learns = suites(told.diagnosis())
    failed = case(stuck, "W101")
    assert (failed.get("classname"), failed.get("name")) == ("wiring", "W101 softmax-twice")
    failure = failed.find("failure")
    assert failure is not None and failure.get("type") == "certain" and "Softmax is applied twice" in failure.get("message", "")
    assert failure.text is not None and failure.text.startswith("src/model.py:22: return F.softmax")
    skipped = case(stuck, "I604").find("skipped")
    assert skipped is not None and "the graph was compiled" in skipped.get("message", "")
    for code in ("S502", "I603", "W116", "U401"):  # latent, consequence, note, in order
        passed = case(stuck, code)
        assert passed.find("failure") is None and passed.find("skipped") is None
        assert passed.findtext("system-out")
    assert learns.get("failures") == "0"
    assert "STUCK AT CHANCE" in (stuck.findtext("system-out") or "")
    assert stuck.findtext("system-err") == "A part of unstuck failed: ValueError: a bug of ours (torch_probes.py:12)"


def test_rules_that_were_silent_are_cases_where_it_is_known_that_they_were_asked() -> None:
    catalogue = {c: told.Entry(r.name, r.check.__module__.split(".")[-2], r.page) for c, r in rules().items()}
    diagnosis = diagnose(RunRecord(Run(script="train.py", started=0.25), [rules()["W101"].sick()]))
    (suite,) = suites(diagnosis, catalogue)
    cases = {c.get("name", "").split(" ")[0]: c for c in suite.findall("testcase")}
    assert list(cases) == sorted(rules())
    assert {c.get("classname") for c in cases.values()} == {
        "wiring", "data", "gradient", "update", "step", "init", "numerics", "evaluation",
    }  # fmt: skip
    assert suite.get("timestamp") == "1970-01-01T00:00:00"
    silent = set(rules()) - {f.code for f in diagnosis.worst.findings} - {n.code for n in diagnosis.worst.not_checked}
    assert silent and all(cases[c].find("failure") is None and cases[c].find("skipped") is None for c in silent)
    # A saved report does not say which others were asked: they are not said to have passed.
    (suite,) = suites(read(render(diagnosis)), catalogue)
    assert len(suite.findall("testcase")) < len(rules())


def test_where_no_training_was_seen_nothing_passes() -> None:
    (suite,) = suites(diagnose(RunRecord(Run(script="train.py"), [])))
    assert len(suite.findall("testcase/skipped")) == len(suite.findall("testcase")) == len(told.CATALOGUE)


def test_a_healthy_training_has_no_failure() -> None:
    (suite,) = suites(diagnose(RunRecord(Run(script="train.py"), [synthetic.training()])))
    assert suite.get("failures") == "0"


@pytest.mark.parametrize("name", list(told.HOSTILE))
def test_whatever_the_training_says_it_stays_xml(name: str) -> None:
    diagnosis = told.diagnosis()
    text = told.HOSTILE[name]
    diagnosis.run.script = diagnosis.worst.name = text
    diagnosis.worst.findings[0].summary = diagnosis.worst.symptom.reason = text
    stuck, _ = suites(diagnosis)
    failure = case(stuck, "W101").find("failure")
    assert failure is not None and failure.get("message")
    if text.isascii() and text.isprintable():
        assert failure.get("message") == " ".join(text.split())


def test_all_of_it_at_once() -> None:
    stuck, _ = suites(told.hostile())
    assert stuck.findall("testcase/failure")
    junit.render(told.hostile(), told.CATALOGUE).encode("utf-8")
