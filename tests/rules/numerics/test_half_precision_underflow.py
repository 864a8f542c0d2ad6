"""N703."""

import numpy as np
import pytest

from unstuck.rules.numerics import half_precision_underflow as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Layer, LayerLook


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("N703", "likely", "hinders")
    assert "93%" in finding.evidence[0].text and "bfloat16" in finding.evidence[1].text
    assert finding.locations[0].line == 11


def test_healthy():
    assert rule.check(rule.healthy()) is None


def test_float32():
    trace = rule.sick()
    for p in trace.facts.parameters:
        p.dtype = "float32"
    assert rule.check(trace) is None
    assert rule.in_order(trace) == "the weights are kept in float32"


@pytest.mark.parametrize("lost, fires", [(0.5, False), (0.51, True)])
def test_boundary(lost, fires):
    assert (rule.check(rule._example("float16", lost, "at-chance")) is not None) == fires


def test_learning_rate_zero_is_u407():
    trace = rule.sick()
    trace.series.columns["lr"][:] = 0.0
    assert rule.check(trace) is None


def test_low_loss():
    trace = rule.sick()
    trace.series = synthetic.training(state="plateau", level=0.1).series
    assert rule.check(trace) is None


def test_gradients_flushed_to_zero():
    trace = rule._example("float16", 0.0, "at-chance", zero=0.8)
    assert "80%" in rule.check(trace).evidence[0].text
    trace.facts.layers = [Layer("relu", looks=[LayerLook(1, 64, dead=0.85)])]
    assert rule.check(trace) is None  # dead units have no gradient either
    assert rule.check(rule._example("bfloat16", 0.0, "at-chance", zero=0.8)) is None  # the exponents of float32
    assert rule.check(rule._example("float16", 0.0, "at-chance", zero=1.0)) is None  # cut, or zeroed


def test_embedding_rows_that_were_not_asked_for():
    trace = rule._example("float16", 0.0, "at-chance", zero=0.8)
    trace.facts.layers = [Layer("embedding", parameters=["body.weight"]), Layer("linear", parameters=["head.weight"])]
    for look in trace.facts.parameters[1].looks:
        look.zero_gradients = 0.0
    assert rule.check(trace) is None


def test_autocast_without_a_scaler():
    trace = rule._example("float32", 0.0, "at-chance", zero=1.0)
    assert rule.check(trace) is None
    trace.facts.operations = ["cast", "linear", "relu", "linear"]
    term = trace.facts.terms[0]
    term.coefficient = 1e-6  # over 64 rows: 1.6e-8, below half of 6e-8
    finding = rule.check(trace)
    assert "scaled" in finding.summary and "1.6e-08" in finding.evidence[1].text
    assert finding.locations[0].line == 41
    term.coefficient = 1.0
    assert rule.check(trace) is None


def test_not_measured():
    trace = rule.sick()
    trace.series.columns["lr"][:] = np.nan
    assert rule.check(trace) is not None  # the optimizer's own record
    for p in trace.facts.parameters:
        p.looks = p.looks[:1]
    assert rule.check(trace) is None


def test_a_look_stands_for_the_steps_up_to_the_next():
    trace = rule.sick()  # looks at steps 1, 50, 100, 200, 400 of 400
    for parameter in trace.facts.parameters:
        for look, lost in zip(parameter.looks, (0.2, 0.2, 0.2, 0.9, 0.9)):
            look.lost = lost
    assert rule.check(trace) is not None
    for parameter in trace.facts.parameters:
        for look, lost in zip(parameter.looks, (0.9, 0.9, 0.9, 0.2, 0.2)):
            look.lost = lost
    assert rule.check(trace) is None
