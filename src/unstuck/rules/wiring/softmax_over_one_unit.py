"""A softmax runs over an axis of length one, so that the output is 1 for every input.

## What it means
Softmax divides by the sum over its axis. With a single entry on that axis the result is x/x = 1 whatever the network
says, and its derivative is exactly 0. The model's answer does not depend on its weights.

## What is seen
On the path between the loss and the last layer lies a Softmax or LogSoftmax whose axis has length 1, or the
categorical cross-entropy itself was given a single class.

## Why training gets stuck
The gradient that reaches the last layer is zero, at every step and for every learning rate. The loss is a constant of
the labels: with torch's BCELoss 100 times the share of negatives, with a cross-entropy over one class exactly 0.

## Fix
For two classes use one unit with a binary loss on the raw logit (BCEWithLogitsLoss), or two units with the categorical
cross-entropy. For K classes use K units.

## Not to be confused with
A softmax over another axis of the same tensor (positions of a sequence, instances of a bag): its length is not 1. A
softmax over the wrong axis is W105.

## References
softmax(x) = e^x / e^x = 1 for one entry. torch.nn.BCELoss clamps its logarithms at -100.
"""

from __future__ import annotations

from unstuck.findings import Evidence, Finding, Fix
from unstuck.rules.paths import instead, sites
from unstuck.rules.wiring.sigmoid_twice import one_unit
from unstuck.trace import synthetic
from unstuck.trace.facts import LossTerm, OpNode
from unstuck.trace.trace import Trace

CODE = "W104"
NEEDS = ("terms",)
EXPLAINS = ("W101", "W105", "W108", "D210", "W103")


def check(trace: Trace) -> Finding | None:
    for term in trace.facts.terms:
        if term.kind == "unknown":
            continue
        node = next((n for n in term.path if n.op in {"softmax", "log_softmax"} and _single(n)), None)
        if node is not None:
            shape = " x ".join(map(str, node.shape or []))
            text = (
                f"The graph has a {'Softmax' if node.op == 'softmax' else 'LogSoftmax'} over axis {node.dim} "
                f"of a tensor of shape {shape}: an axis of length 1."
            )
            locations = sites(node.made, node.site)
        elif _one_class(trace, term):
            text = "The categorical cross-entropy was given a single class: it normalises over one entry."
            locations = sites(term.path[-1].where if term.path else None, term.made, term.site)
        else:
            continue
        return Finding(
            CODE,
            "softmax-over-one-unit",
            "certain",
            "The softmax runs over one unit: its output is 1 for every input, and no gradient passes.",
            bearing="blocks",
            evidence=[
                Evidence(text),
                Evidence("A softmax over one entry is e^x/e^x = 1, and its derivative is exactly 0.", source="values"),
            ],
            locations=locations,
            fix=Fix(
                "Two classes: return the raw logit of the one unit and use BCEWithLogitsLoss. More classes: as many "
                "units as classes and CrossEntropyLoss on the raw logits.",
                "unsafe" if _two_classes(term) else "display",
                intervention=instead(term, "bce_with_logits", node) if _two_classes(term) else None,
            ),
        )
    return None


def _two_classes(term: LossTerm) -> bool:
    """One unit is enough for labels 0 and 1 (all 0, too); more classes need more units."""
    return term.labels.lowest == 0 and term.labels.highest is not None and term.labels.highest <= 1


def _single(node: OpNode) -> bool:
    shape, dim = node.shape, node.dim
    return shape is not None and dim is not None and dim < len(shape) and shape[dim] == 1


def _one_class(trace: Trace, term: LossTerm) -> bool:
    """Where the loss call raised, the labels say what is wrong (W108)."""
    if term.kind not in {"cross-entropy", "soft-cross-entropy"} or term.class_axis is None:
        return False
    if (term.classes or 0) != 1:
        return False
    shape = term.input_shape
    if shape is None or len(shape) < 2 or term.class_axis >= len(shape) or shape[term.class_axis] != 1:
        return False
    return not any(raised.phase == "loss" for raised in trace.facts.exceptions)


def sick() -> Trace:
    softmax = OpNode(
        "softmax", "SoftmaxBackward0", [64, 1], dim=1, site=synthetic.site(41, "return F.softmax(self.head(x), dim=1)")
    )
    term = one_unit(softmax, kind="bce")
    return synthetic.training(term, state="constant")


def healthy() -> Trace:
    softmax = OpNode(
        "softmax", "SoftmaxBackward0", [64, 5], dim=1, site=synthetic.site(41, "return F.softmax(self.head(x), dim=1)")
    )
    log = OpNode("log", "LogBackward0", [64, 5], site=synthetic.site(42, "return torch.log(p)"))
    term = synthetic.cross_entropy(log, softmax, kind="nll")
    term.values.log_probabilities = term.values.calls
    return synthetic.training(term, state="learning")
