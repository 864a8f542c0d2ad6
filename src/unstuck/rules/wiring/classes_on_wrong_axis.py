"""The classes are not on the axis where the loss looks for them.

## What it means
torch's cross-entropy wants the classes on axis 1: [batch, classes, time]. The model's output has them last, [batch,
time, classes], or a view has mixed the axes where a transpose was needed. The loss then normalises over time steps.

## What is seen
The axis that holds the units of the last layer, followed through all views and transposes up to the loss, is not axis
1; or a view has put units and positions on one axis. Or the loss call raised because the labels do not fit, and their
shape is that of the output without its last axis.

## Why training gets stuck
Where the sizes happen to agree nothing is raised. The loss starts at ln T (T the length of axis 1) instead of ln K,
and the model is asked at which position a class occurs instead of which class occurs at a position.

## Fix
out.transpose(1, 2) (out.permute(0, 3, 1, 2) for images) before the loss, or flatten both: out.reshape(-1, K) with
y.reshape(-1). A view does not exchange axes.

## Not to be confused with
Pointer networks and span extraction, whose classes are the positions: there the labels have no entry per position.
Heads whose units and positions together are the classes.

## References
torch.nn.CrossEntropyLoss: input (N, C, d1, ..., dK), target (N, d1, ..., dK).
"""

from __future__ import annotations

import math

from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules.paths import RESHAPING, at, sites
from unstuck.trace import synthetic
from unstuck.trace.facts import LossTerm, OpNode, Raised
from unstuck.trace.trace import Trace

CODE = "W113"
NEEDS = ("terms",)
EXPLAINS = ("D201", "W108")

_KINDS = frozenset({"cross-entropy", "soft-cross-entropy", "nll"})


def check(trace: Trace) -> Finding | None:
    for term in trace.facts.terms:
        if term.kind not in _KINDS or term.input_shape is None:
            continue
        shape = term.input_shape
        raised = next(
            (r for r in trace.facts.exceptions
             if r.phase == "loss" and ("Expected target size" in r.message or "spatial sizes" in r.message)),
            None,
        )  # fmt: skip
        if raised is not None and _classes_last(shape, term.target_shape):
            evidence = [
                Evidence(f"The loss call raised {raised.type}: {raised.message}", source="exception"),
                Evidence(
                    f"The outputs have shape {_times(shape)} and the labels {_times(shape[:-1])}: the classes are on "
                    "the last axis.",
                    source="values",
                ),
            ]
            return _finding(term, evidence, blocks=True)
        if _elsewhere(term):
            axis, own = term.feature_axis or 0, term.class_axis or 0
            evidence = [
                Evidence(
                    f"The loss takes axis {own} of the outputs ({_times(shape)}) for the classes; the units of the "
                    f"last layer are on axis {axis}."
                ),
                Evidence(
                    f"A uniform answer over {shape[own]} entries costs ln {shape[own]} = "
                    f"{math.log(shape[own]):.4f} nats.",
                    value=math.log(shape[own]),
                    unit="nats",
                    source="values",
                ),
            ]
            return _finding(term, evidence, blocks=False)
        node = mixing_view(term)
        if node is not None:
            evidence = [
                Evidence(
                    f"On the way from the last layer ({_times(term.path[-1].shape or [])}) to the loss "
                    f"({_times(shape)}) a view "
                    "put units and other axes on one axis: it keeps the memory order and does not exchange axes."
                )
            ]
            return _finding(term, evidence, blocks=False, view=node)
    return None


def _classes_last(shape: list[int], target: list[int] | None) -> bool:
    return len(shape) > 2 and target == shape[:-1] and target != [shape[0], *shape[2:]]


def _elsewhere(term: LossTerm) -> bool:
    """The units are on another axis, and the labels have an entry for each position, not for each unit."""
    shape, axis, own = term.input_shape or [], term.feature_axis, term.class_axis
    if axis is None or own is None or axis == own or term.scrambled or len(shape) < 3 or max(axis, own) >= len(shape):
        return False
    if shape[own] < 2:
        return False
    positions = shape[:axis] + shape[axis + 1 :]
    if term.target_shape is not None:
        return term.target_shape in (positions, shape)
    return shape[axis] == shape[own]


def mixing_view(term: LossTerm) -> OpNode | None:
    """The view that scrambled the axes; None where the units and positions together are the classes on purpose."""
    if not term.scrambled or not term.path or term.path_end != "parametric":
        return None
    head = term.path[-1]
    if head.shape is None:
        return None
    units = head.shape[1] if head.op == "conv" and len(head.shape) > 1 else head.shape[-1]
    if term.classes != units:
        return None
    return next((n for n in term.path if n.op == "view"), None) or next(
        (n for n in term.path if n.op in RESHAPING), None
    )


def _times(shape: list[int]) -> str:
    return " x ".join(map(str, shape))


def _finding(term: LossTerm, evidence: list[Evidence], *, blocks: bool, view: OpNode | None = None) -> Finding:
    rank = len(term.input_shape or [])
    move = "transpose(1, 2)" if rank == 3 else f"movedim(-1, 1) ({rank} axes)"
    return Finding(
        CODE,
        "classes-on-wrong-axis",
        "certain",
        "A view has mixed the classes with other axes." if view is not None
        else "The classes are not on axis 1, where the loss looks for them.",
        bearing="blocks" if blocks else "hinders",
        shown=True,  # what falls is not the loss of the classes: that it falls shows nothing
        evidence=evidence,
        locations=sites(view.site, term.site, term.made) if view is not None else sites(term.site, term.made),
        fix=Fix(
            "Use permute or transpose to exchange axes, and only then flatten with reshape." if view is not None
            else f"Move the classes to axis 1 before the loss: out.{move}; or flatten outputs and labels alike.",
            # Which axes a view should have exchanged, and where it is flattened afterwards, is a matter of the reader.
            "display" if view is not None else "safe",
            intervention=None if view is not None else Intervention("transpose-classes", at(term.site)),
        ),
    )  # fmt: skip


def sick() -> Trace:
    term = synthetic.cross_entropy(
        classes=30, input_shape=[16, 30, 5], target_shape=[16, 30], class_axis=1, feature_axis=2, made=None
    )
    term.path = [synthetic.linear(units=5)]
    term.path[0].shape = [16, 30, 5]
    term.labels.counts, term.labels.highest = [2560.0] * 5, 4.0
    message = "Expected target size [16, 5], got [16, 30]"
    raised = Raised("RuntimeError", message, "loss", term.site, fatal=True)
    return synthetic.training(term, steps=1, exceptions=[raised])


def healthy() -> Trace:
    swap = OpNode("transpose", "TransposeBackward0", [16, 5, 30], perm=[0, 2, 1],
                  site=synthetic.site(41, "loss = ce(out.transpose(1, 2), y)"))  # fmt: skip
    term = synthetic.cross_entropy(swap, input_shape=[16, 5, 30], target_shape=[16, 30])
    term.path[-1].shape = [16, 30, 5]
    return synthetic.training(term, state="learning")
