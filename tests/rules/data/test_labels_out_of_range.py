"""D201."""

import pytest

from unstuck.rules.data import labels_out_of_range as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import LabelStats, Raised


def index(lowest, highest, distinct=(), classes=5, outside=3, counts=()):
    labels = LabelStats(
        "index", rows=64, kept=64, calls=1, lowest=lowest, highest=highest, distinct=list(distinct), outside=outside,
        outside_example=highest, counts=list(counts),
    )  # fmt: skip
    return synthetic.training(synthetic.cross_entropy(labels=labels, classes=classes), state="at-chance")


def targets(*distinct, kind="bce-logits", label_kind="integer", many=False):
    labels = LabelStats(
        label_kind, rows=640, kept=640, calls=10, lowest=min(distinct), highest=max(distinct), distinct=list(distinct),
        many_distinct=many,
    )  # fmt: skip
    term = synthetic.cross_entropy(classes=2, labels=labels)
    term.kind, term.classes, term.ignore_index = kind, 1, None
    term.input_shape = term.target_shape = [64, 1]
    return synthetic.training(term, state="at-chance")


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("D201", "certain", "blocks")
    assert finding.locations[0].line == 41
    assert "count from 1" in finding.evidence[0].text


def test_healthy():
    assert rule.check(rule.healthy()) is None


def test_negative():
    finding = rule.check(index(-1.0, 4.0, [-1.0, 0.0, 1.0, 2.0, 3.0, 4.0]))
    assert finding.bearing == "hinders"
    assert "smallest is -1" in finding.evidence[0].text


def test_a_gap_in_the_labels():
    assert rule.check(index(0.0, 9.0, [0.0, 1.0, 9.0])) is not None


@pytest.mark.parametrize(
    "trace",
    [
        index(0.0, 5.0, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),  # one more than outputs
        index(0.0, 3.0, [0.0, 1.0, 2.0, 3.0], classes=3),
        index(1.0, 9.0, [float(i) for i in range(1, 10)]),
        index(0.0, 5.0, counts=[9.0] * 5),
        index(0.0, 1.0, [0.0, 1.0], classes=1),
    ],
)
def test_a_head_that_is_too_narrow_is_w108(trace):
    trace.facts.exceptions = [Raised("IndexError", "Target 5 is out of bounds.", "loss", fatal=True)]
    assert rule.check(trace) is None


def test_in_range():
    assert rule.check(index(0.0, 4.0, outside=0)) is None


@pytest.mark.parametrize("values", [(1.0, 2.0), (-1.0, 1.0), (0.0, 255.0)])
@pytest.mark.parametrize("kind", ["bce", "bce-logits"])
def test_binary_targets_outside(values, kind):
    finding = rule.check(targets(*values, kind=kind))
    assert finding.summary.startswith("Labels are outside of [0, 1]")
    assert f"{values[0]:g} and {values[1]:g}" in finding.evidence[0].text


@pytest.mark.parametrize("values, kind", [((0.0, 1.0), "binary"), ((0.05, 0.95), "real")])
def test_binary_targets_inside(values, kind):
    assert rule.check(targets(*values, label_kind=kind)) is None


def test_one_unit_for_three_classes_is_w108():
    assert rule.check(targets(0.0, 1.0, 2.0)) is None


def test_images_not_scaled():
    trace = targets(0.0, *map(float, range(100, 132)), 255.0, label_kind="real", many=True)
    assert "0 to 255" in rule.check(trace).evidence[0].text


def test_hinge_wants_minus_one_and_one():
    trace = targets(-1.0, 1.0)
    trace.facts.terms[0].kind = "soft-margin"
    assert rule.check(trace) is None


def test_only_the_exception():
    trace = synthetic.training(synthetic.cross_entropy(labels=LabelStats()), state="at-chance")
    assert rule.check(trace) is None
    trace.facts.exceptions = [Raised("RuntimeError", "CUDA error: device-side assert triggered", "loss", fatal=True)]
    assert rule.check(trace).bearing == "blocks"
    trace.facts.terms = []
    assert rule.check(trace) is not None
    trace.facts.exceptions[0].phase = "forward"
    assert rule.check(trace) is None
