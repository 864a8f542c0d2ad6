"""The autograd graph of a loss -> facts: which loss with which options, the path to the head, what is reachable.

Everything is read from the graph that `backward` is about to walk: node names, `next_functions`, the shape of each
node's output (`_input_metadata`), and the tensors that the loss node saved anyway. Nothing is computed on the forward
path. Saved tensors are read on loss nodes and on the few activations directly under them, never deeper: below a
non-reentrant checkpoint reading one would run the user's forward pass again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from unstuck.trace.facts import LossTerm, OpNode, Site

Node = Any  # torch.autograd.graph.Node; not imported, so that this module loads without torch

ACCUMULATE = "torch::autograd::AccumulateGrad"
MAX_REGION = 600  # nodes between the loss and the model; more than that is no loss but a second model

# Nodes that are a loss of their own: name without Backward<digit> -> kind.
LOSSES = {
    "NllLoss": "nll",
    "NllLoss2D": "nll",
    "NllLoss2d": "nll",
    "BinaryCrossEntropyWithLogits": "bce-logits",
    "BinaryCrossEntropy": "bce",
    "MseLoss": "mse",
    "SmoothL1Loss": "smooth-l1",
    "HuberLoss": "huber",
    "MultiMarginLoss": "multi-margin",
    "MultilabelMarginLoss": "multilabel-margin",
    "SoftMarginLoss": "soft-margin",
    "KlDiv": "kl",
    "CtcLoss": "ctc",
    "CudnnCtcLoss": "ctc",
}

# Those of `unstuck.losses` that keep the logits.
OWN = frozenset({"FusedCrossEntropy", "FusedBinaryCrossEntropy"})

# Names of operations, framework-independent. What is not listed keeps its own name in lower case.
OPS = {
    "LogSoftmax": "log_softmax",
    "Softmax": "softmax",
    "SparseSoftmax": "softmax",
    "Sigmoid": "sigmoid",
    "LogSigmoid": "log_sigmoid",
    "Tanh": "tanh",
    "Hardtanh": "clamp",
    "Hardsigmoid": "sigmoid",
    "Relu": "relu",
    "Threshold": "relu",
    "LeakyRelu": "leaky_relu",
    "Clamp": "clamp",
    "ClampMin": "clamp",
    "ClampMax": "clamp",
    "Dropout": "dropout",
    "NativeDropout": "dropout",
    "FeatureDropout": "dropout",
    "View": "view",
    "UnsafeView": "view",
    "Reshape": "view",
    "ReshapeAlias": "view",
    "Unflatten": "view",
    "AsStrided": "as_strided",
    "Transpose": "transpose",
    "T": "transpose",
    "Permute": "permute",
    "Squeeze": "squeeze",
    "Unsqueeze": "unsqueeze",
    "Expand": "expand",
    "Clone": "copy",
    "Alias": "copy",
    "Copy": "copy",
    "CopySlices": "copy_slices",
    "Contiguous": "copy",
    "Detach": "copy",
    "ToCopy": "cast",
    "Slice": "slice",
    "Select": "select",
    "Narrow": "slice",
    "Split": "slice",
    "SplitWithSizes": "slice",
    "Unbind": "select",
    "Cat": "cat",
    "Stack": "stack",
    "Index": "index",
    "IndexSelect": "index",
    "MaskedSelect": "index",
    "Gather": "gather",
    "Addmm": "linear",
    "Linear": "linear",
    "Mm": "matmul",
    "Bmm": "matmul",
    "Mv": "matmul",
    "Addmv": "linear",
    "Baddbmm": "matmul",
    "Dot": "matmul",
    "MkldnnLinear": "linear",
    "Convolution": "conv",
    "MkldnnConvolution": "conv",
    "CudnnConvolution": "conv",
    "Embedding": "embedding",
    "EmbeddingBag": "embedding",
    "MkldnnRnnLayer": "rnn",
    "CudnnRnn": "rnn",
    "NativeBatchNorm": "batch_norm",
    "CudnnBatchNorm": "batch_norm",
    "NativeLayerNorm": "layer_norm",
    "NativeGroupNorm": "group_norm",
    "CosineSimilarity": "cosine_similarity",
    "LinalgVectorNorm": "norm",
    "Norm": "norm",
    "Rsub": "rsub",
    "Pow": "pow",
    "CheckpointFunction": "checkpoint",
    "CompiledFunction": "compiled",
}

# Derivative zero everywhere it exists: a gradient reaches such a node and dies in it.
FLAT = frozenset({"round", "floor", "ceil", "sign", "trunc", "heaviside", "fix"})
HEADS = frozenset({"linear", "conv", "embedding", "rnn", "matmul"})
# Operations of the arithmetic between a loss and the numbers it is computed from.
_AXIS_KEPT = frozenset({
    "sigmoid", "tanh", "relu", "leaky_relu", "clamp", "dropout", "log", "exp", "neg", "reciprocal", "softmax",
    "log_softmax", "add", "sub", "rsub", "mul", "div", "pow", "copy", "cast", "gelu", "softplus", "elu", "log_sigmoid",
    "batch_norm", "layer_norm", "silu", "abs", "sqrt", "square",
})  # fmt: skip


def base_name(node: Node) -> str:
    """SoftmaxBackward0 -> Softmax; a custom Function's MyOpBackward -> MyOp."""
    name: str = node.name()
    return name.rpartition("Backward")[0] or name


def op_name(node: Node) -> str:
    base = base_name(node)
    if base.startswith("torch::jit") or "DifferentiableGraph" in base:
        return "scripted"
    return OPS.get(base, base.lower())


def shape_of(node: Node) -> list[int] | None:
    """Shape of the node's (first) output; None where this torch does not tell."""
    meta = getattr(node, "_input_metadata", None)
    try:
        return [int(n) for n in meta[0].shape] if meta else None
    except (RuntimeError, TypeError, AttributeError, ValueError):
        return None  # symbolic or nested shapes


def children(node: Node) -> list[Node]:
    return [child for child, _ in node.next_functions if child is not None]


def is_leaf(node: Node) -> bool:
    return bool(node.name() == ACCUMULATE)


def parameter_under(node: Node, hops: int = 4) -> Any:
    """The parameter a short chain of views and casts leads to (weight.t(), an autocast copy), else None."""
    for _ in range(hops):
        if is_leaf(node):
            return node.variable
        below = children(node)
        if len(below) != 1 or op_name(node) not in _VIEWS:
            return None
        node = below[0]
    return None


_VIEWS = frozenset({
    "view", "transpose", "permute", "copy", "cast", "expand", "squeeze", "unsqueeze", "as_strided", "select", "slice",
})  # fmt: skip


def walk(root: Node) -> tuple[list[Node], list[Any], set[str]]:
    """All nodes, the leaf tensors in order of discovery, and what hides parts of the graph ('compiled', ...)."""
    seen: set[Node] = set()
    stack, order, leaves, hidden = [root], [], [], set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        order.append(node)
        if is_leaf(node):
            leaves.append(node.variable)
            continue
        name = node.name()
        if name.startswith(("CheckpointFunction", "CompiledFunction")) or "DifferentiableGraph" in name:
            hidden.add(op_name(node))
        stack.extend(reversed(children(node)))
    return order, leaves, hidden


def signature(root: Node, limit: int = 200) -> tuple[tuple[str, ...], Any]:
    """The chain of names down to the first parameter, and that parameter (the anchor). What every step pays for.

    At each node a leaf is preferred over deeper branches, so the chain ends at the bias of the head after four or five
    nodes for most models.
    """
    chain: list[str] = []
    node = root
    for _ in range(limit):
        chain.append(node.name())
        follow = None
        for child, _ in node.next_functions:
            if child is None:
                continue
            if child.name() == ACCUMULATE:
                return tuple(chain), child.variable
            if follow is None:
                follow = child
        if follow is None:
            return tuple(chain), None
        node = follow
    return tuple(chain), None


class Found(NamedTuple):
    """A loss term in a graph, with the way back to its nodes in the next step's graph."""

    kind: str
    node: Node  # the node that holds the numbers: NllLoss, LogSoftmax, Sigmoid, MseLoss, ...
    below: Node | None  # the first node of the path to the model
    route: tuple[int, ...]  # edge numbers from the root to `node`
    pick: tuple[int, ...] | None  # edge numbers from the root to the gather / index / multiplication with the targets
    sign: int
    sign_node: Node | None
    coefficient: float | None
    linear: bool  # only sums, means and constant factors between the root and the term
    weighted: bool  # a tensor of per-sample weights multiplies it
    flags: frozenset[str]
    first_flags: frozenset[str] = frozenset()  # of the branch along which it was met first, which is the one kept


class _Via(NamedTuple):
    """State of the descent from the root to a loss term."""

    route: tuple[int, ...] = ()
    sign: int = 1
    sign_node: Node | None = None
    coefficient: float | None = 1.0
    linear: bool = True
    weighted: bool = False
    pick: tuple[int, ...] | None = None
    pick_kind: str = ""
    logs: int = 0
    power: str = ""
    rsub: bool = False
    scaled_by: float | None = None


def constant(node: Node, name: str) -> float | None:
    """The value of a saved 0-dimensional operand."""
    value = getattr(node, name, None)
    try:
        if value is None:
            return None
        return float(value) if getattr(value, "numel", lambda: 1)() == 1 else None
    except (RuntimeError, TypeError, ValueError):
        return None


def find_terms(root: Node) -> list[Found]:
    """The loss terms between `root` and the model, nearest first. Empty where nothing known is found."""
    found: dict[Any, Found] = {}
    stack: list[tuple[Node, _Via]] = [(root, _Via())]
    visits = 0
    while stack and visits < MAX_REGION:
        visits += 1
        node, via = stack.pop(0)
        if is_leaf(node):
            continue
        term, descend = _classify(node, via)
        if term is not None:
            key = term.node
            old = found.get(key)
            # A term met again through another branch (focal loss, label smoothing) keeps its best description.
            if old is None or (_rank(term) > _rank(old)):
                found[key] = term._replace(
                    first_flags=term.flags,
                    flags=term.flags | (old.flags if old else frozenset()),
                    linear=term.linear and (old is None or old.linear or term.kind == old.kind == "cross-entropy"),
                )
            else:
                found[key] = old._replace(flags=old.flags | term.flags | {"again"}, linear=old.linear and term.linear)
            continue
        if descend:
            stack.extend(_descend(node, via))
    terms = [
        # One logarithm alone is some other loss (ranking, GAN, Poisson): binary cross-entropy has both.
        t._replace(kind="unknown") if t.kind == "bce" and "hand" in t.flags and not {"log(p)", "log(1-p)"} <= t.flags else t
        for t in found.values()
    ]
    # The smoothing branch of a cross-entropy meets the same log-softmax again.
    inside = {skip_views(_first(t.node))[0] for t in terms if "fused" in t.flags}
    terms = [t for t in terms if t.node not in inside]
    known = [t for t in terms if t.kind not in {"unknown", "log_softmax"}]
    return known or [t for t in terms if t.kind == "unknown"]


def _rank(term: Found) -> int:
    order = {"unknown": 0, "log_softmax": 1, "soft-cross-entropy": 2, "kl": 2}
    return order.get(term.kind, 3)


def _found(
    kind: str, node: Node, below: Node | None, via: _Via, *, flip: bool = False, flags: frozenset[str] = frozenset()
) -> Found:
    """`flip`: the quantity itself grows with the probability of the label, so a correct loss has it negated."""
    sign = -via.sign if flip else via.sign
    coefficient = None if via.coefficient is None else abs(via.coefficient)
    if not via.linear:  # through a power, a quotient or an exponential the sign of the slope is not that of the factors
        sign, coefficient = 1, None
    return Found(
        kind,
        node,
        below,
        via.route,
        via.pick,
        sign,
        via.sign_node if via.linear else None,
        coefficient,
        via.linear,
        via.weighted,
        flags,
    )


def own_call(node: Node) -> tuple[Any, Any, Any, Any] | None:
    """(logits, target, weight, options) of a loss of `unstuck.losses`; None for any other node, and once its graph is freed."""
    ours = getattr(getattr(node, "_forward_cls", None), "__module__", "").startswith("unstuck.losses.")
    if not ours or base_name(node) not in OWN:
        return None
    try:
        logits, target, weight, *_ = node.saved_tensors
        return logits, target, weight, node.o
    except (AttributeError, RuntimeError, ValueError):
        return None


def _classify(node: Node, via: _Via) -> tuple[Found | None, bool]:
    """(term, False) at a loss; (None, True) inside the arithmetic of a loss; (None, False) where the model begins."""
    base, op = base_name(node), op_name(node)
    if base in LOSSES:
        kind = LOSSES[base]
        below = next(iter(children(node)), None)
        if kind == "nll" and below is not None:
            under, _ = skip_views(below)
            if under is not None and op_name(under) == "log_softmax":
                return _found("cross-entropy", node, _first(under), via, flags=frozenset({"fused"})), False
            inner = _log_of_softmax(below)
            if inner is not None:
                return _found("cross-entropy", node, _first(inner), via, flags=frozenset({"log(softmax)"})), False
        return _found(kind, node, below, via), False
    own = own_call(node)
    if own is not None and base == "FusedBinaryCrossEntropy":
        return _found("bce-logits", node, _first(node), via, flags=frozenset({"own"})), False
    if own is not None:
        _, target, _, asked = own
        kind = "soft-cross-entropy" if target.is_floating_point() else "cross-entropy"
        kind = kind if asked.loss == "cross-entropy" else "unknown"
        plain = via._replace(coefficient=None) if asked.z_loss else via
        return _found(kind, node, _first(node), plain, flags=frozenset({"own"})), False
    if op == "log_softmax":
        if via.pick_kind == "index":
            return _found("cross-entropy", node, _first(node), via, flip=True, flags=frozenset({"hand"})), False
        if via.pick_kind in {"mul", "one-hot"}:
            return _found("soft-cross-entropy", node, _first(node), via, flip=True, flags=frozenset({"hand"})), False
        return _found("log_softmax", node, _first(node), via), False
    if op == "softmax" and (via.logs or via.pick_kind) and not via.power:
        kind = {"index": "cross-entropy", "mul": "soft-cross-entropy", "one-hot": "soft-cross-entropy"}.get(
            via.pick_kind, "unknown"
        )
        if via.logs:
            return _found(kind, node, _first(node), via, flip=True, flags=frozenset({"hand", "log(softmax)"})), False
        if via.linear and via.pick_kind in {"index", "one-hot"}:  # -p[y]: a likelihood without its logarithm
            return _found("nll", node, node, via, flip=True, flags=frozenset({"hand"})), False
        return _found("unknown", node, node, via), False
    if op in {"log", "log1p"} and not via.logs and not via.power and via.pick_kind != "index":
        probability, complement, edges = _probability_under_log(node)
        if probability is not None:
            flags = frozenset({"hand", "log(1-p)" if complement else "log(p)"})
            here = via._replace(route=(*via.route, *edges))
            return _found("bce", probability, probability, here, flip=True, flags=flags), False
    if op == "log_sigmoid":
        return _found("bce-logits", node, _first(node), via, flip=True, flags=frozenset({"hand"})), False
    if op == "sub" and not via.logs and not via.power:
        pair = [_skip_squeezes(c)[0] for c in children(node)]
        names = [op_name(c) if c is not None else "" for c in pair]
        if len(pair) == 2 and "logsumexp" in names and {"index", "gather"} & set(names):
            total, picked = pair if names[0] == "logsumexp" else pair[::-1]
            if _first(total) is _first(picked):  # log sum exp z - z[y]
                flags = frozenset({"logsumexp", "hand"})
                return _found(
                    "cross-entropy",
                    total,
                    _first(total),
                    _through(node, total, via),
                    flip=names[1] == "logsumexp",
                    flags=flags,
                ), False
        if len(pair) == 2 and names[1] == "logsumexp" and _first(pair[1]) is pair[0]:  # z - log sum exp z: a log-softmax
            kind = {"index": "cross-entropy", "mul": "soft-cross-entropy", "one-hot": "soft-cross-entropy"}.get(via.pick_kind)
            flags = frozenset({"logsumexp", "hand"})
            return _found(kind or "unknown", pair[1], pair[0], _through(node, pair[1], via), flip=True, flags=flags), False
    if op == "logsumexp":
        return _found("unknown", node, node, via), False
    if op == "sub" and via.power:
        inputs = [c for c, _ in node.next_functions]
        if sum(c is None for c in inputs) == 1:
            below = next(c for c in inputs if c is not None)
            return _found(
                "mse" if via.power == "square" else "l1",
                node,
                below,
                via._replace(sign=abs(via.sign) or 1),
                flags=frozenset({"hand"}),
            ), False
    if op in {"checkpoint", "compiled", "scripted"} or op in HEADS or op in {"batch_norm", "layer_norm"}:
        return _found("unknown", node, node, via), False
    return None, True


def _skip_squeezes(node: Node | None) -> tuple[Node | None, list[int]]:
    """Through operations that only change the shape, down to the first other node, with the edges taken."""
    route: list[int] = []
    while node is not None and op_name(node) in {"view", "squeeze", "unsqueeze"}:
        route.append(_first_edge(node))
        node = _first(node)
    return node, route


def _through(node: Node, target: Node, via: _Via) -> _Via:
    """The state at `target`, which lies under views of one of the node's operands."""
    for edge, (child, _) in enumerate(node.next_functions):
        found, views = _skip_squeezes(child) if child is not None else (None, [])
        if found is target:
            return via._replace(route=(*via.route, edge, *views))
    return via


def _first(node: Node) -> Node | None:
    return next(iter(children(node)), None)


def skip_views(node: Node | None) -> tuple[Node | None, list[int]]:
    """Through views, casts and copies down to the first other node."""
    route = []
    while node is not None and op_name(node) in {
        "view",
        "transpose",
        "permute",
        "squeeze",
        "unsqueeze",
        "copy",
        "cast",
        "slice",
        "select",
        "index",
        "expand",
    }:
        route.append(_first_edge(node))
        node = _first(node)
    return node, route


def _first_edge(node: Node) -> int:
    return next((i for i, (c, _) in enumerate(node.next_functions) if c is not None), 0)


def _log_of_softmax(node: Node | None) -> Node | None:
    """log(softmax(x)), log(softmax(x) + eps), log(clamp(softmax(x))): the softmax node."""
    node, _ = skip_views(node)
    if node is None or op_name(node) != "log":
        return None
    node = _first(node)
    while node is not None and op_name(node) in {"add", "clamp", "view", "copy", "cast", "squeeze", "unsqueeze"}:
        node = _first(node)
    return node if node is not None and op_name(node) == "softmax" else None


def _probability_under_log(node: Node) -> tuple[Node | None, bool, tuple[int, ...]]:
    """For log(p), log(1-p), each perhaps with a small constant added or clamped: (node of p, is it 1-p, edges to it).

    None where p is a softmax (categorical, not binary) or cannot be told. The sums and clamps that guard against log(0)
    are skipped where an activation lies under them; a clamp on a raw output is p itself.
    """
    nothing = (None, False, ())
    edges = [_first_edge(node)]
    complement = op_name(node) == "log1p"
    below = _first(node)
    if complement:
        if below is None or op_name(below) != "neg":
            return nothing
        edges.append(_first_edge(below))
        below = _first(below)
    for _ in range(4):
        if below is None or is_leaf(below):
            return nothing
        op = op_name(below)
        rest = children(below)
        flips = (op == "rsub" and len(rest) == 1) or (op == "sub" and len(rest) == 1 and below.next_functions[0][0] is None)
        guards = (op == "add" and len(rest) == 1) or (
            op == "clamp" and bool(rest) and op_name(rest[0]) in {"sigmoid", "rsub", "softmax", "add", "sub"}
        )
        views = op in {"view", "squeeze", "unsqueeze", "copy", "cast"} and bool(rest)
        if not (flips or guards or views):
            break
        complement ^= flips
        edges.append(_first_edge(below))
        below = rest[0]
    categorical = {"softmax", "gather", "index", "sum", "exp", "softplus", "select", "logsumexp", "div"}
    if below is None or is_leaf(below) or op_name(below) in categorical:
        return nothing
    return below, complement, tuple(edges)


def _is_one_hot(tensor: Any) -> bool:
    return bool(tensor.dim() > 1 and ((tensor == 0) | (tensor == 1)).all() and (tensor.sum(-1) == 1).all())


def _descend(node: Node, via: _Via) -> Iterator[tuple[Node, _Via]]:
    op = op_name(node)
    edges = [(i, c) for i, (c, _) in enumerate(node.next_functions) if c is not None]
    several = len(edges) > 1
    for edge, child in edges:
        step = via._replace(route=(*via.route, edge))
        match op:
            case "neg":
                step = step._replace(sign=-via.sign, sign_node=node)
            case "sub":
                if edge == 1:
                    alpha = constant(node, "_saved_alpha")
                    step = _scaled(step, -1.0 if alpha is None else -alpha, node)
            case "rsub":
                step = _scaled(step, -1.0, node)._replace(rsub=True)
            case "mul":
                same = several and edges[0][1] is edges[1][1]
                if same:
                    step = step._replace(power="square", linear=False)
                else:
                    step = _multiplied(node, edge, step, several)
            case "div":
                if edge == 0:
                    value = constant(node, "_saved_other")
                    if several or value == 0:
                        step = step._replace(linear=not several and step.linear, coefficient=None)
                    elif value is not None:
                        step = _scaled(step, 1.0 / value, node)
                else:
                    step = step._replace(linear=False, coefficient=None)
            case "index" | "gather":
                if via.pick is None:
                    step = step._replace(pick=via.route, pick_kind="index")  # the route to this node
            case "log":
                step = step._replace(logs=via.logs + 1)
            case "pow":
                exponent = constant(node, "_saved_exponent")
                step = step._replace(power="square" if exponent == 2 else "power", linear=False)
            case "abs":
                step = step._replace(power="abs", linear=False)
            case (
                "exp" | "sqrt" | "reciprocal" | "where" | "maximum" | "minimum" | "max" | "min" | "sigmoid" | "tanh" | "relu"
            ):
                step = step._replace(linear=False)
            case _:
                pass
        yield child, step


def _scaled(via: _Via, factor: float, node: Node) -> _Via:
    sign = via.sign * (-1 if factor < 0 else 1)
    coefficient = None if via.coefficient is None else via.coefficient * factor
    return via._replace(sign=sign, sign_node=node if factor < 0 else via.sign_node, coefficient=coefficient)


def _multiplied(node: Node, edge: int, via: _Via, several: bool) -> _Via:
    if several:
        return via._replace(linear=False, coefficient=None)
    # The saved operand is the *other* one; which attribute holds it depends on the side.
    other = getattr(node, "_saved_other" if edge == 0 else "_saved_self", None)
    if other is None:
        return via._replace(coefficient=None)
    if not hasattr(other, "numel") or other.numel() == 1:
        return _scaled(via, float(other), node)
    child = children(node)[0]
    under, _ = skip_views(child)
    # The minus sign may sit in the targets: -t * log p. Factors of both signs leave no sign to speak of.
    if bool((other <= 0).all()):
        via = via._replace(sign=-via.sign, sign_node=node)
    elif not bool((other >= 0).all()):
        via = via._replace(linear=False)
    if under is not None and op_name(under) in {"log", "log1p"} and _probability_under_log(under)[0] is not None:
        return via._replace(pick=via.pick or via.route[:-1], pick_kind=via.pick_kind or "binary")
    below = shape_of(child)
    if (
        via.pick is None
        and below is not None
        and op_name(child) in {"softmax", "log_softmax", "log"}
        and list(other.shape) == below
    ):
        kind = "one-hot" if _is_one_hot(other) else "mul"
        return via._replace(pick=via.route[:-1], pick_kind=kind)
    if (below is not None and list(other.shape) == below and len(below) > 1 and below[-1] > 1) or (
        via.pick is None
        and below is not None
        and len(below) > 1
        and other.dim() == len(below)
        and int(other.shape[-1]) == below[-1] > 1
    ):
        return via._replace(pick=via.route[:-1], pick_kind=via.pick_kind or "mul")
    return via._replace(weighted=True, coefficient=None)


# Between the loss and a matrix of all pairs: what works on each entry alone, and sums over entries.
_OF_EACH_ENTRY = frozenset({
    "add", "sub", "rsub", "mul", "div", "neg", "abs", "pow", "exp", "log", "log1p", "expm1", "sqrt", "square", "reciprocal",
    "clamp", "relu", "sigmoid", "tanh", "softplus", "log_sigmoid", "where", "maximum", "minimum", "logaddexp", "logaddexp2",
    "xlogy", "erf", "sin", "cos", "log_cosh", "leaky_relu", "elu", "gelu", "silu", "sum", "mean", "view", "squeeze",
    "unsqueeze", "expand", "copy", "cast", "transpose", "permute", "mse", "smooth_l1", "huber", "lerp", "addcmul", "addcdiv",
    "mseloss", "smoothl1loss", "huberloss", "cosh", "log2", "log10", "sign", "sgn", "softmarginloss", "atan", "rsqrt",
})  # fmt: skip


def all_pairs(
    root: Node, order: list[Node], first: int, last: int, rows: int, *,
    chosen: Sequence[tuple[int, int]] = (), met: Sequence[tuple[int, int]] = (),
) -> bool:  # fmt: skip
    """Is the loss a sum over all entries of the rows x rows matrix that the nodes numbered first..last made?

    Everything between them must work on each entry alone or sum. A minimum, a softmax, an index or a mask over the pairs
    (`chosen`: operations that were given one) says which pairs are meant. So does a second matrix of pairs both of whose
    sides are computed: a loss with attraction and repulsion (MMD, energy distance) is no mistake. And what was stretched
    must be outputs: a loss of each sample that has met its own target already (`met`) is only weighted wrongly.
    """

    def inside(node: Node, intervals: Sequence[tuple[int, int]]) -> bool:
        return any(low <= node._sequence_nr() < high for low, high in intervals)

    made = [n for n in order if not is_leaf(n) and shape_of(n) == [rows, rows] and inside(n, [(first, last)])]
    above: dict[Node, list[Node]] = {}
    for node in order:
        for child in children(node):
            above.setdefault(child, []).append(node)
    if not made or any(inside(n, chosen) for n in made):
        return False
    stack, seen = [n for m in made for n in above.get(m, [])], set(made)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if op_name(node) not in _OF_EACH_ENTRY or inside(node, chosen):
            return False
        stack.extend(above.get(node, []))
    for node in order:
        sizes = [] if is_leaf(node) else [shape_of(c) for c in children(node) if not is_leaf(c)]
        if shape_of(node) == [rows, rows] and node not in made and len(sizes) > 1 and [rows, rows] not in sizes:
            return False
    stack = [c for m in made for c in children(m)]
    while stack:
        node = stack.pop()
        op = op_name(node)
        if node in seen or is_leaf(node) or op in HEADS or op in {"batch_norm", "layer_norm", "compiled", "checkpoint"}:
            continue
        seen.add(node)
        if base_name(node) in LOSSES or op in {"log_softmax", "logsumexp"} or inside(node, met):
            return False
        stack.extend(children(node))
    return root in seen


def follow(root: Node, route: tuple[int, ...]) -> Node | None:
    """Go the recorded edges in another step's graph; None when the graph has another shape."""
    node = root
    for edge in route:
        edges = node.next_functions
        if edge >= len(edges) or edges[edge][0] is None:
            return None
        node = edges[edge][0]
    return node


Describe = Callable[[Node], tuple[Site | None, str, Site | None, list[str], bool]]
"""node -> (line that ran it, innermost module type, its constructor, names of frozen parameters, is it a library module)"""


def path_to_head(node: Node | None, describe: Describe, name_of: Callable[[Any], str]) -> tuple[list[OpNode], str]:
    """Operations from a loss's input down to the last parametric layer, and how the path ends.

    Ends: parametric (a linear, convolution, embedding or recurrent layer), merge (two differentiable inputs that are no
    known pattern), hidden (compiled, scripted or re-entrant checkpoint), leaf (a tensor is optimised directly), none.
    """
    path: list[OpNode] = []
    for _ in range(80):
        if node is None:
            return path, "none"
        if is_leaf(node):
            return path, "leaf"
        op = op_name(node)
        out = OpNode(op, node.name(), shape_of(node))
        site, module, made, frozen, library = describe(node)
        out.site, out.module, out.frozen = site, module, frozen
        out.made = made if library else None
        below = children(node)
        parameters = [p for p in (parameter_under(c) for c in below) if p is not None]
        out.parameters = [name_of(p) for p in parameters]
        if op in {"checkpoint", "compiled", "scripted"}:
            path.append(out)
            return path, "hidden"
        _details(node, op, out)
        pattern = _by_hand(node, op, below)
        if pattern is not None:
            out.op, out.dim, node = pattern
            path.append(out)
            continue
        path.append(out)
        if op in HEADS:
            if not out.frozen and _weight_edge(node, op) is None:
                out.frozen = ["weight"]  # a layer whose weight takes no gradient
            if op == "matmul":
                if _normalised(below):
                    out.op = "cosine_similarity"
                    return path, "parametric"
                if parameters or frozen:
                    out.op = "linear"
                    return path, "parametric"
                if len(below) > 1:
                    return path, "merge"
                node = below[0] if below else None  # a constant matrix: the numbers go on
                continue
            return path, "parametric"
        if op == "cosine_similarity":
            return path, "parametric"
        rest = [c for c in below if parameter_under(c) is None]
        if len(rest) > 1 and op not in {"stack", "cat", "copy_slices"}:
            return path, "merge"
        node = rest[0] if rest else (below[0] if below else None)
    return path, "merge"


def _weight_edge(node: Node, op: str) -> Node | None:
    """The edge to a layer's weight; the node itself where the operation has no known place for one."""
    place = {"Addmm": 2, "Linear": 1, "Convolution": 1, "MkldnnConvolution": 1}.get(base_name(node))
    edges = node.next_functions
    return node if place is None or place >= len(edges) else edges[place][0]


def _normalised(below: list[Node]) -> bool:
    """Both operands of a product are divided by their own norm: a cosine."""
    return len(below) == 2 and all(_divided_by_norm(c) for c in below)


def _divided_by_norm(node: Node | None) -> bool:
    node, _ = skip_views(node)
    return node is not None and op_name(node) == "div" and _norm_under(node) is not None


def _norm_under(node: Node) -> Node | None:
    """The norm that a division divides by; None where it is something else."""
    divisor = node.next_functions[1][0] if len(node.next_functions) > 1 else None
    while divisor is not None and op_name(divisor) in {"expand", "clamp", "add", "view", "unsqueeze", "maximum"}:
        divisor = _first(divisor)
    return divisor if divisor is not None and op_name(divisor) in {"norm", "sqrt"} else None


def _by_hand(node: Node, op: str, below: list[Node]) -> tuple[str, int | None, Node | None] | None:
    """exp(x) / exp(x).sum(axis): (softmax, axis, node under it). x / x.norm(axis): (unit_norm, axis, node under it)."""
    norm = _norm_under(node) if op == "div" else None
    if norm is not None and below[0] in children(norm):
        dims = getattr(norm, "_saved_dim", None)
        return "unit_norm", _axis(dims[0], len(shape_of(node) or [])) if dims and len(dims) == 1 else None, below[0]
    if op == "div" and len(below) == 2 and op_name(below[0]) == "exp":
        total = below[1]
        while op_name(total) in {"expand", "unsqueeze", "view", "add"} and children(total):
            total = children(total)[0]
        if op_name(total) == "sum" and below[0] in children(total):
            dims = getattr(total, "_saved_dim", None)
            rank = len(shape_of(node) or [])
            axis = _axis(dims[0], rank) if dims else None
            under = _first(below[0])
            # exp(x - max(x)): the shift changes nothing
            if under is not None and op_name(under) == "sub" and len(children(under)) == 2:
                second = children(under)[1]
                while op_name(second) in {"expand", "unsqueeze", "view"} and children(second):
                    second = children(second)[0]
                if op_name(second) in {"max", "amax"}:
                    under = children(under)[0]
            return "softmax", axis, under
    return None


def _axis(value: int, rank: int) -> int:
    """Saved axes come as unsigned 64-bit numbers: 2^64 - 1 is -1."""
    value = int(value)
    if value >= 1 << 63:
        value -= 1 << 64
    return value + rank if value < 0 else value


def _details(node: Node, op: str, out: OpNode) -> None:
    rank = len(out.shape or [])
    if op in {"softmax", "log_softmax"}:
        dim = getattr(node, "_saved_dim", None)
        out.dim = _axis(dim, rank) if dim is not None else None
    elif op in {"mul", "div"} and len(children(node)) == 1:
        value = constant(node, "_saved_other")
        if value is None:
            value = constant(node, "_saved_self")
        if value is not None and (op == "mul" or value):
            out.scale = value if op == "mul" else 1.0 / value
    elif op == "transpose":
        pair = (getattr(node, "_saved_dim0", None), getattr(node, "_saved_dim1", None))
        if rank == 2 and pair[0] is None:
            out.perm = [1, 0]
        elif pair[0] is not None:
            a, b = _axis(pair[0], rank), _axis(pair[1], rank)
            out.perm = list(range(rank))
            out.perm[a], out.perm[b] = b, a
    elif op == "permute":
        dims = getattr(node, "_saved_dims", None)
        out.perm = [_axis(d, rank) for d in dims] if dims is not None else None
    elif op in {"select", "stack", "cat", "unsqueeze", "squeeze"}:
        dim = getattr(node, "_saved_dim", None)
        if isinstance(dim, (tuple, list)):
            dim = dim[0] if len(dim) == 1 else None
        if dim is not None:
            out.dim = _axis(dim, rank + (op in {"select", "squeeze"}))


def zero_columns(node: Node) -> float | None:
    """For a relu: the share of units (last axis) that are 0 for every row of the saved result."""
    result = getattr(node, "_saved_result", None)
    if result is None or result.dim() < 2:
        return None
    flat = result.detach().reshape(-1, result.shape[-1])
    return float((flat == 0).all(0).double().mean())


def feature_axis(path: list[OpNode], classes_axis: int | None) -> tuple[int | None, bool]:
    """Follow the head's output units up to the loss: (axis that holds them there, mixed with other axes?).

    Every axis is a list of atoms (size, tag); a view regroups atoms in memory order and splits one where it must, a
    permutation reorders axes. (None, False) where an operation on the way is not understood: then nothing is claimed.
    """
    if not path or path[-1].op not in {"linear", "conv", "cosine_similarity"} or path[-1].shape is None:
        return None, False
    head = path[-1]
    rank = len(head.shape or [])
    feature = 1 if head.op == "conv" else rank - 1
    axes = [[(size, "unit" if i == feature else f"other{i}")] for i, size in enumerate(head.shape or [])]
    for node in reversed(path[:-1]):
        moved = _move(node, axes)
        if moved is None:
            return None, False
        axes = moved
    tags = [{tag for size, tag in axis if size != 1} for axis in axes]
    if classes_axis is None or classes_axis >= len(tags):
        return None, False
    here = tags[classes_axis]
    if "unit" in here and len(here) > 1:
        return classes_axis, True
    holders = [i for i, tag in enumerate(tags) if "unit" in tag]
    if here and "unit" not in here:
        # The classes axis has several entries and none is a unit of the head.
        return (holders[0], any(len(tags[i]) > 1 for i in holders)) if holders else (None, False)
    return (classes_axis, False) if here else (None, False)


Axes = list[list[tuple[int, str]]]


def _move(node: OpNode, axes: Axes) -> Axes | None:
    if node.shape is None:
        return None
    sizes = [_size(axis) for axis in axes]
    if node.op in _AXIS_KEPT:
        return axes if sizes == node.shape else None
    if node.op in {"transpose", "permute"}:
        return [axes[i] for i in node.perm] if node.perm is not None and len(node.perm) == len(axes) else None
    if node.op in {"view", "squeeze", "unsqueeze", "expand", "copy"}:
        return _regroup([atom for axis in axes for atom in axis], node.shape)
    if node.op == "slice" and len(sizes) == len(node.shape):
        return [axis if _size(axis) == n else _resized(axis, n) for axis, n in zip(axes, node.shape)]
    if node.op == "select" and node.dim is not None and node.dim < len(axes):
        return axes[: node.dim] + axes[node.dim + 1 :]
    if node.op == "stack" and node.dim is not None:
        return [*axes[: node.dim], [(node.shape[node.dim], "time")], *axes[node.dim :]]
    if node.op == "cat" and len(sizes) == len(node.shape):
        return [axis if _size(axis) == n else _resized(axis, n) for axis, n in zip(axes, node.shape)]
    if node.op == "index" and len(node.shape) <= len(axes) and node.shape[-1] == sizes[-1]:
        lead = [[(n, "rows")] for n in node.shape[:-1]]
        return [*lead, axes[-1]]
    return None


def _size(axis: list[tuple[int, str]]) -> int:
    total = 1
    for size, _ in axis:
        total *= size
    return total


def _resized(axis: list[tuple[int, str]], size: int) -> list[tuple[int, str]]:
    tags = {tag for _, tag in axis}
    return [(size, tags.pop() if len(tags) == 1 else "mixed")]


def _regroup(atoms: list[tuple[int, str]], shape: list[int]) -> Axes | None:
    """Distribute atoms over a new shape in memory order.

    A cut inside an atom that divides it splits it. Where sizes do not divide, the axes and atoms up to the next common
    boundary form one block, and each of its axes gets the names of the atoms that change along it.
    """
    rest = [a for a in atoms if a[0] != 1]
    sizes = list(shape)
    out: Axes = []
    while sizes:
        need = sizes.pop(0)
        group: list[tuple[int, str]] = []
        while need > 1:
            if not rest:
                return None
            have, tag = rest.pop(0)
            if need % have == 0:
                group.append((have, tag))
                need //= have
            elif have % need == 0:
                group.append((need, tag))
                rest.insert(0, (have // need, tag))
                need = 1
            else:
                pieces, axes = [*group, (have, tag)], [_size(group) * need]
                block, need = _size(pieces), axes[0]
                while block != need:
                    if block < need and rest:
                        pieces.append(rest.pop(0))
                        block *= pieces[-1][0]
                    elif sizes:
                        axes.append(sizes.pop(0))
                        need *= axes[-1]
                    else:
                        return None
                out.extend(_mixed(pieces, axes))
                break
        else:
            out.append(group or [(1, "one")])
    return out if not rest else None


def _mixed(pieces: list[tuple[int, str]], axes: list[int]) -> Axes:
    """Which atoms change along the axes of a block that holds the same numbers under two shapes.

    An atom of size n and stride s is (f // s) mod n at flat position f; along an axis of size c and stride t it stays
    the same exactly when t is a multiple of its period s n, or when the whole axis lies within one step of it, c t | s.
    """
    out: Axes = []
    for j, size in enumerate(axes):
        stride = 1
        for later in axes[j + 1 :]:
            stride *= later
        tags = []
        for i, (length, tag) in enumerate(pieces):
            step = _size(pieces[i + 1 :])
            if stride % (step * length) and step % (size * stride):
                tags.append((2, tag))
        out.append(tags or [(2, "none")])
    return out


def options(term: LossTerm, node: Node) -> None:
    """Options that a fused loss node saved: weight, pos_weight, reduction, ignore_index."""
    own = own_call(node)
    if own is not None:
        _, target, weight, asked = own
        term.reduction, term.label_smoothing = asked.reduction, asked.label_smoothing
        if term.kind == "bce-logits":
            term.sample_weighted = weight is not None
            positive = node.saved_tensors[3]
            term.pos_weight = [float(w) for w in positive.flatten()] if positive is not None and positive.numel() <= 4096 else None
        else:
            term.ignore_index = None if target.is_floating_point() else asked.ignore_index
            term.weight = [float(w) for w in weight] if weight is not None and weight.numel() <= 4096 else term.weight
        return
    reduction = getattr(node, "_saved_reduction", None)
    if reduction is not None:
        term.reduction = {0: "none", 1: "mean", 2: "sum"}.get(int(reduction), "")
    ignore = getattr(node, "_saved_ignore_index", None)
    if ignore is not None:
        value = int(ignore)
        term.ignore_index = value - (1 << 64) if value >= 1 << 63 else value
    weight = getattr(node, "_saved_weight", None)
    if weight is not None:
        flat = weight.detach().flatten()
        if term.kind in {"cross-entropy", "nll"} and flat.numel() <= 4096:
            term.weight = [float(w) for w in flat]
        elif term.kind not in {"cross-entropy", "nll"}:
            term.sample_weighted = True
    positive = getattr(node, "_saved_pos_weight", None)
    if positive is not None and positive.numel() <= 4096:
        term.pos_weight = [float(w) for w in positive.detach().flatten()]
