"""I604."""

import math

import pytest

from unstuck.findings import Symptom
from unstuck.rules.init import saturated_units as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Layer, LayerLook, OpNode, Parameter


def with_looks(*looks, op="tanh", module="", rows=64):
    """Looks as (mean derivative, share of saturated values)."""
    trace = rule.sick()
    layer = trace.facts.layers[0]
    layer.op, layer.module = op, module
    layer.looks = [LayerLook(n, rows, derivative=d, saturated=s) for n, (d, s) in enumerate(looks, 1)]
    return trace


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("I604", "likely", "hinders")
    assert "64 tanh units" in finding.summary and "100%" in finding.summary
    assert "0.001 at step 1, 0.001 at step 50" in finding.evidence[0].text
    assert (finding.evidence[0].value, finding.evidence[0].source) == (0.001, "values")
    assert [s.line for s in finding.locations] == [20]
    assert "xavier" in finding.fix.summary


def test_healthy():
    assert rule.check(rule.healthy()) is None
    assert "at least 70% of their largest derivative" in rule.in_order(rule.healthy())
    assert rule.in_order(rule.sick()) == ""


@pytest.mark.parametrize("state, fires", [("learning", False), ("not-judged", False), ("too-early", True), ("at-prior", True)])
def test_symptoms(state, fires):
    trace = rule.sick()
    trace.known["symptom"] = Symptom(state, judged=state != "not-judged")
    assert (rule.check(trace) is not None) == fires


@pytest.mark.parametrize(
    "looks, fires",
    [
        ([(0.049, 0.5)] * 4, True),
        ([(0.05, 0.5)] * 4, False),
        ([(0.2, 0.9)] * 4, True),  # a tenth of the units keeps a derivative
        ([(0.2, 0.89)] * 4, False),
        ([(0.7, 0.0), (0.01, 1.0), (0.01, 1.0), (0.01, 1.0)], False),  # saturates later: what pushed it there is the fault
        ([(0.01, 1.0), (0.01, 1.0), (0.7, 0.0), (0.7, 0.0)], False),  # came back
        ([(0.01, 1.0), (0.7, 0.0), (0.01, 1.0), (0.01, 1.0)], True),
        ([(0.01, 1.0)], False),  # one look
        ([], False),
        ([(None, 1.0)] * 4, False),
        ([(0.01, None)] * 4, False),
        ([(math.nan, 0.5)] * 4, False),
        ([(0.5, math.nan)] * 4, False),
    ],
)
def test_which_layers(looks, fires):
    for op in ("tanh", "sigmoid"):
        trace = with_looks(*looks, op=op)
        assert (rule.check(trace) is not None) == fires
        rule.in_order(trace)


@pytest.mark.parametrize("module", ["LSTM", "GRU", "LSTMCell", "GRUCell"])
def test_gates_are_meant_to_open_and_close(module):
    assert rule.check(with_looks(*[(0.01, 1.0)] * 4, op="sigmoid", module=module)) is None
    assert rule.check(with_looks(*[(0.01, 1.0)] * 4, op="sigmoid", module="Sigmoid")) is not None


def test_batches_of_one_row():
    assert rule.check(with_looks(*[(0.01, 1.0)] * 4, rows=1)) is None


@pytest.mark.parametrize("op", ["relu", "linear", "gelu"])
def test_other_activations(op):
    assert rule.check(with_looks(*[(0.01, 1.0)] * 4, op=op)) is None


def test_the_way_from_the_head_to_the_loss_is_the_wirings_affair():
    trace = rule.sick()
    trace.facts.terms[0].path.insert(0, OpNode("tanh", site=trace.facts.layers[0].site))
    assert rule.check(trace) is None
    trace.facts.terms[0].path[0].site = synthetic.site(33, "return torch.tanh(self.head(h))")
    assert rule.check(trace) is not None
    trace.facts.terms = []
    assert rule.check(trace) is not None


def test_the_layer_in_front_is_the_line_to_edit():
    trace = rule.sick()
    trace.facts.parameters = [Parameter("body.weight", [64, 64], made=synthetic.site(10, "self.body = nn.Linear(64, 64)"))]
    trace.facts.layers.insert(0, Layer("linear", "input", [64, 64], 64, parameters=["body.weight"]))
    assert [s.line for s in rule.check(trace).locations] == [10, 20]


def test_several_layers():
    trace = rule.sick()
    trace.facts.layers += [rule.sick().facts.layers[0] for _ in range(4)]
    assert len(rule.check(trace).evidence) == 3
    trace.facts.layers = []
    assert rule.check(trace) is None and rule.in_order(trace) == ""
