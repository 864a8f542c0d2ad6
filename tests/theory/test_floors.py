"""Every floor against a construction that reaches it, and against direct minimisation or random search under it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, special
from scipy import stats as scipy_stats

from unstuck.theory import floors

torch.set_num_threads(1)  # tensors of a few numbers: a thread pool only makes them wait for each other

def minimise(loss, start: np.ndarray, bounds=None) -> float:
    """The lowest value found for a torch loss over a real vector."""

    def value_and_gradient(z: np.ndarray) -> tuple[float, np.ndarray]:
        x = torch.from_numpy(z.copy()).requires_grad_()
        value = loss(x)
        value.backward()
        return float(value.detach()), x.grad.numpy()

    options = {"maxiter": 3000, "ftol": 1e-14, "gtol": 1e-10}
    found = optimize.minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return float(found.fun)


@pytest.mark.parametrize("classes", [2, 5, 10, 100])
@pytest.mark.parametrize("width", [0.0, 1.0, 2.0, 7.5])
def test_bounded_logits_is_the_minimum_over_the_box(classes, width):
    start = np.random.default_rng(0).uniform(-width / 2, width / 2, classes)
    target = torch.tensor([1])
    found = minimise(lambda z: F.cross_entropy(z[None], target), start, [(-width / 2, width / 2)] * classes)
    assert floors.bounded_logits(classes, width) == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize(("classes", "level"), [(2, 0.3133), (5, 0.9048), (10, 1.4612), (100, 3.6222), (1000, 5.9095)])
def test_softmax_twice_floor(classes, level):
    assert floors.softmax_twice(classes) == pytest.approx(level, abs=5e-5)
    target = torch.tensor([0])
    z = torch.zeros(1, classes, dtype=torch.float64)
    z[0, 0] = 200.0  # the inner softmax is one-hot
    assert floors.softmax_twice(classes) == pytest.approx(float(F.cross_entropy(z.softmax(1), target)), abs=1e-12)
    start = np.random.default_rng(1).normal(size=classes)
    found = minimise(lambda x: F.cross_entropy(x.softmax(0)[None], target), start)
    assert floors.softmax_twice(classes) <= found <= floors.softmax_twice(classes) + 0.02  # approached, never passed


@pytest.mark.parametrize("right", [0, 3, 10])
def test_softmax_twice_saturated_is_a_line_in_the_accuracy(right):
    labels = torch.arange(10)
    said = torch.where(torch.arange(10) < right, labels, (labels + 1) % 10)
    inner = F.one_hot(said, 10).double()
    theirs = float(F.cross_entropy(inner, labels))
    assert floors.softmax_twice_saturated(10, right / 10) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("positives", [1, 5, 9])
def test_sigmoid_twice(positives):
    targets = torch.tensor([1.0] * positives + [0.0] * (10 - positives), dtype=torch.float64)
    inner = torch.where(targets > 0, 400.0, -400.0).double().sigmoid()
    reached = float(F.binary_cross_entropy_with_logits(inner, targets))
    assert floors.sigmoid_twice(positives / 10) == pytest.approx(reached, abs=1e-12)
    z = torch.from_numpy(np.random.default_rng(0).normal(scale=9.0, size=(500, 10)))
    lowest = F.binary_cross_entropy_with_logits(z.sigmoid(), targets.expand(500, 10), reduction="none").mean(1).min()
    assert float(lowest) >= reached
    at_zero = float(F.binary_cross_entropy_with_logits(torch.zeros(10).double().sigmoid(), targets))
    assert floors.sigmoid_twice_at_zero(positives / 10) == pytest.approx(at_zero, abs=1e-12)


def simplex(points: int) -> torch.Tensor:
    """`points` unit vectors with all pairwise cosines -1/(points-1)."""
    centred = torch.eye(points, dtype=torch.float64) - 1.0 / points
    return F.normalize(centred, dim=1)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_logits_of_a_fixed_norm_reach_their_floor_and_do_not_pass_it(classes, scale):
    floor = floors.bounded_logits(classes, floors.unit_norm_width(classes, scale))

    def loss(z: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(scale * F.normalize(z.reshape(1, classes), dim=1), torch.zeros(1, dtype=torch.long))

    found = minimise(loss, np.random.default_rng(3).normal(size=classes))
    assert floor * (1 - 1e-9) - 1e-12 <= found <= floor * 1.001 + 1e-9


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("scale", [1.0, 16.0])
def test_cosine_head_on_a_simplex_reaches_its_floor_and_random_ones_do_not_pass_it(classes, scale):
    floor = floors.bounded_logits(classes, floors.cosine_width(classes, scale))
    corners = simplex(classes)
    labels = torch.arange(classes)
    reached = float(F.cross_entropy(scale * corners @ corners.T, labels))
    assert floor == pytest.approx(reached, rel=1e-9)
    rng = np.random.default_rng(3)

    def loss(z: torch.Tensor) -> torch.Tensor:
        features, heads = F.normalize(z.reshape(2, classes, classes + 1), dim=2)
        return F.cross_entropy(scale * features @ heads.T, labels)

    found = minimise(loss, rng.normal(size=2 * classes * (classes + 1)))
    assert floor - 1e-12 <= found <= floor * 1.02 + 1e-9


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31), classes=st.integers(2, 6), weighted=st.booleans(), eps=st.sampled_from([0.0, 0.1]),
    scale=st.sampled_from([1.0, 1.6]), deep=st.booleans(),
)
def test_soft_targets_is_the_minimum_of_torchs_loss(seed, classes, weighted, eps, scale, deep):
    rng = np.random.default_rng(seed)
    shape = (2, 2) if deep else (3,)
    targets = np.moveaxis(rng.dirichlet(np.ones(classes), shape) * 0.9 + 0.1 / classes, -1, 1) * scale
    weight = rng.uniform(0.2, 3.0, classes) if weighted else None
    w = None if weight is None else torch.from_numpy(weight)
    target = torch.from_numpy(targets.copy())
    found = minimise(
        lambda z: F.cross_entropy(z.reshape(targets.shape), target, weight=w, label_smoothing=eps),
        rng.normal(size=targets.size),
    )
    assert floors.soft_targets(targets, weight=weight, label_smoothing=eps) == pytest.approx(found, abs=1e-7)


def test_soft_targets_of_hard_targets_is_zero_and_of_nothing_nan():
    assert floors.soft_targets(np.eye(4)) == 0.0
    assert math.isnan(floors.soft_targets(np.zeros((0, 4))))
    assert floors.soft_targets(np.full((2, 5, 3), 1 / 3), class_axis=-1) == pytest.approx(math.log(3))


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("eps", [0.0, 0.1, 0.5, 1.0])
def test_label_smoothing_floor_is_the_minimum_of_torchs_loss(classes, eps):
    target = torch.tensor([0])
    found = minimise(lambda z: F.cross_entropy(z[None], target, label_smoothing=eps), np.linspace(1.0, 0.0, classes))
    assert floors.label_smoothing(classes, eps) == pytest.approx(found, abs=1e-7)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("eta", [0.0, 0.2, 0.6])
def test_symmetric_noise_is_the_entropy_of_the_noisy_label(classes, eta):
    other = np.full(classes, eta / (classes - 1))
    other[0] = 1.0 - eta
    assert floors.symmetric_noise(classes, eta) == pytest.approx(special.entr(other).sum(), abs=1e-12)
    redrawn = np.full(classes, eta / classes)
    redrawn[0] += 1.0 - eta
    redrawn_floor = floors.symmetric_noise(classes, eta, includes_true=True)
    assert redrawn_floor == pytest.approx(special.entr(redrawn).sum(), abs=1e-12)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.4, 1.0, 8.0, 300.0])
def test_mixup_is_the_integral_over_the_beta_distribution(alpha):
    def integrand(angle: float) -> float:  # lambda = sin^2: takes the singular ends out of the Beta density
        lam = math.sin(angle) ** 2
        entropy = float(special.entr(lam) + special.entr(1.0 - lam))
        density = 2.0 * (math.sin(angle) * math.cos(angle)) ** (2.0 * alpha - 1.0) / special.beta(alpha, alpha)
        return density * entropy

    integral, _ = integrate.quad(integrand, 0.0, math.pi / 2, points=[math.pi / 4], epsabs=1e-12, limit=500)
    assert floors.mixup(alpha) == pytest.approx(integral, abs=1e-8)
    assert floors.mixup(alpha, classes=10) == pytest.approx(0.9 * integral, abs=1e-8)
    assert floors.mixup(alpha, prior=[0.5, 0.3, 0.2]) == pytest.approx((1 - 0.38) * integral, abs=1e-8)


def test_mixup_matches_mixed_batches():
    rng = np.random.default_rng(0)
    lam = rng.beta(0.4, 0.4, 200_000)[:, None]
    one_hot = np.eye(4)
    mixed = lam * one_hot[rng.integers(0, 4, lam.size)] + (1 - lam) * one_hot[rng.integers(0, 4, lam.size)]
    assert floors.mixup(0.4, classes=4) == pytest.approx(floors.soft_targets(mixed), abs=3e-3)
    assert floors.mixup(1.0) == pytest.approx(0.5, abs=1e-14)
    assert floors.mixup(0.2) == pytest.approx(0.2276, abs=1e-4)


def test_batch_softmax_of_one_batch_is_the_minimum_over_all_logits():
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 0])
    start = np.random.default_rng(0).normal(size=21)
    found = minimise(lambda z: F.nll_loss(torch.log_softmax(z.reshape(7, 3), dim=0), labels), start)
    assert floors.batch_softmax_of(labels.numpy()) == pytest.approx(found, abs=1e-4)
    assert floors.batch_softmax_of(labels.numpy()) <= found
    assert math.isnan(floors.batch_softmax_of(np.zeros(0, dtype=int)))


def test_batch_softmax_is_the_expectation_over_every_possible_batch():
    prior = [0.5, 0.3, 0.2]
    expected = sum(
        math.prod(prior[k] for k in labels) * floors.batch_softmax_of(np.array(labels))
        for labels in itertools.product(range(3), repeat=6)
    )
    assert floors.batch_softmax(6, prior=prior) == pytest.approx(expected, abs=1e-12)
    assert floors.batch_softmax(6, classes=3) == pytest.approx(floors.batch_softmax(6, prior=[1 / 3] * 3), abs=1e-12)
    others = scipy_stats.binom(63, 0.1)
    level = sum(others.pmf(k) * math.log(1 + k) for k in range(64))
    assert floors.batch_softmax(64, classes=10) == pytest.approx(level, abs=1e-12)
    assert floors.batch_softmax(8, prior=[1.0, 0.0]) == pytest.approx(math.log(8))
    assert math.isfinite(floors.batch_softmax(20_000, classes=10))  # binomial coefficients overflow if taken directly


@pytest.mark.parametrize("positives", [0, 1, 4])
def test_broadcast_floors_are_what_training_against_all_pairs_reaches(positives):
    y = torch.tensor([1.0] * positives + [0.0] * (8 - positives), dtype=torch.float64)

    def bce(z: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(z[:, None].expand(8, 8), y.expand(8, 8))

    def mse(z: torch.Tensor) -> torch.Tensor:
        return ((z[:, None] - y) ** 2).mean()

    start = np.random.default_rng(0).normal(size=8)
    assert floors.broadcast_bce(positives / 8) == pytest.approx(minimise(bce, start), abs=1e-6)
    assert floors.broadcast_mse(y.numpy()) == pytest.approx(minimise(mse, start), abs=1e-9)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_info_nce_floor_is_reached_on_a_simplex_and_not_passed(temperature):
    batch = 6
    corners, labels = simplex(batch), torch.arange(batch)
    clip = floors.info_nce(batch - 1, temperature)
    assert clip == pytest.approx(float(F.cross_entropy(corners @ corners.T / temperature, labels)), rel=1e-9)

    def loss(z: torch.Tensor) -> torch.Tensor:
        a, b = F.normalize(z.reshape(2, batch, batch), dim=2)
        return F.cross_entropy(a @ b.T / temperature, labels)

    assert clip - 1e-12 <= minimise(loss, np.random.default_rng(0).normal(size=2 * batch * batch)) <= clip * 1.02 + 1e-9

    partner = (torch.arange(2 * batch) + batch) % (2 * batch)
    mask = torch.zeros(2 * batch, 2 * batch, dtype=torch.float64).fill_diagonal_(-math.inf)

    def simclr_loss(z: torch.Tensor) -> torch.Tensor:
        views = F.normalize(z.reshape(2 * batch, batch), dim=1)
        return F.cross_entropy(views @ views.T / temperature + mask, partner)

    simclr = floors.info_nce(2 * batch - 2, temperature, points=batch)
    both = torch.cat([corners, corners]).reshape(-1)
    assert simclr == pytest.approx(float(simclr_loss(both)), rel=1e-9)
    assert minimise(simclr_loss, np.random.default_rng(1).normal(size=both.numel())) >= simclr - 1e-12


def test_nll_on_probabilities_goes_from_one_over_k_to_its_floor():
    labels = torch.arange(5)
    uniform = torch.full((5, 5), 0.2)
    assert float(F.nll_loss(uniform, labels)) == pytest.approx(-0.2)
    assert floors.nll_on_probabilities() == pytest.approx(float(F.nll_loss(torch.eye(5), labels)))


def test_saturation_costs_are_what_float32_clipping_gives():
    one = np.float32(1.0)
    clipped = np.clip(one, np.float32(1e-7), np.float32(1.0 - 1e-7))  # the output 1 of a softmax over one unit
    assert floors.SATURATION_COST["keras-clip"] == pytest.approx(-math.log(float(one - clipped)), abs=1e-6)
    added = -math.log(float(one - clipped + np.float32(1e-7)))
    assert floors.SATURATION_COST["keras-clip-plus-epsilon"] == pytest.approx(added, abs=1e-6)
    by_exponent = [round(floors.SATURATION_COST[f"epsilon-1e-{k}"], 3) for k in (7, 8, 12, 15)]
    assert by_exponent == [16.118, 18.421, 27.631, 34.539]


def test_saturated_is_torchs_bce_with_a_softmax_over_one_unit():
    targets = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0])
    always_one = torch.randn(5, 1).softmax(dim=1)[:, 0]
    theirs = float(F.binary_cross_entropy(always_one, targets))
    assert floors.saturated(0.6, "torch-bce-clamp") == pytest.approx(theirs, rel=1e-6)
    assert floors.saturated(0.6, 100.0) == floors.saturated(0.6, "torch-bce-clamp")


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: floors.bounded_logits(1, 1.0), "classes"),
        (lambda: floors.bounded_logits(3, -1.0), "width"),
        (lambda: floors.bounded_logits(3, math.nan), "width"),
        (lambda: floors.cosine_width(3, -2.0), "scale"),
        (lambda: floors.softmax_twice_saturated(10, 55.0), "accuracy.*fraction"),
        (lambda: floors.sigmoid_twice(-0.1), "prior"),
        (lambda: floors.soft_targets(0.5), "targets"),
        (lambda: floors.soft_targets([[0.5, -0.5]]), "targets"),
        (lambda: floors.soft_targets([[0.5, 0.5]], weight=[1.0]), "weight"),
        (lambda: floors.label_smoothing(3, 1.5), "eps"),
        (lambda: floors.symmetric_noise(3, 2.0), "eta"),
        (lambda: floors.mixup(0.0), "alpha"),
        (lambda: floors.mixup(1.0, classes=3, prior=[0.5, 0.5]), "not both"),
        (lambda: floors.batch_softmax(0, classes=3), "batch"),
        (lambda: floors.batch_softmax(8), "classes.*prior"),
        (lambda: floors.batch_softmax_of([0.5, 0.1]), "labels"),
        (lambda: floors.info_nce(0, 1.0), "negatives"),
        (lambda: floors.info_nce(5, 0.0), "temperature"),
        (lambda: floors.saturated(0.5, "keras"), "keras-clip"),
        (lambda: floors.saturated(1.5), "accuracy"),
    ],
)
def test_unusable_input_is_named(call, names):
    with pytest.raises(ValueError, match=f"(?s){names}"):
        call()
