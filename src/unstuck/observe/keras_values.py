"""Labels, loss levels, activations, weights and inputs of a Keras training, from numpy arrays.

Levels follow Keras' normalisation: with sample weights w (class_weight becomes one) the loss of a batch is
sum_i w_i l_i / B, and the uniform predictor scores ln K * mean(w) on it; with reduction "mean_with_sample_weight" both are
divided by mean(w). The best constant answer under weights is the weighted frequency of the classes.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unstuck.observe.arrays import seen_targets, summarise, write_pairs
from unstuck.observe.torch_values import MAX_CLASSES, MAX_ELEMENTS
from unstuck.trace.facts import Facts, Inputs, LabelStats, LayerLook, LossTerm, Parameter, ParameterLook, Site, TermValues

NAN = float("nan")
MAX_ROWS, MAX_COLUMNS, MAX_IDS, MAX_CALLS, MAX_BYTES = 4096, 1024, 64, 512, 16_000_000
MAX_NUMBERS = 1 << 18  # of an activation or a weight that is looked at
_SMALL_DERIVATIVE = 0.05
WINDOW = 4  # looks at the answers that make up the recent ones: between one and two windows of them
WINDOW_OF_ALL = 25  # the same, where every step is looked at
CATEGORICAL = frozenset({"cross-entropy", "soft-cross-entropy", "nll", "probability-cross-entropy"})
BINARY = frozenset({"bce", "bce-logits"})


class Level(NamedTuple):
    """Nats per row: the uniform predictor and the base rates of earlier steps on the targets of one call."""

    chance: float
    base: float


class Labels:
    """Running label statistics and base rates of one loss term; writes into term.labels."""

    def __init__(self, term: LossTerm, window: int = WINDOW) -> None:
        self.term = term
        self.window = window
        self.stats: LabelStats = term.labels
        self.counts = np.zeros(0)  # rows per class, unweighted
        self.mass = np.zeros(0)  # the same, weighted: what base rates are made of
        self.recent = [np.zeros((3, 0)), np.zeros((3, 0))]
        self.recent_calls = 0
        self.sum: Any = 0.0
        self.n = 0.0
        self.classes = 0

    # ------------------------------------------------------------------ every step

    def arrived(self, y: np.ndarray, weight: np.ndarray | None, classes: int) -> tuple[Level, np.ndarray | None]:
        """The targets of one call, and their weights: levels, and one class label per row where there is one."""
        stats = self.stats
        stats.calls += 1
        sparse = self.term.raw.startswith("sparse")
        if sparse or (self.term.kind in CATEGORICAL and (y.ndim < 2 or y.shape[-1] == 1) and classes > 1):
            return self._index(y, weight, classes)
        y = y.astype(np.float64)
        y = y.reshape(-1, 1) if y.ndim < 2 else y.reshape(-1, y.shape[-1])
        w = self._weights(weight, len(y))
        stats.rows += len(y)
        stats.kept += len(y)
        self._real(y)
        self.classes = y.shape[1]
        if self.term.kind in CATEGORICAL:
            return self._soft(y, w)
        if self.term.kind in BINARY:
            return self._binary(y, w)
        return self._other(y, w)

    def _weights(self, weight: np.ndarray | None, rows: int) -> np.ndarray | None:
        """One weight per row, divided as the loss is."""
        if weight is None:
            return None
        w = np.asarray(weight, np.float64).reshape(-1)
        if len(w) != rows and len(w) and rows % len(w) == 0:
            w = np.repeat(w, rows // len(w))  # one weight per sample, many positions
        if len(w) != rows:
            return None
        self.term.sample_weighted = self.term.sample_weighted or bool((w != 1).any())
        if self.term.reduction == "mean_with_sample_weight" and w.mean() > 0:
            w = w / w.mean()
        return w

    def _resize(self, classes: int) -> None:
        self.classes = classes
        self.counts, self.mass = np.zeros(classes), np.zeros(classes)
        self.recent = [np.zeros((3, classes)), np.zeros((3, classes))]

    def _index(self, y: np.ndarray, weight: np.ndarray | None, classes: int) -> tuple[Level, np.ndarray | None]:
        stats = self.stats
        y = y.reshape(-1)
        labels = y.astype(np.int64)
        stats.kind = "index"
        stats.rows += len(labels)
        keep = labels != self.term.ignore_index if self.term.ignore_index is not None else np.ones(len(labels), bool)
        kept = labels[keep]
        stats.kept += len(kept)
        w = self._weights(weight, len(labels))
        w = w[keep] if w is not None else None
        if not len(kept):
            stats.all_ignored_calls += 1
            return Level(NAN, NAN), labels
        if len(self.counts) != classes:
            self._resize(classes)
        low, high = float(kept.min()), float(kept.max())
        stats.lowest = low if stats.lowest is None else min(stats.lowest, low)
        stats.highest = high if stats.highest is None else max(stats.highest, high)
        if classes < 1:
            return Level(NAN, NAN), labels  # how many outputs there are is not known yet
        wrong = (kept < 0) | (kept >= classes)
        if wrong.any():
            stats.outside += int(wrong.sum())
            stats.outside_example = float(kept[wrong][0])
            stats.distinct = sorted({*stats.distinct, *np.unique(kept)[:40].astype(float).tolist()})[:33]
            stats.many_distinct = len(stats.distinct) > 32
            return Level(NAN, NAN), labels
        cost = self._cost(classes)
        uniform = math.log(classes)
        scale = w if w is not None else np.ones(len(kept))
        level = Level(float(scale.mean()) * uniform, float((scale * cost[kept]).mean()))
        self.counts += np.bincount(kept, minlength=classes)
        self.mass += np.bincount(kept, scale, minlength=classes)
        return level, labels

    def _cost(self, classes: int) -> np.ndarray:
        """-ln q of the base rates so far (half a count per class), smoothed as the targets are; with the smoothed part."""
        q = (self.mass + 0.5) / (self.mass + 0.5).sum()
        eps = self.term.label_smoothing
        q = (1 - eps) * q + eps / classes
        cost = -np.log(q)
        return (1 - eps) * cost + eps * cost.mean()

    def _soft(self, y: np.ndarray, w: np.ndarray | None) -> tuple[Level, np.ndarray | None]:
        classes = y.shape[1]
        if len(self.counts) != classes:
            self._resize(classes)
        scale = w if w is not None else np.ones(len(y))
        total = y.sum(1)
        level = Level(float((scale * total).mean()) * math.log(classes), float((scale * (y @ self._cost(classes))).mean()))
        self.counts += y.sum(0)
        self.mass += scale @ y
        return level, y.argmax(1) if self.stats.kind == "one-hot" else None

    def _binary(self, y: np.ndarray, w: np.ndarray | None) -> tuple[Level, np.ndarray | None]:
        columns = y.shape[1]
        if len(self.mass) != 2 * columns:
            self.mass = np.zeros(2 * columns)
        scale = w if w is not None else np.ones(len(y))
        eps = self.term.label_smoothing
        smooth = y * (1 - eps) + 0.5 * eps
        ones, zeros = self.mass[:columns] + 0.5, self.mass[columns:] + 0.5
        p = np.clip(ones / (ones + zeros), 1e-12, 1 - 1e-12)
        base = -(smooth * np.log(p) + (1 - smooth) * np.log1p(-p)).mean(1)
        level = Level(float(scale.mean()) * math.log(2), float((scale * base).mean()))
        self.mass[:columns] += scale @ smooth
        self.mass[columns:] += scale @ (1 - smooth)
        if columns == 1 and self.stats.kind == "binary":
            if len(self.counts) != 2:
                self.counts = np.zeros(2)
                self.recent = [np.zeros((3, 2)), np.zeros((3, 2))]
            self.counts += np.array([(y == 0).sum(), (y == 1).sum()])
            return level, y[:, 0].astype(np.int64)
        if self.stats.kind == "one-hot":
            if len(self.counts) != columns:
                self.counts = np.zeros(columns)
            self.counts += y.sum(0)
            return level, y.argmax(1)
        return level, y[:, 0].astype(np.int64) if columns == 1 and self.stats.kind == "integer" else None

    def _other(self, y: np.ndarray, w: np.ndarray | None) -> tuple[Level, np.ndarray | None]:
        """Squares and absolute values: chance is known for one-hot rows (1/K) and single 0/1 columns (1/2)."""
        power = {"mse": 2, "l1": 1}.get(self.term.kind)
        chance = base = NAN
        k = y.shape[1]
        if power:
            if self.n and np.shape(self.sum) == (k,):
                base = float((np.abs(y - self.sum / self.n) ** power).mean())
            self.sum = self.sum + y.sum(0) if np.shape(self.sum) == (k,) else y.sum(0)
            self.n += len(y)
            if self.stats.kind == "one-hot":
                chance = float((np.abs(y - 1 / k) ** power).mean())
            elif self.stats.kind == "binary" and k == 1:
                chance = 0.5**power
        if self.stats.kind == "one-hot":
            if len(self.counts) != k:
                self._resize(k)
            self.counts += y.sum(0)
            return Level(chance, base), y.argmax(1)
        if self.stats.kind == "binary" and k == 1:
            if len(self.counts) != 2:
                self._resize(2)
            self.counts += np.array([(y == 0).sum(), (y == 1).sum()])
        return Level(chance, base), y[:, 0].astype(np.int64) if k == 1 and self.stats.kind in {"binary", "integer"} else None

    def _real(self, t: np.ndarray) -> None:
        stats = self.stats
        if not t.size:
            return
        seen_targets(stats, t)

    # ------------------------------------------------------------------ looked-at steps

    def answered(self, labels: np.ndarray | None, outputs: np.ndarray) -> float:
        """Accuracy of the outputs [rows, columns] on class labels, as Keras' "accuracy" has it; NaN without labels."""
        if labels is None or outputs.ndim < 1 or not len(labels):
            return NAN
        v = outputs.reshape(-1, outputs.shape[-1]) if outputs.ndim > 1 else outputs.reshape(-1, 1)
        n = min(len(v), len(labels))
        v, y = v[:n], labels[:n]
        if self.term.ignore_index is not None and self.term.kind in CATEGORICAL:
            v, y = v[y != self.term.ignore_index], y[y != self.term.ignore_index]
        if not len(y):
            return NAN
        if v.shape[1] == 1:
            guess = (v[:, 0] > (0.0 if self.term.kind == "bce-logits" else 0.5)).astype(np.int64)
            classes = 2
        else:
            guess, classes = v.argmax(1), v.shape[1]
        right = guess == y
        inside = (y >= 0) & (y < classes)
        if classes <= MAX_CLASSES:
            if self.recent[0].shape[1] != classes:
                self.recent = [np.zeros((3, classes)), np.zeros((3, classes))]
            now = self.recent[0]
            now[0] += np.bincount(y[right & inside], minlength=classes)
            now[1] += np.bincount(y[inside], minlength=classes)
            now[2] += np.bincount(guess, minlength=classes)
            self.recent_calls += 1
            if self.recent_calls >= self.window:
                self.recent, self.recent_calls = [np.zeros_like(now), now], 0
        return float(right.mean())

    def publish(self) -> None:
        """Write what is kept as arrays into the term's facts."""
        if 0 < len(self.counts) <= MAX_CLASSES:
            self.stats.counts = self.counts.tolist()
        both = self.recent[0] + self.recent[1] if self.recent[0].shape == self.recent[1].shape else self.recent[0]
        if both.shape[1]:
            self.stats.hits, self.stats.seen, self.stats.predicted = (row.tolist() for row in both)


def look_at_values(values: TermValues, outputs: np.ndarray) -> None:
    """Update TermValues with one loss input [rows.., columns]."""
    rows = outputs.reshape(-1, outputs.shape[-1]) if outputs.ndim > 1 else outputs.reshape(-1, 1)
    rows = rows[: max(1, MAX_ELEMENTS // max(1, rows.shape[1]))].astype(np.float32)
    if not rows.size:
        return
    values.calls += 1
    values.rows = len(rows) if values.calls == 1 else min(values.rows, len(rows))
    if np.isnan(rows).any() or np.isposinf(rows).any():
        values.nonfinite += 1
        return
    low, high = float(rows.min()), float(rows.max())
    wide = float((rows.max(1) - rows.min(1)).max())
    values.widest_row = wide if values.widest_row is None else max(values.widest_row, wide)
    spread = float(rows.std(0).max()) if len(rows) > 1 else 0.0
    values.spread = spread if values.spread is None else max(values.spread, spread)
    values.lowest = low if values.lowest is None else min(values.lowest, low)
    values.highest = high if values.highest is None else max(values.highest, high)
    tolerance = 1e-2 if len(rows) >= 8 else 1e-4
    if low >= 0 and high <= 1 + tolerance:
        values.unit_interval += 1
        values.strictly_inside += low > 0 and high < 1
        if rows.shape[1] > 1 and bool(np.allclose(rows.sum(1), 1, atol=tolerance)):
            values.simplex_rows += 1
        elif len(rows) > 1 and bool(np.allclose(rows.sum(0), 1, atol=tolerance)):
            values.simplex_columns += 1
    with np.errstate(over="ignore", invalid="ignore"):
        if rows.shape[1] > 1 and high <= tolerance and bool(np.allclose(np.exp(rows).sum(1), 1, atol=1e-2)):
            values.log_probabilities += 1


def statistics(op: str, value: np.ndarray, step: int) -> LayerLook:
    """The numbers of one tensor [rows, ..., units] (channels last)."""
    t = value
    if t.size > MAX_NUMBERS and t.ndim > 1:
        t = t[: max(2, MAX_NUMBERS * t.shape[0] // t.size)]
    t = t.astype(np.float32, copy=False)
    look = LayerLook(step, rows=int(t.shape[0]) if t.ndim else 1)
    if not t.size:
        return look
    with np.errstate(all="ignore"):
        square = float(np.square(t, dtype=np.float64).mean())
        look.rms, look.mean = math.sqrt(square) if math.isfinite(square) else None, float(t.mean())
        if t.ndim > 1 and t.shape[0] > 1:
            if bool((t == t[:1]).all()):
                look.spread = 0.0
            elif square > 0 and math.isfinite(square):
                look.spread = min(1.0, float(t.var(0, dtype=np.float64).mean() / square))
        if t.ndim < 2:
            return look
        others = tuple(range(t.ndim - 1))
        if op == "relu":
            zero = t <= 0
            look.zeros, look.dead = float(zero.mean()), float(zero.all(others).mean())
        elif op in {"sigmoid", "tanh"}:
            slope = 4 * t * (1 - t) if op == "sigmoid" else 1 - np.square(t)
            flat = slope < _SMALL_DERIVATIVE
            high = flat & (t > (0.5 if op == "sigmoid" else 0.0))
            look.derivative, look.saturated = float(slope.mean()), float(flat.mean())
            look.one_sided = float(np.maximum(high.all(others), (flat & ~high).all(others)).mean())
    return look


def units_first(shape: list[int]) -> list[int]:
    """A convolution's kernel [.., in, out] in the order of the trace: [out, in, ..]; matrices stay (they are `transposed`)."""
    return [shape[-1], shape[-2], *shape[:-2]] if len(shape) > 2 else shape


def equal_rows(w: np.ndarray) -> float | None:
    """Share of the units (last axis) whose weights equal those of the first exactly; None for vectors and single units."""
    if w.ndim < 2 or w.shape[-1] < 2 or not w.size:
        return None
    flat = w.reshape(-1, w.shape[-1])
    if flat.size > MAX_NUMBERS:
        flat = flat[:: flat.size // MAX_NUMBERS + 1]
    same = (flat == flat[:, :1]).all(0)
    return float(same.mean()) if bool(same[1:].any()) else 0.0


def first_sight(record: Parameter, w: np.ndarray) -> None:
    """What a weight looks like before training changed it."""
    record.dtype = str(w.dtype)
    if w.size:
        record.first_rms = math.sqrt(max(0.0, float(np.square(w, dtype=np.float64).mean())))
    if w.ndim > 1 and w.shape[-1]:
        record.fan_in = w.size // int(w.shape[-1])
    record.equal_rows_first = record.equal_rows = equal_rows(w)


def weight_look(record: Parameter, before: np.ndarray, after: np.ndarray, gradient: np.ndarray, step: int) -> None:
    """Norms of weight, gradient and update of one tensor at one step."""
    b, g, d = before.reshape(-1), gradient.reshape(-1), after.reshape(-1) - before.reshape(-1)
    norms = [math.sqrt(square(v)) for v in (b, g, d)]
    if len(record.looks) >= 48 or not all(map(math.isfinite, norms)):
        return
    both = norms[0] * norms[1]
    along = max(-1.0, min(1.0, inner(b, g) / both)) if both > 0 else 0.0
    lost = 0.0
    if before.dtype.itemsize < 4 and (g != 0).any():
        lost = float((d[g != 0] == 0).mean())
    record.looks.append(ParameterLook(step, *norms, float((g == 0).mean()) if g.size else 0.0, along, lost))
    record.equal_rows = equal_rows(after)


def inner(a: np.ndarray, b: np.ndarray) -> float:
    """Inner product of two tensors. In float32 (a few digits are enough for a look), in float64 where that overflows."""
    with np.errstate(all="ignore"):
        value = float(np.dot(a.reshape(-1), b.reshape(-1)))
    return value if math.isfinite(value) else float(np.dot(a.reshape(-1).astype(np.float64), b.reshape(-1).astype(np.float64)))


def square(a: np.ndarray) -> float:
    """Sum of the squares; NaN where it is not a number."""
    value = inner(a, a)
    if value == 0.0 and a.size and bool((a != 0).any()):  # the squares of what is below 1e-23 are 0 in float32
        value = float(np.square(a, dtype=np.float64).sum())
    return value


class Data:
    """The inputs of one training: their statistics and the first (input, label) pairs; writes into its facts."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.arrays: list[list[np.ndarray]] = []
        self.labels: list[np.ndarray] = []
        self.batches: list[np.ndarray] = []
        self.rows = self.calls = self.bytes = 0
        self.first: tuple[bytes, ...] | None = None
        self.written = self.published = -1

    @property
    def full(self) -> bool:
        return self.rows >= MAX_ROWS or self.calls >= MAX_CALLS or self.bytes >= MAX_BYTES

    def arrived(self, inputs: list[np.ndarray], y: np.ndarray | None, site: Site | None, ignore: int | None) -> None:
        """The tensors of one call and its class labels (None where there are none)."""
        inputs = [x for x in inputs if x.ndim][:6]
        if not inputs:
            return
        known, rows = self.facts.inputs, len(inputs[0])
        self.calls += 1
        for i, x in enumerate(inputs):
            if i == len(known):
                kind = "bool" if x.dtype == bool else "real" if x.dtype.kind == "f" else "ids"
                known.append(Inputs(f"input {i + 1} of the model", kind, list(x.shape), str(x.dtype), site=site))
                self.arrays.append([])
            known[i].calls += 1
        self._compare(inputs, y)
        if self.full:
            return
        for i, x in enumerate(inputs):
            if len(x) != rows:
                continue
            part = self._columns(x)
            if part.dtype.kind == "f":
                bad = ~np.isfinite(part)
                if bad.any():
                    known[i].nonfinite_calls += 1
                    known[i].nonfinite_share = max(known[i].nonfinite_share, float(bad.mean()))
            self.arrays[i].append(part)
            self.bytes += part.nbytes
            known[i].rows += len(part)
        self.rows += rows
        if y is not None and len(y) == rows:
            keep = y.astype(np.int64, copy=True)
            if ignore is not None:
                keep[keep == ignore] = np.iinfo(np.int64).min
            self.labels.append(keep)
            self.batches.append(np.full(rows, self.calls - 1, dtype=np.int64))

    @staticmethod
    def _columns(x: np.ndarray) -> np.ndarray:
        flat = x.reshape(len(x), -1)
        if x.dtype.kind != "f":
            ids = flat.astype(np.int64)
            return ids[:, :MAX_IDS] if ids.shape[1] <= 4 * MAX_IDS else ids[:, :: ids.shape[1] // MAX_IDS + 1]
        if flat.shape[1] > MAX_COLUMNS:
            flat = flat[:, np.linspace(0, flat.shape[1] - 1, MAX_COLUMNS).astype(int)]
        return np.array(flat, dtype=np.float32)

    def _compare(self, inputs: list[np.ndarray], y: np.ndarray | None) -> None:
        """Is this batch the first one again? First and last row, and the first labels, entry for entry."""
        key = (np.ascontiguousarray(y[:64]).tobytes() if y is not None else b"",
               *(x[0].reshape(-1)[:64].tobytes() + x[-1].reshape(-1)[-64:].tobytes() for x in inputs[:3] if len(x)))  # fmt: skip
        if self.first is None:
            self.first = key
            return
        for record in self.facts.inputs[:1]:
            record.compared_calls += 1
            record.same_calls += key == self.first

    def publish(self) -> None:
        """Statistics of the captured rows into the facts."""
        if self.rows == self.published:
            return
        self.published = self.rows
        for record, parts in zip(self.facts.inputs, self.arrays):
            if not parts or len({p.shape[1] for p in parts}) != 1:
                continue
            summarise(record, np.concatenate(parts), MAX_ROWS)

    def write(self, directory: Path) -> None:
        """pairs-<training>.npz in the run folder. Raises OSError."""
        if self.written == self.rows or not self.labels:
            return
        write_pairs(directory / f"pairs-{self.facts.id}.npz", self.arrays, self.labels, self.batches)
        self.written = self.rows
