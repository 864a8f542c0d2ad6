"""Interventions on the data: the scale of inputs, the pairing of inputs and labels, the order of samples."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from unstuck.experiments.change import constructing
from unstuck.experiments.patches import Call, Patches

FIRST_BATCHES = 20  # of these the statistics are taken; until then each batch updates them first
MANY_COLUMNS = 16


class Statistics:
    """Running mean and standard deviation of one input, per column or per channel or of the whole tensor, in double
    precision (Chan's update). The statistics of the first batches depend on the data only: arms with the same seed get
    the same ones."""

    def __init__(self, first: Any, convolutional: bool) -> None:
        self.axes = _axes(first, convolutional)
        self.batches = 0
        self.n = 0.0
        self.mean: Any = 0.0
        self.squares: Any = 0.0

    def update(self, x: Any) -> None:
        x = x.detach().double()
        n = x.numel() / max(1, x.mean(self.axes, keepdim=True).numel())
        mean = x.mean(self.axes, keepdim=True)
        squares = ((x - mean) ** 2).sum(self.axes, keepdim=True)
        total = self.n + n
        delta = mean - self.mean
        self.squares = self.squares + squares + delta**2 * (self.n * n / total)
        self.mean = self.mean + delta * (n / total)
        self.n = total
        self.batches += 1

    def standardised(self, x: Any) -> Any:
        deviation = (self.squares / self.n) ** 0.5
        # A column that has not changed yet (up to rounding) keeps its scale.
        still = deviation <= 1e-6 * self.mean.abs() + 1e-12
        return ((x.double() - self.mean) / torch.where(still, 1.0, deviation)).to(x.dtype)


def _axes(x: Any, convolutional: bool) -> tuple[int, ...]:
    """The axes over which the statistics run. Images [B, C, H, W] and signals [B, C, L] of a convolution: one number per
    channel. [B, T, F] and tables: one per column; but many columns of one scale are pixels or samples of one quantity,
    some of which hardly ever change: one number for all."""
    if x.dim() >= 4 or (x.dim() == 3 and convolutional):
        return (0, *range(2, x.dim()))
    if x.dim() < 2:
        return tuple(range(x.dim()))
    if _one_scale(x.detach().double().reshape(-1, x.shape[-1])):
        return tuple(range(x.dim()))
    return tuple(range(x.dim() - 1))


def _one_scale(table: Any) -> bool:
    if table.shape[1] < MANY_COLUMNS or len(table) < 2:
        return False
    low, high = table.amin(0), table.amax(0)
    spread = high - low
    moving = spread[spread > 0]
    if len(moving) < MANY_COLUMNS // 2:
        return False
    # Each column's range against the whole's: a table of several units has columns a thousandth as wide.
    return float(moving.median()) > 0.3 * float(high.max() - low.min())


def _scalable(x: Any) -> bool:
    """Real inputs that nobody computed: no ids, masks, one-hot vectors, nor results of another model."""
    if not isinstance(x, torch.Tensor) or not x.is_floating_point() or x.requires_grad or not x.dim() or x.numel() < 2:
        return False
    finite = bool(torch.isfinite(x).all())
    return finite and not bool(((x == 0) | (x == 1)).all())


def standardise_inputs(patches: Patches) -> None:
    """At the outermost call of a model; where a script has made no modules, in the batches of its DataLoaders."""
    known: weakref.WeakKeyDictionary[Any, dict[Any, Statistics]] = weakref.WeakKeyDictionary()
    modules: weakref.WeakSet[Any] = weakref.WeakSet()

    def scaled(owner: Any, key: Any, x: Any, convolutional: bool, learning: bool) -> Any:
        if not _scalable(x):
            return x
        table = known.setdefault(owner, {})
        statistics = table.get((key, x.dim()))
        if statistics is None:
            statistics = table[key, x.dim()] = Statistics(x, convolutional)
        if not statistics.batches or (learning and statistics.batches < FIRST_BATCHES):
            statistics.update(x)
        patches.applied.count += 1
        return statistics.standardised(x)

    def before(model: Any, args: Any, kwargs: Any) -> Any:
        if any(isinstance(m, (nn.Embedding, nn.EmbeddingBag)) for m in model.modules()):
            ids = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor) and a.is_floating_point()]
            if any(bool((a == a.round()).all()) for a in ids):
                return None  # ids that travel as floats
        convolutional = any(isinstance(m, nn.Conv1d) for m in model.modules())
        learning = torch.is_grad_enabled() and model.training
        return (
            tuple(scaled(model, i, a, convolutional, learning) for i, a in enumerate(args)),
            {k: scaled(model, k, a, convolutional, learning) for k, a in kwargs.items()},
        )

    def made(original: Any) -> Any:
        def __init__(module: Any, *args: Any, **kwargs: Any) -> None:
            original(module, *args, **kwargs)
            if type(module).__module__ != "torch.nn.modules.loss":
                modules.add(module)

        return __init__

    def handed_out(original: Any) -> Any:
        def __next__(iterator: Any) -> Any:
            batch = original(iterator)
            if any(next(m.parameters(), None) is not None for m in modules):
                return batch  # the model's call will do it
            return _inputs(batch, lambda i, x: scaled(iterator._dataset, i, x, False, torch.is_grad_enabled()))

        return __next__

    patches.replace(nn.Module, "__init__", made)
    patches.around_model(before)
    patches.replace(torch.utils.data.dataloader._BaseDataLoaderIter, "__next__", handed_out)

    def at_once(roots: list[Any]) -> None:
        if not patches.applied.count:
            raise patches.applied.impossible("no model of torch.nn was called with real inputs, and no DataLoader hands them out")

    patches.around_backward(before=at_once)


def _inputs(batch: Any, change: Callable[[Any, Any], Any]) -> Any:
    """The batch with its inputs changed: all entries but the last, which holds the targets."""
    if isinstance(batch, torch.Tensor):
        return change(0, batch)
    if isinstance(batch, dict):
        names = ("y", "label", "labels", "target", "targets")
        return {k: v if k in names else change(k, v) for k, v in batch.items()}
    if isinstance(batch, (list, tuple)) and len(batch) > 1 and type(batch) in (list, tuple):
        return type(batch)([change(i, v) for i, v in enumerate(batch[:-1])] + [batch[-1]])
    return batch


def shift_labels(patches: Patches) -> None:
    """y[i + offset] belongs to x[i], by rows of a loss call: way "batch" turns the labels of a batch round; otherwise the
    rows at the end of a batch that are left without a partner are left out. Where a batch is no longer than the offset,
    labels of earlier batches are kept for later inputs; later labels are not to be had."""
    offset = int(patches.number("offset"))
    way = str(patches.arguments.get("way", "open"))
    kept: list[Any] = []  # labels of earlier batches, for an offset that is longer than a batch

    def change(call: Call) -> None:
        x, y = call.input, call.target
        if not isinstance(y, torch.Tensor) or not y.dim() or not x.dim() or len(x) != len(y) or not torch.is_grad_enabled():
            return
        if way == "batch":
            call.target = y.roll(-offset, 0)
        elif abs(offset) < len(y):
            call.input = x[:-offset] if offset > 0 else x[-offset:]
            call.target = y[offset:] if offset > 0 else y[:offset]
        elif offset < 0:
            stream = torch.cat([*kept, y])
            kept[:] = [stream[offset:]]
            there = len(stream) + offset  # rows of this batch, at its end, whose labels have been seen
            if there <= 0:
                call.input = x * 0  # no label for any: no gradient from this batch
                return
            call.target, call.input = stream[max(0, there - len(y)) : there], x[-min(there, len(y)) :]
        else:
            raise patches.applied.impossible(f"a batch holds {len(y)} labels, the right ones come {offset} rows later")
        patches.applied.count += 1

    if offset == 0:
        raise patches.applied.impossible("the offset is 0")
    patches.at_loss(change, what="no loss call was seen", anywhere=True)


def shuffle(patches: Patches) -> None:
    """As shuffle=True: with file and line the DataLoader made there, otherwise each that is iterated with gradients
    enabled. Nothing is drawn that shuffle=True would not draw."""
    place = patches.place()
    meant: weakref.WeakSet[Any] = weakref.WeakSet()

    def made(original: Any) -> Any:
        def __init__(loader: Any, *args: Any, **kwargs: Any) -> None:
            original(loader, *args, **kwargs)
            frame = constructing(loader)
            if place is not None and frame is not None and place.is_at(frame):
                meant.add(loader)

        return __init__

    def iterated(original: Any) -> Any:
        def __iter__(loader: Any) -> Any:
            if loader in meant or (place is None and torch.is_grad_enabled()):
                if isinstance(loader.sampler, SequentialSampler):
                    random = RandomSampler(loader.dataset, generator=loader.generator)
                    object.__setattr__(loader, "sampler", random)  # a DataLoader refuses it otherwise
                    if loader.batch_sampler is not None:
                        loader.batch_sampler.sampler = random
                    patches.applied.count += 1
            return original(loader)

        return __iter__

    patches.replace(DataLoader, "__init__", made)
    patches.replace(DataLoader, "__iter__", iterated)
    patches.expect("no DataLoader was made without shuffling (batches cut by hand cannot be shuffled from outside)", ends=False)


KINDS: dict[str, Callable[[Patches], None]] = {
    "standardise-inputs": standardise_inputs,
    "shift-labels": shift_labels,
    "shuffle": shuffle,
}
