"""Observation changes nothing: the bits of the weights, what is printed, the exit code, the History."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BACKENDS = ("jax", "tensorflow", "torch")
pytestmark = pytest.mark.slow

TRAINING = '''
import hashlib
import random
import keras
import numpy as np

keras.utils.set_random_seed(3)
rng = np.random.default_rng(3)
y = rng.integers(0, 3, 500)
x = rng.normal(size=(500, 8, 8, 1)).astype("float32")
x[np.arange(500), y, 2, 0] += 3
calls = []


class Ends(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        calls.append(sorted(logs))


class Noisy(keras.layers.Layer):
    def call(self, x):
        print("called with", len(x.shape), "axes")
        return x * (1 + 0 * np.random.uniform() + 0 * random.random())


model = keras.Sequential([
    keras.layers.Conv2D(4, 3, activation="relu", kernel_regularizer="l2"), keras.layers.BatchNormalization(), Noisy(),
    keras.layers.Dropout(0.3), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax"),
])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(x, y, 32, 3, 0, [Ends()], 0.2, class_weight={0: 1.0, 1: 2.0, 2: 0.5})
for i in range(12):
    print(model.train_on_batch(x[32 * i : 32 * i + 32], y[32 * i : 32 * i + 32]))
model.fit(x, y, epochs=2, verbose=2, validation_data=(x, y))
print({k: [float(v) for v in vs] for k, vs in history.history.items()})
print(sorted({tuple(c) for c in calls}), len(calls))
print(np.random.uniform(), random.random(), np.asarray(keras.random.uniform((2,))).tolist())
print(hashlib.sha256(b"".join(np.ascontiguousarray(w).tobytes() for w in model.get_weights())).hexdigest())
raise SystemExit(5)
'''


def _timeless(text: str) -> list[str]:
    """Lines without the times of Keras' progress report."""
    kept = []
    for line in text.splitlines():
        parts = [p for p in line.split(" - ") if not p.strip().endswith(("step", "s")) or ":" in p]
        kept.append(" - ".join(p for p in parts if "/step" not in p))
    return kept


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_output_and_exit_code_are_the_same(backend: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAINING)
    env = os.environ | {"KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    tool = str(Path(sys.executable).with_name("unstuck"))
    plain, watched = (
        subprocess.run([*command, "train.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600)
        for command in ([sys.executable], [tool, "run", "--quiet", "-o", "report.json"])
    )
    assert plain.returncode == watched.returncode == 5, (plain.stderr[-2000:], watched.stderr[-2000:])
    assert _timeless(plain.stdout) == _timeless(watched.stdout)
    report = (tmp_path / "report.json").read_text()
    assert '"own_errors":[]' in report.replace(" ", "")
    assert f"({backend})" in report
