"""Interventions on Keras' losses and on what stands between them and the last layer."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from unstuck.experiments.change import Place
from unstuck.experiments.keras_patches import Given, Patches, called
from unstuck.observe import sites

# A cross-entropy of Keras, the activation that its from_logits stands for.
_WANTS = {
    "binary_crossentropy": "sigmoid", "categorical_crossentropy": "softmax", "sparse_categorical_crossentropy": "softmax",
}  # fmt: skip


# -------------------------------------------------------------------------------------------------- activations


class Heads:
    """Takes an activation away: from the layers made at a line, and from calls of Keras' functions on that line.

    `call` = k: of several at that line the k-th, which is the last. `count` is how many were taken away; `counted()` is called
    for each.
    """

    def __init__(
        self, patches: Patches, activation: str, place: Place | None, call: int = 1, counted: Callable[[], None] = lambda: None
    ) -> None:
        self.patches, self.activation, self.place, self.call = patches, activation.replace("-", "_"), place, call
        self.counted = counted
        self.count = self.met = 0
        self.removed: list[Any] = []  # layers that are nothing but the activation
        if place is None:
            return
        patches.at_layers(self._layer)
        keras = patches.keras
        for owner in (keras.activations, keras.ops, keras.ops.nn):
            if hasattr(owner, self.activation):
                patches.replace(owner, self.activation, self._function)

    def _is_it(self) -> bool:
        self.met += 1
        if self.met % self.call:
            return False
        self.count += 1
        self.counted()
        return True

    def _layer(self, layer: Any) -> None:
        assert self.place is not None
        own = getattr(layer, "activation", None)
        whole = called(type(layer)) == self.activation
        if not (whole or (own is not None and called(own) == self.activation)) or not self.patches.is_made_at(layer, self.place):
            return
        if not self._is_it():
            return
        if not whole:
            layer.activation = self.patches.keras.activations.linear
            return
        if not self.removed:
            self.patches.replace(self.patches.owner(type(layer), "call"), "call", self._skipping)
        self.removed.append(layer)

    def _skipping(self, original: Any) -> Any:
        def call(layer: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            return inputs if any(r is layer for r in self.removed) else original(layer, inputs, *args, **kwargs)

        return call

    def _function(self, original: Any) -> Any:
        def activation(x: Any, *args: Any, **kwargs: Any) -> Any:
            frame = sys._getframe(2)
            assert self.place is not None
            if sites.owner(frame.f_code.co_filename) == "user" and self.place.is_at(frame) and self._is_it():
                return x
            return original(x, *args, **kwargs)

        return activation


def remove_activation(patches: Patches) -> None:
    activation = str(patches.arguments["activation"])

    def counted() -> None:
        patches.applied.count += 1

    Heads(patches, activation, patches.place(), int(patches.number("call", 1)), counted)
    patches.expect(f"no {activation} was made or called at the given line")


def change_dim(patches: Patches) -> None:
    """The Softmax layer made at file:line, or the call of Keras' softmax on that line, runs over another axis."""
    dim, place = int(patches.number("dim")), patches.place()

    def layer(thing: Any) -> None:
        if type(thing).__name__ == "Softmax" and (place is None or patches.is_made_at(thing, place)):
            thing.axis = dim
            patches.applied.count += 1

    def make(original: Any) -> Any:
        def softmax(x: Any, *args: Any, **kwargs: Any) -> Any:
            frame = sys._getframe(2)
            if sites.owner(frame.f_code.co_filename) == "user" and (place is None or place.is_at(frame)):
                patches.applied.count += 1
                return original(x, axis=dim)
            return original(x, *args, **kwargs)

        return softmax

    patches.at_layers(layer)
    for owner in (patches.keras.activations, patches.keras.ops, patches.keras.ops.nn):
        for name in ("softmax", "log_softmax"):
            patches.replace(owner, name, make)
    patches.expect("no softmax was made or called at the given line")


# -------------------------------------------------------------------------------------------------- losses


def copied(loss: Any) -> Any:
    """A shallow copy. (copy.copy would ask Keras to save the loss and to load it again.)"""
    other = object.__new__(type(loss))
    other.__dict__.update(loss.__dict__)
    return other


def rewritten(loss: Any, call: Callable[[Any, Any], Any]) -> Any:
    """A copy of a loss that is computed by `call(y_true, y_pred)` -> one number a sample; reduced and weighted as before."""
    other = copied(loss)
    other.call = call
    return other


def options(loss: Any) -> dict[str, Any]:
    return dict(getattr(loss, "_fn_kwargs", {}))


def function(loss: Any) -> str:
    """Keras' own name of the function that a loss computes; '' where it is a class of the script's."""
    return str(getattr(getattr(loss, "fn", None), "__name__", ""))


def insert_activation(patches: Patches) -> None:
    """The outputs go through the activation before the loss. A cross-entropy that can take logits is told that it gets them: the
    same number without the rounding between."""
    name = str(patches.arguments["activation"])

    def change(given: Given) -> Any:
        loss = given.loss
        wanted = _WANTS.get(function(loss))
        activation = getattr(patches.keras.activations, name)
        if patches.place() is None and wanted is not None and wanted != name:
            return None
        patches.applied.count += 1
        if wanted == name and "from_logits" in options(loss):
            other = copied(loss)
            other._fn_kwargs = options(loss) | {"from_logits": True}
            return other
        return rewritten(loss, lambda y, p: loss.call(y, activation(p)))

    patches.at_loss(change, "no loss was compiled that wants this activation")


def replace_loss(patches: Patches) -> None:
    """The cross-entropy that fits the shapes of targets and outputs, on logits where the activation under the old loss is named
    and could be taken away. Which one is known when the shapes are: class numbers or one-hot rows, one unit or several."""
    wanted = str(patches.arguments["loss"])
    if wanted not in {"cross_entropy", "bce_with_logits"}:
        raise patches.applied.impossible(f"no experiment replaces a loss by {wanted}")
    activation = str(patches.arguments.get("activation", "")).replace("-", "_")
    heads = Heads(patches, activation, patches.place("activation_")) if activation else None

    def change(given: Given) -> Any:
        loss = given.loss
        logits = bool(options(loss).get("from_logits", False))  # a cross-entropy that is exchanged for another keeps this
        if patches.arguments.get("logits") or (heads is not None and heads.count):
            logits = True
        elif function(loss) not in _WANTS:
            logits = activation not in {"softmax", "sigmoid"}
        form, to_rows = _form(patches, given, wanted, one_unit=activation == "softmax" and heads is not None and not heads.count)
        patches.applied.count += 1
        new = _loss(patches, form, loss, logits)
        return new if to_rows is None else rewritten(new, lambda y, p: new.call(to_rows(y), p))

    patches.at_loss(change, "no such loss was compiled or called")


def _loss(patches: Patches, form: str, old: Any, logits: bool) -> Any:
    names = {
        "binary_crossentropy": "BinaryCrossentropy", "categorical_crossentropy": "CategoricalCrossentropy",
        "sparse_categorical_crossentropy": "SparseCategoricalCrossentropy",
    }  # fmt: skip
    return getattr(patches.keras.losses, names[form])(from_logits=logits, reduction=old.reduction)


def _form(patches: Patches, given: Given, wanted: str, one_unit: bool) -> tuple[str, Callable[[Any], Any] | None]:
    """(the cross-entropy, what makes rows of the targets where it needs them). Shapes: targets [..] or [.., 1] of class numbers,
    or [.., K] like the outputs [.., K]."""
    y, p = given.target_shape, given.output_shape
    units = p[-1] if p else 1
    numbers = len(y) == len(p) - 1 or (len(y) == len(p) and y[-1] == 1 and units != 1)
    rows = len(y) == len(p) and y[-1] == units
    if units == 1 or len(p) < 2:
        if one_unit:
            raise patches.applied.impossible("the softmax over one unit was not found, and nothing is left of what went into it")
        if not rows and not (len(y) == len(p) - 1 and units == 1) and y != p:
            raise patches.applied.impossible(f"targets {_shown(y)} do not fit outputs {_shown(p)}")
        return "binary_crossentropy", None
    if not numbers and not rows:
        raise patches.applied.impossible(f"targets {_shown(y)} do not fit outputs {_shown(p)}")
    if wanted == "bce_with_logits":
        one_hot = functools.partial(_one_hot, patches.keras, units)
        return "binary_crossentropy", one_hot if numbers else None
    return ("sparse_categorical_crossentropy" if numbers else "categorical_crossentropy"), None


def _one_hot(keras: Any, units: int, y: Any) -> Any:
    y = keras.ops.cast(y, "int32")
    return keras.ops.one_hot(keras.ops.squeeze(y, -1) if len(y.shape) > 1 and y.shape[-1] == 1 else y, units)


def _shown(shape: list[int | None]) -> str:
    return " x ".join("rows" if n is None else str(n) for n in shape) or "a number"


def negate_loss(patches: Patches) -> None:
    """A negative loss is negated, so that what is recorded is the loss that is minimised; one that was right and is climbed keeps
    its value and gets the negative gradient."""
    ops = patches.keras.ops

    def change(given: Given) -> Any:
        loss = given.loss

        def call(y: Any, p: Any) -> Any:
            value = loss.call(y, p)
            return ops.where(value < 0, -value, 2 * ops.stop_gradient(value) - value)

        patches.applied.count += 1
        return rewritten(loss, call)

    patches.at_loss(change, "no loss was compiled")


def scale_loss(patches: Patches) -> None:
    """Of its gradient; its value, which is compared with levels, stays."""
    factor, ops = patches.number("factor"), patches.keras.ops

    def change(given: Given) -> Any:
        loss = given.loss

        def call(y: Any, p: Any) -> Any:
            value = loss.call(y, p)
            return factor * value + (1 - factor) * ops.stop_gradient(value)

        patches.applied.count += 1
        return rewritten(loss, call)

    patches.at_loss(change, "no loss was compiled")


def mean_reduction(patches: Patches) -> None:
    def change(given: Given) -> Any:
        if given.loss.reduction != "sum":
            return None
        patches.applied.count += 1
        other = copied(given.loss)
        other.reduction = "sum_over_batch_size"
        return other

    patches.at_loss(change, 'no loss with reduction="sum" was compiled')


def align_targets(patches: Patches) -> None:
    """Targets take the shape of the outputs, where they hold as many numbers: [N] and [N, 1]."""
    ops = patches.keras.ops

    def change(given: Given) -> Any:
        y, p, loss = given.target_shape, given.output_shape, given.loss
        if y == p or len(y) == len(p) or [n for n in y if n != 1] != [n for n in p if n != 1]:
            return None
        patches.applied.count += 1
        return rewritten(loss, lambda targets, outputs: loss.call(ops.reshape(targets, ops.shape(outputs)), outputs))

    patches.at_loss(change, "no targets were seen whose shape differs from the outputs'")


KINDS: dict[str, Callable[[Patches], None]] = {
    "remove-activation": remove_activation,
    "insert-activation": insert_activation,
    "change-dim": change_dim,
    "replace-loss": replace_loss,
    "negate-loss": negate_loss,
    "scale-loss": scale_loss,
    "mean-reduction": mean_reduction,
    "align-targets": align_targets,
}
