"""The network takes its training steps in evaluation mode.

## What it means
`model.eval()` was called for a validation and `model.train()` never again, or eval() stands before the loop. Dropout is
off from there on, and batch norm uses running averages that nobody updates.

## What is seen
Forward passes whose gradients were used ran with dropout or batch-norm layers in evaluation mode: for at least half of
all steps after they had been in training mode before, or from the first step on, and no such layer was training.

## Why training gets stuck
Without dropout the network learns its training set by heart. Batch norm with fixed averages no longer normalises: the
activations drift, and at averages of 0 and 1 (never updated) the layer does nothing at all.

## Fix
`model.train()` at the start of every epoch, `model.eval()` just before the validation.

## Not to be confused with
Batch-norm layers that are frozen on purpose, as in fine-tuning, while dropout trains: only noted. Validation under
no_grad: such passes have no gradient and are not counted. A few steps at the end of a run: silent.

## References
torch.nn.Module.train and eval. R. Girshick et al., Detectron (frozen batch norm in fine-tuning).
"""

from __future__ import annotations

from unstuck.findings import Bearing, Evidence, Finding, Fix, Intervention
from unstuck.rules import levels
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Facts, ModeLayer
from unstuck.trace.trace import Trace

CODE = "E802"
NEEDS = ("modes",)
EXPLAINS = ("G303", "G304", "S501", "S502", "S505", "I603", "I604", "D207", "N701")

STEPS = 20
HALF = 0.5


def check(trace: Trace) -> Finding | None:
    facts, steps = trace.facts, levels.steps(trace)
    layers = [m for m in facts.modes if m.training + m.evaluating > 0 and not _frozen(facts, m)]
    if steps < STEPS or not layers:
        return None
    never = [m for m in layers if m.evaluating >= STEPS and not m.training]
    since = [m for m in layers if m not in never and _left(m, steps)]
    if len(never) + len(since) == len(layers):
        # Frozen averages may be meant, and so may be a test without dropout. Not meant: dropout that was at work and stopped,
        # and a batch norm that normalises by the mean 0 and the variance 1 it was made with.
        meant = not any(m.kind == "dropout" for m in since) and not any(_young(m) for m in never)
        return _finding(trace, since or never, bool(since), steps, "choice" if meant else "hinders")
    norms = [m for m in layers if m.kind == "batch-norm"]
    if norms and all(m in never or m in since for m in norms):
        return _finding(trace, norms, not any(m in never for m in norms), steps, "harmless")  # dropout trains: frozen by intent
    return None


def _frozen(facts: Facts, layer: ModeLayer) -> bool:
    """Are this layer's own weights frozen? Then its averages are, on purpose."""
    own = [p for p in facts.parameters if layer.name and p.name.rpartition(".")[0] == layer.name]
    return bool(own) and not any(p.trainable for p in own)


def _young(layer: ModeLayer) -> bool:
    """A batch norm whose running averages are still what they were made as."""
    return layer.kind == "batch-norm" and not layer.tracked


def _left(layer: ModeLayer, steps: int) -> bool:
    """Was it in training mode, and then in evaluation mode for half of the run or more?"""
    if not layer.training or not layer.evaluating or layer.last_training_step is None:
        return False
    return steps - layer.last_training_step >= max(STEPS, HALF * steps)


def _finding(trace: Trace, layers: list[ModeLayer], since: bool, steps: int, bearing: Bearing) -> Finding:
    facts = trace.facts
    first = layers[0]
    names = ", ".join(f"{m.name or m.kind} ({m.kind})" for m in layers[:3]) + (", ..." if len(layers) > 3 else "")
    if since:
        last = max(m.last_training_step or 0 for m in layers)
        summary = f"After step {last} of {steps} the network was trained in evaluation mode."
    else:
        summary = f"All {steps} steps were taken in evaluation mode."
    if bearing == "harmless":
        summary = "The batch-norm layers are trained in evaluation mode (frozen averages)."
    evidence = [
        Evidence(
            f"{names}: {first.training} passes with a gradient in training mode, {first.evaluating} in evaluation mode.",
            value=float(first.evaluating), unit="passes", source="loop",
        )
    ]  # fmt: skip
    young = [m for m in layers if _young(m)]
    if young:
        evidence.append(
            Evidence(
                f"The running averages of {young[0].name or 'a batch norm'} were never updated: mean 0 and variance 1.",
                value=0.0, unit="batches", source="values",
            )
        )  # fmt: skip
    return Finding(
        CODE, "eval-mode-while-training", "certain", summary, bearing=bearing, shown=bearing == "hinders", evidence=evidence,
        locations=sites(*(i.site for i in facts.inputs[:1]), facts.made, first.made),
        fix=Fix(
            "Call model.train() at the start of every epoch, and model.eval() just before the validation.", "unsafe",
            intervention=Intervention("train-mode"),
        ),
    )  # fmt: skip


def in_order(trace: Trace) -> str:
    layers = [m for m in trace.facts.modes if m.training]
    return "" if not layers else f"{len(layers)} dropout or batch-norm layers were in training mode in {layers[0].training} passes"


def sick() -> Trace:
    return _example(training=20, evaluating=380, last=20, state="plateau")


def healthy() -> Trace:
    return _example(training=400, evaluating=0, last=400, state="learning")


def _example(training: int, evaluating: int, last: int, state: str) -> Trace:
    layers = [
        ModeLayer("dropout", "drop", synthetic.site(11, "self.drop = nn.Dropout(0.3)", function="__init__"), p=0.3,
                  training=training, evaluating=evaluating, last_training_step=last),
        ModeLayer("batch-norm", "bn", synthetic.site(12, "self.bn = nn.BatchNorm1d(64)", function="__init__"), momentum=0.1,
                  tracked=training, training=training, evaluating=evaluating, last_training_step=last, smallest_rows=64),
    ]  # fmt: skip
    return synthetic.training(state=state, modes=layers)
