"""A loan table, standardised."""
import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np

keras.utils.set_random_seed(7)
rng = np.random.default_rng(7)
x = rng.normal(size=(1600, 8)) * 30000 + 250000
y = (x[:, 0] - x[:, 1] + 0.5 * x[:, 2] > 125000).astype("float32")
x = (x - x.mean(0)) / x.std(0)
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(1, activation="sigmoid")])
model.compile(optimizer=keras.optimizers.SGD(0.01), loss="binary_crossentropy")
model.fit(x.astype("float32"), y, batch_size=32, epochs=5, verbose=0)
print("done")
