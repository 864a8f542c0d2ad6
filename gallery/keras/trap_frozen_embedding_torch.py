"""A frozen embedding under a head that learns."""
import os

os.environ["KERAS_BACKEND"] = "torch"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np

keras.utils.set_random_seed(7)
rng = np.random.default_rng(7)
words = rng.integers(0, 200, (2000, 10))
tone = rng.normal(size=200)
y = (tone[words].mean(1) > 0).astype("int64")
table = keras.layers.Embedding(200, 16, embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0), trainable=False)
model = keras.Sequential([keras.Input((10,), dtype="int32"), table, keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(64, activation="relu"), keras.layers.Dense(2, activation="softmax")])
model.compile(optimizer=keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy")
model.fit(words.astype("int32"), y, batch_size=32, epochs=6, verbose=0)
print("done")
