"""The script's DataLoaders: how each was built, and how many batches were taken from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from unstuck.observe import sites
from unstuck.observe.torch_guard import Guard
from unstuck.observe.torch_origins import constructor_caller
from unstuck.trace.facts import Loader

MAX_LOADERS = 16


class Loaders:
    """Makes the replacements of `DataLoader.__init__`, of `__iter__`, and of its iterators' `__next__`."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.known: list[Loader] = []
        self.records: WeakKeyDictionary[Any, Loader] = WeakKeyDictionary()
        self.iterators: WeakKeyDictionary[Any, tuple[Loader, list[int]]] = WeakKeyDictionary()  # [batches taken so far]

    def loader_init(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(loader: Any, *args: Any, **kwargs: Any) -> None:
            original(loader, *args, **kwargs)
            if self.guard.active and not self.guard.local.busy:
                self.guard.guarded(self.built, loader, constructor_caller(loader))

        return __init__

    def loader_iter(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def __iter__(loader: Any) -> Any:
            out = original(loader)
            record = self.records.get(loader) if self.guard.active else None
            if record is not None:
                record.iterators += 1
                try:
                    record.site = record.site or sites.site(sites.caller(2))
                    self.iterators[out] = (record, [0])
                except Exception as error:
                    self.guard.own_error(error)
            return out

        return __iter__

    def loader_next(self, original: Callable[..., Any]) -> Callable[..., Any]:
        iterators = self.iterators

        def __next__(iterator: Any) -> Any:
            out = original(iterator)
            entry = iterators.get(iterator)
            if entry is not None:
                record, count = entry
                count[0] += 1
                record.taken += 1
                record.longest = max(record.longest, count[0])
            return out

        return __next__

    def built(self, loader: Any, frame: Any) -> None:
        try:
            rows = len(loader.dataset)
        except TypeError:
            rows = None
        sampler = type(getattr(loader, "sampler", None)).__name__
        shuffled = {"RandomSampler": True, "SequentialSampler": False, "WeightedRandomSampler": True}.get(sampler)
        try:
            batches = len(loader)
        except TypeError:
            batches = None
        record = Loader(rows, loader.batch_size, batches, shuffled, sampler, sites.site(frame))
        self.records[loader] = record
        if len(self.known) < MAX_LOADERS:
            self.known.append(record)
