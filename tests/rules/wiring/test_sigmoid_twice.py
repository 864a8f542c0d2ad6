import pytest

from unstuck.rules.wiring import sigmoid_twice as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import LabelStats, OpNode, TermValues


def node(op: str, shape=(64, 1), **more) -> OpNode:
    return OpNode(op, "", list(shape), site=synthetic.site(41, f"x = {op}(x)"), **more)


def check(*between: OpNode, **changes):
    return rule.check(synthetic.training(rule.one_unit(*between, **changes)))


INSIDE = TermValues(calls=5, rows=64, unit_interval=5, strictly_inside=5, lowest=0.01, highest=0.99)


def test_sick_is_named_with_its_line_and_floor():
    found = rule.check(rule.sick())
    assert (found.code, found.grade, found.bearing, found.locations[0].line) == ("W102", "certain", "hinders", 41)
    assert found.floor == pytest.approx(0.5 * 0.31326 + 0.5 * 0.69315, abs=1e-4)


def test_healthy_is_silent():
    assert rule.check(rule.healthy()) is None


@pytest.mark.parametrize("between", [["squeeze"], ["clamp"], ["dropout"], ["view", "cast"]])
def test_seen_through_reshaping(between):
    assert check(*map(node, between), node("sigmoid")).code == "W102"


def test_softmax_is_the_same_fault_and_is_called_so():
    found = check(node("softmax", (64, 5), dim=1))
    assert found.code == "W102" and "softmax" in found.summary


def test_softmax_over_one_unit_is_another_rule():
    assert check(node("softmax", dim=1)) is None


@pytest.mark.parametrize("kind", ["bce", "cross-entropy", "mse"])
def test_other_losses(kind):
    assert check(node("sigmoid"), kind=kind) is None


@pytest.mark.parametrize("op", ["tanh", "relu", "log", "linear"])
def test_other_operations(op):
    assert check(node(op)) is None


def test_by_hand():
    hand = [node("reciprocal"), node("add"), node("exp"), node("neg")]
    assert check(*hand, values=INSIDE).locations[0].line == 41
    assert check(*hand, values=TermValues(calls=5, rows=64, strictly_inside=4)) is None
    assert check(*hand, values=TermValues(calls=1, rows=64, strictly_inside=1)) is None
    assert check(*hand) is None


@pytest.mark.parametrize(
    "ops", [["exp"], ["reciprocal", "exp"], ["reciprocal", "add"], ["reciprocal", "relu", "add", "exp"]]
)
def test_other_arithmetic_inside_the_unit_interval(ops):
    assert check(*map(node, ops), values=INSIDE) is None


def test_division_by_a_constant_is_no_sigmoid():
    assert check(node("div", scale=0.5), node("add"), node("exp"), values=INSIDE) is None


def test_floor_only_where_the_labels_say_it():
    many = LabelStats("binary", rows=64, kept=64, calls=1, distinct=[0.0, 1.0])
    assert check(node("sigmoid"), labels=many).floor is None
    assert check(node("sigmoid"), pos_weight=[3.0]).floor is None
    assert check(node("sigmoid"), sample_weighted=True).floor is None
    one_hot = LabelStats("one-hot", rows=64, kept=64, calls=1, counts=[16.0] * 4)
    assert check(node("sigmoid"), labels=one_hot).floor == pytest.approx(0.25 * 0.31326 + 0.75 * 0.69315, abs=1e-4)
    rare = LabelStats("binary", rows=10, kept=10, calls=1, counts=[9.0, 1.0])
    assert check(node("sigmoid"), labels=rare).floor == pytest.approx(0.1 * 0.31326 + 0.9 * 0.69315, abs=1e-4)
