"""One class is far more frequent than the others, and the network always answers it.

## What it means
With 97 % of one class the answer "always that one" scores 97 % and a loss of H(pi). To do better the network must find
the rare samples, whose gradient is a few per cent of each batch.

## What is seen
The entropy of the labels is under 0.9 ln K, at least 98 % of the answers are the majority class (or the answers are right no
more often than if all were), and of the rows of rare classes, each asked for at least 20 times, no more than one in twenty was
right, whether the loss stands or falls; and the inputs do say something about the labels.

## Why training gets stuck
The average gradient first moves the biases to the base rates. After that the rare class contributes pi of the gradient
only, so its features are learned 1/pi times more slowly than in balanced data.

## Fix
Class weights (`CrossEntropyLoss(weight=n / (K * counts))`, pos_weight for two classes), or a WeightedRandomSampler that
balances the batches. Judge by recall per class.

## Not to be confused with
Any other fault that leaves a network at its base rates: those with evidence of their own come first and explain this
one. Labels that do not depend on the inputs (D202). Class weights that are set already: silent.

## References
N. Japkowicz, S. Stephen, The class imbalance problem, 2002. E. Francazi, M. Baity-Jesi, A. Lucchi, ICML 2023 (the rare
class at the start of training). H(pi): CLOSED FORMS, entropy of the labels.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from unstuck import symptom
from unstuck.findings import Evidence, Finding, Fix, Grade, Intervention
from unstuck.rules import levels
from unstuck.rules.learnable import learnable
from unstuck.rules.paths import at, sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Facts, LossTerm
from unstuck.trace.trace import Pairs, Series, Trace

CODE = "D207"
NEEDS = ("labels",)
COSTLY = True

EVEN = 0.9  # of ln K. For two classes H = 0.9 ln 2 is a share of 0.69: below it guessing the majority is nearly a habit
ALWAYS = 0.98  # the band of the symptom, on answers
ENOUGH = 20  # rows of a class: with a recall of 14 % one of them would be right in 95 of 100 cases
STATES = frozenset({"at-prior", "at-chance", "constant", "plateau", "slow", "learning"})
MISSED = 0.05  # of the rare rows: nineteen in twenty are not found, whatever the rest of the answers says
PASSES = 3  # over the data: before, a rare class may just not have had its turn
_LOSSES = frozenset({"cross-entropy", "nll", "bce", "bce-logits"})


def check(trace: Trace) -> Finding | None:
    term = trace.facts.term
    state = symptom.of(trace)
    if term is None or term.kind not in _LOSSES or term.sample_weighted:
        return None
    if state.name not in STATES and not (state.name == "too-early" and _passes(trace) >= PASSES):
        return None
    labels = term.labels
    counts = np.asarray(labels.counts, float)
    if len(counts) < 2 or not counts.sum() > 0 or (counts > 0).sum() < 2:
        return None
    given = _weights(term, len(counts))
    if given is None:
        return None
    shares = counts * given / (counts * given).sum()  # of the loss
    if shares.max() < counts.max() / counts.sum():
        return None  # the weights work against the imbalance
    entropy = float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())
    if entropy >= EVEN * math.log(len(counts)):
        return None
    major = int(shares.argmax())
    answers = _answers(term, major, len(counts))
    if answers is None:
        return None
    share, rare, right, gain = answers
    if (share < ALWAYS and gain > 0) or not rare or right > MISSED * rare:
        return None
    known = learnable(trace)
    if known is not None and known.absent:
        return None  # D202: there is nothing to find
    grade: Grade = "likely" if known is not None and known.found else "possible"
    evidence = [
        Evidence(
            (
                f"{shares[major]:.1%} of {counts.sum():.0f} labels are class {major}: always answering the base rates scores "
                f"{entropy:.4g} nats."
                if (given == given[0]).all()
                else f"{counts[major] / counts.sum():.1%} of {counts.sum():.0f} labels are class {major}, and the class weights "
                f"make its share of the loss {shares[major]:.1%}."
            ),
            value=float(shares[major]), unit="share", source="values",
        ),
        Evidence(
            f"{share:.1%} of the recent answers were class {major}; of {rare} recent rows of other classes {right or 'none'} "
            f"{'were' if right > 1 else 'was'} right.",
            value=share, unit="share", source="values",
        ),
    ]  # fmt: skip
    if known is not None:
        evidence.append(Evidence(known.sentence(), source="statistics"))
    # N / (K n_k): the mean over the samples stays 1. A class without a sample is in no loss, whatever its weight.
    weights = [float(f"{counts.sum() / (len(counts) * n):.4g}") if n > 0 else 1.0 for n in counts]
    loaders = [one.made for one in trace.facts.loaders]
    return Finding(
        CODE, "class-imbalance", grade,
        f"{counts[major] / counts.sum():.0%} of the labels are class {major}, and the network answers nothing else.",
        bearing="hinders" if grade == "likely" else "choice",
        # The inputs do tell, the data were gone through, and not one rare row in twenty is found: whatever the loss does.
        shown=grade == "likely" and _passes(trace) >= PASSES,
        evidence=evidence, locations=sites(term.made, term.site, *loaders),
        fix=Fix(
            "Weight the classes by the inverse of their frequency, or balance the batches with a WeightedRandomSampler.",
            "unsafe", intervention=Intervention("class-weights", {"weights": weights, **at(term.made or term.site)}),
        ),
        separating="Train again with class weights n / (K * counts) and compare the recall of the rare classes.",
    )  # fmt: skip


def _weights(term: LossTerm, classes: int) -> np.ndarray | None:
    """The weight of each class in the loss; None where they cannot be read."""
    if term.pos_weight:
        return np.array([1.0, term.pos_weight[0]]) if classes == 2 and len(term.pos_weight) == 1 else None
    if not term.weight:
        return np.ones(classes)
    given = np.asarray(term.weight, float)
    return given if len(given) == classes and np.isfinite(given).all() and (given > 0).all() else None


def _passes(trace: Trace) -> float:
    """How often the data were gone through, where captured rows repeat; 0 where that is not known."""
    given = next((i for i in trace.facts.inputs if i.distinct_rows and i.rows > i.distinct_rows), None)
    rows = given.shape[0] if given is not None and given.shape else 0
    return levels.steps(trace) * rows / given.distinct_rows if given is not None else 0.0


def _answers(term: LossTerm, major: int, classes: int) -> tuple[float, int, int, float] | None:
    """(share of answers that are the majority, recent rows of rare classes with enough of them, those answered right, right
    answers beyond those of always naming the majority)."""
    labels = term.labels
    if not len(labels.predicted) == len(labels.seen) == len(labels.hits) == classes or sum(labels.predicted) <= 0:
        return None
    rare = [c for c in range(classes) if c != major and labels.seen[c] >= ENOUGH]
    share = labels.predicted[major] / sum(labels.predicted)
    gain = sum(labels.hits) - labels.seen[major]
    return share, int(sum(labels.seen[c] for c in rare)), int(sum(labels.hits[c] for c in rare)), gain


def in_order(trace: Trace) -> str:
    term = trace.facts.term
    counts = term.labels.counts if term is not None else []
    if len(counts) < 2 or sum(counts) <= 0:
        return ""
    return f"the most frequent class has {max(counts) / sum(counts):.0%} of the labels"


def sick() -> Trace:
    return _example(rare=0.03, state="at-prior")


def healthy() -> Trace:
    return _example(rare=0.5, state="learning")


@cache
def _pairs(rare: float) -> Pairs:
    rng = np.random.default_rng(0)
    y = (np.arange(240) % 40 < 40 * rare).astype(np.int64)
    x = (rng.normal(size=(240, 6)) + 2.5 * y[:, None]).astype(np.float32)
    return Pairs(x, y, np.repeat(np.arange(4), 60), columns=6)


@cache
def _examined(rare: float) -> object:
    return learnable(Trace(Facts(), Series.empty(), _pairs(rare)))


def _example(rare: float, state: str) -> Trace:
    term = synthetic.cross_entropy(classes=2)
    labels, n = term.labels, term.labels.kept
    labels.counts = [n * (1 - rare), n * rare]
    labels.seen = [3200 * (1 - rare), 3200 * rare]
    stuck = state != "learning"
    labels.predicted = [3200.0, 0.0] if stuck else labels.seen
    labels.hits = [3200 * (1 - rare), 0.0] if stuck else labels.seen
    trace = synthetic.training(term, state=state)
    trace.pairs = _pairs(rare)
    if stuck:
        trace.known["learnable"] = _examined(rare)  # seconds of work, done once
    return trace
