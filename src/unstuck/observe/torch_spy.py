"""A close look at the first steps: every torch function with its line, the loss calls with their arguments, the places
where a gradient path ends.

The spy is a TorchFunctionMode. It is on during the first passes only (about two microseconds a call) and while the
training is under suspicion, never permanently. It changes nothing: each function is called with its own arguments, and
its result handed on. Rules learned the hard way:

* `is_compiling()` comes first: dynamo inlines a mode, and one that touches Python state recompiles at every step.
* A mode is pushed only on an empty stack (torch's own DeviceContext may lie at the bottom), and popped only when it is
  on top; otherwise a user's `with` block would pop the wrong mode.
* It cannot be popped from code that runs below its own `__torch_function__` (our backward wrapper is): popping waits
  for the next module call or optimizer step.
"""

from __future__ import annotations

import math
import sys
import weakref
from itertools import pairwise
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._device import DeviceContext

from unstuck.observe import sites
from unstuck.trace.facts import Break, ModeLayer, Reshaped, Site

if TYPE_CHECKING:
    from collections.abc import Callable

LOSS_FUNCTIONS: dict[str, str] = {
    "cross_entropy": "cross-entropy",
    "nll_loss": "nll",
    "binary_cross_entropy": "bce",
    "binary_cross_entropy_with_logits": "bce-logits",
    "mse_loss": "mse",
    "l1_loss": "l1",
    "smooth_l1_loss": "smooth-l1",
    "huber_loss": "huber",
    "kl_div": "kl",
    "multi_margin_loss": "multi-margin",
    "poisson_nll_loss": "poisson",
    "hinge_embedding_loss": "hinge",
    "soft_margin_loss": "soft-margin",
    "gaussian_nll_loss": "gaussian",
    "ctc_loss": "ctc",
    "margin_ranking_loss": "ranking",
    "cosine_embedding_loss": "cosine-embedding",
    "triplet_margin_loss": "triplet",
}
_LOSSES: dict[Any, str] = {getattr(F, name): name for name in LOSS_FUNCTIONS if hasattr(F, name)}
_BY_NAME: dict[str, Any] = {n: f for n, f in vars(F).items() if isinstance(f, FunctionType)}
_ORIGINALS = set(_BY_NAME.values())
_READS_VALUE = {"item": "item", "tolist": "item", "numpy": "numpy", "__array__": "numpy", "__float__": "item"}
_INTEGER = {"argmax": "argmax", "argmin": "argmax", "argsort": "argmax", "one_hot": "one-hot", "bincount": "argmax"}
_ELEMENTWISE = {
    "sub", "rsub", "__sub__", "__rsub__", "add", "__add__", "__radd__", "mul", "__mul__", "__rmul__", "div", "__truediv__",
    "__rtruediv__", "__rdiv__", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "where", "dist", "subtract", "multiply",
    "divide", "true_divide", "maximum", "minimum", "logaddexp", "xlogy", "addcmul", "soft_margin_loss",
}  # fmt: skip
_TAKES_ROWS = {"__getitem__", "index_select", "narrow"}
_HANDS_ON = {"stack", "cat", "to", "float", "long", "type", "view", "reshape", "unsqueeze", "flatten", "contiguous", "permute",
             "transpose", "div", "__truediv__", "mul", "__mul__", "sub", "__sub__"}  # fmt: skip
_WRITES = {"add_", "sub_", "__iadd__", "__isub__", "copy_", "subtract_"}
MAX_RECORDS = 20_000


class Op(NamedTuple):
    """One torch function call of the forward pass; graph nodes with first <= sequence number < last are its."""

    first: int
    last: int
    name: str
    file: str
    line: int
    function: str


class LossCall(NamedTuple):
    """A loss function with its arguments, alive until the next backward."""

    first: int
    last: int
    name: str
    arguments: dict[str, Any]
    site: Site | None


class ModuleCall(NamedTuple):
    """A module's call; graph nodes in the interval were made by it or by a module inside it."""

    first: int
    last: int
    depth: int
    module: Any


class OuterBroadcast(NamedTuple):
    """An element-wise operation that made [N,1] and [N] into N x N."""

    first: int
    last: int
    shapes: list[list[int]]
    site: Site | None
    function: str = ""
    one_sided: bool = False  # one of the two has a gradient, the other is data and no detached copy of it


sequence: Callable[[], int] = torch.autograd._get_sequence_nr  # type: ignore[attr-defined]
_PARAMETERS = {
    "cross_entropy": ("input", "target", "weight", "size_average", "ignore_index", "reduce", "reduction", "label_smoothing"),
    "nll_loss": ("input", "target", "weight", "size_average", "ignore_index", "reduce", "reduction"),
    "binary_cross_entropy": ("input", "target", "weight", "size_average", "reduce", "reduction"),
    "binary_cross_entropy_with_logits": ("input", "target", "weight", "size_average", "reduce", "reduction", "pos_weight"),
}  # fmt: skip


def named_arguments(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    names = _PARAMETERS.get(name, ("input", "target"))
    return {**dict(zip(names, args)), **kwargs}


def push(mode: TorchFunctionMode) -> bool:
    """Push the mode if no other mode of the user's is active in this thread."""
    depth = torch._C._len_torch_function_stack()
    if depth > 1 or (depth == 1 and not isinstance(torch._C._get_function_stack_at(0), DeviceContext)):
        return False
    mode.__enter__()
    return True


def pop(mode: TorchFunctionMode) -> bool:
    """Pop the mode if it is on top of this thread's stack."""
    depth = torch._C._len_torch_function_stack()
    if depth == 0 or torch._C._get_function_stack_at(depth - 1) is not mode:
        return False
    mode.__exit__(None, None, None)
    return True


def _trained_leaf(tensor: Any) -> bool:
    try:
        return bool(tensor.requires_grad and tensor.is_leaf)
    except RuntimeError:  # a view made under no_grad of what was changed in place since: torch refuses to say
        return False


class Spy(TorchFunctionMode):
    """Notes torch functions while `on`. The owner pushes and pops it with the functions above."""

    def __init__(self, report: Callable[[BaseException], None], raised: Callable[..., None], local: Any) -> None:
        super().__init__()
        self.on = False
        self.noting = True  # False: only the tape is written
        self.local = local  # .depth: are we inside a module call?
        self.tape: Any = None  # torch_probes.Tape of the pass that is being recorded
        self.reshapes: list[Reshaped] = []
        self.dropouts: list[ModeLayer] = []
        self.sliced: dict[int, tuple[weakref.ref[Any], int]] = {}  # a batch -> rows of the tensor it was taken from
        self.report = report
        self.raised = raised
        self.ops: list[Op] = []
        self.losses: list[LossCall] = []
        self.modules: list[ModuleCall] = []
        self.broadcasts: list[OuterBroadcast] = []
        self.chosen: list[tuple[int, int]] = []  # operations with a matrix of data that says which pairs count
        self.met: list[tuple[int, int]] = []  # operations in which outputs met data, one to one
        self.breaks: list[Break] = []
        self.freezes: list[Site] = []
        self.updates: list[Site] = []  # lines that wrote to a leaf tensor in place, under no_grad
        self.tainted: dict[int, tuple[weakref.ref[Any], Break]] = {}

    def clear(self) -> None:
        """After a backward: what was noted belongs to the pass that just ended."""
        self.ops.clear()
        self.losses.clear()
        self.modules.clear()
        self.broadcasts.clear()
        self.chosen.clear()
        self.met.clear()
        self.breaks = []
        self.tainted.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.compiler.is_compiling():
            return func(*args, **(kwargs or {}))
        if not self.on:
            return func(*args, **(kwargs or {}))
        kwargs = kwargs or {}
        if type(func) is FunctionType and func not in _ORIGINALS:
            # torch hands over the function by its present name: one that the script has put in its place would run twice.
            func = next((_BY_NAME[n] for n, f in vars(F).items() if f is func and n in _BY_NAME), func)
        first = sequence()
        entry = None
        tape = self.tape
        if tape is not None and not self.local.depth:
            self.on = False
            try:
                entry = tape.before(func, None, args, kwargs)
            except Exception as own:
                self.report(own)
            finally:
                self.on = True
        try:
            out = func(*args, **kwargs)
        except BaseException as error:
            try:
                self.on = False
                self.raised(error, func, args, kwargs)
            except Exception as own:
                self.report(own)
            finally:
                self.on = True
            raise
        self.on = False
        try:
            if entry is not None:
                tape.after(entry, out)
            if self.noting:
                self._note(func, args, kwargs, out, first)
        except Exception as own:
            self.report(own)
        finally:
            self.on = True
        return out

    def _note(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any, first: int) -> None:
        name = getattr(func, "__name__", "")
        last = sequence()
        if name == "__get__":
            if getattr(getattr(func, "__self__", None), "__name__", "") == "data" and args[0].requires_grad:
                self._break("data", "data of a leaf" if args[0].is_leaf else "data", args, out)
            elif self.tainted and isinstance(out, torch.Tensor):
                self._flow(args, out)
            return
        if name in {"__set__", "requires_grad_"}:
            attribute = getattr(getattr(func, "__self__", None), "__name__", "")
            if (attribute == "requires_grad" or name == "requires_grad_") and len(self.freezes) < 20:
                value = args[1] if len(args) > 1 else kwargs.get("requires_grad", True)
                if value is False:
                    place = sites.site(sites.caller(2))
                    if place is not None and place not in self.freezes:
                        self.freezes.append(place)
            if attribute == "data" and len(args) > 1:
                self._flow(args[1:], args[0])
            return
        if name in _WRITES and args and isinstance(args[0], torch.Tensor) and _trained_leaf(args[0]):
            place = sites.site(sites.caller(2))
            if place is not None and place not in self.updates and len(self.updates) < 20:
                self.updates.append(place)
        if name in _TAKES_ROWS or (self.sliced and name in _HANDS_ON):
            self._rows_taken(name, args, out)
        if name in {"tensor", "as_tensor", "asarray"} and args and type(args[0]).__name__ == "ndarray":
            self.array(args[0], sites.site(sites.caller(2)))
        if name in {"view", "reshape"} and len(self.reshapes) < 64:
            self._reshaped(args, out, name)
        elif name == "dropout" and len(self.dropouts) < 16:
            self._dropped(args, kwargs)
        if len(self.ops) >= MAX_RECORDS:
            return
        frame = None
        if last > first:
            frame = sites.caller(2)
            if frame is not None:
                code = frame.f_code
                self.ops.append(Op(first, last, name, code.co_filename, frame.f_lineno, code.co_name))
        if func in _LOSSES or (name == "cross_entropy" and getattr(func, "__module__", "").startswith("unstuck.losses")):
            place = sites.site(frame or sites.caller(2))
            self.losses.append(LossCall(first, last, name, named_arguments(name, args, kwargs), place))
            del self.losses[:-64]
        if name in _ELEMENTWISE:
            self._outer(name, args, kwargs, first, last)
        self._gradient_lost(func, name, args, kwargs, out)

    def _rows_taken(self, name: str, args: tuple[Any, ...], out: Any) -> None:
        """A batch cut out of a longer tensor, and what is made of it before the model sees it."""
        first = args[0] if args else None
        if isinstance(first, (list, tuple)):
            first = next((a for a in first if isinstance(a, torch.Tensor)), None)
        if not isinstance(first, torch.Tensor) or not isinstance(out, torch.Tensor) or not first.dim() or first.requires_grad:
            return
        if name in _TAKES_ROWS:
            rows = self.rows_of(first) or int(first.shape[0])
            if out.dim() and out.numel() < first.numel():
                self.sliced[id(out)] = (weakref.ref(out), rows)
        elif (entry := self.sliced.get(id(first))) is not None and entry[0]() is first:
            self.sliced[id(out)] = (weakref.ref(out), entry[1])
        if len(self.sliced) > 20_000:
            self.sliced.clear()

    def rows_of(self, tensor: Any) -> int | None:
        """Rows of the tensor that this one was cut out of, where that was seen."""
        entry = self.sliced.get(id(tensor))
        return entry[1] if entry is not None and entry[0]() is tensor else None

    def _reshaped(self, args: tuple[Any, ...], out: Any, name: str) -> None:
        """A view that gives axes each other's sizes: [8, 20, 16] as [20, 8, 16]. Axes of size 1 carry no order."""
        if not args or not isinstance(args[0], torch.Tensor) or not isinstance(out, torch.Tensor):
            return
        before, after = [n for n in args[0].shape if n != 1], [n for n in out.shape if n != 1]
        if (
            args[0].requires_grad and len(before) > 1 and after and after[0] in before[1:] and after[0] != before[0]
            and sorted(before) != sorted(after)
        ):  # fmt: skip
            # [layers, samples, units] as [samples, layers * units]: wrong if that axis holds the samples, which the
            # observer knows
            self.reshapes.append(
                Reshaped(list(args[0].shape), list(out.shape), sites.site(sites.caller(3)), True, name, rows=after[0])
            )
            return
        if before == after or len(before) < 2 or sorted(before) != sorted(after):
            return
        mixed = before[0] != after[0] and args[0].shape[0] > 1
        place = sites.site(sites.caller(3))
        self.reshapes.append(Reshaped(list(args[0].shape), list(out.shape), place, mixed, name))

    def array(self, given: Any, place: Site | None) -> None:
        """A numpy array becomes a tensor. Was it reshaped where a transposition was meant, before torch could see it?

        numpy keeps the array that owns the memory, with its shape, and a view's strides say in which order its axes lie
        there, however they were named or transposed since: from the outside in, the ratio of neighbouring strides is the size
        of the inner axis. A copy on the way forgets both.
        """
        owner = given
        while type(getattr(owner, "base", None)).__name__ == "ndarray":
            owner = owner.base
        if owner is given or owner.dtype != given.dtype or not owner.flags.c_contiguous or len(self.reshapes) >= 64:
            return
        strides = sorted((s // given.itemsize for s, n in zip(given.strides, given.shape) if n > 1), reverse=True)
        before = [n for n in owner.shape if n != 1]
        if len(before) < 2 or len(strides) != len(before) or strides[-1] != 1 or owner.size % strides[0]:
            return
        if any(not inner or outer % inner for outer, inner in pairwise(strides)):
            return
        after = [owner.size // strides[0], *(outer // inner for outer, inner in pairwise(strides))]
        if after == before or sorted(after) != sorted(before) or any(r.site == place for r in self.reshapes):
            return
        mixed = given.shape[0] > 1 and given.strides[0] != owner.strides[0]
        self.reshapes.append(Reshaped(list(owner.shape), after, place, mixed, "reshape"))

    def _dropped(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """F.dropout called by the script itself; that of nn.Dropout is known from the module."""
        frame, hops = sites.caller(3), 0
        inner = sys._getframe(3)
        while inner is not None and inner is not frame and hops < 8:
            if inner.f_code.co_filename.endswith(("modules/dropout.py", "modules/activation.py", "modules/transformer.py")):
                return
            inner, hops = inner.f_back, hops + 1  # type: ignore[assignment]
        named = {**dict(zip(("input", "p", "training"), args)), **kwargs}
        place = sites.site(frame)
        if place is None or any(d.made == place for d in self.dropouts):
            return
        training = bool(named.get("training", True))
        p = float(named.get("p", 0.5))
        self.dropouts.append(
            ModeLayer("dropout", "F.dropout", place, p, training=int(training), evaluating=int(not training))
        )

    def _outer(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], first: int, last: int) -> None:
        operands = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor)]
        if len(operands) < 2 or last == first or len(self.broadcasts) > 256:
            return
        pair = [list(a.shape) for a in operands[:2]]
        (small, large) = sorted(pair, key=len)
        # [N] against [N,1] (also with leading batch axes of the longer one): both must be stretched.
        if len(small) == 1 and len(large) == 2 and large[1] == 1 and large[0] == small[0] > 1:
            given = [a for a in operands if a.requires_grad]
            data = [a for a in operands if not a.requires_grad]
            # x[:, None] - x.detach() compares outputs with each other, on purpose: the copy shares their memory.
            memory = {a.untyped_storage().data_ptr() for a in given}
            one_sided = bool(given and data) and not any(a.untyped_storage().data_ptr() in memory for a in data)
            one_sided = one_sided and len({tuple(a.shape) for a in given}) == 1
            self.broadcasts.append(OuterBroadcast(first, last, pair, sites.site(sites.caller(3)), name, one_sided))
            return
        if pair[0] == pair[1] and operands[0].requires_grad != operands[1].requires_grad and len(self.met) < 256:
            if pair[0] and math.prod(pair[0]) == pair[0][0] > 1:
                self.met.append((first, last))
        if self.broadcasts and len(self.chosen) < 256:
            for a in operands:
                if a.requires_grad or a.dim() != 2 or a.shape[0] != a.shape[1] or a.shape[0] < 2:
                    continue
                # Where a condition on the outputs chooses (|d| < 1 in a Huber loss) it is a part of the formula.
                if (broken := self._taint(a)) is None or broken.reason != "comparison":
                    self.chosen.append((first, last))

    def _gradient_lost(self, func: Any, name: str, args: Any, kwargs: Any, out: Any) -> None:
        if name in _READS_VALUE:
            tensor = args[0] if args else None
            if isinstance(tensor, torch.Tensor) and (tensor.requires_grad or self._taint(tensor)):
                self._break(_READS_VALUE[name], name, args, out)
            return
        results = out if isinstance(out, (tuple, list)) else (out,)
        tensors = [r for r in results if isinstance(r, torch.Tensor)]
        if not tensors:
            return
        needs = False
        broken = None
        for value in (*args, *kwargs.values()):
            for item in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(item, torch.Tensor):
                    needs = needs or item.requires_grad
                    broken = broken or self._taint(item)
        kept = any(t.requires_grad for t in tensors)
        if needs and not kept:
            if name in _INTEGER:
                reason = _INTEGER[name]
            elif name in {"detach", "detach_"}:
                reason = "detach"
            elif not torch.is_grad_enabled():
                reason = "no_grad"
            elif all(not t.is_floating_point() for t in tensors):
                reason = "comparison" if tensors[0].dtype == torch.bool else "integer"
            else:
                reason = "other"
            self._break(reason, name, args, out)
        elif (
            name in {"tensor", "as_tensor", "from_numpy", "full", "scalar_tensor", "FloatTensor"}
            and tensors[0].numel() <= 4096
        ):
            source = next((b for b in reversed(self.breaks) if b.reason in {"item", "numpy"}), None)
            if source is not None:
                self._mark(tensors, source)
        elif broken is not None:
            self._mark(tensors, broken)

    def _break(self, reason: str, function: str, args: tuple[Any, ...], out: Any) -> None:
        place = sites.site(sites.caller(4))
        known = next((b for b in self.breaks if b.site == place and b.reason == reason), None)
        if known is None:
            known = Break(reason, place, function)
            if len(self.breaks) < 256:
                self.breaks.append(known)
        tensors = [t for t in (out if isinstance(out, (tuple, list)) else (out,)) if isinstance(t, torch.Tensor)]
        before = next((b for a in args if isinstance(a, torch.Tensor) and (b := self._taint(a))), None)
        self._mark(tensors, before or known)

    def _mark(self, tensors: list[Any], broken: Break) -> None:
        for tensor in tensors:
            self.tainted[id(tensor)] = (weakref.ref(tensor), broken)

    def _flow(self, args: tuple[Any, ...], out: Any) -> None:
        for item in args:
            if isinstance(item, torch.Tensor) and (broken := self._taint(item)):
                self._mark([out], broken)
                return

    def _taint(self, tensor: Any) -> Break | None:
        entry = self.tainted.get(id(tensor))
        return entry[1] if entry is not None and entry[0]() is tensor else None

    def place(self, number: int) -> tuple[Op | None, ModuleCall | None]:
        """The function call and the innermost module call that made the graph node with this sequence number."""
        op = next((o for o in reversed(self.ops) if o.first <= number < o.last), None)
        inside = [m for m in self.modules if m.first <= number < m.last]
        return op, max(inside, key=lambda m: m.depth) if inside else None
