"""In training mode the network knows its batch, in evaluation mode it does not know the same batch.

## What it means
A batch-norm layer uses the statistics of the batch while training and its running averages in evaluation. Where the two
differ, training works on one network and evaluation on another.

## What is seen
On the last two probes the same batch was evaluated with the same weights in both modes: in training mode the loss is
well below the base rates, in evaluation mode it is no better than them, or worse than in training mode by more than half
of chance. With batches of a few samples: the same for the means of the last four probes, with evaluation mode worse at
each of them. The network has batch-norm layers, and at least 20 steps were taken before. Or, at the script's own last
evaluation, the averages are mean 0 and variance 1 as at the start, and the batch of the last probe shows the same gap then.

## Why training gets stuck
It does not: what is evaluated, saved and used later is stuck. Reasons: a momentum so small that the averages still hold
their start (mean 0, variance 1); batches so small that their statistics say little; batches each of one kind of data;
averages over weights that have moved far since; averages that were reset.

## Fix
Momentum 0.1 or more (torch's is the weight of the new batch; Keras's 0.99 means torch's 0.01). Larger batches, or
GroupNorm / LayerNorm, which have no averages. Mix the batches. Or recompute the averages with the final weights.

## Not to be confused with
Dropout, which makes evaluation better, not worse. The first steps of a training, when the averages are young.
Overfitting: that is other data in the same mode. A network that is trained in evaluation mode (E802).

## References
S. Ioffe, C. Szegedy, Batch normalization, ICML 2015; S. Ioffe, Batch renormalization, 2017 (small and uneven batches).
Y. Wu, K. He, Group normalization, ECCV 2018. torch.optim.swa_utils.update_bn.
"""

from __future__ import annotations

import math

from unstuck import symptom
from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules import levels
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import ModeLayer, Probe
from unstuck.trace.trace import Trace

CODE = "E801"
NEEDS = ("probes", "modes")

PROBES = 2
MEAN = 4
YOUNG = 20  # with torch's momentum of 0.1 the start then has a weight of 0.9^20 = 0.12
SKILL = 0.1  # of chance: what training mode must be ahead of evaluation mode; a band of five times the symptom's
GAP = 0.5  # of chance
STALE = "batch-statistics"
# The variance of n values is known to sqrt(2 / (n - 1)) of itself: to 1/2 with 9.
FEW_ROWS = 9


def check(trace: Trace) -> Finding | None:
    norms = [m for m in trace.facts.modes if m.kind == "batch-norm"]
    level = levels.chance(trace)
    if not norms or level is None or levels.steps(trace) < YOUNG:
        return None
    base = levels.known(symptom.of(trace).base_rate)
    base = level if base is None else base
    probes = [p for p in trace.facts.probes if p.evaluation is not None and _training(p) is not None and p.step >= YOUNG]
    late = [(_training(p) or 0.0, p.evaluation or 0.0) for p in probes[-PROBES:]]
    few = [(_training(p) or 0.0, p.evaluation or 0.0) for p in probes[-MEAN:]]
    end, unset = trace.facts.at_end, [m for m in norms if m.unset]
    after = (_training(end), end.evaluation) if end is not None and unset else (None, None)
    if after[0] is not None and after[1] is not None and _gap(after[0], after[1], base, level):
        # That the averages are the start values is a fact; one batch shows what comes of it.
        trained, evaluated = after
        where = "At the last evaluation, the batch of the last probe"
        probes, norms = [end], unset
    elif len(late) == PROBES and all(_gap(t, e, base, level) for t, e in late):
        trained, evaluated = late[-1]
        where = f"The batch of step {probes[-1].step}"
    elif len(few) == MEAN and all(e - t > SKILL * level for t, e in few) and _gap(*_means(few), base, level):
        # Batches of a few samples: a single one may be hopeless in both modes.
        trained, evaluated = _means(few)
        where = f"The batches of the last {MEAN} probes"
    elif len(late) == PROBES and _reason(norms)[3] == STALE and all(
        t < base - SKILL * level and e - t > SKILL * level for t, e in late
    ):
        # The averages are known not to follow the batches: a gap at all is theirs.
        trained, evaluated = late[-1]
        where = f"The batch of step {probes[-1].step}"
    else:
        return None
    last = probes[-1]
    evidence = [
        Evidence(
            f"{where}, with the same weights: {trained:.4g} nats in training mode, {evaluated:.4g} nats "
            f"in evaluation mode; the base rates score {base:.4g}.",
            value=evaluated - trained, unit="nats", source="probe",
        )
    ]  # fmt: skip
    if last.accuracy is not None and last.evaluation_accuracy is not None:
        evidence.append(
            Evidence(
                f"Accuracy on it: {last.accuracy:.0%} as it was trained, {last.evaluation_accuracy:.0%} in evaluation mode.",
                value=last.evaluation_accuracy, unit="share", source="probe",
            )
        )  # fmt: skip
    layer, reason, fix, kind = _set_back(norms) if probes[-1] is end else _reason(norms)
    if reason:
        evidence.append(Evidence(reason, source="values"))
    return Finding(
        CODE, "train-eval-gap", "likely",
        "In evaluation mode the network fails on the very batch that it knows in training mode.",
        bearing="hinders", shown=True, evidence=evidence, locations=sites(
            *((layer.reset_site,) if probes[-1] is end else ()), layer.made, *(m.made for m in norms[:2])
        ),
        fix=Fix(fix, "unsafe", intervention=Intervention(kind)) if kind else Fix(fix),
    )  # fmt: skip


def _training(probe: Probe) -> float | None:
    """The loss in training mode, with the weights that evaluation mode was given."""
    for value in (probe.training, probe.after, probe.before):
        if value is not None:
            return value if math.isfinite(value) else None
    return None


def _means(levels: list[tuple[float, float]]) -> tuple[float, float]:
    return sum(t for t, _ in levels) / len(levels), sum(e for _, e in levels) / len(levels)


def _gap(trained: float, evaluated: float, base: float, chance: float) -> bool:
    if math.isnan(evaluated) or trained >= base - SKILL * chance:
        return False
    return evaluated >= base or evaluated - trained > GAP * chance


def _set_back(norms: list[ModeLayer]) -> tuple[ModeLayer, str, str, str]:
    norm = next((m for m in norms if m.reset_site is not None), norms[0])
    names = f"{norm.name or 'a batch norm'}" + (f" and {len(norms) - 1} more" if len(norms) > 1 else "")
    return (
        norm,
        f"After {norm.training} passes in training mode the averages of {names} are mean 0 and variance 1, as before the "
        "training: they were set back"
        + (f" ({norm.reset_site.file}, line {norm.reset_site.line})." if norm.reset_site is not None else "."),
        "Leave the running statistics alone after the training, or recompute them with the final weights (update_bn).",
        "",
    )


def _reason(norms: list[ModeLayer]) -> tuple[ModeLayer, str, str, str]:
    """(the layer to look at, why its averages are wrong, what to change, the kind of intervention that tries it), where the
    facts say so; '' for a change that none of them makes (larger batches, another layer)."""
    for norm in norms:
        if norm.momentum is None:  # a plain mean over all batches
            continue
        left = (1 - norm.momentum) ** norm.tracked if 0 <= norm.momentum <= 1 else 0.0
        if left > 0.5 and norm.tracked:
            return (
                norm,
                f"With momentum {norm.momentum:g} the averages of {norm.name or 'the layer'} still hold {left:.0%} of their "
                f"start after {norm.tracked} batches.",
                "Raise the batch norm's momentum (torch: weight of the new batch) to 0.1.",
                STALE,
            )  # fmt: skip
        if not norm.tracked and norm.training:
            return (
                norm,
                f"No batch has gone into the averages of {norm.name or 'the layer'}, in {norm.training} passes in training mode.",
                "Let the batch norm update its averages, or use GroupNorm or LayerNorm.",
                STALE,
            )
    small = [m for m in norms if m.smallest_rows is not None and m.smallest_rows <= FEW_ROWS]
    if small:
        return (
            small[0],
            f"{small[0].name or 'A batch norm'} normalised over as few as {small[0].smallest_rows} values per channel.",
            "Use larger batches, or GroupNorm or LayerNorm, which keep no averages.",
            "",
        )
    idle = [m for m in norms if m.evaluating > m.training]
    if idle:
        return (
            idle[0],
            f"{idle[0].name or 'A batch norm'} ran in evaluation mode in {idle[0].evaluating} passes of the training.",
            "Call model.train() at the start of every epoch.",
            "train-mode",
        )
    return (
        norms[0],
        "",
        "Mix the batches, use larger ones, or recompute the averages with the final weights (update_bn); or use GroupNorm.",
        "",
    )


def in_order(trace: Trace) -> str:
    probes = [p for p in trace.facts.probes if p.evaluation is not None and _training(p) is not None]
    level = levels.chance(trace)
    if not probes or level is None or (probes[-1].evaluation or 0.0) - (_training(probes[-1]) or 0.0) > SKILL * level:
        return ""
    return f"the same batch: {_training(probes[-1]):.3g} nats in training mode, {probes[-1].evaluation:.3g} in evaluation mode"


def sick() -> Trace:
    return _example(momentum=1e-4, evaluation=2.4)


def healthy() -> Trace:
    return _example(momentum=0.1, evaluation=0.22)


def _example(momentum: float, evaluation: float) -> Trace:
    made = synthetic.site(11, f"self.bn = nn.BatchNorm1d(64, momentum={momentum})", function="__init__")
    norm = ModeLayer("batch-norm", "bn", made, momentum=momentum, tracked=400, training=400, last_training_step=400,
                     smallest_rows=64)  # fmt: skip
    probes = [
        Probe(step, 0.3, 0.3, 0.29, 0.01, {"0": 0.3, "0.1": 0.299, "1": 0.29}, evaluation, None, 0.93, 0.2)
        for step in (100, 300)
    ]
    return synthetic.training(state="learning", modes=[norm], probes=probes)
