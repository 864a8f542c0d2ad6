"""The step of an optimizer: what it meets, what it does to the weights; zeroing, learning rates, the gradient scaler."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch

from unstuck.observe import sites, torch_modules, torch_nonfinite
from unstuck.observe.torch_clipping import clipped_by_hand
from unstuck.observe.torch_guard import Guard
from unstuck.observe.torch_optimizers import Optimizers, strangers
from unstuck.observe.torch_origins import Origins
from unstuck.observe.torch_pace import READ_ALL, Pace, is_deep, is_sampled, number
from unstuck.observe.torch_record import Record
from unstuck.observe.torch_replays import Replays
from unstuck.observe.torch_state import State
from unstuck.observe.torch_trainings import Trainings
from unstuck.observe.torch_values import NAN
from unstuck.observe.torch_weights import Weights
from unstuck.trace.facts import Optimizer, Site

PROBE_NUMBERS = 20_000_000  # weights that are copied at a sampled step; beyond that none are
_ZERO_SAMPLE = 4  # gradients of which one is remembered after a step whether anybody writes to them


class Steps:
    """Looks at a training right before and right after an optimizer steps. `announce(state)` is called after a few steps."""

    def __init__(
        self, guard: Guard, origins: Origins, optimizers: Optimizers, trainings: Trainings, weights: Weights, replays: Replays,
        record: Record, pace: Pace, announce: Callable[[State], None],
    ) -> None:  # fmt: skip
        self.guard = guard
        self.origins = origins
        self.optimizers = optimizers
        self.trainings = trainings
        self.weights = weights
        self.replays = replays
        self.record = record
        self.pace = pace
        self.announce = announce
        self._probe: tuple[Any, ...] | None = None  # optimizer, tensors, copies, gradient norm, lr
        self._snapshot_due = time.monotonic() + 5.0

    def before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if self.guard.spy_pushed and self.guard.spy_left <= 0:
            self.guard.rest_spy()
        state = self.trainings.of_optimizer(optimizer)
        self._probe = None
        if state is None:
            return
        self.trainings.current = state
        loop = state.facts.loop
        record = self.optimizers.record(state, optimizer)
        closure = has_closure(args, kwargs)
        measured = is_sampled(loop.steps) or is_deep(loop.steps + 1)
        lr = max((number(g.get("lr")) for g in optimizer.param_groups), default=NAN)
        record.lr_first = lr if record.lr_first is None else record.lr_first
        record.lr_largest = lr if record.lr_largest is None else max(record.lr_largest, lr)
        record.lr_last = lr
        record.lr_zero_steps += lr == 0
        record.scheduler = self.origins.schedulers.get(optimizer, record.scheduler)
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
                torch_nonfinite.check_gradients(state, tensors)
            return
        if state.fresh_tape and state.pending == 1 and is_deep(loop.steps + 1):
            self.replays.begin(state)
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
            torch_nonfinite.in_gradients(state, with_grad)
        if state.norm_left is not None and not state.clipped and all(id(p) in state.norm_left for p in with_grad):
            clipped_by_hand(state, math.hypot(*(state.norm_left[id(p)] for p in with_grad)), norm)
        self._probe = (optimizer, with_grad, [p.detach().clone() for p in with_grad], norm, lr)

    def after(self, optimizer: Any) -> None:
        state = self.trainings.of_optimizer(optimizer)
        self.pace.total_steps += 1
        if state is None:
            return
        loop = state.facts.loop
        loop.steps += 1
        loop.skip_run = 0
        state.steps += 1
        record = self.optimizers.record(state, optimizer)
        record.steps += 1
        if record.steps <= 2:
            place = sites.site(sites.caller(4))
            record.step_site = record.step_site or place
            loop.step_site = loop.step_site or place
        predicted = norm = ratio = NAN
        probe, self._probe = self._probe, None
        if probe is not None and probe[0] is optimizer:
            predicted, norm, ratio = _measure(state, record, probe)
            if state.probing is not None:
                self.replays.end(state, probe[1], probe[2], predicted)
        state.probing, state.fresh_tape = None, False
        state.last_step = time.monotonic()
        if not state.first_step:
            state.first_step, state.own_at_first_step = time.monotonic(), self.guard.run.own_seconds
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
        self.record.row(state, record.lr_last if record.lr_last is not None else NAN, predicted, norm, ratio)
        if loop.steps >= READ_ALL and loop.steps % READ_ALL == 0:
            self.pace.may_shorten(state)
        if is_deep(loop.steps + 1) and loop.backwards == loop.steps:
            self.guard.start_tape()
        if is_deep(loop.steps):
            self.weights.update(state, frozenset(), {})
            strangers(state)
            self.record.snapshot(state)
            if loop.steps in {3, 10, 50, 200, 1000}:
                self.announce(state)
        elif time.monotonic() > self._snapshot_due:
            self.record.snapshot(state)
            self._snapshot_due = time.monotonic() + 5.0

    def zero_grad(self, original: Callable[..., Any]) -> Callable[..., Any]:
        guard, trainings = self.guard, self.trainings

        def zero_grad(owner: Any, *args: Any, **kwargs: Any) -> Any:
            # Of interest is only a zeroing between a backward and its step.
            state = trainings.current
            if guard.active and state is not None and state.pending and not torch.compiler.is_compiling():
                guard.guarded(self.zeroing, None if state.facts.loop.zero_site else sites.caller(2))
            return original(owner, *args, **kwargs)

        return zero_grad

    def scaler_step(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def step(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            before = self.pace.total_steps
            out = original(scaler, optimizer, *args, **kwargs)
            if self.guard.active:
                place = self.origins.scalers.get(scaler) or sites.site(sites.caller(2))
                self.guard.guarded(self.scaler_stepped, optimizer, self.pace.total_steps == before, place)
            return out

        return step

    def zeroing(self, frame: Any) -> None:
        state = self.trainings.current
        if state is None:
            return
        loop = state.facts.loop
        loop.zero_calls += 1
        if state.pending and loop.zero_site is None:
            loop.zero_site = sites.site(frame)  # between a backward and its step

    def scaler_stepped(self, optimizer: Any, skipped: bool, place: Site | None) -> None:
        state = self.trainings.of_optimizer(optimizer)
        if state is None:
            return
        loop = state.facts.loop
        if loop.scaler_site is None:
            loop.scaler_site = place
        if skipped:
            loop.skipped_steps += 1
            loop.skip_run += 1
            loop.longest_skip_run = max(loop.longest_skip_run, loop.skip_run)
            self.optimizers.record(state, optimizer)
            self.record.row(state)
            state.first_since_step = False
            state.stale_pending = False
            state.stale_probe = []


def _measure(state: State, record: Optimizer, probe: tuple[Any, ...]) -> tuple[float, float, float]:
    """(first-order decrease of the loss <g, -delta theta>, norm of the gradient, |delta theta| / |theta|) of a step."""
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
    predicted = -sum(float(torch.dot(p.grad.detach().flatten().float(), d.flatten().float())) for p, d in zip(tensors, delta))
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


def has_closure(args: Any, kwargs: Any) -> bool:
    return (len(args) > 1 and callable(args[1])) or callable(kwargs.get("closure"))
