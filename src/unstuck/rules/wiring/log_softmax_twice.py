"""A log-softmax runs before a loss that applies log-softmax itself, which changes nothing.

## What it means
The model returns log-probabilities and the cross-entropy normalises them again. Log-softmax of log-probabilities is
the same log-probabilities: the second pass is wasted, value and gradient are right.

## What is seen
In the autograd graph a LogSoftmax over the class axis (or a logarithm of a Softmax) lies directly under the LogSoftmax
of the loss.

## Why training gets stuck
It does not: the sum of the exponentials of log-probabilities is 1, and the logarithm of 1 that is subtracted is 0.
This is a note. If the training is stuck, look for another cause. Only log(softmax(x)) written out can overflow.

## Fix
Leave out one of the two: raw logits with CrossEntropyLoss, or log_softmax with NLLLoss.

## Not to be confused with
A softmax (without the logarithm) before the cross-entropy, which does harm: W101. A log-softmax over another axis:
W105.

## References
log_softmax(x) = x - ln(sum exp x); for log-probabilities the sum is 1.
"""

from __future__ import annotations

from unstuck.findings import Evidence, Finding, Fix
from unstuck.rules.paths import RESHAPING, sites, without
from unstuck.rules.wiring.softmax_over_wrong_axis import axis_below
from unstuck.trace import synthetic
from unstuck.trace.facts import LossTerm, OpNode
from unstuck.trace.trace import Trace

CODE = "W116"
NEEDS = ("terms", "path")


def check(trace: Trace) -> Finding | None:
    for term in trace.facts.terms:
        if term.kind not in {"cross-entropy", "soft-cross-entropy"} or term.class_axis is None:
            continue
        node = _second(term)
        if node is None:
            continue
        alone = node.op == "log_softmax"  # without a softmax its logarithm would be left over
        what = "a LogSoftmax" if alone else "the logarithm of a Softmax"
        return Finding(
            CODE,
            "log-softmax-twice",
            "certain",
            "Log-softmax is applied twice; the second time it changes nothing.",
            bearing="harmless",
            evidence=[
                Evidence(f"The graph has {what} directly under the LogSoftmax of the loss."),
                Evidence("Log-softmax of log-probabilities returns them as they are, with the same "
                    "gradient.", source="values"),
            ],
            locations=sites(node.made, node.site),
            fix=Fix("Leave out one of the two: raw logits with CrossEntropyLoss, or NLLLoss on "
                "log-probabilities.", "safe" if alone else "display",
                intervention=without(node, trace.facts.layers) if alone else None),
        )
    return None


def _second(term: LossTerm) -> OpNode | None:
    """The log-softmax (or the softmax under a log) directly under the loss, over the class axis."""
    logs = 0
    for i, node in enumerate(term.path):
        if node.op in RESHAPING:
            continue
        if node.op == "log" and not logs:
            logs = 1
            continue
        if (node.op == "log_softmax" and not logs) or (node.op == "softmax" and logs):
            axis = axis_below(term.path, i, term.class_axis) if term.class_axis is not None else None
            single = node.shape is not None and node.dim is not None and node.shape[node.dim] == 1
            return node if axis is not None and axis == node.dim and not single else None
        return None
    return None


def sick() -> Trace:
    softmax = OpNode(
        "log_softmax", "LogSoftmaxBackward0", [64, 5], dim=1,
        site=synthetic.site(41, "return F.log_softmax(self.head(x), dim=1)"),
    )  # fmt: skip
    return synthetic.training(synthetic.cross_entropy(softmax), state="learning")


def healthy() -> Trace:
    return synthetic.training(synthetic.cross_entropy(), state="learning")
