from unstuck.rules.wiring import log_softmax_twice as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import OpNode


def node(op: str, shape=(64, 5), **more) -> OpNode:
    return OpNode(op, "", list(shape), site=synthetic.site(41, f"x = {op}(x)"), **more)


def check(*between: OpNode, **changes):
    return rule.check(synthetic.training(synthetic.cross_entropy(*between, **changes)))


def test_sick_is_a_harmless_note():
    found = rule.check(rule.sick())
    assert (found.code, found.grade, found.bearing, found.locations[0].line) == ("W116", "certain", "harmless", 41)


def test_healthy_is_silent():
    assert rule.check(rule.healthy()) is None


def test_log_of_softmax_and_views():
    assert check(node("log"), node("softmax", dim=1)).code == "W116"
    assert check(node("view"), node("log_softmax", (8, 8, 5), dim=2)).code == "W116"


def test_nll_wants_exactly_that():
    assert check(node("log_softmax", dim=1), kind="nll") is None


def test_another_axis_is_another_rule():
    assert check(node("log_softmax", dim=0)) is None
    assert check(node("log_softmax")) is None


def test_softmax_alone_or_further_down():
    assert check(node("softmax", dim=1)) is None
    assert check(node("relu"), node("log_softmax", dim=1)) is None
    assert check(node("log"), node("log"), node("softmax", dim=1)) is None
    assert check(node("log"), node("sigmoid")) is None


def test_one_unit_is_another_rule():
    assert check(node("log_softmax", (64, 1), dim=1), classes=1) is None


def test_nothing_known():
    assert check(path=[]) is None
