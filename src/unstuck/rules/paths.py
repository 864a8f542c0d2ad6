"""Reading the path between a loss and the last parametric layer, and what stands on it."""

from __future__ import annotations

import math
from collections.abc import Iterable

from unstuck.findings import Evidence, Intervention
from unstuck.trace.facts import LabelStats, Layer, LossTerm, OpNode, Parameter, Site

# Operations that move numbers without changing any of them.
RESHAPING = frozenset({"view", "transpose", "permute", "squeeze", "unsqueeze", "expand", "copy", "cast", "slice", "cat"})

# The kinds of loss in the words of the interventions: the name of the function that is called.
_LOSSES = {"cross-entropy": "cross_entropy", "soft-cross-entropy": "cross_entropy", "nll": "nll_loss", "bce": "bce",
           "bce-logits": "bce_with_logits", "mse": "mse_loss", "l1": "l1_loss", "smooth-l1": "smooth_l1_loss",
           "huber": "huber_loss", "poisson": "poisson_nll_loss", "soft-margin": "soft_margin_loss",
           "hinge": "hinge_embedding_loss", "kl": "kl_div"}  # fmt: skip


DRAWN = Evidence("They are still as they were drawn: not trained before, and not loaded.", source="values")


def as_drawn(parameters: Iterable[Parameter]) -> bool:
    """Were most of the numbers of these weights as torch draws them when they were first seen: never trained, never loaded?"""
    wide = [(math.prod(p.shape), p.fresh) for p in parameters if len(p.shape) > 1]
    return 2 * sum(n for n, fresh in wide if fresh) > sum(n for n, _ in wide)


def next_op(path: list[OpNode], skip: Iterable[str] = RESHAPING) -> OpNode | None:
    """The first operation under the loss that is not in `skip`; None at the end of the path."""
    skipped = set(skip)
    return next((node for node in path if node.op not in skipped), None)


def more_classes(labels: LabelStats, classes: int) -> bool:
    """Do the labels name more classes than there are outputs (and not the same number under other names)?

    Either more different labels than outputs were seen (a lone far value, 255, is a marker), or they start at 0 and run
    past the outputs: from the last output's number on without a gap (a marker would leave one; gaps below say only that
    some classes are rare), or with no more gaps than so many draws would leave: of h+1 equally likely values
    (h+1) e^(-n/(h+1)) are not seen in n draws. Labels 1..K count from 1.
    """
    low, high = labels.lowest, labels.highest
    if low is None or high is None or low < 0 or high < classes or (low >= 1 and high == classes):
        return False
    seen = {float(i) for i, n in enumerate(labels.counts) if n > 0} | set(labels.distinct)
    outside = [v for v in seen if v >= classes]
    if len(seen) > classes and (len(outside) > 1 or outside == [float(classes)]):
        return True
    if low != 0:
        return False
    if high - classes < 64 and all(float(v) in seen for v in range(classes - 1, int(high) + 1)):
        return True
    if labels.many_distinct or (labels.counts and all(labels.counts) and not labels.distinct):
        return True
    values = high + 1
    return 2 * len(seen) >= values and values - len(seen) <= 1 + 2 * values * math.exp(-max(labels.kept, 1) / values)


def at(site: Site | None) -> dict[str, float | str | bool | list[float]]:
    """A line as the arguments of an intervention: file (as in the Site) and line; nothing where it is not known."""
    return {} if site is None else {"file": site.file, "line": site.line}


def without(node: OpNode, layers: list[Layer], activation: str = "") -> Intervention:
    """Taking an activation out of the path to the loss: by the line that constructed or ran it.

    A module that is used on several lines is named by the line that ran it here. Where several activations of the kind
    run from one line (a helper that builds blocks, a loop), `call` says which of a forward pass is meant: the last one.
    """
    where = node.where
    same = [x for x in layers if x.op == node.op and x.where == where]
    if node.made is not None and len({x.site for x in same}) > 1:
        where = node.site
        same = [x for x in same if x.site == where]
    which: dict[str, float | str | bool | list[float]] = {"call": len(same)} if len(same) > 1 else {}
    return Intervention("remove-activation", {"activation": activation or node.op, **at(where), **which})


def instead(term: LossTerm, loss: str, node: OpNode | None = None) -> Intervention:
    """Another loss for this one: file and line are those of the call, or of the criterion's constructor.

    `node` is the activation under the old loss that the new one wants to do without: activation, activation_file and
    activation_line say which and where.
    """
    arguments = {"loss": loss, "from": _LOSSES.get(term.kind, term.kind), **at(term.made or term.site)}
    if node is not None:
        arguments |= {"activation": node.op} | {f"activation_{name}": value for name, value in at(node.where).items()}
    return Intervention("replace-loss", arguments)


def sites(*candidates: Site | None) -> list[Site]:
    """The known sites, each once, in the order given."""
    found: list[Site] = []
    for candidate in candidates:
        if candidate is not None and candidate not in found:
            found.append(candidate)
    return found
