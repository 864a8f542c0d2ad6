"""Comma-separated values: Lightning's metrics.csv, Keras' CSVLogger, any table with a header and a loss column.

Polars parses, in pieces of 16 MB, only the columns somebody asks for, and all of them as text first: a cell with words in
it, an empty one (not logged in this row) and a logged NaN are three different things.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from unstuck.observe.logs.columns import _HELD_OUT, SPLITS, LogError, Table, decimals_of, rank, role

if TYPE_CHECKING:
    import polars as pl

_PIECE = 1 << 24
_CELL = re.compile(r"""^\s*["']?[A-Za-z_@#][\w /.\-()%@\[\]:|]*["']?\s*$""")
_NUMBER = re.compile(
    r"""^\s*["']?[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?["']?\s*$|^\s*[-+]?(nan|inf|infinity)\s*$|^\s*$""", re.I
)


def header_of(text: str, wanted: str | None = None) -> tuple[str, list[str], int] | None:
    """(delimiter, column names, lines before the header) where this text begins a table with a loss column; else None."""
    lines = text.split("\n")
    before = 0
    while before < len(lines) - 1 and (lines[before].startswith("#") or not lines[before].strip()):
        before += 1
    line = lines[before].rstrip("\r")
    following = [one.rstrip("\r") for one in lines[before + 1 :] if one.strip()][:20]
    for delimiter in (",", ";", "\t", "|"):
        names = line.split(delimiter)
        if not all(_is_name(n) for n in names if n.strip()) or len([n for n in names if n.strip()]) < 2:
            continue
        bare = [_bare(n) for n in names]
        if any(rank(n) is not None or n == wanted for n in bare) or _numeric(following, delimiter, len(names)):
            return delimiter, bare, before
    alone = _bare(line)
    if _is_name(line) and (rank(alone) is not None or alone == wanted) and all(_NUMBER.match(one) for one in following[:5]):
        return ",", [alone], before  # one column
    return None


def _is_name(cell: str) -> bool:
    """A column's name, and not a cell like 'loss: 0.69' or 'step 3'."""
    return len(cell) <= 120 and bool(_CELL.match(cell)) and not re.search(r"[\s:=][-+]?\.?\d", cell)


def _bare(cell: str) -> str:
    return cell.strip().strip("\"'").strip()


def _numeric(lines: list[str], delimiter: str, width: int) -> bool:
    """Are these rows of a table of numbers (with whatever other columns)?"""
    rows = [line.split(delimiter) for line in lines]
    fits = [r for r in rows if len(r) == width and any(_NUMBER.match(c) and c.strip() for c in r)]
    return len(fits) > 0.5 * len(rows) > 0


def read(path: Path, layout: tuple[str, list[str], int], wanted: str | None = None) -> Table:
    """The numeric columns of interest; rows are numbered from 0. Cells with words in them are counted and left out."""
    delimiter, names, before = layout
    table = Table(str(path), "csv")
    table.wanted = wanted
    table.names.update(dict.fromkeys(names))
    used = [i for i, n in enumerate(names) if n and (role(n) is not None or n == wanted) and names.index(n) == i]
    if not used:
        return table
    splits = [i for i, n in enumerate(names) if n.lower() in SPLITS and names.index(n) == i][:1]
    words: dict[str, tuple[int, str, int]] = {}
    row = 0
    with path.open("rb") as file:
        for _ in range(before):
            file.readline(_PIECE)
        header = file.readline(_PIECE).rstrip(b"\r\n") + b"\n"
        first = True
        while piece := _piece(file):
            frame = _parse(header, piece, delimiter, sorted(used + splits), path)
            if splits and len(frame):  # rows of validation in the same column as rows of training
                split = frame.to_series(sorted(used + splits).index(splits[0]))
                frame = frame.drop(split.name)
                training = ~split.str.strip_chars().str.to_lowercase().is_in(list(_HELD_OUT)).fill_null(False)
                frame = frame.filter(training) if training.any() else frame
            row = _take(frame, [names[i] for i in used], table, row, delimiter, words, first)
            first = False
    for name, (count, example, line) in words.items():
        if role(name) == "loss" or name == wanted:
            table.notes.append(
                f"{count:,} cell{'s' * (count > 1)} of {name} hold{'s' * (count == 1)} no number and"
                f" {'were' if count > 1 else 'was'} left out (line {before + 2 + line:,}: {example[:30]!r})"
            )
    return table


def _piece(file: IO[bytes]) -> bytes:
    """The next lines, about 16 MB of them; a line that is longer than that is passed over."""
    piece = file.read(_PIECE)
    if len(piece) == _PIECE and not piece.endswith(b"\n"):
        end = piece.rfind(b"\n")
        if end < 0:  # no line break in 16 MB: no row of numbers
            while (more := file.read(_PIECE)) and b"\n" not in more:
                pass
            if not more:
                return b""
            file.seek(more.index(b"\n") + 1 - len(more), 1)
            return _piece(file)
        file.seek(end + 1 - len(piece), 1)
        piece = piece[: end + 1]
    return piece


def _parse(header: bytes, piece: bytes, delimiter: str, used: list[int], path: Path) -> pl.DataFrame:
    import polars as pl

    quoted = b'"' in piece
    for quote in ('"', None) if quoted else (None,):
        try:
            with warnings.catch_warnings():  # of malformed rows: they are counted here, in our words
                warnings.simplefilter("ignore")
                frame = pl.read_csv(
                    header + piece, separator=delimiter, columns=used, infer_schema=False, truncate_ragged_lines=True,
                    ignore_errors=True, quote_char=quote, encoding="utf8-lossy", low_memory=True,
                )  # fmt: skip
        except pl.exceptions.NoDataError:
            return pl.DataFrame()
        except pl.exceptions.PolarsError as error:
            if quote is None:
                raise LogError(f"{path}: not a table that can be read: {str(error).splitlines()[0]}") from None
            continue
        # One quotation mark without its partner swallows the rest of the file.
        if quote is None or len(frame) >= 0.5 * piece.count(b"\n"):
            return frame
    return frame


def _take(
    frame: pl.DataFrame, names: list[str], table: Table, row: int, delimiter: str,
    words: dict[str, tuple[int, str, int]], first: bool,
) -> int:  # fmt: skip
    """One piece into the columns; the number of the row after it. words: per column, cells that are no number."""
    import polars as pl

    for name, text in zip(names, frame.iter_columns()):
        column = table.column(name)
        if column is None:
            continue
        numbers = text.cast(pl.Float64, strict=False)
        if numbers.null_count() > text.null_count():
            numbers, text = _second_try(text, numbers, delimiter)
            lost = text.filter(numbers.is_null() & text.is_not_null() & (text != ""))
            if len(lost):
                count, example, line = words.get(name, (0, "", 0))
                where = int((numbers.is_null() & text.is_not_null() & (text != "")).arg_true()[0])
                words[name] = (count + len(lost), example or str(lost[0]), line or row + where)
        if first:
            column.decimals = max((decimals_of(t) for t in text.drop_nulls().head(200).to_list() if t), default=-1)
        known = numbers.is_not_null().to_numpy()
        values = numbers.to_numpy()
        if known.all():
            column.extend(np.arange(row, row + len(values), dtype=np.float64), values)
        else:
            column.extend(row + np.flatnonzero(known).astype(np.float64), values[known])
    return row + len(frame)


def _second_try(text: pl.Series, numbers: pl.Series, delimiter: str) -> tuple[pl.Series, pl.Series]:
    """Blanks around a number, a decimal comma, tensor(0.69), and the several spellings of NaN."""
    import polars as pl

    text = text.str.strip_chars(" \t\r'\"")
    clean = text.str.to_lowercase().str.replace(r"^tensor\(([^,)]+).*$", "${1}").str.replace(r"^[-+]?nan$", "nan")
    clean = clean.str.replace(r"^([-+]?)infinity$", "${1}inf").str.replace(r"%$", "")
    if delimiter != ",":
        clean = clean.str.replace(r"^([-+]?\d*),(\d+)", "${1}.${2}")
    return clean.cast(pl.Float64, strict=False), text
