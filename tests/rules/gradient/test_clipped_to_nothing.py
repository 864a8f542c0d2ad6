"""G305."""

import pytest

from unstuck.rules.gradient import clipped_to_nothing as rule
from unstuck.trace import synthetic


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("G305", "likely", "hinders")
    assert "400 of 400" in finding.evidence[0].text and "0.0064 nats" in finding.evidence[1].text
    assert finding.locations[0].line == 42


def test_healthy():
    assert rule.check(rule.healthy()) is None
    assert rule.in_order(rule.healthy()) == "clipping was active in 12 of 400 calls"


def test_adaptive_optimizers_divide_it_out():
    trace = rule.sick()
    trace.facts.optimizers[0].adaptive = True
    assert rule.check(trace) is None


def test_steps_that_add_up():
    """Always active, and the run gets somewhere all the same."""
    trace = rule.sick()
    trace.series.columns["predicted"][::10] = 1e-3
    assert rule.check(trace) is None


def test_too_short_without_clipping_as_well():
    """S502: not even without it would the steps leave the band."""
    trace = rule.sick()
    trace.series.columns["predicted"][::10] = 1e-12
    trace.facts.optimizers[0].lr_first = 1e-12
    assert rule.check(trace) is None


def test_weight_decay_outweighs_what_clipping_left():
    """The product of gradient and step is then the decay's, and may be negative: lr g.g says what was lost."""
    trace = rule.sick()
    trace.series.columns["predicted"][::10] = -1e-6
    trace.facts.optimizers[0].lr_first = 0.1
    assert rule.check(trace) is not None
    trace.facts.optimizers[0].lr_first = 1e-9
    assert rule.check(trace) is None


@pytest.mark.parametrize("active, mean, fires", [(380, 1.6, True), (379, 1.6, False), (400, 9.9e-4, False)])
def test_boundaries(active, mean, fires):
    trace = rule.sick()
    clipping = trace.facts.clippings[0]
    clipping.active, clipping.total = active, 400 * mean
    assert (rule.check(trace) is not None) == fires


def test_too_few_calls():
    trace = rule.sick()
    clipping = trace.facts.clippings[0]
    clipping.calls = clipping.active = 9
    assert rule.check(trace) is None


def test_threshold_zero():
    trace = rule.sick()
    trace.facts.clippings[0].threshold = 0.0
    finding = rule.check(trace)
    assert (finding.grade, finding.bearing) == ("certain", "blocks")


def test_by_value():
    trace = rule.sick()
    trace.facts.clippings[0].kind = "value"
    assert "largest entry" in rule.check(trace).evidence[0].text


def test_learning():
    trace = rule.sick()
    trace.series = synthetic.training(state="learning").series
    assert rule.check(trace) is None
