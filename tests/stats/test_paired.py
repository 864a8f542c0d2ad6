"""The paired comparison by brute force: how often it misleads when nothing helps, and how often it sees what does."""

from __future__ import annotations

import math

import numpy as np
import pytest

from unstuck.stats import paired

RUNS = 2000


def noise(rng: np.random.Generator, steps: int, memory: float = 0.5, scale: float = 0.06) -> np.ndarray:
    """Skills around 0 as batches of a stuck training give them: correlated over a few steps."""
    white = rng.standard_normal(steps)
    out = np.empty(steps)
    last = 0.0
    for i, w in enumerate(white):
        last = memory * last + math.sqrt(1 - memory**2) * w
        out[i] = last
    return scale * out


def test_the_error_that_is_spent_is_the_error_that_is_allowed() -> None:
    assert paired.FIRST + sum(paired.SPENT.values()) == pytest.approx(paired.LEVEL)


def test_intervals_over_seeds_cover_at_all_looks_together() -> None:
    rng = np.random.default_rng(0)
    missed = np.zeros(2)
    for _ in range(RUNS):
        d = rng.normal(0.3, 0.1, paired.MOST)
        looks = [paired.over_seeds(d[:n]) for n in paired.SPENT]
        missed += [any(i.low > 0.3 for i in looks), any(i.high < 0.3 for i in looks)]
    rates = missed / RUNS
    print(f"missed at any look: {rates[0]:.4f} above, {rates[1]:.4f} below")
    spent = sum(paired.SPENT.values())
    assert (rates <= spent + 3 * math.sqrt(spent / RUNS)).all()
    assert rates.sum() > spent / 4  # an interval so wide that it never misses is of no use


def test_student_t_at_every_look_would_mislead_more_often() -> None:
    from scipy.stats import t

    rng = np.random.default_rng(1)
    naive = 0
    for _ in range(RUNS):
        d = rng.normal(0.0, 0.1, paired.MOST)
        naive += any(
            abs(d[:n].mean()) > t.isf(0.005, n - 1) * d[:n].std(ddof=1) / math.sqrt(n) for n in range(2, paired.MOST + 1)
        )
    print(f"99 % intervals at four looks miss {naive / RUNS:.4f}")
    assert naive / RUNS > 0.015


def test_intervals_within_a_run_cover() -> None:
    rng = np.random.default_rng(2)
    missed = 0
    for _ in range(RUNS):
        control, fixed = 0.1 + noise(rng, 240), 0.5 + noise(rng, 240)
        interval = paired.within(control, fixed)
        missed += not interval.low <= 0.4 <= interval.high
    print(f"within the run: missed {missed / RUNS:.4f}")
    # Blocks of 7 steps remember a little of each other at memory 0.5: not more than twice what independent ones would miss.
    assert missed / RUNS <= 2 * 2 * paired.FIRST + 0.005


def decision(controls: list[np.ndarray], fixed: list[np.ndarray]) -> str:
    """The looks in their order, as verdict.judge takes them."""
    first = paired.beyond_doubt(controls[0], fixed[0])
    if first:
        return first
    d = [paired.gain(paired.score(c), paired.score(f)) for c, f in zip(controls, fixed)]
    for n in paired.SPENT:
        interval = paired.over_seeds(d[:n])
        if interval.low > paired.BAND:
            return "helps"
        if paired.nothing(interval):
            return "nothing"
    return ""


@pytest.mark.parametrize("level", [0.0, 0.3], ids=["stuck", "learning-a-little"])
def test_what_does_nothing_is_called_a_help_in_at_most_one_of_a_hundred(level: float) -> None:
    """Arms with noise of their own on top of the same expectation; where it learns a little, seeds differ too."""
    rng = np.random.default_rng(3)
    runs, called = 1000, {"helps": 0, "nothing": 0, "": 0}
    for _ in range(runs):
        def arms() -> list[np.ndarray]:
            return [level + (0.08 * rng.standard_normal() if level else 0.0) + noise(rng, 120) for _ in range(paired.MOST)]

        called[decision(arms(), arms())] += 1
    print(level, called)
    assert called["helps"] / runs <= 0.01
    if not level:
        assert called["nothing"] / runs > 0.5


def test_a_clear_fix_of_a_stuck_training_needs_one_seed_and_one_of_a_weak_training_needs_three_or_more() -> None:
    rng = np.random.default_rng(4)
    rising = np.concatenate([np.linspace(0, 0.8, 60), np.full(60, 0.8)])
    assert paired.beyond_doubt(noise(rng, 120), rising + noise(rng, 120)) == "helps"
    assert paired.beyond_doubt(0.3 + noise(rng, 120), rising + noise(rng, 120)) == ""
    d = [0.5, 0.52, 0.47, 0.5, 0.49]
    assert paired.over_seeds(d[:2]).low == -math.inf
    assert paired.over_seeds(d[:3]).low > paired.BAND


def test_from_divergence_to_guessing_is_no_gain() -> None:
    rng = np.random.default_rng(5)
    worse = -0.9 + noise(rng, 120)
    assert paired.beyond_doubt(worse, noise(rng, 120)) in {"nothing", ""}
    assert abs(paired.within(worse, noise(rng, 120)).mean) < paired.BAND
    assert paired.gain(-0.9, 0.0) == 0.0
    assert paired.gain(-0.9, 0.5) == 0.5
    assert paired.gain(0.7, 0.9, rest=0.7) == pytest.approx(0.2)


def test_a_guess_at_the_base_rate_is_rest() -> None:
    rng = np.random.default_rng(6)
    prior = 0.7 + noise(rng, 120, scale=0.02)
    assert paired.at_rest(prior, rest=0.7)
    assert not paired.at_rest(prior)
    assert paired.beyond_doubt(prior, 0.95 + noise(rng, 120, scale=0.02), rest=0.7) == "helps"


def test_few_or_unmeasured_steps_give_no_interval() -> None:
    assert paired.within([0.0] * 8, [1.0] * 8).low == -math.inf
    assert paired.within([math.nan] * 100, [1.0] * 100).low == -math.inf
    assert paired.beyond_doubt([], []) == ""
    assert math.isnan(paired.score([math.nan] * 10))
    sparse = np.full(400, math.nan)
    sparse[::5] = 0.0
    other = np.full(400, math.nan)
    other[2::5] = 0.6  # no step was measured in both
    assert paired.within(sparse, other).mean == pytest.approx(0.6)
    assert paired.beyond_doubt(sparse, other) == "helps"


def test_one_overflowing_batch_does_not_decide() -> None:
    values = np.full(100, 0.5)
    values[-1] = -1e9
    assert paired.score(values) == pytest.approx(0.5 - 1.5 / 25)


def test_differences_that_agree_to_the_last_digit_still_have_a_width() -> None:
    interval = paired.over_seeds([0.05, 0.05, 0.05])
    assert interval.low < paired.BAND < interval.mean < interval.high


@pytest.mark.parametrize("wrong", [[], [1.0, math.nan], [[1.0]], [0.0] * 6])
def test_what_is_no_row_of_differences_is_an_error(wrong: list[float]) -> None:
    with pytest.raises(ValueError):
        paired.over_seeds(wrong)


def test_new_draws_are_a_lottery_until_four_of_each_agree() -> None:
    assert paired.separated([0.0] * 4, [0.8] * 4) <= paired.LEVEL
    assert paired.separated([0.0] * 2, [0.8] * 2) == pytest.approx(4 / 27)
    assert paired.separated([0.0], [0.8]) == 1.0
    assert paired.separated([0.0, 0.8], [0.8, 0.8]) == 1.0
    assert paired.separated([], [0.8]) == paired.separated([0.0, 0.0], []) == 1.0
    # By brute force, at the worst chance of learning.
    rng = np.random.default_rng(7)
    p = 4 / 7
    draws = rng.random((100_000, 8)) < p
    draws[:, 0] = False  # the run that was complained about
    alike = (~draws[:, 1:4]).all(1) & draws[:, 4:].all(1)
    assert alike.mean() == pytest.approx(paired.separated([0.0] * 4, [0.8] * 4), abs=1e-3)


def test_new_draws_count_against_controls_that_learn_a_little_where_all_of_five_lie_above_all() -> None:
    controls = [0.07, 0.11, 0.42, 0.1, 0.06]
    assert paired.separated(controls, [0.9, 0.8, 0.95, 0.9, 0.85]) == pytest.approx(1 / 126)
    assert paired.separated(controls[:4], [0.9] * 4) == pytest.approx(1 / 35)
    assert paired.separated(controls, [0.9, 0.8, 0.95, 0.9, 0.5]) == 1.0  # not FAR above the best control
    assert paired.separated(controls, [0.9, 0.8, 0.95, 0.9, 0.05]) == 1.0
    # By brute force: draws of one skewed distribution, the first control aside.
    rng = np.random.default_rng(11)
    draws = rng.exponential(size=(200_000, 9)) ** 3
    above = draws[:, 4:].min(1) > draws[:, :4].max(1)
    assert above.mean() == pytest.approx(1 / 126, abs=1e-3)
