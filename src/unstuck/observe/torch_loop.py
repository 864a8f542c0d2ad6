"""Watches torch's training loop: forward, backward, zeroing, step -> facts, counts and series.

What is replaced, and restored at the end: `torch.autograd.backward` and `grad` (every way to start a backward goes
through one of them), `nn.Module.__init__` and `__call__` (where a module was made; which model was called), the
constructors and `zero_grad` of optimizers and schedulers (their lines), `GradScaler.step`. Optimizer steps are seen
through torch's own global hooks. Module backward hooks are not used: they break in-place activations.

Three prices. *Every step*: the names of four or five graph nodes, the tensors the loss saved anyway, a few pointers to
see whether anybody zeroed the gradients. *Sampled steps*: norms, the first-order decrease <g, -delta theta>, whether
weights changed. *The first steps*: the whole graph and every torch function with its line (see `torch_spy`).

No number of the training is changed: nothing here draws random numbers, writes to a tensor of the user's, or keeps a
graph alive. Whatever fails here is caught, noted in the run's own errors, and the training goes on.
"""

from __future__ import annotations

import functools
import gc
import math
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from unstuck.observe import arrays, sites, torch_data, torch_graph, torch_modules, torch_probes, torch_spy, torch_values
from unstuck.trace.facts import (
    Break,
    Clipping,
    Facts,
    Loader,
    LossTerm,
    ModeLayer,
    NonFinite,
    OpNode,
    Optimizer,
    Parameter,
    Probe,
    Raised,
    Run,
    Site,
    Stretched,
)
from unstuck.trace.writer import Writer

NAN = float("nan")
MAX_TRAININGS = 64
MAX_OWN_ERRORS = 20
SPIED_PASSES = 2  # backward calls seen with every function's line
MAX_PARAMETERS = 2000
PROBE_NUMBERS = 20_000_000  # weights that are copied at a sampled step; beyond that none are
READ_ALL = 128  # backward calls that are all looked at
SHORT_STEP = 5e-3  # seconds; after READ_ALL, of a training with shorter steps one in 32 is looked at
_ZERO_SAMPLE = 4
_ADAPTIVE = tuple(
    getattr(torch.optim, n) for n in ("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta", "Rprop")
    if hasattr(torch.optim, n)
)  # fmt: skip
_ADAPTIVE_NAMES = ("Adam", "Lion", "LAMB", "Lamb", "Adafactor", "Sign", "Shampoo", "Muon", "RMS", "Prodigy")


def is_deep(n: int) -> bool:
    """Backward calls at which the whole graph is walked: the first four, then 6, 10, 20, 50, 100, ... 1000, 2000, ..."""
    return n in _DEEP or n % 1000 == 0


_DEEP = frozenset({1, 2, 3, 4, 6, 10, 20, 50, 100, 200, 500})


def is_sampled(n: int) -> bool:
    """Steps at which gradients and updates are measured: the first five, then 1 in 10, from 100 on 1 in 50, from 1000 on
    1 in 200."""
    return n < 5 or n % (10 if n < 100 else 50 if n < 1000 else 200) == 0


def is_looked_at(n: int) -> bool:
    """Deep steps, and one backward call in 32 at irregular distances: a loop with a period (two losses in turn) must not
    be seen through one phase of it only. Knuth's multiplicative hash; the training's random numbers are not ours to
    draw."""
    return (n * 2654435761 & 0xFFFFFFFF) >> 27 == 0 or is_deep(n)


class Local(threading.local):
    """Per thread: are we inside a module call, a step, our own code?"""

    depth = 0
    in_step = 0
    in_backward = 0
    busy = False


class Recipe:
    """How to read the judged term of one graph shape: edges from the root to the nodes that hold the numbers."""

    def __init__(self) -> None:
        self.term: LossTerm | None = None
        self.labels: torch_values.Labels | None = None
        self.route: tuple[int, ...] = ()
        self.pick: tuple[int, ...] | None = None
        self.name = ""
        self.alone = False  # the root is this term, perhaps summed
        self.exact = False  # root == this term, reduced by the mean
        self.flags: frozenset[str] = frozenset()
        self.first_flags: frozenset[str] = frozenset()  # of the branch that `route` and `pick` follow
        self.reached: frozenset[int] = frozenset()
        self.places: list[tuple[str, Site | None]] = []  # node names and lines in the order of the walk, when spied
        self.root = ""  # name of the graph's root node
        self.flat = False  # the path runs through an operation with derivative zero
        self.data_route: tuple[int, ...] | None = None  # edges from the root to the first layer that data enters


class State:
    """What is kept in memory of one training."""

    def __init__(self, number: int) -> None:
        self.facts = Facts(id=number, framework=f"torch {torch.__version__}")
        self.recipes: dict[tuple[str, ...], Recipe] = {}
        self.labels: list[torch_values.Labels] = []
        self.signature: tuple[Any, ...] = ()
        self.parameters: dict[int, tuple[weakref.ref[Any], Parameter]] = {}
        self.checksums: dict[int, int] = {}
        self.optimizers: dict[int, tuple[weakref.ref[Any], Optimizer]] = {}
        self.levels: list[torch_values.Level] = []
        self.pending = 0  # backward calls since the last step
        self.rows = 0
        self.steps = 0
        self.left_gradient: bool | None = None
        self.stale_probe: list[tuple[Any, int, int]] = []
        self.stale_pending = False
        self.first_since_step = True
        self.anchor_version: tuple[weakref.ref[Any], int] | None = None
        self.reference: tuple[weakref.ref[Any], Any] | None = None
        self.pending_reached: set[int] = set()
        self.last_term: LossTerm | None = None  # of the latest backward
        self.stepped: set[int] = set()  # optimizers that stepped since the last backward
        self.sole: Recipe | None = None
        self.glance = NAN
        self.by_hand: list[tuple[weakref.ref[Any], Any, Any]] = []  # tensor, its values, its gradient
        self.began = time.monotonic()
        self.data = torch_data.Data(self.facts)
        self.modes: dict[int, tuple[weakref.ref[Any], ModeLayer]] = {}
        self.tape: torch_probes.Tape | None = None  # of the latest probed step
        self.probing: Probe | None = None
        self.fresh_tape = False  # it belongs to the backward that the next step follows
        self.norm_left: dict[int, float] | None = None  # of each gradient when the backward had ended, at deep steps
        self.clipped = False  # torch's own clipping ran since the backward
        self.clip_factor = 1.0  # norm of the gradient before clipping over the norm after it
        self.first_step = self.last_step = 0.0  # when the first and the latest looked-at step ended
        self.own_at_first_step = 0.0


class Observer:
    """Installs itself into torch, keeps the trainings, writes the trace.

    `announce(facts)` is called after a few steps of a training, so that a caller can say at once what is certain.
    `limit` > 0 raises `StopTraining` after that many optimizer steps. `light` leaves out what only a diagnosis needs:
    probes and captured samples. `before_backward_once(observer)` is called when the first backward pass is about to begin:
    who forks there sets `staying`, so that the observer goes on in the child, and `ended` in the child.
    """

    def __init__(
        self, writer: Writer | None, run: Run, *, announce: Callable[[Facts], None] | None = None, limit: int = 0,
        suspicious: Callable[[int], bool] | None = None, light: bool = False,
        before_backward_once: Callable[[Observer], None] | None = None,
    ) -> None:  # fmt: skip
        self.writer = writer
        self.run = run
        self.announce = announce
        self.limit = limit
        self.light = light
        self.suspicious = suspicious  # asked at the end about training number n: is a thorough look worth its price?
        self.before_backward_once = before_backward_once
        self.staying = False  # a process that is forked now is observed as well
        # What ends such a process, after its last step or with the script: called with the script's error and exit code.
        self.ended: Callable[[BaseException | None, int], None] | None = None
        self.local = Local()
        self.lock = threading.RLock()
        self.pid = os.getpid()
        self.active = False
        self.states: list[State] = []
        self.by_leaf: dict[int, tuple[weakref.ref[Any], State]] = {}
        self.made: weakref.WeakKeyDictionary[Any, Site | None] = weakref.WeakKeyDictionary()
        self.optimizer_made: weakref.WeakKeyDictionary[Any, Site | None] = weakref.WeakKeyDictionary()
        self.scaler_made: weakref.WeakKeyDictionary[Any, Site | None] = weakref.WeakKeyDictionary()
        self.loaded: Site | None = None  # where weights were last loaded
        self.scheduler_made: weakref.WeakKeyDictionary[Any, Site | None] = weakref.WeakKeyDictionary()
        self.trains: dict[int, tuple[weakref.ref[Any], bool]] = {}
        self.roots: list[weakref.ref[Any]] = []
        self.last_output: weakref.ref[Any] | None = None
        self.last_inputs: list[weakref.ref[Any]] = []
        self.last_root: weakref.ref[Any] | None = None
        self.quiet: list[weakref.ref[Any]] = []  # models called without gradients since the last backward
        self.silent: list[weakref.ref[Any]] = []  # those before this backward
        self.forward_open = False
        self.forwards = 0
        self.dropped = 0
        self.spy = torch_spy.Spy(self.own_error, self.function_raised, self.local)
        self.packs = False  # saved-tensor hooks are in use: reading a saved tensor may run the user's code
        self.inputs: list[list[weakref.ref[Any]]] = []  # tensors given to each model call since the last backward
        self.loader_made: weakref.WeakKeyDictionary[Any, Loader] = weakref.WeakKeyDictionary()
        self.iterators: weakref.WeakKeyDictionary[Any, tuple[Loader, list[int]]] = weakref.WeakKeyDictionary()
        self.loaders: list[Loader] = []
        self.input_site: Site | None = None
        self.spy_pushed = False
        self.spy_left = SPIED_PASSES
        self.spied_passes = 0
        self.fresh = False  # the loss of this backward leads to tensors not seen before
        self.looks_again = 0
        self.failures = 0  # exceptions seen that did not end the script
        self.compiles = False
        self.current: State | None = None
        # The one training of a script whose steps are short and all alike: between the steps that are looked at, only
        # the loss is noted. None while anything is unusual.
        self.short: State | None = None
        self.telemetry: Any = None  # unstuck.losses.telemetry, where the script uses those losses
        self.heard: list[tuple[int, Any]] = []  # (autograd's number at the call, what that loss knew)
        self.looking = True
        self.restore: list[Callable[[], None]] = []
        self.restore_apply: Callable[[], None] = lambda: None
        self.mode_layers: dict[int, tuple[weakref.ref[Any], list[tuple[str, Any]]]] = {}
        self.orphans: list[Raised] = []
        self.orphan_terms: list[LossTerm] = []
        self.total_steps = 0
        self._probe: tuple[Any, ...] | None = None  # optimizer, tensors, copies, gradient norm, lr
        self.snapshot_due = time.monotonic() + 5.0

    # ------------------------------------------------------------------ installation

    def install(self) -> None:
        self.active = True
        replace = self._replace
        replace(torch.autograd, "backward", self._backward)
        replace(torch.autograd, "grad", self._grad)
        replace(torch.nn.Module, "__init__", self._module_init)
        replace(torch.nn.Module, "__call__", self._module_call)
        replace(torch.nn.Module, "zero_grad", self._zero_grad)
        replace(torch.optim.Optimizer, "__init__", self._optimizer_init)
        replace(torch.optim.Optimizer, "zero_grad", self._zero_grad)
        replace(LRScheduler, "__init__", self._scheduler_init)
        if "__init__" in ReduceLROnPlateau.__dict__:
            replace(ReduceLROnPlateau, "__init__", self._scheduler_init)
        replace(torch.nn.Module, "load_state_dict", self._load_state_dict)
        replace(torch.nn.modules.batchnorm._NormBase, "reset_running_stats", self._reset_averages)
        scaler = getattr(getattr(torch, "amp", None), "GradScaler", None)
        if scaler is not None:
            replace(scaler, "step", self._scaler_step)
            replace(scaler, "__init__", self._scaler_init)
        replace(torch, "compile", self._compile)
        replace(torch, "from_numpy", self._from_numpy)
        replace(torch.autograd.graph.saved_tensors_hooks, "__enter__", self._packing)
        for owner in (torch.nn.utils, torch.nn.utils.clip_grad):
            for name in ("clip_grad_norm_", "clip_grad_value_"):
                replace(owner, name, self._clip)
        self._watch_functions()
        replace(torch.utils.data.DataLoader, "__init__", self._loader_init)
        replace(torch.utils.data.DataLoader, "__iter__", self._loader_iter)
        replace(torch.utils.data.dataloader._BaseDataLoaderIter, "__next__", self._loader_next)
        for handle in (
            register_optimizer_step_pre_hook(self._pre_step), register_optimizer_step_post_hook(self._post_step)
        ):  # fmt: skip
            self.restore.append(handle.remove)
        os.register_at_fork(after_in_child=self._forked)
        self._push_spy()
        self._start_tape()

    def uninstall(self) -> None:
        self.active = False
        self.spy.on = False
        if torch_spy.pop(self.spy):
            self.spy_pushed = False
        while self.restore:
            self.restore.pop()()

    def _replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        original = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
        replacement = functools.wraps(original)(make(original))
        setattr(owner, name, replacement)

        def back() -> None:
            current = owner.__dict__.get(name) if isinstance(owner, type) else getattr(owner, name)
            if current is replacement:  # somebody else may have wrapped it since: then ours must stay, and is inert
                setattr(owner, name, original)

        self.restore.append(back)

    def _watch_functions(self) -> None:
        """`apply` of the user's own autograd Functions is no torch function: the spy does not see it, the tape must."""
        owner, spy, local = torch.autograd.Function, self.spy, self.local
        original = owner.__dict__["apply"]

        def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
            tape = spy.tape
            if tape is None or local.depth or local.busy or local.in_backward or torch.compiler.is_compiling():
                return original.__func__(cls, *args, **kwargs)
            entry = self.guarded(tape.before, functools.partial(original.__func__, cls), None, args, kwargs)
            out = original.__func__(cls, *args, **kwargs)
            if entry is not None:
                self.guarded(tape.after, entry, out)
            return out

        replacement = classmethod(functools.wraps(original.__func__)(apply))
        owner.apply = replacement

        def back() -> None:
            if owner.__dict__.get("apply") is replacement:
                owner.apply = original

        self.restore.append(back)
        self.restore_apply = back

    def _forked(self) -> None:
        """A DataLoader worker or another child: nothing is observed, nothing is written there."""
        if self.staying:
            return
        self.active = False
        self.spy.on = False
        torch_spy.pop(self.spy)
        if self.writer is not None:
            self.writer.forget()

    def own_error(self, error: BaseException) -> None:
        """A bug of ours: noted; after twenty of them the observer steps aside."""
        import traceback

        frames = traceback.extract_tb(error.__traceback__)
        where = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
        self.run.own_errors.append(f"{type(error).__name__}: {error}"[:300] + where)
        if os.environ.get("UNSTUCK_DEBUG"):
            traceback.print_exception(error)
        if len(self.run.own_errors) >= MAX_OWN_ERRORS:
            self.active = False
            self.spy.on = False
            self.run.notes.append("observation was given up after twenty errors of our own")

    def guarded(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run our own code: never re-entered, never seen by the spy, errors kept from the user."""
        local = self.local
        if not self.active or local.busy:
            return None
        local.busy = True
        spying, self.spy.on = self.spy.on or not self.spy_pushed, False  # one that is pushed meanwhile is awake
        began = time.perf_counter()
        try:
            with self.lock:
                return work(*args)
        except Exception as error:
            self.own_error(error)
            return None
        finally:
            self.run.own_seconds += time.perf_counter() - began
            self.spy.on = spying and self.active and self.spy_pushed
            local.busy = False

    # ------------------------------------------------------------------ replacements

    def _backward(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.active or self.local.in_backward or torch.compiler.is_compiling():
                return original(tensors, *args, **kwargs)
            if self.before_backward_once is not None:
                self._once()
            state = self.current
            short = self.short
            if short is not None and not is_looked_at(short.facts.loop.backwards + 1) and self._glance(short, tensors):
                self.local.in_backward += 1
                try:
                    return original(tensors, *args, **kwargs)
                finally:
                    self.local.in_backward -= 1
            known = state is not None and state.facts.loop.backwards > 2
            self.guarded(self.before_backward, tensors, None if known else sites.caller(2))
            self.local.in_backward += 1  # a checkpoint runs modules again: those are no forward passes
            try:
                out = original(tensors, *args, **kwargs)
            except BaseException as error:
                self.guarded(self.raised, error, "backward")
                raise
            finally:
                self.local.in_backward -= 1
            self.guarded(self.after_backward)
            return out

        return backward

    def _grad(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def grad(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.active or self.local.busy or self.local.in_backward or torch.compiler.is_compiling():
                return original(outputs, inputs, *args, **kwargs)
            if self.before_backward_once is not None:
                self._once()
            state = self.guarded(self.before_grad, outputs, inputs, sites.caller(2))
            self.local.in_backward += 1  # under a torch function mode torch calls this name once more
            try:
                out = original(outputs, inputs, *args, **kwargs)
            finally:
                self.local.in_backward -= 1
            if state is not None:
                self.guarded(self.after_grad, state, inputs, out)
            return out

        return grad

    def _once(self) -> None:
        """The caller's callback, before the first backward pass. Not `guarded`: it may return in another process."""
        call, self.before_backward_once = self.before_backward_once, None
        assert call is not None
        began = time.perf_counter()
        spying, self.spy.on, self.local.busy = self.spy.on, False, True
        try:
            call(self)
        finally:
            self.spy.on, self.local.busy = spying, False
            self.run.own_seconds += time.perf_counter() - began

    def _module_init(self, original: Callable[..., Any]) -> Callable[..., Any]:
        made = self.made

        def __init__(module: Any, *args: Any, **kwargs: Any) -> None:
            original(module, *args, **kwargs)
            if self.active:
                try:
                    made[module] = sites.site(self._constructor_caller(module))
                except Exception as error:
                    self.own_error(error)

        return __init__

    @staticmethod
    def _constructor_caller(thing: Any) -> Any:
        """The frame that wrote `Thing(...)`: past every __init__ of the object itself."""
        import sys

        frame = sys._getframe(2)
        while frame is not None and frame.f_code.co_name in {"__init__", "_no_nep50_warning"}:
            names = frame.f_code.co_varnames
            if not names or frame.f_locals.get(names[0]) is not thing:
                break
            frame = frame.f_back  # type: ignore[assignment]
        while frame is not None and sites.owner(frame.f_code.co_filename) != "user":
            frame = frame.f_back  # type: ignore[assignment]
        return frame

    def _module_call(self, original: Callable[..., Any]) -> Callable[..., Any]:
        local, spy = self.local, self.spy

        def __call__(module: Any, *args: Any, **kwargs: Any) -> Any:
            if local.busy or (local.depth and not spy.on):
                return original(module, *args, **kwargs)
            if not self.active or local.in_backward or torch.compiler.is_compiling():
                return original(module, *args, **kwargs)
            root = local.depth == 0 and self._is_model(module)
            if root and self.short is not None and not self.forward_open:
                if not is_looked_at(self.short.facts.loop.backwards + 1) and torch.is_grad_enabled():
                    self.forwards += 1
                    self.forward_open = module.training
                    self.last_inputs, self.last_output = [], None
                    if len(self.roots) < 4:
                        self.last_root = weakref.ref(module)
                        self.roots.append(self.last_root)
                    root = False
            if root:
                self.guarded(self.before_root, module, args, kwargs)
            tape = spy.tape if not local.depth and torch.is_grad_enabled() else None
            entry = self.guarded(tape.before, None, module, args, kwargs) if tape is not None else None
            local.depth += 1
            first = torch_spy.sequence() if spy.on else 0
            try:
                out = original(module, *args, **kwargs)
            except BaseException as error:
                if root:
                    self.guarded(self.raised, error, "forward")
                raise
            finally:
                local.depth -= 1
            if entry is not None and tape is not None:
                self.guarded(tape.after, entry, out)
            if spy.on and spy.noting:
                spy.modules.append(torch_spy.ModuleCall(first, torch_spy.sequence(), local.depth, module))
                del spy.modules[:-5000]
            if root:
                self.guarded(self.after_root, module, out)
            return out

        return __call__

    def _zero_grad(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def zero_grad(owner: Any, *args: Any, **kwargs: Any) -> Any:
            # Of interest is only a zeroing between a backward and its step.
            state = self.current
            if self.active and state is not None and state.pending and not torch.compiler.is_compiling():
                self.guarded(self.zeroing, None if state.facts.loop.zero_site else sites.caller(2))
            return original(owner, *args, **kwargs)

        return zero_grad

    def _optimizer_init(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            if self.active:
                self.guarded(self.optimizer_made.__setitem__, optimizer, sites.site(self._constructor_caller(optimizer)))
            original(optimizer, *args, **kwargs)

        return __init__

    def _scheduler_init(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(scheduler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> None:
            if self.active:
                self.guarded(self.scheduler_made.__setitem__, optimizer, sites.site(self._constructor_caller(scheduler)))
            original(scheduler, optimizer, *args, **kwargs)

        return __init__

    def _load_state_dict(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def load_state_dict(module: Any, *args: Any, **kwargs: Any) -> Any:
            if self.active and self.current is not None and self.local.depth == 0:
                self.loaded = sites.site(sites.caller(2))
            return original(module, *args, **kwargs)

        return load_state_dict

    def _reset_averages(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def reset_running_stats(module: Any, *args: Any, **kwargs: Any) -> Any:
            if self.active and self.current is not None and not torch.compiler.is_compiling():
                entry = self.current.modes.get(id(module))  # none while the layer is constructed
                if entry is not None and entry[0]() is module:
                    entry[1].reset_site = sites.site(sites.caller(2))
            return original(module, *args, **kwargs)

        return reset_running_stats

    def _scaler_init(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(scaler: Any, *args: Any, **kwargs: Any) -> None:
            original(scaler, *args, **kwargs)
            if self.active:
                self.guarded(self.scaler_made.__setitem__, scaler, sites.site(self._constructor_caller(scaler)))

        return __init__

    def _scaler_step(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def step(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            before = self.total_steps
            out = original(scaler, optimizer, *args, **kwargs)
            if self.active:
                place = self.scaler_made.get(scaler) or sites.site(sites.caller(2))
                self.guarded(self.scaler_stepped, optimizer, self.total_steps == before, place)
            return out

        return step

    def _compile(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def compile(*args: Any, **kwargs: Any) -> Any:
            # A mode on the stack is a guard of dynamo's: compiled with it, recompiled without it. So no spy from here on.
            self.compiles = True
            self.restore_apply()  # dynamo knows torch's own by identity
            self.spy.on = False
            if torch_spy.pop(self.spy):
                self.spy_pushed = False
            return original(*args, **kwargs)

        return compile

    def _from_numpy(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """No torch function to the mode of the spy."""

        def from_numpy(array: Any) -> Any:
            if self.active and self.spy.on and not torch.compiler.is_compiling():
                self.guarded(lambda: self.spy.array(array, sites.site(sites.caller(4))))
            return original(array)

        return from_numpy

    def _packing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def __enter__(hooks: Any) -> Any:
            self.packs = True
            return original(hooks)

        return __enter__

    def _clip(self, original: Callable[..., Any]) -> Callable[..., Any]:
        kind = "value" if "value" in original.__name__ else "norm"

        def clip(*args: Any, **kwargs: Any) -> Any:
            parameters = args[0] if args else kwargs.get("parameters")
            threshold = args[1] if len(args) > 1 else kwargs.get("max_norm", kwargs.get("clip_value"))
            if not self.active or self.current is None or not self.looking or self.local.busy or parameters is None:
                return original(*args, **kwargs)
            tensors = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
            before = self.guarded(self._gradients, tensors) if kind == "value" else None
            out = original(tensors, *args[1:], **{k: v for k, v in kwargs.items() if k != "parameters"})
            self.guarded(self.clipped, kind, threshold, out if kind == "norm" else before, sites.caller(2), tensors)
            return out

        return clip

    def _loader_init(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(loader: Any, *args: Any, **kwargs: Any) -> None:
            original(loader, *args, **kwargs)
            if self.active and not self.local.busy:
                self.guarded(self.loader_built, loader, self._constructor_caller(loader))

        return __init__

    def _loader_iter(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def __iter__(loader: Any) -> Any:
            out = original(loader)
            record = self.loader_made.get(loader) if self.active else None
            if record is not None:
                record.iterators += 1
                try:
                    record.site = record.site or sites.site(sites.caller(2))
                    self.iterators[out] = (record, [0])
                except Exception as error:
                    self.own_error(error)
            return out

        return __iter__

    def _loader_next(self, original: Callable[..., Any]) -> Callable[..., Any]:
        iterators = self.iterators

        def __next__(iterator: Any) -> Any:
            out = original(iterator)
            entry = iterators.get(iterator)
            if entry is not None:
                record, count = entry
                count[0] += 1
                record.taken += 1
                record.longest = max(record.longest, count[0])
            return out

        return __next__

    # ------------------------------------------------------------------ the spy

    def _start_tape(self) -> None:
        """Record the next forward pass, so that its batch can be evaluated again."""
        if self.spy_pushed:
            self.spy.noting = self.spy_left > 0
        else:
            self._push_spy()
            self.spy.noting = self.spy_left > 0
        if self.spy_pushed:
            self.spy.tape = torch_probes.Tape()

    def _push_spy(self) -> None:
        self.spy.noting = True
        if not self.spy_pushed and not self.compiles and self.active and torch_spy.push(self.spy):
            self.spy_pushed = self.spy.on = True

    def _rest_spy(self) -> None:
        """Take the spy off the stack where that is possible; where it is not, it is asleep at least."""
        if self.spy_pushed and self.spy_left <= 0 and self.spy.tape is None:
            self.spy.on = False
            if torch_spy.pop(self.spy):
                self.spy_pushed = False

    # ------------------------------------------------------------------ forward

    def _is_model(self, module: Any) -> bool:
        known = self.trains.get(id(module))
        if known is not None and known[0]() is module:
            return known[1]
        has = next(module.parameters(), None) is not None
        self.trains[id(module)] = (weakref.ref(module), has)
        if len(self.trains) > 4096:
            self.trains.clear()
        return has

    def before_root(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.spy_pushed and self.spy_left <= 0:
            self._rest_spy()
        if not torch.is_grad_enabled():
            if not self.quiet and not module.training and self.states:
                state = self.current or self.states[-1]
                if state.modes and not state.pending and any(r.kind == "batch-norm" for _, r in state.modes.values()):
                    self._averages(state)
            if len(self.quiet) < 8:
                self.quiet.append(weakref.ref(module))
            for state in self.states[-1:]:
                given = next((a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor)), None)
                if given is not None and state.facts.loop.evaluated_elsewhere < 8 and state.data.elsewhere(given):
                    state.facts.loop.evaluated_elsewhere += 1
            return
        if self.forward_open and module.training:
            self.dropped += 1
            # Several forward passes in a row without a backward: somebody may be swallowing exceptions. Look closer.
            if self.dropped in {3, 50} and self.spy_left <= 0:
                self.spy_left = 1
                self._push_spy()
        self.forwards += 1
        self.forward_open = bool(module.training)
        self.last_root = weakref.ref(module)
        self.last_inputs = [weakref.ref(a) for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor)]
        if len(self.inputs) < 8:
            self.inputs.append(self.last_inputs)
            self.input_site = sites.site(sites.caller(4)) if len(self.states) < 2 and self.total_steps < 3 else self.input_site
        if len(self.roots) < 32:
            self.roots.append(self.last_root)

    def after_root(self, module: Any, out: Any) -> None:
        if not torch.is_grad_enabled() or self.last_root is None or self.last_root() is not module:
            return
        if not isinstance(out, torch.Tensor):
            out = getattr(out, "logits", None) if not isinstance(out, (tuple, list)) else next(
                (o for o in out if isinstance(o, torch.Tensor)), None
            )  # fmt: skip
        self.last_output = weakref.ref(out) if isinstance(out, torch.Tensor) else None

    # ------------------------------------------------------------------ backward

    def _glance(self, state: State, loss: Any) -> bool:
        """A step between two that are looked at: count it, note the loss. False when something is unusual after all."""
        recipe = state.sole
        try:
            if recipe is None or state.pending or loss.grad_fn.name() != recipe.root or self.spy_pushed:
                return False
            value = loss.item()
        except (AttributeError, RuntimeError, TypeError):
            return False
        if value - value != 0.0:
            return False
        self.looking = False
        self.forward_open = False
        self.roots.clear()
        state.facts.loop.backwards += 1
        state.pending = 1
        state.glance = value if recipe.exact else NAN
        return True

    def before_backward(self, tensors: Any, frame: Any) -> None:
        self.looking = True
        if self.spy_pushed and self.spy_left <= 0:
            self._rest_spy()
        loss = tensors[0] if isinstance(tensors, (tuple, list)) and tensors else tensors
        tape, self.spy.tape = self.spy.tape, None
        inputs, self.inputs = self.inputs, []
        self.silent, self.quiet = self.quiet, []
        if not isinstance(loss, torch.Tensor):
            return
        self.run.backward_seen = True
        self.forward_open = False
        if loss.grad_fn is None:
            self._without_graph(loss, frame)
            return
        chain, anchor = torch_graph.signature(loss.grad_fn)
        self.fresh = False
        state = self._state_of(loss, anchor, frame)
        if state is None:
            return
        self.current = state
        loop = state.facts.loop
        if state.pending and not state.steps and not loop.skipped_steps:
            # nobody calls a step: one row for each backward
            self._row(state, NAN, self._measure_by_hand(state) if state.by_hand else NAN)
            if is_deep(loop.backwards + 2) and tape is None:
                self._start_tape()
        loop.backwards += 1
        state.pending += 1
        loop.forwards, loop.dropped_forwards = self.forwards, self.dropped
        if loop.backward_site is None:
            loop.backward_site = sites.site(frame)
        recipe = state.recipes.get(chain)
        spied = self.spy_pushed and self.spy_left > 0
        if recipe is None or is_deep(loop.backwards) or spied or self.fresh:
            recipe = self._examine(state, loss, chain, frame)
        if recipe.flat:
            loop.without_graph += 1
        state.clip_factor, state.clipped = 1.0, False
        state.fresh_tape = False
        if tape is not None and state.pending == 1:
            self._keep_tape(state, tape, loss)
        self._adversarial(state)
        self._count_modes(state)
        state.pending_reached |= recipe.reached
        state.last_term = recipe.term
        self._check_zeroing(state, recipe)
        self._check_outside(state, anchor)
        if recipe.labels is not None:
            recipe.labels.last = None
        self._read(state, recipe, loss, chain)
        if recipe.labels is not None and recipe.term is not None and recipe.term.judged:
            self._take_data(state, recipe, loss, inputs)
        self.roots.clear()

    def _take_data(self, state: State, recipe: Recipe, loss: Any, inputs: list[list[weakref.ref[Any]]]) -> None:
        if self.light:
            return
        calls = [[t for ref in refs if (t := ref()) is not None] for refs in inputs]
        calls = [tensors for tensors in calls if tensors]
        y = recipe.labels.last if recipe.labels is not None else None
        # Of several calls (an evaluation in between, two views) the one with as many rows as there are labels is meant.
        fits = [t for t in calls if y is not None and t[0].dim() and t[0].shape[0] == y.size]
        tensors = fits[-1] if fits else calls[0] if calls else []
        if not tensors and recipe.data_route is not None and not self.packs:
            node = torch_graph.follow(loss.grad_fn, recipe.data_route)
            if node is not None:
                _, value, data = torch_modules.saved(node, torch_graph.op_name(node))
                tensors = [value] if data else []
        if tensors and recipe.labels is not None and recipe.term is not None:
            if not inputs and state.data.calls == 0 and bool((tensors[0] == tensors[0].reshape(-1)[0]).all()):
                recipe.data_route = None  # a constant state is what enters here, not the data
                return
            state.data.arrived(tensors, self.input_site, self.spy.rows_of)
            state.data.labelled(recipe.labels.last, recipe.term.ignore_index)

    def _keep_tape(self, state: State, tape: torch_probes.Tape, loss: Any) -> None:
        if self.light:
            return
        tape.close(loss)
        if tape.ready:
            tape.home = [m for ref in self.roots if (m := ref()) is not None]
            scalers = [s for s in list(self.scaler_made) if s.is_enabled()]
            if len(scalers) == 1:
                tape.scale = float(scalers[0].get_scale())
            elif scalers:
                state.facts.absent.setdefault("probes", "several gradient scalers")
                return
            tape.value = float(loss.detach()) / tape.scale if loss.numel() == 1 else NAN
            state.tape, state.fresh_tape = tape, True
        elif not state.facts.probes:
            state.facts.absent["probes"] = tape.trouble

    def _count_modes(self, state: State) -> None:
        """In which mode did dropout and batch-norm layers run in this forward pass?"""
        for ref in self.roots:
            model = ref()
            if model is None:
                continue
            layers = self.mode_layers.get(id(model))
            if layers is None or layers[0]() is not model:
                found = [(n, m) for n, m in model.named_modules() if torch_probes.kind_of(m)][:64]
                layers = self.mode_layers[id(model)] = (weakref.ref(model), found)
                if len(self.mode_layers) > 256:
                    self.mode_layers.clear()
            for name, m in layers[1]:
                entry = state.modes.get(id(m))
                if entry is None:
                    if len(state.modes) >= 64:
                        break
                    kind = torch_probes.kind_of(m)
                    p = getattr(m, "p", getattr(m, "dropout", None)) if kind == "dropout" else None
                    momentum = getattr(m, "momentum", None) if kind == "batch-norm" else None
                    entry = (weakref.ref(m), ModeLayer(kind, name, self.made.get(m), p, momentum))
                    state.modes[id(m)] = entry
                    state.facts.modes.append(entry[1])
                record = entry[1]
                if m.training:
                    record.training += 1
                    record.last_training_step = state.facts.loop.steps + 1
                else:
                    record.evaluating += 1

    def after_backward(self) -> None:
        state = self.current
        if self.spy_left > 0 and self.spy.ops and self.spy.noting:
            self.spy_left -= 1
            self.spied_passes += 1
            if state is not None:
                state.facts.loop.watched_passes = self.spied_passes
                state.facts.loop.watched_failures = self.failures
        elif self.spy_left > 0:
            self._push_spy()
        self.spy.clear()
        if state is None:
            return
        loop = state.facts.loop
        if state.stale_pending:  # a later backward of the same step must be able to see a zeroing in between
            state.stale_probe = [(p, g.data_ptr(), g._version) for p, _, _ in state.stale_probe if (g := p.grad) is not None]
        state.norm_left = None
        if is_deep(loop.steps + 1) and state.pending == 1 and not loop.functional and not len(self.scaler_made):
            held = [p for ref, _ in state.parameters.values() if (p := ref()) is not None and p.grad is not None]
            if held and not any(p.grad.is_sparse for p in held) and sum(p.numel() for p in held) <= PROBE_NUMBERS:
                norms = torch.stack([n.float() for n in torch._foreach_norm([p.grad for p in held])]).tolist()
                state.norm_left = {id(p): n for p, n in zip(held, norms)}
        if is_sampled(loop.steps) or loop.backwards <= 5:
            state.left_gradient = self._any_gradient(state)
        if loop.functional or not state.steps:
            self._hand_updates(state)
            if (is_sampled(loop.backwards) or is_deep(loop.backwards)) and not self.local.in_step:
                tensors = [p for ref, _ in state.parameters.values() if (p := ref()) is not None]
                self._remember_by_hand(state, [(p, p.grad) for p in tensors])
                if state.fresh_tape and loop.functional and is_deep(loop.backwards):
                    self._begin_probe(state)

    def _any_gradient(self, state: State) -> bool:
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

    def after_grad(self, state: State, inputs: Any, gradients: Any) -> None:
        self.after_backward()
        if is_sampled(state.facts.loop.backwards):
            tensors = inputs if isinstance(inputs, (tuple, list)) else [inputs]
            self._remember_by_hand(state, list(zip(tensors, gradients)))

    def before_grad(self, outputs: Any, inputs: Any, frame: Any) -> State | None:
        """torch.autograd.grad: a training step only when it asks for (nearly) all leaves that the loss reaches."""
        if torch._C._functorch.maybe_current_level() is not None if hasattr(torch._C, "_functorch") else False:
            return None
        loss = outputs[0] if isinstance(outputs, (tuple, list)) and outputs else outputs
        if not isinstance(loss, torch.Tensor) or loss.grad_fn is None or loss.numel() != 1:
            return None
        wanted = [t for t in (inputs if isinstance(inputs, (tuple, list)) else [inputs]) if isinstance(t, torch.Tensor)]
        leaves = [t for t in wanted if t.is_leaf]
        if not leaves:
            return None
        _, reached, _ = torch_graph.walk(loss.grad_fn)
        if len({id(t) for t in leaves} & {id(t) for t in reached}) * 2 < len(reached):
            return None
        self.before_backward(loss, frame)
        return self.current

    # ------------------------------------------------------------------ which training is it?

    def _state_of(self, loss: Any, anchor: Any, frame: Any) -> State | None:
        if anchor is not None:
            entry = self.by_leaf.get(id(anchor))
            if entry is not None and entry[0]() is anchor:
                return entry[1]
        _, leaves, hidden = torch_graph.walk(loss.grad_fn)
        own = [t for t in leaves if isinstance(t, torch.nn.Parameter) or self._held(t)]
        if not own:
            model = self._called_model()
            if model is not None and leaves:
                # torch.func.functional_call: the weights are plain tensors in the shapes of the module's parameters.
                shapes = {p.shape for p in model.parameters()}
                if all(t.shape in shapes for t in leaves):
                    own, model = leaves, None
            if own:
                pass
            elif model is not None and not hidden:
                # Gradient flows, but only into tensors that are nobody's weights: x.requires_grad_(), logits.detach()...
                self._without_graph(loss, frame)
                return None
            elif model is not None:
                own = [p for p in model.parameters() if p.requires_grad]
            else:
                own = leaves
                silent = self._switched_off(leaves)
                if silent is not None:
                    self.roots.append(weakref.ref(silent))
                    self._without_graph(loss, frame)
                    return None
        if not own:
            self._without_graph(loss, frame)
            return None
        self.fresh = True
        for leaf in own:
            entry = self.by_leaf.get(id(leaf))
            if entry is not None and entry[0]() is leaf:
                self._register(entry[1], own)
                if entry[1].facts.loop.backwards >= SPIED_PASSES and self.looks_again < 8:
                    self.looks_again += 1
                    self.spy_left = max(self.spy_left, 1)  # layers were exchanged: see one pass closely
                return entry[1]
        return self._new_state(own)

    def _switched_off(self, leaves: list[Any]) -> Any:
        """The model that an optimizer holds, where it ran without gradients and the loss ends at what it returned.

        `out.requires_grad_()` makes backward run; nobody trains `out`, a new tensor at every step. What is optimised as a
        tensor (a latent code, an image) is held by its own optimizer, or no optimizer holds the model.
        """
        if not all(self.spy._taint(t) is not None or t.grad is None for t in leaves):
            return None
        for ref in reversed(self.silent):
            model = ref()
            if model is not None and any(p.requires_grad and self._held(p) for p in model.parameters()):
                return model
        return None

    def _held(self, tensor: Any) -> bool:
        return any(
            tensor is p for o in list(self.optimizer_made) for g in getattr(o, "param_groups", ()) for p in g["params"]
        )

    def _called_model(self) -> Any:
        for ref in reversed(self.roots):
            module = ref()
            if module is not None:
                return module
        return None

    def _new_state(self, leaves: list[Any]) -> State:
        model = self._called_model()
        made = self.made.get(model) if model is not None else None
        shapes = tuple(sorted(tuple(p.shape) for p in leaves))
        hyper = self._hyper_of(leaves)
        signature = (type(model).__name__, made, shapes)
        for state in reversed(self.states):
            if state.signature[2:] == signature[2:] and not any(isinstance(p, torch.nn.Parameter) for p in leaves):
                # Plain tensors, new ones at each step: the weights are replaced by their update, not written to.
                state.facts.loop.functional = True
                state.parameters.clear()
                state.checksums.clear()
                state.facts.parameters.clear()
                state.by_hand = []
                self._register(state, leaves)
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
                state.stale_probe = []
                if loop.rebuilt_total <= 4:
                    self._what_became(state, model)
                state.recipes.clear()
                state.parameters.clear()
                state.checksums.clear()
                state.facts.parameters.clear()
                state.anchor_version = state.reference = None
                state.stale_probe = []
                self._register(state, leaves)
                return state
        if len(self.states) >= MAX_TRAININGS:
            self.run.notes.append(f"more than {MAX_TRAININGS} trainings in this script: the later ones were not observed")
            state = self.states[-1]
            self._register(state, leaves)
            return state
        state = State(len(self.states))
        state.signature = signature
        state.facts.made = made
        state.facts.name = type(model).__name__ if model is not None else ""
        self.states.append(state)
        self._register(state, leaves)
        if len(self.states) > 1 and self.spied_passes >= SPIED_PASSES and len(self.states) < 8:
            self.spy_left = 1  # a new training: see one pass of it closely
        return state

    def _what_became(self, state: State, model: Any) -> None:
        """Of the model before this one: does it live on (an ensemble), and was it called again after its last step?

        Whatever was called since its last step, but for the new model's first pass, may have been it: a validation, a test,
        distillation.
        """
        called = bool(self.silent) or any(ref() is not model for ref in self.roots)
        self.mode_layers = {k: v for k, v in self.mode_layers.items() if v[0]() is not None}  # our own hold on its layers
        if any(ref() is not None for ref, _ in state.parameters.values()):
            gc.collect()  # a scheduler and its optimizer hold each other, and through the groups the weights
        kept = any(ref() is not None for ref, _ in state.parameters.values())
        state.facts.loop.rebuilt_kept += kept
        state.facts.loop.rebuilt_unused += not kept and not called

    def _hyper_of(self, leaves: list[Any]) -> str:
        ids = {id(p) for p in leaves}
        for optimizer in list(self.optimizer_made):
            if any(id(p) in ids for g in getattr(optimizer, "param_groups", ()) for p in g["params"]):
                return hyper_text(optimizer)
        return ""

    def _register(self, state: State, leaves: list[Any]) -> None:
        for leaf in leaves:
            self.by_leaf[id(leaf)] = (weakref.ref(leaf), state)

    def _without_graph(self, loss: Any, frame: Any) -> None:
        """No weight can be reached from this loss."""
        model = self._called_model()
        state = None
        if model is not None:
            for p in model.parameters():
                entry = self.by_leaf.get(id(p))
                if entry is not None and entry[0]() is p:
                    state = entry[1]
                    break
            if state is None:
                state = self._new_state([p for p in model.parameters()])
        elif self.current is not None:
            state = self.current
        else:
            state = self.states[-1] if self.states else self._new_state([])
        self.current = state
        loop = state.facts.loop
        if state.pending and not state.steps:
            self._row(state)
        loop.backwards += 1
        loop.without_graph += 1
        loop.forwards, loop.dropped_forwards = self.forwards, self.dropped
        if loop.backward_site is None:
            loop.backward_site = sites.site(frame)
        state.pending += 1
        if loop.without_graph <= 3 or is_deep(loop.without_graph):
            self._note_breaks(state, loss)
            self._parameters(state, frozenset(), self._names())
        if not state.facts.terms:
            self._terms_from_calls(state)
        value = float(loss.detach()) if loss.numel() == 1 else NAN
        state.levels.append(torch_values.Level(value, NAN, NAN, NAN))
        self.roots.clear()

    def _note_breaks(self, state: State, loss: Any) -> None:
        broken = self.spy._taint(loss)
        if broken is None and loss.grad_fn is None:
            broken = next((b for b in reversed(self.spy.breaks) if b.reason in {"item", "numpy", "detach", "data"}), None)
        known = state.facts.breaks
        for item in self.spy.breaks:
            on_path = item is broken
            old = next((b for b in known if b.site == item.site and b.reason == item.reason), None)
            if old is None and len(known) < 64:
                known.append(Break(item.reason, item.site, item.function, on_path))
            elif old is not None and on_path:
                old.on_path = True

    def _terms_from_calls(self, state: State) -> None:
        for call in self.spy.losses[-1:]:
            term = self._term_from_arguments(call.name, call.arguments, call.site)
            state.facts.terms.append(term)

    # ------------------------------------------------------------------ the whole graph

    def _examine(self, state: State, loss: Any, chain: tuple[str, ...], frame: Any) -> Recipe:
        order, leaves, hidden = torch_graph.walk(loss.grad_fn)
        reached = frozenset(id(t) for t in leaves)
        names = self._names()
        recipe = state.recipes.get(chain) or Recipe()
        first = recipe.term is None
        if self.spy_pushed and self.spy.ops:
            recipe.places = [(n.name(), None if torch_graph.is_leaf(n) else self._describe(n)[0]) for n in order[:3000]]
        recipe.reached = reached
        recipe.root = chain[0]
        state.recipes[chain] = recipe
        if len(state.recipes) > 256:
            state.recipes.clear()
        for leaf in leaves:
            if id(leaf) not in self.by_leaf:
                self._register(state, [leaf])
        if recipe.term is not None and any(n.op == "relu" for n in recipe.term.path[:3]):
            node = torch_graph.follow(loss.grad_fn, recipe.route)
            relu = next(n for n in recipe.term.path if n.op == "relu")
            if node is not None:
                self._zero_columns(self._under(recipe, node), relu)
        if first or (self.spy_pushed and self.spy.noting):
            self._find_terms(state, recipe, loss, names, hidden)
        self._parameters(state, reached, names, hidden)
        if self.spy.broadcasts:
            self._stretched(state, loss, order)
        if not self.packs and not hidden and (recipe.term is None or recipe.term.judged):
            self._look_inside(state, recipe, loss, order, first)
        self._note_breaks(state, loss)
        if self.spy.freezes and not state.facts.loop.freezes:
            state.facts.loop.freezes = list(self.spy.freezes)
        for reason in hidden:
            state.facts.absent.setdefault("path", f"the graph is {reason}")
        if not state.facts.made and (model := self._called_model()) is not None:
            state.facts.made = self.made.get(model)
            state.facts.name = type(model).__name__
        return recipe

    def _stretched(self, state: State, loss: Any, order: list[Any]) -> None:
        """Outputs [N, 1] against data [N], or the other way round, and the loss a mean over all N x N pairs."""
        known = state.facts.stretched
        for outer in self.spy.broadcasts:
            rows = max(outer.shapes[0])
            if not outer.one_sided or not torch_graph.all_pairs(
                loss.grad_fn, order, outer.first, outer.last, rows, chosen=self.spy.chosen, met=self.spy.met
            ):
                continue
            old = next((s for s in known if s.site == outer.site and s.function == outer.function), None)
            if old is not None:
                old.calls += 1
            elif len(known) < 8:
                known.append(Stretched(outer.shapes, outer.site, outer.function))

    def _look_inside(self, state: State, recipe: Recipe, loss: Any, order: list[Any], first: bool) -> None:
        """Layers, the order of the weights, hand-written formulas, functions of the user's own."""
        facts = state.facts
        step = self._step(state)
        if not is_deep(facts.loop.backwards) and facts.layers:
            return
        names = {key: record.name for key, (_, record) in state.parameters.items()}
        torch_modules.look(order, step, facts.layers, names, self._describe)
        for item in torch_modules.formulas(order, self._describe):
            known = next((f for f in facts.formulas if f.kind == item.kind and (f.site == item.site or item.site is None)), None)
            if known is None:
                facts.formulas.append(item)
            else:
                for name, better in (("largest", max), ("smallest", min)):
                    values = [v for v in (getattr(known, name), getattr(item, name)) if v is not None]
                    setattr(known, name, better(values) if values else None)
        del facts.formulas[8:]
        for layer in facts.layers:
            if layer.op == "batch_norm" and layer.looks and layer.looks[-1].step == step:
                for record in facts.modes:
                    if record.name == layer.name:
                        rows = layer.looks[-1].rows
                        record.smallest_rows = rows if record.smallest_rows is None else min(rows, record.smallest_rows)
        for ref, record in state.modes.values():
            m = ref()
            if m is not None and getattr(m, "num_batches_tracked", None) is not None:
                record.tracked = int(m.num_batches_tracked)
        if first or not facts.operations:
            ranks, transposed = torch_modules.orders(order)
            for key, rank in ranks.items():
                entry = state.parameters.get(key)
                if entry is not None:
                    entry[1].order = rank
                    if key in transposed and not entry[1].transposed and (p := entry[0]()) is not None:
                        entry[1].transposed = True
                        torch_modules.first_sight(entry[1], p)
            node = torch_graph.follow(loss.grad_fn, recipe.route) if recipe.term is not None else None
            below = self._under(recipe, node) if node is not None else None
            facts.operations = torch_modules.operations(order, below)
            recipe.data_route = torch_modules.data_route(loss.grad_fn)
        if self.spy.ops:
            known = {c.function for c in facts.custom}
            found = torch_modules.custom_functions(order, self._describe)
            facts.custom.extend(c for c in found if c.function not in known)
            shape = recipe.term.target_shape if recipe.term is not None else None
            for item in self.spy.reshapes:
                if item.rows is not None and (not shape or item.rows != shape[0]):
                    continue
                if not any(r.site == item.site and r.after == item.after for r in facts.reshapes) and len(facts.reshapes) < 32:
                    facts.reshapes.append(item)
            for item in self.spy.dropouts:
                if not any(d.made == item.made for d in facts.modes):
                    facts.modes.append(item)

    def _names(self) -> dict[int, str]:
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

    def _describe(self, node: Any) -> tuple[Site | None, str, Site | None, list[str], bool]:
        if not self.spy.ops and not self.spy.modules:
            return None, "", None, [], False
        op, module_call = self.spy.place(node._sequence_nr())
        place = sites.at(op.file, op.line, op.function) if op is not None else None
        if module_call is None:
            return place, "", None, [], False
        module = module_call.module
        frozen = [n for n, p in module.named_parameters(recurse=False) if not p.requires_grad]
        library = type(module).__module__.startswith("torch.")
        return place, type(module).__name__, self.made.get(module), frozen, library

    def _find_terms(self, state: State, recipe: Recipe, loss: Any, names: dict[int, str], hidden: set[str]) -> None:
        found = torch_graph.find_terms(loss.grad_fn)
        terms: list[LossTerm] = []
        for item in found[:6]:
            term = LossTerm(item.kind, item.node.name())
            term.sign, term.coefficient = item.sign, item.coefficient
            term.sample_weighted = item.weighted
            term.input_shape = torch_graph.shape_of(item.below) if item.below is not None else None
            torch_graph.options(term, item.node)
            number = item.node._sequence_nr()
            if "hand" in item.flags and item.pick is not None:
                pick = torch_graph.follow(loss.grad_fn, item.pick)
                number = pick._sequence_nr() if pick is not None else number
            op, module_call = self.spy.place(number)
            if op is not None:
                term.site = sites.at(op.file, op.line, op.function)
            if module_call is not None and type(module_call.module).__module__.startswith("torch."):
                term.made = self.made.get(module_call.module)
            if item.sign_node is not None and item.sign < 0:
                term.sign_site = self._describe(item.sign_node)[0]
            call = next((c for c in self.spy.losses if c.first <= number < c.last), None)
            if call is not None:
                self._options_from_call(term, call)
            term.path, term.path_end = torch_graph.path_to_head(
                item.below, self._describe, lambda p: names.get(id(p), f"tensor {list(p.shape)}")
            )
            if term.path_end == "hidden":
                term.hidden = term.path[-1].op if term.path else "hidden"
            self._axes(term, item, call, loss)
            self._broadcasts(term, item, loss)
            for step in term.path:
                if step.op == "relu":
                    self._zero_columns(item.below, step)
                    break
            terms.append(term)
        self._merge_terms(state, recipe, terms, found)
        recipe.flat = bool(
            recipe.term is not None and len(terms) == 1 and any(n.op in torch_graph.FLAT for n in recipe.term.path)
        )
        if recipe.flat and recipe.term is not None:
            node = next(n for n in recipe.term.path if n.op in torch_graph.FLAT)
            if not any(b.reason == "round" for b in state.facts.breaks):
                state.facts.breaks.append(Break("round", node.where, node.op, True))

    def _zero_columns(self, below: Any, step: Any) -> None:
        node, _ = torch_graph.skip_views(below)
        while node is not None and torch_graph.op_name(node) == "dropout":
            node = next(iter(torch_graph.children(node)), None)
        if node is not None and torch_graph.op_name(node) == "relu":
            step.zero_columns = torch_graph.zero_columns(node)

    @staticmethod
    def _picked_axis(item: torch_graph.Found, loss: Any, rank: int) -> int | None:
        """The axis along which a gather right above the normaliser takes one entry for each label."""
        pick = torch_graph.follow(loss.grad_fn, item.pick) if item.pick is not None and rank > 2 else None
        if pick is None or torch_graph.op_name(pick) != "gather" or torch_graph.children(pick) != [item.node]:
            return None
        return torch_graph._axis(pick._saved_dim, rank)

    def _axes(self, term: LossTerm, item: torch_graph.Found, call: torch_spy.LossCall | None, loss: Any) -> None:
        shape = term.input_shape
        if not shape:
            return
        if term.kind in {"cross-entropy", "nll", "soft-cross-entropy", "kl"}:
            term.class_axis = 1 if len(shape) > 1 else 0
            if "hand" in item.flags:
                dim = getattr(item.node, "_saved_dim", None)
                if isinstance(dim, int):
                    term.class_axis = torch_graph._axis(dim, len(shape))
                else:
                    term.class_axis = len(shape) - 1
                picked = self._picked_axis(item, loss, len(shape))
                units, mixed = torch_graph.feature_axis(term.path, term.class_axis)
                if picked is not None and picked != term.class_axis == units and not mixed:
                    term.class_axis = picked  # normalised over the units, but gathered along another axis
            term.classes = shape[term.class_axis]
            term.feature_axis, term.scrambled = torch_graph.feature_axis(term.path, term.class_axis)
            if item.flags & {"fused", "log(softmax)"} and "hand" not in item.flags:
                self._own_axis(term, item, call)
        else:
            term.class_axis = len(shape) - 1 if len(shape) > 1 else None
            term.classes = shape[-1] if len(shape) > 1 else 1

    def _own_axis(self, term: LossTerm, item: torch_graph.Found, call: torch_spy.LossCall | None) -> None:
        """NLLLoss on a normaliser of the user's own: over the right axis, it is cross-entropy along that axis; over a
        wrong one, the normaliser becomes the first node of the path, with the axis it took."""
        first = next(iter(torch_graph.children(item.node)), None)
        node, _ = torch_graph.skip_views(first)
        if node is not None and torch_graph.op_name(node) == "log":
            node = torch_graph._log_of_softmax(first)
        if node is None or torch_graph.op_name(node) not in {"log_softmax", "softmax"}:
            return
        shape = torch_graph.shape_of(node) or []
        if not shape or term.class_axis is None:
            return
        internal = (call is not None and call.name == "cross_entropy") or (call is None and "2" in item.node.name()[:9])
        if internal and torch_graph.op_name(node) == "log_softmax":
            return  # torch's own log_softmax inside F.cross_entropy; its views are torch's, too
        axis = torch_graph._axis(node._saved_dim, len(shape))
        units, _ = torch_graph.feature_axis(term.path, axis)
        views = first is not node and torch_graph.op_name(node) == "log_softmax"
        given = getattr(call.arguments.get("input"), "grad_fn", None) if call is not None else None
        if given is not None and (given is node or torch_graph._log_of_softmax(given) is node):
            views = False  # what lies between is torch's own: it gives nll_loss a fourth axis
            if axis != term.class_axis and len(shape) > 2 and units != term.class_axis:
                # The normaliser runs over the units of the head, and nll_loss picks from another axis: it looks for the
                # classes where they are not. Where the units cannot be told, either of the two may be meant.
                term.feature_axis, term.scrambled = (axis, False) if units == axis else (None, False)
                return
        if not views and axis != term.class_axis:
            wrong, right = True, term.class_axis
        else:
            wrong, right = (units is not None and units != axis), (units if units is not None else axis)
        term.class_axis = right
        term.classes = shape[right]
        if wrong:
            place, module, made, _, library = self._describe(node)
            term.path.insert(0, OpNode(torch_graph.op_name(node), node.name(), shape, dim=axis, site=place, module=module,
                                       made=made if library else None))  # fmt: skip
            term.feature_axis, term.scrambled = right, False
        else:
            term.feature_axis, term.scrambled = torch_graph.feature_axis(term.path, right)

    def _broadcasts(self, term: LossTerm, item: torch_graph.Found, loss: Any) -> None:
        pick = torch_graph.follow(loss.grad_fn, item.pick) if item.pick is not None else None
        numbers = [n._sequence_nr() for n in (item.node, item.below, pick) if n is not None and not torch_graph.is_leaf(n)]
        if not self.spy.broadcasts:
            return
        fused = torch_graph.base_name(item.node) in torch_graph.LOSSES
        order = [] if fused else torch_graph.walk(loss.grad_fn)[0]
        for outer in self.spy.broadcasts:
            if any(outer.first <= n < outer.last for n in numbers):
                if not fused and not torch_graph.all_pairs(
                    loss.grad_fn, order, outer.first, outer.last, max(outer.shapes[0]), chosen=self.spy.chosen, met=self.spy.met
                ):
                    continue  # a mask, a minimum or a second matrix: the pairs are meant
                term.broadcast, term.argument_shapes = outer.site, outer.shapes
                return

    def _options_from_call(self, term: LossTerm, call: torch_spy.LossCall) -> None:
        named = call.arguments
        term.site = call.site or term.site
        kind = torch_spy.LOSS_FUNCTIONS[call.name]
        x, y = named.get("input"), named.get("target")
        if kind == "cross-entropy" and isinstance(y, torch.Tensor) and y.is_floating_point():
            kind = "soft-cross-entropy"
        if term.kind in {"unknown", "l1", "kl", "soft-cross-entropy", "log_softmax"}:
            term.kind = kind
        term.reduction = str(named.get("reduction", term.reduction or "mean"))
        term.label_smoothing = float(named.get("label_smoothing", 0.0) or 0.0)
        if isinstance(named.get("ignore_index"), int) and kind in {"cross-entropy", "nll"}:
            term.ignore_index = named["ignore_index"]
        if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor):
            term.argument_shapes = [list(x.shape), list(y.shape)]
            term.target_shape = list(y.shape)

    def _merge_terms(self, state: State, recipe: Recipe, terms: list[LossTerm], found: list[torch_graph.Found]) -> None:
        """Keep terms that were known (their counts go on), add new ones, choose the judged one."""
        known = state.facts.terms
        chosen: tuple[int, LossTerm] | None = None
        for position, term in enumerate(terms):
            old = next((t for t in known if _same_term(t, term)), None)
            if old is not None:
                _update_term(old, term)
                terms[position] = old
            elif len(known) < 16:
                known.append(term)
            if chosen is None and terms[position].kind != "unknown":
                chosen = (position, terms[position])
        known[:] = [t for t in known if t.kind != "unknown"] or known[:1]
        if chosen is None:
            return
        position, term = chosen
        item = found[position]
        judged = next((t for t in known if t.judged), None)
        if judged is None or judged is term:
            term.judged = True
        elif not term.why_not:
            term.why_not = "another loss of this training is judged"
        if recipe.labels is None or recipe.term is not term:
            recipe.labels = next((s for s in state.labels if s.term is term), None) or torch_values.Labels(term)
            if recipe.labels not in state.labels:
                state.labels.append(recipe.labels)
        recipe.term, recipe.route, recipe.pick, recipe.name = term, item.route, item.pick, item.node.name()
        recipe.flags, recipe.first_flags = item.flags, item.first_flags
        recipe.exact = (
            len([t for t in terms if t.kind != "unknown"]) == 1 and item.linear and item.coefficient is not None
            and not item.weighted and abs(item.coefficient - 1) < 1e-6 and "again" not in item.flags
            and term.reduction in {"mean", ""} and "hand" not in item.flags
        ) or (len(terms) == 1 and term.kind in {"mse", "l1", "smooth-l1", "huber"} and item.linear)  # fmt: skip
        if term.label_smoothing and len(terms) == 1 and term.reduction == "mean" and item.coefficient is not None:
            # torch writes (1 - eps) nll + eps smooth: the coefficient of the nll is 1 - eps, times what the script adds.
            recipe.exact = abs(item.coefficient - (1 - term.label_smoothing)) < 1e-6
        recipe.alone = len(terms) == 1 and item.linear and (item.coefficient is None or abs(item.coefficient - 1) < 1e-6)
        if item.weighted:
            term.why_not = "each sample's loss is multiplied by a weight of its own (a policy gradient, or sample weights)"

    # ------------------------------------------------------------------ parameters

    def _parameters(
        self, state: State, reached: frozenset[int], names: dict[int, str], hidden: set[str] | None = None
    ) -> None:
        """Update the list of tensors: those a loss reaches, those of the model called, those of its optimizers."""
        tensors: dict[int, Any] = {}
        for ref in self.roots:
            module = ref()
            if module is not None:
                for p in module.parameters():
                    tensors.setdefault(id(p), p)
        plain = not tensors  # no module: whatever the loss reaches is trained
        for key in reached:
            entry = self.by_leaf.get(key)
            p = entry[0]() if entry is not None else None
            if p is not None and (
                isinstance(p, torch.nn.Parameter) or key in state.parameters or self._held(p) or plain
            ):
                tensors.setdefault(key, p)
        if tensors:
            # Weights without a module, or of one that was called on the way: what stands in one optimizer with them is trained too.
            for optimizer in list(self.optimizer_made):
                held_here = [p for g in getattr(optimizer, "param_groups", ()) for p in g["params"]]
                if any(id(p) in tensors for p in held_here):
                    for p in held_here:
                        tensors.setdefault(id(p), p)
        facts = state.facts
        owners: dict[int, Site | None] = {}
        if any(key not in state.parameters for key in tensors):
            for ref in self.roots:
                for module in (model.modules() if (model := ref()) is not None else ()):
                    for p in module._parameters.values():
                        owners.setdefault(id(p), self.made.get(module))
        if self.roots and self.fresh and any(ref() is not None for ref, _ in state.parameters.values()):
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
                self.by_leaf.setdefault(key, (weakref.ref(p), state))
                if p.requires_grad:
                    state.checksums[key] = checksum(p)
            else:
                record = entry2[1]
                record.trainable = bool(p.requires_grad)
                if record.name.startswith("tensor ") and key in names:
                    record.name = names[key]
            if key in reached or (hidden and p.requires_grad):
                record.reached = True
        if self.roots:
            for optimizer in list(self.optimizer_made):
                if id(optimizer) not in state.optimizers and any(
                    id(p) in tensors for g in getattr(optimizer, "param_groups", ()) for p in g["params"]
                ):
                    self._optimizer_record(state, optimizer)
        held = {
            id(p)
            for ref, _ in state.optimizers.values()
            if (o := ref()) is not None
            for g in o.param_groups
            for p in g["params"]
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

    def _hand_updates(self, state: State) -> None:
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

    def _remember_by_hand(self, state: State, pairs: list[tuple[Any, Any]]) -> None:
        """After a backward without an optimizer: weights and gradients, to compare with the weights at the next one."""
        pairs = [(p, g) for p, g in pairs if g is not None and not g.is_sparse][:64]
        if pairs and sum(p.numel() for p, _ in pairs) <= 2_000_000:
            state.by_hand = [(weakref.ref(p), p.detach().clone(), g.detach().clone()) for p, g in pairs]

    def _measure_by_hand(self, state: State) -> float:
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
            state.first_step, state.own_at_first_step = state.last_step, self.run.own_seconds
        if not moved or not math.isfinite(predicted):
            return NAN
        if is_deep(loop.backwards):
            looks = ((state.parameters.get(id(p)), p, b, g) for ref, b, g in remembered if (p := ref()) is not None)
            torch_modules.update_looks([(e[1], p, b, g) for e, p, b, g in looks if e is not None], loop.backwards)
        if probing is not None:
            state.probing = probing
            held = [(p, b) for ref, b, _ in remembered if (p := ref()) is not None]
            self._end_probe(state, [p for p, _ in held], [b for _, b in held], predicted)
            state.probing = None
        # The weights were updated with these gradients; are they still there when the next ones are added?
        loop.stale_checked += 1
        loop.stale += any(
            (p := ref()) is not None and p.grad is not None and bool((g != 0).any()) and torch.equal(p.grad, g)
            for ref, _, g in remembered
        )
        loop.functional = True
        loop.step_site = loop.step_site or (self.spy.updates[-1] if self.spy.updates else None)
        loop.ascent_checked += 1
        loop.ascent += predicted < 0
        return predicted

    def _check_zeroing(self, state: State, recipe: Recipe) -> None:
        """Before a backward: does .grad still hold the gradient of a batch that was stepped on?

        Same storage and same version counter as after the step: nobody wrote to it. Old code zeroes through
        `.grad.data.zero_()`, which leaves the counter alone, so the numbers are looked at as well.
        """
        if self.local.in_step or not state.stale_probe:
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

    def _check_outside(self, state: State, anchor: Any) -> None:
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
        loop.resets_unused += not self.silent and len(self.roots) <= 1

    # ------------------------------------------------------------------ the numbers of one call

    def _read(self, state: State, recipe: Recipe, loss: Any, chain: tuple[str, ...]) -> None:
        root = float(loss.detach()) if loss.numel() == 1 else NAN
        if loss.numel() == 1 and not math.isfinite(root) and state.facts.nonfinite is None:
            self._non_finite(state, loss)
        term, labels = recipe.term, recipe.labels
        if term is None or labels is None or not term.judged:
            if term is None or labels is None:
                state.levels.append(torch_values.Level(root, NAN, NAN, NAN))
                return
        node = torch_graph.follow(loss.grad_fn, recipe.route)
        if node is None or node.name() != recipe.name:
            state.recipes.pop(chain, None)
            return
        loop = state.facts.loop
        total = root if recipe.exact else None
        if loop.backwards <= 4 or (loop.backwards % 25 == 0 and term.values.calls < 40):
            self._look_at_input(term, recipe, node)
        with np.errstate(all="ignore"):  # labels outside [0, 1] and the like: said by a rule, not by numpy
            level = self._level(term, labels, recipe, node, loss, total)
        if loop.backwards <= 4 and not recipe.exact and len(state.facts.terms) == 1 and abs(level.loss) > 1e-6:
            ratio = root / level.loss
            if term.scale is not None and not math.isclose(term.scale, ratio, rel_tol=1e-2):
                ratio = NAN  # no fixed factor
            term.scale = ratio if math.isfinite(ratio) else None
        if level.loss != level.loss and recipe.alone:
            level = level._replace(loss=root)
        if term.judged:
            state.levels.append(level)

    def _level(
        self, term: LossTerm, labels: torch_values.Labels, recipe: Recipe, node: Any, loss: Any, total: float | None
    ) -> torch_values.Level:
        kind = term.kind
        if kind == "nll" and "hand" in recipe.flags:
            # minus the probability of the label: -1/K at the uniform guess
            labels.stats.calls += 1
            return torch_values.Level(float(loss.detach()), -1.0 / term.classes if term.classes else NAN, NAN, NAN)
        if kind == "bce" and "hand" in recipe.flags:
            pick = torch_graph.follow(loss.grad_fn, recipe.pick) if recipe.pick is not None else None
            t = _other_operand(pick) if pick is not None else None
            p = getattr(node, "_saved_result", None)
            if t is None or p is None:
                return torch_values.UNKNOWN
            if bool((t <= 0).all()) and bool((t < 0).any()):
                t = -t
            if "log(1-p)" in recipe.first_flags:
                t = 1 - t
            if t.shape != p.shape:
                return torch_values.UNKNOWN
            return labels.binary(p, t, None, logits=False)
        own = torch_graph.own_call(node) if "own" in recipe.flags else None
        if own is not None:
            logits, target, *_ = own
            term.target_shape = term.target_shape or list(target.shape)
            if kind == "bce-logits":
                return labels.binary(logits, target, total, logits=True)
            seen = self._heard(node, logits)
            if kind == "soft-cross-entropy":
                return labels.soft(logits.detach().log_softmax(1 if logits.dim() > 1 else 0), target, total)
            labels.stats.kind = labels.stats.kind or "index"
            return labels.index(logits if seen is not None else logits.detach().log_softmax(1), target, total, seen)
        if kind in {"cross-entropy", "nll"}:
            if "fused" in recipe.flags or kind == "nll" or node.name().startswith("NllLoss"):
                y = node._saved_target
                if term.target_shape is None:
                    term.target_shape = list(y.shape)
                labels.stats.kind = labels.stats.kind or "index"
                level = labels.index(node._saved_self, y, total)
                if kind == "nll" and not term.values.log_probabilities and term.values.calls:
                    # No log-probabilities: ln K is not its level. Probabilities start at -1/K; logits have no level.
                    simplex = term.values.simplex_rows == term.values.calls and term.classes
                    return level._replace(chance=-1.0 / term.classes if simplex and term.classes else NAN, base=NAN)
                return level
            log_probs, y = self._by_hand(recipe, node, loss)
            if y is not None and log_probs is not None and y.dim() <= log_probs.dim():
                labels.stats.kind = labels.stats.kind or "index"
                if log_probs.dim() == 2 and y.numel() == log_probs.shape[0]:
                    return labels.index(log_probs, y, total)
            return torch_values.UNKNOWN
        if kind in {"soft-cross-entropy", "kl"}:
            pick = torch_graph.follow(loss.grad_fn, recipe.pick) if recipe.pick is not None else None
            q = _other_operand(pick) if pick is not None else None
            log_probs = getattr(node, "_saved_result", None)
            if node.name().startswith("Softmax") and log_probs is not None:
                log_probs = log_probs.detach().log()
            elif node.name().startswith("Logsumexp"):
                x = node._saved_self.detach()
                log_probs = x - x.logsumexp(-1, keepdim=True)
            if q is None or log_probs is None or q.shape != log_probs.shape or term.class_axis is None:
                return torch_values.Level(total if total is not None else NAN, NAN, NAN, NAN)
            if bool((q <= 0).all()):
                q = -q  # -t * log p: the minus sign sits in the targets
            if term.class_axis != 1 and log_probs.dim() > 1:
                log_probs = log_probs.detach().movedim(term.class_axis, 1)
                q = q.detach().movedim(term.class_axis, 1)
            if term.target_shape is None:
                term.target_shape = list(q.shape)
            return labels.soft(log_probs, q, None if kind == "kl" else total)
        if kind in {"bce-logits", "bce"} and hasattr(node, "_saved_target"):
            term.target_shape = term.target_shape or list(node._saved_target.shape)
            return labels.binary(node._saved_self, node._saved_target, total, logits=kind == "bce-logits")
        if kind in {"mse", "smooth-l1", "huber"} and hasattr(node, "_saved_target"):
            target = node._saved_target
            if 0 in target.stride() and target.numel() > 1 and target.dim() > 1 and term.broadcast is not None:
                target = target[0]
            term.target_shape = term.target_shape or list(node._saved_target.shape)
            return labels.regression(node._saved_self, target, total, 2)
        if kind == "soft-margin" and hasattr(node, "_saved_target"):
            labels.stats.calls += 1
            labels._real_targets(torch_values.numpy_of(node._saved_target).reshape(-1, 1).astype(np.float64))
        elif kind == "multi-margin":
            labels.stats.calls += 1
        else:
            call = self.spy.losses[-1] if self.spy.losses else None
            x, y = (call.arguments.get(name) for name in ("input", "target")) if call is not None else (None, None)
            if isinstance(y, torch.Tensor) and y.numel():
                if kind == "l1" and isinstance(x, torch.Tensor) and x.shape == y.shape:
                    return labels.regression(x.detach(), y, total, 1)
                labels.stats.calls += 1
                array = torch_values.numpy_of(y).astype(np.float64)
                labels._real_targets(array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1))
        return torch_values.Level(
            float(loss.detach()) if total is None and loss.numel() == 1 else (total if total is not None else NAN),
            NAN,
            NAN,
            NAN,
        )

    def _heard(self, node: Any, logits: Any) -> Any:
        """The telemetry of a call of `unstuck.losses`; None where nobody listened yet. It has the numbers of the loss's own pass:
        nothing wide as the logits is computed a second time."""
        if self.telemetry is None:
            room = sys.modules.get("unstuck.losses.telemetry")
            if room is None:
                return None
            self.telemetry = room
            room.listeners.append(self._hear)
            self.restore.append(lambda: room.listeners.remove(self._hear))
            return None
        rows = logits.numel() // max(1, logits.shape[1 if logits.dim() > 1 else 0])
        number = node._sequence_nr()  # taken before its forward ran, which is where it was heard
        return next((t for n, t in self.heard if n > number and t.predicted.numel() == rows), None)

    def _hear(self, seen: Any) -> None:
        if self.active and not self.local.busy:
            self.heard.append((torch_spy.sequence(), seen))
            del self.heard[:-4]

    def _by_hand(self, recipe: Recipe, node: Any, loss: Any) -> tuple[Any, Any]:
        pick = torch_graph.follow(loss.grad_fn, recipe.pick) if recipe.pick is not None else None
        result = getattr(node, "_saved_result", None)
        name = node.name()
        if name.startswith("LogSoftmax"):
            log_probs = result
        elif name.startswith("Softmax") and result is not None:
            log_probs = result.detach().log()
        elif name.startswith("Logsumexp"):
            x = node._saved_self
            log_probs = x.detach() - x.detach().logsumexp(-1, keepdim=True)
            pick = _find_pick(loss.grad_fn)
        else:
            return None, None
        if pick is None:
            return log_probs, None
        index = getattr(pick, "_saved_index", None)
        if index is None:
            indices = [i for i in (getattr(pick, "_saved_indices", None) or ()) if i is not None]
            index = indices[-1] if indices else None
        if index is None or index.is_floating_point() or index.dtype == torch.bool:
            return log_probs, None
        return log_probs, index.reshape(-1) if index.numel() == (log_probs.shape[0] if log_probs.dim() > 1 else 1) else None

    def _look_at_input(self, term: LossTerm, recipe: Recipe, node: Any) -> None:
        """The numbers that entered the loss: from the spied call, from what a node saved, or from the model's output."""
        x = None
        number = node._sequence_nr()
        call = next((c for c in self.spy.losses if c.first <= number < c.last), None)
        if call is not None and isinstance(call.arguments.get("input"), torch.Tensor):
            x = call.arguments["input"]
            if call.name == "nll_loss" and term.kind == "cross-entropy":
                x = None
        if x is None and term.kind in {"nll", "bce"} and "hand" in recipe.flags:
            x = getattr(node, "_saved_result", None)
            if x is None and self.last_output is not None and (out := self.last_output()) is not None:
                x = out if term.input_shape is None or list(out.shape) == term.input_shape else None
        elif x is None and term.kind not in {"cross-entropy", "soft-cross-entropy", "kl"}:
            x = getattr(node, "_saved_self", None)
        if x is None and term.kind in {"cross-entropy", "soft-cross-entropy"}:
            below, _ = torch_graph.skip_views(self._under(recipe, node))
            if below is not None and torch_graph.op_name(below) in {"softmax", "sigmoid", "tanh", "relu"}:
                x = getattr(below, "_saved_result", None)
            elif below is not None and term.path_end != "parametric":
                x = self.last_output() if self.last_output is not None else None
                if x is not None and (term.input_shape is None or x.numel() != math.prod(term.input_shape)):
                    x = None
        if x is None:
            return
        axis = term.class_axis
        if axis is not None and axis >= x.dim():
            axis = x.dim() - 1 if x.dim() > 1 else None
        if term.input_shape is None:
            term.input_shape = list(x.shape)
        torch_values.look_at_values(term.values, x, axis)

    @staticmethod
    def _under(recipe: Recipe, node: Any) -> Any:
        if "fused" in recipe.flags:
            node, _ = torch_graph.skip_views(next(iter(torch_graph.children(node)), None))
        return next(iter(torch_graph.children(node)), None) if node is not None else None

    def _non_finite(self, state: State, loss: Any) -> None:
        """The loss is NaN or infinite for the first time: find the first tensor that is."""
        step = state.rows
        for i, ref in enumerate(self.last_inputs):
            x = ref()
            if x is not None and x.is_floating_point() and not bool(torch.isfinite(x).all()):
                share = float((~torch.isfinite(x)).double().mean())
                state.facts.nonfinite = NonFinite(
                    "input", f"input {i + 1} of the model", step, f"{share:.2%} of its numbers", share=share
                )
                return
        self._parameters(state, frozenset(), self._names())
        for ref, record in state.parameters.values():
            p = ref()
            if p is not None and not bool(torch.isfinite(p).all()):
                state.facts.nonfinite = NonFinite(
                    "parameter", record.name, step, "after the update of this step, while the loss before it was finite",
                    site=state.facts.loop.step_site,
                )  # fmt: skip
                return
        model = self._called_model()
        if model is not None:
            for name, b in model.named_buffers():
                if b.is_floating_point() and not bool(torch.isfinite(b).all()):
                    state.facts.nonfinite = NonFinite("buffer", name, step)
                    return
        out = self.last_output() if self.last_output is not None else None
        if out is not None and out.is_floating_point() and not bool(torch.isfinite(out).all()):
            culprit = self._first_bad_node(loss)
            state.facts.nonfinite = NonFinite("output", "the model's output", step, culprit[0], site=culprit[1])
            return
        culprit = self._first_bad_node(loss)
        term = state.facts.term
        if culprit[1] is None and term is not None:
            culprit = (culprit[0], term.site)
        state.facts.nonfinite = NonFinite("loss", "the loss", step, culprit[0], site=culprit[1])

    def _first_bad_node(self, loss: Any) -> tuple[str, Site | None]:
        """The deepest graph node whose saved operand shows the step from finite to non-finite."""
        order, _, _ = torch_graph.walk(loss.grad_fn)
        # The lines were noted in the first passes; the same graph has its nodes in the same order.
        chain, _ = torch_graph.signature(loss.grad_fn)
        recipe = self.current.recipes.get(chain) if self.current is not None else None
        places: dict[Any, Site | None] = {}
        if recipe is not None and [n for n, _ in recipe.places] == [n.name() for n in order[:3000]]:
            places = {node: place for node, (_, place) in zip(order, recipe.places)}
        order.sort(key=lambda n: n._sequence_nr() if not torch_graph.is_leaf(n) else -1)
        for node in order:
            if torch_graph.is_leaf(node):
                continue
            op = torch_graph.op_name(node)
            x = getattr(node, "_saved_self", None)
            if op in {
                "log",
                "sqrt",
                "div",
                "pow",
                "exp",
                "reciprocal",
                "log_sigmoid",
                "acos",
                "asin",
                "log1p",
                "log2",
            } and isinstance(x, torch.Tensor):
                if not bool(torch.isfinite(x).all()):
                    continue
                place = places.get(node)
                with torch.no_grad():
                    if op == "log" and bool((x <= 0).any()):
                        n = int((x <= 0).sum())
                        return f"log of {n} numbers that are 0 or negative", place
                    exponent = getattr(node, "_saved_exponent", 0.5)
                    whole = isinstance(exponent, (int, float)) and float(exponent).is_integer()
                    if op in {"sqrt", "pow"} and not whole and bool((x < 0).any()):
                        return f"{op} of a negative number", place
                    if op == "exp" and not bool(torch.isfinite(x.exp()).all()):
                        return f"exp of {float(x.max()):.0f} overflows {str(x.dtype).removeprefix('torch.')}", place
                    if op == "div":
                        other = getattr(node, "_saved_other", None)
                        if isinstance(other, torch.Tensor) and bool((other == 0).any()):
                            return "division by 0", place
                    if op == "reciprocal" and bool((x == 0).any()):
                        return "division by 0", place
            elif op == "div":
                other = getattr(node, "_saved_other", None)
                if isinstance(other, torch.Tensor) and bool((other == 0).any()):
                    return "division by 0", places.get(node)
        return "", None

    # ------------------------------------------------------------------ the optimizer

    def _pre_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if self.active:
            if self.looking:
                self.guarded(self.before_step, optimizer, args, kwargs)
            self.local.in_step += 1
            if not _has_closure(args, kwargs):
                self.spy.on = False  # what the optimizer does to the weights is no part of the forward pass

    def _post_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if self.active:
            self.local.in_step = max(0, self.local.in_step - 1)
            self.spy.on = self.spy_pushed
            if self.looking or not self._glanced(optimizer):
                self.guarded(self.after_step, optimizer, args, kwargs)
            if self.limit and self.total_steps >= self.limit:
                if self.ended is not None:
                    self.ended(None, 0)
                from unstuck.observe.launch import StopTraining

                raise StopTraining

    def _glanced(self, optimizer: Any) -> bool:
        """The step of a backward that was only glanced at. False: this one needs the full treatment."""
        state = self.short
        if state is None or not state.pending:
            return False
        loop = state.facts.loop
        entry = state.optimizers.get(id(optimizer))
        if entry is None or is_deep(loop.steps + 1) or is_looked_at(loop.backwards + 1) or not (loop.steps + 1) % READ_ALL:
            return False  # the next backward is looked at and wants to know how this step left the gradients
        self.total_steps += 1
        loop.steps += 1
        state.steps += 1
        record = entry[1]
        record.steps += 1
        lr = _number(optimizer.param_groups[0].get("lr"))
        record.lr_zero_steps += lr == 0
        record.lr_last = lr
        state.rows += 1
        state.pending = 0
        state.stale_probe = []
        state.anchor_version = None
        if self.writer is not None:
            try:
                self.writer.row(state.facts.id, state.rows, (state.glance, NAN, NAN, NAN, lr, NAN, NAN, NAN, 1.0))
            except OSError as error:
                self._lost_writer(error)
        return True

    def _state_of_optimizer(self, optimizer: Any) -> State | None:
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

    def before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if self.spy_pushed and self.spy_left <= 0:
            self._rest_spy()
        state = self._state_of_optimizer(optimizer)
        self._probe = None
        if state is None:
            return
        self.current = state
        loop = state.facts.loop
        record = self._optimizer_record(state, optimizer)
        closure = _has_closure(args, kwargs)
        measured = is_sampled(loop.steps) or is_deep(loop.steps + 1)
        lr = max((_number(g.get("lr")) for g in optimizer.param_groups), default=NAN)
        record.lr_first = lr if record.lr_first is None else record.lr_first
        record.lr_largest = lr if record.lr_largest is None else max(record.lr_largest, lr)
        record.lr_last = lr
        record.lr_zero_steps += lr == 0
        record.scheduler = self.scheduler_made.get(optimizer, record.scheduler)
        if closure:
            if measured:
                trained = [p for g in optimizer.param_groups for p in g["params"] if p.requires_grad]
                if trained and sum(p.numel() for p in trained) <= PROBE_NUMBERS:
                    self._probe = (optimizer, trained, [p.detach().clone() for p in trained], None, lr)
            return
        if not state.first_since_step or state.pending:
            loop.stale_checked += 1 if loop.steps else 0
            loop.stale += bool(state.stale_pending) if loop.steps else 0
        tensors = [p for g in optimizer.param_groups for p in g["params"]]
        if not any(p.grad is not None for p in tensors):
            loop.grad_checked += 1
            loop.grad_none += 1
            if state.pending and state.left_gradient is not False:
                loop.grad_lost += 1
            elif not state.pending:
                loop.step_before_backward += 1
            return
        if not measured:
            if state.facts.nonfinite is None:
                self._check_gradients(state, tensors)
            return
        if state.fresh_tape and state.pending == 1 and is_deep(loop.steps + 1):
            self._begin_probe(state)
        loop.grad_checked += 1
        with_grad = [p for p in tensors if p.grad is not None and not p.grad.is_sparse]
        if sum(p.numel() for p in with_grad) > PROBE_NUMBERS or not with_grad:
            return
        grads = [p.grad for p in with_grad]
        norm = float(torch.stack(torch._foreach_norm(grads)).float().norm())
        if norm == 0:
            loop.grad_zero += 1
            if is_deep(loop.steps + 1):
                looks = ((state.parameters.get(id(p)), p) for p in with_grad)
                torch_modules.update_looks([(e[1], p, p.detach(), p.grad) for e, p in looks if e is not None], loop.steps + 1)
            if state.left_gradient:
                loop.grad_lost += 1
            return
        if not math.isfinite(norm) and state.facts.nonfinite is None:
            self._bad_gradient(state, with_grad)
        if state.norm_left is not None and not state.clipped and all(id(p) in state.norm_left for p in with_grad):
            self._clipped_by_hand(state, math.hypot(*(state.norm_left[id(p)] for p in with_grad)), norm)
        self._probe = (optimizer, with_grad, [p.detach().clone() for p in with_grad], norm, lr)

    def _check_gradients(self, state: State, tensors: list[Any]) -> None:
        """Between the sampled steps of the beginning: is every gradient finite? It must be seen before the step turns
        it into weights that are not."""
        grads = [p.grad for p in tensors if p.grad is not None and not p.grad.is_sparse]
        if grads and sum(g.numel() for g in grads) <= 2_000_000:
            norms = torch.stack(torch._foreach_norm(grads))
            if not bool(torch.isfinite(norms).all()):
                self._bad_gradient(state, tensors)

    def _bad_gradient(self, state: State, tensors: list[Any]) -> None:
        bad = next((p for p in tensors if p.grad is not None and not bool(torch.isfinite(p.grad).all())), None)
        if bad is None:
            return  # finite numbers whose norm overflows
        entry = state.parameters.get(id(bad))
        name = entry[1].name if entry is not None else f"tensor {list(bad.shape)}"
        # Derivatives that are infinite at 0, in the graph of this loss: the usual suspects.
        suspects = [
            (torch_graph.OPS.get(raw.rpartition("Backward")[0], raw.rpartition("Backward")[0].lower()), place)
            for recipe in state.recipes.values() for raw, place in recipe.places if place is not None
        ]  # fmt: skip
        found = next(((op, place) for op, place in suspects if op in {"sqrt", "norm", "acos", "asin", "log", "pow"}), None)
        detail = "of a finite loss" + (f"; the graph has {found[0]}, whose derivative is infinite at 0" if found else "")
        site = found[1] if found else state.facts.loop.backward_site
        state.facts.nonfinite = NonFinite("gradient", name, state.rows, detail, site=site)

    def after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        state = self._state_of_optimizer(optimizer)
        self.total_steps += 1
        if state is None:
            return
        loop = state.facts.loop
        loop.steps += 1
        loop.skip_run = 0
        state.steps += 1
        record = self._optimizer_record(state, optimizer)
        record.steps += 1
        if record.steps <= 2:
            place = sites.site(sites.caller(4))
            record.step_site = record.step_site or place
            loop.step_site = loop.step_site or place
        predicted = norm = ratio = NAN
        probe, self._probe = self._probe, None
        if probe is not None and probe[0] is optimizer:
            predicted, norm, ratio = self._measure(state, record, probe)
            if state.probing is not None:
                self._end_probe(state, probe[1], probe[2], predicted)
        state.probing, state.fresh_tape = None, False
        state.last_step = time.monotonic()
        if not state.first_step:
            state.first_step, state.own_at_first_step = time.monotonic(), self.run.own_seconds
        tensors = (p for g in optimizer.param_groups for p in g["params"] if p.grad is not None)
        state.stale_probe = []
        for p in tensors:
            if not p.grad.is_sparse:
                state.stale_probe.append((p, p.grad.data_ptr(), p.grad._version))
                if len(state.stale_probe) >= _ZERO_SAMPLE:
                    break
        state.first_since_step = True
        state.stale_pending = False
        anchor = state.stale_probe[0][0] if state.stale_probe else None
        if anchor is not None:
            state.anchor_version = (weakref.ref(anchor), anchor._version)
        state.stepped.add(id(optimizer))
        if loop.steps == 1 and state.last_term is not None and not state.last_term.judged:
            # What was met first (an attack's inner loop, a warm-up of statistics) is not what is stepped on.
            for term in state.facts.terms:
                term.judged = term is state.last_term
                term.why_not = "" if term.judged else "no step followed it"
        self._row(state, record.lr_last if record.lr_last is not None else NAN, predicted, norm, ratio)
        if loop.steps >= READ_ALL and loop.steps % READ_ALL == 0:
            self._may_shorten(state)
        if is_deep(loop.steps + 1) and loop.backwards == loop.steps:
            self._start_tape()
        if is_deep(loop.steps):
            self._parameters(state, frozenset(), {})
            self._strangers(state)
            self.snapshot(state)
            if self.announce is not None and loop.steps in {3, 10, 50, 200, 1000}:
                self._announce(state)
        elif time.monotonic() > self.snapshot_due:
            self.snapshot(state)
            self.snapshot_due = time.monotonic() + 5.0

    def _may_shorten(self, state: State) -> None:
        """Is this the plain case in which most steps need no look: one training, one optimizer, one graph, short steps?"""
        loop = state.facts.loop
        now = time.monotonic()
        seconds, state.began = (now - state.began) / READ_ALL, now
        plain = (
            len(self.states) == 1 and sum(o.steps > 0 for o in state.facts.optimizers) == 1
            and len(state.recipes) == 1 and not loop.functional
            and not loop.skipped_steps and loop.backwards == loop.steps and not loop.stale and not loop.rebuilt_total
        )  # fmt: skip
        state.sole = next(iter(state.recipes.values())) if plain else None
        self.short = state if plain and (self.short is state or seconds < SHORT_STEP) else None

    def _announce(self, state: State) -> None:
        for labels in state.labels:
            labels.publish()
        assert self.announce is not None
        self.announce(state.facts)

    def _measure(self, state: State, record: Optimizer, probe: tuple[Any, ...]) -> tuple[float, float, float]:
        _, tensors, before, norm, lr = probe
        loop = state.facts.loop
        if norm is None:  # a step with a closure: its gradients came during the step, perhaps several times
            grads = [p.grad for p in tensors if p.grad is not None and not p.grad.is_sparse]
            norm = float(torch.stack(torch._foreach_norm(grads)).float().norm()) if grads else 0.0
            moved = any(not torch.equal(p.detach(), b) for p, b in zip(tensors, before))
            if norm > 0 and lr > 0 and math.isfinite(norm):
                loop.no_effect_checked += 1
                loop.no_effect += not moved
            return NAN, norm, NAN
        delta = torch._foreach_sub([p.detach() for p in tensors], before)
        predicted = -sum(
            float(torch.dot(p.grad.detach().flatten().float(), d.flatten().float())) for p, d in zip(tensors, delta)
        )
        predicted *= state.clip_factor if state.pending <= 1 else 1.0  # the gradient of the loss is the one before it was clipped
        if is_deep(loop.steps):
            records = ((state.parameters.get(id(p)), p, b) for p, b in zip(tensors, before))
            torch_modules.update_looks([(e[1], p, b, p.grad) for e, p, b in records if e is not None], loop.steps)
        moved = float(torch.stack(torch._foreach_norm(delta)).float().norm())
        size = float(torch.stack(torch._foreach_norm(before)).float().norm())
        if lr > 0 and math.isfinite(norm):
            loop.no_effect_checked += 1
            loop.ascent_checked += 1
            if moved == 0:
                loop.no_effect += 1
                p = tensors[0]
                largest = max(float(b.abs().max()) for b in before if b.numel())
                strongest = max(float(q.grad.abs().max()) for q in tensors)
                # An update below half the spacing of the weights is rounded away.
                if lr * max(strongest, 1.0) < torch.finfo(p.dtype).eps * largest:
                    record.steps_below_resolution += 1
            elif predicted < 0:
                loop.ascent += 1
        largest_tensor = max(range(len(tensors)), key=lambda i: tensors[i].numel())
        if tensors[largest_tensor].numel() <= 1_000_000:
            p = tensors[largest_tensor]
            state.reference = (weakref.ref(p), before[largest_tensor])
        return predicted, norm, moved / size if size else NAN

    # ------------------------------------------------------------------ probes

    @staticmethod
    def _step(state: State) -> int:
        """The number of the step that the present backward belongs to."""
        loop = state.facts.loop
        return loop.steps + 1 if loop.steps or not loop.functional else loop.backwards

    def _begin_probe(self, state: State) -> None:
        """Before the update: is the batch evaluated again what it was?"""
        tape = state.tape
        assert tape is not None
        if not math.isfinite(tape.value):
            return
        state.probing = Probe(self._step(state), tape.value)
        self._replayed(state, lambda probe: setattr(probe, "again", tape.loss()))

    def _end_probe(self, state: State, tensors: list[Any], before: list[Any], predicted: float) -> None:
        """After the update: the same batch at the new weights, in the other mode, and along the step."""
        tape, probe = state.tape, state.probing
        if tape is None or probe is None or probe.again is None:
            return
        if not math.isclose(probe.again, probe.before, rel_tol=1e-3, abs_tol=1e-6) and math.isfinite(probe.before):
            state.facts.absent.setdefault("probes", "a batch evaluated again does not give the loss of the training")
            return
        if math.isfinite(predicted):
            probe.predicted = predicted

        def work(probe: Probe) -> None:
            if tape.mode_layers or any(m.kind == "dropout" for m in state.facts.modes):
                probe.evaluation = tape.loss(evaluation=True)
                probe.evaluation_accuracy = tape.accuracy
            probe.after = tape.loss()
            probe.accuracy = tape.accuracy
            won = probe.before - probe.after
            # Where the step made it worse: would a shorter one have helped? Where it did next to nothing: a longer one?
            little = abs(won) < 1e-3 * abs(probe.before) and 0 < predicted < 1e-3 * abs(probe.before)
            factors = (10.0, 100.0) if little else (0.1, 0.01) if not won > 0 else ()
            for factor in factors:
                weights = {id(p): b + factor * (p.detach() - b) for p, b in zip(tensors, before)}
                probe.scan[f"{factor:g}"] = tape.loss(weights=weights)

        self._replayed(state, work)
        if state.facts.custom and not state.facts.gradient_checks and state.probing is not None:
            self._check_gradient(state, lambda: False)  # while the weights are what they were drawn as
        state.facts.probes.append(probe)
        del state.facts.probes[40:]

    def _replayed(self, state: State, work: Callable[[Probe], None]) -> None:
        """Run probe work so that the training does not notice; a failure of the replay is a fact about the replay."""
        tape, probe = state.tape, state.probing
        assert tape is not None and probe is not None
        began = time.perf_counter()
        try:
            with torch_probes.unnoticed(tape), torch.no_grad():
                work(probe)
        except Exception as error:
            state.facts.absent.setdefault("probes", f"the batch could not be evaluated again: {error}"[:200])
            state.probing = None
        self.run.probe_seconds += time.perf_counter() - began

    def _thorough(self, state: State) -> None:
        """Once, at the end of a training that is stuck: is the gradient the derivative of the loss? For at most the time
        of a hundred of the training's own steps."""
        facts, tape = state.facts, state.tape
        if tape is None or not tape.ready or facts.nonfinite is not None or not state.rows:
            return
        seconds = facts.loop.step_seconds
        if seconds is None or self.suspicious is None or not self.suspicious(facts.id):
            return
        if facts.gradient_checks:
            return
        began = time.perf_counter()
        self._check_gradient(state, lambda: time.perf_counter() - began > 90 * seconds)
        spent = time.perf_counter() - began
        self.run.thorough_seconds += spent
        self.run.thorough_steps += spent / seconds

    def _check_gradient(self, state: State, out_of_time: Callable[[], bool]) -> None:
        facts, tape = state.facts, state.tape
        trained = [
            (record.name, p) for ref, record in state.parameters.values()
            if (p := ref()) is not None and record.trainable and record.reached
        ]  # fmt: skip
        trained.sort(key=lambda item: -item[1].dim())
        try:
            with torch_probes.unnoticed(tape):
                facts.gradient_checks = torch_probes.check_gradient(tape, trained, out_of_time)
        except Exception as error:
            facts.absent["gradient_checks"] = f"the loss could not be evaluated again: {type(error).__name__}: {error}"[:200]

    @staticmethod
    def _clipped_by_hand(state: State, before: float, after: float) -> None:
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

    @staticmethod
    def _gradients(tensors: list[Any]) -> list[tuple[Any, Any]]:
        """(the gradient, a copy of what it holds now) of every tensor that has one."""
        grads = [p.grad for p in tensors if p.grad is not None and not p.grad.is_sparse and p.grad.numel()]
        return [(g, g.detach().clone()) for g in grads]

    def clipped(self, kind: str, threshold: Any, before: Any, frame: Any, tensors: list[Any]) -> None:
        """A clipping call: `before` is the norm that it met, or what the gradients were."""
        state = self.current
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

    def loader_built(self, loader: Any, frame: Any) -> None:
        try:
            rows = len(loader.dataset)
        except TypeError:
            rows = None
        sampler = type(getattr(loader, "sampler", None)).__name__
        shuffled = {"RandomSampler": True, "SequentialSampler": False, "WeightedRandomSampler": True}.get(sampler)
        try:
            batches = len(loader)
        except TypeError:
            batches = None
        record = Loader(rows, loader.batch_size, batches, shuffled, sampler, sites.site(frame))
        self.loader_made[loader] = record
        if len(self.loaders) < 16:
            self.loaders.append(record)

    def _optimizer_record(self, state: State, optimizer: Any) -> Optimizer:
        entry = state.optimizers.get(id(optimizer))
        if entry is not None and entry[0]() is optimizer:
            return entry[1]
        group = optimizer.param_groups[0] if optimizer.param_groups else {}
        betas = group.get("betas") or (group.get("momentum", 0.0),)
        record = Optimizer(
            type(optimizer).__name__, made=self.optimizer_made.get(optimizer),
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
        self._strangers(state)
        return record

    def _strangers(self, state: State) -> None:
        """Tensors in the groups that no loss reaches."""
        reached = {k for k, (_, p) in state.parameters.items() if p.reached}
        for ref, record in state.optimizers.values():
            optimizer = ref()
            if optimizer is None or not reached:
                continue
            tensors = [p for g in optimizer.param_groups for p in g["params"]]
            strangers = [p for p in tensors if id(p) not in reached and p.grad is None and p.requires_grad]
            record.tensors, record.strangers = len(tensors), len(strangers)
            record.stranger_names = [
                state.parameters[id(p)][1].name if id(p) in state.parameters else f"tensor {list(p.shape)}"
                for p in strangers[:5]
            ]
            ids = {id(p) for p in tensors}
            for key, (_, parameter) in state.parameters.items():
                if key in ids:
                    parameter.held = True
        if state.facts.loop.rebuilt_total:
            last = next(reversed(state.optimizers.values()), None)
            kept = last is not None and last[1].strangers == last[1].tensors > 0
            state.facts.loop.optimizer_kept = state.facts.loop.optimizer_kept or kept

    def _adversarial(self, state: State) -> None:
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

    def zeroing(self, frame: Any) -> None:
        state = self.current
        if state is None:
            return
        loop = state.facts.loop
        loop.zero_calls += 1
        if state.pending and loop.zero_site is None:
            loop.zero_site = sites.site(frame)  # between a backward and its step

    def scaler_stepped(self, optimizer: Any, skipped: bool, place: Site | None) -> None:
        state = self._state_of_optimizer(optimizer)
        if state is None:
            return
        loop = state.facts.loop
        if loop.scaler_site is None:
            loop.scaler_site = place
        if skipped:
            loop.skipped_steps += 1
            loop.skip_run += 1
            loop.longest_skip_run = max(loop.longest_skip_run, loop.skip_run)
            self._optimizer_record(state, optimizer)
            self._row(state)
            state.first_since_step = False
            state.stale_pending = False
            state.stale_probe = []

    # ------------------------------------------------------------------ rows

    def _row(self, state: State, lr: float = NAN, predicted: float = NAN, norm: float = NAN, ratio: float = NAN) -> None:
        levels = state.levels or ([torch_values.Level(state.glance, NAN, NAN, NAN)] if not self.looking else [])
        if not levels and not state.pending and lr != lr:
            return
        n = len(levels)
        if n > 1:  # several micro-batches; where only some were read, those are the sample
            levels = [v for v in levels if v.chance == v.chance] or levels
            n = len(levels)
        if n == 1:
            loss, chance, base, accuracy = levels[0]
        elif n:
            loss, chance, base, accuracy = (sum(column) / n for column in zip(*levels))
        else:
            loss = chance = base = accuracy = NAN
        state.rows += 1
        if self.writer is not None:
            try:
                self.writer.row(
                    state.facts.id,
                    state.rows,
                    (loss, chance, base, accuracy, lr, predicted, norm, ratio, float(state.pending)),
                )
                self.writer.tick()
            except OSError as error:
                self._lost_writer(error)
        state.levels = []
        state.pending = 0

    def snapshot(self, state: State, final: bool = False) -> None:
        for labels in state.labels:
            labels.publish()
        self._judgeable(state)
        state.facts.loaders = self.loaders
        due = state.data.due(final)
        if due:
            state.data.publish()
        if self.writer is not None:
            try:
                if due:
                    state.data.write(self.writer.directory)
                self.writer.facts(state.facts)
                self.writer.run(self.run)
            except OSError as error:
                self._lost_writer(error)

    def _lost_writer(self, error: OSError) -> None:
        self.run.notes.append(f"the trace could not be written any further: {error.strerror}")
        self.writer = None

    def _judgeable(self, state: State) -> None:
        facts = state.facts
        loop = facts.loop
        loop.unjudged = ""
        if loop.adversarial:
            loop.unjudged = "two optimizers share a loss (adversarial or alternating training): its level says nothing"
        elif (term := facts.term) is not None and term.sample_weighted and term.why_not:
            loop.unjudged = term.why_not

    # ------------------------------------------------------------------ exceptions

    def raised(self, error: BaseException, phase: str) -> None:
        if isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)) or not self._first_sight(error):
            return
        inner, _ = sites.raised_at(error.__traceback__)
        self._note_exception(error, phase, inner)
        self._post_mortem(error)

    def _first_sight(self, error: BaseException) -> bool:
        """An exception passes several of our wrappers on its way up; ids are recycled, so it carries a mark."""
        try:
            if getattr(error, "_unstuck_seen", False):
                return False
            error._unstuck_seen = True  # type: ignore[attr-defined]
        except AttributeError:
            pass
        return True

    def function_raised(self, error: BaseException, func: Any, args: Any, kwargs: Any) -> None:
        """A torch function raised under the spy. A loss call's arguments are the best witness of what is wrong."""
        if not isinstance(error, Exception):
            return
        place = sites.site(sites.caller(2))
        if place is None or not self._first_sight(error):
            return
        name = getattr(func, "__name__", "")
        loss = func in torch_spy._LOSSES
        if self.local.depth == 0 and name not in {"backward", "__getattr__", "__get__"}:
            self._note_exception(error, "loss" if loss else "script", place)
        if loss:
            if self.local.depth:
                self._note_exception(error, "loss", place)
            term = self._term_from_arguments(name, torch_spy.named_arguments(name, args, kwargs or {}), place)
            self._attach_term(term)

    def _note_exception(self, error: BaseException, phase: str, place: Site | None, fatal: bool = False) -> Raised:
        target = self.current.facts.exceptions if self.current is not None else self.orphans
        text = str(error).strip().split("\n", 1)[0][:300]
        known = next((r for r in (*target, *self.orphans) if r.type == type(error).__name__ and r.site == place), None)
        self.failures += 1
        if self.failures in {3, 6, 12, 24} and self.spied_passes < 24:
            self.spy_left = max(self.spy_left, 8)  # exceptions are being caught: see how many passes end that way
        if known is not None:
            known.count += 1
            known.fatal = known.fatal or fatal
            return known
        record = Raised(type(error).__name__, text, phase, place, fatal)
        if len(target) < 32:
            target.append(record)
        return record

    def script_failed(self, error: BaseException) -> None:
        """The exception that ends the script."""
        with self.lock:
            inner, _ = sites.raised_at(error.__traceback__)
            phase = "script"
            traceback = error.__traceback__
            while traceback is not None:
                name = traceback.tb_frame.f_code.co_name
                if name in torch_spy.LOSS_FUNCTIONS and sites.owner(traceback.tb_frame.f_code.co_filename) == "torch":
                    phase = "loss"
                elif name == "backward" and sites.owner(traceback.tb_frame.f_code.co_filename) == "torch":
                    phase = "backward"
                traceback = traceback.tb_next
            target = self.current.facts.exceptions if self.current is not None else self.orphans
            text = str(error).strip().split("\n", 1)[0][:300]
            known = next((r for r in (*target, *self.orphans) if r.type == type(error).__name__ and r.message == text), None)
            if known is not None:
                known.fatal = True
                if known.phase in {"script", "forward"}:
                    known.phase = phase if phase != "script" else known.phase
                known.site = known.site or inner
            else:
                known = Raised(type(error).__name__, text, phase, inner, True)
                target.append(known)
            self.run.exceptions.append(known)
            if self._first_sight(error):
                self._post_mortem(error)

    def _post_mortem(self, error: BaseException) -> None:
        """Find the loss call among the frames of a traceback and read its arguments from the frame's locals."""
        traceback = error.__traceback__
        place = None
        while traceback is not None:
            frame = traceback.tb_frame
            kind = sites.owner(frame.f_code.co_filename)
            if kind == "user":
                place = sites.at(frame.f_code.co_filename, traceback.tb_lineno, frame.f_code.co_name)
            name = frame.f_code.co_name
            if kind == "torch" and name in torch_spy.LOSS_FUNCTIONS and "target" in frame.f_locals:
                names = (*torch_spy._PARAMETERS.get(name, ("input", "target")), "reduction")
                arguments = {n: frame.f_locals.get(n) for n in names}
                self._attach_term(self._term_from_arguments(name, arguments, place))
                return
            traceback = traceback.tb_next

    def _attach_term(self, term: LossTerm) -> None:
        if self.current is None:
            self.orphan_terms.append(term)
            del self.orphan_terms[:-4]
            return
        known = self.current.facts.terms
        same = next((t for t in known if t.kind == term.kind), None)
        if same is None:
            known.append(term)
        else:
            same.labels.outside += term.labels.outside
            if term.labels.outside_example is not None:
                same.labels.outside_example = term.labels.outside_example
            for name in ("lowest", "highest"):
                values = [v for v in (getattr(same.labels, name), getattr(term.labels, name)) if v is not None]
                if values:
                    setattr(same.labels, name, min(values) if name == "lowest" else max(values))
            same.labels.distinct = sorted(set(same.labels.distinct) | set(term.labels.distinct))[:33]
            same.input_shape, same.target_shape = term.input_shape, term.target_shape
            same.values = term.values if not same.values.calls else same.values

    def _term_from_arguments(self, name: str, arguments: dict[str, Any], place: Site | None) -> LossTerm:
        """A loss term from the arguments of a call that raised or has no graph."""
        kind = torch_spy.LOSS_FUNCTIONS[name]
        x, y = arguments.get("input"), arguments.get("target")
        term = LossTerm(kind, name, site=place)
        if isinstance(y, torch.Tensor) and y.is_floating_point() and kind == "cross-entropy":
            term.kind = kind = "soft-cross-entropy"
        if isinstance(x, torch.Tensor):
            term.input_shape = list(x.shape)
            term.class_axis = 1 if x.dim() > 1 else None
            term.classes = int(x.shape[1]) if x.dim() > 1 else 1
            torch_values.look_at_values(term.values, x.detach(), term.class_axis)
            if x.grad_fn is not None:
                names = self._names()
                term.path, term.path_end = torch_graph.path_to_head(
                    x.grad_fn, self._describe, lambda p: names.get(id(p), f"tensor {list(p.shape)}")
                )
                if term.kind in {"cross-entropy", "nll"}:
                    term.feature_axis, term.scrambled = torch_graph.feature_axis(term.path, term.class_axis)
        if isinstance(y, torch.Tensor):
            term.target_shape = list(y.shape)
            if isinstance(x, torch.Tensor):
                term.argument_shapes = [list(x.shape), list(y.shape)]
            ignore = arguments.get("ignore_index", -100)
            term.ignore_index = ignore if isinstance(ignore, int) else -100
            self._labels_from(term, y)
        return term

    @staticmethod
    def _labels_from(term: LossTerm, y: Any) -> None:
        array = torch_values.numpy_of(y).reshape(-1).astype(np.float64)
        stats = term.labels
        stats.calls = 1
        stats.rows = array.size
        if term.kind in {"cross-entropy", "nll"} and not y.is_floating_point():
            stats.kind = "index"
            array = array[array != term.ignore_index]
        if not array.size:
            stats.all_ignored_calls = 1
            return
        stats.kept = array.size
        distinct = np.unique(array)
        stats.lowest, stats.highest = float(distinct[0]), float(distinct[-1])
        stats.distinct = distinct[:33].tolist()
        stats.many_distinct = len(distinct) > 32
        if stats.kind != "index":
            stats.kind = arrays.target_kind(
                stats, torch_values.numpy_of(y).reshape(len(y), -1) if y.dim() else np.zeros((1, 1))
            )
        elif term.classes is not None:
            wrong = array[(array < 0) | (array >= term.classes)]
            stats.outside = wrong.size
            stats.outside_example = float(wrong[0]) if wrong.size else None

    # ------------------------------------------------------------------ the end

    def finish(self) -> None:
        """Last facts of every training; safe to call more than once."""
        with self.lock:
            if self.orphans or self.orphan_terms:
                if not self.states:
                    model = self._called_model() or (self.last_root() if self.last_root is not None else None)
                    if model is not None and not self.roots:
                        self.roots.append(weakref.ref(model))
                    state = self._new_state([p for p in model.parameters()] if model is not None else [])
                    self._parameters(state, frozenset(), self._names())
                    for term in state.facts.terms or self.orphan_terms:
                        term.judged = term is (state.facts.terms or self.orphan_terms)[0]
                    if self.spy.breaks:
                        state.facts.breaks = [Break(b.reason, b.site, b.function, b.on_path) for b in self.spy.breaks]
                    state.facts.loop.freezes = list(self.spy.freezes)
                    # Not one pass reached backward: all that is known is what the script caught.
                    state.facts.loop.watched_failures = sum(o.count for o in self.orphans if not o.fatal)
                state = self.states[0]
                state.facts.exceptions.extend(o for o in self.orphans if o not in state.facts.exceptions)
                state.facts.terms.extend(t for t in self.orphan_terms if t not in state.facts.terms)
                self.orphans, self.orphan_terms = [], []
            for state in self.states:
                state.facts.loop.forwards = max(state.facts.loop.forwards, self.forwards)
                state.facts.loop.dropped_forwards = max(state.facts.loop.dropped_forwards, self.dropped)
                if state.pending:
                    self._row(state)
                self._parameters(state, frozenset(), {})
                self._strangers(state)
                self._final_scan(state)
                self._averages(state, over=True)
                loop = state.facts.loop
                if max(loop.steps, state.rows) > 1 and state.first_step:
                    own = self.run.own_seconds - state.own_at_first_step
                    loop.step_seconds = max(1e-9, state.last_step - state.first_step - own) / (max(loop.steps, state.rows) - 1)
                self.snapshot(state, final=True)
                self._thorough(state)
                if state.facts.gradient_checks or "gradient_checks" in state.facts.absent:
                    self.snapshot(state)

    def _averages(self, state: State, *, over: bool = False) -> None:
        """Batch norms whose averages are what they were before the training: what does evaluation mode make of that?

        The probes are made after steps; what the script does to the averages afterwards they cannot see. Asked at the first
        evaluation after a step, and when the script is `over`.
        """
        found = []
        for ref, record in state.modes.values():
            m = ref()
            mean, variance = getattr(m, "running_mean", None), getattr(m, "running_var", None)
            if record.kind == "batch-norm" and record.training and mean is not None and variance is not None:
                if not bool(mean.any()) and bool((variance == 1).all()):
                    found.append(record)
        if not found and over:
            return  # a pass in training mode may have filled them since the last evaluation
        for _, record in state.modes.values():
            record.unset = any(record is f for f in found)
        state.facts.at_end = None
        tape = state.tape
        if not found or tape is None or not tape.ready or state.facts.nonfinite is not None or self.light:
            return
        kept, state.probing = state.probing, Probe(self._step(state), tape.value)

        def work(probe: Probe) -> None:
            if not tape.refresh():
                return
            probe.evaluation = tape.loss(evaluation=True)
            probe.evaluation_accuracy = tape.accuracy
            probe.training = tape.loss(evaluation=False)
            probe.accuracy = tape.accuracy
            state.facts.at_end = probe

        self._replayed(state, work)
        state.probing = kept

    def _final_scan(self, state: State) -> None:
        """relu and clamp can hide NaN weights behind a finite loss: look at the weights themselves."""
        if state.facts.nonfinite is not None:
            return
        for ref, record in state.parameters.values():
            p = ref()
            if p is not None and p.is_floating_point() and not bool(torch.isfinite(p).all()):
                state.facts.nonfinite = NonFinite(
                    "parameter", record.name, state.rows, "found at the end; the loss does not show it",
                    site=state.facts.loop.step_site,
                )  # fmt: skip
                return


def _has_closure(args: Any, kwargs: Any) -> bool:
    return (len(args) > 1 and callable(args[1])) or callable(kwargs.get("closure"))


def _number(value: Any) -> float:
    """A learning rate may be a tensor, or None where the optimizer finds its own."""
    try:
        return NAN if value is None else float(value)
    except (TypeError, ValueError, RuntimeError):
        return NAN


def hyper_text(optimizer: Any) -> str:
    """The options of an optimizer as text: the same text means the same settings."""
    defaults = getattr(optimizer, "defaults", {})
    return (
        type(optimizer).__name__
        + " "
        + ", ".join(f"{k}={v}" for k, v in sorted(defaults.items()) if not isinstance(v, torch.Tensor))
    )


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


def _other_operand(node: Any) -> Any:
    """The saved operand of a multiplication that is not differentiated."""
    edges = node.next_functions
    return getattr(node, "_saved_other" if edges and edges[0][0] is not None else "_saved_self", None)


def _find_pick(root: Any) -> Any:
    """The first gather or index below the root."""
    stack, seen = [root], 0
    while stack and seen < 60:
        node = stack.pop(0)
        seen += 1
        if torch_graph.is_leaf(node):
            continue
        if torch_graph.op_name(node) in {"index", "gather"}:
            return node
        stack.extend(torch_graph.children(node))
    return None


def _same_term(a: LossTerm, b: LossTerm) -> bool:
    if a.sign != b.sign or a.kind != b.kind or a.classes != b.classes or len(a.path) != len(b.path):
        return False
    if [n.raw for n in a.path] != [n.raw for n in b.path]:
        return False
    head_a = a.path[-1].parameters if a.path else []
    head_b = b.path[-1].parameters if b.path else []
    unnamed = any(n.startswith("tensor ") for n in (*head_a, *head_b))
    return head_a == head_b or not head_a or not head_b or unnamed


def _update_term(old: LossTerm, new: LossTerm) -> None:
    """A later look fills what an earlier one could not see (lines, options), never removes."""
    for name in ("site", "made", "sign_site", "broadcast", "argument_shapes", "target_shape"):
        if getattr(old, name) is None and getattr(new, name) is not None:
            setattr(old, name, getattr(new, name))
    if new.label_smoothing:
        old.label_smoothing = new.label_smoothing
    old.reduction = old.reduction or new.reduction
    if any(n.site for n in new.path) or [n.frozen for n in old.path] != [n.frozen for n in new.path]:
        # Seen closely (again): layers may have been exchanged or frozen since.
        zeros = {n.raw: n.zero_columns for n in old.path if n.zero_columns is not None}
        places = {n.raw: (n.site, n.made, n.module) for n in old.path}
        old.path = new.path
        for n in old.path:
            n.zero_columns = n.zero_columns if n.zero_columns is not None else zeros.get(n.raw)
            if n.site is None and n.raw in places:
                n.site, n.made, n.module = places[n.raw]
        return
    for a, b in zip(old.path, new.path):
        a.site, a.made, a.module = a.site or b.site, a.made or b.made, a.module or b.module
        a.frozen = a.frozen or b.frozen
        if b.zero_columns is not None:
            a.zero_columns = b.zero_columns
