"""What every reader of logs fills: named columns of numbers in bounded memory, and the choice which of them is the loss.

A column keeps at most LIMIT values. Beyond that, neighbours are averaged and the stride doubles: a log of any length fits
into a few megabytes, and what is judged are then means of `every` logged values each.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

import msgspec
import numpy as np

from unstuck.errors import UsageError

LIMIT = 1 << 17  # values a column keeps
NAMES = 256  # columns a file may have that look like a loss, an accuracy or a step
FULL = 9  # decimals from which a number counts as written in full
_TRAIN = {"train", "training", "tr", "fit"}
_HELD_OUT = {"val", "valid", "validation", "eval", "evaluation", "test", "testing", "dev", "holdout", "heldout"}
_LOSS = {"loss", "losses", "nll", "xent", "crossentropy", "xentropy", "bce", "objective"}
_NO_LOSS = {"scale", "scaler", "weight", "std", "var", "grad", "lr", "count", "time", "norm", "best", "ratio", "coef", "delta"}
_PLAIN = {"step", "batch", "iter", "iteration", "it", "current", "metrics"}
_KIND = {
    "epoch", "total", "mean", "avg", "average", "running", "smooth", "smoothed", "cross", "entropy", "categorical", "sparse",
    "binary", "ce", "cls", "classification", "sum", "overall", "of", "on",
}  # fmt: skip
SPLITS = {"split", "phase", "mode", "stage", "subset", "set"}  # columns that say which data a row is of
_STEPS = (("global", "step"), ("step",), ("trainer", "global", "step"), ("iteration",), ("iter",), ("update",), ("it",), ("batch",))
Axis = Literal["step", "epoch", "row"]


class LogError(UsageError):
    """A log that cannot be read or has no loss in it; the message names the file and says what to do."""


class Column:
    """Values with their positions (row numbers or steps), in the order of the file."""

    __slots__ = ("_fresh", "_fresh_at", "_kept", "_kept_at", "decimals", "every", "seen")

    def __init__(self) -> None:
        self._kept, self._kept_at = np.zeros(0), np.zeros(0)
        self._fresh, self._fresh_at = array("d"), array("d")
        self.every = 1  # logged values behind each value that is kept
        self.seen = 0
        self.decimals = -1  # most decimals with which a value was written; -1: not known

    def add(self, at: float, value: float) -> None:
        self._fresh_at.append(at)
        self._fresh.append(value)
        if len(self._fresh) >= LIMIT:
            self._settle()

    def extend(self, at: np.ndarray, values: np.ndarray) -> None:
        self._fresh_at.frombytes(np.ascontiguousarray(at, dtype=np.float64).tobytes())
        self._fresh.frombytes(np.ascontiguousarray(values, dtype=np.float64).tobytes())
        if len(self._fresh) >= LIMIT:
            self._settle()

    def replace_last(self, at: float, value: float) -> None:
        """A progress bar was drawn anew: the value shown last counts."""
        if self._fresh:
            self._fresh_at[-1], self._fresh[-1] = at, value

    def _settle(self, whole: bool = False) -> None:
        values, at = np.frombuffer(self._fresh, dtype=np.float64), np.frombuffer(self._fresh_at, dtype=np.float64)
        groups = len(values) // self.every
        used = groups * self.every
        parts, parts_at = [self._kept, _means(values[:used], self.every)], [self._kept_at, at[:used][self.every - 1 :: self.every]]
        if whole and used < len(values):  # a last group that is not full
            parts.append(_means(values[used:], len(values) - used))
            parts_at.append(at[-1:])
            used = len(values)
        self.seen += used
        self._kept, self._kept_at = np.concatenate(parts), np.concatenate(parts_at)
        rest, rest_at = values[used:].tobytes(), at[used:].tobytes()
        del values, at  # an array that is looked at through a buffer cannot change its length
        self._fresh, self._fresh_at = array("d", rest), array("d", rest_at)
        while len(self._kept) > LIMIT:
            even = len(self._kept) // 2 * 2
            last, last_at = self._kept[even:], self._kept_at[even:]
            self._kept = np.concatenate([_means(self._kept[:even], 2), last])
            self._kept_at = np.concatenate([self._kept_at[1:even:2], last_at])
            self.every *= 2

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """(positions, values), float64."""
        if self._fresh:
            self._settle(whole=True)
        return self._kept_at, self._kept

    def __len__(self) -> int:
        return len(self._kept) + len(self._fresh)


def _means(values: np.ndarray, size: int) -> np.ndarray:
    """Means of consecutive groups; a value that is not finite counts only where its whole group is not."""
    if size == 1 or not len(values):
        return np.array(values)
    groups = values.reshape(-1, size)
    finite = np.isfinite(groups)
    count = finite.sum(axis=1)
    sums = np.where(finite, groups, 0.0).sum(axis=1)
    return np.where(count > 0, sums / np.maximum(count, 1), groups[:, -1])


class Table:
    """The columns of one run. `by_step`: positions are optimizer steps; otherwise they are row numbers."""

    def __init__(self, file: str, format: str, by_step: bool = False, name: str = "") -> None:
        self.file, self.format, self.by_step, self.name = file, format, by_step, name
        self.columns: dict[str, Column] = {}
        self.notes: list[str] = []
        self.names: dict[str, None] = {}  # every name that was seen, in order: for messages
        self.averaged = ""  # what a value is a mean over, where the format says so
        self.wanted: str | None = None  # --column
        self.is_file = True

    def column(self, name: str) -> Column | None:
        """The column of this name; None where nobody will ask for it."""
        found = self.columns.get(name)
        if found is None:
            if name not in self.names and len(self.names) < 4 * NAMES:
                self.names[name] = None
            if (role(name) is None and name != self.wanted) or len(self.columns) >= NAMES:
                return None
            found = self.columns[name] = Column()
        return found


class Log(msgspec.Struct):
    """One logged training. steps increase; loss in the unit of the log (nats, if it is a cross-entropy); NaN = logged as NaN."""

    file: str
    format: str
    column: str
    steps: np.ndarray
    loss: np.ndarray
    name: str = ""  # of the run inside the file, where it holds several
    accuracy: np.ndarray | None = None  # [steps], 0..1, NaN where none was logged beside the loss
    lr: np.ndarray | None = None
    axis: Axis = "row"
    unit: float = 0.0  # of the last digit written; 0: written in full
    every: int = 1  # logged values behind each loss
    averaged: str = ""  # "epoch": each loss is a mean over an epoch
    held_out: bool = False  # a validation loss: no training loss was logged
    others: list[str] = msgspec.field(default_factory=list)  # columns that might have been meant as well
    notes: list[str] = msgspec.field(default_factory=list)

    @property
    def title(self) -> str:
        return f"{self.file} ({self.name})" if self.name else self.file


# ------------------------------------------------------------------------------------------------------- names


def words(name: str) -> list[str]:
    """'Loss/trainStep' -> ['loss', 'train', 'step']."""
    return [w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


@lru_cache(maxsize=4096)
def role(name: str) -> str | None:
    """What a column is for, by its name: loss, accuracy, lr, step, epoch; None for anything else."""
    parts = words(name)
    if not parts:
        return None
    if rank(name) is not None:
        return "loss"
    kind = set(parts)
    if kind & {"acc", "accuracy", "top1"} and not kind & {"top5", "top3", "best", "grad", "per", "class", "5"}:
        return "accuracy"
    if kind & {"lr"} or {"learning", "rate"} <= kind:
        return "lr"
    if tuple(parts) in _STEPS:
        return "step"
    return "epoch" if parts in (["epoch"], ["ep"], ["epochs"]) else None


@lru_cache(maxsize=4096)
def rank(name: str) -> int | None:
    """How good a name is for the training loss, 0 the best; None: not a loss. 10 and more: of held-out data."""
    parts = set(words(name))
    if not parts & _LOSS and not {"cross", "entropy"} <= parts:
        return None
    if parts & _NO_LOSS:
        return None
    held_out = 10 if parts & _HELD_OUT else 0
    rest = parts - _HELD_OUT
    if rest == {"loss"}:
        return held_out
    if rest <= {"loss"} | _TRAIN:
        return held_out + 1
    if rest <= {"loss"} | _TRAIN | _PLAIN:
        return held_out + 2
    if rest <= _LOSS | _TRAIN | _PLAIN | _KIND:
        return held_out + 3
    return held_out + 4


# ------------------------------------------------------------------------------------------------------ choosing


def finish(table: Table, wanted: str | None = None) -> Log:
    """The log of a table: which column is the loss, on which axis, with what beside it. LogError where there is none."""
    title = f"{table.file} ({table.name})" if table.name else table.file
    name, others, notes = _loss_column(table, title, wanted)
    at, loss = table.columns[name].arrays()
    column = table.columns[name]
    notes = [*table.notes, *notes]
    order_note = ""
    axis: Axis = "step" if table.by_step else "row"
    steps = at
    if not table.by_step:
        steps, axis = _axis(table, at)
    if len(steps) > 1 and np.any(np.diff(steps) <= 0):
        steps, at, loss, order_note = _in_order(steps, at, loss)
        if order_note == "rows":
            axis, order_note = "row", ""
    if order_note:
        notes.append(order_note)
    held_out = (rank(name) or 0) >= 10
    accuracy, why = _accuracy(table, at, held_out, len(loss))
    if why:
        notes.append(why)
    rate = _beside(table, at, "lr", held_out=False)
    if column.every > 1:
        notes.append(f"{column.seen:,} values were logged; the mean of every {column.every} is judged")
    decimals = column.decimals
    unit = 10.0**-decimals if 0 <= decimals < FULL else 0.0
    averaged = table.averaged or ("epoch" if axis == "epoch" or "epoch" in words(name) else "")
    return Log(
        table.file, table.format, name, steps.astype(np.int64), loss, table.name, accuracy, rate, axis, unit, column.every,
        averaged, held_out, others, notes,
    )  # fmt: skip


def _loss_column(table: Table, title: str, wanted: str | None) -> tuple[str, list[str], list[str]]:
    """(name, columns that might have been meant as well, notes)."""
    if wanted is not None:
        names = [n for n in table.columns if n == wanted] or [n for n in table.columns if n.lower() == wanted.lower()]
        if not names or not len(table.columns[names[0]]):
            known = _listed(table.names)
            raise LogError(f"{title}: no numbers in a column {wanted!r}; " + (f"there are {known}" if known else "there are none"))
        return names[0], [], []
    candidates = {n: rank(n) for n, c in table.columns.items() if role(n) == "loss" and len(c)}
    if not candidates:
        known = _listed(table.names)
        if table.format == "text":
            where = "is a file of text without a loss" if table.is_file else "text without a loss"
            raise LogError(f"{title}: {where} (a line such as 'loss: 1.6094')")
        text = "no column looks like a loss" if known else "no loss in it"
        raise LogError(f"{title}: {text}" + (f" (there are {known}); name one with --column" if known else ""))

    def place(name: str) -> tuple[bool, bool, int, int, int]:
        # One value is a summary (trainer_state.json ends with one): a series is wanted.
        value = candidates[name] or 0
        return value >= 10, len(table.columns[name]) < 2, value, -len(table.columns[name]), len(name)

    ordered = sorted(candidates, key=place)
    best = ordered[0]
    level = candidates[best] or 0
    notes = []
    if level >= 10:
        notes.append(f"no training loss is logged: this is the loss of held-out data ({best})")
    rivals = [n for n in ordered[1:] if (candidates[n] or 0) < 10 and len(table.columns[n]) > 1]
    if rivals and level < 10:
        same = [n for n in rivals if (candidates[n] or 0) == level or level >= 3]
        if same:
            notes.append(f"which loss is meant is a guess: {best} was taken; also there: {_listed(same)} (--column NAME)")
    return best, rivals, notes


def _listed(names: Iterable[str], most: int = 8) -> str:
    given = list(names)
    return ", ".join(given[:most]) + (f" and {len(given) - most} more" if len(given) > most else "")


def _axis(table: Table, at: np.ndarray) -> tuple[np.ndarray, Axis]:
    """Steps for row numbers: a step column that increases, an epoch column that does, or the row numbers themselves."""
    columns = {n: c for n, c in table.columns.items() if len(c)}
    by_words = {tuple(words(n)): n for n in columns if role(n) == "step"}
    named: list[tuple[str, Axis]] = [(by_words[s], "step") for s in _STEPS if s in by_words]
    named += [(n, "epoch") for n in columns if role(n) == "epoch"]
    decreasing = None
    for name, axis in named:
        where, values = columns[name].arrays()
        fine = np.isfinite(values)
        if fine.sum() < 2 or fine.sum() < 0.5 * min(len(at), len(values)):
            continue
        steps = np.interp(at, where[fine], values[fine])
        if axis == "step" and np.any(steps != np.round(steps)):
            steps = np.round(steps)
        if np.all(np.diff(steps) > 0):
            if axis == "epoch" and np.any(steps != np.round(steps)):
                return np.arange(1.0, len(at) + 1), "row"  # fractions of an epoch (Hugging Face): rows inside epochs
            return steps, axis
        drops = np.flatnonzero(np.diff(steps) < 0)
        if decreasing is None and 0 < len(drops) <= 4 and np.all((np.diff(steps) > 0) | (np.diff(steps) < 0)):
            decreasing = steps, axis
    if decreasing is not None:
        return decreasing
    return np.arange(1.0, len(at) + 1), "row"


def _in_order(
    steps: np.ndarray, at: np.ndarray, loss: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Steps that go back: a restarted run, or several in one file. The last part counts where it is long enough."""
    jumps = np.diff(steps)
    if np.all(jumps >= 0):  # only repeats: the value logged last for a step counts
        keep = np.append(jumps > 0, True)
        if keep.sum() >= 0.5 * len(keep):
            return steps[keep], at[keep], loss[keep], ""
        return np.arange(1.0, len(steps) + 1), at, loss, "rows"
    start = int(np.flatnonzero(jumps < 0)[-1]) + 1
    if len(steps) - start >= min(8, len(steps) // 2) and np.all(np.diff(steps[start:]) > 0):
        note = f"the steps go back to {steps[start]:.0f} (a restart, or several runs in one file): what follows is judged"
        return steps[start:], at[start:], loss[start:], note
    order = np.argsort(steps, kind="stable")  # written by several processes
    steps, at, loss = steps[order], at[order], loss[order]
    keep = np.append(np.diff(steps) > 0, True)
    if keep.sum() >= 0.5 * len(keep):
        return steps[keep], at[keep], loss[keep], "the rows were not in the order of their steps and were sorted"
    return np.arange(1.0, len(steps) + 1), at, loss, "rows"


def _beside(table: Table, at: np.ndarray, what: str, held_out: bool) -> np.ndarray | None:
    """The values of another column at the positions of the loss; exact matches, or interpolated where there are none."""
    names = [n for n in table.columns if role(n) == what and bool(set(words(n)) & _HELD_OUT) == held_out]
    names = [n for n in names if len(table.columns[n])]
    if not names:
        return None
    name = min(names, key=lambda n: (len(words(n)), -len(table.columns[n])))
    where, values = table.columns[name].arrays()
    order = np.argsort(where, kind="stable")
    where, values = where[order], values[order]
    place = np.clip(np.searchsorted(where, at, side="right") - 1, 0, len(where) - 1)
    out = np.where(where[place] == at, values[place], np.nan)
    if not np.isfinite(out).any() and np.isfinite(values).any():
        fine = np.isfinite(values)
        out = np.interp(at, where[fine], values[fine])
    return out if np.isfinite(out).any() else None


def _accuracy(table: Table, at: np.ndarray, held_out: bool, count: int) -> tuple[np.ndarray | None, str]:
    found = _beside(table, at, "accuracy", held_out)
    if found is None:
        return None, ""
    most = float(np.nanmax(found))
    if most > 1.0 + 1e-9:
        if most > 100.0 + 1e-9 or np.nanmin(found) < 0.0:
            return None, "the accuracy is neither a share nor a percentage and was not used"
        return found / 100.0, "the accuracy is taken as a percentage"
    return (None, "") if np.nanmin(found) < 0.0 else (found, "")


def is_held_out(value: object) -> bool:
    """Is this the entry of a `split` column that means validation or test?"""
    return isinstance(value, str) and value.strip().lower() in _HELD_OUT


def decimals_of(text: str) -> int:
    """Digits after the point, an exponent taken into account: '2.30' -> 2, '6.9e-1' -> 2; FULL or more: all there are."""
    mantissa, _, exponent = text.strip().lower().partition("e")
    digits = len(mantissa.partition(".")[2])
    try:
        return max(digits - int(exponent or 0), 0)
    except ValueError:
        return digits


