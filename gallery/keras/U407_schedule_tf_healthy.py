"""A schedule that begins at the rate that was meant."""
import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np

keras.utils.set_random_seed(7)
rng = np.random.default_rng(7)
y = rng.integers(0, 5, 1600)
x = (rng.normal(size=(1600, 20)) + 2.0 * np.eye(20)[y]).astype("float32")
model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(5)])
schedule = keras.optimizers.schedules.ExponentialDecay(0.01, decay_steps=200, decay_rate=0.9)
optimizer = keras.optimizers.Adam(schedule)
model.compile(optimizer=optimizer, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(x, y, batch_size=32, epochs=4, verbose=0)
print("done")
