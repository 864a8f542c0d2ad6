"""The optimizer steps, but on tensors that are not those of the model that is trained.

## What it means
An optimizer keeps references to the tensors it was given. If the model was copied, built again, or had layers replaced
after the optimizer was made, the optimizer goes on updating the old tensors. The new ones get gradients from every
backward call, and nobody uses them.

## What is seen
By identity, not by name: the tensors that the loss reaches are in no parameter group of any optimizer that steps, and
they are bit for bit what they were at the first step. The tensors in the groups, on the other hand, are reached by no
loss and have no gradient. If only some tensors are concerned (a layer was replaced), the rest of the model trains.

## Why training gets stuck
The weights that make the loss do not move. The loss stays where it started, apart from the noise of the batches and of
dropout. With only some tensors concerned the others learn around layers that stay at random.

## Fix
Make the model final first (copies, new heads, re-initialised weights), then build the optimizer from it. In code that
must replace a layer later: build the optimizer again, or add the new tensors with add_param_group.

## Not to be confused with
Tensors that are in no optimizer while nothing foreign is in the groups (U402): a frozen backbone or a linear probe may
be meant that way. Parameters with requires_grad False (U403). A second head that is held and not used: harmless.
Mixed-precision training with a master copy of the weights changes the model's own tensors, and is silent here.

## References
torch.optim: optimizers hold the tensors they are constructed with; "if you need to move a model to GPU via .cuda(),
please do so before constructing optimizers for it" (older documentation of torch.optim).
"""

from __future__ import annotations

from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Facts, Optimizer, Parameter
from unstuck.trace.trace import Trace

CODE = "U401"
NEEDS = ("parameters", "optimizers")
EXPLAINS = ("U402", "G302", "U410", "U409")


def check(trace: Trace) -> Finding | None:
    facts = trace.facts
    if facts.loop.functional:
        return None
    stepping = [o for o in facts.optimizers if o.steps > 0]
    reached = [p for p in facts.parameters if p.trainable and p.reached]
    loose = [p for p in reached if not p.held]
    if not stepping or not loose or any(p.changed is not False for p in loose):
        return None
    strange = sorted((o for o in stepping if o.strangers > 0), key=lambda o: -o.strangers)
    whole = len(loose) == len(reached)
    if whole and not strange and not any(p.held and not p.trainable for p in facts.parameters):
        return None
    if not whole and not any(_stale(o, facts) for o in strange):
        return None
    first = strange[0] if strange else stepping[0]
    names = ", ".join(p.name for p in loose[:5]) + (", ..." if len(loose) > 5 else "")
    evidence = [
        Evidence(
            f"{len(loose)} of {len(reached)} tensors that the loss reaches are in no optimizer ({names}).",
            value=float(len(loose)), unit="tensors",
        ),
        Evidence(
            f"Those {len(loose)} tensors are bit for bit what they were at the first step, after {facts.loop.steps} "
            "optimizer steps.",
            value=float(facts.loop.steps), unit="steps", source="loop",
        ),
        _held_instead(first),
    ]  # fmt: skip
    if whole:
        summary = "The optimizer updates tensors that no loss reaches; the model that is trained is not in it."
    else:
        summary = (
            f"The optimizer still holds {first.strangers} tensors that the model no longer uses; "
            f"{len(loose)} tensors that replaced them are not updated."
        )
    return Finding(
        CODE,
        "optimizer-holds-other-tensors",
        "certain",
        summary,
        bearing="blocks" if whole else "hinders",
        evidence=evidence,
        locations=sites(first.made, facts.made, first.step_site),
        fix=Fix(
            "Build the optimizer once the model is final: after copies, replaced layers, new weights.", "unsafe",
            intervention=Intervention("add-parameters"),
        ),
    )


def _stale(optimizer: Optimizer, facts: Facts) -> bool:
    """Does it hold tensors that do not belong to the model? Own tensors that are not used are an idle head."""
    own = {p.name for p in facts.parameters}
    return any(name not in own for name in optimizer.stranger_names)


def _held_instead(optimizer: Optimizer) -> Evidence:
    if not optimizer.strangers:
        return Evidence(
            f"{optimizer.kind} holds {optimizer.tensors} tensors; those of the model have requires_grad False.",
            value=float(optimizer.tensors), unit="tensors", source="loop",
        )  # fmt: skip
    return Evidence(
        f"{optimizer.kind} holds {optimizer.tensors} tensors; no loss reaches {optimizer.strangers} of them, and they "
        "have no gradient.",
        value=float(optimizer.strangers), unit="tensors", source="loop",
    )  # fmt: skip


def in_order(trace: Trace) -> str:
    reached = [p for p in trace.facts.parameters if p.trainable and p.reached]
    if not trace.facts.loop.steps or not reached or not all(p.held for p in reached):
        return ""
    return f"the optimizer holds all {len(reached)} tensors that the loss reaches"


def sick() -> Trace:
    trace = synthetic.training(state="at-chance")
    trace.facts.parameters = [
        Parameter("body.weight", [64, 64], reached=True, gradient="nonzero", changed=False),
        Parameter("head.weight", [5, 64], reached=True, gradient="nonzero", changed=False),
    ]
    optimizer = trace.facts.optimizers[0]
    optimizer.strangers, optimizer.stranger_names = 2, ["tensor [64, 64]", "tensor [5, 64]"]
    return trace


def healthy() -> Trace:
    return synthetic.training(state="learning")
