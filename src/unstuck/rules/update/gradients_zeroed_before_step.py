"""Gradients are thrown away between backward and step: the optimizer finds nothing.

## What it means
zero_grad runs after backward and before step, or step runs before the backward of its batch. The optimizer is called
with gradients that are None or 0, so it changes nothing, or only what weight decay and old momentum change.

## What is seen
At every step that was looked at all gradients were None or exactly 0, while the backward call before it had left
gradients that were not. A trainer that zeroes in a hook, or a closure that zeroes after its backward, does the same.

## Why training gets stuck
The computed gradients are never used. The loss stays where it started.

## Fix
Order of one iteration: zero_grad, forward, backward, (clipping), step.

## Not to be confused with
Gradients that are 0 because backward gave 0 (dead units, softmax over one unit): the network's fault, not the order's;
silent here. An optimizer that holds other tensors (U401) finds None as well. zero_grad between forward and backward is
in order. Missing zeroing is U405.

## References
torch.optim.Optimizer.zero_grad, set_to_none: gradients become None, and optimizers skip parameters whose gradient is
None.
"""

from __future__ import annotations

from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.trace import Trace

CODE = "U406"
NEEDS = ("parameters", "optimizers")
EXPLAINS = ("U410", "U404")


def check(trace: Trace) -> Finding | None:
    facts, loop = trace.facts, trace.facts.loop
    if not loop.grad_checked:
        return _inside_closure(trace)
    if loop.grad_checked < 2 or loop.grad_none + loop.grad_zero < loop.grad_checked or loop.functional:
        return None
    # The backward gave something, and more often than not. Otherwise the network gives no gradient.
    if loop.grad_lost < 1 or 2 * (loop.grad_lost + loop.step_before_backward) < loop.grad_checked:
        return None
    if not any(p.held and p.reached and p.trainable for p in facts.parameters):
        return None  # the gradients lie in tensors the optimizer does not hold: U401
    early = loop.step_before_backward > 0 and loop.zero_site is None
    evidence = [
        Evidence(
            f"At all {loop.grad_checked} steps that were looked at the optimizer's gradients were None or exactly 0 "
            f"({loop.grad_none} None, {loop.grad_zero} zero).",
            value=float(loop.grad_checked), unit="steps", source="loop",
        ),
        Evidence(
            f"At {loop.grad_lost} of these steps the backward call before it had left gradients that were not 0.",
            value=float(loop.grad_lost), unit="steps", source="loop",
        ),
    ]  # fmt: skip
    if loop.step_before_backward:
        evidence.append(
            Evidence(
                f"{loop.step_before_backward} steps came before any backward call that could give them a gradient.",
                value=float(loop.step_before_backward), unit="steps", source="loop",
            )
        )  # fmt: skip
    return Finding(
        CODE,
        "gradients-zeroed-before-step",
        "certain",
        "step is called before backward, on gradients that were just zeroed: no step uses a gradient."
        if early
        else "Gradients are zeroed between backward and step: no step uses a gradient.",
        bearing="blocks",
        evidence=evidence,
        locations=sites(loop.zero_site, loop.step_site, loop.backward_site),
        fix=Fix(
            "Order of one iteration: zero_grad, forward, backward, step.", "safe",
            intervention=Intervention("keep-gradients-until-step"),
        ),
    )


def _inside_closure(trace: Trace) -> Finding | None:
    """A step that is given a closure runs backward itself: the gradients cannot be looked at in between."""
    facts, loop = trace.facts, trace.facts.loop
    mine = [p for p in facts.parameters if p.held and p.reached and p.trainable]
    if loop.functional or loop.steps < 3 or loop.backwards < loop.steps or loop.zero_site is None or not mine:
        return None
    if any(p.changed is not False or p.gradient not in {"none", "zero"} for p in mine):
        return None
    if not any((o.lr_largest or 0) > 0 for o in facts.optimizers):
        return None
    return Finding(
        CODE,
        "gradients-zeroed-before-step",
        "likely",
        "Gradients are zeroed after backward inside the closure: no step uses a gradient.",
        bearing="blocks",
        evidence=[
            Evidence(
                f"zero_grad was called {loop.zero_calls} times, also between a backward call and the end of its step.",
                value=float(loop.zero_calls), unit="calls", source="loop",
            ),
            Evidence(
                f"After {loop.steps} steps all {len(mine)} tensors of the optimizer are bit for bit what they were, "
                "and none was ever seen with a gradient.",
                value=float(loop.steps), unit="steps", source="loop",
            ),
        ],
        locations=sites(loop.zero_site, loop.step_site, loop.backward_site),
        fix=Fix(
            "In the closure: zero_grad, forward, backward, return the loss.", "safe",
            intervention=Intervention("keep-gradients-until-step"),
        ),
    )  # fmt: skip


def sick() -> Trace:
    trace = synthetic.training(state="at-chance")
    loop = trace.facts.loop
    loop.grad_none = loop.grad_lost = loop.grad_checked
    loop.no_effect_checked = loop.ascent_checked = 0
    loop.zero_calls, loop.zero_site = 400, synthetic.site(42, "opt.zero_grad()", synthetic.TRAIN, "train")
    for parameter in trace.facts.parameters:
        parameter.changed = False
    return trace


def healthy() -> Trace:
    return synthetic.training(state="learning")
