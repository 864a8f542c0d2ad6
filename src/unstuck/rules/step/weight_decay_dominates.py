"""The weights shrink to nothing: the penalty pulls harder than the loss.

## What it means
Weight decay multiplies every weight by (1 - rate x decay) at each step, or adds decay x weight to its gradient. Where that
term is larger than the gradient of the loss the only solution is to have no weights.

## What is seen
Most weight tensors have lost nine tenths of their norm or more (half, where most of the gradient points along the weights from
the first look to the last), and the decay explains it: rate x decay, summed over the
steps, is more than ln 10; or, where it enters through the gradient, decay x weight is larger than the gradient.

## Why training gets stuck
With vanishing weights the outputs do not depend on the inputs. What is left is the bias of the last layer, which learns the
base rates: the loss sits at their entropy.

## Fix
Weight decay 1e-4 for SGD, 1e-2 for AdamW; leave biases and norms out of it.

## Not to be confused with
Decay that holds the weights at a finite size while the loss falls: silent. Weights that were drawn tiny and stay so. A
norm layer behind each weight makes its size irrelevant: then the loss is not stuck.

## References
I. Loshchilov, F. Hutter, Decoupled weight decay regularization, ICLR 2019.
"""

from __future__ import annotations

import math

import numpy as np

from unstuck import symptom
from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules import levels
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Optimizer, Parameter, ParameterLook
from unstuck.trace.trace import Trace

CODE = "S503"
NEEDS = ("parameters", "optimizers")
EXPLAINS = ("I603", "I604", "G303", "G304", "D207", "S502", "S505", "I605", "G305", "S501")
PENALISED = 0.5  # most of the norm, while most of the gradient points along the weights from the first look to the last
SHRUNK = 0.1  # nine tenths lost: e^(-rate x decay x steps) with ln 10 in the exponent


def check(trace: Trace) -> Finding | None:
    state = symptom.of(trace)
    if state.learns:
        return None
    weights = [p for p in trace.facts.parameters if len(p.shape) > 1 and p.trainable and len(p.looks) > 1]
    optimizer = next((o for o in trace.facts.optimizers if o.steps and o.weight_decay > 0), None)
    much, limit = "nine tenths", SHRUNK
    shrunk = [p for p in weights if p.looks[0].weight_norm > 0 and p.looks[-1].weight_norm < SHRUNK * p.looks[0].weight_norm]
    if 2 * len(shrunk) <= len(weights):
        # Where the steps are short, or the loss holds against it, it is less than nine tenths; it shows in what the steps serve.
        much, limit = "more than half", PENALISED
        shrunk = [p for p in weights if p.looks[-1].weight_norm < PENALISED * p.looks[0].weight_norm]
        if not weights or 2 * len(shrunk) <= len(weights):
            return None
    why = _explained(trace, optimizer, shrunk, limit) if optimizer is not None else None
    if why is None:
        if limit == PENALISED and not _along_the_weights(shrunk, late=True):
            return None
        # A penalty written into the loss: the gradient that shrinks the weights is the penalty's own, and what the loss
        # term could still learn is nothing. A training that learns was left out above.
        if not _along_the_weights(shrunk):
            return None
        optimizer = None
        why = Evidence(
            "Most of the gradient points along the weights, and the optimizer's own weight decay does not explain it: a penalty "
            "inside the loss.",
            source="statistics",
        )  # fmt: skip
    first = sum(p.looks[0].weight_norm for p in shrunk)
    last = sum(p.looks[-1].weight_norm for p in shrunk)
    return Finding(
        CODE,
        "weight-decay-dominates",
        "likely",
        f"The weights shrink to nothing: {len(shrunk)} of {len(weights)} weight tensors have lost {much} of their norm.",
        bearing="hinders",
        evidence=[
            Evidence(f"The norms of these weights fell from {first:.3g} to {last:.3g}.", last / first, "1", "values"),
            why,
        ],
        locations=sites(optimizer.made if optimizer is not None else _loss_site(trace)),
        fix=Fix(
            "Use a weight decay of 1e-4 (SGD) to 1e-2 (AdamW)." if optimizer else "Make the penalty in the loss a thousandth.",
            "unsafe" if optimizer else "display",
            intervention=Intervention("scale-weight-decay", {"factor": 0.001}) if optimizer else None,
        ),
        separating="Train with the weight decay set to 0, everything else as it is.",
    )


def _explained(trace: Trace, optimizer: Optimizer, shrunk: list[Parameter], limit: float) -> Evidence | None:
    rates = trace.series.measured("lr")
    rate = float(rates.mean()) if len(rates) else (optimizer.lr_first or 0.0)
    exponent = rate * optimizer.weight_decay * optimizer.steps / max(1e-12, 1 - optimizer.momentum if not optimizer.adaptive else 1)
    if (optimizer.decoupled or not optimizer.adaptive) and exponent >= -math.log(limit):
        return Evidence(
            f"Learning rate {rate:g} times weight decay {optimizer.weight_decay:g} over {optimizer.steps} steps alone shrinks "
            f"weights by e^-{exponent:.3g}.", value=exponent, unit="1", source="statistics",
        )  # fmt: skip
    # Coupled: the optimizer adds decay x weight to the gradient, so the two are compared at the first looks.
    ratios = [
        optimizer.weight_decay * look.weight_norm / look.grad_norm for p in shrunk for look in p.looks[:3] if look.grad_norm > 0
    ]
    if not ratios:
        return None  # no gradient arrives: what keeps it away is the fault, and the decay only what is left
    ratio = float(np.median(ratios))
    if ratio < 1:
        return None
    return Evidence(
        f"Weight decay {optimizer.weight_decay:g} times the weights is {ratio:.3g} times the gradient of the loss.",
        value=ratio, unit="1", source="statistics",
    )  # fmt: skip


def _along_the_weights(shrunk: list[Parameter], late: bool = False) -> bool:
    """Is most of the gradient (of its square, over the first looks) the part along the weights? In high dimensions the data's
    own gradient is nearly orthogonal to them, and behind a norm layer it is so exactly."""
    if late and not _most([look for p in shrunk for look in p.looks[-3:] if look.grad_norm > 0]):
        return False
    return _most([look for p in shrunk for look in p.looks[:3] if look.grad_norm > 0])


def _most(looks: list[ParameterLook]) -> bool:
    along = sum((look.along * look.grad_norm) ** 2 for look in looks if look.along > 0)
    return along > 0.5 * sum(look.grad_norm**2 for look in looks) > 0


def _loss_site(trace: Trace):
    return trace.facts.loop.backward_site or (trace.facts.term.site if trace.facts.term is not None else None)


def in_order(trace: Trace) -> str:
    weights = [p for p in trace.facts.parameters if len(p.shape) > 1 and len(p.looks) > 1 and p.looks[0].weight_norm > 0]
    if not weights:
        return ""
    ratio = levels.known(min(p.looks[-1].weight_norm / p.looks[0].weight_norm for p in weights))
    return f"no weight fell below {ratio:.2g} of its first norm" if ratio is not None and ratio >= SHRUNK else ""


def sick() -> Trace:
    trace = synthetic.training(state="at-chance")
    trace.facts.optimizers[0].weight_decay = 5.0
    for p in trace.facts.parameters:
        p.looks = [ParameterLook(1, 4.6, 0.1, 0.05), ParameterLook(200, 0.01, 0.02, 0.001)]
    return trace


def healthy() -> Trace:
    trace = synthetic.training(state="learning")
    trace.facts.optimizers[0].weight_decay = 0.01
    for p in trace.facts.parameters:
        p.looks = [ParameterLook(1, 4.6, 0.1, 0.05), ParameterLook(200, 4.9, 0.02, 0.001)]
    return trace
