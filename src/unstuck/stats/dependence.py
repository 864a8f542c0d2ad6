"""Is there anything to learn? Do the labels of these (input, label) pairs depend on the inputs at all?

Asked of a few thousand rows captured from somebody's training, when the network is stuck at chance. Three answers, each
with its error stated:

`examine`: do the labels belong to the inputs? (1) An exact test of "labels and inputs are independent": under it every
permutation of the labels is as likely as the one seen, so with N permutations p = (1 + #{stat >= seen}) / (1 + N) is
valid at any sample size and for any statistic. Seven statistics share the permutations: the largest correlation, a
linear kernel, leave-one-out ridge regression on the columns and on random Fourier features of two widths, the agreement
of labels with those of 1 and of 10 nearest neighbours. They are joined by the smallest of their own permutation ranks
(ties by the largest z-score), ranked in turn among the same permutations, so the whole stays exact (Westfall & Young).
(2) Probes in cross-validation, in nats: what a plain classifier gets out of the inputs. (3) The power: labels with a
known dependence are planted on these very inputs, and the weakest one that is found 95 times in 100 is reported. A
silence means something only together with that number, and only where the inputs have structure: on columns that are
independent of each other a rule such as parity can be learnt though everything above is blind to it.

`offsets`: do the labels belong to the inputs k rows further on? `sorted_by_class`: do batches hold fewer classes than
shuffling would give?

Losses and information are in nats. Copies of a row (several epochs) are dropped first, or a copy in the training folds
would give away its twin. What only looks like a copy cannot be dropped: rows that are augmented views of one sample do
agree in their labels, and that agreement will be found.

References
- B. Phipson, G. K. Smyth, Permutation p-values should never be zero. Stat. Appl. Genet. Mol. Biol. 9 (2010).
- P. H. Westfall, S. S. Young, Resampling-Based Multiple Testing. Wiley (1993), section 2.6.
- A. Gretton, O. Bousquet, A. Smola, B. Schoelkopf, Measuring statistical dependence with Hilbert-Schmidt norms. ALT
  (2005); the kernel statistics are of this form.
- M. F. Schilling, Multivariate two-sample tests based on nearest neighbors. JASA 81 (1986); N. Henze, Ann. Statist. 16
  (1988), for the neighbour statistics.
- G. H. Golub, M. Heath, G. Wahba, Generalized cross-validation ... Technometrics 21 (1979), for leaving one out without
  refitting.
- A. Rahimi, B. Recht, Random features for large-scale kernel machines. NIPS (2007).
"""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.optimize import brentq, minimize
from scipy.special import gammaln, log_softmax

Array = NDArray[np.float64]
Single = NDArray[np.float32]
Ints = NDArray[np.int64]
Kind = Literal["real", "ids"]

LEVEL = 0.01  # at which the test speaks
POWER = 0.95  # share of planted dependences that must be found at the reported strength
PERMUTATIONS = 999
FEWEST_PERMUTATIONS = 299
MOST_ROWS = 2048  # more are subsampled: distances and kernels are quadratic, and the verdict is in long before
FEWEST_ROWS = 20  # below, no power is worked out and nothing is claimed
MOST_COLUMNS = 256  # more are projected
HASHED = 512  # columns of a bag of tokens
SMALL_VOCABULARY = 64  # up to here single positions get columns of their own
LABEL_COLUMNS = 12  # more classes are projected to that many random directions
PLANTS = 40  # simulations for each strength and kind of plant
FOLDS = 5
CLIP = 10.0  # standardised columns are cut off here: one absurd value shall not be the whole geometry
MIXED = 0.01  # share of the base rates in every probe's prediction: no single row can cost more than a few nats
FLOPS = 2e10  # assumed speed, single precision, for choosing sizes; the clock is watched as well


@dataclass(frozen=True)
class Probe:
    """A classifier in cross-validation. Losses in nats per row, out of fold, on the rows that were reached in time."""

    name: str  # as in a sentence: "logistic regression"
    loss: float
    base: float  # base rates of the training folds, on the same rows
    accuracy: float
    base_accuracy: float  # always the most frequent class of the training folds
    gain: float  # base - loss
    gain_error: float  # standard error of the paired difference
    rows: int


@dataclass(frozen=True)
class Dependence:
    """Whether labels depend on inputs. Losses in nats, shares 0..1; see `examine`."""

    n: int  # rows that were used: distinct, finite, possibly subsampled
    given: int  # rows handed in
    non_finite: int  # rows dropped because of NaN or Inf
    duplicates: int  # rows dropped because an equal one came before
    conflicts: float | None  # share of these copies whose label differs from the first one's; None without copies
    columns: int  # of the inputs as given, constant ones left out
    classes: int
    base: float  # entropy of the labels, nats
    base_accuracy: float  # share of the most frequent class
    p_value: float
    statistics: dict[str, float]  # p-value of each statistic on its own
    permutations: int
    found: bool  # p_value <= 0.01
    probes: tuple[Probe, ...]
    detectable: float | None  # nats: every kind of plant this strong is found 95 times in 100 at level 0.01
    detectable_accuracy: float | None  # the same as accuracy above the most frequent class
    detectable_by: dict[str, float | None]  # nats, for each kind of plant
    structured: bool  # columns depend on one another; not asked, and True, where something was found
    structure_p: float  # 1 where there is one column, 0 where it was not asked
    enough: bool  # rows enough for a silence to mean anything
    reason: str  # why not enough, else ""
    cap: str  # one sentence: what may be concluded
    complete: bool  # False: the clock cut something short, and another machine may do more

    @property
    def best(self) -> Probe | None:
        """The probe with the largest gain, among those that reached most rows; None where none was run."""
        most = max((probe.rows for probe in self.probes), default=0)
        return max((probe for probe in self.probes if probe.rows >= 0.8 * most), key=lambda probe: probe.gain, default=None)

    @property
    def absent(self) -> bool:
        """May it be claimed that there is (next to) nothing to learn? Down to `detectable`, for the plants tried."""
        return self.enough and not self.found and (self.structured or self.columns == 1)

    def sentence(self) -> str:
        """What was seen, with its numbers, in one or two sentences."""
        rows = f"{self.n:,} of your own samples"
        if self.classes < 2 or not self.n:
            return f"Nothing can be measured on {rows}: {self.reason}."
        best = self.best
        if self.found:
            if best is None or best.gain <= 2.0 * best.gain_error:
                return (
                    f"On {rows} the labels are not independent of the inputs (p = {self.p_value:.3g}), though no simple "
                    "classifier turns that into a loss below the base rates."
                )
            return (
                f"{_article(best.name)} on {best.rows:,} of your own samples reaches {best.loss:.2f} nats "
                f"(cross-validated), the base rates {best.base:.2f}."
            )
        text = f"On {rows} no relation between inputs and labels was found (p = {self.p_value:.2g})"
        if best is not None:
            who = f"the best of {len(self.probes)} classifiers" if len(self.probes) > 1 else f"a {best.name}"
            text += f"; {who} reaches {best.loss:.2f} nats, the base rates {best.base:.2f}"
        if self.detectable is None:
            return f"{text}. {self.reason[:1].upper()}{self.reason[1:]}."
        share = 100.0 * (self.detectable_accuracy or 0.0)
        return (
            f"{text}. A dependence of {self.detectable:.2g} nats ({share:.0f} points of accuracy) would have been found in "
            f"{100 * POWER:.0f} % of cases."
        )


@dataclass(frozen=True)
class Offset:
    """Whether labels belong to the inputs of another row: y[i + shift] to x[i]. Scores are z-like, without unit."""

    shift: int | None  # rows; None: no shift is clearly better than none and than its neighbours
    way: Literal["open", "cyclic", "batch"]  # how the best shift treats the ends
    best: int  # the shift with the largest score, significant or not
    p_value: float  # of that score, against the largest over all shifts for permuted labels
    score: float
    score_at_zero: float
    score_elsewhere: float  # the largest at any other shift
    shifts: Ints  # [m]
    scores: Array  # [m], the better of the ways at each shift
    n: int
    reason: str  # one sentence

    def sentence(self) -> str:
        """What was seen, in one sentence."""
        return self.reason


@dataclass(frozen=True)
class SortedTest:
    """Whether batches are purer than shuffled ones. Agreement: share of pairs within batches with one label."""

    p_value: float  # one-sided: purer; batches that are more even than chance give a p-value near 1
    agreement: float
    expected_agreement: float
    distinct: float  # mean number of classes in a batch
    expected_distinct: float
    runs: int  # maximal stretches of one label, in the order given
    expected_runs: float
    batches: int
    n: int

    def sentence(self) -> str:
        """What was seen, in one sentence."""
        return (
            f"A batch holds {self.distinct:.1f} classes on average where shuffled labels would give "
            f"{self.expected_distinct:.1f} (p = {self.p_value:.3g}, {self.batches:,} batches)."
        )


def examine(
    x: ArrayLike,
    y: ArrayLike,
    *,
    kind: Kind = "real",
    order: ArrayLike | None = None,
    seed: int = 0,
    budget: float = 10.0,
) -> Dependence:
    """Do the labels depend on the inputs, how much of it do plain classifiers get, and what would have been missed?

    Parameters
    - x [n, d] real numbers, or [n, t] token ids with kind="ids"; y [n] int class labels, any values (rows whose label is
      ignored by the loss must be left out by the caller).
    - order [n]: when each row was seen; of equal rows the first one's label is kept. Default: as given.
    - seed: same seed, same answer, unless the clock interferes (`complete`). budget: seconds of this thread.

    Rows with NaN or Inf are dropped, then copies. Only where ids can take so few combinations that rows must repeat (at
    most a quarter of n) equal rows stay: there they are not copies of a sample but the categories themselves.
    Raises ValueError for shapes that do not fit, labels that are no integers, an unknown kind, or a budget <= 0.
    """
    clock = _Clock(budget)
    x, y = _pairs(x, y, kind)
    rng = np.random.default_rng(seed)
    given = len(y)
    rank = _order(order, given)
    x, y = x[rank], y[rank]
    finite = np.isfinite(x).all(1) if kind == "real" else np.ones(given, bool)
    x, y = x[finite], y[finite]
    duplicates, conflicts = 0, None
    if not (kind == "ids" and _combinations(x) <= len(y) / 4):
        first = first_copies(x)
        kept = first == np.arange(len(y))
        duplicates = int((~kept).sum())
        conflicts = float(np.mean(y[~kept] != y[first[~kept]])) if duplicates else None
        x, y = x[kept], y[kept]
    y = np.unique(y, return_inverse=True)[1].reshape(-1)
    classes = int(y.max()) + 1 if len(y) else 0
    # Sizes come from a model of the cost, not from the clock, so that the answer depends on the seed alone.
    width = 2 * min(x.shape[1] if kind == "real" else 2 * HASHED, MOST_COLUMNS) + 4 * 128 + 50
    planned = (PERMUTATIONS + 15 * PLANTS) * 2.0 * width * min(max(classes, 1), LABEL_COLUMNS)
    most = int(min(MOST_ROWS, max(FEWEST_ROWS, 0.4 * budget * FLOPS / planned)))
    if len(y) > most:
        some = np.sort(rng.choice(len(y), most, replace=False))
        x, y = x[some], y[some]
        y = np.unique(y, return_inverse=True)[1].reshape(-1)
        classes = int(y.max()) + 1
    n = len(y)
    varying = (x != x[:1]).any(0) if n else np.zeros(x.shape[1], bool)
    columns = int(varying.sum())
    x = x[:, varying]
    rates = np.bincount(y, minlength=1) / n if n else np.ones(1)
    told: dict[str, Any] = {
        "n": n,
        "given": given,
        "non_finite": int((~finite).sum()),
        "duplicates": duplicates,
        "conflicts": conflicts,
        "columns": columns,
        "classes": classes,
        "base": float(-(rates[rates > 0] * np.log(rates[rates > 0])).sum()),
        "base_accuracy": float(rates.max()),
    }
    reason = ""
    if n < 2 or columns == 0:
        reason = "only one distinct input" if n else "no usable row"
    elif classes < 2:
        reason = "all labels are the same"
    elif n < FEWEST_ROWS:
        reason = f"only {n} distinct samples"
    if n < 3 or columns == 0 or classes < 2:
        return Dependence(
            **told, p_value=1.0, statistics={}, permutations=0, found=False, probes=(), detectable=None,
            detectable_accuracy=None, detectable_by={}, structured=False, structure_p=1.0, enough=False, reason=reason,
            cap=f"Nothing may be concluded: {reason}.", complete=True,
        )  # fmt: skip
    features = build_features(x, kind, rng)
    battery = Battery(features, y, rng)
    null = battery.values(_permuted(rng, y, PERMUTATIONS), clock.share(0.35))
    seen = battery.values(y[None])
    p_value, each = combine(np.vstack([seen, null]))
    # Whether the inputs have a structure decides what absence means; where something was found nobody asks.
    structure_p = structure(x, kind, rng, deadline=clock.share(0.5)) if p_value > LEVEL else 0.0
    structured = structure_p <= LEVEL
    by: dict[str, float | None] = {}
    if not reason and p_value > LEVEL:  # how strong a relation must be to be found is asked where none was
        by = _power(battery, y, null, features, rng, clock.share(0.6))
        if None in by.values():
            missed = " and ".join(name for name, value in by.items() if value is None)
            reason = f"{n:,} samples in {classes} classes are too few: even a perfect rule ({missed}) could be missed"
    probes = tuple(_probes(features, y, seed, clock))
    strengths = [value for value in by.values() if value is not None]
    strength = max(strengths) if strengths and len(strengths) == len(by) else None
    nats = planted(rates, strength) if strength is not None else (None, None)
    found = bool(p_value <= LEVEL)
    return Dependence(
        **told,
        p_value=p_value,
        statistics=dict(zip(battery.names, each.tolist())),
        permutations=len(null),
        found=found,
        probes=probes,
        detectable=nats[0],
        detectable_accuracy=nats[1],
        detectable_by={name: None if s is None else planted(rates, s)[0] for name, s in by.items()},
        structured=structured,
        structure_p=structure_p,
        enough=not reason,
        reason=reason,
        cap=_cap(found, p_value, reason, structured or columns == 1, nats[0]),
        complete=not clock.cut,
    )


def _cap(found: bool, p: float, reason: str, structured: bool, detectable: float | None) -> str:
    if found:
        return f"The labels depend on the inputs (p = {p:.3g}): there is something to learn, at least this much."
    if reason:
        return f"Nothing may be concluded: {reason}."
    if not structured:
        return (
            "Absence may not be concluded: the input columns look independent of one another, and on such inputs labels "
            "like a parity can be learnt though no probe sees them."
        )
    return (
        f"Linear, smooth or clustered dependence of {detectable:.2g} nats or more is ruled out (95 % power at level 0.01); "
        "a weaker or a more intricate one is not."
    )


def _article(name: str) -> str:
    return f"{'An' if name[0] in 'aeiou' else 'A'} {name}"


class _Clock:
    """Time of this thread left: on a busy machine the wall clock would decide how much is looked at. `cut` records that
    somebody stopped early because of it."""

    def __init__(self, budget: float) -> None:
        if not budget > 0.0:
            raise ValueError(f"budget must be positive seconds, got {budget}")
        self.begin, self.budget, self.cut = time.thread_time(), budget, False

    def share(self, part: float) -> _Deadline:
        return _Deadline(self, self.begin + part * self.budget)


@dataclass(frozen=True)
class _Deadline:
    clock: _Clock
    at: float

    def over(self) -> bool:
        late = time.thread_time() > self.at
        self.clock.cut |= late
        return late


# ------------------------------------------------------------------------------------------------------- rows, columns


def _pairs(x: ArrayLike, y: ArrayLike, kind: Kind) -> tuple[NDArray[Any], Ints]:
    if kind not in ("real", "ids"):
        raise ValueError(f'kind must be "real" or "ids", got {kind!r}')
    inputs, labels = np.asarray(x), np.asarray(y)
    if kind == "ids":
        if inputs.size and inputs.dtype.kind not in "iub":
            raise ValueError(f"x must hold integers with kind='ids', got {inputs.dtype}")
        inputs = inputs.astype(np.int64)
    elif inputs.dtype.kind not in "fiub":
        raise ValueError(f"x must hold real numbers, got {inputs.dtype}")
    if inputs.ndim != 2:
        raise ValueError(f"x must have two dimensions, [rows, columns], got shape {inputs.shape}")
    return inputs, _labels(labels, len(inputs))


def _labels(y: ArrayLike, n: int | None = None) -> Ints:
    labels = np.asarray(y)
    if labels.ndim != 1 or (n is not None and len(labels) != n):
        raise ValueError(f"y must have shape [{'n' if n is None else n}], got {labels.shape}")
    if labels.size and labels.dtype.kind not in "iub":
        raise ValueError(f"y must hold integer class labels, got {labels.dtype}")
    return labels.astype(np.int64)


def _order(order: ArrayLike | None, n: int) -> Ints:
    if order is None:
        return np.arange(n)
    when = np.asarray(order)
    if when.shape != (n,):
        raise ValueError(f"order must have shape [{n}], got {when.shape}")
    return np.argsort(when, kind="stable")


def first_copies(x: NDArray[Any]) -> Ints:
    """For each row [n] the index of the first row equal to it, in single precision (the precision of a training)."""
    if x.dtype.kind == "f":
        with np.errstate(over="ignore"):
            x = x.astype(np.float32) + np.float32(0.0)  # -0 is 0
    plain = np.ascontiguousarray(x)
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(hashlib.blake2b(row.data, digest_size=16).digest(), i) for i, row in enumerate(plain)], int)


def _combinations(ids: Ints) -> float:
    """How many different rows the ids could form: the product of the columns' numbers of values."""
    return float(np.prod([len(np.unique(column)) for column in ids.T], dtype=np.float64)) if len(ids) else math.inf


def build_features(x: NDArray[Any], kind: Kind, rng: np.random.Generator) -> Single:
    """[n, <= 256] real, centred columns; nothing but the inputs decides what they are. Constant columns vanish."""
    if kind == "ids":
        x = _bag(x)
    n, d = x.shape
    if d > 8 * MOST_COLUMNS:  # a Gaussian projection first, in slices: the columns may be many times the rows
        wide = np.zeros((n, 2 * MOST_COLUMNS), np.float32)
        for start in range(0, d, 4096):
            part = standardise(x[:, start : start + 4096])
            wide += part @ rng.standard_normal((part.shape[1], wide.shape[1]), dtype=np.float32)
        x = wide / np.float32(math.sqrt(d))
        x = x - x.mean(0)
    else:
        x = standardise(x)
    if x.shape[1] > MOST_COLUMNS:  # principal components, kept at their own scale: distances survive
        gram = (x @ x.T if n < x.shape[1] else x.T @ x).astype(np.float64)
        keep = min(MOST_COLUMNS, len(gram))
        values, vectors = eigh(gram, subset_by_index=[len(gram) - keep, len(gram) - 1])
        values, vectors = values[::-1], vectors[:, ::-1]
        good = values > 1e-7 * values[0]
        vectors = vectors[:, good]
        x = (vectors * np.sqrt(values[good]) if n < x.shape[1] else x @ vectors).astype(np.float32)
    return np.ascontiguousarray(x, dtype=np.float32)


def standardise(x: NDArray[Any]) -> Single:
    """Columns with mean 0 and variance 1, cut off at +-10; constant ones dropped."""
    x = np.asarray(x, dtype=np.float64)
    top = np.abs(x).max(0, initial=0.0)
    x = x / np.where(top > 0.0, top, 1.0)  # before squaring: 1e200 is a finite number too
    x = x - x.mean(0)
    scale = x.std(0)
    alive = scale > 1e-12
    x = np.clip(x[:, alive] / scale[alive], -CLIP, CLIP)
    return (x - x.mean(0)).astype(np.float32)


def _bag(ids: Ints) -> Single:
    """Token counts, hashed to 512 columns where the vocabulary is larger; one-hot ids of the outer positions where it is
    small (all positions of a short row)."""
    vocabulary, code = np.unique(ids, return_inverse=True)
    code = code.reshape(ids.shape)
    n, t = ids.shape
    if len(vocabulary) > HASHED:
        # Knuth's multiplicative hash on the id itself, so that the column of a token does not depend on the sample
        slot = (vocabulary.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - HASHED.bit_length() + 1)
        slot = slot.astype(np.int64)[code]
        width = HASHED
    else:
        slot, width = code, len(vocabulary)
    counts = np.zeros(n * width, np.float32)
    np.add.at(counts, (np.arange(n)[:, None] * width + slot).ravel(), 1.0)
    parts = [np.sqrt(counts.reshape(n, width))]  # the root: a token seen 100 times is not 100 times the evidence
    if t > 1 and len(vocabulary) <= SMALL_VOCABULARY:
        places = range(t) if t <= 8 else (0, 1, 2, 3, t - 4, t - 3, t - 2, t - 1)
        parts += [np.eye(len(vocabulary), dtype=np.float32)[code[:, place]] for place in places]
    return np.concatenate(parts, axis=1)


# ---------------------------------------------------------------------------------------------------------- statistics


@dataclass(frozen=True)
class Smoother:
    """A ridge regression with free intercept on fixed inputs, ready for any labels: fitted = mean + W W'(y - mean)."""

    weights: Array  # W [n, r]
    leverage: Array  # [n] diagonal of the hat matrix, intercept included: 1/n + |W_i|^2
    penalty: float  # on the squared coefficients of the (centred) columns


def ridge_smoother(x: NDArray[Any], freedom: float, most: int | None = None) -> Smoother:
    """Smoother for centred x [n, d] whose effective degrees of freedom are `freedom` (or most of the rank if that is
    less); only the `most` leading principal directions are kept where given.

    W = U diag(s / sqrt(s^2 + penalty)) with x = U diag(s) V', from the smaller Gram matrix."""
    x = np.asarray(x, dtype=np.float64)
    n, d = x.shape
    values, vectors = np.linalg.eigh(x.T @ x if d <= n else x @ x.T)
    values, vectors = values[::-1], vectors[:, ::-1]
    rank = max(int((values > 1e-9 * max(values[0], 1e-300)).sum()), 1)
    rank = min(rank, most or rank)
    values, vectors = values[:rank], vectors[:, :rank]
    left = (x @ vectors) / np.sqrt(np.maximum(values, 1e-300)) if d <= n else vectors
    target = min(freedom, 0.95 * rank)
    high = values.sum() / target  # the degrees of freedom are at most sum(values) / penalty
    log_penalty = brentq(lambda log: (values / (values + math.exp(log))).sum() - target, -700.0, math.log(high + 1e-290) + 1e-6)
    penalty = math.exp(log_penalty)
    weights = left * np.sqrt(values / (values + penalty))
    return Smoother(weights, 1.0 / n + (weights**2).sum(1), penalty)


def leave_one_out(smoother: Smoother, y: NDArray[Any]) -> Array:
    """Prediction for each row [n, q] from a fit to all the others, without refitting: (Hy - h y) / (1 - h)."""
    mean = y.mean(0)
    centred = y - mean
    h = smoother.leverage[:, None]
    fitted = smoother.weights @ (smoother.weights.T @ centred)
    return mean + (fitted - h * centred) / (1.0 - h)


def neighbours(x: NDArray[Any], k: int) -> Ints:
    """[n, k] the nearest other rows, nearest first, Euclidean; ties by a fixed rule that knows no labels."""
    gap = _squares(x, x)
    np.fill_diagonal(gap, np.inf)
    k = min(k, len(x) - 1)
    near = np.argpartition(gap, k - 1, axis=1)[:, :k] if k < len(x) - 1 else np.argsort(gap, axis=1)[:, :k]
    return np.take_along_axis(near, np.argsort(np.take_along_axis(gap, near, 1), axis=1, kind="stable"), 1)


def _squares(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    gap = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2.0 * (a @ b.T)
    return np.maximum(gap, 0.0)


def _label_table(y: Ints, rng: np.random.Generator, most: int = LABEL_COLUMNS) -> Single:
    """[classes, q] what a label is in the regressions: centred one-hot over the root of its rate (so that, for weak
    dependence, sums of squares are twice the mutual information); many classes in random directions.

    Depends on the class counts alone, so permuted labels have the same table."""
    rates = np.bincount(y) / len(y)
    hot = (np.eye(len(rates)) - rates) / np.sqrt(np.maximum(rates, 5.0 / len(y)))
    if len(rates) > most:
        hot = hot @ rng.standard_normal((len(rates), most)) / math.sqrt(most)
    elif len(rates) == 2:
        hot = hot[:, :1]  # the other column is its mirror
    return hot.astype(np.float32)


class Battery:
    """The statistics of the test on fixed inputs. Everything that is slow happens once; labels cost matrix products."""

    def __init__(self, x: Single, y: Ints, rng: np.random.Generator) -> None:
        n, d = x.shape
        self.n = n
        self.table = _label_table(y, rng)
        self.power = (self.table.astype(np.float64) ** 2).sum(1)
        norm = np.sqrt((x.astype(np.float64) ** 2).sum(0))
        few = x if n <= 512 else x[np.sort(rng.choice(n, 512, replace=False))]
        gaps = _squares(few, few)
        wide = math.sqrt(float(np.median(gaps[np.triu_indices(len(few), 1)])))
        self.near = neighbours(x, 10)
        closest = np.linalg.norm(x - x[self.near[:, 0]], axis=1)
        narrow = 2.0 * float(np.median(closest)) or 0.1 * wide
        self.smoothers = [ridge_smoother(x, n / 4)]
        for width in (wide, max(min(narrow, 0.5 * wide), 0.02 * wide)):
            angles = x @ (rng.standard_normal((d, 192), dtype=np.float32) / np.float32(max(width, 1e-6)))
            waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
            self.smoothers.append(ridge_smoother(waves - waves.mean(0), min(64.0, n / 8), 128))
        # One product with all of these columns serves every statistic but the neighbours.
        blocks = [x / norm]
        for smoother in self.smoothers:
            blocks += [smoother.weights, smoother.weights / (1.0 - smoother.leverage)[:, None]]
        self.ends = np.cumsum([0] + [block.shape[1] for block in blocks])
        self.scale = norm / norm.max()
        self.product = np.ascontiguousarray(np.concatenate(blocks, axis=1).T, dtype=np.float32)
        self.label_norm = np.sqrt((self.table.astype(np.float64)[y] ** 2).sum(0))
        self.names = (
            "largest correlation", "linear kernel", "linear ridge", "wide kernel ridge", "narrow kernel ridge",
            "nearest neighbour", "ten neighbours",
        )  # fmt: skip

    def values(self, labels: Ints, deadline: _Deadline | None = None) -> Array:
        """[m, 7] statistics of m label vectors [m, n] with the class counts of the original. Stops at the deadline, but
        not before 299 of them: with fewer permutations no p-value could be small."""
        out = []
        q = self.table.shape[1]
        step = max(1, min(64, 8_000_000 // (self.n * q)))
        for start in range(0, len(labels), step):
            if start >= FEWEST_PERMUTATIONS and deadline is not None and deadline.over():
                break
            out.append(self._chunk(labels[start : start + step], q))
        return np.concatenate(out)

    def _chunk(self, labels: Ints, q: int) -> Array:
        m, n = labels.shape
        coded = self.table[labels.T].reshape(n, m * q)
        sums = (self.product @ coded).reshape(-1, m, q).astype(np.float64)
        part = [sums[a:b] for a, b in zip(self.ends[:-1], self.ends[1:])]
        values = np.empty((m, 7))
        plain = np.abs(part[0] / self.label_norm)
        values[:, 0] = plain.max((0, 2))
        values[:, 1] = ((part[0] * self.scale[:, None, None]) ** 2).sum((0, 2))
        for i, smoother in enumerate(self.smoothers):
            # sum over rows of y_i times its leave-one-out prediction, as y'D(H - diag H)y with D = 1 / (1 - h)
            own = smoother.leverage / (1.0 - smoother.leverage)
            values[:, 2 + i] = (part[1 + 2 * i] * part[2 + 2 * i]).sum((0, 2)) - self.power[labels] @ own
        small = labels.astype(np.int16) if labels.max(initial=0) < 32000 else labels
        same = small[:, self.near] == small[:, :, None]
        values[:, 5] = same[:, :, 0].sum(1)
        values[:, 6] = same.sum((1, 2))
        return values


def _permuted(rng: np.random.Generator, y: Ints, count: int) -> Ints:
    return rng.permuted(np.broadcast_to(y, (count, len(y))), axis=1)


def combine(values: Array) -> tuple[float, Array]:
    """p-value of row 0 among all rows [1 + N, K], and of each statistic alone [K]; large is extreme.

    Exact if the rows are exchangeable: rank the rows in each column, give each row its best rank (ties among rows by
    the largest z-score), and rank row 0 once more. Ties count against a finding, rounding errors as ties."""
    ranks, z = _ranks(values)
    smallest, extreme = ranks.min(1), z.max(1)
    ahead = (smallest < smallest[0]) | ((smallest == smallest[0]) & (extreme >= extreme[0] - 1e-4))
    return float(ahead.mean()), ranks[0] / len(values)


def _ranks(values: Array) -> tuple[Ints, Array]:
    """How many rows are at least as large [m, K], and z-scores [m, K]."""
    spread = values.std(0)
    z = (values - values.mean(0)) / np.where(spread > 1e-9 * np.abs(values).max(0) + 1e-300, spread, np.inf)
    ranks = np.empty(z.shape, np.int64)
    for k in range(z.shape[1]):
        ranks[:, k] = len(z) - np.searchsorted(np.sort(z[:, k]), z[:, k] - 1e-4, side="left")
    return ranks, z


# --------------------------------------------------------------------------------------------------------------- power


def planted(rates: ArrayLike, strength: float) -> tuple[float, float]:
    """Mutual information (nats) and accuracy above the most frequent class of labels that follow a rule with probability
    `strength` and are drawn from the class rates [C] otherwise; the rule itself has these rates."""
    p = np.asarray(rates, dtype=np.float64)
    p = p[p > 0.0]
    given = (1.0 - strength) * np.broadcast_to(p, (len(p), len(p))) + strength * np.eye(len(p))
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(given > 0.0, given * np.log(given / p), 0.0)
    return float(p @ terms.sum(1)), float(p @ given.max(1) - p.max())


def plant(y: Ints, heights: Array, rng: np.random.Generator) -> Any:
    """A rule with exactly the class counts of y: one class after the other, in a random order, takes the rows where its
    own column of `heights` [n, C] is largest among those still free. (With a single column: slices of one height.)

    Returns a function of the strength: the rule's labels, with a share 1 - strength of the rows shuffled among
    themselves. Growing strength shuffles fewer of the same rows, so what is found stays found but for chance."""
    n, counts = len(y), np.bincount(y)
    rule = np.empty(n, np.int64)
    free = np.arange(n)
    for place in rng.permutation(len(counts)):
        take = int(counts[place])
        if take < len(free):
            ranked = free[np.argpartition(-heights[free, place % heights.shape[1]], take)]
        else:
            ranked = free
        rule[ranked[:take]] = place
        free = ranked[take:]
    turn, key = rng.random(n), rng.random(n)

    def labels(strength: float) -> Ints:
        out = rule.copy()
        loose = np.flatnonzero(turn >= strength)
        out[loose] = rule[loose[np.argsort(key[loose])]]
        return out

    return labels


def _plants(x: Single, y: Ints, rng: np.random.Generator) -> dict[str, list[Any]]:
    n, d = x.shape
    classes = int(y.max()) + 1
    few = x[rng.choice(n, min(n, 256), replace=False)]
    width = math.sqrt(float(np.median(_squares(few, few)[np.triu_indices(len(few), 1)]))) or 1.0
    linear, smooth, clustered = [], [], []
    for _ in range(PLANTS):
        linear.append(plant(y, x @ rng.standard_normal((d, classes), dtype=np.float32), rng))
        # a draw from the Gaussian process whose length is half the median distance, by 256 random waves
        angles = x @ (rng.standard_normal((d, 256), dtype=np.float32) / np.float32(0.5 * width))
        waves = np.cos(angles + rng.uniform(0.0, 2.0 * math.pi, 256).astype(np.float32))
        smooth.append(plant(y, waves @ rng.standard_normal((256, classes), dtype=np.float32), rng))
        centres = x[rng.choice(n, min(n, 2 * classes), replace=False)]
        nearest = _squares(x, centres).argmin(1) + rng.uniform(0.0, 0.5, n)
        clustered.append(plant(y, nearest[:, None], rng))
    return {"linear": linear, "smooth": smooth, "clustered": clustered}


def _power(
    battery: Battery, y: Ints, null: Array, x: Single, rng: np.random.Generator, deadline: _Deadline
) -> dict[str, float | None]:
    """Smallest strength (0..1) of each kind of plant that is found in 95 % of simulations; None: not even strength 1.

    Plants have the class counts of y, so the permutations of y are their null too: a simulation costs one statistic."""
    ranks, z = _ranks(null)
    centre, spread = null.mean(0), null.std(0)
    spread = np.where(spread > 0.0, spread, np.inf)
    columns = [np.sort(column) for column in null.T]
    best, extreme = ranks.min(1), z.max(1)

    def share_found(plants: list[Any], strength: float) -> float:
        values = battery.values(np.stack([labels(strength) for labels in plants]))
        rank = np.stack([1 + len(c) - np.searchsorted(c, v) for c, v in zip(columns, values.T)], 1).min(1)
        top = ((values - centre) / spread).max(1)
        ahead = (best < rank[:, None]) | ((best == rank[:, None]) & (extreme >= top[:, None]))
        return float(np.mean((1 + ahead.sum(1)) / (1 + len(null)) <= LEVEL))

    grid = np.geomspace(0.02, 1.0, 24)
    kinds = _plants(x, y, rng)
    high = {name: len(grid) - 1 for name, plants in kinds.items() if share_found(plants, 1.0) >= POWER}  # found there
    low = dict.fromkeys(high, -1)  # not found there, or never asked
    # In turns, so that a clock that runs out leaves every kind coarse: what is in hand is still a strength that is found.
    while any(high[name] - low[name] > 1 for name in high) and not deadline.over():
        for name in high:
            if high[name] - low[name] > 1:
                middle = (low[name] + high[name]) // 2
                side = high if share_found(kinds[name], float(grid[middle])) >= POWER else low
                side[name] = middle
    return {name: float(grid[high[name]]) if name in high else None for name in kinds}


# ----------------------------------------------------------------------------------------------- structure of the inputs


def structure(x: NDArray[Any], kind: Kind, rng: np.random.Generator, permutations: int = 199, deadline: Any = None) -> float:
    """p-value of "the columns of x [n, d] are independent of one another": each column permuted on its own.

    At most 400 rows and 96 columns (64 positions of ids). Real: sum of squares and largest of the correlations between
    columns, distances to the nearest row. Ids: equal neighbouring pairs at one position, equal ids within a row, equal
    positions of the most similar row. 1 for a single column."""
    n, d = x.shape
    if n > 400:
        x = x[np.sort(rng.choice(n, 400, replace=False))]
    if kind == "ids":
        x = np.unique(x[:, :64], return_inverse=True)[1].reshape(len(x), -1)
    else:
        if d > 96:
            x = x[:, np.sort(rng.choice(d, 96, replace=False))]
        x = standardise(x)
    if x.shape[1] < 2 or len(x) < 4:
        return 1.0
    measure = _id_structure if kind == "ids" else _real_structure
    values = [measure(x)]
    for _ in range(permutations):
        if deadline is not None and deadline.over():
            break
        values.append(measure(rng.permuted(x, axis=0)))
    return combine(np.array(values))[0]


def _real_structure(x: Single) -> list[float]:
    n = len(x)
    inner = np.abs(x.T @ x) / n
    np.fill_diagonal(inner, 0.0)
    gaps = _squares(x, x)
    np.fill_diagonal(gaps, np.inf)
    return [float((inner**2).sum()), float(inner.max()), -float(np.sqrt(gaps.min(1)).mean())]


def _id_structure(ids: Ints) -> list[float]:
    n, t = ids.shape
    size = int(ids.max()) + 1
    pairs = (ids[:, :-1] * size + ids[:, 1:]) * t + np.arange(t - 1)
    counts = np.unique(pairs, return_counts=True)[1].astype(np.float64)
    ordered = np.sort(ids, axis=1)
    within = float((ordered[:, 1:] == ordered[:, :-1]).sum())
    same = np.zeros((n, n), np.int16)
    for column in ids.T:
        same += column[:, None] == column
    np.fill_diagonal(same, 0)
    return [float((counts**2).sum()), within, float(same.max(1).mean())]


# -------------------------------------------------------------------------------------------------------------- probes


def folds(y: Ints, count: int, rng: np.random.Generator) -> Ints:
    """[n] fold of each row: every class dealt out evenly, starting where the last class stopped, so that folds stay of
    one size however rare the classes are."""
    shuffled = rng.permutation(len(y))
    shuffled = shuffled[np.argsort(y[shuffled], kind="stable")]
    out = np.empty(len(y), np.int64)
    out[shuffled] = np.arange(len(y)) % count
    return out


def _probes(x: Single, y: Ints, seed: int, clock: _Clock) -> Iterator[Probe]:
    """Each probe with its own generator, so that one cut short does not change the next. Boosted trees, which take most of
    the time, are asked only where the others leave more than half of the base rates' loss: what is asked here is whether
    much more can be reached than a network does, not how much exactly."""
    classes = int(y.max()) + 1
    fold = folds(y, FOLDS, np.random.default_rng([seed, 1]))
    work = float(len(y)) * classes
    x = x.astype(np.float64)
    given = {_logistic: _leading(x, max(16, int(6e6 / work))), _nearest: x, _trees: _leading(x, max(32, int(2e6 / work)))}
    share = {"logistic regression": 0.8, "nearest-neighbour classifier": 0.85, "boosted-trees classifier": 0.95}
    explained = False
    for i, (name, fit) in enumerate(zip(share, (_logistic, _nearest, _trees))):
        deadline = clock.share(share[name])
        if fit is _trees:
            if explained:
                continue
            # importing scikit-learn alone takes a second or two
            if classes > min(30, len(y) / 4) or ("sklearn.ensemble" not in sys.modules and clock.budget < 4.0):
                continue
        logs, bases, hits, guesses = [], [], [], []
        for k in range(FOLDS):
            train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            if not len(test) or len(np.unique(y[train])) < 2:
                continue
            if deadline.over():
                break
            counts = np.bincount(y[train], minlength=classes)
            base = (counts + 1.0 / classes) / (len(train) + 1.0)  # a class seen in no training fold costs log n or so
            found = fit(given[fit], y, train, test, base, np.random.default_rng([seed, 2 + i, k]), deadline)
            if found is None:
                break
            mixed = (1.0 - MIXED) * found + MIXED * base
            truth = y[test]
            logs.append(-np.log(mixed[np.arange(len(test)), truth]))
            bases.append(-np.log(base[truth]))
            hits.append(mixed.argmax(1) == truth)
            guesses.append(truth == base.argmax())
        if logs:
            loss, plain = np.concatenate(logs), np.concatenate(bases)
            gain = plain - loss
            explained |= float(loss.mean()) < 0.5 * float(plain.mean())
            yield Probe(
                name=name,
                loss=float(loss.mean()),
                base=float(plain.mean()),
                accuracy=float(np.concatenate(hits).mean()),
                base_accuracy=float(np.concatenate(guesses).mean()),
                gain=float(gain.mean()),
                gain_error=float(gain.std() / math.sqrt(len(gain))),
                rows=len(gain),
            )


def _leading(x: Array, most: int) -> Array:
    """Where the cost would run away, the leading principal components of x [n, d] stand for all of it."""
    return x if x.shape[1] <= most else x @ np.linalg.eigh(x.T @ x)[1][:, : -most - 1 : -1]


def _inner(y: Ints, train: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """A fifth of the training rows set aside for choosing how flexible to be."""
    held = folds(y[train], 5, rng) == 0
    return train[~held], train[held]


def _nats(predicted: Array, base: Array, truth: Ints) -> float:
    mixed = (1.0 - MIXED) * predicted[np.arange(len(truth)), truth] + MIXED * base[truth]
    return float(-np.log(np.maximum(mixed, 1e-300)).mean())


def softmax_regression(
    x: Array, y: Ints, classes: int, penalty: float, start: Array | None = None, deadline: Any = None, steps: int = 60
) -> Array:
    """Coefficients [d + 1, C], the intercepts last, of: mean log-loss (nats) + penalty / 2 * squared norm without the
    intercepts. L-BFGS, stopped after `steps` or at the deadline."""
    n, d = x.shape
    hot = np.zeros((n, classes))
    hot[np.arange(n), y] = 1.0

    def value(flat: Array) -> tuple[float, Array]:
        w = flat.reshape(d + 1, classes)
        logs = log_softmax(x @ w[:-1] + w[-1], axis=1)
        error = (np.exp(logs) - hot) / n
        slope = np.concatenate([x.T @ error + penalty * w[:-1], error.sum(0, keepdims=True)])
        return float(-logs[np.arange(n), y].mean() + 0.5 * penalty * (w[:-1] ** 2).sum()), slope.ravel()

    def look(_: Array) -> None:
        if deadline is not None and deadline.over():
            raise StopIteration

    w = np.zeros((d + 1, classes)) if start is None else start
    done = minimize(value, w.ravel(), jac=True, method="L-BFGS-B", callback=look, options={"maxiter": steps, "gtol": 1e-5})
    return done.x.reshape(d + 1, classes)


def _logistic(
    x: Array, y: Ints, train: Ints, test: Ints, base: Array, rng: np.random.Generator, deadline: _Deadline
) -> Array | None:
    """Softmax regression; the penalty, from "hardly any slope" to "almost free", by a held-out fifth of the training."""
    fit, held = _inner(y, train, rng)
    size = float((x[train] ** 2).sum(1).mean())
    start = np.concatenate([np.zeros((x.shape[1], len(base))), np.log(base)[None]])
    best, chosen, w = _nats(np.broadcast_to(base, (len(held), len(base))), base, y[held]), None, start
    for variance in (0.03, 0.3, 3.0, 30.0, 300.0):  # of the logits under the prior that the penalty stands for
        penalty = size / (len(fit) * variance)
        w = softmax_regression(x[fit], y[fit], len(base), penalty, w, deadline)
        if deadline.over():
            return None
        loss = _nats(np.exp(log_softmax(x[held] @ w[:-1] + w[-1], axis=1)), base, y[held])
        if loss < best:
            best, chosen = loss, (variance, w)
        elif loss > 1.1 * best:
            break
    if chosen is None:
        return np.broadcast_to(base, (len(test), len(base)))
    variance, w = chosen
    w = softmax_regression(x[train], y[train], len(base), size / (len(train) * variance), w, deadline)
    return None if deadline.over() else np.exp(log_softmax(x[test] @ w[:-1] + w[-1], axis=1))


def _nearest(
    x: Array, y: Ints, train: Ints, test: Ints, base: Array, rng: np.random.Generator, deadline: _Deadline
) -> Array | None:
    """Label shares of the k nearest training rows, drawn towards the base rates; k by leaving out one of the training."""
    near = neighbours(x[train], 100)
    gaps = _squares(x[test], x[train])
    votes = np.argsort(gaps, axis=1, kind="stable")[:, : near.shape[1]]
    best, out = _nats(np.broadcast_to(base, (len(train), len(base))), base, y[train]), np.tile(base, (len(test), 1))
    hot = np.eye(len(base))
    for k in (1, 3, 10, 30, 100):
        if k > near.shape[1]:
            break
        own, theirs = (np.zeros((len(rows), len(base))) for rows in (train, test))
        for column in range(k):
            own += hot[y[train][near[:, column]]]
            theirs += hot[y[train][votes[:, column]]]
        # One row's worth of base rates for small k; the more neighbours are asked, the more is drawn.
        drawn = math.sqrt(k)
        loss = _nats((own + drawn * base) / (k + drawn), base, y[train])
        if loss < best:
            best, out = loss, (theirs + drawn * base) / (k + drawn)
    return out


def _trees(
    x: Array, y: Ints, train: Ints, test: Ints, base: Array, rng: np.random.Generator, deadline: _Deadline
) -> Array | None:
    """Small boosted trees, grown while a held-out fifth of the training gains."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    fit, held = _inner(y, train, rng)
    if len(np.unique(y[fit])) < 2:
        return None
    model = HistGradientBoostingClassifier(
        learning_rate=0.15, max_leaf_nodes=8, min_samples_leaf=max(3, len(fit) // 100), l2_regularization=1.0, max_bins=64,
        early_stopping=False, warm_start=True, random_state=int(rng.integers(2**31)),
    )  # fmt: skip

    def spread(predicted: Array) -> Array:
        out = np.zeros((len(predicted), len(base)))
        out[:, model.classes_] = predicted
        return out

    best, out = _nats(np.broadcast_to(base, (len(held), len(base))), base, y[held]), np.tile(base, (len(test), 1))
    for size in (5, 10, 20, 40, 60):
        if deadline.over():
            return None
        model.set_params(max_iter=size)
        model.fit(x[fit], y[fit])
        loss = _nats(spread(model.predict_proba(x[held])), base, y[held])
        if loss < best:
            best, out = loss, spread(model.predict_proba(x[test]))
        elif loss > 1.02 * best:
            break
    return out


# -------------------------------------------------------------------------------------------------------------- offsets

SHIFT_ROWS = 1024  # rows used in the scan
SHIFT_LABELS = 6  # as LABEL_COLUMNS, for the scan: it costs hundreds of shifts for each permutation
CLEARLY = 0.6  # every other shift must stay below this share of the best score


def offsets(
    x: ArrayLike,
    y: ArrayLike,
    *,
    kind: Kind = "real",
    order: ArrayLike | None = None,
    reach: int = 64,
    seed: int = 0,
    batch: ArrayLike | None = None,
) -> Offset:
    """Do the labels belong to the inputs of another row? Scans y[i + k] against x[i] for |k| <= reach.

    Parameters: x [n, d] or ids [n, t] and y [n] int as in `examine`; order [n], when each row was seen (default: as
    given); batch [n] int, the batch of each row: the scan is made inside batches as well.

    Three ways to treat the ends: "open" (rows without a partner are left out), "cyclic" (the whole, while it is short
    enough for that to matter), "batch" (cyclic inside each batch). Of equal inputs only the first is used, and at most
    1,024. The score of a shift is the largest z-score of four statistics (agreement with the labels of three nearest
    neighbours, linear and two kernel regressions), the null is the largest score over all shifts for permuted labels.

    A shift is named only with p <= 0.001 and if every other shift, 0 and the neighbours included, has at most 0.6 of
    its score (scores grow with the square of the dependence). Where labels are sorted or drift, shifts look like their
    neighbours, and where they repeat, like others further on: there no shift can be told from another, and none is
    named. A series whose inputs truly tell the label of an earlier or later row does have a shift, and gets one.
    Raises ValueError as `examine`, and for reach < 1.
    """
    inputs, labels = _pairs(x, y, kind)
    n = len(labels)
    rank = _order(order, n)
    if reach < 1:
        raise ValueError(f"reach must be at least 1, got {reach}")
    group = None
    if batch is not None:
        group = np.asarray(batch)
        if group.shape != (n,):
            raise ValueError(f"batch must have shape [{n}], got {group.shape}")
        group = np.unique(group[rank], return_inverse=True)[1].reshape(-1)
    inputs, labels = inputs[rank], np.unique(labels[rank], return_inverse=True)[1].reshape(-1)
    finite = np.isfinite(inputs).all(1) if kind == "real" else np.ones(n, bool)
    usable = np.flatnonzero(finite)
    usable = usable[first_copies(inputs[usable]) == np.arange(len(usable))][:SHIFT_ROWS]
    reach = min(reach, max((n - 1) // 2, 1))
    shifts = np.arange(-reach, reach + 1)
    if len(usable) < FEWEST_ROWS or len(np.unique(labels)) < 2 or not (inputs[usable] != inputs[usable[:1]]).any():
        zero = np.zeros(len(shifts))
        why = "Too few distinct rows, or too few classes, to look for a shift."
        return Offset(None, "open", 0, 1.0, 0.0, 0.0, 0.0, shifts, zero, len(usable), why)
    rng = np.random.default_rng(seed)
    scan = _Scan(build_features(inputs[usable], kind, rng), labels, usable, shifts, group, rng)
    seen = scan.scores(labels)
    way, place = np.unravel_index(int(seen.argmax()), seen.shape)
    each = seen.max(0)
    peak, best, zero = float(each[place]), int(shifts[place]), float(each[reach])
    others = np.delete(each, place)
    elsewhere = float(others.max())
    clear = best != 0 and elsewhere <= CLEARLY * peak
    larger = done = 0
    while done < PERMUTATIONS:
        # A shift that will not be named needs no third decimal, nor does one that is not significant by far.
        if done >= 99 and (not clear or larger > 2):
            break
        done += 1
        larger += float(scan.scores(rng.permutation(labels)).max()) >= peak - 1e-6
    p = (1 + larger) / (1 + done)
    if clear and p <= 0.001:
        shift: int | None = best
        where = {"open": "", "cyclic": ", cyclically", "batch": " inside each batch"}[scan.ways[way]]
        why = (
            f"The labels are shifted by {best:+d} rows{where}: the label of row i + {best} belongs to the input of row i "
            f"(score {peak:.0f}, without a shift {zero:.1f})."
        ).replace("+ -", "- ")
    else:
        shift = None
        if best == 0:
            why = "No shift fits better than none."
        elif larger == 0 and not clear:
            why = f"The best shift, {best:+d}, cannot be told from others: they fit nearly as well."
        else:
            why = f"No shift stands out from chance (best {best:+d}, p = {p:.2g})."
    return Offset(shift, scan.ways[way], best, p, peak, zero, elsewhere, shifts, each, len(usable), why)


class _Scan:
    """Scores of all shifts for given labels. z-scores by the mean and spread over a few permutations of their own."""

    def __init__(
        self, x: Single, labels: Ints, usable: Ints, shifts: Ints, group: Ints | None, rng: np.random.Generator
    ) -> None:
        total, (n, d), reach = len(labels), x.shape, int(shifts[-1])
        self.usable = usable
        # Where the label at each place of the extended sequence comes from; `total` stands for "nowhere".
        places = np.arange(-reach, total + reach)
        self.sources: dict[Any, Ints] = {"open": np.where((places >= 0) & (places < total), places, total)}
        if total < 10 * reach:  # beyond, what wraps around is too little to see
            self.sources["cyclic"] = places % total
        self.columns = {way: np.arange(len(shifts)) for way in self.sources}
        if group is not None:
            self.sources["batch"], self.columns["batch"] = _inside(usable, shifts, group)
        self.ways: tuple[Any, ...] = tuple(self.sources)
        self.size = len(shifts)
        self.near = neighbours(x, 3)
        self.pairs, self.void, self.count = {}, {}, {}
        for way in self.ways:
            alive = self._windows(way, np.append(np.ones(total, bool), False))
            self.count[way] = np.maximum(alive.sum(0), 1).astype(np.float64)
            both = [alive & alive[column] for column in self.near.T]
            self.pairs[way] = np.maximum(sum(pair.sum(0) for pair in both), 1).astype(np.float64)
            self.void[way] = sum((~alive & ~alive[column]).sum(0) for column in self.near.T)
        table = _label_table(labels, rng, SHIFT_LABELS)
        self.table = np.concatenate([table, np.zeros((1, table.shape[1]), np.float32)])  # last: no partner
        self.power = (self.table**2).sum(1)
        few = x[rng.choice(n, min(n, 512), replace=False)]
        wide = math.sqrt(float(np.median(_squares(few, few)[np.triu_indices(len(few), 1)]))) or 1.0
        narrow = 2.0 * float(np.median(np.linalg.norm(x - x[self.near[:, 0]], axis=1))) or 0.1 * wide
        smoothers = [ridge_smoother(x, 12.0, 16)]
        for width in (wide, max(min(narrow, 0.5 * wide), 0.02 * wide)):
            angles = x @ (rng.standard_normal((d, 128), dtype=np.float32) / np.float32(width))
            waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
            smoothers.append(ridge_smoother(waves - waves.mean(0), 12.0, 16))
        self.product = np.ascontiguousarray(np.concatenate([s.weights for s in smoothers], 1).T, dtype=np.float32)
        self.ends = np.cumsum([0] + [s.weights.shape[1] for s in smoothers])
        self.loads = np.stack([(s.weights**2).sum(1) for s in smoothers]).astype(np.float32)
        counts = np.bincount(labels)
        self.chance = float((counts * (counts - 1.0)).sum() / (len(labels) * (len(labels) - 1.0)))
        own = np.concatenate([np.concatenate(list(self._raw(rng.permutation(labels)).values()), 1) for _ in range(16)], 1)
        spread = own.std(1)
        self.mean, self.spread = own.mean(1)[:, None], np.where(spread > 0.0, spread, np.inf)[:, None]

    def scores(self, labels: Ints) -> Array:
        """[ways, shifts]; -inf where a way does not have that shift."""
        out = np.full((len(self.ways), self.size), -np.inf)
        for i, (way, raw) in enumerate(self._raw(labels).items()):
            out[i, self.columns[way]] = ((raw - self.mean) / self.spread).max(0)
        return out

    def _windows(self, way: Any, values: NDArray[Any]) -> NDArray[Any]:
        """[rows, shifts] (or [rows, shifts * q]) the values [total + 1] (or [total + 1, q]) of each row's partners."""
        moved = values[self.sources[way]]
        if way == "batch":
            return moved.reshape(len(moved), -1)
        # Consecutive shifts lie side by side in the extended sequence, so a row of the result is one slice of it.
        q = 1 if values.ndim == 1 else values.shape[1]
        flat = np.ascontiguousarray(moved).reshape(-1)
        return np.lib.stride_tricks.sliding_window_view(flat, self.size * q)[self.usable * q]

    def _raw(self, labels: Ints) -> dict[Any, Array]:
        """[4, shifts] for each way."""
        small = np.append(labels, len(self.table) - 1).astype(np.uint8 if len(self.table) < 256 else np.int32)
        coded, power = self.table[small], self.power[small]
        out = {}
        for way in self.ways:
            rows = self._windows(way, small)
            agree = sum(np.count_nonzero(rows == rows[column], axis=0) for column in self.near.T) - self.void[way]
            raw = np.empty((4, rows.shape[1]))
            raw[0] = (agree - self.chance * self.pairs[way]) / np.sqrt(self.pairs[way])
            sums = (self.product @ self._windows(way, coded)).reshape(len(self.product), rows.shape[1], -1)
            # y'Hy without its diagonal, which the labels do not share with anybody
            own = self.loads @ self._windows(way, power)
            for k, (a, b) in enumerate(zip(self.ends[:-1], self.ends[1:])):
                raw[1 + k] = ((sums[a:b] ** 2).sum((0, 2)) - own[k]) * (len(rows) / self.count[way])
            out[way] = raw
        return out


def _inside(usable: Ints, shifts: Ints, group: Ints) -> tuple[Ints, Ints]:
    """Shifts that are cyclic inside each batch: [rows, s] the partner of each row, [s] which of the shifts these are.

    k and k minus the batch size are one shift: the shorter one names it."""
    by = np.argsort(group, kind="stable")  # rows batch by batch, in the order seen
    size = np.bincount(group)
    begin = np.cumsum(size) - size
    place = np.empty(len(group), np.int64)
    place[by] = np.arange(len(group))
    own = group[usable]
    common = int(np.bincount(size).argmax())
    columns = np.flatnonzero((2 * np.abs(shifts) <= common) & (2 * shifts != -common))
    at = (place[usable] - begin[own])[:, None] + shifts[columns]
    return by[begin[own][:, None] + at % size[own][:, None]], columns


# ------------------------------------------------------------------------------------------------------ sorted batches


def sorted_by_class(y: ArrayLike, batch: ArrayLike, *, seed: int = 0) -> SortedTest:
    """Are batches purer than shuffling would make them? y [n] int labels in the order seen, batch [n] int.

    The statistic is the number of pairs within batches that share a label; its null are 999 permutations of the labels
    over the batches (the multivariate hypergeometric law of the counts). One-sided: samplers that put every class into
    every batch are more even than chance, give a p-value near 1, and are not what is looked for. Raises ValueError for
    shapes that do not fit.

    Expected number of classes in a batch of size m: sum over c of 1 - C(n - n_c, m) / C(n, m); expected number of runs:
    1 + n - sum n_c^2 / n.
    """
    labels = _labels(y)
    n = len(labels)
    group = np.asarray(batch)
    if group.shape != (n,):
        raise ValueError(f"batch must have shape [{n}], got {group.shape}")
    if not n:
        return SortedTest(1.0, 0.0, 0.0, 0.0, 0.0, 0, 0.0, 0, 0)
    labels = np.unique(labels, return_inverse=True)[1].reshape(-1)
    group = np.unique(group, return_inverse=True)[1].reshape(-1)
    counts, sizes = np.bincount(labels), np.bincount(group)
    classes, batches = len(counts), len(sizes)

    def tally(values: Ints) -> Ints:
        """Counts of the (batch, class) cells that are occupied; there are at most n of them, whatever the classes."""
        if batches * classes <= 4 * n:
            return np.bincount(group * classes + values, minlength=batches * classes)
        return np.unique(group * classes + values, return_counts=True)[1]

    cells = tally(labels)
    seen = int((cells * (cells - 1)).sum())
    rng = np.random.default_rng(seed)
    larger, done = 0, 0
    while done < PERMUTATIONS:
        moved = tally(rng.permutation(labels))
        larger += int((moved * (moved - 1)).sum()) >= seen
        done += 1
        if larger >= 50:  # far from significant: the estimate is good enough
            break
    pairs = float((sizes * (sizes - 1)).sum())
    kinds, repeats = np.unique(sizes, return_counts=True)
    expected = 0.0
    for size, times in zip(kinds, repeats):
        rest = (n - counts).astype(np.float64)
        with np.errstate(invalid="ignore"):
            none = np.where(
                rest >= size,
                np.exp(
                    gammaln(rest + 1.0) - gammaln(np.maximum(rest - size, 0.0) + 1.0) - gammaln(n + 1.0) + gammaln(n - size + 1.0)
                ),
                0.0,
            )
        expected += float(times) * float((1.0 - none).sum())
    return SortedTest(
        p_value=(1 + larger) / (1 + done),
        agreement=seen / pairs if pairs else 0.0,
        expected_agreement=float((counts * (counts - 1)).sum() / (n * (n - 1.0))) if n > 1 else 0.0,
        distinct=float((cells > 0).sum() / batches),
        expected_distinct=expected / batches,
        runs=1 + int((np.diff(labels) != 0).sum()),
        expected_runs=1.0 + n - float((counts.astype(np.float64) ** 2).sum()) / n,
        batches=batches,
        n=n,
    )
