"""A softmax runs before a loss that applies softmax itself.

## What it means
The cross-entropy of this training takes logits and normalises them itself. The model hands it probabilities, so softmax
is applied twice. The largest difference between two inputs of the loss is then 1, and the loss cannot fall below
ln(e + K - 1) - 1, however sure the model is: 0.3133 for 2 classes, 0.9048 for 5, 1.4612 for 10, 3.6222 for 100.

## What is seen
In the autograd graph a Softmax lies under the LogSoftmax of the loss with nothing but reshaping between them. Where the
graph is hidden (a compiled model, a softmax written by hand): the numbers that enter the loss are non-negative and every
row sums to 1, at every sampled call. Raw logits do not do that.

## Why training gets stuck
At uniform outputs the gradient is exactly 1/K of the right one, and it vanishes again as the first softmax saturates,
also on wrong answers. With few classes and an adaptive optimizer training often still works, only worse.

## Fix
Return the raw logits and keep the loss as it is. Apply softmax only where probabilities are shown or compared.

## Not to be confused with
log_softmax before cross-entropy (W116): the same value and gradient, one wasted pass. A softmax used for metrics,
attention or a gate, which does not feed the loss. A softmax before NLLLoss is W107.

## References
J. S. Bridle, 1990 (softmax as output nonlinearity); torch.nn.CrossEntropyLoss: "the input is expected to contain the
unnormalized logits". Floor: the loss of softmax(e_y), with e_y the one-hot row: ln(e + K - 1) - 1.
"""

from __future__ import annotations

import math

from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules.paths import RESHAPING, at, next_op, sites, without
from unstuck.trace import synthetic
from unstuck.trace.facts import OpNode
from unstuck.trace.trace import Trace

CODE = "W101"
NEEDS = ("terms",)


def check(trace: Trace) -> Finding | None:
    for term in trace.facts.terms:
        if term.kind not in {"cross-entropy", "soft-cross-entropy"}:
            continue
        classes = term.classes or 0
        node = next_op(term.path, skip=RESHAPING | {"clamp", "dropout", "log_softmax"})
        evidence = []
        if node is not None and node.op == "softmax":
            evidence.append(
                Evidence("The graph has a Softmax under the LogSoftmax of the loss, with only views between them.")
            )
        values = term.values
        # Rows that are non-negative and sum to 1 in every call: logits do that with probability zero. One class
        # less than two rows would be no evidence.
        if values.calls and values.simplex_rows == values.calls and classes > 1 and values.rows > 1:
            evidence.append(
                Evidence(
                    f"In all {values.calls} sampled calls the numbers given to the loss were non-negative and every row "
                    "summed to 1.",
                    value=float(values.calls),
                    unit="calls",
                    source="values",
                )
            )
        if not evidence:
            continue
        floor = math.log(math.e + classes - 1) - 1 if classes > 1 else None
        if floor is not None:
            evidence.append(
                Evidence(
                    f"With {classes} classes the loss of a softmax of a softmax cannot fall below "
                    f"ln(e+{classes - 1})-1 = {floor:.4f} nats.",
                    value=floor,
                    unit="nats",
                    source="values",
                )
            )
        on_path = node is not None and node.op == "softmax"
        first = node if on_path else (term.path[0] if term.path else None)
        return Finding(
            CODE,
            "softmax-twice",
            "certain",
            "Softmax is applied twice: the model returns probabilities and the cross-entropy expects raw logits.",
            bearing="hinders",
            evidence=evidence,
            locations=sites(first.made, first.site) if first else sites(term.site),
            floor=floor,
            fix=Fix(
                "Remove the softmax from the model's output: cross-entropy applies log-softmax itself. Use softmax only "
                "where you show or compare probabilities.",
                "safe" if on_path else "display",
                # Where it cannot be matched to a call (a softmax by hand) the experiment takes log(p) at the loss.
                intervention=without(node, trace.facts.layers) if on_path and node is not None
                else Intervention("remove-activation", {"activation": "softmax", **at(first.where if first else term.site)}),
            ),
        )
    return None


def in_order(trace: Trace) -> str:
    term = trace.facts.term
    if term is None or term.kind not in {"cross-entropy", "soft-cross-entropy"} or term.path_end != "parametric":
        return ""
    between = [n.op for n in term.path[:-1]]
    return f"between the last layer and the loss: {', '.join(between) if between else 'nothing'}" if term.path else ""


def sick() -> Trace:
    softmax = OpNode(
        "softmax", "SoftmaxBackward0", [64, 5], dim=1, site=synthetic.site(41, "return F.softmax(self.head(x), dim=1)")
    )
    return synthetic.training(synthetic.cross_entropy(softmax), state="at-chance")


def healthy() -> Trace:
    return synthetic.training(synthetic.cross_entropy(), state="learning")
