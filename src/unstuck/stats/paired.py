"""Does an intervention help? Two arms of one training, with and without it, compared seed by seed.

The two arms of a seed share their initial weights, their batches and their random numbers, so the luck of the draw
cancels in the difference d_s = fixed - control. All numbers here are *scores*: skill (1 - loss / chance) or accuracy; in
both 1 is best. `rest` is the score of an answer that ignores the inputs (0 for skill, the share of the largest class for
accuracy). Below it nothing is learned, so a fix that turns a divergence into plain guessing has gained nothing:
d_s = max(fixed, rest) - max(control, rest).

Looks. Seeds are run one after the other, and one looks after each whether it is enough. An interval that is right 99
times in 100 at one look is wrong more often at five; the chance of an error is therefore spent over the looks
(Bonferroni, which needs no assumption on how the looks depend on each other; Lan & DeMets 1983 for the idea). On each
side LEVEL = 0.01 is spent in all:
- 0.005 at the first seed, on the interval *within the run* (`within`), see below;
- 0.002, 0.001, 0.002 at 3, 4 and 5 seeds on Student's t over the seeds (`over_seeds`). Nothing is spent at 2 seeds: with
  one degree of freedom the quantile is 160 and more, and no effect of a bounded score could pass it.
With t over so few seeds normality of d_s is assumed, not shown; what breaks it in practice is an outcome that jumps (a
seed learns or does not). Differences that happen to agree to the last digit would then give an interval of width 0: the
standard deviation is taken to be at least SMALLEST. A jump that *pairing cannot remove*, because the intervention draws
new random numbers, is not left to t at all, see `separated`.

Why one seed may be enough (`beyond_doubt`). Within a run the score of the last quarter is measured at many steps. Means of
eight blocks are nearly independent where a block is longer than the memory of the noise (batch means; Schmeiser 1982), and
a trend inside the quarter makes them scatter more, which widens the interval. That interval knows the noise of the
batches, not how much seeds differ. Two outcomes need no more: the control never left the band around `rest` in the whole
arm, while the fixed arm ends FAR above it, five times the band: for a random re-draw to do that the fault would have to
be a lottery that this seed lost. (Whether it is one, a control of a second seed tells; the caller asks it.) Or the fixed
arm too never left the band, the difference is within it, and a gain of FAR is excluded: in this run the fix does nothing.
Arms that both learn a little are never beyond doubt at one seed.

Nothing (`nothing`) does not mean a gain that is shown to be inside the band: the noise of a few batches is as wide as the
band, and no affordable number of seeds would ever show it. It means a gain inside the band to the best of our knowledge,
with one of FAR, the least that counts as a fix beyond doubt, excluded.

References
- K. K. G. Lan, D. L. DeMets, Discrete sequential boundaries for clinical trials. Biometrika 70 (1983).
- B. Schmeiser, Batch size effects in the analysis of simulation output. Operations Research 30 (1982).
- R. A. Fisher, The Design of Experiments (1935), section 21, for permuting arms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

Array = NDArray[np.float64]

BAND = 0.02  # of the scale of the score: within it nothing has changed; the same band as in the symptom
FAR = 0.1  # five bands
LEVEL = 0.01  # chance, on each side, that any look misleads
FIRST = 0.005  # of it: spent within the run of the first seed
SPENT = {3: 0.002, 4: 0.001, 5: 0.002}  # and over the seeds; FIRST + all of these = LEVEL
MOST = max(SPENT)  # seeds
SMALLEST = 0.01  # standard deviation of the differences: half the band
BLOCKS = 8
TAIL = 0.25  # the last quarter of an arm is its end
FEWEST = 4  # measured steps in the tail, below which there is no interval


@dataclass(frozen=True)
class Interval:
    """A mean with its bounds; unbounded where too little was seen. `over` says what it averages over."""

    mean: float
    low: float
    high: float
    over: Literal["steps", "seeds"]


def tail(scores: ArrayLike, share: float = TAIL) -> Array:
    """The measured scores of the last `share` of the steps. scores: [n], NaN = not measured, one entry per step."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"scores must be one-dimensional, got shape {values.shape}")
    end = values[values.size - math.ceil(share * values.size) :]
    return end[~np.isnan(end)]


def score(scores: ArrayLike) -> float:
    """The score an arm ends with: the mean of its last quarter, NaN where nothing was measured there.

    Single steps are kept within [-1, 1]: one overflowing batch must not outweigh all others.
    """
    end = tail(scores)
    return float(np.clip(end, -1.0, 1.0).mean()) if end.size else math.nan


def gain(control: float, fixed: float, rest: float = 0.0) -> float:
    """The difference of two final scores, with what lies below `rest` counted as `rest`."""
    return max(fixed, rest) - max(control, rest)


def within(control: ArrayLike, fixed: ArrayLike, *, rest: float = 0.0, level: float = FIRST) -> Interval:
    """The gain in one seed, with the uncertainty that the noise of the batches leaves. `level` is for each side.

    control, fixed: [n], [m] scores per step; the longer arm is cut to the length of the shorter one. Steps that were
    measured in both arms are subtracted one by one (they saw the same batch); where too few were, the ends are compared as
    wholes. Unbounded with fewer than FEWEST measured steps in the last quarter of either.
    """
    a, b = (np.asarray(x, dtype=np.float64) for x in (control, fixed))
    n = min(a.size, b.size)
    if a.ndim != 1 or b.ndim != 1:
        raise ValueError(f"scores must be one-dimensional, got shapes {a.shape} and {b.shape}")
    a, b = np.clip(a[:n], -1.0, 1.0), np.clip(b[:n], -1.0, 1.0)
    start = n - math.ceil(TAIL * n)
    a, b = a[start:], b[start:]
    one, two = a[~np.isnan(a)], b[~np.isnan(b)]
    if min(one.size, two.size) < FEWEST:
        both = gain(float(one.mean()), float(two.mean()), rest) if one.size and two.size else math.nan
        return Interval(both, -math.inf, math.inf, "steps")
    mean = gain(float(one.mean()), float(two.mean()), rest)
    common = ~np.isnan(a) & ~np.isnan(b)
    if common.sum() >= 2 * BLOCKS:
        below_a, below_b = one.mean() < rest, two.mean() < rest
        if below_a or below_b:  # an arm below rest counts as rest itself, which has no noise
            left = np.full(a.shape, rest) if below_a else a
            right = np.full(b.shape, rest) if below_b else b
            half = _half((right - left)[common], level)
        else:
            half = _half((b - a)[common], level)
    else:
        half = math.hypot(_half(one, level), _half(two, level))
    return Interval(mean, mean - half, mean + half, "steps")


def _half(values: Array, level: float) -> float:
    """Half the width of the interval for the mean of a stationary series, from the means of at most eight blocks."""
    count = min(BLOCKS, values.size)
    means = np.array([block.mean() for block in np.array_split(values, count)])
    return float(student.isf(level, count - 1) * means.std(ddof=1) / math.sqrt(count))


def over_seeds(differences: ArrayLike) -> Interval:
    """The gain of the training as such: Student's t over the seeds, at the level that this look may spend.

    differences: [n], one per seed. Unbounded for fewer than 3 seeds; with more than 5 the level of the fifth look is
    used for the first five, the others are not looked at (ValueError).
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or d.size == 0 or not np.isfinite(d).all():
        raise ValueError("differences must be a non-empty row of finite numbers")
    if d.size > MOST:
        raise ValueError(f"at most {MOST} looks are paid for, got {d.size}")
    mean = float(d.mean())
    if d.size not in SPENT:
        return Interval(mean, -math.inf, math.inf, "seeds")
    half = float(student.isf(SPENT[d.size], d.size - 1)) * max(float(d.std(ddof=1)), SMALLEST) / math.sqrt(d.size)
    return Interval(mean, mean - half, mean + half, "seeds")


def at_rest(scores: ArrayLike, *, rest: float = 0.0, band: float = BAND) -> bool:
    """Did an arm never leave the band around (or fall below) what can be had without the inputs? By quarters of the arm."""
    values = np.asarray(scores, dtype=np.float64)
    means = [float(np.clip(q[~np.isnan(q)], -1.0, 1.0).mean()) for q in np.array_split(values, 4) if (~np.isnan(q)).any()]
    return bool(means) and max(means) <= rest + band


def beyond_doubt(
    control: ArrayLike, fixed: ArrayLike, *, rest: float = 0.0, band: float = BAND, far: float = FAR
) -> Literal["helps", "nothing", ""]:
    """What one seed shows beyond doubt (see the module); '' where more seeds are needed. Arguments as in `within`."""
    interval = within(control, fixed, rest=rest)
    if not at_rest(control, rest=rest, band=band):
        return ""
    if interval.low >= far:
        return "helps"
    return "nothing" if at_rest(fixed, rest=rest, band=band) and nothing(interval, band=band, far=far) else ""


def nothing(interval: Interval, *, band: float = BAND, far: float = FAR) -> bool:
    """Is there no gain worth the name? Inside the band, with one of `far` excluded (see the module)."""
    return interval.mean <= band and interval.high <= far


def separated(control: ArrayLike, fixed: ArrayLike, *, rest: float = 0.0, band: float = BAND, far: float = FAR) -> float:
    """Error of calling a fix that draws new random numbers a fix, where it is only another ticket in the lottery.

    control, fixed: [m], [k] final scores of the arms by seed, the first control being the run that was complained about.
    Such arms are no pairs: the new weights have nothing to do with the old ones. Suppose the intervention does nothing but
    draw again, and a draw learns with probability p. That all m - 1 further controls fail and all k fixed arms learn then
    has probability (1 - p)^(m-1) p^k, which is largest at p = k / (k + m - 1); the first control is left out, because it
    was looked at *for* having failed. That largest probability is 0.008 for 4 and 4, 0.15 for 2 and 2.

    Controls that learn a little, or one that is lucky, are no failures in that sense. There the scores themselves are compared: if
    the intervention only draws again, the k fixed arms and the m - 1 further controls are draws of one distribution, and all k lie
    above all controls with probability 1 / C(k + m - 1, k), whatever that distribution is (Fisher's permutation of the arms): 0.008
    for 5 and 5, more for fewer. It counts only where they lie FAR above, the first control included.

    Returns the smaller of the two, 1.0 where neither holds.
    """
    c, f = np.asarray(control, dtype=np.float64), np.asarray(fixed, dtype=np.float64)
    m, k = c.size - 1, f.size
    if m < 1 or not k or not (f >= rest + far).all():
        return 1.0
    p = k / (k + m)
    lottery = (1.0 - p) ** m * p**k if (c <= rest + band).all() else 1.0
    permuted = 1.0 / math.comb(k + m, k) if f.min() >= c.max() + far else 1.0
    return float(min(lottery, permuted))
