"""Coverage over time by brute force: how many of many simulated runs are missed at any step at all."""

from __future__ import annotations

import numpy as np
import pytest

from unstuck.stats import sequential
from unstuck.stats.trend import fit_blocks

RUNS, LENGTH, ALPHA = 1000, 800, 0.1
# Three standard deviations of the count of misses when the true rate is ALPHA: 0.1 + 3 * sqrt(0.09 / 1000).
MOST = 0.129


def _missed(band: sequential.Band, truth: float | np.ndarray, first: int = 1) -> bool:
    outside = (band.lower > truth) | (band.upper < truth)
    return bool(outside[first - 1 :].any())


def test_mean_band_covers_at_all_steps_and_a_fixed_time_interval_does_not() -> None:
    rng = np.random.default_rng(0)
    runs = 1.7 + 0.3 * rng.standard_normal((RUNS, LENGTH))
    missed = np.mean([_missed(sequential.mean_band(x, ALPHA), 1.7) for x in runs])
    n = np.arange(1, LENGTH + 1)
    mean = runs.cumsum(1) / n
    naive = np.mean((np.abs(mean - 1.7) > 1.645 * 0.3 / np.sqrt(n))[:, 20:].any(1))
    print(f"mean_band misses {missed:.3f}, fixed-time interval {naive:.3f}")
    assert missed <= MOST
    assert missed > 0.01  # a band so wide that it never misses is of no use
    assert naive > 0.3


def test_mean_band_at_the_default_alpha() -> None:
    rng = np.random.default_rng(1)
    missed = np.mean([_missed(sequential.mean_band(x), 0.0) for x in rng.standard_normal((RUNS, LENGTH))])
    assert missed <= 0.01 + 3 * np.sqrt(0.0099 / RUNS)


def test_mean_band_against_the_martingale_itself() -> None:
    # The closed form must be the set where the mixture over mean and scale, written out, stays below 1 / alpha.
    rng = np.random.default_rng(2)
    x = rng.normal(0.4, 2.0, 60)
    band = sequential.mean_band(x, 0.05, look=50)
    phi = sequential.mixture_precision(50, 0.05)

    def log_e(mu: float) -> float:
        d = x - mu
        whole = d @ d
        return 0.5 * np.log(phi / (phi + d.size)) + d.size / 2 * np.log(whole / (whole - d.sum() ** 2 / (phi + d.size)))

    assert log_e(band.upper[-1]) == pytest.approx(np.log(20), rel=1e-9)
    assert log_e(band.lower[-1]) == pytest.approx(np.log(20), rel=1e-9)
    assert log_e(x.mean()) < 0.0


def test_the_mixture_is_a_martingale_started_at_one() -> None:
    # Mean of E_n over runs under the hypothesis is 1 at small n, where the heavy right tail is still sampled.
    rng = np.random.default_rng(3)
    phi, n = 4.0, 3
    d = rng.standard_normal((400_000, n))
    whole = (d * d).sum(1)
    e = np.sqrt(phi / (phi + n)) * (whole / (whole - d.sum(1) ** 2 / (phi + n))) ** (n / 2)
    assert e.mean() == pytest.approx(1.0, abs=0.01)


def test_running_mean_band_covers_a_drifting_mean_with_changing_skewed_noise() -> None:
    rng = np.random.default_rng(4)
    t = np.arange(LENGTH)
    truth = 1.0 - 0.001 * t
    noise = (rng.exponential(1.0, (RUNS, LENGTH)) - 1.0) * (0.2 + 0.2 * np.sin(t / 50) ** 2)
    running = truth.cumsum() / (t + 1)
    missed = np.mean([_missed(sequential.running_mean_band(truth + e, ALPHA), running, 40) for e in noise])
    print(f"running_mean_band misses {missed:.3f}")
    assert 0.005 < missed <= MOST
    assert np.isinf(sequential.running_mean_band(truth, ALPHA).upper[:15]).all()


@pytest.mark.parametrize("rate", [0.02, 0.5])
def test_bounded_mean_band_covers_a_rate(rate: float) -> None:
    rng = np.random.default_rng(5)
    hits = rng.random((RUNS, LENGTH)) < rate
    bands = [sequential.bounded_mean_band(x.astype(float), ALPHA) for x in hits]
    assert np.mean([_missed(b, rate) for b in bands]) <= MOST
    width = np.mean([b.upper[-1] - b.lower[-1] for b in bands])
    assert width < (0.08 if rate == 0.02 else 0.2)


def test_bounded_mean_band_is_equivariant_and_refuses_values_outside() -> None:
    x = np.random.default_rng(6).random(100)
    plain, scaled = sequential.bounded_mean_band(x), sequential.bounded_mean_band(3 * x - 1, low=-1, high=2)
    np.testing.assert_allclose(scaled.lower, 3 * plain.lower - 1)
    with pytest.raises(ValueError, match="outside"):
        sequential.bounded_mean_band(x, high=0.5)


def test_trend_band_covers_slope_and_moving_level_at_all_steps() -> None:
    rng = np.random.default_rng(7)
    steps = np.cumsum(rng.integers(1, 4, LENGTH)).astype(float)
    slope, start = -3e-4, 2.0
    truth = start + slope * steps
    missed_slope = missed_level = missed = 0
    for e in 0.1 * rng.standard_normal((RUNS, LENGTH)):
        band = sequential.trend_band(steps, truth + e, ALPHA)
        a, b = _missed(band.slope, slope, 3), _missed(band.level, truth, 3)
        missed_slope, missed_level, missed = missed_slope + a, missed_level + b, missed + (a or b)
    print(f"trend_band misses: slope {missed_slope / RUNS}, level {missed_level / RUNS}, either {missed / RUNS}")
    assert missed / RUNS <= MOST
    assert missed > 0


def test_trend_band_is_the_shadow_of_the_ellipse() -> None:
    # The extremes among the lines of a grid that the mixture, written with full matrices, does not reject.
    rng = np.random.default_rng(8)
    t = np.arange(50.0)
    y = 1.0 + 0.01 * t + 0.2 * rng.standard_normal(50)
    alpha, look = 0.05, 50.0
    band = sequential.trend_band(t, y, alpha, look=look)
    phi = sequential.mixture_precision(look, alpha) * np.eye(2)
    z = np.stack([np.ones(50), t / look], 1)
    inverse = np.linalg.inv(np.eye(50) + z @ np.linalg.inv(phi) @ z.T)
    constant = 0.5 * np.log(np.linalg.det(phi) / np.linalg.det(phi + z.T @ z))
    a, b = np.meshgrid(np.linspace(0.6, 1.4, 161), np.linspace(-0.5, 1.5, 401), indexing="ij")
    d = y - a[..., None] - b[..., None] * (t / look)
    log_e = constant + 25 * np.log((d * d).sum(-1) / np.einsum("abi,ij,abj->ab", d, inverse, d))
    inside = log_e < np.log(1 / alpha)
    assert band.slope.lower[-1] * look == pytest.approx(b[inside].min(), abs=0.006)
    assert band.slope.upper[-1] * look == pytest.approx(b[inside].max(), abs=0.006)
    ends = (a + b * t[-1] / look)[inside]
    assert band.level.upper[-1] == pytest.approx(ends.max(), abs=0.01)
    assert band.level.lower[-1] == pytest.approx(ends.min(), abs=0.01)


def test_window_level_covers_all_windows_at_all_looks() -> None:
    """The upper ends of all dyadic windows' intervals for the newest level, looked at every other step."""
    rng = np.random.default_rng(9)
    runs, length = 400, 1024
    x = rng.standard_normal((runs, length))
    sums = np.concatenate([np.zeros((runs, 1)), x.cumsum(1)], 1)
    missed, naive = np.zeros(runs, bool), np.zeros(runs, bool)
    for seen in range(64, length + 1, 2):
        for window in 64 * 2 ** np.arange(int(np.log2(seen // 64)) + 1):
            size = window // 64
            edges = seen - window + size * np.arange(65)
            y = np.diff(sums[:, edges], axis=1) / size
            centre = edges[:-1] + (size - 1) / 2
            line = fit_blocks(np.broadcast_to(centre, y.shape), y, seen - 1.0)
            q = line.quantile(sequential.window_level(ALPHA, seen, window))
            missed |= line.level + q * line.level_error < 0.0
            naive |= line.level + line.quantile(ALPHA) * line.level_error < 0.0
    print(f"windows miss {missed.mean():.3f}, without spending {naive.mean():.3f}")
    assert missed.mean() <= ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / runs)
    assert naive.mean() > 0.8


def test_bands_are_equivariant_and_survive_a_large_offset() -> None:
    x = np.random.default_rng(10).standard_normal(300)
    for make in (sequential.mean_band, sequential.running_mean_band):
        plain, moved = make(x), make(1e6 + 10 * x)
        np.testing.assert_allclose(moved.upper[50:], 1e6 + 10 * plain.upper[50:], rtol=1e-9)
    t = np.arange(300.0)
    plain, moved = sequential.trend_band(t, x), sequential.trend_band(5 * t + 7, x)
    np.testing.assert_allclose(moved.slope.upper[60:], plain.slope.upper[60:] / 5, rtol=1e-6)
    np.testing.assert_allclose(moved.level.lower[60:], plain.level.lower[60:], rtol=1e-6, atol=1e-9)


def test_noiseless_values_have_intervals_of_no_width() -> None:
    band = sequential.mean_band(np.full(50, 2.0))
    assert band.upper[-1] == band.lower[-1] == 2.0
    line = sequential.trend_band(np.arange(300), 2.0 - 0.01 * np.arange(300))
    assert line.slope.upper[-1] == pytest.approx(-0.01, abs=1e-6)


def test_empty_and_unusable_input() -> None:
    assert sequential.mean_band([]).centre.size == 0
    assert sequential.trend_band([], []).level.centre.size == 0
    with pytest.raises(ValueError, match="finite"):
        sequential.mean_band([1.0, np.nan])
    with pytest.raises(ValueError, match="increase"):
        sequential.trend_band([1, 1], [0, 0])
    with pytest.raises(ValueError, match="alpha"):
        sequential.mean_band([1.0], 0.0)
    with pytest.raises(ValueError, match="one-dimensional"):
        sequential.mean_band(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="steps but"):
        sequential.trend_band([1, 2], [0])
