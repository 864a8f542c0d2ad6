"""A view gave axes each other's sizes where a transposition was meant: the numbers are mixed up.

## What it means
`x.view(20, 8, 16)` of a tensor of shape [8, 20, 16] does not swap the first two axes. It reads the same memory in the same
order under new names: the first "sample" then holds pieces of several. `x.transpose(0, 1)` or `x.permute(1, 0, 2)` moves the
numbers.

## What is seen
A call of view or reshape whose result has the sizes of its argument in another order (axes of size 1 left out). For numpy
arrays, when they become tensors: the strides show the sizes of the array that owns the memory, in another order.

## Why training gets stuck
When the axis of the samples is among them, the rows belong to other samples than the labels. When only axes inside a sample
are, neighbours in an image or a sequence are no neighbours any more, and channels hold pieces of all channels.

## Fix
permute or transpose; or build the layer for the order the data has (batch_first=True).

## Not to be confused with
Flattening, splitting heads and merging them again, patches: these keep the order of the axes, or permute before they view.

## References
torch.Tensor.view and torch.permute in the PyTorch documentation.
"""

from __future__ import annotations

from unstuck.findings import Evidence, Finding, Fix
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Reshaped
from unstuck.trace.trace import Trace

CODE = "I607"
NEEDS = ("reshapes",)
EXPLAINS = ("D202", "D207", "S502", "S505", "I605", "W113")


def check(trace: Trace) -> Finding | None:
    found = sorted(trace.facts.reshapes, key=lambda r: not r.samples_mixed)
    if not found:
        return None
    worst = found[0]
    before, after = (" x ".join(map(str, shape)) for shape in (worst.before, worst.after))
    return Finding(
        CODE,
        "axes-scrambled",
        "certain" if worst.samples_mixed else "likely",
        f"{worst.function or 'view'} turns {before} into {after}: it renames the axes without moving the numbers"
        + (", so rows mix several samples." if worst.samples_mixed else "."),
        bearing="blocks" if worst.samples_mixed else "hinders",  # rows that are other samples have other labels
        evidence=[
            Evidence(
                f"{' x '.join(map(str, r.before))} became {' x '.join(map(str, r.after))} by {r.function or 'view'}: "
                "the same sizes in another order.", source="graph",
            )
            for r in found[:3]
        ],
        locations=sites(*(r.site for r in found)),
        fix=Fix(f"Use permute({', '.join(map(str, _order(worst)))}) (or transpose) in place of {worst.function or 'view'}."),
        separating="Train with permute in place of this call, everything else as it is.",
    )  # fmt: skip


def _order(item: Reshaped) -> list[int]:
    """A permutation of the axes of `before` that gives the sizes of `after`."""
    if len(item.before) != len(item.after):
        return list(range(len(item.before)))
    free, order = list(range(len(item.before))), []
    for size in item.after:
        axis = next((a for a in free if item.before[a] == size), None)
        if axis is None:
            return list(range(len(item.before)))
        free.remove(axis)
        order.append(axis)
    return order


def sick() -> Trace:
    place = synthetic.site(20, "x = x.view(20, 8, 16)")
    return synthetic.training(state="at-chance", reshapes=[Reshaped([8, 20, 16], [20, 8, 16], place, True, "view")])


def healthy() -> Trace:
    return synthetic.training(state="learning")
