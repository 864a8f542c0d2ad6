"""The same batch again: what a step did to the loss of its own batch, what evaluation mode makes of it, whether backward
gives the derivative of the loss.

On a probe step the calls between the data and the loss are written to a *tape*: each call of a module and each torch
function outside of modules that has a gradient behind it, with its arguments, the random states and the autocast state it
found. The tape can be run again at other weights. Nothing of the training may notice:

* Modules are run as *skeletons*: new module objects with their own attributes and copies of the buffers, which share the
  weights. Counters, hidden states and running statistics change in the skeleton only.
* Random states of torch (all devices), numpy, random and of generators found in the globals of the user's own modules are
  put back. Output to stdout and stderr during a replay goes nowhere.
* Forward hooks that are not torch's own are left out. A forward that assigns globals is not replayed at all.
* Whether a replay is faithful is measured, not assumed: at the weights of the training it must give the loss of the
  training (`Probe.again`); buffers of the real modules are compared afterwards and put back if a replay reached them.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import dis
import enum
import io
import math
import random
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch

from unstuck.observe import sites
from unstuck.trace.facts import GradientCheck

MAX_CALLS = 4000
MAX_MODULE_CALLS = 24
MAX_HELD = 200_000_000  # numbers in outputs that a tape keeps alive until the backward that ends it
_NOT_A_CALL = {"__get__", "__set__", "__delete__", "backward", "requires_grad_", "register_hook", "retain_grad", "size", "dim"}


class NotReplayable(Exception):
    """The reason why a batch cannot be evaluated again."""


class Call:
    """One entry of the tape. `out` holds the tensors until the tape is closed, then their ids."""

    __slots__ = ("args", "autocast", "func", "kwargs", "module", "out", "random", "versions")

    def __init__(self, func: Any, module: Any, args: Any, kwargs: Any, random_states: Any) -> None:
        self.func, self.module, self.args, self.kwargs = func, module, args, kwargs
        self.random = random_states
        self.autocast = _autocast_state()
        self.out: Any = None
        self.versions: list[tuple[Any, int]] = []


class Tape:
    """The calls from the data to one loss."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.trouble = ""
        self.root: int | None = None
        self.modules = 0
        self.held = 0
        self.home: list[Any] = []  # the real modules
        self.scale = 1.0  # a gradient scaler's factor in the loss; losses are given without it
        self.value = math.nan  # the loss as the training computed it
        self.parameters: dict[int, Any] = {}
        self.mode_layers = False
        self.accuracy: float | None = None  # of the latest replay, where the loss was called with logits and labels

    # ------------------------------------------------------------------ recording

    def before(self, func: Any, module: Any, args: Any, kwargs: Any) -> Call | None:
        """An entry for a call that is about to run; None where it does not belong on the tape."""
        if self.trouble:
            return None
        if module is None:
            if getattr(func, "__name__", "") in {"batch_norm", "instance_norm", "embedding"} and _writes(func, kwargs):
                self.give_up(f"{func.__name__} outside of a module writes to its arguments")
                return None
            if not torch.is_grad_enabled() or getattr(func, "__name__", "") in _NOT_A_CALL:
                return None
            if not any(t.requires_grad for t in tensors((args, kwargs))):
                return None
            return Call(func, None, args, kwargs, _torch_states())
        if _global_hooks():
            self.give_up("hooks on all modules are registered")
            return None
        self.modules += 1
        if self.modules > MAX_MODULE_CALLS or len(self.calls) > MAX_CALLS:
            self.give_up("more calls than a tape holds before the first backward")
            return None
        try:
            call = Call(None, skeleton(unwrapped(module)), args, kwargs, _all_states())
            watched = [*tensors((args, kwargs)), *unwrapped(module).parameters()]
            call.versions = [(t, t._version) for t in watched if not t.is_inference()]
            return call
        except NotReplayable as reason:
            self.give_up(str(reason))
        except Exception as error:  # a module whose attributes cannot be copied
            self.give_up(f"{type(module).__name__} cannot be copied: {type(error).__name__}: {error}"[:200])
        return None

    def after(self, call: Call, out: Any) -> None:
        call.out = out
        if any(t._version != version for t, version in call.versions):
            self.give_up("the forward pass writes to its inputs or weights")
        call.versions = []
        self.held += sum(t.numel() for t in tensors(out))
        if self.held > MAX_HELD:
            self.give_up("the intermediate tensors are too large to be kept for a step")
        elif not self.trouble:
            self.calls.append(call)

    def give_up(self, reason: str) -> None:
        self.trouble = self.trouble or reason
        self.calls = []

    def close(self, loss: Any) -> None:
        """The forward pass has ended in `loss`: keep what leads to it, and no tensor with a graph."""
        if self.trouble:
            return
        made = {id(t) for c in self.calls for t in tensors(c.out)}
        wanted, kept = {id(loss)}, []
        for call in reversed(self.calls):
            outs = {id(t) for t in tensors(call.out)}
            inside = [t for t in tensors((call.args, call.kwargs))]
            changes = bool(inside) and id(inside[0]) in wanted and _in_place(call)
            if outs & wanted or changes:
                kept.append(call)
                for t in inside:
                    if t.requires_grad and not t.is_leaf and id(t) not in made:
                        self.give_up("a part of the forward pass is not made of torch functions or modules")
                        return
                wanted |= {id(t) for t in inside}
        if id(loss) not in made or not kept:
            self.give_up("the loss was not made by a call that could be followed")
            return
        self.calls = kept[::-1]
        self.root = id(loss)
        for call in self.calls:
            call.out = _ids(call.out)
            call.args, call.kwargs = _freeze((call.args, call.kwargs), made)
            if call.module is not None:
                for m in call.module.modules():
                    for p in m._parameters.values():
                        if p is not None:
                            self.parameters[id(p)] = p
                    self.mode_layers = self.mode_layers or bool(kind_of(m))
            for t in tensors((call.args, call.kwargs)):
                if isinstance(t, torch.Tensor) and t.is_leaf and t.requires_grad:
                    self.parameters[id(t)] = t

    # ------------------------------------------------------------------ replay

    @property
    def ready(self) -> bool:
        return self.root is not None and not self.trouble

    def run(
        self, *, evaluation: bool | None = None, weights: dict[int, Any] | None = None, grad: bool = False, double: bool = False
    ) -> Any:
        """The loss of this batch again, as a tensor.

        evaluation: True / False puts every module into evaluation / training mode, None leaves the modes as they were.
        weights: id of a parameter -> the tensor to use in its place. double: all floating-point data in float64.
        """
        if not self.ready:
            raise NotReplayable(self.trouble or "nothing was recorded")
        values: dict[int, Any] = {}
        weights = weights or {}
        restores: list[Callable[[], None]] = []
        try:
            for call in self.calls:
                args, kwargs = _substituted((call.args, call.kwargs), values, weights, double)
                call.random.restore()
                with _autocast(call.autocast if not double else None), torch.set_grad_enabled(grad):
                    if call.module is not None:
                        if weights or double:
                            restores.append(_swapped(call.module, weights, double))
                        if evaluation is not None:
                            modes = [(m, m.training) for m in call.module.modules()]
                            restores.append(lambda modes=modes: [setattr(m, "training", t) for m, t in modes] and None)
                            for m, _ in modes:
                                m.training = not evaluation
                        out = call.module(*args, **kwargs)
                    else:
                        if evaluation is not None and "training" in kwargs:
                            kwargs["training"] = not evaluation
                        out = call.func(*args, **kwargs)
                _assign(call.out, out, values)
            self.accuracy = _accuracy(args, kwargs)
        finally:
            for restore in reversed(restores):
                restore()
        return values[self.root]

    def refresh(self) -> bool:
        """Give the batch norms on the tape the averages that the model has now. False where they cannot be matched."""
        live = [m for home in self.home for m in home.modules() if kind_of(m) == "batch-norm"]
        kept = [m for c in self.calls if c.module is not None for m in c.module.modules() if kind_of(m) == "batch-norm"]
        if len(live) != len(kept) or any(a.num_features != b.num_features for a, b in zip(live, kept)):
            return False
        for now, then in zip(live, kept):
            for name, value in now._buffers.items():
                if value is not None:
                    then._buffers[name] = value.detach().clone()
        return True

    def loss(self, **how: Any) -> float:
        """`run` as a number."""
        value = self.run(**how)
        return float(value.detach()) / self.scale if value.numel() == 1 else math.nan


def _accuracy(args: Any, kwargs: Any) -> float | None:
    """Share of rows whose largest entry is the label, where the last call got [N, K] numbers and N class indices."""
    given = list(tensors((args, kwargs)))[:2]
    if len(given) < 2 or given[0].dim() != 2 or given[0].shape[1] < 2 or given[1].shape != given[0].shape[:1]:
        return None
    if given[1].is_floating_point() or given[1].dtype == torch.bool:
        return None
    return float((given[0].detach().argmax(1) == given[1]).float().mean())


# ---------------------------------------------------------------------- leaving no trace


@contextlib.contextmanager
def unnoticed(tape: Tape) -> Iterator[None]:
    """Random states, buffers of the real modules, standard output: all as before afterwards."""
    states = _all_states()
    home = [(b, b.detach().clone(), b._version) for m in tape.home for b in m.buffers() if b is not None]
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    logging = sys.modules.get("logging")
    silent = logging.root.manager.disable if logging is not None else 0
    if logging is not None:
        logging.disable(1 << 30)  # handlers hold the streams they were made with
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err
        if logging is not None:
            logging.disable(silent)
        with torch.no_grad():
            for b, before, version in home:
                if b._version != version and not torch.equal(b, before):
                    b.copy_(before)
        states.restore()


class States:
    """Random states at one moment."""

    __slots__ = ("devices", "generators", "numpy", "python", "torch")

    def __init__(self, *, everything: bool, generators: list[Any]) -> None:
        self.torch = torch.get_rng_state()
        self.devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
        numpy = sys.modules.get("numpy") if everything else None
        self.numpy = numpy.random.get_state() if numpy is not None else None
        self.python = random.getstate() if everything else None
        self.generators = [(g, _state_of(g)) for g in generators]

    def restore(self) -> None:
        torch.set_rng_state(self.torch)
        if self.devices is not None:
            torch.cuda.set_rng_state_all(self.devices)
        if self.numpy is not None:
            sys.modules["numpy"].random.set_state(self.numpy)
        if self.python is not None:
            random.setstate(self.python)
        for generator, state in self.generators:
            _set_state(generator, state)


def _torch_states() -> States:
    return States(everything=False, generators=[])


def _all_states() -> States:
    return States(everything=True, generators=_generators())


def _generators() -> list[Any]:
    """Random generators in the globals of the user's own modules."""
    numpy = sys.modules.get("numpy")
    kinds: tuple[Any, ...] = (torch.Generator, random.Random)
    if numpy is not None:
        kinds = (*kinds, numpy.random.Generator, numpy.random.RandomState)
    found = []
    for name, module in list(sys.modules.items()):
        if name == "__main__" or (name in _USER_MODULES):
            found += [v for v in list(vars(module).values()) if isinstance(v, kinds)]
    return found


_USER_MODULES: set[str] = set()


def _state_of(generator: Any) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return generator.getstate()
    return generator.bit_generator.state if hasattr(generator, "bit_generator") else generator.get_state()


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    elif hasattr(generator, "bit_generator"):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)


def _autocast_state() -> tuple[Any, ...] | None:
    for device in ("cpu", "cuda"):
        try:
            if torch.is_autocast_enabled(device):
                return device, torch.get_autocast_dtype(device)
        except (TypeError, RuntimeError):  # an older torch has no argument here
            return None
    return None


def _autocast(state: tuple[Any, ...] | None) -> Any:
    return contextlib.nullcontext() if state is None else torch.autocast(state[0], dtype=state[1])


# ---------------------------------------------------------------------- skeletons


def unwrapped(module: Any) -> Any:
    """Inside DataParallel and DistributedDataParallel, whose own forward talks to other processes."""
    while type(module).__name__ in {"DistributedDataParallel", "DataParallel"} and hasattr(module, "module"):
        module = module.module
    return module


def skeleton(module: Any) -> Any:
    """A copy of a module tree that shares the weights and nothing that a forward pass changes."""
    memo: dict[int, Any] = {}
    for m in module.modules():
        kind = type(m)
        if "OptimizedModule" in kind.__name__ or isinstance(m, torch.jit.ScriptModule):
            raise NotReplayable("the model is compiled")
        if not kind.__module__.startswith("torch."):
            _USER_MODULES.add(kind.__module__)
            _no_globals(kind)
        memo[id(m)] = kind.__new__(kind)
    for m in list(module.modules()):
        new = memo[id(m)]
        state = {}
        for name, value in m.__dict__.items():
            if name == "_modules":
                state[name] = type(value)((n, memo.get(id(c), c)) for n, c in value.items())
            elif name == "_buffers":
                state[name] = type(value)((n, b.detach().clone() if b is not None else None) for n, b in value.items())
            elif name in {"_forward_hooks", "_forward_pre_hooks"}:
                state[name] = type(value)((k, h) for k, h in value.items() if _torchs_own(h))
            elif name in {"_backward_hooks", "_backward_pre_hooks"}:
                state[name] = type(value)()
            else:
                state[name] = _copied(value, memo, 3)
        new.__dict__.update(state)
    return memo[id(module)]


def _torchs_own(hook: Any) -> bool:
    return (getattr(hook, "__module__", "") or type(hook).__module__ or "").startswith("torch.") or type(
        hook
    ).__module__.startswith("torch.")


_PLAIN = (str, bytes, int, float, complex, bool, type(None), range, slice, type, types.FunctionType, types.BuiltinFunctionType,
          types.ModuleType, torch.dtype, torch.device, torch.Size, torch.memory_format, torch.layout)  # fmt: skip


def _copied(value: Any, memo: dict[int, Any], depth: int) -> Any:
    """An attribute of a module for its skeleton: what a forward pass could change is copied, the rest shared.

    Raises NotReplayable for what can be neither.
    """
    if isinstance(value, torch.nn.Module):
        return memo.get(id(value), value)
    if isinstance(value, torch.nn.Parameter):
        return value
    if isinstance(value, torch.Tensor):
        return value if value.requires_grad else value.detach().clone()
    if isinstance(value, types.FunctionType):
        _pure(value)
        return value
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, types.MethodType):
        _pure(value.__func__)
        return types.MethodType(value.__func__, memo[id(value.__self__)]) if id(value.__self__) in memo else value
    numpy = sys.modules.get("numpy")
    if isinstance(value, torch.Generator):
        if not hasattr(value, "clone_state"):
            raise NotReplayable("a module holds a random generator")
        return value.clone_state()
    if isinstance(value, random.Random) or (
        numpy is not None and isinstance(value, (numpy.random.Generator, numpy.random.RandomState, numpy.ndarray, numpy.generic))
    ):  # fmt: skip
        return copy.deepcopy(value)
    if isinstance(value, (list, tuple, dict, set, frozenset, collections.deque)):
        if len(value) > 10_000 or not depth:
            raise NotReplayable("a module holds a long list")
        if isinstance(value, dict):
            new = copy.copy(value)
            for k, v in value.items():
                new[k] = _copied(v, memo, depth - 1)
            return new
        items = [_copied(v, memo, depth - 1) for v in value]
        if isinstance(value, tuple):
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        if isinstance(value, list):
            new = copy.copy(value)
            new[:] = items
            return new
        return copy.copy(value)
    kind = type(value)
    if kind.__module__.partition(".")[0] in {"itertools", "builtins"} or hasattr(value, "__next__"):
        raise NotReplayable(f"a module holds a {kind.__name__}, which calls move on")
    if not _users(kind.__module__):
        return value  # of a library: a configuration, a tokenizer, an enumeration
    if not hasattr(value, "__dict__") or not depth or isinstance(value, enum.Enum):
        if isinstance(value, enum.Enum):
            return value
        raise NotReplayable(f"a module holds a {kind.__name__}")
    _no_globals(kind)
    new = copy.copy(value)
    for k, v in vars(value).items():
        new.__dict__[k] = _copied(v, memo, depth - 1)
    return new


def _users(module: str) -> bool:
    """Is this the user's own code, and not a library's?"""
    if module == "__main__":
        return True
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return bool(file) and sites.owner(file) == "user"


def _writes(func: Any, kwargs: dict[str, Any]) -> bool:
    return kwargs.get("max_norm") is not None if func.__name__ == "embedding" else True


def _global_hooks() -> bool:
    module = torch.nn.modules.module
    return any(getattr(module, n, None) for n in ("_global_forward_hooks", "_global_forward_pre_hooks"))


def _no_globals(kind: type) -> None:
    """A forward pass that changes what lies outside of its module cannot be run again unnoticed."""
    for base in kind.__mro__:
        if base.__module__.startswith("torch.") or base is object:
            continue
        for function in vars(base).values():
            function = getattr(function, "__func__", getattr(function, "fget", None) or function)
            if isinstance(function, types.FunctionType) and function.__name__ not in {"__init__", "__new__", "__repr__"}:
                _pure(function)


_CHANGES = {
    "append", "extend", "insert", "pop", "remove", "clear", "update", "setdefault", "popitem", "add", "discard", "write",
    "writelines", "put", "send", "appendleft", "popleft", "sort", "reverse", "add_scalar", "add_histogram", "writerow",
}  # fmt: skip
_checked: dict[types.CodeType, str] = {}


def _pure(function: types.FunctionType, depth: int = 4) -> None:
    """Raise NotReplayable where a function of the user's assigns globals or enclosing variables, or calls a method that
    changes something global; functions of the user's that it calls are looked at as well."""
    code = function.__code__
    if code in _checked:
        if _checked[code]:
            raise NotReplayable(_checked[code])
        return
    _checked[code] = ""
    found = _change(function)
    if not found and depth:
        for name in code.co_names:
            called = function.__globals__.get(name)
            if isinstance(called, types.FunctionType) and _users(called.__module__ or ""):
                try:
                    _pure(called, depth - 1)
                except NotReplayable as reason:
                    found = str(reason)
    for cell in function.__closure__ or ():
        try:
            inside = cell.cell_contents
        except ValueError:
            continue
        if isinstance(inside, types.FunctionType) and depth and not found:
            _pure(inside, depth - 1)
        elif isinstance(inside, (list, dict, set, collections.deque)) and not found:
            found = f"{function.__name__} closes over a {type(inside).__name__}"
    if found:
        _checked[code] = found
        raise NotReplayable(found)


def _change(function: types.FunctionType) -> str:
    code, last, outside = function.__code__, "", False
    for step in dis.get_instructions(code):
        name = step.opname
        if name in {"STORE_GLOBAL", "DELETE_GLOBAL"}:
            return f"{function.__name__} assigns the global {step.argval}"
        if name == "STORE_DEREF" and step.argval in code.co_freevars:
            return f"{function.__name__} assigns {step.argval} of the function around it"
        if name == "LOAD_GLOBAL":
            last = str(step.argval)
            value = function.__globals__.get(last)
            if last == "open":
                return f"{function.__name__} opens a file"
            # A class of the user's or an object that could be changed through its name
            outside = outside or (
                value is not None and not isinstance(value, (*_PLAIN[:7], tuple, types.FunctionType, types.ModuleType))
                and not callable(value)
            ) or (isinstance(value, type) and _users(value.__module__))  # fmt: skip
        elif name in {"LOAD_METHOD", "LOAD_ATTR"} and last and step.argval in _CHANGES:
            value = function.__globals__.get(last)
            if not isinstance(value, types.ModuleType):
                return f"{function.__name__} calls {last}.{step.argval}"
            last = ""
        elif name in {"STORE_ATTR", "STORE_SUBSCR"} and outside:
            return f"{function.__name__} may change a global object"
        elif name not in {"CACHE", "PRECALL", "PUSH_NULL", "COPY"}:
            last = ""
    return ""


def _swapped(module: Any, weights: dict[int, Any], double: bool) -> Callable[[], None]:
    """Put other tensors in the place of parameters (and, for `double`, of buffers); returns what puts them back."""
    undo: list[tuple[dict[str, Any], str, Any]] = []
    recurrent = []
    for m in module.modules():
        for name, p in m._parameters.items():
            if p is not None and id(p) in weights:
                undo.append((m._parameters, name, p))
        if double:
            for name, b in m._buffers.items():
                if b is not None and b.is_floating_point():
                    undo.append((m._buffers, name, b))
        if "_flat_weights" in m.__dict__:
            recurrent.append((m, m.__dict__["_flat_weights"]))
    for table, name, old in undo:
        table[name] = weights[id(old)] if id(old) in weights else old.double()
    for m, old in recurrent:
        m.__dict__["_flat_weights"] = [weights.get(id(p), p) if p is not None else None for p in old]

    def back() -> None:
        for table, name, old in undo:
            table[name] = old
        for m, old in recurrent:
            m.__dict__["_flat_weights"] = old

    return back


# ---------------------------------------------------------------------- trees of arguments


def tensors(tree: Any, depth: int = 6) -> Iterator[Any]:
    """All tensors in nested tuples, lists, dicts and in the attributes of plain result objects."""
    if isinstance(tree, torch.Tensor):
        yield tree
    elif depth and isinstance(tree, (tuple, list)):
        for item in tree:
            yield from tensors(item, depth - 1)
    elif depth and isinstance(tree, dict):
        for item in tree.values():
            yield from tensors(item, depth - 1)
    elif depth and hasattr(tree, "__dataclass_fields__"):
        for item in vars(tree).values():
            yield from tensors(item, depth - 1)


def _map(tree: Any, change: Callable[[Any], Any]) -> Any:
    """The tree with each tensor, and each stand-in for one, replaced by what `change` makes of it."""
    if isinstance(tree, (torch.Tensor, _Id)):
        return change(tree)
    if isinstance(tree, tuple):
        items = [_map(i, change) for i in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else tuple(items) if type(tree) is tuple else tree
    if type(tree) is list:
        return [_map(i, change) for i in tree]
    if type(tree) is dict:
        return {k: _map(v, change) for k, v in tree.items()}
    return tree


class _Id:
    """Stands for a tensor that a call made."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


def _ids(tree: Any) -> list[int]:
    return [id(t) for t in tensors(tree)]


def _freeze(tree: Any, made: set[int]) -> Any:
    """Tensors made on the tape become their ids; others stay, without a graph."""

    def change(t: Any) -> Any:
        if id(t) in made:
            return _Id(id(t))
        return t if t.is_leaf else t.detach()

    return _map(tree, change)


def _substituted(tree: Any, values: dict[int, Any], weights: dict[int, Any], double: bool) -> Any:
    def change(item: Any) -> Any:
        if isinstance(item, _Id):
            if item.number not in values:
                raise NotReplayable("a value that was made outside of the tape")
            return values[item.number]
        if id(item) in weights:
            return weights[id(item)]
        return item.double() if double and item.is_floating_point() else item

    return _map(tree, change)


def _assign(ids: list[int], out: Any, values: dict[int, Any]) -> None:
    new = list(tensors(out))
    if len(new) != len(ids):
        raise NotReplayable("a module gave another structure than in the training")
    values.update(zip(ids, new))


def _in_place(call: Call) -> bool:
    name = getattr(call.func, "__name__", "")
    return name == "__setitem__" or (name.endswith("_") and not name.startswith("__")) or name.startswith("__i")


def kind_of(module: Any) -> str:
    """'dropout', 'batch-norm', or ''."""
    if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
        return "batch-norm"
    if isinstance(module, torch.nn.modules.dropout._DropoutNd):
        return "dropout"
    recurrent = isinstance(module, (torch.nn.RNNBase, torch.nn.MultiheadAttention))
    return "dropout" if recurrent and float(getattr(module, "dropout", 0) or 0) > 0 else ""


# ---------------------------------------------------------------------- is the gradient the derivative of the loss?


def check_gradient(
    tape: Tape, trained: list[tuple[str, Any]], out_of_time: Callable[[], bool], most: int = 8
) -> list[GradientCheck]:
    """backward's <g, d> against central differences of the loss, along random directions d of single tensors.

    In float64 where the model allows it (the dtype is said), so that the truncation error of a step of 1e-5 of the
    weight's size, not rounding, is the limit; `error` is how far the quotients with e, 2e and 4e are apart, plus
    rounding. Directions are drawn by a generator of our own. Returns what was finished in time.
    """
    chosen = [t for t in trained if id(t[1]) in tape.parameters and t[1].is_floating_point() and t[1].numel()]
    if len(chosen) > most:  # spread over the depth of the network
        chosen = [chosen[round(i * (len(chosen) - 1) / (most - 1))] for i in range(most)]
    if not chosen:
        return []
    own = torch.Generator()
    own.manual_seed(20240613)
    found: list[GradientCheck] = []
    for double in (True, False):
        try:
            cast = {
                i: (p.detach().double() if double and p.is_floating_point() else p.detach().clone())
                for i, p in tape.parameters.items()
            }
            leaves = {id(p): cast[id(p)].clone().requires_grad_() for _, p in chosen}
            loss = tape.run(weights={**cast, **leaves}, grad=True, double=double)
            gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        except NotReplayable:
            raise
        except Exception:
            if double:
                continue  # code that insists on float32
            raise
        for (name, p), g in zip(chosen, gradients):
            if out_of_time():
                return found
            base = cast[id(p)]
            d = torch.randn(p.shape, generator=own, dtype=torch.float64).to(base)
            d /= d.norm().clamp_min(1e-30)
            if g is not None and bool(torch.isfinite(g).all()) and float(g.norm()) > 0:
                d = d + g / g.norm()  # half random, half along the gradient: never blind to a missing or a wrong part
                d /= d.norm()
            size = float(base.norm()) or 1.0
            quotients = []
            rounding = 0.0
            for e in ((1e-5, 2e-5, 4e-5) if double else (1e-3, 2e-3, 4e-3)):
                e *= max(size, 1e-2)
                up = tape.loss(weights={**cast, id(p): base + e * d}, double=double)
                down = tape.loss(weights={**cast, id(p): base - e * d}, double=double)
                quotients.append((up - down) / (2 * e))
                # A loss is the end of a chain of operations, each rounded: a few units in the last place of its value.
                rounding = max(rounding, 16 * torch.finfo(base.dtype).eps * max(abs(up), abs(down), 1.0) / (2 * e))
            slope = 0.0 if g is None else float((g.double() * d.double()).sum())
            if all(map(math.isfinite, (*quotients, slope))):
                apart = max(quotients) - min(quotients)
                dtype = "float64" if double else "float32"
                found.append(GradientCheck([name], slope, quotients[0], apart + rounding, dtype))
        break
    return found
