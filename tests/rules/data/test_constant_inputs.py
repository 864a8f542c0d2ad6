"""D204."""

import pytest

from unstuck.rules.data import constant_inputs as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import LabelStats


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("D204", "certain", "blocks")
    assert "1280" in finding.evidence[0].text and "0 everywhere" in finding.evidence[0].text
    assert finding.locations[0].line == 40


def test_healthy():
    assert rule.check(rule.healthy()) is None
    assert "1280 different rows" in rule.in_order(rule.healthy())


def test_no_column_varies():
    trace = rule.sick()
    trace.facts.inputs[0].distinct_rows = 0
    assert "Not one column" in rule.check(trace).evidence[0].text


def test_a_constant_input_beside_one_that_varies():
    trace = rule.sick()
    trace.facts.inputs[1].kind, trace.facts.inputs[1].distinct_rows = "real", 1280
    trace.facts.inputs[1].constant_columns = 0.0
    trace.facts.layers = []
    assert rule.check(trace) is None


def test_made_constant_inside():
    trace = rule.sick()
    trace.facts.inputs[0].distinct_rows, trace.facts.inputs[0].constant_columns = 1280, 0.0
    finding = rule.check(trace)
    assert "fc1" in finding.summary and finding.locations[0].line == 20
    trace.facts.layers[0].looks[1].spread = 1e-6
    assert rule.check(trace) is None
    trace.facts.layers[0].looks[1].spread = None
    assert rule.check(trace) is None


@pytest.mark.parametrize("field, value", [("rows", 7), ("calls", 1), ("nonfinite_calls", 3)])
def test_too_little_or_not_a_number(field, value):
    trace = rule.sick()
    setattr(trace.facts.inputs[0], field, value)
    trace.facts.layers = []
    assert rule.check(trace) is None


def test_nothing_was_asked_for():
    """One image fitted from a constant, a bandit without a state, labels that are all the same (D210)."""
    trace = rule.sick()
    trace.facts.terms[0].labels = LabelStats("real", many_distinct=True, lowest=0.0, highest=1.0)
    assert rule.check(trace) is None
    trace = rule.sick()
    trace.facts.loop.unjudged = "a policy gradient"
    assert rule.check(trace) is None
    trace = rule.sick()
    trace.facts.terms[0].labels.counts = [0.0, 100.0, 0.0, 0.0, 0.0]
    assert rule.check(trace) is None


def test_what_learns_gets_its_information_elsewhere():
    trace = rule.sick()
    trace.series = synthetic.training(state="learning").series
    assert rule.check(trace) is None
