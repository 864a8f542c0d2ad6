"""Interventions on the model: its weights at the start, what is frozen, modes, dropout, precision, shape."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from unstuck.experiments.interventions_loop import join
from unstuck.experiments.patches import Patches, leaves

_HALF = {torch.float16, torch.bfloat16}
_FACTORIES = (
    "tensor", "as_tensor", "asarray", "zeros", "ones", "empty", "full", "rand", "randn", "normal", "arange", "linspace", "eye",
    "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like",
)  # fmt: skip


def unfreeze(patches: Patches) -> None:
    patches.remember_optimizers()

    def before(model: Any, args: Any, kwargs: Any) -> None:
        if torch.is_grad_enabled():
            for p in model.parameters():
                if not p.requires_grad and p.is_floating_point() and p.is_leaf:
                    p.requires_grad_(True)
                    patches.applied.count += 1

    patches.around_model(before)
    patches.around_backward(after=lambda roots: join(patches, roots))
    patches.expect("no model was called that has frozen parameters", ends=False)


# -------------------------------------------------------------------------------------------------- initial weights


def reinitialise(patches: Patches) -> None:
    """Before a model's first call its modules are reset by torch's own reset_parameters, its bare parameters and tensors
    used without a module drawn after He. Recurrent weights are then drawn orthogonal: torch's own shrink what is carried from
    step to step by about 0.6, and nothing is left of it after a long sequence (Q. V. Le, N. Jaitly, G. Hinton 2015).
    Tensors without a module are known only once a backward has run: the gradients of that one pass, of the old weights, are
    zeroed. `scale` multiplies what has two or more axes.

    The random numbers come from the script's own seed, but not from its generator, whose batches stay what they were.
    """
    scale = patches.number("scale", 1.0)
    done: weakref.WeakSet[Any] = weakref.WeakSet()
    tensors: dict[int, weakref.ref[Any]] = {}

    def fresh(values: Any) -> None:
        tensors[id(values)] = weakref.ref(values)

    def known(values: Any) -> bool:
        ref = tensors.get(id(values))
        return ref is not None and ref() is values

    def before(model: Any, args: Any, kwargs: Any) -> None:
        if model in done:
            return
        done.add(model)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(torch.initial_seed() % 2**63)
            for module in model.modules():
                own = [p for p in module.parameters(recurse=False) if p.requires_grad and not known(p)]
                if own and not _reset(module):
                    for p in own:
                        _draw(p)
                for p in own:
                    if p.dim() > 1 and scale != 1:
                        p.mul_(scale)
                    fresh(p)
                patches.applied.count += len(own)

    def after(roots: list[Any]) -> None:
        if patches.backwards > 1:
            return
        found = leaves(roots)
        bare = [p for p in found if p.is_floating_point() and not known(p) and p.grad is not None]
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(torch.initial_seed() % 2**63)
            for p in bare:
                _draw(p)
                if p.dim() > 1 and scale != 1:
                    p.mul_(scale)
                fresh(p)
            if bare:
                for p in found:
                    if p.grad is not None:
                        p.grad.zero_()
        patches.applied.count += len(bare)

    patches.around_model(before)
    patches.around_backward(after=after)


def _reset(module: Any) -> bool:
    """Call the reset_parameters of the class of torch's that the module is, or derives from."""
    for owner in type(module).__mro__:
        if owner.__module__.startswith("torch.nn.modules") and owner is not nn.Module:
            for name in ("reset_parameters", "_reset_parameters"):
                if name in vars(owner):
                    getattr(owner, name)(module)
                    _orthogonal(module)
                    return True
    return False


def _orthogonal(module: Any) -> None:
    """The recurrent weights of an RNN, LSTM or GRU, gate by gate."""
    if not isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return
    for name, p in module.named_parameters(recurse=False):
        if name.startswith("weight_hh") and p.shape[1] == module.hidden_size:  # not those of a projection
            for gate in p.split(module.hidden_size):
                nn.init.orthogonal_(gate)


def _draw(p: Any) -> None:
    """He for a tensor whose layout is not known: x @ w and w @ x differ in which axis is the fan in, so their mean is
    taken. Vectors are offsets and become 0, unless they are all 1: then they are gains."""
    if p.dim() > 2:
        p.normal_(0, (2 / max(1, p[0].numel())) ** 0.5)
    elif p.dim() == 2:
        p.normal_(0, (4 / max(1, sum(p.shape))) ** 0.5)
    elif p.dim() == 1 and p.numel() > 1 and not bool((p == 1).all()):
        # A head of one unit may be a vector of weights; those are not all alike.
        p.zero_() if bool((p == p[0]).all()) else p.normal_(0, (1 / p.numel()) ** 0.5)
    elif p.numel() == 1:
        p.zero_()


# -------------------------------------------------------------------------------------------------- modes


def set_dropout(patches: Patches) -> None:
    """Dropout stronger than p, by module or by function, inside attention and recurrent layers, becomes p. It draws as
    many random numbers as before."""
    p = patches.number("p")

    def make(number: int, name: str) -> Any:
        """The probability is the argument `name`, at this position."""

        def inner(original: Any) -> Any:
            def changed(*args: Any, **kwargs: Any) -> Any:
                old = args[number] if len(args) > number else kwargs.get(name, 0.5 if name == "p" else 0.0)
                if isinstance(old, (int, float)) and old > p:
                    patches.applied.count += 1
                    if len(args) > number:
                        args = (*args[:number], p, *args[number + 1 :])
                    else:
                        kwargs[name] = p
                return patches.call(original, *args, **kwargs)

            return changed

        return inner

    for name in ("dropout", "alpha_dropout", "feature_alpha_dropout", "dropout1d", "dropout2d", "dropout3d"):
        patches.replace(F, name, make(1, "p"))
    for name in ("dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout"):
        patches.replace(torch, name, make(1, "p"))
    patches.replace(F, "scaled_dot_product_attention", make(4, "dropout_p"))

    def recurrent(original: Any) -> Any:
        def forward(module: Any, *args: Any, **kwargs: Any) -> Any:
            old = module.dropout
            if old > p:
                patches.applied.count += 1
                module.dropout = p
            try:
                return original(module, *args, **kwargs)
            finally:
                module.dropout = old

        return forward

    for kind in (nn.RNN, nn.LSTM, nn.GRU):
        patches.replace(kind, "forward", recurrent)
    patches.expect(f"no dropout stronger than {p:g} was seen (masks made by hand cannot be changed from outside)")


def train_mode(patches: Patches) -> None:
    """In each forward pass that records gradients the model and all in it are in training mode. Passes without gradients
    find it as the script left it."""
    ours: weakref.WeakSet[Any] = weakref.WeakSet()  # in training mode because of us

    def before(model: Any, args: Any, kwargs: Any) -> None:
        if torch.is_grad_enabled():
            if any(not m.training for m in model.modules()):
                model.train()
                ours.add(model)
                patches.applied.count += 1
        elif model in ours and model.training:
            model.eval()
            ours.discard(model)

    patches.around_model(before)
    patches.expect("no model was in evaluation mode while it was trained", ends=False)


def batch_statistics(patches: Patches) -> None:
    def make(original: Any) -> Any:
        def forward(module: Any, x: Any) -> Any:
            rows = x.numel() // max(1, x.shape[1])
            old = (module.training, module.momentum)
            if not torch.is_grad_enabled() or rows < 2 or old == (True, 0.1):
                return original(module, x)
            patches.applied.count += 1
            module.training, module.momentum = True, 0.1
            try:
                return original(module, x)
            finally:
                module.training, module.momentum = old

        return forward

    patches.replace(nn.modules.batchnorm._BatchNorm, "forward", make)
    patches.expect("there is no batch norm that does otherwise", ends=False)


# -------------------------------------------------------------------------------------------------- precision


def full_precision(patches: Patches) -> None:
    """Wherever half precision or bfloat16 is asked for, float32 is given; autocast does nothing."""

    def swap(value: Any) -> Any:
        if isinstance(value, torch.dtype) and value in _HALF:
            patches.applied.count += 1
            return torch.float32
        return value

    def make(original: Any) -> Any:
        def changed(*args: Any, **kwargs: Any) -> Any:
            return original(*(swap(a) for a in args), **{k: swap(v) for k, v in kwargs.items()})

        return changed

    def to_float(original: Any) -> Any:
        def half(thing: Any, *args: Any, **kwargs: Any) -> Any:
            patches.applied.count += 1
            return thing.float()

        return half

    def autocast(original: Any) -> Any:
        def __init__(context: Any, *args: Any, **kwargs: Any) -> None:
            original(context, *args, **kwargs)
            if context._enabled:
                patches.applied.count += 1
                context._enabled = False

        return __init__

    for name in (*_FACTORIES, "set_default_dtype"):
        patches.replace(torch, name, make)
    for owner in (torch.Tensor, nn.Module):
        for name in ("to", "type"):
            patches.replace(owner, name, make)
        for name in ("half", "bfloat16"):
            patches.replace(owner, name, to_float)
    for name in ("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"):
        patches.replace(torch.Tensor, name, make)
    patches.replace(torch.autocast, "__init__", autocast)
    patches.expect("nothing was cast to half precision or bfloat16")


# -------------------------------------------------------------------------------------------------- shape


def widen(patches: Patches) -> None:
    """Hidden layers of the narrowest width in an nn.Sequential get `width` units, before the optimizer is made."""
    width = int(patches.number("width", 64))
    layer = str(patches.arguments.get("layer", ""))

    def make(original: Any) -> Any:
        def __init__(stack: Any, *args: Any, **kwargs: Any) -> None:
            original(stack, *args, **kwargs)
            if type(stack) is nn.Sequential:
                _widened(patches, stack, width, layer)

        return __init__

    patches.replace(nn.Sequential, "__init__", make)
    patches.expect("there is no plain nn.Sequential stack with a narrow hidden layer", ends=False)


def _widened(patches: Patches, stack: Any, width: int, layer: str) -> None:
    names = list(stack._modules)
    linear = [i for i, n in enumerate(names) if isinstance(stack._modules[n], nn.Linear)]
    pairs = [(i, j) for i, j in itertools.pairwise(linear) if all(_plain(stack._modules[n]) for n in names[i + 1 : j])]
    if not pairs:
        return
    widths = {i: stack._modules[names[i]].out_features for i, _ in pairs}
    named = [i for i in widths if names[i] == layer.rsplit(".", 1)[-1]]
    narrow = widths[named[0]] if named else min(widths.values())
    if narrow >= width:
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch.initial_seed() % 2**63)
        for i, j in pairs:
            if widths[i] != narrow:
                continue
            first, second = stack._modules[names[i]], stack._modules[names[j]]
            stack._modules[names[i]] = nn.Linear(first.in_features, width, first.bias is not None)
            stack._modules[names[j]] = nn.Linear(width, second.out_features, second.bias is not None)
            for n in names[i + 1 : j]:
                between = stack._modules[n]
                if isinstance(between, nn.BatchNorm1d):
                    stack._modules[n] = nn.BatchNorm1d(width, between.eps, between.momentum, between.affine)
                elif isinstance(between, nn.LayerNorm):
                    stack._modules[n] = nn.LayerNorm(width, between.eps)
            patches.applied.count += 1


def _plain(module: Any) -> bool:
    """One number in, one number out, or a norm that can be made anew: such a module lets the width change."""
    if isinstance(module, (nn.BatchNorm1d, nn.LayerNorm, nn.Identity)):
        return True
    return next(module.parameters(), None) is None and not next(module.children(), None)


def add_activation(patches: Patches) -> None:
    """ReLU on what one linear layer or convolution hands to the next, also through dropout, norms, views and an offset
    added by hand. Works with and without gradients: the results of such layers carry a mark."""

    def linear(original: Any) -> Any:
        def changed(x: Any, w: Any, *args: Any, **kwargs: Any) -> Any:
            if not _is_weight(w):
                return patches.call(original, x, w, *args, **kwargs)
            if isinstance(x, torch.Tensor) and getattr(x, "_unstuck_linear", False):
                patches.applied.count += 1
                x = torch.relu(x)
            out = patches.call(original, x, w, *args, **kwargs)
            out._unstuck_linear = True
            return out

        return changed

    def carrying(original: Any) -> Any:
        def changed(x: Any, *args: Any, **kwargs: Any) -> Any:
            out = patches.call(original, x, *args, **kwargs)
            if getattr(x, "_unstuck_linear", False) and isinstance(out, torch.Tensor) and not _joins(args):
                out._unstuck_linear = True
            return out

        return changed

    for name in ("linear", "conv1d", "conv2d", "conv3d"):
        patches.replace(F, name, linear)
    for owner in (torch, torch.Tensor):
        for name in ("matmul", "mm", "__matmul__"):
            patches.replace(owner, name, linear)
        for name in ("view", "reshape", "flatten", "__add__", "__iadd__", "add", "squeeze", "unsqueeze"):
            patches.replace(owner, name, carrying)
    for name in ("dropout", "batch_norm", "layer_norm", "dropout1d", "dropout2d"):
        patches.replace(F, name, carrying)
    patches.expect("no linear layer follows another directly")


def rectify_sigmoids(patches: Patches) -> None:
    """What a linear layer or convolution gets from a sigmoid it gets from a ReLU on the same numbers, whose derivative is 1 where
    the sigmoid's is at most 1/4. Results of sigmoids that go anywhere else (a loss, a gate) stay."""

    def sigmoid(original: Any) -> Any:
        def changed(x: Any, *args: Any, **kwargs: Any) -> Any:
            out = patches.call(original, x, *args, **kwargs)
            if isinstance(out, torch.Tensor):
                out._unstuck_before = x
            return out

        return changed

    def linear(original: Any) -> Any:
        def changed(x: Any, w: Any, *args: Any, **kwargs: Any) -> Any:
            before = getattr(x, "_unstuck_before", None)
            if before is not None and _is_weight(w):
                patches.applied.count += 1
                x = torch.relu(before)
            return patches.call(original, x, w, *args, **kwargs)

        return changed

    for owner in (torch, torch.Tensor, F):
        patches.replace(owner, "sigmoid", sigmoid)
    for name in ("linear", "conv1d", "conv2d", "conv3d"):
        patches.replace(F, name, linear)
    for owner in (torch, torch.Tensor):
        for name in ("matmul", "mm", "__matmul__"):
            patches.replace(owner, name, linear)
    patches.expect("no sigmoid hands its output to a layer")


def _is_weight(w: Any) -> bool:
    """A trained leaf, or a view of one (w.T)."""
    if not isinstance(w, torch.Tensor) or w.dim() < 2:
        return False
    leaf = w if w.is_leaf else w._base
    return leaf is not None and leaf.is_leaf and (leaf.requires_grad or isinstance(leaf, nn.Parameter))


def _joins(args: Any) -> bool:
    """Is another result added, as around a residual block? An offset is a leaf."""
    return any(isinstance(a, torch.Tensor) and a.dim() > 1 and not a.is_leaf for a in args)


KINDS: dict[str, Callable[[Patches], None]] = {
    "unfreeze": unfreeze,
    "reinitialise": reinitialise,
    "set-dropout": set_dropout,
    "train-mode": train_mode,
    "batch-statistics": batch_statistics,
    "full-precision": full_precision,
    "widen": widen,
    "add-activation": add_activation,
    "rectify-sigmoids": rectify_sigmoids,
}
