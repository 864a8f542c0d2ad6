import pytest

from unstuck.rules.wiring import head_does_not_fit_labels as rule
from unstuck.rules.wiring.sigmoid_twice import one_unit
from unstuck.trace import synthetic
from unstuck.trace.facts import LabelStats, OpNode, Raised


def stats(values, kind="index", **more) -> LabelStats:
    values = [float(v) for v in values]
    return LabelStats(
        kind, rows=64, kept=64, calls=1, lowest=min(values), highest=max(values), distinct=values, **more
    )


def raising(values, classes=5, message="Target 9 is out of bounds.", **changes):
    term = synthetic.cross_entropy(classes=classes, labels=stats(values), **changes)
    return rule.check(synthetic.training(term, exceptions=[Raised("IndexError", message, "loss", term.site)]))


def test_sick_is_named_with_the_head_first():
    found = rule.check(rule.sick())
    assert (found.code, found.grade, found.bearing) == ("W108", "certain", "blocks")
    assert "nn.Linear" in found.locations[0].text and "Loss" in found.locations[1].text


def test_healthy_is_silent():
    assert rule.check(rule.healthy()) is None


@pytest.mark.parametrize(
    "values",
    [
        range(6),
        range(10),
        [0, 1, 2, 3, 4, 6, 7, 9],
        range(3, 13),
        [0, 2, 4, 5],  # rare classes below, and no gap from the last output's number on
    ],
)
def test_more_labels_than_outputs(values):
    assert raising(values).code == "W108"


@pytest.mark.parametrize(
    "values",
    [
        range(1, 6),  # counts from 1
        [-1, 0, 1, 2, 3],  # a negative marker
        [0, 1, 2, 3, 4, 255],  # a marker that should be ignored
        [0, 1, 2, 5],  # a gap: wrong encoding
        range(5),  # as it should be
    ],
)
def test_labels_that_are_wrong_themselves(values):
    assert raising(values) is None


def test_without_an_exception_nothing_is_outside():
    term = synthetic.cross_entropy(labels=stats(range(6)))
    assert rule.check(synthetic.training(term)) is None
    term.labels.outside = 3
    assert rule.check(synthetic.training(term)).code == "W108"


def test_counts_and_failing_batch_together():
    labels = stats([5], outside=1, counts=[10.0] * 5)
    labels.lowest = 0.0
    assert rule.check(synthetic.training(synthetic.cross_entropy(labels=labels))).code == "W108"


def test_one_unit_and_categorical_loss():
    assert raising([0, 1], classes=1).bearing == "blocks"


def test_one_hot_rows_of_integers():
    message = "Expected floating point type for target with class probabilities, got Long"
    found = raising([0, 1], message=message, target_shape=[64, 5])
    assert found.code == "W108" and found.locations[0].line == 41
    assert raising([0, 1, 4], message="0D or 1D target tensor expected, multi-target not supported",
                   target_shape=[64, 1]).code == "W108"  # fmt: skip


@pytest.mark.parametrize("kind", ["bce", "bce-logits"])
def test_binary_loss_with_three_classes(kind):
    assert rule.check(synthetic.training(one_unit(kind=kind, labels=stats([0, 1, 2], "integer")))).bearing == "hinders"
    assert rule.check(synthetic.training(one_unit(kind=kind, labels=stats([1, 2], "integer")))) is None
    assert rule.check(synthetic.training(one_unit(kind=kind, labels=stats([-1, 0, 1], "integer")))) is None
    assert rule.check(synthetic.training(one_unit(kind=kind))) is None


def test_many_columns_of_a_binary_loss():
    term = one_unit(labels=stats([0, 1, 2], "integer"), input_shape=[64, 8])
    assert rule.check(synthetic.training(term)) is None


def test_saturating_unit_cannot_reach_the_labels():
    sigmoid = OpNode("sigmoid", "", [64, 1])
    labels = stats([0, 1, 2], "integer")
    assert rule.check(synthetic.training(one_unit(sigmoid, kind="mse", labels=labels))).code == "W108"
    assert rule.check(synthetic.training(one_unit(kind="mse", labels=labels))) is None
    scaled = [OpNode("mul", "", [64, 1], scale=2.0), sigmoid]
    assert rule.check(synthetic.training(one_unit(*scaled, kind="mse", labels=labels))) is None


def test_one_score_per_sample():
    labels = LabelStats("probability", rows=10, kept=10, calls=10, counts=[5.0] * 64)
    between = OpNode("squeeze", "", [64], dim=1)
    shapes = {"kind": "soft-cross-entropy", "input_shape": [64], "target_shape": [64]}
    assert rule.check(synthetic.training(one_unit(between, labels=labels, **shapes))).grade == "likely"
    ranking = LabelStats("probability", rows=10, kept=10, calls=10, counts=[10 / 64] * 64)
    assert rule.check(synthetic.training(one_unit(between, labels=ranking, **shapes))) is None


def test_nothing_known():
    assert rule.check(synthetic.training(synthetic.cross_entropy(labels=LabelStats(), input_shape=None))) is None
