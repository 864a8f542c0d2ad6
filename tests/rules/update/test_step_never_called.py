"""U404."""

import pytest

from unstuck.rules.update import step_never_called as rule
from unstuck.trace.facts import Break, Site


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("U404", "certain", "blocks")
    assert finding.locations[0].line == 42


def test_healthy():
    assert rule.check(rule.healthy()) is None


@pytest.mark.parametrize(
    "field, value", [("backwards", 1), ("steps", 1), ("skipped_steps", 3), ("functional", True), ("eval_forwards", 400)]
)
def test_look_alikes(field, value):
    trace = rule.sick()
    setattr(trace.facts.loop, field, value)
    assert rule.check(trace) is None


def test_weights_changed_by_hand():
    trace = rule.sick()
    trace.facts.parameters[0].changed = True
    assert rule.check(trace) is None


def test_not_compared():
    trace = rule.sick()
    for parameter in trace.facts.parameters:
        parameter.changed = None
    assert rule.check(trace) is None


def test_an_update_by_hand_without_effect_is_u410():
    trace = rule.sick()
    trace.facts.breaks = [Break("data", Site("train.py", 44, "p.data.sub(lr * p.grad)"), "data")]
    assert rule.check(trace) is None
