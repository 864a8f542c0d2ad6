import math

import pytest

from unstuck.rules.wiring import target_broadcast as rule
from unstuck.rules.wiring.sigmoid_twice import one_unit
from unstuck.trace import synthetic
from unstuck.trace.facts import OpNode, Stretched

LINE = synthetic.site(41, "err = out - y", synthetic.TRAIN, "train")


def check(kind="mse", **changes):
    return rule.check(synthetic.training(one_unit(**({"kind": kind} | changes))))


def test_sick_is_named_with_its_line_and_floor():
    found = rule.check(rule.sick())
    assert (found.code, found.grade, found.bearing, found.locations[0].line) == ("W110", "certain", "hinders", 41)
    assert math.isclose(found.floor, math.log(2))


def test_healthy_is_silent():
    assert rule.check(rule.healthy()) is None


@pytest.mark.parametrize("kind", ["mse", "l1", "smooth-l1", "huber", "bce"])
@pytest.mark.parametrize("shapes", [[[32, 1], [32]], [[32], [32, 1]]])
def test_shapes_as_they_were_passed(kind, shapes):
    assert check(kind, argument_shapes=shapes).code == "W110"


@pytest.mark.parametrize(
    "shapes",
    [[[32, 1], [32, 1]], [[9], [9]], [[1, 1], [1]], [[32, 3], [32, 1]], [[32, 1], [1, 32]], [[32, 1], [16]], [[9, 1]]],
)
def test_shapes_that_are_right_or_meant(shapes):
    assert check(argument_shapes=shapes) is None


def test_written_by_hand():
    assert check(broadcast=LINE).locations[0] == LINE
    assert check("bce", broadcast=LINE, argument_shapes=[[64, 1], [64]]).floor == pytest.approx(math.log(2))


def test_pairs_of_outputs_are_meant():
    pair = [OpNode("sub", "", [32, 32])]
    changes = {"broadcast": LINE, "argument_shapes": [[32, 1], [32]], "path_end": "merge"}
    assert check("bce-logits", path=pair, **changes) is None
    assert check("mse", path=[OpNode("add", "", [32, 1])], **changes).code == "W110"


def test_categorical_losses_do_not_broadcast():
    assert check("cross-entropy", argument_shapes=[[32, 1], [32]]) is None


def test_nothing_known():
    assert check() is None


def test_a_loss_of_the_users_own():
    trace = synthetic.training(state="at-prior", stretched=[Stretched([[32, 1], [32]], LINE, "mul")])
    found = rule.check(trace)
    assert (found.code, found.grade, found.locations[0].line) == ("W110", "certain", 41)
    assert "32 x 32" in found.evidence[0].text
    trace.facts.terms = []
    assert rule.check(trace).code == "W110"  # the loss need not be a known one
