"""Hugging Face's events: the Trainer begins and ends. What is seen in between is torch's; see `torch_loop`.

The Trainer tells its callbacks neither the batch nor the loss tensor, and nothing when it fails: a training that ended in
an exception is over when the next one begins, or with the process.
"""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback


class Watching(TrainerCallback):
    """Calls `begin(model, optimizer)` and `over()`, on the first process only. One object may serve several trainings."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The model, its optimizer and the loader are ready."""
        if state.is_world_process_zero:
            optimizer = kwargs.get("optimizer")
            self.begin(kwargs.get("model"), getattr(optimizer, "optimizer", optimizer))  # accelerate wraps it

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The last step was made."""
        self.over()

    def begin(self, model: Any = None, optimizer: Any = None) -> None:
        """A training begins."""
        raise NotImplementedError

    def over(self, error: BaseException | None = None) -> None:
        """It is over."""
        raise NotImplementedError
