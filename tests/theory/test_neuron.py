"""The shape of the two curves at every rate, and every formula behind it against autograd, search and quadrature."""

from __future__ import annotations

import math
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.theory import neuron

torch.set_num_threads(1)

STARTS = [
    (2.0, 2.0, 0.0),
    (3.0, 3.0, 0.0),
    (4.0, 0.0, 0.0),
    (-2.0, -2.0, 1.0),
    (-3.5, -2.0, 1.0),
    (3.0, 2.0, 0.2),
    (-3.0, -2.0, 0.7),
]


@pytest.mark.parametrize("loss", neuron.LOSSES)
@pytest.mark.parametrize(("weight", "bias", "target"), STARTS)
def test_the_simulation_is_gradient_descent_as_torch_does_it(loss, weight, bias, target):
    run = neuron.simulate(loss, weight=weight, bias=bias, rate=0.4, steps=40, target=target)
    w = torch.tensor(weight, dtype=torch.float64, requires_grad=True)
    b = torch.tensor(bias, dtype=torch.float64, requires_grad=True)
    y = torch.tensor(target, dtype=torch.float64)
    optimizer = torch.optim.SGD([w, b], lr=0.4)
    for step in range(41):
        z = w * 1.0 + b
        cost = 0.5 * (z.sigmoid() - y) ** 2 if loss == "squared error" else F.binary_cross_entropy_with_logits(z, y)
        optimizer.zero_grad()
        cost.backward()
        assert run.losses[step] == pytest.approx(float(cost.detach()), rel=1e-12)
        assert run.weights[step] == pytest.approx(float(w.detach()), rel=1e-12)
        assert run.gradients[step] == pytest.approx(abs(float(w.grad)), rel=1e-11)
        optimizer.step()


@pytest.mark.parametrize("loss", neuron.LOSSES)
@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("step", [-40.0, -1e-9, -0.3, 1e-9, 0.3, 40.0])
def test_a_drop_keeps_its_digits_where_a_difference_of_losses_would_not(loss, target, step):
    for z in (-9.0, -0.5, 0.0, 2.0, 12.0):
        with mpmath.workdps(60):

            def exact(x, target=target):
                a = 1 / (1 + mpmath.exp(-x))
                y = mpmath.mpf(target)
                return (a - y) ** 2 / 2 if loss == "squared error" else mpmath.log(1 + mpmath.exp(x)) - y * x

            wanted = float(exact(mpmath.mpf(z)) - exact(mpmath.mpf(z) - mpmath.mpf(step)))
        assert neuron._drop(loss, z, step, target) == pytest.approx(wanted, rel=1e-7, abs=1e-25)


@pytest.mark.parametrize(("weight", "bias", "target"), STARTS)
def test_plateau_against_immediate_descent_for_thirteen_rates_over_three_decades(weight, bias, target):
    """The statement of the demo. For targets inside (0, 1) cross-entropy is promised below the rate 2 only."""
    start = {"weight": weight, "bias": bias, "target": target}
    rates = neuron.rates(0.15 if target in (0.0, 1.0) else 0.06)
    assert len(rates) == 13 and rates[-1] / rates[0] == pytest.approx(1000.0) and rates[-1] <= neuron.stable_rate(target)
    squared = neuron.scan("squared error", rates=rates, **start)
    cross = neuron.scan("cross-entropy", rates=rates, **start)
    assert [row.shape for row in squared] == ["plateau"] * 13
    assert [row.shape for row in cross] == ["descent"] * 13
    assert all(row.steepest == 1 for row in cross)
    assert all(row.steepest is None or row.steepest > 1 for row in squared)
    for one, two in zip(squared, cross):
        assert one.half is None or one.half > two.half


@pytest.mark.parametrize("rate", neuron.rates(0.15))
def test_the_curves_themselves_bend_down_until_a_is_two_thirds_and_up_from_the_first_step(rate):
    """On the losses, not on the drops: second differences, with what a float64 loss can resolve as slack."""
    squared = neuron.simulate("squared error", rate=rate, steps=max(20, math.ceil(45 / rate)))
    second = np.diff(squared.losses, 2)
    saturated = squared.activations[2:] >= 2 / 3
    assert saturated.sum() >= 3
    assert np.all(second[saturated] <= 1e-15) and second[saturated].min() < -1e-9
    steepest = int(np.argmax(squared.drops))
    assert (
        squared.activations[steepest] >= 2 / 3 - 0.5 * rate * 0.15 - 1e-3
        and squared.activations[steepest + 1] <= 2 / 3 + 0.5 * rate * 0.15 + 1e-3
    )
    assert squared.shares[max(1, steepest // 4)] > 0.9  # a quarter of the way to the steepest step: a tenth is not done yet
    cross = neuron.simulate("cross-entropy", rate=rate, steps=max(20, math.ceil(45 / rate)))
    assert np.all(np.diff(cross.losses, 2) >= -1e-15)
    assert np.all(np.diff(cross.gradients) < 0)
    assert cross.losses[0] - cross.losses[1] > squared.losses[0] - squared.losses[1]


@settings(max_examples=150, deadline=None)
@given(z=st.floats(-8, 8), rate=st.floats(1e-3, 2.0), target=st.floats(0.0, 1.0), hard=st.booleans())
def test_cross_entropy_descends_at_once_from_everywhere_below_the_stable_rate(z, rate, target, hard):
    target = float(round(target)) if hard else target
    if abs(1 / (1 + math.exp(-z)) - target) < 1e-6:
        return
    run = neuron.simulate(
        "cross-entropy", weight=z, bias=0.0, rate=rate * (50.0 if target in (0.0, 1.0) else 1.0), steps=60, target=target
    )
    assert neuron.shape(run.drops) == "descent"


def test_beyond_the_leap_the_plateau_is_gone_and_before_it_is_there():
    for z in (3.0, 4.0, 6.0):
        leap = neuron.leap_rate(z)
        first = neuron.simulate("squared error", weight=z, bias=0.0, rate=leap, steps=2)
        assert first.activations[1] == pytest.approx(2 / 3, abs=1e-9)
        shapes = [row.shape for row in neuron.scan("squared error", weight=z, bias=0.0, rates=[0.1 * leap, 3 * leap])]
        assert shapes[0] == "plateau" and shapes[1] != "plateau"


def test_a_soft_target_can_be_overshot_above_the_stable_rate_and_that_is_called_a_leap():
    row = neuron.scan("cross-entropy", weight=4.0, bias=4.0, target=0.2, rates=[4.743416490252569])[0]
    assert row.shape == "leap"


def test_a_start_that_is_not_saturated_has_no_plateau():
    assert not neuron.plateau_expected(0.5) and neuron.leap_rate(0.5) == 0.0
    assert {row.shape for row in neuron.scan("squared error", weight=0.5, bias=0.0, rates=neuron.rates(0.15))} == {"descent"}


@pytest.mark.parametrize("z", [20.0, 25.0, 30.0, 40.0, 700.0])
def test_a_start_so_deep_that_a_float_cannot_see_it_move_is_a_plateau_and_cross_entropy_still_descends(z):
    squared, cross = (
        neuron.scan(loss, weight=z, bias=0.0, rates=[0.15, 1.0], limit=20_000)
        if z < 500
        else neuron.scan(loss, weight=z / 2, bias=z / 2, rates=[0.15, 1.0], limit=20_000)
        for loss in neuron.LOSSES
    )
    assert [r.shape for r in squared] == ["plateau"] * 2 and all(r.half is None for r in squared)
    assert [r.shape for r in cross] == ["descent"] * 2 and all(r.half is not None for r in cross)


@pytest.mark.parametrize("target", [0.0, 0.1, 0.5, 0.8, 1.0])
def test_inflexion_is_where_the_gradient_of_squared_error_is_largest(target):
    a = np.linspace(0, 1, 2_000_001)
    gradient = np.abs((a - target) * a * (1 - a))
    if target < 1.0:
        above = np.where(a >= target, gradient, -1)
        assert neuron.inflexion(target) == pytest.approx(a[above.argmax()], abs=1e-6)
    if target > 0.0:
        below = np.where(a <= target, gradient, -1)
        assert neuron.inflexion(target, above=False) == pytest.approx(a[below.argmax()], abs=1e-6)
    assert neuron.inflexion(0.0) == pytest.approx(2 / 3)


@pytest.mark.parametrize("z", [2.0, 4.0, 6.0])
def test_flow_time_is_the_limit_of_small_rates(z):
    time = neuron.flow_time(z)
    for loss, value, rate in (("squared error", time.squared_error, 0.02), ("cross-entropy", time.cross_entropy, 0.0005)):
        row = neuron.scan(loss, weight=z, bias=0.0, rates=[rate])[0]
        assert row.half * rate == pytest.approx(value, rel=0.01)
    end = math.log(math.expm1(0.5 * math.log1p(math.exp(z))))  # softplus there is half of softplus(z)
    assert time.cross_entropy == pytest.approx(0.5 * (z - end + math.exp(-end) - math.exp(-z)), rel=1e-9)


def test_the_plateau_grows_exponentially_with_the_start_and_the_descent_linearly():
    times = [neuron.flow_time(z) for z in (8.0, 10.0, 12.0)]
    for one, two in pairwise(times):
        assert two.squared_error / one.squared_error == pytest.approx(math.exp(2.0), rel=0.02)
        assert two.cross_entropy - one.cross_entropy == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("drops", "shape"),
    [
        ([3, 2, 1], "descent"),
        ([1, 2, 3, 1], "plateau"),
        ([3, 1, 2], "leap"),
        ([1, -1, 1], "leap"),
        ([0, 0], "leap"),
        ([5, 6, -20], "plateau"),
    ],
)
def test_shape_of_drops(drops, shape):
    assert neuron.shape(np.array(drops, dtype=float)) == shape


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"weight": math.nan}, "weight"),
        ({"bias": 1e9}, "bias"),
        ({"rate": 0.0}, "rate"),
        ({"rate": math.inf}, "rate"),
        ({"steps": 1}, "steps"),
        ({"steps": 10**9}, "steps"),
        ({"target": -0.1}, "target"),
        ({"target": math.nan}, "target"),
        ({"weight": 0.0, "bias": 0.0, "target": 0.5}, "target"),
    ],
)
def test_unusable_input_names_the_argument(options, name):
    with pytest.raises(ValueError, match=name):
        neuron.simulate("squared error", **options)
