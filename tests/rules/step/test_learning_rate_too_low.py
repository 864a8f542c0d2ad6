"""S502."""

import math

import numpy as np
import pytest

from unstuck.rules.step import learning_rate_too_low as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import OpNode, Probe

CHANCE = math.log(5)


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("S502", "likely", "hinders")
    assert "all 400 steps together is 0.004 nats" in finding.evidence[0].text
    assert finding.evidence[0].value == pytest.approx(0.004)
    assert "a hundred times the same update" in finding.evidence[1].text and finding.evidence[1].source == "probe"
    assert finding.evidence[1].value == pytest.approx(0.00098)
    assert [s.line for s in finding.locations] == [14]
    assert "learning rate 0.001" in finding.summary and "0.1," in finding.fix.summary
    assert finding.fix.intervention.arguments == {"factor": 100.0}


def test_healthy():
    assert rule.check(rule.healthy()) is None


@pytest.mark.parametrize("state, fires", [
    ("at-chance", True), ("at-prior", True), ("constant", True), ("plateau", True),
    ("above-chance", True), ("learning", False), ("non-finite", False),
])  # fmt: skip
def test_symptoms(state, fires):
    trace = rule.sick()
    other = synthetic.training(state=state).series
    for name in ("loss", "chance", "base", "accuracy"):
        trace.series.columns[name] = other.columns[name]
    assert (rule.check(trace) is not None) == fires


@pytest.mark.parametrize("share, fires", [(0.5, True), (0.99, True), (1.01, False), (0.0, False), (-0.5, False)])
def test_the_band_of_two_percent(share, fires):
    """What all steps together can win, in units of 2 % of chance; ascent promises nothing."""
    trace = rule.sick()
    trace.series.columns["predicted"][::10] = share * 0.02 * CHANCE / 400
    assert (rule.check(trace) is not None) == fires


@pytest.mark.parametrize(
    "win, fires",
    [(0.31, True), (0.29, False), (1.0, True), (-1.0, False), (math.nan, False), (math.inf, False), (None, False)],
)
def test_a_hundred_times_the_step_must_still_follow_the_gradient(win, fires):
    trace = rule.sick()
    for probe in trace.facts.probes:
        probe.scan["100"] = None if win is None else probe.before - win * 100 * probe.predicted
    assert (rule.check(trace) is not None) == fires


@pytest.mark.parametrize("far, after", [
    (math.inf, 1.59999), (-math.inf, 1.59999), (math.nan, 1.59999), (None, 1.59999), (1.59902, None), (1.59902, math.nan),
])  # fmt: skip
def test_only_a_probe_with_numbers_is_told(far, after):
    trace = rule.sick()
    trace.facts.probes[0].scan["100"], trace.facts.probes[0].after = far, after
    text = rule.check(trace).evidence[1].text
    assert text.startswith("Step 2 ") and "inf" not in text and "nan" not in text
    for probe in trace.facts.probes:
        probe.after = None
    assert len(rule.check(trace).evidence) == 1


def test_a_step_that_reached_zero_is_told():
    trace = rule.sick()
    trace.facts.probes[0].after = 0.0
    assert "by 1.6 nats;" in rule.check(trace).evidence[1].text


def test_half_of_the_probes_decide():
    trace = rule.sick()
    trace.facts.probes[3].scan["100"] = 1.6
    assert rule.check(trace) is not None
    trace.facts.probes[2].scan["100"] = trace.facts.probes[1].scan["100"] = 1.6
    assert rule.check(trace) is None


def test_no_probe_speaks():
    trace = rule.sick()
    trace.facts.probes = [Probe(1, 1.6, 1.6, 1.59, 1e-5), Probe(2, 1.6, 1.6, None, None, {"100": 1.0})]
    assert rule.check(trace) is None
    trace.facts.probes = [Probe(1, 1.6, 1.6, 1.59, math.nan, {"100": 1.0})]
    assert rule.check(trace) is None


def test_even_the_longer_step_is_below_the_resolution():
    trace = rule.sick()
    trace.series.columns["predicted"][::10] = 1e-9
    trace.facts.probes = [Probe(n, 1.6, 1.6, 1.6, 1e-9, {"10": 1.6, "100": 1.6}) for n in (1, 2, 10)]
    assert rule.check(trace) is not None


@pytest.mark.parametrize("largest, last, fires", [
    (1e-3, 1e-3, True), (1e-3, 1.1e-6, True), (1e-3, 0.9e-6, False), (1e-3, 0.0, False), (0.0, 0.0, False),
    (None, None, False), (1e-3, None, False),
])  # fmt: skip
def test_a_rate_of_zero_or_decayed_is_another_fault(largest, last, fires):
    trace = rule.sick()
    trace.facts.optimizers[0].lr_largest, trace.facts.optimizers[0].lr_last = largest, last
    assert (rule.check(trace) is not None) == fires


@pytest.mark.parametrize(
    "first, last, fires", [(0.0, 1e-3, False), (0.4e-3, 1e-3, False), (0.6e-3, 1e-3, True), (1e-3, 1e-4, True)]
)
def test_a_warm_up_that_is_still_rising(first, last, fires):
    trace = rule.sick()
    trace.series.columns["lr"] = np.linspace(first, last, 400)
    assert (rule.check(trace) is not None) == fires


@pytest.mark.parametrize("total, fires", [(0.05, True), (0.09, True), (0.11, False)])
def test_a_start_above_chance_has_more_to_win(total, fires):
    """2 % of a first loss of 3 ln 5 are 0.097 nats."""
    trace = rule.sick()
    trace.series.columns["loss"] = synthetic.training(state="above-chance").series.columns["loss"]
    trace.series.columns["predicted"][::10] = total / 400
    assert (rule.check(trace) is not None) == fires


def test_no_optimizer_was_seen():
    trace = rule.sick()
    trace.facts.optimizers = []
    finding = rule.check(trace)
    assert finding.locations == [] and "Multiply" in finding.fix.summary


def test_nothing_was_measured():
    trace = rule.sick()
    trace.series.columns["predicted"][:] = np.nan
    assert rule.check(trace) is None
    trace = rule.sick()
    trace.series.columns["chance"][:] = np.nan
    assert rule.check(trace) is None


@pytest.mark.parametrize("op, adaptive, promise, fires", [
    ("softmax", False, 7e-5, False),  # 400 steps of 7e-5 with K = 5: 25 times as much is 0.7 nats
    ("softmax", False, 1e-6, True), ("softmax", True, 1e-5, True), ("softmax", True, 3e-5, False),
    ("sigmoid", False, 1e-5, False), ("linear", False, 7e-5, True),
])  # fmt: skip
def test_short_behind_a_softmax_that_the_loss_has_already(op, adaptive, promise, fires):
    """1.6094 / 50 = 0.032 nats are needed."""
    trace = rule.sick()
    trace.series.columns["predicted"][::10] = promise
    for p in trace.facts.probes:
        p.predicted, p.scan["100"] = promise, p.before - 100 * promise
    trace.facts.terms[0].path = [OpNode(op, "Backward0", [64, 5])]
    trace.facts.optimizers[0].adaptive = adaptive
    assert (rule.check(trace) is not None) == fires
