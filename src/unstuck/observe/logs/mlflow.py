"""MLflow: the SQLite store (mlflow.db) and the file store (mlruns/<experiment>/<run>/metrics/<key>).

A line of the file store is "timestamp value step"; the table `metrics` of the SQLite store has the columns key, value,
timestamp, step, is_nan, run_uuid. Only reading: the database is opened read-only and immutable databases are left alone.
"""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path
from urllib.parse import quote

from unstuck.observe.logs.columns import LogError, Table, decimals_of, role

MAGIC = b"SQLite format 3\x00"
_LINE = 4096  # no line of a metric file is longer


def read_database(path: Path, wanted: str | None = None) -> list[Table]:
    """One table per run, in the order in which they began. LogError where it is no MLflow database."""
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)
        try:
            connection.execute("pragma cache_size = -8000")
            return _runs(connection, path, wanted)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise LogError(f"{path}: the SQLite database cannot be read: {error}") from None


def _runs(connection: sqlite3.Connection, path: Path, wanted: str | None) -> list[Table]:
    tables = {row[0] for row in connection.execute("select name from sqlite_master where type in ('table', 'view')")}
    columns = {row[1] for row in connection.execute("pragma table_info(metrics)")} if "metrics" in tables else set()
    if not {"key", "value", "step", "run_uuid"} <= columns:
        raise LogError(f"{path}: an SQLite database without MLflow's table of metrics; MLflow's own is called mlflow.db")
    names = {}
    if "runs" in tables:
        known = {row[1] for row in connection.execute("pragma table_info(runs)")}
        order = " order by start_time" if "start_time" in known else ""
        live = " where lifecycle_stage is null or lifecycle_stage != 'deleted'" if "lifecycle_stage" in known else ""
        title = "name" if "name" in known else "run_uuid"
        names = {row[0]: row[1] or row[0] for row in connection.execute(f"select run_uuid, {title} from runs{live}{order}")}
    keys = [row[0] for row in connection.execute("select distinct key from metrics")]
    used = [k for k in keys if isinstance(k, str) and (role(k) is not None or k == wanted)]
    found: dict[str, Table] = {}
    nan = "is_nan" if "is_nan" in columns else "0"
    stamp = ", timestamp" if "timestamp" in columns else ""
    marks = ",".join("?" * len(used))
    query = f"select run_uuid, key, step, value, {nan} from metrics where key in ({marks}) order by run_uuid, key, step{stamp}"
    for run, key, step, value, is_nan in connection.execute(query, used):
        if names and run not in names:
            continue  # deleted
        table = found.get(run)
        if table is None:
            table = found[run] = Table(str(path), "mlflow", by_step=True, name=str(names.get(run, run)))
            table.wanted = wanted
            table.names.update(dict.fromkeys(map(str, keys)))
        column = table.column(key)
        if column is not None and isinstance(step, (int, float)) and isinstance(value, (int, float)):
            column.add(float(step), math.nan if is_nan else float(value))
    if not found:
        known_keys = f" (metrics there: {', '.join(map(str, keys[:8]))})" if keys else ""
        raise LogError(f"{path}: an MLflow database in which no run has logged a loss{known_keys}")
    order_of = {run: i for i, run in enumerate(names)}
    return [found[run] for run in sorted(found, key=lambda r: order_of.get(r, len(order_of)))]


def is_run(folder: Path) -> bool:
    """Is this directory a run of the file store?"""
    return (folder / "metrics").is_dir() and ((folder / "meta.yaml").is_file() or (folder / "params").is_dir())


def read_run(folder: Path, wanted: str | None = None) -> Table:
    """A run directory: every file under metrics/ is one column (a name may contain slashes)."""
    table = Table(str(folder), "mlflow", by_step=True)
    table.wanted = wanted
    base = folder / "metrics"
    for file in sorted(f for f in base.rglob("*") if f.is_file()):
        read_metric(file, table, file.relative_to(base).as_posix())
    return table


def read_metric(file: Path, table: Table, name: str) -> None:
    """The lines of one metric file into its column."""
    column = table.column(name)
    if column is None:
        return
    bad = 0
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(iter(lambda: lines.readline(_LINE), b"")):
                parts = line.split()
                try:
                    column.add(float(parts[2]) if len(parts) > 2 else number, float(parts[1]))
                    if number < 64:
                        column.decimals = max(column.decimals, decimals_of(parts[1].decode("ascii", "replace")))
                except (IndexError, ValueError):
                    bad += bool(parts)
    except OSError as error:
        raise LogError(f"{file}: cannot be read: {error.strerror}") from None
    if bad:
        table.notes.append(f"{bad} line{'s' * (bad > 1)} of {name} are not 'timestamp value step' and were left out")
