"""Numbers that enter a loss -> loss, chance level, base-rate level and accuracy of that very call, and label statistics.

All from tensors that the loss saved for its own backward. Arithmetic happens in numpy on the CPU: for the usual batch of
64 x 10 it costs a third of what torch's dispatcher does. Large outputs are subsampled by rows (accuracy only; labels are
always counted in full).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from unstuck.observe.arrays import seen_targets
from unstuck.trace.facts import LabelStats, LossTerm, TermValues

MAX_ELEMENTS = 1 << 17  # of a log-probability block that is looked at in one step
MAX_CLASSES = 4096  # class counts are kept up to here
WINDOW = 128  # calls per window of recall and predicted shares
NAN = float("nan")


class Level(NamedTuple):
    """One call of a loss, in nats per kept row (or element), reduced by the mean."""

    loss: float
    chance: float
    base: float
    accuracy: float


UNKNOWN = Level(NAN, NAN, NAN, NAN)


def numpy_of(tensor: Any) -> np.ndarray:
    """A view where possible; half precision is widened."""
    tensor = tensor.detach()
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.float()
    array: np.ndarray = tensor.cpu().numpy()
    return array


def rows_of(tensor: Any, axis: int = 1) -> np.ndarray:
    """[N, C, d1..] -> [n, C], at most MAX_ELEMENTS numbers, from the first samples."""
    if tensor.dim() == 1:
        return numpy_of(tensor)[None, :]
    classes = tensor.shape[axis]
    if tensor.dim() > 2 and tensor.numel() > MAX_ELEMENTS:
        per_sample = max(1, tensor.numel() // max(1, tensor.shape[0]))
        tensor = tensor[: max(1, MAX_ELEMENTS // per_sample)]
    array = numpy_of(tensor)
    if tensor.dim() > 2:
        array = np.moveaxis(array, axis, -1).reshape(-1, classes)
    return array[: max(1, MAX_ELEMENTS // max(1, classes))]


class Labels:
    """Running label statistics and base rates of one loss term; writes into term.labels."""

    def __init__(self, term: LossTerm) -> None:
        self.term = term
        self.stats: LabelStats = term.labels
        self.counts = np.zeros(0)
        self._cost = np.zeros(0)
        self._cost_age = 1 << 30
        self._mean_cost = 0.0
        self._weight: np.ndarray | None = None
        self._recent = [np.zeros((3, 0)), np.zeros((3, 0))]
        self._recent_calls = 0
        self._ones = np.zeros(0)
        self._of_ones = 0.0
        self._sum = self._squares = self._n = 0.0
        self.last: np.ndarray | None = None  # class labels of the latest call, one for each row; None where there are none

    # ---------------------------------------------------------------- class indices

    def index(self, log_probs: Any, targets: Any, total: float | None, seen: Any = None) -> Level:
        """Index targets against log-probabilities [N, C, d1..]. `total`: the loss where the root is exactly this term. `seen`: the
        telemetry of a loss of ours; then only the shape of log_probs is looked at."""
        term, stats = self.term, self.stats
        classes = int(log_probs.shape[1]) if log_probs.dim() > 1 else int(log_probs.shape[0])
        y = numpy_of(targets).reshape(-1)
        stats.calls += 1
        stats.rows += y.size
        self.last = y
        if term.ignore_index is not None:
            keep = y != term.ignore_index
            kept = y if keep.all() else y[keep]
        else:
            kept = y
        stats.kept += kept.size
        if not kept.size:
            stats.all_ignored_calls += 1
            return Level(total if total is not None else NAN, NAN, NAN, NAN)
        if len(self.counts) != classes:
            self._resize(classes)
        low, high = int(kept.min()), int(kept.max())
        stats.lowest = low if stats.lowest is None else min(stats.lowest, low)
        stats.highest = high if stats.highest is None else max(stats.highest, high)
        if low < 0 or high >= classes:
            wrong = kept[(kept < 0) | (kept >= classes)]
            stats.outside += wrong.size
            stats.outside_example = float(wrong[0])
            return UNKNOWN
        batch = np.bincount(kept, minlength=classes)
        chance, base = self._levels(batch, classes)
        self.counts += batch
        if seen is not None:
            return Level(total if total is not None else NAN, chance, base, self._answers(numpy_of(seen.predicted), y, classes)[0])
        accuracy, nll = self._hits(log_probs, y, classes, need_loss=total is None)
        return Level(total if total is not None else nll, chance, base, accuracy)

    def _levels(self, batch: np.ndarray, classes: int) -> tuple[float, float]:
        """Uniform and base-rate predictor on this batch. Costs are per class, so a batch is one dot product.

        Base rates are those of *earlier* steps only (Krichevsky-Trofimov: half a count per class); under class weights
        w the best constant predictor is q ~ pi w, with smoothing eps it is (1-eps) q + eps/K.
        """
        self._cost_age += 1
        if self._cost_age > (0 if classes <= 1024 else 16):
            weighted = (self.counts + 0.5) * (self._weight if self._weight is not None else 1.0)
            q = weighted / weighted.sum()
            eps = self.term.label_smoothing
            if eps:
                q = (1 - eps) * q + eps / classes
            self._cost = -np.log(np.maximum(q, 1e-300))
            w = self._weight if self._weight is not None else 1.0
            self._mean_cost = float((w * self._cost).mean()) if eps else 0.0
            self._cost_age = 0
        eps = self.term.label_smoothing
        log_k = math.log(classes)
        if self._weight is None:
            n = float(batch.sum())
            base = float(batch @ self._cost) / n
            return log_k, (1 - eps) * base + eps * self._mean_cost if eps else base
        total = float(batch @ self._weight)
        if total <= 0:
            return NAN, NAN
        base = float(batch @ (self._weight * self._cost)) / total
        if not eps:
            return log_k, base
        # torch divides the smoothing part by the sum of the target weights, too (shared closed form).
        n = float(batch.sum())
        smooth = eps * n / total
        return (1 - eps) * log_k + smooth * float(self._weight.mean()) * log_k, (1 - eps) * base + smooth * self._mean_cost

    def _hits(self, log_probs: Any, y: np.ndarray, classes: int, need_loss: bool) -> tuple[float, float]:
        rows = rows_of(log_probs)
        accuracy, label, keep = self._answers(rows.argmax(1), y[: len(rows)], classes)
        rows = rows[keep]
        nll = NAN
        if need_loss and len(label):
            picked = -rows[np.arange(len(label)), label].astype(np.float64)
            w = self._weight[label] if self._weight is not None else np.ones(len(label))
            eps = self.term.label_smoothing
            nll = float((w * picked).sum() / w.sum()) if w.sum() > 0 else NAN
            if eps:
                wide = -rows.astype(np.float64) * (self._weight if self._weight is not None else 1.0)
                nll = (1 - eps) * nll + eps / classes * float(wide.sum() / w.sum())
        return accuracy, nll

    def _answers(self, guess: np.ndarray, label: np.ndarray, classes: int) -> tuple[float, np.ndarray, Any]:
        """(accuracy, the labels that count, which rows they are); the answers go into the window of recall and shares."""
        keep: Any = slice(None)
        if self.term.ignore_index is not None:
            mask = (label != self.term.ignore_index) & (label >= 0) & (label < classes)
            if not mask.all():
                keep, guess, label = mask, guess[mask], label[mask]
        if not len(label):
            return NAN, label, keep
        right = guess == label
        if classes <= MAX_CLASSES:
            recent = self._recent[0]
            recent[0] += np.bincount(label[right], minlength=classes)
            recent[1] += np.bincount(label, minlength=classes)
            recent[2] += np.bincount(guess, minlength=classes)
            self._recent_calls += 1
            if self._recent_calls >= WINDOW:
                self._recent = [np.zeros_like(recent), recent]
                self._recent_calls = 0
        return float(right.mean()), label, keep

    def _resize(self, classes: int) -> None:
        self.counts = np.zeros(classes)
        self._recent = [np.zeros((3, classes)), np.zeros((3, classes))]
        self._recent_calls = 0
        self._cost_age = 1 << 30
        if self.term.weight is not None and len(self.term.weight) == classes:
            self._weight = np.asarray(self.term.weight)

    # ---------------------------------------------------------------- probabilities per class

    def soft(self, log_probs: Any, targets: Any, total: float | None) -> Level:
        """Probability targets of the same shape as the log-probabilities: l = -sum_c q_c lp_c."""
        stats = self.stats
        q = rows_of(targets).astype(np.float64)
        lp = rows_of(log_probs)
        stats.calls += 1
        stats.rows += len(q)
        stats.kept += len(q)
        classes = q.shape[1]
        if len(self.counts) != classes:
            self._resize(classes)
        if not stats.kind:
            stats.kind = "one-hot" if bool(((q == 0) | (q == 1)).all() and (q.sum(1) == 1).all()) else "probability"
        mass = q.sum(0)
        prior = (self.counts + 0.5) / (self.counts + 0.5).sum()
        n = max(len(q), 1)
        chance = math.log(classes) * float(mass.sum()) / n
        base = float(mass @ -np.log(prior)) / n
        self.counts += mass
        guess, label = lp.argmax(1), q.argmax(1)
        if stats.kind == "one-hot":
            self.last = label
        with np.errstate(invalid="ignore"):
            own = float(-(q * np.where(q > 0, lp, 0.0)).sum() / n)
        return Level(total if total is not None else own, chance, base, float((guess == label).mean()))

    # ---------------------------------------------------------------- binary, one or many columns

    def binary(self, values: Any, targets: Any, total: float | None, *, logits: bool) -> Level:
        """BCE of [N], [N,1] or [N,C] values. Base rate per column; chance is p = 1/2."""
        stats, term = self.stats, self.term
        t = numpy_of(targets)
        v = numpy_of(values)
        if t.shape != v.shape:
            return Level(total if total is not None else NAN, NAN, NAN, NAN)
        if t.size > MAX_ELEMENTS:
            keep = max(1, MAX_ELEMENTS // max(1, t[0].size))
            t, v = t[:keep], v[:keep]
        t2 = t.reshape(len(t), -1).astype(np.float64) if t.ndim else t.reshape(1, 1).astype(np.float64)
        v2 = v.reshape(t2.shape)
        stats.calls += 1
        stats.rows += len(t2)
        stats.kept += len(t2)
        self._real_targets(t2)
        columns = t2.shape[1]
        if len(self._ones) != columns:
            self._ones, self._of_ones = np.zeros(columns), 0.0
        pi = (self._ones + 0.5) / (self._of_ones + 1)
        c = np.asarray(term.pos_weight) if term.pos_weight and len(term.pos_weight) in (1, columns) else None
        ones = t2.mean(0)
        if c is None:
            chance = math.log(2)
            base = float((-(ones * np.log(pi) + (1 - ones) * np.log1p(-pi))).mean())
        else:
            q = c * pi / (c * pi + 1 - pi)
            chance = float((math.log(2) * (c * ones + 1 - ones)).mean())
            base = float((-(c * ones * np.log(q) + (1 - ones) * np.log1p(-q))).mean())
        self._ones = self._ones + t2.sum(0)
        self._of_ones += len(t2)
        positive = v2 > (0 if logits else 0.5)
        truth = t2 > 0.5
        if columns == 1 and stats.kind == "binary":
            self.last = truth[:, 0].astype(np.int64)
        accuracy = float((positive == truth).mean())
        if columns == 1 and (stats.kind in {"binary", ""}):
            self._binary_recent(positive[:, 0], truth[:, 0])
        if term.sample_weighted and total is None:
            return Level(NAN, NAN, NAN, accuracy)
        if total is None:
            total = _bce(v2.astype(np.float64), t2, c, logits)
        return Level(total, chance, base, accuracy)

    def _binary_recent(self, positive: np.ndarray, truth: np.ndarray) -> None:
        if self._recent[0].shape[1] != 2:
            self._recent = [np.zeros((3, 2)), np.zeros((3, 2))]
            self._recent_calls = 0
        recent = self._recent[0]
        right = positive == truth
        recent[0] += np.bincount(truth[right].astype(int), minlength=2)
        recent[1] += np.bincount(truth.astype(int), minlength=2)
        recent[2] += np.bincount(positive.astype(int), minlength=2)
        self._recent_calls += 1
        if self._recent_calls >= WINDOW:
            self._recent = [np.zeros_like(recent), recent]
            self._recent_calls = 0

    # ---------------------------------------------------------------- squared and absolute error

    def regression(self, values: Any, targets: Any, total: float | None, power: int) -> Level:
        """MSE or L1. Chance is known for one-hot rows (softmax 1/K) and single 0/1 columns (1/2), otherwise not."""
        stats = self.stats
        t = numpy_of(targets).astype(np.float64)
        stats.calls += 1
        stats.rows += len(t) if t.ndim else 1
        stats.kept += len(t) if t.ndim else 1
        if t.size > MAX_ELEMENTS:
            t = t[: max(1, MAX_ELEMENTS // max(1, t[0].size))]
        t2 = t.reshape(len(t), -1) if t.ndim else t.reshape(1, 1)
        self._real_targets(t2)
        base = NAN
        if self._n:
            mean = self._sum / self._n
            base = float((np.abs(t2 - mean) ** power).mean())
        if np.ndim(self._sum) == 0 or np.shape(self._sum) == (t2.shape[1],):
            self._sum = self._sum + t2.sum(0)
            self._n += len(t2)
        chance = NAN
        accuracy = NAN
        k = t2.shape[1]
        if stats.kind == "one-hot":
            self.last = t2.argmax(1)
            p = 1.0 / k
            chance = float((np.abs(t2 - p) ** power).mean())
            guess = numpy_of(values).reshape(-1, k)[: len(t2)]
            if guess.shape == t2.shape:
                accuracy = float((guess.argmax(1) == t2.argmax(1)).mean())
        elif stats.kind == "binary" and k == 1:
            chance = 0.5**power
            self.last = t2[:, 0].astype(np.int64)
            guess = numpy_of(values).reshape(-1)[: len(t2)]
            accuracy = float(((guess > 0.5) == (t2[:, 0] > 0.5)).mean()) if len(guess) == len(t2) else NAN
        elif stats.kind == "integer" and k == 1 and not stats.many_distinct:
            # Class numbers as a quantity: the answer is the nearest one.
            self.last = t2[:, 0].astype(np.int64)
            guess = numpy_of(values).reshape(-1)[: len(t2)]
            accuracy = float((np.rint(guess) == t2[:, 0]).mean()) if len(guess) == len(t2) else NAN
        return Level(total if total is not None else NAN, chance, base, accuracy)

    def _real_targets(self, t: np.ndarray) -> None:
        """Kind, range and distinct values of real-valued targets [n, columns]; the kind can only become more general."""
        stats = self.stats
        if not t.size:
            return
        seen_targets(stats, t)
        if stats.kind == "binary" and t.shape[1] == 1:
            if len(self.counts) != 2:
                self.counts = np.zeros(2)
            self.counts += np.array([(t == 0).sum(), (t == 1).sum()])
        elif stats.kind == "one-hot":
            if len(self.counts) != t.shape[1]:
                self.counts = np.zeros(t.shape[1])
            self.counts += t.sum(0)

    def publish(self) -> None:
        """Write what is kept as arrays into the term's facts."""
        stats = self.stats
        if 0 < len(self.counts) <= MAX_CLASSES:
            stats.counts = self.counts.tolist()
        both = self._recent[0] + self._recent[1] if self._recent[0].shape == self._recent[1].shape else self._recent[0]
        if both.shape[1]:
            stats.hits, stats.seen, stats.predicted = (row.tolist() for row in both)


def _bce(v: np.ndarray, t: np.ndarray, c: np.ndarray | None, logits: bool) -> float:
    weight = c if c is not None else 1.0
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        if logits:
            # -log sigmoid(v) = log(1 + e^-v), stable through logaddexp
            per = weight * t * np.logaddexp(0, -v) + (1 - t) * np.logaddexp(0, v)
        else:
            per = -(weight * t * np.maximum(np.log(v), -100) + (1 - t) * np.maximum(np.log1p(-v), -100))
    return float(per.mean())


def look_at_values(values: TermValues, tensor: Any, axis: int | None) -> None:
    """Update TermValues with one sampled loss input of shape [N, C, d1..] or [N]."""
    if not tensor.numel():
        return
    one_column = axis is None or tensor.dim() < 2
    rows = numpy_of(tensor).reshape(-1, 1)[:MAX_ELEMENTS] if one_column else rows_of(tensor, axis or 1)
    values.calls += 1
    values.rows = len(rows) if values.calls == 1 else min(values.rows, len(rows))
    if not np.isfinite(rows).all():
        finite = rows[np.isfinite(rows)]
        # -inf is a legal masked logit; NaN and +inf are not
        if np.isnan(rows).any() or np.isposinf(rows).any():
            values.nonfinite += 1
            return
        if not finite.size:
            return
        low, high = float(finite.min()), float(finite.max())
    else:
        low, high = float(rows.min()), float(rows.max())
        wide = float((rows.max(1) - rows.min(1)).max())
        values.widest_row = wide if values.widest_row is None else max(values.widest_row, wide)
        spread = float(rows.std(0).max()) if len(rows) > 1 else 0.0
        values.spread = spread if values.spread is None else max(values.spread, spread)
    values.lowest = low if values.lowest is None else min(values.lowest, low)
    values.highest = high if values.highest is None else max(values.highest, high)
    # Row sums of k float32 numbers carry a rounding error of about k ulp, but the numbers may have been through bfloat16
    # (autocast) on the way. That all of many rows of logits are non-negative and sum to 1 within 1 % does not happen.
    tolerance = 1e-2 if len(rows) >= 8 else 1e-4
    columns = rows.shape[1]
    if low >= 0 and high <= 1 + tolerance:
        values.unit_interval += 1
        values.strictly_inside += low > 0 and high < 1
        if columns > 1 and bool(np.allclose(rows.sum(1), 1, atol=tolerance)):
            values.simplex_rows += 1
        elif (len(rows) > 1 and tensor.dim() == 2 and bool(np.allclose(rows.sum(0), 1, atol=tolerance))) or (
            tensor.dim() == 1 and len(rows) > 1 and abs(float(rows.sum()) - 1) < tolerance
        ):
            values.simplex_columns += 1
    with np.errstate(over="ignore", invalid="ignore"):
        if columns > 1 and high <= tolerance and bool(np.allclose(np.exp(rows).sum(1), 1, atol=1e-2)):
            values.log_probabilities += 1
