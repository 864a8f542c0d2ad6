"""What the script calls: models in their forward passes, with and without gradients, and the tensors given to them."""

from __future__ import annotations

import weakref
from typing import Any

import torch

from unstuck.observe import torch_probes
from unstuck.observe.torch_state import MAX_PARAMETERS
from unstuck.trace.facts import Site


class Models:
    """The models called since the last backward. The loop writes it at each forward pass; no model is kept alive."""

    def __init__(self) -> None:
        self.roots: list[weakref.ref[Any]] = []  # called with gradients since the last backward
        self.quiet: list[weakref.ref[Any]] = []  # models called without gradients since the last backward
        self.silent: list[weakref.ref[Any]] = []  # those before this backward
        self.last_root: weakref.ref[Any] | None = None
        self.last_inputs: list[weakref.ref[Any]] = []
        self.last_output: weakref.ref[Any] | None = None
        self.inputs: list[list[weakref.ref[Any]]] = []  # tensors given to each model call since the last backward
        self.input_site: Site | None = None
        self.forward_open = False  # a forward pass in training mode, and no backward yet
        self.forwards = 0
        self.dropped = 0  # forward passes in training mode that no backward followed
        self._trained: dict[int, tuple[weakref.ref[Any], bool]] = {}
        self.mode_layers: dict[int, tuple[weakref.ref[Any], list[tuple[str, Any]]]] = {}  # of a model: (name, module)

    def is_model(self, module: Any) -> bool:
        """Has it weights?"""
        known = self._trained.get(id(module))
        if known is not None and known[0]() is module:
            return known[1]
        has = next(module.parameters(), None) is not None
        self._trained[id(module)] = (weakref.ref(module), has)
        if len(self._trained) > 4096:
            self._trained.clear()
        return has

    def after_root(self, module: Any, out: Any) -> None:
        """What a model returned: its first tensor, or its logits."""
        if not torch.is_grad_enabled() or self.last_root is None or self.last_root() is not module:
            return
        if not isinstance(out, torch.Tensor):
            out = getattr(out, "logits", None) if not isinstance(out, (tuple, list)) else next(
                (o for o in out if isinstance(o, torch.Tensor)), None
            )  # fmt: skip
        self.last_output = weakref.ref(out) if isinstance(out, torch.Tensor) else None

    def called(self) -> Any:
        """The model called last with gradients, if it lives."""
        for ref in reversed(self.roots):
            module = ref()
            if module is not None:
                return module
        return None

    def names(self) -> dict[int, str]:
        """id of each weight of these models -> its name."""
        names: dict[int, str] = {}
        several = len({id(r()) for r in self.roots if r() is not None}) > 1
        for ref in self.roots:
            module = ref()
            if module is None:
                continue
            prefix = f"{type(module).__name__}." if several else ""
            for name, p in module.named_parameters():
                names.setdefault(id(p), prefix + name)
                if len(names) > MAX_PARAMETERS:
                    return names
        return names

    def look_for_modes(self, model: Any) -> tuple[weakref.ref[Any], list[tuple[str, Any]]]:
        """Its dropout and batch-norm layers, which are then known."""
        found = (weakref.ref(model), [(n, m) for n, m in model.named_modules() if torch_probes.kind_of(m)][:64])
        self.mode_layers[id(model)] = found
        if len(self.mode_layers) > 256:
            self.mode_layers.clear()
        return found

    def let_go(self) -> None:
        """Of the layers of models that are gone: the list of them is our own hold on them."""
        self.mode_layers = {k: v for k, v in self.mode_layers.items() if v[0]() is not None}
