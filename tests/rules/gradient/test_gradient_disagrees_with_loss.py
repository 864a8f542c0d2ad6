"""G306."""

import numpy as np
import pytest

from unstuck.rules.gradient import gradient_disagrees_with_loss as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Break, GradientCheck


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("G306", "certain", "hinders")
    assert "-0.42" in finding.evidence[0].text and "0.31" in finding.evidence[0].text
    assert "Swish" in finding.evidence[1].text
    assert finding.locations[0].line == 25


def test_healthy():
    assert rule.check(rule.healthy()) is None
    assert "-0.42" in rule.in_order(rule.healthy())


@pytest.mark.parametrize(
    "slope, difference, error, fires",
    [
        (1.0, 0.94, 1e-4, True),
        (1.0, 0.96, 1e-4, False),  # within 5 %
        (1.0, 0.5, 0.06, False),  # within ten times the uncertainty
        (0.0, 0.3, 1e-4, True),  # a backward that returns zeros
        (0.0, 0.0, 0.0, False),
        (float("nan"), 0.3, 1e-4, False),
        (1.0, 0.3, float("inf"), False),
    ],
)
def test_when_they_disagree(slope, difference, error, fires):
    trace = rule.sick()
    trace.facts.gradient_checks = [GradientCheck(["w"], slope, difference, error)]
    assert (rule.check(trace) is not None) == fires


def test_breaks_on_the_path_are_named():
    trace = rule.sick()
    trace.facts.custom = []
    trace.facts.breaks = [
        Break("detach", synthetic.site(27, "x = x / x.norm().detach()"), "detach", True),
        Break("item", synthetic.site(44, "total += loss.item()"), "item", False),
    ]
    finding = rule.check(trace)
    assert [s.line for s in finding.locations] == [27]
    assert "detach()" in finding.evidence[1].text


def no_level(trace):
    trace.series.columns["chance"][:] = np.nan


def not_judged(trace):
    trace.facts.loop.unjudged = "several losses"


@pytest.mark.parametrize("change", [no_level, not_judged])
def test_a_cut_in_a_loss_without_a_level_may_be_meant(change):
    """A target network, an advantage: detached on purpose. A backward written by hand has no such excuse."""
    trace = rule.sick()
    trace.facts.breaks = [Break("detach", synthetic.site(27, "target = net(s).detach()"), "detach", True)]
    change(trace)
    finding = rule.check(trace)
    assert [s.line for s in finding.locations] == [25] and all("detach" not in e.text for e in finding.evidence)
    trace.facts.custom = []
    assert rule.check(trace) is None


def test_nobody_to_name():
    trace = rule.sick()
    trace.facts.custom = []
    assert rule.check(trace) is None  # torch's own derivatives are right: a matter of numbers
    trace.series = synthetic.training(state="learning").series
    assert rule.check(trace) is None
    trace.facts.custom = rule.sick().facts.custom
    assert rule.check(trace) is not None  # latent by the engine: a straight-through estimator
