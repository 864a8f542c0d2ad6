"""D203."""

import pytest

from unstuck.rules.data import unnormalised_inputs as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Layer, LayerLook, Probe


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("D203", "likely", "hinders")
    assert "141" in finding.evidence[0].text
    assert finding.evidence[-1].unit == "nats"
    assert [s.line for s in finding.locations] == [40, 10]
    assert "255" in finding.fix.summary


def test_healthy():
    assert rule.check(rule.healthy()) is None
    assert "root mean square of 1" in rule.in_order(rule.healthy())


def test_raw_inputs_that_train():
    trace = rule.sick()
    trace.series = synthetic.training(state="learning").series
    assert rule.check(trace) is None


def test_normalised_inside():
    """A BatchNorm in front: the first trained layer that data enters is the norm, not the linear layer behind it."""
    trace = rule.sick()
    first = trace.facts.layers[0]
    norm = Layer("batch_norm", "input", [64, 784], 784, data=True, looks=[LayerLook(1, 64, rms=141.0)])
    first.data = False
    trace.facts.layers.insert(0, norm)
    assert rule.check(trace) is None


def test_rescaled_inside():
    """x / 255 in forward: inputs of size 141, and 0.55 enters the first layer."""
    trace = rule.sick()
    trace.facts.layers[0].looks[0].rms = 0.55
    assert rule.check(trace) is None


def test_one_raw_column():
    trace = rule.sick()
    trace.facts.layers[0].looks[0].rms = trace.facts.inputs[0].rms = 5.0
    trace.facts.inputs[0].column_std_high, trace.facts.inputs[0].column_mean_high = 60.0, 2.0
    assert "One column" in rule.check(trace).evidence[1].text
    trace.facts.inputs[0].column_std_high = 9.0
    assert rule.check(trace) is None


def test_weights_that_are_larger_still():
    """Both are too large: what is further off is to blame (I602)."""
    trace = rule.sick()
    trace.facts.parameters[0].first_rms = 10.0
    assert rule.check(trace) is None


def test_a_consequence_is_needed():
    trace = rule.sick()
    trace.series.columns["loss"][:] = 1.61
    assert rule.check(trace) is None
    trace.facts.layers[1].looks[0].dead = 0.95
    assert "95%" in rule.check(trace).evidence[-1].text
    trace.facts.layers[1].looks[0].dead = None
    trace.facts.probes = [Probe(1, 1.61, 1.61, 40.0, 3.0, {"0.1": 2.0, "0.01": 1.4})]
    assert "1.61 to 40" in rule.check(trace).evidence[-1].text
    trace.facts.probes = [Probe(1, 1.61, 1.61, None, 3.0, {"0.1": 2.0, "0.01": 1.4})]
    assert "no number" in rule.check(trace).evidence[-1].text
    trace.facts.probes = [Probe(1, 1.61, 1.61, 40.0, 3.0, {"0.1": 2.0, "0.01": 1.7})]
    assert rule.check(trace) is None


@pytest.mark.parametrize("size, fires", [(9.9, False), (10.0, True)])
def test_boundary(size, fires):
    trace = rule.sick()
    trace.facts.layers[0].looks[0].rms = trace.facts.inputs[0].rms = size
    trace.facts.inputs[0].column_std_high = trace.facts.inputs[0].column_mean_high = 1.0
    assert (rule.check(trace) is not None) == fires


def test_first_loss_that_is_no_number():
    trace = rule.sick()
    trace.series.columns["loss"][1:] = float("nan")
    assert "not a number" in rule.check(trace).evidence[-1].text
