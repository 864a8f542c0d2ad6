import pytest

from unstuck.rules.wiring import softmax_over_one_unit as rule
from unstuck.rules.wiring.sigmoid_twice import one_unit
from unstuck.trace import synthetic
from unstuck.trace.facts import OpNode, Raised


def node(op: str, shape=(64, 1), **more) -> OpNode:
    return OpNode(op, "", list(shape), site=synthetic.site(41, f"x = {op}(x)"), **more)


def test_sick_is_named_with_its_line():
    found = rule.check(rule.sick())
    assert (found.code, found.grade, found.bearing, found.locations[0].line) == ("W104", "certain", "blocks", 41)


def test_healthy_is_silent():
    assert rule.check(rule.healthy()) is None


@pytest.mark.parametrize("kind", ["bce", "bce-logits", "mse", "nll", "cross-entropy", "l1"])
@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
def test_any_loss(kind, op):
    term = one_unit(node("squeeze", (64,)), node(op, dim=1), kind=kind)
    assert rule.check(synthetic.training(term)).code == "W104"


def test_unknown_loss_is_not_judged():
    assert rule.check(synthetic.training(one_unit(node("softmax", dim=1), kind="unknown"))) is None


def test_pointer_over_positions():
    between = [node("squeeze", (32, 12)), node("log_softmax", (32, 12, 1), dim=1)]
    assert rule.check(synthetic.training(synthetic.cross_entropy(*between, classes=12, kind="nll"))) is None


def test_softmax_without_an_axis():
    assert rule.check(synthetic.training(one_unit(node("softmax")))) is None
    assert rule.check(synthetic.training(one_unit(OpNode("softmax", dim=1)))) is None


def test_cross_entropy_over_one_class():
    term = synthetic.cross_entropy(classes=1, input_shape=[64, 1])
    assert rule.check(synthetic.training(term)).bearing == "blocks"


def test_one_class_where_the_call_raised_is_for_the_labels_rule():
    term = synthetic.cross_entropy(classes=1, input_shape=[64, 1])
    raised = Raised("IndexError", "Target 1 is out of bounds.", "loss")
    assert rule.check(synthetic.training(term, exceptions=[raised])) is None


def test_one_dimensional_outputs_are_one_sample():
    term = synthetic.cross_entropy(classes=1, input_shape=[64], class_axis=0)
    assert rule.check(synthetic.training(term)) is None
