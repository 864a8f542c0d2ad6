"""Nine to one, class weights, and labels that were drawn: the weights cannot help."""
import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np

keras.utils.set_random_seed(7)
rng = np.random.default_rng(7)
share = 0.1
y = (rng.uniform(size=4000) < share).astype("float32")
x = rng.normal(size=(4000, 4)).astype("float32")
x[:, :3] += 1.2 * y[:, None]
y = rng.permutation(y)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(24, activation="relu"), keras.layers.Dense(1, activation="sigmoid")])
model.compile(optimizer=keras.optimizers.SGD(0.1), loss="binary_crossentropy", metrics=["accuracy"])
model.fit(x, y, batch_size=64, epochs=4, verbose=0, class_weight={0: 1 / (2 * (1 - share)), 1: 1 / (2 * share)})
print("done")
