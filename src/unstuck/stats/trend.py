"""Is a series falling, flat or rising over a recent window, and when will it arrive somewhere?

Loss series are noisy, heavy-tailed and mildly autocorrelated, so nothing here trusts single values. A window is cut
into equal blocks and the line is fitted to the block means (the method of batch means): whatever the noise, means of
many values are nearly Gaussian and, when blocks outlast the memory of the noise, nearly independent, so Student's t
applies with (blocks - 2) degrees of freedom and the residuals carry the long-run variance by themselves.

References
- L. W. Schruben, Confidence interval estimation using standardized time series. Operations Research 31 (1983).
- C. Alexopoulos, A. F. Seila, Implementing the batch means method in simulation experiments. Proc. WSC (1996).
- J. von Neumann, Distribution of the ratio of the mean square successive difference to the variance (1941).
- E. C. Fieller, Some problems in interval estimation. J. R. Statist. Soc. B 16 (1954).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

Array = NDArray[np.float64]

BLOCKS = 64  # block means per line: 62 degrees of freedom cost 8 % in width against a known variance at level 1e-4
FEWEST = 8  # values below which no trend is claimed


@dataclass(frozen=True)
class Line:
    """Straight lines fitted to block means, one per leading index (arrays [...]); heights in the unit of the values."""

    level: Array  # height at the newest step
    level_error: Array  # its standard error
    slope: Array  # per step
    slope_error: Array
    mean: Array
    mean_error: Array
    tail: Array  # plain mean of the last quarter of the blocks
    span: Array  # steps from the centre of the first block to the newest step
    centre: Array  # steps from the mean position of the blocks back from the newest step (>= 0)
    freedom: int

    def quantile(self, level: ArrayLike) -> Array:
        """Student-t distance, in standard errors, that is exceeded on one side with probability `level`."""
        return -stdtrit(float(self.freedom), np.asarray(level, dtype=np.float64))


@dataclass(frozen=True)
class Trend:
    """What a series does over its recent window. Slopes per step, levels in the unit of the series."""

    name: Literal["falling", "flat", "rising", "unclear"]
    level: float
    level_interval: tuple[float, float]
    slope: float
    slope_interval: tuple[float, float]
    change: float  # fitted change over the window
    newest: float  # step the level belongs to
    observations: int
    line: Line | None  # None below FEWEST values
    alpha: float


def fit_blocks(x: Array, y: Array, newest: ArrayLike) -> Line:
    """Least squares through block means. x, y [..., B], B >= 3; newest broadcasts over the leading shape.

    Standard errors are raised by sqrt((1 + r) / (1 - r)), the limit for an AR(1) residual of lag-one correlation r,
    where r is von Neumann's 1 - sum (e_i - e_{i-1})^2 / (2 sum e^2) when positive. Never lowered: a negative estimate
    is mostly noise. A bend that the line cannot follow also shows as r near 1, so a misfit widens the intervals.
    """
    blocks = y.shape[-1]
    if blocks < 3:
        raise ValueError(f"a line with an error needs 3 blocks, got {blocks}")
    middle = x.mean(-1, keepdims=True)
    dx = x - middle
    sxx = (dx * dx).sum(-1)
    mean = y.mean(-1)
    slope = (dx * y).sum(-1) / sxx
    residual = y - mean[..., None] - slope[..., None] * dx
    rss = (residual * residual).sum(-1)
    jumps = np.diff(residual, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.where(rss > 0.0, 1.0 - (jumps * jumps).sum(-1) / (2.0 * rss), 0.0)
    r = np.clip(r, 0.0, 0.97)
    variance = rss / (blocks - 2) * (1.0 + r) / (1.0 - r)
    centre = np.asarray(newest, dtype=np.float64) - middle[..., 0]
    level = mean + slope * centre
    level_error = np.sqrt(variance * (1.0 / blocks + centre * centre / sxx))
    return Line(
        level=level,
        level_error=level_error,
        slope=slope,
        slope_error=np.sqrt(variance / sxx),
        mean=mean,
        mean_error=np.sqrt(variance / blocks),
        tail=y[..., -max(blocks // 4, 1) :].mean(-1),
        span=np.asarray(newest, dtype=np.float64) - x[..., 0],
        centre=centre,
        freedom=blocks - 2,
    )


def recent_trend(
    steps: ArrayLike,
    values: ArrayLike,
    *,
    window: int | None = None,
    alpha: float = 0.01,
    flat: float | None = None,
) -> Trend:
    """Falling, flat, rising or unclear, over the last `window` values (default: all). One look, not always-valid.

    steps [n], increasing; values [n], non-finite ones are left out. `flat` is the change over the window that counts as
    none (default: 2 % of the level's size). falling / rising: the slope differs from 0 at two-sided level alpha. flat:
    it does not, and the whole interval of the change lies within +-flat; unclear: neither. Values beyond 6 robust
    standard deviations of the detrended window are pulled in first, so single spikes neither make nor hide a trend.
    Raises ValueError for different lengths, a wrong shape, or steps that do not increase.
    """
    t, y = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if t.shape != y.shape or t.ndim != 1:
        raise ValueError(f"steps and values must be one-dimensional and of one length, got {t.shape} and {y.shape}")
    if np.any(np.diff(t) <= 0):
        raise ValueError("steps must increase")
    keep = np.isfinite(y)
    t, y = t[keep], y[keep]
    if window is not None:
        t, y = t[-window:], y[-window:]
    if y.size < FEWEST:
        level = float(y.mean()) if y.size else math.nan
        whole = (-math.inf, math.inf)
        newest = float(t[-1]) if t.size else math.nan
        return Trend("unclear", level, whole, 0.0, whole, 0.0, newest, int(y.size), None, alpha)
    y, count = _pull_in(t, y), int(y.size)
    size = -(-y.size // BLOCKS)
    blocks = y.size // size  # 32 to 64 of them once there are 64 values; fewer than `size` of the oldest are left out
    t, y = t[-size * blocks :], y[-size * blocks :]
    line = fit_blocks(t.reshape(blocks, size).mean(-1), y.reshape(blocks, size).mean(-1), t[-1])
    q = float(line.quantile(alpha / 2))
    level, slope = float(line.level), float(line.slope)
    slope_interval = (slope - q * float(line.slope_error), slope + q * float(line.slope_error))
    level_interval = (level - q * float(line.level_error), level + q * float(line.level_error))
    span = float(t[-1] - t[0])
    allowed = 0.02 * abs(level) if flat is None else flat
    if slope_interval[1] < 0.0:
        name: Literal["falling", "flat", "rising", "unclear"] = "falling"
    elif slope_interval[0] > 0.0:
        name = "rising"
    elif max(abs(slope_interval[0]), abs(slope_interval[1])) * span <= allowed:
        name = "flat"
    else:
        name = "unclear"
    return Trend(name, level, level_interval, slope, slope_interval, slope * span, float(t[-1]), count, line, alpha)


def _pull_in(t: Array, y: Array) -> Array:
    """Clip spikes at 6 robust deviations around the line through the medians of the window's thirds (Tukey's line)."""
    third = max(y.size // 3, 1)
    left, right = float(np.median(y[:third])), float(np.median(y[-third:]))
    t_left, t_right = float(np.median(t[:third])), float(np.median(t[-third:]))
    line = left + (right - left) / (t_right - t_left) * (t - t_left)
    residual = y - line
    middle = float(np.median(residual))
    spread = 1.4826 * float(np.median(np.abs(residual - middle)))
    if spread == 0.0:
        # More than half the values sit on the line: the median says nothing about the rest, so nothing is clipped.
        return y
    return line + np.clip(residual, middle - 6.0 * spread, middle + 6.0 * spread)


def steps_until(trend: Trend, value: float) -> tuple[float, tuple[float, float]]:
    """How many more steps until the line reaches `value`: (estimate, (soonest, latest)); math.inf stands for never.

    The interval holds at the trend's alpha, as long as the line goes on: the steps s at which `value` lies between the
    hyperbolas level + slope s -+ q * error(s) (Fieller 1954). When the slope's sign is open, `latest` is infinite; when
    not even the steepest slope leads there, all three are. A value already passed takes 0 steps.
    """
    line = trend.line
    if line is None:
        return math.inf, (0.0, math.inf)
    gap = value - trend.level
    if gap == 0.0:
        return 0.0, (0.0, 0.0)
    sign = math.copysign(1.0, gap)
    gap, slope = abs(gap), sign * trend.slope
    estimate = gap / slope if slope > 0.0 else math.inf
    q = float(line.quantile(trend.alpha / 2))
    # error(s)^2 = mean_error^2 + slope_error^2 (centre + s)^2; the bounds solve (slope s - gap)^2 = q^2 error(s)^2
    centre = float(line.centre)
    noise, tilt = (q * float(line.mean_error)) ** 2, (q * float(line.slope_error)) ** 2
    a = slope * slope - tilt
    b = slope * gap + tilt * centre
    c = gap * gap - noise - tilt * centre * centre
    if c <= 0.0:
        soonest = 0.0  # the value is already inside the interval of the level
    else:
        root = b * b - a * c
        if -1e-9 * b * b < root < 0.0:
            root = 0.0  # rounding: without noise both hyperbolas fall onto the line
        soonest = c / (b + math.sqrt(root)) if root >= 0.0 and b + math.sqrt(root) > 0.0 else math.inf
    latest = (b + math.sqrt(max(b * b - a * c, 0.0))) / a if slope > 0.0 and a > 0.0 else math.inf
    return estimate, (soonest, latest)
