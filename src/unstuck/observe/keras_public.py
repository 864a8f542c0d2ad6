"""The observer as a Keras callback, for a script that is run without `unstuck run`.

It installs the observer when it is made, which is before `fit` makes its step function. What was constructed before that
(layers, losses, compile) has no known line. Under `unstuck run` everything is watched already, and it does nothing.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import keras

from unstuck.observe import keras_callback
from unstuck.trace.facts import Run
from unstuck.trace.writer import Writer


class Watching(keras.callbacks.Callback):
    """Writes a trace of the training it is given to. `over(directory)` is called at the end of fit."""

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        super().__init__()
        self.directory: Path | None = None
        self._observer: keras_callback.Observer | None = None
        self._given = directory
        self._seen = None
        if not keras_callback.CURRENT:
            self._begin()

    def _begin(self) -> None:
        base = Path(self._given) if self._given is not None else Path(".unstuck") / time.strftime("%Y%m%d-%H%M%S")
        path, number = base, 1
        while self._given is None and path.exists():
            number += 1
            path = base.with_name(f"{base.name}-{number}")
        self.directory = path
        self._run = Run(script=sys.argv[0] if sys.argv else "", directory=os.getcwd(), started=time.time())
        try:
            self._writer: Writer | None = Writer(path)
        except OSError as error:
            self._writer = None
            self._run.notes.append(f"no trace was written: {path}: {error.strerror}")
        self._observer = keras_callback.Observer(self._writer, self._run)
        self._observer.install(keras)

    def set_model(self, model: keras.Model) -> None:
        """Called by Keras before the step function is made."""
        super().set_model(model)
        if self._observer is not None and model.train_function is not None and id(model) not in self._observer.states:
            model.make_train_function(force=True)  # made by a fit before this one: ours is not in it

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Write what is left and hand over the trace."""
        if self._observer is None:
            return
        self._observer.finish()
        self._observer.uninstall()
        self._observer = None
        self._run.finished, self._run.exit = True, "0"
        self._run.seconds = time.time() - self._run.started
        if self._writer is not None and self.directory is not None:
            self._writer.run(self._run)
            self._writer.close()
            self.over(self.directory)

    def over(self, directory: Path) -> None:
        """The training has ended and its trace lies in `directory`."""
