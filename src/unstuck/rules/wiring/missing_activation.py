"""A binary loss that expects probabilities is given raw outputs.

## What it means
BCELoss takes numbers between 0 and 1. Here the last layer's raw output goes in, without a sigmoid: any real number.

## What is seen
The loss call raised because its input left [0, 1], or the numbers given to it did so on a sampled call, and no
sigmoid, softmax or exponential lies on the path. Or a clamp to [0, 1] lies directly on the last layer, which hides the
same fault.

## Why training gets stuck
torch refuses the call. A script that catches the exception takes no step. A clamp instead of a sigmoid has gradient 0
outside its range: samples whose output is there never move again.

## Fix
BCEWithLogitsLoss on the raw output (more exact than a sigmoid with BCELoss).

## Not to be confused with
Labels outside [0, 1], which raise the same kind of exception about the target: D201. NaN outputs, which raise it too:
N701. A sigmoid that is there, before a loss with logits: W102.

## References
torch.nn.BCELoss: "the input should be between 0 and 1"; torch.nn.BCEWithLogitsLoss.
"""

from __future__ import annotations

from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules.paths import RESHAPING, at, sites
from unstuck.rules.wiring.sigmoid_twice import one_unit
from unstuck.trace import synthetic
from unstuck.trace.facts import Facts, LossTerm, OpNode, Raised, TermValues
from unstuck.trace.trace import Trace

CODE = "W111"
NEEDS = ("terms",)
EXPLAINS = ("N701", "W103")

_SQUASHING = frozenset({"sigmoid", "softmax", "exp", "log_sigmoid", "log_softmax"})
_HEADS = frozenset({"linear", "conv", "embedding", "rnn"})


def check(trace: Trace) -> Finding | None:
    for term in trace.facts.terms:
        # Without the whole path nobody can say that there is no sigmoid on it.
        # Keras' categorical losses take probabilities, too, unless they are told otherwise (from_logits=False).
        categorical = term.kind == "probability-cross-entropy"
        if not (term.kind == "bce" or categorical) or term.path_end != "parametric" or term.values.nonfinite:
            continue
        if any(node.op in _SQUASHING for node in term.path):
            continue
        name, squash = ("categorical cross-entropy", "softmax") if categorical else ("binary cross-entropy", "sigmoid")
        raised = refused(trace.facts)
        clamp = _clamped_head(term)
        values = term.values
        outside = bool(values.calls) and (_below(values) or _above(values))
        evidence = []
        if raised is not None:
            evidence.append(Evidence(f"The loss call raised {raised.type}: {raised.message}", source="exception"))
        if outside and clamp is None:
            evidence.append(
                Evidence(
                    f"The numbers given to the {name} went from {values.lowest:.4g} to "
                    f"{values.highest:.4g}; it takes numbers between 0 and 1.",
                    source="values",
                )
            )
        if clamp is not None:
            evidence.append(
                Evidence(
                    "The graph has a clamp directly on the last layer: outside its range the gradient is 0."
                )
            )
        if not evidence:
            continue
        evidence.append(Evidence(f"Between the last layer and the loss there is no {squash}."))
        head = term.path[-1]
        return Finding(
            CODE,
            "missing-activation",
            "certain",
            f"The {name} is given raw outputs where it expects probabilities: a {squash} is missing.",
            bearing="blocks" if raised is not None else "hinders",
            evidence=evidence,
            locations=sites(head.made, head.site, term.made, term.site),
            fix=Fix(
                "Tell the loss that it gets raw scores (from_logits=True), or put a softmax behind the last layer." if categorical
                else "Use BCEWithLogitsLoss on the raw output, or put a sigmoid behind the last layer.",
                # What a clamp has cut off no sigmoid brings back: the clamp must go, too.
                "safe" if clamp is None else "display",
                intervention=Intervention("insert-activation", {"activation": squash, **at(term.made or term.site)})
                if clamp is None else None,
            ),
        )
    return None


def refused(facts: Facts) -> Raised | None:
    """The exception of a binary cross-entropy about its input (not about its target)."""
    return next(
        (r for r in facts.exceptions
         if r.phase == "loss" and "between 0 and 1" in r.message and "target" not in r.message.lower()),
        None,
    )  # fmt: skip


def _below(values: TermValues) -> bool:
    return values.lowest is not None and values.lowest < 0


def _above(values: TermValues) -> bool:
    # Rounding may carry a probability a little above 1; torch takes that for an error as well, but it is none of ours.
    return values.highest is not None and values.highest > 1 + 1e-3


def _clamped_head(term: LossTerm) -> OpNode | None:
    clamp: OpNode | None = None
    for node in term.path:
        if node.op == "clamp":
            clamp = node
        elif node.op in _HEADS:
            return clamp
        elif node.op not in RESHAPING and not (node.op == "add" and node.parameters):
            return None
    return None


def sick() -> Trace:
    term = one_unit(kind="bce")
    term.values = TermValues(calls=1, rows=64, lowest=-0.7, highest=0.9)
    message = "all elements of input should be between 0 and 1"
    raised = Raised("RuntimeError", message, "loss", term.site, fatal=True)
    return synthetic.training(term, steps=1, exceptions=[raised])


def healthy() -> Trace:
    sigmoid = OpNode("sigmoid", "SigmoidBackward0", [64, 1], site=synthetic.site(41, "return self.head(x).sigmoid()"))
    term = one_unit(sigmoid, kind="bce")
    term.values = TermValues(calls=5, rows=64, unit_interval=5, strictly_inside=5, lowest=0.02, highest=0.97)
    return synthetic.training(term, state="learning")
