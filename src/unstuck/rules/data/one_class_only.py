"""All labels that the training saw are the same.

## What it means
Every sample has one and the same label, so the best answer does not depend on the input. Usual ways to get there: the
first rows of a file sorted by class; a look-up of class names that falls back to 0; a wrong column.

## What is seen
All labels that took part in the loss, over two or more calls and at least 20 rows, have one value, and the last layer
has one output per class.

## Why training gets stuck
The loss falls to 0 and the accuracy is 1, at once: the network has learned to give one answer. On other data it is at
the share of that class. Where a fault elsewhere holds the loss up, it hides this one.

## Fix
Count the labels once (`torch.bincount(y)`) after loading. Shuffle before splitting.

## Not to be confused with
Contrastive losses whose positive stands in a fixed column (MoCo) and pairwise ranking losses with a constant target:
there the logits are not the outputs of a head, silent. The turns of a GAN's discriminator: silent. Rare classes: D207.

## References
torch.utils.data.random_split and sklearn.model_selection.train_test_split(stratify=...), which shuffle.
"""

from __future__ import annotations

from unstuck.findings import Evidence, Finding, Fix
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import LossTerm
from unstuck.trace.trace import Trace

CODE = "D210"
NEEDS = ("labels", "path")
EXPLAINS = ("W108",)

ROWS, CALLS = 20, 2
_LOSSES = frozenset({"cross-entropy", "nll", "soft-cross-entropy", "bce", "bce-logits"})
_KINDS = frozenset({"index", "binary", "integer", "one-hot"})
_JOINS = frozenset({"cat", "stack", "cosine_similarity", "gather"})


def check(trace: Trace) -> Finding | None:
    facts = trace.facts
    term = facts.term
    if term is None or term.kind not in _LOSSES or facts.loop.adversarial or facts.loop.unjudged:
        return None
    labels = term.labels
    if labels.kind not in _KINDS or labels.kept < ROWS or labels.calls < CALLS or labels.outside:
        return None
    value = _only_value(term)
    if value is None or not _is_head(term):
        return None
    return Finding(
        CODE,
        "one-class-only",
        "certain",
        f"All labels seen are the same ({value:g}): there is nothing to learn.",
        bearing="blocks",
        evidence=[
            Evidence(
                f"All {labels.kept} labels in {labels.calls} calls of the loss were {value:g}.",
                value=float(labels.kept), unit="rows", source="values",
            )
        ],
        locations=sites(term.site, term.made),
        fix=Fix("Count the labels after loading; shuffle before taking a part of the data; let unknown names fail."),
    )  # fmt: skip


def _only_value(term: LossTerm) -> float | None:
    labels = term.labels
    if labels.kind == "one-hot":  # the values are 0 and 1; the class is the column
        used = [i for i, n in enumerate(labels.counts) if n]
        return float(used[0]) if len(used) == 1 and len(labels.counts) > 1 else None
    if labels.lowest is None or labels.lowest != labels.highest:
        return None
    return labels.lowest


def _is_head(term: LossTerm) -> bool:
    """Is each number that enters the loss one output of a layer with weights, and not a comparison of samples?"""
    if term.path_end != "parametric" or any(n.op in _JOINS for n in term.path):
        return False
    return bool(term.path[-1].parameters or term.path[-1].frozen)


def sick() -> Trace:
    term = synthetic.cross_entropy()
    term.labels.counts = [0.0, 0.0, 25600.0, 0.0, 0.0]
    term.labels.lowest = term.labels.highest = 2.0
    return synthetic.training(term, state="learning")


def healthy() -> Trace:
    return synthetic.training(state="learning")
