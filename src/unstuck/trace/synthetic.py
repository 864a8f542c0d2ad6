"""Traces with a known state, built without any framework: for the rules' own examples, tests and calibration."""

from __future__ import annotations

import math

import numpy as np

from unstuck.trace import channels
from unstuck.trace.facts import Facts, LabelStats, Loop, LossTerm, OpNode, Optimizer, Parameter, Site, TermValues
from unstuck.trace.trace import Series, Trace

MODEL = "model.py"
TRAIN = "train.py"


def site(line: int, text: str, file: str = MODEL, function: str = "forward") -> Site:
    """A line of the imaginary script."""
    return Site(file, line, text, function)


def linear(*, units: int = 5, batch: int = 64, line: int = 20, name: str = "head", frozen: bool = False) -> OpNode:
    """The last parametric layer of a path."""
    return OpNode(
        "linear", "AddmmBackward0", [batch, units], site=site(line, f"return self.{name}(x)"), module="Linear",
        made=site(line - 10, f"self.{name} = nn.Linear(64, {units})", function="__init__"),
        parameters=[] if frozen else [f"{name}.weight", f"{name}.bias"],
        frozen=[f"{name}.weight", f"{name}.bias"] if frozen else [],
    )  # fmt: skip


def cross_entropy(*between: OpNode, classes: int = 5, batch: int = 64, **changes: object) -> LossTerm:
    """A judged cross-entropy over index labels; `between` are the operations from the loss down to the head."""
    term = LossTerm(
        "cross-entropy", "NllLossBackward0", judged=True, site=site(41, "loss = criterion(out, y)", TRAIN, "train"),
        made=site(12, "criterion = nn.CrossEntropyLoss()", TRAIN, "<module>"), coefficient=1.0, reduction="mean",
        ignore_index=-100, input_shape=[batch, classes], target_shape=[batch], classes=classes, class_axis=1,
        feature_axis=1, path=[*between, linear(units=classes, batch=batch)], path_end="parametric",
        values=TermValues(calls=5, rows=batch, lowest=-2.0, highest=2.5, widest_row=3.1, spread=0.8),
        labels=LabelStats(
            "index", rows=400 * batch, kept=400 * batch, calls=400, lowest=0.0, highest=classes - 1.0,
            counts=[400.0 * batch / classes] * classes,
        ),
    )  # fmt: skip
    for name, value in changes.items():
        setattr(term, name, value)
    return term


def binary(*between: OpNode, kind: str = "bce-logits", batch: int = 64, **changes: object) -> LossTerm:
    """A judged binary loss of one unit over labels 0 and 1."""
    labels = LabelStats(
        "binary", rows=400 * batch, kept=400 * batch, calls=400, lowest=0.0, highest=1.0, distinct=[0.0, 1.0],
        counts=[200.0 * batch, 200.0 * batch],
    )  # fmt: skip
    base: dict[str, object] = {
        "kind": kind, "raw": "BinaryCrossEntropyWithLogitsBackward0", "input_shape": [batch, 1],
        "target_shape": [batch, 1], "classes": 1, "labels": labels, "ignore_index": None, "class_axis": 1,
    }  # fmt: skip
    term = cross_entropy(*between, batch=batch, **(base | changes))
    term.path[-1] = linear(units=1, batch=batch)
    return term


def training(term: LossTerm | None = None, *, state: str = "learning", steps: int = 400, seed: int = 0,
             loop: Loop | None = None, level: float | None = None, **facts: object) -> Trace:  # fmt: skip
    """A whole training. state: learning, at-chance, at-prior, plateau, above-chance, non-finite, constant."""
    rng = np.random.default_rng(seed)
    term = term if term is not None else cross_entropy()
    chance = math.log(term.classes) if term.classes and term.classes > 1 else math.log(2)
    n = np.arange(1, steps + 1)
    noise = 0.02 * rng.standard_normal(steps)
    loss = {
        "learning": 0.05 * chance + 0.95 * chance * np.exp(-n / 60) + noise * np.exp(-n / 200),
        "at-chance": chance + 0.2 * noise,
        "at-prior": 0.8 * chance + 0.2 * noise,
        "plateau": 0.6 * chance + 0.3 * chance * np.exp(-n / 30) + noise,
        "above-chance": chance * 3 + noise,
        "non-finite": np.where(n < 20, chance, np.nan),
        "constant": np.full(steps, 0.5 * chance),
    }[state]
    if level is not None:
        loss = level + 0.01 * noise
    columns = {name: np.full(steps, np.nan) for name in channels.SERIES_NAMES}
    columns["loss"] = loss
    columns["chance"] = np.full(steps, chance)
    columns["base"] = np.full(steps, chance if state != "at-prior" else 0.8 * chance)
    columns["accuracy"] = np.where(loss < 0.7 * chance, 0.9, 1 / (term.classes if (term.classes or 0) > 1 else 2))
    columns["lr"] = np.full(steps, 1e-3)
    columns["predicted"][::10] = 0.01 * chance
    columns["grad_norm"][::10] = 1.0
    columns["update_ratio"][::10] = 1e-3
    columns["backwards"] = np.ones(steps)
    record: dict[str, object] = {
        "framework": "torch",
        "name": "Net",
        "terms": [term],
        "parameters": [
            Parameter("body.weight", [64, 64], reached=True, held=True, gradient="nonzero", changed=True),
            Parameter("head.weight", [5, 64], reached=True, held=True, gradient="nonzero", changed=True),
        ],
        "optimizers": [
            Optimizer("Adam", made=site(14, "opt = torch.optim.Adam(model.parameters())", TRAIN, "<module>"),
                      step_site=site(43, "opt.step()", TRAIN, "train"), steps=steps, tensors=2, lr_first=1e-3,
                      lr_largest=1e-3, lr_last=1e-3),
        ],
        "loop": loop
        or Loop(forwards=steps, backwards=steps, steps=steps, backward_site=site(42, "loss.backward()", TRAIN, "train"),
                step_site=site(43, "opt.step()", TRAIN, "train"), stale_checked=steps - 1, grad_checked=50,
                no_effect_checked=50, ascent_checked=50),
    }  # fmt: skip
    return Trace(Facts(**(record | facts)), Series(n, columns))  # type: ignore[arg-type]
