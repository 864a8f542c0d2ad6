"""Dropout and batch norm: in which mode these layers run, and what becomes of a batch norm's averages."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch

from unstuck.observe import sites, torch_probes
from unstuck.observe.torch_guard import Guard
from unstuck.observe.torch_models import Models
from unstuck.observe.torch_origins import Origins
from unstuck.observe.torch_replays import Replays
from unstuck.observe.torch_state import State
from unstuck.observe.torch_trainings import Trainings
from unstuck.trace.facts import ModeLayer, Probe

MAX_LAYERS = 64  # of a training


class Modes:
    """Looks at the layers of the models that are called."""

    def __init__(self, guard: Guard, origins: Origins, models: Models, trainings: Trainings, replays: Replays) -> None:
        self.guard = guard
        self.origins = origins
        self.models = models
        self.trainings = trainings
        self.replays = replays

    def count(self, state: State) -> None:
        """In which mode did dropout and batch-norm layers run in this forward pass?"""
        for ref in self.models.roots:
            model = ref()
            if model is None:
                continue
            layers = self.models.mode_layers.get(id(model))
            if layers is None or layers[0]() is not model:
                layers = self.models.look_for_modes(model)
            for name, m in layers[1]:
                entry = state.modes.get(id(m))
                if entry is None:
                    if len(state.modes) >= MAX_LAYERS:
                        break
                    kind = torch_probes.kind_of(m)
                    p = getattr(m, "p", getattr(m, "dropout", None)) if kind == "dropout" else None
                    momentum = getattr(m, "momentum", None) if kind == "batch-norm" else None
                    entry = (weakref.ref(m), ModeLayer(kind, name, self.origins.modules.get(m), p, momentum))
                    state.modes[id(m)] = entry
                    state.facts.modes.append(entry[1])
                record = entry[1]
                if m.training:
                    record.training += 1
                    record.last_training_step = state.facts.loop.steps + 1
                else:
                    record.evaluating += 1

    @staticmethod
    def look(state: State) -> None:
        """At a step that is looked at deeply: over how few rows did a batch norm average, and how many batches has it seen?"""
        facts = state.facts
        for layer in facts.layers:
            if layer.op == "batch_norm" and layer.looks and layer.looks[-1].step == state.step:
                for record in facts.modes:
                    if record.name == layer.name:
                        rows = layer.looks[-1].rows
                        record.smallest_rows = rows if record.smallest_rows is None else min(rows, record.smallest_rows)
        for ref, record in state.modes.values():
            m = ref()
            if m is not None and getattr(m, "num_batches_tracked", None) is not None:
                record.tracked = int(m.num_batches_tracked)

    def reset_running_stats(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def reset_running_stats(module: Any, *args: Any, **kwargs: Any) -> Any:
            if self.guard.active and self.trainings.current is not None and not torch.compiler.is_compiling():
                entry = self.trainings.current.modes.get(id(module))  # none while the layer is constructed
                if entry is not None and entry[0]() is module:
                    entry[1].reset_site = sites.site(sites.caller(2))
            return original(module, *args, **kwargs)

        return reset_running_stats

    def averages(self, state: State, *, light: bool, over: bool = False) -> None:
        """Batch norms whose averages are what they were before the training: what does evaluation mode make of that?

        The probes are made after steps; what the script does to the averages afterwards they cannot see. Asked at the first
        evaluation after a step, and when the script is `over`. `light`: nothing is evaluated again.
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
        if not found or tape is None or not tape.ready or state.facts.nonfinite is not None or light:
            return
        kept, state.probing = state.probing, Probe(state.step, tape.value)

        def work(probe: Probe) -> None:
            if not tape.refresh():
                return
            probe.evaluation = tape.loss(evaluation=True)
            probe.evaluation_accuracy = tape.accuracy
            probe.training = tape.loss(evaluation=False)
            probe.accuracy = tape.accuracy
            state.facts.at_end = probe

        self.replays.replayed(state, work)
        state.probing = kept
