"""Parameters that should learn are frozen: all of them, the last layer, or everything but bias vectors.

## What it means
requires_grad is False on the parameters that the training needs most. Usual ways to get there: the loop that freezes
the backbone runs after the new head was put in and freezes it as well; a name filter that does not match; a gradual
unfreezing whose first epoch never comes.

## What is seen
Either no parameter of the model takes a gradient although somebody trains it. Or the last layer with weights before the
loss is frozen. Or weight matrices exist and every one of them is frozen, so that only vectors (biases, norms) move.

## Why training gets stuck
With everything frozen nothing can change: backward raises, or has nothing to do. With a frozen new head the features
must fit random directions; with only biases left the answers cannot depend on the input in a new way.

## Fix
Freeze the backbone before the head is replaced, or set requires_grad True on the head afterwards. Print the names of
the parameters with requires_grad True once before training.

## Not to be confused with
A frozen backbone with a live head: fine-tuning as it should be, silent. Fixed random or simplex heads, and training of
biases only (BitFit), are deliberate: a cause only where the training is shown to be stuck. Gradients of a frozen model
with respect to its input (attacks, saliency, prompts): no weight is meant to move. Trainable parameters that the
gradient does not reach: G301, G302.

## References
torch.Tensor.requires_grad_; E. Ben Zaken, S. Ravfogel, Y. Goldberg, BitFit, ACL 2022; E. Hoffer, I. Hubara, D. Soudry,
Fix your classifier, ICLR 2018 (heads that are fixed on purpose).
"""

from __future__ import annotations

import math

from unstuck import symptom
from unstuck.findings import Bearing, Evidence, Finding, Fix, Grade, Intervention
from unstuck.rules.paths import DRAWN, as_drawn, sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Facts, LossTerm, OpNode, Parameter, Site
from unstuck.trace.trace import Trace

CODE = "U403"
NEEDS = ("parameters",)
EXPLAINS = ("G301", "G302", "U404", "U402", "U410", "U401")

_NO_GRAD = "does not require grad"
_LAYERS = frozenset({"linear", "conv", "matmul", "rnn", "embedding"})


def check(trace: Trace) -> Finding | None:
    facts = trace.facts
    frozen = [p for p in facts.parameters if not p.trainable]
    live = [p for p in facts.parameters if p.trainable]
    if not frozen:
        return None
    if not live:
        if not _meant_to_train(facts):
            return None
        return _finding(
            facts, "blocks", "All parameters of the model are frozen: nothing can be learned.",
            [Evidence(f"requires_grad is False on all {len(frozen)} parameters.", float(len(frozen)), "tensors")],
        )  # fmt: skip
    if not (facts.loop.steps or facts.loop.backwards):
        return None
    # Frozen in the middle: backward worked, then raised, and parameters that it had reached take no gradient any more.
    error = next((e for e in facts.exceptions if e.phase == "backward" and _NO_GRAD in e.message), None)
    later = [p for p in frozen if p.reached]
    if error is not None and error.fatal and later and facts.loop.backwards > facts.loop.without_graph:
        return _finding(
            facts, "blocks", "Parameters were frozen during the training, and backward found nothing left to train.",
            [
                Evidence(
                    f"requires_grad is False on {len(frozen)} parameters; {len(later)} of them were trained before.",
                    value=float(len(frozen)), unit="tensors",
                ),
                Evidence(f"backward raised {error.type}: {error.message}", source="exception"),
            ],
            grade="likely",
        )  # fmt: skip
    head = next((h for t in facts.terms if (h := _frozen_head(t, facts)) is not None), None)
    if head is not None:
        names = ", ".join(head.frozen[:5])
        return _finding(
            facts, "choice", f"The last layer before the loss is frozen ({names}).",
            [Evidence(f"The last {head.module or head.op} before the loss takes no gradient: {names} are frozen.")],
            head.where,
        )  # fmt: skip
    matrices = [p for p in frozen if len(p.shape) > 1]
    if matrices and any(p.reached for p in live) and all(len(p.shape) < 2 for p in live):
        numbers = sum(math.prod(p.shape) for p in live)
        total = numbers + sum(math.prod(p.shape) for p in frozen)
        names = ", ".join(p.name for p in live[:5]) + (", ..." if len(live) > 5 else "")
        # Adapters stand on trained matrices; on random ones they are not meant to, at least where they do not learn.
        random = as_drawn(matrices) and not symptom.of(trace).learns
        return _finding(
            facts, "hinders" if random else "choice", f"Every weight matrix of the model is frozen; only {names} can change.",
            [
                Evidence(
                    f"requires_grad is False on all {len(matrices)} weight matrices; {numbers} of {total} numbers of "
                    f"the model can change, all of them in vectors ({names}).",
                    value=numbers / total, unit="share",
                ),
                *([DRAWN] if random else []),
            ],
        )  # fmt: skip
    return None


def _meant_to_train(facts: Facts) -> bool:
    """An optimizer at work, or a backward that failed: otherwise a gradient of the input may be all that is wanted."""
    if facts.loop.steps or any(o.steps for o in facts.optimizers):
        return True
    return any(_NO_GRAD in e.message for e in facts.exceptions)


def _frozen_head(term: LossTerm, facts: Facts) -> OpNode | None:
    """The layer nearest to the loss, if all its parameters are (still) frozen."""
    node = next((n for n in term.path if n.op in _LAYERS and (n.parameters or n.frozen)), None)
    if node is None or node.parameters or not node.frozen:
        return None
    live = {p.name for p in facts.parameters if p.trainable}
    return None if live & set(node.frozen) else node


def _finding(
    facts: Facts, bearing: Bearing, summary: str, evidence: list[Evidence], where: Site | None = None,
    grade: Grade = "certain",
) -> Finding:  # fmt: skip
    return Finding(
        CODE, "frozen-parameters", grade, summary, bearing=bearing, evidence=evidence,
        locations=sites(*facts.loop.freezes, where, facts.made),
        fix=Fix(
            "Freeze before the new layers are put in, or set requires_grad to True on what should learn.", "unsafe",
            intervention=Intervention("unfreeze"),
        ),
    )  # fmt: skip


def sick() -> Trace:
    term = synthetic.cross_entropy()
    term.path[-1] = synthetic.linear(frozen=True)
    trace = synthetic.training(term, state="plateau")
    trace.facts.parameters[1] = Parameter("head.weight", [5, 64], trainable=False, held=True, gradient="none")
    trace.facts.loop.freezes = [synthetic.site(17, "p.requires_grad = False", synthetic.TRAIN, "<module>")]
    return trace


def healthy() -> Trace:
    trace = synthetic.training(state="learning")
    trace.facts.parameters[0] = Parameter("body.weight", [64, 64], trainable=False, held=True, gradient="none")
    return trace
