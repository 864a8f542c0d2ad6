"""How closely each step is looked at.

Few steps are looked at deeply, more are measured; of all others the loss is read. In a script with one training, whose
steps are short and all alike, even that is too much: between the steps that are looked at only the loss is noted.
"""

from __future__ import annotations

import time
from typing import Any

from unstuck.observe.torch_guard import Guard
from unstuck.observe.torch_models import Models
from unstuck.observe.torch_record import Record
from unstuck.observe.torch_state import State
from unstuck.observe.torch_trainings import Trainings
from unstuck.observe.torch_values import NAN

READ_ALL = 128  # backward calls that are all looked at
SHORT_STEP = 5e-3  # seconds; after READ_ALL, of a training with shorter steps one in 32 is looked at
_DEEP = frozenset({1, 2, 3, 4, 6, 10, 20, 50, 100, 200, 500})


def is_deep(n: int) -> bool:
    """Backward calls at which the whole graph is walked: the first four, then 6, 10, 20, 50, 100, ... 1000, 2000, ..."""
    return n in _DEEP or n % 1000 == 0


def is_sampled(n: int) -> bool:
    """Steps at which gradients and updates are measured: the first five, then 1 in 10, from 100 on 1 in 50, from 1000 on
    1 in 200."""
    return n < 5 or n % (10 if n < 100 else 50 if n < 1000 else 200) == 0


def is_looked_at(n: int) -> bool:
    """Deep steps, and one backward call in 32 at irregular distances: a loop with a period (two losses in turn) must not
    be seen through one phase of it only. Knuth's multiplicative hash; the training's random numbers are not ours to
    draw."""
    return (n * 2654435761 & 0xFFFFFFFF) >> 27 == 0 or is_deep(n)


def number(value: Any) -> float:
    """A learning rate may be a tensor, or None where the optimizer finds its own."""
    try:
        return NAN if value is None else float(value)
    except (TypeError, ValueError, RuntimeError):
        return NAN


class Pace:
    """Counts the steps; knows the one training whose steps are only glanced at."""

    def __init__(self, guard: Guard, models: Models, trainings: Trainings, record: Record) -> None:
        self.guard = guard
        self.models = models
        self.trainings = trainings
        self.record = record
        self.total_steps = 0  # of all trainings
        # The one training of a script whose steps are short and all alike: between the steps that are looked at, only
        # the loss is noted. None while anything is unusual.
        self.short: State | None = None

    def glance(self, state: State, loss: Any) -> bool:
        """A step between two that are looked at: count it, note the loss. False when something is unusual after all."""
        recipe = state.sole
        try:
            if recipe is None or state.pending or loss.grad_fn.name() != recipe.root or self.guard.spy_pushed:
                return False
            value = loss.item()
        except (AttributeError, RuntimeError, TypeError):
            return False
        if value - value != 0.0:
            return False
        self.trainings.looking = False
        self.models.forward_open = False
        self.models.roots.clear()
        state.facts.loop.backwards += 1
        state.pending = 1
        state.glance = value if recipe.exact else NAN
        return True

    def glanced(self, optimizer: Any) -> bool:
        """The step of a backward that was only glanced at. False: this one needs the full treatment."""
        state = self.short
        if state is None or not state.pending:
            return False
        loop = state.facts.loop
        entry = state.optimizers.get(id(optimizer))
        if entry is None or is_deep(loop.steps + 1) or is_looked_at(loop.backwards + 1) or not (loop.steps + 1) % READ_ALL:
            return False  # the next backward is looked at and wants to know how this step left the gradients
        self.total_steps += 1
        loop.steps += 1
        state.steps += 1
        record = entry[1]
        record.steps += 1
        lr = number(optimizer.param_groups[0].get("lr"))
        record.lr_zero_steps += lr == 0
        record.lr_last = lr
        state.rows += 1
        state.pending = 0
        state.stale_probe = []
        state.anchor_version = None
        writer = self.record.writer
        if writer is not None:
            try:
                writer.row(state.facts.id, state.rows, (state.glance, NAN, NAN, NAN, lr, NAN, NAN, NAN, 1.0))
            except OSError as error:
                self.record.lost_writer(error)
        return True

    def may_shorten(self, state: State) -> None:
        """Is this the plain case in which most steps need no look: one training, one optimizer, one graph, short steps?"""
        loop = state.facts.loop
        now = time.monotonic()
        seconds, state.began = (now - state.began) / READ_ALL, now
        plain = (
            len(self.trainings.states) == 1 and sum(o.steps > 0 for o in state.facts.optimizers) == 1
            and len(state.recipes) == 1 and not loop.functional
            and not loop.skipped_steps and loop.backwards == loop.steps and not loop.stale and not loop.rebuilt_total
        )  # fmt: skip
        state.sole = next(iter(state.recipes.values())) if plain else None
        self.short = state if plain and (self.short is state or seconds < SHORT_STEP) else None
