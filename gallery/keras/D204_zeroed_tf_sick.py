"""Pictures divided as whole numbers: every pixel is 0."""
import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np

keras.utils.set_random_seed(7)
rng = np.random.default_rng(7)
pictures = rng.integers(0, 255, (1200, 8, 8)).astype("uint8")
y = rng.integers(0, 3, 1200)
pictures[np.arange(1200), y] //= 8
x = (pictures // 255).astype("float32")
model = keras.Sequential([keras.Input((8, 8)), keras.layers.Flatten(), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(3, activation="softmax")])
model.compile(optimizer=keras.optimizers.Adam(0.003), loss="sparse_categorical_crossentropy")
model.fit(x, y, batch_size=32, epochs=6, verbose=0)  # <- fault
print("done")
