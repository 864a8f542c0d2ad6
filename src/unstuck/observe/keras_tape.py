"""What a Keras forward pass is made of: the operations between the data and the loss, by the functions of Keras' backend.

While a tape is on, the functions of `keras.src.backend.nn`, `.numpy` and `.random` that matter and `Layer.__call__` are
replaced by ones that note what went in and what came out; they are put back right after. This works the same on tensors,
on the symbolic tensors of a tf.function and on JAX's tracers, because only the identity of the objects is used. A tape is
on while one of our own functions is traced, or a user's train_step is traced for the first time: never in a compiled step.

Layers that are loops or many small operations inside (LSTM, attention, normalisation) are one operation each. What a
script computes outside Keras (`tf.nn.softmax`, `x * 2`) is not seen: there the path is `hidden`, and nothing is said.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from unstuck.observe import sites
from unstuck.trace.facts import OpNode, Site

_NN = {
    "softmax": "softmax", "log_softmax": "log_softmax", "sigmoid": "sigmoid", "tanh": "tanh", "relu": "relu", "relu6": "clamp",
    "leaky_relu": "leaky_relu", "elu": "elu", "selu": "selu", "gelu": "gelu", "silu": "silu", "softplus": "softplus",
    "softsign": "softsign", "hard_sigmoid": "hard_sigmoid", "hard_tanh": "clamp", "log_sigmoid": "log_sigmoid", "celu": "elu",
    "conv": "conv", "depthwise_conv": "conv", "separable_conv": "conv", "conv_transpose": "conv",
    "max_pool": "maxpool2d", "average_pool": "avgpool2d",
}  # fmt: skip
_NUMPY = {
    "matmul": "matmul", "einsum": "matmul", "tensordot": "matmul", "dot": "matmul", "add": "add", "subtract": "sub",
    "multiply": "mul", "divide": "div", "true_divide": "div", "reshape": "view", "ravel": "view", "transpose": "transpose",
    "squeeze": "squeeze", "expand_dims": "unsqueeze", "concatenate": "cat", "tanh": "tanh", "log": "log", "exp": "exp",
    "clip": "clamp", "maximum": "maximum", "minimum": "minimum", "abs": "abs", "square": "square", "sqrt": "sqrt",
    "sin": "sin", "cos": "cos", "mean": "mean", "sum": "sum", "max": "max", "negative": "neg", "take": "index", "power": "pow",
}  # fmt: skip
_LOSSES = {
    "categorical_crossentropy": "soft-cross-entropy", "sparse_categorical_crossentropy": "cross-entropy",
    "binary_crossentropy": "bce",
}  # fmt: skip
# Layers that are told as one operation, by the name of a class in their ancestry.
_WHOLE = {
    "RNN": "rnn", "LSTM": "rnn", "GRU": "rnn", "SimpleRNN": "rnn", "Bidirectional": "rnn", "TimeDistributed": "loop",
    "BatchNormalization": "batch_norm", "LayerNormalization": "layer_norm", "GroupNormalization": "norm",
    "RMSNormalization": "norm", "UnitNormalization": "norm", "SpectralNormalization": "norm", "MultiHeadAttention": "attention",
    "GroupedQueryAttention": "attention", "Attention": "attention", "AdditiveAttention": "attention",
    "Embedding": "embedding", "BaseGlobalPooling": "pooling", "GlobalAveragePooling1D": "mean", "GlobalAveragePooling2D": "mean",
    "BaseDropout": "dropout", "Dropout": "dropout", "SpatialDropout1D": "dropout", "SpatialDropout2D": "dropout",
    "GaussianDropout": "dropout", "AlphaDropout": "dropout", "GaussianNoise": "dropout", "Flatten": "view", "Reshape": "view",
    "Permute": "transpose", "RepeatVector": "repeat", "Rescaling": "mul", "Normalization": "rescaling",
}  # fmt: skip
_END = ("keras_probes.py", "keras_callback.py")
_TRAINED = frozenset({"linear", "conv", "rnn", "embedding", "attention", "matmul"})


class Op(NamedTuple):
    """One operation: `inputs` and `output` are tensors of whatever kind the backend was tracing."""

    op: str
    raw: str
    inputs: tuple[Any, ...]
    output: Any
    variables: tuple[Any, ...]
    layer: Any
    site: Site | None
    dim: int | None = None
    scale: float | None = None


class LossCall(NamedTuple):
    """A call of one of the backend's cross-entropies. `repaired`: the backend saw a softmax or sigmoid under its input
    and used what stands before it instead."""

    kind: str
    name: str
    target: Any
    output: Any
    from_logits: bool
    repaired: bool
    used: Any  # what the loss was taken of: `output`, or what stands before its softmax where it was repaired
    site: Site | None


class Tape:
    """The operations of one forward pass in their order, and the losses on it."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.losses: list[LossCall] = []
        self.by_output: dict[int, Op] = {}
        self.starts: list[Any] = []  # what the model was called with
        self.kept: list[Any] = []  # ids are only good while the tensors live
        self.stack: list[Any] = []
        self.whole = 0  # inside a layer that is told as one operation
        self.aliases: dict[int, tuple[Any, ...]] = {}  # a bias that was given another shape is still that variable
        self.swapped: Any = None  # what the TensorFlow backend made of the latest loss input

    def note(self, op: Op) -> None:
        # A bias is added to the product of its own layer: one operation, as torch has it.
        last = self.by_output.get(id(op.inputs[0])) if op.inputs else None
        if op.op == "add" and op.variables and last is not None and last.op in _TRAINED and last.layer is op.layer:
            op = last._replace(output=op.output, variables=last.variables + op.variables)
            self.ops = [o for o in self.ops if o is not last]
        self.ops.append(op)
        self.by_output[id(op.output)] = op

    def before(self, tensor: Any) -> Op | None:
        return self.by_output.get(id(tensor))

    def path(self, tensor: Any) -> tuple[list[Op], str]:
        """From a tensor down to the last operation with weights: (operations, how it ends)."""
        found: list[Op] = []
        while True:
            op = self.before(tensor)
            if op is None:
                return found, "leaf" if any(tensor is s for s in self.starts) else "hidden"
            found.append(op)
            if op.variables and op.op in _TRAINED:
                return found, "parametric"
            inputs = [t for t in op.inputs if _is_tensor(t)]
            if len(inputs) != 1:
                return found, "merge" if inputs else "hidden"
            tensor = inputs[0]
            if len(found) > 200:
                return found, "hidden"

    def below(self, tensor: Any) -> tuple[list[Op], bool]:
        """(all operations that lead to a tensor in the order in which they ran, are they all there is?)"""
        wanted, seen, whole = [tensor], set(), True
        while wanted:
            t = wanted.pop()
            if id(t) in seen:
                continue
            seen.add(id(t))
            op = self.before(t)
            if op is None:
                whole = whole and (any(t is s for s in self.starts) or not _is_tensor(t))
                continue
            wanted += [i for i in op.inputs if _is_tensor(i)]
        return [op for op in self.ops if id(op.output) in seen], whole

    def data_only(self) -> set[int]:
        """ids of tensors that no weights went into."""
        clean = {id(t) for t in self.starts}
        for op in self.ops:
            if not op.variables and all(id(t) in clean for t in op.inputs if _is_tensor(t)):
                clean.add(id(op.output))
        return clean


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype") and not isinstance(value, (int, float))


def shape_of(tensor: Any) -> list[int] | None:
    """None for an axis whose length is not known becomes 0."""
    try:
        return [int(n) if n is not None else 0 for n in tensor.shape]
    except (TypeError, ValueError, AttributeError):
        return None


def kind_of(layer: Any) -> str:
    """'' for layers whose operations are looked at one by one."""
    for cls in type(layer).__mro__:
        if cls.__module__.startswith("keras.") and cls.__name__ in _WHOLE:
            return _WHOLE[cls.__name__]
    return ""


class _Mute:
    """In the place of the module `warnings`, for one backend file and the time of a recording."""

    @staticmethod
    def warn(*args: Any, **kwargs: Any) -> None:
        """Say nothing."""


@contextmanager
def recording(keras: Any, tape: Tape, silent: bool = True) -> Iterator[Tape]:
    """While it lasts, Keras' functions write to the tape. Whatever they raise is raised; what fails here is left out."""
    backend = keras.src.backend
    restore: list[tuple[Any, str, Any]] = []

    def replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        original = owner.__dict__.get(name) if isinstance(owner, type) else getattr(owner, name, None)
        if callable(original):
            setattr(owner, name, functools.wraps(original)(make(original)))
            restore.append((owner, name, original))

    def operation(kind: str, name: str) -> Callable[[Any], Any]:
        def make(original: Any) -> Any:
            def noted(*args: Any, **kwargs: Any) -> Any:
                if tape.whole:
                    return original(*args, **kwargs)
                tape.whole += 1  # backends call their own functions: the outermost is the operation
                try:
                    out = original(*args, **kwargs)
                finally:
                    tape.whole -= 1
                if not tape.whole:
                    try:
                        _take(backend, tape, kind, name, args, kwargs, out)
                    except Exception:
                        tape.ops.clear()  # the script's own step may be what runs: it goes on, and nothing is said
                return out

            return noted

        return make

    def loss(kind: str, name: str) -> Callable[[Any], Any]:
        def make(original: Any) -> Any:
            def noted(target: Any, output: Any, from_logits: bool = False, **kwargs: Any) -> Any:
                tape.swapped = None
                tape.whole += 1
                try:
                    out = original(target, output, from_logits=from_logits, **kwargs)
                finally:
                    tape.whole -= 1
                repaired = tape.swapped is not None and tape.swapped[1] is not output
                tape.kept.append((target, output))
                used = tape.swapped[1] if tape.swapped is not None and repaired else output
                tape.losses.append(LossCall(kind, name, target, output, bool(from_logits), repaired, used, _user()))
                return out

            return noted

        return make

    def swapping(original: Any) -> Any:
        def get_logits(output: Any, from_logits: bool, *args: Any) -> Any:
            result = original(output, from_logits, *args)
            tape.swapped = result[::-1]  # (are these logits?, the tensor)
            return result

        return get_logits

    def calling(original: Any) -> Any:
        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            kind = kind_of(layer) if not tape.whole else ""
            tape.stack.append(layer)
            tape.whole += bool(kind)
            try:
                out = original(layer, *args, **kwargs)
            finally:
                tape.whole -= bool(kind)
                tape.stack.pop()
            if kind and not tape.whole and _is_tensor(out):
                inputs = tuple(t for t in keras.tree.flatten((args, kwargs)) if _is_tensor(t))
                variables = tuple(v for v in layer.weights if _learns(layer, v))
                tape.note(Op(kind, type(layer).__name__, inputs, out, variables, layer, _user()))
                tape.kept.append(out)
            return out

        return call

    try:
        for name, kind in _NN.items():
            replace(backend.nn, name, operation(kind, name))
        for name, kind in _NUMPY.items():
            replace(backend.numpy, name, operation(kind, name))
        for name, kind in _LOSSES.items():
            replace(backend.nn, name, loss(kind, name))
        replace(backend.random, "dropout", operation("dropout", "dropout"))
        for owner in (backend, backend.core):
            for name in ("cast", "convert_to_tensor"):
                replace(owner, name, operation("cast", name))
        if hasattr(backend.nn, "_get_logits"):
            replace(backend.nn, "_get_logits", swapping)
            if silent and hasattr(backend.nn, "warnings"):  # the script has been told when its own step was traced
                restore.append((backend.nn, "warnings", backend.nn.warnings))
                backend.nn.warnings = _Mute
        replace(keras.layers.Layer, "__call__", calling)
        yield tape
    finally:
        for owner, name, original in reversed(restore):
            setattr(owner, name, original)


def _learns(layer: Any, variable: Any) -> bool:
    """Would this variable be trained if its layer were? (Not the running averages of a batch norm, nor seeds.)"""
    return any(v is variable for part in layer._flatten_layers() for v in part._trainable_variables)


def _user() -> Site | None:
    """The script's line inside the model or the step; not the one that called fit."""
    frame = sys._getframe(2)
    while frame is not None and not frame.f_code.co_filename.endswith(_END):
        if sites.owner(frame.f_code.co_filename) == "user":
            return sites.site(frame)
        frame = frame.f_back
    return None


def _take(backend: Any, tape: Tape, kind: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    flat: list[Any] = []
    for value in (*args, *kwargs.values()):
        flat += value if isinstance(value, (list, tuple)) and value and _is_tensor(value[0]) else [value]
    variables = tuple(v for v in flat if isinstance(v, backend.Variable))
    inputs = tuple(v for v in flat if _is_tensor(v) and not isinstance(v, backend.Variable))
    if not _is_tensor(out) or any(out is v for v in flat):
        return
    tape.kept.append((flat, out))
    if not inputs:
        if variables:
            tape.aliases[id(out)] = variables
        return
    variables += tuple(v for t in inputs for v in tape.aliases.get(id(t), ()))
    inputs = tuple(t for t in inputs if id(t) not in tape.aliases)
    dim = scale = None
    if kind in {"softmax", "log_softmax"}:
        axis = kwargs.get("axis", args[1] if len(args) > 1 else -1)
        rank = len(out.shape)
        dim = axis % rank if isinstance(axis, int) and rank else None
    if kind in {"mul", "div"}:
        constant = next((v for v in flat if isinstance(v, (int, float)) and not isinstance(v, bool)), None)
        if constant:
            scale = float(constant) if kind == "mul" else 1 / float(constant)
    if kind == "matmul":
        kind = "linear" if variables else "matmul"
    layer = tape.stack[-1] if tape.stack else None
    tape.note(Op(kind, name, inputs, out, variables, layer, _user(), dim, scale))


def node(op: Op, names: dict[int, str], live: set[int], made: Callable[[Any], Site | None]) -> OpNode:
    """An operation as the trace tells it. `names`: of variables by id; `live`: ids of those that are trained."""
    library = op.layer is not None and type(op.layer).__module__.startswith("keras.")
    trained = [names.get(id(v), v.path) for v in op.variables if id(v) in live]
    frozen = [names.get(id(v), v.path) for v in op.variables if id(v) not in live]
    return OpNode(
        op.op, op.raw, shape_of(op.output), op.dim, op.scale, site=op.site, module=type(op.layer).__name__ if library else "",
        made=made(op.layer) if library else None, parameters=trained, frozen=frozen,
    )  # fmt: skip
