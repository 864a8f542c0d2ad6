"""D209."""

import pytest

from unstuck.rules.data import same_batch_every_step as rule


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("D209", "certain", "choice")
    assert "50" in finding.evidence[0].text and "1000 rows in 16 batches" in finding.evidence[1].text
    assert [s.line for s in finding.locations] == [40, 9]


def test_who_asks_about_other_rows_wanted_to_learn_from_more():
    trace = rule.sick()
    trace.facts.loop.evaluated_elsewhere = 1
    finding = rule.check(trace)
    assert (finding.bearing, finding.shown) == ("hinders", True) and "never trained on" in finding.evidence[-1].text


def test_healthy():
    assert rule.check(rule.healthy()) is None
    assert rule.in_order(rule.healthy()) == "3 of 50 batches equal the first one"


def test_begun_anew_in_the_loop():
    trace = rule.sick()
    loader = trace.facts.loaders[0]
    loader.iterators, loader.taken, loader.longest = 400, 400, 1
    assert rule.check(trace) is not None
    loader.longest = 16  # this loader goes on; the batches come from somewhere else
    assert rule.check(trace) is None


def test_a_slice():
    trace = rule.sick()
    trace.facts.loaders = []
    assert rule.check(trace) is None  # full-batch descent: no sign of more data
    trace.facts.inputs[0].part_of = 1000
    assert "slice of a tensor of 1000" in rule.check(trace).evidence[1].text


def test_a_split_by_slicing():
    """X[:1500] of 1797 rows: the rest is held out."""
    trace = rule.sick()
    trace.facts.loaders = []
    trace.facts.inputs[0].shape, trace.facts.inputs[0].part_of = [1500, 30], 1797
    assert rule.check(trace) is None


def test_the_loader_is_another_one():
    """Full-batch training beside a validation loader of which one batch was taken."""
    trace = rule.sick()
    trace.facts.inputs[0].shape = [1500, 30]
    assert rule.check(trace) is None


@pytest.mark.parametrize("same, compared", [(19, 19), (49, 50), (0, 0)])
def test_too_few_or_not_the_same(same, compared):
    trace = rule.sick()
    trace.facts.inputs[0].same_calls, trace.facts.inputs[0].compared_calls = same, compared
    assert rule.check(trace) is None


def test_all_rows_in_one_batch():
    trace = rule.sick()
    loader = trace.facts.loaders[0]
    loader.rows, loader.batches = 64, 1
    assert rule.check(trace) is None
