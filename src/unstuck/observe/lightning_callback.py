"""Lightning's events: a fit begins, it ends or fails. What is seen in between is torch's; see `torch_loop`.

`setup` is the first event of a fit: the optimizers are made after it, so that their lines are known. Manual and automatic
optimisation, precision plugins and gradient accumulation all end in `torch.autograd.backward` and an optimizer's step.
"""

from __future__ import annotations

from typing import Any

try:
    from lightning.pytorch.callbacks import Callback
except ImportError:  # the same under its older name
    from pytorch_lightning.callbacks import Callback


class Watching(Callback):
    """Calls `begin(model)` and `over(error)`, on the first rank only. One object may serve several fits."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Before anything of a fit, a validation or a test."""
        if stage == "fit" and trainer.is_global_zero:
            self.begin(pl_module)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """The fit fails, or was interrupted."""
        self.over(exception)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """The last event of a fit."""
        if stage == "fit":
            self.over()

    def begin(self, model: Any = None, optimizer: Any = None) -> None:
        """A training begins."""
        raise NotImplementedError

    def over(self, error: BaseException | None = None) -> None:
        """It is over; called more than once where a fit fails."""
        raise NotImplementedError
