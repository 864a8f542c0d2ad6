"""D208."""

import numpy as np

from unstuck.rules.data import non_finite_inputs as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import NonFinite


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("D208", "certain", "blocks")
    assert "20 of 20 batches" in finding.evidence[0].text
    assert finding.locations[0].line == 40


def test_healthy():
    assert rule.check(rule.healthy()) is None
    assert "1280" in rule.in_order(rule.healthy())


def test_named_by_the_observer():
    trace = rule.sick()
    trace.facts.inputs[0].nonfinite_calls = 0
    trace.facts.nonfinite = NonFinite("input", "input 1 of the model", 0, "3 NaN", synthetic.site(40, "out = model(x)"))
    assert "3 NaN" in rule.check(trace).evidence[0].text


def test_masked_on_purpose():
    """NaN that never reaches the loss."""
    for state in ("learning", "plateau", "at-chance"):
        trace = rule.sick()
        trace.series = synthetic.training(state=state).series
        assert rule.check(trace) is None


def test_some_batches_only():
    trace = rule.sick()
    trace.series = synthetic.training(state="plateau").series
    trace.series.columns["loss"][[10, 50]] = np.nan
    finding = rule.check(trace)
    assert finding.bearing == "hinders"
    assert "again afterwards" in finding.evidence[-1].text


def test_weights_broke_first():
    trace = rule.sick()
    trace.series = synthetic.training(state="non-finite").series
    trace.facts.nonfinite = NonFinite("parameter", "head.weight", 15)
    assert rule.check(trace) is None


def test_finite_inputs_are_n701():
    trace = rule.sick()
    trace.facts.inputs[0].nonfinite_calls = 0
    assert rule.check(trace) is None
    trace.facts.nonfinite = NonFinite("loss", "the loss", 0)
    assert rule.check(trace) is None
