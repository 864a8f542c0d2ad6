"""Which training does a loss belong to? The one whose weights it reaches; where none is known, a new one."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import torch

from unstuck.observe import torch_graph
from unstuck.observe.torch_guard import SPIED_PASSES, Guard
from unstuck.observe.torch_models import Models
from unstuck.observe.torch_optimizers import Optimizers
from unstuck.observe.torch_origins import Origins
from unstuck.observe.torch_state import State

MAX_TRAININGS = 64


class Trainings:
    """Every training of the script, found by its weights."""

    def __init__(self, guard: Guard, origins: Origins, models: Models, optimizers: Optimizers) -> None:
        self.guard = guard
        self.origins = origins
        self.models = models
        self.optimizers = optimizers
        self.states: list[State] = []
        self.by_leaf: dict[int, tuple[weakref.ref[Any], State]] = {}
        self.current: State | None = None  # of the latest backward or step
        self.looking = True  # the latest backward was looked at, not only glanced at
        self.fresh = False  # the loss of this backward leads to tensors not seen before
        self._looks_again = 0

    def of(self, loss: Any, anchor: Any) -> State | None:
        """Of a loss with a graph, whose first leaf is `anchor`. None: no weight can be reached from it."""
        if anchor is not None:
            entry = self.by_leaf.get(id(anchor))
            if entry is not None and entry[0]() is anchor:
                return entry[1]
        _, leaves, hidden = torch_graph.walk(loss.grad_fn)
        own = [t for t in leaves if isinstance(t, torch.nn.Parameter) or self.optimizers.holds(t)]
        if not own:
            model = self.models.called()
            if model is not None and leaves:
                # torch.func.functional_call: the weights are plain tensors in the shapes of the module's parameters.
                shapes = [p.shape for p in model.parameters() if p.requires_grad]
                if 2 * len(leaves) > len(shapes) and all(t.shape in shapes for t in leaves):
                    own, model = leaves, None
            if own:
                pass
            elif model is not None and not hidden:
                # Gradient flows, but only into tensors that are nobody's weights: x.requires_grad_(), logits.detach()...
                return None
            elif model is not None:
                own = [p for p in model.parameters() if p.requires_grad]
            else:
                own = leaves
                silent = self._switched_off(leaves)
                if silent is not None:
                    self.models.roots.append(weakref.ref(silent))
                    return None
        if not own:
            return None
        self.fresh = True
        for leaf in own:
            entry = self.by_leaf.get(id(leaf))
            if entry is not None and entry[0]() is leaf:
                self.register(entry[1], own)
                if entry[1].facts.loop.backwards >= SPIED_PASSES and self._looks_again < 8:
                    self._looks_again += 1
                    self.guard.spy_left = max(self.guard.spy_left, 1)  # layers were exchanged: see one pass closely
                return entry[1]
        return self.new(own)

    def _switched_off(self, leaves: list[Any]) -> Any:
        """The model that an optimizer holds, where it ran without gradients and the loss ends at what it returned.

        `out.requires_grad_()` makes backward run; nobody trains `out`, a new tensor at every step. What is optimised as a
        tensor (a latent code, an image) is held by its own optimizer, or no optimizer holds the model.
        """
        if not all(self.guard.spy._taint(t) is not None or t.grad is None for t in leaves):
            return None
        for ref in reversed(self.models.silent):
            model = ref()
            if model is not None and any(p.requires_grad and self.optimizers.holds(p) for p in model.parameters()):
                return model
        return None

    def new(self, leaves: list[Any]) -> State:
        """A training of these weights: a new one, or a known one whose model was built again."""
        model = self.models.called()
        made = self.origins.modules.get(model) if model is not None else None
        shapes = tuple(sorted(tuple(p.shape) for p in leaves))
        hyper = self.optimizers.hyper_of(leaves)
        signature = (type(model).__name__, made, shapes)
        for state in reversed(self.states):
            if state.signature[2:] == signature[2:] and not any(isinstance(p, torch.nn.Parameter) for p in leaves):
                # Plain tensors, new ones at each step: the weights are replaced by their update, not written to.
                state.facts.loop.functional = True
                state.forget_weights()
                state.by_hand = []
                self.register(state, leaves)
                return state
            known = {o.hyper for _, o in state.optimizers.values() if o.steps}
            same = not known or not hyper or hyper in known
            if state.signature == signature and same and model is not None:
                loop = state.facts.loop
                loop.rebuilt_total += 1
                if len(loop.rebuilt) < 4096:
                    loop.rebuilt.append(state.rows)
                loop.rebuilt_site = made
                state.tape = None  # it holds the model that is gone
                state.stale_probe = []  # and so does this
                if loop.rebuilt_total <= 4:
                    self._what_became(state, model)
                state.recipes.clear()
                state.forget_weights()
                state.anchor_version = state.reference = None
                self.register(state, leaves)
                return state
        if len(self.states) >= MAX_TRAININGS:
            self.guard.run.notes.append(f"more than {MAX_TRAININGS} trainings in this script: the later ones were not observed")
            state = self.states[-1]
            self.register(state, leaves)
            return state
        state = State(len(self.states))
        state.signature = signature
        state.facts.made = made
        state.facts.name = type(model).__name__ if model is not None else ""
        self.states.append(state)
        self.register(state, leaves)
        if len(self.states) > 1 and self.guard.spied_passes >= SPIED_PASSES and len(self.states) < 8:
            self.guard.spy_left = 1  # a new training: see one pass of it closely
        return state

    def _what_became(self, state: State, model: Any) -> None:
        """Of the model before this one: does it live on (an ensemble), and was it called again after its last step?

        Whatever was called since its last step, but for the new model's first pass, may have been it: a validation, a test,
        distillation.
        """
        called = bool(self.models.silent) or any(ref() is not model for ref in self.models.roots)
        self.models.let_go()
        if any(ref() is not None for ref, _ in state.parameters.values()):
            gc.collect()  # a scheduler and its optimizer hold each other, and through the groups the weights
        kept = any(ref() is not None for ref, _ in state.parameters.values())
        state.facts.loop.rebuilt_kept += kept
        state.facts.loop.rebuilt_unused += not kept and not called

    def register(self, state: State, leaves: list[Any]) -> None:
        """From now on a loss that leads to one of these is this training's."""
        for leaf in leaves:
            self.by_leaf[id(leaf)] = (weakref.ref(leaf), state)

    def of_optimizer(self, optimizer: Any) -> State | None:
        """The training whose weights it holds; where it holds none that is known, the current one."""
        for state in self.states:
            entry = state.optimizers.get(id(optimizer))
            if entry is not None and entry[0]() is optimizer:
                return state
        for group in optimizer.param_groups:
            for p in group["params"]:
                entry = self.by_leaf.get(id(p))
                if entry is not None and entry[0]() is p:
                    return entry[1]
        return self.current
