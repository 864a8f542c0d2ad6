import pytest

from unstuck.rules.wiring import loss_for_another_task as rule
from unstuck.rules.wiring.sigmoid_twice import one_unit
from unstuck.trace import synthetic
from unstuck.trace.facts import LabelStats, Loop, OpNode


def stats(values, kind, **more) -> LabelStats:
    values = [float(v) for v in values]
    return LabelStats(kind, rows=64, calls=1, lowest=min(values), highest=max(values), distinct=values, **more)


def check(*ops: str, labels: LabelStats, kind: str = "mse", loop: Loop | None = None, **changes):
    nodes = [OpNode(op, "", [64, 1]) for op in ops]
    return rule.check(synthetic.training(one_unit(*nodes, kind=kind, labels=labels, **changes), loop=loop))


def test_sick_is_a_choice_named_at_the_loss():
    found = rule.check(rule.sick())
    assert (found.code, found.grade, found.bearing, found.locations[0].line) == ("W109", "certain", "choice", 12)


def test_healthy_is_silent():
    assert rule.check(rule.healthy()) is None


@pytest.mark.parametrize("kind", ["mse", "l1", "smooth-l1", "huber"])
def test_one_hot_rows(kind):
    one_hot = stats([0, 1], "one-hot")
    assert check("softmax", labels=one_hot, kind=kind, input_shape=[64, 5]).grade == "certain"
    assert check(labels=one_hot, kind=kind, input_shape=[64, 5]).grade == "likely"


def test_zero_one_column():
    assert check("sigmoid", labels=stats([0, 1], "binary")).bearing == "choice"
    assert check(labels=stats([0, 1], "binary")) is None


def test_class_numbers():
    assert check(labels=stats(range(6), "integer")).grade == "likely"
    assert check(labels=stats(range(1, 4), "integer")).grade == "likely"


@pytest.mark.parametrize("values", [[0, 2, 4], [3, 4, 5], [25, 26, 31], [-1, 0, 1]])
def test_whole_numbers_that_are_no_class_numbers(values):
    assert check(labels=stats(values, "integer")) is None


def test_many_values_are_a_regression():
    assert check(labels=stats(range(32), "integer", many_distinct=True)) is None
    assert check(labels=stats([0.5, 1.25], "real", many_distinct=True)) is None


def test_counts_under_a_poisson_loss():
    assert check(labels=stats(range(6), "integer"), kind="poisson") is None


def test_autoencoder_and_soft_targets():
    assert check("sigmoid", labels=stats([0, 1], "binary"), input_shape=[64, 784]) is None
    assert check("sigmoid", labels=stats([0.1, 0.9], "real"), input_shape=[64, 784]) is None
    assert check("softmax", labels=stats([0.02, 0.97], "probability"), input_shape=[64, 3]) is None


def test_labels_out_of_a_sigmoids_reach_are_another_rule():
    assert check("sigmoid", labels=stats(range(3), "integer")) is None


@pytest.mark.parametrize("kind", ["hinge", "soft-margin"])
def test_margins_want_signs(kind):
    assert check(labels=stats([0, 1], "binary"), kind=kind).bearing == "hinders"
    assert check(labels=stats([-1, 1], "integer"), kind=kind) is None


def test_least_squares_gan():
    loop = Loop(steps=400, adversarial=12, unjudged="two optimizers")
    assert check("sigmoid", labels=stats([0, 1], "binary"), loop=loop) is None


@pytest.mark.parametrize("kind", ["cross-entropy", "bce", "kl", "nll"])
def test_classification_losses(kind):
    assert check(labels=stats([0, 1], "one-hot"), kind=kind) is None


def test_no_labels_seen():
    assert check("sigmoid", labels=LabelStats("binary")) is None
