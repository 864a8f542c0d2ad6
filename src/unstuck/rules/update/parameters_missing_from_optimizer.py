"""Some of the model's trainable parameters are in no optimizer.

## What it means
A part of the parameters that the loss reaches is in no parameter group, so it stays what it was at the start. Usual
ways to get there: layers kept in a plain Python list, which `model.parameters()` does not see; a parameter group left
out of the list of groups; a generator of parameters that had been used up (counted, printed) before it was passed on.

## What is seen
Tensors with requires_grad True that the loss reaches and that no optimizer holds, unchanged bit for bit since the first
step, while other tensors of the same model are held. The optimizer holds nothing foreign.

## Why training gets stuck
The tensors outside stay at random values. The others have to learn through them: with a narrow random layer in between
the information about the classes may be lost before it reaches a layer that learns.

## Fix
Give the missing tensors to the optimizer. Keep layers in nn.ModuleList or nn.Sequential instead of a list. If the part
is meant to stay fixed, set requires_grad False on it: that says so, and saves its backward pass.

## Not to be confused with
A linear probe or a frozen backbone that is kept out of the optimizer on purpose: the same facts, hence a cause only
where the training is shown to be stuck. Optimizers that hold tensors of another model (U401). requires_grad False
(U403). Tensors that the gradient does not reach (G302).

## References
torch.nn.ModuleList: "modules it contains are properly registered, and will be visible by all Module methods".
"""

from __future__ import annotations

import math

from unstuck import symptom
from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules.paths import DRAWN, as_drawn, sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Parameter
from unstuck.trace.trace import Trace

CODE = "U402"
NEEDS = ("parameters", "optimizers")


def check(trace: Trace) -> Finding | None:
    facts = trace.facts
    stepping = [o for o in facts.optimizers if o.steps > 0]
    if facts.loop.functional or not stepping:
        return None
    reached = [p for p in facts.parameters if p.trainable and p.reached]
    held = [p for p in reached if p.held]
    loose = [p for p in reached if not p.held and p.changed is False]
    if not held or not loose:
        return None
    own = {p.name for p in facts.parameters}
    if any(n not in own for o in stepping for n in o.stranger_names):
        return None  # stale tensors of a replaced layer: U401
    numbers = sum(math.prod(p.shape) for p in loose)
    share = numbers / max(1, sum(math.prod(p.shape) for p in reached))
    fresh = as_drawn(loose) and not symptom.of(trace).learns
    names = ", ".join(p.name for p in loose[:5]) + (", ..." if len(loose) > 5 else "")
    return Finding(
        CODE,
        "parameters-missing-from-optimizer",
        "certain",
        f"{len(loose)} of {len(reached)} trainable tensors are in no optimizer and never change ({names}).",
        # Features that were trained before may be meant to stay. Where hardly anything is learned nobody means to stand on random
        # ones; where something is, they may (reservoirs, random features).
        bearing="hinders" if fresh else "choice",
        evidence=[
            Evidence(
                f"The loss reaches {names}, and no optimizer holds them: {share:.1%} of the model's trainable numbers.",
                value=share, unit="share",
            ),
            Evidence(
                f"They are bit for bit what they were at the first step, after {facts.loop.steps} optimizer steps.",
                value=float(facts.loop.steps), unit="steps", source="loop",
            ),
            *([DRAWN] if fresh else []),
        ],
        locations=sites(stepping[0].made, facts.made),
        fix=Fix(
            "Pass these parameters to the optimizer (layers in a Python list need nn.ModuleList); "
            "if they are meant to stay fixed, set requires_grad to False on them.",
            "unsafe",
            intervention=Intervention("add-parameters"),
        ),
    )  # fmt: skip


def sick() -> Trace:
    trace = synthetic.training(state="plateau")
    trace.facts.parameters = [
        Parameter("tensor [64, 2]", [64, 2], reached=True, gradient="nonzero", changed=False),
        Parameter("head.weight", [5, 2], reached=True, held=True, gradient="nonzero", changed=True),
    ]
    trace.facts.optimizers[0].tensors = 1
    return trace


def healthy() -> Trace:
    return synthetic.training(state="learning")
