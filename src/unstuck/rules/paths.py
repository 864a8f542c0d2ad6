"""Reading the path between a loss and the last parametric layer."""

from __future__ import annotations

import math
from collections.abc import Iterable

from unstuck.trace.facts import LabelStats, OpNode, Site

# Operations that move numbers without changing any of them.
RESHAPING = frozenset({"view", "transpose", "permute", "squeeze", "unsqueeze", "expand", "copy", "cast", "slice", "cat"})


def next_op(path: list[OpNode], skip: Iterable[str] = RESHAPING) -> OpNode | None:
    """The first operation under the loss that is not in `skip`; None at the end of the path."""
    skipped = set(skip)
    return next((node for node in path if node.op not in skipped), None)


def more_classes(labels: LabelStats, classes: int) -> bool:
    """Do the labels name more classes than there are outputs (and not the same number under other names)?

    Either more different labels than outputs were seen (a lone far value, 255, is a marker), or they start at 0, run
    past the outputs, and leave no more gaps than so many draws would: of h+1 equally likely values (h+1) e^(-n/(h+1))
    are not seen in n draws. Labels 1..K count from 1.
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
    if labels.many_distinct or (labels.counts and all(labels.counts) and not labels.distinct):
        return True
    values = high + 1
    return 2 * len(seen) >= values and values - len(seen) <= 1 + 2 * values * math.exp(-max(labels.kept, 1) / values)


def sites(*candidates: Site | None) -> list[Site]:
    """The known sites, each once, in the order given."""
    found: list[Site] = []
    for candidate in candidates:
        if candidate is not None and candidate not in found:
            found.append(candidate)
    return found
