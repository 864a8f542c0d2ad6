"""The inputs reach the first layer at a size that its initialisation was not made for.

## What it means
Weights are drawn so that numbers of size 1 come out at size 1. Pixels from 0 to 255, prices in the thousands or time
stamps come out larger by their own factor, in every unit, and everything behind the first layer is driven to its limit.

## What is seen
The numbers that enter the first trained layer have a root mean square of 10 or more (or a single raw column has that
standard deviation or mean), while the weights are of normal size; and it has a consequence: the first losses are above
chance by more than chance itself, or a layer is saturated or dead at its first look, or the first step that was probed
went too far where a tenth or a hundredth of it improves the loss.

## Why training gets stuck
The gradient of the first weights is proportional to the inputs, and the curvature to their square: the largest stable
step is smaller by the square of the factor. At an ordinary learning rate the first steps throw the weights about, units
saturate or die; at one that is small enough nothing else moves.

## Fix
Standardise each column with the mean and standard deviation of the training set ((x - mean) / std), divide pixels by
255, or put a BatchNorm in front.

## Not to be confused with
Inputs 0..255 with a BatchNorm, LayerNorm or a division inside the model: what enters the first trained layer is looked
at, so they are silent. Weights that are too large for normal inputs (I602). Raw inputs that train well: silent. Columns
of different but ordinary size (S505).

## References
Y. LeCun, L. Bottou, G. Orr, K.-R. Müller, Efficient BackProp, 1998, section 4.3. K. He et al., Delving deep into
rectifiers, ICCV 2015 (the size of weights for inputs of size 1).
"""

from __future__ import annotations

import math

from unstuck import symptom
from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules import levels
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Facts, Inputs, Layer, LayerLook, Parameter, Probe
from unstuck.trace.trace import Trace

CODE = "D203"
NEEDS = ("layers", "inputs")
EXPLAINS = ("S501", "I602", "I603", "I604", "G304", "S505", "N701", "N702")

# A standardised input has root mean square 1, one scaled to [0, 1] at most 1, 3 is what the tail of a normal reaches.
# At 10 the curvature is a hundred times that of a standardised input, and so is the factor off the largest stable step.
LARGE = 10.0
GAIN = 3.0  # He 1.41, tanh 1.67, torch's default 0.58: twice the largest of them is not normal any more
SILENT = 1e-6  # float32 keeps seven digits: below it the gradient is lost beside the others
LIMIT = 0.9  # share of units at their limit
_TRAINED = frozenset({"linear", "conv", "rnn", "matmul"})


def check(trace: Trace) -> Finding | None:
    if symptom.of(trace).learns:
        return None
    for layer in trace.facts.layers:
        if not layer.data or layer.op not in _TRAINED or layer.of != "input":
            continue
        size = next(iter(levels.looks(layer.looks, "rms")), None)
        if size is None:
            continue
        given = _given(trace.facts, size)
        column = _column(given) if given is not None else 0.0
        gain = _gain(trace.facts, layer)
        if max(size, column) < LARGE or (gain is not None and gain > GAIN and gain >= size):
            continue
        consequence = _consequence(trace) or _silenced(trace.facts, layer)
        if consequence is not None:
            return _finding(trace.facts, layer, size, column, gain, given, consequence)
    return None


def _given(facts: Facts, size: float) -> Inputs | None:
    """The input that enters this layer as it is: of the same size to a factor of 2, so nothing rescales it inside."""
    for given in facts.inputs:
        rms = levels.known(given.rms)
        if given.kind == "real" and rms is not None and rms > 0 and 0.5 <= size / rms <= 2:
            return given
    return None


def _column(given: Inputs) -> float:
    return max(levels.known(given.column_std_high) or 0.0, levels.known(given.column_mean_high) or 0.0)


def _gain(facts: Facts, layer: Layer) -> float | None:
    """Size of what a layer makes of inputs of size 1: rms of its weights times the root of the inputs per unit."""
    for p in facts.parameters:
        if p.name in layer.parameters and len(p.shape) > 1 and p.first_rms is not None and p.fan_in:
            return levels.known(p.first_rms * math.sqrt(p.fan_in))
    return None


def _consequence(trace: Trace) -> Evidence | None:
    level, first = levels.chance(trace), levels.first_loss(trace)
    if level is not None and first is not None and first > 2 * level:
        if math.isinf(first):
            return Evidence("Among the first losses is one that is not a number.", source="values")
        return Evidence(
            f"The first {levels.FIRST} losses were {first:.4g} nats on average; uniform guessing scores {level:.4g} nats.",
            value=first, unit="nats", source="values",
        )  # fmt: skip
    for layer in trace.facts.layers:
        if not layer.looks:
            continue
        look = layer.looks[0]
        for share, word in ((look.saturated, "saturated"), (look.dead, "0 in every row")):
            if share is not None and share >= LIMIT:
                return Evidence(
                    f"At the first look {share:.0%} of {layer.name} ({layer.op}) were {word}.",
                    value=share, unit="share", source="values",
                )  # fmt: skip
    probe = next(iter(trace.facts.probes), None)
    if probe is not None and levels.overshot(probe):
        after = levels.known(probe.after)
        return Evidence(
            f"Step {probe.step} took the loss of its own batch from {probe.before:.4g} to "
            f"{'no number' if after is None else f'{after:.4g}'} nats; a shorter step of the same direction lowers it.",
            value=None if after is None else after - probe.before, unit="nats", source="probe",
        )  # fmt: skip
    return None


def _silenced(facts: Facts, layer: Layer) -> Evidence | None:
    """Units inside a recurrent cell are not seen one by one; that they stand at their limits shows in the gradient of the
    layer's weights, which inputs of this size would make large."""
    of = {p.name: p.looks[0].grad_norm for p in facts.parameters if p.looks and len(p.shape) > 1}
    own = [of[n] for n in layer.parameters if n in of]
    rest = [g for n, g in of.items() if n not in layer.parameters]
    if not own or not rest or max(own) > SILENT * max(rest):
        return None
    return Evidence(
        f"The gradient of {layer.name} is {max(own):.2g} at the first step, that of the layers behind it {max(rest):.2g}: its "
        "units are at their limits.", value=max(own), unit="1", source="values",
    )  # fmt: skip


def _finding(
    facts: Facts, layer: Layer, size: float, column: float, gain: float | None, given: Inputs | None, consequence: Evidence
) -> Finding:
    evidence = [
        Evidence(
            f"The numbers that enter {layer.name} have a root mean square of {size:.4g}; standardised inputs have 1.",
            value=size, unit="1", source="values",
        )
    ]  # fmt: skip
    if column > size:
        evidence.append(
            Evidence(f"One column of the inputs has a standard deviation or mean of {column:.4g}.", column, "1", "values")
        )
    if gain is not None:
        evidence.append(
            Evidence(
                f"The weights of {layer.name} were of normal size: they make numbers of size {gain:.2g} of inputs of size 1.",
                value=gain, unit="1", source="values",
            )
        )  # fmt: skip
    evidence.append(consequence)
    pixels = given is not None and given.highest == 255 and (given.lowest or 0) >= 0
    return Finding(
        CODE,
        "unnormalised-inputs",
        "likely",
        f"The inputs are not normalised: they enter {layer.name} at size {max(size, column):.4g} instead of about 1.",
        bearing="hinders",
        evidence=evidence,
        locations=sites(given.site if given is not None else next((i.site for i in facts.inputs if i.site), None), layer.where),
        fix=Fix(
            "Divide the pixels by 255, or better standardise them: (x - mean) / std."
            if pixels
            else "Standardise each column with the training set's statistics: (x - mean) / std.",
            "unsafe",
            intervention=Intervention("standardise-inputs"),
        ),
        separating="Standardise the inputs and train again with everything else as it is.",
    )


def in_order(trace: Trace) -> str:
    sizes = [
        size for layer in trace.facts.layers if layer.data and layer.of == "input" and layer.op in _TRAINED
        for size in levels.looks(layer.looks, "rms")[:1]
    ]  # fmt: skip
    return f"inputs enter the first layer with a root mean square of {max(sizes):.2g}" if sizes and max(sizes) < LARGE else ""


def sick() -> Trace:
    return _example(size=141.0, state="above-chance")


def healthy() -> Trace:
    return _example(size=1.0, state="learning")


def _example(size: float, state: str) -> Trace:
    weight = Parameter("fc1.weight", [128, 784], reached=True, held=True, gradient="nonzero", changed=True,
                       first_rms=0.0206, fan_in=784)  # fmt: skip
    return synthetic.training(
        state=state,
        parameters=[weight],
        layers=[
            Layer("linear", "input", [64, 784], 128, synthetic.site(20, "x = F.relu(self.fc1(x))"),
                  synthetic.site(10, "self.fc1 = nn.Linear(784, 128)", function="__init__"), "Linear",
                  ["fc1.weight", "fc1.bias"], True, [LayerLook(1, 64, rms=size, spread=0.4)]),
            Layer("relu", "output", [64, 128], 128, synthetic.site(20, "x = F.relu(self.fc1(x))"),
                  looks=[LayerLook(1, 64, rms=0.4 * size, dead=0.1, zeros=0.5)]),
        ],
        inputs=[
            Inputs("x", "real", [64, 784], "float32", calls=20, rows=1280, lowest=0.0, highest=255.0 * size / 141,
                   mean=0.4 * size, rms=size, column_std_low=0.1 * size, column_std_mid=0.7 * size,
                   column_std_high=0.9 * size, column_mean_high=0.9 * size, constant_columns=0.1, distinct_rows=1280,
                   site=synthetic.site(40, "out = model(x)", synthetic.TRAIN, "train")),
        ],
        probes=[Probe(1, 6.0, 6.0, 5.8, 0.2)],
    )  # fmt: skip
