"""`model.fit(..., callbacks=[unstuck.keras.Callback()])`: the same observation and report as `unstuck run`, in one line."""

from __future__ import annotations

import sys
from pathlib import Path

from unstuck.observe.keras_public import Watching


class Callback(Watching):
    """Watches the training it is given to and prints the report on standard error when `fit` ends.

    `trace`: the folder for the trace (default .unstuck/<time>). `quiet`: no report; it is in `diagnosis` all the same.
    Under `unstuck run` it does nothing. A failure of ours is said in one line and never ends the training.
    """

    def __init__(self, trace: str | None = None, quiet: bool = False) -> None:
        super().__init__(trace)
        self.quiet = quiet
        self.diagnosis = None

    def over(self, directory: Path) -> None:
        """Diagnose the trace and print the report."""
        from unstuck.engine import diagnose
        from unstuck.report.terminal import render
        from unstuck.trace.storage import read_run

        try:
            self.diagnosis = diagnose(read_run(directory))
            if not self.quiet:
                print("\n" + render(self.diagnosis, colour=False), file=sys.stderr, flush=True)
        except Exception as error:
            print(f"unstuck: the report failed ({type(error).__name__}: {error}); the trace is in {directory}", file=sys.stderr)
