import pytest

from unstuck.rules.wiring import nll_without_log as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import OpNode, TermValues


def node(op: str, shape=(64, 5), **more) -> OpNode:
    return OpNode(op, "", list(shape), site=synthetic.site(41, f"x = {op}(x)"), **more)


def check(*between: OpNode, **changes):
    return rule.check(synthetic.training(synthetic.cross_entropy(*between, **({"kind": "nll"} | changes))))


def test_sick_probabilities_name_the_softmax():
    found = rule.check(rule.sick())
    assert (found.code, found.grade, found.bearing) == ("W107", "certain", "hinders")
    assert (found.locations[0].line, found.floor) == (41, -1.0)


def test_healthy_is_silent():
    assert rule.check(rule.healthy()) is None


def test_raw_logits_name_the_loss():
    found = check()
    assert found.locations[0].line == 12 and found.locations[1].line == 41 and found.floor is None


def test_hidden_probabilities():
    hidden = {"path": [OpNode("compiled")], "path_end": "hidden"}
    found = check(**hidden, values=TermValues(calls=5, rows=64, simplex_rows=5, lowest=0.0, highest=1.0))
    assert "probabilities" in found.summary and found.locations[0].line == 12


def test_mixed_calls_are_silent():
    assert check(values=TermValues(calls=5, rows=64, log_probabilities=3, highest=2.0)) is None


def test_log_likelihoods_that_are_not_normalised():
    hidden = {"path": [OpNode("compiled")], "path_end": "hidden"}
    assert check(**hidden, values=TermValues(calls=5, rows=64, lowest=-9.0, highest=-0.2)) is None
    assert check(node("log_sigmoid")) is None
    assert check(node("log"), node("softmax", dim=0)) is None


@pytest.mark.parametrize("kind", ["cross-entropy", "soft-cross-entropy", "bce"])
def test_other_losses(kind):
    assert check(kind=kind) is None


def test_nothing_sampled():
    assert check(values=TermValues()) is None
