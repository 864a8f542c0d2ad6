"""Tests of dependence against data whose relation is known, and its formulas against refits and loops."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.datasets import load_digits, load_iris, make_moons
from sklearn.linear_model import LogisticRegression

from unstuck.stats.dependence import (
    LEVEL,
    Battery,
    Dependence,
    _Scan,
    build_features,
    combine,
    examine,
    first_copies,
    folds,
    leave_one_out,
    neighbours,
    offsets,
    plant,
    planted,
    ridge_smoother,
    softmax_regression,
    sorted_by_class,
    standardise,
    structure,
)


def _digits(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    x, y = load_digits(return_X_y=True)
    some = np.random.default_rng(seed).permutation(len(y))[:rows]
    return x[some], y[some]


def _iris(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    x, y = load_iris(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    return x[order], y[order]


def _spirals(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    arm, turn = rng.integers(0, 2, n), np.sqrt(rng.random(n)) * 3 * math.pi
    points = np.stack([turn * np.cos(turn + math.pi * arm), turn * np.sin(turn + math.pi * arm)], 1) / 10
    return points + 0.02 * rng.standard_normal((n, 2)), arm


# ------------------------------------------------------------------------------------------------- is the test honest?


def test_p_values_are_uniform_where_labels_and_inputs_are_independent() -> None:
    """300 small data sets of many shapes; the count of rejections lies within binomial limits (0.1 % on each side)."""
    rng = np.random.default_rng(1)
    p = []
    for i in range(300):
        n, d, classes = int(rng.integers(12, 60)), int(rng.integers(1, 12)), int(rng.integers(2, 5))
        x = rng.standard_normal((n, d)) if i % 3 else rng.integers(0, 2, (n, d)) + 1e-3 * rng.standard_normal((n, 1))
        x = x @ rng.standard_normal((d, d)) if i % 2 else x
        y = np.unique(rng.choice(classes, n, p=rng.dirichlet(np.ones(classes))), return_inverse=True)[1]
        if y.max() < 1:
            continue
        battery = Battery(standardise(x), y, rng)
        p.append(combine(battery.values(np.vstack([y, rng.permuted(np.tile(y, (99, 1)), axis=1)])))[0])
    p = np.array(p)
    assert len(p) > 250
    assert 3 <= (p <= 0.05).sum() <= 28  # 15 expected at most; ties make the test a little conservative
    assert (p <= 0.2).sum() <= 84
    assert abs(np.mean(p) - 0.5) < 0.07


def test_the_best_rank_among_permutations_is_exact_for_any_exchangeable_values() -> None:
    rng = np.random.default_rng(2)
    shared = rng.standard_normal((2000, 40, 1))  # correlated statistics, one of them on a coarse grid
    values = np.concatenate([shared + rng.standard_normal((2000, 40, 3)), np.round(shared)], axis=2)
    p = np.array([combine(v)[0] for v in values])
    for level in (0.05, 0.1, 0.25, 0.5):
        assert np.mean(p <= level + 1e-9) <= level + 3 * math.sqrt(level / 2000)
    assert np.mean(p <= 0.1 + 1e-9) > 0.07
    # a statistic that is far out wins over others that merely come first in their own ranking
    values = rng.standard_normal((1000, 8))
    values[0, 3] = 30.0
    assert combine(values)[0] == pytest.approx(0.001)
    assert combine(np.ones((100, 3)))[0] == 1.0


def test_structure_has_its_level_on_independent_columns() -> None:
    rng = np.random.default_rng(3)
    real = [structure(rng.integers(0, 2, (60, 6)).astype(float), "real", rng, 39) for _ in range(60)]
    ids = [structure(rng.integers(0, 9, (40, 6)), "ids", rng, 39) for _ in range(60)]
    for p in (np.array(real), np.array(ids)):
        assert (p <= 0.1).sum() <= 14  # 6 expected; 14 has probability 0.2 %
        assert np.mean(p) > 0.35


# ------------------------------------------------------------------------------------------------------------ formulas


def test_leaving_one_out_by_the_hat_matrix_is_refitting() -> None:
    rng = np.random.default_rng(4)
    for n, d in ((15, 3), (10, 20)):
        x = rng.standard_normal((n, d)) * rng.uniform(0.1, 3.0, d)
        x -= x.mean(0)
        y = rng.standard_normal((n, 2))
        smoother = ridge_smoother(x, 2.5)
        assert (smoother.weights**2).sum() == pytest.approx(2.5)
        fast = leave_one_out(smoother, y)
        for i in range(n):
            rest = np.arange(n) != i
            a, b = x[rest] - x[rest].mean(0), y[rest] - y[rest].mean(0)
            slope = np.linalg.solve(a.T @ a + smoother.penalty * np.eye(d), a.T @ b)
            assert fast[i] == pytest.approx(y[rest].mean(0) + (x[i] - x[rest].mean(0)) @ slope, abs=1e-8)


def test_the_statistics_are_what_they_are_called() -> None:
    rng = np.random.default_rng(5)
    x = standardise(rng.standard_normal((50, 4)))
    y = rng.integers(0, 3, 50)
    battery = Battery(x, y, rng)
    labels = np.stack([y, rng.permutation(y)])
    values = dict(zip(battery.names, battery.values(labels).T))
    for i, row in enumerate(labels):
        hot = np.eye(3)[row]
        correlations = [abs(np.corrcoef(a, b)[0, 1]) for a in x.T for b in hot.T]
        assert values["largest correlation"][i] == pytest.approx(max(correlations), rel=1e-4)
        coded = battery.table[row].astype(float)
        for name, smoother in zip(("linear ridge", "wide kernel ridge", "narrow kernel ridge"), battery.smoothers):
            by_hand = float((coded * leave_one_out(smoother, coded)).sum())
            assert values[name][i] == pytest.approx(by_hand, rel=1e-3, abs=1e-3)
        gaps = ((x[:, None] - x[None]) ** 2).sum(-1) + 1e9 * np.eye(50)
        near = np.argsort(gaps, axis=1)[:, :10]
        assert values["nearest neighbour"][i] == (row[near[:, 0]] == row).sum()
        assert values["ten neighbours"][i] == (row[near] == row[:, None]).sum()
        assert np.array_equal(neighbours(x, 10), near)


def test_planted_information_is_that_of_its_joint_table() -> None:
    rates = np.array([0.5, 0.3, 0.2])
    for strength in (0.0, 0.3, 1.0):
        joint = np.diag(rates) * strength + (1 - strength) * np.outer(rates, rates)
        with np.errstate(divide="ignore", invalid="ignore"):
            nats = np.nansum(joint * np.log(joint / np.outer(rates, rates)))
        assert planted(rates, strength) == pytest.approx((nats, joint.max(1).sum() - 0.5))
    assert planted(rates, 1.0)[0] == pytest.approx(-(rates * np.log(rates)).sum())


def test_plants_keep_the_class_counts_and_the_strength() -> None:
    rng = np.random.default_rng(6)
    y = rng.choice(4, 3000, p=[0.5, 0.3, 0.15, 0.05])
    for columns in (1, 4):
        labels = plant(y, rng.standard_normal((3000, columns)), rng)
        rule = labels(1.0)
        for strength in (0.0, 0.4, 1.0):
            out = labels(strength)
            assert np.array_equal(np.bincount(out), np.bincount(y))
            expected = strength + (1 - strength) * ((np.bincount(y) / 3000) ** 2).sum()
            assert np.mean(out == rule) == pytest.approx(expected, abs=0.03)


def test_folds_are_even_and_deal_out_every_class() -> None:
    y = np.repeat([0, 1, 2, 3, 4], [41, 23, 3, 1, 2])
    fold = folds(y, 5, np.random.default_rng(7))
    assert np.ptp(np.bincount(fold)) <= 1
    for label in range(5):
        assert np.ptp(np.bincount(fold[y == label], minlength=5)) <= 1


def test_own_softmax_regression_agrees_with_scikit_learn() -> None:
    x, y = _iris()
    x = standardise(x).astype(float)
    w = softmax_regression(x, y, 3, 0.02, steps=500)
    theirs = LogisticRegression(C=1.0 / (0.02 * len(y)), max_iter=1000, tol=1e-8).fit(x, y)
    assert np.exp(log_softmax(x @ w[:-1] + w[-1], axis=1)) == pytest.approx(theirs.predict_proba(x), abs=2e-3)


def test_first_copies_sees_what_a_training_sees() -> None:
    x = np.array([[0.0, 1.0], [2.0, 3.0], [-0.0, 1.0], [2.0, 3.0 + 1e-12], [2.0, 3.001]])
    assert first_copies(x).tolist() == [0, 1, 0, 1, 4]
    assert first_copies(np.array([[1, 2], [1, 3], [1, 2]])).tolist() == [0, 1, 0]


# ------------------------------------------------------------------------------------------------- what must be found


def test_a_straight_line_is_found_and_the_sentence_says_how_well() -> None:
    rng = np.random.default_rng(8)
    x = rng.standard_normal((500, 20))
    y = (x[:, 0] - x[:, 1] + 0.3 * rng.standard_normal(500) > 0).astype(int)
    seen = examine(x, y)
    assert seen.found and seen.p_value == pytest.approx(0.001)
    best = seen.best
    assert best is not None and best.name == "logistic regression" and best.loss < 0.3
    assert best.base == pytest.approx(math.log(2), abs=0.01)
    numbers = f"reaches {best.loss:.2f} nats (cross-validated), the base rates 0.69."
    assert seen.sentence() == "A logistic regression on 500 of your own samples " + numbers
    assert "something to learn" in seen.cap


def test_moons_and_spirals_are_found_though_they_are_not_straight() -> None:
    x, y = make_moons(400, noise=0.15, random_state=0)
    seen = examine(x, y)
    assert seen.found and seen.best.accuracy > 0.95
    x, y = _spirals(400, np.random.default_rng(9))
    seen = examine(x, y)
    assert seen.found and seen.best.accuracy > 0.9
    assert seen.best.name != "logistic regression"


def test_a_probe_that_ran_out_of_time_is_not_called_the_best() -> None:
    x, y = _iris()
    seen = examine(x, y)
    short = replace(seen.probes[0], name="short one", gain=9.0, rows=30)
    assert replace(seen, probes=(*seen.probes, short)).best == seen.best
    assert replace(seen, probes=()).best is None


def test_iris_is_found() -> None:
    x, y = _iris()
    seen = examine(x, y)
    assert seen.found and seen.structured and seen.enough
    assert seen.duplicates == 1 and seen.conflicts == 0.0 and seen.n == 149
    assert seen.best.loss < 0.2


def test_digits_are_found() -> None:
    seen = examine(*_digits(800))
    assert seen.found and seen.structured
    assert seen.best.loss < 0.3 and seen.best.accuracy > 0.9
    assert seen.base == pytest.approx(math.log(10), abs=0.02)


# ----------------------------------------------------------------------------------------------- what must not be found


def test_shuffled_digits_hold_nothing_and_the_power_is_stated() -> None:
    x, y = _digits(800)
    seen = examine(x, np.random.default_rng(10).permutation(y))
    assert not seen.found and seen.structured and seen.enough and seen.absent
    assert 0.02 < seen.detectable < 0.6
    assert seen.detectable_accuracy > 0.05
    assert seen.detectable == pytest.approx(max(seen.detectable_by.values()))
    for probe in seen.probes:
        assert probe.gain < 0.03 and probe.loss == pytest.approx(probe.base, abs=0.1)
    assert "would have been found in 95 % of cases" in seen.sentence()
    assert "ruled out" in seen.cap


def test_parity_of_random_bits_is_missed_and_nothing_is_claimed() -> None:
    rng = np.random.default_rng(11)
    x = rng.integers(0, 2, (800, 40)).astype(float)
    seen = examine(x, x[:, :8].sum(1).astype(int) % 2)
    assert not seen.found
    assert not seen.structured and not seen.absent
    assert "parity" in seen.cap


def test_several_epochs_of_random_labels_do_not_leak() -> None:
    """The same 150 rows four times over, each with its own fixed random label."""
    rng = np.random.default_rng(12)
    x, y = rng.standard_normal((150, 6)), rng.integers(0, 2, 150)
    order = np.concatenate([rng.permutation(150) for _ in range(4)])
    seen = examine(x[order], y[order])
    assert (seen.n, seen.duplicates, seen.conflicts) == (150, 450, 0.0)
    assert not seen.found
    assert seen.best.accuracy < 0.65


def test_copies_with_other_labels_are_counted() -> None:
    rng = np.random.default_rng(13)
    x = np.repeat(rng.standard_normal((200, 3)), 2, axis=0)
    seen = examine(x, rng.integers(0, 4, 400))
    assert seen.duplicates == 200
    assert seen.conflicts == pytest.approx(0.75, abs=0.1)
    assert examine(x[::2], rng.integers(0, 4, 200)).conflicts is None


def test_the_first_label_in_the_order_seen_is_kept() -> None:
    x = np.repeat(np.arange(60.0)[:, None], 2, axis=0)
    first, second = (np.arange(60) >= 30).astype(int), np.random.default_rng(14).integers(0, 2, 60)
    y, order = np.stack([second, first], 1).ravel(), np.tile([1, 0], 60)
    assert examine(x, y, order=order).best.accuracy > 0.9


# ---------------------------------------------------------------------------------------------------------------- power


@pytest.mark.slow
def test_a_dependence_of_the_stated_strength_is_found() -> None:
    """Fresh linear rules of the detectable strength on iris-like inputs; not the ones the number was worked out from."""
    rng = np.random.default_rng(15)
    x, y = _iris()
    seen = examine(x, rng.permutation(y))
    features, found = build_features(x, "real", rng), 0
    strengths = np.linspace(0.0, 1.0, 400)
    strength = strengths[np.argmin([abs(planted(np.full(3, 1 / 3), s)[0] - seen.detectable) for s in strengths])]
    for _ in range(60):
        labels = plant(y, features @ rng.standard_normal((features.shape[1], 3)), rng)(strength)
        battery = Battery(features, labels, rng)
        null = rng.permuted(np.tile(labels, (499, 1)), axis=1)
        found += combine(battery.values(np.vstack([labels, null])))[0] <= LEVEL
    assert found >= 50


def test_more_samples_detect_less() -> None:
    rng = np.random.default_rng(16)
    x = rng.standard_normal((900, 3)) @ rng.standard_normal((3, 5))
    few, many = (examine(x[:n], rng.integers(0, 2, n)) for n in (60, 900))
    assert many.detectable < few.detectable / 3


def test_too_few_rows_say_so() -> None:
    rng = np.random.default_rng(17)
    seen = examine(rng.standard_normal((12, 3)), np.tile([0, 1], 6))
    assert not seen.enough and not seen.absent and seen.detectable is None
    assert "12" in seen.reason and "12" in seen.cap
    many = examine(rng.standard_normal((40, 30)), np.arange(40) % 20)
    assert not many.enough and many.detectable is None and "20 classes" in many.reason
    assert many.sentence()


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_next_to_no_rows_are_no_error(n: int) -> None:
    seen = examine(np.arange(3.0 * n).reshape(n, 3), np.arange(n) % 2)
    assert seen.n == n and not seen.enough and seen.reason and seen.sentence() and not seen.found


def test_degenerate_data_says_why() -> None:
    rng = np.random.default_rng(18)
    assert "labels are the same" in examine(rng.standard_normal((50, 3)), np.zeros(50, int)).reason
    constant = examine(np.ones((50, 3)), np.arange(50) % 2)
    assert "one distinct" in constant.reason and constant.conflicts is not None
    assert "no usable row" in examine(np.full((50, 3), np.nan), np.arange(50) % 2).reason


# -------------------------------------------------------------------------------------------------------- kinds of rows


def test_rows_with_nan_are_dropped_and_counted() -> None:
    x, y = _iris()
    x = x.copy()
    x[3, 1], x[7, 0], x[7, 2] = np.nan, np.inf, -np.inf
    seen = examine(x, y)
    assert seen.non_finite == 2 and seen.given == 150 and seen.found


def test_huge_numbers_and_constant_columns_do_no_harm() -> None:
    rng = np.random.default_rng(19)
    x = rng.standard_normal((200, 4)) * np.array([1e200, 1.0, 1e-200, 0.0])
    y = (x[:, 1] > 0).astype(int)
    x[5, 1] = 1e30
    seen = examine(x.astype(np.float64), y)
    assert seen.columns == 3 and seen.p_value <= 1.0
    with np.errstate(all="raise"):
        assert np.isfinite(standardise(x)).all()


def test_token_sequences_are_found_by_their_words() -> None:
    rng = np.random.default_rng(20)
    y = rng.integers(0, 3, 400)
    ids = rng.integers(10, 40_000, (400, 30))
    ids[np.arange(400), rng.integers(0, 30, 400)] = y  # one word somewhere in the row says it
    seen = examine(ids, y, kind="ids")
    assert seen.found and seen.best.accuracy > 0.6
    assert not examine(ids[:150], rng.permutation(y)[:150], kind="ids").found


def test_a_token_at_one_place_is_found_in_a_small_vocabulary() -> None:
    rng = np.random.default_rng(21)
    ids = rng.integers(0, 4, (600, 12))
    seen = examine(ids, ids[:, -1] // 2, kind="ids")
    assert seen.found and seen.best.accuracy > 0.95


def test_a_single_category_is_a_table() -> None:
    """With 8 values in 400 rows the repeats are no copies: they are the evidence."""
    rng = np.random.default_rng(22)
    ids = rng.integers(0, 8, (400, 1))
    seen = examine(ids, ids[:, 0] % 2, kind="ids")
    assert seen.found and seen.n == 400 and seen.duplicates == 0
    nothing = examine(ids, rng.integers(0, 2, 400), kind="ids")
    assert not nothing.found and nothing.absent == nothing.enough


def test_text_has_structure_and_random_tokens_have_none() -> None:
    rng = np.random.default_rng(23)
    steps = rng.choice([1, 2, 3], (300, 20), p=[0.6, 0.3, 0.1])
    chain = (rng.integers(0, 50, (300, 1)) + np.cumsum(steps, axis=1)) % 50
    assert structure(chain, "ids", rng) <= LEVEL
    assert structure(rng.integers(0, 50, (300, 20)), "ids", rng) > LEVEL


def test_images_wider_than_the_rows_are_projected() -> None:
    rng = np.random.default_rng(24)
    y = rng.integers(0, 2, 120)
    hidden = rng.standard_normal((120, 5)) + 2.0 * y[:, None]
    x = (hidden @ rng.standard_normal((5, 3000)) + 0.5 * rng.standard_normal((120, 3000))).astype(np.float32)
    assert build_features(x, "real", rng).shape == (120, 120) or build_features(x, "real", rng).shape[1] <= 256
    seen = examine(x, y)
    assert seen.found and seen.columns == 3000 and seen.best.accuracy > 0.9


def test_projection_keeps_distances() -> None:
    rng = np.random.default_rng(25)
    x = rng.standard_normal((60, 400))
    kept = build_features(x, "real", rng).astype(float)  # 60 rows: principal components lose nothing
    full = standardise(x).astype(float)
    assert kept @ kept.T == pytest.approx(full @ full.T, abs=1e-2)


# ------------------------------------------------------------------------------------------------------------ manners


def test_one_seed_one_answer_and_no_global_state() -> None:
    x, y = _iris()
    np.random.seed(5)
    before = (np.random.get_state()[1].copy(), np.geterr(), x.copy(), y.copy())
    first, second = examine(x, y, seed=3, budget=60.0), examine(x, y, seed=3, budget=60.0)
    assert first == second and first.complete
    assert offsets(x, y, seed=3).sentence() == offsets(x, y, seed=3).sentence()
    assert np.array_equal(np.random.get_state()[1], before[0]) and np.geterr() == before[1]
    assert np.array_equal(x, before[2]) and np.array_equal(y, before[3])


def test_any_integers_may_be_labels() -> None:
    x, y = _iris()
    names = np.array([-7, 1000, 3])
    assert examine(x, names[y]).found
    assert examine(x, y.astype(np.uint8) + 250).found


def test_the_budget_is_kept() -> None:
    """Time is taken on the process, too: on a shared machine the wall clock may run on without us."""
    rng = np.random.default_rng(26)
    x, y = rng.standard_normal((6000, 300)).astype(np.float32), rng.integers(0, 20, 6000)
    begin, own = time.monotonic(), time.process_time()
    seen = examine(x, y, budget=2.0)
    spent = min(time.monotonic() - begin, time.process_time() - own)
    assert spent < 4.0
    assert isinstance(seen, Dependence) and seen.n < 2048 and not seen.found


def test_rare_classes_do_not_break_the_folds() -> None:
    rng = np.random.default_rng(27)
    x = rng.standard_normal((150, 4))
    y = np.concatenate([np.zeros(100, int), np.ones(40, int), np.arange(2, 12)])
    seen = examine(x, y)
    assert seen.classes == 12 and all(math.isfinite(probe.loss) for probe in seen.probes) and len(seen.probes) == 3


@pytest.mark.parametrize(
    ("x", "y", "options", "word"),
    [
        (np.zeros(5), np.zeros(5, int), {}, "x must have two dimensions"),
        (np.zeros((5, 2)), np.zeros(4, int), {}, "y must have shape"),
        (np.zeros((5, 2)), np.zeros((5, 1), int), {}, "y must have shape"),
        (np.zeros((5, 2)), np.zeros(5), {}, "y must hold integer"),
        (np.zeros((5, 2)), np.zeros(5, int), {"kind": "ids"}, "x must hold integers"),
        (np.zeros((5, 2), object), np.zeros(5, int), {}, "x must hold real"),
        (np.zeros((5, 2)), np.zeros(5, int), {"kind": "text"}, "kind"),
        (np.zeros((5, 2)), np.zeros(5, int), {"order": np.arange(4)}, "order"),
        (np.zeros((5, 2)), np.zeros(5, int), {"budget": 0.0}, "budget"),
    ],
)
def test_wrong_arguments_are_named(x: np.ndarray, y: np.ndarray, options: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        examine(x, y, **options)


# ------------------------------------------------------------------------------------------------------------- offsets


@pytest.mark.parametrize("shift", [3, -17])
def test_rolled_labels_of_digits_are_found(shift: int) -> None:
    x, y = _digits(500)
    seen = offsets(x, np.roll(y, shift))
    assert seen.shift == shift and seen.p_value <= 0.001
    assert seen.score > 10 * max(seen.score_at_zero, 1.0)
    assert f"{shift:+d} rows" in seen.sentence()


def test_rolled_labels_of_iris_are_found_in_shuffled_order_only() -> None:
    x, y = _iris()
    assert offsets(x, np.roll(y, 5)).shift == 5
    assert offsets(x, y).shift is None and offsets(x, y).best == 0
    x, y = load_iris(return_X_y=True)
    assert offsets(x, y).shift is None
    assert offsets(x, np.roll(y, 5)).shift is None  # sorted: the neighbours fit as well


def test_sorted_digits_have_no_offset() -> None:
    x, y = _digits(600)
    order = np.argsort(y, kind="stable")
    assert offsets(x[order], y[order]).shift is None


def test_labels_rolled_inside_each_batch_are_found() -> None:
    x, y = _digits(320)
    batch = np.arange(320) // 16
    rolled = np.concatenate([np.roll(part, 1) for part in np.split(y, 20)])
    seen = offsets(x, rolled, batch=batch)
    assert (seen.shift, seen.way) == (1, "batch")
    assert offsets(x, y, batch=batch).shift is None


def test_random_labels_have_no_offset_and_an_honest_p_value() -> None:
    rng = np.random.default_rng(28)
    p = [offsets(rng.standard_normal((60, 2)), rng.integers(0, 2, 60), reach=8, seed=i).p_value for i in range(40)]
    assert np.sum(np.array(p) <= 0.1) <= 11  # 4 expected
    assert np.mean(p) > 0.35


def _wave(rng: np.random.Generator, n: int, memory: float, d: int = 1) -> np.ndarray:
    out = np.zeros((n, d))
    for i in range(1, n):
        out[i] = memory * out[i - 1] + rng.standard_normal(d)
    return out


@pytest.mark.parametrize("memory", [0.5, 0.9, 0.99])
def test_a_time_series_has_no_offset(memory: float) -> None:
    """Aligned, its neighbours fit nearly as well; unrelated, its memory makes shifts look significant in clumps."""
    rng = np.random.default_rng(29)
    hidden = _wave(rng, 600, memory)
    y = (hidden[:, 0] > 0).astype(int)
    aligned = np.concatenate([hidden + 0.3 * rng.standard_normal((600, 1)), _wave(rng, 600, memory, 2)], axis=1)
    assert offsets(aligned, y).shift is None
    assert offsets(_wave(rng, 600, memory, 3), y).shift is None
    # each input is the mean over the last steps: best somewhere in between, and told from nothing
    smooth = np.stack([np.convolve(hidden[:, 0], np.ones(9) / 9)[:600], rng.standard_normal(600)], 1)
    assert offsets(smooth, y).shift is None or memory < 0.6


def test_epochs_in_one_order_repeat_and_have_no_offset() -> None:
    x, y = _digits(40)
    assert offsets(np.tile(x, (5, 1)), np.tile(y, 5)).shift is None


def test_the_scan_pairs_labels_as_a_loop_would() -> None:
    """Each of the statistics at each shift, for open and cyclic ends and inside batches of unequal size."""
    rng = np.random.default_rng(33)
    n, shifts, usable = 40, np.arange(-5, 6), np.sort(rng.permutation(40)[:30])
    x, y, group = standardise(rng.standard_normal((30, 3))), rng.integers(0, 3, n), np.repeat([0, 1, 2, 3], [9, 9, 9, 13])
    scan = _Scan(x, y, usable, shifts, group, rng)
    for way, raw in scan._raw(y).items():
        steps = [k for k in shifts if way != "batch" or abs(k) <= 4]
        assert raw.shape == (4, len(steps))
        for column, k in enumerate(steps):
            partner = {}
            for row, i in enumerate(usable):
                inside = np.flatnonzero(group == group[i])
                rolled = {"open": i + k, "cyclic": (i + k) % n, "batch": np.roll(inside, -k)[inside == i][0]}[way]
                if 0 <= rolled < n:
                    partner[row] = y[rolled]
            pairs = [(i, j) for i in partner for j in neighbours(x, 3)[i] if j in partner]
            agree = sum(partner[i] == partner[j] for i, j in pairs)
            assert raw[0, column] == pytest.approx((agree - scan.chance * len(pairs)) / math.sqrt(len(pairs)))
            rows = list(partner)
            coded = scan.table[[partner[i] for i in rows]].astype(float)
            for s, (a, b) in enumerate(zip(scan.ends[:-1], scan.ends[1:])):
                weights = scan.product[a:b, rows].T.astype(float)
                hat = weights @ weights.T
                by_hand = np.einsum("ic,ij,jc", coded, hat - np.diag(np.diag(hat)), coded) * len(usable) / len(rows)
                assert raw[1 + s, column] == pytest.approx(by_hand, rel=1e-3, abs=1e-3)


def test_scores_are_given_for_every_shift() -> None:
    x, y = _digits(90)
    seen = offsets(x, np.roll(y, 4), reach=10)
    assert seen.shifts.tolist() == list(range(-10, 11))
    assert seen.scores.argmax() == 14 and seen.scores[14] == seen.score
    assert seen.score_at_zero == seen.scores[10]


def test_offset_arguments() -> None:
    x, y = np.zeros((30, 2)), np.arange(30) % 2
    assert offsets(x, y).shift is None and "Too few" in offsets(x, y).sentence()
    assert offsets(x[:0], y[:0]).n == 0
    with pytest.raises(ValueError, match="reach"):
        offsets(x, y, reach=0)
    with pytest.raises(ValueError, match="batch"):
        offsets(x, y, batch=np.zeros(3))
    with pytest.raises(ValueError, match="order"):
        offsets(x, y, order=np.zeros(3))


# ------------------------------------------------------------------------------------------------------ sorted batches


def test_sorted_labels_make_pure_batches() -> None:
    y = np.repeat(np.arange(10), 64)
    seen = sorted_by_class(y, np.arange(640) // 32)
    assert seen.p_value <= 0.001 and seen.distinct == 1.0 and seen.agreement == 1.0 and seen.runs == 10
    assert seen.expected_distinct > 9.0
    assert "1.0 classes" in seen.sentence()


def test_shuffled_batches_have_uniform_p_values_and_balanced_ones_never_fire() -> None:
    rng = np.random.default_rng(30)
    batch = np.arange(200) // 20
    p = np.array([sorted_by_class(rng.integers(0, 4, 200), batch, seed=i).p_value for i in range(200)])
    assert 2 <= (p <= 0.05).sum() <= 21
    balanced = np.concatenate([rng.permutation(np.repeat(np.arange(4), 5)) for _ in range(10)])
    assert sorted_by_class(balanced, batch).p_value > 0.99


def test_expected_classes_and_runs_are_the_means_over_shuffles() -> None:
    rng = np.random.default_rng(31)
    y, batch = rng.choice(6, 90, p=[0.4, 0.3, 0.15, 0.1, 0.03, 0.02]), np.repeat(np.arange(9), [5, 15, 10, 10, 10, 10, 10, 10, 10])
    seen = [sorted_by_class(rng.permutation(y), batch) for _ in range(150)]
    assert np.mean([s.distinct for s in seen]) == pytest.approx(seen[0].expected_distinct, abs=0.06)
    assert np.mean([s.runs for s in seen]) == pytest.approx(seen[0].expected_runs, abs=1.2)
    assert np.mean([s.agreement for s in seen]) == pytest.approx(seen[0].expected_agreement, abs=0.01)


def test_many_classes_and_small_cases_of_sorted_batches() -> None:
    y = np.sort(np.random.default_rng(32).integers(0, 1000, 2000))
    assert sorted_by_class(y, np.arange(2000) // 4).p_value <= 0.001
    assert sorted_by_class(y[:5], np.zeros(5, int)).p_value == 1.0
    assert sorted_by_class(y[:0], y[:0]).n == 0
    with pytest.raises(ValueError, match="batch"):
        sorted_by_class(y, np.zeros(3, int))
