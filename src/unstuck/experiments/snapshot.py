"""Arms of a script that cannot be run again: copies of its own process, frozen before its first backward pass.

    parent (the script) ── snapshot, blocked on a pipe ── supervisor N ── arm N: the user's loop goes on in it

When the first backward pass is about to begin, the process forks. The child waits until the script has ended and somebody
asks for arms; for each it forks again (supervisors and everything after are those of `arm`), the arm makes its change, and
returns into the user's loop as if nothing had happened. Whatever the script read before it trains (standard input, the
network, what it drew without a seed) is in its memory. Only Linux: /proc and the parent-death signal are needed.

Why before the first backward pass, and not at the first step: no hook of an optimizer is being iterated there, so that
hooks can be added; torch has not started its threads for gradients, with which a fork cannot compute any; loops without an
optimizer have a first backward pass as well; and the weights are still the initial ones. The first loss has been computed
without the change, though. An arm with a change therefore takes its first step with gradients that are zero: it loses one
step, and is not thrown anywhere by the fault. A control takes all steps, and repeats the recorded losses from the first.

A copy shares with the script what forks share: open files. Those that are read are opened anew at the place they had, for
each arm; everything that can be written to is replaced by /dev/null, pipes and sockets too (a copy that held the end of a
pipe would keep its reader waiting). What cannot be had twice is a reason not to make a copy; `Snapshot.reason` says it.

Nothing but the standard library is imported in the script's process before its training has been observed.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import importlib
import os
import random
import select
import signal
import stat
import subprocess
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from unstuck.experiments.arms import ArmResult, Spec

# Changes to what is made before the first backward pass: the copy comes too late for them.
FROM_THE_START = {
    "widen": "the layers have been made",
    "full-precision": "the weights have been cast",
    "shuffle": "the first pass over the data has begun",
}
HARMLESS_THREADS = {"TMonitor"}  # tqdm's, which sleeps and redraws bars
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
POLL = 0.005  # seconds


class Snapshot:
    """One frozen copy of this process, and the pool of arms that are forked from it.

    Called with the observer when the first backward pass is about to begin, it forks. In the script's process that call
    returns at once; it returns once more in each arm. `reason` says why there is no copy, '' where there is one. To be
    closed by the process that made it, always.
    """

    how = "fork"
    when = "before its first backward pass"

    def __init__(self, jobs: int | None = None) -> None:
        self._why = "no backward pass was seen"
        self._jobs = jobs
        self._process: _Process | None = None
        self._pool: Any = None

    def __call__(self, observer: Any) -> None:
        ends: list[int] = []
        try:
            self._why = obstacle(observer)
            if self._why:
                return
            # Not after the fork: in a child, Python gives its global generator a new seed.
            drawn, places = random.getstate(), offsets()
            parent = os.getpid()
            commands, answers = os.pipe(), os.pipe()
            ends += [*commands, *answers]
            observer.staying = True
            process = os.fork()
        except Exception as error:  # no memory, no /proc, warnings that are errors: not the script's business
            for end in ends:
                os.close(end)
            self._why = f"the process could not be copied: {type(error).__name__}: {error}"
            observer.staying = False
            return
        if not process:
            kept = keep_input(places)
            spec, template = freeze(parent, commands[0], answers[1], places)
            resume(spec, template, observer, drawn, places, kept)
            return
        observer.staying = False
        os.close(commands[0])
        os.close(answers[1])
        self._process = _Process(process, commands[1], answers[0])

    # ------------------------------------------------------------------ the pool

    @property
    def reason(self) -> str:
        if not self._why and (self._process is None or not self._process.reachable):
            return "it has ended, or the script closed the files it is spoken to through"
        return self._why

    @property
    def jobs(self) -> int:
        from unstuck.experiments.pool import cores

        return self._jobs or cores()

    def submit(self, spec: Spec) -> Future[ArmResult]:
        """Raises RuntimeError where there is no copy."""
        if self._process is None:
            raise RuntimeError(f"there is no copy of the process: {self.reason}")
        if self._pool is None:
            from unstuck.experiments.pool import LocalPool

            self._pool = LocalPool(self.jobs, self._process)
        return self._pool.submit(spec)

    def stop(self, future: Future[ArmResult]) -> None:
        if self._pool is not None:
            self._pool.stop(future)

    def close(self) -> None:
        """End the copy and its arms. In an arm, which has none, nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        if self._pool is not None:
            self._pool.close()
            return
        process.close()
        try:
            process.wait(3.0)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Process:
    """The copy, as its parent sees it: what a pool needs of a `subprocess.Popen`."""

    def __init__(self, pid: int, commands: int, answers: int) -> None:
        self.pid = pid
        self.stdin = os.fdopen(commands, "wb")
        self.stdout = os.fdopen(answers, "rb")
        self.identity = os.fstat(commands).st_ino

    @property
    def reachable(self) -> bool:
        """Is our end of its pipe still that? A script that closes all files may have given the number to its own."""
        try:
            return os.fstat(self.stdin.fileno()).st_ino == self.identity and not self._ended()
        except (OSError, ValueError):
            return False

    def _ended(self) -> bool:
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def close(self) -> None:
        if not self.reachable:
            return
        for end in (self.stdin, self.stdout):
            try:
                end.close()
            except OSError:
                pass  # the script closed all it found

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        until = time.monotonic() + (timeout if timeout is not None else 3600.0)
        while True:
            try:
                process, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                return 0  # the script waits for whatever child there is, or ignores SIGCHLD
            if process:
                return status
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("snapshot", timeout or 0.0)
            time.sleep(POLL)


# ---------------------------------------------------------------------- may it be copied?


def obstacle(observer: Any) -> str:
    """Why this process cannot be copied; '' where it can."""
    if not sys.platform.startswith("linux") or not hasattr(os, "fork"):
        return "this is done on Linux only"
    if threading.current_thread() is not threading.main_thread():
        return "the training runs in a thread"
    if _children():  # before the threads: a loader with workers has one of its own
        return "another process of the script is running (a DataLoader worker, for example)"
    others = [t for t in threading.enumerate() if t is not threading.main_thread() and type(t).__name__ not in HARMLESS_THREADS]
    if others:
        return f"another thread is running ({others[0].name})"
    torch: Any = sys.modules["torch"]
    if torch.cuda.is_initialized() or _has_thread("pt_autograd"):
        return "a GPU is in use"
    if observer.compiles:
        return "torch.compile is in use"
    return _shared_memory() or _writable()


def _tasks(name: str) -> Iterator[str]:
    """The content of a /proc file of each thread of this process."""
    for task in os.listdir("/proc/self/task"):
        try:
            yield Path("/proc/self/task", task, name).read_text()
        except OSError:
            continue  # it has ended meanwhile


def _has_thread(name: str) -> bool:
    return any(text.startswith(name) for text in _tasks("comm"))


def _children() -> bool:
    return any(text.strip() for text in _tasks("children"))


def _shared_memory() -> str:
    """Memory that a copy would write to for all: memory-mapped files, tensors and arrays shared between processes."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        words = line.split(maxsplit=5)
        if "w" in words[1] and "s" in words[1]:
            name = words[5] if len(words) > 5 else ""
            if not name.startswith("/dev/shm/sem."):  # locks
                return f"memory is shared with other processes or with a file ({name or 'no name'})"
    return ""


def _descriptors() -> Iterator[tuple[int, os.stat_result, int]]:
    """(number, what it is, O_RDONLY | O_WRONLY | O_RDWR) of each open file."""
    for name in os.listdir("/proc/self/fd"):
        try:
            yield int(name), os.fstat(int(name)), fcntl.fcntl(int(name), fcntl.F_GETFL) & os.O_ACCMODE
        except OSError:
            continue  # the one that listed the folder


def _writable() -> str:
    for number, about, mode in _descriptors():
        if number > 2 and stat.S_ISREG(about.st_mode) and mode == os.O_RDWR:
            return f"a file is open for reading and writing ({os.readlink(f'/proc/self/fd/{number}')})"
    return ""


def offsets() -> dict[int, int]:
    """Where in the file each regular file that is being read is: a fork shares that, and the script reads on."""
    return {
        number: os.lseek(number, 0, os.SEEK_CUR)
        for number, about, mode in _descriptors() if stat.S_ISREG(about.st_mode) and mode == os.O_RDONLY
    }  # fmt: skip


# ---------------------------------------------------------------------- the copy


class _Over(BaseException):
    """SIGTERM: the parent has ended."""


def freeze(parent: int, commands: int, answers: int, places: dict[int, int]) -> tuple[Spec, Any]:
    """In the copy: wait for work. Returns in arms only: (what to do, the copy of the script's folder or why there is none)."""
    server: Any = None
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, _over)
        os.setsid()  # Ctrl-C is for the script
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(0)
        own_streams(commands, answers)
        own_files(places)
        gc.freeze()  # the collector of an arm would touch, and so copy, every page
        buffer = b""
        while True:
            ready, _, _ = select.select([0], [], [], POLL if server is not None and server.running else None)
            if server is not None:
                server.reap()
            if not ready:
                continue
            data = os.read(0, 1 << 16)
            if not data:
                raise _Over
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                server = server or _server(line)
                if b'"stop"' in line[:10]:
                    server.take(line)
                    continue
                found = _take(server, line)
                if found is not None:
                    return found
    except _Over:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if server is not None:
            server.end()
    except BaseException:
        pass  # nobody listens; the parent sees the pipe closed
    os._exit(0)


def _over(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Over


def _server(line: bytes) -> Any:
    """The book-keeping of arms under way is that of the fork server, in whose place this process stands."""
    import msgspec

    from unstuck.experiments.arm import Server
    from unstuck.experiments.arms import Spec

    spec = msgspec.json.decode(line, type=Spec)
    server = Server(os.path.dirname(spec.folder))
    sys.dont_write_bytecode = True
    server.warm([f"unstuck.experiments.interventions{end}" for end in ("", "_loss", "_loop", "_model", "_data")])
    return server


def _take(server: Any, line: bytes) -> tuple[Spec, Any] | None:
    """Fork the supervisor of one arm. None in this process; in the arm, what it is to do."""
    import msgspec

    from unstuck.experiments.arm import fork_arm
    from unstuck.experiments.arms import Spec

    spec = msgspec.json.decode(line, type=Spec)
    os.makedirs(spec.folder, exist_ok=True)
    template = server.template(spec)
    process = os.fork()
    if process:
        server.running[process] = spec.number
        return None
    fork_arm(spec)
    return spec, template


def own_streams(commands: int, answers: int) -> None:
    """Commands on 0, answers on 1, nothing on 2. The script's stream objects keep what they had not written: for ever."""
    commands, answers = fcntl.fcntl(commands, fcntl.F_DUPFD, 3), fcntl.fcntl(answers, fcntl.F_DUPFD, 3)
    null = os.open(os.devnull, os.O_RDWR)
    for here, there in ((commands, 0), (answers, 1), (null, 2)):
        os.dup2(here, there, inheritable=False)
        os.close(here)


def keep_input(places: dict[int, int]) -> int | None:
    """Standard input that is a file gets another number, for 0 is the copy's own."""
    if 0 not in places:
        return None
    kept = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3)
    places[kept] = places.pop(0)
    return kept


def own_files(places: dict[int, int]) -> None:
    """Files that are read: opened anew at the place they had. What can be written: /dev/null. Not 0, 1 and 2."""
    null = os.open(os.devnull, os.O_RDWR)
    for number, about, mode in list(_descriptors()):
        if number in {0, 1, 2, null} or stat.S_ISDIR(about.st_mode):
            continue
        if number in places:
            _reopen(number, number, places[number])
        elif mode != os.O_RDONLY or not (stat.S_ISREG(about.st_mode) or stat.S_ISCHR(about.st_mode)):
            os.dup2(null, number, inheritable=False)
    os.close(null)


def _reopen(number: int, source: int, place: int) -> None:
    fresh = os.open(f"/proc/self/fd/{source}", os.O_RDONLY)
    os.lseek(fresh, place, os.SEEK_SET)
    os.dup2(fresh, number, inheritable=False)
    os.close(fresh)


# ---------------------------------------------------------------------- the arm


def resume(
    spec: Spec, template: Any, observer: Any, drawn: Any, places: dict[int, int], kept: int | None
) -> None:  # fmt: skip
    """Make this process the arm: then the caller returns into the user's loop. Never returns where that is impossible."""
    from unstuck.experiments import arm, sandbox

    notes = arm.Notes(seeded=True)
    known: list[Any] = []
    guards: list[sandbox.Guard] = []

    def note(*_: Any) -> None:
        if known:
            notes.applied, notes.impossible = known[0].count, known[0].reason or notes.impossible
        notes.refused = [r for g in guards for r in g.refused[:5]]
        import msgspec

        arm.put(os.path.join(spec.folder, "notes"), msgspec.json.encode(notes))

    def ended(error: BaseException | None, code: int) -> NoReturn:
        """The last step, the end of the script, or SIGTERM."""
        try:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            observer.active = observer.spy.on = False
            if error is not None:
                notes.error = arm.told(error, code, spec)
                if not isinstance(error, (SystemExit, KeyboardInterrupt)):
                    observer.script_failed(error)
            observer.finish()
            observer.run.finished = True
            observer.writer.run(observer.run)
            observer.writer.close()
        except BaseException as own:
            notes.fatal = f"our own error: {type(own).__name__}: {own}"
        finally:
            _leave(note)

    try:
        os.setsid()
        arm.die_with_parent(signal.SIGKILL)
        signal.signal(signal.SIGTERM, lambda number, frame: ended(None, 0))
        signal.signal(signal.SIGUSR1, lambda number, frame: _leave(note))
        own_files(places)
        arm_streams(places, kept)
        torch: Any = sys.modules["torch"]
        if torch.get_num_threads() > 1:
            torch.set_num_threads(1)  # the others were not forked
        _place(spec, template, guards, kept is not None)
        _observe_here(spec, observer, ended)
        known.append(_intervene(spec, observer))
        _seed(spec.seed, drawn)
    except BaseException as error:
        reason = getattr(error, "reason", None)
        if isinstance(reason, str):  # NotPossible
            notes.impossible = notes.fatal = reason
        else:
            notes.fatal = f"our own error: {type(error).__name__}: {error}"
        _leave(note)


def _leave(note: Callable[[], None]) -> NoReturn:
    """Nothing is flushed: what the script had not written yet is the parent's to write."""
    try:
        note()
    finally:
        os._exit(0)


def arm_streams(places: dict[int, int], kept: int | None) -> None:
    """Nobody sees what it prints. A file on standard input is read on from where it was; reading anything else fails."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)
    if kept is not None:
        _reopen(0, kept, places[kept])


def _place(spec: Spec, template: Any, guards: list[Any], from_file: bool) -> None:
    """Behind the wall. The working directory becomes a copy, so that checkpoints with relative paths have a place."""
    import builtins
    import tempfile

    from unstuck.experiments import arm, sandbox

    temporary = os.path.join(spec.folder, "tmp")
    os.makedirs(temporary)
    os.environ |= {"TMPDIR": temporary, "WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1", "UNSTUCK_ARM": "1"}
    tempfile.tempdir = None
    if isinstance(template, str):  # too large: then every write of the script is refused
        scratch = sandbox.Scratch([], spec.folder, {})
    else:
        scratch = template.copy(os.path.join(spec.folder, "work"))
        os.chdir(scratch.there(os.getcwd()))
        scratch.list_in_the_old_order()
    guard = sandbox.Guard(scratch, [spec.folder])
    guards.append(guard)
    sandbox.seal([spec.folder, "/dev", *guard.caches])
    stdin, asks = sys.stdin, builtins.input
    guard.install()
    if from_file:
        sys.stdin, builtins.input = stdin, asks
        guard._checks.pop("builtins.input", None)
    arm.guard_native_writers(guard)


def _observe_here(spec: Spec, observer: Any, ended: Callable[[BaseException | None, int], NoReturn]) -> None:
    """The script's own observer goes on, with a trace of its own and without what only a diagnosis needs."""
    from unstuck.trace.writer import Writer

    if observer.writer is not None:
        observer.writer.forget()
    observer.writer = Writer(Path(spec.folder, "trace"))
    observer.staying = False
    observer.light, observer.limit, observer.ended = True, spec.steps, ended
    observer.announce = observer.suspicious = observer.spy.tape = None
    observer.writer.run(observer.run)


def _seed(number: int, drawn: Any) -> None:
    """Seed 0: the generators go on where they were. Others: the global ones start anew; generators of the script's own,
    and the order of the pass over the data that has begun, stay."""
    from unstuck.experiments.arm import SHIFT

    random.setstate(drawn)
    if number:
        random.seed(SHIFT * number)
        importlib.import_module("numpy").random.seed(SHIFT * number % 2**32)
        sys.modules["torch"].manual_seed(SHIFT * number)  # type: ignore[attr-defined]


# ---------------------------------------------------------------------- the change, made late


def _intervene(spec: Spec, observer: Any) -> Any:
    """The intervention on a training that is under way; its counter. For good: the arm ends with it."""
    from unstuck.experiments import arm

    if spec.intervention is None:
        return arm._Unchanged()
    from unstuck.experiments import change, interventions, patches
    from unstuck.experiments.kinds import TOGETHER

    text = str(spec.intervention.arguments.get("fixes", "")) if spec.intervention.kind == TOGETHER else ""
    for kind, why in FROM_THE_START.items():
        if kind == spec.intervention.kind or f'"kind":"{kind}"' in text:
            raise change.NotPossible(f"a copy of the running process comes too late for it: {why}")
    if spec.intervention.kind != "placebo":
        _lose_first_step(observer)
    interventions.Patches = _late(patches.Patches, observer)  # type: ignore[misc]
    change = interventions.apply(spec.intervention)
    _KEPT.append(change)  # a generator that is collected runs its `finally`, which takes the change back
    return change.__enter__()


_KEPT: list[Any] = []


def _lose_first_step(observer: Any) -> None:
    """The first loss and its gradients are those of the unchanged script. The gradients become 0, so that the weights stay
    initial; right before the step, for 0 is a gradient that a script may divide by. What the observer has read from that
    loss's graph (which term it watches) is forgotten: the changed loss may be another one."""
    optim = sys.modules["torch.optim.optimizer"]
    due = [True]
    after_backward = observer.after_backward

    def after() -> None:
        after_backward()
        observer.after_backward = after_backward
        for state in observer.states:
            state.recipes.clear()
            state.facts.terms.clear()
            state.labels.clear()
            state.last_term = state.sole = None
            if not len(observer.optimizer_made):  # a step by hand
                for ref, _ in state.parameters.values():
                    p = ref()
                    if p is not None and p.grad is not None:
                        p.grad.zero_()
        observer.spy_left = 2

    observer.after_backward = after

    def before(optimizer: Any, args: Any, kwargs: Any) -> None:
        if due:
            due.clear()
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        p.grad.zero_()

    observer.restore.append(optim.register_optimizer_step_pre_hook(before).remove)  # type: ignore[attr-defined]


def _late(base: Any, observer: Any) -> Any:
    """Patches that know what was made before them: modules and optimizers, from the observer; names that the user's
    modules have imported (`from torch.nn.functional import cross_entropy`)."""

    class Late(base):  # type: ignore[misc]
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            for optimizer in list(observer.optimizer_made):
                if self.applied.kind == "adaptive-optimizer":
                    vars(optimizer).pop("step", None)  # a scheduler's wrapper, which keeps the method as it was
                for group in optimizer.param_groups:
                    group.setdefault("initial_lr", group.get("lr"))  # no step has been taken: it is

        def remember_modules(self) -> None:
            first = self.made is None
            super().remember_modules()
            if first:
                for module, site in list(observer.made.items()):
                    if site is not None:
                        self.made[module] = (site.file, site.line)

        def remember_optimizers(self) -> None:
            first = self.optimizers is None
            super().remember_optimizers()
            if first:
                self.optimizers.extend(weakref.ref(o) for o in list(observer.optimizer_made))

        def replace(self, owner: Any, name: str, make: Any) -> None:
            before = getattr(owner, name, None)
            super().replace(owner, name, make)
            after = getattr(owner, name, None)
            if before is not after and isinstance(owner, types.ModuleType):
                for names in _users():
                    for own, value in list(names.items()):
                        if value is before:
                            names[own] = after

    return Late


def _users() -> Iterator[dict[str, Any]]:
    """The global names of the user's modules."""
    from unstuck.observe import sites

    for name, module in list(sys.modules.items()):
        try:
            names = object.__getattribute__(module, "__dict__")  # a lazy module must not be woken
        except AttributeError:
            continue
        file = names.get("__file__")
        if name == "__main__" or (isinstance(file, str) and sites.owner(file) == "user"):
            yield names
