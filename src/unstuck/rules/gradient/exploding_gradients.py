"""The gradient grows from layer to layer on its way to the input, or bursts by orders of magnitude.

## What it means
Backward multiplies the gradient by one matrix per layer, and in a recurrent network by the same matrix per time step.
Where each of them enlarges it, what arrives is a power of a number above 1.

## What is seen
Either the root mean square of the gradient of the weights grows towards the input, by more than 2 per layer and 1000 in
all, in at least three of four neighbouring pairs; in a recurrent network that of the recurrent weight is more than 1000
times that of the last layer. Or the gradient norm reaches 1000 times its median at the start of the run, not later
than the loss becomes bad. And the training is stuck, diverging or not a number.

## Why training gets stuck
One step along such a gradient throws the first layers, or the recurrent weight, far away from where the gradient means
anything. The learning rate that would be short enough for them is too short for the rest.

## Fix
Clip the gradient norm at about 1 (`clip_grad_norm_(model.parameters(), 1.0)` between backward and step); start recurrent
weights orthogonal, others with He or Xavier; a normalisation layer; gated cells instead of a plain RNN.

## Not to be confused with
A learning rate that is too high, where growth of the gradient follows the first long step (S501). Weights that are too
large from the start (I602), inputs of huge size (D203): both enlarge the first layers' gradient and explain this
finding. A single spike that training recovers from: silent.

## References
R. Pascanu, T. Mikolov, Y. Bengio, On the difficulty of training recurrent neural networks, ICML 2013 (clipping).
A. Saxe, J. McClelland, S. Ganguli, ICLR 2014 (orthogonal start).
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np

from unstuck import symptom
from unstuck.findings import Evidence, Finding, Fix, Intervention, Symptom
from unstuck.rules import levels
from unstuck.rules.depth import FEWEST_LAYERS, LARGE, MOSTLY, PER_LAYER, Profile, profiles, weights_by_depth
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Facts, Layer, Parameter, ParameterLook, Probe
from unstuck.trace.trace import Trace

CODE = "G304"
NEEDS = ("parameters",)
TAME = 6.0  # twice the gain from which on a weight is too large by itself (I602): up to here it is the depth
COMMON = 1.75  # tanh's 5/3, the largest gain in common use, and the scatter of a small random matrix
EXPLAINS = ("N701", "S501", "I604", "U408", "D207", "I605", "S505")


def check(trace: Trace) -> Finding | None:
    state = symptom.of(trace)
    promised = [p for p in trace.facts.probes if p.predicted is not None and p.before > 0 and p.predicted > p.before]
    beyond = 2 * len(promised) > len(trace.facts.probes) > 0
    if state.learns or not (state.stuck or state.underachieves or beyond):
        return None
    facts = trace.facts
    evidence: list[Evidence] = []
    weights = weights_by_depth(facts)
    recurrent = _recurrent(facts, weights)
    seen = profiles(weights)
    # After a step that was too long everything is large: that the growth is the network's own shows at the first look.
    grown = next((p for p in seen if _grows(p, beyond and p is seen[0])), None) if len(weights) >= FEWEST_LAYERS else None
    place: list[Parameter] = []
    if grown is not None:
        place = weights[: max(1, len(weights) // 4)]
        evidence.append(
            Evidence(
                f"At step {grown.step} the root mean square of the gradient grows from {weights[-1].name} "
                f"({grown.sizes[-1]:.2g}) to {weights[0].name} ({grown.sizes[0]:.2g}), by a factor of {grown.factor:.2g} "
                f"per layer over {len(weights)} weights.",
                value=grown.ratio, unit="1", source="graph",
            )
        )  # fmt: skip
    elif recurrent and seen:
        largest = _over_time(weights, seen[0], recurrent)
        if largest is not None:
            place = [largest[0]]
            evidence.append(
                Evidence(
                    f"At step {seen[0].step} the gradient of the recurrent weight {largest[0].name} was {largest[1]:.2g} "
                    f"times that of {weights[-1].name} (root mean squares).",
                    value=largest[1], unit="1", source="graph",
                )
            )  # fmt: skip
    chaotic = _chaotic(weights, recurrent) if recurrent and not evidence else None
    if chaotic is not None:
        place = [chaotic[0]]
        evidence.append(
            Evidence(
                f"The recurrent weight {chaotic[0].name} was drawn at a gain of {chaotic[1]:.2g}: in every step of the sequence "
                "it multiplies the variance of a small difference by the square of that, forwards and backwards.",
                value=chaotic[1], unit="1", source="values",
            )
        )  # fmt: skip
    swollen = _swells(facts.layers) if beyond and not evidence else None
    if swollen is not None:
        place = weights[: max(1, len(weights) // 4)]
        evidence.append(
            Evidence(
                f"At the first look the numbers grow from {swollen[0]:.2g} behind the first layers to {swollen[1]:.2g} before the "
                f"loss (root mean squares), and the gradient is multiplied on its way back as they are on theirs.",
                value=swollen[1] / swollen[0], unit="1", source="values",
            )
        )  # fmt: skip
    spike = _spike(trace, state)
    if spike is not None and not evidence and any(_threw(p) and p.step <= spike[0] for p in trace.facts.probes):
        return None  # a step that was too long came before the burst: S501
    if spike is not None:
        step, norm, usual = spike
        evidence.append(
            Evidence(
                f"At step {step} the gradient norm was {norm:.3g}; before, its median was {usual:.3g}.",
                value=norm / usual, unit="1", source="loop",
            )
        )  # fmt: skip
    if not evidence:
        return None
    if beyond:
        most = max(promised, key=lambda p: p.predicted or 0.0)
        evidence.append(
            Evidence(
                f"At {len(promised)} of {len(facts.probes)} probed steps the gradient promises more than the whole loss: at step "
                f"{most.step} {most.predicted:.3g} nats of {most.before:.3g}.",
                value=most.predicted, unit="nats", source="probe",
            )
        )  # fmt: skip
    place = place or [p for p in facts.parameters if p.name in recurrent]
    names = ", ".join(p.name for p in place[:3])
    return Finding(
        CODE, "exploding-gradients", "likely",
        explains=["I602"] if (grown is not None or recurrent) and _tame(weights, TAME) else [],
        summary=f"The gradient explodes{f' ({names})' if names else ''}: one step along it throws the weights away.",
        bearing="hinders", evidence=evidence, locations=sites(*(p.made for p in place[:2]), facts.loop.step_site),
        # Where the weights were drawn at a gain above every rule's, clipping makes the steps safe and leaves the chaos.
        fix=Fix(
            ("Clip the gradient norm at about 1 before the step" if _tame(weights, COMMON) else "Draw the weights smaller")
            + ("; start the recurrent weight orthogonal, or use an LSTM or GRU." if recurrent else "; use He or Xavier weights."),
            "unsafe",
            intervention=Intervention("clip-gradients", {"norm": 1.0}) if _tame(weights, COMMON) else Intervention("reinitialise"),
        ),
        separating="Train again with clip_grad_norm_(model.parameters(), 1.0) before the step, and with weights of a common gain.",
    )  # fmt: skip


def _swells(layers: list[Layer]) -> tuple[float, float] | None:
    """(size behind the first layers, before the loss) where what the activations put out grows with depth: in eight of
    ten neighbouring pairs, and by two orders of magnitude (He's rule keeps it at 1, whatever the depth)."""
    for op in ("relu", "tanh"):
        sizes = [s for x in layers if x.op == op and x.of == "output" for s in levels.looks(x.looks, "rms")[:1]]
        if len(sizes) >= 2 * FEWEST_LAYERS and sizes[0] > 0 and sizes[-1] > 0.1 * LARGE * sizes[0]:
            if np.mean([b > a for a, b in pairwise(sizes)]) >= 0.8:
                return sizes[0], sizes[-1]
    return None


def _grows(profile: Profile, beyond: bool) -> bool:
    """By three orders of magnitude and a factor of 2 per layer; where most steps promise more than the whole loss, that the
    gradient is too large is shown, and steady growth by an order of magnitude says where it comes from."""
    falling = float(np.mean([a >= b for a, b in zip(profile.sizes, profile.sizes[1:])]))
    if falling < MOSTLY:
        return False
    # The layer under the loss has a gradient of another kind: its own inputs' size is in it, and no layer's derivative.
    return (profile.ratio > LARGE and profile.factor > PER_LAYER) or (
        beyond and profile.sizes[0] > 10 * min(s for s in profile.sizes if s > 0)
    )


def _recurrent(facts: Facts, weights: list[Parameter]) -> set[str]:
    """Weights that are used over and over in one forward pass."""
    uses = Counter(name for layer in facts.layers for name in set(layer.parameters))
    cells = {name for layer in facts.layers if layer.op == "rnn" for name in layer.parameters}
    again = {name for name, n in uses.items() if n > 1}
    named = {p.name for p in facts.parameters if "weight_hh" in p.name}
    # Written out as a loop: many more products with weights than there are weights, so some are used again and again.
    products = sum(facts.operations.count(op) for op in ("linear", "matmul"))
    looped = {p.name for p in weights[:-1]} if products >= max(8, 2 * len(weights)) else set()
    return cells | again | named | looped


def _over_time(weights: list[Parameter], profile: Profile, recurrent: set[str]) -> tuple[Parameter, float] | None:
    """The recurrent weight with the largest gradient, and how many times the last layer's that is."""
    found = [(p, size / profile.sizes[-1]) for p, size in zip(weights, profile.sizes) if p.name in recurrent]
    found = [(p, times) for p, times in found[:] if p is not weights[-1] and times > LARGE]
    return max(found, key=lambda f: ("weight_hh" in f[0].name, f[1])) if found else None


def _threw(probe: Probe) -> bool:
    """Was the loss of the step's own batch more than twice as high after it?"""
    return probe.after is None or not probe.after <= 2 * probe.before


def _tame(weights: list[Parameter], gain: float) -> bool:
    """Was no weight drawn at a gain above this one?"""
    return all((p.first_rms or 0.0) * math.sqrt(p.fan_in or 0) <= gain for p in weights)


def _chaotic(weights: list[Parameter], recurrent: set[str]) -> tuple[Parameter, float] | None:
    """A square recurrent weight (of a cell without gates) whose gain is beyond the square root of 2, with that gain.

    Random recurrent networks are chaotic from a gain of 1 on (Sompolinsky et al. 1988); orthogonal and Xavier weights sit
    at 1. At the square root of 2 the variance of a difference doubles in every step of the sequence.
    """
    found = [
        (p, p.first_rms * math.sqrt(p.fan_in)) for p in weights
        if p.name in recurrent and p.first_rms is not None and p.fan_in and len(p.shape) == 2 and p.shape[0] == p.shape[1]
    ]  # fmt: skip
    worst = max(found, key=lambda f: f[1], default=None)
    return worst if worst is not None and worst[1] > math.sqrt(2) else None


def _spike(trace: Trace, state: Symptom) -> tuple[int, float, float] | None:
    """(step, norm, usual norm) of the first burst. The loss must not have been bad before it, and what is usual is the
    median of the first quarter of the norms until then."""
    series = trace.series
    norms = series["grad_norm"]
    level = levels.chance(trace)
    bad = levels.not_finite(series)
    if level is not None:
        bad = bad | (series["loss"] > 2 * level)
    at = np.flatnonzero(~np.isnan(norms))
    if bad.any():
        at = at[at <= int(np.argmax(bad))]  # later ones follow the loss
    if len(at) < 2:
        return None
    quarter = norms[at[: max(1, len(at) // 4)]]
    usual = float(np.median(quarter[np.isfinite(quarter)])) if np.isfinite(quarter).any() else 0.0
    bursts = at[norms[at] > LARGE * usual]
    if usual <= 0 or not len(bursts):
        return None
    first = int(bursts[0])
    return int(series.steps[first]), float(norms[first]), usual


def in_order(trace: Trace) -> str:
    norms = trace.series.measured("grad_norm")
    if len(norms) < 4 or not np.isfinite(norms).all() or np.median(norms) <= 0:
        return ""
    return f"the largest of {len(norms)} gradient norms is {norms.max() / np.median(norms):.3g} times their median"


def sick() -> Trace:
    return _example(factor=4.0, state="above-chance")


def healthy() -> Trace:
    return _example(factor=1.1, state="learning")


def _example(factor: float, state: str, count: int = 8) -> Trace:
    weights, layers = [], []
    for i in range(count):
        gradient = 1.6 * factor ** (count - 1 - i)
        line = synthetic.site(10, "layers.append(nn.Linear(64, 64))", function="__init__")
        weights.append(
            Parameter(f"body.{2 * i}.weight", [64, 64], reached=True, held=True, gradient="nonzero", changed=True, order=i,
                      made=line, first_rms=0.18, fan_in=64, equal_rows_first=0.0, equal_rows=0.0,
                      looks=[ParameterLook(k, 11.5, gradient, 1e-3 * gradient) for k in (1, 100, 200, 300, 400)])
        )  # fmt: skip
        layers.append(Layer("linear", "input", [64, 64], 64, made=line, parameters=[f"body.{2 * i}.weight"], data=i == 0))
    return synthetic.training(state=state, parameters=weights, layers=layers)
