"""Raw scores in a loss that takes them for probabilities."""
import os

os.environ["KERAS_BACKEND"] = "torch"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np

keras.utils.set_random_seed(7)
rng = np.random.default_rng(7)
y = rng.integers(0, 5, 1600)
x = (rng.normal(size=(1600, 20)) + 2.0 * np.eye(20)[y]).astype("float32")
model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(5)])  # <- fault
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x, y, batch_size=32, epochs=4, verbose=0)
print("accuracy %.2f" % model.evaluate(x, y, verbose=0)[1])
