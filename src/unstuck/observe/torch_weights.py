"""The weights of a training: which they are, whether their gradients are zeroed between steps, and whether anybody but the
optimizer writes to them."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

import torch

from unstuck.observe import sites, torch_modules
from unstuck.observe.torch_guard import Guard
from unstuck.observe.torch_models import Models
from unstuck.observe.torch_optimizers import Optimizers, tensors_of
from unstuck.observe.torch_origins import Origins
from unstuck.observe.torch_state import MAX_PARAMETERS, Recipe, State
from unstuck.observe.torch_trainings import Trainings
from unstuck.trace.facts import Parameter, Site


class Weights:
    """Keeps the list of a training's weights, and compares what they hold now with what they held."""

    def __init__(self, guard: Guard, origins: Origins, models: Models, optimizers: Optimizers, trainings: Trainings) -> None:
        self.guard = guard
        self.origins = origins
        self.models = models
        self.optimizers = optimizers
        self.trainings = trainings
        self.loaded: Site | None = None  # where weights were last loaded

    def update(self, state: State, reached: frozenset[int], names: dict[int, str], hidden: set[str] | None = None) -> None:
        """Update the list of tensors: those a loss reaches, those of the model called, those of its optimizers."""
        tensors: dict[int, Any] = {}
        for ref in self.models.roots:
            module = ref()
            if module is not None:
                for p in module.parameters():
                    tensors.setdefault(id(p), p)
        plain = not tensors  # no module: whatever the loss reaches is trained
        for key in reached:
            entry = self.trainings.by_leaf.get(key)
            p = entry[0]() if entry is not None else None
            if p is not None and (
                isinstance(p, torch.nn.Parameter) or key in state.parameters or self.optimizers.holds(p) or plain
            ):
                tensors.setdefault(key, p)
        if tensors:
            # Weights without a module, or of one that was called on the way: what stands in one optimizer with them is trained too.
            for optimizer in list(self.origins.optimizers):
                held_here = tensors_of(optimizer)
                if any(id(p) in tensors for p in held_here):
                    for p in held_here:
                        tensors.setdefault(id(p), p)
        facts = state.facts
        owners: dict[int, Site | None] = {}
        if any(key not in state.parameters for key in tensors):
            for ref in self.models.roots:
                for module in model.modules() if (model := ref()) is not None else ():
                    for p in module._parameters.values():
                        owners.setdefault(id(p), self.origins.modules.get(module))
        if self.models.roots and self.trainings.fresh and any(ref() is not None for ref, _ in state.parameters.values()):
            # The model is at hand, so what is dead now was replaced.
            for key in [k for k, (ref, _) in state.parameters.items() if ref() is None]:
                facts.parameters.remove(state.parameters.pop(key)[1])
                state.checksums.pop(key, None)
        for key, p in tensors.items():
            entry2 = state.parameters.get(key)
            if entry2 is None or entry2[0]() is not p:
                if len(state.parameters) >= MAX_PARAMETERS:
                    facts.parameters_total += 1
                    continue
                name = names.get(key)
                if name is None:
                    name = f"tensor {list(p.shape)}"
                    same = sum(r.name == name or r.name.startswith(f"{name} (") for r in facts.parameters)
                    name += f" ({same + 1})" if same else ""
                record = Parameter(name, list(p.shape), trainable=bool(p.requires_grad))
                state.parameters[key] = (weakref.ref(p), record)
                facts.parameters.append(record)
                facts.parameters_total += 1
                torch_modules.first_sight(record, p)
                record.made = owners.get(key)
                self.trainings.by_leaf.setdefault(key, (weakref.ref(p), state))
                if p.requires_grad:
                    state.checksums[key] = checksum(p)
            else:
                record = entry2[1]
                record.trainable = bool(p.requires_grad)
                if record.name.startswith("tensor ") and key in names:
                    record.name = names[key]
            if key in reached or (hidden and p.requires_grad):
                record.reached = True
        if self.models.roots:
            for optimizer in list(self.origins.optimizers):
                if id(optimizer) not in state.optimizers and any(id(p) in tensors for p in tensors_of(optimizer)):
                    self.optimizers.record(state, optimizer)
        held = {
            id(p) for ref, _ in state.optimizers.values() if (o := ref()) is not None for g in o.param_groups for p in g["params"]
        }
        for key, (ref, record) in state.parameters.items():
            p = ref()
            if p is None:
                continue
            record.held = record.held or key in held
            if p.grad is not None and record.gradient != "nonzero":
                record.gradient = "nonzero" if p.grad.is_sparse or bool((p.grad != 0).any()) else "zero"
            elif p.grad is None and record.gradient == "unknown" and facts.loop.backwards > 1:
                record.gradient = "none"
            if not record.changed and key in state.checksums and facts.loop.backwards > 1:
                record.changed = checksum(p) != state.checksums[key]

    def load_state_dict(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def load_state_dict(module: Any, *args: Any, **kwargs: Any) -> Any:
            if self.guard.active and self.trainings.current is not None and self.guard.local.depth == 0:
                self.loaded = sites.site(sites.caller(2))
            return original(module, *args, **kwargs)

        return load_state_dict

    def check_zeroing(self, state: State, recipe: Recipe) -> None:
        """Before a backward: does .grad still hold the gradient of a batch that was stepped on?

        Same storage and same version counter as after the step: nobody wrote to it. Old code zeroes through
        `.grad.data.zero_()`, which leaves the counter alone, so the numbers are looked at as well.
        """
        if self.guard.local.in_step or not state.stale_probe:
            return
        stale = False
        for p, pointer, version in state.stale_probe:
            g = p.grad
            if recipe.reached and id(p) not in recipe.reached:
                continue  # this backward adds nothing to it (another player's turn)
            if g is not None and g.data_ptr() == pointer and g._version == version and bool((g != 0).any()):
                stale = True
                break
        if state.first_since_step:
            state.stale_pending = stale
            state.first_since_step = False
        elif not stale:
            state.stale_pending = False  # zeroed after all, before the step

    def check_outside(self, state: State, anchor: Any) -> None:
        """Between a step and the next backward nobody else is expected to write weights."""
        known = state.anchor_version
        if known is None:
            return
        p = known[0]()
        state.anchor_version = None
        if p is None or p._version == known[1]:
            return
        loop = state.facts.loop
        loop.outside_changes += 1
        if state.reference is None or loop.outside_changes > 200:
            return
        q, before = state.reference[0](), state.reference[1]
        if q is None or q.shape != before.shape:
            return
        keys = [k for k in state.checksums if (e := state.parameters.get(k)) and e[0]() is not None]
        if keys and all(checksum(state.parameters[k][0]()) == state.checksums[k] for k in keys[:8]):
            self._reset(state)
        elif q.numel() >= 256:
            now = q.detach().flatten().double()
            then = before.flatten().double()
            both = torch.stack((now, then))
            r = float(torch.corrcoef(both)[0, 1])
            # Independent draws of n numbers correlate with standard deviation 1/sqrt(n); the same weights stay near 1.
            if abs(r) < 5 / math.sqrt(q.numel()):
                self._reset(state)

    def _reset(self, state: State) -> None:
        loop = state.facts.loop
        loop.resets += 1
        loop.reset_site = loop.reset_site or self.loaded
        if len(loop.reset_at) < 4096:
            loop.reset_at.append(state.rows)
        loop.resets_unused += not self.models.silent and len(self.models.roots) <= 1


def any_gradient(state: State) -> bool:
    """Did the backward that just ended leave a gradient that is not 0 in one of the first 16 tensors?"""
    checked = 0
    for ref, _ in state.parameters.values():
        p = ref()
        if p is not None and p.grad is not None:
            if p.grad.is_sparse:
                return True
            if bool((p.grad != 0).any()) or not bool(torch.isfinite(p.grad).all()):
                return True
            checked += 1
            if checked >= 16:
                break
    return False


def checksum(tensor: Any) -> int:
    """An integer sum over the bits: any single change changes it. Tensors above 2^20 numbers are sampled evenly."""
    t = tensor.detach()
    if t.numel() > 1 << 20:
        t = t.flatten()[:: t.numel() >> 18]
    if t.is_sparse or not t.numel() or t.is_complex():
        return 0
    t = t.contiguous().flatten()
    size = t.element_size()
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[size]
    bits = t.view(integers)
    return int(bits.long().sum()) * 31 + int((bits.long() & 0xFFFF).sum())
