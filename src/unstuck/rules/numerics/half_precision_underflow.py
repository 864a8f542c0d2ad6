"""The weights are kept in half precision, and most of the updates are lost in rounding.

## What it means
A bfloat16 number has 8 significant bits: the next one after 1 is 1.008. An update smaller than half that spacing leaves
the weight bit for bit as it was, however often it is repeated. float16 has 11 bits, but cannot hold a number below 6e-8:
small gradients become 0.

## What is seen
Trained weights in float16 or bfloat16, and over most of the steps more than half of all entries that had a gradient came
out of the step unchanged, with a learning rate above 0. Or, in float16, more than half of the gradients of most weights
are exactly 0, beyond what dead units explain, while the loss is still high; the same with float32 weights under
autocast, where the factor of the loss over the number of rows is below what float16 can hold.

## Why training gets stuck
Rounding to nearest does not average out: an update under half of the spacing is lost every time. Progress ends where
updates fall below about 1/256 of the weights (bfloat16), which for weights of 0.1 is 2e-4.

## Fix
Keep the weights in float32 and compute in half precision: `torch.autocast(...)`, with a GradScaler for float16.
Otherwise stochastic rounding, or an optimizer with a float32 master copy.

## Not to be confused with
autocast with a sound loss scale: silent. A learning rate that is too low in float32 (S502), or 0 (U407). Gradients
that are exactly 0 because units are dead (I603) or the path is cut (G302). A GradScaler that skips its steps (U408).

## References
P. Micikevicius et al., Mixed precision training, ICLR 2018 (float32 master weights, loss scaling). P. Zamirai et al.,
Revisiting bfloat16 training, 2020.
"""

from __future__ import annotations

import math

import numpy as np

from unstuck import symptom
from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules import levels
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Parameter, ParameterLook
from unstuck.trace.trace import Trace

CODE = "N703"
NEEDS = ("parameters",)
EXPLAINS = ("U407", "U410", "U406", "S502", "G303")

LOST = 0.5  # the median entry does not move
LOW = 0.1  # of chance: a loss under it is low, and small updates are what is left to do
FEWEST_LOOKS = 2
SMALLEST, NORMAL = 2.0**-24, 2.0**-14  # of float16: the smallest number, and the smallest with all its digits
_SPACING = {"float16": "0.001", "bfloat16": "0.008"}  # relative: 2^-10, 2^-7


def check(trace: Trace) -> Finding | None:
    facts, state = trace.facts, symptom.of(trace)
    level = levels.chance(trace)
    if level is not None and state.loss is not None and state.loss < LOW * level:
        return None
    weights = [p for p in facts.parameters if p.trainable and len(p.shape) > 1 and p.looks]
    half = [p for p in weights if p.dtype in _SPACING]
    evidence = _lost(trace, half) or _flushed(trace, [p for p in half if p.dtype == "float16"])
    if evidence is not None:
        dtype = half[0].dtype
        rounded = evidence[0].unit == "share of updates"
        summary = f"The weights are kept in {dtype}, and most {'updates are rounded away' if rounded else 'gradients become 0'}."
        evidence.append(
            Evidence(
                f"{len(half)} weights are {dtype}: neighbouring numbers of the format are {_SPACING[dtype]} of their size "
                "apart.",
                source="values",
            )
        )  # fmt: skip
        fix = "Keep the weights in float32 and use torch.autocast for the forward pass (float16: with a GradScaler)."
    else:
        evidence = _autocast(trace, [p for p in weights if p.dtype == "float32"])
        if evidence is None:
            return None
        summary = "Gradients become 0 in half precision, because the loss is not scaled."
        fix = "Scale the loss: GradScaler around backward and step; or autocast with dtype=torch.bfloat16."
    term = facts.term
    made = [o.made for o in facts.optimizers if o.steps > 0]
    return Finding(
        CODE, "half-precision-underflow", "likely", summary, bearing="hinders", evidence=evidence,
        locations=sites(facts.made if half else None, *(p.made for p in half[:1]),
                        term.site if term is not None and not half else None, facts.loop.scaler_site, *made),
        fix=Fix(fix, "unsafe", intervention=Intervention("full-precision")),
        separating="Train the same model in float32.",
    )  # fmt: skip


def _lost(trace: Trace, half: list[Parameter]) -> list[Evidence] | None:
    """Share of the entries, over all half-precision weights, that an update left as they were."""
    rates = dict(zip(trace.series.steps.tolist(), trace.series["lr"].tolist()))
    usual = max((o.lr_largest or 0.0 for o in trace.facts.optimizers), default=0.0)
    shares, steps = [], []
    for step in sorted({k.step for p in half for k in p.looks}):
        rate = rates.get(step, math.nan)
        if trace.facts.optimizers and (usual if math.isnan(rate) else rate) <= 0:
            continue
        looks = [(math.prod(p.shape), k) for p in half for k in p.looks if k.step == step and k.grad_norm > 0]
        entries = sum(n for n, _ in looks)
        if entries and all(math.isfinite(k.lost) for _, k in looks):
            shares.append(sum(n * k.lost for n, k in looks) / entries)
            steps.append(step)
    if len(shares) < FEWEST_LOOKS:
        return None
    # Looks are dense at the start. Each one stands for the steps up to the next: what counts is most of the training.
    ends = [*steps[1:], max(levels.steps(trace), steps[-1]) + 1]
    spans = np.array([end - step for step, end in zip(steps, ends)], float)
    over, mean = np.array(shares) > LOST, float(np.average(shares, weights=spans))
    if float(np.average(over, weights=spans)) <= 0.5:
        return None
    text = (
        f"At {over.sum()} of {len(shares)} looks, which stand for {np.average(over, weights=spans):.0%} of the steps, more than "
        f"half of the weights that had a gradient were bit for bit the same after the step, {mean:.0%} of them on average."
    )
    return [Evidence(text, mean, "share of updates", "values")]


def _autocast(trace: Trace, weights: list[Parameter]) -> list[Evidence] | None:
    """float32 weights, numbers cast to float16 on the way: a gradient below 6e-8 is 0 before it reaches them.

    The gradient of a mean loss with respect to one logit is at most coefficient / rows. Below the smallest normal number
    of float16 even the largest of them lose digits, and below half of the smallest one all are 0.
    """
    term = trace.facts.term
    if term is None or "cast" not in trace.facts.operations or not term.input_shape or term.coefficient is None:
        return None
    rows = max(1, math.prod(term.input_shape) // max(1, term.classes or 1)) if term.reduction != "sum" else 1
    largest = term.coefficient / rows
    if not 0 < largest < NORMAL:
        return None
    flushed = _flushed(trace, weights, whole=largest < SMALLEST / 2)
    if flushed is None:
        return None
    text = (
        f"The gradient of one output is at most {term.coefficient:.3g} / {rows} = {largest:.2g}; the smallest number of "
        f"float16 is {SMALLEST:.1g}, and numbers are cast on the way to the loss."
    )
    return [*flushed, Evidence(text, largest, "1")]


def _flushed(trace: Trace, weights: list[Parameter], whole: bool = False) -> list[Evidence] | None:
    """Gradients that are exactly 0, where neither dead units nor rows of a table that were not asked for do it."""
    facts = trace.facts
    tables = {name for layer in facts.layers if layer.op == "embedding" for name in layer.parameters}
    weights = [p for p in weights if p.name not in tables and p.reached]
    dead = max((d for layer in facts.layers for d in levels.looks(layer.looks, "dead")), default=0.0)
    idle = max((i.constant_columns or 0.0 for i in facts.inputs), default=0.0)
    zero = [np.mean([k.zero_gradients for k in p.looks]) for p in weights if len(p.looks) >= FEWEST_LOOKS]
    # An entry is 0 without any underflow where its unit is dead or its input is: at most the two shares together.
    flushed = [z for z in zero if np.isfinite(z) and z > max(LOST, dead + idle)]
    # All of them at exactly 1 is a gradient that is cut or zeroed, not one that became small.
    if not zero or 2 * len(flushed) <= len(zero) or (min(zero) >= 1 and not whole):
        return None
    text = (
        f"In {len(flushed)} of {len(zero)} weights more than half of the gradient is exactly 0, {np.mean(flushed):.0%} on "
        "average."
    )
    return [Evidence(text, float(np.mean(flushed)), "share of gradients", "values")]


def in_order(trace: Trace) -> str:
    kinds = sorted({p.dtype for p in trace.facts.parameters if p.trainable and p.dtype})
    return f"the weights are kept in {', '.join(kinds)}" if kinds and not set(kinds) & set(_SPACING) else ""


def sick() -> Trace:
    return _example("bfloat16", lost=0.93, state="at-chance")


def healthy() -> Trace:
    return _example("bfloat16", lost=0.2, state="learning")


def _example(dtype: str, lost: float, state: str, zero: float = 0.0) -> Trace:
    weights = [
        Parameter(name, shape, reached=True, held=True, gradient="nonzero", changed=True, dtype=dtype, order=i,
                  first_rms=0.07, fan_in=64, equal_rows_first=0.0, equal_rows=0.0,
                  looks=[ParameterLook(k, 4.6, 0.05, 2e-3, zero, lost=lost) for k in (1, 50, 100, 200, 400)])
        for i, (name, shape) in enumerate([("body.weight", [64, 64]), ("head.weight", [5, 64])])
    ]  # fmt: skip
    made = synthetic.site(11, "model = Net().bfloat16()", synthetic.TRAIN, "<module>")
    return synthetic.training(state=state, parameters=weights, made=made)
