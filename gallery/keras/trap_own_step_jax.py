"""A train_step of the script's own."""
import os

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
import jax

keras.utils.set_random_seed(7)
rng = np.random.default_rng(7)
y = rng.integers(0, 5, 1600)
x = (rng.normal(size=(1600, 20)) + 2.0 * np.eye(20)[y]).astype("float32")


class Own(keras.Model):
    """A train_step written out, as the guides have it."""

    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(32, activation="relu")
        self.head = keras.layers.Dense(5)

    def call(self, x, training=False):
        return self.head(self.hidden(x))

    def train_step(self, state, data):
        trained, others, slots, metrics = state
        x, y = data
        grad = jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)
        (loss, (_, _, others, metrics)), gradients = grad(trained, others, metrics, x, y, None, training=True, optimizer_variables=slots)
        trained, slots = self.optimizer.stateless_apply(slots, gradients, trained)
        return {"loss": loss}, (trained, others, slots, metrics)


model = Own()
model.compile(optimizer=keras.optimizers.Adam(0.005), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(x, y, batch_size=32, epochs=5, verbose=0)
print("done")
