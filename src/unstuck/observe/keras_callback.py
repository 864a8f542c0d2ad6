"""Watches Keras 3 train, on its TensorFlow, JAX and torch backends -> facts, counts and series.

Nothing is injected into `fit`: what is replaced is `make_train_function`, so that the step function which `fit` and
`train_on_batch` call is wrapped. `fit`'s arguments (positional callbacks too) and its History stay as they are.

* TensorFlow and JAX: while the step is traced it is given two more results, the loss of this batch (Keras' logs hold
  running means) and, on TensorFlow, the batch itself, which only exists inside the graph. They are taken out of the logs
  before anybody sees them. They are values that the step computes anyway: no operation of the training changes.
* torch: the step runs eagerly; batch and loss are picked up as they pass.
* Deep steps: the batch is evaluated again with copies of the weights (see `keras_probes`), never in the training's step.
* In the arm of an experiment (`light`) there are no deep steps: the step hands out its answers as well, so that accuracy
  and recalls are known, and what the arm started from is kept (see `keras_witness`).

Keras' optimizers are no torch optimizers, so on the torch backend torch's observer would see backward calls and no step:
it steps aside for what `fit` and `train_on_batch` run, and serves loops that the script writes in torch itself.

No number of the training is changed: nothing here draws random numbers or writes to a variable. Whatever fails here is
caught, noted in the run's own errors, and the training goes on.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
import time
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from unstuck.observe import keras_tape, keras_values, sites
from unstuck.observe.keras_deep import NAN, DeepLooks, Pending, State
from unstuck.observe.keras_facts import (
    DEEP,
    adopt_structure,
    loss_term,
    mode_layers,
    optimizer_record,
    phase_of,
    update_clippings,
    weights_of,
)  # fmt: skip
from unstuck.observe.keras_probes import MAX_OUTPUTS, Structure, cut, generator_state, structure_of, to_array
from unstuck.trace.facts import Facts, Loader, NonFinite, Raised, Run, Site
from unstuck.trace.writer import Writer

KEY = "__unstuck_"
FIRST_ID = 1024  # the ids of torch's trainings start at 0, in the same trace
MAX_TRAININGS = 64
MAX_OWN_ERRORS = 20
MAX_WEIGHTS = 20_000_000  # numbers that are copied at a deep step; beyond that there are none
MAX_PASSED = 4_000_000  # numbers of a batch that TensorFlow's step hands out
QUEUE = 16  # steps whose loss and labels may wait on the device
LOOK_SHARE = 0.02  # of the time since the first step, for looks at the answers between deep steps
LOOK_SECONDS = 0.5
CURRENT: list[Observer] = []  # those that are installed: a callback does not watch what is watched already


def is_deep(n: int) -> bool:
    """Steps whose batch is evaluated again: 1-4, 6, 10, 20, 35, 50, 75, 100, 150, 200, 300, 500, 1000, 2000, ..."""
    return n in DEEP or n % 1000 == 0


def is_looked_at(n: int) -> bool:
    """Steps at which the answers are looked at, if that is cheap enough."""
    return n % (10 if n <= 100 else 25 if n <= 1000 else 100) == 0


class Observer(DeepLooks):
    """Installs itself into Keras, keeps the trainings, writes the trace. The arguments are those of torch's observer;
    `aside()` is called when the first step of a Keras model on the torch backend is about to run, and gives a context in
    which torch's own observer looks away."""

    def __init__(
        self, writer: Writer | None, run: Run, *, announce: Callable[[Facts], None] | None = None, limit: int = 0,
        light: bool = False, aside: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:  # fmt: skip
        self.writer, self.run, self.announce, self.limit, self.light, self.aside = writer, run, announce, limit, light, aside
        self.ended: Callable[[BaseException | None, int], None] | None = None
        self.active = False
        self.pid = os.getpid()
        self.keras: Any = None
        self.states: dict[int, State] = {}
        self.dropped: list[State] = []
        self.made: dict[int, tuple[weakref.ref[Any], Site | None]] = {}
        self.compiled: weakref.WeakKeyDictionary[Any, Site | None] = weakref.WeakKeyDictionary()
        self.frozen: weakref.WeakKeyDictionary[Any, Site | None] = weakref.WeakKeyDictionary()
        self.structures: weakref.WeakKeyDictionary[Any, Structure] = weakref.WeakKeyDictionary()  # of own train_steps
        self.own_steps: weakref.WeakSet[Any] = weakref.WeakSet()  # models whose train_step never asked the compiled loss
        self.catching: list[tuple[Any, Any]] | None = None
        self.asked = False  # the compiled loss was called
        self.answers: Any = None  # what the model answered in the step that is being traced
        self.probabilities: weakref.WeakSet[Any] = weakref.WeakSet()  # answers that are no logits although the loss takes logits
        self.inside = 0
        self.dispatching: weakref.WeakSet[Any] = weakref.WeakSet()  # lists of callbacks that fit and its like have made
        self.total_steps = 0
        self.failed: set[int] = set()
        self.restore: list[Callable[[], None]] = []

    # ------------------------------------------------------------------ installation

    def install(self, keras: Any = None) -> None:
        """Replace what is to be watched. Raises AttributeError where this Keras does not have it."""
        if keras is None:
            import keras
        self.keras, self.active = keras, True
        self.backend = keras.backend.backend()
        self.run.framework = f"keras {keras.__version__} ({self.backend})"
        model = keras.Model
        trainer = next(c for c in model.__mro__ if "make_train_function" in c.__dict__)
        self.trainer = trainer
        base = next(c for c in model.__mro__ if "compile" in c.__dict__)
        for owner in (keras.losses.Loss, self._class(keras.optimizers.Optimizer)):
            self._replace(owner, "__init__", self._making)
        # Keras reads the signature of a layer's __init__: that one has to stay as it is.
        self._replace(self._class(keras.layers.Layer, "__new__"), "__new__", self._making_layer)
        self._watch_freezing(self._class(keras.layers.Layer, "trainable"))
        self._replace(base, "compile", self._compiling)
        self._replace(trainer, "make_train_function", self._making_function)
        self._replace(self._class(keras.metrics.Mean, "update_state"), "update_state", self._updating)
        self._replace(self._class(model, "compute_loss"), "compute_loss", self._asking)
        if self.light:
            self._replace(self._class(model, "compute_metrics"), "compute_metrics", self._measuring)
        for name in ("fit", "train_on_batch"):
            self._replace(trainer, name, functools.partial(self._entering, name))
        for name in ("evaluate", "predict"):
            self._replace(trainer, name, self._elsewhere)
        self._replace(keras.callbacks.CallbackList, "__init__", self._dispatches)

    def _watch_freezing(self, owner: type) -> None:
        """The lines that set `trainable` to False, on a layer or on a model that hands it down."""
        original = owner.__dict__["trainable"]

        def setting(layer: Any, value: bool) -> None:
            original.fset(layer, value)
            if self.active and not value:
                site = sites.site(sites.caller(2))
                self.frozen[layer] = site

        owner.trainable = property(original.fget, setting, original.fdel, original.__doc__)  # type: ignore[attr-defined]
        self.restore.append(lambda: setattr(owner, "trainable", original))

    @staticmethod
    def _class(cls: type, name: str = "__init__") -> type:
        return next(c for c in cls.__mro__ if name in c.__dict__)

    def _replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        original = owner.__dict__[name]
        if isinstance(original, staticmethod):
            replacement: Any = staticmethod(functools.wraps(original.__func__)(make(original.__func__)))
        else:
            replacement = functools.wraps(original)(make(original))
        setattr(owner, name, replacement)

        def back() -> None:
            if owner.__dict__.get(name) is replacement:
                setattr(owner, name, original)

        self.restore.append(back)

        CURRENT.append(self)

    def uninstall(self) -> None:
        self.active = False
        if self in CURRENT:
            CURRENT.remove(self)
        while self.restore:
            self.restore.pop()()

    def own_error(self, error: BaseException) -> None:
        """A failure of ours: the training goes on, the report says it."""
        if os.environ.get("UNSTUCK_DEBUG"):
            import traceback

            traceback.print_exception(error)
        text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]
        if len(self.run.own_errors) < MAX_OWN_ERRORS and text not in self.run.own_errors:
            self.run.own_errors.append(text)

    @property
    def here(self) -> bool:
        return self.active and os.getpid() == self.pid

    # ------------------------------------------------------------------ where things are made

    def _making(self, original: Any) -> Any:
        observer = self

        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            if observer.active:
                try:
                    observer._note_made(self)
                except Exception as error:
                    observer.own_error(error)

        return __init__

    def _making_layer(self, original: Any) -> Any:
        observer = self

        def __new__(cls: Any, *args: Any, **kwargs: Any) -> Any:
            layer = original(cls, *args, **kwargs)
            if observer.active:
                try:
                    observer._note_made(layer)
                except Exception as error:
                    observer.own_error(error)
            return layer

        return __new__

    def _note_made(self, thing: Any) -> None:
        """The innermost line of the user's that is not inside a constructor of the thing itself."""
        if id(thing) in self.made and self.made[id(thing)][0]() is thing:
            return
        frame = sites.caller(3)
        while frame is not None and frame.f_locals.get("self") is thing:
            frame = frame.f_back
            while frame is not None and sites.owner(frame.f_code.co_filename) != "user":
                frame = frame.f_back
        user = frame is not None and sites.owner(frame.f_code.co_filename) == "user"
        self.made[id(thing)] = (weakref.ref(thing), sites.site(frame) if user else None)

    def site_of(self, thing: Any) -> Site | None:
        """The line that constructed a layer, a loss or an optimizer."""
        entry = self.made.get(id(thing))
        return entry[1] if entry is not None and entry[0]() is thing else None

    def _compiling(self, original: Any) -> Any:
        observer = self

        def compile(model: Any, *args: Any, **kwargs: Any) -> Any:
            if observer.active:
                observer.compiled[model] = sites.site(sites.caller(2))
            return original(model, *args, **kwargs)

        return compile

    def _updating(self, original: Any) -> Any:
        observer = self

        def update_state(metric: Any, values: Any, *args: Any, **kwargs: Any) -> Any:
            if observer.catching is not None:
                observer.catching.append((metric, values))
            return original(metric, values, *args, **kwargs)

        return update_state

    def _asking(self, original: Any) -> Any:
        observer = self

        def compute_loss(model: Any, *args: Any, **kwargs: Any) -> Any:
            observer.asked = True
            return original(model, *args, **kwargs)

        return compute_loss

    def _measuring(self, original: Any) -> Any:
        """Keras' own steps hand the outputs to the metrics: there they are tensors of the step, no tracers of its gradient."""
        observer = self

        def compute_metrics(model: Any, x: Any, y: Any, y_pred: Any, *args: Any, **kwargs: Any) -> Any:
            if observer.catching is not None:
                observer.answers = y_pred
            return original(model, x, y, y_pred, *args, **kwargs)

        return compute_metrics

    # ------------------------------------------------------------------ the step

    def _making_function(self, original: Any) -> Any:
        observer = self

        def make_train_function(model: Any, force: bool = False) -> Any:
            if not observer.here or (model.train_function is not None and not force):
                return original(model, force)
            traced = observer.backend != "torch"
            if traced:
                object.__setattr__(model, "train_step", observer._traced(model.train_step, model))
            try:
                result = original(model, force)
            finally:
                if traced:
                    model.__dict__.pop("train_step", None)
            if model.train_function is not None:
                model.train_function = observer._stepping(model, model.train_function)
            return result

        return make_train_function

    def _traced(self, step: Any, model: Any) -> Any:
        """The model's train_step with more results. Runs when it is traced only."""
        jax = self.backend == "jax"

        @functools.wraps(step)
        def train_step(*args: Any) -> Any:
            self.catching, self.asked, self.answers = [], False, None
            try:
                with self._taped(model) as tape:
                    out = step(*args)
                caught = self.catching
            finally:
                self.catching = None
            try:
                self._structure(model, tape, args[-1])
                logs = out[0] if jax else out
                if not isinstance(logs, dict):
                    return out
                logs = dict(logs)
                value = self._loss_among(model, caught, logs)
                if value is not None:
                    logs[KEY + "loss"] = value
                if not self.asked:
                    self.own_steps.add(model)
                if not jax:
                    logs.update(self._passed(args[0]))
                logs.update(self._answered(model))
                return (logs, *out[1:]) if jax else logs
            except Exception as error:
                self.own_error(error)
                return out

        return train_step

    def _taped(self, model: Any) -> AbstractContextManager[Any]:
        """A tape for a train_step of the script's own, while its structure is not known; otherwise nothing."""
        if type(model).train_step is self.trainer.train_step or model in self.structures:
            return nullcontext()
        return keras_tape.recording(self.keras, keras_tape.Tape(), silent=False)

    def _structure(self, model: Any, tape: Any, data: Any) -> None:
        """The loss that such a step computed, and the way to it."""
        if tape is None or not tape.ops:
            return
        x, _, _ = self.keras.utils.unpack_x_y_sample_weight(data)
        tape.starts = [t for t in self.keras.tree.flatten(x) if t is not None]
        names = {id(v): record.name for v, record in weights_of(model, self.site_of)}
        live = {id(v) for v in model.trainable_variables}
        self.structures[model] = structure_of(tape, tape.ops[-1].output, names, live, self.site_of)[0]

    @staticmethod
    def _loss_among(model: Any, caught: list[tuple[Any, Any]], logs: dict[str, Any]) -> Any:
        """The loss of this batch: what was given to the running mean; without one, what the step itself returned."""
        tracker = getattr(model, "_loss_tracker", None)
        mine = [v for m, v in caught if m is tracker] or [v for m, v in caught if m.name == "loss"] or [logs.get("loss")]
        return mine[-1] if getattr(mine[-1], "shape", None) is not None and len(mine[-1].shape) == 0 else None

    def _passed(self, data: Any) -> dict[str, Any]:
        """The batch, where it is made of plain numbers."""
        x, y, sw = self.keras.utils.unpack_x_y_sample_weight(data)
        found = {}
        for name, part in (("x", None if self.light else x), ("y", y), ("w", sw)):
            flat = [t for t in self.keras.tree.flatten(part) if t is not None]
            for i, t in enumerate(flat[:6]):
                kind = str(getattr(t, "dtype", "string"))
                size = math.prod(n or 1 for n in getattr(t, "shape", ()) or ())
                uneven = type(t).__name__ in {"RaggedTensor", "SparseTensor"}
                if "string" in kind or "variant" in kind or uneven or size > MAX_PASSED:
                    continue
                found[f"{KEY}{name}{i}"] = t
        return found

    def _answered(self, model: Any) -> dict[str, Any]:
        """The model's first output in this step, where it was seen."""
        answers, self.answers = self.answers, None
        flat = self.keras.tree.flatten(answers) if answers is not None else []
        if not flat or not keras_tape.shape_of(flat[0]):
            return {}
        if self.backend == "tensorflow" and getattr(flat[0], "_keras_logits", None) is not None:
            self.probabilities.add(model)  # the backend repairs the loss, whatever it was told
        return {KEY + "p": cut(flat[0], MAX_OUTPUTS)}

    def _stepping(self, model: Any, function: Any) -> Any:
        """The function that fit calls for each step (or each `steps_per_execution` of them)."""
        jax, torch = self.backend == "jax", self.backend == "torch"
        reference = weakref.ref(model)

        @functools.wraps(function)
        def train_function(*args: Any) -> Any:
            model = reference()
            if not self.here or model is None:
                out = function(*args)
                _taken(out[0] if jax and isinstance(out, tuple) else out)
                return out
            batch: list[Any] = []
            if jax and len(args) == 2:
                args = (args[0], _peek(args[1], batch))
            elif torch and isinstance(args[0], (list, tuple)):
                batch.append(args[0][0])
            self._guarded(model, self._before, model, args[0] if jax else None)
            if torch:
                self.catching, self.asked, self.answers = [], False, None
            try:
                with self.aside() if torch else nullcontext(), self._taped(model) if torch else nullcontext() as tape:
                    out = function(*args)
                caught = self.catching
            finally:
                self.catching = None
            if tape is not None and batch:
                self._guarded(model, self._structure, model, tape, batch[0])
            return self._after(model, out, batch, caught)

        return train_function

    def _guarded(self, model: Any, work: Callable[..., Any], *args: Any) -> Any:
        """Work of ours: timed, and never the reason why a training ends."""
        if id(model) in self.failed:
            return None
        began = time.perf_counter()
        try:
            with self.aside() if self.backend == "torch" else nullcontext():
                return work(*args)
        except Exception as error:
            self.failed.add(id(model))  # said once; the rest of this training is not watched
            self.own_error(error)
        finally:
            spent = time.perf_counter() - began
            self.run.own_seconds += spent
            state = self.states.get(id(model))
            if state is not None:
                state.own += spent
        return None

    def _state(self, model: Any) -> State:
        state = self.states.get(id(model))
        if state is not None and state.model() is model:
            return state
        if state is not None:
            self.dropped.append(state)
        state = State(FIRST_ID + len(self.states) + len(self.dropped), model, self.run.framework)
        self.states[id(model)] = state
        if len(self.states) > MAX_TRAININGS:
            raise RuntimeError("more than 64 models were trained; the rest is not watched")
        state.facts.made = self.site_of(model)
        state.facts.loop.backward_site = self.compiled.get(model)
        return state

    def _before(self, model: Any, jax_state: Any) -> None:
        state = self._state(model)
        state.before = None
        n = state.facts.loop.steps + 1
        if not all(layer.built for layer in model._flatten_layers()):
            state.deep_due = True  # TensorFlow builds some models inside their first step: the second is the first we see
            return
        if not state.parameters:
            state.parameters = weights_of(model, self.site_of)
            state.facts.parameters = [record for _, record in state.parameters]
            state.facts.parameters_total = sum(math.prod(r.shape) for _, r in state.parameters)
            lines = [self.frozen.get(layer) for layer in model._flatten_layers() if not layer.trainable]
            state.facts.loop.freezes = list({(s.file, s.line): s for s in lines if s is not None}.values())[:8]
            state.modes = mode_layers(model, self.site_of)
            state.facts.modes = [m for _, m in state.modes]
        if self.light and n == 1:
            state.witness.begin(model, jax_state, [v for v, _ in state.parameters])
        deep = is_deep(n) or state.deep_due
        look = is_looked_at(n) and state.own < LOOK_SECONDS + LOOK_SHARE * (time.monotonic() - state.began)
        if self.light or not (deep or look) or state.facts.parameters_total > MAX_WEIGHTS:
            if state.facts.parameters_total > MAX_WEIGHTS:
                reason = f"more than {MAX_WEIGHTS:,} weights: no copies are made"
                for channel in ("probes", "layers", "path", "operations"):
                    state.facts.absent.setdefault(channel, reason)
            return
        state.deep_due = deep
        state.before = self._values(model, jax_state)
        state.drawn = generator_state() if self.backend == "torch" else None
        if not state.first_seen:
            state.first_seen = True
            frozen = {id(v): w for v, w in zip(model.non_trainable_variables, state.before[1])}
            known = {id(v): w for v, w in zip(model.trainable_variables, state.before[0])} | frozen
            for v, record in state.parameters:
                if id(v) in known:
                    keras_values.first_sight(record, known[id(v)])
                    if known[id(v)].size <= 1_000_000:
                        state.first[id(v)] = known[id(v)]

    def _after(self, model: Any, out: Any, batch: list[Any], caught: list[tuple[Any, Any]] | None) -> Any:
        jax = self.backend == "jax"
        logs = out[0] if jax and isinstance(out, tuple) else out
        extra = _taken(logs)
        if caught is not None:
            value = self._loss_among(model, caught, logs if isinstance(logs, dict) else {})
            if value is not None:
                extra[KEY + "loss"] = value.detach()
            if not self.asked:
                self.own_steps.add(model)
            extra.update({key: t.detach() for key, t in self._answered(model).items()})
        self._guarded(model, self._stepped, model, extra, batch, out[1] if jax and isinstance(out, tuple) else None)
        steps = max(1, int(getattr(model, "steps_per_execution", 1) or 1))
        self.total_steps += steps
        if self.limit and self.total_steps >= self.limit:
            from unstuck.observe.launch import StopTraining

            raise StopTraining
        return out

    # ------------------------------------------------------------------ after a step

    def _stepped(self, model: Any, extra: dict[str, Any], batch: list[Any], jax_state: Any) -> None:
        state = self._state(model)
        facts, loop = state.facts, state.facts.loop
        now = time.monotonic()
        state.first_step, state.last_step = state.first_step or now, now
        loop.steps += max(1, int(getattr(model, "steps_per_execution", 1) or 1))
        loop.forwards = loop.backwards = loop.steps
        self.run.backward_seen = True
        for record in facts.modes:
            if record.evaluating:
                record.evaluating += 1
            else:
                record.training += 1
                record.last_training_step = loop.steps
                record.tracked += record.kind == "batch-norm"
        x, y, sw = self._batch(extra, batch)
        if state.labels is None:
            self._begin(state, model, x, y)
        deep = state.before is not None
        if self.backend != "jax" or deep or math.isnan(state.lr):
            state.lr = self._rate(model, jax_state)
        self._count_rate(state)
        keep_x = x if not self.light and (not state.data.full or deep or state.data.calls < 64) else None
        pending = Pending(loop.steps, extra.get(KEY + "loss"), y, sw, keep_x, state.lr)
        pending.answers = extra.get(KEY + "p")
        state.queue.append(pending)
        if deep:
            self._held(state, model)
            self._look(state, model, pending, (x, y, sw), jax_state)
        if deep or len(state.queue) >= QUEUE or self.backend == "torch":
            self._drain(state)
        if is_deep(loop.steps):
            self._publish(state)
            if self.announce is not None and loop.steps in {2, 10}:
                self.announce(facts)

    def _batch(self, extra: dict[str, Any], batch: list[Any]) -> tuple[list[Any], Any, Any]:
        """(inputs, targets, sample weights) of the step, as tensors of the backend; targets None where there are several."""
        if batch:
            x, y, sw = self.keras.utils.unpack_x_y_sample_weight(batch[-1])
            flat = [[t for t in self.keras.tree.flatten(part) if t is not None] for part in (x, y, sw)]
        else:
            flat = [[extra[k] for k in sorted(extra) if k.startswith(KEY + name)] for name in ("x", "y", "w")]
        xs, ys, ws = flat
        return xs, ys[0] if len(ys) == 1 else None, ws[0] if len(ws) == 1 else None

    def _held(self, state: State, model: Any) -> None:
        optimizer = getattr(model, "optimizer", None)
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        held = {id(v) for v in getattr(optimizer, "_trainable_variables", ())} if optimizer is not None else set()
        for v, record in state.parameters:
            record.held = id(v) in held

    def _begin(self, state: State, model: Any, x: list[Any], y: Any) -> None:
        """The first step of a training: what is known from the configuration."""
        facts, loop = state.facts, state.facts.loop
        compiled = self.compiled.get(model)
        term, unjudged = loss_term(self.keras, model, y, self.site_of, compiled)
        term.judged = not unjudged
        loop.unjudged = unjudged
        facts.terms = [term]
        known = self.structures.get(model)
        if model in self.own_steps and known is not None and known.kind and known.losses == 1:
            adopt_structure(facts, known, state.parameters)
            term.reduction, term.site = "mean", known.site or term.site
        state.labels = keras_values.Labels(term, keras_values.WINDOW if not self.light else keras_values.WINDOW_OF_ALL)
        rows = int(y.shape[0]) if y is not None and len(y.shape) else 1
        state.divisor = float(rows) if term.reduction == "sum" else 1.0
        optimizer = getattr(model, "optimizer", None)
        if optimizer is not None:
            state.optimizer = optimizer_record(self.keras, optimizer, self.site_of(optimizer) or compiled, state.site)
            facts.optimizers = [state.optimizer]
            update_clippings(facts, optimizer, [], state.optimizer.made)
        self._held(state, model)
        if term.kind in {"", "unknown"} and not unjudged:
            facts.absent.setdefault("values", "a loss of another kind")

    def _rate(self, model: Any, jax_state: Any) -> float:
        optimizer = getattr(model, "optimizer", None)
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # mixed precision wraps one, whose own rate is 0
        if optimizer is None or not hasattr(optimizer, "_learning_rate"):
            return NAN
        rate = optimizer._learning_rate
        if isinstance(rate, self.keras.optimizers.schedules.LearningRateSchedule):
            done = self.states[id(model)].facts.loop.steps - 1  # the step before counted from 0
            return float(to_array(rate(done)))
        if jax_state is not None:
            place = next((i for i, v in enumerate(model.optimizer.variables) if v is rate), None)
            return float(to_array(jax_state[2][place])) if place is not None else NAN
        value = getattr(rate, "value", rate)
        return float(to_array(value() if callable(value) else value))

    def _count_rate(self, state: State) -> None:
        record, rate = state.optimizer, state.lr
        if record is None:
            return
        record.steps += 1
        if math.isnan(rate):
            return
        record.lr_first = rate if record.lr_first is None else record.lr_first
        record.lr_largest = rate if record.lr_largest is None else max(record.lr_largest, rate)
        record.lr_last = rate
        record.lr_zero_steps += rate == 0

    def _drain(self, state: State) -> None:
        """Read what waits on the device and write its rows."""
        facts, term, labels = state.facts, state.facts.term, state.labels
        queue, state.queue = state.queue, []
        for p in queue:
            loss = (float(to_array(p.loss)) - state.penalty) / state.divisor if p.loss is not None else NAN
            y = to_array(p.y) if p.y is not None else None
            chance = base = NAN
            known = None
            if y is not None and labels is not None and term is not None:
                sw = to_array(p.sw) if p.sw is not None else None
                (chance, base), known = labels.arrived(y, sw, term.classes or 0)
                if self.light:
                    state.witness.arrived(y)
                if p.answers is not None:
                    answers = to_array(p.answers).astype(np.float32)
                    model = state.model()
                    halved = term.kind == "bce-logits" and model is not None and model in self.probabilities
                    p.accuracy = labels.answered(known, answers - 0.5 if halved else answers)
                if labels.stats.kind == "probability" and term.kind == "cross-entropy":
                    term.kind = "soft-cross-entropy"
            if p.x:
                state.data.arrived([to_array(t) for t in p.x], known, state.site, term.ignore_index if term is not None else None)
                if state.part_of is not None and facts.inputs:
                    facts.inputs[0].part_of = state.part_of
            if not math.isfinite(loss) and p.loss is not None and facts.nonfinite is None:
                self._not_finite(facts, p)
            if p.loss is None:
                chance = base = NAN  # no loss was read; that is no loss of NaN
            if self.writer is not None:
                row = (loss, chance, base, p.accuracy, p.lr, p.predicted, p.norm, p.ratio, 1.0)
                self.writer.row(facts.id, p.step, row)
        if self.writer is not None:
            self.writer.tick()

    def _not_finite(self, facts: Facts, p: Pending) -> None:
        for i, t in enumerate(p.x or []):
            a = to_array(t)
            if a.dtype.kind == "f" and not np.isfinite(a).all():
                share = float(1 - np.isfinite(a).mean())
                name = facts.inputs[i].name if i < len(facts.inputs) else "an input of the model"
                facts.nonfinite = NonFinite("input", name, p.step, share=share, site=facts.inputs[i].site if facts.inputs else None)
                return
        facts.nonfinite = NonFinite("loss", "", p.step, site=facts.term.site if facts.term is not None else None)

    # ------------------------------------------------------------------ calls of the script

    def _entering(self, name: str, original: Any) -> Any:
        observer = self
        signature = inspect.signature(original)

        def call(model: Any, *args: Any, **kwargs: Any) -> Any:
            if not observer.here or observer.inside:
                return original(model, *args, **kwargs)
            site = sites.site(sites.caller(2))
            given: dict[str, Any] = {}
            try:
                given = signature.bind(model, *args, **kwargs).arguments
            except TypeError:
                pass
            observer.inside += 1
            observer._guarded(model, observer._told, model, name, given, site)
            try:
                return original(model, *args, **kwargs)
            except BaseException as error:
                observer._guarded(model, observer._raised, model, error, given, site)
                observer._end_dispatching()
                raise
            finally:
                observer.inside -= 1
                observer._guarded(model, observer._left, model, name, given)

        return call

    def _dispatches(self, original: Any) -> Any:
        observer = self

        def __init__(callbacks: Any, *args: Any, **kwargs: Any) -> None:
            original(callbacks, *args, **kwargs)
            if observer.here and observer.inside:
                observer.dispatching.add(callbacks)

        return __init__

    def _end_dispatching(self) -> None:
        """Keras runs callbacks in a thread that it ends when fit ends, and leaves waiting when fit is left by an exception. Python
        ends such threads before it waits for the others; we wait for the others before Python does."""
        for callbacks in list(self.dispatching):
            executor = getattr(callbacks, "_executor", None)
            if executor is not None:
                executor.shutdown(wait=False)
        self.dispatching.clear()

    def _told(self, model: Any, name: str, given: dict[str, Any], site: Site | None) -> None:
        """The arguments of fit: rows, batch size, shuffling, the array a batch was cut from."""
        state = self._state(model)
        facts = state.facts
        state.site = facts.loop.step_site = site
        x = next((t for t in self.keras.tree.flatten(given.get("x")) if hasattr(t, "shape")), None)
        if name == "train_on_batch":
            base = getattr(x, "base", None)
            if isinstance(base, np.ndarray) and base.ndim == x.ndim and base.shape[1:] == x.shape[1:] and len(base) > len(x):
                state.part_of = len(base)
            return
        if x is not None and len(getattr(x, "shape", ())) and given.get("y") is not None:
            rows = int(int(x.shape[0]) * (1 - (given.get("validation_split") or 0)))
            size = given.get("batch_size") or 32
            if len(facts.loaders) < 4:
                facts.loaders.append(
                    Loader(rows, size, -(-rows // size), bool(given.get("shuffle", True)), made=site, site=site)
                )

    def _left(self, model: Any, name: str, given: dict[str, Any]) -> None:
        state = self.states.get(id(model))
        if state is None or (name == "train_on_batch" and not is_deep(state.facts.loop.steps)):
            return
        self._drain(state)
        if name == "fit" and state.facts.loaders:
            loader = state.facts.loaders[-1]
            loader.taken, loader.iterators = state.facts.loop.steps, int(given.get("epochs") or 1)
            loader.longest = min(loader.batches or 0, loader.taken)
        self._publish(state)

    def _elsewhere(self, original: Any) -> Any:
        observer = self

        def call(model: Any, *args: Any, **kwargs: Any) -> Any:
            if not observer.here:
                return original(model, *args, **kwargs)
            state = observer.states.get(id(model))
            if state is not None and state.facts.loop.steps and state.facts.inputs:
                known = state.facts.inputs[0]
                if known.compared_calls > 1 and known.same_calls == known.compared_calls:
                    state.facts.loop.evaluated_elsewhere += 1
            observer.inside += 1
            try:
                return original(model, *args, **kwargs)
            except BaseException:
                observer._end_dispatching()
                raise
            finally:
                observer.inside -= 1

        return call

    def _raised(self, model: Any, error: BaseException, given: dict[str, Any], site: Site | None) -> None:
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            return
        state = self._state(model)
        facts = state.facts
        innermost, _ = sites.raised_at(error.__traceback__)
        message = " ".join(str(error).split())[:300]
        facts.exceptions.append(Raised(type(error).__name__, message, phase_of(error), innermost or site, fatal=True, caught=None))
        if state.labels is None:  # not one step: what is known is the configuration and the labels that were given
            if not state.parameters and model.built:
                state.parameters = weights_of(model, self.site_of)
                facts.parameters = [record for _, record in state.parameters]
            y = given.get("y")
            y = np.asarray(y) if hasattr(y, "shape") or isinstance(y, (list, tuple)) else None
            self._begin(state, model, [], y)
            if y is not None and y.dtype.kind in "fiub" and state.labels is not None and not facts.loop.unjudged:
                state.labels.arrived(y[:4096], None, facts.terms[0].classes or 0)
        self._publish(state)

    # ------------------------------------------------------------------ what is written

    def _publish(self, state: State) -> None:
        if state.labels is not None:
            state.labels.publish()
        state.data.publish()
        loop = state.facts.loop
        if loop.steps > 1 and state.first_step:
            loop.step_seconds = max(1e-9, (state.last_step - state.first_step - state.own) / (loop.steps - 1))
        if self.writer is not None and (loop.steps or state.facts.exceptions):
            self.writer.facts(state.facts)
            self.writer.flush()
            if not self.light:
                state.data.write(self.writer.directory)

    def script_failed(self, error: BaseException) -> None:
        """The script ended with an exception; what came out of fit is known already, and is the run's too."""
        kind = type(error).__name__
        for state in [*self.dropped, *self.states.values()]:
            self.run.exceptions += [raised for raised in state.facts.exceptions if raised.type == kind][-1:]

    def finish(self) -> None:
        """Last facts of every training; safe to call more than once."""
        for state in [*self.dropped, *self.states.values()]:
            self._drain(state)
            model = state.model()
            if model is not None and state.facts.loop.steps and state.facts.nonfinite is None:
                self._broken_weights(state, model)
            self._publish(state)
            if self.light and self.writer is not None:
                state.witness.write(self.writer.directory, state.facts.id)

    def _broken_weights(self, state: State, model: Any) -> None:
        for v, record in state.parameters:
            try:
                if record.dtype.startswith("float") and not np.isfinite(to_array(v.value)).all():
                    state.facts.nonfinite = NonFinite("parameter", record.name, state.facts.loop.steps, site=record.made)
                    return
            except Exception:
                return  # purged by JAX in a fit that was interrupted


def _taken(logs: Any) -> dict[str, Any]:
    """What our train_step put into the logs; the logs are as the script's own step made them."""
    if not isinstance(logs, dict):
        return {}
    return {k: logs.pop(k) for k in [k for k in logs if isinstance(k, str) and k.startswith(KEY)]}


def _peek(iterator: Any, seen: list[Any]) -> Any:
    """The same iterator; what it gives is noted."""
    for item in iterator:
        seen[:] = [item]
        yield item
