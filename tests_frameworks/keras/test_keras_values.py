"""Levels against Keras' own losses: what the uniform and the base-rate predictor score under weights and smoothing."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
import pytest

from unstuck.observe.keras_values import Labels, statistics
from unstuck.trace.facts import LossTerm


def term(kind: str, raw: str, **options: object) -> LossTerm:
    return LossTerm(kind, raw, reduction=str(options.pop("reduction", "mean")), **options)  # type: ignore[arg-type]


REDUCTIONS = {"mean": "sum_over_batch_size", "mean_with_sample_weight": "mean_with_sample_weight"}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", list(REDUCTIONS))
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_one_hot_levels_are_keras_own(weighted: bool, reduction: str, smoothing: float) -> None:
    rng = np.random.default_rng(0)
    first, second = (np.eye(4, dtype="float32")[rng.integers(0, 4, 64)] for _ in range(2))
    w = rng.uniform(0.2, 3, 64).astype("float32") if weighted else None
    labels = Labels(term("cross-entropy", "categorical_crossentropy", label_smoothing=smoothing, reduction=reduction))
    labels.arrived(first, w, 4)
    (chance, base), known = labels.arrived(second, w, 4)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=smoothing, reduction=REDUCTIONS[reduction])
    uniform = np.full((64, 4), 0.25, "float32")
    assert chance == pytest.approx(float(loss(second, uniform, sample_weight=w)), rel=1e-5)
    scale = w.astype(np.float64) if w is not None else np.ones(64)
    if reduction == "mean_with_sample_weight" and w is not None:
        scale = scale / scale.mean()
    mass = (scale[:, None] * first).sum(0) + 0.5
    q = (1 - smoothing) * mass / mass.sum() + smoothing / 4
    rates = np.tile(q, (64, 1)).astype("float32")
    assert base == pytest.approx(float(loss(second, rates, sample_weight=w)), rel=1e-5)
    assert (known == second.argmax(1)).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_index_levels_are_keras_own(weighted: bool) -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 5, 64)
    w = rng.uniform(0.2, 3, 64).astype("float32") if weighted else None
    labels = Labels(term("cross-entropy", "sparse_categorical_crossentropy", ignore_index=2))
    (chance, _), _ = labels.arrived(y, w, 5)
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=2)
    mine = float(loss(y, np.full((64, 5), 0.2, "float32"), sample_weight=w))
    keep = y != 2
    if not weighted:
        assert chance == pytest.approx(mine, rel=1e-5)
    assert chance == pytest.approx(np.log(5) * (w[keep].mean() if w is not None else 1.0), rel=1e-6)
    assert labels.stats.kept == keep.sum()


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_levels_are_keras_own(columns: int, weighted: bool) -> None:
    rng = np.random.default_rng(2)
    first, second = (rng.integers(0, 2, (64, columns)).astype("float32") for _ in range(2))
    w = rng.uniform(0.2, 3, 64).astype("float32") if weighted else None
    labels = Labels(term("bce", "binary_crossentropy"))
    labels.arrived(first, w, columns)
    (chance, base), _ = labels.arrived(second, w, columns)
    loss = keras.losses.BinaryCrossentropy()
    scale = np.ones(64) if w is None else w
    p = ((scale[:, None] * first).sum(0) + 0.5) / (scale.sum() + 1)
    assert chance == pytest.approx(float(loss(second, np.full((64, columns), 0.5, "float32"), sample_weight=w)), rel=1e-5)
    assert base == pytest.approx(float(loss(second, np.tile(p, (64, 1)).astype("float32"), sample_weight=w)), rel=1e-5)


def test_nine_to_one_with_and_without_weights() -> None:
    """0.325 nats without weights; with n / (2 n_k) weights the constant answer is back at ln 2, and so is chance."""
    rng = np.random.default_rng(3)
    y = (rng.uniform(size=20000) < 0.1).astype("float32")
    w = np.where(y == 1, 1 / 0.2, 1 / 1.8).astype("float32")
    for weight, expected in ((None, 0.3251), (w, np.log(2))):
        labels = Labels(term("bce", "binary_crossentropy"))
        labels.arrived(y[:10000], None if weight is None else weight[:10000], 1)
        (_, base), _ = labels.arrived(y[10000:], None if weight is None else weight[10000:], 1)
        assert base == pytest.approx(expected, abs=0.01)


def test_accuracy_ignores_what_is_ignored() -> None:
    labels = Labels(term("cross-entropy", "sparse_categorical_crossentropy", ignore_index=0))
    outputs = np.eye(3)[[1, 2, 2, 0]]
    assert labels.answered(np.array([1, 1, 2, 0]), outputs) == pytest.approx(2 / 3)


def test_statistics_of_units() -> None:
    t = np.array([[0.0, 1.0], [0.0, 3.0]], "float32")
    look = statistics("relu", t, 1)
    assert (look.dead, look.zeros, look.rows) == (0.5, 0.5, 2)
    assert statistics("sigmoid", np.full((4, 2), 0.999, "float32"), 1).saturated == 1.0
    assert statistics("linear", np.ones((4, 2), "float32"), 1).spread == 0.0
