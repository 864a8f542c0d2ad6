"""Runs somebody's script, module or code unchanged, observed.

Nothing is imported before the script imports it: a finder waits for `torch` and installs the observer right after torch
has loaded. The script runs as `__main__` with its own sys.argv and sys.path[0], its exit code and its exceptions are its
own; tracebacks are printed as python prints them, without our frames. numpy is not imported before the script does.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import linecache
import os
import platform
import runpy
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from unstuck.errors import UsageError
from unstuck.observe.sites import owner, shown
from unstuck.trace.facts import Facts, Run
from unstuck.trace.writer import Writer


class StopTraining(SystemExit):
    """Raised after the last step that `--steps` allows; ends the script cleanly with exit code 0."""

    def __init__(self) -> None:
        super().__init__(0)


class AfterImport(importlib.abc.MetaPathFinder):
    """Calls `done()` once, right after the module `name` has been executed."""

    def __init__(self, name: str, done: Callable[[], None]) -> None:
        self.name = name
        self.done = done

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        loader, done = spec.loader, self.done
        execute = loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            loader.exec_module = execute  # type: ignore[method-assign]
            execute(module)
            done()

        loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


class Observed:
    """What a run left behind."""

    def __init__(self, run: Run, directory: Path | None, code: int, error: BaseException | None, signal: int) -> None:
        self.run = run
        self.directory = directory
        self.code = code
        self.error = error
        self.signal = signal  # the signal the process should die of, 0 for none


class Target:
    """What to run: a script, a module (-m) or code (-c)."""

    def __init__(self, kind: str, name: str, arguments: list[str]) -> None:
        self.kind = kind
        self.name = name
        self.arguments = arguments
        self.code: types.CodeType | None = None
        self.source: bytes | None = None  # of a script, as it was compiled
        if kind == "script":
            self._compile_script()
        elif kind == "code":
            try:
                self.code = compile(name, "<string>", "exec")
            except SyntaxError as error:
                raise UsageError(f"-c: {error.msg} (line {error.lineno})") from None

    @property
    def shown(self) -> str:
        return {"script": self.name, "module": f"-m {self.name}", "code": "-c ..."}[self.kind]

    def _compile_script(self) -> None:
        path = Path(self.name)
        if path.is_dir():
            if not (path / "__main__.py").is_file():
                raise UsageError(f"{self.name}: is a directory without a __main__.py; name the script to run")
            path = path / "__main__.py"
            self.directory: str | None = self.name
        else:
            self.directory = None
        try:
            with io.open_code(str(path)) as file:
                source = file.read()
        except FileNotFoundError:
            raise UsageError(f"{self.name}: no such script") from None
        except OSError as error:
            raise UsageError(f"{self.name}: cannot be read: {error.strerror}") from None
        self.source = bytes(source)
        try:
            self.code = compile(source, os.path.abspath(path), "exec")
        except SyntaxError as error:
            raise UsageError(f"{self.name}:{error.lineno}: syntax error in the script: {error.msg}") from None
        except ValueError as error:
            raise UsageError(f"{self.name}: not a python script: {error}") from None

    def execute(self) -> None:
        """Run as `__main__`."""
        if self.kind == "module":
            sys.argv[:] = [self.name, *self.arguments]
            sys.path[0] = os.getcwd()
            runpy.run_module(self.name, run_name="__main__", alter_sys=True)
            return
        main = types.ModuleType("__main__")
        main.__dict__["__builtins__"] = builtins
        main.__dict__["__cached__"] = None
        if self.kind == "script":
            main.__loader__ = importlib.machinery.SourceFileLoader("__main__", self.name)
            main.__file__ = self.code.co_filename if self.code is not None else self.name
            sys.argv[:] = [self.name, *self.arguments]
            sys.path[0] = self.directory or os.path.dirname(os.path.realpath(self.name))
        else:
            sys.argv[:] = ["-c", *self.arguments]
            sys.path[0] = ""
        sys.modules["__main__"] = main
        assert self.code is not None
        exec(self.code, main.__dict__)


class Current(NamedTuple):
    """What observes this process: for a watch of the script's own, which would see everything twice."""

    run: Run
    writer: Writer | None
    directory: Path
    observers: list[Any]


CURRENT: list[Current] = []  # the one that began last stands last


def attach(
    writer: Writer | None, run: Run, *, announce: Callable[[Facts], None] | None = None, limit: int = 0,
    suspicious: Callable[[int], bool] | None = None, light: bool = False,
    before_backward_once: Callable[[Any], None] | None = None,
) -> tuple[list[Any], list[AfterImport]]:  # fmt: skip
    """Observe the frameworks that are loaded, and each other one as soon as it is imported.

    Gives the observers, a list that grows with each import, and the finders that wait (see `detach_finders`).
    """
    observers: list[Any] = []

    def torch_is_there() -> None:
        try:
            from unstuck.observe.torch_loop import Observer

            watching = Observer(
                writer, run, announce=announce, limit=limit, suspicious=suspicious, light=light,
                before_backward_once=before_backward_once,
            )  # fmt: skip
            observers.append(watching)
            watching.install()
            import torch

            run.framework = run.framework or f"torch {torch.__version__}"
        except Exception as error:
            run.own_errors.append(f"torch could not be observed: {type(error).__name__}: {error}")

    def keras_is_there() -> None:
        try:
            from unstuck.observe import keras_callback

            watching = keras_callback.Observer(
                writer, run, announce=announce, limit=limit, light=light, aside=partial(_aside, observers)
            )  # fmt: skip
            observers.append(watching)
            watching.install()
        except Exception as error:
            run.own_errors.append(f"Keras could not be observed: {type(error).__name__}: {error}")

    finders = []
    for name, there in (("torch", torch_is_there), ("keras", keras_is_there)):
        if name in sys.modules:  # run from a program that has it loaded: a benchmark, a notebook
            there()
        else:
            finders.append(AfterImport(name, there))
    sys.meta_path[:0] = finders
    return observers, finders


def detach_finders(finders: list[AfterImport]) -> None:
    """Those whose framework was never imported wait no longer."""
    for finder in finders:
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)


def observe(
    target: Target, directory: Path, *, announce: Callable[[Facts], None] | None = None, limit: int = 0,
    suspicious: Callable[[int], bool] | None = None, light: bool = False,
    before_backward_once: Callable[[Any], None] | None = None, make_writer: Callable[[Path], Writer] = Writer,
) -> Observed:  # fmt: skip
    """Run the target under observation. Never raises what the script raises: it is in the result.

    `suspicious(n)` is asked at the end whether training number n, read from the trace so far, is worth a thorough look.
    `light` leaves out probes and captured samples: what an experiment's arm needs is the loss against its chance level.
    `before_backward_once(observer)` is called when the first backward pass is about to begin; it may fork.
    `make_writer(directory)` makes the trace's writer; one that also shows what it writes is told every step of every framework.
    """
    run = Run(
        script=target.shown, arguments=list(target.arguments), directory=os.getcwd(),
        python=platform.python_version(), started=time.time(),
    )  # fmt: skip
    if target.source is not None and target.code is not None:
        # Known from the start, so that it is there in the trace of a run that is killed.
        run.sources[shown(target.code.co_filename)] = hashlib.sha256(target.source).hexdigest()
    script = dict(run.sources)
    try:
        writer: Writer | None = make_writer(directory)
    except OSError as error:
        writer = None
        run.notes.append(f"no trace was written: {directory}: {error.strerror}")
    observer, finders = attach(
        writer, run, announce=announce, limit=limit, suspicious=suspicious, light=light, before_backward_once=before_backward_once
    )
    current = Current(run, writer, directory, observer)
    CURRENT.append(current)
    if writer is not None:
        writer.run(run)
    saved = (list(sys.argv), list(sys.path), sys.modules.get("__main__"))
    began = time.monotonic()
    error: BaseException | None = None
    code, dying = 0, 0
    terminated = _catch_sigterm()
    try:
        try:
            target.execute()
        finally:
            _join_threads()
    except SystemExit as stop:
        code, error = _exit_code(stop), stop
        run.exit = str(code)
    except KeyboardInterrupt as interrupt:
        error, dying, code = interrupt, signal.SIGINT, 130
        run.exit = "KeyboardInterrupt"
    except _Terminated:
        dying, code = signal.SIGTERM, 143
        run.exit = "SIGTERM"
    except BaseException as failure:
        error, code = failure, 1
        run.exit = type(failure).__name__
    else:
        run.exit = "0"
    for watching in observer:
        if watching.ended is not None:  # a copy of the process, forked for an experiment: here it ends
            watching.ended(error, code)
    terminated()
    run.seconds = time.monotonic() - began
    if error is not None and not isinstance(error, SystemExit):
        _print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
    detach_finders(finders)
    CURRENT[:] = [c for c in CURRENT if c is not current]
    for watching in observer:
        try:
            if error is not None and not isinstance(error, (SystemExit, KeyboardInterrupt)):
                watching.script_failed(error)
            watching.uninstall()
            watching.finish()
        except Exception as own:
            watching.own_error(own)
    if not light:  # nobody repairs a file after an experiment's arm
        run.sources = _sources(run.started) | script
    run.finished = True
    if writer is not None:
        try:
            writer.run(run)
            writer.close()
        except OSError as failure:
            run.notes.append(f"the trace is incomplete: {failure.strerror}")
    sys.argv[:], sys.path[:] = saved[0], saved[1]
    if saved[2] is not None:
        # The script's module is kept alive in sys.modules: its atexit handlers and finalisers still need its globals.
        sys.modules["__unstuck_script__"] = sys.modules["__main__"]
    return Observed(run, directory if writer is not None else None, code, error, dying)


@contextmanager
def _aside(observers: list[Any]) -> Iterator[None]:
    """While Keras trains on its torch backend torch's observer looks away: it would see backward calls and no step of a
    torch optimizer. Where it has not seen a training of torch's own by then, it goes for good (and with it its cost)."""
    torch_own = [o for o in observers if type(o).__module__ == "unstuck.observe.torch_loop"]
    for watching in torch_own:
        if not watching.states:
            watching.uninstall()
            observers.remove(watching)
    before = [o.local.busy for o in torch_own]
    for watching in torch_own:
        watching.local.busy = True
    try:
        yield
    finally:
        for watching, busy in zip(torch_own, before):
            watching.local.busy = busy


def _sources(started: float) -> dict[str, str]:
    """SHA-256 of the user's files that ran: the modules that are loaded, and the files of which a line was told.

    What was imported is what the file held then. A file that was written after the run began may hold something else: "".
    """
    files = {name for name in list(linecache.cache) if name.endswith(".py")}
    for module in list(sys.modules.values()):
        try:
            file = object.__getattribute__(module, "__dict__").get("__file__")  # a lazy module must not be woken
        except AttributeError:
            continue
        if isinstance(file, str) and file.endswith(".py"):
            files.add(file)
    found = {}
    for file in files:
        try:
            if owner(file) == "user":
                changed = os.stat(file).st_mtime > started
                found[shown(file)] = "" if changed else hashlib.sha256(Path(file).read_bytes()).hexdigest()
        except (OSError, ValueError):
            continue  # gone since, or in an archive
    return found


class _Terminated(BaseException):
    """SIGTERM arrived; raised in the main thread so that a report can still be written."""


def _catch_sigterm() -> Callable[[], None]:
    """Until the script ends, SIGTERM unwinds the stack instead of killing at once, unless the script handles it itself."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None

    def arrived(number: int, frame: Any) -> None:
        raise _Terminated

    try:
        before = signal.getsignal(signal.SIGTERM)
        if before is not signal.SIG_DFL:
            return lambda: None
        signal.signal(signal.SIGTERM, arrived)
    except (ValueError, OSError):
        return lambda: None

    def restore() -> None:
        if signal.getsignal(signal.SIGTERM) is arrived:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    return restore


def _join_threads() -> None:
    """Python waits for non-daemon threads before it exits; a training may live in one."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread is not threading.main_thread() and not thread.daemon:
            thread.join()


def _exit_code(stop: SystemExit) -> int:
    """As python does it: None is 0, an int is itself, anything else is printed to standard error and is 1."""
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code & 0xFF if -(2**63) <= stop.code < 2**63 else 255
    if sys.stderr is not None:
        print(stop.code, file=sys.stderr)
    return 1


def _print_exception(error: BaseException) -> None:
    """Print as python would, through the script's own excepthook if it set one, without the frames of ours above it."""
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
    traceback = error.__traceback__
    while traceback is not None and _not_the_scripts(traceback.tb_frame.f_code.co_filename, ours):
        traceback = traceback.tb_next
    error.__traceback__ = _without_ours(traceback, ours)
    sys.excepthook(type(error), error, error.__traceback__)


def _not_the_scripts(file: str, ours: str) -> bool:
    return file.startswith(ours) or file == "<frozen runpy>" or file == runpy.__file__


def _without_ours(traceback: types.TracebackType | None, ours: str) -> types.TracebackType | None:
    """Rebuild a traceback without our wrappers' frames."""
    frames = []
    while traceback is not None:
        if not os.path.abspath(traceback.tb_frame.f_code.co_filename).startswith(ours):
            frames.append(traceback)
        traceback = traceback.tb_next
    kept: types.TracebackType | None = None
    for item in reversed(frames):
        kept = types.TracebackType(kept, item.tb_frame, item.tb_lasti, item.tb_lineno)
    return kept
