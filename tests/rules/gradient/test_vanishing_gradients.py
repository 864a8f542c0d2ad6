"""G303."""

import pytest

from unstuck.rules.gradient import vanishing_gradients as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Layer, LayerLook, ParameterLook


def gradients(trace, sizes, **look):
    for p, size in zip(trace.facts.parameters, sizes):
        p.looks = [ParameterLook(k, 4.6, size, 0.01 * size, **look) for k in (1, 100, 200)]
    return trace


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("G303", "likely", "hinders")
    assert "factor of 5 per layer" in finding.summary
    assert "body.14.weight" in finding.evidence[0].text and "body.0.weight" in finding.evidence[1].text
    assert finding.locations[0].line == 10


def test_healthy():
    assert rule.check(rule.healthy()) is None
    assert "0.48 times" in rule.in_order(rule.healthy())


def test_activations_are_named_first():
    trace = rule.sick()
    trace.facts.layers = [
        Layer("linear", "input", parameters=["body.0.weight", "body.0.bias"]),
        Layer("sigmoid", site=synthetic.site(22, "x = torch.sigmoid(layer(x))")),
    ]
    assert rule.check(trace).locations[0].line == 22


@pytest.mark.parametrize("state", ["learning", "non-finite"])
def test_other_states(state):
    trace = rule.sick()
    trace.series = synthetic.training(state=state).series
    assert rule.check(trace) is None


def test_boundaries():
    """Eight layers: 1/1000 in all is a factor of 0.373 per layer."""
    assert rule.check(gradients(rule.sick(), [0.4 * 0.37 ** (7 - i) for i in range(8)])) is not None
    assert rule.check(gradients(rule.sick(), [0.4 * 0.38 ** (7 - i) for i in range(8)])) is None


def test_one_weak_layer_is_not_a_slope():
    assert rule.check(gradients(rule.sick(), [1e-5, 1, 1.1, 0.9, 1, 1.2, 0.8, 1])) is None
    assert rule.check(gradients(rule.sick(), [1e-5, 1, 0.9, 0.8, 0.7, 0.6, 0.5, 1])) is None


def test_shallow():
    trace = rule.sick()
    trace.facts.parameters = trace.facts.parameters[-3:]
    assert rule.check(trace) is None


def test_layers_that_move():
    """An adaptive optimizer divides the factor out."""
    trace = rule.sick()
    for p in trace.facts.parameters:
        for look in p.looks:
            look.update_norm = 1e-3 * look.weight_norm
    assert rule.check(trace) is None


def test_exactly_zero_is_another_fault():
    trace = rule.sick()
    for look in trace.facts.parameters[0].looks:
        look.grad_norm, look.zero_gradients = 0.0, 1.0
    assert rule.check(trace) is None


def test_underflow_of_the_norm():
    """Squares of numbers below 1e-23 are 0 in float32; the numbers are not, or were not a layer before."""
    sizes = [0.0, 0.0, 1e-21, 1e-17, 1e-13, 1e-9, 1e-5, 0.1]
    assert rule.check(gradients(rule.sick(), sizes, zero_gradients=0.3)) is not None
    trace = gradients(rule.sick(), sizes)
    for look in trace.facts.parameters[0].looks:
        look.zero_gradients = 1.0
    assert rule.check(trace) is not None


def test_embeddings_are_left_out():
    trace = rule.sick()
    trace.facts.parameters = trace.facts.parameters[:4]
    trace.facts.layers = [Layer("embedding", parameters=["body.0.weight"])]
    assert rule.check(trace) is None


@pytest.mark.parametrize("factor, fires", [(0.1, True), (0.7, False)])
def test_what_tells_samples_apart_dies_on_the_way(factor, fires):
    """The share of the mean square that differs between samples, factor^2 per layer, against 1 / (2 * 400 steps)."""
    trace = rule.healthy()
    trace.series = synthetic.training(state="at-chance").series
    for i, p in enumerate(trace.facts.parameters):
        share = factor ** (2 * i)
        looks = [LayerLook(n, 64, rms=0.5, spread=share) for n in (1, 100)]
        trace.facts.layers.append(Layer("linear", "input", [64, 64], 64, parameters=[p.name], looks=looks))
    finding = rule.check(trace)
    assert (finding is not None and "tells samples apart" in finding.summary) == fires
    for layer in trace.facts.layers:
        layer.looks[-1].spread = 0.5  # they were told apart in the end
    assert rule.check(trace) is None
