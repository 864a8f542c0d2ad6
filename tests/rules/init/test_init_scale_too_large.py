"""I602."""

import math

import numpy as np
import pytest

from unstuck.rules.init import init_scale_too_large as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Layer, LayerLook, Parameter

CHANCE = math.log(5)


def sick(state="above-chance", entering=1.0, **weight):
    trace = rule.sick()
    trace.series = synthetic.training(state=state).series
    trace.facts.layers[0].looks[0].rms = entering
    for name, value in weight.items():
        setattr(trace.facts.parameters[0], name, value)
    return trace


def saturated(share, state="at-chance", **weight):
    trace = sick(state, **weight)
    trace.facts.layers.append(Layer("tanh", "output", [64, 64], 64, looks=[LayerLook(1, 64, saturated=share), LayerLook(2, 64)]))
    return trace


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("I602", "likely", "hinders")
    assert "body.weight" in finding.summary and "size 8" in finding.summary
    assert (finding.evidence[0].value, finding.evidence[0].unit) == (8.0, "1") and "64 inputs" in finding.evidence[0].text
    assert "uniform guessing scores 1.609" in finding.evidence[1].text
    assert finding.evidence[1].value == pytest.approx(3 * CHANCE, rel=0.05)
    assert [s.line for s in finding.locations] == [10]
    assert rule.in_order(rule.sick()) == ""


def test_healthy():
    assert rule.check(rule.healthy()) is None
    assert "0.8 to 0.8" in rule.in_order(rule.healthy())


@pytest.mark.parametrize(
    "rms, fan_in, fires",
    [
        (1.0, 784, True),  # randn(n_in, n_out)
        (0.375, 64, False),  # a gain of 3 exactly
        (0.376, 64, True),
        (math.sqrt(2 / 64), 64, False),  # He
        (5 / 3 / 8, 64, False),  # Xavier for tanh
        (math.sqrt(1 / 3 / 64), 64, False),  # torch's default
        (0.0, 64, False),
        (None, 64, False),
        (math.nan, 64, False),
        (math.inf, 64, False),
        (1.0, None, False),
        (1.0, 0, False),
    ],
)
def test_the_gain(rms, fan_in, fires):
    trace = sick(first_rms=rms, fan_in=fan_in)
    assert (rule.check(trace) is not None) == fires
    rule.in_order(trace)


@pytest.mark.parametrize(
    "entering, fires", [(3.0, True), (3.1, False), (255.0, False), (0.01, True), (None, True), (math.nan, True)]
)
def test_inputs_that_are_too_large_are_another_fault(entering, fires):
    assert (rule.check(sick(entering=entering)) is not None) == fires


@pytest.mark.parametrize("level, fires", [(1.9, False), (2.1, True), (1.0, False), (40.0, True)])
def test_the_first_losses(level, fires):
    """Above chance by more than chance itself."""
    trace = sick()
    trace.series.columns["loss"][:] = level * CHANCE
    assert (rule.check(trace) is not None) == fires


def test_a_first_loss_that_is_not_a_number():
    trace = sick("at-chance")
    trace.series.columns["loss"][:] = np.inf
    assert "not a number" in rule.check(trace).evidence[1].text


@pytest.mark.parametrize("share, fires", [(0.5, True), (0.49, False), (None, False), (math.nan, False)])
def test_a_layer_at_its_limits_at_the_first_look(share, fires):
    finding = rule.check(saturated(share))
    assert (finding is not None) == fires
    if fires:
        assert "50%" in finding.evidence[1].text and finding.evidence[1].unit == "share"


def test_saturated_under_weights_of_normal_size():
    assert rule.check(saturated(1.0, first_rms=0.1)) is None


def test_saturated_only_later():
    trace = saturated(0.1)
    trace.facts.layers[-1].looks[1].saturated = 1.0
    assert rule.check(trace) is None


def test_no_consequence():
    assert rule.check(sick("learning")) is None
    assert rule.check(sick("at-chance")) is None


@pytest.mark.parametrize("shape", [[64], []])
def test_vectors_have_no_fan_in(shape):
    assert rule.check(sick(shape=shape)) is None


def test_embeddings_are_looked_up_and_not_summed():
    trace = sick()
    trace.facts.parameters[0].name = "embedding.weight"
    assert rule.check(trace) is None
    trace.facts.layers = []
    assert rule.check(trace) is None


def test_the_largest_gain_is_named_first():
    trace = sick()
    other = Parameter("head.weight", [5, 64], first_rms=2.0, fan_in=64, made=synthetic.site(11, "self.head = nn.Linear(64, 5)"))
    trace.facts.parameters.append(other)
    trace.facts.layers.append(Layer("linear", "input", [64, 64], 64, parameters=["head.weight", "head.bias"]))
    finding = rule.check(trace)
    assert [s.line for s in finding.locations] == [11]
    assert [e.value for e in finding.evidence[:2]] == [16.0, 8.0]


def test_nothing_was_recorded():
    trace = sick()
    trace.series = trace.series.where(trace.series.steps < 0)
    assert rule.check(trace) is None
    trace = sick()
    trace.facts.layers[0].looks = []
    assert rule.check(trace) is not None
