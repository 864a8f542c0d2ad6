"""U402."""

from unstuck.rules.update import optimizer_holds_other_tensors
from unstuck.rules.update import parameters_missing_from_optimizer as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Parameter


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("U402", "certain", "choice")
    assert finding.locations[0].line == 14
    assert finding.evidence[0].value == 128 / 138
    assert optimizer_holds_other_tensors.check(rule.sick()) is None


def test_healthy():
    assert rule.check(rule.healthy()) is None


def test_at_most_five_names():
    trace = rule.sick()
    for i in range(7):
        trace.facts.parameters.append(Parameter(f"p{i}", [3], reached=True, gradient="nonzero", changed=False))
    assert "p3" in rule.check(trace).summary and "p4" not in rule.check(trace).summary


def test_frozen_backbone_outside_is_silent():
    trace = rule.sick()
    trace.facts.parameters[0].trainable = False
    assert rule.check(trace) is None


def test_unreached_parameters_are_silent():
    trace = rule.sick()
    trace.facts.parameters[0].reached = False
    assert rule.check(trace) is None


def test_changed_or_unknown_is_silent():
    for changed in (True, None):
        trace = rule.sick()
        trace.facts.parameters[0].changed = changed
        assert rule.check(trace) is None


def test_nothing_held_is_another_rule():
    trace = rule.sick()
    trace.facts.parameters[1].held = False
    assert rule.check(trace) is None


def test_updates_by_hand_and_foreign_tensors_are_silent():
    trace = rule.sick()
    trace.facts.loop.functional = True
    assert rule.check(trace) is None
    trace = rule.sick()
    trace.facts.optimizers[0].strangers, trace.facts.optimizers[0].stranger_names = 1, ["tensor [9]"]
    assert rule.check(trace) is None


def test_random_weights_are_missing_by_mistake_where_nothing_is_learned():
    trace = rule.sick()
    assert rule.check(trace).bearing == "choice"
    trace.facts.parameters[0].fresh = True
    assert rule.check(trace).bearing == "hinders"
    trace.series = synthetic.training(state="learning").series
    assert rule.check(trace).bearing == "choice"
