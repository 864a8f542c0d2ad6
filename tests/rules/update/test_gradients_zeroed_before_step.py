"""U406."""

import pytest

from unstuck.rules.update import gradients_zeroed_before_step as rule


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("U406", "certain", "blocks")
    assert finding.locations[0].text == "opt.zero_grad()"


def test_healthy():
    assert rule.check(rule.healthy()) is None


def test_zero_instead_of_none():
    trace = rule.sick()
    trace.facts.loop.grad_none, trace.facts.loop.grad_zero = 0, trace.facts.loop.grad_checked
    assert rule.check(trace) is not None


def test_a_backward_that_gives_zero_is_a_dead_network():
    trace = rule.sick()
    loop = trace.facts.loop
    loop.grad_none, loop.grad_zero, loop.grad_lost = 0, loop.grad_checked, 0
    assert rule.check(trace) is None


def test_some_steps_with_gradient():
    trace = rule.sick()
    trace.facts.loop.grad_none -= 1
    assert rule.check(trace) is None


def test_one_step_is_not_enough():
    trace = rule.sick()
    loop = trace.facts.loop
    loop.grad_checked = loop.grad_none = loop.grad_lost = 1
    assert rule.check(trace) is None


def test_an_optimizer_with_other_tensors_is_u401():
    trace = rule.sick()
    for parameter in trace.facts.parameters:
        parameter.held = False
    assert rule.check(trace) is None


def test_step_before_backward():
    trace = rule.sick()
    loop = trace.facts.loop
    loop.step_before_backward, loop.grad_lost, loop.zero_site = 1, loop.grad_checked - 1, None
    finding = rule.check(trace)
    assert finding.summary.startswith("step is called before backward")
    assert finding.locations[0].line == 43


def closure():
    trace = rule.sick()
    loop = trace.facts.loop
    loop.grad_checked = loop.grad_none = loop.grad_lost = 0
    for parameter in trace.facts.parameters:
        parameter.gradient = "none"
    return trace


def test_zeroed_inside_a_closure():
    assert rule.check(closure()).grade == "likely"


@pytest.mark.parametrize(
    "field, value", [("changed", True), ("changed", None), ("gradient", "nonzero"), ("held", False)]
)
def test_healthy_closure(field, value):
    trace = closure()
    for parameter in trace.facts.parameters:
        setattr(parameter, field, value)
    assert rule.check(trace) is None
