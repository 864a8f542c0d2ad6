"""Gradients are never zeroed, so every step uses the sum of all gradients so far.

## What it means
backward adds to .grad. Without zeroing between steps the optimizer is given g_1 + g_2 + ... + g_t at step t instead of
g_t: directions that were right long ago keep their full weight for ever.

## What is seen
At backward calls that follow an optimizer step, .grad still held the very numbers that had been stepped on: nobody had
zeroed, replaced or overwritten them. Counted over the training; zeroing once an epoch leaves most of them stale.

## Why training gets stuck
The sum acts like momentum without friction: updates grow, overshoot and oscillate. The loss stalls, swings or diverges,
and a smaller learning rate only delays it.

## Fix
Call optimizer.zero_grad() once per step: before backward, or right after step.

## Not to be confused with
Gradient accumulation over k batches: gradients add up between two steps and are zeroed after each step, silent. Zeroing
by hand, through model.zero_grad() or by setting .grad to None: silent. Two optimizers that take turns (GAN): each finds
gradients of the other's turn, silent. Zeroing too early, between backward and step, is U406.

## References
torch.optim.Optimizer.zero_grad; torch.Tensor.backward: "this function accumulates gradients in the leaves - you might
need to zero .grad attributes or set them to None before calling it".
"""

from __future__ import annotations

from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.trace import Trace

CODE = "U405"
NEEDS = ("loop",)
EXPLAINS = ("N701",)


def check(trace: Trace) -> Finding | None:
    facts, loop = trace.facts, trace.facts.loop
    if loop.stale_checked < 2 or loop.adversarial:
        return None
    # Of several optimizers that take turns each finds the others' gradients at its own backward.
    if sum(o.steps > 0 for o in facts.optimizers) > 1 and loop.zero_calls:
        return None
    never = loop.stale == loop.stale_checked
    if not never and not (loop.stale_checked >= 10 and loop.stale * 2 >= loop.stale_checked):
        return None
    share = loop.stale / loop.stale_checked
    if never:
        seen = f"At none of {loop.stale_checked} backward calls after a step had anybody zeroed the gradients."
        summary = "Gradients are never zeroed: every step uses the sum of all gradients so far."
    else:
        seen = (
            f"At {loop.stale} of {loop.stale_checked} backward calls after a step ({share:.0%}) nobody had zeroed the "
            "gradients that had been stepped on."
        )
        summary = f"Gradients are zeroed too rarely: {share:.0%} of the steps add to gradients that were already used."
    evidence = [Evidence(seen, value=float(loop.stale), unit="calls", source="loop")]
    if loop.zero_calls:
        evidence.append(
            Evidence(
                f"zero_grad was called {loop.zero_calls} times in {loop.steps} steps.",
                value=float(loop.zero_calls), unit="calls", source="loop",
            )
        )  # fmt: skip
    return Finding(
        CODE,
        "gradients-never-zeroed",
        "certain" if never else "likely",
        summary,
        bearing="hinders",
        evidence=evidence,
        locations=sites(loop.backward_site, loop.step_site),
        fix=Fix(
            "Call optimizer.zero_grad() before each backward (or after each step).",
            "safe",
            intervention=Intervention("zero-before-backward"),
        ),
    )


def in_order(trace: Trace) -> str:
    loop = trace.facts.loop
    if loop.stale_checked <= 1 or loop.stale:
        return ""
    return f"gradients had been zeroed before each of {loop.stale_checked} steps"


def sick() -> Trace:
    trace = synthetic.training(state="plateau")
    trace.facts.loop.stale = trace.facts.loop.stale_checked
    return trace


def healthy() -> Trace:
    return synthetic.training(state="learning")
