"""The weights were drawn far too large for the width of the layer.

## What it means
A unit sums fan-in products. To keep numbers of size 1 at size 1 its weights must have a standard deviation of about
1 / sqrt(fan-in). Drawn with standard deviation 1 they multiply by sqrt(fan-in): 28 for a flattened MNIST image, in each
layer anew.

## What is seen
The gain of a weight when first seen (root mean square times the square root of the fan-in) is above 3: He's is 1.41, the
largest in common use 1.67, torch's default 0.58. The inputs are of normal size. And it has a consequence: the first
losses are above chance by more than chance itself, or a layer was saturated at its first look.

## Why training gets stuck
Sigmoid and tanh units start at their limits, where the derivative is nearly 0; the logits start at a size at which the
network is sure and wrong, and steps of an ordinary length are lost in the curvature.

## Fix
nn.init.kaiming_normal_, xavier_uniform_, or torch.randn(n_in, n_out) / n_in ** 0.5.

## Not to be confused with
Inputs that are too large (D203): then the weights are of normal size. Embeddings, whose rows are looked up and not summed.

## References
X. Glorot, Y. Bengio, Understanding the difficulty of training deep feedforward neural networks, AISTATS 2010. K. He et
al., Delving deep into rectifiers, ICCV 2015.
"""

from __future__ import annotations

import math

from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules import levels
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Layer, LayerLook, Parameter
from unstuck.trace.trace import Trace

CODE = "I602"
NEEDS = ("parameters", "layers")
EXPLAINS = ("S501", "S502", "S505", "I603", "I604", "I605", "G303", "G304", "N701", "N702", "D207", "W103", "G305")
GAIN = 3.0  # twice the largest gain in common use (tanh 5/3)
INPUT = 3.0  # what the tail of a standardised column reaches
LIMIT = 0.5  # half of the units' values at their limits at the first look: not where training starts from


def check(trace: Trace) -> Finding | None:
    data = [layer for layer in trace.facts.layers if layer.data and layer.of == "input"]
    entering = [size for layer in data for size in levels.looks(layer.looks, "rms")[:1]]
    if entering and max(entering) > INPUT:
        return None
    trained = {name for layer in trace.facts.layers if layer.of == "input" for name in layer.parameters}
    large = [(g, p) for p in trace.facts.parameters if p.name in trained and (g := _gain(p)) is not None and g > GAIN]
    if not large:
        return None
    level, first = levels.chance(trace), levels.first_loss(trace)
    consequence = None
    if level is not None and first is not None and first > 2 * level:
        shown = "not a number" if math.isinf(first) else f"{first:.4g} nats"
        consequence = Evidence(f"The first losses were {shown}; uniform guessing scores {level:.4g}.", first, "nats", "values")
    for layer in trace.facts.layers:
        share = layer.looks[0].saturated if layer.looks else None
        if consequence is None and share is not None and share >= LIMIT:
            consequence = Evidence(
                f"At the first look {share:.0%} of the values of {layer.op} layer {layer.name} were at their limits.",
                value=share, unit="share", source="values",
            )  # fmt: skip
    if consequence is None:
        return None
    gain, worst = max(large, key=lambda item: item[0])
    return Finding(
        CODE,
        "init-scale-too-large",
        "likely",
        f"{worst.name} was drawn too large: it makes numbers of size {gain:.3g} of numbers of size 1.",
        bearing="hinders",
        evidence=[
            Evidence(
                f"{p.name}: root mean square {p.first_rms:.3g} with {p.fan_in} inputs per unit is a gain of {g:.3g}; He's "
                "initialisation has 1.41.", value=g, unit="1", source="values",
            )
            for g, p in sorted(large, key=lambda item: -item[0])[:3]
        ]
        + [consequence],
        locations=sites(worst.made),
        fix=Fix(
            "Use nn.init.kaiming_normal_(weight), or divide the drawn numbers by the square root of the inputs per unit.", "unsafe",
            intervention=Intervention("reinitialise"),
        ),
        separating="Train with the first weights divided by their gain, everything else as it is.",
    )  # fmt: skip


def _gain(p: Parameter) -> float | None:
    if len(p.shape) < 2 or p.first_rms is None or not p.fan_in:
        return None
    return levels.known(p.first_rms * math.sqrt(p.fan_in))


def in_order(trace: Trace) -> str:
    trained = {name for layer in trace.facts.layers if layer.of == "input" for name in layer.parameters}
    gains = [g for p in trace.facts.parameters if p.name in trained and (g := _gain(p)) is not None]
    return f"weights were drawn at a gain of {min(gains):.2g} to {max(gains):.2g}" if gains and max(gains) <= GAIN else ""


def _example(rms: float, state: str) -> Trace:
    weight = Parameter("body.weight", [64, 64], reached=True, held=True, gradient="nonzero", changed=True, order=0,
                       first_rms=rms, fan_in=64, made=synthetic.site(10, "self.body = nn.Linear(64, 64)"))  # fmt: skip
    layer = Layer("linear", "input", [64, 64], 64, parameters=["body.weight"], data=True, looks=[LayerLook(1, 64, rms=1.0)])
    return synthetic.training(state=state, parameters=[weight], layers=[layer])


def sick() -> Trace:
    return _example(1.0, "above-chance")


def healthy() -> Trace:
    return _example(0.1, "learning")
