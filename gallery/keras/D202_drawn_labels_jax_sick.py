"""Labels drawn at random, independent of the inputs. Nobody can learn them, whatever the network."""
import os

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np

keras.utils.set_random_seed(7)
rng = np.random.default_rng(7)
y = rng.integers(0, 4, 2400)
x = (rng.normal(size=(2400, 20)) + 2.0 * np.eye(20)[y]).astype("float32")
y = rng.integers(0, 4, len(x))
model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(4, activation="softmax")])
model.compile(optimizer=keras.optimizers.Adam(0.001), loss="sparse_categorical_crossentropy")
model.fit(x, y, batch_size=32, epochs=5, verbose=0)  # <- fault
print("done")
