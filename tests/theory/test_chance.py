"""Every level in `unstuck.theory.chance` against the framework's own loss on a prediction built to be constant."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize

from unstuck.theory import chance

torch.set_num_threads(1)  # tensors of a few numbers: a thread pool only makes them wait for each other
MANY = settings(max_examples=400, deadline=None, derandomize=True)
SHAPES = st.sampled_from([(), (1,), (7,), (5, 3), (2, 3, 4), (2, 1, 3, 2), (0,), (0, 3)])
REDUCTIONS = st.sampled_from(["mean", "sum", "none"])
EPSILONS = st.sampled_from([0.0, 0.1, 0.37, 1.0])


def constant_logits(q: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> torch.Tensor:
    """Logits (N, K, d1, ...) whose softmax is q everywhere; each position has its own offset, which must not matter."""
    logits = np.log(q) + rng.normal(size=(*shape, 1)) * 3.0
    return torch.from_numpy(np.moveaxis(logits, -1, 1 if shape else 0).copy())


def draw_predictor(rng: np.random.Generator, classes: int, uniform: bool) -> tuple[np.ndarray | None, np.ndarray]:
    q = rng.dirichlet(np.ones(classes)) * 0.98 + 0.02 / classes
    return (None, np.full(classes, 1.0 / classes)) if uniform else (q, q)


def same(ours: object, theirs: torch.Tensor) -> None:
    np.testing.assert_allclose(np.asarray(ours), theirs.detach().numpy(), rtol=1e-9, atol=1e-9)


@MANY
@given(
    seed=st.integers(0, 2**31), classes=st.integers(1, 12), shape=SHAPES, eps=EPSILONS, reduction=REDUCTIONS,
    uniform=st.booleans(), weighted=st.sampled_from(["no", "yes", "zeros"]), ignore=st.sampled_from([-100, -1, 0, 3]),
    ignored_share=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_cross_entropy_on_indices_is_torchs(
    seed, classes, shape, eps, reduction, uniform, weighted, ignore, ignored_share
):
    rng = np.random.default_rng(seed)
    predictor, q = draw_predictor(rng, classes, uniform)
    weight = None if weighted == "no" else rng.uniform(0.2, 4.0, classes)
    if weighted == "zeros":
        weight[rng.random(classes) < 0.5] = 0.0
    targets = np.where(rng.random(shape) < ignored_share, ignore, rng.integers(0, classes, shape))
    theirs = F.cross_entropy(
        constant_logits(q, shape, rng), torch.from_numpy(np.asarray(targets)),
        weight=None if weight is None else torch.from_numpy(weight),
        ignore_index=ignore, label_smoothing=eps, reduction=reduction,
    )
    ours = chance.cross_entropy(
        targets, classes, predictor=predictor, weight=weight, ignore_index=ignore, label_smoothing=eps,
        reduction=reduction,
    )
    assert isinstance(ours, np.ndarray if reduction == "none" else float)
    same(ours, theirs)


@MANY
@given(
    seed=st.integers(0, 2**31), classes=st.integers(1, 12), eps=EPSILONS, reduction=REDUCTIONS, uniform=st.booleans(),
    shape=st.sampled_from([(), (1,), (7,), (5, 3), (2, 3, 4), (0,)]), weighted=st.booleans(), hard=st.booleans(),
    normalised=st.booleans(),
)
def test_cross_entropy_on_probabilities_is_torchs(
    seed, classes, eps, reduction, uniform, shape, weighted, hard, normalised
):
    rng = np.random.default_rng(seed)
    predictor, q = draw_predictor(rng, classes, uniform)
    weight = rng.uniform(0.0, 4.0, classes) if weighted else None
    rows = np.eye(classes)[rng.integers(0, classes, shape)] if hard else rng.dirichlet(np.ones(classes), shape)
    targets = np.moveaxis(rows if normalised else rows * 1.7, -1, 1 if shape else 0)
    theirs = F.cross_entropy(
        constant_logits(q, shape, rng), torch.from_numpy(targets.copy()),
        weight=None if weight is None else torch.from_numpy(weight), label_smoothing=eps, reduction=reduction,
    )
    ours = chance.cross_entropy(
        targets, classes, predictor=predictor, weight=weight, label_smoothing=eps, reduction=reduction
    )
    same(ours, theirs)
    last = np.moveaxis(targets, 1 if shape else 0, -1)  # Keras keeps the classes last
    same(
        chance.cross_entropy(
            last, classes, predictor=predictor, weight=weight, label_smoothing=eps, reduction=reduction, class_axis=-1
        ),
        theirs,
    )


@settings(max_examples=100, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), classes=st.integers(2, 9), reduction=REDUCTIONS, weighted=st.booleans())
def test_cross_entropy_is_nll_loss_on_log_probabilities(seed, classes, reduction, weighted):
    rng = np.random.default_rng(seed)
    q = rng.dirichlet(np.ones(classes)) * 0.9 + 0.1 / classes
    weight = rng.uniform(0.1, 2.0, classes) if weighted else None
    targets = rng.integers(0, classes, (6, 2))
    targets[0, 0] = -100
    log_q = torch.from_numpy(np.log(q)).reshape(1, -1, 1).expand(6, classes, 2)
    theirs = F.nll_loss(
        log_q, torch.from_numpy(targets), weight=None if weight is None else torch.from_numpy(weight),
        reduction=reduction,
    )
    same(chance.cross_entropy(targets, classes, predictor=q, weight=weight, reduction=reduction), theirs)


# Printed by Keras 3.15.1 (torch backend) for targets 0,1,2,2, constant probabilities .2,.3,.5 and, where weighted,
# sample_weight = [1,2,5][target]; float32, hence the tolerance.
@pytest.mark.parametrize(
    ("options", "one_hot", "keras"),
    [
        ({"weight": [1.0, 2.0, 5.0]}, False, 2.7372138500213623),
        ({"ignore_index": 1}, False, 0.9985774755477905),
        ({"ignore_index": 1, "weight": [1.0, 2.0, 5.0]}, False, 2.8469700813293457),
        ({"label_smoothing": 0.1, "weight": [1.0, 2.0, 5.0]}, True, 2.843369960784912),
        ({"label_smoothing": 0.1, "weight": [1.0, 2.0, 5.0]}, False, 2.843369960784912),
    ],
)
def test_keras_normalisation_gives_what_keras_printed(options, one_hot, keras):
    targets = np.array([0, 1, 2, 2])
    ours = chance.cross_entropy(
        np.eye(3)[targets] if one_hot else targets, 3, predictor=[0.2, 0.3, 0.5], normalisation="keras", **options
    )
    assert ours == pytest.approx(keras, abs=2e-6)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31), classes=st.integers(2, 9), eps=EPSILONS, shape=st.sampled_from([(6,), (4, 3)]),
    one_hot=st.booleans(), reduction=REDUCTIONS, ignore=st.booleans(),
)
def test_keras_weights_multiply_whole_samples_and_leave_the_divisor_alone(
    seed, classes, eps, shape, one_hot, reduction, ignore
):
    """Written out with torch's unweighted loss per sample: sample weights outside, divisor the kept samples."""
    rng = np.random.default_rng(seed)
    predictor, q = draw_predictor(rng, classes, uniform=False)
    weight = rng.uniform(0.0, 3.0, classes)
    targets = rng.integers(0, classes, shape)
    if ignore and not one_hot:
        targets[0] = -7
    rows = F.cross_entropy(
        constant_logits(q, shape, rng), torch.from_numpy(targets), label_smoothing=eps, reduction="none",
        ignore_index=-7,
    )
    rows = rows * torch.from_numpy(weight[np.where(targets < 0, 0, targets)])
    theirs = {"none": rows, "sum": rows.sum(), "mean": rows.sum() / int((targets >= 0).sum())}[reduction]
    ours = chance.cross_entropy(
        np.eye(classes)[targets] if one_hot else targets, classes, predictor=predictor, weight=weight,
        label_smoothing=eps, reduction=reduction, normalisation="keras", ignore_index=-7, class_axis=-1,
    )
    same(ours, theirs)


def test_levels_of_the_table():
    targets = np.repeat([0, 1, 2], [60, 30, 10])
    weight = np.array([0.5, 2.0, 3.0])
    pi = np.array([0.6, 0.3, 0.1])
    assert chance.cross_entropy(targets, 3) == pytest.approx(math.log(3))
    assert chance.cross_entropy(targets, 3, predictor=pi) == pytest.approx(chance.entropy(pi))
    assert chance.cross_entropy(targets, 3, weight=weight) == pytest.approx(math.log(3))
    keras = chance.cross_entropy(targets, 3, weight=weight, normalisation="keras")
    assert keras == pytest.approx(math.log(3) * np.sum(pi * weight))
    both = chance.cross_entropy(targets, 3, weight=weight, label_smoothing=0.2)
    assert both == pytest.approx(0.8 * math.log(3) + 0.2 / 3 * weight.sum() * math.log(3) * 100 / weight[targets].sum())
    assert chance.binary_cross_entropy([1.0] * 3 + [0.0] * 7, pos_weight=4.0) == pytest.approx(math.log(2) * 1.9)
    assert chance.mse(np.arange(10), classes=10) == pytest.approx(0.09)
    assert chance.mse([0.0, 1.0, 1.0]) == pytest.approx(0.25)
    assert chance.entropy([0.9, 0.1]) == pytest.approx(0.3251, abs=5e-5)
    assert chance.uniform(50257) == pytest.approx(10.8249, abs=5e-5)


def test_nothing_kept_is_nan_for_the_mean_and_zero_for_the_sum():
    ignored = np.full((2, 3), -100)
    assert math.isnan(chance.cross_entropy(ignored, 5))
    assert chance.cross_entropy(ignored, 5, normalisation="keras") == 0.0  # as Keras 3.15.1 prints
    assert math.isnan(chance.cross_entropy(np.zeros(0, dtype=int), 5, normalisation="keras"))
    assert chance.cross_entropy(ignored, 5, reduction="sum") == 0.0
    assert np.array_equal(chance.cross_entropy(ignored, 5, reduction="none"), np.zeros((2, 3)))
    assert math.isnan(chance.binary_cross_entropy(np.zeros((0, 4))))
    assert math.isnan(chance.mse(np.zeros(0)))


def test_a_class_never_seen_costs_infinity_only_where_it_occurs():
    predictor = [0.5, 0.5, 0.0]
    assert chance.cross_entropy([0, 1], 3, predictor=predictor) == pytest.approx(math.log(2))
    assert chance.cross_entropy([0, 2], 3, predictor=predictor) == math.inf
    assert chance.cross_entropy([0, 2], 3, predictor=predictor, weight=[1.0, 1.0, 0.0]) == pytest.approx(math.log(2))
    keras = chance.cross_entropy(
        [0, 2], 3, predictor=predictor, weight=[1.0, 1.0, 0.0], normalisation="keras", reduction="none"
    )
    np.testing.assert_allclose(keras, [math.log(2), 0.0])
    assert chance.cross_entropy([[0.5, 0.5, 0.0]], 3, predictor=predictor) == pytest.approx(math.log(2))


@MANY
@given(
    seed=st.integers(0, 2**31), shape=st.sampled_from([(6,), (5, 4), (3, 2, 4), (0, 4), ()]), reduction=REDUCTIONS,
    per_column=st.booleans(), pos_weighted=st.sampled_from(["no", "scalar", "column"]), soft=st.booleans(),
    weighted=st.sampled_from(["no", "column", "full", "row"]),
)
def test_binary_cross_entropy_with_logits_is_torchs(seed, shape, reduction, per_column, pos_weighted, soft, weighted):
    rng = np.random.default_rng(seed)
    column = shape[-1:]
    targets = np.asarray(rng.random(shape) if soft else rng.integers(0, 2, shape).astype(float))
    p = np.asarray(rng.uniform(0.01, 0.99, column if per_column else ()))
    pos_weight = {"no": None, "scalar": np.array(rng.uniform(0.1, 9.0)), "column": rng.uniform(0.1, 9.0, column)}
    weight = {
        "no": None,
        "column": rng.uniform(0.0, 3.0, column),
        "full": np.asarray(rng.uniform(0.0, 3.0, shape)),
        "row": np.asarray(rng.uniform(0.0, 3.0, (*shape[:-1], 1) if shape else ())),
    }
    c, w = pos_weight[pos_weighted], weight[weighted]
    logits = np.broadcast_to(np.log(p) - np.log1p(-p), shape).copy()
    theirs = F.binary_cross_entropy_with_logits(
        torch.from_numpy(logits), torch.from_numpy(targets), reduction=reduction,
        pos_weight=None if c is None else torch.as_tensor(c), weight=None if w is None else torch.as_tensor(w),
    )
    same(chance.binary_cross_entropy(targets, p=p, pos_weight=c, weight=w, reduction=reduction), theirs)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31), shape=st.sampled_from([(6,), (5, 4), (3, 2, 4)]), reduction=REDUCTIONS,
    soft=st.booleans(), weighted=st.booleans(), edge=st.booleans(),
)
def test_binary_cross_entropy_on_probabilities_is_torchs(seed, shape, reduction, soft, weighted, edge):
    rng = np.random.default_rng(seed)
    targets = rng.random(shape) if soft else rng.integers(0, 2, shape).astype(float)
    p = rng.choice([0.0, 1.0], shape[-1:]) if edge else rng.uniform(0.01, 0.99, shape[-1:])  # 0 and 1 cost 100 nats
    weight = rng.uniform(0.0, 3.0, shape[-1:]) if weighted else None
    theirs = F.binary_cross_entropy(
        torch.from_numpy(np.broadcast_to(p, shape).copy()), torch.from_numpy(targets), reduction=reduction,
        weight=None if weight is None else torch.from_numpy(weight),
    )
    same(chance.binary_cross_entropy(targets, p=p, weight=weight, logits=False, reduction=reduction), theirs)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31), classes=st.integers(2, 9), shape=st.sampled_from([(), (6,), (4, 3), (2, 3, 2)]),
    reduction=REDUCTIONS, uniform=st.booleans(), soft=st.booleans(),
)
def test_mse_on_one_hot_is_torchs(seed, classes, shape, reduction, uniform, soft):
    rng = np.random.default_rng(seed)
    predictor, q = draw_predictor(rng, classes, uniform)
    labels = rng.integers(0, classes, shape)
    rows = rng.dirichlet(np.ones(classes), shape) if soft else np.eye(classes)[labels]
    one_hot = np.moveaxis(rows, -1, 1 if shape else 0).copy()
    prediction = torch.softmax(constant_logits(q, shape, rng), dim=1 if shape else 0)
    theirs = F.mse_loss(prediction, torch.from_numpy(one_hot), reduction=reduction)
    targets = one_hot if soft else labels
    same(chance.mse(targets, classes=classes, prediction=predictor, reduction=reduction), theirs)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), reduction=REDUCTIONS, default=st.booleans())
def test_mse_on_values_is_torchs(seed, reduction, default):
    rng = np.random.default_rng(seed)
    targets = rng.normal(size=(5, 3))
    prediction = None if default else rng.normal(size=3)
    full = np.broadcast_to(0.5 if default else prediction, (5, 3)).copy()
    theirs = F.mse_loss(torch.from_numpy(full), torch.from_numpy(targets), reduction=reduction)
    same(chance.mse(targets, prediction=prediction, reduction=reduction), theirs)


# ------------------------------------------------------------------------------------------------ constant optimum


def minimise(loss, start: np.ndarray) -> float:
    """The lowest value of a torch loss over a constant vector of logits."""

    def value_and_gradient(z: np.ndarray) -> tuple[float, np.ndarray]:
        logits = torch.from_numpy(z.copy()).requires_grad_()
        value = loss(logits)
        value.backward()
        return float(value.detach()), logits.grad.numpy()

    return float(optimize.minimize(value_and_gradient, start, jac=True, method="BFGS", options={"gtol": 1e-9}).fun)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31), classes=st.integers(2, 6), eps=st.sampled_from([0.0, 0.1, 0.5]), weighted=st.booleans(),
    kind=st.sampled_from(["indices", "probabilities", "keras"]),
)
def test_constant_optimum_is_where_direct_minimisation_ends(seed, classes, eps, weighted, kind):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), rng.integers(1, 9, classes))  # the population has exactly this prior
    prior = np.bincount(labels, minlength=classes) / labels.size
    weight = rng.uniform(0.2, 4.0, classes) if weighted else None
    target = torch.from_numpy(np.eye(classes)[labels] if kind == "probabilities" else labels)
    w = torch.ones(classes, dtype=torch.float64) if weight is None else torch.from_numpy(weight)

    def loss(logits: torch.Tensor) -> torch.Tensor:
        rows = logits.expand(labels.size, classes)
        if kind == "keras":
            return (F.cross_entropy(rows, target, label_smoothing=eps, reduction="none") * w[target]).mean()
        return F.cross_entropy(rows, target, weight=w, label_smoothing=eps)

    best = chance.constant_optimum(
        prior, weight=weight, label_smoothing=eps, targets="probabilities" if kind == "probabilities" else "indices",
        normalisation="keras" if kind == "keras" else "torch",
    )
    assert best.loss == pytest.approx(minimise(loss, rng.normal(size=classes)), abs=1e-6)
    assert best.loss == pytest.approx(float(loss(torch.from_numpy(np.log(best.probabilities)))), abs=1e-9)


def test_inverse_frequency_weights_make_the_uniform_guess_the_best_constant():
    prior = np.array([0.7, 0.2, 0.1])
    best = chance.constant_optimum(prior, weight=1.0 / prior)
    np.testing.assert_allclose(best.probabilities, np.full(3, 1 / 3))
    assert best.loss == pytest.approx(math.log(3))


@pytest.mark.parametrize("positives", [1, 5, 10, 19])
@pytest.mark.parametrize("pos_weight", [0.3, 1.0, 19.0])
def test_pos_weight_optimum_is_where_direct_minimisation_ends(positives, pos_weight):
    targets = torch.cat([torch.ones(positives), torch.zeros(20 - positives)]).double()
    c = torch.tensor(pos_weight, dtype=torch.float64)

    def loss(z: float) -> float:
        return float(F.binary_cross_entropy_with_logits(targets * 0.0 + z, targets, pos_weight=c))

    found = optimize.minimize_scalar(loss, bounds=(-10, 10), method="bounded", options={"xatol": 1e-9})
    best = chance.pos_weight_optimum(positives / 20, pos_weight)
    assert best.loss == pytest.approx(found.fun, abs=1e-6)
    assert best.probability == pytest.approx(1 / (1 + math.exp(-found.x)), abs=1e-5)


def test_counts_add_up_and_rates_never_reach_zero():
    first = chance.class_counts(np.array([[0, 1], [1, -100]]), 4)
    second = chance.class_counts(np.array([[0.5, 0.5, 0.0, 0.0]]), 4)
    np.testing.assert_array_equal(first + second, [1.5, 2.5, 0.0, 0.0])
    np.testing.assert_allclose(chance.rates(first + second), np.array([2.5, 3.5, 1.0, 1.0]) / 8.0)
    np.testing.assert_allclose(chance.rates([3.0, 1.0], pseudo_count=0.0), [0.75, 0.25])


# ------------------------------------------------------------------------------------- relatives of cross-entropy


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_focal_and_comp_sum_at_the_uniform_guess(classes):
    log_p = torch.log_softmax(torch.zeros(classes, dtype=torch.float64), 0)[0]
    for gamma in (0.0, 0.5, 2.0):
        assert chance.focal(classes, gamma) == pytest.approx(float(-((1 - log_p.exp()) ** gamma) * log_p), rel=1e-12)
    for tau in (0.0, 0.5, 1.0, 1.0 + 1e-9, 1.7, 2.0):
        # the definition: Phi_tau is the integral of (1+t)^-tau from 0 to u, at u = K-1
        integral, _ = integrate.quad(lambda t, tau=tau: (1.0 + t) ** -tau, 0.0, classes - 1.0, epsabs=1e-11, limit=200)
        assert chance.comp_sum(classes, tau) == pytest.approx(integral, rel=1e-8)


@pytest.mark.parametrize(
    ("gamma", "alpha", "p"), [(2.0, None, 0.5), (2.0, 0.25, 0.5), (1.0, 0.25, 0.01), (0.0, None, 0.3)]
)
def test_sigmoid_focal_is_the_written_out_loss(gamma, alpha, p):
    targets = torch.tensor([1.0] * 3 + [0.0] * 7, dtype=torch.float64)
    prediction = torch.full_like(targets, p)
    p_t = prediction * targets + (1 - prediction) * (1 - targets)
    losses = F.binary_cross_entropy(prediction, targets, reduction="none") * (1 - p_t) ** gamma
    if alpha is not None:
        losses = losses * (alpha * targets + (1 - alpha) * (1 - targets))
    ours = chance.sigmoid_focal(gamma, alpha=alpha, prior=0.3, probability=p)
    assert ours == pytest.approx(float(losses.mean()), rel=1e-12)


def test_info_nce_starts_at_the_log_of_the_row_length():
    batch = 16
    flat = torch.zeros(batch, batch, dtype=torch.float64)
    assert chance.info_nce(batch) == pytest.approx(float(F.cross_entropy(flat, torch.arange(batch))))
    views = torch.zeros(2 * batch, 2 * batch, dtype=torch.float64)
    views.fill_diagonal_(-math.inf)
    partner = (torch.arange(2 * batch) + batch) % (2 * batch)
    assert chance.info_nce(batch, kind="simclr") == pytest.approx(float(F.cross_entropy(views, partner)))
    row = torch.zeros(3, 1 + 4096, dtype=torch.float64)
    moco = chance.info_nce(kind="moco", queue=4096)
    assert moco == pytest.approx(float(F.cross_entropy(row, torch.zeros(3, dtype=torch.long))))


def test_gan_discriminator_levels():
    zeros = torch.zeros(8, dtype=torch.float64)
    real = F.binary_cross_entropy_with_logits(zeros, torch.ones_like(zeros))
    fake = F.binary_cross_entropy_with_logits(zeros, zeros)
    assert chance.gan_discriminator() == pytest.approx(float((real + fake) / 2))
    assert chance.gan_discriminator(halves="sum") == pytest.approx(float(real + fake))


# ------------------------------------------------------------------------------------------------- unusable input


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: chance.cross_entropy([0, 5], 5), "targets.*5.*classes=5"),
        (lambda: chance.cross_entropy([-1, 0], 5), "targets.*-1"),
        (lambda: chance.cross_entropy([-100, 0], 5, ignore_index=None), "targets.*-100"),
        (lambda: chance.cross_entropy([0], 0), "classes"),
        (lambda: chance.cross_entropy([0], 2.5), "classes"),
        (lambda: chance.cross_entropy([True, False], 2), "boolean"),
        (lambda: chance.cross_entropy(["cat"], 2), "numeric"),
        (lambda: chance.cross_entropy(np.zeros((4, 3)), 5), "class axis"),
        (lambda: chance.cross_entropy(np.full((4, 3), np.nan), 3), "targets"),
        (lambda: chance.cross_entropy(-np.ones((4, 3)), 3), "targets"),
        (lambda: chance.cross_entropy(np.ones((4, 3)), 3, ignore_index=1), "ignore_index"),
        (lambda: chance.cross_entropy([0], 3, predictor=[0.5, 0.5]), "predictor"),
        (lambda: chance.cross_entropy([0], 3, predictor=[5.0, 4.0, 1.0]), "predictor.*divide"),
        (lambda: chance.cross_entropy([0], 2, predictor=[1.5, -0.5]), "predictor"),
        (lambda: chance.cross_entropy([0], 3, weight=[1.0, 1.0]), "weight"),
        (lambda: chance.cross_entropy([0], 2, weight=[1.0, -1.0]), "weight"),
        (lambda: chance.cross_entropy([0], 2, label_smoothing=1.1), "label_smoothing"),
        (lambda: chance.cross_entropy([0], 2, reduction="average"), "reduction"),
        (lambda: chance.cross_entropy([0], 2, normalisation="jax"), "normalisation"),
        (lambda: chance.binary_cross_entropy([0.0, 2.0]), "targets"),
        (lambda: chance.binary_cross_entropy([0.0, math.nan]), "targets"),
        (lambda: chance.binary_cross_entropy([0.0], p=1.5), "p must"),
        (lambda: chance.binary_cross_entropy(np.zeros((4, 3)), pos_weight=np.ones(2)), "pos_weight.*broadcast"),
        (lambda: chance.binary_cross_entropy(np.zeros(3), weight=np.ones((3, 1))), "weight.*broadcast"),
        (lambda: chance.binary_cross_entropy([0.0], pos_weight=2.0, logits=False), "pos_weight"),
        (lambda: chance.mse([0, 7], classes=3), "targets"),
        (lambda: chance.mse([0, 1], classes=3, prediction=[0.1]), "prediction"),
        (lambda: chance.entropy([0.5, 0.2]), "prior"),
        (lambda: chance.constant_optimum([0.5, 0.5], weight=[0.0, 0.0]), "weight"),
        (lambda: chance.constant_optimum([1.0, 0.0], weight=[0.0, 1.0]), "weight"),
        (lambda: chance.pos_weight_optimum(1.2), "prior"),
        (lambda: chance.pos_weight_optimum(0.2, 0.0), "pos_weight"),
        (lambda: chance.rates([-1.0, 2.0]), "counts"),
        (lambda: chance.rates([0.0, 0.0], pseudo_count=0.0), "counts"),
        (lambda: chance.focal(3, -1.0), "gamma"),
        (lambda: chance.comp_sum(3, -0.1), "tau"),
        (lambda: chance.info_nce(kind="moco"), "queue"),
        (lambda: chance.info_nce(kind="other"), "kind"),
    ],
)
def test_unusable_input_is_named(call, names):
    with pytest.raises(ValueError, match=f"(?s){names}"):
        call()


def test_importing_the_room_pulls_in_no_framework():
    code = (
        "import sys, unstuck.theory.chance, unstuck.theory.floors, unstuck.theory.lookup;"
        "print([m for m in ('torch', 'keras', 'jax', 'scipy') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
