"""What is kept of one Keras training, and what happens at its deep steps: the batch evaluated again, before and after the
update, what passed the layers, what the update did to the weights."""

from __future__ import annotations

import math
import os
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from unstuck.observe import keras_values, keras_witness
from unstuck.observe.keras_facts import adopt_structure, update_clippings
from unstuck.observe.keras_probes import Answer, Replay, to_array
from unstuck.trace.facts import Facts, Layer, LossTerm, ModeLayer, Optimizer, Parameter, Probe, Run, Site

NAN = float("nan")
ABSENT = {
    "gradient_checks": "Keras: the loss is not moved along single directions",
    "formulas": "Keras: sums and logarithms written out by hand are not looked for",
    "reshapes": "Keras: reshapes are not compared with permutes",
    "breaks": "Keras: places where a gradient path ends are not looked for",
}


class Pending:
    """One step whose numbers are still on the device."""

    def __init__(self, step: int, loss: Any, y: Any, sw: Any, x: Any, lr: float) -> None:
        self.step, self.loss, self.y, self.sw, self.x, self.lr = step, loss, y, sw, x, lr
        self.predicted = self.norm = self.ratio = self.accuracy = NAN
        self.answers: Any = None


class State:
    """What is kept in memory of one model's training."""

    def __init__(self, number: int, model: Any, framework: str) -> None:
        self.model = weakref.ref(model)
        self.facts = Facts(id=number, framework=framework, name=type(model).__name__)
        self.facts.absent.update(ABSENT)
        self.data = keras_values.Data(self.facts)
        self.labels: keras_values.Labels | None = None
        self.parameters: list[tuple[Any, Parameter]] = []
        self.optimizer: Optimizer | None = None
        self.replay: Replay | None = None
        self.penalty = 0.0  # of the total loss at the last deep step
        self.divisor = 1.0  # of the script's own loss, to make it one per row
        self.queue: list[Pending] = []
        self.first: dict[int, np.ndarray] = {}  # weights before the first step
        self.before: tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]] | None = None
        self.drawn: Any = None  # torch's generator before the step
        self.shape: tuple[Any, ...] | None = None  # of the batch that the functions were traced for
        self.site: Site | None = None  # of fit or train_on_batch
        self.part_of: int | None = None
        self.began = time.monotonic()
        self.first_step = self.last_step = 0.0
        self.own = 0.0
        self.look_cost = 0.0
        self.own_step = False  # the user's own train_step without the compiled loss
        self.deep_due = False
        self.first_seen = False  # were the weights looked at before they changed?
        self.lr = NAN
        self.modes: list[tuple[Any, ModeLayer]] = []
        self.layers: dict[int, Layer] = {}
        self.announced = False
        self.witness = keras_witness.Witness()


class DeepLooks:
    """The part of the observer that evaluates batches again. What is declared here is the observer's."""

    keras: Any
    run: Run
    own_steps: weakref.WeakSet[Any]
    site_of: Callable[[Any], Site | None]  # the line that constructed a layer, a loss or an optimizer
    own_error: Callable[[BaseException], None]

    def _values(self, model: Any, jax_state: Any) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        """Copies of the trained variables, the others, and the metrics' (of a multi-output loss)."""
        if jax_state is not None:
            return tuple([to_array(v) for v in jax_state[i]] for i in (0, 1, 3))  # type: ignore[return-value]
        groups = (model.trainable_variables, model.non_trainable_variables, model.metrics_variables)
        return tuple([to_array(v.value) for v in group] for group in groups)  # type: ignore[return-value]

    def _look(self, state: State, model: Any, pending: Pending, batch: tuple[list[Any], Any, Any], jax_state: Any) -> None:
        """The batch again: before and after the update, and what passed the layers."""
        facts, term = state.facts, state.facts.term
        before, state.before = state.before, None
        deep, state.deep_due = state.deep_due, False
        xs, y, sw = batch
        if before is None or not xs or y is None or facts.loop.unjudged or "probes" in facts.absent:
            return
        shape = tuple(tuple(t.shape) for t in (*xs, y))
        if state.shape is not None and shape != state.shape:
            state.deep_due = deep  # another size of batch would have to be traced again: the next one
            return
        began = time.perf_counter()
        try:
            self._probe(state, model, pending, deep, before, (self._packed(model, xs), y, sw), jax_state, term)
            state.shape = shape
        except Exception as error:
            if os.environ.get("UNSTUCK_DEBUG"):
                self.own_error(error)
            said = str(error).splitlines()[0] if str(error) else ""
            text = f"the batch could not be evaluated again: {type(error).__name__}: {said}"
            for channel in ("probes", "layers", "operations"):
                facts.absent.setdefault(channel, text[:200])
            if not any(t.path for t in facts.terms):
                facts.absent.setdefault("path", text[:200])
        self.run.probe_seconds += time.perf_counter() - began

    def _packed(self, model: Any, xs: list[Any]) -> Any:
        """The inputs in the structure that the model takes."""
        structure = getattr(model, "_inputs_struct", None)
        if structure is not None and len(self.keras.tree.flatten(structure)) == len(xs):
            return self.keras.tree.pack_sequence_as(structure, xs)
        return xs[0] if len(xs) == 1 else xs

    def _probe(
        self, state: State, model: Any, pending: Pending, deep: bool, before: Any, batch: Any, jax_state: Any, term: LossTerm
    ) -> None:  # fmt: skip
        facts, loop = state.facts, state.facts.loop
        if state.replay is None:
            names = {id(v): record.name for v, record in state.parameters}
            if model in self.own_steps and getattr(model, "_compile_loss", None) is None:
                raise ValueError("a train_step of the script's own without a compiled loss")
            state.replay = Replay(self.keras, model, names, self.site_of)
        replay = state.replay
        replay.drawn = state.drawn
        first = replay.ask(*before, batch)
        if not facts.terms[0].path and replay.structure is not None:
            adopt_structure(facts, replay.structure, state.parameters)
        self._answers(state, pending, first, batch)
        if not deep:
            return
        step = loop.steps
        loss = float(to_array(pending.loss)) if pending.loss is not None else NAN
        own = model in self.own_steps
        state.penalty = first.total - first.data if not own else 0.0
        adopt = zip(replay.structure.taps if replay.structure is not None else (), first.taps)
        for i, (tap, value) in enumerate(adopt):
            layer = state.layers.get(i)
            if layer is None:
                names = sorted([*tap.node.parameters, *tap.node.frozen], key=lambda n: "bias" in n)
                units = tap.shape[-1] if tap.shape and len(tap.shape) > 1 else None
                layer = state.layers[i] = Layer(
                    tap.op, tap.of, tap.shape, units, tap.node.site, tap.node.made, tap.node.module, names, tap.data
                )  # fmt: skip
                facts.layers.append(layer)
            if len(layer.looks) < 48 and value.dtype.kind == "f":
                layer.looks.append(keras_values.statistics(layer.op, value, step))
        after = self._values(model, jax_state)
        gradients = dict(zip((id(v) for v in model.trainable_variables), first.gradients or []))
        pairs = list(zip(model.trainable_variables, before[0], after[0]))
        dot = moved = size = norm = 0.0
        for v, b, a in pairs:
            g = gradients.get(id(v))
            delta = a - b
            moved += keras_values.square(delta)
            size += keras_values.square(b)
            if g is not None:
                dot += keras_values.inner(g, delta)
                norm += keras_values.square(g)
        norm, moved, size = math.sqrt(norm), math.sqrt(moved), math.sqrt(size)
        pending.predicted, pending.norm, pending.ratio = -dot, norm, moved / size if size else NAN
        for v, record in state.parameters:
            g = gradients.get(id(v))
            entry = next(((b, a) for w, b, a in pairs if w is v), None)
            if entry is None:
                continue
            if g is None:
                record.gradient = record.gradient if record.gradient in {"zero", "nonzero"} else "none"
            else:
                record.reached = True
                record.gradient = "nonzero" if record.gradient == "nonzero" or bool((g != 0).any()) else "zero"
                keras_values.weight_look(record, *entry, g, step)
            if id(v) in state.first:
                record.changed = not np.array_equal(state.first[id(v)], entry[1], equal_nan=True)
        self._effects(state, norm, moved, -dot, pairs, gradients)
        if getattr(model, "optimizer", None) is not None:
            update_clippings(facts, model.optimizer, [g for g in gradients.values() if g is not None], None)
        if own or not math.isfinite(loss):
            return
        if not math.isclose(first.total, loss, rel_tol=1e-3, abs_tol=1e-5):
            facts.absent.setdefault("probes", "a batch evaluated again does not give the loss of the training")
            return
        probe = Probe(step, loss, first.total, predicted=-dot if math.isfinite(dot) else None)
        second = replay.ask(after[0], before[1], before[2], batch)
        probe.after, probe.accuracy = second.total, None if math.isnan(pending.accuracy) else pending.accuracy
        won = probe.before - probe.after
        little = abs(won) < 1e-3 * abs(probe.before) and 0 < -dot < 1e-3 * abs(probe.before)
        for factor in (10.0, 100.0) if little else (0.1, 0.01) if not won > 0 else ():
            weights = [(b + factor * (a - b)).astype(b.dtype) for _, b, a in pairs]
            probe.scan[f"{factor:g}"] = replay.ask(weights, before[1], before[2], batch).total
        if facts.modes:
            quiet = replay.ask(after[0], after[1], before[2], batch, training=False)
            probe.evaluation = quiet.total
            if state.labels is not None and quiet.outputs is not None:
                known = self._known(state, batch)
                rows = quiet.outputs.reshape(-1, quiet.outputs.shape[-1])
                if known is not None and rows.shape[1] > 1 and len(rows) == len(known):
                    probe.evaluation_accuracy = float((rows.argmax(1) == known).mean())
        facts.probes.append(probe)
        del facts.probes[40:]

    def _known(self, state: State, batch: Any) -> np.ndarray | None:
        """One class label per row of a batch."""
        y, term = to_array(batch[1]), state.facts.term
        if term is None:
            return None
        if y.ndim > 1 and y.shape[-1] > 1 and not term.raw.startswith("sparse"):
            return y.reshape(-1, y.shape[-1]).argmax(1) if state.labels and state.labels.stats.kind in {"one-hot", ""} else None
        return y.reshape(-1).astype(np.int64) if np.array_equal(y, np.round(y)) else None

    def _answers(self, state: State, pending: Pending, answer: Answer, batch: Any) -> None:
        if state.labels is None or answer.outputs is None:
            return
        known = self._known(state, batch)
        # A logit is compared with 0 and a probability with 1/2: what enters the loss is what its kind says.
        logits = state.facts.terms[0].kind == "bce-logits" and answer.entering is not None
        pending.accuracy = state.labels.answered(known, answer.entering if logits else answer.outputs)
        if answer.entering is not None:
            keras_values.look_at_values(state.facts.terms[0].values, answer.entering)

    def _effects(
        self, state: State, norm: float, moved: float, predicted: float, pairs: list[Any], gradients: dict[int, Any]
    ) -> None:  # fmt: skip
        loop, record = state.facts.loop, state.optimizer
        if not (state.lr > 0 and math.isfinite(norm) and norm > 0) or record is None:
            return
        loop.no_effect_checked += 1
        loop.ascent_checked += 1
        if moved == 0:
            loop.no_effect += 1
            largest = max((float(np.abs(b).max()) for _, b, _ in pairs if b.size), default=0.0)
            strongest = max((float(np.abs(g).max()) for g in gradients.values() if g is not None and g.size), default=0.0)
            if state.lr * max(strongest, 1.0) < np.finfo(np.float32).eps * largest:
                record.steps_below_resolution += 1
        elif predicted < 0:
            loop.ascent += 1
