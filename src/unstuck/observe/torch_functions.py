"""Functions of torch that the spy's mode does not see, or must make room for: `from_numpy`, `apply` of an autograd
Function, `torch.compile`, saved-tensor hooks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from unstuck.observe import sites
from unstuck.observe.torch_guard import Guard
from unstuck.observe.torch_patches import Patches


class Functions:
    """Makes the replacements of those functions."""

    def __init__(self, guard: Guard, patches: Patches) -> None:
        self.guard = guard
        self.patches = patches
        self.restore_apply: Callable[[], None] = lambda: None

    def watch_apply(self) -> None:
        """`apply` of the user's own autograd Functions is no torch function: the spy does not see it, the tape must."""
        owner, spy, local = torch.autograd.Function, self.guard.spy, self.guard.local
        original = owner.__dict__["apply"]

        def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
            tape = spy.tape
            if tape is None or local.depth or local.busy or local.in_backward or torch.compiler.is_compiling():
                return original.__func__(cls, *args, **kwargs)
            entry = self.guard.guarded(tape.before, functools.partial(original.__func__, cls), None, args, kwargs)
            out = original.__func__(cls, *args, **kwargs)
            if entry is not None:
                self.guard.guarded(tape.after, entry, out)
            return out

        replacement = classmethod(functools.wraps(original.__func__)(apply))
        owner.apply = replacement

        def back() -> None:
            if owner.__dict__.get("apply") is replacement:
                owner.apply = original

        self.patches.restore.append(back)
        self.restore_apply = back

    def compile(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def compile(*args: Any, **kwargs: Any) -> Any:
            # A mode on the stack is a guard of dynamo's: compiled with it, recompiled without it. So no spy from here on.
            self.guard.compiles = True
            self.restore_apply()  # dynamo knows torch's own by identity
            self.guard.drop_spy()
            return original(*args, **kwargs)

        return compile

    def from_numpy(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """No torch function to the mode of the spy."""

        def from_numpy(array: Any) -> Any:
            if self.guard.active and self.guard.spy.on and not torch.compiler.is_compiling():
                self.guard.guarded(lambda: self.guard.spy.array(array, sites.site(sites.caller(4))))
            return original(array)

        return from_numpy

    def packing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def __enter__(hooks: Any) -> Any:
            self.guard.packs = True
            return original(hooks)

        return __enter__
