"""Weights that the script updates itself, without an optimizer: is that done, and does it go down the gradient?"""

from __future__ import annotations

import math
import time
import weakref
from typing import Any

import torch

from unstuck.observe import torch_modules
from unstuck.observe.torch_guard import Guard
from unstuck.observe.torch_pace import is_deep
from unstuck.observe.torch_replays import Replays
from unstuck.observe.torch_state import State
from unstuck.observe.torch_values import NAN
from unstuck.observe.torch_weights import checksum


def notice(state: State) -> None:
    """No optimizer object has stepped: are the weights changed by hand?"""
    loop = state.facts.loop
    if loop.backwards < 2 or loop.functional or not is_deep(loop.backwards):
        return
    for key, (ref, record) in state.parameters.items():
        p = ref()
        if p is not None and key in state.checksums and checksum(p) != state.checksums[key]:
            record.changed = True
            loop.functional = True
            return


def remember(state: State, pairs: list[tuple[Any, Any]]) -> None:
    """After a backward without an optimizer: weights and gradients, to compare with the weights at the next one."""
    pairs = [(p, g) for p, g in pairs if g is not None and not g.is_sparse][:64]
    if pairs and sum(p.numel() for p, _ in pairs) <= 2_000_000:
        state.by_hand = [(weakref.ref(p), p.detach().clone(), g.detach().clone()) for p, g in pairs]


def measure(state: State, guard: Guard, replays: Replays) -> float:
    """The first-order decrease of an update made by hand; counts whether it went up the gradient."""
    remembered, state.by_hand = state.by_hand, []
    predicted, moved = 0.0, False
    for ref, before, g in remembered:
        p = ref()
        if p is None or p.shape != before.shape:
            return NAN
        delta = p.detach() - before
        moved = moved or bool((delta != 0).any())
        predicted -= float((g.double() * delta.double()).sum())
    loop = state.facts.loop
    probing, state.probing, state.fresh_tape = state.probing, None, False
    state.last_step = time.monotonic()
    if not state.first_step:
        state.first_step, state.own_at_first_step = state.last_step, guard.run.own_seconds
    if not moved or not math.isfinite(predicted):
        return NAN
    if is_deep(loop.backwards):
        looks = ((state.parameters.get(id(p)), p, b, g) for ref, b, g in remembered if (p := ref()) is not None)
        torch_modules.update_looks([(e[1], p, b, g) for e, p, b, g in looks if e is not None], loop.backwards)
    if probing is not None:
        state.probing = probing
        held = [(p, b) for ref, b, _ in remembered if (p := ref()) is not None]
        replays.end(state, [p for p, _ in held], [b for _, b in held], predicted)
        state.probing = None
    # The weights were updated with these gradients; are they still there when the next ones are added?
    loop.stale_checked += 1
    loop.stale += any(
        (p := ref()) is not None and p.grad is not None and bool((g != 0).any()) and torch.equal(p.grad, g)
        for ref, _, g in remembered
    )
    loop.functional = True
    loop.step_site = loop.step_site or (guard.spy.updates[-1] if guard.spy.updates else None)
    loop.ascent_checked += 1
    loop.ascent += predicted < 0
    return predicted
