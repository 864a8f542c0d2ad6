"""A layer is too narrow: the network does worse than a linear classifier on the same inputs.

## What it means
Everything the network knows of a sample must pass its narrowest layer. One or two units for ten classes leave a curve or a
plane in which all classes have to find a place.

## What is seen
A hidden layer has fewer units than both the inputs and the classes minus one, which is what a linear classifier uses. The
steps are of a sound length, the loss has come to rest, and a logistic regression on the training's own samples, in
cross-validation, is better than the network by more than a tenth of chance.

## Why training gets stuck
It is not stuck: it has reached what this network can do.

## Fix
Widen the narrowest layer to at least the number of classes.

## Not to be confused with
Every fault that keeps a network from what it could do: wiring, path, data and step are looked at first and explain this
one. Bottlenecks that are meant and learn well.

## References
T. Hastie, R. Tibshirani, J. Friedman, The Elements of Statistical Learning, section 4.3.3 (K classes need K - 1
dimensions).
"""

from __future__ import annotations

import math

import numpy as np

from unstuck import symptom
from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules import levels
from unstuck.rules.learnable import clearly_better, learnable, linear_probe
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Layer, Parameter
from unstuck.trace.trace import Pairs, Trace

CODE = "I605"
NEEDS = ("pairs", "layers", "parameters")
COSTLY = True
EXPLAINS = ("D207",)


def check(trace: Trace) -> Finding | None:
    state = symptom.of(trace)
    level, total = levels.chance(trace), levels.promised(trace)
    if not state.judged or state.loss is None or level is None or state.name in {"diverging", "non-finite", "too-early"}:
        return None
    if total is not None and total < levels.BAND * level:
        return None  # the steps could not have moved it: nothing is known about what the network could do
    classes = state.classes or 0
    weights = [p for p in trace.facts.parameters if len(p.shape) > 1 and p.trainable and p.reached and p.order is not None]
    weights.sort(key=lambda p: p.order or 0)
    trained = {n for layer in trace.facts.layers if layer.op in {"linear", "matmul"} for n in layer.parameters}
    # The width of the way is what enters each linear layer; a convolution is as wide as what is left of its maps there.
    inner = [p for p in weights[1:] if p.name in trained and p.fan_in]
    if not inner:
        return None
    behind = min(inner, key=lambda p: p.fan_in or 0)
    width = behind.fan_in or 0
    narrow = next((p for p in reversed(weights[: weights.index(behind)]) if _units(p) == width), weights[weights.index(behind) - 1])
    enters = next((math.prod(x.shape[1:]) for x in trace.facts.layers if x.data and x.shape), None) or classes
    if width >= min(classes - 1, enters) or any(levels.overshot(p) for p in trace.facts.probes[-3:]):
        return None
    learn = learnable(trace)
    best = linear_probe(learn)
    if best is None or not clearly_better(best, state.loss, level):
        return None
    parts = levels.fifths(trace)
    # Between the medians of the middle and the last fifth lie two fifths of the training: at this pace it would be there in as
    # many steps again. It is not at its end.
    if parts is not None and parts[1] - parts[2] > 0.4 * (parts[2] - best.loss):
        return None
    return Finding(
        CODE,
        "too-little-capacity",
        "likely",
        f"{narrow.name} has {width} unit{'s' if width > 1 else ''} for {classes} classes: the network does worse than a linear "
        "classifier.",
        bearing="hinders",
        shown=state.name != "slow",
        evidence=[
            Evidence(f"{learn.sentence()} The network is at {state.loss:.4g}.", best.loss, "nats", "statistics"),
            Evidence(
                f"The narrowest layer has {width} units; a linear classifier for {classes} classes uses "
                f"{min(classes - 1, enters)} dimensions.", value=float(width), unit="units", source="graph",
            ),
        ],
        locations=sites(narrow.made),
        fix=Fix(
            f"Give {narrow.name} at least {classes} units.", "unsafe",
            intervention=Intervention(
                "widen", {"layer": narrow.name.rpartition(".")[0] or narrow.name, "width": max(classes, 10 * width)}
            ),
        ),
        separating="Train with this layer ten times as wide, everything else as it is.",
    )  # fmt: skip


def _units(p: Parameter) -> int:
    return p.shape[1] if p.transposed else p.shape[0]


def _example(units: int, state: str) -> Trace:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, 400)
    x = (rng.standard_normal((400, 8)) * 0.5 + 3 * np.eye(8)[y]).astype(np.float32)
    made = synthetic.site(10, f"self.body = nn.Linear(8, {units})", function="__init__")

    def weight(name: str, order: int, shape: list[int]) -> Parameter:
        return Parameter(
            name, shape, reached=True, held=True, gradient="nonzero", changed=True, order=order, made=made, fan_in=shape[1]
        )  # fmt: skip

    trace = synthetic.training(
        state=state, parameters=[weight("body.weight", 0, [units, 8]), weight("head.weight", 2, [5, units])],
        layers=[Layer("linear", "input", [64, 8], 8, parameters=["body.weight"], data=True),
                Layer("linear", "input", [64, units], units, parameters=["head.weight"])],
    )  # fmt: skip
    trace.pairs = Pairs(x, y, np.arange(len(y)) // 32, columns=8)
    return trace


def sick() -> Trace:
    return _example(1, "plateau")


def healthy() -> Trace:
    return _example(64, "learning")
