"""S503."""

import math

import pytest

from unstuck.rules.step import weight_decay_dominates as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Parameter, ParameterLook

STEPS, RATE = 400, 1e-3  # of the synthetic training


def sick(*, decay=0.0, last=0.01, gradient=0.1, second=None, along=0.0, **optimizer):
    """Two weights that fell from a norm of 4.6; the optimizer is plain descent unless it is said otherwise."""
    trace = synthetic.training(state="at-chance")
    for name, value in ({"weight_decay": decay} | optimizer).items():
        setattr(trace.facts.optimizers[0], name, value)
    for p in trace.facts.parameters:
        first = ParameterLook(1, 4.6, gradient, 0.05, along=along)
        p.looks = [first, *([second] if second else []), ParameterLook(200, last, 0.02, 0.001)]
    return trace


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("S503", "likely", "hinders")
    assert "2 of 2" in finding.summary
    assert "from 9.2 to 0.02" in finding.evidence[0].text
    assert "Weight decay 5" in finding.evidence[1].text
    assert [s.line for s in finding.locations] == [14]
    assert finding.fix.intervention.kind == "scale-weight-decay"


def test_healthy():
    assert rule.check(rule.healthy()) is None
    assert "no weight fell below 1.1 of its first norm" in rule.in_order(rule.healthy())
    assert rule.in_order(rule.sick()) == ""


def test_a_training_that_learns():
    trace = rule.sick()
    trace.series = synthetic.training(state="learning").series
    assert rule.check(trace) is None


@pytest.mark.parametrize("last, fires", [(0.0, True), (0.459, True), (2.29, True), (2.3, False), (4.6, False), (math.nan, False)])
def test_half_of_the_norm_where_the_decay_explains_it(last, fires):
    assert (rule.check(sick(decay=10.0, last=last)) is not None) == fires
    if last > 0.459:
        assert rule.check(sick(decay=0.0, last=last)) is None


@pytest.mark.parametrize(
    "share, optimizer, fires",
    [  # rate x decay x steps in units of ln 10, with a gradient so large that the decay is small against it
        (1.01, {}, True),
        (0.99, {}, False),
        (1.01, {"decoupled": True, "adaptive": True}, True),
        (0.99, {"decoupled": True, "adaptive": True}, False),
        (0.11, {"momentum": 0.9}, True),  # momentum multiplies what each step does by 1 / (1 - 0.9)
        (0.09, {"momentum": 0.9}, False),
        (0.11, {"decoupled": True, "adaptive": True, "momentum": 0.9}, False),  # an average of gradients is no momentum
        (100.0, {"adaptive": True}, False),  # Adam divides what enters through the gradient by its size
    ],
)
def test_does_the_decay_explain_it(share, optimizer, fires):
    decay = share * math.log(10) / (RATE * STEPS)
    trace = sick(decay=decay, gradient=1e5, **optimizer)
    for p in trace.facts.parameters:
        p.looks[-1].grad_norm = 1e5
    finding = rule.check(trace)
    assert (finding is not None) == fires
    if fires:
        assert "e^-2." in finding.evidence[1].text


@pytest.mark.parametrize("gradient, fires", [(0.45, True), (0.47, False)])
def test_decay_through_the_gradient_against_the_gradient(gradient, fires):
    trace = sick(decay=0.1, gradient=gradient, adaptive=True)
    for p in trace.facts.parameters:
        p.looks[-1].grad_norm = 0.0
    finding = rule.check(trace)
    assert (finding is not None) == fires
    assert not fires or "times the gradient of the loss" in finding.evidence[1].text


def test_the_gradient_is_zero():
    trace = sick(decay=0.1, gradient=0.0, adaptive=True)
    for p in trace.facts.parameters:
        p.looks[-1].grad_norm = 0.0
    assert rule.check(trace) is None  # what keeps the gradient away is the fault


def test_most_weights_must_have_shrunk():
    trace = rule.sick()
    trace.facts.parameters[0].looks[-1].weight_norm = 4.0
    assert rule.check(trace) is None  # one of two is not most
    trace.facts.parameters.append(Parameter("third.weight", [4, 4], looks=trace.facts.parameters[1].looks))
    assert rule.check(trace) is not None


@pytest.mark.parametrize(
    "change", [{"shape": [64]}, {"trainable": False}, {"looks": []}, {"looks": [ParameterLook(1, 4.6, 0.1, 0.1)]}]
)
def test_what_is_no_trained_weight_with_a_past(change):
    trace = rule.sick()
    for p in trace.facts.parameters:
        for name, value in change.items():
            setattr(p, name, value)
    assert rule.check(trace) is None
    assert rule.in_order(trace) == ""


def test_a_norm_that_was_zero_from_the_start():
    trace = rule.sick()
    for p in trace.facts.parameters:
        p.looks[0].weight_norm = p.looks[-1].weight_norm = 0.0
    assert rule.check(trace) is None
    assert rule.in_order(trace) == ""


def test_a_penalty_written_into_the_loss():
    along = ParameterLook(50, 1.0, 0.1, 0.05, along=0.99)
    finding = rule.check(sick(second=along, along=0.99))
    assert finding.grade == "likely" and "penalty inside the loss" in finding.evidence[1].text
    assert finding.locations[0].line == 42 and finding.fix.intervention is None
    sideways = ParameterLook(50, 1.0, 0.1, 0.05, along=0.6)  # 0.36 of the square
    assert rule.check(sick(second=sideways, along=0.6)) is None
    decayed = sick(second=along, along=0.99)  # an optimizer's usual decay explains nothing here
    decayed.facts.optimizers[0].weight_decay, decayed.facts.optimizers[0].decoupled = 0.01, True
    assert "penalty inside the loss" in rule.check(decayed).evidence[1].text
    trace = sick(second=along, along=0.99)
    trace.series = synthetic.training(state="learning").series
    assert rule.check(trace) is None


def test_an_optimizer_that_never_stepped():
    trace = rule.sick()
    trace.facts.optimizers[0].steps = 0
    assert rule.check(trace) is None  # its decay decays nothing


def test_the_rate_is_not_known():
    trace = sick(decay=math.log(10) / (RATE * STEPS) * 1.01, gradient=1e5, lr_first=None)
    trace.series.columns["lr"][:] = math.nan
    for p in trace.facts.parameters:
        p.looks[-1].grad_norm = 1e5
    assert rule.check(trace) is None
