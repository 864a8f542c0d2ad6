"""Dropout removes nearly everything: the network could answer, but not while it trains.

## What it means
Dropout sets each number to 0 with probability p. At p = 0.95 one number in twenty is left, twenty times as large: what the
next layer sees is mostly noise. A p of 0.95 is often a keep probability in the wrong place.

## What is seen
The same batch, at the same weights, has a far lower loss in evaluation mode, where nothing is dropped, than in training
mode: at most of the later probes by more than a tenth of chance, while the training loss does not move.

## Why training gets stuck
The variance that dropout adds to each logit is the signal times p / (1 - p). The loss under it stays near chance whatever
the weights are, and the gradient is mostly noise.

## Fix
p = 0.1 to 0.5. In torch p is the share that is dropped, not the share that is kept.

## Not to be confused with
Ordinary dropout, under which the training loss is a little above the evaluation loss and falls. Batch norm, whose
evaluation mode is usually worse, not better (E801).

## References
N. Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, JMLR 15, 2014.
"""

from __future__ import annotations

import numpy as np

from unstuck import symptom
from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules import levels
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import ModeLayer, Probe
from unstuck.trace.trace import Trace

CODE = "S504"
NEEDS = ("probes", "modes")
EXPLAINS = ("I605", "I603", "D207", "S502", "S505", "G303")
GAP = 0.1  # of chance: five times the band in which a loss counts as not moved


def check(trace: Trace) -> Finding | None:
    state = symptom.of(trace)
    if state.learns or not state.judged:
        return None
    dropouts = [m for m in trace.facts.modes if m.kind == "dropout" and m.training and (m.p or 0) > 0]
    level = levels.chance(trace)
    if not dropouts or level is None:
        return None
    strongest = max(dropouts, key=lambda m: m.p or 0)
    # Dropout multiplies the mean square of what it keeps by 1 / (1 - p): from p = 0.9 on tenfold in every layer, in the signal
    # as in the gradient. A step that suits the network is then too long from the first one on.
    tenfold = (strongest.p or 0) >= 0.9
    pairs = [
        (p.after, p.evaluation) for p in trace.facts.probes
        if levels.known(p.after) is not None and levels.known(p.evaluation) is not None
    ]  # fmt: skip
    early = [a - e for a, e in pairs[:3] if a is not None and e is not None]
    first = levels.first_loss(trace)
    burst = tenfold and len(early) > 1 and (sum(g > level for g in early) > len(early) / 2 or (first or 0.0) > 2 * level)
    late = pairs[:3] if burst else pairs[len(pairs) // 2 :]
    gaps = [a - e for a, e in late if a is not None and e is not None]
    if len(gaps) < 2:
        return None
    answers = _answers(trace)
    if float(np.median(gaps)) <= GAP * level and answers is None and not burst:  # a single batch under dropout is mostly luck
        return None
    training, evaluation = late[-1]
    if not burst and answers is None and (evaluation is None or evaluation > level - levels.BAND * level):
        return None  # without it the network knows nothing either
    milder = min(0.5, max(0.1, round(1 - (strongest.p or 0), 2)))  # a keep probability in the wrong place is the usual slip
    if np.mean([g > GAP * level for g in gaps]) <= 0.5 and not tenfold:  # there the last probe alone is enough
        return None
    if answers is not None and not burst and gaps[-1] <= GAP * level:
        more = Evidence(
            f"At the last probes {answers[1]:.0%} of the same batch are right in evaluation mode, {answers[0]:.0%} in training "
            "mode.", value=answers[1] - answers[0], unit="share", source="probe",
        )  # fmt: skip
    else:
        more = None
    return Finding(
        CODE,
        "dropout-too-strong",
        "likely",
        f"Dropout of {strongest.p:g} hides what the network knows: the same batch scores {evaluation:.4g} nats without it "
        f"and {training:.4g} with it.",
        bearing="hinders",
        evidence=[
            Evidence(
                f"At {sum(g > GAP * level for g in gaps)} of the {'first' if burst else 'last'} {len(gaps)} probes the loss of the "
                f"same batch is lower in evaluation mode, by {float(np.median(gaps)):.3g} nats (chance is {level:.4g}).",
                value=float(np.median(gaps)), unit="nats", source="probe",
            ),
            *([more] if more is not None else []),
            Evidence(
                f"The strongest of {len(dropouts)} dropout layers drops {strongest.p:.0%} of its inputs.",
                value=strongest.p, unit="share", source="values",
            ),
        ],
        explains=["G304", "N701", "S501"] if burst else [],
        locations=sites(strongest.made, *(m.made for m in dropouts if m.p == strongest.p)),
        fix=Fix(
            f"Use p = {milder:g}.", "unsafe", intervention=Intervention("set-dropout", {"p": milder}),
        ),
        separating=f"Train with dropout {milder:g}, everything else as it is.",
    )  # fmt: skip


def _answers(trace: Trace) -> tuple[float, float] | None:
    """(accuracy as it trained, in evaluation mode) over the last two probes, where the second is higher beyond doubt."""
    last = [p for p in trace.facts.probes if p.accuracy is not None and p.evaluation_accuracy is not None][-2:]
    given = next((i.shape[0] for i in trace.facts.inputs if i.shape), 0)
    if len(last) < 2 or not given:
        return None
    trained = sum(p.accuracy or 0.0 for p in last) / 2
    evaluated = sum(p.evaluation_accuracy or 0.0 for p in last) / 2
    # Three standard errors of the difference of two shares of 2n rows each, at most 1/2 (1/n)^(1/2) x 2^(1/2).
    return (trained, evaluated) if evaluated - trained > 3 * (0.25 / given) ** 0.5 else None


def sick() -> Trace:
    trace = synthetic.training(state="at-chance")
    trace.facts.modes = [ModeLayer("dropout", "drop", synthetic.site(9, "self.drop = nn.Dropout(0.97)"), 0.97, training=400)]
    trace.facts.probes = [Probe(n, 1.6, 1.6, 1.59, 0.01, evaluation=0.9) for n in (1, 10, 50, 100)]
    return trace


def healthy() -> Trace:
    trace = synthetic.training(state="learning")
    trace.facts.modes = [ModeLayer("dropout", "drop", synthetic.site(9, "self.drop = nn.Dropout(0.3)"), 0.3, training=400)]
    trace.facts.probes = [Probe(n, 1.2, 1.2, 1.19, 0.01, evaluation=1.1) for n in (1, 10, 50, 100)]
    return trace
