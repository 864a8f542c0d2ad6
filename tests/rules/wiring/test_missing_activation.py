import pytest

from unstuck.rules.wiring import missing_activation as rule
from unstuck.rules.wiring.sigmoid_twice import one_unit
from unstuck.trace import synthetic
from unstuck.trace.facts import OpNode, Raised, TermValues

REFUSED = Raised("RuntimeError", "all elements of input should be between 0 and 1", "loss")
OUTSIDE = TermValues(calls=5, rows=64, lowest=-1.5, highest=2.0)
INSIDE = TermValues(calls=5, rows=64, unit_interval=5, lowest=0.1, highest=0.9)


def node(op: str, **more) -> OpNode:
    return OpNode(op, "", [64, 1], **more)


def check(*between: OpNode, raised: Raised | None = None, **changes):
    term = one_unit(*between, **({"kind": "bce", "values": INSIDE} | changes))
    return rule.check(synthetic.training(term, exceptions=[raised] if raised else []))


def test_sick_is_named_at_the_head():
    found = rule.check(rule.sick())
    assert (found.code, found.grade, found.bearing) == ("W111", "certain", "blocks")
    assert "nn.Linear" in found.locations[0].text


def test_healthy_is_silent():
    assert rule.check(rule.healthy()) is None


def test_values_outside_without_an_exception():
    assert check(values=OUTSIDE).bearing == "hinders"
    assert check(values=INSIDE) is None


def test_the_exception_is_enough():
    assert check(raised=REFUSED).bearing == "blocks"


def test_clamp_on_the_last_layer():
    assert check(node("squeeze"), node("clamp")).bearing == "hinders"
    assert check(node("clamp"), node("add", parameters=["head.bias"])).code == "W111"
    assert check(node("clamp"), node("mul", scale=0.2)) is None


@pytest.mark.parametrize("op", ["sigmoid", "softmax", "exp"])
def test_a_squashing_function_is_there(op):
    assert check(node("clamp"), node(op), values=OUTSIDE, raised=REFUSED) is None


def test_targets_outside_are_another_rule():
    message = "all elements of target should be between 0 and 1"
    assert check(raised=Raised("RuntimeError", message, "loss")) is None


def test_nan_outputs_are_another_rule():
    assert check(values=TermValues(calls=1, rows=64, nonfinite=1), raised=REFUSED) is None


def test_an_exception_elsewhere():
    assert check(raised=Raised("ValueError", "p must be between 0 and 1", "forward")) is None


@pytest.mark.parametrize("end", ["hidden", "merge", "none", ""])
def test_a_path_that_is_not_whole_proves_nothing(end):
    assert check(values=OUTSIDE, path_end=end) is None


@pytest.mark.parametrize("kind", ["bce-logits", "mse", "cross-entropy"])
def test_other_losses(kind):
    assert check(kind=kind, values=OUTSIDE) is None
