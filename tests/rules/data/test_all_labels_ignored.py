"""D206."""

import pytest

from unstuck.rules.data import all_labels_ignored as rule


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("D206", "certain", "blocks")
    assert finding.locations[0].line == 41
    assert "NaN" in finding.evidence[0].text


def test_most_positions_ignored_is_healthy():
    assert rule.check(rule.healthy()) is None


def test_most_calls():
    trace = rule.healthy()
    trace.facts.terms[0].labels.all_ignored_calls = 240
    finding = rule.check(trace)
    assert (finding.grade, finding.bearing) == ("likely", "hinders")
    assert finding.evidence[0].value == 0.6


@pytest.mark.parametrize("calls, ignored", [(400, 200), (0, 0), (8, 6)])
def test_some_calls(calls, ignored):
    trace = rule.healthy()
    trace.facts.terms[0].labels.calls, trace.facts.terms[0].labels.all_ignored_calls = calls, ignored
    assert rule.check(trace) is None


def test_no_term():
    trace = rule.sick()
    trace.facts.terms = []
    assert rule.check(trace) is None
