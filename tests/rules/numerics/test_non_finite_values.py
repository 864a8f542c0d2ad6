"""N701."""

import numpy as np
import pytest

from unstuck.rules.numerics import non_finite_values as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import NonFinite


def seen(what, name="", step=19, detail="", state="non-finite"):
    trace = synthetic.training(state=state)
    trace.facts.nonfinite = NonFinite(what, name, step, detail)
    return trace


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("N701", "certain", "blocks")
    assert finding.locations[0].line == 18
    assert "log of 3 numbers" in finding.evidence[0].text


def test_healthy():
    assert rule.check(rule.healthy()) is None


@pytest.mark.parametrize(
    "what, name, words",
    [
        ("input", "input 1 of the model", "input 1"),
        ("parameter", "head.weight", "parameter head.weight, after step 19"),
        ("buffer", "bn.running_var", "buffer bn.running_var"),
        ("output", "the output of encoder", "the output of encoder"),
        ("loss", "the loss", "output were finite"),
        ("gradient", "body.weight", "loss was finite"),
    ],
)
def test_every_place_has_its_text(what, name, words):
    finding = rule.check(seen(what, name))
    assert finding.bearing == "blocks"
    assert words in finding.evidence[0].text
    assert finding.fix.summary == rule._FIXES[what]


def test_hidden_behind_a_finite_loss():
    assert rule.check(seen("parameter", "body.weight", state="at-chance")).bearing == "blocks"
    assert rule.check(seen("gradient", "body.weight", state="at-chance")).bearing == "blocks"


def test_a_scaler_caught_it():
    trace = seen("loss", "the loss", state="learning")
    assert rule.check(trace).bearing == "hinders"
    trace.facts.loop.skipped_steps = 2
    assert rule.check(trace) is None


def test_all_labels_ignored_is_d206():
    trace = rule.sick()
    labels = trace.facts.terms[0].labels
    labels.all_ignored_calls = labels.calls
    assert rule.check(trace) is None
    labels.all_ignored_calls = 3
    assert "3 of 400" in rule.check(trace).evidence[1].text


def test_from_the_series_alone():
    trace = synthetic.training(state="non-finite")
    assert "after step 19" in rule.check(trace).summary
    trace = synthetic.training(state="at-chance")
    trace.series.columns["loss"][-1] = np.inf
    assert rule.check(trace) is not None


def test_not_measured_is_not_nan():
    trace = synthetic.training(state="non-finite")
    trace.series.columns["chance"][19:] = np.nan
    assert rule.check(trace) is None
    trace = synthetic.training(state="learning")
    trace.series.columns["loss"][::3] = np.nan
    assert rule.check(trace) is None
    trace.series = trace.series.since(10_000)
    assert rule.check(trace) is None
