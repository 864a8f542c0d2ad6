"""A batch of the training evaluated again: before and after its step, in the other mode, and along the step.

When that is done, and what is made of it; how it is done without the training noticing is in `torch_probes`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from unstuck.observe import torch_probes
from unstuck.observe.torch_models import Models
from unstuck.observe.torch_origins import Origins
from unstuck.observe.torch_state import State
from unstuck.observe.torch_values import NAN
from unstuck.trace.facts import Probe, Run


class Replays:
    """Probes of a training, from the tapes that the spy records."""

    def __init__(self, run: Run, origins: Origins, models: Models) -> None:
        self.run = run
        self.origins = origins
        self.models = models

    def keep(self, state: State, tape: torch_probes.Tape, loss: Any) -> None:
        """The forward pass of this loss was recorded, on a tape that is closed: can it be evaluated again?"""
        if tape.ready:
            tape.home = [m for ref in self.models.roots if (m := ref()) is not None]
            scalers = [s for s in list(self.origins.scalers) if s.is_enabled()]
            if len(scalers) == 1:
                tape.scale = float(scalers[0].get_scale())
            elif scalers:
                state.facts.absent.setdefault("probes", "several gradient scalers")
                return
            tape.value = float(loss.detach()) / tape.scale if loss.numel() == 1 else NAN
            state.tape, state.fresh_tape = tape, True
        elif not state.facts.probes:
            state.facts.absent["probes"] = tape.trouble

    def begin(self, state: State) -> None:
        """Before the update: is the batch evaluated again what it was?"""
        tape = state.tape
        assert tape is not None
        if not math.isfinite(tape.value):
            return
        state.probing = Probe(state.step, tape.value)
        self.replayed(state, lambda probe: setattr(probe, "again", tape.loss()))

    def end(self, state: State, tensors: list[Any], before: list[Any], predicted: float) -> None:
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

        self.replayed(state, work)
        if state.facts.custom and not state.facts.gradient_checks and state.probing is not None:
            _check_gradient(state, lambda: False)  # while the weights are what they were drawn as
        state.facts.probes.append(probe)
        del state.facts.probes[40:]

    def replayed(self, state: State, work: Callable[[Probe], None]) -> None:
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

    def thorough(self, state: State, suspicious: Callable[[int], bool] | None) -> None:
        """Once, at the end of a training that is stuck: is the gradient the derivative of the loss? For at most the time
        of a hundred of the training's own steps. `suspicious(n)`: is training number n worth that?"""
        facts, tape = state.facts, state.tape
        if tape is None or not tape.ready or facts.nonfinite is not None or not state.rows:
            return
        seconds = facts.loop.step_seconds
        if seconds is None or suspicious is None or not suspicious(facts.id):
            return
        if facts.gradient_checks:
            return
        began = time.perf_counter()
        _check_gradient(state, lambda: time.perf_counter() - began > 90 * seconds)
        spent = time.perf_counter() - began
        self.run.thorough_seconds += spent
        self.run.thorough_steps += spent / seconds


def _check_gradient(state: State, out_of_time: Callable[[], bool]) -> None:
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
