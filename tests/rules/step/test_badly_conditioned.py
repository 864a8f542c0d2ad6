"""S505."""

import math

import numpy as np
import pytest

from unstuck.findings import Symptom
from unstuck.rules.learnable import learnable, linear_probe, whitened
from unstuck.rules.step import badly_conditioned as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Layer, Probe
from unstuck.trace.trace import Pairs


@pytest.fixture
def sick(dependence):
    """The rule's own example, with what a logistic regression would reach put down."""

    def make(learn=None, **optimizer):
        trace = rule.sick()
        trace.known["learnable"] = trace.known["whitened"] = learn if learn is not None else dependence(logistic=0.01, trees=0.1)
        for name, value in optimizer.items():
            setattr(trace.facts.optimizers[0], name, value)
        return trace

    return make


def test_sick(sick):
    finding = rule.check(sick())
    assert (finding.code, finding.grade, finding.bearing) == ("S505", "likely", "hinders")
    assert "condition number" in finding.evidence[0].text and finding.evidence[0].value > 1e6
    assert "linear classifier" in finding.evidence[1].text and "the network is at 1.609" in finding.evidence[1].text
    assert (finding.evidence[1].value, finding.evidence[1].unit) == (0.01, "nats")
    assert [s.line for s in finding.locations] == [14]
    assert "Standardise" in finding.fix.summary and finding.separating


def test_healthy():
    assert rule.check(rule.healthy()) is None


def test_an_adaptive_optimizer(sick):
    assert rule.check(sick(adaptive=True)) is None


@pytest.mark.parametrize("state, fires", [
    ("at-chance", True), ("at-prior", True), ("plateau", True),
    ("learning", False), ("above-chance", False), ("non-finite", False),
])  # fmt: skip
def test_symptoms(sick, state, fires):
    trace = sick()
    trace.series = synthetic.training(state=state).series
    assert (rule.check(trace) is not None) == fires


@pytest.mark.parametrize("gap, error, fires", [(0.11, 0.0, True), (0.09, 0.0, False), (0.11, 0.01, False), (0.14, 0.01, True)])
def test_the_directions_must_matter(sick, dependence, gap, error, fires):
    """The logistic regression must be better by a tenth of chance and twice its own uncertainty."""
    trace = sick()
    level = math.log(5)
    loss = float(np.mean(trace.series["loss"][-50:]))
    trace.known["learnable"] = trace.known["whitened"] = dependence(logistic=loss - gap * level, error=error)
    assert (rule.check(trace) is not None) == fires


def test_columns_that_repeat_each_other_hide_the_rest(sick, dependence):
    """A regression on the columns sees nothing either; on their principal directions it does."""
    trace = sick(dependence(logistic=1.6))
    trace.known["whitened"] = dependence(logistic=0.01)
    assert "directions brought to one scale" in rule.check(trace).evidence[1].text


def test_whitened_columns_show_what_correlated_ones_hide():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 600)
    common = rng.standard_normal((600, 1))
    x = common + 1e-3 * (rng.standard_normal((600, 8)) + 3.0 * np.eye(8)[y])
    trace = synthetic.training(state="at-chance")
    trace.pairs = Pairs(x.astype(np.float32), y, np.arange(600) // 60, "real", 8)
    columns, directions = (linear_probe(ask(trace)) for ask in (learnable, whitened))
    assert columns is None or columns.loss > 0.9
    assert directions.loss < 0.5


def test_nothing_to_learn(sick, dependence):
    assert rule.check(sick(dependence(logistic=0.01, found=False))) is None
    assert rule.check(sick(dependence(trees=0.01))) is None  # no plane does it: not the scales
    trace = sick()
    trace.pairs = None
    assert rule.check(trace) is None


def scaled(trace, *scales, rows=400):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, len(scales))) * np.array(scales)
    trace.pairs = Pairs(x.astype(np.float32), rng.integers(0, 2, rows), np.arange(rows) // 32)
    return trace


@pytest.mark.parametrize(
    "scale, momentum, fires",
    [
        (0.03, 0.0, False),
        (0.015, 0.0, True),
        (0.015, 0.9, False),  # momentum 0.9 goes ten times as far: 0.0066
        (0.005, 0.9, True),
        (1.0, 0.0, False),
    ],
)
def test_which_directions_cannot_move(sick, scale, momentum, fires):
    """In 400 steps: at a scale of 0.0208 beside 1, e^(-4 * 400 * 0.0208^2) = 1/2 of what it explains is still missing."""
    assert (rule.check(scaled(sick(momentum=momentum), 1.0, scale)) is not None) == fires


def test_the_number_of_directions_is_counted(sick):
    finding = rule.check(scaled(sick(), 1.0, 1.0, 1e-3, 1e-3, 1e-3))
    assert finding.summary.startswith("The inputs vary on very different scales: 3 of 5")  # the bias is no input


def test_the_bias_is_no_direction(sick):
    """Columns that are all large beside the bias's 1 are of one scale: D203's case, not this one."""
    assert rule.check(scaled(sick(), 300.0, 300.0)) is None
    assert rule.check(scaled(sick(), 1e-3, 1e-3)) is None


@pytest.mark.parametrize("long, of, fires", [(0, 4, True), (1, 4, True), (2, 4, False), (4, 4, False), (1, 1, True)])
def test_steps_that_are_too_long_are_another_fault(sick, long, of, fires):
    trace = sick()
    trace.facts.probes = [Probe(n, 1.6, 1.6, 1.8 if n < long else 1.59, 0.01, {"0.1": 1.5}) for n in range(of)]
    assert (rule.check(trace) is not None) == fires


@pytest.mark.parametrize("ratio, fires", [(0.95, True), (0.0, False)])
def test_steps_shorter_than_the_longest_reach_less(sick, ratio, fires):
    """A trust ratio r says that the rate is 1 - r of the largest stable one; 0.05 of 400 steps are 20."""
    trace = scaled(sick(), 1.0, 0.03)
    trace.facts.probes = [Probe(n, 1.6, 1.6, 1.6 - 0.01 * ratio, 0.01) for n in range(4)]
    assert (rule.check(trace) is not None) == fires


@pytest.mark.parametrize("first, second, fires", [
    (0.8, 0.39, True), (0.8, 0.41, False), (0.8, 0.8, False), (0.8, -0.1, True),
    (0.0, 0.0, True), (0.01, 0.02, True), (0.0, 0.1, False),  # within 2 % of chance it has not moved
])  # fmt: skip
def test_the_loss_crawls(sick, first, second, fires):
    """The decrease over the halves, between the middles of the first, the third and the last fifth."""
    trace = sick()
    n = np.linspace(-0.25, 2.25, 400)
    trace.series.columns["loss"] = 1.6 - first * np.minimum(n, 1) - second * np.maximum(n - 1, 0)
    trace.known["symptom"] = Symptom("plateau", loss=1.0)
    assert (rule.check(trace) is not None) == fires


def test_a_short_run_that_still_falls(sick):
    trace = sick()
    trace.series = synthetic.training(steps=30).series
    trace.known["symptom"] = Symptom("slow", loss=1.0)
    trace.facts.optimizers[0].steps = trace.facts.loop.steps = 30
    assert rule.check(trace) is None
    for few in (0, 4):
        trace.series = trace.series.where(np.arange(len(trace.series)) < few)
        assert rule.check(trace) is None


@pytest.mark.parametrize("x", [
    np.zeros((50, 3)), np.full((50, 3), np.nan), np.ones((50, 1)), np.zeros((0, 3)),
    np.where(np.arange(150).reshape(50, 3) % 7 == 0, np.inf, 1.0),
])  # fmt: skip
def test_inputs_without_directions(sick, x):
    trace = sick()
    trace.pairs = Pairs(x.astype(np.float32), np.arange(len(x)) % 2, np.zeros(len(x), np.int64))
    assert rule.check(trace) is None


def test_token_ids(sick):
    trace = sick()
    trace.pairs.kind = "ids"
    assert rule.check(trace) is None


@pytest.mark.parametrize("layers", [
    [], [Layer("conv", "input", [8, 3, 8, 8], 3, data=True)], [Layer("linear", "input", [8, 3], 3, data=False)],
    [Layer("batch_norm", "input", [8, 3], 3, data=True)],
])  # fmt: skip
def test_the_first_layer_must_see_the_columns_themselves(sick, layers):
    trace = sick()
    trace.facts.layers = layers
    assert rule.check(trace) is None


def test_no_optimizer_object(sick):
    """An update by hand is plain descent."""
    trace = sick()
    trace.facts.optimizers = []
    finding = rule.check(trace)
    assert finding is not None and finding.locations == []
