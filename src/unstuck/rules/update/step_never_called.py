"""backward is called again and again, and no optimizer step ever follows.

## What it means
Gradients are computed and never used. The call is missing, or it is a name without parentheses (`optimizer.step`), or
it stands behind a condition that never holds (accumulation over more batches than an epoch has).

## What is seen
Two or more backward calls, not one optimizer step, no step withheld by a GradScaler, and all weights bit for bit what
they were at the start.

## Why training gets stuck
No weight ever changes. The loss moves only with the batches, dropout and batch-norm statistics. If nobody zeroes the
gradients either, they grow without being used.

## Fix
Call optimizer.step() after loss.backward(). When accumulating over k batches, step after every k-th batch and after the
last one of an epoch, and do not count from zero again in each epoch when k is larger than the epoch.

## Not to be confused with
Updates written by hand, which change the weights: silent. A GradScaler that skips every step (U408). A step that is
called and changes nothing (U410). Gradients that are wanted for themselves (saliency, attacks) while the model is in
evaluation mode.

## References
torch.optim: "the function can be called once the gradients are computed using e.g. backward()".
"""

from __future__ import annotations

from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules.paths import sites
from unstuck.rules.update.step_has_no_effect import update_by_hand
from unstuck.trace import synthetic
from unstuck.trace.facts import Loop
from unstuck.trace.trace import Trace

CODE = "U404"
NEEDS = ("parameters",)
EXPLAINS = ("U402", "U405", "U401")


def check(trace: Trace) -> Finding | None:
    facts, loop = trace.facts, trace.facts.loop
    if loop.backwards < 2 or loop.steps or loop.skipped_steps or loop.functional:
        return None
    if update_by_hand(facts) is not None:
        return None  # U410
    if any(o.steps for o in facts.optimizers) or (loop.forwards and loop.eval_forwards >= loop.forwards):
        return None
    compared = [p for p in facts.parameters if p.trainable and p.changed is not None]
    if not compared or any(p.changed for p in facts.parameters):
        return None
    return Finding(
        CODE,
        "step-never-called",
        "certain",
        f"backward was called {loop.backwards} times and no optimizer step was taken: no weight ever changed.",
        bearing="blocks",
        evidence=[
            Evidence(
                f"{loop.backwards} backward calls, 0 optimizer steps.", value=float(loop.backwards), unit="calls",
                source="loop",
            ),
            Evidence(
                f"All {len(compared)} compared tensors are bit for bit what they were at the start.",
                value=float(len(compared)), unit="tensors", source="loop",
            ),
        ],
        locations=sites(loop.backward_site, *(o.made for o in facts.optimizers), facts.made),
        fix=Fix(
            "Call optimizer.step() after loss.backward(), with parentheses, where it is reached in every epoch.", "unsafe",
            intervention=Intervention("call-step"),
        ),
    )  # fmt: skip


def sick() -> Trace:
    trace = synthetic.training(
        state="at-chance",
        loop=Loop(
            forwards=400, backwards=400, backward_site=synthetic.site(42, "loss.backward()", synthetic.TRAIN, "train")
        ),
        optimizers=[],
    )
    for parameter in trace.facts.parameters:
        parameter.held, parameter.changed = False, False
    return trace


def healthy() -> Trace:
    return synthetic.training(state="learning")
