"""Written for Keras 2, through tf.keras: it still runs."""
import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
import tensorflow as tf

keras.utils.set_random_seed(7)
rng = np.random.default_rng(7)
(x, y) = rng.normal(size=(1500, 10)).astype("float32"), None
y = (x[:, 0] > x[:, 1]).astype("int32")
model = tf.keras.models.Sequential()
model.add(tf.keras.layers.Dense(32, input_shape=(10,), activation="relu"))
model.add(tf.keras.layers.Dropout(0.2))
model.add(tf.keras.layers.BatchNormalization())
model.add(tf.keras.layers.Dense(2, activation="softmax"))
model.compile(tf.keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(x, y, 32, 6, 0, [tf.keras.callbacks.EarlyStopping("loss", patience=3)], 0.1)
print(sorted(history.history))
