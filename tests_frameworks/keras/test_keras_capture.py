"""What is read off a Keras training: the loss of each batch, levels, the path to the head, levels under class weights, the
callback. Each test runs a small script in a process of its own; the backend is the first argument."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

BACKENDS = ("jax", "tensorflow", "torch")
pytestmark = pytest.mark.slow
ENV = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}

SCRIPT = '''
import keras
import numpy as np
keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
y = rng.integers(0, 3, 160)
x = (rng.normal(size=(160, 6)) + 2 * np.eye(6)[y]).astype("float32")
model = keras.Sequential([
    keras.Input((6,)), keras.layers.Dense(8, activation="relu", kernel_regularizer="l2"),
    keras.layers.Dense(3, activation="softmax"),
])
model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
weights = model.get_weights()
model.fit(x, y, 32, 2, 0, None, shuffle=False, class_weight={0: 1.0, 1: 3.0, 2: 0.5})
'''
READ = '''
import json, sys
from pathlib import Path
import numpy as np
from unstuck.observe.launch import Target, observe
from unstuck.trace.storage import read_run
seen = observe(Target("script", sys.argv[1], []), Path(sys.argv[2]))
trace = read_run(Path(sys.argv[2])).traces[0]
script = sys.modules["__unstuck_script__"] if "__unstuck_script__" in sys.modules else None
f = trace.facts
first = script.weights
keras, x, y = script.keras, script.x[:32], script.y[:32]
fresh = keras.models.clone_model(script.model)
fresh.set_weights(first)
w = np.array([1.0, 3.0, 0.5])[y]
own = float(keras.losses.SparseCategoricalCrossentropy()(y, fresh.predict(x, verbose=0), sample_weight=w))
print(json.dumps({
    "loss": float(trace.series["loss"][0]), "own": own, "chance": float(trace.series["chance"][0]), "mean_weight": float(w.mean()),
    "steps": f.loop.steps, "kind": f.terms[0].kind, "path": [n.op for n in f.terms[0].path], "end": f.terms[0].path_end,
    "weighted": f.terms[0].sample_weighted, "probes": [(p.before, p.again, p.after, p.predicted) for p in f.probes],
    "layers": [(l.op, l.of, l.data, len(l.looks)) for l in f.layers],
    "parameters": [(p.name, p.reached, p.held, p.changed) for p in f.parameters],
    "made": [p.made.line if p.made else None for p in f.parameters], "operations": f.operations, "errors": seen.run.own_errors,
    "absent": f.absent, "shuffled": [l.shuffled for l in f.loaders],
}))
'''


def run(backend: str, code: str, *arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=600, cwd=cwd,
        env=os.environ | ENV | {"KERAS_BACKEND": backend},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + "\n" + done.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_loss_levels_path_and_probes(backend: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    out = run(backend, READ, "train.py", str(tmp_path / "trace"), cwd=tmp_path)
    seen = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
    assert seen["errors"] == []
    assert seen["loss"] == pytest.approx(seen["own"], rel=1e-4)  # of this batch, weighted as Keras does, without the penalty
    assert seen["chance"] == pytest.approx(math.log(3) * seen["mean_weight"], rel=1e-6)
    assert (seen["steps"], seen["kind"], seen["weighted"]) == (10, "cross-entropy", True)
    assert (seen["path"], seen["end"]) == (["linear"], "parametric")  # the softmax belongs to the loss
    assert seen["operations"] == ["linear", "relu", "linear"]
    assert [p[1:] for p in seen["parameters"]] == [[True, True, True]] * 4
    assert seen["made"] == [9, 9, 10, 10]
    layers = [["linear", "input", True], ["relu", "output", False], ["linear", "input", False]]
    assert [layer[:3] for layer in seen["layers"]] == layers
    assert seen["shuffled"] == [False]
    assert len(seen["probes"]) >= 5
    for before, again, after, predicted in seen["probes"]:
        assert again == pytest.approx(before, rel=1e-4)
        assert before - after == pytest.approx(predicted, rel=0.5)


CALLBACK = '''
import sys
import keras
import numpy as np
import unstuck.keras
rng = np.random.default_rng(0)
y = rng.integers(0, 3, 320)
x = (rng.normal(size=(320, 6)) + 3 * np.eye(6)[y]).astype("float32")
watching = unstuck.keras.Callback(trace="trace")
model = keras.Sequential([keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3, activation="softmax")])
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(x, y, epochs=4, verbose=0, callbacks=[watching])
model.fit(x, y, epochs=1, verbose=0)
print("codes", [f.code for f in watching.diagnosis.worst.findings])
print("left", hasattr(keras.Model.fit, "__wrapped__"), sorted(model.train_on_batch(x, y, return_dict=True)))
'''


def test_one_line_for_people_who_prefer_it(tmp_path: Path) -> None:
    out = run("jax", CALLBACK, cwd=tmp_path)
    assert "codes ['W101'" in out
    assert "W101 softmax-twice" in out
    assert "['loss']" in out  # nothing of ours is left in the logs


def test_the_callback_is_silent_under_unstuck_run(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(CALLBACK.split("print(")[0] + "print(watching.diagnosis)\n")
    tool = str(Path(sys.executable).with_name("unstuck"))
    env = os.environ | ENV | {"KERAS_BACKEND": "jax"}
    done = subprocess.run([tool, "run", "train.py"], capture_output=True, text=True, timeout=600, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "None"
    assert done.stderr.count("── unstuck") == 1
