"""What happens inside the layers, read from the autograd graph: no hooks, nothing computed on the forward path.

The graph of a loss keeps, for its own backward, just the tensors a diagnosis needs: what a ReLU put out, what a sigmoid
put out, what entered each linear or convolutional layer. They are read right before `backward` frees them, at a few steps
that lie further and further apart. Module hooks are not used at all, functional code is seen like modules, and nothing is
left behind.

Below a non-reentrant checkpoint (or any other saved-tensor hook) reading such a tensor would run the user's forward pass
again: the caller must not come here then.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from unstuck.observe import torch_graph
from unstuck.trace.facts import Break, Formula, Layer, LayerLook, Parameter, ParameterLook, Site

Node = Any
MAX_LAYERS = 64
MAX_LOOKS = 40
MAX_NUMBERS = 2_000_000  # of a tensor; a larger one is looked at on fewer rows
_INPUT = {"linear": ("_saved_mat1", "_saved_input", "_saved_self"), "matmul": ("_saved_self", "_saved_mat1"),
          "conv": ("_saved_input",), "batch_norm": ("_saved_input",), "layer_norm": ("_saved_input",),
          "group_norm": ("_saved_input",), "rnn": ("_saved_input",)}  # fmt: skip
_DATA_EDGE = {"AddmmBackward": 1, "ConvolutionBackward": 0, "MmBackward": 0, "LinearBackward": 0}
_SMALL_DERIVATIVE = 0.05  # of the largest possible one: sigmoid beyond +-4.4, tanh beyond +-2.2


@torch.no_grad()
def statistics(op: str, value: Any, step: int, channel_axis: int) -> LayerLook:
    """The numbers of one tensor [rows, ...]. Units lie along `channel_axis`; spread is over axis 0."""
    t = value.detach()
    if t.numel() > MAX_NUMBERS and t.dim() > 1:
        t = t[: max(2, MAX_NUMBERS * t.shape[0] // t.numel())]
    t = t.float() if t.dtype not in {torch.float32, torch.float64} else t
    look = LayerLook(step, rows=int(t.shape[0]) if t.dim() else 1)
    if not t.numel():
        return look
    square = t.square().mean()
    look.rms, look.mean = math.sqrt(float(square)) if float(square) == float(square) else None, float(t.mean())
    if t.dim() > 1 and t.shape[0] > 1:
        if bool((t == t[:1]).all()):
            look.spread = 0.0  # rounding would leave a little
        elif float(square) > 0:
            look.spread = min(1.0, float(t.var(0, unbiased=False).mean() / square))
    if t.dim() < 2:
        return look
    axis = channel_axis if -t.dim() <= channel_axis < t.dim() else -1
    others = [i for i in range(t.dim()) if i != axis % t.dim()]
    if op == "relu":
        zero = t <= 0
        look.zeros = float(zero.float().mean())
        look.dead = float(zero.float().amin(others).mean()) if others else None
    elif op in {"sigmoid", "tanh"}:
        slope = 4 * t * (1 - t) if op == "sigmoid" else 1 - t.square()
        look.derivative = float(slope.mean())
        flat = slope < _SMALL_DERIVATIVE
        look.saturated = float(flat.float().mean())
        high = flat & (t > (0.5 if op == "sigmoid" else 0.0))
        one = torch.maximum(high.float().amin(others), (flat & ~high).float().amin(others))
        look.one_sided = float(one.mean())
    return look


def saved(node: Node, op: str) -> tuple[str, Any, bool]:
    """(what it is, the tensor, does data enter here) of a node; ('', None, False) where nothing of use was saved."""
    if op in {"sigmoid", "tanh"}:
        return "output", getattr(node, "_saved_result", None), False
    if op in {"relu", "clamp"}:
        result = getattr(node, "_saved_result", None)
        if result is None and node.name().startswith(("Clamp", "Threshold", "Hardtanh")):
            low = getattr(node, "_saved_min", getattr(node, "_saved_threshold", None))
            x = getattr(node, "_saved_self", None)
            if op == "clamp" and (low != 0 or getattr(node, "_saved_max", None) is not None):
                return "", None, False
            result = x.clamp_min(0) if isinstance(x, torch.Tensor) else None
        return "output", result, False
    for name in _INPUT.get(op, ()):
        value = getattr(node, name, None)
        if isinstance(value, torch.Tensor):
            edges = node.next_functions
            edge = _DATA_EDGE.get(node.name().rstrip("0123456789"), 0)
            return "input", value, edge < len(edges) and edges[edge][0] is None
    return "", None, False


def look(
    order: list[Node], step: int, layers: list[Layer], names: dict[int, str],
    describe: Callable[[Node], tuple[Site | None, str, Site | None, list[str], bool]],
) -> None:  # fmt: skip
    """Add one look to each layer of the graph whose nodes are `order`; layers that are not known yet are added."""
    nodes = sorted((n for n in order if not torch_graph.is_leaf(n)), key=lambda n: n._sequence_nr())
    known = {}
    for layer in layers:
        known.setdefault(_key(layer.op, layer.of, layer.units, layer.parameters), []).append(layer)
    met: dict[tuple[Any, ...], int] = {}
    for node in nodes:
        op = torch_graph.op_name(node)
        if op not in _INPUT and op not in {"relu", "sigmoid", "tanh", "clamp"}:
            continue
        of, value, data = saved(node, op)
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or not value.dim() or value.is_sparse:
            continue
        op = "relu" if op == "clamp" else op
        parameters = []
        for child in torch_graph.children(node):
            leaf = torch_graph.parameter_under(child)
            if leaf is not None and id(leaf) in names:
                parameters.append(names[id(leaf)])
        if of == "input" and not parameters:
            continue  # a product of two activations, not a trained layer
        below = next((c for c in torch_graph.children(node) if not torch_graph.is_leaf(c)), None)
        axis = 1 if value.dim() > 3 or (value.dim() == 3 and (op == "conv" or _over_conv(below))) else -1
        units = int(value.shape[axis]) if value.dim() > 1 else None
        key = _key(op, of, units, parameters)
        number = met.get(key, 0)
        met[key] = number + 1
        same = known.get(key, [])
        if number < len(same):
            layer = same[number]
        else:
            if len(layers) >= MAX_LAYERS or (parameters and number):  # a layer used again: its first use stands for it
                continue
            layer = Layer(op, of, list(value.shape), units, parameters=sorted(parameters, key=lambda n: "bias" in n), data=data)
            layers.append(layer)
            known.setdefault(key, []).append(layer)
        if layer.site is None:
            layer.site, layer.module, made, _, library = describe(node)
            layer.made = layer.made or (made if library else None)
        if len(layer.looks) < MAX_LOOKS and (not layer.looks or layer.looks[-1].step != step):
            layer.looks.append(statistics(op, value, step, axis))


def _key(op: str, of: str, units: int | None, parameters: list[str]) -> tuple[Any, ...]:
    return op, of, units, tuple(sorted(parameters))


def _over_conv(node: Node | None) -> bool:
    """Is there a convolution a few nodes below, with only shape-keeping operations between?"""
    for _ in range(4):
        if node is None:
            return False
        op = torch_graph.op_name(node)
        if op == "conv":
            return True
        if op not in {"batch_norm", "dropout", "relu", "copy", "cast", "add", "mul"} and "pool" not in op:
            return False
        node = next((c for c in torch_graph.children(node) if not torch_graph.is_leaf(c)), None)
    return False


def orders(order: list[Node]) -> tuple[dict[int, int], set[int]]:
    """id of a parameter -> rank of its first use in the forward pass; and the ids of matrices used as x @ W."""
    ranks: dict[int, int] = {}
    transposed = set()
    for node in sorted((n for n in order if not torch_graph.is_leaf(n)), key=lambda n: n._sequence_nr()):
        name = node.name().rstrip("0123456789")
        for edge, (child, _) in enumerate(node.next_functions):
            leaf = torch_graph.parameter_under(child, hops=3) if child is not None else None
            if leaf is not None and id(leaf) not in ranks:
                ranks[id(leaf)] = len(ranks)
                if (name, edge) in {("MmBackward", 1), ("AddmmBackward", 2)} and torch_graph.is_leaf(child):
                    transposed.add(id(leaf))
    return ranks, transposed


def data_route(root: Node) -> tuple[int, ...] | None:
    """Edge numbers from the root to a linear or convolutional layer that data enters; None where there is none.

    What enters may be one number everywhere: an initial state, or data that say nothing. It is taken for data where nothing else
    enters, neither here nor through a table.
    """
    stack: list[tuple[Node, tuple[int, ...]]] = [(root, ())]
    seen = set()
    constant = None
    table = False
    while stack and len(seen) < 2000:
        node, route = stack.pop()
        if node in seen or torch_graph.is_leaf(node):
            continue
        seen.add(node)
        op = torch_graph.op_name(node)
        if op in {"linear", "matmul", "conv"}:
            edge = _DATA_EDGE.get(node.name().rstrip("0123456789"), 0)
            edges = node.next_functions
            if edge < len(edges) and edges[edge][0] is None:
                value = saved(node, op)[1]
                if value is None or not value.numel() or not bool((value == value.reshape(-1)[0]).all()):
                    return route
                constant = constant or route
        table = table or op in {"embedding", "index"}
        stack.extend((child, (*route, i)) for i, (child, _) in enumerate(node.next_functions) if child is not None)
    return None if table else constant


def operations(order: list[Node], below: Node | None) -> list[str]:
    """Kinds of operation between the data and the loss input `below`, from the loss down.

    A product or quotient of two tensors that both depend on something trained is called 'product'.
    """
    if below is None:
        return []
    found: list[str] = []
    stack, seen = [below], set()
    while stack and len(found) < 400:
        node = stack.pop()
        if node in seen or torch_graph.is_leaf(node):
            continue
        seen.add(node)
        op = torch_graph.op_name(node)
        below_it = torch_graph.children(node)
        weights = [c for c in below_it if torch_graph.parameter_under(c) is not None]
        if op in {"mul", "div", "matmul"} and len(below_it) - len(weights) > 1:
            op = "product"
        elif op == "matmul" and weights:
            op = "linear"
        found.append(op)
        stack.extend(c for c in below_it if c not in weights)
    return found


def custom_functions(order: list[Node], describe: Callable[[Node], tuple[Any, ...]]) -> list[Break]:
    """autograd Functions of the user's own in this graph."""
    found = []
    for node in order:
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            kind = getattr(node, "_forward_cls", None)
            module = getattr(kind, "__module__", "") or ""
            if not module.startswith(("torch.", "torchvision.")):
                place = describe(node)[0]
                item = Break("custom", place, node.name().removesuffix("Backward"))
                if not any(f.function == item.function for f in found):
                    found.append(item)
    return found[:20]


@torch.no_grad()
def formulas(order: list[Node], describe: Callable[[Node], tuple[Any, ...]]) -> list[Formula]:
    """Log-softmax and log-sum-exp written out by hand."""
    found = []
    for node in order:
        if torch_graph.is_leaf(node) or torch_graph.op_name(node) != "log":
            continue
        below, guarded, summed = next(iter(torch_graph.children(node)), None), False, False
        for _ in range(6):
            if below is None or torch_graph.is_leaf(below):
                break
            op = torch_graph.op_name(below)
            summed = summed or op in {"sum", "add"}
            if op in {"add", "clamp"}:
                guarded = True
            elif op not in {"view", "squeeze", "unsqueeze", "gather", "index", "select", "slice", "copy", "cast", "expand", "sum"}:
                break
            below = next(iter(torch_graph.children(below)), None)
        if below is None or torch_graph.is_leaf(below):
            continue
        op = torch_graph.op_name(below)
        entered = getattr(node, "_saved_self", None)
        smallest = float(entered.min()) if isinstance(entered, torch.Tensor) and entered.numel() else None
        smallest = smallest if smallest is not None and math.isfinite(smallest) else None
        dtype = str(entered.dtype).removeprefix("torch.") if isinstance(entered, torch.Tensor) else ""
        place = describe(node)[0]
        if op == "softmax":
            found.append(Formula("log-of-softmax", place, None, smallest, dtype, guarded=guarded))
            continue
        exp = below if op == "exp" else next((c for c in torch_graph.children(below) if torch_graph.op_name(c) == "exp"), None)
        if exp is None or op not in {"exp", "div", "sum"} or (op == "exp" and not summed):
            continue  # log(exp(x)) alone is a rate and its logarithm, no softmax
        result = getattr(exp, "_saved_result", None)
        under = next(iter(torch_graph.children(exp)), None)
        largest = None
        if isinstance(result, torch.Tensor) and result.numel():
            # What was exponentiated is not kept; where the result is infinite or 0 it lies beyond the ends of the format.
            ends = torch.finfo(result.dtype)
            largest = min(max(float(result.double().max().log()), math.log(ends.tiny) - 1), math.log(ends.max) + 1)
            largest = largest if math.isfinite(largest) else None
        shifted = under is not None and torch_graph.op_name(under) in {"sub", "clamp"}
        found.append(Formula("log-of-softmax" if op == "div" else "log-sum-exp", place, largest, smallest, dtype, shifted, guarded))
    return found[:8]


# ---------------------------------------------------------------------- weights


@torch.no_grad()
def equal_rows(p: Any, transposed: bool = False) -> float | None:
    """Share of the rows of a weight [units, ...] that equal its first row exactly; None for vectors and single rows.

    `transposed`: a matrix used as x @ W, whose units are its columns.
    """
    if transposed and p.dim() == 2:
        p = p.detach().t()
    if p.dim() < 2 or p.shape[0] < 2 or p.is_sparse or not p.numel():
        return None
    flat = p.detach().flatten(1)
    if flat.numel() > MAX_NUMBERS:
        flat = flat[:, :: flat.numel() // MAX_NUMBERS + 1]
    same = (flat == flat[:1]).all(1)
    return float(same.float().mean()) if bool(same[1:].any()) else 0.0


@torch.no_grad()
def first_sight(record: Parameter, p: Any) -> None:
    """What a weight looks like before training changed it."""
    record.dtype = str(p.dtype).removeprefix("torch.")
    if p.numel() and p.is_floating_point() and not p.is_sparse:
        record.first_rms = math.sqrt(max(0.0, float(p.detach().float().square().mean())))
    if p.dim() > 1 and p.shape[0]:
        record.fan_in = p.numel() // int(p.shape[1 if record.transposed and p.shape[1] else 0])
    record.equal_rows_first = record.equal_rows = equal_rows(p, record.transposed)
    record.fresh = p.dim() > 1 and p.is_floating_point() and not p.is_sparse and as_drawn(p.detach())


def as_drawn(w: Any) -> bool:
    """Is this weight [units, inputs, ...] as torch draws one by default? Uniform within 1/sqrt(inputs) (linear, convolution) or
    1/sqrt(hidden units) (recurrent, one to four gates): of n uniform numbers the largest lies within 20/n of the bound but for one
    time in e^20, and none beyond. Standard normal (embedding): mean and mean square within four standard errors. Uniform within
    any other bound (attention, Xavier): 20 equal parts of its range, a chi-square test at one in a thousand. Training moves a
    weight off these marks within a few steps."""
    n = w.numel()
    if n < 100 or not w.shape[0]:
        return False
    w = w.float()
    largest = float(w.abs().max())
    if not 0 < largest < math.inf:
        return False
    bounds = [1 / math.sqrt(n // w.shape[0]), *(math.sqrt(gates / w.shape[0]) for gates in (1, 3, 4))]
    if any(bound * (1 - 20 / n) <= largest <= bound * (1 + 1e-6) for bound in bounds):
        return True
    some = w.reshape(-1)[:20000]
    if len(some) >= 500:
        parts = torch.histc(some, 20, -largest, largest)
        if float(((parts - len(some) / 20) ** 2).sum()) * 20 / len(some) < 43.8:  # 19 degrees of freedom
            return True
    square, mean = float(w.square().mean()), float(w.mean())
    return abs(square - 1) <= 4 * math.sqrt(2 / n) and abs(mean) <= 4 / math.sqrt(n)


@torch.no_grad()
def update_looks(pairs: list[tuple[Parameter, Any, Any, Any]], step: int) -> None:
    """Norms of weight, gradient and update for tensors (record, p, values before the step, gradient)."""
    for record, p, before, g in pairs[:256]:
        if len(record.looks) >= MAX_LOOKS or g is None or g.is_sparse:
            continue
        delta = p.detach() - before
        lost = 0.0
        if p.dtype in {torch.float16, torch.bfloat16}:
            pushed = g != 0
            n = int(pushed.sum())
            lost = float((pushed & (delta == 0)).sum()) / n if n else 0.0
        dot = torch.dot(before.detach().reshape(-1).float(), g.reshape(-1).float())
        *norms, dot = torch.stack([*(t.float().norm() for t in (before, g, delta)), dot]).tolist()
        if not all(map(math.isfinite, norms)):
            continue
        zero = float((g == 0).float().mean()) if g.numel() else 0.0
        both = norms[0] * norms[1]
        along = max(-1.0, min(1.0, dot / both)) if both > 0 and math.isfinite(dot) else 0.0
        record.looks.append(ParameterLook(step, *norms, zero, along, lost))
        record.equal_rows = equal_rows(p, record.transposed)
