"""Interventions on how Keras' optimizers step: learning rate, clipping, weight decay, the rule of the step."""

from __future__ import annotations

import inspect
import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from unstuck.experiments.keras_patches import Patches

_THRESHOLDS = ("clipnorm", "global_clipnorm", "clipvalue")
_PENALTIES = ("L1L2", "L1", "L2")


def _inner(optimizer: Any) -> Any:
    """Mixed precision wraps the optimizer."""
    return getattr(optimizer, "inner_optimizer", optimizer)


# -------------------------------------------------------------------------------------------------- learning rate


def scale_learning_rate(patches: Patches) -> None:
    factor = patches.number("factor")
    patches.at_rate(lambda optimizer, rate: patches.keras.ops.multiply(rate, factor))


def set_learning_rate(patches: Patches) -> None:
    lr = patches.number("lr")
    patches.at_rate(lambda optimizer, rate: patches.keras.ops.convert_to_tensor(lr, dtype="float32"))


def constant_learning_rate(patches: Patches) -> None:
    """The rate that the optimizer was made with, before any schedule or callback: a schedule's own first rate, or what its warm-up
    leads to. Where that is 0 from the start: the default of the optimizer's class."""
    first: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()

    def make(original: Any) -> Any:
        def __init__(optimizer: Any, learning_rate: Any, *args: Any, **kwargs: Any) -> None:
            original(optimizer, learning_rate, *args, **kwargs)
            rate = _first_rate(learning_rate)
            first[optimizer] = rate if rate > 0 else _default_rate(type(optimizer))

        return __init__

    def change(optimizer: Any, rate: Any) -> Any:
        lr = first.get(optimizer)
        return rate if lr is None else patches.keras.ops.convert_to_tensor(lr, dtype="float32")

    patches.replace(patches.optimizer, "__init__", make)
    patches.at_rate(change)


def _first_rate(given: Any) -> float:
    """Of a number, or of one of Keras' schedules; 0 where it cannot be told."""
    for name in ("warmup_target", "initial_learning_rate", "values"):
        value = getattr(given, name, None)
        if value is not None:
            return float(value[0] if name == "values" else value)
    try:
        return float(np.asarray(given(0) if callable(given) else given))
    except (TypeError, ValueError):
        return 0.0


def _default_rate(cls: type) -> float:
    parameter = inspect.signature(cls).parameters.get("learning_rate")
    return float(parameter.default) if parameter is not None and isinstance(parameter.default, (int, float)) else 1e-3


def adaptive_optimizer(patches: Patches) -> None:
    """A model that is compiled with Keras' SGD gets Adam, with the same clipping."""
    lr = patches.number("lr", 1e-3)
    optimizers = patches.keras.optimizers

    def make(original: Any) -> Any:
        signature = inspect.signature(original)

        def compile(model: Any, *args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(model, *args, **kwargs)
            given = optimizers.get(bound.arguments.get("optimizer", "rmsprop"))
            if given is not None and type(_inner(given)).__name__ == "SGD":
                thresholds = {name: value for name in _THRESHOLDS if (value := getattr(_inner(given), name, None))}
                bound.arguments["optimizer"] = optimizers.Adam(lr, **thresholds)
                patches.applied.count += 1
            return original(*bound.args, **bound.kwargs)

        return compile

    patches.replace(patches.owner(patches.keras.Model, "compile"), "compile", make)
    patches.expect("no model is compiled with SGD")


# -------------------------------------------------------------------------------------------------- clipping and decay


def _clipping(patches: Patches, make: Callable[[Any], Any]) -> None:
    patches.replace(patches.optimizer, "_clip_gradients", make)


def clip_gradients(patches: Patches) -> None:
    """By the norm of all gradients together, after whatever the script clips itself."""
    norm = patches.number("norm", 1.0)
    module = sys.modules["keras.src.optimizers.base_optimizer"]

    def make(original: Any) -> Any:
        def _clip_gradients(optimizer: Any, grads: Any) -> Any:
            patches.applied.count += 1
            return module.clip_by_global_norm([_dense(g) for g in original(optimizer, grads)], norm)

        return _clip_gradients

    _clipping(patches, make)
    patches.expect("no optimizer of Keras takes the steps")


def _dense(gradient: Any) -> Any:
    """TensorFlow's gradients of an embedding are rows and their indices."""
    if type(gradient).__name__ == "IndexedSlices":
        return sys.modules["tensorflow"].convert_to_tensor(gradient)
    return gradient


def _with(optimizer: Any, names: tuple[str, ...], change: Callable[[float], float], run: Callable[[], Any]) -> tuple[Any, bool]:
    """(the result of `run` while these attributes are changed, was there one)."""
    before = {name: value for name in names if (value := getattr(optimizer, name, None))}
    for name, value in before.items():
        setattr(optimizer, name, change(value))
    try:
        return run(), bool(before)
    finally:
        for name, value in before.items():
            setattr(optimizer, name, value)


def scale_clipping(patches: Patches) -> None:
    factor = patches.number("factor")

    def make(original: Any) -> Any:
        def _clip_gradients(optimizer: Any, grads: Any) -> Any:
            out, clips = _with(optimizer, _THRESHOLDS, lambda old: old * factor, lambda: original(optimizer, grads))
            patches.applied.count += clips
            return out

        return _clip_gradients

    _clipping(patches, make)
    patches.expect("no optimizer of Keras clips its gradients")


def no_clipping(patches: Patches) -> None:
    def make(original: Any) -> Any:
        def _clip_gradients(optimizer: Any, grads: Any) -> Any:
            patches.applied.count += any(getattr(optimizer, name, None) for name in _THRESHOLDS)
            return grads

        return _clip_gradients

    _clipping(patches, make)
    patches.expect("no optimizer of Keras clips its gradients")


def scale_weight_decay(patches: Patches) -> None:
    """That of the optimizer, and the penalties of Keras' regularizers on weights, which are the same thing for plain SGD."""
    factor = patches.number("factor")

    def make(original: Any) -> Any:
        def _apply_weight_decay(optimizer: Any, variables: Any) -> Any:
            out, decays = _with(optimizer, ("weight_decay",), lambda old: old * factor, lambda: original(optimizer, variables))
            patches.applied.count += decays
            return out

        return _apply_weight_decay

    def penalty(original: Any) -> Any:
        def __call__(regularizer: Any, x: Any) -> Any:
            patches.applied.count += 1
            return original(regularizer, x) * factor

        return __call__

    # The TensorFlow and torch backends have a decay of their own, in a class between.
    owners = {c for c in patches.keras.optimizers.Optimizer.__mro__ if "_apply_weight_decay" in vars(c)}
    for owner in owners:
        patches.replace(owner, "_apply_weight_decay", make)
    for name in _PENALTIES:
        patches.replace(getattr(patches.keras.regularizers, name), "__call__", penalty)
    patches.expect("no optimizer decays the weights, and no layer is regularised")


# -------------------------------------------------------------------------------------------------- nothing


def placebo(patches: Patches) -> None:
    """The hooks of all boundaries, no change."""

    def loss(given: Any) -> None:
        patches.applied.count += 1

    patches.at_layers(lambda layer: None)
    patches.at_loss(loss, anywhere=True)
    patches.at_fit(lambda model, name, arguments: None)
    patches.at_start(lambda model: None)
    patches.at_rate(lambda optimizer, rate: rate)


KINDS: dict[str, Callable[[Patches], None]] = {
    "placebo": placebo,
    "scale-learning-rate": scale_learning_rate,
    "set-learning-rate": set_learning_rate,
    "constant-learning-rate": constant_learning_rate,
    "adaptive-optimizer": adaptive_optimizer,
    "clip-gradients": clip_gradients,
    "scale-clipping": scale_clipping,
    "no-clipping": no_clipping,
    "scale-weight-decay": scale_weight_decay,
}
