"""Interventions on Keras models: weights at the start, what is frozen, dropout, precision, shape, what stands between layers."""

from __future__ import annotations

import inspect
import random
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from unstuck.experiments.keras_patches import Patches, called

_HALF = {"float16", "bfloat16", "mixed_float16", "mixed_bfloat16"}
_DROPOUT = {"BaseDropout", "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout", "GaussianDropout"}
# Layers that hand on what a linear layer made, number for number.
_CARRIES = _DROPOUT | {
    "BatchNormalization", "LayerNormalization", "GroupNormalization", "Flatten", "Reshape", "Permute", "GaussianNoise",
}  # fmt: skip
# Weights of Keras' own layers, by the name of their attribute.
_WEIGHTS = (
    "kernel", "bias", "recurrent_kernel", "embeddings", "gamma", "beta", "depthwise_kernel", "pointwise_kernel", "alpha",
)  # fmt: skip


def _kinds(layer: Any) -> set[str]:
    return {c.__name__ for c in type(layer).__mro__ if c.__module__.startswith("keras.")}


# -------------------------------------------------------------------------------------------------- what is trained


def _thaw(patches: Patches, wanted: Callable[[Any], bool]) -> None:
    """Layers that are frozen become trained ones before fit builds anything; an optimizer that knows fewer weights is made anew
    (Keras refuses it otherwise)."""

    def change(model: Any, name: str, arguments: dict[str, Any]) -> None:
        layers = [layer for layer in model._flatten_layers() if wanted(layer)]
        frozen = [layer for layer in layers if not layer.trainable]
        weights = [v for layer in layers for v in layer._trainable_variables if not v.trainable]
        if not frozen and not weights:
            return
        for layer in frozen:
            layer.trainable = True
        for v in weights:
            v.trainable = True
        patches.applied.count += len(frozen) + len(weights)
        optimizer = getattr(model, "optimizer", None)
        if optimizer is not None and optimizer.built:
            model.optimizer = type(optimizer).from_config(optimizer.get_config())
        model.train_function = None  # of a fit before this one: it trains what was not frozen then

    patches.at_fit(change)


def unfreeze(patches: Patches) -> None:
    _thaw(patches, lambda layer: True)
    patches.expect("no model was trained that has frozen layers")


def train_mode(patches: Patches) -> None:
    """A frozen batch norm uses its running averages in training: it is thawed."""
    _thaw(patches, lambda layer: "BatchNormalization" in _kinds(layer))
    patches.expect("no batch norm is frozen")


def batch_statistics(patches: Patches) -> None:
    """The batch's own statistics in training, and averages that follow them by a tenth a step (Keras' default: a hundredth)."""

    def change(layer: Any) -> None:
        if "BatchNormalization" in _kinds(layer) and layer.momentum != 0.9:
            layer.momentum = 0.9
            patches.applied.count += 1

    patches.at_layers(change)
    _thaw(patches, lambda layer: "BatchNormalization" in _kinds(layer))
    patches.expect("there is no batch norm that does otherwise")


# -------------------------------------------------------------------------------------------------- initial weights


def reinitialise(patches: Patches) -> None:
    """Before the first step all weights that are trained are drawn by the initialisers that their layers have by default, bare ones
    after He. `scale` multiplies what has two or more axes. The random numbers come from the script's own seed, but not from its
    generator, whose later draws stay what they were."""
    scale = patches.number("scale", 1.0)
    done: weakref.WeakSet[Any] = weakref.WeakSet()

    def change(model: Any) -> None:
        if model in done:
            return
        done.add(model)
        numbers = random.Random()
        numbers.setstate(random.getstate())
        for layer in model._flatten_layers():
            if not layer.built:  # its weights are made in the middle of the first step
                patches.applied.count += _prepared(patches, layer, numbers, scale)
            for v in layer._trainable_variables:
                if not v.trainable or not layer.trainable:
                    continue
                values = _drawn(patches, layer, v, numbers.getrandbits(31))
                v.assign(values * scale if len(v.shape) > 1 and scale != 1 else values)
                patches.applied.count += 1

    patches.at_start(change)
    patches.expect("no model was trained that has weights")


def _default(patches: Patches, layer: Any, attribute: str, seed: int) -> Any:
    """The initialiser that a layer of this class has for this weight by default; None where it has none."""
    given = inspect.signature(type(layer).__init__).parameters.get(f"{attribute}_initializer")
    if given is None or not isinstance(given.default, str):
        return None
    initializer = patches.keras.initializers.get(given.default)
    if hasattr(initializer, "seed"):
        initializer.seed = seed
    return initializer


def _prepared(patches: Patches, layer: Any, numbers: random.Random, scale: float) -> int:
    """Of how many weights that are still to be made the initialiser has been exchanged."""
    count = 0
    for name in _WEIGHTS:
        initializer = _default(patches, layer, name, numbers.getrandbits(31))
        if initializer is not None and hasattr(layer, f"{name}_initializer"):
            setattr(layer, f"{name}_initializer", _Scaled(initializer, scale))
            count += 1
    return count


class _Scaled:
    """An initialiser whose weights of two or more axes are multiplied."""

    def __init__(self, initializer: Any, scale: float) -> None:
        self.initializer, self.scale = initializer, scale

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        values = self.initializer(shape, dtype=dtype)
        return values * self.scale if len(shape) > 1 and self.scale != 1 else values


def _drawn(patches: Patches, layer: Any, v: Any, seed: int) -> Any:
    attribute = next((n for n in _WEIGHTS if n == v.name), "")
    initializer = _default(patches, layer, attribute, seed)
    if initializer is not None:
        values = initializer(v.shape, dtype=v.dtype)
        if attribute == "bias" and getattr(layer, "unit_forget_bias", False):
            units = v.shape[0] // 4
            return np.concatenate([np.zeros(units), np.ones(units), np.zeros(2 * units)]).astype("float32")
        return values
    if len(v.shape) > 1:
        return patches.keras.initializers.HeNormal(seed=seed)(v.shape, dtype=v.dtype)
    old = np.asarray(patches.keras.ops.convert_to_numpy(v.value))
    return np.ones_like(old) if (old == 1).all() else np.zeros_like(old)  # a gain, an offset


# -------------------------------------------------------------------------------------------------- dropout and precision


def set_dropout(patches: Patches) -> None:
    """Dropout stronger than p, of layers and inside recurrent ones, becomes p."""
    p = patches.number("p")

    def change(layer: Any) -> None:
        cell = hasattr(layer, "state_size") and not hasattr(layer, "cell")
        names = ("rate",) if _kinds(layer) & _DROPOUT else ("dropout", "recurrent_dropout") if cell else ()
        for name in names:
            if isinstance(getattr(layer, name, None), (int, float)) and getattr(layer, name) > p:
                setattr(layer, name, p)
                patches.applied.count += 1

    def nested(layer: Any) -> None:
        change(layer)
        if getattr(layer, "cell", None) is not None:  # a recurrent layer runs its cell without calling it through Keras
            change(layer.cell)

    patches.at_layers(nested)
    patches.expect(f"no dropout stronger than {p:g} was made (masks made by hand cannot be changed from outside)")


def full_precision(patches: Patches) -> None:
    """Wherever half precision, bfloat16 or a mixed policy is asked for, float32 is given."""

    def policy(original: Any) -> Any:
        def __init__(self: Any, name: Any = None, *args: Any, **kwargs: Any) -> None:
            if name in _HALF:
                patches.applied.count += 1
                name = "float32"
            original(self, name, *args, **kwargs)

        return __init__

    def setting(original: Any) -> Any:
        def set_floatx(value: Any) -> None:
            if value in _HALF:
                patches.applied.count += 1
                value = "float32"
            original(value)

        return set_floatx

    keras = patches.keras
    patches.replace(patches.owner(keras.DTypePolicy, "__init__"), "__init__", policy)
    for owner in (keras.config, keras.backend):
        if hasattr(owner, "set_floatx"):
            patches.replace(owner, "set_floatx", setting)
    patches.expect("nothing was cast to half precision or bfloat16")


# -------------------------------------------------------------------------------------------------- shape


def _resized(patches: Patches, width: int, wanted: Callable[[Any], bool], grows: bool, what: str) -> None:
    def change(layer: Any) -> None:
        if not wanted(layer):
            return
        name = next((n for n in ("units", "filters") if isinstance(getattr(layer, n, None), int)), "")
        if not name or not _linear(layer):
            raise patches.applied.impossible(f"{layer.name} is neither a dense layer nor a convolution")
        if grows and getattr(layer, name) >= width:
            return
        if layer.built:
            raise patches.applied.impossible(f"the weights of {layer.name} are made before it is called")
        setattr(layer, name, width)
        patches.applied.count += 1

    patches.at_layers(change)
    patches.expect(what)


def widen(patches: Patches) -> None:
    """The dense layer or convolution of this name gets `width` units; what follows takes them as they come."""
    name = str(patches.arguments["layer"])
    _resized(
        patches, int(patches.number("width", 64)), lambda layer: layer.name == name, True,
        f"no narrow layer of the name {name} was made",
    )  # fmt: skip


def resize_head(patches: Patches) -> None:
    place = patches.place()
    if place is None:
        raise patches.applied.impossible("the line that makes the last layer is not known")
    units = int(patches.number("units"))
    _resized(
        patches, units, lambda layer: _linear(layer) and patches.is_made_at(layer, place), False,
        "no dense layer was made at the given line",
    )  # fmt: skip


# -------------------------------------------------------------------------------------------------- between layers


class Passing:
    """Marks on the tensors that pass from layer to layer within one call of a model."""

    def __init__(self, patches: Patches, before: Callable[[Any, Any], Any], after: Callable[[Any, Any, Any], None]) -> None:
        """`before(layer, x)` returns the first argument as it is to be used; `after(layer, x, out)` may mark `out`."""
        self.marks: dict[int, tuple[Any, Any]] = {}  # id of a tensor -> (the tensor, its mark)
        depth = 0

        def make(original: Any) -> Any:
            def __call__(layer: Any, *args: Any, **kwargs: Any) -> Any:
                nonlocal depth
                depth += 1
                try:
                    if args:
                        args = (before(layer, args[0]), *args[1:])
                    out = original(layer, *args, **kwargs)
                    if args:
                        after(layer, args[0], out)
                    return out
                finally:
                    depth -= 1
                    if not depth:
                        self.marks.clear()

            return __call__

        patches.replace(patches.owner(patches.keras.layers.Layer, "__call__"), "__call__", make)

    def mark(self, tensor: Any, value: Any = True) -> None:
        self.marks[id(tensor)] = tensor, value

    def marked(self, tensor: Any) -> Any:
        found = self.marks.get(id(tensor))
        return found[1] if found is not None and found[0] is tensor else None


def _linear(layer: Any) -> bool:
    return bool(_kinds(layer) & {"Dense", "EinsumDense", "BaseConv"})


def add_activation(patches: Patches) -> None:
    """ReLU on what one dense layer or convolution hands to the next, also through dropout, norms and reshapes."""
    ops = patches.keras.ops

    def before(layer: Any, x: Any) -> Any:
        if _linear(layer) and passing.marked(x):
            patches.applied.count += 1
            return ops.relu(x)
        return x

    def after(layer: Any, x: Any, out: Any) -> None:
        straight = getattr(layer, "activation", None) is None or called(layer.activation) == "linear"
        if (_linear(layer) and straight) or (_kinds(layer) & _CARRIES and passing.marked(x)):
            passing.mark(out)

    passing = Passing(patches, before, after)
    patches.expect("no linear layer follows another directly")


def rectify_sigmoids(patches: Patches) -> None:
    """What a dense layer or convolution gets from a sigmoid it gets from a ReLU on the same numbers. Results of sigmoids that go
    anywhere else (a loss, a gate) stay."""
    ops = patches.keras.ops

    def sigmoid(original: Any) -> Any:
        def changed(x: Any) -> Any:
            out = original(x)
            passing.mark(out, x)
            return out

        return changed

    def before(layer: Any, x: Any) -> Any:
        under = passing.marked(x) if _linear(layer) else None
        if under is None:
            return x
        patches.applied.count += 1
        return ops.relu(under)

    passing = Passing(patches, before, lambda layer, x, out: None)
    patches.replace(patches.keras.src.backend.nn, "sigmoid", sigmoid)
    patches.expect("no sigmoid hands its output to a layer")


KINDS: dict[str, Callable[[Patches], None]] = {
    "unfreeze": unfreeze,
    "reinitialise": reinitialise,
    "set-dropout": set_dropout,
    "train-mode": train_mode,
    "batch-statistics": batch_statistics,
    "full-precision": full_precision,
    "widen": widen,
    "resize-head": resize_head,
    "add-activation": add_activation,
    "rectify-sigmoids": rectify_sigmoids,
}
