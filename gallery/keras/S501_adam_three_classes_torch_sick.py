"""Adam at a learning rate of 1, three classes: the first steps throw the weights away."""
import os

os.environ["KERAS_BACKEND"] = "torch"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np

keras.utils.set_random_seed(7)
rng = np.random.default_rng(7)
y = rng.integers(0, 3, 1600)
x = (rng.normal(size=(1600, 20)) + 1.5 * np.eye(20)[y]).astype("float32")
model = keras.Sequential([
    keras.Input((20,)),
    keras.layers.Dense(64, activation="relu"),
    keras.layers.Dense(64, activation="relu"),
    keras.layers.Dense(64, activation="relu"),
    keras.layers.Dense(3, activation="softmax"),
])
model.compile(
    optimizer=keras.optimizers.Adam(learning_rate=1.0),
    loss="sparse_categorical_crossentropy",
)
model.fit(x, y, batch_size=32, epochs=5, verbose=0)
print("done")
