"""`Trainer(callbacks=[unstuck.LightningCallback()])`: the same observation and report as `unstuck run`, in one line."""

from __future__ import annotations

from unstuck.doctor import Attending
from unstuck.observe.lightning_callback import Watching


class Callback(Attending, Watching):
    """Watches every fit of its trainer and prints the report on standard error when the fit ends or fails.

    `trace`: the folder for the trace (default .unstuck/<time>). `quiet`: no report; it is in `diagnosis` all the same.
    First rank only. Under `unstuck run` it does nothing.
    """
