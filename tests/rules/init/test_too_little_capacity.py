"""I605."""

import math

import numpy as np
import pytest

from unstuck.findings import Symptom
from unstuck.rules.init import too_little_capacity as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Layer, Probe

CHANCE = math.log(5)


@pytest.fixture
def sick(dependence):
    def make(learn=None, units=1, state="plateau", **body):
        trace = rule._example(units, state)
        trace.known["learnable"] = learn if learn is not None else dependence(logistic=0.05)
        for name, value in body.items():
            setattr(trace.facts.parameters[0], name, value)
        return trace

    return make


def test_sick(sick):
    finding = rule.check(sick())
    assert (finding.code, finding.grade, finding.bearing, finding.shown) == ("I605", "likely", "hinders", True)
    assert "body.weight has 1 unit for 5 classes" in finding.summary
    assert "logistic regression" in finding.evidence[0].text and "The network is at 0.965" in finding.evidence[0].text
    assert (finding.evidence[0].value, finding.evidence[0].unit) == (0.05, "nats")
    assert "uses 4 dimensions" in finding.evidence[1].text
    assert [s.line for s in finding.locations] == [10]
    assert finding.fix.summary == "Give body.weight at least 5 units."


def test_healthy():
    assert rule.check(rule.healthy()) is None


@pytest.mark.parametrize("units, fires", [(1, True), (3, True), (4, False), (5, False), (64, False)])
def test_a_linear_classifier_for_five_classes_uses_four_dimensions(sick, units, fires):
    assert (rule.check(sick(units=units)) is not None) == fires


@pytest.mark.parametrize("enters, units, fires", [(2, 2, False), (2, 1, True), (1, 1, False), (8, 3, True)])
def test_no_layer_needs_more_units_than_there_are_inputs(sick, enters, units, fires):
    trace = sick(units=units)
    trace.facts.layers[0].shape = [64, enters]
    assert (rule.check(trace) is not None) == fires


def test_pixels_are_counted_and_not_channels(sick):
    """A one-channel image has more to tell than one number."""
    trace = sick(units=2)
    trace.facts.layers[0].shape, trace.facts.layers[0].units = [64, 1, 8, 8], 1
    assert rule.check(trace) is not None


def test_the_width_of_the_inputs_is_not_known(sick):
    trace = sick(units=3)
    trace.facts.layers[0].shape = None
    assert rule.check(trace) is not None
    trace.facts.parameters[1].fan_in = None
    assert rule.check(trace) is None


@pytest.mark.parametrize("gap, error, fires", [(0.11, 0.0, True), (0.09, 0.0, False), (0.11, 0.01, False), (-0.5, 0.0, False)])
def test_the_linear_classifier_must_be_clearly_better(sick, dependence, gap, error, fires):
    trace = sick()
    loss = float(trace.series["loss"][-50:].mean())
    trace.known["learnable"] = dependence(logistic=loss - gap * CHANCE, error=error)
    assert (rule.check(trace) is not None) == fires


def test_nothing_to_compare_with(sick, dependence):
    assert rule.check(sick(dependence(found=False, logistic=0.05))) is None
    assert rule.check(sick(dependence(trees=0.05))) is None
    trace = sick()
    trace.pairs = None
    assert rule.check(trace) is None


@pytest.mark.parametrize("state, fires, shown", [
    ("plateau", True, True), ("at-chance", True, True), ("slow", True, False), ("learning", True, True),
    ("too-early", False, None), ("diverging", False, None), ("non-finite", False, None),
])  # fmt: skip
def test_symptoms(sick, state, fires, shown):
    """Also where the loss falls, but stays above what a plane reaches."""
    trace = sick()
    trace.known["symptom"] = Symptom(state, loss=1.0, chance=CHANCE, classes=5)
    finding = rule.check(trace)
    assert (finding is not None) == fires
    assert finding is None or finding.shown == shown


def test_a_loss_that_is_not_judged(sick):
    trace = sick()
    trace.known["symptom"] = Symptom("plateau", loss=1.0, chance=CHANCE, classes=5, judged=False)
    assert rule.check(trace) is None
    trace.known["symptom"] = Symptom("plateau", loss=None, chance=CHANCE, classes=5)
    assert rule.check(trace) is None
    trace.known["symptom"] = Symptom("plateau", loss=1.0, chance=CHANCE)
    assert rule.check(trace) is None


def test_steps_that_are_too_short_or_too_long_say_nothing_about_the_network(sick):
    trace = sick()
    trace.series.columns["predicted"][::10] = 1e-6
    assert rule.check(trace) is None
    trace.series.columns["predicted"][:] = np.nan
    assert rule.check(trace) is not None  # not measured
    trace = sick()
    trace.facts.probes = [Probe(100, 1.0, 1.0, 1.2, 0.1, {"0.1": 0.9})]
    assert rule.check(trace) is None
    trace.facts.probes += [Probe(n, 1.0, 1.0, 0.99, 0.01) for n in (200, 300, 400)]
    assert rule.check(trace) is not None  # only at first


@pytest.mark.parametrize("change", [
    {"shape": [5]}, {"trainable": False}, {"reached": False}, {"order": None}, {"fan_in": None}, {"fan_in": 0},
    {"name": "table.weight"},  # an embedding: nothing is summed over its rows
])  # fmt: skip
def test_no_layer_behind_that_could_find_it_narrow(sick, change):
    trace = sick()
    for name, value in change.items():
        setattr(trace.facts.parameters[1], name, value)
    assert rule.check(trace) is None


def test_one_layer_alone(sick):
    trace = sick()
    trace.facts.parameters = trace.facts.parameters[1:]
    assert rule.check(trace) is None


def test_a_matrix_used_as_x_at_w(sick):
    trace = sick(units=2, shape=[8, 2], transposed=True)
    assert "body.weight has 2 units" in rule.check(trace).summary


def test_the_narrowest_layer_is_named(sick):
    """body 8 -> 3, neck 3 -> 2, head 2 -> 5: the head is fed two numbers, and the neck makes them."""
    trace = sick(units=3)
    neck = rule._example(2, "plateau").facts.parameters[0]
    neck.name, neck.order, neck.shape, neck.fan_in = "neck.weight", 1, [2, 3], 3
    neck.made = synthetic.site(11, "self.neck = nn.Linear(3, 2)")
    trace.facts.parameters[1].shape, trace.facts.parameters[1].fan_in = [5, 2], 2
    trace.facts.parameters.append(neck)
    trace.facts.layers.append(Layer("linear", "input", [64, 3], 3, parameters=["neck.weight"]))
    finding = rule.check(trace)
    assert "neck.weight has 2 units" in finding.summary and [s.line for s in finding.locations] == [11]


def test_maps_are_as_wide_as_what_is_left_of_them(sick):
    """Two channels of 4 x 4 are 32 numbers for the layer behind."""
    trace = sick(units=2)
    trace.facts.parameters[0].shape = [2, 1, 3, 3]
    trace.facts.parameters[1].shape, trace.facts.parameters[1].fan_in = [5, 32], 32
    assert rule.check(trace) is None
