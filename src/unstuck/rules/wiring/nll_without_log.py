"""NLLLoss is given numbers that are not log-probabilities.

## What it means
The negative log-likelihood loss takes the logarithm for granted: it picks the number of the right class and flips its
sign. Given probabilities it is minus the probability, given raw logits minus the logit. Neither is a likelihood.

## What is seen
At every sampled call the exponentials of the rows did not sum to 1. They were probabilities (rows non-negative with
sum 1, or a Softmax on the path), or raw outputs of the last layer, some of them above 0, which no log-probability is.

## Why training gets stuck
With probabilities the loss starts at -1/K and ends at -1. Its gradient carries the softmax's derivative and vanishes
on confident wrong answers. With raw logits the loss has no lower bound: it falls for ever while nothing has to be told
apart.

## Fix
log_softmax instead of softmax in front of NLLLoss, or raw logits with CrossEntropyLoss.

## Not to be confused with
NLLLoss on log_softmax: that is right. Unnormalised log-likelihoods of densities, which are not class probabilities. A
negative loss of a Gaussian likelihood is legal.

## References
torch.nn.NLLLoss: "the input given through a forward call is expected to contain log-probabilities of each class".
"""

from __future__ import annotations

from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules.paths import RESHAPING, at, instead, next_op, sites
from unstuck.trace import synthetic
from unstuck.trace.facts import OpNode
from unstuck.trace.trace import Trace

CODE = "W107"
NEEDS = ("terms", "values")
EXPLAINS = ("N701",)

_HEADS = frozenset({"linear", "conv", "embedding", "rnn", "cosine_similarity"})


def check(trace: Trace) -> Finding | None:
    for term in trace.facts.terms:
        values, classes = term.values, term.classes or 0
        if term.kind != "nll" or not values.calls or values.log_probabilities or classes < 2:
            continue
        node = next_op(term.path, skip=RESHAPING | {"clamp", "dropout"})
        if any(n.op in {"log_softmax", "log", "log_sigmoid"} for n in term.path):
            continue  # a logarithm was taken; over which axis is another question (W105)
        on_path = node is not None and node.op == "softmax"
        if on_path or values.simplex_rows == values.calls:
            evidence = []
            if on_path:
                evidence.append(Evidence("The graph has a Softmax under NLLLoss and no logarithm between "
                    "them."))
            if values.simplex_rows == values.calls:
                evidence.append(
                    Evidence(
                        f"In all {values.calls} sampled calls the numbers given to NLLLoss were probabilities: "
                        "non-negative, every row summing to 1.",
                        value=float(values.calls),
                        unit="calls",
                        source="values",
                    )
                )
            evidence.append(
                Evidence(
                    f"The loss is then minus the probability of the right class: it starts at -1/{classes} = "
                    f"{-1 / classes:.4f} and cannot fall below -1.",
                    value=-1.0,
                    source="values",
                )
            )
            locations = sites(node.made, node.site) if on_path and node is not None else sites(term.made, term.site)
            what, floor = "probabilities", -1.0
            fix = Fix(
                "Use log_softmax instead of softmax in front of NLLLoss, or raw logits with CrossEntropyLoss.",
                "safe" if on_path else "display",
                intervention=instead(term, "cross_entropy", node if on_path else None),
            )  # fmt: skip
        elif (values.highest is not None and values.highest > 0) or (node is not None and node.op in _HEADS):
            evidence = []
            if node is not None and node.op in _HEADS:
                evidence.append(Evidence("The graph has the last layer directly under NLLLoss, without "
                    "log-softmax."))
            if values.highest is not None and values.highest > 0:
                evidence.append(
                    Evidence(
                        f"The numbers given to NLLLoss reached {values.highest:.4g}; a log-probability is never above "
                        "0.",
                        value=values.highest,
                        source="values",
                    )
                )
            evidence.append(
                Evidence("The loss is then minus the raw output of the right class: it has no lower "
                    "bound.", source="values")
            )
            locations, floor = sites(term.made, term.site), None
            what = "raw logits"
            dim = 1 if term.class_axis is None else term.class_axis
            fix = Fix(
                "Use CrossEntropyLoss on the raw logits, or put log_softmax in front of NLLLoss.", "safe",
                intervention=Intervention(
                    "insert-activation", {"activation": "log_softmax", "dim": dim, **at(term.made or term.site)}
                ),
            )  # fmt: skip
        else:
            continue
        return Finding(
            CODE,
            "nll-without-log",
            "certain",
            f"NLLLoss is given {what} where it expects log-probabilities.",
            bearing="hinders",
            shown=True,  # what falls is not the loss of the classes: that it falls shows nothing
            evidence=evidence,
            locations=locations,
            floor=floor,
            fix=fix,
        )
    return None


def sick() -> Trace:
    softmax = OpNode(
        "softmax", "SoftmaxBackward0", [64, 5], dim=1, site=synthetic.site(41, "return F.softmax(self.head(x), dim=1)")
    )
    term = synthetic.cross_entropy(softmax, kind="nll")
    term.values.simplex_rows = term.values.unit_interval = term.values.calls
    term.values.lowest, term.values.highest = 0.1, 0.4
    return synthetic.training(term, level=-0.4)


def healthy() -> Trace:
    softmax = OpNode(
        "log_softmax", "LogSoftmaxBackward0", [64, 5], dim=1,
        site=synthetic.site(41, "return F.log_softmax(self.head(x), dim=1)"),
    )  # fmt: skip
    term = synthetic.cross_entropy(softmax, kind="nll")
    term.values.log_probabilities = term.values.calls
    term.values.lowest, term.values.highest = -6.0, -0.01
    return synthetic.training(term, state="learning")
