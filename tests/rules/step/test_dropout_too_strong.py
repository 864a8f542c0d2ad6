"""S504."""

import math

import pytest

from unstuck.findings import Symptom
from unstuck.rules.step import dropout_too_strong as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Inputs, ModeLayer, Probe

CHANCE = math.log(5)


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("S504", "likely", "hinders")
    assert "0.9 nats without it and 1.59 with it" in finding.summary
    assert "At 2 of the last 2 probes" in finding.evidence[0].text
    assert (finding.evidence[0].value, finding.evidence[0].unit) == (pytest.approx(0.69), "nats")
    assert "97%" in finding.evidence[1].text
    assert [s.line for s in finding.locations] == [9]
    assert finding.fix.summary == "Use p = 0.1." and finding.fix.intervention.kind == "set-dropout"


def test_healthy():
    assert rule.check(rule.healthy()) is None


def test_ordinary_dropout_in_a_training_that_learns():
    trace = rule.sick()
    trace.series = synthetic.training(state="learning").series
    assert rule.check(trace) is None


def test_a_loss_that_is_not_judged():
    trace = rule.sick()
    trace.known["symptom"] = Symptom("not-judged", chance=CHANCE, judged=False)
    assert rule.check(trace) is None


@pytest.mark.parametrize("gap, fires", [(0.11, True), (0.09, False), (0.0, False), (-0.5, False), (math.nan, False)])
def test_a_tenth_of_chance(gap, fires):
    """Below 0 evaluation is worse than training: that is batch norm, not dropout."""
    trace = rule.sick()
    for probe in trace.facts.probes:
        probe.evaluation = probe.after - gap * CHANCE
    assert (rule.check(trace) is not None) == fires


@pytest.mark.parametrize(
    "p, good, fires",
    [
        (0.97, (0, 1), True),
        (0.97, (3,), False),
        (0.97, (2, 3), False),
        (0.97, (2,), True),  # noise nine times the signal: the last probe alone is enough
        (0.5, (0, 1), True),
        (0.5, (2,), False),  # one of two is not most
    ],
)
def test_most_of_the_later_probes(p, good, fires):
    trace = rule.sick()
    trace.facts.modes[0].p = p
    for number in good:
        trace.facts.probes[number].evaluation = 1.58
    assert (rule.check(trace) is not None) == fires


@pytest.mark.parametrize(
    "trained, evaluated, rows, fires",
    [
        (0.2, 0.5, 64, True),  # three standard errors of a share of 128 rows: 0.19
        (0.2, 0.35, 64, False),
        (0.2, 0.35, 256, True),
        (0.5, 0.2, 256, False),
        (None, 0.9, 256, False),
        (0.2, None, 256, False),
        (math.nan, 0.9, 256, False),
        (0.2, 0.9, None, False),
    ],
)
def test_right_answers_in_evaluation_mode(trained, evaluated, rows, fires):
    """Where the losses are no different: the same batch is answered better without the noise."""
    trace = rule.sick()
    trace.facts.inputs = [Inputs("input 1", "real", [rows, 10] if rows else None)]
    for probe in trace.facts.probes:
        probe.evaluation, probe.accuracy, probe.evaluation_accuracy = 1.58, trained, evaluated
    finding = rule.check(trace)
    assert (finding is not None) == fires
    if fires:
        assert any("are right in evaluation mode" in e.text for e in finding.evidence)


def test_too_few_probes():
    trace = rule.sick()
    trace.facts.probes = trace.facts.probes[:2]
    assert rule.check(trace) is None
    trace = rule.sick()
    for probe in trace.facts.probes[1:]:
        probe.evaluation = None
    assert rule.check(trace) is None
    trace.facts.probes = [Probe(1, 1.6)] * 4
    assert rule.check(trace) is None


@pytest.mark.parametrize(
    "mode",
    [
        ModeLayer("dropout", "drop", p=0.97, training=0, evaluating=400),
        ModeLayer("dropout", "drop", p=0.0, training=400),
        ModeLayer("dropout", "drop", p=None, training=400),
        ModeLayer("batch-norm", "norm", momentum=0.1, training=400),
    ],
)
def test_no_dropout_at_work(mode):
    trace = rule.sick()
    trace.facts.modes = [mode]
    assert rule.check(trace) is None
    trace.facts.modes = []
    assert rule.check(trace) is None


def test_the_strongest_of_several_layers_is_named():
    trace = rule.sick()
    place = synthetic.site(30, "self.mild = nn.Dropout(0.1)")
    trace.facts.modes.insert(0, ModeLayer("dropout", "mild", place, 0.1, training=400))
    again = synthetic.site(31, "self.other = nn.Dropout(0.97)")
    trace.facts.modes.append(ModeLayer("dropout", "other", again, 0.97, training=400))
    finding = rule.check(trace)
    assert [s.line for s in finding.locations] == [9, 31] and "of 3 dropout layers" in finding.evidence[1].text


@pytest.mark.parametrize("p, text", [(0.99, "0.1"), (0.8, "0.2"), (0.5, "0.5"), (0.3, "0.5")])
def test_what_was_perhaps_meant(p, text):
    trace = rule.sick()
    trace.facts.modes[0].p = p
    assert rule.check(trace).fix.summary == f"Use p = {text}."


def test_chance_is_not_known():
    trace = rule.sick()
    trace.series.columns["chance"][:] = math.nan
    assert rule.check(trace) is None
