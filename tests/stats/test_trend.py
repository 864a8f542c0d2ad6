from __future__ import annotations

import math

import numpy as np
import pytest

from unstuck.stats.trend import fit_blocks, recent_trend, steps_until


def _noise(rng: np.random.Generator, shape: tuple[int, ...], correlation: float = 0.0) -> np.ndarray:
    e = rng.standard_normal(shape)
    for i in range(1, shape[-1]):
        e[..., i] = correlation * e[..., i - 1] + math.sqrt(1 - correlation**2) * e[..., i]
    return e


def test_a_line_through_noiseless_blocks_is_the_line() -> None:
    x = np.arange(10.0)
    line = fit_blocks(x, 3.0 - 0.5 * x, 12.0)
    assert float(line.level) == pytest.approx(-3.0)
    assert float(line.slope) == pytest.approx(-0.5)
    assert float(line.level_error) == pytest.approx(0.0, abs=1e-12)


def test_errors_agree_with_ordinary_least_squares_where_residuals_alternate() -> None:
    # Residuals that anti-correlate leave the ordinary standard errors untouched: they are never lowered.
    rng = np.random.default_rng(0)
    x = np.arange(20.0)
    y = 1.0 + 0.1 * x + 0.3 * (-1.0) ** np.arange(20) + 0.01 * rng.standard_normal(20)
    line = fit_blocks(x, y, 19.0)
    design = np.stack([np.ones(20), x - 19.0], 1)
    fitted, rss, *_ = np.linalg.lstsq(design, y, rcond=None)
    covariance = np.linalg.inv(design.T @ design) * rss[0] / 18
    assert float(line.level) == pytest.approx(fitted[0])
    assert float(line.level_error) == pytest.approx(math.sqrt(covariance[0, 0]))
    assert float(line.slope_error) == pytest.approx(math.sqrt(covariance[1, 1]))


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6])
def test_false_trends_stay_rare_under_autocorrelation(correlation: float) -> None:
    rng = np.random.default_rng(1)
    e = _noise(rng, (1000, 512), correlation)
    blocks = e.reshape(1000, 64, 8).mean(-1)
    line = fit_blocks(np.broadcast_to(np.arange(64.0), blocks.shape), blocks, 63.5)
    false = np.mean(np.abs(line.slope) > line.quantile(0.025) * line.slope_error)
    assert false <= 0.05 + 3 * math.sqrt(0.0475 / 1000)


def test_correlated_single_values_are_paid_for() -> None:
    # 64 blocks of one value each, AR(1) at 0.5: ordinary errors would see a trend in about a quarter of the series.
    rng = np.random.default_rng(2)
    y = _noise(rng, (1000, 64), 0.5)
    line = fit_blocks(np.broadcast_to(np.arange(64.0), y.shape), y, 63.0)
    assert np.mean(np.abs(line.slope) > line.quantile(0.025) * line.slope_error) < 0.1


@pytest.mark.parametrize(("drop", "name"), [(0.5, "falling"), (-0.5, "rising"), (0.0, "flat")])
def test_direction_under_heavy_tailed_noise(drop: float, name: str) -> None:
    rng = np.random.default_rng(3)
    t = np.arange(2000)
    right = 0
    for _ in range(50):
        y = 2.3 - drop * t / 2000 + 0.1 * rng.standard_t(3, 2000)
        right += recent_trend(t, y, flat=0.1).name == name
    assert right >= 47


def test_noise_alone_is_unclear_and_not_flat() -> None:
    rng = np.random.default_rng(4)
    names = [recent_trend(np.arange(30), 2.0 + rng.standard_normal(30)).name for _ in range(50)]
    assert names.count("unclear") >= 47
    assert "flat" not in names


def test_spikes_neither_make_nor_hide_a_trend() -> None:
    rng = np.random.default_rng(5)
    t = np.arange(1000)
    y = 2.0 - 0.0005 * t + 0.05 * rng.standard_normal(1000)
    y[[950, 980, 999]] += 1e4
    trend = recent_trend(t, y)
    assert trend.name == "falling"
    assert trend.slope == pytest.approx(-0.0005, rel=0.1)


def test_window_and_missing_values() -> None:
    t = np.arange(400)
    y = np.where(t < 200, 5.0 - 0.02 * t, 1.0)
    y[[210, 300]] = [np.nan, np.inf]
    whole = recent_trend(t, y)
    assert whole.name != "flat"
    assert whole.change < -3.0
    recent = recent_trend(t, y, window=150)
    assert (recent.name, recent.observations) == ("flat", 150)
    assert recent.level == pytest.approx(1.0)


def test_too_few_values_say_nothing() -> None:
    for n in (0, 1, 7):
        trend = recent_trend(np.arange(n), np.linspace(5, 1, n))
        assert trend.name == "unclear"
        assert steps_until(trend, 0.0) == (math.inf, (0.0, math.inf))


def test_unusable_input() -> None:
    with pytest.raises(ValueError, match="one length"):
        recent_trend([1, 2], [1.0])
    with pytest.raises(ValueError, match="increase"):
        recent_trend([2, 1], [1.0, 2.0])
    with pytest.raises(ValueError, match="3 blocks"):
        fit_blocks(np.arange(2.0), np.arange(2.0), 1.0)


def test_steps_until_without_noise_is_exact() -> None:
    t = np.arange(0, 200, 2)
    trend = recent_trend(t, 4.0 - 0.01 * t)
    estimate, (soonest, latest) = steps_until(trend, 1.0)
    assert estimate == pytest.approx((trend.level - 1.0) / 0.01)
    assert soonest == pytest.approx(estimate, rel=1e-3)
    assert latest == pytest.approx(estimate, rel=1e-3)
    assert steps_until(trend, 5.0)[0] == math.inf


def test_steps_until_covers_the_true_time() -> None:
    rng = np.random.default_rng(6)
    t = np.arange(500)
    inside = 0
    for _ in range(400):
        trend = recent_trend(t, 2.0 - 0.001 * t + 0.1 * rng.standard_normal(500), alpha=0.05)
        _, (soonest, latest) = steps_until(trend, 1.0)
        inside += soonest <= 501 <= latest
    assert 0.92 <= inside / 400 <= 0.99


def test_steps_until_is_open_where_the_slope_is() -> None:
    rng = np.random.default_rng(7)
    trend = recent_trend(np.arange(300), 2.0 + 0.1 * rng.standard_normal(300))
    estimate, (soonest, latest) = steps_until(trend, 0.0)
    assert latest == math.inf
    assert 0.0 < soonest <= estimate
