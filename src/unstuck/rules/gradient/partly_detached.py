"""A part of the model is cut off from the loss: its parameters never get a gradient.

## What it means
The loss reaches some parameters, and not others that take gradients and that the optimizer holds, because the way to
them is broken: a detach, .data, a block under no_grad, or re-entrant checkpointing of a part whose input needs no
gradient.

## What is seen
Parameters with requires_grad True, held by an optimizer, that no backward call reached and that have no gradient;
together with an operation that took a tensor with gradient and gave one without, whose value goes on into the loss.

## Why training gets stuck
The part below the break stays at random. What lies above learns from random features: enough for an easy task, not for
a hard one.

## Fix
Remove the break. For checkpointing use use_reentrant=False. If the part is meant to stay fixed, set requires_grad to
False on it and leave it out of the optimizer.

## Not to be confused with
A head or layer that is not used in this loss (no break is seen): silent. A target or teacher network under no_grad, not
held by the optimizer: silent. A stop-gradient by design (BYOL, SimSiam), where the other branch reaches the weights:
silent. Frozen parameters (U403). No parameter reached at all (G301). Reached, but not held (U402).

## References
torch.utils.checkpoint: with use_reentrant=True "at least one of the inputs and outputs must have requires_grad=True";
PyTorch documentation, "Autograd mechanics".
"""

from __future__ import annotations

import math

from unstuck.findings import Evidence, Finding
from unstuck.rules.gradient.loss_detached import REASONS, uncut
from unstuck.rules.paths import DRAWN, as_drawn, sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Break, Facts, Parameter
from unstuck.trace.trace import Trace

CODE = "G302"
NEEDS = ("parameters",)
EXPLAINS = ("U402",)

_CUTS = frozenset({"detach", "no_grad", "data"})
LEAF = "data of a leaf"


def check(trace: Trace) -> Finding | None:
    facts = trace.facts
    live = [p for p in facts.parameters if p.trainable]
    reached = [p for p in live if p.reached]
    # Held: somebody meant them to learn. A teacher or a target network is not.
    cut = [p for p in live if not p.reached and p.held and p.gradient in {"none", "unknown"} and not p.changed]
    if not reached or not cut or facts.loop.backwards < 2:
        return None
    cause = _explanation(facts)
    if cause is None:
        return None
    names = ", ".join(p.name for p in cut[:5]) + (", ..." if len(cut) > 5 else "")
    numbers = sum(math.prod(p.shape) for p in cut)
    fresh = as_drawn(cut)
    itself = cause.on_path and cause.function == LEAF
    share = numbers / max(1, sum(math.prod(p.shape) for p in live))
    what = REASONS.get(cause.reason, f"{cause.function or cause.reason} returned a tensor without gradient")
    where = f" ({cause.site.file}, line {cause.site.line})" if cause.site is not None else ""
    if cause.on_path:
        text = f"The path ends where {what}{where}; the value goes on into the loss."
    else:
        text = f"A place where a gradient path ends was seen: {what}{where}."
    return Finding(
        CODE,
        "partly-detached",
        "certain" if cause.on_path else "likely",
        f"{len(cut)} of {len(live)} trainable tensors never get a gradient: the path to them is cut ({names}).",
        # Pretrained features may be meant to stay; nobody means to stand on random ones that an optimizer was given to train, nor
        # gives it a weight and then uses that weight's bare value.
        bearing="hinders" if fresh or itself else "choice",
        evidence=[
            Evidence(
                f"In {facts.loop.backwards} backward calls no loss reached {names}: {share:.1%} of the trainable "
                "numbers, all held by an optimizer.",
                value=share, unit="share",
            ),
            *([DRAWN] if fresh else []),
            Evidence(text),
        ],
        locations=sites(cause.site, facts.made),
        fix=uncut("Remove what cuts the path; if the part is meant to stay fixed, set requires_grad to False on it.", cause),
    )  # fmt: skip


def _explanation(facts: Facts) -> Break | None:
    on_path = next((b for b in facts.breaks if b.on_path), None)
    if on_path is not None:
        return on_path
    # Next to the backward call a detach is a metric: loss.detach(), logits.detach(). The values of a weight cut nothing off
    # that stands before them: weight.data.norm().
    here = facts.loop.backward_site.function if facts.loop.backward_site is not None else None
    return next(
        (
            b for b in facts.breaks
            if b.reason in _CUTS and b.site is not None and b.function != LEAF
            and not (b.reason == "detach" and b.site.function == here)
        ),
        None,
    )  # fmt: skip


def sick() -> Trace:
    trace = synthetic.training(state="plateau")
    trace.facts.parameters[0] = Parameter("body.weight", [64, 64], held=True, gradient="none", changed=False)
    trace.facts.breaks = [
        Break("detach", synthetic.site(17, "logits = self.head(z.detach())"), "detach", on_path=True)
    ]
    return trace


def healthy() -> Trace:
    return synthetic.training(state="learning")
