"""U401."""

import pytest

from unstuck.rules.update import optimizer_holds_other_tensors as rule
from unstuck.rules.update import parameters_missing_from_optimizer
from unstuck.trace.facts import Parameter


def replaced_layer():
    """The body is trained; the head was replaced after the optimizer was made."""
    trace = rule.healthy()
    trace.facts.parameters[1] = Parameter("head.weight", [5, 64], reached=True, gradient="nonzero", changed=False)
    optimizer = trace.facts.optimizers[0]
    optimizer.strangers, optimizer.stranger_names = 1, ["tensor [3, 64]"]
    return trace


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("U401", "certain", "blocks")
    assert finding.locations[0].line == 14


def test_healthy():
    assert rule.check(rule.healthy()) is None


def test_some_layers_replaced_hinders():
    finding = rule.check(replaced_layer())
    assert finding.bearing == "hinders"
    assert "head.weight" in finding.evidence[0].text
    assert parameters_missing_from_optimizer.check(replaced_layer()) is None


def test_an_idle_head_in_the_optimizer_is_not_foreign():
    trace = replaced_layer()
    trace.facts.parameters.append(Parameter("aux.weight", [2, 64], held=True, gradient="none", changed=False))
    trace.facts.optimizers[0].stranger_names = ["aux.weight"]
    assert rule.check(trace) is None
    assert parameters_missing_from_optimizer.check(trace).bearing == "choice"


def test_only_the_frozen_tensors_were_given():
    trace = rule.sick()
    trace.facts.optimizers[0].strangers, trace.facts.optimizers[0].stranger_names = 0, []
    assert rule.check(trace) is None
    trace.facts.parameters.append(Parameter("stem.weight", [8, 8], trainable=False, held=True))
    assert rule.check(trace).bearing == "blocks"


@pytest.mark.parametrize("changed", [True, None])
def test_weights_that_changed_or_were_not_compared(changed):
    """A master copy of the weights (mixed precision) is held instead, and written back."""
    trace = rule.sick()
    for parameter in trace.facts.parameters:
        parameter.changed = changed
    assert rule.check(trace) is None


def test_updates_by_hand():
    trace = rule.sick()
    trace.facts.loop.functional = True
    assert rule.check(trace) is None


def test_no_step_yet():
    trace = rule.sick()
    trace.facts.optimizers[0].steps = 0
    assert rule.check(trace) is None
