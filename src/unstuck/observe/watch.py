"""Observes the running process from one line of its own code: a notebook, a service, a test.

The same observers as under `unstuck run`, attached to what is loaded already and to what will be imported. Where the
process is observed already (it was started by `unstuck run`, or is an arm of an experiment) nothing is attached: the
trace of that observation is this one's as well. Nothing here judges; see `unstuck.doctor`.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unstuck.errors import UsageError
from unstuck.observe.launch import CURRENT, Current, attach, detach_finders
from unstuck.trace.facts import Run
from unstuck.trace.writer import Writer

NOTEBOOK = "a notebook"


def rank() -> int:
    """Of this process among those that train together, as torchrun, accelerate and Lightning tell it; 0 where it is alone."""
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        text = os.environ.get(name, "")
        if text.isdecimal() and (name != "SLURM_PROCID" or "SLURM_NTASKS" in os.environ):
            return int(text)
    return 0


class Watch:
    """From `start` to `stop` the process is observed. Neither raises: what fails is in `run.notes` or `run.own_errors`.
    What raises is making one with a `trace` that names something else than a trace: UsageError.

    `trace`: the folder (default .unstuck/<time>; below the system's temporary folder where that cannot be written).
    `suspicious(n)` as of `launch.observe`.
    """

    def __init__(
        self, trace: str | os.PathLike[str] | None = None, *, suspicious: Callable[[int], bool] | None = None
    ) -> None:  # fmt: skip
        self.given = Path(trace).absolute() if trace is not None else None
        if self.given is not None and self.given.exists():
            if not self.given.is_dir() or (any(self.given.iterdir()) and not (self.given / "run.json").exists()):
                raise UsageError(f"trace={str(trace)!r}: exists and is not a trace directory; name a new or empty one")
        self.suspicious = suspicious
        self.run = Run()
        self.directory: Path | None = None
        self.shared = False  # the process is observed anyway
        self.active = False
        self._writer: Writer | None = None
        self._observers: list[Any] = []
        self._finders: list[Any] = []
        self._current: Current | None = None
        self._process = os.getpid()
        self._began = 0.0

    # ------------------------------------------------------------------ start and stop

    def start(self, model: Any = None, optimizer: Any = None) -> None:
        """Begin. `model` and `optimizer` (each one, or several) were made before: they are known from now on."""
        self.active, self._process, self._began = True, os.getpid(), time.monotonic()
        if CURRENT:
            current = CURRENT[-1]
            self.shared, self.run, self._writer, self._observers = True, current.run, current.writer, current.observers
            self.directory = current.directory if current.writer is not None else None
        else:
            script = _script()
            self.run = Run(
                script=script, arguments=[] if script == NOTEBOOK else sys.argv[1:], directory=_here(),
                python=platform.python_version(), started=time.time(),
            )  # fmt: skip
            self._open()
            self._observers, self._finders = attach(self._writer, self.run, suspicious=self.suspicious)
            self._current = Current(self.run, self._writer, self.directory or Path(), self._observers)
            CURRENT.append(self._current)
            self._write_run()
        for observer in self._observers:
            try:
                introduce = getattr(observer, "introduce", None)
                if introduce is not None:
                    introduce(_several(model), _several(optimizer))
            except Exception as error:
                observer.own_error(error)

    def stop(self, error: BaseException | None = None) -> None:
        """End, and put everything back. `error`: what ended the training, if an exception did. Safe to call twice."""
        if not self.active:
            return
        self.active = False
        if self.shared or self._process != os.getpid():  # not ours to end; or a forked child, where nothing is observed
            self._let_go()
            return
        detach_finders(self._finders)
        CURRENT[:] = [c for c in CURRENT if c is not self._current]
        self.run.exit = "0" if error is None else type(error).__name__
        self.run.seconds = time.monotonic() - self._began
        for observer in self._observers:
            try:
                if error is not None and not isinstance(error, (SystemExit, KeyboardInterrupt)):
                    observer.script_failed(error)
            except Exception as own:
                observer.own_error(own)
            for end in (observer.uninstall, observer.finish):  # whatever fails, torch gets its functions back
                try:
                    end()
                except Exception as own:
                    observer.own_error(own)
        self.run.finished = True
        self._write_run()
        if self._writer is not None:
            try:
                self._writer.close()
            except OSError as failure:
                self.run.notes.append(f"the trace is incomplete: {failure.strerror}")
        self._let_go()

    def _let_go(self) -> None:
        """A service watches many trainings: of one that is over nothing but the trace is kept."""
        self._observers, self._finders, self._current, self._writer = [], [], None, None

    # ------------------------------------------------------------------ the trace

    def flush(self) -> Path | None:
        """Write what is known so far; the folder to read, None where none could be written."""
        if self.active and self._process == os.getpid():
            for observer in list(self._observers):
                publish = getattr(observer, "publish", None)
                if publish is None:
                    continue
                try:
                    publish()
                except Exception as error:
                    observer.own_error(error)
            self._write_run()
            if self._writer is not None:
                try:
                    self._writer.flush()
                except OSError as failure:
                    self.run.notes.append(f"the trace is incomplete: {failure.strerror}")
        return self.directory

    def _write_run(self) -> None:
        if self._writer is None or self.shared:
            return
        try:
            self._writer.run(self.run)
        except OSError as failure:
            self.run.notes.append(f"the trace is incomplete: {failure.strerror}")

    def _open(self) -> None:
        """The writer: in the folder that was asked for, else where there is room."""
        for make in (self._asked, self._temporary):
            directory = None
            try:
                directory = make()
                self._writer, self.directory = Writer(directory), directory
                return
            except OSError as error:
                self.run.notes.append(f"no trace could be written to {directory or 'a folder of its own'}: {error.strerror}")
        self._writer = self.directory = None

    def _asked(self) -> Path:
        """A folder of one's own each: processes that train together, and two that begin in the same second."""
        number = rank()
        if self.given is not None:
            folder = self.given / f"rank-{number}" if number else self.given
            if (folder / "run.json").is_file():
                for old in folder.glob("pairs-*.npz"):  # of the run whose trace is replaced
                    old.unlink()
            return folder
        base = Path(_here(), ".unstuck", time.strftime("%Y%m%d-%H%M%S") + (f"-rank-{number}" if number else ""))
        path, count = base, 1
        while True:
            try:
                path.mkdir(parents=True)
                return path
            except FileExistsError:
                if not path.parent.is_dir():  # .unstuck is a file
                    raise
                count += 1
                path = base.with_name(f"{base.name}-{count}")

    @staticmethod
    def _temporary() -> Path:
        return Path(tempfile.mkdtemp(prefix="unstuck-"))


def _several(thing: Any) -> list[Any]:
    return [] if thing is None else list(thing) if isinstance(thing, (list, tuple)) else [thing]


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return os.path.dirname(tempfile.gettempdir())


def _script() -> str:
    """What is running, as a person would call it."""
    if "ipykernel" in sys.modules and "IPython" in sys.modules:
        return NOTEBOOK
    main = sys.modules.get("__main__")
    return getattr(main, "__file__", None) or (sys.argv[0] if sys.argv else "") or "python"
