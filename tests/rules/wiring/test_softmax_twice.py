import math

import pytest

from unstuck.rules.wiring import softmax_twice as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import OpNode, TermValues


def node(op: str, shape=(64, 5), **more) -> OpNode:
    return OpNode(op, "", list(shape), site=synthetic.site(41, f"x = {op}(x)"), **more)


def check(*between: OpNode, **changes):
    return rule.check(synthetic.training(synthetic.cross_entropy(*between, **changes)))


def test_sick_is_named_with_its_line_and_floor():
    found = rule.check(rule.sick())
    assert (found.code, found.name, found.grade, found.bearing) == ("W101", "softmax-twice", "certain", "hinders")
    assert found.locations[0].line == 41
    assert math.isclose(found.floor, math.log(math.e + 4) - 1)


def test_healthy_is_silent():
    assert rule.check(rule.healthy()) is None


@pytest.mark.parametrize("between", [["view"], ["clamp"], ["dropout"], ["cast", "copy"], ["log_softmax"]])
def test_seen_through_what_changes_nothing(between):
    assert check(*map(node, between), node("softmax", dim=1)).code == "W101"


@pytest.mark.parametrize("op", ["log_softmax", "sigmoid", "relu", "log"])
def test_another_operation_first_is_another_matter(op):
    assert check(node(op, dim=1)) is None


def test_softmax_under_a_log_is_right():
    assert check(node("log"), node("softmax", dim=1)) is None


def test_other_losses_are_other_rules():
    for kind in ("nll", "bce", "mse", "kl"):
        assert check(node("softmax", dim=1), kind=kind) is None


def test_hidden_graph_is_judged_by_its_numbers():
    hidden = {"path": [OpNode("compiled")], "path_end": "hidden"}
    assert check(**hidden, values=TermValues(calls=5, rows=64, simplex_rows=5)).evidence[0].source == "values"
    assert check(**hidden, values=TermValues(calls=5, rows=64, simplex_rows=4)) is None
    assert check(**hidden, values=TermValues(calls=5, rows=1, simplex_rows=5)) is None
    assert check(**hidden, values=TermValues()) is None


def test_nothing_known():
    assert check(path=[]) is None
