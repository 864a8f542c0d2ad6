"""Finished logs -> Log (and trace): CSV, JSON, TensorBoard, W&B, MLflow, and text from a terminal.

Which format a file has is told from its first bytes, never from its name alone. Every reader streams: what is held does
not grow with the file. `read` raises LogError, in words that name the file, for everything that cannot be used.

    find(path)                 files and run directories under a directory that may hold logs, smallest unit first
    read(path, column=None)    -> list of Log (an MLflow database holds several runs)
    read_pasted(text)          -> Log
    to_trace(log, chance, base)-> Trace: what the engine is asked about; only numbers are in it
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unstuck.observe.logs import columns
from unstuck.observe.logs.columns import Log, LogError, Table, finish
from unstuck.trace import channels
from unstuck.trace.facts import Facts, NonFinite
from unstuck.trace.trace import Series, Trace

__all__ = ["Log", "LogError", "find", "format_of", "read", "read_pasted", "to_trace"]

HEAD = 1 << 16
ABSENT = "a log holds numbers, not the model or the loop"
# Endings by which a file in a directory is tried. A file that is named by hand is tried whatever it is called.
_TRIED = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".wandb", ".db", ".sqlite", ".sqlite3", ".log", ".txt", ".out", ".err")
_NOT_LOGS = re.compile(
    r"^(requirements.*|license.*|readme.*|package(-lock)?|tsconfig|.*config.*|tokenizer.*|vocab.*|merges|special_tokens.*|"
    r"added_tokens.*|wandb-metadata|wandb-summary|model\.safetensors\.index|hparams|generation_config|all_results|"
    r".*_results|conda-environment|meta|run|facts|dataset_info|diff)\.(txt|json|md|csv|ya?ml)$",
    re.I,
)
_SKIPPED = {".git", ".venv", "node_modules", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", "site-packages"}
_NUMBERS = re.compile(rb"^\d{9,14} [-+\w.]+( -?\d+)?\r?\n?$")


def find(folder: Path) -> Iterator[Path]:
    """What may be a log under a directory, in a stable order. An MLflow run directory counts as one."""
    from unstuck.observe.logs import mlflow

    for base, folders, files in os.walk(folder, onerror=None):
        here = Path(base)
        if mlflow.is_run(here):
            folders.clear()
            yield here
            continue
        folders[:] = sorted(f for f in folders if f not in _SKIPPED)
        if _is_held_out(here) or (here.name == "files" and any(here.parent.glob("*.wandb"))):
            continue  # ... and W&B keeps the printed text beside its own record
        for name in sorted(files):
            # Keras and TensorFlow write validation/ beside train/ with the same tags.
            if name == "trainer_state.json" and here.name.startswith("checkpoint-") and (here.parent / name).is_file():
                continue  # an earlier copy of the same log
            if ("tfevents" in name or name.lower().endswith(_TRIED)) and not _NOT_LOGS.match(name):
                yield here / name


def _is_held_out(here: Path) -> bool:
    return here.name in {"validation", "val", "eval", "test"} and (here.parent / "train").is_dir()


def format_of(path: Path, head: bytes, wanted: str | None = None) -> tuple[str, object]:
    """(format, what its reader needs to know) from the first bytes. LogError for what is no log."""
    from unstuck.observe.logs import csv, json, mlflow, tensorboard, wandb

    if not head:
        raise LogError(f"{path}: the file is empty")
    if head.startswith(mlflow.MAGIC):
        return "mlflow-database", None
    if head.startswith(wandb.MAGIC):
        return "wandb", None
    if tensorboard.starts_frame(head[:12]):
        return "tensorboard", None
    if "tfevents" in path.name:
        raise LogError(f"{path}: " + (
            "the event file ends inside its first record; nothing was logged before the run ended" if len(head) < 12
            else "not an event file of TensorBoard: the checksum of its first record is wrong"
        ))  # fmt: skip
    for magic, what in ((b"\x1f\x8b", "gzip"), (b"PK\x03\x04", "zip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2"),
                        (b"\xfd7zXZ", "xz")):  # fmt: skip
        if head.startswith(magic):
            raise LogError(f"{path}: compressed ({what}); unpack it first")
    encoding = "utf-8-sig" if head.startswith(b"\xef\xbb\xbf") else "utf-8"
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"  # what PowerShell's > writes
    text = head.decode(encoding, "replace")
    strange = sum(c == "\ufffd" or (c < " " and c not in "\t\n\r\x08\x0b\x0c\x1b") for c in text)
    if strange > 0.02 * len(text) + 1:
        raise LogError(f"{path}: binary, and of no format that is known here (text, CSV, JSON, TensorBoard, wandb, MLflow)")
    if encoding == "utf-16":
        return "text", encoding
    start = text.lstrip()
    if start.startswith("{") or re.match(r"\[\s*[\[{\d\"\-\]]", start):
        first, _, rest = start.partition("\n")
        whole = json.is_object(first)
        if whole and rest.strip():
            return "json-lines", encoding
        if whole or not first.rstrip().endswith("}") or start.startswith("["):
            if start.startswith("[") and re.match(r"\[[^\n]*\][^\n,]*[A-Za-z:]", first):
                return "text", encoding  # "[2024-05-01 12:00:00] loss: 0.69"
            if start.startswith("{") and re.match(r"\{\s*'", start):
                return "text", encoding  # a printed Python dictionary
            return "json", encoding
        return ("text" if re.match(r"\{\s*'", start) else "json-lines"), encoding
    lines = head.split(b"\n")
    if _NUMBERS.match(lines[0]) and all(_NUMBERS.match(line) for line in lines[1:5] if line.strip()):
        return "mlflow-metric", None
    layout = csv.header_of(text, wanted)
    return ("csv", layout) if layout is not None else ("text", encoding)


def read(path: Path | str, column: str | None = None) -> list[Log]:
    """The logs in a file, or of an MLflow run directory. LogError, naming the file, where there is none."""
    path = Path(path)
    try:
        tables = _tables(path, column)
    except LogError:
        raise
    except OSError as error:
        raise LogError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (MemoryError, UnicodeError, ValueError) as error:
        raise LogError(f"{path}: cannot be read ({type(error).__name__}: {error})") from None
    found, failed = [], None
    for table in tables:
        try:
            found.append(finish(table, column))
        except LogError as error:
            failed = failed or error
    if not found:
        raise failed or LogError(f"{path}: no loss in it")
    return found


def _tables(path: Path, wanted: str | None) -> list[Table]:
    from unstuck.observe.logs import csv, json, mlflow, tensorboard, text, wandb

    if path.is_dir():
        return [mlflow.read_run(path, wanted)]
    if not path.exists():
        raise LogError(f"{path}: no such file")
    if not path.is_file():
        raise LogError(f"{path}: not a regular file")
    with path.open("rb") as file:
        head = file.read(HEAD)
    kind, detail = format_of(path, head, wanted)
    match kind:
        case "mlflow-database":
            return mlflow.read_database(path, wanted)
        case "wandb":
            return [wandb.read(path, wanted)]
        case "tensorboard":
            return [tensorboard.read(path, wanted)]
        case "json-lines":
            return [json.read_lines(path, wanted)]
        case "json":
            return [json.read_document(path, wanted, str(detail))]
        case "mlflow-metric":
            table = Table(str(path), "mlflow", by_step=True)
            table.wanted = wanted
            name = path.name if columns.role(path.name) is not None else "loss"
            mlflow.read_metric(path, table, name)
            return [table]
        case "csv":
            return [csv.read(path, detail, wanted)]  # type: ignore[arg-type]
    return [text.read(path, wanted, str(detail))]


def read_pasted(pasted: str, column: str | None = None, name: str = "standard input") -> Log:
    """A log from text at hand; the same formats as far as they are text. LogError where no loss is in it."""
    import json as standard

    from unstuck.observe.logs import json, text

    if not pasted.strip():
        raise LogError(f"{name}: no text; paste the lines of the log, or name a file")
    start = pasted.lstrip()
    if start[0] in "{[":
        try:
            return finish(json.of_document(standard.loads(start), Path(name), column), column)
        except (ValueError, RecursionError):
            pass
    import tempfile

    from unstuck.observe.logs import csv

    layout = csv.header_of(pasted, column)
    lines = start.split("\n", 1)
    if layout is None and not (json.is_object(lines[0]) and len(lines) > 1):
        return finish(text.read_text(pasted, name, column), column)
    with tempfile.TemporaryDirectory() as folder:  # the readers of tables and JSON lines read files
        file = Path(folder) / "pasted"
        file.write_text(pasted, encoding="utf-8")
        table = csv.read(file, layout, column) if layout is not None else json.read_lines(file, column)
    table.file = name
    return finish(table, column)


def to_trace(log: Log, chance: float | None = None, base: float | None = None, steps: np.ndarray | None = None) -> Trace:
    """The trace of a log: the series loss, accuracy, lr, and the levels chance and base (nats) where they are known.

    Every other channel is absent, with the reason, so that a rule which needs it is "not checked".
    """
    n = len(log.loss)
    series = {name: np.full(n, np.nan) for name in channels.SERIES_NAMES}
    series["loss"] = np.asarray(log.loss, dtype=np.float64)
    if chance is not None:
        series["chance"] = np.full(n, chance)
        series["base"] = np.full(n, chance if base is None else base)
    if log.accuracy is not None:
        series["accuracy"] = log.accuracy
    if log.lr is not None:
        series["lr"] = log.lr
    absent = {c.name: ABSENT for c in (*channels.FACTS, *channels.SERIES) if not np.isfinite(series.get(c.name, np.nan)).any()}
    facts = Facts(framework="log", name=log.name or Path(log.file).name, absent=absent)
    bad = np.flatnonzero(~np.isfinite(log.loss))
    if len(bad):  # a log shows what was computed: a NaN in it is one, and not a value that was not measured
        facts.nonfinite = NonFinite("loss", log.column, int(log.steps[bad[0]]))
    return Trace(facts, Series(np.asarray(log.steps if steps is None else steps), series))
