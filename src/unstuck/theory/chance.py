"""What a predictor that ignores its input would score: the uniform guess, the base rates, the best constant.

Every function answers "what would *this* loss call have returned, on these very targets with these very options, had
the model answered the same probabilities for every sample?" Subtracting the observed loss gives the skill of the model
with the luck of the batch (which labels happened to be drawn) taken out.

Conventions of the whole module
- Losses are in nats (natural logarithm) and computed in float64 whatever the dtype of the input.
- `K` is the number of classes, `q` the constant probabilities of the predictor, `w` class weights, `eps` smoothing.
- A class axis, where there is one, is axis 1 for arrays of two or more dimensions and axis 0 for one dimension, as in
  torch; pass `class_axis=-1` for Keras.
- Unusable input raises `ValueError` naming the argument and what to do. Degenerate but legal input (an empty batch, all
  targets ignored, weights that sum to zero) returns what the framework returns: in torch NaN for a mean, 0 for a sum.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "BinaryOptimum",
    "ConstantOptimum",
    "binary_cross_entropy",
    "binary_entropy",
    "class_counts",
    "comp_sum",
    "constant_optimum",
    "cross_entropy",
    "entropy",
    "focal",
    "gan_discriminator",
    "info_nce",
    "mse",
    "pos_weight_optimum",
    "rates",
    "sigmoid_focal",
    "uniform",
]

Reduction = Literal["mean", "sum", "none"]
Normalisation = Literal["torch", "keras"]
FloatArray = NDArray[np.float64]

# nn.BCELoss (not the variant with logits) clamps its logarithms at this value, so one entirely wrong answer costs 100.
BCE_LOG_CLAMP = -100.0


# ---------------------------------------------------------------------------------------------- checks of the input


def _classes(classes: int) -> int:
    if isinstance(classes, bool) or int(classes) != classes or classes < 1:
        raise ValueError(f"classes must be a whole number of at least 1, got {classes!r}: pass the width of the logits")
    return int(classes)


def _reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")


def _smoothing(label_smoothing: float) -> float:
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing must lie in [0, 1], got {label_smoothing!r}")
    return float(label_smoothing)


def _probabilities(name: str, values: ArrayLike, classes: int | None = None) -> FloatArray:
    """A probability vector, checked, and divided by its sum (which must already be 1 within 1e-4)."""
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or vector.size == 0 or (classes is not None and vector.size != classes):
        wanted = "one entry per class" if classes is None else f"{classes} entries, one per class"
        raise ValueError(f"{name} must be one-dimensional with {wanted}, got shape {vector.shape}")
    if not np.all(np.isfinite(vector)) or np.any(vector < 0.0) or abs(vector.sum() - 1.0) > 1e-4:
        raise ValueError(
            f"{name} must be non-negative and sum to 1 (sum is {vector.sum():.6g}): divide counts by their sum"
        )
    return vector / vector.sum()


def _weights(name: str, values: ArrayLike, classes: int) -> FloatArray:
    vector = np.asarray(values, dtype=np.float64)
    if vector.shape != (classes,):
        raise ValueError(f"{name} must have shape ({classes},), one entry per class, got {vector.shape}")
    if not np.all(np.isfinite(vector)) or np.any(vector < 0.0):
        raise ValueError(f"{name} must be finite and non-negative")
    return vector


def _number(name: str, values: ArrayLike) -> NDArray[Any]:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be numeric, got dtype {array.dtype}: convert labels to numbers first")
    return array


def _unit_interval(name: str, values: ArrayLike) -> FloatArray:
    array = _number(name, values).astype(np.float64)
    if array.size and not (array.min() >= 0.0 and array.max() <= 1.0):  # NaN fails both comparisons, as it should
        raise ValueError(f"{name} must lie in [0, 1], got values from {array.min():.6g} to {array.max():.6g}")
    return array


def _broadcast(name: str, values: ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    array = _number(name, values).astype(np.float64)
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(f"{name} of shape {array.shape} does not broadcast to the targets' shape {shape}") from None


def _axis(targets: NDArray[Any], class_axis: int | None) -> int:
    return (0 if targets.ndim == 1 else 1) if class_axis is None else class_axis


def _index_targets(
    targets: NDArray[Any], classes: int, ignore_index: int | None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(labels with ignored entries set to 0, boolean mask of kept entries); anything else out of range raises."""
    labels = targets.astype(np.int64)
    kept = np.ones(labels.shape, dtype=bool) if ignore_index is None else labels != ignore_index
    wrong = kept & ((labels < 0) | (labels >= classes))
    if wrong.any():
        raise ValueError(
            f"targets contains the label {int(labels[wrong].flat[0])} but classes={classes} allows 0..{classes - 1}"
            f" and ignore_index={ignore_index}: re-encode the labels or pass the right number of classes"
        )
    return np.where(kept, labels, 0), kept


def _probability_targets(targets: NDArray[Any], classes: int, class_axis: int | None) -> FloatArray:
    """The targets as float64 with the class axis moved to the end."""
    axis = _axis(targets, class_axis)
    if targets.ndim == 0 or not -targets.ndim <= axis < targets.ndim or targets.shape[axis] != classes:
        raise ValueError(
            f"targets are floating point, thus class probabilities, and need {classes} entries on class axis {axis};"
            f" shape is {targets.shape}: pass integer class indices, or set classes or class_axis"
        )
    if not np.all(np.isfinite(targets)) or np.any(targets < 0.0):
        raise ValueError("targets (class probabilities) must be finite and non-negative")
    return np.moveaxis(targets.astype(np.float64), axis, -1)


def _times(weight: FloatArray, cost: FloatArray) -> FloatArray:
    """weight * cost with 0 * inf = 0: a class that has no target mass cannot cost anything."""
    with np.errstate(invalid="ignore"):
        return np.where(weight == 0.0, 0.0, weight * cost)


def _reduce(values: FloatArray, reduction: str, denominator: float) -> float | FloatArray:
    if reduction == "none":
        return values
    total = float(values.sum())
    if reduction == "sum":
        return total
    # torch divides by zero here and returns NaN, also with smoothing, where the numerator is not zero
    return total / denominator if denominator != 0.0 else math.nan


# ----------------------------------------------------------------------------------------------- simple levels


def uniform(classes: int) -> float:
    """ln K: cross-entropy of answering 1/K for each of `classes` classes, in nats, whatever the labels are."""
    return math.log(_classes(classes))


def entropy(prior: ArrayLike) -> float:
    """H(prior) = -sum pi ln pi in nats: expected cross-entropy of always answering the base rates.

    `prior` has shape (K,), is non-negative and sums to 1; otherwise ValueError. By Gibbs' inequality no other constant
    answer has a lower expected loss, so this is what a network reaches that does not use its inputs.
    """
    pi = _probabilities("prior", prior)
    return float(-np.sum(pi * np.log(np.where(pi > 0.0, pi, 1.0))))


def binary_entropy(share: float) -> float:
    """H_b(p) = -p ln p - (1-p) ln(1-p) in nats for one share `p` in [0, 1]; ValueError outside."""
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share must lie in [0, 1], got {share!r}")
    return entropy([share, 1.0 - share])


def class_counts(
    targets: ArrayLike, classes: int, *, ignore_index: int | None = -100, class_axis: int | None = None
) -> FloatArray:
    """How often each class occurs: shape (K,), float64. Add these up over steps and pass the sum to `rates`.

    `targets`: integer class indices of any shape (entries equal to `ignore_index` are left out), or floating-point
    class probabilities, whose mass is added up. ValueError for labels outside 0..K-1.
    """
    classes = _classes(classes)
    array = _number("targets", targets)
    if array.dtype.kind == "f":
        return _probability_targets(array, classes, class_axis).reshape(-1, classes).sum(axis=0)
    labels, kept = _index_targets(array, classes, ignore_index)
    return np.bincount(labels[kept], minlength=classes).astype(np.float64)


def rates(counts: ArrayLike, *, pseudo_count: float = 1.0) -> FloatArray:
    """Counts of shape (K,) to base rates, (n_k + c) / (sum n + K c), with c = `pseudo_count`.

    The pseudo-count (Laplace's rule for c = 1) keeps the loss finite when a class turns up that was never seen before:
    with c = 0 its rate is 0 and its cost infinite. ValueError for negative counts, or when everything is zero.
    """
    numbers = np.asarray(counts, dtype=np.float64)
    if numbers.ndim != 1 or numbers.size == 0 or not np.all(np.isfinite(numbers)) or np.any(numbers < 0.0):
        raise ValueError("counts must be a one-dimensional array of non-negative numbers, one per class")
    if pseudo_count < 0.0 or numbers.sum() + pseudo_count <= 0.0:
        raise ValueError("counts are all zero (or pseudo_count is negative): pass a pseudo_count above 0")
    return (numbers + pseudo_count) / (numbers.sum() + numbers.size * pseudo_count)


# ----------------------------------------------------------------------------------------------- cross-entropy


def cross_entropy(
    targets: ArrayLike,
    classes: int,
    *,
    predictor: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    normalisation: str = "torch",
    class_axis: int | None = None,
) -> float | FloatArray:
    """Cross-entropy (equally: NLL on log-probabilities) of a predictor that gives the same answer for every sample.

    Arguments
    - `targets`: integers (bool is refused) of any shape are class indices; floating point are class probabilities with
      K entries on the class axis, (K,), (N, K), (N, K, d1, ...). They need not sum to 1, as in torch.
    - `predictor`: None for the uniform guess 1/K, or probabilities of shape (K,), for instance running base rates. A
      probability of 0 costs infinity where its class has target mass and nothing elsewhere.
    - `weight`: class weights, shape (K,), non-negative.  `ignore_index`: None to ignore nothing.
    - `reduction`: 'mean' and 'sum' return a float, 'none' an array of the targets' shape without the class axis.
    - `normalisation`: whose rules for weights and for the mean to follow, 'torch' or 'keras'.

    Formula, per kept entry, with c_k = -ln q_k
    - torch, indices:        (1-eps) w_y c_y + (eps/K) sum_k w_k c_k;  mean divides by the sum of w_y over kept entries
    - torch, probabilities:  sum_k w_k (p_k (1-eps) + eps/K) c_k;      mean divides by the number of entries
    - keras, both:           w_y sum_k (p_k (1-eps) + eps/K) c_k;      mean divides by the number of kept entries
      (class_weight becomes a sample weight w[argmax p]; the divisor does not know the weights)
    So at the uniform guess a weighted torch mean is ln K, and a weighted Keras mean is ln K * sum(pi w).

    Source: torch.nn.CrossEntropyLoss and keras.losses.CategoricalCrossentropy / SparseCategoricalCrossentropy
    (sum_over_batch_size with ignore_class), reproduced numerically on torch 2.13 and Keras 3.15.

    Raises ValueError for labels out of range, wrong shapes, negative weights or probabilities, eps outside [0, 1], and
    (like torch) for probability targets together with an `ignore_index` >= 0. The mean over nothing is NaN, but 0 for
    Keras when there are targets and all are ignored.
    """
    classes = _classes(classes)
    _reduction(reduction)
    eps = _smoothing(label_smoothing)
    if normalisation not in ("torch", "keras"):
        raise ValueError(f"normalisation must be 'torch' or 'keras', got {normalisation!r}")
    q = np.full(classes, 1.0 / classes) if predictor is None else _probabilities("predictor", predictor, classes)
    w = np.ones(classes) if weight is None else _weights("weight", weight, classes)
    with np.errstate(divide="ignore"):
        cost = -np.log(q)

    array = _number("targets", targets)
    if array.dtype.kind == "b":
        raise ValueError("targets are boolean: cast to integers for class indices, to floats for class probabilities")
    if array.dtype.kind == "f":
        if ignore_index is not None and ignore_index >= 0:
            raise ValueError(f"ignore_index={ignore_index} has no meaning for probability targets: leave it at -100")
        probabilities = _probability_targets(array, classes, class_axis)
        smoothed = probabilities * (1.0 - eps) + eps / classes
        if normalisation == "torch":
            losses = _times(smoothed * w, cost).sum(axis=-1)
        else:
            losses = _times(w[probabilities.argmax(axis=-1)], _times(smoothed, cost).sum(axis=-1))
        return _reduce(losses, reduction, float(losses.size))

    labels, kept = _index_targets(array, classes, ignore_index)
    if normalisation == "torch":
        per_class = _times((1.0 - eps) * w, cost) + _times(eps / classes * w, cost).sum()
        denominator = float(w[labels][kept].sum())
    else:
        spread = _times(np.full(classes, eps / classes), cost).sum()
        per_class = _times(w, _times(np.full(classes, 1.0 - eps), cost) + spread)
        # with every target ignored Keras reports 0 where torch reports NaN
        denominator = float(kept.sum()) if kept.any() or not kept.size else 1.0
    return _reduce(np.where(kept, per_class[labels], 0.0), reduction, denominator)


# -------------------------------------------------------------------------------------- binary cross-entropy, MSE


def binary_cross_entropy(
    targets: ArrayLike,
    *,
    p: ArrayLike = 0.5,
    pos_weight: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    logits: bool = True,
    reduction: str = "mean",
) -> float | FloatArray:
    """Binary cross-entropy of a predictor that answers the probability `p` for every sample.

    `targets`: any shape, values in [0, 1] (soft targets are fine), (N,) or multi-label (N, C) and beyond. `p`,
    `pos_weight` and `weight` broadcast against it, so a per-column base rate has shape (C,). `p=0.5` is a logit of
    exactly zero. `logits=True` follows BCEWithLogitsLoss; `logits=False` follows BCELoss, which clamps both logarithms
    at -100 (so an answer of exactly 0 or 1 that is wrong costs 100 nats) and has no pos_weight.

    Formula: -weight * (pos_weight y ln p + (1-y) ln(1-p)) in nats; the mean divides by the number of entries, whatever
    the weights. Hence ln 2 at p = 0.5, and ln 2 (1 + (c-1) pi) there with pos_weight c.
    Returns a float, or an array of the targets' shape for reduction='none'; NaN for the mean over nothing.
    Raises ValueError for values outside [0, 1], shapes that do not broadcast, or pos_weight with logits=False.
    """
    _reduction(reduction)
    y = _unit_interval("targets", targets)
    q = _broadcast("p", _unit_interval("p", p), y.shape)
    if pos_weight is not None and not logits:
        raise ValueError("pos_weight belongs to the loss with logits: BCELoss has none, use weight")
    with np.errstate(divide="ignore"):
        cost_one, cost_zero = -np.log(q), -np.log1p(-q)
    if not logits:
        cost_one, cost_zero = np.minimum(cost_one, -BCE_LOG_CLAMP), np.minimum(cost_zero, -BCE_LOG_CLAMP)
    c = np.ones(y.shape) if pos_weight is None else _broadcast("pos_weight", pos_weight, y.shape)
    losses = _times(c * y, cost_one) + _times(1.0 - y, cost_zero)
    if weight is not None:
        losses = _times(_broadcast("weight", weight, y.shape), losses)
    return _reduce(losses, reduction, float(losses.size))


def mse(
    targets: ArrayLike,
    *,
    prediction: ArrayLike | None = None,
    classes: int | None = None,
    reduction: str = "mean",
    class_axis: int | None = None,
) -> float | FloatArray:
    """Mean squared error of a constant prediction; the square of a probability difference, without unit.

    Two readings of `targets`:
    - with `classes=K`: integer class indices of any shape, compared as one-hot vectors (the class axis is put at
      `class_axis`, default 1), or one-hot / probability vectors that already have it. `prediction` is None for the
      uniform softmax 1/K, or shape (K,). At 1/K the mean over all entries is (1-1/K)/K on one-hot targets.
    - without: values of any shape, against `prediction` (default 0.5, a sigmoid at logit zero: 0.25 on 0/1 targets), a
      number or an array that broadcasts to the targets.
    'none' returns the squared error of every entry (with `classes`, including the class axis). NaN for an empty mean.
    """
    _reduction(reduction)
    array = _number("targets", targets)
    if classes is None:
        y = array.astype(np.float64)
        q = _broadcast("prediction", 0.5 if prediction is None else prediction, y.shape)
        squared = (y - q) ** 2
        return _reduce(squared, reduction, float(squared.size))
    classes = _classes(classes)
    q = np.full(classes, 1.0 / classes) if prediction is None else np.asarray(prediction, dtype=np.float64)
    if q.shape != (classes,):
        raise ValueError(f"prediction must have shape ({classes},), one entry per class, got {q.shape}")
    if array.dtype.kind == "f":
        one_hot = _probability_targets(array, classes, class_axis)
        axis = _axis(array, class_axis)
    else:
        labels, _ = _index_targets(array, classes, None)
        one_hot = np.eye(classes)[labels]
        axis = (1 if labels.ndim else 0) if class_axis is None else class_axis
    squared = np.moveaxis((one_hot - q) ** 2, -1, axis)
    return _reduce(squared, reduction, float(squared.size))


# --------------------------------------------------------------------------------------------- the constant optimum


class ConstantOptimum(NamedTuple):
    """The best constant answer: its probabilities, shape (K,), and the loss it reaches in nats."""

    probabilities: FloatArray
    loss: float


class BinaryOptimum(NamedTuple):
    """The best constant answer of a sigmoid output: its probability, and the loss it reaches in nats."""

    probability: float
    loss: float


def constant_optimum(
    prior: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    targets: Literal["indices", "probabilities"] = "indices",
    normalisation: Normalisation = "torch",
) -> ConstantOptimum:
    """The constant answer with the lowest expected cross-entropy under class frequencies `prior`, shape (K,).

    Derivation: the expected loss of a constant answer q is sum_k a_k (-ln q_k) / Z, where a_k collects the target mass
    that lands on class k. With S = sum a, Gibbs' inequality gives the minimiser q = a / S and the value S H(q) / Z.
    - torch:  a_k = w_k ((1-eps) pi_k + eps/K);  Z = sum pi w for indices, 1 for probability targets.  With eps = 0 and
      indices: q ~ pi w and the loss is H(q), so inverse-frequency weights give ln K.
    - keras:  a_k = (1-eps) pi_k w_k + (eps/K) sum pi w;  Z = 1.
    Raises ValueError for a prior that does not sum to 1, wrong shapes, or weights that leave no mass.
    """
    pi = _probabilities("prior", prior)
    classes = pi.size
    eps = _smoothing(label_smoothing)
    w = np.ones(classes) if weight is None else _weights("weight", weight, classes)
    if targets not in ("indices", "probabilities"):
        raise ValueError(f"targets must be 'indices' or 'probabilities', got {targets!r}")
    if normalisation not in ("torch", "keras"):
        raise ValueError(f"normalisation must be 'torch' or 'keras', got {normalisation!r}")
    seen = float(np.sum(pi * w))
    if seen <= 0.0:
        raise ValueError("weight is zero for every class that occurs: nothing is left to learn from")
    if normalisation == "torch":
        mass = w * ((1.0 - eps) * pi + eps / classes)
        divisor = seen if targets == "indices" else 1.0
    else:
        mass = (1.0 - eps) * pi * w + eps / classes * seen
        divisor = 1.0
    q = mass / mass.sum()
    return ConstantOptimum(q, float(mass.sum() * entropy(q) / divisor))


def pos_weight_optimum(prior: float, pos_weight: float = 1.0) -> BinaryOptimum:
    """The best constant sigmoid answer for a share `prior` of positives under `pos_weight` c.

    Setting the derivative of -(c pi ln q + (1-pi) ln(1-q)) to zero gives q = c pi / (c pi + 1 - pi). With c =
    (1-pi)/pi this is q = 0.5, where the loss is 2 (1-pi) ln 2. ValueError for a share outside [0, 1] or a weight that
    is not positive.
    """
    if not 0.0 <= prior <= 1.0:
        raise ValueError(f"prior must be a share of positives in [0, 1], got {prior!r}")
    if not (pos_weight > 0.0 and math.isfinite(pos_weight)):
        raise ValueError(f"pos_weight must be positive and finite, got {pos_weight!r}")
    mass = pos_weight * prior + 1.0 - prior
    q = pos_weight * prior / mass
    return BinaryOptimum(q, mass * binary_entropy(q))


# --------------------------------------------------------------------------------- relatives of cross-entropy


def focal(classes: int, gamma: float = 2.0) -> float:
    """(1-1/K)^gamma ln K: focal loss -(1-p_y)^gamma ln p_y (Lin et al., ICCV 2017) at the uniform guess p_y = 1/K."""
    classes = _classes(classes)
    if gamma < 0.0:
        raise ValueError(f"gamma must not be negative, got {gamma!r}")
    return (1.0 - 1.0 / classes) ** gamma * math.log(classes)


def sigmoid_focal(
    gamma: float = 2.0, *, alpha: float | None = None, prior: float = 0.5, probability: float = 0.5
) -> float:
    """Mean binary focal loss of a constant answer `probability` for a share `prior` of positives, in nats.

    pi a (1-p)^gamma (-ln p) + (1-pi)(1-a) p^gamma (-ln(1-p)), with a = `alpha`; None leaves the factors a and 1-a out.
    At p = 0.5 without alpha: 2^-gamma ln 2. RetinaNet-style heads start at p = 0.01 on purpose.
    """
    if gamma < 0.0:
        raise ValueError(f"gamma must not be negative, got {gamma!r}")
    for name, share in (("alpha", 0.5 if alpha is None else alpha), ("prior", prior)):
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"{name} must lie in [0, 1], got {share!r}")
    if not 0.0 < probability < 1.0:
        raise ValueError(f"probability must lie strictly between 0 and 1, got {probability!r}")
    positive, negative = (1.0, 1.0) if alpha is None else (alpha, 1.0 - alpha)
    return (
        -prior * positive * (1.0 - probability) ** gamma * math.log(probability)
        - (1.0 - prior) * negative * probability**gamma * math.log1p(-probability)
    )


def comp_sum(classes: int, tau: float) -> float:
    """Comp-sum loss Phi_tau(K-1) at the uniform guess.

    With u = sum_{y' != y} exp(h_y' - h_y) the family (Mao, Mohri, Zhong, ICML 2023) is
    Phi_tau(u) = ((1+u)^(1-tau) - 1) / (1-tau), and ln(1+u) at tau = 1. As 1+u = 1/p_y, this is (1 - p_y^(tau-1)) /
    (tau-1). tau = 0: sum-exponential, K-1. tau = 1: cross-entropy, ln K. 1 < tau < 2: generalised cross-entropy with q
    = tau-1 (Zhang and Sabuncu, 2018). tau = 2: mean absolute error up to a factor 2, 1 - 1/K. In nats only at tau = 1.
    """
    classes = _classes(classes)
    if not (tau >= 0.0 and math.isfinite(tau)):
        raise ValueError(f"tau must be finite and not negative, got {tau!r}")
    level = math.log(classes)
    # expm1 keeps the digits when tau is close to 1, where the quotient is 0/0
    return level if tau == 1.0 else math.expm1((1.0 - tau) * level) / (1.0 - tau)


def info_nce(
    batch: int | None = None, *, kind: Literal["clip", "simclr", "moco"] = "clip", queue: int | None = None
) -> float:
    """InfoNCE when all similarities are equal: ln of the number of candidates in one row, in nats.

    'clip': one of `batch` partners, ln B. 'simclr': 2B views, minus the view itself, ln(2B-1). 'moco': the positive
    key and `queue` negatives, ln(1+queue) (van den Oord et al. 2018; Chen et al. 2020; He et al. 2020). ValueError
    where the needed count is missing or below 1.
    """
    if kind not in ("clip", "simclr", "moco"):
        raise ValueError(f"kind must be 'clip', 'simclr' or 'moco', got {kind!r}")
    name, count = ("queue", queue) if kind == "moco" else ("batch", batch)
    if count is None or count < 1:
        raise ValueError(f"{name} must be a whole number of at least 1 for kind={kind!r}, got {count!r}")
    return math.log({"clip": count, "simclr": 2 * count - 1, "moco": 1 + count}[kind])


def gan_discriminator(*, halves: Literal["mean", "sum"] = "mean") -> float:
    """ln 2, or 2 ln 2 when the real and the fake half are added: a discriminator that answers 0.5 everywhere.

    This is also the healthy equilibrium of a GAN (Goodfellow et al. 2014), so the number alone is no fault.
    """
    if halves not in ("mean", "sum"):
        raise ValueError(f"halves must be 'mean' or 'sum', got {halves!r}")
    return math.log(2.0) * (1.0 if halves == "mean" else 2.0)
