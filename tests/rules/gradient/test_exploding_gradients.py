"""G304."""

import numpy as np
import pytest

from unstuck.rules.gradient import exploding_gradients as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Parameter, ParameterLook


def bursts(state="non-finite", at=10, size=1e5):
    trace = rule.healthy()
    trace.series = synthetic.training(state=state).series
    trace.series.columns["grad_norm"][:] = 1.0
    trace.series.columns["grad_norm"][at:] = size
    return trace


def recurrent(times):
    def weight(name, order, size):
        looks = [ParameterLook(1, 4.0, size * 64, 1e-3)]  # root mean square = size for 64 x 64
        return Parameter(name, [64, 64], reached=True, order=order, looks=looks, made=synthetic.site(8, "nn.RNN(64, 64)"))

    return synthetic.training(
        state="above-chance",
        parameters=[weight("rnn.weight_ih_l0", 0, times / 2), weight("rnn.weight_hh_l0", 0, times), weight("head.weight", 1, 1.0)],
    )


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("G304", "likely", "hinders")
    assert "body.0.weight" in finding.evidence[0].text and "factor of 4 per layer" in finding.evidence[0].text
    assert finding.locations[0].line == 10


def test_healthy():
    assert rule.check(rule.healthy()) is None
    assert "40 gradient norms" in rule.in_order(rule.healthy())


@pytest.mark.parametrize("state", ["learning", "slow", "too-early"])
def test_only_where_it_hurts(state):
    trace = rule.sick()
    trace.series = synthetic.training(state="learning", steps=400 if state == "learning" else 8).series
    assert rule.check(trace) is None


def test_burst_before_the_loss():
    finding = rule.check(bursts(at=15))
    assert "At step 16 the gradient norm was 1e+05" in finding.evidence[0].text
    assert rule.check(bursts(at=15, size=900.0)) is None
    assert rule.check(bursts(at=15, size=np.inf)) is not None


def test_burst_after_the_loss():
    assert rule.check(bursts(at=25)) is None  # the loss is NaN from step 20
    assert rule.check(bursts("above-chance", at=25)) is None
    assert rule.check(bursts("plateau", at=200)) is not None


def test_recurrent():
    finding = rule.check(recurrent(5e3))
    assert "recurrent weight rnn.weight_hh_l0 was 5e+03 times" in finding.evidence[0].text
    assert "orthogonal" in finding.fix.summary
    assert rule.check(recurrent(900.0)) is None


def test_loop_written_out():
    trace = recurrent(5e3)
    for p, name in zip(trace.facts.parameters, ("cell.x.weight", "cell.h.weight", "out.weight")):
        p.name = name
    assert rule.check(trace) is None  # three layers: no slope over the depth
    trace.facts.operations = ["linear", "tanh"] * 20
    assert "cell.h.weight" in rule.check(trace).evidence[0].text


def test_no_gradients_measured():
    trace = rule.sick()
    for p in trace.facts.parameters:
        p.looks = []
    trace.series.columns["grad_norm"][:] = np.nan
    assert rule.check(trace) is None
