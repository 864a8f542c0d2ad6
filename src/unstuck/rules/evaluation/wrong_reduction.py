"""The loss is summed over the batch, or averaged over the classes too: every step is off by that factor.

## What it means
Learning rates are meant for a loss per sample. reduction="sum" makes the gradient larger by the size of the batch B; a
mean over all B*K entries of one-hot times log p makes it smaller by the number of classes K.

## What is seen
From the options and the constant factors between the loss term and the tensor on which backward is called: the factor by
which the gradient differs from that of the mean per sample. At uniform answers such a loss shows B ln K or ln K / K. And
whether steps are taken that are too long (for a sum) or that add up to nothing (for a mean over classes).

## Why training gets stuck
With plain gradient descent the step has the same factor: 64 times a learning rate of 0.1 is 6.4.

## Fix
reduction="mean"; for a loss by hand sum over the classes before the mean: `-(y * logp).sum(1).mean()`. For KLDivLoss
reduction="batchmean". Or divide the learning rate by the factor.

## Not to be confused with
A sum that is divided by the number of samples: silent. Adaptive optimizers, which divide any factor out: silent. Binary
losses over many columns, where a mean over columns is usual. Accumulation over several backward calls.

## References
P. Goyal et al., Accurate, large minibatch SGD, 2017 (learning rate and batch size). torch.nn.KLDivLoss: "mean" does not
return the true divergence.
"""

from __future__ import annotations

import math

import numpy as np

from unstuck import symptom
from unstuck.findings import Bearing, Evidence, Finding, Fix, Intervention
from unstuck.rules import levels
from unstuck.rules.paths import at, sites
from unstuck.trace import synthetic
from unstuck.trace.facts import LossTerm, Optimizer, Probe
from unstuck.trace.trace import Trace

CODE = "E803"
NEEDS = ("terms",)
EXPLAINS = ("S501", "S502", "G304", "G305", "I603", "I604", "N701", "D207")

# Two classes, or two samples, are the smallest factor that a wrong reduction can have; sqrt(2) tells it from none.
FACTOR = math.sqrt(2)
CLOSE = 1e-3  # relative: coefficients are products of a few constants in float32
_CATEGORICAL = frozenset({"cross-entropy", "nll", "soft-cross-entropy", "kl"})
_BINARY = frozenset({"bce", "bce-logits"})


def check(trace: Trace) -> Finding | None:
    facts = trace.facts
    stepping = [o for o in facts.optimizers if o.steps > 0]
    # Dividing by its size makes an adaptive step the same for c times the gradient.
    if any(o.adaptive for o in stepping):
        return None
    term = facts.term
    if term is None or len([t for t in facts.terms if t.kind != "unknown"]) != 1 or facts.loop.adversarial:
        return None
    found = _factor(term)
    if found is None:
        return None
    factor, how = found
    backwards = trace.series.measured("backwards")
    if factor < 1 and len(backwards) and math.isclose(float(np.median(backwards)) * factor, 1, rel_tol=0.5):
        return None  # the share of one of several accumulated batches
    bearing, consequence = _bearing(trace, factor)
    level = levels.chance(trace)
    evidence = [
        Evidence(
            f"The gradient is {_times(factor)} that of the mean loss per sample: {how}.", value=factor, unit="1",
        )
    ]  # fmt: skip
    if level is not None:
        evidence.append(
            Evidence(
                f"At uniform answers the script's own loss shows {factor * level:.4g} nats instead of {level:.4g}.",
                value=factor * level, unit="nats", source="values",
            )
        )  # fmt: skip
    evidence += consequence
    return Finding(
        CODE, "wrong-reduction", "certain",
        f"The loss is {'summed over the batch' if factor > 1 else 'averaged over the classes too'}: "
        f"each step is {_times(factor)} as long.",
        bearing=bearing, evidence=evidence,
        locations=sites(term.site, term.made, *(o.made for o in stepping[:1])),
        fix=Fix(
            'Use reduction="mean", or divide the learning rate by the size of the batch.' if factor > 1
            else 'Sum over the classes before the mean: -(y * logp).sum(1).mean(), or reduction="batchmean".',
            "unsafe", intervention=_reduced(term, factor),
        ),
    )  # fmt: skip


def _times(factor: float) -> str:
    return f"{factor:.4g} times" if factor >= 1 else f"1/{1 / factor:.4g}"


def _reduced(term: LossTerm, factor: float) -> Intervention:
    """The option where the line has it; otherwise the same gradient by a factor on the loss."""
    line = next((s for s in (term.made, term.site) if s is not None and "reduction" in s.text and "sum" in s.text), None)
    if line is not None and term.reduction == "sum" and term.coefficient is not None and math.isclose(term.coefficient, 1):
        return Intervention("mean-reduction", at(line))
    return Intervention("scale-loss", {"factor": float(f"{1 / factor:.4g}")})


def _factor(term: LossTerm) -> tuple[float, str] | None:
    """Gradient over that of the mean per sample, and in words where it comes from; None where it is (about) 1."""
    shape = term.input_shape
    if term.kind not in _CATEGORICAL | _BINARY or not shape or shape[0] < 1:
        return None
    if term.sample_weighted or term.weight or term.coefficient is None or term.coefficient <= 0:
        return None
    samples, classes = shape[0], term.classes or 0
    coefficient = term.coefficient
    if 0 < term.label_smoothing < 1 and math.isclose(coefficient, 1 - term.label_smoothing, rel_tol=CLOSE):
        coefficient = 1.0  # torch writes (1 - eps) nll + eps smooth
    rows = samples
    if term.kind in _CATEGORICAL and classes:
        rows = max(1, math.prod(shape) // classes)
    if term.reduction == "sum":
        # Whatever is divided by, samples or positions, is a mean over something that was meant.
        if rows < 2 or coefficient * samples < FACTOR:
            return None
        divided = f", divided by {1 / coefficient:.4g}" if not math.isclose(coefficient, 1) else ""
        return coefficient * rows, f"{rows} losses are added up{divided}"
    if term.kind not in _CATEGORICAL or classes < 2:
        return None
    if term.kind == "kl" and term.reduction == "mean" and len(shape) > 1 and math.isclose(coefficient, 1, rel_tol=CLOSE):
        return 1 / classes, f"the mean is taken over {classes} classes as well (KLDivLoss)"
    if term.scale is not None and math.isclose(term.scale, 1 / classes, rel_tol=0.01):
        return term.scale, f"the mean is taken over {classes} classes as well"
    if math.isclose(coefficient, 1 / classes, rel_tol=CLOSE):
        return coefficient, f"the mean is taken over {classes} classes as well"
    return None


def _bearing(trace: Trace, factor: float) -> tuple[Bearing, list[Evidence]]:
    """Do the steps show it? hinders where they do, a note where they are of a sound length, else to be decided by the
    symptom."""
    level, first, state = levels.chance(trace), levels.first_loss(trace), symptom.of(trace)
    probes = [p for p in trace.facts.probes if p.after is not None or p.scan]
    long = [p for p in probes if levels.overshot(p)]
    if factor > 1:
        if long:
            worst = max(long, key=lambda p: math.inf if levels.known(p.after) is None else (p.after or 0.0) - p.before)
            after = levels.known(worst.after)
            return "hinders", [
                Evidence(
                    f"{len(long)} of {len(probes)} probed steps were too long: that of step {worst.step} took the loss of its "
                    f"own batch from {worst.before:.4g} to {'no number' if after is None else f'{after:.4g}'} nats, where a "
                    "shorter one lowers it.",
                    value=float(len(long)), unit="steps", source="probe",
                )
            ]  # fmt: skip
        if level is not None and first is not None and first > 2 * level:
            return "hinders", [
                Evidence(
                    f"The first {levels.FIRST} losses per sample were {first:.4g} nats on average; uniform guessing scores "
                    f"{level:.4g}.",
                    value=levels.known(first), unit="nats", source="values",
                )
            ]  # fmt: skip
        if state.name in {"non-finite", "diverging", "above-chance"}:
            return "hinders", [Evidence(f"The training is {state.name.replace('-', ' ')}.", source="statistics")]
        return ("harmless" if probes else "choice"), []
    promised = levels.promised(trace)
    if promised is None or level is None:
        return "choice", []
    # Recorded is the decrease of the script's own loss, which is the factor times that of the mean per sample.
    whole = promised / factor
    text = Evidence(
        f"To first order all {levels.steps(trace)} steps together lower the loss per sample by {whole:.2g} nats.",
        value=whole, unit="nats", source="loop",
    )  # fmt: skip
    if whole < levels.BAND * level:
        return "hinders", [text]
    longer = [p for p in probes if _gains_more(p, factor)]
    if longer:
        best = longer[-1]
        return "hinders", [
            text,
            Evidence(
                f"At {len(longer)} of {len(probes)} probes a longer step of the same direction lowers the loss in proportion; "
                f"ten times that of step {best.step} takes its batch from {best.before:.4g} to {best.scan['10']:.4g}.",
                value=float(len(longer)), unit="steps", source="probe",
            ),
        ]  # fmt: skip
    return ("hinders" if state.name in {"slow", "too-early"} else "choice"), [text]


def _gains_more(probe: Probe, factor: float) -> bool:
    """Does ten times the step win at least three times as much?

    Along a quadratic whose best step is m times this one, s times it wins s - s^2 / 2m: three times as much at 10 means
    m >= 6.9.
    """
    ten = probe.scan.get("10")
    if ten is None or probe.after is None or not all(math.isfinite(v) for v in (ten, probe.after, probe.before)):
        return False
    won = probe.before - probe.after
    return factor < 1 and won > 0 and probe.before - ten >= 3 * won


def in_order(trace: Trace) -> str:
    term = trace.facts.term
    if term is None or term.kind not in _CATEGORICAL | _BINARY or not term.reduction or _factor(term) is not None:
        return ""
    return f"the loss is a {term.reduction} with the factor {term.coefficient:.3g}" if term.coefficient is not None else ""


def sick() -> Trace:
    return _example("sum", "above-chance")


def healthy() -> Trace:
    return _example("mean", "learning")


def _example(reduction: str, state: str) -> Trace:
    sgd = Optimizer("SGD", made=synthetic.site(14, "opt = torch.optim.SGD(model.parameters(), lr=0.1)", synthetic.TRAIN),
                    steps=400, tensors=2, lr_first=0.1, lr_largest=0.1, lr_last=0.1)  # fmt: skip
    after = 5.1 if reduction == "sum" else 1.55
    probes = [Probe(k, 1.7, 1.7, after, 2.0, {"0": 1.7, "0.1": 1.62, "1": after}) for k in (1, 100, 300)]
    return synthetic.training(synthetic.cross_entropy(reduction=reduction), state=state, optimizers=[sgd], probes=probes)
