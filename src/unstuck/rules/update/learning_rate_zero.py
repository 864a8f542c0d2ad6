"""The learning rate is 0, is rounded away by the weights' precision, or decays to nothing long before the loss is low.

## What it means
The step is the learning rate times a direction. At 0 there is no step. A scheduler that is called for every batch
although it counts epochs, one that waits for the wrong sign, or an integer division in a warm-up takes it there.

## What is seen
The learning rate was 0 at every step; or every update was below the spacing of the weights in their number format. Or
the learning rate fell under 1/100 of its largest value for more than half of all steps while the loss was still above
half of chance, and what the gradient still promised at the decayed rate is under 2 % of chance, while it would have
been more at the largest rate.

## Why training gets stuck
Gradients are right and steps are taken; they just have no length. The loss freezes at the level of the decay.

## Fix
Print the learning rate once per epoch. Call a scheduler once per unit that it counts in; mode="min" for a loss.

## Not to be confused with
A warm-up that begins at 0, a cosine decay at the end, a small learning rate chosen on purpose (fine-tuning): silent. A
step that has no effect although the learning rate is large enough (U410). A learning rate that is only too low (S502).

## References
torch.optim.lr_scheduler: StepLR counts calls of its step(), ReduceLROnPlateau(mode="max") waits for growth. I.
Loshchilov, F. Hutter, SGDR, ICLR 2017 (decays that are healthy).
"""

from __future__ import annotations

import numpy as np

from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules.learnable import clearly_better, learnable
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Optimizer
from unstuck.trace.trace import Trace

CODE = "U407"
NEEDS = ("optimizers",)
EXPLAINS = ("U410",)

FEWEST_STEPS = 5  # a warm-up may begin with a few steps at 0
MOSTLY = 0.9
FEWEST_TAIL = 20  # recorded steps after a decay
DECAYED = 0.01  # of the largest learning rate
BAND = 0.02  # of chance: what counts as no movement
HIGH = 0.5  # of chance: above it a loss has not converged


def check(trace: Trace) -> Finding | None:
    facts = trace.facts
    stepping = [o for o in facts.optimizers if o.steps > 0]
    if not stepping or facts.loop.functional:
        return None
    if all(_never_moves(o, trace) for o in stepping) and not any(p.held and p.changed for p in facts.parameters):
        return _zero(stepping[0], trace)
    if len(stepping) > 1:
        return None
    return _mostly_zero(trace, stepping[0]) or _decayed(trace, stepping[0])


def _never_moves(optimizer: Optimizer, trace: Trace) -> bool:
    if optimizer.steps < FEWEST_STEPS:
        return False
    if optimizer.lr_zero_steps + optimizer.steps_below_resolution >= optimizer.steps:
        return True
    # The rounding is looked for at sampled steps only.
    loop, below = trace.facts.loop, optimizer.steps_below_resolution
    return below >= 3 and below == loop.no_effect == loop.no_effect_checked


def _zero(optimizer: Optimizer, trace: Trace) -> Finding:
    if optimizer.lr_zero_steps >= MOSTLY * optimizer.steps:
        summary = f"The learning rate was 0 at all {optimizer.steps} steps."
        evidence = Evidence(
            f"The learning rate of {optimizer.kind} was 0 at {optimizer.lr_zero_steps} of {optimizer.steps} steps.",
            value=float(optimizer.lr_zero_steps), unit="steps", source="loop",
        )  # fmt: skip
    else:
        lr = optimizer.lr_largest
        summary = "The learning rate is so small that no weight changed in its number format."
        zero = f" The learning rate was 0 at {optimizer.lr_zero_steps} steps." if optimizer.lr_zero_steps else ""
        evidence = Evidence(
            f"{optimizer.steps_below_resolution} updates were looked at that were smaller than half the spacing of the "
            f"weights in their number format (learning rate at most {0.0 if lr is None else lr:.3g}).{zero}",
            value=lr, unit="1", source="loop",
        )  # fmt: skip
    return Finding(
        CODE, "learning-rate-zero", "certain", summary, bearing="blocks", evidence=[evidence],
        locations=sites(optimizer.scheduler, optimizer.made),
        fix=Fix(
            "Set a learning rate above 0; where a scheduler computes it, print what it returns first.", "unsafe",
            intervention=_rate_instead(optimizer, trace),
        ),
    )  # fmt: skip


def _rate_instead(optimizer: Optimizer, trace: Trace) -> Intervention:
    """What a scheduler took away comes back; a rate of 0 becomes torch's default; what half precision rounds away does not
    need another rate but another format."""
    if optimizer.scheduler is not None:
        return Intervention("constant-learning-rate")
    if 2 * optimizer.lr_zero_steps < optimizer.steps and any(p.trainable and "16" in p.dtype for p in trace.facts.parameters):
        return Intervention("full-precision")
    return Intervention("set-learning-rate", {"lr": 1e-3 if optimizer.adaptive else 1e-2})


def _mostly_zero(trace: Trace, optimizer: Optimizer) -> Finding | None:
    """0 at nearly every step, and the loss is high: a warm-up or decay that lasts as long as the training."""
    if optimizer.steps < FEWEST_TAIL or optimizer.lr_zero_steps < MOSTLY * optimizer.steps:
        return None
    chance, now = _mean(trace.series["chance"]), _mean(trace.series["loss"][-max(10, len(trace.series) // 10) :])
    if chance is None or now is None or now <= HIGH * chance:
        return None
    finding = _zero(optimizer, trace)
    finding.bearing = "hinders"
    finding.summary = f"The learning rate was 0 at {optimizer.lr_zero_steps} of {optimizer.steps} steps."
    return finding


def _decayed(trace: Trace, optimizer: Optimizer) -> Finding | None:
    series, largest, last = trace.series, optimizer.lr_largest, optimizer.lr_last
    if largest is None or last is None or not 0 <= last < DECAYED * largest or not len(series):
        return None
    lr, loss, steps = series["lr"], series["loss"], series.steps
    live = np.flatnonzero(lr >= DECAYED * largest)  # NaN is not
    if not len(live) or len(series) - live[-1] - 1 < FEWEST_TAIL:
        return None
    began = int(live[-1]) + 1
    tail = int(steps[-1] - steps[began] + 1)
    if tail <= 0.5 * int(steps[-1] - steps[0] + 1):
        return None
    chance = _mean(series["chance"])
    before, now = _mean(loss[max(0, began - 10) : began]), _mean(loss[-max(10, tail // 10) :])
    rate = _rate(series["predicted"], lr, began, largest)
    if chance is None or before is None or now is None or rate is None:
        return None
    best = None
    if min(before, now) <= HIGH * chance:  # it had come some way: was there more to win?
        learn = learnable(trace)
        best = learn.best if learn is not None and learn.found else None
        if not clearly_better(best, min(before, now), chance):
            return None
    rest = lr[began:]
    mean_lr = float(rest[~np.isnan(rest)].mean()) if (~np.isnan(rest)).any() else last
    available, possible = rate * mean_lr * tail, rate * largest * tail
    if available >= BAND * chance or possible <= BAND * chance:
        return None
    return Finding(
        CODE,
        "learning-rate-zero",
        "likely",
        f"The learning rate fell from {largest:.3g} to {last:.3g} while the loss was {now:.3f} (chance {chance:.3f}).",
        bearing="hinders",
        evidence=[
            Evidence(
                f"For the last {tail} of {int(steps[-1])} steps the learning rate was under 1/100 of its largest.",
                value=last, unit="1", source="loop",
            ),
            Evidence(
                f"When that began, at step {int(steps[began])}, the loss was {before:.4f}; chance is {chance:.4f}.",
                value=before, unit="nats", source="statistics",
            ),
            Evidence(
                f"To first order those steps could lower the loss by {available:.2g} nats; at the largest rate "
                f"the same steps could have by {possible:.2g}.",
                value=available, unit="nats", source="statistics",
            ),
            *(
                [Evidence(f"A {best.name} reaches {best.loss:.3g} nats on {best.rows:,} of your own samples (cross-validated).",
                          best.loss, "nats", "statistics")]
                if best is not None else []
            ),
        ],
        locations=sites(optimizer.scheduler, optimizer.made),
        fix=Fix(
            "Call the scheduler once per unit that it counts in (epochs, not batches), and mode='min' for a loss.", "unsafe",
            intervention=Intervention("constant-learning-rate"),
        ),
    )  # fmt: skip


def _rate(predicted: np.ndarray, lr: np.ndarray, began: int, largest: float) -> float | None:
    """First-order decrease of the loss per unit of learning rate: after the decay, or else around it.

    At rates that are rounded away the measured decrease is 0 whatever the gradient; those say nothing.
    """
    good = np.flatnonzero(np.isfinite(predicted) & (predicted != 0) & (lr >= 1e-4 * largest))
    if not len(good):
        return None
    later = good[good >= began]
    use = later if len(later) >= 3 else good[-5:]
    return float(np.median(predicted[use] / lr[use]))


def _mean(column: np.ndarray) -> float | None:
    finite = column[np.isfinite(column)]
    return float(finite.mean()) if len(finite) else None


def sick() -> Trace:
    trace = synthetic.training(state="at-chance")
    optimizer = trace.facts.optimizers[0]
    optimizer.lr_first = optimizer.lr_largest = optimizer.lr_last = 0.0
    optimizer.lr_zero_steps = optimizer.steps
    optimizer.scheduler = synthetic.site(15, "sched = LambdaLR(opt, warmup)", synthetic.TRAIN, "<module>")
    trace.series.columns["lr"][:] = 0.0
    trace.facts.loop.no_effect_checked = 0
    for parameter in trace.facts.parameters:
        parameter.changed = False
    return trace


def healthy() -> Trace:
    return synthetic.training(state="learning")
