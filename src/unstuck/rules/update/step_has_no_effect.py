"""Steps are taken with a gradient and a learning rate, and not one weight changes.

## What it means
The optimizer runs, has gradients and a learning rate above 0, and leaves every weight as it was. Typically an optimizer
written by hand assigns to a local name (`p = p - lr * d`) or updates a copy (a flattened vector) instead of writing
into the parameter.

## What is seen
At sampled steps the weights were compared before and after the step: the gradient was not 0, the learning rate above 0,
and not one number had changed, at every one of the steps compared.

## Why training gets stuck
Nothing the optimizer computes reaches the model.

## Fix
Write into the parameter: `with torch.no_grad(): p.add_(d, alpha=-lr)`. After an update of a flattened copy, copy it
back with vector_to_parameters.

## Not to be confused with
A learning rate of 0, or one whose update is rounded away in half precision (U407). Gradients that were zeroed before
the step (U406). An optimizer that holds other tensors, which do change (U401). Steps skipped by a GradScaler (U408).

## References
torch.nn.utils.parameters_to_vector returns a new tensor; torch.Tensor.add_ and the other names with an underscore work
in place.
"""

from __future__ import annotations

from unstuck.findings import Evidence, Finding, Fix
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.trace import Trace

CODE = "U410"
NEEDS = ("optimizers",)

FEWEST = 3


def check(trace: Trace) -> Finding | None:
    facts, loop = trace.facts, trace.facts.loop
    if loop.no_effect_checked < FEWEST or loop.no_effect < loop.no_effect_checked:
        return None
    stepping = [o for o in facts.optimizers if o.steps > 0 and (o.lr_largest or 0) > 0]
    if not stepping or sum(o.steps_below_resolution for o in stepping) >= loop.no_effect:
        return None
    if any(p.held and p.changed for p in facts.parameters):
        return None  # somebody else writes the weights: a master copy
    first = stepping[0]
    return Finding(
        CODE,
        "step-has-no-effect",
        "certain",
        f"{first.kind}.step() changes no weight, although it has gradients and a learning rate above 0.",
        bearing="blocks",
        evidence=[
            Evidence(
                f"At all {loop.no_effect_checked} steps that were compared the gradient was not 0 and the learning rate "
                f"was {first.lr_largest:.3g} or less but above 0, and not one weight changed.",
                value=float(loop.no_effect_checked), unit="steps", source="loop",
            )
        ],
        locations=sites(loop.step_site, first.step_site, first.made),
        fix=Fix("Write the update into the parameter itself (p.add_(...) under torch.no_grad()), not into a new tensor."),
    )  # fmt: skip


def sick() -> Trace:
    trace = synthetic.training(state="at-chance")
    trace.facts.loop.no_effect = trace.facts.loop.no_effect_checked
    for parameter in trace.facts.parameters:
        parameter.changed = False
    return trace


def healthy() -> Trace:
    return synthetic.training(state="learning")
