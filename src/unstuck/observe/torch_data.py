"""The data a training is given: scale, constant parts, repeats, (input, label) pairs, loaders and clipping.

Pairs are captured in the first passes until the buffer is full (a few thousand rows, at most `MAX_COLUMNS` columns of
each); after that only the first and the last row of a batch are compared with those of the first one. What is kept is
written to the run folder as arrays without pickle.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unstuck.observe import torch_values
from unstuck.observe.arrays import summarise, write_pairs
from unstuck.trace.facts import Facts, Inputs, Site

MAX_ROWS = 4096
MAX_COLUMNS = 1024
MAX_IDS = 64  # positions of a sequence of ids
MAX_BYTES = 16_000_000
MAX_CALLS = 512  # calls whose rows are captured


def _ends(t: torch.Tensor) -> bytes:
    """The beginning of the first row and the end of the last one, entry for entry."""
    ends = torch.stack((t[0].reshape(-1)[:64], t[-1].reshape(-1)[-64:])) if t.numel() else t
    return torch_values.numpy_of(ends).tobytes()


class Data:
    """What is known of one training's data; writes into its facts."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.arrays: list[list[np.ndarray]] = []  # per input: captured rows, [rows, columns]
        self.labels: list[np.ndarray] = []
        self.batches: list[np.ndarray] = []
        self.rows = 0
        self.calls = 0
        self.bytes = 0
        self.paired = True
        self.written = -1
        self.published = 0  # captured rows at the last time they were looked at as a whole
        self.now: list[Any] = []  # the tensors of the latest call, until its labels are known
        self.first: tuple[bytes, ...] | None = None
        self.sequence: tuple[np.ndarray, np.ndarray] | None = None  # the first one of ids, and its labels
        self.one_sequence = self.many_labels = False  # all equal it, and their labels do not

    @property
    def full(self) -> bool:
        return self.rows >= MAX_ROWS or self.calls >= MAX_CALLS or self.bytes >= MAX_BYTES

    def arrived(self, tensors: list[Any], site: Site | None, rows_of: Callable[[Any], int | None] = lambda t: None) -> None:
        """The model was called with these tensors (only those without a gradient behind them are data). `rows_of` tells
        of how many rows the tensor is that one was cut out of."""
        self.now = [t for t in tensors if not t.requires_grad and t.dim() and not t.is_sparse and not t.is_complex()][:6]
        known = self.facts.inputs
        for i, t in enumerate(self.now):
            if i == len(known):
                kind = "bool" if t.dtype == torch.bool else "real" if t.is_floating_point() else "ids"
                record = Inputs(f"input {i + 1} of the model", kind, list(t.shape), str(t.dtype).removeprefix("torch."), site=site)
                base = t._base
                if base is not None and base.dim() == t.dim() and base.shape[1:] == t.shape[1:]:
                    record.part_of = int(base.shape[0])
                record.part_of = record.part_of or rows_of(t)
                known.append(record)
                self.arrays.append([])
            record = known[i]
            record.calls += 1
            base = t._base
            same = base is not None and base.dim() == t.dim() and base.shape[1:] == t.shape[1:]
            if record.part_of is not None and same and int(base.shape[0]) < record.part_of:
                record.part_of = None

    def labelled(self, y: np.ndarray | None, ignore: int | None) -> None:
        """The labels of the batch that arrived last."""
        tensors, self.now = self.now, []
        if not tensors or y is None:
            return
        self._compare(tensors, y)
        if self.full:
            return
        rows = int(tensors[0].shape[0])
        main = [i for i, t in enumerate(tensors) if t.shape[0] == rows]
        tokens = len(main) == 1 and not tensors[0].is_floating_point() and tensors[0].numel() == y.size != rows
        paired = y.size == rows or tokens
        if not paired and self.labels:
            return  # another use of the model in between
        self.paired = paired
        self.calls += 1
        for i in main:
            t = tensors[i].detach()
            if tokens:
                ids = torch_values.numpy_of(t).reshape(rows, -1).astype(np.int64)
                self._sequences(ids, y.reshape(rows, -1))
                before = np.concatenate((np.full((rows, 1), -1), ids[:, :-1]), axis=1)
                part = np.stack((ids.reshape(-1), before.reshape(-1)), axis=1)
            else:
                part = self._columns(t)
            if t.is_floating_point():
                bad = ~np.isfinite(part)
                if bad.any():
                    self.facts.inputs[i].nonfinite_calls += 1
                    self.facts.inputs[i].nonfinite_share = max(self.facts.inputs[i].nonfinite_share, float(bad.mean()))
            self.arrays[i].append(part)
            self.bytes += part.nbytes
            self.facts.inputs[i].rows += len(part)
        self.rows += y.size if (tokens or self.paired) else rows
        if self.paired:
            keep = y.astype(np.int64, copy=True)
            if ignore is not None:
                keep[keep == ignore] = np.iinfo(np.int64).min
            self.labels.append(keep)
            self.batches.append(np.full(len(keep), self.calls - 1, dtype=np.int64))

    def _sequences(self, ids: np.ndarray, y: np.ndarray) -> None:
        """Is every sequence the same, whatever its labels? Its contexts differ, and say nothing but the position."""
        if self.sequence is None:
            self.sequence, self.one_sequence = (ids[0], y[0]), True
        first, labels = self.sequence
        self.one_sequence = self.one_sequence and ids.shape[1:] == first.shape and bool((ids == first).all())
        self.many_labels = self.many_labels or (self.one_sequence and bool((y != labels).any()))

    @staticmethod
    def _columns(t: Any) -> np.ndarray:
        flat = t.reshape(t.shape[0], -1)
        if not t.is_floating_point():
            array = torch_values.numpy_of(flat).astype(np.int64)
            return array[:, :MAX_IDS] if array.shape[1] <= 4 * MAX_IDS else array[:, :: array.shape[1] // MAX_IDS + 1]
        if flat.shape[1] > MAX_COLUMNS:  # the same columns in every batch, evenly spread
            index = torch.linspace(0, flat.shape[1] - 1, MAX_COLUMNS, device="cpu").long()
            flat = flat[:, index.to(flat.device)]
        return np.array(torch_values.numpy_of(flat), dtype=np.float32)

    def elsewhere(self, t: torch.Tensor) -> bool:
        """Are these other rows than those of the one batch that was given at every step so far?"""
        known = self.facts.inputs[0] if self.facts.inputs else None
        if self.first is None or known is None or known.compared_calls < 2 or known.same_calls < known.compared_calls:
            return False
        if t.dim() == 0 or str(t.dtype) != f"torch.{known.dtype}" or list(t.shape[1:]) != (known.shape or [])[1:]:
            return False  # not data of this kind
        return _ends(t.detach()) != self.first[1]

    def _compare(self, tensors: list[Any], y: np.ndarray) -> None:
        """Is this batch the first one again? First and last row, and the first labels, entry for entry."""
        key = (np.ascontiguousarray(y[:64]).tobytes(), *(_ends(t) for t in tensors[:3]))
        if self.first is None:
            self.first = key
            return
        for record in self.facts.inputs[:1]:
            record.compared_calls += 1
            record.same_calls += key == self.first

    # ------------------------------------------------------------------ what is written

    def due(self, final: bool) -> bool:
        """Are there enough new rows to look at all of them again? Four times as many, or what is left at the end: then the
        cost of all looks together is a third more than that of the last."""
        if self.rows == self.published or (not final and self.rows < 4 * self.published):
            return False
        self.published = self.rows
        return True

    def publish(self) -> None:
        """Statistics of the captured rows into the facts."""
        for record, parts in zip(self.facts.inputs, self.arrays):
            if not parts or len({p.shape[1] for p in parts}) != 1:
                continue
            summarise(record, np.concatenate(parts), MAX_ROWS)
            if self.one_sequence and self.many_labels:
                record.distinct_rows = 1

    def write(self, directory: Path) -> None:
        """pairs-<training>.npz in the run folder. Raises OSError."""
        if self.written == self.rows or not self.labels or not self.paired:
            return
        write_pairs(directory / f"pairs-{self.facts.id}.npz", self.arrays, self.labels, self.batches)
        self.written = self.rows
