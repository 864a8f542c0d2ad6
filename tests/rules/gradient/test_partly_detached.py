"""G302."""

import pytest

from unstuck.rules.gradient import partly_detached as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Break


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("G302", "certain", "choice")
    assert finding.locations[0].line == 17
    assert "body.weight" in finding.summary


def test_healthy():
    assert rule.check(rule.healthy()) is None


def test_an_unused_head_has_no_break():
    trace = rule.sick()
    trace.facts.breaks = []
    assert rule.check(trace) is None


def test_a_metric_next_to_backward_explains_nothing():
    trace = rule.sick()
    trace.facts.breaks = [
        Break("item", synthetic.site(44, "loss.item()", synthetic.TRAIN, "train"), "item"),
        Break("detach", synthetic.site(45, "total += loss.detach()", synthetic.TRAIN, "train"), "detach"),
    ]
    assert rule.check(trace) is None


def test_a_break_that_is_not_shown_to_matter_is_likely_only():
    trace = rule.sick()
    trace.facts.breaks[0].on_path = False
    assert rule.check(trace).grade == "likely"


def test_a_teacher_is_not_held():
    trace = rule.sick()
    trace.facts.parameters[0].held = False
    assert rule.check(trace) is None


@pytest.mark.parametrize(
    "field, value", [("trainable", False), ("reached", True), ("gradient", "nonzero"), ("changed", True)]
)
def test_parameters_in_order(field, value):
    trace = rule.sick()
    setattr(trace.facts.parameters[0], field, value)
    assert rule.check(trace) is None


def test_nothing_reached_is_g301():
    trace = rule.sick()
    trace.facts.parameters[1].reached = False
    assert rule.check(trace) is None


def test_one_backward_is_not_enough():
    trace = rule.sick()
    trace.facts.loop.backwards = 1
    assert rule.check(trace) is None


def test_random_features_are_no_choice():
    trace = rule.sick()
    trace.facts.parameters[0].fresh = True
    finding = rule.check(trace)
    assert finding.bearing == "hinders" and any("as they were drawn" in e.text for e in finding.evidence)


def test_the_bare_value_of_a_weight_that_an_optimizer_holds():
    trace = rule.sick()
    trace.facts.breaks[0].function = rule.LEAF
    assert rule.check(trace).bearing == "hinders"
