"""A sigmoid runs before a binary loss that applies sigmoid itself.

## What it means
The binary cross-entropy with logits of this training squashes its input itself. The model hands it numbers that have
already been through a sigmoid (or a softmax), so they lie between 0 and 1. A sure "no" then costs ln 2 = 0.6931 and a
sure "yes" ln(1 + 1/e) = 0.3133, however long the training runs.

## What is seen
In the autograd graph a Sigmoid or Softmax lies under the loss with nothing but reshaping between them, or the same
function written by hand, 1/(1+exp(-x)), whose results lay strictly between 0 and 1 at every sampled call.

## Why training gets stuck
With pi the share of positive labels, the loss cannot fall below 0.3133 pi + 0.6931 (1 - pi). The gradient carries the
derivative of the inner sigmoid, at most 1/4, which vanishes where the model is sure. With rare positives the best
answer is 0 for everything, and the loss stays at ln 2.

## Fix
Return the raw logits and keep the loss. Apply sigmoid only where probabilities are shown or compared, and compare raw
logits with 0, not with 0.5.

## Not to be confused with
A sigmoid before the plain binary cross-entropy (BCELoss): that is right. A sigmoid inside the model, for a gate. A
sigmoid before a categorical cross-entropy is W103. A softmax over one unit is W104.

## References
torch.nn.BCEWithLogitsLoss: "this loss combines a Sigmoid layer and the BCELoss in one single class". Floor: the loss
of an input in [0, 1] is at least ln(1 + 1/e) for a positive and ln 2 for a negative.
"""

from __future__ import annotations

from unstuck.findings import Evidence, Finding, Fix
from unstuck.rules.paths import RESHAPING, next_op, sites, without
from unstuck.theory import floors
from unstuck.trace import synthetic
from unstuck.trace.facts import LabelStats, LossTerm, OpNode
from unstuck.trace.trace import Trace

CODE = "W102"
NEEDS = ("terms", "path")

_MOVES = RESHAPING | {"mul", "clamp"}


def check(trace: Trace) -> Finding | None:
    for term in trace.facts.terms:
        if term.kind != "bce-logits":
            continue
        node = next_op(term.path, skip=RESHAPING | {"clamp", "dropout"})
        evidence = []
        what = "sigmoid"
        if node is not None and node.op in {"sigmoid", "softmax"} and not _constant(node):
            what = node.op
            evidence.append(
                Evidence(
                    f"The graph has a {what.capitalize()} under the binary cross-entropy with logits, with "
                    "nothing but reshaping between them."
                )
            )
        else:
            node = by_hand(term)
            if node is None:
                continue
            calls = term.values.calls
            evidence.append(
                Evidence(
                    "The numbers given to the loss are the reciprocal of one plus an exponential: a sigmoid written by "
                    f"hand. In all {calls} sampled calls they lay strictly between 0 and 1.",
                    value=float(calls),
                    unit="calls",
                    source="values",
                )
            )
        prior = share_of_positives(term)
        floor = None
        if prior is not None:
            floor = floors.sigmoid_twice(prior)
            evidence.append(
                Evidence(
                    f"With a share of {prior:.4g} positive labels the loss cannot fall below "
                    f"{prior:.4g} x 0.3133 + {1 - prior:.4g} x 0.6931 = {floor:.4f} nats.",
                    value=floor,
                    unit="nats",
                    source="values",
                )
            )
        return Finding(
            CODE,
            "sigmoid-twice",
            "certain",
            f"Sigmoid is applied twice: the model's output has been through a {what} and the loss expects raw logits.",
            bearing="hinders",
            evidence=evidence,
            locations=sites(node.made, node.site),
            floor=floor,
            fix=Fix(
                f"Remove the {what} from the model's output: the loss applies sigmoid itself. Where predictions are "
                "made, compare the raw output with 0 instead of 0.5.",
                "safe" if node.op == what else "display",
                intervention=without(node, trace.facts.layers, what),
            ),
        )
    return None


def _constant(node: OpNode) -> bool:
    """A softmax over one unit is a constant: another fault (W104)."""
    return node.op == "softmax" and node.shape is not None and node.dim is not None and node.shape[node.dim] == 1


def by_hand(term: LossTerm) -> OpNode | None:
    """The reciprocal of 1/(1+exp(-x)); the order is reciprocal, addition, exponential, and nothing else between."""
    if term.values.calls < 2 or term.values.strictly_inside != term.values.calls:
        return None
    first: OpNode | None = None
    added = False
    for node in term.path:
        if node.op == "reciprocal" or (node.op == "div" and node.scale is None):
            if first is not None:
                return None
            first = node
        elif node.op in {"add", "rsub", "sub"} and first is not None and not node.parameters:
            added = True
        elif node.op == "exp":
            return first if added else None
        elif node.op not in _MOVES:
            return None
    return None


def share_of_positives(term: LossTerm) -> float | None:
    """pi from the labels seen; None where it is unknown or the samples are weighted."""
    labels = term.labels
    total = sum(labels.counts)
    if term.sample_weighted or term.pos_weight or total <= 0:
        return None
    if labels.kind == "one-hot":
        return 1 / len(labels.counts)
    if labels.kind == "binary" and len(labels.counts) == 2:
        return labels.counts[1] / total
    return None


def one_unit(*between: OpNode, kind: str = "bce-logits", batch: int = 64, **changes: object) -> LossTerm:
    """A judged binary loss of one unit over as many labels 0 as 1, for the synthetic traces of the binary rules."""
    half = 200.0 * batch
    labels = LabelStats(
        "binary", rows=400 * batch, kept=400 * batch, calls=400, lowest=0.0, highest=1.0, distinct=[0.0, 1.0],
        counts=[half, half],
    )  # fmt: skip
    raw = "BinaryCrossEntropyWithLogitsBackward0" if kind == "bce-logits" else "BinaryCrossEntropyBackward0"
    base: dict[str, object] = {
        "kind": kind, "raw": raw, "labels": labels, "target_shape": [batch, 1], "ignore_index": None,
        "feature_axis": None,
    }  # fmt: skip
    return synthetic.cross_entropy(*between, **({"classes": 1, "batch": batch} | base | changes))  # type: ignore[arg-type]


def sick() -> Trace:
    sigmoid = OpNode(
        "sigmoid", "SigmoidBackward0", [64, 1], site=synthetic.site(41, "return torch.sigmoid(self.head(x))")
    )
    return synthetic.training(one_unit(sigmoid), state="at-chance")


def healthy() -> Trace:
    return synthetic.training(one_unit(), state="learning")
