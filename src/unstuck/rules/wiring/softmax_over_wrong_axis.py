"""A softmax runs over the batch or the time axis instead of over the classes.

## What it means
The probabilities of one sample do not sum to 1; those of one class over all samples of the batch do. The samples
compete with each other for a class, instead of the classes for a sample.

## What is seen
The axis of a Softmax or LogSoftmax on the path is not the axis that holds the classes, followed through views and
transposes. Where the graph is hidden: at every sampled call the columns of the numbers given to the loss sum to 1, and
the rows do not.

## Why training gets stuck
With B samples the loss of an untrained model is ln B instead of ln K. It cannot reach 0: a sample of class y shares
the probability 1 with all samples of its class in the batch, so the floor is the mean of ln(number of samples of class
y). Predictions on a single sample are meaningless.

## Fix
Run the softmax over the class axis: dim=1 for [batch, classes], dim=-1 for [batch, time, classes]. Better, return raw
logits and use CrossEntropyLoss.

## Not to be confused with
A softmax over the batch or over positions that is the task (contrastive losses, pointer networks): there the labels
point along that axis. An implicit dim, which torch chooses by the number of axes. A softmax over an axis of length 1
is W104.

## References
torch.nn.functional.softmax: "dim: a dimension along which softmax will be computed". Bridle 1990. Start at ln B: the
uniform distribution over B entries.
"""

from __future__ import annotations

import itertools
import math

from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules.paths import RESHAPING, at, sites
from unstuck.theory import floors
from unstuck.trace import synthetic
from unstuck.trace.facts import LossTerm, OpNode, Site
from unstuck.trace.trace import Trace

CODE = "W105"
NEEDS = ("terms",)
EXPLAINS = ("W101", "W103", "N701")

_CATEGORICAL = frozenset({"cross-entropy", "soft-cross-entropy", "nll"})
_ELEMENTWISE_TARGETS = frozenset({"bce", "bce-logits", "mse", "l1", "smooth-l1", "huber"})
_KEEPS_SHAPE = frozenset({"copy", "cast", "clamp", "log", "dropout", "neg"})


def check(trace: Trace) -> Finding | None:
    for term in trace.facts.terms:
        if term.kind not in _CATEGORICAL and term.kind not in _ELEMENTWISE_TARGETS:
            continue
        finding = _on_path(term) or _written_by_hand(term) or _in_values(term)
        if finding is not None:
            return finding
    return None


# ---------------------------------------------------------------------- axes


def axis_below(path: list[OpNode], end: int, axis: int) -> int | None:
    """The axis of path[end]'s output that becomes `axis` of the loss input; None where it cannot be followed."""
    for node, below in itertools.pairwise(path[: end + 1]):
        if node.op in {"transpose", "permute"}:
            if node.perm is None or axis >= len(node.perm):
                return None
            axis = node.perm[axis]
        elif node.op in _KEEPS_SHAPE or (node.op in {"mul", "div"} and node.scale is not None) or (
            node.op in {"add", "sub", "rsub"} and not node.parameters
        ):
            if node.shape is None or node.shape != below.shape:
                return None
        elif node.op in RESHAPING:
            moved = _through_view(node.shape, below.shape, axis)
            if moved is None:
                return None
            axis = moved
        else:
            return None
    return axis


def _through_view(out: list[int] | None, below: list[int] | None, axis: int) -> int | None:
    """Views keep the memory order: an axis survives where its length and the product of all later lengths do."""
    if out is None or below is None or axis >= len(out):
        return None
    if out == below:
        return axis
    if out[axis] == 1 or math.prod(out) != math.prod(below):
        return None
    after = math.prod(out[axis + 1 :])
    found = [i for i, n in enumerate(below) if n == out[axis] and math.prod(below[i + 1 :]) == after]
    return found[0] if len(found) == 1 else None


def _class_axis(term: LossTerm) -> int | None:
    if term.kind in _CATEGORICAL:
        return term.class_axis
    return 1 if term.input_shape is not None and len(term.input_shape) == 2 else None


# ---------------------------------------------------------------------- the three ways it shows


def _on_path(term: LossTerm) -> Finding | None:
    end = next((i for i, n in enumerate(term.path) if n.op in {"softmax", "log_softmax"}), None)
    if end is None:
        return None
    node = term.path[end]
    if any(n.op not in RESHAPING | _KEEPS_SHAPE | {"mul", "div", "add", "sub", "rsub"} for n in term.path[:end]):
        return None
    shape, dim = node.shape, node.dim
    if shape is None or dim is None or dim >= len(shape) or shape[dim] == 1:
        return None
    if len(shape) == 1:
        return _over_squeezed_batch(term, node, shape[0])
    axis = _class_axis(term)
    if axis is None:
        return None
    classes = axis_below(term.path, end, axis)
    if classes is None or classes == dim or classes >= len(shape) or shape[classes] == 1:
        return None
    name = "Softmax" if node.op == "softmax" else "LogSoftmax"
    return _finding(
        [
            Evidence(
                f"The graph has a {name} over axis {dim} of a tensor of shape {_times(shape)}; the classes "
                f"are on axis {classes}."
            ),
            _start(shape[dim], shape[classes]),
        ],
        sites(node.made, node.site),
        classes - len(shape),
        place=node.where,
    )


def _over_squeezed_batch(term: LossTerm, node: OpNode, rows: int) -> Finding | None:
    """[N, 1] squeezed to [N], then a softmax over all samples."""
    head = term.path[-1]
    one_unit = head.shape is not None and len(head.shape) > 1 and head.shape[-1] == 1 and head.shape[0] == rows
    if term.kind not in _ELEMENTWISE_TARGETS or not one_unit or rows < 2:
        return None
    if term.labels.kind not in {"binary", "integer"}:
        return None  # the targets may be a distribution over the samples
    return _finding(
        [
            Evidence(
                f"The graph has a Softmax over the only axis of a tensor of {rows} numbers, which are the "
                f"{rows} samples of the batch: the last layer has one unit."
            )
        ],
        sites(node.made, node.site),
        None,
    )


def _written_by_hand(term: LossTerm) -> Finding | None:
    """A log-softmax and a selection by label: the user chose the axis, and it holds the samples."""
    shape, labels = term.input_shape, term.labels
    if term.kind not in {"cross-entropy", "soft-cross-entropy"} or shape is None or len(shape) != 2:
        return None
    if term.class_axis != 0 or term.feature_axis != 1 or term.scrambled or min(shape) < 2:
        return None
    # Labels that do not fit the head's units may well point along the batch: then it is meant.
    if labels.kind != "index" or labels.highest is None or labels.highest >= shape[1]:
        return None
    floor = None
    counts = labels.counts[: shape[1]]
    if term.reduction in {"", "mean"} and sum(counts) > 0 and len(counts) == shape[1] and not term.sample_weighted:
        floor = floors.batch_softmax(shape[0], prior=[c / sum(counts) for c in counts])
    evidence = [
        Evidence(
            f"The log-softmax of the loss runs over axis 0 of a tensor of shape {_times(shape)}; the units of the last "
            "layer are on axis 1."
        ),
        _start(shape[0], shape[1]),
    ]
    if floor is not None:
        evidence.append(
            Evidence(
                f"With these label frequencies and {shape[0]} samples a batch the loss cannot fall below {floor:.4f} "
                "nats.",
                value=floor,
                unit="nats",
                source="values",
            )
        )
    return _finding(evidence, sites(term.made, term.site), -1, floor, _line(term))


def _in_values(term: LossTerm) -> Finding | None:
    values, shape = term.values, term.input_shape
    if not values.calls or values.simplex_columns != values.calls or values.rows < 2:
        return None
    if shape is None or len(shape) != 2 or shape[1] < 2 or _class_axis(term) != 1:
        return None
    return _finding(
        [
            Evidence(
                f"In all {values.calls} sampled calls the numbers given to the loss were non-negative and every column "
                "summed to 1 over the batch, while the rows did not.",
                value=float(values.calls),
                unit="calls",
                source="values",
            ),
            _start(shape[0], shape[1]),
        ],
        sites(term.made, term.site),
        -1,
        place=_line(term),
    )


def _line(term: LossTerm) -> Site | None:
    """A softmax that belongs to the loss, or is hidden, has no node of its own: the line around it that names one."""
    known = sites(term.site, *(n.site for n in term.path))
    return next((s for s in known if "softmax" in s.text.lower()), None)


def _times(shape: list[int]) -> str:
    return " x ".join(map(str, shape))


def _start(length: int, classes: int) -> Evidence:
    return Evidence(
        f"A uniform answer over {length} entries costs ln {length} = {math.log(length):.4f} nats; over the {classes} "
        f"classes it would be ln {classes} = {math.log(classes):.4f}.",
        value=math.log(length),
        unit="nats",
        source="values",
    )


def _finding(
    evidence: list[Evidence], locations: list[Site], dim: int | None, floor: float | None = None, place: Site | None = None
) -> Finding:
    """`place` is the line of the softmax, where that is known."""
    return Finding(
        CODE,
        "softmax-over-wrong-axis",
        "certain",
        "The softmax runs over the wrong axis: samples compete with each other instead of classes.",
        bearing="hinders",
        shown=True,  # what falls is not the loss of the classes: that it falls shows nothing
        evidence=evidence,
        locations=locations,
        floor=floor,
        fix=Fix(
            "Return the raw logit of the one unit and use BCEWithLogitsLoss."
            if dim is None
            else f"Run the softmax over the class axis, dim={dim}, or return raw logits and use CrossEntropyLoss.",
            "display" if dim is None or place is None else "safe",
            intervention=None if dim is None else Intervention("change-dim", {"dim": dim, **at(place)}),
        ),
    )


def sick() -> Trace:
    softmax = OpNode(
        "log_softmax", "LogSoftmaxBackward0", [64, 5], dim=0,
        site=synthetic.site(41, "return F.log_softmax(self.head(x), dim=0)"),
    )  # fmt: skip
    return synthetic.training(synthetic.cross_entropy(softmax), state="above-chance")


def healthy() -> Trace:
    view = OpNode("view", "ViewBackward0", [64, 5], site=synthetic.site(42, "loss = nll(out.view(-1, 5), y)"))
    softmax = OpNode(
        "log_softmax", "LogSoftmaxBackward0", [8, 8, 5], dim=2,
        site=synthetic.site(41, "return F.log_softmax(self.head(x), dim=2)"),
    )  # fmt: skip
    term = synthetic.cross_entropy(view, softmax, kind="nll")
    term.values.log_probabilities = term.values.calls
    return synthetic.training(term, state="learning")
