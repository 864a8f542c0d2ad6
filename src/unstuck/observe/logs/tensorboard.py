"""TensorBoard event files without TensorFlow: TFRecord frames around protobuf events.

A frame: length (uint64), its masked CRC-32C, data, the data's masked CRC-32C. Event: wall_time 1 (double), step 2,
file_version 3, summary 5. Summary: value 1 = {tag 1, simple_value 2 (float), tensor 8}. TensorProto: dtype 1,
tensor_content 4, float_val 5, double_val 6, int_val 7, int64_val 10, half_val 13.
Source: tensorflow/core/lib/io/record_writer.h, core/util/event.proto, core/framework/{summary,tensor}.proto.

The records of one scalar all look alike (same tag, same length), so they are checked and decoded by numpy, thousands at a
time: the checksum runs byte column by byte column over all of them. What has no twin is walked field by field.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from unstuck.observe.logs.columns import LogError, Table
from unstuck.observe.logs.protobuf import fields, signed

_MASK = 0xA282EAD8
_SMALL = 1024  # bytes of a record that is decoded with its likes
_LARGEST = 1 << 20  # a scalar's record is never larger; images, graphs and embeddings are passed over unread
_CHUNK = 1 << 22  # bytes held at a time
_TEMPLATES = 64  # kinds of record per length that are decoded together


def _table() -> np.ndarray:
    """The byte table of CRC-32C (Castagnoli, reflected polynomial 0x82F63B78)."""
    crc = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        crc = np.where(crc & 1, (crc >> 1) ^ np.uint32(0x82F63B78), crc >> 1).astype(np.uint32)
    return crc


_CRC = _table()
_CRC_LIST = [int(x) for x in _CRC]


def masked_crc(data: bytes | memoryview) -> int:
    """CRC-32C of the bytes, rotated right by 15 and shifted by a constant, as TFRecord stores it."""
    crc, table = 0xFFFFFFFF, _CRC_LIST
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def masked_crcs(rows: np.ndarray) -> np.ndarray:
    """The same for each row of [n, length] uint8; uint32 [n]."""
    crc = np.full(len(rows), 0xFFFFFFFF, dtype=np.uint32)
    for column in np.ascontiguousarray(rows.T):
        crc = _CRC[(crc ^ column) & 0xFF] ^ (crc >> np.uint32(8))
    crc ^= np.uint32(0xFFFFFFFF)
    return ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(_MASK)


def starts_frame(head: bytes) -> bool:
    """Do these bytes begin a TFRecord file? The checksum of the first length decides."""
    return len(head) >= 12 and masked_crc(head[:8]) == struct.unpack_from("<I", head, 8)[0]


def read(path: Path, wanted: str | None = None) -> Table:
    """The scalars of an event file; positions are steps. A file that breaks off is read up to there, and that is noted."""
    table = Table(str(path), "tensorboard", by_step=True)
    table.wanted = wanted
    with path.open("rb") as file:
        carry = b""
        skip = 0  # bytes of a large record still to be passed over
        broken = ""
        while True:
            if skip:
                here = file.tell()
                size = path.stat().st_size
                if here + skip > size:
                    broken = "cut"
                    break
                file.seek(here + skip)
                skip = 0
            chunk = file.read(_CHUNK)
            if not chunk:
                break
            carry += chunk
            used, skip, broken = _frames(carry, table)
            carry = carry[used:]
            if broken:
                break
            if skip:  # the record reaches beyond what was read: its tail is passed over
                skip -= len(carry)
                carry = b""
        if broken == "cut" or (carry and not broken):
            table.notes.append(
                "the event file ends inside a record (the run was killed or is still going on); what is whole was read"
            )
        elif broken:
            table.notes.append(f"the event file is damaged ({broken}); what comes before was read")
    if not table.columns and broken and not table.names:
        raise LogError(f"{path}: {table.notes[-1]}, and no scalar was before that")
    return table


def _frames(data: bytes, table: Table) -> tuple[int, int, str]:
    """(bytes used up, bytes of a large record that begin there, why reading must stop or '')."""
    at, end = 0, len(data)
    offsets: list[int] = []
    lengths: list[int] = []
    unpack = struct.Struct("<Q").unpack_from
    broken, skip = "", 0
    while end - at >= 12:
        length = unpack(data, at)[0]
        if length > _LARGEST:
            # An absurd length would send us far away: only a length whose own checksum is right is believed.
            if masked_crc(data[at : at + 8]) != struct.unpack_from("<I", data, at + 8)[0]:
                broken = f"wrong checksum of a length after {len(lengths):,} records"
                break
            if at + 16 + length > end:
                skip = 16 + length
                break
        elif at + 16 + length > end:
            if masked_crc(data[at : at + 8]) != struct.unpack_from("<I", data, at + 8)[0]:
                broken = f"wrong checksum of a length after {len(lengths):,} records"
            break
        else:
            offsets.append(at + 12)
            lengths.append(length)
        at += 16 + length
    if offsets:
        bad = _decode(np.frombuffer(data, dtype=np.uint8), np.asarray(offsets), np.asarray(lengths), table)
        if bad:
            broken = bad
    return at, skip, broken


def _decode(data: np.ndarray, offsets: np.ndarray, lengths: np.ndarray, table: Table) -> str:
    """Check and decode whole records; '' or what is wrong with the first bad one. Values go to the table in file order."""
    heads = data[offsets[:, None] + np.arange(-12, -4)]
    stored = data[offsets[:, None] + np.arange(-4, 0)].copy().view("<u4")[:, 0]
    good = masked_crcs(heads) == stored
    first_bad = len(offsets) if good.all() else int(np.argmin(good))
    found: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}  # tag -> (record numbers, steps, values)
    for length in np.unique(lengths[:first_bad]):
        numbers = np.flatnonzero(lengths[:first_bad] == length)
        length = int(length)
        if length > _SMALL:
            for number in numbers:
                raw = data[offsets[number] : offsets[number] + length].tobytes()
                _walk(memoryview(raw), int(number), found, table)
            continue
        rows = data[offsets[numbers][:, None] + np.arange(length)]
        tails = data[offsets[numbers][:, None] + length + np.arange(4)].copy().view("<u4")[:, 0]
        right = masked_crcs(rows) == tails
        if not right.all():
            first_bad = min(first_bad, int(numbers[np.argmin(right)]))
        _alike(rows, numbers, found, table)
    for tag, parts in found.items():
        column = table.column(tag)
        if column is None:
            continue
        number, steps, values = (np.concatenate([p[i] for p in parts]) for i in range(3))
        order = np.argsort(number, kind="stable")
        order = order[number[order] < first_bad]
        column.extend(steps[order], values[order])
    return f"wrong checksum in record {first_bad + 1:,}" if first_bad < len(offsets) else ""


def _alike(rows: np.ndarray, numbers: np.ndarray, found: dict, table: Table) -> None:
    """Records of one length: those that differ from an example in wall time, step and value only are read as arrays."""
    rest = np.arange(len(rows))
    for _ in range(_TEMPLATES):
        if not len(rest):
            return
        example = rows[rest[0]]
        layout = _layout(example.tobytes())
        if layout is None:
            _walk(memoryview(example.tobytes()), int(numbers[rest[0]]), found, table)
            rest = rest[1:]
            continue
        tag, step_at, step_size, value_at, free = layout
        fixed = ~free
        same = np.all(rows[rest][:, fixed] == example[fixed], axis=1)
        if step_size:
            marks = rows[rest][:, step_at : step_at + step_size] >= 0x80
            same &= np.all(marks == (np.arange(step_size) < step_size - 1), axis=1)
        group = rest[same]
        steps = np.zeros(len(group), dtype=np.int64)
        for i in range(step_size):
            steps |= (rows[group, step_at + i].astype(np.int64) & 0x7F) << (7 * i)
        values = rows[group, value_at : value_at + 4].copy().view("<f4")[:, 0].astype(np.float64)
        found.setdefault(tag, []).append((numbers[group], steps.astype(np.float64), values))
        rest = rest[~same]
    for row in rest:
        _walk(memoryview(rows[row].tobytes()), int(numbers[row]), found, table)


def _layout(raw: bytes) -> tuple[str, int, int, int, np.ndarray] | None:
    """(tag, where the step is, its bytes, where the float is, which bytes are free) for an event with one float32 scalar.

    None for every other event: it is walked field by field.
    """
    view = memoryview(raw)
    free = np.zeros(len(raw), dtype=bool)
    step_at = step_size = 0
    scalar: tuple[str, int] | None = None
    try:
        position = 0
        for number, wire, value in fields(view):
            size = _encoded(number, wire, value, view, position)
            end = position + size
            if number == 1 and wire == 1:
                free[end - 8 : end] = True
            elif number == 2 and wire == 0:
                step_at, step_size = position + 1, size - 1
                free[step_at:end] = True
            elif number == 5 and wire == 2 and scalar is None:
                found = _one_value(value, end - len(value))  # type: ignore[arg-type]
                if found is None:
                    return None
                scalar = found
            else:
                return None
            position = end
    except ValueError:
        return None
    if scalar is None or step_size > 5:
        return None
    free[scalar[1] : scalar[1] + 4] = True
    return scalar[0], step_at, step_size, scalar[1], free


def _encoded(number: int, wire: int, value: int | memoryview, view: memoryview, position: int) -> int:
    """Bytes that this field took: its key, its length or number, its content."""
    at = position
    while view[at] >= 0x80:
        at += 1
    at += 1
    if wire == 0:
        while view[at] >= 0x80:
            at += 1
        return at + 1 - position
    if wire == 2:
        while view[at] >= 0x80:
            at += 1
        at += 1
    return at - position + len(value)  # type: ignore[arg-type]


def _one_value(summary: memoryview, base: int) -> tuple[str, int] | None:
    """(tag, place of its float) of a summary with one value that is a float32, simple or as a tensor."""
    parts = list(fields(summary))
    if len(parts) != 1 or parts[0][0] != 1 or parts[0][1] != 2:
        return None
    inner: memoryview = parts[0][2]  # type: ignore[assignment]
    start = base + len(summary) - len(inner)
    tag, place, position = "", -1, 0
    for number, wire, value in fields(inner):
        end = position + _encoded(number, wire, value, inner, position)
        if number == 1:
            tag = bytes(value).decode("utf-8", "replace")  # type: ignore[arg-type]
        elif number == 2 and wire == 5:
            place = start + end - 4
        elif number == 8 and wire == 2:
            offset = _float_of_tensor(value)  # type: ignore[arg-type]
            if offset is None:
                return None
            place = start + end - len(value) + offset  # type: ignore[arg-type]
        position = end
    return (tag, place) if place >= 0 and tag else None


def _float_of_tensor(tensor: memoryview) -> int | None:
    """Where in the message of a float32 tensor with one element the four bytes are."""
    place, kind, position = None, 1, 0
    for number, wire, value in fields(tensor):
        end = position + _encoded(number, wire, value, tensor, position)
        if number == 1 and wire == 0:
            kind = int(value)  # type: ignore[call-overload]
        elif (number in (4, 5) and wire == 2 and len(value) == 4) or (number == 5 and wire == 5):  # type: ignore[arg-type]
            place = end - 4
        position = end
    return place if kind == 1 else None


_NUMBERS = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 19: "<f2", 14: "<u2"}


def _walk(record: memoryview, number: int, found: dict, table: Table) -> None:
    """Any event: scalars of any type, several in one summary."""
    try:
        step, summaries = 0, []
        for field, wire, value in fields(record):
            if field == 2 and wire == 0:
                step = signed(int(value))  # type: ignore[call-overload]
            elif field == 5 and wire == 2:
                summaries.append(value)
        for summary in summaries:
            for field, _, part in fields(summary):  # type: ignore[arg-type]
                if field != 1:
                    continue
                tag, scalar = "", None
                for inner, wire, value in fields(part):  # type: ignore[arg-type]
                    if inner == 1:
                        tag = bytes(value).decode("utf-8", "replace")  # type: ignore[arg-type]
                    elif inner == 2 and wire == 5:
                        scalar = struct.unpack("<f", value)[0]  # type: ignore[arg-type]
                    elif inner == 8 and wire == 2:
                        scalar = _tensor(value)  # type: ignore[arg-type]
                if tag and scalar is not None:
                    found.setdefault(tag, []).append((np.array([number]), np.array([float(step)]), np.array([scalar])))
                elif tag:
                    table.names.setdefault(tag, None)
    except (ValueError, struct.error, TypeError):
        return  # not an event; its checksum was right, so it is somebody else's message


def _tensor(tensor: memoryview) -> float | None:
    """The number in a tensor with one element; None for anything larger or of another kind."""
    kind, content, rank = 1, None, 0
    for number, wire, value in fields(tensor):
        if number == 1 and wire == 0:
            kind = int(value)  # type: ignore[call-overload]
        elif number == 2 and wire == 2:
            rank = len(value)  # type: ignore[arg-type]
        elif (number == 4 and wire == 2) or (number in (5, 6) and wire in (1, 2, 5)):
            content = bytes(value)  # type: ignore[arg-type]
        elif number in (7, 10, 13) and wire in (0, 2):
            raw = value if wire == 0 else next(_varints(value))  # type: ignore[arg-type]
            return _small(kind, signed(int(raw)))  # type: ignore[call-overload]
    known = _NUMBERS.get(kind)
    if content is None or known is None or len(content) != np.dtype(known).itemsize or rank > 64:
        return None
    number_in = np.frombuffer(content, dtype=known)
    if kind == 14:
        return float((number_in.astype("<u4") << 16).view("<f4")[0])
    return float(number_in[0])


def _varints(packed: memoryview):
    from unstuck.observe.logs.protobuf import varint

    at = 0
    while at < len(packed):
        value, at = varint(packed, at)
        yield value


def _small(kind: int, raw: int) -> float:
    """int_val, int64_val and half_val hold the number itself, or the bits of a half or bfloat16."""
    if kind == 19:
        return float(np.array([raw], dtype="<u2").view("<f2")[0])
    if kind == 14:
        return float((np.array([raw], dtype="<u4") << 16).view("<f4")[0])
    return float(raw)
