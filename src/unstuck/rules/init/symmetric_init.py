"""The units of a layer started equal and are equal still: it is one unit, many times.

## What it means
Units with the same incoming weights compute the same number, get the same gradient and stay the same for ever. Zeros or
any other constant for a hidden layer leave it one unit wide; with zeros nothing at all may flow through it.

## What is seen
All rows of a hidden layer's weight were equal, bit for bit, when it was first seen, and they are equal still after several
updates.

## Why training gets stuck
A layer of equal units has rank one; with all weights zero the gradient of the layers before it is zero as well.

## Fix
Leave the initialisation to the layer (torch draws it), or nn.init.kaiming_normal_ / xavier_uniform_. Zeros are right
for biases.

## Not to be confused with
A last layer, a gate, a LoRA matrix or a residual branch that starts at zero: its rows become different at the first step
because what follows tells them apart. Silent for these, because they are not equal any more at the next look.

## References
I. Goodfellow, Y. Bengio, A. Courville, Deep Learning, 2016, section 8.4 (breaking symmetry).
"""

from __future__ import annotations

from unstuck import symptom
from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Parameter, ParameterLook
from unstuck.trace.trace import Trace

CODE = "I601"
NEEDS = ("parameters",)
EXPLAINS = ("I603", "I604", "I605", "I606", "S502", "S505", "G302", "G303", "G305", "D207", "U406", "U410", "U402")
_FIX = "Draw the weights: leave them to the layer, or nn.init.kaiming_normal_(weight); zeros are for biases only."
STEPS = 3  # updates after which equal rows would have parted, if anything told them apart


def check(trace: Trace) -> Finding | None:
    weights = [p for p in trace.facts.parameters if len(p.shape) > 1 and p.trainable and p.reached and p.order is not None]
    if not weights:
        return None
    last = max(p.order for p in weights if p.order is not None)
    equal = [
        p for p in weights
        if p.equal_rows_first == 1.0 and p.equal_rows == 1.0 and p.looks and p.looks[-1].step > STEPS and _units(p) > 1
    ]  # fmt: skip
    # Logits that are all equal are the head's own affair only if something before it is equal, too: a head of zeros behind
    # a dead or constant body stays as it is without being the fault.
    equal = [p for p in equal if p.order != last]
    # Random biases may part what equal weights made equal: then it is a handicap, not an identity, and counts only where
    # the training is shown to fall short. Without a bias of its own what follows the layer told its units apart: LoRA's B.
    parted = [] if equal else [
        p for p in weights
        if p.order != last and p.equal_rows_first == 1.0 and _units(p) > 1 and p.looks and _biased(p, trace.facts.parameters)
    ]  # fmt: skip
    state = symptom.of(trace)
    if not equal and (not parted or state.learns or not (state.stuck or state.underachieves)):
        return None
    if parted:
        first = min(parted, key=lambda p: p.order or 0)
        return Finding(
            CODE, "symmetric-init", "likely",
            f"All {_units(first)} units of {first.name} started with equal weights; only their biases told them apart.",
            bearing="hinders",
            evidence=[
                Evidence(f"{p.name}: all {_units(p)} rows were equal at the first look.", float(_units(p)), "rows", "values")
                for p in parted[:3]
            ],
            locations=sites(first.made), fix=Fix(_FIX, "unsafe", intervention=Intervention("reinitialise")),
            separating="Train with nn.init.kaiming_normal_ in place of the constant, everything else as it is.",
        )  # fmt: skip
    first = min(equal, key=lambda p: p.order or 0)
    zero = first.first_rms == 0
    return Finding(
        CODE,
        "symmetric-init",
        "certain",
        f"All {_units(first)} units of {first.name} are the same: they started with equal weights"
        + (" (zeros)" if zero else "")
        + " and get equal gradients.",
        bearing="hinders",
        evidence=[
            Evidence(
                f"{p.name}: all {_units(p)} rows were equal at the first look and at step {p.looks[-1].step}.",
                value=float(_units(p)), unit="rows", source="values",
            )
            for p in equal[:3]
        ],
        locations=sites(first.made),
        fix=Fix(_FIX, "unsafe", intervention=Intervention("reinitialise")),
    )  # fmt: skip


def _biased(p: Parameter, parameters: list[Parameter]) -> bool:
    """Has the layer a bias? Where it holds several matrices, one whose name goes with this one: weight_hh, bias_hh."""
    prefix, _, leaf = p.name.rpartition(".")
    near = [(q, q.name.rpartition(".")[2]) for q in parameters if q.name.rpartition(".")[0] == prefix]
    biases = [name for q, name in near if len(q.shape) == 1 and (name[:1] == "b" or "bias" in name)]
    alone = sum(len(q.shape) > 1 for q, _ in near) == 1
    return bool(biases) if alone else bool({leaf.replace("weight", "bias"), "b" + leaf[1:]} & set(biases))


def _units(p: Parameter) -> int:
    return p.shape[1] if p.transposed and len(p.shape) > 1 else p.shape[0]


def _example(equal: float, state: str) -> Trace:
    def weight(name: str, order: int, rows: float) -> Parameter:
        return Parameter(
            name, [64, 64], reached=True, held=True, gradient="nonzero", changed=True, order=order, first_rms=0.0 if rows else 0.1,
            fan_in=64, equal_rows_first=rows, equal_rows=rows, looks=[ParameterLook(n, 1.0, 0.1, 0.01) for n in (1, 2, 50)],
            made=synthetic.site(10, "self.body = nn.Linear(64, 64)", function="__init__"),
        )  # fmt: skip

    return synthetic.training(state=state, parameters=[weight("body.weight", 0, equal), weight("head.weight", 2, 0.0)])


def sick() -> Trace:
    return _example(1.0, "at-chance")


def healthy() -> Trace:
    return _example(0.0, "learning")
