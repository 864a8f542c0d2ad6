"""Gradients that are shortened between backward and step: by torch's functions, or by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from unstuck.observe import sites
from unstuck.observe.torch_guard import Guard
from unstuck.observe.torch_state import State
from unstuck.observe.torch_trainings import Trainings
from unstuck.observe.torch_values import NAN
from unstuck.trace.facts import Clipping


class Clippings:
    """Makes the replacements of `clip_grad_norm_` and `clip_grad_value_`."""

    def __init__(self, guard: Guard, trainings: Trainings) -> None:
        self.guard = guard
        self.trainings = trainings

    def clip(self, original: Callable[..., Any]) -> Callable[..., Any]:
        kind = "value" if "value" in original.__name__ else "norm"

        def clip(*args: Any, **kwargs: Any) -> Any:
            parameters = args[0] if args else kwargs.get("parameters")
            threshold = args[1] if len(args) > 1 else kwargs.get("max_norm", kwargs.get("clip_value"))
            guard, trainings = self.guard, self.trainings
            if not guard.active or trainings.current is None or not trainings.looking or guard.local.busy or parameters is None:
                return original(*args, **kwargs)
            tensors = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
            before = guard.guarded(_copies, tensors) if kind == "value" else None
            out = original(tensors, *args[1:], **{k: v for k, v in kwargs.items() if k != "parameters"})
            guard.guarded(self.clipped, kind, threshold, out if kind == "norm" else before, sites.caller(2), tensors)
            return out

        return clip

    def clipped(self, kind: str, threshold: Any, before: Any, frame: Any, tensors: list[Any]) -> None:
        """A clipping call: `before` is the norm that it met, or what the gradients were."""
        state = self.trainings.current
        if state is None or before is None or threshold is None:
            return
        state.clipped = True
        times = None
        if kind == "value":
            # The step goes along the clipped gradient c; the loss falls along the gradient g itself: by c.g, not by c.c.
            whole = sum(float(b.double().square().sum()) for _, b in before)
            along = sum(float((b.double() * g.detach().double()).sum()) for g, b in before)
            left = sum(float(g.detach().double().square().sum()) for g, _ in before)
            if left > 0 and along > 0 and math.isfinite(whole):
                state.clip_factor, times = along / left, whole / along
            before = max((float(b.abs().max()) for _, b in before), default=0.0)
        place, limit, norm = sites.site(frame), float(threshold), float(before)
        known = next((c for c in state.facts.clippings if c.kind == kind and c.site == place), None)
        if known is None:
            if len(state.facts.clippings) >= 8:
                return
            known = Clipping(kind, limit, site=place)
            state.facts.clippings.append(known)
        known.threshold = limit
        if not math.isfinite(norm):
            return
        known.calls += 1
        known.active += norm > limit
        known.met(norm)
        known.times = times if times is not None else known.times
        if kind == "norm" and norm > limit > 0:
            here = {id(p) for p in tensors}
            trained = [(key, p) for key, (ref, _) in state.parameters.items() if (p := ref()) is not None]
            whole = all(key in here for key, p in trained if p.grad is not None)
            # Only a part of the gradient was shortened: no one factor undoes it.
            state.clip_factor = norm / limit if whole and state.clip_factor == 1.0 else NAN


def _copies(tensors: list[Any]) -> list[tuple[Any, Any]]:
    """(the gradient, a copy of what it holds now) of every tensor that has one."""
    grads = [p.grad for p in tensors if p.grad is not None and not p.grad.is_sparse and p.grad.numel()]
    return [(g, g.detach().clone()) for g in grads]


def clipped_by_hand(state: State, before: float, after: float) -> None:
    """Did somebody shorten the gradients between backward and step? What torch's own clipping does is seen there."""
    known = next((c for c in state.facts.clippings if c.kind == "hand"), None)
    active = math.isfinite(before) and after < 0.999 * before
    if known is None:
        if not active:
            return
        known = Clipping("hand", after, site=state.facts.loop.step_site)
        state.facts.clippings.append(known)
    known.calls += 1
    known.active += active
    if active:
        known.threshold = min(known.threshold, after)
        known.met(before)
        state.clip_factor = before / after if after > 0 else 1.0
