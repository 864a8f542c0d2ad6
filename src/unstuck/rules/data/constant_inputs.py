"""Every sample that the network sees is the same.

## What it means
Whatever the data on disk look like, what arrives carries no information about the sample: zeros from a failed read, one
row repeated by a wrong index, integers divided by 255 as integers, a normalisation over the wrong axis, a mask that
removes everything.

## What is seen
All rows of every tensor given to the model are equal, over at least two calls and eight rows; or no column of any of
them ever varies; or the rows differ, and at the first layer with weights they are all the same. The labels vary.

## Why training gets stuck
The output is one and the same for all samples, so the best answer is the base rates of the labels: H(pi) nats and the
share of the most frequent class.

## Fix
Print two different samples, and their difference, at each stage of the pipeline from the file to the model.

## Not to be confused with
A constant mask or position beside inputs that vary: silent. Padding. One batch for ever (D209), whose rows differ.
Labels that are all the same (D210). Inputs that vary and do not determine the labels (D202).

## References
Information: H(y | constant) = H(y), so cross-entropy cannot fall below the entropy of the labels.
"""

from __future__ import annotations

from unstuck import symptom
from unstuck.findings import Evidence, Finding, Fix
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Inputs, LabelStats, Layer, LayerLook
from unstuck.trace.trace import Trace

CODE = "D204"
NEEDS = ("inputs",)
EXPLAINS = ("D202", "D203", "D207", "D209", "I601", "I603", "I605", "S502")

ROWS, CALLS = 8, 2
# Rows that are equal bit for bit can differ from their computed mean by a rounding: (6e-8)^2 of the mean square.
EQUAL = 1e-12
_KINDS = frozenset({"index", "binary", "one-hot", "integer", "probability"})


def check(trace: Trace) -> Finding | None:
    facts = trace.facts
    term = facts.term
    # Fitting one image from a constant, or a bandit without a state, is meant: classes that vary must be asked for.
    if term is None or facts.loop.adversarial or facts.loop.unjudged or not _labels_vary(term.labels):
        return None
    if symptom.of(trace).learns:
        return None  # what the labels depend on enters some other way
    data = [i for i in facts.inputs if i.kind in {"real", "ids"}]
    texts = [_constant(i) for i in data]
    loaders = [loader.made for loader in facts.loaders]
    if data and all(texts):
        return _finding(
            "Every sample the model is given is the same.",
            [Evidence(text, float(i.rows), "rows", "values") for i, text in zip(data, texts)],
            sites(*(i.site for i in data), *loaders),
        )
    inside = _inside(facts.layers)
    if inside is not None and not {"embedding", "index"} & set(facts.operations):  # data may enter through a table
        layer, rows = inside
        return _finding(
            f"The samples differ, and what enters {layer.name} is the same for all of them.",
            [
                Evidence(
                    f"In all {len(layer.looks)} looks ({rows} rows) every row that entered {layer.name} was the same.",
                    value=float(rows), unit="rows", source="values",
                )
            ],
            sites(layer.site, layer.made, *(i.site for i in data)),
        )  # fmt: skip
    return None


def _labels_vary(labels: LabelStats) -> bool:
    if labels.kind not in _KINDS:
        return False
    if labels.counts:
        return sum(n > 0 for n in labels.counts) > 1
    return labels.lowest is not None and labels.lowest != labels.highest


def _constant(given: Inputs) -> str:
    if given.rows < ROWS or given.calls < CALLS or given.nonfinite_calls:
        return ""  # rows of NaN are all alike, too: D208
    name = given.name or "the input"
    value = f" ({given.lowest:g} everywhere)" if given.lowest is not None and given.lowest == given.highest else ""
    if given.distinct_rows == 1:
        return f"All {given.rows} captured rows of {name}, from {given.calls} calls, are the same{value}."
    if given.constant_columns == 1.0:
        return f"Not one column of {name} varies over {given.rows} rows from {given.calls} calls{value}."
    return ""


def _inside(layers: list[Layer]) -> tuple[Layer, int] | None:
    """The first layer that data enters, and the rows seen, if rows are the same in every look at every such layer."""
    entered = [layer for layer in layers if layer.data and layer.of == "input" and layer.looks]
    for layer in entered:
        if not all(k.rows > 1 and k.spread is not None and 0 <= k.spread <= EQUAL for k in layer.looks):
            return None
        if len(layer.looks) < CALLS or sum(k.rows for k in layer.looks) < ROWS:
            return None
    return (entered[0], sum(k.rows for k in entered[0].looks)) if entered else None


def _finding(summary: str, evidence: list[Evidence], locations: list) -> Finding:
    return Finding(
        CODE, "constant-inputs", "certain", summary, bearing="blocks", evidence=evidence, locations=locations,
        fix=Fix("Compare two samples at each stage from the file to the model; repair the first stage where they are equal."),
    )  # fmt: skip


def in_order(trace: Trace) -> str:
    data = [i for i in trace.facts.inputs if i.kind in {"real", "ids"} and i.distinct_rows > 1]
    return f"{data[0].distinct_rows} different rows among {data[0].rows} captured ones" if data else ""


def sick() -> Trace:
    return _example(distinct=1, state="at-chance")


def healthy() -> Trace:
    return _example(distinct=1280, state="learning")


def _example(distinct: int, state: str) -> Trace:
    same = distinct == 1
    line = synthetic.site(40, "out = model(x)", synthetic.TRAIN, "train")
    return synthetic.training(
        state=state,
        inputs=[
            Inputs("x", "real", [64, 30], "float32", calls=20, rows=1280, lowest=0.0 if same else -3.0,
                   highest=0.0 if same else 3.0, mean=0.0, rms=0.0 if same else 1.0,
                   constant_columns=1.0 if same else 0.0, distinct_rows=distinct, site=line),
            Inputs("mask", "bool", [64, 30], "bool", calls=20, rows=1280, distinct_rows=1, site=line),
        ],
        layers=[
            Layer("linear", "input", [64, 30], 64, synthetic.site(20, "x = self.fc1(x)"), parameters=["fc1.weight"],
                  data=True, looks=[LayerLook(k, 64, rms=0.0 if same else 1.0, spread=0.0 if same else 0.9)
                                    for k in (1, 100)]),
        ],
    )  # fmt: skip
