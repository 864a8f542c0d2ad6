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

This file is the order of events. What is made of an event is told where its subject is: which training it belongs to in
`torch_trainings`, its graph in `torch_examination` and `torch_terms`, its numbers in `torch_levels`, the optimizer's step
in `torch_steps`, what is evaluated again in `torch_replays`, how closely anything is looked at in `torch_pace`.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from unstuck.observe import sites, torch_by_hand, torch_graph, torch_nonfinite, torch_spy, torch_values
from unstuck.observe.torch_clipping import Clippings
from unstuck.observe.torch_examination import Examination
from unstuck.observe.torch_exceptions import Exceptions
from unstuck.observe.torch_functions import Functions
from unstuck.observe.torch_guard import Guard
from unstuck.observe.torch_levels import Levels
from unstuck.observe.torch_loaders import Loaders
from unstuck.observe.torch_models import Models
from unstuck.observe.torch_modes import Modes
from unstuck.observe.torch_optimizers import Optimizers, adversarial, strangers
from unstuck.observe.torch_origins import Origins
from unstuck.observe.torch_pace import Pace, is_deep, is_looked_at, is_sampled
from unstuck.observe.torch_patches import Patches
from unstuck.observe.torch_record import Record
from unstuck.observe.torch_replays import Replays
from unstuck.observe.torch_state import State
from unstuck.observe.torch_steps import PROBE_NUMBERS, Steps, has_closure
from unstuck.observe.torch_terms import Terms
from unstuck.observe.torch_trainings import Trainings
from unstuck.observe.torch_values import NAN
from unstuck.observe.torch_weights import Weights, any_gradient
from unstuck.trace.facts import Break, Facts, Run
from unstuck.trace.writer import Writer

_OBSERVERS: weakref.WeakSet[Observer] = weakref.WeakSet()  # a handler of forks can never be taken back: one for all of them


def _forked() -> None:
    for observer in list(_OBSERVERS):
        observer._forked()


os.register_at_fork(after_in_child=_forked)


class Observer(Guard):
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
        super().__init__(run, lambda *told: self.exceptions.function_raised(*told))
        self.announce = announce
        self.limit = limit
        self.light = light
        self.suspicious = suspicious  # asked at the end about training number n: is a thorough look worth its price?
        self.before_backward_once = before_backward_once
        self.staying = False  # a process that is forked now is observed as well
        # What ends such a process, after its last step or with the script: called with the script's error and exit code.
        self.ended: Callable[[BaseException | None, int], None] | None = None

        self.patches = Patches()
        self.functions = Functions(self, self.patches)
        self.origins = Origins(self)
        self.loaders = Loaders(self)
        self.models = Models()
        self.optimizers = Optimizers(self.origins)
        self.trainings = Trainings(self, self.origins, self.models, self.optimizers)
        self.record = Record(writer, run, self.trainings, self.loaders)
        self.pace = Pace(self, self.models, self.trainings, self.record)
        self.weights = Weights(self, self.origins, self.models, self.optimizers, self.trainings)
        self.replays = Replays(run, self.origins, self.models)
        self.modes = Modes(self, self.origins, self.models, self.trainings, self.replays)
        self.terms = Terms(self, self.origins, self.models)
        self.examination = Examination(self, self.origins, self.models, self.trainings, self.terms, self.weights, self.modes)
        self.levels = Levels(self, self.patches, self.models, self.weights)
        self.clippings = Clippings(self, self.trainings)
        self.steps = Steps(
            self, self.origins, self.optimizers, self.trainings, self.weights, self.replays, self.record, self.pace, self._announce
        )
        self.exceptions = Exceptions(self, self.trainings, self.terms)
        # What the launcher, and an experiment that starts in the middle of a training, know an observer by.
        self.states = self.trainings.states
        self.made, self.optimizer_made = self.origins.modules, self.origins.optimizers
        self.restore = self.patches.restore

    @property
    def writer(self) -> Writer | None:
        return self.record.writer

    @writer.setter
    def writer(self, writer: Writer | None) -> None:
        self.record.writer = writer

    # ------------------------------------------------------------------ installation

    def install(self) -> None:
        self.active = True
        replace = self.patches.replace
        replace(torch.autograd, "backward", self._backward)
        replace(torch.autograd, "grad", self._grad)
        replace(torch.nn.Module, "__init__", self.origins.module_init)
        replace(torch.nn.Module, "__call__", self._module_call)
        replace(torch.nn.Module, "zero_grad", self.steps.zero_grad)
        replace(torch.optim.Optimizer, "__init__", self.origins.optimizer_init)
        replace(torch.optim.Optimizer, "zero_grad", self.steps.zero_grad)
        replace(LRScheduler, "__init__", self.origins.scheduler_init)
        if "__init__" in ReduceLROnPlateau.__dict__:
            replace(ReduceLROnPlateau, "__init__", self.origins.scheduler_init)
        replace(torch.nn.Module, "load_state_dict", self.weights.load_state_dict)
        replace(torch.nn.modules.batchnorm._NormBase, "reset_running_stats", self.modes.reset_running_stats)
        scaler = getattr(getattr(torch, "amp", None), "GradScaler", None)
        if scaler is not None:
            replace(scaler, "step", self.steps.scaler_step)
            replace(scaler, "__init__", self.origins.scaler_init)
        replace(torch, "compile", self.functions.compile)
        replace(torch, "from_numpy", self.functions.from_numpy)
        replace(torch.autograd.graph.saved_tensors_hooks, "__enter__", self.functions.packing)
        for owner in (torch.nn.utils, torch.nn.utils.clip_grad):
            for name in ("clip_grad_norm_", "clip_grad_value_"):
                replace(owner, name, self.clippings.clip)
        self.functions.watch_apply()
        replace(torch.utils.data.DataLoader, "__init__", self.loaders.loader_init)
        replace(torch.utils.data.DataLoader, "__iter__", self.loaders.loader_iter)
        replace(torch.utils.data.dataloader._BaseDataLoaderIter, "__next__", self.loaders.loader_next)
        for handle in (
            register_optimizer_step_pre_hook(self._pre_step()), register_optimizer_step_post_hook(self._post_step())
        ):  # fmt: skip
            self.patches.restore.append(handle.remove)
        _OBSERVERS.add(self)
        self.push_spy()
        self.start_tape()

    def uninstall(self) -> None:
        self.active = False
        self.drop_spy()
        self.patches.undo()

    def _forked(self) -> None:
        """A DataLoader worker or another child: nothing is observed, nothing is written there."""
        if self.staying:
            return
        self.active = False
        self.drop_spy()
        if self.record.writer is not None:
            self.record.writer.forget()

    def introduce(self, models: list[Any], optimizers: list[Any]) -> None:
        """These were made before anything was observed: an optimizer that never steps could not be missed otherwise."""
        with self.lock:
            for optimizer in optimizers:
                self.origins.optimizers.setdefault(optimizer, None)
            for model in models:
                self.models.last_root = weakref.ref(model)
                self.models.roots.append(self.models.last_root)

    def publish(self) -> None:
        """All that is known so far into the trace, for somebody who asks while the training goes on."""
        self.guarded(self._publish)

    def _publish(self) -> None:
        for state in self.trainings.states:
            strangers(state)
            self.record.snapshot(state, final=True)

    # ------------------------------------------------------------------ replacements

    def _backward(self, original: Callable[..., Any]) -> Callable[..., Any]:
        local, trainings, pace = self.local, self.trainings, self.pace

        def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.active or local.in_backward or torch.compiler.is_compiling():
                return original(tensors, *args, **kwargs)
            if self.before_backward_once is not None:
                self._once()
            short = pace.short
            if short is not None and not is_looked_at(short.facts.loop.backwards + 1) and pace.glance(short, tensors):
                local.in_backward += 1
                try:
                    return original(tensors, *args, **kwargs)
                finally:
                    local.in_backward -= 1
            state = trainings.current
            known = state is not None and state.facts.loop.backwards > 2
            self.guarded(self.before_backward, tensors, None if known else sites.caller(2))
            local.in_backward += 1  # a checkpoint runs modules again: those are no forward passes
            try:
                out = original(tensors, *args, **kwargs)
            except BaseException as error:
                self.guarded(self.exceptions.raised, error, "backward")
                raise
            finally:
                local.in_backward -= 1
            self.guarded(self.after_backward)
            return out

        return backward

    def _grad(self, original: Callable[..., Any]) -> Callable[..., Any]:
        local = self.local

        def grad(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.active or local.busy or local.in_backward or torch.compiler.is_compiling():
                return original(outputs, inputs, *args, **kwargs)
            if self.before_backward_once is not None:
                self._once()
            state = self.guarded(self.before_grad, outputs, inputs, sites.caller(2))
            local.in_backward += 1  # under a torch function mode torch calls this name once more
            try:
                out = original(outputs, inputs, *args, **kwargs)
            finally:
                local.in_backward -= 1
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

    def _module_call(self, original: Callable[..., Any]) -> Callable[..., Any]:
        local, spy, models, pace = self.local, self.spy, self.models, self.pace

        def __call__(module: Any, *args: Any, **kwargs: Any) -> Any:
            if local.busy or (local.depth and not spy.on):
                return original(module, *args, **kwargs)
            if not self.active or local.in_backward or torch.compiler.is_compiling():
                return original(module, *args, **kwargs)
            root = local.depth == 0 and models.is_model(module)
            if root and pace.short is not None and not models.forward_open:
                if not is_looked_at(pace.short.facts.loop.backwards + 1) and torch.is_grad_enabled():
                    models.forwards += 1
                    models.forward_open = module.training
                    models.last_inputs, models.last_output = [], None
                    if len(models.roots) < 4:
                        models.last_root = weakref.ref(module)
                        models.roots.append(models.last_root)
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
                    self.guarded(self.exceptions.raised, error, "forward")
                raise
            finally:
                local.depth -= 1
            if entry is not None and tape is not None:
                self.guarded(tape.after, entry, out)
            if spy.on and spy.noting:
                spy.modules.append(torch_spy.ModuleCall(first, torch_spy.sequence(), local.depth, module))
                del spy.modules[:-5000]
            if root:
                self.guarded(models.after_root, module, out)
            return out

        return __call__

    def _pre_step(self) -> Callable[..., None]:
        local, spy, trainings, steps = self.local, self.spy, self.trainings, self.steps

        def pre_step(optimizer: Any, args: Any, kwargs: Any) -> None:
            if self.active:
                if trainings.looking:
                    self.guarded(steps.before, optimizer, args, kwargs)
                local.in_step += 1
                if not has_closure(args, kwargs):
                    spy.on = False  # what the optimizer does to the weights is no part of the forward pass

        return pre_step

    def _post_step(self) -> Callable[..., None]:
        local, spy, trainings, pace, steps = self.local, self.spy, self.trainings, self.pace, self.steps

        def post_step(optimizer: Any, args: Any, kwargs: Any) -> None:
            if self.active:
                local.in_step = max(0, local.in_step - 1)
                spy.on = self.spy_pushed
                if trainings.looking or not pace.glanced(optimizer):
                    self.guarded(steps.after, optimizer)
                if self.limit and pace.total_steps >= self.limit:
                    if self.ended is not None:
                        self.ended(None, 0)
                    from unstuck.observe.launch import StopTraining

                    raise StopTraining

        return post_step

    # ------------------------------------------------------------------ forward

    def before_root(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A model is called, by no other model."""
        if self.spy_pushed and self.spy_left <= 0:
            self.rest_spy()
        models = self.models
        if not torch.is_grad_enabled():
            if not models.quiet and not module.training and self.trainings.states:
                state = self.trainings.current or self.trainings.states[-1]
                if state.modes and not state.pending and any(r.kind == "batch-norm" for _, r in state.modes.values()):
                    self.modes.averages(state, light=self.light)
            if len(models.quiet) < 8:
                models.quiet.append(weakref.ref(module))
            for state in self.trainings.states[-1:]:
                given = next((a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor)), None)
                if given is not None and state.facts.loop.evaluated_elsewhere < 8 and state.data.elsewhere(given):
                    state.facts.loop.evaluated_elsewhere += 1
            return
        if models.forward_open and module.training:
            models.dropped += 1
            # Several forward passes in a row without a backward: somebody may be swallowing exceptions. Look closer.
            if models.dropped in {3, 50} and self.spy_left <= 0:
                self.spy_left = 1
                self.push_spy()
        models.forwards += 1
        models.forward_open = bool(module.training)
        models.last_root = weakref.ref(module)
        models.last_inputs = [weakref.ref(a) for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor)]
        if len(models.inputs) < 8:
            models.inputs.append(models.last_inputs)
            if len(self.trainings.states) < 2 and self.pace.total_steps < 3:
                models.input_site = sites.site(sites.caller(4))
        if len(models.roots) < 32:
            models.roots.append(models.last_root)

    # ------------------------------------------------------------------ backward

    def before_backward(self, tensors: Any, frame: Any) -> None:
        models, trainings = self.models, self.trainings
        trainings.looking = True
        if self.spy_pushed and self.spy_left <= 0:
            self.rest_spy()
        loss = tensors[0] if isinstance(tensors, (tuple, list)) and tensors else tensors
        tape, self.spy.tape = self.spy.tape, None
        inputs, models.inputs = models.inputs, []
        models.silent, models.quiet = models.quiet, []
        if not isinstance(loss, torch.Tensor):
            return
        self.run.backward_seen = True
        models.forward_open = False
        if loss.grad_fn is None:
            self._without_graph(loss, frame)
            return
        chain, anchor = torch_graph.signature(loss.grad_fn)
        trainings.fresh = False
        if tape is not None:
            tape.close(loss)  # what was done with the loss before this one is on it as well, and would keep a model that is gone
        state = trainings.of(loss, anchor)
        if state is None:
            self._without_graph(loss, frame)
            return
        trainings.current = state
        loop = state.facts.loop
        if state.pending and not state.steps and not loop.skipped_steps:
            # nobody calls a step: one row for each backward
            self.record.row(state, NAN, torch_by_hand.measure(state, self, self.replays) if state.by_hand else NAN)
            if is_deep(loop.backwards + 2) and tape is None:
                self.start_tape()
        loop.backwards += 1
        state.pending += 1
        loop.forwards, loop.dropped_forwards = models.forwards, models.dropped
        if loop.backward_site is None:
            loop.backward_site = sites.site(frame)
        recipe = state.recipes.get(chain)
        spied = self.spy_pushed and self.spy_left > 0
        if recipe is None or is_deep(loop.backwards) or spied or trainings.fresh:
            recipe = self.examination.examine(state, loss, chain)
        if recipe.flat:
            loop.without_graph += 1
        state.clip_factor, state.clipped = 1.0, False
        state.fresh_tape = False
        if tape is not None and state.pending == 1 and not self.light:
            self.replays.keep(state, tape, loss)
        adversarial(state)
        self.modes.count(state)
        state.pending_reached |= recipe.reached
        state.last_term = recipe.term
        self.weights.check_zeroing(state, recipe)
        self.weights.check_outside(state, anchor)
        if recipe.labels is not None:
            recipe.labels.last = None
        self.levels.read(state, recipe, loss, chain)
        if recipe.labels is not None and recipe.term is not None and recipe.term.judged and not self.light:
            self.levels.take_data(state, recipe, loss, inputs)
        models.roots.clear()

    def _without_graph(self, loss: Any, frame: Any) -> None:
        """No weight can be reached from this loss."""
        models, trainings = self.models, self.trainings
        model = models.called()
        state = None
        if model is not None:
            for p in model.parameters():
                entry = trainings.by_leaf.get(id(p))
                if entry is not None and entry[0]() is p:
                    state = entry[1]
                    break
            if state is None:
                state = trainings.new([p for p in model.parameters()])
        elif trainings.current is not None:
            state = trainings.current
        else:
            state = trainings.states[-1] if trainings.states else trainings.new([])
        trainings.current = state
        loop = state.facts.loop
        if state.pending and not state.steps:
            self.record.row(state)
        loop.backwards += 1
        loop.without_graph += 1
        loop.forwards, loop.dropped_forwards = models.forwards, models.dropped
        if loop.backward_site is None:
            loop.backward_site = sites.site(frame)
        state.pending += 1
        if loop.without_graph <= 3 or is_deep(loop.without_graph):
            self.examination.note_breaks(state, loss)
            self.weights.update(state, frozenset(), models.names())
        if not state.facts.terms:
            self.terms.from_calls(state)
        value = float(loss.detach()) if loss.numel() == 1 else NAN
        state.levels.append(torch_values.Level(value, NAN, NAN, NAN))
        models.roots.clear()

    def after_backward(self) -> None:
        state = self.trainings.current
        if self.spy_left > 0 and self.spy.ops and self.spy.noting:
            self.spy_left -= 1
            self.spied_passes += 1
            if state is not None:
                state.facts.loop.watched_passes = self.spied_passes
                state.facts.loop.watched_failures = self.exceptions.failures
        elif self.spy_left > 0:
            self.push_spy()
        self.spy.clear()
        if state is None:
            return
        loop = state.facts.loop
        if state.stale_pending:  # a later backward of the same step must be able to see a zeroing in between
            state.stale_probe = [(p, g.data_ptr(), g._version) for p, _, _ in state.stale_probe if (g := p.grad) is not None]
        state.norm_left = None
        if is_deep(loop.steps + 1) and state.pending == 1 and not loop.functional and not len(self.origins.scalers):
            held = [p for ref, _ in state.parameters.values() if (p := ref()) is not None and p.grad is not None]
            if held and not any(p.grad.is_sparse for p in held) and sum(p.numel() for p in held) <= PROBE_NUMBERS:
                norms = torch.stack([n.float() for n in torch._foreach_norm([p.grad for p in held])]).tolist()
                state.norm_left = {id(p): n for p, n in zip(held, norms)}
        if is_sampled(loop.steps) or loop.backwards <= 5:
            state.left_gradient = any_gradient(state)
        if loop.functional or not state.steps:
            torch_by_hand.notice(state)
            if (is_sampled(loop.backwards) or is_deep(loop.backwards)) and not self.local.in_step:
                tensors = [p for ref, _ in state.parameters.values() if (p := ref()) is not None]
                torch_by_hand.remember(state, [(p, p.grad) for p in tensors])
                if state.fresh_tape and loop.functional and is_deep(loop.backwards):
                    self.replays.begin(state)

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
        return self.trainings.current

    def after_grad(self, state: State, inputs: Any, gradients: Any) -> None:
        self.after_backward()
        if is_sampled(state.facts.loop.backwards):
            tensors = inputs if isinstance(inputs, (tuple, list)) else [inputs]
            torch_by_hand.remember(state, list(zip(tensors, gradients)))

    # ------------------------------------------------------------------ what is told, and the end

    def _announce(self, state: State) -> None:
        if self.announce is None:
            return
        for labels in state.labels:
            labels.publish()
        self.announce(state.facts)

    def script_failed(self, error: BaseException) -> None:
        """The exception that ends the script."""
        with self.lock:
            self.exceptions.script_failed(error)

    def finish(self) -> None:
        """Last facts of every training; safe to call more than once."""
        with self.lock:
            if self.exceptions.orphans or self.exceptions.orphan_terms:
                self._take_orphans()
            for state in self.trainings.states:
                state.facts.loop.forwards = max(state.facts.loop.forwards, self.models.forwards)
                state.facts.loop.dropped_forwards = max(state.facts.loop.dropped_forwards, self.models.dropped)
                if state.pending:
                    self.record.row(state)
                self.weights.update(state, frozenset(), {})
                strangers(state)
                torch_nonfinite.in_weights(state)
                self.modes.averages(state, light=self.light, over=True)
                loop = state.facts.loop
                if max(loop.steps, state.rows) > 1 and state.first_step:
                    own = self.run.own_seconds - state.own_at_first_step
                    whole = state.last_step - state.first_step
                    # In the first steps nearly all of the time is ours: what is left of it is known to a few per cent at best.
                    loop.step_seconds = max(whole - own, 0.02 * whole, 1e-9) / (max(loop.steps, state.rows) - 1)
                self.record.snapshot(state, final=True)
                if self.writer is not None:
                    self.writer.flush()  # whether a thorough look is worth its price is read from the trace
                self.replays.thorough(state, self.suspicious)
                if state.facts.gradient_checks or "gradient_checks" in state.facts.absent:
                    self.record.snapshot(state)

    def _take_orphans(self) -> None:
        """What raised before there was a training belongs to the first one; where none came, to one that never got so far."""
        exceptions, models = self.exceptions, self.models
        if not self.trainings.states:
            model = models.called() or (models.last_root() if models.last_root is not None else None)
            if model is not None and not models.roots:
                models.roots.append(weakref.ref(model))
            state = self.trainings.new([p for p in model.parameters()] if model is not None else [])
            self.weights.update(state, frozenset(), models.names())
            for term in state.facts.terms or exceptions.orphan_terms:
                term.judged = term is (state.facts.terms or exceptions.orphan_terms)[0]
            if self.spy.breaks:
                state.facts.breaks = [Break(b.reason, b.site, b.function, b.on_path) for b in self.spy.breaks]
            state.facts.loop.freezes = list(self.spy.freezes)
            # Not one pass reached backward: all that is known is what the script caught.
            state.facts.loop.watched_failures = sum(o.count for o in exceptions.orphans if not o.fatal)
        state = self.trainings.states[0]
        state.facts.exceptions.extend(o for o in exceptions.orphans if o not in state.facts.exceptions)
        state.facts.terms.extend(t for t in exceptions.orphan_terms if t not in state.facts.terms)
        exceptions.orphans, exceptions.orphan_terms = [], []
