"""The GradScaler found infinite or NaN gradients and skipped every step.

## What it means
A GradScaler multiplies the loss before backward, so that small gradients survive half precision. If a scaled gradient
is infinite or NaN it skips the optimizer step and lowers the scale. Here it does that at every step.

## What is seen
scaler.step was called and the optimizer did not step: never, or in one run that covers at least 95 % of all attempts.

## Why training gets stuck
No step, no change. Lowering the scale helps against overflow only: a gradient that is NaN at any scale (a square root
or a division at 0, a NaN in the data) is NaN after every halving.

## Fix
Look for the NaN: run some steps without autocast and scaler under torch.autograd.detect_anomaly(). If the gradients are
finite there, start with a smaller init_scale.

## Not to be confused with
A few skips at the start or now and then: that is how the scale is found, silent. A step that is never called (U404). A
NaN without a scaler, which reaches the weights (N701).

## References
P. Micikevicius et al., Mixed precision training, ICLR 2018; torch.amp.GradScaler: "if inf or NaN gradients are found,
optimizer.step() is skipped".
"""

from __future__ import annotations

from unstuck.findings import Evidence, Finding, Fix
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.trace import Trace

CODE = "U408"
NEEDS = ("loop",)
EXPLAINS = ("U404", "U410", "N701")

FEWEST = 5  # the scale is found by a few skips
SHARE = 0.95
HALVINGS = 24  # 2^16, the usual first scale, is below 1/100 after so many halvings


def check(trace: Trace) -> Finding | None:
    loop = trace.facts.loop
    if loop.skipped_steps < FEWEST:
        return None
    attempts = loop.steps + loop.skipped_steps
    if loop.steps and (loop.longest_skip_run < FEWEST or loop.longest_skip_run < SHARE * attempts):
        return None
    evidence = [
        Evidence(
            f"The GradScaler skipped {loop.skipped_steps} of {attempts} steps because it found gradients that were "
            "infinite or NaN.",
            value=float(loop.skipped_steps), unit="steps", source="loop",
        )
    ]  # fmt: skip
    if loop.longest_skip_run >= HALVINGS:
        evidence.append(
            Evidence(
                f"The longest run of skips in a row is {loop.longest_skip_run}: the scale was lowered each time, so "
                "with the usual settings an overflow would have ended long before. The gradient itself is likely NaN "
                "or infinite.",
                value=float(loop.longest_skip_run), unit="steps", source="loop",
            )
        )  # fmt: skip
    return Finding(
        CODE,
        "scaler-skips-every-step",
        "certain",
        "The GradScaler skipped every step: the scaled gradients were never finite."
        if not loop.steps
        else f"The GradScaler skipped {loop.skipped_steps} of {attempts} steps.",
        bearing="blocks" if not loop.steps else "hinders",
        evidence=evidence,
        locations=sites(loop.scaler_site, loop.backward_site),
        fix=Fix(
            "Train some steps without GradScaler and autocast to find the operation whose gradient is NaN or infinite; "
            "if there is none, use a smaller init_scale."
        ),
    )


def sick() -> Trace:
    trace = synthetic.training(state="at-chance")
    loop = trace.facts.loop
    loop.skipped_steps = loop.longest_skip_run = loop.skip_run = loop.steps
    loop.steps = loop.grad_checked = loop.no_effect_checked = loop.ascent_checked = loop.stale_checked = 0
    loop.scaler_site = synthetic.site(43, "scaler.step(opt)", synthetic.TRAIN, "train")
    trace.facts.optimizers[0].steps = 0
    for parameter in trace.facts.parameters:
        parameter.changed = False
    return trace


def healthy() -> Trace:
    trace = synthetic.training(state="learning")
    trace.facts.loop.skipped_steps, trace.facts.loop.longest_skip_run = 4, 3
    return trace
