"""D207."""

import math
from types import SimpleNamespace

import pytest

from unstuck.rules.data import class_imbalance as rule
from unstuck.trace import synthetic


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("D207", "likely", "choice")
    assert "97.0%" in finding.evidence[0].text and "of 96 recent rows" in finding.evidence[1].text
    assert finding.evidence[2].source == "statistics"
    assert finding.locations[0].line == 12


def test_healthy():
    assert rule.check(rule.healthy()) is None
    assert rule.in_order(rule.healthy()) == "the most frequent class has 50% of the labels"


def test_no_pairs_is_only_possible():
    trace = rule.sick()
    trace.pairs, trace.known = None, {}
    assert rule.check(trace).grade == "possible"


def test_nothing_to_find_is_d202():
    trace = rule.sick()
    trace.known["learnable"] = SimpleNamespace(found=False, absent=True, sentence=lambda: "nothing.")
    assert rule.check(trace) is None
    trace.known["learnable"] = SimpleNamespace(found=False, absent=False, sentence=lambda: "too few.")
    assert rule.check(trace).grade == "possible"


@pytest.mark.parametrize("state", ["learning", "non-finite", "above-chance"])
def test_only_at_the_base_rates(state):
    trace = rule.sick()
    trace.series = synthetic.training(state=state).series
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
    labels.hits[1] = 1.0
    assert rule.check(trace) is None
    labels.hits[1], labels.predicted = 0.0, [3100.0, 100.0]
    assert rule.check(trace) is None
    labels.predicted, labels.seen = [3200.0, 0.0], [3181.0, 19.0]
    assert rule.check(trace) is None  # too few were asked for


@pytest.mark.parametrize("field, value", [("weight", [0.5, 16.0]), ("pos_weight", [32.0]), ("sample_weighted", True)])
def test_weighted_already(field, value):
    trace = rule.sick()
    setattr(trace.facts.terms[0], field, value)
    assert rule.check(trace) is None
