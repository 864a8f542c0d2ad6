"""A batch of a Keras training evaluated again, out of the compiled step: loss, gradient, outputs, what passes the layers.

The weights, the running averages and the states of the random generators are arguments (a StatelessScope puts them in
the place of the model's variables and swallows what layers would write), so nothing of the training is touched, and the
same random numbers are drawn as the step drew. One function per mode is traced (jax.jit, tf.function; torch runs it
eagerly) and used for everything: the loss before and after a step, at shorter and longer ones, the gradient, the looks.
"""

from __future__ import annotations

import contextlib
import io
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from unstuck.observe import keras_tape
from unstuck.observe.keras_tape import Op, Tape
from unstuck.trace.facts import OpNode, Site

MAX_TAPS = 48
MAX_TAP_NUMBERS = 1 << 17
MAX_OUTPUTS = 1 << 19
_INPUTS = frozenset({"linear", "conv", "rnn", "embedding", "batch_norm", "layer_norm", "norm", "attention"})
_OUTPUTS = frozenset({"relu", "sigmoid", "tanh", "clamp"})
_MOVES = frozenset({"view", "transpose", "squeeze", "unsqueeze", "cast", "copy"})


class Tap(NamedTuple):
    """A tensor that is looked at: a layer's input or an activation's output."""

    op: str
    of: str
    shape: list[int] | None
    node: OpNode
    data: bool


class Structure(NamedTuple):
    """What one trace of the forward pass and the loss said, as plain data."""

    kind: str  # of the loss: cross-entropy, probability-cross-entropy, bce, bce-logits; '' where no cross-entropy ran
    raw: str
    path: list[OpNode]
    end: str
    operations: list[str] | None  # None: not all of them are Keras'
    taps: list[Tap]
    order: list[str]  # names of the weights in the order in which they are used
    input_shape: list[int] | None
    target_shape: list[int] | None
    losses: int
    repaired: bool
    site: Site | None


class Answer(NamedTuple):
    """One evaluation, as numpy arrays. `total` includes penalties, `data` is the compiled loss alone."""

    total: float
    data: float
    outputs: np.ndarray | None
    entering: np.ndarray | None  # what enters the loss
    taps: list[np.ndarray]
    gradients: list[np.ndarray | None] | None


def structure_of(
    tape: Tape, outputs: Any, names: dict[int, str], live: set[int], made: Callable[[Any], Site | None]
) -> tuple[Structure, Any]:  # fmt: skip
    """(what the tape says, the tensor that is to be looked at as the loss' input)."""
    call = tape.losses[-1] if tape.losses else None
    entering = call.used if call is not None else outputs
    kind = raw = ""
    ops, end = tape.path(entering)
    if call is not None:
        raw = call.name
        if call.name == "binary_crossentropy":
            kind = "bce-logits" if call.from_logits else "bce"
            if call.repaired and not call.from_logits:  # a sigmoid, and the loss of probabilities that belongs to it
                entering = call.output
                ops, end = tape.path(entering)
        else:
            kind = "cross-entropy" if call.from_logits or call.repaired else "probability-cross-entropy"
        whole, whole_end = tape.path(call.output)
        single = next((o for o in whole if o.op == "softmax" and _one_unit(o)), None)
        if single is not None:  # whatever the loss makes of it: what the model answers is the constant 1
            ops, end, entering = whole, whole_end, call.output
            kind = "bce" if kind.startswith("bce") else "cross-entropy"
        elif kind == "probability-cross-entropy":
            # The loss takes the logarithm of a softmax: together they are one cross-entropy of what stands before it.
            first = next((i for i, o in enumerate(ops) if o.op not in _MOVES), None)
            head = ops[first] if first is not None else None
            if head is not None and head.op == "softmax" and head.dim == len(head.output.shape) - 1:
                kind, ops = "cross-entropy", ops[first + 1 :]
                entering = head.inputs[0]
                end = end if ops else tape.path(entering)[1]
    clean = tape.data_only()
    order: list[str] = []
    picked: list[tuple[Tap, Any]] = []
    for op in tape.ops:
        order += [names[id(v)] for v in op.variables if id(v) in names and names[id(v)] not in order]
        tensor, of = (op.inputs[0], "input") if op.op in _INPUTS and op.inputs else (op.output, "output")
        wanted = bool(op.variables) if op.op in _INPUTS else op.op in _OUTPUTS
        if wanted and len(picked) < MAX_TAPS and hasattr(tensor, "shape"):
            name = "relu" if op.op == "clamp" else op.op
            node = keras_tape.node(op, names, live, made)
            picked.append((Tap(name, of, keras_tape.shape_of(tensor), node, id(tensor) in clean), tensor))
    below, whole_graph = tape.below(call.output if call is not None else outputs)
    if not below or tape.before(call.output if call is not None else outputs) is None:
        whole_graph = False
    names_of = [o.op for o in below if o.op not in {"cast"}]
    if call is not None and kind == "cross-entropy" and names_of and names_of[-1] == "softmax" and not call.from_logits:
        names_of = names_of[:-1]  # it belongs to the loss
    if call is not None and call.repaired and names_of and names_of[-1] in {"softmax", "sigmoid"}:
        names_of = names_of[:-1]
    if kind == "bce" and names_of and names_of[-1] == "sigmoid":
        names_of = names_of[:-1]
    found = Structure(
        kind, raw, [keras_tape.node(o, names, live, made) for o in ops if o.op != "cast"], end,
        names_of if whole_graph else None, [t for t, _ in picked], order, keras_tape.shape_of(entering),
        keras_tape.shape_of(call.target) if call is not None else None, len(tape.losses),
        call.repaired if call is not None else False, call.site if call is not None else None,
    )  # fmt: skip
    return found, (entering, [t for _, t in picked])


def _one_unit(op: Op) -> bool:
    shape = keras_tape.shape_of(op.output)
    return bool(shape) and op.dim is not None and op.dim < len(shape) and shape[op.dim] == 1


class Replay:
    """Evaluates batches of one model. `loss(x, y, outputs, weights)` stands for the compiled one where that is not used."""

    def __init__(
        self, keras: Any, model: Any, names: dict[int, str], made: Callable[[Any], Site | None],
        loss: Callable[[Any, Any, Any, Any], Any] | None = None,
    ) -> None:  # fmt: skip
        self.keras, self.model, self.names, self.made, self.loss = keras, model, names, made, loss
        self.backend = keras.backend.backend()
        self.structure: Structure | None = None
        self.structures: dict[bool, Structure] = {}
        self._functions: dict[bool, Any] = {}
        self.drawn: Any = None  # state of torch's generator before the step: its dropout draws from there
        self._none: list[bool] = []  # gradients that do not exist, by position

    # ------------------------------------------------------------------ the forward pass and the loss

    def _body(self, training: bool, tv: list[Any], ntv: list[Any], mv: list[Any], x: Any, y: Any, sw: Any) -> Any:
        keras, model = self.keras, self.model
        mapping = [
            *zip(model.trainable_variables, tv), *zip(model.non_trainable_variables, ntv), *zip(model.metrics_variables, mv)
        ]  # fmt: skip
        tape = Tape()
        live = {id(v) for v in model.trainable_variables}
        with keras.src.backend.StatelessScope(state_mapping=mapping, collect_losses=True):
            with keras_tape.recording(keras, tape):
                tape.starts = [t for t in keras.tree.flatten(x) if t is not None]
                outputs = model(x, training=training) if model._call_has_training_arg else model(x)
                penalties = list(model.losses)
                if self.loss is not None:
                    data = self.loss(x, y, outputs, sw)
                else:
                    data = model._compile_loss(y, outputs, sw)
            total = data
            for penalty in penalties:
                total = total + keras.ops.cast(penalty, total.dtype)
        flat = keras.tree.flatten(outputs)
        found, (entering, taps) = structure_of(tape, flat[0], self.names, live, self.made)
        self.structures[training] = found
        return total, (data, cut(flat[0], MAX_OUTPUTS), cut(entering, MAX_OUTPUTS), [cut(t, MAX_TAP_NUMBERS) for t in taps])

    def _function(self, training: bool) -> Any:
        """(tv, ntv, mv, x, y, sw) -> total, (data, outputs, entering, taps), gradients (none in evaluation mode)."""
        if training in self._functions:
            return self._functions[training]
        if self.backend == "jax":
            jax = sys.modules["jax"]
            both = jax.value_and_grad(lambda *a: self._body(training, *a), has_aux=True)

            def whole(*arguments: Any) -> Any:
                if not training:
                    return *self._body(training, *arguments), []
                (total, rest), gradients = both(*arguments)
                return total, rest, gradients

            function = jax.jit(whole)
        elif self.backend == "tensorflow":
            tf = sys.modules["tensorflow"]

            def whole(tv: list[Any], *arguments: Any) -> Any:
                if not training:
                    return *self._body(training, tv, *arguments), []
                with tf.GradientTape() as tape:
                    for v in tv:
                        tape.watch(v)
                    total, rest = self._body(training, tv, *arguments)
                gradients = tape.gradient(total, tv)
                self._none = [g is None for g in gradients]
                return total, rest, [tf.zeros_like(v) if g is None else tf.convert_to_tensor(g) for g, v in zip(gradients, tv)]

            # Compiled as the step is: XLA has random numbers of its own.
            compiled = self.model.jit_compile is True and not self.model.run_eagerly
            function = tf.function(whole, autograph=False, reduce_retracing=True, jit_compile=compiled)
        else:
            torch = sys.modules["torch"]

            def function(tv: list[Any], *arguments: Any) -> Any:
                if not training:
                    with torch.no_grad():
                        return *self._body(training, tv, *arguments), []
                with torch.enable_grad():
                    leaves = [v.detach().clone().requires_grad_(v.is_floating_point()) for v in tv]
                    total, rest = self._body(training, leaves, *arguments)
                    gradients = torch.autograd.grad(total, leaves, allow_unused=True) if total.requires_grad else [None] * len(tv)
                self._none = [g is None for g in gradients]
                return total, rest, gradients

        self._functions[training] = function
        return function

    def ask(
        self, tv: list[np.ndarray], ntv: list[np.ndarray], mv: list[np.ndarray], batch: tuple[Any, Any, Any], training: bool = True
    ) -> Answer:  # fmt: skip
        """Evaluate a batch (x, y, sample weights; numpy or backend tensors) at these values of the variables."""
        keras = self.keras
        tensor = keras.ops.convert_to_tensor
        kinds = [*self.model.trainable_variables], [*self.model.non_trainable_variables], [*self.model.metrics_variables]
        state = [[tensor(a, dtype=v.dtype) for a, v in zip(arrays, kind)] for arrays, kind in zip((tv, ntv, mv), kinds)]
        x, y, sw = (keras.tree.map_structure(lambda t: tensor(t) if t is not None else None, part) for part in batch)
        with unnoticed(self.drawn):
            total, (data, outputs, entering, taps), gradients = self._function(training)(*state, x, y, sw)
        if self.structure is None or training:
            self.structure = self.structures.get(training, self.structure)
        missing = self._none or [False] * len(gradients)
        return Answer(
            float(self.array(total)), float(self.array(data)), self.array(outputs), self.array(entering),
            [self.array(t) for t in taps], [None if m else self.array(g) for g, m in zip(gradients, missing)],
        )  # fmt: skip

    def array(self, tensor: Any) -> Any:
        return to_array(tensor)


def generator_state() -> Any:
    """Of torch's global generator, which unseeded dropout draws from on Keras' torch backend; None without torch."""
    torch = sys.modules.get("torch")
    return torch.get_rng_state() if torch is not None and hasattr(torch, "get_rng_state") else None


@contextmanager
def unnoticed(drawn: Any) -> Iterator[None]:
    """What runs inside may draw and print: neither is noticed outside. `drawn`: the state torch's generator starts from."""
    torch = sys.modules.get("torch")
    numbers, python = np.random.get_state(), random.getstate()
    kept = generator_state()
    devices = torch.cuda.get_rng_state_all() if kept is not None and torch.cuda.is_initialized() else None
    if drawn is not None and kept is not None:
        torch.set_rng_state(drawn)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        np.random.set_state(numbers)
        random.setstate(python)
        if kept is not None:
            torch.set_rng_state(kept)
        if devices is not None:
            torch.cuda.set_rng_state_all(devices)


def to_array(tensor: Any) -> np.ndarray:
    """A copy on the host; bfloat16 and float16 are widened."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        if str(tensor.dtype) == "torch.bfloat16":
            tensor = tensor.float()
        return np.array(tensor.numpy())
    array = np.array(tensor)
    return array.astype(np.float32) if array.dtype.name in {"bfloat16", "float16"} else array


def cut(tensor: Any, numbers: int) -> Any:
    """The first rows, so many that about `numbers` entries are left; at least two."""
    shape = keras_tape.shape_of(tensor)
    if not shape or not shape[0]:
        return tensor
    size = 1
    for n in shape:
        size *= max(n, 1)
    return tensor if size <= numbers else tensor[: max(2, numbers * shape[0] // size)]
