"""A functional model with a Softmax layer of its own at the end, one-hot labels."""
import os

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np

keras.utils.set_random_seed(7)
rng = np.random.default_rng(7)
y = rng.integers(0, 5, 1600)
x = (rng.normal(size=(1600, 20)) + 2.0 * np.eye(20)[y]).astype("float32")
inputs = keras.Input((20,))
h = keras.layers.Dense(32, activation="tanh")(inputs)
scores = keras.layers.Dense(5)(h)
outputs = keras.layers.Softmax()(scores)  # <- fault
model = keras.Model(inputs, outputs)
model.compile(
    optimizer=keras.optimizers.SGD(0.1, momentum=0.9),
    loss=keras.losses.CategoricalCrossentropy(from_logits=True),
)
model.fit(x, keras.utils.to_categorical(y, 5), 32, 6, 0)
print("done")
