"""U411."""

import pytest

from unstuck.rules.update import steps_swallowed as rule


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("U411", "certain", "hinders")
    assert [s.line for s in finding.locations] == [22, 40]
    assert "hidden[0]" in finding.evidence[1].text


def test_healthy():
    assert rule.check(rule.healthy()) is None


def test_no_exception_seen():
    trace = rule.sick()
    trace.facts.exceptions = []
    assert rule.check(trace) is None


def test_the_exception_that_ends_the_script():
    trace = rule.sick()
    trace.facts.exceptions[0].fatal = True
    assert rule.check(trace) is None


@pytest.mark.parametrize("forwards, dropped", [(400, 200), (400, 4), (6, 4), (0, 0)])
def test_few_dropped(forwards, dropped):
    trace = rule.sick()
    trace.facts.loop.forwards, trace.facts.loop.dropped_forwards = forwards, dropped
    assert rule.check(trace) is None


def test_a_rare_exception_in_a_training_with_three_passes_per_loss():
    trace = rule.sick()
    loop = trace.facts.loop
    loop.forwards, loop.dropped_forwards, loop.backwards = 300, 200, 100
    trace.facts.exceptions[0].count = 3
    assert rule.check(trace) is None


def test_not_all_exceptions_were_counted():
    trace = rule.sick()
    trace.facts.loop.backwards = 10
    trace.facts.exceptions[0].count = 3
    assert rule.check(trace) is not None
    trace.facts.exceptions[0].count = 1
    assert rule.check(trace) is None
