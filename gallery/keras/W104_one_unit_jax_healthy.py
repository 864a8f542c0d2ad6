"""Two kinds of parts, one output unit with a sigmoid."""
import os

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np

keras.utils.set_random_seed(7)
rng = np.random.default_rng(7)
x = rng.normal(size=(1600, 20)).astype("float32")
y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype("float32")
model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(32, activation="relu")])
model.add(keras.layers.Dense(1, activation="sigmoid"))
model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
model.fit(x, y, batch_size=32, epochs=6, verbose=0)
print("accuracy %.2f" % model.evaluate(x, y, verbose=0)[1])
