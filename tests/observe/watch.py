"""A training inside of a test, observed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from unstuck.observe.torch_loop import Observer
from unstuck.observe.torch_state import State
from unstuck.trace.facts import Facts, Run
from unstuck.trace.writer import Writer


class Watch:
    """What was seen so far of the one training."""

    def __init__(self, observer: Observer, folder: Path) -> None:
        self.observer = observer
        self.folder = folder

    @property
    def state(self) -> State:
        assert self.observer.run.own_errors == []
        assert len(self.observer.states) == 1
        return self.observer.states[0]

    @property
    def facts(self) -> Facts:
        return self.state.facts

    @property
    def trained(self) -> list[tuple[str, torch.Tensor]]:
        """As the thorough look at the end takes them."""
        held = ((record.name, ref()) for ref, record in self.state.parameters.values() if record.trainable and record.reached)
        return sorted(((name, p) for name, p in held if p is not None), key=lambda item: -item[1].dim())


@contextmanager
def watched(folder: Path, *, suspicious: bool = False) -> Iterator[Watch]:
    writer = Writer(folder / "trace")
    observer = Observer(writer, Run(), suspicious=lambda training: suspicious)
    observer.install()
    try:
        yield Watch(observer, folder / "trace")
    finally:
        observer.uninstall()
        observer.finish()
        writer.close()
        assert observer.run.own_errors == []
