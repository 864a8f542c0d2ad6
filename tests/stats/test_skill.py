"""The verdict against simulated runs whose true skill is known, and against the shapes that real runs take."""

from __future__ import annotations

import math
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from unstuck.stats.skill import FALLBACK_STEPS, Judgement, accumulate, judge, judge_at, required_budget

BAND = 0.02
STUCK = ("at-chance", "at-prior")
KINDS = ("fast", "exponential", "linear", "slow", "sigmoidal")
LENGTH = 5000


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _noise(rng: np.random.Generator, n: int, sd: float, progress: np.ndarray | float = 0.0) -> np.ndarray:
    """AR(1) noise of correlation up to 0.3, Gaussian or Student-5, whose scale changes as the run learns."""
    e = rng.standard_normal(n) if rng.random() < 0.7 else rng.standard_t(5, n) / math.sqrt(5 / 3)
    r = rng.uniform(0.0, 0.3)
    return sd * (1.0 + rng.uniform(-0.7, 1.0) * progress) * lfilter([math.sqrt(1 - r * r)], [1, -r], e)


def _skill_share(rng: np.random.Generator, kind: str) -> np.ndarray:
    """True skill [LENGTH] as a share of chance."""
    t, height = np.arange(LENGTH), rng.uniform(0.3, 0.97)
    if kind == "fast":
        return height * (1.0 - np.exp(-t / _log_uniform(rng, 10, 100)))
    if kind == "exponential":
        return height * (1.0 - np.exp(-t / _log_uniform(rng, 100, 2000)))
    if kind == "linear":
        return height * np.minimum(t / _log_uniform(rng, 200, LENGTH), 1.0)
    if kind == "slow":  # 500 to 5000 steps to leave the band
        return rng.uniform(0.02, 0.2) * t / LENGTH
    share = height / (1.0 + np.exp(-(t - rng.uniform(500, 3500)) / _log_uniform(rng, 20, 400)))
    return share - share[0]


def _probes(rng: np.random.Generator, decrease: np.ndarray) -> np.ndarray:
    """A first-order prediction at every tenth step that scatters and promises 0.8 to 1.8 times what happens."""
    predicted = np.full(decrease.size, np.nan)
    predicted[::10] = decrease[::10] * rng.uniform(0.8, 1.8)
    return predicted * np.exp(0.3 * rng.standard_normal(decrease.size))


@pytest.mark.slow
def test_learning_runs_are_not_called_stuck() -> None:
    """1,000 learning runs, looked at every 25 steps for 1,000 steps and every 100 until 5,000."""
    rng = np.random.default_rng(11)
    looks = [*range(25, 1000, 25), *range(1000, LENGTH + 1, 100)]
    outside, ever, runs, last = Counter(), 0, Counter(), Counter()
    for i in range(1000):
        kind, measured = KINDS[i % len(KINDS)], rng.random() < 0.7
        chance = math.log(_log_uniform(rng, 2, 1000))
        share = _skill_share(rng, kind)
        loss = chance * (1.0 - share) + _noise(rng, LENGTH, _log_uniform(rng, 0.01, 0.5), share)
        # On a plateau mini-batch noise keeps the gradient, and so the promise, above zero.
        idle = _log_uniform(rng, 1e-5, 1e-3) if kind == "sigmoidal" else 0.0
        predicted = _probes(rng, chance * (np.gradient(share) + idle)) if measured else None
        # In three runs of ten the labels are imbalanced, and the base rates are what has to be beaten.
        prior = rng.uniform(0.5, 0.95) if rng.random() < 0.3 else 1.0
        history = accumulate(np.arange(LENGTH), loss, chance, prior * chance, predicted)
        stuck = [end for end in looks if judge_at(history, end).name in STUCK]
        runs[kind] += 1
        outside[kind] += any(prior - (1.0 - share[end - 1]) > BAND * prior for end in stuck)
        # Down to the base rates is further than the band of chance that the budget is made for.
        steady = prior == 1.0 and kind != "sigmoidal" and (measured or share[int(FALLBACK_STEPS)] > BAND)
        ever += steady and bool(stuck)
        if prior - (1.0 - share[-1]) > 0.1 * prior:  # clearly below the baseline at the end
            moving = "moving" if share[-1] - share[-LENGTH // 4] > 0.1 else "still"
            last[moving, judge_at(history).name] += 1
    print(f"stuck while outside the band: {sum(outside.values())} of {sum(runs.values())} runs {dict(outside)}")
    print(f"steadily learning runs ever called stuck: {ever}; verdicts at the end: {dict(last)}")
    assert sum(outside.values()) <= 10
    assert ever <= 10
    good = sum(count for (_, name), count in last.items() if name in ("learning", "plateau"))
    assert good >= 0.95 * last.total()
    assert last["moving", "learning"] >= 0.9 * sum(count for (moving, _), count in last.items() if moving == "moving")


def _delays(rng: np.random.Generator, count: int, loudest: float, skewed: bool = False) -> tuple[list[int], Counter]:
    """Observations from the budget being met to the first right verdict, runs without one in 200 left out."""
    delays, at_end = [], Counter()
    for i in range(count):
        chance = _log_uniform(rng, 0.69, 6.9)
        base = 0.7 * chance if skewed else chance
        width = BAND * base
        sd = 0.0 if i % 20 == 0 else width * _log_uniform(rng, 0.02, loudest)
        n = 800
        loss = base - rng.uniform(-0.25, 0.25) * width + _noise(rng, n, sd)
        if rng.random() < 0.7:
            promise = np.full(n, required_budget(chance) / rng.integers(100, 400))
            history = accumulate(np.arange(n), loss, chance, base, _probes(rng, promise))
            met = int(np.argmax(history.spent >= required_budget(chance)))
        else:
            history, met = accumulate(np.arange(n), loss, chance, base), int(FALLBACK_STEPS)
        right = {"at-prior" if skewed else "at-chance", "constant"}
        first = next((e for e in range(met, met + 201, 10) if judge_at(history, e).name in right), None)
        delays += [] if first is None else [first - met]
        at_end[judge_at(history, met + 200).name] += 1
    return delays, at_end


@pytest.mark.slow
def test_runs_at_chance_are_called_so() -> None:
    """1,000 runs with skill within a quarter of the band and noise of up to 2.5 band half-widths per step.

    200 observations estimate the end of a line to 2 sd / sqrt(200): with the 3.8 errors that the spending of alpha asks
    for, sd = 1.9 half-widths is the limit of the interval there; louder runs need the steps of the budget as well."""
    delays, at_end = _delays(np.random.default_rng(3), 1000, 2.5)
    late = np.percentile(delays, [50, 90, 99])
    print(f"called at-chance within 200 steps of the budget: {len(delays)} of 1000; delay 50/90/99 %: {late}; {at_end}")
    assert len(delays) >= 950


def test_runs_at_the_base_rates_are_called_so() -> None:
    delays, at_end = _delays(np.random.default_rng(4), 100, 2.0, skewed=True)
    assert len(delays) >= 95
    assert at_end["at-chance"] == 0


# ------------------------------------------------------------------------------------------------------- single shapes

RNG = np.random.default_rng(20)
CHANCE = math.log(10)


def _at(loss: np.ndarray, chance: float = CHANCE, base: float | None = None, **options: object) -> Judgement:
    return judge(np.arange(loss.size), loss, chance, chance if base is None else base, **options)  # type: ignore[arg-type]


def _noisy(level: float | np.ndarray, n: int = 600, sd: float = 0.05, seed: int = 2) -> np.ndarray:
    return level + sd * np.random.default_rng(seed).standard_normal(n)


def test_flat_at_chance_says_where_since_when_and_how_sure() -> None:
    verdict = _at(_noisy(CHANCE))
    assert verdict.name == "at-chance"
    assert verdict.baseline == "uniform"
    assert verdict.loss == pytest.approx(CHANCE, abs=0.02)
    assert verdict.skill_interval is not None
    assert verdict.skill_interval[0] < verdict.skill < verdict.skill_interval[1] < BAND * CHANCE  # type: ignore[operator]
    assert verdict.since_step is not None and verdict.since_step < 100
    assert "uniform guess" in verdict.reason


def test_stuck_after_a_start_above_chance_is_dated_after_the_start() -> None:
    t = np.arange(1000)
    verdict = _at(_noisy(CHANCE + 6.0 * np.exp(-t / 20), 1000))
    assert verdict.name == "at-chance"
    assert 60 <= verdict.since_step <= 600  # type: ignore[operator]


def test_flat_at_the_prior_of_imbalanced_data() -> None:
    base = 0.325  # H(0.1)
    verdict = _at(_noisy(base, sd=0.005), math.log(2), base)
    assert (verdict.name, verdict.baseline) == ("at-prior", "base-rate")
    assert verdict.base_rate == pytest.approx(base)
    # Not even the base rates: still no better than they are, and said so.
    between = _at(_noisy(0.5, sd=0.005), math.log(2), base)
    assert between.name == "at-prior"
    assert _at(_noisy(math.log(2), sd=0.005), math.log(2), base).name in ("at-prior", "at-chance")
    assert _at(_noisy(0.2, sd=0.005), math.log(2), base).name == "plateau"


def test_a_base_rate_within_the_band_of_chance_is_chance() -> None:
    assert _at(_noisy(CHANCE), base=0.99 * CHANCE).name == "at-chance"
    assert _at(_noisy(CHANCE), base=1.5 * CHANCE).name == "at-chance"  # running base rates on sorted labels


def test_above_chance_flat_and_falling() -> None:
    assert _at(_noisy(CHANCE + 1.0)).name == "above-chance"
    falling = _at(_noisy(CHANCE + 3.0 - 0.01 * np.arange(200), 200))
    assert falling.name == "too-early"
    assert falling.due_step == pytest.approx(300, abs=30)


def test_rising_without_bound() -> None:
    t = np.arange(600)
    loss = _noisy(np.where(t < 300, 2.0, 2.0 * np.exp((t - 300) / 50)))
    verdict = _at(loss)
    assert verdict.name == "diverging"
    assert 280 <= verdict.since_step <= 600  # type: ignore[operator]
    assert _at(_noisy(2.0 + 0.05 * t)).name == "diverging"
    # Up once and then level is not rising without bound.
    assert _at(_noisy(np.where(t < 200, 2.0, 8.0))).name == "above-chance"
    unknown = _at(loss, math.nan)
    assert unknown.name == "diverging"


def test_overfitting_a_little_is_not_diverging() -> None:
    t = np.arange(1000)
    assert _at(_noisy(0.8 + 1.5 * np.exp(-t / 50) + 0.0003 * t, 1000)).name in ("plateau", "learning")


def test_nan_after_step_100() -> None:
    loss = _noisy(2.0, 300)
    loss[101:] = np.nan
    verdict = _at(loss)
    assert (verdict.name, verdict.since_step) == ("non-finite", 101)
    assert "NaN" in verdict.reason
    loss[250:] = 2.0 + 0.01 * np.arange(50)
    assert _at(loss).name != "non-finite"


def test_a_few_overflowing_batches_are_not_the_state() -> None:
    loss = _noisy(CHANCE, 1000)
    loss[[50, 400, 900]] = np.inf
    loss[[60, 500]] = 1e30
    assert _at(loss).name == "at-chance"
    loss[-1] = np.inf
    verdict = _at(loss)
    assert (verdict.name, verdict.since_step) == ("non-finite", 999)
    assert "infinite" in verdict.reason


def test_half_of_the_newest_losses_bad_and_the_rest_recovered() -> None:
    loss = _noisy(CHANCE, 200)
    loss[180:190] = np.nan
    assert _at(loss).name != "non-finite"
    loss[180:199] = np.nan
    assert _at(loss).since_step == 180


def test_nan_from_the_start() -> None:
    verdict = _at(np.full(30, np.nan))
    assert (verdict.name, verdict.since_step, verdict.loss) == ("non-finite", 0, None)


def test_converged_runs_are_learning() -> None:
    t = np.arange(1000)
    assert _at(_noisy(0.05 + 2.2 * np.exp(-t / 50), 1000, 0.01)).name == "learning"
    assert _at(np.full(200, 1e-7)).name == "learning"
    assert _at(np.zeros(200)).name == "learning"
    smoothed = _noisy(0.5 + 1.8 * np.exp(-t / 50), 1000, 0.01)
    assert _at(smoothed, floor=0.5).name == "learning"
    assert _at(smoothed).name == "plateau"
    assert _at(np.full(200, 0.5), floor=0.5).name == "learning"


def test_plateau_of_label_noise() -> None:
    t = np.arange(2000)
    verdict = _at(_noisy(1.3 + 1.0 * np.exp(-t / 60), 2000))
    assert verdict.name == "plateau"
    assert "flat" in verdict.reason
    assert verdict.loss == pytest.approx(1.3, abs=0.02)


def test_one_number_again_and_again() -> None:
    verdict = _at(np.concatenate([_noisy(CHANCE, 50), np.full(25, 1.4612)]))
    assert (verdict.name, verdict.since_step) == ("constant", 50)
    assert _at(np.concatenate([_noisy(CHANCE, 50), np.full(15, 1.4612)])).name != "constant"
    assert _at(np.full(100, -0.1)).name == "constant"
    assert _at(np.full(100, CHANCE), math.nan).name == "constant"
    wiggle = CHANCE * (1 + 2e-5 * np.random.default_rng(0).standard_normal(100))
    assert _at(wiggle).name == "constant"


def test_a_noiseless_creep_is_not_constant() -> None:
    t = np.arange(400)
    creeping = _at(CHANCE - 1e-6 * t)
    assert creeping.name == "slow"
    assert "step" in creeping.reason
    faster = _at(CHANCE - 2e-5 * t)
    assert faster.name == "too-early"
    assert faster.due_step == pytest.approx(0.02 * CHANCE / 2e-5, rel=0.05)


def test_slow_depends_on_the_schedule() -> None:
    loss = _noisy(CHANCE - 1e-5 * np.arange(2000), 2000, 0.002)
    assert _at(loss, planned_steps=3000).name == "slow"
    assert _at(loss, planned_steps=100_000).name == "too-early"


def test_the_budget_defers_the_verdict_and_says_until_when() -> None:
    loss = _noisy(CHANCE, 1000)
    predicted = np.full(1000, np.nan)
    predicted[::50] = required_budget(CHANCE) / 2000
    early = _at(loss, predicted=predicted)
    assert early.name == "too-early"
    assert early.due_step == pytest.approx(2000, abs=20)
    assert early.budget == pytest.approx((required_budget(CHANCE) / 2, required_budget(CHANCE)))
    assert "planned" in _at(loss, predicted=predicted, planned_steps=1500).reason
    assert _at(loss, predicted=4 * predicted).name == "at-chance"
    assert _at(loss, predicted=-4 * predicted).name == "at-chance"  # climbing on purpose spends the budget as well
    # Said whatever the budget is:
    assert _at(_noisy(CHANCE - 0.002 * np.arange(1000), 1000), predicted=predicted * 0).name == "learning"
    assert _at(_noisy(CHANCE + 1, 1000), predicted=predicted * 0).name == "above-chance"


def test_one_absurd_probe_does_not_spend_the_budget_of_a_run() -> None:
    predicted = np.full(1000, np.nan)
    predicted[::10] = 1e-9
    predicted[500] = np.inf
    assert _at(_noisy(CHANCE, 1000), predicted=predicted).name == "too-early"


def test_observed_steps_may_be_sparse() -> None:
    steps = np.arange(0, 20_000, 50)
    predicted = np.where(np.arange(400) % 4 == 0, required_budget(CHANCE) / 10_000, np.nan)
    verdict = judge(steps, _noisy(CHANCE, 400, 0.02), CHANCE, CHANCE, predicted)
    assert verdict.name == "at-chance"
    assert verdict.budget[0] == pytest.approx(2 * required_budget(CHANCE), rel=0.02)  # type: ignore[index]


def test_pairing_takes_out_the_luck_of_the_labels() -> None:
    rng = np.random.default_rng(0)
    chance = CHANCE + 0.5 * rng.standard_normal(300)  # class weights: what a guess scores depends on the batch
    assert judge(np.arange(300), chance + 0.01 * rng.standard_normal(300), chance, chance).name == "at-chance"
    assert judge(np.arange(300), chance + 0.01 * rng.standard_normal(300), CHANCE, CHANCE).name == "too-early"


def test_plateau_then_drop_follows_the_drop() -> None:
    t = np.arange(2500)
    loss = _noisy(CHANCE * (1.0 - 0.9 / (1.0 + np.exp(-(t - 2000) / 40))), 2500)
    history = accumulate(t, loss, CHANCE, CHANCE)
    assert judge_at(history, 1500).name == "at-chance"
    assert judge_at(history, 2000).name == "learning"
    assert judge_at(history, 2500).name == "learning"


def test_epoch_stairs_of_a_memorising_run() -> None:
    t = np.arange(2000)
    loss = _noisy(CHANCE * 0.85 ** (t // 200), 2000)
    history = accumulate(t, loss, CHANCE, CHANCE)
    names = [judge_at(history, end).name for end in range(250, 2001, 25)]
    assert not set(names) & {"at-chance", "at-prior", "above-chance", "diverging", "constant"}
    # Most looks see progress; inside a step, a plateau is the truth about the last quarter of the run only.
    assert names.count("learning") > len(names) / 3


def test_saw_teeth_of_sorted_labels() -> None:
    t = np.arange(3000)
    tooth = 4.5 * np.exp(-(t % 150) / 30) + 0.02
    history = accumulate(t, _noisy(tooth, 3000, 0.02), CHANCE, CHANCE)
    names = Counter(judge_at(history, end).name for end in range(450, 3001, 25))
    assert not set(names) & {"at-chance", "at-prior", "constant", "non-finite", "diverging"}
    # Every class ends near zero and none of it stays: the falling part of a tooth is not progress.
    late = {judge_at(history, end).name for end in range(2000, 3001, 25)}
    assert "learning" not in late
    assert "plateau" in late


def test_losses_below_zero() -> None:
    assert _at(_noisy(-0.1, 600, 0.01)).name == "plateau"  # low, but no cross-entropy gets there
    assert _at(_noisy(-0.01 * np.arange(600))).name == "learning"


def test_unknown_baseline() -> None:
    t = np.arange(600)
    falling, flat = _noisy(3.0 - 0.002 * t), _noisy(3.0, sd=0.02)
    verdict = _at(falling, math.nan)
    assert (verdict.name, verdict.skill, verdict.chance, verdict.budget) == ("learning", None, None, None)
    assert _at(flat, math.nan).name == "plateau"
    assert _at(flat[:40], math.nan).name == "too-early"
    assert _at(_noisy(3.0, sd=2.0), math.nan).name == "too-early"


def test_chance_known_and_base_unknown() -> None:
    verdict = _at(_noisy(CHANCE), base=math.nan)
    assert (verdict.name, verdict.base_rate) == ("at-chance", None)


def test_nothing_one_step_and_a_few() -> None:
    empty = _at(np.empty(0))
    assert (empty.name, empty.loss, empty.since_step) == ("too-early", None, None)
    one = _at(np.array([2.31]))
    assert (one.name, one.loss) == ("too-early", pytest.approx(2.31))
    assert _at(np.array([np.nan])).name == "non-finite"
    few = _at(_noisy(CHANCE, 7))
    assert few.name == "too-early"
    assert few.due_step is not None and few.due_step > 6
    assert _at(np.array([2.3, 1.9, 1.5, 1.2, 0.9, 0.7, 0.55, 0.4, 0.3, 0.22, 0.16, 0.12])).name == "learning"


def test_accuracy_is_reported_for_the_newest_window() -> None:
    accuracy = np.r_[np.zeros(300), np.full(300, 0.25)]
    loss = _noisy(CHANCE, sd=0.01)
    assert _at(loss, accuracy=accuracy).accuracy is not None
    assert _at(loss, accuracy=0.5).accuracy == 0.5
    assert _at(loss).accuracy is None


def test_unusable_input() -> None:
    with pytest.raises(ValueError, match="one length"):
        judge([1, 2], [1.0], 1.0, 1.0)
    with pytest.raises(ValueError, match="increase"):
        judge([2, 1], [1.0, 1.0], 1.0, 1.0)
    with pytest.raises(ValueError, match="chance must have"):
        judge([1, 2], [1.0, 1.0], [1.0], 1.0)
    with pytest.raises(ValueError, match="alpha and band"):
        judge([1, 2], [1.0, 1.0], 1.0, 1.0, band=0.0)


def test_a_look_at_a_prefix_is_the_verdict_of_the_prefix() -> None:
    rng = np.random.default_rng(1)
    t = np.cumsum(rng.integers(1, 5, 700))
    loss = _noisy(CHANCE * np.exp(-np.arange(700) / 2000), 700)
    loss[[5, 100, 400]] = np.nan
    predicted = np.where(rng.random(700) < 0.1, 1e-3, np.nan)
    history = accumulate(t, loss, CHANCE, CHANCE, predicted)
    for end in (1, 9, 63, 64, 101, 350, 401, 699):
        assert judge_at(history, end) == judge(t[:end], loss[:end], CHANCE, CHANCE, predicted[:end])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(st.floats(-10, 10), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1e30, -1e30])), max_size=150
    ),
    st.sampled_from([math.nan, 0.0, 0.7, 2.3]),
    st.sampled_from([math.nan, 0.3, 2.3]),
)
def test_any_numbers_give_a_verdict_of_finite_words(values: list[float], chance: float, base: float) -> None:
    verdict = judge(np.arange(len(values)), values, chance, base)
    assert verdict.reason and "\n" not in verdict.reason and "nan" not in verdict.reason.lower().replace("is nan", "")
    if values and not math.isfinite(values[-1]):
        assert verdict.name == "non-finite"
    if not chance > 0.0:
        assert verdict.name not in (*STUCK, "above-chance", "slow")
    if verdict.skill_interval is not None:
        assert verdict.skill_interval[0] <= verdict.skill <= verdict.skill_interval[1]  # type: ignore[operator]


def test_a_hundred_thousand_steps_are_judged_at_once() -> None:
    n = 100_000
    loss, steps = _noisy(CHANCE, n), np.arange(n)
    times = []
    for _ in range(3):
        start = time.process_time()
        judge(steps, loss, np.full(n, CHANCE), np.full(n, CHANCE), np.full(n, 1e-4))
        times.append(time.process_time() - start)
    assert min(times) < 0.1  # 0.03 s on an idle machine; the promise is 0.05 s
