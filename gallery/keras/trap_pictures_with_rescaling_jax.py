"""Pixels from 0 to 255, divided inside the model; a convolution, batch norm, dropout."""
import os

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np

keras.utils.set_random_seed(7)
rng = np.random.default_rng(7)
y = rng.integers(0, 3, 900)
x = rng.integers(0, 120, (900, 8, 8, 1))
x[np.arange(900), 2 * y + 1] += 90
model = keras.Sequential([
    keras.Input((8, 8, 1)), keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(8, 3, activation="relu", use_bias=False), keras.layers.BatchNormalization(),
    keras.layers.MaxPooling2D(), keras.layers.Flatten(), keras.layers.Dropout(0.2), keras.layers.Dense(3, activation="softmax"),
])
model.compile(optimizer=keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy")
model.fit(x.astype("uint8"), y, batch_size=32, epochs=5, verbose=0)
print("done")
