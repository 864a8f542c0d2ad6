"""The model starts anew again and again during one training.

## What it means
Inside the loop the model is constructed again (`net = Net()` in the epoch loop), or its first values are loaded back (a
checkpoint that is never updated). What was learned since the last start is thrown away.

## What is seen
The model was a new object, made by the same line with the same settings, at several steps of one training; or the
weights went back to the values of the first step between two steps, several times. And the loss shows it: it returns to
where it began, or makes no progress from one start to the next. Where a stretch learns something: each is one pass over the same
data, ends while the loss still falls, and the model was neither kept nor called again after its last step.

## Why training gets stuck
Each stretch begins at random weights and is as long as the distance between two starts. The loss cannot get below what
one stretch can reach. An optimizer that stays while the model is replaced updates the first model only.

## Fix
Construct the model and the optimizer once, before the loop; save a checkpoint before loading it again.

## Not to be confused with
Cross-validation, ensembles and sweeps, which build a model per fold and train each to the end: the last stretch learns,
silent; models that live on, or each with a DataLoader of its own: silent. A new model object that is given the learned
weights (federated rounds): the loss goes on from where it was, silent. Restoring the best weights once. An optimizer that
holds an older copy from the beginning (U401).

## References
torch.nn.Module.load_state_dict; PyTorch tutorial "Saving and loading models".
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from unstuck.findings import Evidence, Finding, Fix
from unstuck.rules import levels
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Facts, Loop
from unstuck.trace.trace import Series, Trace

CODE = "U409"
NEEDS = ("loss",)
EXPLAINS = ("U401", "S502", "S505", "D202", "I605", "D207", "E801")

MANY = 4  # stretches, from which on they are compared with each other
FEW = 5  # recorded losses that stand for the beginning or the end of a stretch
LONG = 2000  # steps in a stretch: a training of its own, and no epoch between two rebuilds
LEARNS = 0.5  # of its chance
PROGRESS = 0.1  # of the level: less than this from the first stretches to the last is none


def check(trace: Trace) -> Finding | None:
    facts, loop, series = trace.facts, trace.facts.loop, trace.series
    rebuilt, reset = loop.rebuilt_total >= 2, loop.resets >= 2
    if not rebuilt and not reset:
        return None
    evidence = []
    parts = _segments(series, loop.rebuilt if rebuilt else loop.reset_at)
    if rebuilt and (_kept(loop) or _own_data(facts, parts)):
        return None
    unused = loop.rebuilt_unused == min(4, loop.rebuilt_total) if rebuilt else loop.resets_unused == loop.resets
    shown = unused and len(parts) >= MANY and _one_pass(facts, loop.rebuilt if rebuilt else loop.reset_at) and _falling(parts)
    if rebuilt:
        if len(parts) < 3 or (_learns(parts[-1]) and not shown) or not _no_progress(parts):
            return None
        firsts = ", ".join(f"{_start(p):.3f}" for p in parts[1:5])
        ends = ", ".join(f"{_end(p):.3f}" for p in parts[:4])
        evidence.append(
            Evidence(
                f"The model was a new one at {loop.rebuilt_total} steps (after {_list(loop.rebuilt)}), made by the "
                "same line with the same settings.",
                value=float(loop.rebuilt_total), unit="times", source="loop",
            )
        )  # fmt: skip
        evidence.append(
            Evidence(
                f"The loss began at {_start(parts[0]):.3f}; stretches ended at {ends}, and the next began at {firsts}.",
                source="statistics",
            )
        )
    else:
        if (_learns(series) and not shown) or not len(series.measured("loss")):
            return None
        evidence.append(
            Evidence(
                f"Between a step and the next backward the weights returned to their first values {loop.resets} times.",
                value=float(loop.resets), unit="times", source="loop",
            )
        )  # fmt: skip
    if shown:
        evidence.append(
            Evidence(
                "Each stretch is one pass over the same data, its loss is still falling when it ends, and the model was neither "
                "kept nor called again after its last step.",
                source="loop",
            )
        )
    if rebuilt and loop.optimizer_kept:
        evidence.append(Evidence("The optimizer stayed: it holds the tensors of an earlier model.", source="loop"))
    return Finding(
        CODE,
        "model-rebuilt",
        "certain" if reset or loop.optimizer_kept else "likely",
        f"The model was built anew {loop.rebuilt_total} times during the training, and what it had learned was lost."
        if rebuilt
        else f"The weights were set back to their first values {loop.resets} times during the training.",
        bearing="hinders",
        shown=shown,
        evidence=evidence,
        locations=sites(*((loop.rebuilt_site,) if rebuilt else ()), loop.reset_site, facts.made),
        fix=Fix("Build the model and the optimizer once, before the loop; load a checkpoint once, or save it again."),
    )


def _kept(loop: Loop) -> bool:
    """All models live on (an ensemble, a list of folds); an optimizer that was not made anew would hold its tensors, too."""
    return loop.rebuilt_kept == min(4, loop.rebuilt_total) and not loop.optimizer_kept


def _own_data(facts: Facts, parts: list[Series]) -> bool:
    """As many DataLoaders as models, and none of them fed most of the steps: folds, or clients."""
    used = [loader for loader in facts.loaders if loader.taken]
    return len(used) >= min(len(parts), 16) and all(loader.taken <= 0.5 * facts.loop.steps for loader in used)


def _one_pass(facts: Facts, bounds: list[int]) -> bool:
    """Is each stretch at most one pass over one and the same data? A fold or a member of an ensemble is trained for several,
    or has a loader of its own."""
    used = [loader for loader in facts.loaders if loader.taken]
    if used:
        steps = max(facts.loop.steps, 1)
        return any(u.taken >= 0.9 * steps and u.iterators <= len(bounds) + 2 for u in used)
    data = facts.inputs[0] if facts.inputs else None
    if data is None or data.part_of is None or not data.shape or len(bounds) < 2:
        return False
    return float(np.median(np.diff(bounds))) * data.shape[0] <= data.part_of + data.shape[0]


def _falling(parts: list[Series]) -> bool:
    """Over all stretches: is the last quarter below the one before, by more than the band and three standard errors?"""
    drops = []
    for part in parts:
        loss = part.measured("loss")
        if len(loss) >= 4 and np.isfinite(loss).all():
            n = len(loss)
            drops.append(float(loss[n // 2 : 3 * n // 4].mean() - loss[3 * n // 4 :].mean()))
    if len(drops) < MANY:
        return False
    error = float(np.std(drops, ddof=1)) / len(drops) ** 0.5
    return float(np.mean(drops)) > max(3 * error, levels.BAND * abs(_start(parts[0])))


def _segments(series: Series, rebuilt: list[int]) -> list[Series]:
    """The stretches between two rebuilds that have a recorded loss. `rebuilt` holds the last step of each model."""
    bounds = [-1, *rebuilt, int(series.steps[-1]) if len(series) else 0]
    parts = []
    for low, high in pairwise(bounds):
        keep = (series.steps > low) & (series.steps <= high)
        part = Series(series.steps[keep], {n: c[keep] for n, c in series.columns.items()})
        if len(part.measured("loss")):
            parts.append(part)
    return parts


def _start(part: Series) -> float:
    loss = part.measured("loss")
    return float(loss[: max(1, min(FEW, len(loss) // 4))].mean())


def _end(part: Series) -> float:
    loss = part.measured("loss")
    return float(loss[-max(1, min(FEW, len(loss) // 4)) :].mean())


def _learns(part: Series) -> bool:
    """The last tenth is below half of chance, or of where the stretch began where chance is not known."""
    loss, chance = part.measured("loss"), part.measured("chance")
    if len(loss) < 2:
        return False
    level = float(chance.mean()) if len(chance) else _start(part)
    return float(loss[-max(1, len(loss) // 10) :].mean()) < LEARNS * level


def _no_progress(parts: list[Series]) -> bool:
    if float(np.median([len(p) for p in parts])) > LONG:
        return False
    starts, ends = np.array([_start(p) for p in parts]), np.array([_end(p) for p in parts])
    if not (np.isfinite(starts).all() and np.isfinite(ends).all()):
        return False
    level = max(abs(float(starts[0])), 1e-12)
    third = max(1, len(parts) // 3)
    if float(ends[:third].mean() - ends[-third:].mean()) > PROGRESS * level:
        return False
    # Where a stretch makes progress of its own, the next one must have lost it.
    falls = starts[:-1] - ends[:-1]
    moving = falls > PROGRESS * level
    if not moving.any():
        return True
    back = starts[1:] - ends[:-1] > 0.5 * falls
    return bool(np.mean(back[moving]) > 0.5)


def _list(steps: list[int]) -> str:
    return "steps " + ", ".join(map(str, steps[:4])) + (", ..." if len(steps) > 4 else "")


def sick() -> Trace:
    trace = synthetic.training(state="learning")
    within = np.arange(400) % 20
    trace.series.columns["loss"] = trace.series["chance"] * (1 - 0.01 * within)
    loop = trace.facts.loop
    loop.rebuilt = list(range(20, 400, 20))
    loop.rebuilt_total = len(loop.rebuilt)
    loop.rebuilt_site = synthetic.site(24, "net = Net()", synthetic.TRAIN, "<module>")
    return trace


def healthy() -> Trace:
    return synthetic.training(state="learning")
