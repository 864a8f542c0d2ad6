"""Linear layers on linear layers: the whole network is one linear map.

## What it means
A product of matrices is a matrix. Without an activation between them any number of linear (or convolutional) layers can
represent only what a single one can: classes that a plane separates.

## What is seen
Between the data and the loss there are two or more trained layers and not one operation that is not linear. Whether
that matters is measured: trees or nearest neighbours on the training's own samples against the network.

## Why training gets stuck
It stops at the loss of the best linear classifier, which for circles, spirals or parity is chance.

## Fix
Put an activation between the layers: nn.ReLU().

## Not to be confused with
One linear layer alone, which is logistic regression and meant. Linear factors inside a larger network (LoRA, bottlenecks,
attention projections): the whole way from data to loss must be linear. A deep linear network that learns: latent only.

## References
M. Minsky, S. Papert, Perceptrons, 1969. A. Saxe et al., Exact solutions to the nonlinear dynamics of learning in deep linear
neural networks, ICLR 2014.
"""

from __future__ import annotations

from unstuck import symptom
from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules import levels
from unstuck.rules.learnable import clearly_better, learnable, linear_probe
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.trace import Trace

CODE = "I606"
NEEDS = ("operations",)
EXPLAINS = ("I605", "D207", "S505")
# Linear in the data: sums, copies, fixed factors, averages. Batch norm is affine for a given batch; mul and div here are by
# constants, because a product of two tensors that depend on weights is called 'product'.
LINEAR = frozenset({
    "linear", "conv", "matmul", "add", "sub", "rsub", "neg", "mul", "div", "view", "transpose", "permute", "squeeze", "unsqueeze",
    "expand", "copy", "cast", "slice", "select", "cat", "stack", "dropout", "batch_norm", "mean", "sum", "embedding", "index",
    "as_strided", "flip", "roll", "repeat", "constantpadnd", "avgpool2d", "avgpool1d", "adaptiveavgpool2d",
})  # fmt: skip
TRAINED = frozenset({"linear", "conv"})


def check(trace: Trace) -> Finding | None:
    operations = trace.facts.operations
    layers = sum(op in TRAINED for op in operations)
    if layers < 2 or any(op not in LINEAR for op in operations):
        return None
    state = symptom.of(trace)
    level = levels.chance(trace)
    evidence = [
        Evidence(
            f"Between the data and the loss there are {layers} trained layers and no operation that is not linear.",
            value=float(layers), unit="layers", source="graph",
        )
    ]  # fmt: skip
    shown = False
    if state.judged and state.loss is not None and level is not None and state.name not in {"too-early", "slow", "non-finite"}:
        learn = learnable(trace)
        bent = [p for p in learn.probes if "logistic" not in p.name] if learn is not None and learn.found else []
        best = min(bent, key=lambda p: p.loss, default=None)
        if best is not None and clearly_better(best, state.loss, level):
            shown = True
            linear = linear_probe(learn)
            evidence.append(
                Evidence(
                    f"On {best.rows} of the training's own samples a {best.name} reaches {best.loss:.3g} nats"
                    + (f", a logistic regression {linear.loss:.3g}" if linear is not None else "")
                    + f"; the network is at {state.loss:.3g}.",
                    value=best.loss, unit="nats", source="statistics",
                )
            )  # fmt: skip
    first = next((x for x in trace.facts.layers if x.parameters), None)
    return Finding(
        CODE,
        "no-nonlinearity",
        "certain",
        f"The {layers} layers of the network are one linear map: there is no activation between them.",
        bearing="hinders" if shown else "choice",
        shown=shown,
        evidence=evidence,
        locations=sites(first.where if first is not None else None, first.site if first is not None else None, trace.facts.made),
        fix=Fix(
            "Put an activation between the layers: nn.ReLU().", "unsafe",
            intervention=Intervention("add-activation"),
        ),
    )


def sick() -> Trace:
    return synthetic.training(state="at-chance", operations=["linear", "dropout", "linear", "view"])


def healthy() -> Trace:
    return synthetic.training(state="learning", operations=["linear", "relu", "linear"])
