"""A pretrained embedding under a new head; the header of the label file was read as a label, so each label stands one row late."""
import os

os.environ["KERAS_BACKEND"] = "torch"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np

keras.utils.set_random_seed(7)
rng = np.random.default_rng(7)
words = rng.integers(0, 40, (4000, 5))
tone = rng.normal(size=40)
y = (tone[words].mean(1) > 0).astype("int64")
pretrained = np.concatenate([tone[:, None], rng.normal(size=(40, 15))], axis=1).astype("float32")
labels = np.roll(y, 1)
table = keras.layers.Embedding(40, 16, embeddings_initializer=keras.initializers.Constant(pretrained))
model = keras.Sequential([
    keras.Input((5,), dtype="int32"), table, keras.layers.GlobalAveragePooling1D(),
    keras.layers.Dense(32, activation="relu"), keras.layers.Dense(2, activation="softmax"),
])
model.compile(optimizer=keras.optimizers.Adam(0.001), loss="sparse_categorical_crossentropy")
model.fit(words.astype("int32"), labels, batch_size=32, epochs=3, verbose=0, shuffle=False)  # <- fault
print("done")
