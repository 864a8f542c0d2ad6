"""I606."""

import math

import numpy as np
import pytest

from unstuck.findings import Symptom
from unstuck.rules.init import no_nonlinearity as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Layer
from unstuck.trace.trace import Pairs

CHANCE = math.log(5)


@pytest.fixture
def sick(dependence):
    def make(learn=None, state="at-chance", operations=None):
        trace = rule.sick()
        trace.series = synthetic.training(state=state).series
        trace.known["learnable"] = learn
        trace.pairs = Pairs(np.zeros((4, 2), np.float32), np.arange(4), np.zeros(4, np.int64))
        if operations is not None:
            trace.facts.operations = operations
        return trace

    return make


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing, finding.shown) == ("I606", "certain", "choice", False)
    assert "2 layers" in finding.summary
    assert "there are 2 trained layers" in finding.evidence[0].text and finding.evidence[0].source == "graph"
    assert len(finding.evidence) == 1 and "ReLU" in finding.fix.summary


def test_healthy():
    assert rule.check(rule.healthy()) is None


def test_trees_on_the_same_samples_show_that_it_matters(sick, dependence):
    finding = rule.check(sick(dependence(logistic=1.6, trees=0.2, neighbours=0.4)))
    assert (finding.bearing, finding.shown) == ("hinders", True)
    assert "boosted-trees classifier reaches 0.2 nats" in finding.evidence[1].text
    assert "a logistic regression 1.6" in finding.evidence[1].text and "the network is at 1.61" in finding.evidence[1].text
    assert finding.evidence[1].value == 0.2
    finding = rule.check(sick(dependence(neighbours=0.4)))
    assert "nearest-neighbour classifier reaches 0.4 nats; the network" in finding.evidence[1].text


@pytest.mark.parametrize("gap, error, shown", [(0.11, 0.0, True), (0.09, 0.0, False), (0.11, 0.01, False), (-0.2, 0.0, False)])
def test_clearly_better(sick, dependence, gap, error, shown):
    trace = sick()
    loss = float(trace.series["loss"][-50:].mean())
    trace.known["learnable"] = dependence(trees=loss - gap * CHANCE, error=error)
    finding = rule.check(trace)
    assert finding.shown == shown and (finding.bearing == "hinders") == shown


def test_only_a_plane_does_better(sick, dependence):
    """Then it is not for want of an activation."""
    assert rule.check(sick(dependence(logistic=0.1))).bearing == "choice"
    assert rule.check(sick(dependence(logistic=0.1, trees=0.2, found=False))).bearing == "choice"


@pytest.mark.parametrize("state", ["too-early", "slow", "non-finite"])
def test_states_in_which_nothing_can_be_compared(sick, dependence, state):
    trace = sick(dependence(trees=0.1))
    trace.known["symptom"] = Symptom(state, loss=1.6, chance=CHANCE)
    finding = rule.check(trace)
    assert finding.bearing == "choice" and len(finding.evidence) == 1
    trace.known["symptom"] = Symptom("at-chance", loss=1.6, chance=CHANCE, judged=False)
    assert rule.check(trace).bearing == "choice"
    trace.known["symptom"] = Symptom("at-chance", chance=CHANCE)
    assert rule.check(trace).bearing == "choice"


@pytest.mark.parametrize("operations, fires", [
    (["linear", "linear"], True),
    (["conv", "view", "linear"], True),
    (["linear", "batch_norm", "conv", "avgpool2d", "mul", "add"], True),
    (["embedding", "mean", "linear", "dropout", "linear"], True),
    (["linear"], False),  # logistic regression
    (["embedding", "mean", "linear"], False),
    ([], False),
    (["linear", "relu", "linear"], False),
    (["linear", "tanh", "linear"], False),
    (["linear", "product", "linear"], False),  # attention, gates
    (["linear", "softmax", "linear"], False),
    (["linear", "layer_norm", "linear"], False),
    (["conv", "max_pool", "linear"], False),
    (["linear", "something new", "linear"], False),  # silence about what is not known
])  # fmt: skip
def test_which_ways_are_linear(sick, operations, fires):
    assert (rule.check(sick(operations=operations)) is not None) == fires


def test_locations():
    trace = rule.sick()
    trace.facts.made = synthetic.site(50, "net = Net()", synthetic.TRAIN)
    assert [s.line for s in rule.check(trace).locations] == [50]
    first = synthetic.site(10, "self.body = nn.Linear(64, 64)")
    used = synthetic.site(20, "x = self.body(x)")
    trace.facts.layers = [Layer("relu"), Layer("linear", "input", parameters=["body.weight"], made=first, site=used)]
    assert [s.line for s in rule.check(trace).locations] == [10, 20, 50]


def test_nothing_was_recorded(sick):
    trace = sick()
    trace.pairs = None
    trace.known.clear()
    assert rule.check(trace).bearing == "choice"
    trace.series = trace.series.where(trace.series.steps < 0)
    assert rule.check(trace).bearing == "choice"
