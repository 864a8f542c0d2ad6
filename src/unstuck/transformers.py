"""`Trainer(..., callbacks=[unstuck.TrainerCallback()])`: the same observation and report as `unstuck run`, in one line."""

from __future__ import annotations

from unstuck.doctor import Attending
from unstuck.observe.transformers_callback import Watching


class Callback(Attending, Watching):
    """Watches what its Trainer trains and prints the report on standard error when it has ended.

    `trace`: the folder for the trace (default .unstuck/<time>). `quiet`: no report; it is in `diagnosis` all the same.
    First process only. Under `unstuck run` it does nothing.
    """
