"""One label per position: the class axis is the last."""
import os

os.environ["KERAS_BACKEND"] = "torch"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np

keras.utils.set_random_seed(7)
rng = np.random.default_rng(7)
x = rng.integers(0, 30, (600, 10))
y = (x + np.roll(x, 1, axis=1)) % 3
model = keras.Sequential([keras.Input((10,), dtype="int32"), keras.layers.Embedding(30, 16), keras.layers.Conv1D(32, 3, padding="same", activation="relu"), keras.layers.Dense(3)])
model.compile(optimizer=keras.optimizers.Adam(0.01), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(x.astype("int32"), y, batch_size=32, epochs=6, verbose=0)
print("done")
