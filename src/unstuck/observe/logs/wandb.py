"""Weights & Biases offline runs: run-*.wandb, a LevelDB log of protobuf records.

The file: ":W&B", 0xBEE1, version 0 (seven bytes), then blocks of 32 KiB. A piece: CRC-32 (zlib's, over type and data),
length (uint16), type (1 whole record, 2 first, 3 middle, 4 last), data; fewer than seven bytes at the end of a block are
padding. A record's field 2 is the history: items (key 1, nested_key 2, value_json 16) and step (2: num 1).
Source: wandb/sdk/internal/datastore.py and wandb/proto/wandb_internal.proto.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from unstuck.observe.logs.columns import Column, LogError, Table
from unstuck.observe.logs.protobuf import fields, signed, varint

MAGIC = b":W&B"
_BLOCK, _HEADER = 32768, 7
_SEEDS = {kind: zlib.crc32(bytes([kind])) for kind in (1, 2, 3, 4)}
_LONGEST = 1 << 26  # a record beyond 64 MiB is skipped: history rows are small


def read(path: Path, wanted: str | None = None) -> Table:
    table = Table(str(path), "wandb", by_step=True)
    table.wanted = wanted
    with path.open("rb") as file:
        head = file.read(_HEADER)
        if len(head) < _HEADER or struct.unpack("<4sHB", head)[1:] != (0xBEE1, 0):
            raise LogError(f"{path}: a .wandb file of a version that is not known here; 'wandb sync' can export it")
        rows = 0
        columns: dict[bytes, Column | None] = {}
        for record in _records(file, table):
            rows = rows + 1 if _plain(record, table, columns) else _history(memoryview(record), table, rows)
    return table


def _records(file: IO[bytes], table: Table) -> Iterator[bytes]:
    """Whole records. A damaged piece ends its block: reading goes on at the next one."""
    parts: list[bytes] = []
    damaged = 0
    offset = _HEADER
    block = file.read(_BLOCK - _HEADER)
    cut = False
    while block:
        at = 0
        while len(block) - at >= _HEADER:
            checksum, length, kind = struct.unpack_from("<IHB", block, at)
            data = block[at + _HEADER : at + _HEADER + length]
            if kind == 0 and length == 0:
                break  # the rest of the block was never written
            if len(data) < length:
                cut = True
                break
            if kind not in _SEEDS or zlib.crc32(data, _SEEDS[kind]) != checksum:
                damaged += 1
                parts = []
                break
            at += _HEADER + length
            if kind in (1, 2):
                parts = []
            parts.append(data)
            if kind in (1, 4):
                if kind == 1 or len(parts) > 1:
                    yield b"".join(parts)
                parts = []
            elif sum(map(len, parts[-2:])) and len(parts) * _BLOCK > _LONGEST:
                parts = []
        offset += len(block)
        block = file.read(_BLOCK)
    if cut:
        table.notes.append("the file ends inside a record (the run was killed or is still going on); what is whole was read")
    if damaged:
        table.notes.append(f"{damaged} damaged block{'s' * (damaged > 1)} (wrong checksum) left out")


def _plain(record: bytes, table: Table, columns: dict[bytes, Column | None]) -> bool:
    """A history record with nothing unusual in it, read by position. False: not one; nothing was taken from it then."""
    try:
        at = 0
        if record[0] == 0x08:  # num
            at = 1
            while record[at] >= 0x80:
                at += 1
            at += 1
        if record[at] != 0x12:
            return False
        size, at = varint(record, at + 1)
        end = at + size
        step, found = -1, []
        while at < end:
            length, inner = record[at + 1], record[at + 2]
            if length >= 0x80:
                return False
            if record[at] == 0x12 and inner == 0x08:
                step, _ = varint(record, at + 3)
            elif record[at] == 0x0A and inner in (0x0A, 0x12):
                middle = at + 4 + record[at + 3]
                if record[middle : middle + 2] != b"\x82\x01" or middle + 3 + record[middle + 2] != at + 2 + length:
                    return False
                name = record[at + 4 : middle]
                column = columns.get(name, _UNKNOWN)
                if column is _UNKNOWN:
                    column = columns[name] = table.column(name.decode())
                if column is not None:
                    found.append((column, float(record[middle + 3 : at + 2 + length])))
            else:
                return False
            at += 2 + length
    except (IndexError, ValueError):
        return False
    if step < 0 or step >= 1 << 62 or at != end:
        return False
    for column, value in found:
        column.add(step, value)
    return True


_UNKNOWN: Any = object()


def _history(record: memoryview, table: Table, rows: int) -> int:
    try:
        for number, wire, value in fields(record):
            if number != 2 or wire != 2:
                continue
            step, items = None, []
            for inner, _, part in fields(value):  # type: ignore[arg-type]
                if inner == 1:
                    items.append(_item(part))  # type: ignore[arg-type]
                elif inner == 2:
                    for _, _, number_of in fields(part):  # type: ignore[arg-type]
                        step = signed(int(number_of))  # type: ignore[arg-type]
            known = dict(items)
            if step is None:
                step = int(float(known.get("_step", rows)))
            for name, text in known.items():
                column = table.column(name)
                if column is None:
                    continue
                try:
                    number_in = float(json.loads(text))
                except (ValueError, TypeError):
                    continue
                column.add(step, number_in)
            rows += 1
    except ValueError:
        pass  # one record that is no message: the checksums of its neighbours still hold
    return rows


def _item(data: memoryview) -> tuple[str, str]:
    name, nested, text = "", [], ""
    for number, _, value in fields(data):
        if number == 1:
            name = bytes(value).decode("utf-8", "replace")  # type: ignore[arg-type]
        elif number == 2:
            nested.append(bytes(value).decode("utf-8", "replace"))  # type: ignore[arg-type]
        elif number == 16:
            text = bytes(value).decode("utf-8", "replace")  # type: ignore[arg-type]
    return name or ".".join(nested), text
