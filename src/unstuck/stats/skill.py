"""What state is a training in: learning, at chance, at the base rates, ...? Decided on skill, not on loss.

Skill at a step is what a predictor that ignores its input would have scored on the very targets of that call, minus the
loss (nats). The pairing removes the luck of which labels were in the batch. Two such predictors: the uniform one
("chance") and the running base rates ("base"). Skill within +-band (2 % of the baseline) counts as none.

How a state is decided. Training moves, so the question is about NOW, and no single window suits: a short one is noisy,
a long one is history. Straight lines are fitted to the last n, n/2, n/4, ... observations (dyadic windows, see
`fit_blocks`), each giving an interval for the skill at the newest step. The error of every interval comes from
`window_level`, so that all of them, at all looks, miss on one side with probability at most alpha while the run is a
straight line over the window. Real curves bend: the misfit shows up as correlated residuals, which widen the interval;
and what begins inside the window is looked for on purpose (`_awakening`). No method sees a change before the noise lets
it: a run that drops from a plateau faster than the noise averages out is called stuck for a moment too long.

"Stuck" needs two things: the interval inside the band, and that enough optimization has happened (`required_budget`).

References: `sequential` and `trend` for the intervals; for inference on a null *band* instead of a null point
J. O. Berger, M. Delampady, Testing precise hypotheses, Statistical Science 2 (1987), and the equivalence test of
D. J. Schuirmann, J. Pharmacokinet. Biopharm. 15 (1987).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from unstuck.stats.sequential import FIRST_LOOK, window_level
from unstuck.stats.trend import BLOCKS, FEWEST, Line, fit_blocks

Array = NDArray[np.float64]
Name = Literal[
    "learning",
    "at-chance",
    "at-prior",
    "above-chance",
    "plateau",
    "constant",
    "diverging",
    "non-finite",
    "slow",
    "too-early",
]

SAME = 20  # observed steps on end with one number: "constant"
FOUR_DIGITS = 1e-4
LOW = 0.1  # a loss below this share of chance is low: nothing is stuck there
FALLBACK_STEPS = 100.0  # optimizer steps asked for where the first-order decrease was not measured
AHEAD = 20.0  # horizon, in lengths of the run so far, where the planned steps are unknown
HINT = 0.25  # level of the search for a beginning improvement: a hint only delays a verdict, so it may be cheap
MATTERS = 0.4  # share of the band below which a hint is not worth a delay
CLIP = 4.0  # single skills are kept within this many times chance


@dataclass(frozen=True)
class Judgement:
    """The state of a training at its newest observed step. Levels in nats, steps in optimizer steps."""

    name: Name
    since_step: int | None
    skill: float | None  # current skill against `baseline`; None where no baseline is known
    skill_interval: tuple[float, float] | None
    loss: float | None  # current level, not the last value
    chance: float | None
    base_rate: float | None
    budget: tuple[float, float] | None  # (spent, required) first-order decrease; None where it was not measured
    due_step: int | None  # with too-early: about when a verdict is due
    reason: str  # one sentence
    baseline: Literal["uniform", "base-rate"] | None = None
    floor: float | None = None
    accuracy: float | None = None  # mean over the newest window


@dataclass(frozen=True)
class History:
    """Prefix sums of a run, from which any number of looks are cheap (`judge_at`, about 0.3 ms each, any length).

    n observations, m of them with a finite loss (and, where chance is known, with a chance)."""

    steps: Array  # [n]
    raw: Array  # [n] losses as given
    finite: Array  # [n + 1] how many of the first k losses are finite
    kept: Array  # [n + 1] how many of the first k observations are among the m
    spent: Array  # [n + 1] first-order budget of the first k observations
    probes: Array  # [n + 1]
    loss: Array  # [m]
    at: Array  # [m] steps of the m
    sums: Array  # [6, m + 1]: skill_uniform, skill_base, loss, chance, base, step
    bumps: Array  # [m + 1] how many of the neighbouring kept losses before k differ in their first four digits
    accuracy: Array | float | None
    knows_chance: bool
    knows_base: bool


def required_budget(chance: float, band: float = 0.02) -> float:
    """First-order decrease (nats, summed over the steps) before a run may be called stuck: 2 * band * chance.

    The sum of <g, -delta_theta> is what the loss should have lost by now if each step had done what its own gradient
    promised. A sound step keeps a good half of the promise: between a step of vanishing length (all of it) and the
    Cauchy step on a quadratic (exactly half); the rest is lost to curvature and to the noise in g. So a run that was
    promised twice the band and can learn at all has left it. Before, staying inside proves nothing.
    """
    return 2.0 * band * chance


def judge(
    steps: ArrayLike,
    loss: ArrayLike,
    chance: ArrayLike | float,
    base: ArrayLike | float,
    predicted: ArrayLike | None = None,
    *,
    floor: float | None = None,
    alpha: float = 0.01,
    band: float = 0.02,
    planned_steps: int | None = None,
    accuracy: ArrayLike | float | None = None,
) -> Judgement:
    """The state of a training after its observed steps.

    Parameters
    - steps [n]: optimizer step numbers, increasing; any subset of the run.
    - loss, chance, base [n], nats: the loss of each call and what the uniform and the running base-rate predictor would
      have scored on its targets. chance and base may be NaN or a single number; NaN throughout = unknown.
    - predicted [n] or None, nats per step: <g, -delta_theta> on probed steps, NaN elsewhere; held until the next probe.
    - floor: lowest loss this task can reach, nats, where known. alpha: see the module. band: share of the baseline.
    - planned_steps: last step of the user's schedule. accuracy: [n] or a number, reported only.

    O(n). Raises ValueError for different lengths, steps that do not increase, alpha or band outside (0, 1).
    """
    history = accumulate(steps, loss, chance, base, predicted, accuracy=accuracy)
    return judge_at(history, floor=floor, alpha=alpha, band=band, planned_steps=planned_steps)


def accumulate(
    steps: ArrayLike,
    loss: ArrayLike,
    chance: ArrayLike | float,
    base: ArrayLike | float,
    predicted: ArrayLike | None = None,
    *,
    accuracy: ArrayLike | float | None = None,
) -> History:
    """Prefix sums for `judge_at`; arguments and errors as in `judge`. Entry k never depends on observations after k."""
    t = np.asarray(steps, dtype=np.float64)
    y = np.asarray(loss, dtype=np.float64)
    if t.ndim != 1 or y.shape != t.shape:
        raise ValueError(f"steps and loss must be one-dimensional and of one length, got {t.shape} and {y.shape}")
    if not np.all(np.isfinite(t)) or np.any(np.diff(t) <= 0):
        raise ValueError("steps must be finite and increase")
    c, b = _baseline("chance", chance, t.shape), _baseline("base", base, t.shape)
    p = _baseline("predicted", math.nan if predicted is None else predicted, t.shape)
    c[~(c > 0.0)] = np.nan
    c, b = _hold(c), _hold(b)
    finite = np.isfinite(y)
    knows_chance = bool(np.isfinite(c).any())
    keep = finite & np.isfinite(c) if knows_chance else finite
    y_kept, c_kept, t_kept = y[keep], c[keep], t[keep]
    b_kept = b[keep]
    knows_base = knows_chance and bool(np.isfinite(b_kept).any())
    if knows_chance:
        b_kept = np.where(np.isfinite(b_kept), b_kept, c_kept)
        # A single overflowing batch must not spoil the sums: skill is clipped. Cutting off very bad steps can only
        # raise the mean skill, so both accusations (no better, or worse, than chance) get harder, not easier.
        low, high = -CLIP * c_kept, (1.0 + CLIP) * c_kept
        uniform, prior = np.clip(c_kept - y_kept, low, high), np.clip(b_kept - y_kept, low, high)
        tame = c_kept - uniform
    else:
        scale = 100.0 * (float(np.median(np.abs(y_kept[:16]))) + 1.0) if y_kept.size else 1.0
        tame = np.clip(y_kept, -scale, scale)
        c_kept = b_kept = np.zeros_like(tame)
        uniform = prior = -tame
    sums = np.zeros((6, t_kept.size + 1))
    for row, values in enumerate((uniform, prior, tame, c_kept, b_kept, t_kept)):
        np.cumsum(values, out=sums[row, 1:])
    gaps = np.diff(t, prepend=t[0] - 1.0) if t.size else t
    measured = np.isfinite(p)
    # No step can lose more than all there is to lose: a promise beyond chance is cut to it.
    most = np.where(np.isfinite(c), c, np.inf)
    held = np.minimum(np.nan_to_num(_hold(np.abs(p)), nan=0.0), most)
    same = np.abs(np.diff(y_kept)) <= FOUR_DIGITS * np.abs(y_kept[1:])
    return History(
        steps=t,
        raw=y,
        finite=_prefix(finite),
        kept=_prefix(keep),
        spent=_prefix(held * gaps),
        probes=_prefix(measured),
        loss=y_kept,
        at=t_kept,
        sums=sums,
        bumps=np.concatenate([[0.0], _prefix(~same)]) if y_kept.size else np.zeros(1),
        accuracy=_accuracy(accuracy, t.shape),
        knows_chance=knows_chance,
        knows_base=knows_base,
    )


def judge_at(
    history: History,
    end: int | None = None,
    *,
    floor: float | None = None,
    alpha: float = 0.01,
    band: float = 0.02,
    planned_steps: int | None = None,
) -> Judgement:
    """`judge` of the first `end` observations (default: all), in time that hardly depends on their number."""
    if not 0.0 < alpha < 1.0 or not 0.0 < band < 1.0:
        raise ValueError(f"alpha and band must lie strictly between 0 and 1, got {alpha} and {band}")
    end = history.steps.size if end is None else min(end, history.steps.size)
    look = _Look(history, end, floor, alpha, band, planned_steps)
    return look.verdict()


# ------------------------------------------------------------------------------------------------------------ one look


class _Look:
    """One look at a history. The numbers it works out are shared by the questions below, hence the object."""

    def __init__(
        self, history: History, end: int, floor: float | None, alpha: float, band: float, planned: int | None
    ) -> None:
        self.history, self.end, self.floor, self.alpha, self.share = history, end, floor, alpha, band
        self.planned = planned
        self.m = m = int(history.kept[end])
        self.now = float(history.steps[end - 1]) if end else 0.0
        self.first = float(history.steps[0]) if end else 0.0
        self.knows = history.knows_chance and m > 0
        self.lines: Line | None = None
        self.sizes = np.empty(0)
        if m >= FEWEST:
            self._fit()

    def _fit(self) -> None:
        """Lines through the dyadic windows: index 0 of the leading axes is the series (uniform, base), 1 the window."""
        m, sums = self.m, self.history.sums
        if m < FIRST_LOOK:
            sizes, blocks = np.array([m]), m
        else:
            count = int(math.log2(m // BLOCKS)) + 1
            sizes, blocks = BLOCKS * 2 ** np.arange(count), BLOCKS
            whole = m // BLOCKS * BLOCKS
            if whole >= 1.25 * sizes[-1]:
                sizes = np.append(sizes, whole)
        edges = m - sizes[:, None] + (sizes // blocks)[:, None] * np.arange(blocks + 1)
        means = np.diff(sums[:, edges], axis=-1) / (sizes // blocks)[:, None]  # [6, windows, blocks]
        newest = self.history.at[m - 1]
        self.sizes, self.blocks, self.means = sizes, blocks, means
        self.lines = fit_blocks(means[5], means[:2], newest)
        self.q = self.lines.quantile(window_level(self.alpha, m, sizes))  # [windows]
        whole_means = means.mean(-1)  # [6, windows]
        self.chance, self.base = whole_means[3], whole_means[4]

    # -------------------------------------------------------------------------------------------------- the questions

    def verdict(self) -> Judgement:
        for question in (self._non_finite, self._constant, self._diverging):
            found = question()
            if found is not None:
                return found
        if self.lines is None:
            return self._early(f"only {self.m} usable observations so far", self.now + (FIRST_LOOK - self.m))
        if not self.knows:
            return self._by_trend()
        # The better of the two predictors that ignore the input is the one to beat. A base rate within the band of
        # chance is the same predictor; one above chance (early, or on sorted labels) is no harder to beat.
        skewed = bool(self.history.knows_base) and self.chance[0] - self.base[0] > self.share * self.chance[0]
        return self._with_baseline(1 if skewed else 0)

    def _non_finite(self) -> Judgement | None:
        history, end = self.history, self.end
        if not end:
            return None
        recent = min(SAME, end)
        bad = recent - (history.finite[end] - history.finite[end - recent])
        if math.isfinite(history.raw[end - 1]) and bad <= recent / 2:
            return None
        # Since when: the first bad loss after the last stretch of ten good ones (a scaler may retry a few times).
        good = np.isfinite(history.raw[:end])
        stretch = np.flatnonzero(history.finite[10 : end + 1] - history.finite[: max(end - 9, 0)] == 10)
        start = int(stretch[-1]) + 10 if stretch.size else 0
        since = start + int(np.argmin(good[start:]))
        what = "NaN" if np.isnan(history.raw[since]) else "infinite"
        return self._say("non-finite", f"the loss is {what} since step {history.steps[since]:.0f}", since=since)

    def _constant(self) -> Judgement | None:
        m, loss = self.m, self.history.loss
        if m < SAME or self.history.bumps[m] != self.history.bumps[m - SAME + 1]:
            return None
        last = float(loss[m - 1])
        start = int(np.searchsorted(self.history.bumps[: m + 1], self.history.bumps[m])) - 1
        window = loss[max(start, 0) : m]
        far = np.flatnonzero(np.abs(window - last) > FOUR_DIGITS * abs(last))
        if far.size:  # creeping, each step within four digits of its neighbour
            start, window = start + int(far[-1]) + 1, window[far[-1] + 1 :]
        if window.size < SAME or self._is_low(last, last < 0.0):
            return None
        path = float(np.abs(np.diff(window)).sum())
        net = float(window[0] - window[-1])
        if abs(net) > 0.5 * path and abs(net) > 1e-6 * abs(last):
            return None  # a noiseless run that creeps steadily: slow, not constant
        text = f"the loss has been {last:.4g} to four digits for {window.size} observed steps on end"
        return self._say("constant", text, since_step=self.history.at[max(start, 0)])

    def _diverging(self) -> Judgement | None:
        """Far above chance and above its own earlier best, and the last half still climbing."""
        m = self.m
        if m < 24:
            return None
        loss = self.history.loss[:m]
        count = 12
        size = m // 2 // count
        tail = loss[m - size * count :].reshape(count, size)
        medians = np.median(tail, axis=1)
        early = loss[: m - size * count]
        width = max(size, 3)
        parts = early[: early.size // width * width].reshape(-1, width)
        best = float(np.median(parts, axis=1).min())
        level = float(medians[-1])
        if self.knows:
            scale = float(self.history.sums[3, m] / m)
            far = level > 2.0 * scale and level - best > scale
        else:
            spread = float(np.median(np.abs(early - np.median(early))))
            far = level - best > 2.0 * max(abs(best), abs(float(np.median(early[:width])))) + 10.0 * spread
        # Mann-Kendall on twelve medians: 66 pairs, S >= 46 has probability about 4e-4 without a trend.
        order = np.sign(medians[None, :] - medians[:, None])[np.triu_indices(count, 1)].sum()
        if not far or order < 46 or level < medians[:-1].max():
            return None
        since = self.history.at[m - size * count + int(np.argmax(medians > best + 0.5 * (level - best))) * size]
        text = f"the loss has risen from {best:.4g} to {level:.4g} and is still rising"
        return self._say("diverging", text, since_step=since, loss=level)

    def _with_baseline(self, series: int) -> Judgement:
        lines, q = self.lines, self.q
        assert lines is not None
        value = self.base if series else self.chance  # [windows], the baseline's own level
        limit = self.share * value
        level, error = lines.level[series], lines.level_error[series]
        low, high = level - q * error, level + q * error
        uniform_high = lines.level[0] + q * lines.level_error[0]
        # Above: even the upper bound of the skill is below -band; the plain mean of the newest quarter agrees.
        above = (uniform_high < -self.share * self.chance) & (lines.tail[0] < -self.share * self.chance)
        better = (low > limit) & (lines.tail[series] > limit)
        rise, steep = lines.slope[series], lines.slope_error[series]
        # An old event (the first steps, a drop long past) also tilts the long windows: a slope counts as going on only
        # if the next shorter window, half of it as a rule, does not contradict it.
        kept_up = np.append(True, rise[:-1] + 1.64 * steep[:-1] >= rise[1:])
        rising = (rise - q * steep > 0.0) & kept_up
        best = int(np.argmin(error * q))
        if self.m < FIRST_LOOK:
            newest = self.history.loss[self.m - max(self.m // 4, 3) : self.m]
            if self._is_low(float(newest.max()), bool(newest.min() < 0.0)):
                return self._arrived(float(newest.mean()), 0, series)  # no line needed: every one of them is low
        if above.any():
            pick = int(np.flatnonzero(above)[np.argmin((error * q)[above])])
            recent = rising[: pick + 1]
            if recent.any():
                ahead = int(np.flatnonzero(recent)[0])
                arrival = self.now - float(lines.level[0][ahead]) / float(rise[ahead])
                if arrival <= self._horizon():
                    text = "the loss is still above chance, but falling towards it"
                    return self._early(text, arrival, pick, series)
            return self._say("above-chance", self._words("worse than guessing", 0, pick), window=pick, series=0)
        if better.any():
            return self._better(series, best if better[best] else int(np.flatnonzero(better)[-1]), rising)
        return self._inside(series, limit, level, error, high, rising)

    def _better(self, series: int, pick: int, rising: Array) -> Judgement:
        lines = self.lines
        assert lines is not None
        # Low for a while, that is: over the last eighth of the run (each cycle of sorted labels ends low, too).
        loss = self._loss_level(series, pick)
        lately = max(self.m // 8, 8)
        sums = self.history.sums[2]
        if self._is_low(max(loss, float(sums[self.m] - sums[self.m - lately]) / lately), self._is_negative(loss, pick)):
            return self._arrived(loss, pick, series)
        # Progress is asked of windows on the run's own time scale (the last eighth at least): within an epoch of a
        # memorising run or a cycle of sorted labels the loss always moves, and it means nothing.
        long = self.sizes >= self.m / 8
        if (rising & long).any():
            return self._say("learning", self._words("and falling", series, pick), window=pick, series=series)
        flat = self._flat_window(series, self.share * float(self.chance[0]))
        if flat is not None:
            text = self._words(f"but flat over the last {int(self.sizes[flat])} observed steps", series, pick)
            return self._say("plateau", text, window=flat, series=series)
        half = self.m // 2
        gained = float(sums[half]) / half - float(sums[self.m] - sums[half]) / (self.m - half)
        band = self.share * float(self.chance[pick])
        before = float(self.means[2, -1, : self.blocks // 2].min())
        if self.m >= 2 * FIRST_LOOK and gained <= 2.5 * band and before <= loss + band:
            # Neither falling nor flat, and as low as this it was before: cycles, of which an unfinished one moves the
            # mean of a half by a few hundredths of chance.
            text = self._words("but the second half of the run is hardly lower than the first", series, pick)
            return self._say("plateau", text, window=pick, series=series, since_step=self.first)
        return self._say("learning", self._words("and not yet flat", series, pick), window=pick, series=series)

    def _arrived(self, loss: float, pick: int, series: int) -> Judgement:
        near = "its floor" if self.floor is not None and loss > LOW * float(self.chance[pick]) else "zero"
        return self._say("learning", f"the loss, {loss:.4g}, is near {near}", window=pick, series=series)

    def _inside(self, series: int, limit: Array, level: Array, error: Array, high: Array, rising: Array) -> Judgement:
        """Nothing shows that the run is better than its baseline. Is it shown that it is not?"""
        lines, q = self.lines, self.q
        assert lines is not None
        horizon = self._horizon()
        gain = lines.slope[series] * (horizon - self.now)
        moving = rising & (gain > 0.1 * limit)
        # Not better is not enough on the way from chance down to the base rates: either the interval lies inside the
        # band (twice as wide below, where nothing is learned anyway), or the window is shown to be flat.
        still = (lines.slope[series] + q * lines.slope_error[series]) * lines.span <= limit
        fits = (high < limit) & (lines.tail[series] < limit) & ((level - q * error > -2.0 * limit) | still)
        ready, spent, required, due = self._budget()
        first_fit = int(np.argmax(fits)) if fits.any() else self.sizes.size
        if moving.any():
            pick = int(np.flatnonzero(moving)[-1])
            slope = float(lines.slope[series][pick])
            reach = self.now + max(float(limit[pick] - level[pick]), 0.0) / slope
            fast = float(slope + q[pick] * lines.slope_error[series][pick])
            never = float(high[pick]) + fast * (horizon - self.now) < float(limit[pick])
            hopeless = self.planned is not None and due is not None and due > self.planned and self._progress() > 0.1
            if never and (ready or hopeless):
                text = f"the loss falls by {slope:.2g} nats per step: it would leave the band only at step {reach:.0f}"
                return self._say("slow", text, window=pick, series=series)
            text = "the loss is inside the band of its baseline but falling"
            return self._early(text, max(reach, due or reach), pick, series)
        if not ready:
            pick = first_fit if fits.any() else int(np.argmin(error * q))
            if required is None:
                text = f"fewer than {FALLBACK_STEPS:.0f} optimizer steps have been observed"
            else:
                text = (
                    f"all steps so far promised to lower the loss by only {spent:.2g} nats; {required:.2g} are needed"
                )
                if self.planned is not None and due is not None and due > self.planned:
                    text += f", more than the {self.planned} planned steps will give"
            return self._early(text, due, pick, series)
        if not fits.any() or self.m < FIRST_LOOK:
            pick = int(np.argmin(error * q))
            room = max(float(limit[pick] - level[pick]), 0.5 * float(limit[pick]))
            more = (float(error[pick] * q[pick]) / room) ** 2 * float(lines.span[pick])
            text = "the loss is too noisy so far to tell it from its baseline"
            return self._early(text, self.now + max(more - float(lines.span[pick]), 1.0), pick, series)
        chosen = np.flatnonzero(fits)
        hint = self._awakening(series, first_fit, int(self.sizes[chosen[-1]]), float(limit[first_fit]))
        if hint is not None:
            text = f"the last {hint} observed steps hint that it begins to improve: a few more will tell"
            return self._early(text, self.now + 2.0 * hint, first_fit, series)
        pick = int(chosen[np.argmin((error * q)[chosen])])
        name: Name = "at-prior" if series else "at-chance"
        against = "always answering the base rates" if series else "a uniform guess"
        text = self._words(f"no better than {against}", series, pick, compare=False)
        since = self.history.at[self.m - int(self.sizes[chosen[-1]])]
        return self._say(name, text, window=pick, series=series, since_step=since)

    def _awakening(self, series: int, pick: int, longest: int, limit: float) -> int | None:
        """The number of newest observations that look better than the window deciding, if some do.

        A change that began w observations ago moves the line's end by a multiple of w only, so the line lags behind it;
        the mean of the last w sees it first. A change is as likely to have begun at one step as at any other, so the
        level of each peek is proportional to w, as a share of the window that decides and of the longest that agrees
        (their geometric mean); and the newest mean must lie at MATTERS of the band or more, or nothing is at stake. On
        runs at chance that delays 1 to 4 looks in 100; with less of it more awakenings are seen too late.
        """
        lines = self.lines
        assert lines is not None
        size = int(self.sizes[pick])
        sums = self.history.sums[series]
        noise = float(lines.mean_error[series][pick]) * math.sqrt(size)
        w = 4 * 2 ** np.arange(int(math.log2(size / 4)))
        newest = (sums[self.m] - sums[self.m - w]) / w
        rest = (sums[self.m - w] - sums[self.m - size]) / (size - w)
        deviation = (newest - rest) / (noise * np.sqrt(1.0 / w + 1.0 / (size - w)) + 1e-300)
        seen = (deviation > -ndtri(HINT * w / math.sqrt(size * longest))) & (newest > MATTERS * limit)
        slope = float(lines.slope[series][pick])
        ahead = float(lines.level[series][pick]) + slope * 0.5 * float(lines.span[pick])
        if slope > -ndtri(HINT) * float(lines.slope_error[series][pick]) and ahead > limit:
            return size  # a slope short of significance, but half a window more of it would leave the band
        if seen.any():
            return int(w[np.argmax(seen)])
        return self._promise_grows(size)

    def _promise_grows(self, size: int) -> int | None:
        """The number of newest observations over which the steps promise more than before, if they clearly do.

        Leaving a plateau the gradient grows before the loss falls (near a saddle both grow exponentially, the gradient
        from below the noise of the loss), so the newest three probes of the first-order decrease are an early witness.
        A single probe scatters by a factor of 1.3 to 2; the mean of three being 2.5 times the rest is rare by chance.
        """
        history, end = self.history, self.end
        begin = int(np.searchsorted(history.steps[:end], history.at[self.m - size]))
        split = int(np.searchsorted(history.probes[: end + 1], history.probes[end] - 3.0, side="right")) - 1
        if split <= begin or history.probes[split] - history.probes[begin] < 6:
            return None
        before = (history.spent[split] - history.spent[begin]) / (history.steps[split] - history.steps[begin])
        newest = (history.spent[end] - history.spent[split]) / (history.steps[end - 1] - history.steps[split - 1])
        return end - split if newest > 2.5 * before else None

    def _by_trend(self) -> Judgement:
        """No baseline known: only the direction can be told."""
        lines, q = self.lines, self.q
        assert lines is not None
        slope, steep = lines.slope[0], lines.slope_error[0]
        long = self.sizes >= self.m / 8
        falling = (slope - q * steep > 0.0) & long
        if falling.any():
            pick = int(np.flatnonzero(falling)[-1])
            text = "the loss is falling (what guessing would score is unknown for this loss)"
            return self._say("learning", text, window=pick)
        flat = self._flat_window(0, self.share * abs(float(lines.mean[0][0])))
        if flat is not None and self.now - self.first >= FALLBACK_STEPS - 1:
            text = f"the loss is flat over the last {int(self.sizes[flat])} observed steps"
            return self._say("plateau", text, window=flat)
        return self._early("no trend can be told from the noise yet", self.now + self.m, int(self.sizes.size) - 1)

    # ---------------------------------------------------------------------------------------------------- small facts

    def _is_low(self, loss: float, negative: bool) -> bool:
        """Nothing is stuck there: near the known floor, or under a tenth of chance (near 0 where that is unknown)."""
        chance = float(self.history.sums[3, self.m] / self.m) if self.knows else None
        if self.floor is not None and chance is not None:
            return loss <= self.floor + max(self.share * chance, LOW * (chance - self.floor))
        if negative:
            return False  # no cross-entropy gets there: low, but not "near zero"
        return loss < (LOW * chance if chance is not None else 1e-3)

    def _is_negative(self, loss: float, pick: int) -> bool:
        assert self.lines is not None
        return loss < -max(3.0 * float(self.lines.mean_error[0][pick]), 1e-3 * float(self.chance[pick]))

    def _loss_level(self, series: int, pick: int) -> float:
        """The line's end, held between the newest quarter's mean and what the line says, whichever is the worse."""
        assert self.lines is not None
        value = float((self.base if series else self.chance)[pick])
        return value - min(float(self.lines.level[series][pick]), float(self.lines.tail[series][pick]))

    def _horizon(self) -> float:
        if self.planned is not None and self.planned > self.now:
            return float(self.planned)
        return self.now + AHEAD * max(self.now - self.first, 1.0)

    def _progress(self) -> float:
        return (self.now - self.first) / max((self.planned or 0) - self.first, 1.0)

    def _budget(self) -> tuple[bool, float | None, float | None, float | None]:
        """(met, spent, required, step at which it will be met)."""
        if not self.history.probes[self.end]:
            due = self.first + FALLBACK_STEPS - 1.0
            return self.now >= due, None, None, due
        required = required_budget(float(self.history.sums[3, self.m] / self.m), self.share)
        spent = float(self.history.spent[self.end])
        half = self.end // 2
        passed = self.now - float(self.history.steps[half - 1]) if half else self.now - self.first + 1.0
        rate = (spent - float(self.history.spent[half])) / passed
        due = self.now + (required - spent) / rate if rate > 0.0 else None
        return spent >= required, spent, required, self.now if spent >= required else due

    def _flat_window(self, series: int, allowed: float) -> int | None:
        """The longest window, a quarter of the run or more, over which the fall is shown to be below `allowed` (nats).

        Shown: by the upper bound of the slope. A rise needs no showing. Early events make it harder, never easier."""
        assert self.lines is not None
        if self.m < FIRST_LOOK:
            return None
        steepest = self.lines.slope[series] + self.q * self.lines.slope_error[series]
        flat = (steepest * self.lines.span <= allowed) & (self.sizes >= min(max(self.m / 4, FIRST_LOOK), self.m))
        return int(np.flatnonzero(flat)[-1]) if flat.any() else None

    def _words(self, state: str, series: int, pick: int, *, compare: bool = True) -> str:
        loss = self._loss_level(series, pick)
        baseline = float((self.base if series else self.chance)[pick])
        what = "the base rates" if series else "a uniform guess"
        text = f"the loss, {loss:.4g}, "
        if compare and loss < baseline:
            text += f"is below what {what} would score, {baseline:.4g}, {state}"
        else:
            text += f"is {state} (which would score {baseline:.4g})" if not compare else f"is {state} ({baseline:.4g})"
        if series == 1 and not compare and loss < float(self.chance[pick]) * (1.0 - self.share):
            text += f"; that is below a uniform guess, {float(self.chance[pick]):.4g}"
        return text

    def _early(self, text: str, due: float | None, window: int | None = None, series: int = 0) -> Judgement:
        step = None if due is None or not math.isfinite(due) else max(math.ceil(due), int(self.now) + 1)
        return self._say("too-early", text, window=window, series=series, due=step)

    def _say(
        self,
        name: Name,
        text: str,
        *,
        window: int | None = None,
        series: int = 0,
        since: int | None = None,
        since_step: float | None = None,
        due: int | None = None,
        loss: float | None = None,
    ) -> Judgement:
        lines, m = self.lines, self.m
        if window is None and lines is not None:
            window = 0
        skill = interval = chance = base = None
        if lines is not None and window is not None:
            level, error = float(lines.level[series][window]), float(lines.level_error[series][window])
            q = float(self.q[window])
            if self.knows:
                skill, interval = level, (level - q * error, level + q * error)
                chance, base = float(self.chance[window]), float(self.base[window])
                loss = self._loss_level(series, window) if loss is None else loss
            else:
                loss = -float(lines.tail[0][window]) if loss is None else loss
            if since_step is None and since is None:
                since_step = float(self.history.at[m - int(self.sizes[window])])
        elif m:
            loss = float(np.mean(self.history.loss[:m])) if loss is None else loss
            if self.knows:
                chance, base = (float(self.history.sums[row, m] / m) for row in (3, 4))
        if since is not None:
            since_step = float(self.history.steps[since])
        _, spent, required, _ = self._budget() if self.knows else (False, None, None, None)
        accuracy = self.history.accuracy
        if isinstance(accuracy, np.ndarray):
            count = int(self.sizes[window]) if window is not None else 1
            recent = accuracy[max(self.end - count, 0) : self.end]
            recent = recent[np.isfinite(recent)]
            accuracy = float(recent.mean()) if recent.size else None
        return Judgement(
            name=name,
            since_step=None if name == "too-early" or since_step is None else int(since_step),
            skill=skill,
            skill_interval=interval,
            loss=loss,
            chance=chance,
            base_rate=base if self.history.knows_base else None,
            budget=None if spent is None or required is None else (spent, required),
            due_step=due,
            reason=text,
            baseline=None if skill is None else ("base-rate" if series else "uniform"),
            floor=self.floor,
            accuracy=accuracy,
        )


def _baseline(name: str, values: ArrayLike | float, shape: tuple[int, ...]) -> Array:
    out = np.asarray(values, dtype=np.float64)
    if out.ndim == 0:
        return np.full(shape, float(out))
    if out.shape != shape:
        raise ValueError(f"{name} must have the shape of steps, {shape}, or be one number; got {out.shape}")
    return np.where(np.isfinite(out), out, np.nan)


def _accuracy(values: ArrayLike | float | None, shape: tuple[int, ...]) -> Array | float | None:
    if values is None:
        return None
    out = _baseline("accuracy", values, shape)
    return float(np.asarray(values)) if np.ndim(values) == 0 else out


def _hold(values: Array) -> Array:
    """Each NaN replaced by the last number before it; leading NaN stay."""
    known = np.isfinite(values)
    if known.all() or not known.any():
        return values
    index = np.maximum.accumulate(np.where(known, np.arange(values.size), -1))
    return np.where(index >= 0, values[np.maximum(index, 0)], np.nan)


def _prefix(values: Array) -> Array:
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
