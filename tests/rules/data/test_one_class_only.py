"""D210."""

import pytest

from unstuck.rules.data import one_class_only as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import LabelStats, OpNode


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("D210", "certain", "blocks")
    assert finding.locations[0].line == 41
    assert "(2)" in finding.summary


def test_healthy():
    assert rule.check(rule.healthy()) is None


@pytest.mark.parametrize(
    "field, value", [("kept", 19), ("calls", 1), ("outside", 2), ("highest", 3.0), ("kind", "real")]
)
def test_too_few_or_not_one(field, value):
    trace = rule.sick()
    setattr(trace.facts.terms[0].labels, field, value)
    assert rule.check(trace) is None


@pytest.mark.parametrize("field, value", [("adversarial", 3), ("unjudged", "sample weights")])
def test_players(field, value):
    trace = rule.sick()
    setattr(trace.facts.loop, field, value)
    assert rule.check(trace) is None


def test_positive_in_a_fixed_column():
    """MoCo: the logits are similarities put side by side, and the label is always 0."""
    trace = rule.sick()
    trace.facts.terms[0].path.insert(0, OpNode("cat"))
    assert rule.check(trace) is None


def test_pairs_with_a_constant_target():
    trace = rule.sick()
    trace.facts.terms[0].path_end = "merge"
    assert rule.check(trace) is None


def test_residuals_that_should_be_zero():
    trace = rule.sick()
    trace.facts.terms[0].kind = "mse"
    assert rule.check(trace) is None


def test_binary_and_one_hot():
    ones = LabelStats("binary", rows=64, kept=64, calls=4, lowest=1.0, highest=1.0, distinct=[1.0], counts=[0.0, 64.0])
    term = synthetic.cross_entropy(classes=2, labels=ones)
    term.kind, term.classes = "bce-logits", 1
    assert rule.check(synthetic.training(term)) is not None
    hot = LabelStats("one-hot", rows=64, kept=64, calls=4, lowest=0.0, highest=1.0, counts=[0.0, 64.0, 0.0])
    term = synthetic.cross_entropy(labels=hot, kind="soft-cross-entropy")
    assert "(1)" in rule.check(synthetic.training(term)).summary
    hot.counts[0] = 1.0
    assert rule.check(synthetic.training(term)) is None
