"""JSON: lines of objects (JSONL), Hugging Face's trainer_state.json, and the dump of a Keras history.

Lines are decoded one by one with msgspec; a line that is no object is counted and left out. A whole document is read only
where it is small enough to be held.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from unstuck.observe.logs.columns import SPLITS, LogError, Table, is_held_out

WHOLE = 1 << 28  # bytes of a document that is read at once
_LINE = 1 << 22  # a longer line is left out
_DEPTH = 4


def read_lines(path: Path, wanted: str | None = None, encoding: str = "utf-8") -> Table:
    """One object a line; nested objects are flattened with '/'. Rows are numbered from 0."""
    table = Table(str(path), "json-lines")
    table.wanted = wanted
    decode = msgspec.json.Decoder().decode
    bad = row = 0
    long = False
    with path.open("rb") as file:
        while line := file.readline(_LINE):
            if not line.endswith(b"\n") and len(line) == _LINE:
                long = True
                continue
            if long:  # the end of a line that was too long
                long, bad = False, bad + 1
                continue
            if not line.strip():
                continue
            try:
                value = decode(line)
            except msgspec.DecodeError:
                value = _second_try(line)
            if not isinstance(value, dict):
                bad += 1
                continue
            if any(is_held_out(value.get(name)) for name in SPLITS):
                continue
            _row(value, row, table)
            row += 1
    if bad:
        table.notes.append(f"{bad:,} line{'s' * (bad > 1)} hold no JSON object and {'were' if bad > 1 else 'was'} left out")
    return table


def _second_try(line: bytes) -> Any:
    """NaN and Infinity, which Python writes and JSON does not know."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _row(values: dict[str, Any], row: int, table: Table, prefix: str = "", depth: int = 0) -> None:
    for name, value in values.items():
        if type(value) is float or type(value) is int:
            column = table.column(prefix + name)
            if column is not None:
                column.add(row, value)
        elif isinstance(value, dict) and depth < _DEPTH:
            _row(value, row, table, f"{prefix}{name}/", depth + 1)
        elif isinstance(value, str) and len(value) < 32:
            column = table.column(prefix + name)
            if column is not None:
                try:
                    column.add(row, float(value))  # numbers as text, and "NaN"
                except ValueError:
                    pass


def read_document(path: Path, wanted: str | None = None, encoding: str = "utf-8") -> Table:
    """One JSON document: a list of rows, an object with a list of rows in it, or an object of columns."""
    if path.stat().st_size > WHOLE:
        raise LogError(f"{path}: one JSON document of more than {WHOLE >> 20} MB; write one object a line (JSON lines) instead")
    try:
        document = json.loads(path.read_bytes().decode(encoding))
    except (ValueError, RecursionError) as error:
        raise LogError(f"{path}: begins like JSON, but is none: {error}") from None
    return of_document(document, path, wanted)


def of_document(document: Any, path: Path, wanted: str | None = None) -> Table:
    table = Table(str(path), "json")
    table.wanted = wanted
    if isinstance(document, dict) and isinstance(document.get("log_history"), list):
        table.format = "trainer-state"
        document = document["log_history"]
    elif isinstance(document, dict) and not _columns(document):
        lists = [v for v in document.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        inner = [v for v in document.values() if isinstance(v, dict) and _columns(v)]
        document = max(lists, key=len) if lists else inner[0] if inner else [document]
    if isinstance(document, dict):
        for name, values in document.items():
            column = table.column(name) if isinstance(values, list) else None
            for row, value in enumerate(values if column is not None else ()):
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    column.add(row, value)  # type: ignore[union-attr]
        table.averaged = "epoch"
        return table
    if isinstance(document, list) and document and all(isinstance(v, (int, float)) for v in document):
        document = [{"loss": v} for v in document]
    if not isinstance(document, list):
        raise LogError(f"{path}: JSON, but neither rows nor columns of numbers")
    for row, values in enumerate(document):
        if isinstance(values, dict) and not any(is_held_out(values.get(name)) for name in SPLITS):
            _row(values, row, table)
    return table


def _columns(document: dict[str, Any]) -> bool:
    """{'loss': [..], 'accuracy': [..]}: what model.fit returns."""
    return any(isinstance(v, list) and v and all(isinstance(x, (int, float)) for x in v) for v in document.values())


def is_object(line: str) -> bool:
    """Is this line a JSON object by itself?"""
    text = line.strip()
    if not (text.startswith("{") and text.endswith("}")):
        return False
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
