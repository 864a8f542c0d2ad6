"""The script's optimizers: what each holds, how it is set, whether what it holds is what a loss trains."""

from __future__ import annotations

import weakref
from typing import Any

import torch

from unstuck.observe.torch_origins import Origins
from unstuck.observe.torch_state import State
from unstuck.trace.facts import Optimizer

_ADAPTIVE = tuple(
    getattr(torch.optim, n) for n in ("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta", "Rprop")
    if hasattr(torch.optim, n)
)  # fmt: skip
_ADAPTIVE_NAMES = ("Adam", "Lion", "LAMB", "Lamb", "Adafactor", "Sign", "Shampoo", "Muon", "RMS", "Prodigy")


class Optimizers:
    """Every optimizer that was made and still lives."""

    def __init__(self, origins: Origins) -> None:
        self.origins = origins

    def holds(self, tensor: Any) -> bool:
        """Is it in a group of any optimizer?"""
        return any(tensor is p for o in list(self.origins.optimizers) for p in tensors_of(o))

    def hyper_of(self, leaves: list[Any]) -> str:
        """The settings of the optimizer that holds one of these tensors."""
        ids = {id(p) for p in leaves}
        for optimizer in list(self.origins.optimizers):
            if any(id(p) in ids for p in tensors_of(optimizer)):
                return hyper_text(optimizer)
        return ""

    def record(self, state: State, optimizer: Any) -> Optimizer:
        """Its record among the facts of this training, made where there is none."""
        entry = state.optimizers.get(id(optimizer))
        if entry is not None and entry[0]() is optimizer:
            return entry[1]
        group = optimizer.param_groups[0] if optimizer.param_groups else {}
        betas = group.get("betas") or (group.get("momentum", 0.0),)
        record = Optimizer(
            type(optimizer).__name__, made=self.origins.optimizers.get(optimizer),
            tensors=sum(len(g["params"]) for g in optimizer.param_groups), maximize=bool(group.get("maximize", False)),
            weight_decay=float(group.get("weight_decay", 0) or 0), momentum=float(betas[0] or 0),
            hyper=hyper_text(optimizer),
            decoupled="AdamW" in type(optimizer).__name__ or bool(group.get("decoupled_weight_decay")),
            adaptive=isinstance(optimizer, _ADAPTIVE) or any(n in type(optimizer).__name__ for n in _ADAPTIVE_NAMES),
        )  # fmt: skip
        rebuilt = state.facts.loop.rebuilt_total
        same = next((o for _, o in state.optimizers.values() if o.hyper == record.hyper and o.made == record.made), None)
        if rebuilt and same is not None:
            record = same  # the rebuilt model's optimizer goes on as the old one's
        else:
            state.facts.optimizers.append(record)
        state.optimizers[id(optimizer)] = (weakref.ref(optimizer), record)
        strangers(state)
        return record


def tensors_of(optimizer: Any) -> list[Any]:
    """All that stands in its groups; nothing while it is being constructed."""
    return [p for g in getattr(optimizer, "param_groups", ()) for p in g["params"]]


def strangers(state: State) -> None:
    """Tensors in the groups that no loss reaches."""
    reached = {k for k, (_, p) in state.parameters.items() if p.reached}
    for ref, record in state.optimizers.values():
        optimizer = ref()
        if optimizer is None or not reached:
            continue
        tensors = [p for g in optimizer.param_groups for p in g["params"]]
        found = [p for p in tensors if id(p) not in reached and p.grad is None and p.requires_grad]
        record.tensors, record.strangers = len(tensors), len(found)
        record.stranger_names = [
            state.parameters[id(p)][1].name if id(p) in state.parameters else f"tensor {list(p.shape)}" for p in found[:5]
        ]
        ids = {id(p) for p in tensors}
        for key, (_, parameter) in state.parameters.items():
            if key in ids:
                parameter.held = True
    if state.facts.loop.rebuilt_total:
        last = next(reversed(state.optimizers.values()), None)
        kept = last is not None and last[1].strangers == last[1].tensors > 0
        state.facts.loop.optimizer_kept = state.facts.loop.optimizer_kept or kept


def adversarial(state: State) -> None:
    """Between the last backward calls and this one: did gradients go into tensors of an optimizer that did not
    step on them, while another one stepped? Then two players share a loss."""
    stepped, state.stepped = state.stepped, set()
    if not stepped:
        return
    reach, state.pending_reached = state.pending_reached, set()
    if len(state.optimizers) < 2 or state.facts.loop.steps > 400:
        return
    mine, others = set(), set()
    for ref, record in state.optimizers.values():
        optimizer = ref()
        if optimizer is not None and record.steps:
            held = {id(p) for g in optimizer.param_groups for p in g["params"]}
            (mine if id(optimizer) in stepped else others).update(held)
    if reach & mine and reach & others - mine:
        state.facts.loop.adversarial += 1


def hyper_text(optimizer: Any) -> str:
    """The options of an optimizer as text: the same text means the same settings."""
    defaults = getattr(optimizer, "defaults", {})
    return (
        type(optimizer).__name__
        + " "
        + ", ".join(f"{k}={v}" for k, v in sorted(defaults.items()) if not isinstance(v, torch.Tensor))
    )
