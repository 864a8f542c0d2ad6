"""Always-valid intervals: they hold at every step at once, so a training may be watched all the time.

A confidence interval that is right 99 times in 100 on one look is wrong sooner or later when one looks after every
step. A confidence *sequence* (C_n) covers at all times together: P(there is an n with theta not in C_n) <= alpha. Most
of the constructions here are one argument: a non-negative martingale that starts at 1 under the hypothesis theta
exceeds 1/alpha with probability at most alpha, ever (Ville 1939); C_n is the set of theta that it has not rejected.

The values are noise of unknown scale (nats, but any unit will do: every function is equivariant to shift and scale).

References
- H. Robbins, Statistical methods related to the law of the iterated logarithm. Ann. Math. Statist. 41 (1970).
- T. L. Lai, On confidence sequences. Ann. Statist. 4 (1976).
- S. R. Howard, A. Ramdas, J. McAuliffe, J. Sekhon, Time-uniform, nonparametric, nonasymptotic confidence sequences.
  Ann. Statist. 49 (2021).
- M. Lindon, D. W. Ham, M. Tingley, I. Bojinov, Anytime-valid linear models and regression adjusted causal inference in
  randomized experiments. arXiv 2210.08589 (2022).
- H. Wang, A. Ramdas, Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance.
  Sequential Analysis (2024).
- I. Waudby-Smith, D. Arbour, R. Sinha, E. H. Kennedy, A. Ramdas, Time-uniform central limit theory and asymptotic
  confidence sequences. Ann. Statist. 52 (2024).
- I. Waudby-Smith, A. Ramdas, Estimating means of bounded random variables by betting. J. R. Statist. Soc. B 86 (2024).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

# The first look: with fewer observations a window's own variance is not worth a verdict.
FIRST_LOOK = 64


@dataclass(frozen=True)
class Band:
    """A confidence sequence: entry n-1 of each array belongs to the first n observations; unbounded = -inf, inf."""

    centre: Array
    lower: Array
    upper: Array


@dataclass(frozen=True)
class TrendBand:
    """Confidence sequences of a straight line: its slope per step, and its height at the newest step. One event of
    probability at most alpha spoils both."""

    slope: Band
    level: Band


def _series(values: ArrayLike) -> Array:
    out = np.asarray(values, dtype=np.float64)
    if out.ndim != 1:
        raise ValueError(f"values must be one-dimensional, got shape {out.shape}")
    if not np.all(np.isfinite(out)):
        raise ValueError("values must be finite: drop NaN and Inf first")
    return out


def _check_alpha(alpha: float) -> None:
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha}")


def mixture_precision(look: float, alpha: float) -> float:
    """Prior precision phi for which the mixture interval is about narrowest after `look` observations.

    Minimising (phi + n) / n^2 * log((phi + n) / (phi alpha^2)) over phi gives n / phi = -W_{-1}(-alpha^2 / e) - 1, and
    -W_{-1} is about -2 log alpha + log(-2 log alpha + 1) + 1 (Howard et al. 2021, section 3.5).
    """
    _check_alpha(alpha)
    odds = -2.0 * math.log(alpha)
    return look / (odds + math.log1p(odds))


def mean_band(values: ArrayLike, alpha: float = 0.01, *, look: float = 200.0) -> Band:
    """Confidence sequence for the constant mean of Gaussian noise with unknown, constant variance. Exact, at any n.

    Parameters: values [n]; alpha; look, the number of observations at which the band shall be tightest.
    Returns a Band of arrays [n]. Raises ValueError for NaN/Inf, a wrong shape or alpha outside (0, 1).

    Mix the likelihood over mean = mu + sigma * N(0, 1/phi), and both hypotheses over the right-Haar measure
    dsigma/sigma. With d = mean_n - mu and S = sum (x - mu)^2,
        E_n(mu) = sqrt(phi / (phi + n)) * (S / (S - n^2 d^2 / (phi + n)))^(n/2),
    which invariance under scale makes a martingale started at 1 (Lai 1976; Wang & Ramdas 2024; Lindon et al. 2022).
    E_n < 1/alpha solves to n d^2 (1 - r phi / (phi + n)) < (r - 1) RSS with r = ((phi + n) / (phi alpha^2))^(1/n), and
    holds for every mu as long as the bracket is not positive.
    """
    _check_alpha(alpha)
    x = _series(values)
    phi = mixture_precision(look, alpha)
    n = np.arange(1, x.size + 1, dtype=np.float64)
    shift = x[0] if x.size else 0.0  # equivariance: sums of squares about the first value do not cancel
    centre = np.cumsum(x - shift) / n
    rss = np.maximum(np.cumsum((x - shift) ** 2) - n * centre**2, 0.0)
    r = np.exp((np.log1p(n / phi) - 2.0 * math.log(alpha)) / n)
    bracket = 1.0 - r * phi / (phi + n)
    with np.errstate(divide="ignore", invalid="ignore"):
        half = np.where(bracket > 0.0, np.sqrt((r - 1.0) * rss / (n * bracket)), np.inf)
    centre = centre + shift
    return Band(centre, centre - half, centre + half)


def running_mean_band(values: ArrayLike, alpha: float = 0.01, *, look: float = 200.0) -> Band:
    """Asymptotic confidence sequence for the running mean of the conditional means, which may drift.

    Covers (1/n) sum_i E[x_i | past] whatever the noise's distribution, with changing variance, as long as 2 + delta
    moments are bounded; approximately, from a first look on (a few dozen observations), not from n = 1:
        mean_n +- s_n * sqrt(2 (n rho^2 + 1) / (n^2 rho^2) * log(sqrt(n rho^2 + 1) / alpha)),
    Robbins' normal mixture carried over by strong approximation (Waudby-Smith, Arbour et al. 2024, Theorem 2.2 and, for
    drifting means and variances, Theorem 2.5). Here rho^2 = 1 / phi and looks before 16 observations are unbounded.

    Parameters, return value and errors as in `mean_band`.
    """
    _check_alpha(alpha)
    x = _series(values)
    phi = mixture_precision(look, alpha)
    n = np.arange(1, x.size + 1, dtype=np.float64)
    shift = x[0] if x.size else 0.0
    centre = np.cumsum(x - shift) / n
    variance = np.maximum(np.cumsum((x - shift) ** 2) / n - centre**2, 0.0) * n / np.maximum(n - 1.0, 1.0)
    half = np.sqrt(variance * (n + phi) / n**2 * (np.log1p(n / phi) - 2.0 * math.log(alpha)))
    half = np.where(n >= 16, half, np.inf)
    centre = centre + shift
    return Band(centre, centre - half, centre + half)


def bounded_mean_band(values: ArrayLike, alpha: float = 0.01, *, low: float = 0.0, high: float = 1.0) -> Band:
    """Confidence sequence for the constant mean of values in [low, high] (an accuracy), exact for every distribution.

    Predictable plug-in empirical Bernstein (Waudby-Smith & Ramdas 2024, Theorem 2), on values scaled to [0, 1]:
        sum l_i x_i / sum l_i  +-  (log(2/alpha) + sum v_i psi(l_i)) / sum l_i,   psi(l) = -log(1 - l) - l,
        v_i = (x_i - m_{i-1})^2,  l_i = min(1/2, sqrt(2 log(2/alpha) / (s2_{i-1} i log(1 + i)))),
    where m and s2 are running moments shrunk to 1/2 and 1/4, so that l_i depends on the past alone. (The paper's
    4 (x - m)^2 psi(l) / 4 is the same product.) Raises ValueError when a value lies outside [low, high].
    """
    _check_alpha(alpha)
    x = _series(values)
    if not high > low:
        raise ValueError(f"need low < high, got {low} and {high}")
    if x.size and (x.min() < low or x.max() > high):
        raise ValueError(f"values outside [{low}, {high}]")
    y = (x - low) / (high - low)
    i = np.arange(1, x.size + 1, dtype=np.float64)
    moment = (0.5 + np.cumsum(y)) / (i + 1.0)
    spread = (0.25 + np.cumsum((y - moment) ** 2)) / (i + 1.0)
    before = np.concatenate(([0.5], moment))[: x.size]
    spread_before = np.concatenate(([0.25], spread))[: x.size]
    odds = math.log(2.0 / alpha)
    bet = np.minimum(0.5, np.sqrt(2.0 * odds / (spread_before * i * np.log1p(i))))
    total = np.cumsum(bet)
    centre = np.cumsum(bet * y) / total
    half = (odds + np.cumsum((y - before) ** 2 * (-np.log1p(-bet) - bet))) / total
    scale = high - low
    lower, upper = np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)
    return Band(low + scale * centre, low + scale * lower, low + scale * upper)


def trend_band(steps: ArrayLike, values: ArrayLike, alpha: float = 0.01, *, look: float = 200.0) -> TrendBand:
    """Confidence sequences for a straight line in Gaussian noise of unknown, constant variance. Exact, at any n.

    Parameters: steps [n], increasing; values [n]; alpha; look as in `mean_band`.
    Returns slope (per step) and level (height of the line at the newest step) as Bands of arrays [n].
    Raises ValueError for NaN/Inf, different lengths, steps that do not increase, or alpha outside (0, 1).

    The self-normalised mixture for regression: with z = (1, (step - step_0) / h), G = Z'Z, prior N(0, sigma^2 Phi^-1),
    d = estimate - (a, b), and H = G - G (Phi + G)^-1 G,
        E_n(a, b) = sqrt(|Phi| / |Phi + G|) * ((RSS + d'Gd) / (RSS + d'Hd))^(n/2)
    is a martingale started at 1 by the same invariance as in `mean_band` (Lindon et al. 2022, Theorem 3.2; with known
    variance it is the self-normalised bound of Abbasi-Yadkori, Pal & Szepesvari 2011). E_n < 1/alpha is the ellipse
    d'(G - rH)d < (r - 1) RSS, r = (|Phi + G| / (|Phi| alpha^2))^(1/n); its shadow on a direction c has half-length
    sqrt((r - 1) RSS c'(G - rH)^-1 c). Since the set is for (a, b) jointly, the moving target a + b * newest is covered.
    """
    _check_alpha(alpha)
    y = _series(values)
    t = _series(steps)
    if t.size != y.size:
        raise ValueError(f"{t.size} steps but {y.size} values")
    if t.size and np.any(np.diff(t) <= 0):
        raise ValueError("steps must increase")
    if not t.size:
        empty = np.empty(0)
        return TrendBand(Band(empty, empty, empty), Band(empty, empty, empty))
    phi = mixture_precision(look, alpha)
    stride = (t[-1] - t[0]) / max(t.size - 1, 1) or 1.0
    h = stride * look
    u = (t - t[0]) / h
    n = np.arange(1, y.size + 1, dtype=np.float64)
    shift = y[0]
    y = y - shift
    su, suu, sy, suy, syy = (np.cumsum(v) for v in (u, u * u, y, u * y, y * y))
    det = np.maximum(n * suu - su * su, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (n * suy - su * sy) / det
        start = (sy - slope * su) / n
        rss = np.maximum(syy - start * sy - slope * suy, 0.0)
        r = np.exp((np.log((n + phi) * (suu + phi) - su * su) - 2.0 * math.log(phi * alpha)) / n)
        # H = Phi - Phi (Phi + G)^-1 Phi, the same matrix, written without the cancellation of G against itself
        mixed = (n + phi) * (suu + phi) - su * su
        h11 = phi - phi * phi * (suu + phi) / mixed
        h22 = phi - phi * phi * (n + phi) / mixed
        h12 = phi * phi * su / mixed
        a11, a12, a22 = n - r * h11, su - r * h12, suu - r * h22
        minor = a11 * a22 - a12 * a12
        open_ = ~((a11 > 0.0) & (minor > 1e-12 * n * (suu + 1e-300)))
        scale = (r - 1.0) * rss / minor
        slope_half = np.where(open_, np.inf, np.sqrt(scale * a11))
        level_half = np.where(open_, np.inf, np.sqrt(scale * (a22 - 2.0 * u * a12 + u * u * a11)))
        level = start + slope * u
    slope, level = np.where(det > 0.0, slope, 0.0), np.where(det > 0.0, level, sy / n)
    slope, slope_half, level = slope / h, slope_half / h, level + shift
    return TrendBand(
        Band(slope, slope - slope_half, slope + slope_half), Band(level, level - level_half, level + level_half)
    )


def window_level(alpha: float, seen: ArrayLike, window: ArrayLike) -> Array:
    """Error that one interval on the last `window` of `seen` observations may have, for all such intervals together to
    miss on this side with probability at most alpha (looks at every step, every dyadic window).

    A union bound over sliding windows. Let e = log2(seen / 64) + 1 count the doublings of the run, i = log2(seen /
    window) the dyadic window. While the run doubles, a window of length w takes about seen / w unrelated positions, and
    sliding it through one position raises the error of a single look by a factor, about 4 to 5 for the levels in use
    (checked against brute force in the tests). Hence
        a = alpha * (window / seen) / (4 * e (e + 1) * (i + 1)(i + 2)),
    since the sums of 1 / (e (e + 1)) over e >= 1 and of 1 / ((i + 1)(i + 2)) over i >= 0 are both 1.

    seen and window broadcast; returns levels of that shape. Fewer than 64 observations count as 64.
    """
    _check_alpha(alpha)
    seen = np.maximum(np.asarray(seen, dtype=np.float64), FIRST_LOOK)
    share = np.minimum(np.asarray(window, dtype=np.float64) / seen, 1.0)
    e = np.log2(seen / FIRST_LOOK) + 1.0
    i = -np.log2(share)
    return alpha * share / (4.0 * e * (e + 1.0) * (i + 1.0) * (i + 2.0))
