"""Outputs of shape [N, 1] met targets of shape [N], and the loss compared every output with every target.

## What it means
Broadcasting stretches [N, 1] against [N] to [N, N]. The loss is then the mean over all pairs, most of which belong to
different samples. torch warns once, and goes on.

## What is seen
The two shapes as they were passed to the loss, or to the subtraction in it, before they were stretched. In a loss of the
user's own: an operation that stretched both, one of them computed and the other data, and nothing but operations on
each entry and sums or means between it and the loss.

## Why training gets stuck
Every output is drawn to all targets alike, so the best answer is the same for every sample: their mean. The mean
squared error cannot fall below the variance of the targets, the binary cross-entropy not below the entropy of the base
rate.

## Fix
The same shape on both sides: out.squeeze(1) or y.unsqueeze(1).

## Not to be confused with
Pairwise losses, which compare all outputs of a batch with each other on purpose; those with a mask, a minimum or a softmax
over the pairs, or with a second matrix of outputs against outputs (MMD). Several columns per sample against one target
column, [N, Q] and [N, 1], as in quantile regression. A loss per sample times weights of another shape.

## References
torch broadcasting semantics; the warning of torch.nn.functional.mse_loss, "using a target size that is different to
the input size". Floor: argmin over p of the mean of l(p, y_j) is the same for every row.
"""

from __future__ import annotations

from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules.paths import at, sites
from unstuck.rules.wiring.sigmoid_twice import one_unit
from unstuck.theory import floors
from unstuck.trace import synthetic
from unstuck.trace.facts import LossTerm
from unstuck.trace.trace import Trace

CODE = "W110"
NEEDS = ()

_KINDS = frozenset({"mse", "l1", "smooth-l1", "huber", "bce", "bce-logits", "poisson", "soft-margin", "unknown"})


def check(trace: Trace) -> Finding | None:
    for term in trace.facts.terms:
        if term.kind not in _KINDS:
            continue
        rows = outer(term.argument_shapes)
        if pairwise(term, rows) or (term.broadcast is None and (not rows or term.kind == "unknown")):
            continue
        evidence = []
        if rows and term.argument_shapes is not None:
            shapes = " and ".join("[" + ", ".join(map(str, s)) + "]" for s in term.argument_shapes)
            evidence.append(
                Evidence(
                    f"The loss was given tensors of shape {shapes} and compared all {rows} x {rows} pairs.",
                    value=float(rows),
                    unit="rows",
                    source="values",
                )
            )
        else:
            text = "An operation in the loss stretched [N, 1] against [N] to [N, N]."
            evidence.append(Evidence(text, source="values"))
        floor = _entropy(term)
        evidence.append(
            Evidence(
                "The best answer is then the base rate for every sample"
                + (f", and the loss cannot fall below its entropy, {floor:.4f} nats." if floor is not None else "."),
                value=floor,
                unit="nats" if floor is not None else "",
                source="values",
            )
            if term.kind in {"bce", "bce-logits"}
            else Evidence(
                "The best answer is then the same for every sample; a mean squared error cannot fall below the "
                "variance of the targets.",
                source="values",
            )
        )
        return Finding(
            CODE,
            "target-broadcast",
            "certain",
            "Outputs and targets have different shapes, and every output is compared with the targets of all samples.",
            bearing="hinders",
            shown=True,  # what falls is not the loss of the classes: that it falls shows nothing
            evidence=evidence,
            locations=sites(term.broadcast, term.site, term.made),
            floor=floor,
            fix=Fix(
                "Give both sides the same shape: out.squeeze(1), or y.unsqueeze(1).", "safe",
                intervention=Intervention("align-targets", at(term.broadcast or term.site)),
            ),
        )
    return _by_hand(trace)


def _by_hand(trace: Trace) -> Finding | None:
    """A loss of the user's own: the operation was seen, and that the loss is a sum over all pairs."""
    stretched = trace.facts.stretched
    if not stretched:
        return None
    first = stretched[0]
    rows = max(first.shapes[0])
    shapes = " and ".join("[" + ", ".join(map(str, s)) + "]" for s in first.shapes)
    term = trace.facts.term
    head = term.path[-1].site if term is not None and term.path else None  # where the outputs come from
    return Finding(
        CODE, "target-broadcast", "certain",
        "Outputs and targets have different shapes, and every output is compared with the targets of all samples.",
        bearing="hinders",
        evidence=[
            Evidence(
                f"The loss combined tensors of shape {shapes} and is a sum over all {rows} x {rows} pairs; one of the two "
                "is computed by the model, the other is data.",
                value=float(rows), unit="rows", source="values",
            ),
            Evidence(
                "Such a sum has one and the same term for every sample, so the best answer is the same for every sample.",
                source="values",
            ),
        ],
        locations=sites(*(s.site for s in stretched), head),
        fix=Fix("Give both sides the same shape: out.squeeze(1), or y.unsqueeze(1)."),
    )  # fmt: skip


def outer(shapes: list[list[int]] | None) -> int:
    """N, where one operand is [N, 1] and the other [N], N > 1; 0 otherwise."""
    if shapes is None or len(shapes) != 2:
        return 0
    small, large = sorted(shapes, key=len)
    return small[0] if len(small) == 1 and len(large) == 2 and large == [small[0], 1] and small[0] > 1 else 0


def pairwise(term: LossTerm, rows: int) -> bool:
    """Two differentiable operands were stretched: outputs against outputs, on purpose."""
    if term.path_end != "merge" or not term.path:
        return False
    return not rows or term.path[-1].shape == [rows, rows]


def _entropy(term: LossTerm) -> float | None:
    counts = term.labels.counts
    if term.kind not in {"bce", "bce-logits"} or term.labels.kind != "binary" or len(counts) != 2:
        return None
    if not sum(counts) or term.pos_weight or term.sample_weighted:
        return None
    return floors.broadcast_bce(counts[1] / sum(counts))


def sick() -> Trace:
    term = one_unit(
        kind="bce", made=None, argument_shapes=[[64, 1], [64]], input_shape=[64, 64],
        target_shape=[64], broadcast=synthetic.site(41, "loss = bce(out, y)", synthetic.TRAIN, "train"),
    )  # fmt: skip
    term.path.insert(0, synthetic.OpNode("sigmoid", "SigmoidBackward0", [64, 1]))
    return synthetic.training(term, state="at-prior")


def healthy() -> Trace:
    term = one_unit(
        kind="bce", argument_shapes=[[64, 1], [64, 1]]
    )
    term.path.insert(0, synthetic.OpNode("sigmoid", "SigmoidBackward0", [64, 1]))
    return synthetic.training(term, state="learning")
