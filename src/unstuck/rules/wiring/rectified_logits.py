"""A ReLU runs on the logits, so that negative ones are lost and their units get no gradient.

## What it means
The last layer is followed by a ReLU before the loss. A logit can then say "yes" but never "no": everything below zero
becomes 0, and where it is 0 no gradient passes.

## What is seen
In the autograd graph a ReLU lies directly under the loss, with nothing but reshaping between. The share of output
units that were 0 for every sample of a batch says how much of the head is dead.

## Why training gets stuck
A unit that is 0 for all samples gets no gradient and never comes back: its class can no longer be told from the
others. If all units are dead the loss is exactly ln K and the gradient exactly 0. As long as units are alive, training
works in part, only worse.

## Fix
No activation behind the last layer: give the raw logits to the loss.

## Not to be confused with
ReLUs inside the model. A regression whose outputs are counts or lengths. Dead ReLUs of hidden layers.

## References
V. Nair, G. Hinton, 2010 (ReLU). L. Lu et al., Dying ReLU and initialization, 2019. Dead head: equal logits cost ln K.
"""

from __future__ import annotations

import math

from unstuck.findings import Evidence, Finding, Fix
from unstuck.rules.paths import RESHAPING, next_op, sites, without
from unstuck.trace import synthetic
from unstuck.trace.facts import OpNode
from unstuck.trace.trace import Trace

CODE = "W106"
NEEDS = ("terms", "path")


def check(trace: Trace) -> Finding | None:
    for term in trace.facts.terms:
        if term.kind not in {"cross-entropy", "soft-cross-entropy", "bce-logits"}:
            continue
        node = next_op(term.path, skip=RESHAPING | {"dropout"})
        if node is None or node.op != "relu":
            continue
        evidence = [Evidence("The graph has a ReLU directly under the loss: the logits cannot be negative.")]
        share = node.zero_columns
        dead = share == 1.0
        if share:
            evidence.append(
                Evidence(
                    "All output units were 0 for every sample of the batch: no gradient reaches the weights."
                    if dead
                    else f"{share:.0%} of the output units were 0 for every sample of the batch; they get no gradient.",
                    value=share,
                    unit="share",
                    source="values",
                )
            )
        if dead:
            classes = term.classes if term.kind != "bce-logits" else 2
            if classes and classes > 1:
                evidence.append(
                    Evidence(
                        f"Equal logits cost exactly ln {classes} = {math.log(classes):.4f} nats.",
                        value=math.log(classes),
                        unit="nats",
                        source="values",
                    )
                )
        # A class whose unit is 0 for the whole batch and that was never once predicted right: it is held back.
        labels = term.labels
        missed = any(n >= 20 and not h for h, n in zip(labels.hits, labels.seen))
        return Finding(
            CODE,
            "rectified-logits",
            "certain",
            "A ReLU runs on the logits: negative ones are cut off"
            + (", and by now all output units are dead." if dead else " and units that are always 0 cannot learn."),
            bearing="blocks" if dead else "hinders",
            shown=bool(share) and missed,
            evidence=evidence,
            locations=sites(node.made, node.site),
            fix=Fix(
                "Remove the ReLU behind the last layer and give the raw logits to the loss.", "safe",
                intervention=without(node, trace.facts.layers),
            ),
        )
    return None


def sick() -> Trace:
    relu = OpNode(
        "relu", "ReluBackward0", [64, 5], zero_columns=1.0, site=synthetic.site(41, "return F.relu(self.head(x))")
    )
    return synthetic.training(synthetic.cross_entropy(relu), state="at-chance")


def healthy() -> Trace:
    return synthetic.training(synthetic.cross_entropy(), state="learning")
