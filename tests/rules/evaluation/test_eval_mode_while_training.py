"""E802."""

import pytest

from unstuck.rules.evaluation import eval_mode_while_training as rule
from unstuck.trace.facts import Inputs, Parameter


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("E802", "certain", "hinders")
    assert "After step 20 of 400" in finding.summary
    assert "20 passes" in finding.evidence[0].text and "380 in evaluation" in finding.evidence[0].text
    assert finding.locations[0].line == 11


def test_healthy():
    assert rule.check(rule.healthy()) is None
    assert "400 passes" in rule.in_order(rule.healthy())


def test_location_of_the_call():
    trace = rule.sick()
    from unstuck.trace import synthetic

    trace.facts.inputs = [Inputs("x", site=synthetic.site(40, "out = model(x)", synthetic.TRAIN))]
    assert rule.check(trace).locations[0].line == 40


def test_never_in_training_mode():
    trace = rule._example(training=0, evaluating=400, last=None, state="learning")
    finding = rule.check(trace)
    assert (finding.bearing, finding.shown) == ("hinders", True)
    assert finding.summary == "All 400 steps were taken in evaluation mode."
    assert "mean 0 and variance 1" in finding.evidence[1].text


def test_what_may_be_meant():
    trace = rule._example(training=0, evaluating=400, last=None, state="learning")
    trace.facts.modes[1].tracked = 900  # of an earlier training
    assert rule.check(trace).bearing == "choice"
    trace = rule.sick()
    assert rule.check(trace).bearing == "hinders"  # dropout was at work and stopped
    trace.facts.modes = trace.facts.modes[1:]
    assert rule.check(trace).bearing == "choice"  # averages frozen half way


@pytest.mark.parametrize("last, fires", [(200, True), (201, False)])
def test_half_of_the_run(last, fires):
    trace = rule._example(training=last, evaluating=400 - last, last=last, state="plateau")
    assert (rule.check(trace) is not None) == fires


def test_frozen_batch_norm_while_dropout_trains():
    trace = rule.sick()
    drop, norm = trace.facts.modes
    drop.training, drop.evaluating, drop.last_training_step = 400, 0, 400
    norm.training, norm.evaluating, norm.last_training_step = 0, 400, None
    finding = rule.check(trace)
    assert finding.bearing == "harmless" and "frozen" in finding.summary
    trace.facts.modes = [norm]
    assert rule.check(trace).bearing == "choice"
    # Its weights are frozen as well: then it is meant, and it is not even noted.
    trace.facts.parameters = [Parameter("bn.weight", [64], trainable=False), Parameter("bn.bias", [64], trainable=False)]
    assert rule.check(trace) is None


def test_only_dropout_is_off():
    trace = rule.sick()
    trace.facts.modes[1].training, trace.facts.modes[1].last_training_step = 400, 400
    assert rule.check(trace) is None


def test_too_short():
    trace = rule.sick()
    trace.facts.loop.steps = 15
    trace.series = trace.series.where(trace.series.steps <= 15)
    assert rule.check(trace) is None
