"""D207."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from unstuck.findings import Symptom
from unstuck.rules.data import class_imbalance as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Inputs


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("D207", "likely", "hinders")
    assert "97.0%" in finding.evidence[0].text and "of 96 recent rows" in finding.evidence[1].text
    assert finding.evidence[2].source == "statistics"
    assert finding.locations[0].line == 12


def test_healthy():
    assert rule.check(rule.healthy()) is None
    assert rule.in_order(rule.healthy()) == "the most frequent class has 50% of the labels"


def test_no_pairs_is_only_possible():
    trace = rule.sick()
    trace.pairs, trace.known = None, {}
    assert (rule.check(trace).grade, rule.check(trace).bearing) == ("possible", "choice")


def test_nothing_to_find_is_d202():
    trace = rule.sick()
    trace.known["learnable"] = SimpleNamespace(found=False, absent=True, sentence=lambda: "nothing.")
    assert rule.check(trace) is None
    trace.known["learnable"] = SimpleNamespace(found=False, absent=False, sentence=lambda: "too few.")
    assert rule.check(trace).grade == "possible"


@pytest.mark.parametrize("state, fires", [
    ("at-prior", True), ("at-chance", True), ("constant", True), ("plateau", True),
    ("learning", True),  # a loss that falls among the frequent class alone
    ("non-finite", False), ("above-chance", False),
])  # fmt: skip
def test_symptoms(state, fires):
    trace = rule.sick()
    trace.series = synthetic.training(state=state).series
    assert (rule.check(trace) is not None) == fires


@pytest.mark.parametrize("steps, fires", [(30, False), (31, True)])
def test_too_early_until_the_data_were_seen_three_times(steps, fires):
    trace = rule.sick()
    trace.facts.inputs = [Inputs(shape=[32, 6], rows=1000, distinct_rows=330)]
    trace.series = trace.series.where(np.arange(len(trace.series)) < steps)
    trace.facts.loop.steps = steps
    trace.known["symptom"] = Symptom("too-early")
    assert (rule.check(trace) is not None) == fires
    trace.facts.inputs[0].distinct_rows = 0
    assert rule.check(trace) is None


@pytest.mark.parametrize("share, fires", [(0.69, True), (0.68, False)])
def test_how_uneven(share, fires):
    """H of (0.684, 0.316) is 0.9 ln 2."""
    trace = rule.sick()
    trace.facts.terms[0].labels.counts = [1000 * share, 1000 * (1 - share)]
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert (entropy < 0.9 * math.log(2)) == fires
    assert (rule.check(trace) is not None) == fires


def test_rare_answers_and_recall():
    trace = rule.sick()
    labels = trace.facts.terms[0].labels
    labels.hits[1] = 4.0  # of 96: no more than one in twenty
    assert "of 96 recent rows of other classes 4 were right" in rule.check(trace).evidence[1].text
    labels.hits[1] = 5.0
    assert rule.check(trace) is None
    labels.hits, labels.predicted = [3005.0, 1.0], [3100.0, 100.0]  # right less often than one constant answer
    assert rule.check(trace) is not None
    labels.hits = [3103.0, 2.0]  # and more often
    assert rule.check(trace) is None
    labels.predicted, labels.seen = [3200.0, 0.0], [3181.0, 19.0]
    assert rule.check(trace) is None  # too few were asked for


@pytest.mark.parametrize("field, value", [("weight", [0.5, 16.0]), ("pos_weight", [32.0]), ("sample_weighted", True)])
def test_weighted_already(field, value):
    trace = rule.sick()
    setattr(trace.facts.terms[0], field, value)
    assert rule.check(trace) is None


def test_shown_once_the_data_were_gone_through():
    """Then it is a cause whatever the loss does: weights the wrong way round make it small."""
    trace = rule.sick()
    assert not rule.check(trace).shown
    trace.facts.inputs = [Inputs(shape=[32, 6], rows=1000, distinct_rows=330)]
    assert rule.check(trace).shown
