"""Interventions on the loss call and on what stands between it and the model's last layer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from unstuck.experiments.patches import LOSSES, Call, Patches, surroundings

# The functions that are the activation; its in-place form has an underscore more.
_SAME = {
    "clamp": ("clamp", "clip", "hardtanh", "relu6"),
    "sigmoid": ("sigmoid", "hardsigmoid", "expit"),
    "log_sigmoid": ("logsigmoid",),
    "relu": ("relu", "threshold", "clamp_min"),
}
_CALLED = {
    "bce": "binary_cross_entropy", "bce_with_logits": "binary_cross_entropy_with_logits", "mse": "mse_loss", "l1": "l1_loss",
    "nll": "nll_loss", "smooth_l1": "smooth_l1_loss", "huber": "huber_loss", "kl": "kl_div",
}  # fmt: skip
_LOGITS = ("softmax", "log_softmax", "sigmoid")  # what makes probabilities of logits
MAX_MADE = 64


def _owners(activation: str) -> list[tuple[Any, str]]:
    names = _SAME.get(activation, (activation,))
    return [
        (owner, name + end)
        for name in names for end in ("", "_") for owner in (F, torch, torch.Tensor, torch.special) if hasattr(owner, name + end)
    ]  # fmt: skip


class Undo:
    """Finds the input of an activation from its output, or from views of the output.

    Each activation's graph node is kept with its input until the next backward (a C++ node has the same Python object
    for as long as somebody holds it). From a loss input the graph is followed down through operations that only move
    numbers; if it ends at such a node, the same operations are applied to the activation's input. Nothing is computed
    that the script without the activation would not compute, so that the result is the same to the last bit.
    """

    def __init__(self, patches: Patches, activations: tuple[str, ...]) -> None:
        self.patches = patches
        self.made: dict[Any, tuple[str, Any]] = {}
        for activation in activations:
            for owner, name in _owners(activation):
                patches.replace(owner, name, functools.partial(self._remembering, activation))
        patches.around_backward(after=lambda roots: self.made.clear())

    def _remembering(self, activation: str, original: Any) -> Any:
        def changed(*args: Any, **kwargs: Any) -> Any:
            out = self.patches.call(original, *args, **kwargs)
            self.note(activation, _first(args, kwargs), out)
            return out

        return changed

    def note(self, activation: str, given: Any, out: Any) -> None:
        if isinstance(out, torch.Tensor) and out.grad_fn is not None and out is not given:
            self.made[out.grad_fn] = (activation, given)
            if len(self.made) > MAX_MADE:
                self.made.pop(next(iter(self.made)))

    def before(self, tensor: Any) -> tuple[str, Any] | None:
        """(activation, what `tensor` would be without it)."""
        if not isinstance(tensor, torch.Tensor):
            return None
        node, shape, moves = tensor.grad_fn, tuple(tensor.shape), []
        while node is not None and node not in self.made:
            move = _move(node, shape, tensor.dtype)
            if move is None:
                return None
            apply, shape = move
            moves.append(apply)
            node = node.next_functions[0][0]
        if node is None:
            return None
        activation, out = self.made[node]
        for apply in reversed(moves):
            out = apply(out)
        return activation, out


def _move(node: Any, shape: tuple[int, ...], dtype: Any) -> tuple[Callable[[Any], Any], tuple[int, ...]] | None:
    """(the operation of a graph node that only moves numbers, the shape of its input); None for any other node.

    `shape` is that of its output. Nodes save what they need for going back, which is what their input looked like.
    """
    name = type(node).__name__.removesuffix("0").removesuffix("1").removesuffix("2").removesuffix("Backward")
    sizes = tuple(getattr(node, "_saved_self_sym_sizes", ()))
    match name:
        case "View" | "UnsafeView" | "ReshapeAlias" | "_Reshape" | "Squeeze":
            return (lambda t: t.reshape(shape)), sizes
        case "Unsqueeze":
            axis = _axis(node._saved_dim, len(shape))
            return (lambda t: t.unsqueeze(axis)), shape[:axis] + shape[axis + 1 :]
        case "Transpose":
            a, b = _axis(node._saved_dim0, len(shape)), _axis(node._saved_dim1, len(shape))
            before = list(shape)
            before[a], before[b] = shape[b], shape[a]
            return (lambda t: t.transpose(a, b)), tuple(before)
        case "T":
            return (lambda t: t.t()), shape[::-1]
        case "Permute":
            dims = [_axis(d, len(shape)) for d in node._saved_dims]
            return (lambda t: t.permute(dims)), tuple(shape[dims.index(i)] for i in range(len(dims)))
        case "Clone":
            return (lambda t: t.contiguous()), shape
        case "Alias":
            return (lambda t: t), shape
        case "ToCopy":
            return (lambda t: t.to(dtype)), shape
        case "Slice":
            axis = _axis(node._saved_dim, len(sizes))
            index = (slice(None),) * axis + (slice(node._saved_start, node._saved_end, node._saved_step),)
            return (lambda t: t[index]), sizes
        case "Select":
            axis, at = _axis(node._saved_dim, len(sizes)), node._saved_index
            return (lambda t: t.select(axis, at)), sizes
        case "Index":
            rows = tuple(slice(None) if i is None else i for i in node._saved_indices)
            return (lambda t: t[rows]), sizes
        case _:
            return None


def _axis(number: int, dims: int) -> int:
    """Saved axes are unsigned: -1 is 2^64 - 1."""
    number = number - 2**64 if number >= 2**63 else number
    return number % dims if dims else 0


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs.get("input", kwargs.get("self"))


def inverse(tensor: Any, activation: str) -> Any:
    """What gives this output, up to what the loss does not see: the log of a softmax differs from the logits by a number
    per row, which the softmax of the loss removes. None for an activation that cannot be inverted."""
    info = torch.finfo(tensor.dtype)
    match activation:
        case "softmax":
            return torch.log(tensor.clamp_min(info.tiny))
        case "log_softmax":
            return tensor
        case "sigmoid":
            return torch.logit(tensor.clamp(info.tiny, 1 - info.eps))
        case "tanh":
            return torch.atanh(tensor.clamp(info.eps - 1, 1 - info.eps))
        case _:
            return None


class Calls:
    """Which call of an activation is the one at file:line.

    A call is it when the innermost of torch's modules that is running was constructed there, or when the user's
    innermost line is there and that module, if any, is the activation itself: a softmax inside an attention layer that is
    run from the same line is not meant. `call` = k: of the calls in a forward pass the k-th, which is the last.
    """

    def __init__(self, patches: Patches, activation: str) -> None:
        self.patches = patches
        self.place = patches.place()
        self.every = int(patches.number("call", 1))
        self.seen = 0
        self.names = {n.replace("_", "") for n in (*_SAME.get(activation, ()), activation)}
        if self.place is not None:
            patches.remember_modules()

    def is_it(self) -> bool:
        if self.place is None:
            return False
        modules, frame = surroundings()
        made = bool(modules) and self.patches.is_made_at(modules[0], self.place)
        if not made and not self.place.is_at(frame):
            return False
        if not made and modules and type(modules[0]).__name__.lower().removesuffix("2d") not in self.names:
            return False
        self.seen += 1
        return self.seen % self.every == 0


def remove_activation(patches: Patches) -> None:
    """The call at file:line hands its input on. Where no call is found there until the loss is called, the loss is
    given what stands before the activation on the way to it, or where that cannot be found, the inverse."""
    activation = str(patches.arguments["activation"]).replace("-", "_")
    calls, undo = Calls(patches, activation), Undo(patches, ())
    removed = 0

    def make(original: Any) -> Any:
        def changed(*args: Any, **kwargs: Any) -> Any:
            nonlocal removed
            given = _first(args, kwargs)
            if calls.is_it():
                removed += 1
                patches.applied.count += 1
                return given
            out = patches.call(original, *args, **kwargs)
            undo.note(activation, given, out)
            return out

        return changed

    for owner, name in _owners(activation):
        patches.replace(owner, name, make)

    def at_the_loss(call: Call) -> None:
        if removed or not isinstance(call.input, torch.Tensor) or not call.input.requires_grad:
            return
        found = undo.before(call.input)
        without = found[1] if found is not None else inverse(call.input, activation) if _fits(call.input, activation) else None
        if without is not None:
            call.input = without
            patches.applied.count += 1

    patches.at_loss(at_the_loss, anywhere=True)  # the place is that of the activation, not of the loss
    patches.expect(f"no {activation} was found at the given line or in front of the loss")


def _fits(tensor: Any, activation: str) -> bool:
    """Can these be outputs of the activation?"""
    x = tensor.detach()
    if not x.is_floating_point() or not x.numel():
        return False
    low, high = float(x.min()), float(x.max())
    if activation == "softmax":
        return low >= 0 and any(bool((x.sum(i) - 1).abs().max() < 1e-3) for i in range(x.dim()))
    if activation == "sigmoid":
        return low >= 0 and high <= 1
    return activation == "tanh" and low >= -1 and high <= 1


def insert_activation(patches: Patches) -> None:
    """The loss input goes through the activation. Without a line: where a loss wants that activation."""
    name = str(patches.arguments["activation"])
    function = getattr(F, name)
    original = {n: getattr(F, n) for n in ("softmax", "log_softmax")}
    wanting = {"log_softmax": ("nll_loss", "kl_div"), "sigmoid": ("binary_cross_entropy",)}
    names = LOSSES if patches.place() is not None else wanting.get(name, LOSSES)

    def change(call: Call) -> None:
        x = call.input
        if name in original:
            dim = int(patches.number("dim", 1 if x.dim() > 1 else 0))
            call.input = patches.call(original[name], x, dim=dim)
        else:
            call.input = patches.call(function, x)
        patches.applied.count += 1

    patches.at_loss(change, names, "no loss call was seen that wants this activation")


def replace_loss(patches: Patches) -> None:
    """cross_entropy or bce_with_logits instead, on the logits: what stood before the head's softmax or sigmoid, where
    the graph leads there from the loss input, else the inverse of the activation, else the loss input itself."""
    wanted = _CALLED.get(str(patches.arguments["loss"]), str(patches.arguments["loss"]))
    if wanted not in {"cross_entropy", "binary_cross_entropy_with_logits"}:
        raise patches.applied.impossible(f"no experiment replaces a loss by {wanted}")
    given = str(patches.arguments.get("from", ""))
    names = (_CALLED.get(given, given),) if _CALLED.get(given, given) in LOSSES else tuple(n for n in LOSSES if n != wanted)
    named = str(patches.arguments.get("activation", "")).replace("-", "_")
    also = (named,) if named and named not in _LOGITS else ()
    undo = Undo(patches, (*_LOGITS, *also))
    to_logits = functools.partial(_logits, undo, also, named)

    def change(call: Call) -> None:
        x, y = call.input, call.target
        if not isinstance(x, torch.Tensor) or not isinstance(y, torch.Tensor):
            return
        logits, activation = to_logits(x)
        options = {"reduction": call.arguments.get("reduction", "mean")}
        try:
            if wanted == "cross_entropy":
                arguments = _cross_entropy(patches, logits, y, activation)
                if call.name == "nll_loss":
                    options |= {k: call.arguments[k] for k in ("weight", "ignore_index") if k in call.arguments}
            else:
                arguments = _binary(patches, logits, y)
        except _Binary:
            arguments = _binary(patches, logits, y)
            call.function = patches.losses["binary_cross_entropy_with_logits"]
        else:
            call.function = patches.losses[wanted]
        call.arguments = arguments | options
        patches.applied.count += 1

    patches.at_loss(change, names, "no call of this loss was seen")


class _Binary(Exception):
    """One unit and two classes: the binary loss is meant."""


def _logits(undo: Undo, also: tuple[str, ...], named: str, x: Any) -> tuple[Any, str]:
    found = undo.before(x)
    if found is not None:
        return found[1], found[0]
    # Probabilities made by hand, or through an operation that does not only move numbers (a clamp, a mask).
    for activation in (named,) if named else ("softmax",):
        if activation in {"softmax", "sigmoid"} and _fits(x, activation) and x.dim() > 1:
            without = inverse(x, activation)
            if without is not None:
                return without, activation
    return x, ""


def _cross_entropy(patches: Patches, x: Any, y: Any, activation: str) -> dict[str, Any]:
    """Arguments of cross_entropy. The class axis is the one over which targets of the input's shape sum to 1."""
    if x.shape == y.shape and x.dim() > 1 and x.numel() > len(x):
        values = y.detach()
        sums = [i for i in range(1, x.dim()) if bool(((values.sum(i) - 1).abs() < 1e-4).all())]
        if float(values.min()) < 0 or not sums:
            raise patches.applied.impossible("the targets are neither class indices nor probabilities over one axis")
        axis = 1 if 1 in sums else sums[0]
        if bool(((values == 0) | (values == 1)).all()):
            return {"input": x.movedim(axis, 1), "target": y.argmax(axis)}
        return {"input": x.movedim(axis, 1), "target": y.movedim(axis, 1).to(x.dtype)}
    labels = y.detach()
    if x.numel() == y.numel():
        if _zero_one(labels):
            raise _Binary
        raise patches.applied.impossible("the model has one output for all classes; it needs one per class")
    if labels.is_floating_point() and not bool((labels == labels.round()).all()):
        raise patches.applied.impossible("the targets are no class indices")
    while labels.dim() > 1 and labels.dim() >= x.dim() and 1 in labels.shape[1:]:  # [N, 1] against [N, K]
        labels = labels.squeeze(1 + list(labels.shape[1:]).index(1))
    if labels.shape == x.shape[:-1] and (x.dim() < 3 or labels.shape != x.shape[:1] + x.shape[2:]):
        x = x.movedim(-1, 1) if x.dim() > 2 else x
    if labels.shape != x.shape[:1] + x.shape[2:]:
        raise patches.applied.impossible(f"targets {list(y.shape)} do not fit outputs {list(x.shape)}")
    if int(labels.max()) >= x.shape[1] or int(labels.min()) < -100:
        raise patches.applied.impossible(f"the labels name class {int(labels.max())}, the model has {x.shape[1]} outputs")
    return {"input": x, "target": labels.long()}


def _zero_one(labels: Any) -> bool:
    return bool(((labels == 0) | (labels == 1)).all())


def _binary(patches: Patches, x: Any, y: Any) -> dict[str, Any]:
    """Arguments of binary_cross_entropy_with_logits."""
    labels = y.detach()
    if x.numel() != labels.numel() and x.dim() == labels.dim() + 1 and not labels.is_floating_point():
        labels = F.one_hot(labels, x.shape[-1])
    if x.numel() != labels.numel():
        raise patches.applied.impossible(f"targets {list(y.shape)} do not fit outputs {list(x.shape)}")
    if not bool(((labels >= 0) & (labels <= 1)).all()):
        raise patches.applied.impossible("the targets are not between 0 and 1")
    return {"input": x, "target": labels.reshape(x.shape).to(x.dtype)}


def change_dim(patches: Patches) -> None:
    """The softmax or log_softmax at file:line runs over another axis; without a line, the one that leads to the loss."""
    dim = int(patches.number("dim"))
    calls = Calls(patches, "softmax")
    calls.names |= {"logsoftmax", "softmin"}
    originals = {n: getattr(F, n) for n in ("softmax", "log_softmax")}
    undo = Undo(patches, ())

    def make(activation: str, owner: Any) -> Any:
        def inner(original: Any) -> Any:
            def changed(*args: Any, **kwargs: Any) -> Any:
                if calls.is_it():
                    patches.applied.count += 1
                    place = 0 if owner is not torch.Tensor and "input" in kwargs else 1
                    args, kwargs = (*args[:place], *args[place + 1 :]), {**kwargs, "dim": dim}
                    return patches.call(original, *args, **kwargs)
                out = patches.call(original, *args, **kwargs)
                undo.note(activation, _first(args, kwargs), out)
                return out

            return changed

        return inner

    for activation in originals:
        for owner, name in _owners(activation):
            patches.replace(owner, name, make(activation, owner))
    if calls.place is None:

        def at_the_loss(call: Call) -> None:
            found = undo.before(call.input)
            if found is not None:
                call.input = patches.call(originals[found[0]], found[1], dim=dim)
                patches.applied.count += 1

        patches.at_loss(at_the_loss)
    patches.expect("no softmax was found at the given line")


def negate_loss(patches: Patches) -> None:
    """Descend where the training ascends. A negative loss is negated itself, so that what is recorded is the loss that is
    minimised; a loss that was right and is climbed (maximize=True, p += lr * grad) gets the negative gradient. Both give
    the same gradients to the last bit."""

    def change(root: Any, gradient: Any) -> tuple[Any, Any]:
        patches.applied.count += 1
        if root.numel() == 1 and float(root.detach()) < 0:
            return -root, gradient
        return root, -(torch.ones_like(root) if gradient is None else gradient)

    patches.around_backward(change)


def scale_loss(patches: Patches) -> None:
    factor = patches.number("factor")

    def change(root: Any, gradient: Any) -> tuple[Any, Any]:
        patches.applied.count += 1
        return root * factor, gradient

    patches.around_backward(change)


def mean_reduction(patches: Patches) -> None:
    def change(call: Call) -> None:
        arguments = call.arguments
        summed = arguments.get("size_average") is False and arguments.get("reduce") is not False
        if arguments.get("reduction") == "sum" or summed:
            arguments.pop("size_average", None)
            arguments.pop("reduce", None)
            arguments["reduction"] = "mean"
            patches.applied.count += 1

    patches.at_loss(change, what='no loss with reduction="sum" was seen')


def transpose_classes(patches: Patches) -> None:
    def change(call: Call) -> None:
        if call.input.dim() > 2:
            if call.target.dim() == call.input.dim():
                call.target = call.target.movedim(-1, 1)
            moved = call.input.movedim(-1, 1)
            # torch's NLL over images wants memory in the order of the axes; cross_entropy makes its own copy.
            call.input = moved.contiguous() if call.name == "nll_loss" else moved
            patches.applied.count += 1

    patches.at_loss(change, ("cross_entropy", "nll_loss"), "no loss over three or more axes was seen")


def align_targets(patches: Patches) -> None:
    """Targets take the shape of the loss input. [N, 1] against [N] is aligned in arithmetic by hand as well: there the
    operand without a gradient takes the other's shape."""

    def change(call: Call) -> None:
        x, y = call.input, call.target
        if not isinstance(y, torch.Tensor) or x.shape == y.shape:
            return
        if x.numel() == y.numel():
            call.target = y.reshape(x.shape)
        elif call.name in {"cross_entropy", "nll_loss"} and y.dim() == x.dim() and y.shape[1] == 1:
            call.target = y.squeeze(1)
        else:
            return
        patches.applied.count += 1

    patches.at_loss(change)

    def arithmetic(original: Any) -> Any:
        def changed(a: Any, b: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(b, torch.Tensor) and {a.dim(), b.dim()} == {1, 2} and a.numel() == b.numel() > 1:
                column = a if a.dim() == 2 else b
                if column.shape[1] == 1 and a.requires_grad != b.requires_grad:
                    patches.applied.count += 1
                    a, b = (a, b.reshape(a.shape)) if a.requires_grad else (a.reshape(b.shape), b)
            return patches.call(original, a, b, *args, **kwargs)

        return changed

    for name in ("sub", "mul", "add", "rsub"):
        for method in (f"__{name}__", f"__r{name.removeprefix('r')}__", name):
            if not method.startswith("__rr") and hasattr(torch.Tensor, method):
                patches.replace(torch.Tensor, method, arithmetic)
        patches.replace(torch, name, arithmetic)
    patches.expect("no targets were seen whose shape differs from the outputs'")


def class_weights(patches: Patches) -> None:
    """Cross-entropy: one weight per class. Binary losses: two weights are those of the classes 0 and 1 (their ratio is the
    pos_weight); one, or one per output, is the pos_weight itself."""
    weights = patches.arguments["weights"]
    weights = [float(w) for w in (weights if isinstance(weights, (list, tuple)) else [weights])]

    def change(call: Call) -> None:
        x = call.input
        values = torch.tensor(weights, dtype=x.dtype, device=x.device)
        if call.name in {"cross_entropy", "nll_loss"}:
            classes = x.shape[1] if x.dim() > 1 else x.shape[0]
            if len(weights) != classes:
                raise patches.applied.impossible(f"{len(weights)} weights for {classes} classes")
            call.arguments["weight"] = values
        elif call.name == "binary_cross_entropy_with_logits":
            pair = len(weights) == 2 and x.shape[-1:] != (2,)
            call.arguments["pos_weight"] = values[1] / values[0] if pair else values
        else:
            positive = values[1] / values[0] if len(weights) == 2 else values
            call.arguments["weight"] = torch.where(call.target > 0.5, positive, torch.ones_like(x))
        patches.applied.count += 1

    names = ("cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits")
    patches.at_loss(change, names, "no loss call was seen that takes weights")


KINDS: dict[str, Callable[[Patches], None]] = {
    "remove-activation": remove_activation,
    "insert-activation": insert_activation,
    "replace-loss": replace_loss,
    "negate-loss": negate_loss,
    "scale-loss": scale_loss,
    "mean-reduction": mean_reduction,
    "change-dim": change_dim,
    "transpose-classes": transpose_classes,
    "align-targets": align_targets,
    "class-weights": class_weights,
}
