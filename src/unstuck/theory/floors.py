"""The lowest loss that can be reached: by bounded logits, soft or noisy targets, a mis-wired head.

A loss that sits on one of these floors is not "still learning slowly": no further training moves it. Some floors are
faults (softmax applied twice), some are healthy ends (label smoothing); the docstrings say which.
Conventions: nats, float64, K classes, B batch size, pi share of positives, eps smoothing. ValueError for unusable
input.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from unstuck.theory import chance

__all__ = [
    "SATURATION_COST",
    "batch_softmax",
    "batch_softmax_of",
    "bounded_logits",
    "broadcast_bce",
    "broadcast_mse",
    "cosine_width",
    "info_nce",
    "label_smoothing",
    "mixup",
    "nll_on_probabilities",
    "saturated",
    "sigmoid_twice",
    "sigmoid_twice_at_zero",
    "soft_targets",
    "softmax_twice",
    "softmax_twice_saturated",
    "symmetric_noise",
]

# What one entirely wrong, entirely certain answer costs, in nats. Frameworks cap ln 0 in different ways, and the cap
# betrays which one was at work. In float32 the clip 1 - 1e-7 is rounded to 1 - 2^-23, hence 23 ln 2 instead of 16.118.
SATURATION_COST: dict[str, float] = {
    "keras-clip": 23.0 * math.log(2.0),
    "keras-clip-plus-epsilon": -math.log(2.0**-23 + 1e-7),
    "epsilon-1e-7": -math.log(1e-7),
    "epsilon-1e-8": -math.log(1e-8),
    "epsilon-1e-12": -math.log(1e-12),
    "epsilon-1e-15": -math.log(1e-15),
    "torch-bce-clamp": -chance.BCE_LOG_CLAMP,
}


def _classes(classes: int) -> int:
    if isinstance(classes, bool) or int(classes) != classes or classes < 2:
        raise ValueError(f"classes must be a whole number of at least 2, got {classes!r}")
    return int(classes)


def _share(name: str, value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must lie in [0, 1], got {value!r}: pass a fraction, not a percentage")
    return float(value)


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


# ---------------------------------------------------------------------------------------------- bounded logits


def bounded_logits(classes: int, width: float) -> float:
    """ln(1 + (K-1) e^-R): lowest cross-entropy when every logit is confined to an interval of width R = `width`.

    The loss ln(1 + sum_{k != y} e^(h_k - h_y)) falls in h_y and rises in every other logit, so the best allowed point
    has the right logit at the top and all others at the bottom. R = 1 for a softmax or sigmoid in front of the loss, 2
    for tanh, `cosine_width` for scaled cosine heads. A fault only when the loss really sits there.
    """
    classes = _classes(classes)
    if not width >= 0.0:
        raise ValueError(f"width must not be negative, got {width!r}")
    return math.log1p((classes - 1) * math.exp(-width))


def unit_norm_width(classes: int, scale: float) -> float:
    """s sqrt(K/(K-1)): the widest gap between the right logit and the wrong ones where the K logits of a sample have the
    2-norm s, for `bounded_logits`.

    a - b is largest subject to a^2 + (K-1) b^2 = s^2 at a = s sqrt((K-1)/K), b = -a/(K-1) (Lagrange).
    """
    classes = _classes(classes)
    if not scale >= 0.0:
        raise ValueError(f"scale must not be negative, got {scale!r}")
    return scale * math.sqrt(classes / (classes - 1))


def cosine_width(classes: int, scale: float) -> float:
    """s K/(K-1): the effective width R of logits s cos(theta) for class vectors on a regular simplex, for
    `bounded_logits`.

    K unit vectors cannot have a mean pairwise cosine below -1/(K-1); the simplex reaches it, so the gap between the
    right logit (s) and the wrong ones (-s/(K-1)) is s K/(K-1). Needs at least K-1 dimensions. Fewer dimensions, higher
    floor.
    """
    classes = _classes(classes)
    if not scale >= 0.0:
        raise ValueError(f"scale must not be negative, got {scale!r}")
    return scale * classes / (classes - 1)


def softmax_twice(classes: int) -> float:
    """ln(e+K-1) - 1: lowest loss when a softmax feeds a loss that applies softmax itself (W101).

    The inner probabilities lie in [0, 1] and sum to 1, so the best "logits" are 1 for the right class and 0 elsewhere,
    which is `bounded_logits` with R = 1. A sigmoid in front of the same loss has the same floor (W103).
    """
    return bounded_logits(classes, 1.0)


def softmax_twice_saturated(classes: int, accuracy: float) -> float:
    """ln(e+K-1) - accuracy: softmax twice when the inner softmax is certain (one-hot) on every sample, right or wrong.

    One-hot "logits" have the log-normaliser ln(e+K-1), and the target entry is 1 on right answers, 0 on wrong ones.
    accuracy = 1 gives the floor, accuracy = 0 the ceiling ln(e+K-1), which for large K is hardly above ln K.
    """
    return math.log(math.e + _classes(classes) - 1) - _share("accuracy", accuracy)


def sigmoid_twice(prior: float) -> float:
    """pi ln(1+1/e) + (1-pi) ln 2: lowest BCEWithLogits loss when its input already went through a sigmoid (W102).

    The input s lies in (0, 1). A positive costs ln(1+e^-s) >= ln(1+1/e) = 0.3133, a negative ln(1+e^s) >= ln 2, so even
    perfectly separated classes stop there.
    """
    pi = _share("prior", prior)
    return pi * _softplus(-1.0) + (1.0 - pi) * _softplus(0.0)


def sigmoid_twice_at_zero(prior: float) -> float:
    """pi ln(1+e^-1/2) + (1-pi) ln(1+e^1/2) = 0.4741 pi + 0.9741 (1-pi): sigmoid twice, inner logit zero, s = 0.5."""
    pi = _share("prior", prior)
    return pi * _softplus(-0.5) + (1.0 - pi) * _softplus(0.5)


def nll_on_probabilities() -> float:
    """-1: lowest NLLLoss on probabilities instead of log-probabilities (W107); it starts at -1/K. A mean of -p_y."""
    return -1.0


# ---------------------------------------------------------------------------------------------- soft and noisy targets


def soft_targets(
    targets: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    class_axis: int | None = None,
) -> float:
    """Lowest mean cross-entropy against class-probability `targets` (K,), (N, K), (N, K, d1, ...), torch's rules.

    Per row the loss is sum_k a_k (-ln q_k) with a_k = w_k (p_k (1-eps) + eps/K); its minimum over probabilities q is at
    q = a / S, S = sum a, and equals -sum a_k ln(a_k / S). Without weights and for rows that sum to 1: the mean entropy
    of the targets. NaN for no rows. A healthy end of training, and the zero from which a distilled or smoothed run is
    read.
    """
    array = np.asarray(targets, dtype=np.float64)
    if array.ndim == 0:
        raise ValueError("targets must be class probabilities with a class axis, got a single number")
    axis = (0 if array.ndim == 1 else 1) if class_axis is None else class_axis
    if not np.all(np.isfinite(array)) or np.any(array < 0.0):
        raise ValueError("targets (class probabilities) must be finite and non-negative")
    eps = _share("label_smoothing", label_smoothing)
    rows = np.moveaxis(array, axis, -1)
    classes = rows.shape[-1]
    mass = rows * (1.0 - eps) + eps / classes
    if weight is not None:
        w = np.asarray(weight, dtype=np.float64)
        if w.shape != (classes,) or not np.all(np.isfinite(w)) or np.any(w < 0.0):
            raise ValueError(f"weight must have shape ({classes},) and be finite and non-negative, got shape {w.shape}")
        mass = mass * w
    total = mass.sum(axis=-1, keepdims=True)
    share = np.divide(mass, total, out=np.ones_like(mass), where=total > 0.0)
    losses = -np.sum(mass * np.log(np.where(share > 0.0, share, 1.0)), axis=-1)
    return float(losses.mean()) if losses.size else math.nan


def label_smoothing(classes: int, eps: float) -> float:
    """-(1-eps+eps/K) ln(1-eps+eps/K) - (K-1)(eps/K) ln(eps/K): entropy of a smoothed one-hot target. Healthy."""
    classes = _classes(classes)
    eps = _share("eps", eps)
    right, wrong = 1.0 - eps + eps / classes, eps / classes
    return -right * math.log(right) - ((classes - 1) * wrong * math.log(wrong) if wrong > 0.0 else 0.0)


def symmetric_noise(classes: int, eta: float, *, includes_true: bool = False) -> float:
    """H_b(eta) + eta ln(K-1): lowest expected loss when a share `eta` of labels was replaced by a random *other* class.

    The best answer is the noisy label's own distribution, 1-eta on the true class and eta/(K-1) on each other; the
    floor is its entropy. With `includes_true` the replacement is drawn from all K classes (it may hit the true one),
    which is the same with eta (1-1/K) in place of eta.
    """
    classes = _classes(classes)
    eta = _share("eta", eta)
    if includes_true:
        eta *= 1.0 - 1.0 / classes
    return chance.binary_entropy(eta) + eta * math.log(classes - 1)


def _digamma(x: float) -> float:
    """Derivative of ln Gamma for x > 0: recurrence up to x >= 10, then the asymptotic series (error below 1e-15)."""
    shift = 0.0
    while x < 10.0:
        shift -= 1.0 / x
        x += 1.0
    inverse = 1.0 / (x * x)
    series = inverse * (1 / 12 - inverse * (1 / 120 - inverse * (1 / 252 - inverse * (1 / 240 - inverse * (1 / 132)))))
    return shift + math.log(x) - 0.5 / x - series


def mixup(alpha: float, *, classes: int | None = None, prior: ArrayLike | None = None) -> float:
    """Lowest expected loss under mixup with lambda ~ Beta(alpha, alpha): E[H_b(lambda)] (1 - sum pi^2).

    E[lambda ln lambda] for a Beta(a, a) variable is (psi(a+1) - psi(2a+1)) / 2, so E[H_b(lambda)] = psi(2a+1) -
    psi(a+1) with the digamma function psi: 0.2276 for a = 0.2, exactly 1/2 for a = 1, ln 2 for a -> infinity. Two
    samples of the same class mix to a hard target, hence the factor: 1-1/K for `classes` balanced classes, or from
    class frequencies `prior`; 1 if neither is given. Assumes that both classes and lambda can be read off the mixed
    input. Healthy.
    """
    if not (alpha > 0.0 and math.isfinite(alpha)):
        raise ValueError(f"alpha must be positive and finite, got {alpha!r}")
    if classes is not None and prior is not None:
        raise ValueError("give classes (balanced) or prior (frequencies), not both")
    different = 1.0
    if classes is not None:
        different = 1.0 - 1.0 / _classes(classes)
    elif prior is not None:
        pi = np.asarray(prior, dtype=np.float64)
        chance.entropy(pi)  # checks that it is a probability vector
        different = 1.0 - float(np.sum((pi / pi.sum()) ** 2))
    return (_digamma(2.0 * alpha + 1.0) - _digamma(alpha + 1.0)) * different


# ---------------------------------------------------------------------------------------------- wrong axis, wrong shape


def batch_softmax_of(labels: ArrayLike) -> float:
    """(1/B) sum_k n_k ln n_k: lowest NLL on this very batch when the softmax ran over the batch axis (W105).

    Each column sums to 1 over the batch, and the n_k samples of class k share column k: equal shares 1/n_k are best.
    `labels`: integers, shape (B,). The loss starts at ln B. NaN for an empty batch.
    """
    array = np.asarray(labels)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"labels must be one-dimensional integers, got {array.dtype} of shape {array.shape}")
    _, counts = np.unique(array, return_counts=True)
    return float(np.sum(counts * np.log(counts)) / array.size) if array.size else math.nan


def batch_softmax(batch: int, *, classes: int | None = None, prior: ArrayLike | None = None) -> float:
    """E[ln n_y]: expectation of `batch_softmax_of` for `batch` labels drawn at random.

    From the view of one sample of class k, n_y = 1 + Binomial(B-1, pi_k); the expectation sums exactly over that
    distribution, for balanced `classes` or for frequencies `prior` (one of the two is needed).
    """
    if isinstance(batch, bool) or int(batch) != batch or batch < 1:
        raise ValueError(f"batch must be a whole number of at least 1, got {batch!r}")
    if (classes is None) == (prior is None):
        raise ValueError("give either classes (balanced) or prior (frequencies)")
    if classes is not None:
        shares, times = np.array([1.0 / _classes(classes)]), np.array([1.0])
    else:
        pi = np.asarray(prior, dtype=np.float64)
        chance.entropy(pi)  # checks that it is a probability vector
        shares, times = np.unique(pi / pi.sum(), return_counts=True)
        times = shares * times
    n = int(batch) - 1
    k = np.arange(n + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    log_choose = log_factorial[n] - log_factorial[k] - log_factorial[n - k]
    total = 0.0
    for share, weight in zip(shares, times):
        if share <= 0.0:
            continue
        if share >= 1.0:
            total += weight * math.log(n + 1)
            continue
        mass = np.exp(log_choose + k * math.log(share) + (n - k) * math.log1p(-share))
        total += weight * float(np.sum(mass * np.log1p(k)))
    return float(total)


def broadcast_bce(prior: float) -> float:
    """H_b(pi): lowest BCE when outputs [N, 1] were compared with targets [N], thus every output with every target
    (W110).

    Row i then costs the mean of BCE(p_i, y_j) over all j, which is lowest at p_i = share of positives, for every i: the
    network can only learn the base rate. Exact on one batch with that batch's share; over training with the overall
    share.
    """
    return chance.binary_entropy(_share("prior", prior))


def broadcast_mse(targets: ArrayLike) -> float:
    """Var(y), divisor N: lowest MSE when outputs [N, 1] met targets [N] (W110); the best output is the mean."""
    array = np.asarray(targets, dtype=np.float64)
    return float(array.var()) if array.size else math.nan


# ---------------------------------------------------------------------------------------------- contrastive, saturated


def info_nce(negatives: int, temperature: float, *, points: int | None = None) -> float:
    """ln(1 + M e^(-(1 + 1/(n-1)) / T)): lowest InfoNCE with M = `negatives` per row and n = `points` distinct points.

    The positive has similarity 1; the mean similarity of n unit vectors is at least -1/(n-1), reached by a regular
    simplex in at least n-1 dimensions, and convexity makes equal similarities best. CLIP: M = B-1, n = B (the default
    n = M+1). SimCLR: M = 2B-2 and n = B, because both views of a sample coincide at the optimum.
    """
    if negatives < 1:
        raise ValueError(f"negatives must be at least 1, got {negatives!r}")
    if not temperature > 0.0:
        raise ValueError(f"temperature must be positive, got {temperature!r}")
    n = negatives + 1 if points is None else points
    if n < 2:
        raise ValueError(f"points must be at least 2, got {points!r}")
    return math.log1p(negatives * math.exp(-(1.0 + 1.0 / (n - 1)) / temperature))


def saturated(accuracy: float, cost: str | float = "keras-clip") -> float:
    """c (1 - accuracy): loss of outputs that are entirely certain, so right answers cost nothing and wrong ones the
    cap c.

    `cost` names an entry of `SATURATION_COST` or is a number of nats. Seen with a softmax over one unit (W104, always
    answers 1) and with a network that says the same class with certainty. Not a lower bound for other networks.
    """
    if isinstance(cost, str):
        if cost not in SATURATION_COST:
            raise ValueError(f"cost must be a number or one of {', '.join(SATURATION_COST)}, got {cost!r}")
        cost = SATURATION_COST[cost]
    return float(cost) * (1.0 - _share("accuracy", accuracy))
