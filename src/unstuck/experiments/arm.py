"""Runs arms. `python -m unstuck.experiments.arm FOLDER` is a fork server.

It imports torch (or Keras with its backend) once, reads one spec per line of JSON on standard input ({"stop": N} kills
number N), and forks a *supervisor* per spec. The supervisor forks the arm itself, waits for it with the time limit in hand,
kills what it left behind, reads its trace and writes the result; the server says `done N` on standard output. A process that
forks must have no threads, so there are none: each of the three does one thing at a time. Everything of arm N is below
FOLDER/N; FOLDER is removed when standard input ends, which it also does when the parent is killed.

    server ── supervisor N ── arm N (a session of its own) ── DataLoader workers, programs it starts

Nothing of an arm outlives it: what leaves its process group is inherited by the supervisor (a "child subreaper", Linux) and
killed there; each is told by the kernel to die with its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import random
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from unstuck.errors import UnstuckError
from unstuck.experiments import sandbox
from unstuck.experiments.arms import ArmResult, Spec, collect, encode
from unstuck.findings import Intervention
from unstuck.observe import launch
from unstuck.trace.writer import ROW

POLL = 0.005  # seconds
GRACE = 1.0  # seconds between asking an arm to end and killing it
BEYOND = 64  # steps past its last one at which an arm is seen to ignore that it should end
SHIFT = 1_000_003  # between the seeds of two arms: a prime that no script counts its own seeds by
# What the script's first optimizer and our own reading of the trace import: a second that is paid once.
WARM = (
    "torch", "torch._dynamo", "torch.utils.data", "torch.optim.lr_scheduler", "numpy.random",
    "unstuck.observe.torch_loop", "unstuck.symptom", "unstuck.experiments.interventions", "unstuck.experiments.interventions_loss",
    "unstuck.experiments.interventions_loop", "unstuck.experiments.interventions_model", "unstuck.experiments.interventions_data",
)  # fmt: skip
WARM_KERAS = (  # Keras itself is named by the spec, and none of it starts a thread before it computes
    "numpy.random", "unstuck.observe.keras_callback", "unstuck.symptom", "unstuck.experiments.keras_interventions",
    "unstuck.experiments.keras_loss", "unstuck.experiments.keras_loop", "unstuck.experiments.keras_model",
    "unstuck.experiments.keras_data", "unstuck.experiments.keras_seeds",
)  # fmt: skip


# ---------------------------------------------------------------------- the server


class Server:
    """Forks supervisors; knows which are under way."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.running: dict[int, int] = {}  # process -> number
        self.templates: dict[tuple[str, ...], sandbox.Template | str] = {}  # a reason where there can be none
        self.sealed = sandbox.can_seal()
        self.tried: set[str] = set()

    def serve(self) -> None:
        """Until standard input ends."""
        buffer = b""
        try:
            while True:
                ready, _, _ = select.select([0], [], [], POLL if self.running else None)
                self.reap()
                if not ready:
                    continue
                data = os.read(0, 1 << 16)
                if not data:
                    return
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    self.take(line)
        finally:
            self.end()

    def take(self, line: bytes) -> None:
        message = json.loads(line)
        if "stop" in message:
            for process, number in self.running.items():
                if number == message["stop"]:
                    os.kill(process, signal.SIGTERM)
            return
        spec = msgspec.json.decode(line, type=Spec)
        os.makedirs(spec.folder, exist_ok=True)
        if spec.keras:
            self.warm([*spec.preload, *WARM_KERAS, *(["unstuck.observe.torch_loop"] if spec.keras == "torch" else [])])
        else:
            self.warm([*WARM, *spec.preload])
        template = self.template(spec)
        if isinstance(template, str):
            write(spec, ArmResult(False, template))
            say(spec.number)
            return
        process = os.fork()
        if not process:
            supervise(spec, template)
        self.running[process] = spec.number

    def warm(self, names: Any) -> None:
        """Import what arms will import. A module that fails here fails again where the script can see it."""
        fresh = [n for n in names if n not in self.tried]
        self.tried.update(fresh)
        for name in fresh:
            try:
                importlib.import_module(name)
            except Exception:
                pass
        if fresh:
            gc.collect()
            gc.freeze()  # the collector of a fork would touch, and so copy, every page of it

    def template(self, spec: Spec) -> sandbox.Template | str:
        roots = sandbox.folders(spec.cwd, spec.target.name if spec.target.kind == "script" else None)
        key = tuple(roots)
        if key not in self.templates:
            try:
                place = os.path.join(self.folder, f"template-{len(self.templates)}")
                self.templates[key] = sandbox.Template(roots, place, sealed=self.sealed)
            except (sandbox.CannotCopy, OSError) as error:
                self.templates[key] = str(error)
        return self.templates[key]

    def reap(self) -> None:
        while self.running:
            process, _ = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            number = self.running.pop(process, None)
            if number is not None:
                say(number)

    def end(self) -> None:
        """Supervisors clean up after themselves; those that do not in time are killed, and their arms with them."""
        for process in self.running:
            os.kill(process, signal.SIGTERM)
        until = time.monotonic() + 3.0
        while self.running and time.monotonic() < until:
            process, _ = os.waitpid(-1, os.WNOHANG)
            self.running.pop(process, None)
            time.sleep(POLL)
        for process in self.running:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        shutil.rmtree(self.folder, ignore_errors=True)


def say(number: int) -> None:
    try:
        os.write(1, b"done %d\n" % number)
    except OSError:
        pass  # the parent is gone; the end of standard input is on its way


def write(spec: Spec, result: ArmResult) -> None:
    """Whole or not at all."""
    put(os.path.join(spec.folder, "result"), encode(result))


def put(path: str, data: bytes) -> None:
    """A file that is there whole or not at all."""
    with open(path + ".part", "wb") as file:
        file.write(data)
    os.replace(path + ".part", path)


# ---------------------------------------------------------------------- the supervisor


class Stopped(BaseException):
    """SIGTERM: nobody wants the result any more."""


def supervise(spec: Spec, template: sandbox.Template) -> NoReturn:
    """One arm from the fork to its result. Never returns."""
    fork_arm(spec)
    perform(spec, template)


def fork_arm(spec: Spec) -> None:
    """Fork the arm: returns there, and nowhere else. This process sees to its end and its result, and ends."""
    code, server, arm = 0, os.getppid(), None
    try:
        signal.signal(signal.SIGTERM, _stop)
        detach_streams()
        die_with_parent(signal.SIGTERM)
        adopt_orphans()
        began = time.monotonic()
        arm = os.fork()
        if not arm:
            return
        try:
            status, cut = attend(spec, arm, began + spec.seconds, server)
        finally:
            kill_all(arm)
        notes = read_notes(spec)
        result = judge(spec, notes, status, cut)
        result.seconds = time.monotonic() - began
        write(spec, result)
    except Stopped:
        code = 1
    except BaseException as error:
        write(spec, ArmResult(False, f"our own error: {type(error).__name__}: {error}"))
    finally:
        if arm != 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            kill_all(arm)  # once more: SIGTERM may have come in the middle of the first time
            for name in ("work", "tmp", "trace", "notes", "output"):
                path = os.path.join(spec.folder, name)
                shutil.rmtree(path, ignore_errors=True) if os.path.isdir(path) else _unlink(path)
            os._exit(code)


def _stop(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not interrupt the killing
    raise Stopped


def attend(spec: Spec, arm: int, until: float, server: int) -> tuple[int | None, str]:
    """Wait for the arm's end: (its status, why it was cut short). The status is None of one that had to be killed."""
    rows = os.path.join(spec.folder, "trace", "series.bin")
    look = 0.0
    while True:
        process, status = os.waitpid(arm, os.WNOHANG)
        if process:
            return status, ""
        now = time.monotonic()
        if now >= until:
            return ask_to_end(spec, arm), "time"
        if spec.steps and now >= look:
            look = now + 0.1
            # A script that catches SystemExit trains on after its last step.
            if _size(rows) // ROW.size > spec.steps + BEYOND:
                return ask_to_end(spec, arm), "steps"
        if os.getppid() != server:
            raise Stopped
        time.sleep(POLL)


def ask_to_end(spec: Spec, arm: int) -> int | None:
    """First as `kill` does, so that the trace is finished; then for the notes only, which no `except:` can keep back."""
    for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGUSR1, 0.3)):
        os.kill(arm, number)
        until = time.monotonic() + patience
        while time.monotonic() < until:
            process, status = os.waitpid(arm, os.WNOHANG)
            if process:
                return status
            time.sleep(POLL)
    return None


def kill_all(arm: int | None) -> None:
    """The arm, its process group, and whatever left the group; all are waited for."""
    until = time.monotonic() + 10.0
    while time.monotonic() < until:
        if arm is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(arm, signal.SIGKILL)
        # Once the arm is dead its children are ours, and theirs once they are.
        for child in children(arm):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            while True:
                process, _ = os.waitpid(-1, os.WNOHANG)
                if not process:
                    break
                arm = None if process == arm else arm  # its number may be given to another process
        except ChildProcessError:
            return
        time.sleep(POLL)


def children(arm: int | None) -> list[int]:
    """Of this process, as the kernel lists them; where it does not, the arm is the only one that is known."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(word) for word in file.read().split()]
    except (OSError, ValueError):
        return [] if arm is None else [arm]


def judge(spec: Spec, notes: Notes | None, status: int | None, cut: str) -> ArmResult:
    """The numbers of the trace, and whether the way the arm ended lets them count."""
    if notes is not None and notes.fatal:
        return ArmResult(False, notes.fatal)
    result = collect(Path(spec.folder, "trace"), spec.training, spec.steps)
    if notes is not None:
        result.applied, result.seeded = notes.applied, notes.seeded
        if spec.intervention is not None and notes.impossible:
            result.ok, result.reason = False, notes.impossible
            return result
    complete = bool(spec.steps) and result.steps >= spec.steps
    if complete:
        result.reason = ""
    elif notes is not None and notes.error and cut != "time":
        refused = notes.refused[0] if notes.refused else ""
        result.ok, result.reason = False, refused or notes.error
        return result
    elif cut == "time":
        if result.ok:
            asked = f" of {spec.steps:,}" if spec.steps else ""
            result.reason = f"the time was over after {result.steps:,}{asked} steps"
        else:
            result.reason = f"the time was over ({spec.seconds:.0f} s): {result.reason}"
    elif status is not None and os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        result.ok, result.reason = False, f"the script was killed by {signal.Signals(number).name}"
        return result
    elif notes is None:
        result.ok, result.reason = False, f"the script ended its own process: {last_line(spec)}".rstrip(": ")
        return result
    elif not result.ok and notes.refused:
        result.reason = notes.refused[0]
    if result.ok and spec.intervention is not None and notes is not None and not notes.applied:
        result.ok, result.reason = False, "the intervention found nothing to change"
    return result


def last_line(spec: Spec) -> str:
    """Of what the script printed."""
    try:
        with open(os.path.join(spec.folder, "output"), "rb") as file:
            file.seek(max(_size(file.name) - 4096, 0))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][:300] if lines else ""


# ---------------------------------------------------------------------- the arm


class Notes(msgspec.Struct):
    """What only the arm's own process knows."""

    fatal: str = ""  # it could not even begin
    error: str = ""  # last line of the exception that ended the script
    refused: list[str] = msgspec.field(default_factory=list)
    impossible: str = ""  # why the intervention could not be made
    applied: int = 0
    seeded: bool = False


def read_notes(spec: Spec) -> Notes | None:
    try:
        return msgspec.json.decode(Path(spec.folder, "notes").read_bytes(), type=Notes)
    except (OSError, msgspec.MsgspecError):
        return None


def perform(spec: Spec, template: sandbox.Template) -> NoReturn:
    """The arm's process: the script in a copy of its folder, behind the wall, observed. Never returns."""
    notes = Notes()
    known: list[Any] = []  # what the intervention counts in, once there is one
    guard: sandbox.Guard | None = None

    def note(*_: Any) -> None:
        if known:
            notes.applied, notes.impossible = known[0].count, known[0].reason or notes.impossible
        if guard is not None:
            notes.refused = guard.refused[:5]
        put(os.path.join(spec.folder, "notes"), msgspec.json.encode(notes))

    try:
        os.setsid()
        die_with_parent(signal.SIGKILL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGUSR1, note)
        redirect(os.path.join(spec.folder, "output"))
        scratch = template.copy(os.path.join(spec.folder, "work"))
        target = enter(spec, scratch, os.path.join(spec.folder, "tmp"))
        guard = sandbox.Guard(scratch, [spec.folder])
        if template.sealed:
            sandbox.seal([spec.folder, "/dev", *guard.caches])
        guard.install()
        guard_native_writers(guard)
        change = None if spec.intervention is None else moved(spec.intervention, scratch)
        with seeds(spec.seed, spec.keras) as seeded:
            with intervening(change, spec.keras) as applied:
                known.append(applied)
                observed = launch.observe(target, Path(spec.folder, "trace"), limit=spec.steps, light=True)
            notes.seeded = bool(seeded)
        error = observed.error
        if observed.run.own_errors and not observed.run.backward_seen:
            notes.fatal = f"our own error: {observed.run.own_errors[0]}"
        if error is not None and not isinstance(error, launch.StopTraining) and not observed.signal:
            notes.error = told(error, observed.code, spec)
    except UnstuckError as error:
        notes.fatal = str(error)
    except BaseException as error:
        # NotPossible arrives here when the change cannot be made at all: it derives from BaseException.
        reason = getattr(error, "reason", None)
        if isinstance(reason, str):
            notes.impossible = notes.fatal = reason
        else:
            traceback.print_exc()
            notes.fatal = f"our own error: {type(error).__name__}: {error}"
    finally:
        note()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(0)


def enter(spec: Spec, scratch: sandbox.Scratch, temporary: str) -> launch.Target:
    """Working directory, variables, import path and arguments as the script had them, in the copy."""
    os.makedirs(temporary)
    variables = sandbox.environment(scratch, temporary, spec.environment or os.environ)
    os.environ.clear()
    os.environ.update(variables)
    import tempfile

    tempfile.tempdir = None  # read TMPDIR again
    os.chdir(scratch.there(os.path.abspath(spec.cwd)))
    scratch.list_in_the_old_order()
    own = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    sys.path[1:] = [p if p == own else scratch.there(p) for p in sys.path[1:]]
    importlib.invalidate_caches()
    sys.path_importer_cache.clear()
    sys.dont_write_bytecode = True
    if "torch._dynamo" in sys.modules:
        # Compiled code would be traced through an intervention's patches once, with the state they had then. The same in
        # every arm, so that they differ by the intervention alone.
        sys.modules["torch._dynamo"].config.disable = True  # type: ignore[attr-defined]
    name = spec.target.name
    if spec.target.kind == "script" and os.path.isabs(name):
        name = scratch.there(name)
    elif spec.target.kind == "code":
        name = scratch.text(name)
    return launch.Target(spec.target.kind, name, [scratch.text(a) for a in spec.target.arguments])


def moved(intervention: Intervention, scratch: sandbox.Scratch) -> Intervention:
    """Its file, where it has one, as it is called in the copy."""

    def there(value: Any) -> Any:
        if isinstance(value, list):
            return [there(v) for v in value]
        return scratch.text(value) if isinstance(value, str) else value

    return Intervention(intervention.kind, {k: there(v) for k, v in intervention.arguments.items()})


@contextlib.contextmanager
def intervening(intervention: Intervention | None, keras: str = "") -> Iterator[Any]:
    """The intervention, made; its counter. Without one nothing of it is imported."""
    if intervention is None:
        yield _Unchanged()
        return
    if keras:
        from unstuck.experiments.keras_interventions import apply
    else:
        from unstuck.experiments.interventions import apply

    with apply(intervention) as applied:
        yield applied


class _Unchanged:
    """The counter of a control."""

    count = 0
    reason = ""


def told(error: BaseException, code: int, spec: Spec) -> str:
    """Why a script ended, in one line; '' where it ended well. Its reason, where the exception has one of ours."""
    if isinstance(error, SystemExit):
        if not code:
            return ""
        said = last_line(spec) or str(error.code)
        return f"the script ended with exit code {code}: {said}"
    reason = getattr(error, "reason", None)
    if isinstance(reason, str) and type(error).__module__.startswith("unstuck."):
        return reason
    if isinstance(error, sandbox.Refused):
        return str(error).removeprefix(sandbox.SAYS)
    kind = type(error).__name__
    lines = "".join(traceback.format_exception_only(type(error), error)).strip().splitlines()
    # Messages go on, and notes follow them (JAX adds one to every exception that passes it): the line of the type is the first.
    line = next((text for text in lines if text.partition(":")[0].rpartition(".")[2] == kind), kind)
    return f"the script ends with {line.removeprefix(f'{type(error).__module__}.')[:300]}"


def redirect(output: str) -> None:
    """Nobody sees what an arm prints; nobody answers what it asks."""
    with open(output, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)  # noqa: SIM115
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr  # type: ignore[misc]


def detach_streams() -> None:
    """The supervisor and all it starts: the server's pipe to its parent is not theirs to read or to hold open."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(null, stream)
    os.close(null)


def guard_native_writers(guard: sandbox.Guard) -> None:
    """torch.save opens its file in C++, where no audit hook sees it."""
    torch: Any = sys.modules.get("torch")
    for owner, name in ((torch, "save"), (getattr(torch, "jit", None), "save")):
        original = getattr(owner, name, None)
        if original is not None:
            setattr(owner, name, _checked(original, guard))


def _checked(original: Callable[..., Any], guard: sandbox.Guard) -> Callable[..., Any]:
    import functools

    @functools.wraps(original)
    def save(obj: Any, f: Any, *args: Any, **kwargs: Any) -> Any:
        guard.check(f)
        return original(obj, f, *args, **kwargs)

    return save


def die_with_parent(number: int) -> None:
    """Linux: the kernel sends this signal when the parent ends, however it ends."""
    _prctl(1, number)


def adopt_orphans() -> None:
    """Linux: what a descendant leaves behind becomes a child of this process, not of the machine's first one."""
    _prctl(36, 1)


def _prctl(option: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


# ---------------------------------------------------------------------- seeds


@contextlib.contextmanager
def seeds(number: int, keras: str = "") -> Iterator[list[str]]:
    """Every seed the script sets is moved by SHIFT * number; with number 0 they are the script's own.

    Yields the names of the generators the script seeds itself, filled while it runs. Whatever it does not seed is seeded
    here, so that arms differ by the intervention alone. Everything is put back at the end. keras: the backend of a Keras
    script; torch is imported for torch only.
    """
    shift = SHIFT * number
    numpy: Any = importlib.import_module("numpy")
    seeded: list[str] = []
    random.seed(shift)
    numpy.random.seed(shift % 2**32)
    restore: list[Callable[[], None]] = []

    def replace(owner: Any, name: str, value: Any) -> None:
        original = getattr(owner, name)
        setattr(owner, name, value)
        restore.append(lambda: setattr(owner, name, original))

    def moved(seed: Any, bits: int) -> Any:
        """A seed of `bits` bits; what is no number stays as it is."""
        try:
            seed = int(seed.item() if hasattr(seed, "item") else seed)
        except (TypeError, ValueError):
            return seed
        return seed + shift if seed + shift < 2**bits else seed + shift - 2**bits

    numpy_seed, python_seed, default_rng = numpy.random.seed, random.seed, numpy.random.default_rng

    def seed_numpy(seed: Any = None) -> None:
        seeded.append("numpy")
        numpy_seed(shift % 2**32 if seed is None else moved(seed, 32))

    def seed_python(a: Any = None, version: int = 2) -> None:
        seeded.append("random")
        if a is None:
            python_seed(shift, version)
        elif isinstance(a, int):
            python_seed(a + shift, version)
        else:
            python_seed(a if not shift else f"{a!r}+{shift}", version)

    fresh = 0  # unseeded generators made so far: each gets numbers of its own

    def new_rng(seed: Any = None) -> Any:
        nonlocal fresh
        if seed is None:
            fresh += 1
            return default_rng([shift, fresh])
        return default_rng(moved(seed, 128))

    replace(numpy.random, "seed", seed_numpy)
    replace(numpy.random, "default_rng", new_rng)
    replace(random, "seed", seed_python)
    if keras in {"", "torch"}:
        _seed_torch(shift, replace, moved, seeded)
    try:
        with contextlib.ExitStack() as stack:
            if keras:
                from unstuck.experiments.keras_seeds import seeds as keras_seeds

                stack.enter_context(keras_seeds(shift, seeded))
            yield seeded
    finally:
        while restore:
            restore.pop()()


def _seed_torch(
    shift: int, replace: Callable[[Any, str, Any], None], moved: Callable[[Any, int], Any], seeded: list[str]
) -> None:  # fmt: skip
    torch: Any = importlib.import_module("torch")
    library = os.path.dirname(os.path.abspath(torch.__file__))
    torch.manual_seed(shift)

    def setter(original: Callable[..., Any], bits: int, name: str) -> Callable[..., Any]:
        def seed_(seed: Any, *args: Any, **kwargs: Any) -> Any:
            if not sys._getframe(1).f_code.co_filename.startswith(library):  # torch seeds its workers with it
                seeded.append(name)
            return original(moved(seed, bits), *args, **kwargs)

        seed_.__name__, seed_.__doc__ = original.__name__, original.__doc__
        return seed_

    manual_seed = setter(torch.manual_seed, 63, "torch")
    for owner in (torch, torch.random):
        replace(owner, "manual_seed", manual_seed)
        replace(owner, "seed", lambda: torch.manual_seed(0).initial_seed())
    for name in ("manual_seed", "manual_seed_all"):
        replace(torch.cuda, name, setter(getattr(torch.cuda, name), 63, "cuda"))

    base = torch._C.Generator

    class Type(type(base)):  # type: ignore[misc]
        def __instancecheck__(cls, thing: Any) -> bool:
            return isinstance(thing, base)

    class Generator(base, metaclass=Type):  # type: ignore[misc, valid-type]
        """torch.Generator with moved seeds."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            if shift:
                base.manual_seed(self, moved(self.initial_seed(), 63))

        def manual_seed(self, seed: Any) -> Any:
            base.manual_seed(self, moved(seed, 63))
            return self

        def seed(self) -> int:
            base.manual_seed(self, shift)
            return shift

    Generator.__module__, Generator.__qualname__ = "torch", "Generator"
    replace(torch, "Generator", Generator)


if __name__ == "__main__":
    Server(sys.argv[1]).serve()
