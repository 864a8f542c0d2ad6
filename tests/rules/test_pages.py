"""Every rule's page has its form, and every rule is right about its own two traces, and about everybody else's.

`python tests/rules/test_pages.py` writes confusion.txt anew: which rules speak up on which rule's sick trace.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from unstuck.findings import Finding
from unstuck.rules import HEADINGS, Rule, rules
from unstuck.trace.trace import Trace

CONFUSION = Path(__file__).with_name("confusion.txt")
RULES = list(rules().values())
each = pytest.mark.parametrize("rule", RULES, ids=lambda r: f"{r.code}-{r.name}")


def findings(trace: Trace) -> list[Finding]:
    """What all rules that can be asked say about a trace, in the order of their codes."""
    asked = [rule for rule in RULES if not trace.missing(rule.needs)]
    return [found for rule in asked if (found := rule.check(trace)) is not None]


def render_confusion() -> str:
    """A line for each rule: the codes of the findings on its sick trace, and on its healthy one."""
    lines = ["# rule: findings on its sick trace | on its healthy one. Written by `python tests/rules/test_pages.py`."]
    for rule in RULES:
        sick, healthy = (", ".join(f.code for f in findings(make())) for make in (rule.sick, rule.healthy))
        lines.append(f"{rule.code} {rule.name}: {sick} | {healthy}".rstrip())
    return "\n".join(lines) + "\n"


@each
def test_page(rule: Rule):
    headings = re.findall(r"^##+ (.*)$", rule.page, flags=re.M)
    assert tuple(headings) == HEADINGS
    assert not re.search(r"^#(?!# )", rule.page, flags=re.M)
    summary, _, rest = rule.page.partition("\n")
    assert rest.startswith("\n## ")
    assert summary.endswith(".") and len(summary) <= 140
    assert not re.search(r"[.!?] ", summary), "one sentence"
    for section in re.split(r"^## .*$", rule.page, flags=re.M)[1:]:
        assert section.strip()


@each
def test_code_and_name(rule: Rule):
    assert re.fullmatch(r"[WDGUSINE]\d{3}", rule.code)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.name)
    assert isinstance(rule.needs, tuple)
    for channel in rule.needs:
        rule.sick().has(channel)  # raises KeyError for a channel that does not exist


@each
def test_sick_fires(rule: Rule):
    trace = rule.sick()
    assert not trace.missing(rule.needs)
    found = rule.check(trace)
    assert found is not None
    assert (found.code, found.name) == (rule.code, rule.name)
    assert found.summary.endswith(".") and found.evidence and found.fix is not None
    assert all(evidence.text.endswith(".") or evidence.source == "exception" for evidence in found.evidence)


@each
def test_healthy_is_silent_everywhere(rule: Rule):
    assert [f.code for f in findings(rule.healthy())] == []


@each
def test_check_is_a_pure_function(rule: Rule):
    trace = rule.sick()
    assert rule.check(trace) == rule.check(trace) == rule.check(rule.sick())


def test_confusion_matrix():
    assert CONFUSION.read_text() == render_confusion()


if __name__ == "__main__":
    CONFUSION.write_text(render_confusion())
