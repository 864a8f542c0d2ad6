"""The gradient shrinks from layer to layer on its way to the input, and the first layers do not move.

## What it means
Backward multiplies the gradient by one matrix per layer. Where each of them shrinks it (the derivative of a sigmoid is
at most 1/4; weights drawn too small), what is left after many layers is a power of a number below 1.

## What is seen
The root mean square of the gradient of the weights falls towards the input, by a factor below 1/2 per layer and below
1/1000 in all, in at least three of four neighbouring pairs of layers, at the first and at the middle of the looks; and
over the whole run the first layers have moved by less than 1 % of their norm. Or, on the way there: the size of the numbers, or
the share of them that differs between samples, falls in the same way.

## Why training gets stuck
The last layers learn from features that nobody trains. With saturating units or tiny weights those features hardly
differ between samples, so that the best the last layers can do is the base rates.

## Fix
ReLU or GELU with He initialisation, residual connections, or a normalisation layer in each block. An adaptive optimizer
gives each layer a step of its own size.

## Not to be confused with
Gradients that are exactly 0: dead units (I603), a path cut by detach (G302). A learning rate that is too low for all
layers (S502). Adaptive optimizers, which divide the factor out: the first layers move, silent.

## References
S. Hochreiter, 1991. Y. Bengio, P. Simard, P. Frasconi, IEEE Trans. Neural Networks 1994. X. Glorot, Y. Bengio,
Understanding the difficulty of training deep feedforward neural networks, AISTATS 2010. S. Schoenholz et al., Deep information
propagation, ICLR 2017.
"""

from __future__ import annotations

import math

import numpy as np

from unstuck import symptom
from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules import levels
from unstuck.rules.depth import FEWEST_LAYERS, LARGE, MOSTLY, PER_LAYER, SMALLEST, Profile, profiles, weights_by_depth
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Facts, Parameter, ParameterLook
from unstuck.trace.trace import Trace

CODE = "G303"
NEEDS = ("parameters",)
EXPLAINS = ("S502", "S505", "I603", "I605", "D207")

TORCH = 1 / math.sqrt(3)  # gain of torch's layers: uniform up to 1 / sqrt(inputs), whose root mean square is that over sqrt(3)
STILL = 0.01  # a weight that turned and grew by less than 1 % computes what it computed at first, to 1 %


def check(trace: Trace) -> Finding | None:
    state = symptom.of(trace)
    if state.learns or state.name in {"not-judged", "non-finite", "no-training"}:
        return None
    weights = weights_by_depth(trace.facts)
    if len(weights) < FEWEST_LAYERS:
        return None
    forward = _signal(trace.facts, weights) or _alike(trace, weights)
    if forward is not None:
        return forward
    seen = profiles(weights)
    if not seen or not all(_falls(profile) for profile in seen):
        return None
    early = weights[: max(1, len(weights) // 4)]  # the quarter nearest to the data
    moved = [_moved(p, levels.steps(trace)) for p in early]
    if any(m is None or m >= STILL for m in moved):
        return None
    first = seen[0]
    factor = 1 / first.factor if first.factor > 0 else np.inf
    names = ", ".join(p.name for p in early[:4])
    path = f"from {weights[-1].name} ({first.sizes[-1]:.2g}) to {weights[0].name} ({first.sizes[0]:.2g})"
    return Finding(
        CODE, "vanishing-gradients", "likely",
        f"The gradient shrinks by a factor of {factor:.2g} per layer towards the input; the first layers do not move.",
        bearing="hinders",
        evidence=[
            Evidence(
                f"At step {first.step} the root mean square of the gradient falls {path} over {len(weights)} weights, by a "
                f"factor of {factor:.2g} per layer.",
                value=first.ratio, unit="1", source="graph",
            ),
            Evidence(
                f"Over {levels.steps(trace)} steps the updates of {names} add up to {max(m or 0.0 for m in moved):.2g} of "
                "the norm of these weights.",
                value=max(m or 0.0 for m in moved), unit="1", source="loop",
            ),
        ],
        locations=sites(*_locations(trace.facts, early), *(o.made for o in trace.facts.optimizers if o.steps)),
        fix=Fix(
            "Use ReLU with He initialisation, residual connections or normalisation layers; or start with larger weights.",
            "unsafe", intervention=_instead(trace.facts, weights),
        ),
        separating="Put a LayerNorm in front of each activation, or use Adam, and train again.",
    )  # fmt: skip


def _signal(facts: Facts, weights: list[Parameter]) -> Finding | None:
    """The way back is multiplied by the same weights as the way there: where numbers shrink layer by layer from the data
    to the loss, so does the gradient, and every weight's own gradient, a product of both, is equally tiny."""
    if any(share >= 0.9 for layer in facts.layers for share in levels.looks(layer.looks, "dead")[:1]):
        return None  # dead from the start: nothing shrinks there, it ends (I603)
    sizes = _entering(facts, weights, "rms")
    if len(sizes) < FEWEST_LAYERS or not sizes[0] > 0:
        return None
    last = max(sizes[-1], SMALLEST)
    profile = Profile(1, [max(s, SMALLEST) for s in sizes[::-1]])  # reversed: falls from the first layer to the last
    if last / sizes[0] > 1 / LARGE or profile.factor >= 1 / PER_LAYER or profile.rising < MOSTLY:
        return None
    return Finding(
        CODE, "vanishing-gradients", "likely",
        f"The signal shrinks by a factor of {1 / profile.factor:.2g} per layer on its way to the loss, and the gradient on its "
        "way back.",
        bearing="hinders",
        evidence=[
            Evidence(
                f"At the first look the numbers that enter the layers fall from {sizes[0]:.2g} to {last:.2g} (root mean squares) "
                f"over {len(sizes)} layers.", value=last / sizes[0], unit="1", source="values",
            )
        ],
        locations=sites(*(p.made for p in weights[:2]), facts.made)[:4],
        fix=Fix(
            "Start with larger weights (He: sqrt(2 / inputs)), or put a normalisation layer behind each layer.", "unsafe",
            intervention=_larger(facts),
        ),
        separating="Train again with nn.init.kaiming_normal_ weights, everything else as it is.",
    )  # fmt: skip


def _alike(trace: Trace, weights: list[Parameter]) -> Finding | None:
    """What differs between samples shrinks from layer to layer: forwards on the same scale as the gradient does backwards
    (Schoenholz et al., ICLR 2017). Where it is the share s of what enters the last layer, the directions in which that layer could
    tell samples apart have s times the curvature of the steepest one, and need 1 / 2s steps at the largest stable rate."""
    first, last = (_entering(trace.facts, weights, "spread", at) for at in (0, -1))
    if len(first) < FEWEST_LAYERS or not first[0] > 0 or len(last) != len(first):
        return None
    profile = Profile(1, [math.sqrt(max(s, SMALLEST)) for s in first[::-1]])
    share = max(first[-1], last[-1])
    if first[-1] / first[0] > 1 / LARGE or profile.factor >= 1 / PER_LAYER or profile.rising < MOSTLY:
        return None
    if not 0 < 2 * share * levels.steps(trace) < 1:
        return None  # 0: it ends somewhere, for another reason
    return Finding(
        CODE, "vanishing-gradients", "likely",
        f"What tells samples apart shrinks by a factor of {1 / profile.factor:.2g} per layer: the last layer sees nearly the same "
        "numbers for all of them.",
        bearing="hinders",
        evidence=[
            Evidence(
                f"Of the mean square that enters the first of {len(first)} layers {first[0]:.0%} differ between samples, of what "
                f"enters the last {first[-1]:.2g} at the first look and {last[-1]:.2g} at the last: about {0.5 / share:.2g} steps "
                f"would be needed, {levels.steps(trace)} were taken.",
                value=share, unit="share", source="values",
            )
        ],
        locations=sites(*_locations(trace.facts, weights[: max(1, len(weights) // 4)])),
        fix=Fix(
            "Use ReLU with He initialisation, residual connections or normalisation layers; or fewer layers.", "unsafe",
            intervention=_larger(trace.facts),
        ),
        separating="Put a LayerNorm in front of each activation and train again.",
    )  # fmt: skip


def _entering(facts: Facts, weights: list[Parameter], what: str, at: int = 0) -> list[float]:
    """One number of what enters each weight's layer at the first (0) or last (-1) look, in the order of the forward pass."""
    names = {p.name: i for i, p in enumerate(weights)}
    ways = {}
    for layer in facts.layers:
        place = next((names[n] for n in layer.parameters if n in names), None)
        values = levels.looks(layer.looks, what)
        if layer.of == "input" and place is not None and values:
            ways[place] = values[at]
    return [ways[i] for i in sorted(ways)]


def _instead(facts: Facts, weights: list[Parameter]) -> Intervention:
    """Weights drawn too small are drawn again. Those of usual size shrink the gradient by the activations' derivative: steps
    that do not follow the size of the gradient (Adam) get by with that, where they are not taken already."""
    gains = [p.first_rms * math.sqrt(p.fan_in) for p in weights if p.first_rms is not None and p.fan_in]
    usual = not gains or float(np.median(gains)) > 0.5 * TORCH
    adaptive = any(o.adaptive for o in facts.optimizers if o.steps)
    return Intervention("adaptive-optimizer") if usual and not adaptive else _larger(facts)


def _larger(facts: Facts) -> Intervention:
    """torch's layers drawn with the gain that keeps the size of the numbers, sqrt(2) before ReLU and 1 elsewhere: as a factor on
    torch's own. Tensors without a layer are drawn after He as it is."""
    if all(p.made is None for p in facts.parameters if len(p.shape) > 1):
        return Intervention("reinitialise")
    gain = math.sqrt(2) if any(layer.op == "relu" for layer in facts.layers) else 1.0
    return Intervention("reinitialise", {"scale": round(gain / TORCH, 4)})


def _falls(profile: Profile) -> bool:
    return profile.ratio < 1 / LARGE and profile.factor < 1 / PER_LAYER and profile.rising >= MOSTLY


def _moved(p: Parameter, steps: int) -> float | None:
    """Length of the way of a weight over the run, in its own norm: the mean over the looks times the steps."""
    shares = [k.update_norm / k.weight_norm for k in p.looks if k.weight_norm > 0]
    return float(np.mean(shares)) * steps if shares and np.isfinite(shares).all() else None


def _locations(facts: Facts, early: list[Parameter]) -> list:
    names = {p.name for p in early}
    activations = [
        layer.where for before, layer in zip(facts.layers, facts.layers[1:])
        if names & set(before.parameters) and layer.op in {"sigmoid", "tanh"}
    ]  # fmt: skip
    return sites(*activations[:2], *(p.made for p in early), facts.made)[:4]


def in_order(trace: Trace) -> str:
    weights = weights_by_depth(trace.facts)
    seen = profiles(weights)
    if len(weights) < FEWEST_LAYERS or not seen or not np.isfinite(seen[-1].ratio) or seen[-1].ratio <= 0:
        return ""
    return f"the first of {len(weights)} weights gets {seen[-1].ratio:.2g} times the gradient of the last"


def sick() -> Trace:
    return _example(factor=0.2, state="at-chance")


def healthy() -> Trace:
    return _example(factor=0.9, state="learning")


def _example(factor: float, state: str, layers: int = 8) -> Trace:
    weights = []
    for i in range(layers):
        gradient = 0.4 * factor ** (layers - 1 - i)  # of a 64 x 64 matrix: rms gradient / 160
        looks = [ParameterLook(k, 4.6, gradient, 0.01 * gradient) for k in (1, 100, 200, 300, 400)]
        weights.append(
            Parameter(f"body.{2 * i}.weight", [64, 64], reached=True, held=True, gradient="nonzero", changed=True,
                      order=i, made=synthetic.site(10, "layers.append(nn.Linear(64, 64))", function="__init__"),
                      first_rms=0.072, fan_in=64, equal_rows_first=0.0, equal_rows=0.0, looks=looks)
        )  # fmt: skip
    return synthetic.training(state=state, parameters=weights)
