"""N702."""

import math

import pytest

from unstuck.rules.numerics import naive_log_softmax as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Formula, NonFinite


def with_formula(state="learning", **fields):
    formula = Formula("log-of-softmax", rule._SITE, smallest=1e-4, dtype="float32")
    for name, value in fields.items():
        setattr(formula, name, value)
    return synthetic.training(state=state, formulas=[formula])


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("N702", "certain", "blocks")
    assert "131" in finding.evidence[1].text and "88.7" in finding.evidence[1].text
    assert finding.locations[0].line == 31


def test_healthy():
    assert rule.check(rule.healthy()) is None
    assert "subtracted first" in rule.in_order(rule.healthy())


def test_limits():
    assert rule.limit("float32") == pytest.approx(88.7228, abs=1e-3)
    assert rule.limit("bfloat16") == pytest.approx(88.72, abs=0.01)
    assert rule.limit("float16") == pytest.approx(11.09, abs=0.01)
    assert rule.depth("float32") == pytest.approx(103.97, abs=0.05)


def test_only_a_note():
    finding = rule.check(with_formula())
    assert (finding.bearing, finding.grade) == ("harmless", "certain")
    assert "88.7" in finding.evidence[1].text


def test_logarithm_of_zero():
    assert rule.check(with_formula("plateau", smallest=0.0)).bearing == "hinders"
    assert rule.check(with_formula("non-finite", smallest=0.0)).bearing == "blocks"


def test_torchs_softmax_does_not_overflow():
    assert rule.check(with_formula(largest=200.0)).bearing == "harmless"
    assert rule.check(with_formula(kind="log-sum-exp", largest=200.0)).bearing == "hinders"
    assert rule.check(with_formula(kind="log-sum-exp", largest=80.0)).bearing == "harmless"
    assert rule.check(with_formula(kind="log-sum-exp", largest=12.0, dtype="float16")).bearing == "hinders"
    assert rule.check(with_formula(kind="log-sum-exp", largest=math.inf)).bearing == "hinders"


def test_guarded():
    stuck = rule.check(with_formula("above-chance", guarded=True, smallest=1e-9))
    assert (stuck.bearing, stuck.grade) == ("hinders", "likely")
    assert "20.7 nats" in stuck.evidence[1].text
    assert rule.check(with_formula("learning", guarded=True, smallest=1e-9)).bearing == "harmless"
    assert rule.check(with_formula("above-chance", guarded=True, smallest=1e-4)).bearing == "harmless"


def test_the_first_nan_came_from_this_line():
    trace = with_formula("non-finite", smallest=None)
    assert rule.check(trace).bearing == "harmless"
    trace.facts.nonfinite = NonFinite("loss", "the loss", 19, site=rule._SITE)
    assert "after step 19" in rule.check(trace).evidence[1].text
    trace.facts.nonfinite = NonFinite("loss", "the loss", 19, site=synthetic.site(3, "other"))
    assert rule.check(trace).bearing == "harmless"


def test_the_worst_formula_is_reported():
    trace = with_formula("plateau")
    trace.facts.formulas.append(Formula("log-sum-exp", None, largest=300.0))
    assert rule.check(trace).bearing == "hinders"
