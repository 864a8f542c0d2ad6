"""Interventions on the training loop: learning rate, zeroing, stepping, clipping, which tensors the optimizer holds."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch

from unstuck.experiments.change import rounded
from unstuck.experiments.patches import LOSSES, Patches, leaves

# -------------------------------------------------------------------------------------------------- options of a step


class Options:
    """Options of an optimizer's groups that hold during its steps only: what the script prints, saves and schedules is
    its own. `change(optimizer, group, index)` returns the new value of group[name], or None.

    A step that raised never came to its end: the next one starts by putting back what it left.
    """

    def __init__(self, patches: Patches, name: str, change: Callable[[Any, dict[str, Any], int], Any]) -> None:
        self.patches = patches
        self.name = name
        self.change = change
        self.saved: weakref.WeakKeyDictionary[Any, list[tuple[dict[str, Any], Any, Any]]] = weakref.WeakKeyDictionary()
        patches.around_step(self.before, self.after)

    def before(self, optimizer: Any) -> None:
        self.after(optimizer)
        saved = []
        for index, group in enumerate(optimizer.param_groups):
            old = group.get(self.name)
            new = self.change(optimizer, group, index) if old is not None else None
            if new is not None:
                saved.append((group, old, new))
                group[self.name] = new
        if saved:
            self.saved[optimizer] = saved
            self.patches.applied.count += 1

    def after(self, optimizer: Any) -> None:
        for group, old, new in self.saved.pop(optimizer, ()):
            if group[self.name] is new:  # else the step has set it itself
                group[self.name] = old


def _times(value: Any, factor: float) -> Any:
    return value * factor if isinstance(value, torch.Tensor) else rounded(value * factor)


def scale_learning_rate(patches: Patches) -> None:
    """Times the factor during each step. Where no optimizer was ever made, the backward is given the factor as the
    gradient of the loss: in `p -= lr * p.grad` that is the same, and a loop whose steps turn out not to be proportional
    to the gradient is refused."""
    factor = patches.number("factor")
    patches.remember_optimizers()
    Options(patches, "lr", lambda optimizer, group, index: _times(group["lr"], factor))
    steps: list[tuple[Any, Any, Any]] = []  # tensor, its values and its gradient when a backward had ended

    def by_hand() -> bool:
        return not patches.optimizers

    def change(root: Any, gradient: Any) -> tuple[Any, Any]:
        if not by_hand():
            return root, gradient
        patches.applied.count += 1
        return root, (torch.ones_like(root) if gradient is None else gradient) * factor

    def before(roots: list[Any]) -> None:
        if by_hand() and steps and patches.backwards > 1:
            moved = [(t.detach() - old, g) for t, old, g in steps if not torch.equal(t.detach(), old)]
            steps.clear()
            if moved and not _proportional(moved):
                raise patches.applied.impossible("the step is written by hand and is not proportional to the gradient")

    def after(roots: list[Any]) -> None:
        if by_hand() and patches.backwards <= 3:
            steps[:] = [(t, t.detach().clone(), t.grad.clone()) for t in leaves(roots) if t.grad is not None]

    def taken(tensors: list[Any], gradients: Any) -> Any:
        if by_hand() and patches.backwards <= 3:
            steps[:] = [(t, t.detach().clone(), g.clone()) for t, g in zip(tensors, gradients) if g is not None]
        return gradients

    patches.around_backward(change, before, after)
    patches.by_hand.append(taken)


def _proportional(moved: list[tuple[Any, Any]]) -> bool:
    """Are the moves -c times the gradients, with one c?"""
    a = torch.cat([m.double().flatten() for m, _ in moved])
    b = torch.cat([g.double().flatten() for _, g in moved])
    if not bool(torch.isfinite(a).all() & torch.isfinite(b).all()):
        return True  # nothing can be said
    c = float(a @ b / (b @ b).clamp_min(1e-300))
    # A step is rounded to the digits of the weights: small steps of large weights are known coarsely.
    return c < 0 and float((a - c * b).norm()) <= 0.05 * float(a.norm()) + 1e-7 * len(a) ** 0.5


def set_learning_rate(patches: Patches) -> None:
    lr = patches.number("lr")
    Options(patches, "lr", lambda optimizer, group, index: lr)
    _needs_optimizer(patches)


def constant_learning_rate(patches: Patches) -> None:
    """The rate before any scheduler: what a scheduler notes as initial_lr, else the group's when it was made."""
    first: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()

    def make(original: Any) -> Any:
        def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            original(optimizer, *args, **kwargs)
            first[optimizer] = [_copied(g.get("lr")) for g in optimizer.param_groups]

        return __init__

    patches.replace(torch.optim.Optimizer, "__init__", make)

    def change(optimizer: Any, group: dict[str, Any], index: int) -> Any:
        made = first.get(optimizer, [])
        value = group.get("initial_lr", made[index] if index < len(made) else None)
        if value is not None and float(value) == 0:
            raise patches.applied.impossible("the learning rate was 0 from the start")
        return None if value is None else _copied(value)

    Options(patches, "lr", change)
    _needs_optimizer(patches)


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def scale_weight_decay(patches: Patches) -> None:
    factor = patches.number("factor")
    Options(patches, "weight_decay", lambda o, group, i: _times(group["weight_decay"], factor) if group["weight_decay"] else None)
    patches.expect("no optimizer has a weight decay (a penalty written by hand cannot be changed from outside)")


def _needs_optimizer(patches: Patches) -> None:
    patches.expect("no optimizer of torch takes the steps")


def adaptive_optimizer(patches: Patches) -> None:
    """Each step of torch.optim.SGD is one of Adam on the same tensors."""
    lr = patches.number("lr", 1e-3)
    adams: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    def make(original: Any) -> Any:
        def step(optimizer: Any, closure: Any = None) -> Any:
            adam = adams.get(optimizer)
            if adam is None:
                adam = adams[optimizer] = torch.optim.Adam([p for g in optimizer.param_groups for p in g["params"]], lr=lr)
            adam.param_groups[0]["params"] = [p for g in optimizer.param_groups for p in g["params"]]
            patches.applied.count += 1
            return adam.step(closure)

        return step

    patches.replace(torch.optim.SGD, "step", make)
    torch.optim.SGD.step.hooked = True  # type: ignore[attr-defined]  # the hooks of the step run once: for Adam
    patches.expect("no torch.optim.SGD takes the steps")


# ------------------------------------------------------------------------------------------------ zeroing and stepping


def _drop(tensors: Any) -> bool:
    """Zero gradients as zero_grad() does; was there one?"""
    found = False
    for p in tensors:
        found = found or p.grad is not None
        p.grad = None
    return found


def _held(optimizer: Any) -> list[Any]:
    return [p for g in optimizer.param_groups for p in g["params"]]


def zero_before_backward(patches: Patches) -> None:
    """At the first backward after a step, and at each backward inside one (a closure), what the optimizer holds has no
    gradient: backward calls between two steps still add up. In a loop without an optimizer a step is seen by the weights
    having changed."""
    due: weakref.WeakSet[Any] = weakref.WeakSet()
    inside: list[Any] = []
    by_hand: list[tuple[Any, Any]] = []  # tensor, its values when the last backward had ended
    patches.remember_optimizers()

    def step_begins(optimizer: Any) -> None:
        inside.append(optimizer)

    def step_ends(optimizer: Any) -> None:
        if optimizer in inside:
            inside.remove(optimizer)
        due.add(optimizer)

    def before(roots: list[Any]) -> None:
        for optimizer in {*due, *inside}:
            patches.applied.count += _drop(_held(optimizer))
        due.clear()
        if by_hand and not patches.optimizers:
            if any(not torch.equal(p.detach(), old) for p, old in by_hand):
                patches.applied.count += _drop(p for p, _ in by_hand)
            by_hand.clear()

    def after(roots: list[Any]) -> None:
        if not patches.optimizers:
            by_hand[:] = [(p, p.detach().clone()) for p in leaves(roots)]

    patches.around_step(step_begins, step_ends)
    patches.around_backward(before=before, after=after)


def keep_gradients_until_step(patches: Patches) -> None:
    """zero_grad after a backward is put off to the first backward after the step."""
    fresh = False  # a backward has ended, and no step since
    due: weakref.WeakSet[Any] = weakref.WeakSet()  # optimizers and models whose zero_grad was put off
    ready: weakref.WeakSet[Any] = weakref.WeakSet()  # the same, and a step has been taken
    inside = 0

    def make(original: Any) -> Any:
        def zero_grad(thing: Any, *args: Any, **kwargs: Any) -> Any:
            if not fresh:
                return original(thing, *args, **kwargs)
            due.add(thing)
            patches.applied.count += 1
            return None

        return zero_grad

    def step_begins(optimizer: Any) -> None:
        nonlocal inside
        inside += 1

    def step_ends(optimizer: Any) -> None:
        nonlocal fresh, inside
        inside, fresh = max(0, inside - 1), False
        ready.update(due)
        due.clear()

    def before(roots: list[Any]) -> None:
        if inside:  # a closure is called again and again inside one step
            ready.update(due)
            due.clear()
        for thing in list(ready):
            _drop(thing.parameters() if isinstance(thing, torch.nn.Module) else _held(thing))
        ready.clear()

    def after(roots: list[Any]) -> None:
        nonlocal fresh
        fresh = True

    patches.replace(torch.optim.Optimizer, "zero_grad", make)
    patches.replace(torch.nn.Module, "zero_grad", make)
    patches.around_step(step_begins, step_ends)
    patches.around_backward(before=before, after=after)
    patches.expect("no zero_grad was called between a backward and the step", ends=False)


def call_step(patches: Patches) -> None:
    """After each backward the optimizers step that hold what it gave gradients to. The next backward starts from no
    gradients, and a step of the script's own before it finds none."""
    patches.remember_optimizers()
    ours = False
    done: weakref.WeakSet[Any] = weakref.WeakSet()

    def after(roots: list[Any]) -> None:
        nonlocal ours
        reached = {id(p) for p in leaves(roots)}
        for optimizer in patches.alive():
            if any(id(p) in reached for p in _held(optimizer)):
                ours = True
                try:
                    optimizer.step()
                finally:
                    ours = False
                done.add(optimizer)
                patches.applied.count += 1

    def before(roots: list[Any]) -> None:
        for optimizer in done:
            _drop(_held(optimizer))
        done.clear()

    def step_begins(optimizer: Any) -> None:
        if not ours and optimizer in done:
            _drop(_held(optimizer))

    patches.around_step(step_begins)
    patches.around_backward(before=before, after=after)
    patches.expect("there is no optimizer that could step")


# ------------------------------------------------------------------------------------------------ what the optimizer holds


def join(patches: Patches, roots: list[Any]) -> None:
    """Tensors that got gradients and are in no group join an optimizer: the group that holds a tensor of the same shape
    without a gradient (an old copy of it), else the first group of the optimizer that shares most with this graph."""
    reached = [p for p in leaves(roots) if p.grad is not None]
    optimizers = patches.alive()
    known = {id(p) for o in optimizers for p in _held(o)}
    strangers = {id(p): p for p in reached if id(p) not in known}
    if not strangers:
        return
    if not optimizers:
        return  # one may still be made
    ids = {id(p) for p in reached}
    home = max(optimizers, key=lambda o: sum(id(p) in ids for p in _held(o)))
    stale = [(g, p) for o in optimizers for g in o.param_groups for p in g["params"] if p.grad is None and id(p) not in ids]
    for stranger in strangers.values():
        place = next((i for i, (_, old) in enumerate(stale) if old.shape == stranger.shape), None)
        group = home.param_groups[0] if place is None else stale.pop(place)[0]
        group["params"].append(stranger)
        patches.applied.count += 1
    for optimizer in optimizers:
        if hasattr(optimizer, "_params"):  # LBFGS keeps a list of its own
            optimizer._params = optimizer.param_groups[0]["params"]
            optimizer._numel_cache = None


def add_parameters(patches: Patches) -> None:
    patches.remember_optimizers()
    patches.around_backward(after=lambda roots: join(patches, roots))
    patches.expect("no tensor gets gradients that is missing from the optimizers", ends=False)


# ------------------------------------------------------------------------------------------------ clipping


def clip_gradients(patches: Patches) -> None:
    """As clip_grad_norm_ over all that the optimizer holds, right before each step; in a loop without an optimizer over
    all that the backward has reached, after each backward."""
    norm = patches.number("norm", 1.0)
    patches.remember_optimizers()

    def clip(tensors: list[Any]) -> None:
        if tensors and not float(torch.nn.utils.clip_grad_norm_(tensors, norm)) <= norm:
            patches.applied.count += 1

    def after(roots: list[Any]) -> None:
        if not patches.optimizers:
            clip([p for p in leaves(roots) if p.grad is not None])

    def taken(tensors: list[Any], gradients: Any) -> Any:
        total = torch.stack([g.norm() for g in gradients if g is not None]).norm()
        if patches.optimizers or float(total) <= norm:
            return gradients
        patches.applied.count += 1
        return tuple(None if g is None else g * (norm / (total + 1e-6)) for g in gradients)

    patches.around_step(lambda optimizer: clip([p for p in _held(optimizer) if p.grad is not None]))
    patches.around_backward(after=after)
    patches.by_hand.append(taken)
    patches.expect(f"no gradient was longer than {norm:g}", ends=False)


def _clipping(patches: Patches, threshold: Callable[[float], float]) -> None:
    names = {"clip_grad_norm_": "max_norm", "clip_grad_value_": "clip_value", "clip_grad_norm": "max_norm"}

    def make(argument: str) -> Any:
        def inner(original: Any) -> Any:
            def changed(parameters: Any, *args: Any, **kwargs: Any) -> Any:
                patches.applied.count += 1
                if argument in kwargs:
                    kwargs[argument] = threshold(float(kwargs[argument]))
                elif args:
                    args = (threshold(float(args[0])), *args[1:])
                return patches.call(original, parameters, *args, **kwargs)

            return changed

        return inner

    for owner in (torch.nn.utils, torch.nn.utils.clip_grad):
        for name, argument in names.items():
            patches.replace(owner, name, make(argument))
    patches.expect("torch's own clipping is not called (clipping written by hand cannot be changed from outside)")


def scale_clipping(patches: Patches) -> None:
    factor = patches.number("factor")
    _clipping(patches, lambda old: rounded(old * factor))


def no_clipping(patches: Patches) -> None:
    """An infinite threshold: norms are still returned, and a factor of exactly 1 is applied."""
    _clipping(patches, lambda old: float("inf"))


def placebo(patches: Patches) -> None:
    """All hooks, no change: the loss is called through the wrapper, the backward too, options are set to themselves."""
    patches.remember_modules()
    patches.remember_optimizers()

    def counted(*_: Any) -> None:
        patches.applied.count += 1

    patches.at_loss(counted, LOSSES)
    patches.around_backward(change=lambda root, gradient: (root, gradient), after=lambda roots: None)
    patches.around_model(lambda model, args, kwargs: None)
    Options(patches, "lr", lambda optimizer, group, index: group["lr"])


KINDS: dict[str, Callable[[Patches], None]] = {
    "placebo": placebo,
    "scale-learning-rate": scale_learning_rate,
    "set-learning-rate": set_learning_rate,
    "constant-learning-rate": constant_learning_rate,
    "adaptive-optimizer": adaptive_optimizer,
    "zero-before-backward": zero_before_backward,
    "keep-gradients-until-step": keep_gradients_until_step,
    "call-step": call_step,
    "add-parameters": add_parameters,
    "scale-weight-decay": scale_weight_decay,
    "clip-gradients": clip_gradients,
    "scale-clipping": scale_clipping,
    "no-clipping": no_clipping,
}
