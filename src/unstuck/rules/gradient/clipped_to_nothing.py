"""The gradient is clipped at every step to a small part of itself, and the steps add up to nothing.

## What it means
Clipping is a guard for the rare burst. Where the threshold lies far below the usual norm it becomes the length of every
step: threshold times learning rate, whatever the gradient says.

## What is seen
At least 95 % of the clipping calls made the gradient smaller, the norm before is on average 10 or more times the
threshold, the optimizer is one whose step follows the size of the gradient, and the first-order decrease of all steps
of the run together is under 2 % of chance, while without clipping it would have been above.

## Why training gets stuck
The direction is right and the step has no length. Adam and its kind divide the size of the gradient out, so that they
hardly notice; plain gradient descent stands still.

## Fix
Print the norm that clip_grad_norm_ returns for a few steps, and set the threshold a little above it: usually 1 to 10.

## Not to be confused with
Clipping that is often active with a sound learning rate: the steps add up, silent. Adaptive optimizers. A learning rate
that is too low without clipping (S502). Gradients that are large because they explode (G304).

## References
R. Pascanu, T. Mikolov, Y. Bengio, ICML 2013: a threshold of half to ten times the average norm. J. Zhang et al., ICLR
2020 (clipped descent as normalised descent). torch.nn.utils.clip_grad_norm_ returns the norm before clipping.
"""

from __future__ import annotations

import math

from unstuck import symptom
from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules import levels
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Clipping, Optimizer
from unstuck.trace.trace import Trace

CODE = "G305"
NEEDS = ("clippings",)
EXPLAINS = ("S502", "U410", "U406")

CALLS = 10
ALWAYS = 0.95
TIMES = 10.0  # Pascanu et al.: thresholds from half to ten times the average norm; 1/10 lies far outside of them


def check(trace: Trace) -> Finding | None:
    facts = trace.facts
    stepping = [o for o in facts.optimizers if o.steps > 0]
    if (not stepping and not facts.loop.functional) or any(o.adaptive for o in stepping) or symptom.of(trace).learns:
        return None
    for clipping in facts.clippings:
        if clipping.calls < CALLS or clipping.active < ALWAYS * clipping.calls:
            continue
        norm = clipping.total / clipping.calls
        if clipping.threshold == 0 and norm > 0:
            return _finding(clipping, norm, [])
        if not (clipping.threshold > 0 and math.isfinite(norm)) or norm < TIMES * clipping.threshold:
            continue
        evidence = _budget(trace, clipping.times or norm / clipping.threshold, norm, stepping)
        if evidence:
            return _finding(clipping, norm, evidence)
    return None


def _budget(trace: Trace, times: float, norm: float, stepping: list[Optimizer]) -> list[Evidence]:
    """What the steps promise in all, as clipped and without clipping; empty unless it is the clipping that decides.

    Recorded is the product of the gradient g itself, as it was before clipping, with the step -lr c along the clipped one:
    lr g.c. Without clipping it is lr g.g, which is `times` as much: norm / threshold where the norm was clipped. Weight decay is in
    the step as well, and can outweigh what clipping left: lr g.g is at least lr norm^2 a step, norm being g's or its largest entry.
    """
    now, level = levels.promised(trace), levels.chance(trace)
    if now is None or level is None:
        return []
    rate = min(((o.lr_first or 0.0) / max(1e-3, 1 - o.momentum) for o in stepping), default=0.0)
    whole = max(now * times, rate * norm**2 * levels.steps(trace))
    first = levels.first_loss(trace)
    # A start above chance has to come down to it before anything counts as learned.
    needed = levels.BAND * level + (max(0.0, first - level) if first is not None and math.isfinite(first) else 0.0)
    if not now < needed <= whole:
        return []
    return [
        Evidence(
            f"To first order all {levels.steps(trace)} steps together lower the loss by {now:.2g} nats; without clipping it "
            f"would be about {whole:.2g} nats (uniform guessing scores {level:.4g}).",
            value=now, unit="nats", source="loop",
        )
    ]  # fmt: skip


def _finding(clipping: Clipping, norm: float, evidence: list[Evidence]) -> Finding:
    name = "clip_grad_value_" if clipping.kind == "value" else "clip_grad_norm_"
    what = "largest entry" if clipping.kind == "value" else "norm"
    nothing = clipping.threshold == 0
    return Finding(
        CODE, "clipped-to-nothing", "certain" if nothing else "likely",
        "The gradient is clipped to 0 at every step."
        if nothing
        else f"Clipping at {clipping.threshold:.3g} leaves 1/{norm / clipping.threshold:.3g} of the gradient at every step.",
        bearing="blocks" if nothing else "hinders",
        evidence=[
            Evidence(
                f"{name} made the gradient smaller in {clipping.active} of {clipping.calls} calls; its {what} before was "
                f"{norm:.3g} on average, the threshold is {clipping.threshold:.3g}.",
                value=norm, unit="nats/weight", source="loop",
            ),
            *evidence,
        ],
        locations=sites(clipping.site),
        fix=Fix(
            f"Set the threshold a little above the usual {what} ({norm:.2g}), or leave the clipping out.", "unsafe",
            intervention=Intervention("no-clipping") if nothing
            else Intervention("scale-clipping", {"factor": float(f"{norm / clipping.threshold:.2g}")}),
        ),
        separating="" if nothing else f"Train again with a threshold of {norm:.2g}.",
    )  # fmt: skip


def in_order(trace: Trace) -> str:
    seen = [c for c in trace.facts.clippings if c.calls]
    return f"clipping was active in {seen[0].active} of {seen[0].calls} calls" if seen else ""


def sick() -> Trace:
    # 400 steps of lr 0.1 times threshold times norm: 0.0064 nats, without clipping 16,000 times as much.
    trace = _example(active=400, mean=1.6, state="at-chance")
    trace.series.columns["predicted"][::10] = 0.1 * 1e-4 * 1.6
    trace.series.columns["grad_norm"][::10] = 1e-4
    return trace


def healthy() -> Trace:
    return _example(active=12, mean=0.6, threshold=1.0, state="learning")


def _example(active: int, mean: float, threshold: float = 1e-4, state: str = "at-chance") -> Trace:
    site = synthetic.site(42, "clip_grad_norm_(model.parameters(), threshold)", synthetic.TRAIN, "train")
    clipping = Clipping("norm", threshold, 400, active, 0.3 * mean, 2 * mean, 400 * mean, site)
    sgd = Optimizer("SGD", made=synthetic.site(14, "opt = torch.optim.SGD(model.parameters(), lr=0.1)", synthetic.TRAIN),
                    steps=400, tensors=2, lr_first=0.1, lr_largest=0.1, lr_last=0.1)  # fmt: skip
    return synthetic.training(state=state, clippings=[clipping], optimizers=[sgd])
