"""Sigmoid or tanh units stand at their limits, where the derivative is nearly 0.

## What it means
Beyond about +-4 a sigmoid (beyond +-2 a tanh) hardly answers to its input any more. A layer of such units passes on a sign,
and lets almost no gradient through.

## What is seen
At the first looks and later ones the mean derivative of a hidden layer's units is below a twentieth of the largest possible,
or nine tenths of the values are where it is.

## Why training gets stuck
The gradient of everything before the layer is multiplied by that derivative.

## Fix
Smaller first weights (Xavier), biases at 0, a norm layer in front; ReLU or GELU in hidden layers.

## Not to be confused with
The gates of LSTM and GRU, which are meant to open and close. Units that saturate late in a training that learns. Inputs
(D203), weights (I602) or steps (S501) that are too large: these are named first.

## References
Y. LeCun et al., Efficient BackProp, 1998, section 4.4. X. Glorot, Y. Bengio, AISTATS 2010, section 3.
"""

from __future__ import annotations

from unstuck import symptom
from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules import levels
from unstuck.rules.init.dead_relus import _before
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Layer, LayerLook
from unstuck.trace.trace import Trace

CODE = "I604"
NEEDS = ("layers",)
# S501: saturated from the first look on, so that no step was it; what is left to move is the last layer alone.
EXPLAINS = ("G303", "S501", "S502", "S505", "D207", "I605", "G305")
SLOPE = 0.05  # of the largest derivative: the limit at which a value counts as saturated, as a mean over the layer
SHARE = 0.9
_GATED = ("LSTM", "GRU")


def check(trace: Trace) -> Finding | None:
    state = symptom.of(trace)
    if state.learns or not state.judged:
        return None
    term = trace.facts.term
    heads = {n.where for n in term.path if n.op in {"sigmoid", "tanh"}} if term is not None else set()
    found = []
    for layer in trace.facts.layers:
        if layer.op not in {"sigmoid", "tanh"} or any(word in layer.module for word in _GATED):
            continue
        if layer.where is not None and layer.where in heads:
            continue  # on the way from the last layer to the loss: the wiring rules' affair
        looks = [look for look in layer.looks if look.derivative is not None and look.saturated is not None and look.rows > 1]
        if len(looks) < 2:
            continue
        late = looks[len(looks) // 2 :]
        if all((k.derivative or 0) < SLOPE or (k.saturated or 0) >= SHARE for k in (looks[0], *late)):
            found.append((layer, looks[0], late[-1]))
    if not found:
        return None
    layer, _, last = found[0]
    return Finding(
        CODE,
        "saturated-units",
        "likely",
        f"The {layer.units} {layer.op} units of a hidden layer are at their limits: "
        f"{last.saturated:.0%} of their values have next to no derivative.",
        bearing="hinders",
        evidence=[
            Evidence(
                f"Mean derivative over the largest possible one: {a.derivative:.3g} at step {a.step}, {b.derivative:.3g} at step "
                f"{b.step}; {b.saturated:.0%} of the values are saturated ({one.units} {one.op} units).",
                value=b.derivative, unit="1", source="values",
            )
            for one, a, b in found[:3]
        ],
        locations=sites(*_before(trace, layer), layer.where),
        fix=Fix(
            "Draw smaller weights (nn.init.xavier_uniform_), leave biases at 0, or put a norm layer in front.", "unsafe",
            intervention=Intervention("reinitialise"),
        ),
        separating="Train with the weights before this layer divided by ten, everything else as it is.",
    )  # fmt: skip


def in_order(trace: Trace) -> str:
    slopes = [
        levels.looks(layer.looks, "derivative")[-1]
        for layer in trace.facts.layers
        if layer.op in {"sigmoid", "tanh"} and levels.looks(layer.looks, "derivative")
    ]
    if not slopes or min(slopes) < SLOPE:
        return ""
    return f"sigmoid and tanh units have at least {min(slopes):.0%} of their largest derivative"


def _example(slope: float, state: str) -> Trace:
    looks = [LayerLook(n, 64, rms=1.0, derivative=slope, saturated=1.0 if slope < SLOPE else 0.0) for n in (1, 2, 10, 50)]
    layer = Layer("tanh", "output", [64, 64], 64, synthetic.site(20, "h = torch.tanh(self.body(x))"), looks=looks)
    return synthetic.training(state=state, layers=[layer])


def sick() -> Trace:
    return _example(0.001, "at-chance")


def healthy() -> Trace:
    return _example(0.7, "learning")
