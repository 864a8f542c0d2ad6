"""Reading the path between a loss and the last parametric layer."""

from __future__ import annotations

from collections.abc import Iterable

from unstuck.trace.facts import OpNode, Site

# Operations that move numbers without changing any of them.
RESHAPING = frozenset({"view", "transpose", "permute", "squeeze", "unsqueeze", "expand", "copy", "cast", "slice", "cat"})


def next_op(path: list[OpNode], skip: Iterable[str] = RESHAPING) -> OpNode | None:
    """The first operation under the loss that is not in `skip`; None at the end of the path."""
    skipped = set(skip)
    return next((node for node in path if node.op not in skipped), None)


def sites(*candidates: Site | None) -> list[Site]:
    """The known sites, each once, in the order given."""
    found: list[Site] = []
    for candidate in candidates:
        if candidate is not None and candidate not in found:
            found.append(candidate)
    return found
