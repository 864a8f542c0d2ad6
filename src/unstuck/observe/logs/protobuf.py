"""Just enough of the protocol buffer wire format to walk a message, without generated code.

Source: protobuf.dev/programming-guides/encoding. Wire types: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.
"""

from __future__ import annotations

from collections.abc import Iterator


def varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """(value, position after it). Raises ValueError where the message ends inside it or it is longer than ten bytes."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a number in the message is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7


def fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """(field number, wire type, value) of each field: an int for varints, the raw bytes for everything else."""
    at, end = 0, len(data)
    while at < end:
        key, at = varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = varint(data, at)
            yield key >> 3, wire, value
            continue
        if wire == 2:
            size, at = varint(data, at)
        elif wire == 1:
            size = 8
        elif wire == 5:
            size = 4
        else:
            raise ValueError(f"wire type {wire} does not exist any more: not a message")
        if at + size > end:
            raise ValueError("a field of the message is cut off")
        yield key >> 3, wire, data[at : at + size]
        at += size


def signed(value: int) -> int:
    """An int64 from the unsigned number of its varint."""
    return value - (1 << 64) if value >= 1 << 63 else value
