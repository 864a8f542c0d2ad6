import pytest

from unstuck.rules.wiring import rectified_logits as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import OpNode


def node(op: str, shape=(64, 5), **more) -> OpNode:
    return OpNode(op, "", list(shape), site=synthetic.site(41, f"x = {op}(x)"), **more)


def check(*between: OpNode, **changes):
    return rule.check(synthetic.training(synthetic.cross_entropy(*between, **changes)))


def test_sick_dead_head_blocks():
    found = rule.check(rule.sick())
    assert (found.code, found.grade, found.bearing, found.locations[0].line) == ("W106", "certain", "blocks", 41)


def test_healthy_is_silent():
    assert rule.check(rule.healthy()) is None


@pytest.mark.parametrize("share", [None, 0.0, 0.4])
def test_alive_head_is_hindered(share):
    found = check(node("view"), node("relu", zero_columns=share))
    assert found.bearing == "hinders"
    assert any(e.value == share for e in found.evidence if e.value is not None) == bool(share)


@pytest.mark.parametrize("kind", ["mse", "poisson", "nll", "bce", "l1"])
def test_a_regression_may_be_rectified(kind):
    assert check(node("relu"), kind=kind) is None


@pytest.mark.parametrize("op", ["leaky_relu", "gelu", "clamp", "softplus", "linear"])
def test_other_operations(op):
    assert check(node(op), node("relu")) is None


def test_binary_loss_and_dropout():
    assert check(node("dropout"), node("relu"), kind="bce-logits").code == "W106"


def test_nothing_known():
    assert check(path=[]) is None
