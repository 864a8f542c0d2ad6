"""Lightning. Arguments: sick | healthy, how it is watched (none | callback), and `manual` for manual optimisation."""

import sys

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

sick, how = sys.argv[1] == "sick", (sys.argv[2:] or ["none"])[0]


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 5),
            nn.Softmax(dim=1) if sick else nn.Identity(),
        )

        self.automatic_optimization = "manual" not in sys.argv

    def training_step(self, batch, index):
        x, y = batch
        loss = F.cross_entropy(self.net(x), y)
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-4 if sick else 5e-3)


def main():
    L.seed_everything(0, verbose=False)
    x = torch.randn(512, 16)
    y = (x @ torch.randn(16, 5)).argmax(1)
    callbacks = []
    if how == "callback":
        import unstuck

        callbacks = [unstuck.LightningCallback(), unstuck.LightningCallback()]  # the second one finds it watched
    module = Module()
    trainer = L.Trainer(
        max_epochs=6, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=callbacks,
    )
    trainer.fit(module, DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True))
    left(module)


def left(module):
    """The weights and the random state, to the bit."""
    import hashlib

    tensors = [*module.state_dict().values(), torch.get_rng_state()]
    print("left", hashlib.sha1(b"".join(t.detach().contiguous().numpy().tobytes() for t in tensors)).hexdigest())


main()
