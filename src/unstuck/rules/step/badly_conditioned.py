"""The directions that matter are too flat: at the largest stable step they do not move within this run.

## What it means
Plain gradient descent has one step length for all directions. The steepest one limits it; a direction whose curvature is
kappa times smaller needs kappa times as many steps.

## What is seen
The inputs, as they enter the first layer, vary on very different scales: the largest eigenvalue of their second moments is
so much larger than others that, at the largest stable rate, those directions need more steps than the run has. And these
directions matter: a logistic regression on standardised columns of the same samples is better than the network by more
than a tenth of chance. The optimizer is not an adaptive one, fewer than half of the probed steps were too long, and the
loss crawls: its second half fell by less than a quarter of its first half.

## Why training gets stuck
The loss falls along the steep directions in the first steps and then crawls.

## Fix
Standardise the columns, or use an optimizer that scales each weight's step by itself (Adam).

## Not to be confused with
Inputs so large that the loss starts far above chance (D203). A learning rate too low for every direction (S502), or too
high (S501). A run that is merely short: its loss still falls.

## References
Y. LeCun et al., Efficient BackProp, 1998, sections 4.3 and 5.2. S. Boyd, L. Vandenberghe, Convex Optimization, 9.3.
"""

from __future__ import annotations

import numpy as np

from unstuck import symptom
from unstuck.findings import Evidence, Finding, Fix, Intervention
from unstuck.rules import levels
from unstuck.rules.learnable import clearly_better, learnable, linear_probe, whitened
from unstuck.rules.paths import sites
from unstuck.rules.step import learning_rate_too_high
from unstuck.trace import synthetic
from unstuck.trace.trace import Pairs, Trace

CODE = "S505"
NEEDS = ("pairs", "layers", "optimizers")
COSTLY = True
EXPLAINS = ("I605", "D207", "S502", "S501")  # a rate at which the flat directions move is too long for the steep ones
SHORTEST = 0.05  # of the largest stable rate: shorter steps than that are S502's affair
CRAWL = 0.5  # of the first half's decrease: a loss that falls in proportion to its height loses more where steps are left


def check(trace: Trace) -> Finding | None:
    state = symptom.of(trace)
    if not state.judged or state.learns or state.name in {"diverging", "non-finite", "above-chance"}:
        return None
    level, steps = levels.chance(trace), levels.steps(trace)
    stepping = [o for o in trace.facts.optimizers if o.steps]
    # Rates per weight (Adam) and curvature estimates (L-BFGS) are the remedy.
    if level is None or state.loss is None or not steps or any(o.adaptive or "LBFGS" in o.kind for o in stepping):
        return None
    probes = trace.facts.probes
    if learning_rate_too_high.check(trace) is not None:
        return None
    if not (state.underachieves or _crawls(trace, level)):
        return None
    first = next((x for x in trace.facts.layers if x.data and x.op in {"linear", "matmul"}), None)
    pairs = trace.pairs
    if first is None or pairs is None or pairs.kind != "real" or pairs.x.shape[1] < 2:
        return None
    values = _eigenvalues(pairs.x)
    # At the largest stable rate 2 / l_max a direction of curvature l shrinks its error by e^(-2 l n / l_max) in n steps:
    # below l_max / 2n it keeps more than 1/e of it. Momentum m makes n count 1 / (1 - m) times.
    reach = steps / max(1e-3, 1 - max((o.momentum for o in stepping), default=0.0))
    # This training's rate is the share 1 - r of the largest stable one, r its trust ratio: on a quadratic r = 1 - rate l / 2.
    ratios = [r for p in probes if (r := levels.trust(p)) is not None]
    reach *= min(1.0, max(SHORTEST, 1 - float(np.median(ratios)))) if ratios else 1.0
    still = values < values[-1] / (2 * reach)
    if not values[-1] > 0 or not still.any() or not _matter(pairs, 2 * reach / values[-1]):
        return None
    best, turned = linear_probe(learnable(trace)), False
    if not clearly_better(best, state.loss, level):
        best, turned = linear_probe(whitened(trace)), True
    if best is None or not clearly_better(best, state.loss, level):
        return None
    kappa = float(values[-1] / max(values[0], values[-1] * 1e-12))
    return Finding(
        CODE,
        "badly-conditioned",
        "likely",
        f"The inputs vary on very different scales: {int(still.sum())} of {len(values)} directions cannot move in {steps} steps.",
        bearing="hinders",
        evidence=[
            Evidence(
                f"The second moments of the inputs have a condition number of {kappa:.2g}; at the length of "
                f"these steps {int(still.sum())} of their {len(values)} directions need more than the {steps} steps of this run.",
                value=kappa, unit="1", source="statistics",
            ),
            Evidence(
                f"A linear classifier on {best.rows:,} of your own samples, their {'directions' if turned else 'columns'} brought "
                f"to one scale, reaches {best.loss:.3g} nats (cross-validated); the network is at {state.loss:.4g}.",
                best.loss, "nats", "statistics",
            ),
        ],
        locations=sites(*(o.made for o in stepping), *(i.site for i in trace.facts.inputs)),
        fix=Fix(
            "Standardise each column ((x - mean) / std), or use Adam, which scales each weight's step by itself.", "unsafe",
            # Scaling the columns does nothing against columns that repeat each other.
            intervention=Intervention("adaptive-optimizer") if turned else Intervention("standardise-inputs"),
        ),
        separating="Train with standardised columns, and with Adam, everything else as it is.",
    )  # fmt: skip


def _matter(pairs: Pairs, pace: float) -> bool:
    """Do the labels need the directions that stand still? A direction of variance l keeps e^(-pace l) of its error: of what
    least squares of the class indicators explain, less than half must be explained by then."""
    z = np.asarray(pairs.x, dtype=np.float64)
    keep = np.isfinite(z).all(1)
    z, y = z[keep][:2048], np.asarray(pairs.y)[keep][:2048]
    if len(z) < 20:
        return False
    target = (y[:, None] == np.unique(y)[None]).astype(np.float64)
    target -= target.mean(0)
    centred = z - z.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(z))
    use = values > max(values[-1], 1e-300) * 1e-13
    scores = centred @ vectors[:, use] / np.sqrt(values[use])  # orthogonal columns of mean square 1
    explained = np.square(scores.T @ target / len(z)).sum(1)
    return bool((explained * (1 - np.exp(-2 * pace * values[use]))).sum() < 0.5 * explained.sum())


def _crawls(trace: Trace, level: float) -> bool:
    """Has the loss all but stopped? Medians of fifths: the first, the middle and the last one tell of the two halves."""
    parts = levels.fifths(trace)
    if parts is None:
        return False
    start, middle, end = parts
    # Within the band a loss counts as not moved, whatever the first half did.
    return middle - end < max(CRAWL * (start - middle), levels.BAND * level)


def _eigenvalues(x: np.ndarray) -> np.ndarray:
    """Of the second moments of the columns, ascending; the bias, rounding noise and columns that never vary left out."""
    z = np.asarray(x, dtype=np.float64)
    z = z[np.isfinite(z).all(1)]
    z = z[:, z.std(0) > 0] if len(z) else z
    if not z.size:
        return np.zeros(1)
    values = np.linalg.eigvalsh(z.T @ z / len(z))
    return values[values > values[-1] * 1e-13]


def sick() -> Trace:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    x = np.stack((rng.standard_normal(400) * 30, (y - 0.5) * 0.02 + 0.002 * rng.standard_normal(400)), axis=1)
    trace = _example("at-chance", x, y)
    trace.facts.optimizers[0].adaptive = False
    return trace


def healthy() -> Trace:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    return _example("learning", np.stack((rng.standard_normal(400), (y - 0.5) + 0.1 * rng.standard_normal(400)), axis=1), y)


def _example(state: str, x: np.ndarray, y: np.ndarray) -> Trace:
    from unstuck.trace.facts import Layer

    trace = synthetic.training(state=state, layers=[Layer("linear", "input", list(x.shape), 2, data=True)])
    trace.facts.optimizers[0].kind = "SGD"
    trace.pairs = Pairs(x.astype(np.float32), y, np.arange(len(y)) // 32)
    return trace
