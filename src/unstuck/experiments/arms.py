"""Arms: the recorded script, run again from the start with one thing changed or nothing. The parent's side.

`run_arms` turns arms into specs, keeps as many under way as the pool has room for, and yields each with its result as soon
as it is known. What runs an arm is `arm.py`; where it runs is the pool's business (`pool.py`).
"""

from __future__ import annotations

import ast
import json
import math
import os
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from unstuck.errors import TraceError
from unstuck.findings import Intervention
from unstuck.symptom import symptom_of
from unstuck.trace.storage import read_run
from unstuck.trace.trace import RunRecord, Trace

NAN = math.nan
NO_TIME = "the time was over before it ran"
LONGEST_ARM = 3600.0  # seconds, where nobody sets a deadline
SEEN = 10  # rows of a class in a window, for its recall to count
SHORTEST_ARM = 0.3  # seconds; with less time left no arm is started
LONGEST_PLACE = 45  # characters of the folder for temporary files
FILES_READ = 40  # source files that are searched for imports
# Libraries that take long to import and do nothing else when they are: loaded once, before arms are forked.
PRELOADED = {"torch", "numpy", "scipy", "sklearn", "pandas", "torchvision"}
# Of a Keras script: its backend has been chosen when the run was recorded. Seeding Keras imports TensorFlow on every backend.
BACKENDS = {"tensorflow", "jax", "torch"}
WITH_TENSORFLOW = re.compile(r"set_random_seed|\btensorflow\b")
READ_AT_IMPORT = re.compile(r"\b(JAX|KERAS|TF)_(?!BACKEND|CPP_|ENABLE_ONEDNN|DETERMINISTIC)[A-Z_]{3,}\b")  # variables that are


class Arm(NamedTuple):
    """One run of the script. intervention None: the control. steps: optimizer steps after which it ends, 0: all."""

    intervention: Intervention | None
    seed: int
    steps: int


class Target(msgspec.Struct, frozen=True):
    """What to run, as `observe.launch.Target` takes it."""

    kind: str  # script, module, code
    name: str
    arguments: list[str] = msgspec.field(default_factory=list)


class Spec(msgspec.Struct):
    """One arm, as it is sent to the process that runs it."""

    target: Target
    cwd: str
    intervention: Intervention | None
    seed: int
    steps: int
    seconds: float  # of wall time
    training: int | None = None  # id of the training whose numbers are wanted; None: the longest
    preload: list[str] = msgspec.field(default_factory=list)  # modules
    keras: str = ""  # the backend, where that training is one of Keras
    environment: dict[str, str] | None = None  # of the script; None: the server's own
    number: int = 0  # set by the pool, as is
    folder: str = ""  # everything of this arm is below it


class ArmResult(msgspec.Struct):
    """What an arm showed. Losses in nats; lists have one entry per optimizer step, NaN where it was not measured."""

    ok: bool
    reason: str = ""  # why not; of an arm that is ok: why it has fewer steps than were asked for, where it has
    losses: list[float] = msgspec.field(default_factory=list)
    skills: list[float] = msgspec.field(default_factory=list)  # 1 - loss / chance level of that very call
    accuracies: list[float] = msgspec.field(default_factory=list)
    chance: float | None = None
    final_loss: float = NAN  # mean over the last fifth, at most 50 steps
    final_skill: float = NAN
    accuracy: float | None = None
    # Mean of the recalls of the classes in the last window of steps, and how many classes that are; NaN where no two were seen.
    balanced: float = NAN
    classes: int = 0
    symptom: str = ""
    steps: int = 0
    seconds: float = 0.0  # wall time, start and end of the process included
    applied: int = 0  # how often the intervention did something
    seeded: bool = True  # the script sets a seed itself; where it sets none, the arm was seeded
    start: str = ""  # digest of the weights before the first step, where it is known
    labels: list[int] = msgspec.field(default_factory=list)  # of the first steps: a digest of each one's labels, where known


class Pool(Protocol):
    """Where arms run."""

    jobs: int

    def submit(self, spec: Spec) -> Future[ArmResult]: ...

    def stop(self, future: Future[ArmResult]) -> None:
        """Kill what is under way; the future then has no result that anybody should wait for."""


def run_arms(
    record: RunRecord,
    arms: Sequence[Arm],
    pool: Pool,
    deadline: float | None,
    *,
    target: Target | None = None,
    training: int | None = None,
) -> Iterator[tuple[Arm, ArmResult]]:
    """Run the recorded script once per arm; results come in the order in which they are known.

    deadline: on the clock of time.monotonic(); arms that it cuts have the steps they came to, and those it leaves no time
    for come last with ok False. target: needed for `-c code`, which a trace does not keep. training: `Facts.id` of the one
    whose losses are wanted; default the record's longest. Closing the generator, or an exception in it, kills the arms that
    are under way. Never raises for what a script does.
    """
    target = target or target_of(record)
    if training is None and record.traces:
        training = max(record.traces, key=lambda t: len(t.series)).facts.id
    if target is None:
        for arm in arms:
            yield arm, ArmResult(False, "the trace does not keep the code that was given with -c")
        return
    keras = backend_of(record, training)
    preload = imports(target, record.run.directory, keras)
    waiting = list(arms)
    running: dict[Future[ArmResult], Arm] = {}
    try:
        while waiting or running:
            left = LONGEST_ARM if deadline is None else deadline - time.monotonic()
            while waiting and len(running) < pool.jobs and left > SHORTEST_ARM:
                arm = waiting.pop(0)
                spec = Spec(target, record.run.directory, arm.intervention, arm.seed, arm.steps, left, training, preload, keras)
                running[pool.submit(spec)] = arm
            if not running:
                break
            # An arm ends itself at its limit, within two seconds; this wait is for a pool that died.
            ended = wait(running, timeout=max(left, 0.0) + 30.0, return_when=FIRST_COMPLETED).done
            if not ended:
                for future, arm in running.items():
                    pool.stop(future)
                    yield arm, ArmResult(False, "the process that runs it does not answer")
                running.clear()
            for future in ended:
                yield running.pop(future), _result(future)
        for arm in waiting:
            yield arm, ArmResult(False, NO_TIME)
    finally:
        for future in running:
            pool.stop(future)


def _result(future: Future[ArmResult]) -> ArmResult:
    try:
        return future.result()
    except CancelledError:
        return ArmResult(False, "it was stopped")
    except Exception as error:  # the pool's own: a node that went away, a process that was killed
        return ArmResult(False, f"it could not be run: {type(error).__name__}: {error}".splitlines()[0])


def target_of(record: RunRecord) -> Target | None:
    """What `unstuck run` was told to run; None for `-c code`."""
    name, arguments = record.run.script, list(record.run.arguments)
    if name == "-c ...":
        return None
    if name.startswith("-m "):
        return Target("module", name[3:], arguments)
    return Target("script", name, arguments)


def backend_of(record: RunRecord, training: int | None) -> str:
    """Keras' backend of that training; '' for one of torch."""
    trace = next((t for t in record.traces if t.facts.id == training), None)
    framework = trace.facts.framework if trace is not None else record.run.framework
    found = re.fullmatch(r"keras .*\((\w+)\)", framework)
    return found[1] if found is not None and found[1] in BACKENDS else ""  # another backend: nobody knows its seeds


def imports(target: Target, cwd: str, keras: str = "") -> list[str]:
    """Modules of PRELOADED libraries that the script, or a file beside it, imports. Read from the source; never raises.

    keras: the backend of a Keras script. Keras itself is loaded beforehand as well, unless the script sets variables that are
    read when it is imported.
    """
    texts = []
    if target.kind == "code":
        texts.append(target.name)
        folder = Path(cwd)
    elif target.kind == "script":
        folder = Path(cwd, target.name).parent
        texts += _read(Path(cwd, target.name))
    else:
        folder = Path(cwd, *target.name.split("."))
        folder = folder if folder.is_dir() else folder.parent
    try:
        for file in sorted(folder.glob("*.py"))[:FILES_READ]:
            texts += _read(file)
    except OSError:
        pass
    found = {"torch"} if keras in {"", "torch"} else set()
    library: list[str] = []
    if keras and not any(READ_AT_IMPORT.search(text) for text in texts):
        library = [keras, "keras"]
        library += ["tensorflow"] if keras != "tensorflow" and any(WITH_TENSORFLOW.search(text) for text in texts) else []
    for text in texts:
        try:
            nodes = list(ast.walk(ast.parse(text)))
        except (SyntaxError, ValueError, RecursionError):
            continue
        for node in nodes:
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
    roots = {n.split(".")[0] for n in found} & PRELOADED
    # A file beside the script may have the name of a library, and is then what the script imports.
    roots = {r for r in roots if not (folder / r).exists() and not (folder / f"{r}.py").exists()}
    return library + sorted(n for n in found if n.split(".")[0] in roots and n not in library)


def _read(file: Path) -> list[str]:
    try:
        return [file.read_text(encoding="utf-8")] if file.stat().st_size < 1 << 20 else []
    except (OSError, UnicodeDecodeError):
        return []


def collect(directory: Path, training: int | None, steps: int) -> ArmResult:
    """The numbers of an arm from its trace: of the first `steps` steps (0: all), those of the wanted training.

    ok is False where no training was seen or nothing of it could be measured; the caller adds what it knows of the end.
    """
    try:
        traces = read_run(directory).traces
    except TraceError as error:
        return ArmResult(False, f"its trace cannot be read: {error}")
    trace = next((t for t in traces if t.facts.id == training and len(t.series)), None)
    trace = trace or max(traces, key=lambda t: len(t.series), default=None)
    if trace is None or not len(trace.series):
        return ArmResult(False, "no training was seen")
    series = trace.series
    if steps:
        series = series.where(series.steps <= steps)
        trace = Trace(trace.facts, series)
    last = int(series.steps[-1])
    losses, chances, accuracies = (_dense(series.steps, series[name], last) for name in ("loss", "chance", "accuracy"))
    with np.errstate(all="ignore"):
        skills = np.where(chances > 0, 1.0 - losses / chances, np.nan)
    tail = slice(last - min(50, max(last // 5, 1)), last)
    symptom = symptom_of(trace)
    result = ArmResult(
        True,
        losses=losses.tolist(),
        skills=skills.tolist(),
        accuracies=accuracies.tolist(),
        chance=symptom.chance,
        final_loss=_mean(losses[tail]),
        final_skill=_mean(skills[tail]),
        accuracy=symptom.accuracy,
        symptom=symptom.name,
        steps=last,
    )
    labels = trace.facts.term.labels if trace.facts.term is not None else None
    recalls = [h / n for h, n in zip(labels.hits, labels.seen) if n >= SEEN] if labels is not None else []
    if len(recalls) > 1:
        result.balanced, result.classes = sum(recalls) / len(recalls), len(recalls)
    if math.isnan(result.final_skill) and symptom.chance:
        result.final_skill = 1.0 - result.final_loss / symptom.chance  # on short steps chance is measured now and then
    result.start, result.labels = began(directory, trace.facts.id)
    if not np.isfinite(losses).any() and symptom.name != "non-finite":
        result.ok, result.reason = False, "its loss could not be measured"
    return result


def began(directory: Path, training: int) -> tuple[str, list[int]]:
    """What an adapter kept of the training's start: ('', []) where it keeps nothing."""
    try:
        kept = json.loads((directory / f"start-{training}.json").read_text(encoding="utf-8"))
        return str(kept["weights"]), [int(n) for n in kept["labels"]]
    except (OSError, ValueError, KeyError, TypeError):
        return "", []


OTHER_START = frozenset({"reinitialise", "widen", "resize-head", "full-precision", "together"})
OTHER_LABELS = frozenset({"shuffle", "shift-labels", "renumber-labels", "together"})


def unlike(kind: str, control: ArmResult, fixed: ArmResult) -> str:
    """Why the arm of a fix is not the control with one thing changed; '' where it is, or where nobody kept what would show it."""
    if control.start and fixed.start and control.start != fixed.start and kind not in OTHER_START:
        return "it did not start from the weights of the unchanged script"
    common = min(len(control.labels), len(fixed.labels))
    if control.labels[:common] != fixed.labels[:common] and kind not in OTHER_LABELS:
        return "it did not see the batches of the unchanged script"
    return ""


def _dense(steps: np.ndarray, values: np.ndarray, last: int) -> np.ndarray:
    """One entry for each of the steps 1 .. last; NaN where none was recorded."""
    out = np.full(last, np.nan)
    out[steps - 1] = values
    return out


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else NAN


def encode(result: ArmResult) -> bytes:
    """MessagePack and not JSON: that has no NaN and no infinity."""
    return msgspec.msgpack.encode(result)


def decode(data: bytes) -> ArmResult:
    return msgspec.msgpack.decode(data, type=ArmResult)


def spec_line(spec: Spec) -> bytes:
    """As the server reads it: one line of JSON."""
    return msgspec.json.encode(spec) + b"\n"


def temporary_base() -> str:
    """A new folder where a pool keeps everything. Real path: the kernel's wall and the audit hook compare real paths.

    DataLoader workers make sockets in the arm's temporary folder, and the path of a socket has at most 103 characters: where
    the machine's folder for temporary files is itself a long one, /tmp is taken.
    """
    place = os.path.realpath(tempfile.gettempdir())
    if len(place) > LONGEST_PLACE and os.access("/tmp", os.W_OK):
        place = os.path.realpath("/tmp")
    return tempfile.mkdtemp(prefix="unstuck-", dir=place)
