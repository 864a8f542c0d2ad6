"""I607."""

import pytest

from unstuck.rules.init import axes_scrambled as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Reshaped


def reshaped(before, after, mixed=True, function="view", line=20):
    return Reshaped(before, after, synthetic.site(line, "x = x.view(...)"), mixed, function)


def with_reshapes(*reshapes, state="at-chance"):
    return synthetic.training(state=state, reshapes=list(reshapes))


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("I607", "certain", "blocks")
    assert "view turns 8 x 20 x 16 into 20 x 8 x 16" in finding.summary and "mix several samples" in finding.summary
    assert finding.evidence[0].text == "8 x 20 x 16 became 20 x 8 x 16 by view: the same sizes in another order."
    assert finding.evidence[0].source == "graph"
    assert [s.line for s in finding.locations] == [20]
    assert "permute(1, 0, 2)" in finding.fix.summary and finding.separating


def test_healthy():
    assert rule.check(rule.healthy()) is None


def test_axes_inside_a_sample():
    finding = rule.check(with_reshapes(reshaped([8, 20, 16], [8, 16, 20], mixed=False)))
    assert (finding.grade, finding.bearing) == ("likely", "hinders") and "mix" not in finding.summary
    assert "permute(0, 2, 1)" in finding.fix.summary


def test_samples_that_are_mixed_come_first():
    inside, across = reshaped([8, 20, 16], [8, 16, 20], False, line=30), reshaped([8, 20], [20, 8], line=40)
    finding = rule.check(with_reshapes(inside, across))
    assert finding.grade == "certain" and [s.line for s in finding.locations] == [40, 30]
    assert "8 x 20 " in finding.evidence[0].text and len(finding.evidence) == 2


@pytest.mark.parametrize(
    "before, after, order",
    [
        ([8, 20, 16], [20, 8, 16], "1, 0, 2"),
        ([8, 3, 32, 32], [8, 32, 32, 3], "0, 2, 3, 1"),
        ([8, 8, 16], [16, 8, 8], "2, 0, 1"),
        ([8, 1, 20], [20, 8], "0, 1, 2"),  # with axes of size 1 come and gone no permutation alone does it
    ],
)
def test_the_permutation_that_was_meant(before, after, order):
    assert f"permute({order})" in rule.check(with_reshapes(reshaped(before, after))).fix.summary


def test_function_and_line_are_not_known():
    finding = rule.check(with_reshapes(Reshaped([8, 20], [20, 8], samples_mixed=True)))
    assert finding.locations == [] and finding.summary.startswith("view turns")


def test_at_most_three_are_told():
    finding = rule.check(with_reshapes(*(reshaped([8, 20], [20, 8], line=n) for n in range(5))))
    assert len(finding.evidence) == 3


def test_it_is_said_whatever_the_loss_does():
    assert rule.check(with_reshapes(reshaped([8, 20], [20, 8]), state="learning")) is not None
