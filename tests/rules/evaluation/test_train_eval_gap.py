"""E801."""

import pytest

from unstuck.rules.evaluation import train_eval_gap as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import ModeLayer, Probe


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing, finding.shown) == ("E801", "likely", "hinders", True)
    assert "0.29 nats in training mode, 2.4 nats" in finding.evidence[0].text
    assert "96%" in finding.evidence[2].text and "momentum" in finding.fix.summary
    assert finding.locations[0].line == 11


def test_healthy():
    assert rule.check(rule.healthy()) is None
    assert "0.29 nats in training mode, 0.22" in rule.in_order(rule.healthy())


def test_dropout_alone():
    trace = rule.sick()
    trace.facts.modes = [ModeLayer("dropout", p=0.5, training=400)]
    assert rule.check(trace) is None


@pytest.mark.parametrize(
    "trained, evaluated, fires",
    [
        (0.29, 1.62, True),  # no better than the base rates
        (0.29, 1.0, False),  # worse, but not by half of chance
        (0.29, 1.2, True),
        (1.5, 1.7, False),  # training mode has no skill to speak of either
        (2.5, 9.0, False),
        (0.29, float("inf"), True),
        (0.29, float("nan"), False),
        (None, 2.4, True),  # then the loss before the update stands for it
    ],
)
def test_levels(trained, evaluated, fires):
    trace = rule.sick()
    trace.facts.modes[0].momentum = 0.1
    for probe in trace.facts.probes:
        probe.after, probe.evaluation = trained, evaluated
    assert (rule.check(trace) is not None) == fires


@pytest.mark.parametrize("momentum, evaluated, fires", [(1e-4, 0.46, True), (1e-4, 0.44, False), (2e-3, 0.46, False)])
def test_averages_that_are_known_not_to_follow(momentum, evaluated, fires):
    """(1 - 1e-4)^400 = 0.96 of the start is still in them, (1 - 2e-3)^400 = 0.45; a tenth of ln 5 is the gap that counts then."""
    trace = rule.sick()
    trace.facts.modes[0].momentum = momentum
    for probe in trace.facts.probes:
        probe.evaluation = evaluated
    assert (rule.check(trace) is not None) == fires
    assert bool(rule.in_order(trace)) == (evaluated == 0.44)


def test_both_late_probes():
    trace = rule.sick()
    trace.facts.probes[1].evaluation = 0.3  # it has recovered
    assert rule.check(trace) is None
    trace = rule.sick()
    trace.facts.probes = trace.facts.probes[:1]
    assert rule.check(trace) is None


def test_batches_of_one_sample():
    """Single samples that are hopeless in both modes: the mean of the last four decides, if all four are worse."""
    levels = [(0.9, 5.4), (0.4, 8.1), (3.7, 4.9), (0.001, 2.2)]
    trace = rule.sick()
    trace.facts.probes = [Probe(100 * k, t + 0.1, after=t, evaluation=e) for k, (t, e) in enumerate(levels, 1)]
    trace.facts.modes[0].momentum, trace.facts.modes[0].smallest_rows = 0.1, 1
    finding = rule.check(trace)
    assert "last 4 probes" in finding.evidence[0].text and "as few as 1" in finding.evidence[1].text
    trace.facts.probes[0].evaluation = 0.8
    assert rule.check(trace) is None


def test_young_averages():
    trace = rule.sick()
    trace.facts.probes[0].step, trace.facts.probes[1].step = 2, 10
    assert rule.check(trace) is None


def test_reasons():
    trace = rule.sick()
    norm = trace.facts.modes[0]
    norm.momentum, norm.smallest_rows = 0.1, 1
    assert "as few as 1" in rule.check(trace).evidence[2].text
    norm.smallest_rows, norm.evaluating, norm.training = 64, 390, 10
    assert "390 passes" in rule.check(trace).evidence[2].text
    norm.evaluating = 0
    norm.momentum = None
    assert len(rule.check(trace).evidence) == 2
    norm.momentum, norm.tracked = 0.1, 0
    assert "No batch has gone into" in rule.check(trace).evidence[2].text


def test_the_training_mode_loss_where_it_ran_otherwise():
    trace = rule.sick()
    for probe in trace.facts.probes:
        probe.training = 1.6
    assert rule.check(trace) is None


def test_averages_that_were_set_back():
    """The probes are fine; at the last evaluation the averages are what they were at the start."""
    trace = rule.healthy()
    trace.facts.at_end = Probe(400, 0.3, training=0.29, evaluation=2.4, accuracy=0.93, evaluation_accuracy=0.2)
    assert rule.check(trace) is None  # averages that hold something
    trace.facts.modes[0].unset = True
    trace.facts.modes[0].reset_site = synthetic.site(51, "layer.reset_running_stats()", synthetic.TRAIN, "train")
    finding = rule.check(trace)
    assert finding.shown and finding.locations[0].line == 51
    assert "set back" in finding.evidence[-1].text
    trace.facts.at_end.evaluation = 0.5  # and it does not matter
    assert rule.check(trace) is None
