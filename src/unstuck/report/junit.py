"""JUnit XML, as Jenkins' xunit plug-in describes it (junit-10.xsd): a test suite for each training, a test case for each rule.

A cause is a failure; a rule that could not be asked is skipped, with the reason; everything else passes, what was found beside the
cause is told in the output of its case. The room of the rule (wiring, data, ...) is the class name, so that CI groups by it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from datetime import datetime, timezone

from unstuck.findings import Diagnosis, Finding, Training
from unstuck.report import Catalogue, words

_NO_ROOM = "unstuck"
_GENERAL = "no training was seen: no rule could be asked"


def render(diagnosis: Diagnosis, catalogue: Catalogue | None = None) -> str:
    """catalogue: names and rooms of the rules, and which there are: a rule that is silent is in no diagnosis.

    Of a report that was read back from JSON only the rules that it names are shown: which others were asked it does not say.
    """
    root = ElementTree.Element("testsuites", name="unstuck")
    for number, training in enumerate(diagnosis.trainings, 1):
        root.append(_suite(diagnosis, training, number, catalogue or {}))
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in root)))
    ElementTree.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(diagnosis: Diagnosis, training: Training, number: int, catalogue: Catalogue) -> ElementTree.Element:
    run = diagnosis.run
    name = words.script(diagnosis) or "training"
    if len(diagnosis.trainings) > 1:
        name += f", training {number}" + (f" ({words.line(training.name)})" if training.name else "")
    suite = ElementTree.Element("testsuite", name=name)
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in _properties(diagnosis, training):
        ElementTree.SubElement(properties, "property", name=key, value=words.line(value))
    cases = [_case(code, training, catalogue) for code in _codes(diagnosis, training, catalogue)]
    suite.extend(cases)
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    suite.set("errors", "0")
    suite.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))
    if number == 1:  # what is said of the script is said once
        suite.set("time", f"{run.seconds:.3f}")
    if run.started:
        suite.set("timestamp", datetime.fromtimestamp(run.started, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S"))
    symptom = training.symptom
    story = (words.headline(training, words.ended_by(diagnosis)), words.level(symptom), words.because(symptom),
             words.unknown(training, run))  # fmt: skip
    _text(suite, "system-out", "\n".join(text for text in story if text))
    if run.own_errors and number == 1:
        _text(suite, "system-err", "\n".join(f"A part of unstuck failed: {words.line(error)}" for error in run.own_errors))
    return suite


def _properties(diagnosis: Diagnosis, training: Training) -> list[tuple[str, str]]:
    symptom = training.symptom
    told = [
        ("state", symptom.name), ("model", training.name), ("framework", diagnosis.run.framework),
        ("steps", str(training.steps)), ("trace", diagnosis.trace),
    ]  # fmt: skip
    levels = (("loss", symptom.loss), ("chance", symptom.chance), ("base_rate", symptom.base_rate), ("skill", symptom.skill),
              ("accuracy", symptom.accuracy))  # fmt: skip
    told += [(key, f"{value:.6g}") for key, value in levels if value is not None]
    return [(key, value) for key, value in told if value]


def _codes(diagnosis: Diagnosis, training: Training, catalogue: Catalogue) -> list[str]:
    named = {item.code for group in (training.findings, training.excluded, training.not_checked) for item in group}
    asked = set(catalogue) if diagnosis.record is not None else set()
    return sorted(named | asked)


def _case(code: str, training: Training, catalogue: Catalogue) -> ElementTree.Element:
    entry = catalogue.get(code)
    findings = [f for f in training.findings if f.code == code]
    name = entry.name if entry is not None else findings[0].name if findings else ""
    case = ElementTree.Element(
        "testcase", classname=entry.room if entry is not None else _NO_ROOM, name=words.line(f"{code} {name}"), time="0"
    )
    unasked = [n.reason for n in training.not_checked if n.code == code]
    if training.symptom.name == "no-training":
        unasked = unasked or [_GENERAL]
    causes = [f for f in findings if f.role == "cause"]
    if causes:
        failure = _text(case, "failure", "\n\n".join(_said(f) for f in causes))
        failure.set("type", causes[0].grade)
        failure.set("message", words.line(causes[0].summary))
    elif not findings and unasked:
        ElementTree.SubElement(case, "skipped", message=words.line(unasked[0]))
    told = [f"{f.role}, {f.grade}\n{_said(f)}" for f in findings if f.role != "cause"]
    told += [words.line(e.text) for e in training.excluded if e.code == code]
    if told:
        _text(case, "system-out", "\n\n".join(told))
    return case


def _said(finding: Finding) -> str:
    """The finding as lines, the place first: editors and CI make a link of file:line."""
    lines = []
    for site in finding.locations[:3]:
        text = words.code(site.text).strip()
        lines.append(words.place(site) + (f": {text}" if text else ""))
    lines += [words.line(finding.summary), *(words.line(item.text) for item in finding.evidence)]
    if finding.fix is not None:
        lines.append(f"Fix: {words.line(finding.fix.summary)}")
        if finding.fix.diff:
            lines += [words.visible(row.rstrip("\r"), keep="\t") for row in finding.fix.diff.rstrip("\r\n").split("\n")]
    if finding.verdict is not None:
        lines.append(words.verdict(finding.verdict))
    if words.to_decide(finding):
        lines.append(f"To decide: {words.to_decide(finding)}")
    lines.append(f"More: unstuck explain {words.line(finding.code)}")
    return "\n".join(lines)


def _text(parent: ElementTree.Element, tag: str, text: str) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag)
    element.text = text
    return element
