import math

import pytest

from unstuck.rules.wiring import bounded_logits as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import LabelStats, OpNode


def node(op: str, shape=(64, 5), **more) -> OpNode:
    return OpNode(op, "", list(shape), site=synthetic.site(41, f"x = {op}(x)"), **more)


def check(*between: OpNode, level: float | None = None, **changes):
    return rule.check(synthetic.training(synthetic.cross_entropy(*between, **changes), level=level))


def cosine(level: float | None, *above: OpNode, **changes):
    return check(level=level, path=[*above, node("cosine_similarity")], **changes)


def test_sick_is_named_with_its_line_and_floor():
    found = rule.check(rule.sick())
    assert (found.code, found.grade, found.bearing, found.locations[0].line) == ("W103", "certain", "hinders", 41)
    assert found.floor == pytest.approx(math.log(1 + 4 * math.exp(-2)))


def test_healthy_soft_cap_is_silent():
    assert rule.check(rule.healthy()) is None


def test_sigmoid_has_width_one():
    assert check(node("sigmoid")).floor == pytest.approx(math.log(1 + 4 * math.exp(-1)))


def test_constants_scale_the_width():
    scaled = check(node("mul", scale=3.0), node("view"), node("div", scale=0.5), node("tanh"))
    assert scaled.floor == pytest.approx(math.log(1 + 4 * math.exp(-3)))
    assert check(node("mul", scale=-1.0), node("sigmoid")).floor == pytest.approx(math.log(1 + 4 * math.exp(-1)))
    assert check(node("add"), node("sigmoid")) is not None


def test_room_enough_is_no_fault():
    assert check(node("mul", scale=20.0), node("sigmoid")) is None


def test_learned_scale_or_bias_sets_no_bound():
    assert check(node("mul"), node("tanh")) is None
    assert check(node("add", parameters=["bias"]), node("tanh")) is None


def test_an_activation_inside_the_model_is_no_bound():
    assert check(node("linear"), node("tanh")) is None
    assert check(node("log"), node("sigmoid")) is None


def test_plain_softmax_is_another_rule_and_a_scaled_one_is_this():
    assert check(node("softmax", dim=1)) is None
    found = check(node("mul", scale=2.0), node("softmax", dim=1))
    assert found.floor == pytest.approx(math.log(1 + 4 * math.exp(-2)))
    assert check(node("mul", scale=2.0), node("softmax", dim=0)) is None


def test_dropout_stretches_the_range_so_no_floor_is_named():
    assert check(node("dropout"), node("sigmoid")).floor is None


def test_binary_loss():
    found = check(node("tanh"), kind="bce-logits")
    assert found.floor == pytest.approx(math.log(1 + math.exp(-1)))
    assert check(node("sigmoid"), kind="bce-logits") is None
    assert check(node("add"), node("tanh"), kind="bce-logits") is None


def test_other_losses_may_be_bounded():
    for kind in ("mse", "bce", "kl", "nll", "hinge"):
        assert check(node("tanh"), kind=kind) is None


def test_cosine_head_only_on_its_floor():
    floor = math.log(1 + 4 * math.exp(-5 / 4))
    assert cosine(floor + 0.01).grade == "likely"
    assert cosine(floor + 0.01).floor == pytest.approx(floor)
    twice = math.log(1 + 4 * math.exp(-2 * 5 / 4))
    assert cosine(twice + 0.01, node("mul", scale=2.0)).grade == "likely"
    assert cosine(twice + 0.2, node("mul", scale=2.0)) is None
    assert cosine(twice - 0.2, node("mul", scale=2.0)) is None
    assert cosine(floor + 0.2).grade == "certain"  # no scale at all
    assert cosine(0.02, node("mul", scale=20.0)) is None


def test_cosine_head_needs_a_level():
    term = synthetic.cross_entropy(path=[node("cosine_similarity")])
    assert rule.check(synthetic.training(term, steps=8, level=0.76)) is None


def test_contrastive_labels():
    floor = math.log(1 + 4 * math.exp(-5 / 4))
    once = LabelStats("index", rows=50, kept=50, calls=10, lowest=0.0, highest=4.0, counts=[10.0] * 5)
    assert cosine(floor, labels=once) is None
    first = LabelStats("index", rows=640, kept=640, calls=10, lowest=0.0, highest=0.0, counts=[640.0, 0, 0, 0, 0])
    assert cosine(floor, labels=first) is None


def test_weighted_samples_say_nothing_about_the_level():
    assert cosine(math.log(1 + 4 * math.exp(-5 / 4)), sample_weighted=True) is None


def test_one_class_or_no_path():
    assert check(node("tanh"), classes=1) is None
    assert check(path=[]) is None


def test_normalised_logits_have_a_floor_of_their_own():
    found = check(path=[node("unit_norm", dim=1)], level=1.2)
    assert found.floor == pytest.approx(math.log(1 + 4 * math.exp(-math.sqrt(5 / 4))))
    assert check(path=[node("unit_norm", dim=0)], level=1.2) is None  # over the batch
    assert check(path=[node("unit_norm")], level=1.2) is None
