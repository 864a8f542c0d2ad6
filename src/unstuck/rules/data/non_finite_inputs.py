"""The inputs hold NaN or infinite numbers, and the loss is not a number because of it.

## What it means
Missing values that were read as NaN, a logarithm of 0, or a column divided by its standard deviation of 0.

## What is seen
The first tensor that was not finite is an input of the model, or inputs with such entries were seen; and the loss was
not finite.

## Why training gets stuck
One NaN in one row makes the mean loss of the batch NaN, the gradient of every weight with it, and after the step every
weight.

## Fix
Fill or drop missing values (`torch.nan_to_num`, an imputer fitted on the training set, and a column that says which were
missing); add a small constant to the standard deviation before dividing.

## Not to be confused with
NaN that is masked on purpose before the first layer: the loss stays finite, silent. -inf in attention masks. Finite
inputs whose loss becomes NaN later (N701).

## References
IEEE 754: comparisons with NaN are false and arithmetic with it is NaN. sklearn.impute.SimpleImputer.
"""

from __future__ import annotations

import numpy as np

from unstuck.findings import Evidence, Finding, Fix
from unstuck.rules import levels
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Inputs, NonFinite
from unstuck.trace.trace import Trace

CODE = "D208"
NEEDS = ("inputs",)
EXPLAINS = ("N701", "N702", "U408", "S501", "D203", "G304")

TAIL = 5  # finite losses at the end: the bad batches were left out, or their steps


def check(trace: Trace) -> Finding | None:
    facts = trace.facts
    first = facts.nonfinite
    named = first is not None and first.what == "input"
    bad = [i for i in facts.inputs if i.nonfinite_calls > 0]
    if not named and not bad:
        return None
    if first is not None and not named and _before_the_inputs(trace, first):
        return None
    if not levels.broke(trace):
        return None
    evidence = []
    if named:
        detail = f": {first.detail}" if first.detail else ""
        evidence.append(
            Evidence(f"The first tensor that was not finite is {first.name or 'an input of the model'}{detail}.",
                     value=first.share, unit="share" if first.share is not None else "", source="values")
        )  # fmt: skip
    for given in bad:
        evidence.append(
            Evidence(
                f"{given.nonfinite_calls} of {given.calls} batches of {given.name or 'the input'} hold NaN or infinite "
                f"numbers ({given.nonfinite_share:.2g} of all entries).",
                value=given.nonfinite_share, unit="share", source="values",
            )
        )  # fmt: skip
    evidence.append(Evidence("The loss was not a number.", source="values"))
    loss = trace.series["loss"]
    recovers = len(loss) >= TAIL and bool(np.isfinite(loss[-TAIL:]).all())
    if recovers:
        evidence.append(Evidence("It was one again afterwards.", source="values"))
    return Finding(
        CODE, "non-finite-inputs", "certain", "The inputs hold NaN or infinite numbers.",
        bearing="hinders" if recovers else "blocks", evidence=evidence,
        locations=sites(
            first.site if named else None, *(i.site for i in bad), *(loader.made for loader in facts.loaders),
            *(i.site for i in facts.inputs[:1]),
        ),
        fix=Fix("Fill or drop missing values, and never divide by a standard deviation of 0."),
    )  # fmt: skip


def _before_the_inputs(trace: Trace, first: NonFinite) -> bool:
    """Weights that broke by themselves are another fault. Inputs are captured in the first calls, so a break that came
    after steps with finite losses did not come from them."""
    if first.what in {"parameter", "buffer", "gradient"} and first.step > 0:
        before = trace.series.where(trace.series.steps <= first.step)
        return bool(len(before)) and not levels.not_finite(before).any()
    return False


def in_order(trace: Trace) -> str:
    rows = sum(i.rows for i in trace.facts.inputs if not i.nonfinite_calls)
    return f"all {rows} captured input rows are finite" if rows else ""


def sick() -> Trace:
    trace = _example(bad=20, state="non-finite")
    trace.series.columns["loss"][:] = np.nan
    return trace


def healthy() -> Trace:
    return _example(bad=0, state="learning")


def _example(bad: int, state: str) -> Trace:
    return synthetic.training(
        state=state,
        inputs=[
            Inputs("x", "real", [64, 30], "float32", calls=20, rows=1280, lowest=-3.0, highest=3.0, mean=0.0, rms=1.0,
                   constant_columns=0.0, distinct_rows=1280, nonfinite_calls=bad, nonfinite_share=0.002 if bad else 0.0,
                   site=synthetic.site(40, "out = model(x)", synthetic.TRAIN, "train")),
        ],
    )  # fmt: skip
