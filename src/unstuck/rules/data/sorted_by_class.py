"""The data are fed in the order of their classes: each batch holds one class, or a few, and the next batches the same.

## What it means
Files are often written class by class. Without shuffling the network sees class 0 for a while, then class 1, and each
time learns to answer what it is being shown.

## What is seen
Among the captured labels the batches hold fewer classes than shuffled ones would, more than half of the way down to a
single one, and one label follows another far more rarely than by chance. Where the loss is seen to jump from under half
of chance to above it again and again, it shows the order of the classes as a saw-tooth.

## Why training gets stuck
Within a stretch of one class the best answer does not depend on the input: the biases follow the stretch. The gradient
of a batch is no longer an unbiased sample of the gradient of the whole, and what one stretch learns the next one undoes.

## Fix
`DataLoader(..., shuffle=True)`, or a new `torch.randperm(n)` at the start of every epoch.

## Not to be confused with
The whole data set in one batch: the order inside a batch does not matter, silent. Samplers that put few classes into a
batch on purpose (metric learning): a cause only where the training is stuck. Few classes overall (D210), rare ones
(D207).

## References
A. M. Mood, The distribution theory of runs, Ann. Math. Statist. 11 (1940). L. Bottou, Stochastic gradient descent
tricks, 2012 (shuffle). M. McCloskey, N. Cohen, 1989 (catastrophic interference).
"""

from __future__ import annotations

import math

import numpy as np

from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules import levels
from unstuck.rules.paths import at, sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Inputs, Loader
from unstuck.trace.trace import Pairs, Trace

CODE = "D205"
NEEDS = ("pairs",)
EXPLAINS = ("S501", "D207")

ROWS, BATCHES = 40, 4
LEVEL = 0.001  # the smallest p-value that the 999 permutations can give
RARE = -5.0  # standard deviations of the number of runs: p < 3e-7
ALMOST_SURE = math.log(1e-6)
TEETH = 2
_USUAL = frozenset({"", "SequentialSampler", "RandomSampler", "BatchSampler"})


def check(trace: Trace) -> Finding | None:
    pairs = trace.pairs
    if pairs is None or len(pairs.y) < ROWS or len(np.unique(pairs.batch)) < BATCHES:
        return None
    evidence = _one_class(trace, pairs) or _purer(trace, pairs)
    if evidence is None:
        return None
    loaders = trace.facts.loaders
    sampled = [one for one in loaders if one.sampler not in _USUAL]
    plain = [one for one in loaders if one.shuffled is False and one not in sampled]
    found = [evidence]
    if plain:
        rows = f" of {plain[0].rows} rows" if plain[0].rows else ""
        found.append(Evidence(f"The DataLoader{rows} does not shuffle.", source="loop"))
    teeth = _teeth(trace)
    if teeth >= TEETH:
        found.append(
            Evidence(
                f"{teeth} times the loss jumped from under half of chance to above chance from one recorded step to the next.",
                value=float(teeth), unit="jumps", source="statistics",
            )
        )  # fmt: skip
    return Finding(
        CODE, "sorted-by-class", "likely", "The data are fed in the order of their classes.",
        evidence=found,
        locations=sites(*(s for one in plain for s in (one.made, one.site)), *(i.site for i in trace.facts.inputs[:1])),
        fix=Fix(
            "Shuffle: DataLoader(..., shuffle=True), or a new random permutation of the rows in every epoch.",
            # Rows that the script slices by hand cannot be put in another order from outside.
            "safe" if plain else "display", intervention=Intervention("shuffle", at(plain[0].made)) if plain else None,
        ),
        shown=teeth >= TEETH,
        separating="" if teeth >= TEETH else "Shuffle the rows and train again with everything else as it is.",
    )  # fmt: skip


def _purer(trace: Trace, pairs: Pairs) -> Evidence | None:
    if len(np.unique(pairs.y)) < 2 or runs_deviation(pairs.y) > RARE:
        return None
    if "sorted_by_class" not in trace.known:
        from unstuck.stats import dependence  # heavy: scipy

        trace.known["sorted_by_class"] = dependence.sorted_by_class(pairs.y, pairs.batch)
    test = trace.known["sorted_by_class"]
    if test.expected_distinct > 1.5:
        # Half of the way from what shuffling gives down to one class per batch.
        if test.p_value > LEVEL or test.distinct > (1 + test.expected_distinct) / 2:
            return None
        # Rows in the order of their classes change the label less than once a batch. A time series, whose labels hold for a
        # few rows and then change, does so more often: its order may be meant.
        if test.runs > test.batches:
            return None
    elif test.runs > (len(np.unique(pairs.y)) + test.expected_runs) / 2:
        return None  # batches of a single sample, or nearly: the order of the batches is all there is
    return Evidence(
        f"A batch holds {test.distinct:.1f} classes on average, shuffled labels would give {test.expected_distinct:.1f}; "
        f"over {test.n} labels in {test.batches} batches the label changes {test.runs - 1} times, shuffled "
        f"{test.expected_runs - 1:.0f} times.",
        value=test.distinct, unit="classes", source="statistics",
    )  # fmt: skip


def runs_deviation(y: np.ndarray) -> float:
    """Number of runs of equal labels, in standard deviations from its mean under shuffling (Mood 1940, k kinds)."""
    n = float(len(y))
    counts = np.unique(y, return_counts=True)[1].astype(np.float64)
    squares, cubes = (counts**2).sum(), (counts**3).sum()
    mean = 1 + n - squares / n
    variance = (squares * (squares + n * (n + 1)) - 2 * n * cubes - n**3) / (n**2 * (n - 1)) if n > 1 else 0.0
    runs = 1 + float((np.diff(y) != 0).sum())
    return (runs - mean) / math.sqrt(variance) if variance > 0 else 0.0


def _one_class(trace: Trace, pairs: Pairs) -> Evidence | None:
    """Capturing ended before the second class came: n labels drawn from the mixture are all c with probability pi_c^n."""
    term = trace.facts.term
    values = np.unique(pairs.y)
    if len(values) != 1 or term is None or not 0 <= values[0] < len(term.labels.counts):
        return None
    counts = term.labels.counts
    share = counts[int(values[0])] / sum(counts) if sum(counts) > 0 else 0.0
    if not 0 < share < 1 or len(pairs.y) * math.log(share) > ALMOST_SURE:
        return None
    return Evidence(
        f"The first {len(pairs.y)} labels were all {values[0]}; of all labels {share:.0%} are.",
        value=float(len(pairs.y)), unit="rows", source="statistics",
    )  # fmt: skip


def _teeth(trace: Trace) -> int:
    """How often the loss jumps from under half of chance to above it: what was learned fails on what comes next."""
    level = levels.chance(trace)
    loss = trace.series["loss"]
    loss = loss[np.isfinite(loss)]
    return int(((loss[:-1] < 0.5 * level) & (loss[1:] > level)).sum()) if level is not None and len(loss) > 1 else 0


def in_order(trace: Trace) -> str:
    pairs = trace.pairs
    if pairs is None or len(pairs.y) < ROWS or len(np.unique(pairs.y)) < 2:
        return ""
    runs = 1 + int((np.diff(pairs.y) != 0).sum())
    return f"the order of {len(pairs.y)} captured labels looks shuffled: {runs} runs" if runs_deviation(pairs.y) > -3 else ""


def sick() -> Trace:
    trace = _example(np.repeat(np.arange(5), 128), False)
    n = np.arange(len(trace.series))
    # Saw-tooth: at chance where a class begins, learned within its stretch.
    trace.series.columns["loss"] = 0.05 + 1.9 * np.exp(-(n % 20) / 3.0)
    return trace


def healthy() -> Trace:
    return _example(np.random.default_rng(0).permutation(np.repeat(np.arange(5), 128)), True)


def _example(y: np.ndarray, shuffled: bool) -> Trace:
    rng = np.random.default_rng(1)
    made = synthetic.site(9, f"loader = DataLoader(data, batch_size=64, shuffle={shuffled})", synthetic.TRAIN, "<module>")
    x = (np.eye(5)[y] @ rng.normal(size=(5, 10)) + rng.normal(size=(len(y), 10))).astype(np.float32)
    trace = synthetic.training(
        state="learning",
        loaders=[Loader(640, 64, 10, shuffled, "RandomSampler" if shuffled else "SequentialSampler", made, 40, 400, 10)],
        inputs=[Inputs("x", "real", [64, 10], "float32", calls=400, rows=640, rms=1.4, distinct_rows=640,
                       site=synthetic.site(40, "out = model(x)", synthetic.TRAIN, "train"))],
    )  # fmt: skip
    trace.pairs = Pairs(x, y.astype(np.int64), np.repeat(np.arange(10), 64), columns=10)
    return trace
