"""Where things were made: the script's line of every module, optimizer, scheduler and gradient scaler, and of the nodes of
an autograd graph."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from unstuck.observe import sites
from unstuck.observe.torch_guard import Guard
from unstuck.trace.facts import Site

Made = WeakKeyDictionary[Any, "Site | None"]


class Origins:
    """Makes the replacements of the constructors; keeps what they tell, and no object alive."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.modules: Made = WeakKeyDictionary()
        self.optimizers: Made = WeakKeyDictionary()
        self.schedulers: Made = WeakKeyDictionary()  # by their optimizer
        self.scalers: Made = WeakKeyDictionary()

    def module_init(self, original: Callable[..., Any]) -> Callable[..., Any]:
        made = self.modules

        def __init__(module: Any, *args: Any, **kwargs: Any) -> None:
            original(module, *args, **kwargs)
            if self.guard.active:
                try:
                    made[module] = sites.site(constructor_caller(module))
                except Exception as error:
                    self.guard.own_error(error)

        return __init__

    def optimizer_init(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            if self.guard.active:
                self.guard.guarded(self.optimizers.__setitem__, optimizer, sites.site(constructor_caller(optimizer)))
            original(optimizer, *args, **kwargs)

        return __init__

    def scheduler_init(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(scheduler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> None:
            if self.guard.active:
                self.guard.guarded(self.schedulers.__setitem__, optimizer, sites.site(constructor_caller(scheduler)))
            original(scheduler, optimizer, *args, **kwargs)

        return __init__

    def scaler_init(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(scaler: Any, *args: Any, **kwargs: Any) -> None:
            original(scaler, *args, **kwargs)
            if self.guard.active:
                self.guard.guarded(self.scalers.__setitem__, scaler, sites.site(constructor_caller(scaler)))

        return __init__

    def describe(self, node: Any) -> tuple[Site | None, str, Site | None, list[str], bool]:
        """Of a graph node: its line, the class of its module, where that was made, which of its weights are frozen, and is
        it one of torch's own? Known while a pass is seen closely."""
        spy = self.guard.spy
        if not spy.ops and not spy.modules:
            return None, "", None, [], False
        op, module_call = spy.place(node._sequence_nr())
        place = sites.at(op.file, op.line, op.function) if op is not None else None
        if module_call is None:
            return place, "", None, [], False
        module = module_call.module
        frozen = [n for n, p in module.named_parameters(recurse=False) if not p.requires_grad]
        library = type(module).__module__.startswith("torch.")
        return place, type(module).__name__, self.modules.get(module), frozen, library


def constructor_caller(thing: Any) -> Any:
    """The frame that wrote `Thing(...)`: past every __init__ of the object itself. To be called from the replacement."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_name in {"__init__", "_no_nep50_warning"}:
        names = frame.f_code.co_varnames
        if not names or frame.f_locals.get(names[0]) is not thing:
            break
        frame = frame.f_back  # type: ignore[assignment]
    while frame is not None and sites.owner(frame.f_code.co_filename) != "user":
        frame = frame.f_back  # type: ignore[assignment]
    return frame
