"""Keras' own objects -> facts: the compiled loss, the optimizer, the weights, the layers that know two modes."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from unstuck.observe.keras_probes import Structure
from unstuck.observe.keras_values import CATEGORICAL, units_first
from unstuck.trace.facts import Clipping, Facts, LossTerm, ModeLayer, Optimizer, Parameter, Site

DEEP = frozenset({1, 2, 3, 4, 6, 10, 20, 35, 50, 75, 100, 150, 200, 300, 500})
# Keras' names for its losses, classes and functions, in lower case without underscores.
_KINDS = {
    "sparsecategoricalcrossentropy": "cross-entropy", "categoricalcrossentropy": "cross-entropy", "binarycrossentropy": "bce",
    "meansquarederror": "mse", "mse": "mse", "meanabsoluteerror": "l1", "mae": "l1", "meanabsolutepercentageerror": "mape",
    "mape": "mape", "huber": "huber", "logcosh": "smooth-l1", "poisson": "poisson", "kldivergence": "kl", "kld": "kl",
}  # fmt: skip
_RAW = {
    "sparsecategoricalcrossentropy": "sparse_categorical_crossentropy", "categoricalcrossentropy": "categorical_crossentropy",
    "binarycrossentropy": "binary_crossentropy",
}  # fmt: skip
_ADAPTIVE = ("adam", "rmsprop", "adagrad", "adadelta", "nadam", "adafactor", "lion", "ftrl", "lamb", "muon", "adamax")


def loss_term(
    keras: Any, model: Any, y: Any, made: Callable[[Any], Site | None], compiled: Site | None
) -> tuple[LossTerm, str]:  # fmt: skip
    """(the compiled loss as a term, why it is not judged or ''). `y`: the targets of the first batch, or None."""
    wrapper = getattr(model, "_compile_loss", None)
    given = getattr(wrapper, "_user_loss", None)
    term = LossTerm("unknown", site=compiled)
    if wrapper is None or given is None:
        return term, "" if y is not None else "there is no compiled loss, or no labels for it"
    flat = [t for t in keras.tree.flatten(given) if t is not None] if isinstance(given, (dict, list, tuple)) else [given]
    outputs = getattr(model, "outputs", None)
    if len(flat) != 1 or (outputs is not None and len(outputs) > 1):
        return term, "the model has several outputs, each with a loss of its own"
    resolved = [entry.loss for entry in wrapper._flat_losses or ()]
    loss = resolved[0] if resolved else given[0] if isinstance(given, (list, tuple)) else given
    asked = flat[0]
    name = asked if isinstance(asked, str) else getattr(asked, "__name__", type(asked).__name__)
    resolved_name = getattr(getattr(loss, "fn", loss), "__name__", type(loss).__name__)
    key = next((k for k in (_key(resolved_name), _key(type(loss).__name__), _key(str(name))) if k in _KINDS), "")
    options = {**getattr(loss, "_fn_kwargs", {})}
    term.kind, term.raw = _KINDS.get(key, "unknown"), _RAW.get(key, str(name))
    term.made = made(asked) if not isinstance(asked, str) else None
    term.reduction = str(getattr(loss, "reduction", "") or "").replace("sum_over_batch_size", "mean")
    term.coefficient = 1.0
    term.label_smoothing = float(options.get("label_smoothing") or 0.0)
    term.ignore_index = options.get("ignore_class")
    logits = bool(options.get("from_logits", False))
    if term.kind == "bce" and logits:
        term.kind = "bce-logits"
    shape = _output_shape(model)
    if shape:
        term.input_shape = [n or 0 for n in shape]
        term.classes = int(shape[-1] or 0) or None
        term.class_axis = term.feature_axis = len(shape) - 1 if term.kind in CATEGORICAL else None
    if y is not None:
        term.target_shape = [int(n) if n is not None else 0 for n in y.shape]
        if term.input_shape and not term.input_shape[0] and term.target_shape:
            term.input_shape[0] = term.target_shape[0]
    if y is None:
        return term, "the targets of a step are not one array"
    return term, ""


def _key(name: str) -> str:
    return name.replace("_", "").lower()


def _output_shape(model: Any) -> list[int | None] | None:
    """None for a subclassed model: the first traced step tells it."""
    shape = model.output_shape if getattr(model, "outputs", None) is not None else None
    return list(shape) if isinstance(shape, (tuple, list)) and not isinstance(shape[0], (tuple, list)) else None


def adopt_structure(facts: Facts, found: Structure, parameters: list[tuple[Any, Parameter]]) -> None:
    """What a trace of the forward pass and the loss says about the judged term."""
    term = facts.terms[0]
    if found.kind and found.losses == 1:
        term.kind, term.raw = found.kind, found.raw
        term.input_shape = found.input_shape or term.input_shape
        term.site = term.site or found.site
    elif term.input_shape is None:
        term.input_shape = found.input_shape
    if term.input_shape:
        term.classes = term.input_shape[-1] or term.classes
        term.class_axis = term.feature_axis = len(term.input_shape) - 1 if term.kind in CATEGORICAL else None
    term.path, term.path_end = found.path, found.end
    if found.end == "hidden":
        term.hidden = "an operation outside Keras"
    order = {name: i for i, name in enumerate(found.order)}
    for _, record in parameters:
        record.order = order.get(record.name)
    if found.operations is not None:
        facts.operations = found.operations
    else:
        facts.absent["operations"] = "some operations of the forward pass are not Keras'"


def optimizer_record(keras: Any, optimizer: Any, made: Site | None, step_site: Site | None) -> Optimizer:
    """An optimizer that is about to step. Keras' weight decay acts on the weights themselves, in every optimizer."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    kind = type(inner).__name__
    scheduled = isinstance(getattr(inner, "_learning_rate", None), keras.optimizers.schedules.LearningRateSchedule)
    momentum = getattr(inner, "momentum", 0.0)
    # get_config() reads variables, which JAX has taken out of the model while fit runs.
    options = {k: v for k, v in vars(inner).items() if isinstance(v, (int, float, bool)) and not k.startswith("_")}
    return Optimizer(
        kind, made, step_site, tensors=len(getattr(inner, "_trainable_variables", ())),
        weight_decay=float(getattr(inner, "weight_decay", 0.0) or 0.0), scheduler=made if scheduled else None, decoupled=True,
        momentum=float(momentum) if isinstance(momentum, float) else 0.0, adaptive=any(w in kind.lower() for w in _ADAPTIVE),
        hyper=", ".join(f"{k}={v}" for k, v in options.items())[:200],
    )  # fmt: skip


def update_clippings(facts: Facts, optimizer: Any, gradients: list[np.ndarray], made: Site | None) -> None:
    """The clipping that the optimizer was built with, and what it met in these gradients (before clipping)."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    for name, kind in (("global_clipnorm", "norm"), ("clipnorm", "norm"), ("clipvalue", "value")):
        threshold = getattr(inner, name, None)
        if not threshold:
            continue
        clipping = next((c for c in facts.clippings if c.kind == kind and c.threshold == float(threshold)), None)
        if clipping is None:
            clipping = Clipping(kind, float(threshold), site=made)
            facts.clippings.append(clipping)
        if not gradients:
            continue
        if name == "global_clipnorm":
            met = math.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in gradients))
        elif name == "clipnorm":
            met = max(math.sqrt(float(np.square(g, dtype=np.float64).sum())) for g in gradients)
        else:
            met = max(float(np.abs(g).max()) for g in gradients if g.size)
        clipping.calls += 1
        clipping.active += met > clipping.threshold
        clipping.met(met)


def weights_of(model: Any, made: Callable[[Any], Site | None]) -> list[tuple[Any, Parameter]]:
    """The weights of a model that are trained, or would be if they were not frozen; no running averages, no seeds."""
    live = {id(v) for v in model.trainable_variables}
    found: list[tuple[Any, Parameter]] = []
    seen: set[int] = set()
    names: dict[str, int] = {}
    for layer in model._flatten_layers():
        for v in layer._trainable_variables:
            if id(v) in seen:
                continue
            seen.add(id(v))
            name = f"{layer.name}.{v.name}"
            names[name] = names.get(name, 0) + 1
            name = name if names[name] == 1 else f"{name}_{names[name]}"
            shape = [int(n) for n in v.shape]
            found.append((v, Parameter(
                name, units_first(shape), trainable=id(v) in live, dtype=str(v.dtype), made=made(_named(model, layer)),
                transposed=len(shape) == 2 and "embedding" not in v.name,
            )))  # fmt: skip
    return found


def _named(model: Any, layer: Any) -> Any:
    """The layer itself; for the cell inside an RNN the RNN, which is what the script constructed."""
    for outer in model._flatten_layers():
        if getattr(outer, "cell", None) is layer:
            return outer
    return layer


def mode_layers(model: Any, made: Callable[[Any], Site | None]) -> list[tuple[Any, ModeLayer]]:
    """Dropout and batch-norm layers. Keras' momentum is the share of the old average; a frozen batch norm uses its averages
    in training, too."""
    found = []
    for layer in model._flatten_layers():
        kinds = {c.__name__ for c in type(layer).__mro__ if c.__module__.startswith("keras.")}
        if kinds & {"BaseDropout", "Dropout"} and getattr(layer, "rate", 0):
            found.append((layer, ModeLayer("dropout", layer.name, made(layer), float(layer.rate))))
        elif "BatchNormalization" in kinds:
            record = ModeLayer("batch-norm", layer.name, made(layer), momentum=1 - float(layer.momentum))
            record.evaluating = int(not layer.trainable)
            found.append((layer, record))
    return found[:64]


def phase_of(error: BaseException) -> str:
    """loss, forward or step: by the innermost of Keras' files that the traceback passes. Keras cuts its tracebacks, so the
    message is asked as well."""
    text = str(error)
    files = [frame.filename.replace("\\", "/") for frame in traceback.extract_tb(error.__traceback__)]
    if any("/losses/" in f or f.endswith("compile_utils.py") for f in files):
        return "loss"
    if "`target` and `output`" in text or "`target.ndim" in text or "y_true" in text or "crossentropy" in text:
        return "loss"
    return "forward" if any("/layers/" in f or "/ops/" in f for f in files) else "step"
