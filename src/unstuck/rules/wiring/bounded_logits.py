"""The logits are confined to a narrow range, so that the loss cannot become small.

## What it means
The numbers given to the cross-entropy come out of a function with bounded values: sigmoid (width R = 1), tanh (R = 2),
a softmax that is scaled, or a cosine. With K classes the loss cannot fall below ln(1 + (K-1) e^-R), even when every
answer is right: 0.9048 for a sigmoid and 5 classes, 0.7966 for tanh and 10.

## What is seen
In the autograd graph a Sigmoid or Tanh lies under the loss with nothing but reshaping and constant factors between;
the product s of the factors widens the range to s R. Where that leaves room (a floor below 2 % of chance) nothing is
said. A cosine head is a finding only if the loss has come down to its floor and stays on it.

## Why training gets stuck
The right answer needs a large gap between logits, and the range does not allow one. The loss flattens out at the
floor, with gradients that push against the bound and vanish in the saturated function.

## Fix
Return the raw output of the last linear layer. Where the bound is meant (cosine heads, soft-capped logits), multiply
by a scale large enough: for a loss of eps, s must be about ln((K-1)/eps).

## Not to be confused with
A cosine head with a scale, or soft-capped logits such as 30 tanh(x/30), whose floor is far below the loss. Contrastive
losses, whose classes are the samples of the batch. A plain softmax before the loss is W101, a sigmoid before a binary
loss W102.

## References
F. Wang et al., NormFace, 2017 (lower bound of the softmax loss with normalised features). Floor: the right logit at
the upper end of the range and all others at the lower end; for cosines the class vectors on a simplex, R = s K/(K-1).
"""

from __future__ import annotations

import math

import numpy as np

from unstuck.findings import Evidence, Finding, Fix
from unstuck.rules.paths import RESHAPING, sites, without
from unstuck.rules.wiring.softmax_over_wrong_axis import axis_below
from unstuck.theory import floors
from unstuck.trace import synthetic
from unstuck.trace.facts import LossTerm, OpNode
from unstuck.trace.trace import Trace

CODE = "W103"
NEEDS = ("terms", "path")

BAND = 0.02  # of chance: the band of "no better than", see the symptoms
RECENT = 64  # losses that make up the recent level
ENOUGH = 16


def check(trace: Trace) -> Finding | None:
    for term in trace.facts.terms:
        binary = term.kind == "bce-logits"
        classes = term.classes or 0
        if not binary and (term.kind not in {"cross-entropy", "soft-cross-entropy"} or classes < 2):
            continue
        found = bounding_op(term, binary)
        if found is None:
            continue
        node, scale, exact = found
        floor, width = floor_of(node, scale, classes, binary)
        chance = math.log(2 if binary else classes)
        weighted = term.sample_weighted or bool(term.pos_weight)
        cosine = node.op in {"cosine_similarity", "unit_norm"}
        grade = "certain"
        named = {"cosine_similarity": "cosine similarity", "unit_norm": "division by the norm"}.get(node.op, node.op)
        evidence = [
            Evidence(
                f"The graph has a {named} under the loss"
                + ("" if scale == 1 else f", scaled by {scale:.4g}")
                + f": the logits of one sample cannot differ by more than {width:.4g}.",
                value=width,
            )
        ]
        if floor <= BAND * chance:
            continue
        if cosine:
            level = recent_level(trace)
            if not term.judged or weighted or not exact or in_batch(term) or level is None:
                continue
            # A scale is a choice, and shown wrong where the loss sits on its floor. No scale at all was forgotten.
            if abs(level - floor) <= BAND * chance:
                grade = "likely"
                evidence.append(
                    Evidence(
                        f"The loss has come down to {level:.4f} nats and stays there: on its floor.",
                        value=level,
                        unit="nats",
                        source="statistics",
                    )
                )
            elif scale != 1:
                continue
        known = exact and not weighted
        if known:
            who = "The loss" if binary else f"With {classes} classes the loss"
            formula = f"ln(1+e^-{width / 2:.4g})" if binary else f"ln(1+{classes - 1} e^-{width:.4g})"
            evidence.append(
                Evidence(
                    f"{who} cannot fall below {formula} = {floor:.4f} nats; a uniform guess scores {chance:.4f}.",
                    value=floor,
                    unit="nats",
                    source="values",
                )
            )
        return Finding(
            CODE,
            "bounded-logits",
            grade,  # type: ignore[arg-type]
            f"The logits are bounded: they come out of a {named}, and the loss cannot become small.",
            bearing="hinders",
            evidence=evidence,
            locations=sites(node.made, node.site),
            floor=floor if known else None,
            fix=Fix(
                "Multiply the normalised numbers by a scale (for instance 16 to 64, or a learned one) before the loss."
                if cosine
                else f"Remove the {node.op} behind the last layer and give the raw logits to the loss.",
                "display" if cosine else "safe",
                intervention=None if cosine else without(node, trace.facts.layers),
            ),
        )
    return None


def bounding_op(term: LossTerm, binary: bool) -> tuple[OpNode, float, bool] | None:
    """(the bounding operation under the loss, |product of constant factors|, is the range known exactly?)."""
    scale, exact = 1.0, True
    for i, node in enumerate(term.path):
        if node.op in {"mul", "div"}:
            if node.scale is None:
                return None  # a learned temperature, or a weight per sample
            scale *= abs(node.scale)
        elif node.op in {"add", "sub", "rsub"}:
            if node.parameters or binary:
                return None  # a learned bias widens the range; a shift moves the range of a binary logit
        elif node.op == "dropout":
            exact = False  # it stretches what it keeps by 1/(1-p)
        elif node.op in {"sigmoid", "tanh", "softmax", "cosine_similarity", "unit_norm"}:
            if binary and node.op != "tanh":
                return None
            if node.op == "unit_norm" and (node.dim is None or axis_below(term.path, i, term.class_axis or 1) != node.dim):
                return None  # along another axis than the classes: another range
            if node.op == "softmax":
                if scale == 1 or term.class_axis is None:
                    return None
                if axis_below(term.path, i, term.class_axis) != node.dim:
                    return None
            return node, scale, exact
        elif node.op not in RESHAPING:
            return None
    return None


def floor_of(node: OpNode, scale: float, classes: int, binary: bool) -> tuple[float, float]:
    """(lowest loss, width of the range)."""
    if binary:
        return floors.bounded_logits(2, scale), 2 * scale
    if node.op == "cosine_similarity":
        return floors.bounded_logits(classes, floors.cosine_width(classes, scale)), 2 * scale
    if node.op == "unit_norm":
        width = floors.unit_norm_width(classes, scale)
        return floors.bounded_logits(classes, width), math.sqrt(2) * scale
    width = (2 if node.op == "tanh" else 1) * scale
    return floors.bounded_logits(classes, width), width


def in_batch(term: LossTerm) -> bool:
    """The classes are the samples of the batch (every label once a call), or there is one label only: contrastive."""
    counts = term.labels.counts
    used = [c for c in counts if c > 0]
    if len(used) < 2:
        return True
    once = len(set(counts)) == 1 and term.labels.kept == term.labels.calls * len(counts)
    return once and counts[0] == term.labels.calls


def recent_level(trace: Trace) -> float | None:
    losses = trace.series.measured("loss")
    recent = losses[-RECENT:]
    if len(recent) < ENOUGH or not np.isfinite(recent).all():
        return None
    return float(recent.mean())


def sick() -> Trace:
    tanh = OpNode("tanh", "TanhBackward0", [64, 5], site=synthetic.site(41, "return torch.tanh(self.head(x))"))
    return synthetic.training(synthetic.cross_entropy(tanh), level=0.44)


def healthy() -> Trace:
    cap = "return 30 * torch.tanh(self.head(x) / 30)"
    between = [
        OpNode("mul", "MulBackward0", [64, 5], scale=30.0, site=synthetic.site(41, cap)),
        OpNode("tanh", "TanhBackward0", [64, 5], site=synthetic.site(41, cap)),
        OpNode("div", "DivBackward0", [64, 5], scale=1 / 30, site=synthetic.site(41, cap)),
    ]
    return synthetic.training(synthetic.cross_entropy(*between), state="learning")
