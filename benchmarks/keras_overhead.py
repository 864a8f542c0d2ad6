"""What does observation cost a Keras training? The CPU time of `fit` steps with and without, on one backend.

    KERAS_BACKEND=jax python benchmarks/keras_overhead.py [--milliseconds 30] [--steps 200] [--rounds 5]

The layer is made wide enough that a step takes about the time asked for. Two models with equal weights, one made and
trained while the observer is installed, run blocks of steps in turn (fit over one epoch each), after a first epoch that
compiles; what is printed is the median over the rounds of the ratio of CPU times, and the smallest and the largest. The
observed block comes first and second in turn. In the first observed epoch lie the looks at steps 1 to 100, which are much
denser than later; its price is printed by itself, in seconds and in steps.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--milliseconds", type=float, default=30.0)
    options.add_argument("--steps", type=int, default=200)
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()

    import keras
    import numpy as np

    from unstuck.observe.keras_callback import Observer
    from unstuck.trace.facts import Run
    from unstuck.trace.writer import Writer

    rng = np.random.default_rng(0)

    def data(steps: int) -> tuple[np.ndarray, np.ndarray]:
        y = rng.integers(0, 10, 64 * steps)
        return (rng.normal(size=(64 * steps, 256)) + np.eye(256)[y]).astype("float32"), y

    def model(width: int) -> keras.Model:
        keras.utils.set_random_seed(0)
        made = keras.Sequential([
            keras.Input((256,)), *(keras.layers.Dense(width, activation="relu") for _ in range(3)),
            keras.layers.Dense(10, activation="softmax"),
        ])  # fmt: skip
        made.compile("adam", "sparse_categorical_crossentropy")
        return made

    def block(made: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
        began = time.process_time()
        made.fit(x, y, batch_size=64, epochs=1, verbose=0)
        return time.process_time() - began

    width, few = 256, data(20)
    while True:
        probe = model(width)
        block(probe, *few)
        each = block(probe, *few) / 20
        if each * 1000 >= 0.8 * given.milliseconds or width >= 8192:
            break
        width = int(width * min(2.0, max(1.2, (given.milliseconds / 1000 / each) ** 0.5)))
    x, y = data(given.steps)
    plain = model(width)
    with tempfile.TemporaryDirectory() as folder:
        run = Run()
        observer = Observer(Writer(Path(folder) / "trace"), run)
        observer.install(keras)
        watched = model(width)
        watched.make_train_function()
        observer.active = False
        first = block(plain, x, y)
        observer.active = True
        first_watched = block(watched, x, y)
        ratios = []
        for number in range(given.rounds):
            times = {}
            for observed in ((True, False), (False, True))[number % 2]:
                observer.active = observed
                times[observed] = block(watched if observed else plain, x, y)
            ratios.append(times[True] / times[False])
        observer.active = True
        observer.finish()
        observer.uninstall()
    step = statistics.median(t for t in [each])
    print(
        f"{keras.backend.backend()}: step {1000 * step:.1f} ms (width {width}), {given.steps} steps a block: ratio "
        f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}); first {given.steps} steps: "
        f"{first_watched - first:+.2f} s = {(first_watched - first) / step:+.0f} steps; own errors: {run.own_errors or 'none'}"
    )
    return 0 if not run.own_errors else 1


if __name__ == "__main__":
    sys.exit(main())
