"""G301."""

import pytest

from unstuck.rules.gradient import loss_detached as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Break, Loop, Raised

NO_GRAD = "element 0 of tensors does not require grad and does not have a grad_fn"


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("G301", "certain", "blocks")
    assert finding.locations[0].line == 40
    assert "argmax" in finding.summary


def test_healthy():
    assert rule.check(rule.healthy()) is None


@pytest.mark.parametrize("reason", sorted(rule.REASONS))
def test_every_reason_is_told(reason):
    trace = rule.sick()
    trace.facts.breaks[0].reason = reason
    assert rule.REASONS[reason] in rule.check(trace).summary


def test_raised_at_the_first_backward():
    trace = rule.sick()
    trace.facts.loop, trace.facts.optimizers, trace.facts.breaks = Loop(forwards=1), [], []
    assert rule.check(trace) is None
    trace.facts.exceptions = [Raised("RuntimeError", NO_GRAD, "backward", synthetic.site(42, "loss.backward()"), True)]
    finding = rule.check(trace)
    assert finding.bearing == "blocks"
    assert [s.line for s in finding.locations] == [41, 42]


def test_all_frozen_is_u403():
    trace = rule.sick()
    for parameter in trace.facts.parameters:
        parameter.trainable = False
    assert rule.check(trace) is None


def test_some_backward_calls_only():
    trace = rule.sick()
    trace.facts.loop.without_graph -= 1
    trace.facts.parameters[0].reached = True
    assert rule.check(trace) is None


def test_what_was_cut_off_was_given_a_gradient_of_its_own():
    """predicted = logits.argmax(1).float().requires_grad_(): backward has a graph, and it ends there."""
    trace = rule.sick()
    trace.facts.loop.without_graph = 0
    finding = rule.check(trace)
    assert finding is not None and f"At all {trace.facts.loop.backwards} backward calls" in finding.evidence[0].text
    trace.facts.breaks[0].on_path = False
    assert rule.check(trace) is None


def test_weights_that_change_by_other_means():
    trace = rule.sick()
    trace.facts.parameters[0].changed = True
    assert rule.check(trace) is None


def test_a_metric_is_the_weakest_explanation():
    trace = rule.sick()
    trace.facts.breaks = [
        Break("numpy", synthetic.site(30, "p = out.detach().numpy()"), "numpy"),
        Break("item", synthetic.site(50, "print(loss.item())"), "item"),
    ]
    finding = rule.check(trace)
    assert finding.locations[0].line == 30
    assert "not shown" in finding.evidence[-1].text


def test_without_any_break():
    trace = rule.sick()
    trace.facts.breaks = []
    assert rule.check(trace).locations[0].line == 41
