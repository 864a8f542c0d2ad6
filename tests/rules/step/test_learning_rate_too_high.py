"""S501."""

import math

import numpy as np
import pytest

from unstuck.findings import Symptom
from unstuck.rules.step import learning_rate_too_high as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import NonFinite, Probe


def worse(step, before=4.0, after=5.5, shorter=3.8):
    return Probe(step, before, before, after, 3.0, {"0.1": shorter, "0.01": shorter})


def better(step, won=0.05):
    return Probe(step, 1.5, 1.5, 1.5 - won, 0.05)


def with_probes(probes, state="above-chance", **facts):
    trace = synthetic.training(state=state, **facts)
    trace.facts.probes = probes
    return trace


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("S501", "likely", "hinders")
    assert "from 4 nats to 5.5 nats" in finding.evidence[0].text and "0.1 times" in finding.evidence[0].text
    assert (finding.evidence[0].value, finding.evidence[0].unit, finding.evidence[0].source) == (1.5, "nats", "probe")
    assert "4 of 4 probed steps" in finding.evidence[1].text
    assert [s.line for s in finding.locations] == [14]
    assert "0.001" in finding.summary and "0.0001" in finding.fix.summary
    assert finding.fix.intervention.arguments == {"factor": 0.1}
    assert finding.separating


def test_healthy():
    assert rule.check(rule.healthy()) is None
    assert "trust ratio 1 to 1 over 4 probes" in rule.in_order(rule.healthy())


def test_edge_of_stability_learns():
    trace = rule.sick()
    trace.series = synthetic.training(state="learning").series
    assert rule.check(trace) is None


def test_a_loss_that_is_not_judged():
    trace = rule.sick()
    trace.known["symptom"] = Symptom("not-judged", judged=False)
    assert rule.check(trace) is None
    trace.known["symptom"] = Symptom("non-finite", chance=math.log(5), judged=False)
    assert rule.check(trace) is not None


@pytest.mark.parametrize(
    "worsened, improved, idle, fires",
    [
        (2, 2, 0, True),  # every second step: an oscillation
        (2, 3, 0, False),
        (1, 0, 0, False),  # once is not often
        (2, 0, 9, True),  # steps that did nothing at all say nothing against it
        (0, 4, 0, False),
    ],
)
def test_half_of_the_steps_that_did_anything(worsened, improved, idle, fires):
    late = iter(range(10, 100))
    probes = [worse(next(late), 1.5, 1.9, 1.4) for _ in range(worsened)]
    probes += [better(next(late)) for _ in range(improved)] + [better(next(late), won=0.0) for _ in range(idle)]
    assert (rule.check(with_probes(probes, "at-chance")) is not None) == fires


@pytest.mark.parametrize(
    "step, after, state, fires",
    [
        (1, 40.0, "at-chance", True),  # thrown by the first step, and never back
        (6, 40.0, "at-chance", True),
        (7, 40.0, "at-chance", False),  # not one of the first steps
        (1, 3.0, "at-chance", False),  # not by more than chance, which is ln 5 = 1.61
        (1, 3.3, "at-chance", True),
        (1, 40.0, "plateau", False),  # it came back below chance
        (1, math.inf, "non-finite", True),
        (1, None, "at-chance", True),
    ],
)
def test_thrown_by_an_early_step(step, after, state, fires):
    trace = with_probes([worse(step, 1.6, after, 1.5), better(20), better(50), better(100)], state)
    finding = rule.check(trace)
    assert (finding is not None) == fires
    if fires:
        assert "by more than chance" in finding.evidence[1].text
        assert ("not a number" in finding.evidence[0].text) == (after in {None, math.inf})


@pytest.mark.parametrize(
    "probe",
    [
        worse(1, shorter=4.0),  # no shorter step helps: not the length of the step
        worse(1, shorter=4.1),
        worse(1, shorter=None),
        worse(1, shorter=math.nan),
        worse(1, before=math.nan),
        worse(1, before=math.inf),
        worse(1, after=4.0 + 1e-5),  # below the resolution of a loss in float32
        worse(1, after=3.9),  # the whole step helps as well
        Probe(1, 4.0, 4.0, 5.5, 3.0),  # no shorter step was tried
        Probe(1, 4.0, 4.0, 5.5, 3.0, {"10": 3.0, "100": 2.0}),  # only longer ones
        Probe(1, math.nan),
    ],
)
def test_what_is_no_overshoot(probe):
    trace = with_probes([probe] * 4)
    assert rule.check(trace) is None
    rule.in_order(trace)


@pytest.mark.parametrize(
    "predicted, after, fires",
    [
        (50.0, 3.9, True),  # more than the whole loss was promised, next to nothing came
        (50.0, 0.1, True),
        (4.1, 3.5, False),  # more than a tenth came
        (3.9, 3.89, False),  # a promise that could have been kept
        (50.0, None, False),
        (50.0, math.nan, False),
        (None, 3.9, False),
        (math.nan, 3.9, False),
    ],
)
def test_a_loss_cannot_fall_by_more_than_itself(predicted, after, fires):
    finding = rule.check(with_probes([Probe(n, 4.0, 4.0, after, predicted) for n in (1, 2, 10)]))
    assert (finding is not None) == fires
    if fires:
        assert "to first order it would have won 50 nats" in finding.evidence[0].text


def test_the_best_of_the_shorter_steps_is_named():
    trace = with_probes([Probe(n, 4.0, 4.0, 9.0, 3.0, {"0.1": 4.5, "0.01": 3.9}) for n in (1, 2)])
    finding = rule.check(trace)
    assert "0.01 times the same update gives 3.9 nats" in finding.evidence[0].text
    assert finding.fix.intervention.arguments == {"factor": 0.01} and "1e-05" in finding.fix.summary


def test_the_worst_step_is_shown():
    trace = with_probes([worse(1), worse(2, after=70.0), worse(3)])
    assert finding_step(rule.check(trace)) == 2
    trace.facts.probes[2].after = math.nan
    assert finding_step(rule.check(trace)) == 3


def finding_step(finding):
    return int(finding.evidence[0].text.split()[1])


def test_scheduler_and_largest_rate_are_named():
    trace = rule.sick()
    optimizer = trace.facts.optimizers[0]
    optimizer.lr_first, optimizer.lr_largest, optimizer.scheduler = 0.0, 0.5, synthetic.site(16, "s = OneCycleLR(opt)")
    finding = rule.check(trace)
    assert "learning rate 0.5" in finding.summary
    assert [s.line for s in finding.locations] == [14, 16]


def test_nothing_known_of_the_optimizer():
    for change in ({"optimizers": []}, None):
        trace = with_probes(rule.sick().facts.probes, **(change or {}))
        if change is None:
            trace.facts.optimizers[0].lr_first = trace.facts.optimizers[0].lr_largest = None
        finding = rule.check(trace)
        assert finding.fix.summary == "Divide the learning rate by 10." and finding.summary.endswith(".")


def test_a_non_finite_training():
    trace = with_probes([worse(1, 1.6, math.inf, 1.5)], "non-finite")
    trace.facts.nonfinite = NonFinite("parameter", "body.weight", 2)
    assert rule.check(trace) is not None


@pytest.mark.parametrize(
    "probes, text",
    [
        ([], ""),
        ([better(1), worse(2)], ""),  # a ratio below 0 is not in order
        ([Probe(1, 1.5, 1.5, 1.4, None)], ""),
        ([Probe(1, 1.5, 1.5, None, 0.1)], ""),
        ([Probe(1, 1.5, 1.5, math.nan, 0.1)], ""),
        ([Probe(1, 1.5, 1.5, 1.4, math.nan)], ""),
        ([Probe(1, 1.5, 1.5, 1.4, 1e-6)], ""),  # less than a loss can show
        ([Probe(1, 1.5, 1.5, 1.41, 0.1), Probe(2, 1.5, 1.5, 1.38, 0.1)], "trust ratio 0.9 to 1.2 over 2 probes"),
    ],
)
def test_in_order(probes, text):
    assert rule.in_order(with_probes(probes)).startswith(text) and bool(rule.in_order(with_probes(probes))) == bool(text)


def test_only_the_first_steps_overshot_and_no_level_is_known():
    """A loss of the user's own: half of the probes lie in the first steps, and the loss has come down since."""
    probes = [worse(n, 1.5, 1.9, 1.4) for n in (1, 2, 3, 4)] + [better(n) for n in (10, 50, 100)]
    trace = with_probes(probes, "at-chance")
    for name in ("chance", "base"):
        trace.series.columns[name][:] = np.nan
    trace.series.columns["loss"] = np.full(len(trace.series), 1.6)
    assert rule.check(trace) is not None  # it has not
    trace = with_probes(probes, "at-chance")
    for name in ("chance", "base"):
        trace.series.columns[name][:] = np.nan
    trace.series.columns["loss"] = 1.2 + 0.3 * np.random.default_rng(0).random(len(trace.series))
    assert rule.check(trace) is None
