"""I603."""

import math

import pytest

from unstuck.findings import Symptom
from unstuck.rules.init import dead_relus as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Layer, LayerLook, OpNode, Parameter

STEPS = (1, 2, 10, 50, 100)


def with_shares(*shares, state="at-chance", rows=64, units=64):
    trace = rule._example(shares, state)
    trace.facts.layers[0].units = units
    for look in trace.facts.layers[0].looks:
        look.rows = rows
    return trace


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("I603", "certain", "blocks")
    assert finding.summary == "All 64 ReLU units are 0 for every sample from the first look on."
    assert "1: 100%, 2: 100%, 10: 100%, 50: 100%, 100: 100% (64 units)" in finding.evidence[0].text
    assert (finding.evidence[0].value, finding.evidence[0].unit, finding.evidence[0].source) == (1.0, "share", "values")
    assert [s.line for s in finding.locations] == [20]
    assert "kaiming" in finding.fix.summary


def test_healthy():
    assert rule.check(rule.healthy()) is None
    assert "at most 5% of the units" in rule.in_order(rule.healthy())
    assert rule.in_order(rule.sick()) == ""


def test_died_during_the_training():
    finding = rule.check(with_shares(0.1, 0.2, 1.0, 1.0, 1.0))
    assert finding.grade == "certain" and "they died during the training" in finding.summary
    assert "shorter" in finding.fix.summary


def test_a_training_that_learns():
    assert rule.check(with_shares(1.0, 1.0, 1.0, 1.0, 1.0, state="learning")) is None


@pytest.mark.parametrize(
    "shares, grade",
    [
        ((0.5, 0.5, 0.95, 0.95, 0.95), "likely"),
        ((0.5, 0.5, 0.9, 0.9, 0.9), "likely"),
        ((0.5, 0.5, 0.95, 0.89, 0.95), None),  # one look with a tenth of the units awake
        ((0.99, 0.99, 0.5, 0.5, 0.5), None),
        ((1.0, 1.0, 1.0, 1.0, 0.0), None),
        ((0.5, 0.5, 0.5, 0.5, 0.5), None),  # what a ReLU is for
        ((1.0,), None),  # one batch is no proof
        ((1.0, 1.0), None),  # of two looks only one is late
        ((0.0, 1.0, 1.0), "certain"),
    ],
)
def test_which_layers(shares, grade):
    finding = rule.check(with_shares(*shares))
    assert (finding.grade if finding is not None else None) == grade
    if grade == "likely":
        assert finding.bearing == "hinders" and "of the 64 ReLU units" in finding.summary


def test_how_the_loss_stands():
    """A whole layer is a fact while nothing is learned; most of one counts only where the training is shown to be stuck."""
    for state, bearing in (("at-prior", "blocks"), ("slow", "hinders"), ("too-early", "hinders")):
        trace = with_shares(1.0, 1.0, 1.0, 1.0, 1.0)
        trace.known["symptom"] = Symptom(state)
        assert rule.check(trace).bearing == bearing
        trace = with_shares(0.95, 0.95, 0.95, 0.95, 0.95)
        trace.known["symptom"] = Symptom(state)
        assert (rule.check(trace) is not None) == (state != "slow")


@pytest.mark.parametrize("change", [{"rows": 1}, {"rows": 0}, {"units": 1}, {"units": None}, {"units": 0}])
def test_nothing_can_be_told(change):
    trace = with_shares(1.0, 1.0, 1.0, 1.0, 1.0, **change)
    assert rule.check(trace) is None


@pytest.mark.parametrize("dead", [None, math.nan, math.inf])
def test_not_measured(dead):
    trace = rule.sick()
    for look in trace.facts.layers[0].looks:
        look.dead = dead
    assert rule.check(trace) is None
    rule.in_order(trace)


def test_a_look_that_is_no_number_is_not_told():
    trace = with_shares(1.0, 1.0, 1.0, 1.0, math.nan)
    assert "1: 100%, 2: 100%, 10: 100%, 50: 100% (64 units)" in rule.check(trace).evidence[0].text
    finding = rule.check(with_shares(math.nan, 1.0, 1.0, 1.0, 1.0))
    assert "nan" not in finding.evidence[0].text and "from the first look on" in finding.summary


def test_a_relu_on_the_logits_is_another_fault():
    trace = rule.sick()
    node = OpNode("relu", site=trace.facts.layers[0].site)
    trace.facts.terms[0].path.insert(0, node)
    assert rule.check(trace) is None
    node.site = synthetic.site(33, "return torch.relu(self.head(h))")
    assert rule.check(trace) is not None
    trace.facts.terms = []
    trace.known["symptom"] = Symptom("at-chance")
    assert rule.check(trace) is not None


def test_other_activations_are_not_asked():
    trace = rule.sick()
    trace.facts.layers[0].op = "tanh"
    assert rule.check(trace) is None
    trace.facts.layers = []
    assert rule.check(trace) is None and rule.in_order(trace) == ""


def test_the_layer_in_front_is_the_line_to_edit():
    trace = rule.sick()
    made = synthetic.site(10, "self.body = nn.Linear(64, 64)")
    trace.facts.parameters = [Parameter("body.weight", [64, 64], made=made)]
    trace.facts.layers.insert(0, Layer("linear", "input", [64, 64], 64, parameters=["body.weight"]))
    assert [s.line for s in rule.check(trace).locations] == [10, 20]
    trace.facts.parameters = []
    trace.facts.layers[0].site = synthetic.site(19, "x = self.body(x)")
    assert [s.line for s in rule.check(trace).locations] == [19, 20]


def test_a_whole_layer_comes_before_most_of_one():
    trace = with_shares(0.95, 0.95, 0.95, 0.95, 0.95)
    whole = rule.sick().facts.layers[0]
    whole.units, whole.site = 32, synthetic.site(25, "h = torch.relu(self.second(h))")
    trace.facts.layers.append(whole)
    finding = rule.check(trace)
    assert "All 32 ReLU" in finding.summary and [s.line for s in finding.locations] == [25]


def test_many_looks_are_told_in_five():
    looks = [LayerLook(n, 64, dead=1.0) for n in range(1, 30)]
    trace = rule.sick()
    trace.facts.layers[0].looks = looks
    assert rule.check(trace).evidence[0].text.count("100%") == 5
