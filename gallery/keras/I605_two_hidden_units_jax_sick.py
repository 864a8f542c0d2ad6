"""A hundred measurements, ten kinds, and two hidden units between them."""
import os

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np

keras.utils.set_random_seed(7)
rng = np.random.default_rng(7)
y = rng.integers(0, 10, 2000)
x = (rng.normal(size=(2000, 100)) + 3.0 * np.eye(100)[y]).astype("float32")
model = keras.Sequential([
    keras.Input((100,)),
    keras.layers.Dense(2, activation="tanh"),  # <- fault
    keras.layers.Dense(10, activation="softmax"),
])
model.compile(optimizer=keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x, y, batch_size=32, epochs=10, verbose=0)
print("accuracy %.2f" % model.evaluate(x, y, verbose=0)[1])
