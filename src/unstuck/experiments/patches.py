"""How torch is patched for the duration of an experiment, and where in the user's code a call was made.

`Patches` replaces attributes and puts them back; on top of that stand the four boundaries where interventions work:
`at_loss` (a call of one of torch's loss functions), `around_backward`, `around_step`, `around_model` (a model's call).

Functions are replaced rather than intercepted by a TorchFunctionMode: a mode that is always on would keep the observer
from pushing its own. Under a mode torch hands over the function by its present name, which is ours, and would call us a
second time: `call` therefore marks the thread while an original runs, and patched functions are themselves then.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from unstuck.experiments.change import PATIENCE, Applied, Place, constructing, place_in
from unstuck.observe import sites

LOSSES = (
    "cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss", "l1_loss",
    "smooth_l1_loss", "huber_loss", "kl_div", "poisson_nll_loss", "soft_margin_loss", "multi_margin_loss",
    "multilabel_margin_loss", "multilabel_soft_margin_loss", "hinge_embedding_loss", "gaussian_nll_loss",
)  # fmt: skip


class Call:
    """A call of a loss function; what a change writes to `arguments` or `function` is what is run."""

    def __init__(self, name: str, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
        self.name = name
        self.function = function
        self.arguments = arguments

    @property
    def input(self) -> Any:
        return self.arguments["input"]

    @input.setter
    def input(self, value: Any) -> None:
        self.arguments["input"] = value

    @property
    def target(self) -> Any:
        return self.arguments["target"]

    @target.setter
    def target(self, value: Any) -> None:
        self.arguments["target"] = value


class Patches:
    """What was replaced, how to undo it, and what the boundaries of a training share."""

    def __init__(self, applied: Applied, arguments: dict[str, Any]) -> None:
        self.applied = applied
        self.arguments = arguments
        self.active = True
        self.local = threading.local()
        self.undo: list[Callable[[], None]] = []
        self.losses = {n: getattr(F, n) for n in LOSSES}
        self.made: weakref.WeakKeyDictionary[Any, tuple[str, int]] | None = None
        self.optimizers: list[weakref.ref[Any]] | None = None
        self.backwards = 0
        self.hooks: list[tuple[Any, Any, Any]] = []  # (change, before, after) of each backward call
        self.by_hand: list[Callable[[list[Any], Any], Any]] = []  # (leaves, gradients) -> gradients, of autograd.grad

    def number(self, name: str, default: float | None = None) -> float:
        """An argument as a number. Raises KeyError where it is missing and has no default."""
        value = self.arguments[name] if default is None else self.arguments.get(name, default)
        return float(value)

    def place(self, prefix: str = "") -> Place | None:
        return place_in(self.arguments, prefix)

    # ------------------------------------------------------------------ replacing and restoring

    def replace(self, owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """owner.name becomes make(original); nothing where there is no such attribute."""
        if not hasattr(owner, name):
            return
        own = name in vars(owner)  # torch.Tensor inherits most of its methods from C
        original = vars(owner)[name] if own and isinstance(owner, type) else getattr(owner, name)
        changed = make(original)

        @functools.wraps(original)
        def replacement(*args: Any, **kwargs: Any) -> Any:
            if not self.active or getattr(self.local, "plain", False):
                return original(*args, **kwargs)
            return changed(*args, **kwargs)

        setattr(owner, name, replacement)

        def back() -> None:
            if vars(owner).get(name) is replacement:  # wrapped by somebody else since: then ours stays, and is inert
                if own:
                    setattr(owner, name, original)
                else:
                    delattr(owner, name)

        self.undo.append(back)

    def set(self, owner: Any, name: str, value: Any) -> None:
        """owner.name = value until the end."""
        before = getattr(owner, name)
        setattr(owner, name, value)
        self.undo.append(lambda: setattr(owner, name, before))

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run one of torch's own functions with the patched functions being themselves."""
        before = getattr(self.local, "plain", False)
        self.local.plain = True
        try:
            return function(*args, **kwargs)
        finally:
            self.local.plain = before

    def restore(self) -> None:
        self.active = False
        while self.undo:
            self.undo.pop()()

    # ------------------------------------------------------------------ where in the user's code

    def remember_modules(self) -> None:
        """Note from now on the line that constructs each module."""
        if self.made is not None:
            return
        made = self.made = weakref.WeakKeyDictionary()

        def make(original: Any) -> Any:
            def __init__(module: Any, *args: Any, **kwargs: Any) -> None:
                original(module, *args, **kwargs)
                frame = constructing(module)
                if frame is not None:
                    made[module] = (frame.f_code.co_filename, frame.f_lineno)

            return __init__

        self.replace(torch.nn.Module, "__init__", make)

    def is_made_at(self, thing: Any, place: Place) -> bool:
        where = self.made.get(thing) if self.made is not None else None
        return where is not None and place.names(*where)

    # ------------------------------------------------------------------ the loss

    def at_loss(
        self, change: Callable[[Call], None], names: Iterable[str] = LOSSES, what: str = "", anywhere: bool = False
    ) -> None:
        """`change` is called with every call of these loss functions, at file:line where the arguments name a line (of
        the call or of the criterion's constructor) and it is not `anywhere`.

        `what` says what could not be found.
        """
        place = None if anywhere else self.place()
        if place is not None:
            self.remember_modules()
        for name in names:
            self.replace(F, name, functools.partial(self._loss, name, change, place))
        if what:
            self.expect(f"{what} (losses written by hand cannot be changed from outside)")

    def _loss(self, name: str, change: Callable[[Call], None], place: Place | None, original: Any) -> Any:
        signature = inspect.signature(original)

        def changed(*args: Any, **kwargs: Any) -> Any:
            try:
                arguments = dict(signature.bind(*args, **kwargs).arguments)
            except TypeError:
                return self.call(original, *args, **kwargs)  # the script's own mistake, with torch's own message
            if place is not None:
                modules, frame = surroundings()
                if not place.is_at(frame) and not any(self.is_made_at(m, place) for m in modules):
                    return self.call(original, *args, **kwargs)
            call = Call(name, original, arguments)
            change(call)
            return self.call(call.function, **call.arguments)

        return changed

    def expect(self, reason: str, ends: bool = True) -> None:
        """The reason where nothing has been changed at the end; `ends`: give up long before."""
        self.applied.missing = reason
        if not ends:
            return

        def after(roots: list[Any]) -> None:
            if not self.applied.count and self.backwards >= PATIENCE:
                raise self.applied.impossible(reason)

        self.around_backward(after=after)

    # ------------------------------------------------------------------ backward

    def around_backward(
        self, change: Callable[[Any, Any], tuple[Any, Any]] | None = None, before: Callable[[list[Any]], None] | None = None,
        after: Callable[[list[Any]], None] | None = None,
    ) -> None:  # fmt: skip
        """`change(root, gradient)` returns both as they are to be used; `before` and `after` get the roots.

        Tensor.backward is patched, not only what it calls, so that an observer sees the changed root. Gradients by hand
        (autograd.grad) count where they are those of leaves: others are penalties, attacks, meta learning.
        """
        first = not self.hooks
        self.hooks.append((change, before, after))
        if not first:
            return

        def method(original: Any) -> Any:
            def backward(root: Any, gradient: Any = None, *args: Any, **kwargs: Any) -> Any:
                return self._backward([root], [gradient], lambda r, g: original(r[0], g[0], *args, **kwargs))

            return backward

        def function(original: Any) -> Any:
            def backward(tensors: Any, grad_tensors: Any = None, *args: Any, **kwargs: Any) -> Any:
                roots, given = _paired(tensors, grad_tensors)
                return self._backward(roots, given, lambda r, g: original(r, g, *args, **kwargs))

            return backward

        def gradients(original: Any) -> Any:
            def grad(outputs: Any, inputs: Any, grad_outputs: Any = None, *args: Any, **kwargs: Any) -> Any:
                several = [inputs] if isinstance(inputs, torch.Tensor) else list(inputs)
                trained = all(isinstance(t, torch.Tensor) and t.is_leaf for t in several)
                if not trained or kwargs.get("create_graph") or (len(args) > 1 and args[1]):
                    return original(outputs, inputs, grad_outputs, *args, **kwargs)
                roots, given = _paired(outputs, grad_outputs)
                out = self._backward(roots, given, lambda r, g: original(r, inputs, g, *args, **kwargs))
                for change in self.by_hand:
                    out = change(several, out)
                return out

            return grad

        self.replace(torch.Tensor, "backward", method)
        self.replace(torch.autograd, "backward", function)
        self.replace(torch.autograd, "grad", gradients)

    def _backward(self, roots: list[Any], given: list[Any], run: Callable[[list[Any], list[Any]], Any]) -> Any:
        if getattr(self.local, "in_backward", False):
            return run(roots, given)
        self.backwards += 1
        for change, before, _ in self.hooks:
            if before is not None:
                before(roots)
            if change is not None:
                pairs = [change(r, g) for r, g in zip(roots, given)]
                roots, given = [r for r, _ in pairs], [g for _, g in pairs]
        self.local.in_backward = True
        try:
            out = run(roots, given)
        finally:
            self.local.in_backward = False
        for _, _, after in self.hooks:
            if after is not None:
                after(roots)
        return out

    # ------------------------------------------------------------------ steps

    def around_step(
        self, before: Callable[[Any], None] | None = None, after: Callable[[Any], None] | None = None
    ) -> None:
        """Called with the optimizer, through torch's own hooks, in front of the observer's."""
        if before is not None:
            self.undo.append(register_optimizer_step_pre_hook(lambda o, a, k: before(o) if self.active else None).remove)
        if after is not None:
            self.undo.append(register_optimizer_step_post_hook(lambda o, a, k: after(o) if self.active else None).remove)

    def remember_optimizers(self) -> None:
        if self.optimizers is not None:
            return
        known = self.optimizers = []

        def make(original: Any) -> Any:
            def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:
                original(optimizer, *args, **kwargs)
                known.append(weakref.ref(optimizer))

            return __init__

        self.replace(torch.optim.Optimizer, "__init__", make)

    def alive(self) -> list[Any]:
        """The optimizers that exist, in the order of their making."""
        return [o for ref in self.optimizers or [] if (o := ref()) is not None]

    # ------------------------------------------------------------------ models

    def around_model(self, before: Callable[[Any, tuple[Any, ...], dict[str, Any]], tuple[Any, Any] | None]) -> None:
        """`before(model, args, kwargs)` at each call of an outermost module that has parameters; it may return other
        arguments."""
        local = self.local

        def make(original: Any) -> Any:
            def __call__(module: Any, *args: Any, **kwargs: Any) -> Any:
                if getattr(local, "depth", 0):
                    return original(module, *args, **kwargs)
                if next(module.parameters(), None) is not None:
                    changed = before(module, args, kwargs)
                    if changed is not None:
                        args, kwargs = changed
                local.depth = 1
                try:
                    return original(module, *args, **kwargs)
                finally:
                    local.depth = 0

            return __call__

        self.replace(torch.nn.Module, "__call__", make)


def _paired(tensors: Any, gradients: Any) -> tuple[list[Any], list[Any]]:
    """Roots and their gradients as two lists of one length."""
    roots = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
    if gradients is None:
        return roots, [None] * len(roots)
    return roots, [gradients] if isinstance(gradients, torch.Tensor) else list(gradients)


def surroundings() -> tuple[list[Any], FrameType | None]:
    """(modules of torch whose forward is running above the user's innermost frame, innermost first; that frame)."""
    frame: FrameType | None = sys._getframe(2)
    modules = []
    while frame is not None:
        code = frame.f_code
        kind = sites.owner(code.co_filename)
        if kind == "user":
            break
        if kind == "torch" and code.co_name == "forward":
            module = frame.f_locals.get("self")
            if isinstance(module, torch.nn.Module):
                modules.append(module)
        frame = frame.f_back
    return modules, frame


def leaves(roots: Iterable[Any]) -> list[Any]:
    """The leaf tensors that a backward of these roots gives gradients to."""
    stack = [r.grad_fn for r in roots if isinstance(r, torch.Tensor) and r.grad_fn is not None]
    seen, found = set(stack), []
    while stack:
        node = stack.pop()
        variable = getattr(node, "variable", None)
        if variable is not None:
            found.append(variable)
        for child, _ in node.next_functions:
            if child is not None and child not in seen:
                seen.add(child)
                stack.append(child)
    return found
