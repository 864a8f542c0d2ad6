import math

import pytest

from unstuck.rules.wiring import classes_on_wrong_axis as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import OpNode, Raised


def head(shape, op="linear") -> OpNode:
    return OpNode(op, "", list(shape), site=synthetic.site(30, "self.head(x)"))


def view(shape) -> OpNode:
    return OpNode("view", "", list(shape), site=synthetic.site(35, "out.view(...)"))


def check(shape, target, *, own=1, units=None, scrambled=False, message="", path=None, **changes):
    term = synthetic.cross_entropy(
        classes=shape[own], input_shape=list(shape), target_shape=target and list(target), class_axis=own,
        feature_axis=units, scrambled=scrambled, **changes,
    )  # fmt: skip
    term.path = path or [head(shape)]
    raised = [Raised("RuntimeError", message, "loss", term.site)] if message else []
    return rule.check(synthetic.training(term, exceptions=raised))


def test_sick_is_named_with_its_line():
    found = rule.check(rule.sick())
    assert (found.code, found.grade, found.bearing, found.locations[0].line) == ("W113", "certain", "blocks", 41)


def test_healthy_is_silent():
    assert rule.check(rule.healthy()) is None


def test_images_with_the_classes_last():
    message = "input and target batch or spatial sizes don't match: target [8, 16, 16], input [8, 16, 16, 5]"
    assert check((8, 16, 16, 5), (8, 16, 16), message=message).bearing == "blocks"


def test_another_mismatch_is_not_this():
    assert check((16, 5, 30), (16, 29), message="Expected target size [16, 30], got [16, 29]") is None
    assert check((16, 5), (15,), message="Expected input batch_size (16) to match target batch_size (15).") is None


def test_square_outputs_raise_nothing():
    found = check((16, 32, 32), (16, 32), units=2)
    assert found.bearing == "hinders"
    assert any(e.value == pytest.approx(math.log(32)) for e in found.evidence)
    assert check((16, 32, 32), None, units=2).code == "W113"


def test_units_where_they_belong_or_unknown():
    assert check((16, 32, 32), (16, 32), units=1) is None
    assert check((16, 32, 32), (16, 32), units=None) is None


def test_span_extraction_points_at_positions():
    assert check((16, 30, 2), (16, 2), units=2) is None


def test_two_axes_only():
    assert check((16, 5), (16,), units=0) is None



def test_a_view_that_scrambles():
    path = [view((480, 5)), head((16, 5, 30), "conv")]
    found = check((480, 5), (480,), units=1, scrambled=True, path=path)
    assert found.locations[0].line == 35


def test_units_and_positions_together_are_the_classes():
    path = [view((16, 150)), head((16, 5, 30), "conv")]
    assert check((16, 150), (16,), units=1, scrambled=True, path=path) is None


def test_other_losses():
    assert check((16, 32, 32), (16, 32), units=2, kind="mse") is None


def test_nothing_known():
    assert rule.check(synthetic.training(synthetic.cross_entropy(input_shape=None, path=[]))) is None
