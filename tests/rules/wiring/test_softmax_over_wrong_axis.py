import math

import pytest

from unstuck.rules.wiring import softmax_over_wrong_axis as rule
from unstuck.rules.wiring.sigmoid_twice import one_unit
from unstuck.trace import synthetic
from unstuck.trace.facts import LabelStats, OpNode, TermValues


def node(op: str, shape=(64, 5), **more) -> OpNode:
    return OpNode(op, "", list(shape), site=synthetic.site(41, f"x = {op}(x)"), **more)


def check(*between: OpNode, **changes):
    return rule.check(synthetic.training(synthetic.cross_entropy(*between, **changes)))


def test_sick_is_named_with_its_line():
    found = rule.check(rule.sick())
    assert (found.code, found.grade, found.bearing, found.locations[0].line) == ("W105", "certain", "hinders", 41)
    assert any(e.value == pytest.approx(math.log(64)) for e in found.evidence)


def test_healthy_is_silent():
    assert rule.check(rule.healthy()) is None


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
@pytest.mark.parametrize("kind", ["cross-entropy", "nll", "soft-cross-entropy", "mse", "bce"])
def test_axis_of_the_batch(op, kind):
    assert check(node(op, dim=0), kind=kind).code == "W105"
    assert check(node(op, dim=1), kind=kind) is None


def test_through_logarithm_clamp_and_constants():
    between = [node("log"), node("add"), node("clamp"), node("mul", scale=2.0)]
    assert check(*between, node("softmax", dim=0), kind="nll").code == "W105"
    assert check(*between, node("softmax", dim=1), kind="nll") is None


def test_a_model_part_between_ends_the_search():
    assert check(node("matmul"), node("softmax", dim=0)) is None
    assert check(node("mul"), node("softmax", dim=0)) is None


def test_transposes_are_followed():
    swap = node("transpose", (16, 5, 30), perm=[0, 2, 1])
    shapes = {"input_shape": [16, 5, 30], "target_shape": [16, 30], "kind": "nll"}
    assert check(swap, node("log_softmax", (16, 30, 5), dim=2), **shapes) is None
    assert check(swap, node("log_softmax", (16, 30, 5), dim=1), **shapes).code == "W105"
    blind = node("transpose", (16, 5, 30))
    assert check(blind, node("log_softmax", (16, 30, 5), dim=1), **shapes) is None


def test_views_are_followed_where_they_can_be():
    view = node("view", (480, 5))
    assert check(view, node("log_softmax", (16, 30, 5), dim=2), kind="nll") is None
    assert check(view, node("log_softmax", (16, 30, 5), dim=1), kind="nll").code == "W105"
    mixed = node("view", (30, 80))
    assert check(mixed, node("log_softmax", (16, 30, 5), dim=1), kind="nll", classes=80) is None


def test_pointer_over_positions():
    between = [node("squeeze", (32, 12)), node("log_softmax", (32, 12, 1), dim=1)]
    assert check(*between, classes=12, kind="nll", input_shape=[32, 12]) is None


def test_axis_of_length_one_is_another_rule():
    assert check(node("softmax", (1, 5), dim=0), kind="nll") is None



def test_squeezed_batch():
    between = [node("softmax", (64,), dim=0), node("squeeze", (64,))]
    assert rule.check(synthetic.training(one_unit(*between, kind="bce"))).code == "W105"
    listwise = LabelStats("real", rows=64, kept=64, calls=1)
    assert rule.check(synthetic.training(one_unit(*between, kind="mse", labels=listwise))) is None


def test_written_by_hand():
    hand = {"class_axis": 0, "feature_axis": 1, "input_shape": [64, 5], "classes": 64}
    labels = LabelStats("index", rows=64, kept=64, calls=1, lowest=0.0, highest=4.0, counts=[13.0, 13, 13, 13, 12])
    found = check(**hand, labels=labels)
    assert found.code == "W105" and 1.5 < found.floor < math.log(64)
    along = LabelStats("index", rows=64, kept=64, calls=1, lowest=0.0, highest=63.0)
    assert check(**hand, labels=along) is None
    assert check(**(hand | {"feature_axis": None}), labels=labels) is None


def test_columns_of_a_hidden_graph():
    hidden = {"path": [OpNode("compiled")], "path_end": "hidden"}
    assert check(**hidden, values=TermValues(calls=5, rows=64, simplex_columns=5)).code == "W105"
    assert check(**hidden, values=TermValues(calls=5, rows=64, simplex_columns=4)) is None
    assert check(**hidden, values=TermValues(calls=5, rows=1, simplex_columns=5)) is None
    assert check(**hidden, values=TermValues(calls=5, rows=64, simplex_rows=5)) is None


def test_nothing_known():
    assert check(path=[]) is None
    assert check(node("softmax")) is None
    assert check(OpNode("softmax", dim=0)) is None
