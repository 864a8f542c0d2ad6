"""A tensor became NaN or infinite; this is the first one.

## What it means
NaN spreads: whatever is computed from it is NaN. After one step with a NaN gradient every weight is. So only the first
tensor that was not finite matters, and what made it.

## What is seen
The first of: an input of the model, a parameter after a step, a buffer, the output, the loss, a gradient of a finite
loss. Weights are looked at as well, because relu, clamp and where can hide a NaN behind a finite loss.

## Why training gets stuck
Comparisons with NaN are false and arithmetic with it is NaN, so no later step can repair the weights.

## Fix
By place. Input: missing values or a division by a standard deviation of 0. Loss written by hand: the fused version, or
a clamp inside the logarithm. Gradient of a finite loss: a square root or norm at 0; add a small constant inside.
Weights after a step: smaller learning rate, gradient clipping.

## Not to be confused with
Losses whose labels were all ignored: NaN is the consequence (D206). Overflows that a GradScaler catches, with a finite
loss afterwards: silent; at every step it is U408. -inf as a mask in attention scores is in order.

## References
torch.autograd.detect_anomaly; D. Goldberg, What every computer scientist should know about floating-point arithmetic,
ACM Computing Surveys 1991.
"""

from __future__ import annotations

import numpy as np

from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Facts, NonFinite
from unstuck.trace.trace import Series, Trace

CODE = "N701"
NEEDS = ("nonfinite",)
EXPLAINS = ("U408", "U410")

TAIL = 5  # recorded steps without a number, after steps that all had one

_FIXES = {
    "input": "Clean the inputs: missing values, and columns whose standard deviation is 0 before dividing by it.",
    "parameter": "Lower the learning rate, or clip the gradients (clip_grad_norm_), and check the step that is named.",
    "buffer": "Look at what the layer of this buffer was given; batch-norm statistics keep a NaN for ever.",
    "output": "Look at the operation named; keep arguments of exp, log, sqrt and divisions in their range.",
    "loss": "Use the fused loss (cross_entropy, binary_cross_entropy_with_logits) instead of logarithms by hand.",
    "gradient": "A square root, norm or division at 0 has no finite derivative: add a small constant inside of it.",
}


def check(trace: Trace) -> Finding | None:
    facts, series = trace.facts, trace.series
    if any(t.labels.calls and t.labels.all_ignored_calls == t.labels.calls for t in facts.terms):
        return None  # D206
    found = facts.nonfinite or _from_series(series)
    if found is None:
        return None
    after = _finite_afterwards(series, found.step)
    if after and facts.loop.skipped_steps:
        return None
    hinders = after and found.what in {"loss", "output", "input"}
    evidence = [Evidence(_text(found), value=found.share, unit="share" if found.share is not None else "",
                         source="values" if found.what != "gradient" else "graph")]  # fmt: skip
    ignored = [t for t in facts.terms if t.labels.all_ignored_calls]
    if ignored and found.what in {"loss", "gradient"}:
        labels = ignored[0].labels
        evidence.append(
            Evidence(
                f"In {labels.all_ignored_calls} of {labels.calls} calls of the loss every label was ignored, and the "
                "mean over no rows is NaN.",
                value=float(labels.all_ignored_calls), unit="calls", source="values",
            )
        )  # fmt: skip
    if hinders:
        evidence.append(Evidence("The loss was finite again afterwards.", source="statistics"))
    return Finding(
        CODE,
        "non-finite-values",
        "certain",
        f"{_subject(found)} became NaN or infinite{_when(found)}.",
        bearing="hinders" if hinders else "blocks",
        evidence=evidence,
        locations=_locations(facts, found),
        fix=Fix(
            _FIXES.get(found.what, _FIXES["loss"]), "unsafe" if found.what == "parameter" else "display",
            # A weight that broke while the numbers before it were finite was thrown away by its step.
            intervention=Intervention("scale-learning-rate", {"factor": 0.1}) if found.what == "parameter" else None,
        ),
    )


def _subject(found: NonFinite) -> str:
    match found.what:
        case "input":
            return f"An input ({found.name})" if found.name else "An input"
        case "parameter":
            return f"The parameter {found.name}"
        case "buffer":
            return f"The buffer {found.name}"
        case "output":
            return f"The output ({found.name})" if found.name else "The output"
        case "gradient":
            return f"The gradient of {found.name}" if found.name else "A gradient"
    return "The loss"


def _when(found: NonFinite) -> str:
    if found.what == "parameter":
        return f", seen after step {found.step}"
    if found.what == "input":
        return f" in the batch after step {found.step}" if found.step else " in the first batch"
    return f" after step {found.step}" if found.step else " at the first step"


def _text(found: NonFinite) -> str:
    detail = f": {found.detail}" if found.detail else ""
    match found.what:
        case "input":
            return f"The first tensor that was not finite is {found.name or 'an input of the model'}{detail}."
        case "parameter":
            return f"The first that was not finite is the parameter {found.name}, after step {found.step}{detail}."
        case "buffer":
            return f"The first that was not finite is the buffer {found.name}; the weights were finite{detail}."
        case "output":
            return f"Inputs and weights were finite; {found.name or 'the output of the model'} was not{detail}."
        case "gradient":
            return f"The loss was finite, and the gradient of {found.name or 'a parameter'} was not{detail}."
    if found.name:
        return f"Inputs, weights and output were finite; the loss was not{detail}."
    return f"The loss was not finite{detail}."


def _from_series(series: Series) -> NonFinite | None:
    """From the recorded losses alone: an infinite one, or numbers that stop while steps go on."""
    loss = series["loss"]
    if not len(loss):
        return None
    infinite = np.flatnonzero(np.isinf(loss))
    if len(infinite):
        return NonFinite("loss", step=max(0, int(series.steps[infinite[0]]) - 1), detail="infinite")
    # NaN also means not measured; where chance was measured at the same call the loss was looked at.
    missing = np.isnan(loss) & np.isfinite(series["chance"])
    first = int(np.argmax(missing)) if missing.any() else 0
    if first and np.isfinite(loss[:first]).all() and missing[first:].all() and len(loss) - first >= TAIL:
        return NonFinite("loss", step=max(0, int(series.steps[first]) - 1), detail="NaN from there on")
    return None


def _finite_afterwards(series: Series, step: int) -> bool:
    later = series["loss"][series.steps > step + 1]
    return len(later) >= TAIL and bool(np.isfinite(later[-TAIL:]).all())


def _locations(facts: Facts, found: NonFinite) -> list:
    term = facts.term
    return sites(
        found.site, term.site if term is not None else None,
        facts.loop.step_site if found.what == "parameter" else facts.loop.backward_site,
        *(o.made for o in facts.optimizers if o.steps and found.what == "parameter"),
    )  # fmt: skip


def in_order(trace: Trace) -> str:
    measured = trace.series.measured("loss")
    if not len(measured) or not np.isfinite(measured).all() or trace.facts.nonfinite is not None:
        return ""
    return f"all {len(measured)} recorded losses and the final weights are finite"


def sick() -> Trace:
    trace = synthetic.training(state="non-finite")
    trace.facts.nonfinite = NonFinite(
        "loss", "the loss", 19, "log of 3 numbers that are 0 or negative",
        site=synthetic.site(18, "return -torch.log(p).mean()", synthetic.TRAIN, "loss_of"),
    )  # fmt: skip
    return trace


def healthy() -> Trace:
    trace = synthetic.training(state="learning")
    trace.facts.loop.skipped_steps = 2
    return trace
