"""U410."""

import pytest

from unstuck.rules.update import learning_rate_zero, step_never_called
from unstuck.rules.update import step_has_no_effect as rule
from unstuck.trace.facts import Break, Site


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("U410", "certain", "blocks")
    assert [s.line for s in finding.locations] == [43, 14]
    assert learning_rate_zero.check(rule.sick()) is None


def test_healthy():
    assert rule.check(rule.healthy()) is None


@pytest.mark.parametrize("checked, none", [(2, 2), (50, 49), (0, 0)])
def test_too_few_or_some_effect(checked, none):
    trace = rule.sick()
    trace.facts.loop.no_effect_checked, trace.facts.loop.no_effect = checked, none
    assert rule.check(trace) is None


def test_rounded_away_is_u407():
    trace = rule.sick()
    trace.facts.optimizers[0].steps_below_resolution = trace.facts.loop.no_effect
    assert rule.check(trace) is None
    assert learning_rate_zero.check(trace).code == "U407"


def test_learning_rate_zero_is_u407():
    trace = rule.sick()
    trace.facts.optimizers[0].lr_largest = 0.0
    assert rule.check(trace) is None


def test_weights_written_back_by_somebody_else():
    trace = rule.sick()
    trace.facts.parameters[0].changed = True
    assert rule.check(trace) is None


def by_hand(text):
    trace = step_never_called.sick()
    trace.facts.breaks = [Break("data", Site("train.py", 44, text), "data")]
    return trace


def test_update_by_hand():
    finding = rule.check(by_hand("p.data.sub(lr * p.grad)"))
    assert finding.locations[0].line == 44


def test_a_metric_next_to_a_missing_step_is_u404():
    assert rule.check(by_hand("pred = out.data.argmax(1)")) is None


def test_update_by_hand_that_works():
    trace = by_hand("p.data.sub_(lr * p.grad)")
    trace.facts.loop.functional = True
    trace.facts.parameters[0].changed = True
    assert rule.check(trace) is None
