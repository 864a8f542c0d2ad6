"""No parameter of the model can be reached from the loss: there is nothing to train.

## What it means
backward walks from the loss back through the operations that made it. Here that walk ends before the first parameter:
the value was taken out of the graph (argmax, detach, .data, .item(), numpy, a block under no_grad) or went through an
operation whose derivative is 0 everywhere (round).

## What is seen
At every backward call no parameter of the model could be reached from the loss, or backward raised "does not require
grad". The place where a tensor with gradient went in and one without came out is shown where it was seen.

## Why training gets stuck
No parameter has a gradient, so no optimizer can do anything. `requires_grad_(True)` or `requires_grad=True` on the loss
silences the error and mends nothing.

## Fix
Keep everything between the model and the loss in differentiable torch operations: logits into the loss, no argmax, no
numpy, no torch.tensor(...) of a computed value. Read values with .item() only for printing.

## Not to be confused with
A model all of whose parameters are frozen (U403). Some parameters that are not reached (G302). Gradients that arrive
and are 0 (dead units). Gradients with respect to the input, which need no parameter.

## References
PyTorch documentation, "Autograd mechanics"; torch.Tensor.detach; torch.no_grad. Y. Bengio, N. Leonard, A. Courville,
2013 (estimating gradients through stochastic or hard units, where a step is wanted).
"""

from __future__ import annotations

from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules.paths import at, sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Break, Facts, Raised
from unstuck.trace.trace import Trace

CODE = "G301"
NEEDS = ("loop",)
EXPLAINS = ("U404", "U406", "U410", "U402", "G302", "W109", "U403")

REASONS = {
    "argmax": "argmax returns class numbers, which have no derivative",
    "one-hot": "a one-hot encoding of class numbers has no derivative",
    "detach": ".detach() takes the value out of the graph",
    "data": ".data takes the value out of the graph",
    "item": ".item() returns a plain number without a graph",
    "numpy": "numpy knows nothing of the graph",
    "no_grad": "the operation ran with gradients switched off (torch.no_grad)",
    "round": "rounding has derivative 0 everywhere",
    "new-tensor": "a new tensor was made from a computed value and has no graph",
    "comparison": "a comparison returns true or false, which have no derivative",
    "integer": "the conversion to integers has no derivative",
}
# Reading a value for a print-out or a metric, too, is a break; as an explanation it comes last.
_WEAK = frozenset({"item", "comparison", "integer", "other"})


def check(trace: Trace) -> Finding | None:
    facts, loop = trace.facts, trace.facts.loop
    if facts.parameters and not any(p.trainable for p in facts.parameters):
        return None  # all frozen: U403
    if loop.functional or any(p.changed for p in facts.parameters):
        return None
    error = next((e for e in facts.exceptions if e.phase == "backward" and "does not require grad" in e.message), None)
    never = loop.backwards > 0 and loop.without_graph == loop.backwards
    # What was cut off may have been given a gradient of its own (requires_grad_()): then there is a graph, and it ends there.
    ends = any(b.on_path for b in facts.breaks) and facts.parameters and not any(p.reached for p in facts.parameters)
    never = never or bool(ends and loop.backwards >= 2)
    if not never and (error is None or loop.backwards > loop.without_graph):
        return None
    evidence = []
    if never:
        evidence.append(
            Evidence(
                f"At all {loop.backwards} backward calls no parameter could be reached from the loss.",
                value=float(loop.backwards), unit="calls",
            )
        )  # fmt: skip
    if error is not None:
        evidence.append(Evidence(f"backward raised {error.type}: {error.message}", source="exception"))
    cause = _explanation(facts)
    if cause is not None:
        what = REASONS.get(cause.reason, f"{cause.function or cause.reason} returned a tensor without gradient")
        where = f" ({cause.site.file}, line {cause.site.line})" if cause.site is not None else ""
        text = f"The path ends where {what}{where}."
        if not cause.on_path:
            text = f"A break was seen: {what}{where}. It is not shown that this value flows into the loss."
        evidence.append(Evidence(text))
    return Finding(
        CODE,
        "loss-detached",
        "certain",
        "No gradient path leads from the loss to any parameter of the model"
        + (f": {REASONS[cause.reason]}." if cause is not None and cause.on_path and cause.reason in REASONS else "."),
        bearing="blocks",
        evidence=evidence,
        locations=_locations(facts, cause, error),
        fix=uncut(
            "Compute the loss from the model's output with differentiable torch operations only; remove what takes the "
            "value out of the graph.",
            cause,
        ),
    )


def uncut(summary: str, cause: Break | None) -> Fix:
    """Leaving out what cuts, where it is a word of its own (.detach(), .data): an edit, which cannot be tried from outside."""
    if cause is None or cause.site is None or cause.reason not in {"detach", "data"}:
        return Fix(summary)
    return Fix(summary, "unsafe", intervention=Intervention("reattach", at(cause.site)))


def _explanation(facts: Facts) -> Break | None:
    on_path = [b for b in facts.breaks if b.on_path]
    strong = [b for b in facts.breaks if b.reason not in _WEAK]
    return (on_path or strong[-1:] or facts.breaks[-1:] or [None])[0]


def _locations(facts: Facts, cause: Break | None, error: Raised | None) -> list:
    term = facts.term
    return sites(
        cause.site if cause is not None else None, term.site if term is not None else None,
        error.site if error is not None else None, facts.loop.backward_site,
    )  # fmt: skip


def in_order(trace: Trace) -> str:
    trained = [p for p in trace.facts.parameters if p.trainable]
    if not trace.facts.loop.steps or not trained or not all(p.reached for p in trained):
        return ""
    return f"a gradient path leads from the loss to all {len(trained)} tensors"


def sick() -> Trace:
    trace = synthetic.training(state="at-chance")
    trace.facts.loop.without_graph = trace.facts.loop.backwards
    for parameter in trace.facts.parameters:
        parameter.reached, parameter.gradient, parameter.changed = False, "none", False
    trace.facts.breaks = [
        Break("argmax", synthetic.site(40, "p = out.argmax(dim=1)", synthetic.TRAIN, "train"), "argmax", on_path=True)
    ]
    return trace


def healthy() -> Trace:
    trace = synthetic.training(state="learning")
    trace.facts.breaks = [Break("item", synthetic.site(44, "total += loss.item()", synthetic.TRAIN, "train"), "item")]
    return trace
