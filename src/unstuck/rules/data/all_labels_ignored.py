"""Every label equals ignore_index: the loss has nothing to be computed from.

## What it means
Rows whose label is ignore_index (-100 unless set) do not count. Here the mask is inverted, or everything was masked, so
no row counts.

## What is seen
In all observed calls of the loss, or in more than half of them, every label was ignore_index.

## Why training gets stuck
The mean over no rows is 0/0 = NaN, which makes every weight NaN at the first step; a sum over no rows is 0 with
gradient 0. Either way nothing is learned.

## Fix
Look at one batch of labels just before the loss. Put ignore_index where there is nothing to predict, and the label
where there is.

## Not to be confused with
Ignoring most positions (masked language models ignore 85 %): in order while each batch keeps some. A NaN from another
source (N701).

## References
torch.nn.CrossEntropyLoss, ignore_index: "specifies a target value that is ignored and does not contribute to the input
gradient"; the mean is taken over targets that are not ignored.
"""

from __future__ import annotations

from unstuck.findings import Evidence, Finding, Fix
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import LabelStats
from unstuck.trace.trace import Trace

CODE = "D206"
NEEDS = ("labels",)
EXPLAINS = ("N701", "D210")

FEWEST = 10  # calls for a rate


def check(trace: Trace) -> Finding | None:
    term = trace.facts.term
    if term is None:
        return None
    labels = term.labels
    always = labels.calls > 0 and labels.all_ignored_calls == labels.calls and not labels.kept
    share = labels.all_ignored_calls / labels.calls if labels.calls else 0.0
    if not always and not (labels.calls >= FEWEST and share > 0.5):
        return None
    effect = {"mean": "the mean over no rows is NaN", "sum": "the sum over no rows is 0"}.get(term.reduction, "")
    return Finding(
        CODE,
        "all-labels-ignored",
        "certain" if always else "likely",
        "Every label is ignore_index: no row takes part in the loss."
        if always
        else f"In {share:.0%} of the loss calls every label is ignore_index.",
        bearing="blocks" if always else "hinders",
        evidence=[
            Evidence(
                f"In {labels.all_ignored_calls} of {labels.calls} calls of the loss all labels were "
                f"{term.ignore_index}{', and ' + effect if effect else ''}.",
                value=share, unit="share", source="values",
            )
        ],
        locations=sites(term.site, term.made),
        fix=Fix("Repair the mask: ignore_index belongs where there is nothing to predict, the label everywhere else."),
    )  # fmt: skip


def sick() -> Trace:
    labels = LabelStats("index", rows=6400, kept=0, calls=100, all_ignored_calls=100)
    return synthetic.training(synthetic.cross_entropy(labels=labels), state="non-finite", steps=100)


def healthy() -> Trace:
    labels = LabelStats(
        "index", rows=25600, kept=3840, calls=400, all_ignored_calls=2, lowest=0.0, highest=4.0, counts=[768.0] * 5
    )
    return synthetic.training(synthetic.cross_entropy(labels=labels), state="learning")
