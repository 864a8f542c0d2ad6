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
from unstuck.trace.facts import Facts, Site
from unstuck.trace.trace import Trace

CODE = "U410"
NEEDS = ("loop",)

FEWEST = 3


def check(trace: Trace) -> Finding | None:
    facts, loop = trace.facts, trace.facts.loop
    if (line := update_by_hand(facts)) is not None:
        return _by_hand(facts, line)
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
                f"At all {loop.no_effect_checked} steps that were compared the gradient was not 0, the learning "
                f"rate was {first.lr_largest:.3g} or less but above 0, and not one weight changed.",
                value=float(loop.no_effect_checked), unit="steps", source="loop",
            )
        ],
        locations=sites(loop.step_site, first.step_site, first.made),
        fix=Fix("Write the update into the parameter itself (p.add_(...) under torch.no_grad()), not a new tensor."),
    )  # fmt: skip


def update_by_hand(facts: Facts) -> Site | None:
    """The line of an update without an optimizer that changed nothing: it reads .grad, and writes to a new tensor."""
    loop = facts.loop
    compared = [p for p in facts.parameters if p.trainable and p.changed is not None]
    if loop.backwards < FEWEST or loop.steps or loop.skipped_steps or loop.functional or facts.optimizers:
        return None
    if not compared or any(p.changed for p in facts.parameters):
        return None
    lines = [b.site for b in facts.breaks if b.reason in {"data", "no_grad", "detach"} and b.site is not None]
    return next((s for s in lines if ".grad" in s.text), None)


def _by_hand(facts: Facts, line: Site) -> Finding:
    loop = facts.loop
    return Finding(
        CODE,
        "step-has-no-effect",
        "certain",
        "The update written by hand changes no weight.",
        bearing="blocks",
        evidence=[
            Evidence(
                f"After {loop.backwards} backward calls all compared weights are bit for bit what they were at first.",
                value=float(loop.backwards), unit="calls", source="loop",
            ),
            Evidence(f"No optimizer was seen; line {line.line} of {line.file} reads the gradients.", source="loop"),
        ],
        locations=sites(line, loop.backward_site),
        fix=Fix("Write in place, under torch.no_grad(): p.sub_(lr * p.grad); p.data.sub(...) returns a new tensor."),
    )  # fmt: skip


def in_order(trace: Trace) -> str:
    loop = trace.facts.loop
    if not loop.no_effect_checked or loop.no_effect:
        return ""
    return f"weights changed at each of {loop.no_effect_checked} sampled steps"


def sick() -> Trace:
    trace = synthetic.training(state="at-chance")
    trace.facts.loop.no_effect = trace.facts.loop.no_effect_checked
    for parameter in trace.facts.parameters:
        parameter.changed = False
    return trace


def healthy() -> Trace:
    return synthetic.training(state="learning")
