"""U407."""

import numpy as np
import pytest

from unstuck.rules.update import learning_rate_zero as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Optimizer


def schedule(lr, *, loss=1.5, rate=10.0):
    """A training whose learning rates are given; the gradient promises `rate` nats per unit of learning rate."""
    lr = np.asarray(lr, dtype=float)
    trace = synthetic.training(state="at-chance", steps=len(lr))
    columns = trace.series.columns
    columns["lr"], columns["loss"] = lr, np.broadcast_to(loss, lr.shape).astype(float)
    columns["predicted"][:] = np.nan
    columns["predicted"][::10] = rate * lr[::10]
    optimizer = trace.facts.optimizers[0]
    optimizer.lr_first, optimizer.lr_largest, optimizer.lr_last = lr[0], lr.max(), lr[-1]
    optimizer.lr_zero_steps = int((lr == 0).sum())
    return trace


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("U407", "certain", "blocks")
    assert [s.line for s in finding.locations] == [15, 14]


def test_healthy():
    assert rule.check(rule.healthy()) is None


def test_decayed_long_before_the_end():
    finding = rule.check(schedule(0.1 * 0.1 ** (np.arange(400) // 10)))
    assert (finding.grade, finding.bearing) == ("likely", "hinders")
    assert "step 31" in finding.evidence[1].text


def test_decay_after_the_loss_had_converged():
    assert rule.check(schedule(0.1 * 0.1 ** (np.arange(400) // 10), loss=0.2)) is None


def test_decay_where_the_gradient_promises_nothing():
    assert rule.check(schedule(0.1 * 0.1 ** (np.arange(400) // 10), rate=1e-5)) is None


@pytest.mark.parametrize(
    "lr",
    [
        0.1 * np.minimum(1, np.arange(400) / 200),  # warm-up from 0
        0.05 * (1 + np.cos(np.pi * np.arange(400) / 400)),  # cosine
        np.full(400, 1e-5),
        0.1 * 0.1 ** (np.arange(400) // 150),
    ],
)
def test_healthy_schedules(lr):
    assert rule.check(schedule(lr)) is None


def test_zero_nearly_always():
    lr = np.zeros(200)
    lr[-1] = 0.01
    finding = rule.check(schedule(lr))
    assert "199 of 200" in finding.summary and finding.bearing == "hinders"
    assert rule.check(schedule(lr, loss=0.1)) is None


def test_rounded_away():
    trace = rule.healthy()
    loop, optimizer = trace.facts.loop, trace.facts.optimizers[0]
    loop.no_effect = optimizer.steps_below_resolution = loop.no_effect_checked
    for parameter in trace.facts.parameters:
        parameter.changed = False
    finding = rule.check(trace)
    assert finding.bearing == "blocks" and "number format" in finding.summary


def test_first_steps_of_a_warm_up():
    trace = rule.sick()
    trace.facts.optimizers[0].steps = trace.facts.optimizers[0].lr_zero_steps = 3
    assert rule.check(trace) is None


def test_weights_change_all_the_same():
    trace = rule.sick()
    trace.facts.parameters[0].changed = True
    trace.series.columns["loss"][:] = 0.1
    assert rule.check(trace) is None


def test_one_of_two_optimizers_at_zero():
    trace = rule.sick()
    trace.facts.optimizers.append(Optimizer("SGD", steps=400, lr_first=0.1, lr_largest=0.1, lr_last=0.1))
    assert rule.check(trace) is None


def test_no_series():
    trace = rule.healthy()
    trace.facts.optimizers[0].lr_last = 1e-9
    trace.series = trace.series.since(10_000)
    assert rule.check(trace) is None
