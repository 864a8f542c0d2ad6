"""Text from a terminal: Keras' and tqdm's progress bars, "Epoch 3 loss: 1.6094", printed dictionaries, tables, bare numbers.

A line is what stands between line feeds, carriage returns and runs of backspaces: a bar that is drawn anew is a new line. A
Keras bar shows the *running mean* of its epoch, so its updates are not steps of their own: the last one of an epoch, its
mean, counts. Everything that looks like `name: number`, `name=number` or `name number` is read.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator
from pathlib import Path

from unstuck.observe.logs.columns import _HELD_OUT, _KIND, _TRAIN, Table, decimals_of, rank, role, words

_PIECE = 1 << 20
_LONGEST = 1 << 14  # characters of a line that are looked at
_DIGIT = re.compile(r"\s\d")
_BARE = 200_000  # bare numbers that are kept
_BREAK = re.compile(r"\r\n|[\n\r\x0b\x0c]|\x08+")
_ESCAPE = re.compile(r"\x1b\[[0-9;?]{0,30}[A-Za-z]|\x1b\][^\x07]{0,300}\x07")
# Repeats are bounded throughout: a line may be 16 KB of anything, and a pattern must not try all its parts in all ways.
_NUM = r"[-+]?(?:\d{1,40}(?:\.\d{0,40})?(?:[eE][-+]?\d{1,4})?|\.\d{1,40}(?:[eE][-+]?\d{1,4})?|nan|inf(?:inity)?)"
_ASKED = re.compile(r"loss|acc|nll|entropy|epoch|step|iter|objective|bce|top1|lr|rate|batch", re.I)
_PAIR = re.compile(
    rf"(?<![\w./@\-])(?P<name>[A-Za-z_][\w./@\-]{{0,60}})['\"]?\s{{0,9}}[:=]{{0,3}}\s{{0,9}}(?:tensor\(|[\[(])?\s{{0,9}}"
    rf"(?P<number>{_NUM})(?![\w.]{{0,40}}[A-Za-z_])(?:\s?/\s?(?P<of>\d{{1,15}}))?(?P<share>\s?%)?",
    re.I,
)
_BEFORE = re.compile(r"([A-Za-z]+)[\s_-]+$")
_EPOCH = re.compile(r"^\s*Epoch\s+(\d+)\s*/\s*(\d+)\s*$")
_BAR = re.compile(r"^\s*(\d+)/(\d+|Unknown|\?)\s*(?:\[[=>.\s]*\]|[━─╸╺ ]*[━╸]|-\s)")
_TQDM = re.compile(r"\|\s*(\d+)/(\d+)\s*\[")
_BARE_LINE = re.compile(rf"^[\s\[\](),;]*(?:{_NUM}[\s\[\](),;]+)*{_NUM}[\s\[\](),;]*$", re.I)
_QUALIFIERS = _TRAIN | _HELD_OUT | _KIND


def read(path: Path, wanted: str | None = None, encoding: str = "utf-8") -> Table:
    reader = _Reader(str(path), wanted)
    with path.open("rb") as file:
        decoder = codecs.getincrementaldecoder(encoding)("replace")
        for line in _lines(iter(lambda: decoder.decode(file.read(_PIECE)), "")):
            reader.line(line)
    return reader.done()


def read_text(text: str, name: str, wanted: str | None = None) -> Table:
    """The same for text at hand (standard input)."""
    reader = _Reader(name, wanted)
    reader.table.is_file = False
    for line in _lines(iter([text])):
        reader.line(line)
    return reader.done()


def _lines(pieces: Iterator[str]) -> Iterator[str]:
    rest = ""
    for piece in pieces:
        rest += piece
        parts = _BREAK.split(rest)
        # A carriage return or a backspace at the very end may be the first half of a longer break.
        rest = parts.pop()
        for part in parts:
            if part:
                yield part[:_LONGEST]
        if len(rest) > _PIECE:
            yield rest[:_LONGEST]
            rest = ""
    if rest:
        yield rest[:_LONGEST]


class _Reader:
    """Where we are: the epoch, the bar, the header of a table."""

    def __init__(self, file: str, wanted: str | None) -> None:
        self.table = Table(file, "text")
        self.table.wanted = wanted
        self.row = -1
        self.epoch = 0
        self.bar: tuple[int, int] | None = None  # (epoch, batches done) of the Keras bar drawn last
        self.updates = 0
        self.tqdm: tuple[int, int] | None = None
        self.bars = 0
        self.header: list[str] = []
        self.bare: list[tuple[float, int]] = []

    def line(self, raw: str) -> None:
        line = _ESCAPE.sub("", raw) if "\x1b" in raw else raw
        header = _EPOCH.match(line)
        if header:
            self.epoch = int(header[1])
            self.bar = None
            return
        bar = _BAR.match(line)
        if bar:
            self._keras(line, int(bar[1]), int(bar[2]) if bar[2].isdigit() else 0)
            return
        if self._cells(line):
            return
        pairs = _pairs(line, self.table.wanted) if self.table.wanted or _ASKED.search(line) else []
        drawn = _TQDM.search(line)
        if drawn:
            self._tqdm(line, pairs, int(drawn[1]), int(drawn[2]))
            return
        if pairs:
            self._row(pairs)
        elif len(self.bare) < _BARE and _BARE_LINE.match(line):
            for text in re.findall(_NUM, line, re.I):
                self.bare.append((float(text), decimals_of(text)))

    def _row(self, pairs: list[tuple[str, float, int]], again: bool = False) -> None:
        if not any(role(name) in {"loss", "accuracy"} or name == self.table.wanted for name, _, _ in pairs):
            self._put([p for p in pairs if role(p[0]) == "epoch"], False, quiet=True)
            return
        if not again:
            self.row += 1
        self._put(pairs, again)

    def _put(self, pairs: list[tuple[str, float, int]], again: bool, quiet: bool = False) -> None:
        if quiet:
            for _, value, _ in pairs:
                self.epoch = int(value) if math.isfinite(value) else self.epoch
            return
        done = set()
        for name, value, decimals in pairs:
            if name in done:
                continue
            done.add(name)
            column = self.table.column(name)
            if column is None:
                continue
            if again and len(column):
                column.replace_last(self.row, value)
            else:
                column.add(self.row, value)
            if decimals > column.decimals and column.seen + len(column) < 1000:
                column.decimals = decimals

    def _keras(self, line: str, done: int, of: int) -> None:
        """One drawing of a Keras bar: it replaces the drawing before, unless a new epoch has begun."""
        pairs = _pairs(line, self.table.wanted)
        if not any(role(name) == "loss" or name == self.table.wanted for name, _, _ in pairs):
            return
        again = self.bar is not None and self.bar[0] == self.epoch and done >= self.bar[1]
        if self.bar is not None and not again and self.bar[0] == self.epoch:
            self.epoch += 1  # a bar that starts anew without an "Epoch 3/10" before it
        self.updates += again
        self.bar = (self.epoch, done)
        self.table.averaged = "epoch"
        if of and self.epoch:
            pairs.append(("step", float((self.epoch - 1) * of + done), 0))
        elif self.epoch:
            pairs.append(("epoch", float(self.epoch), 0))
        self._row(pairs, again)

    def _tqdm(self, line: str, pairs: list[tuple[str, float, int]], done: int, of: int) -> None:
        if not any(role(name) == "loss" or name == self.table.wanted for name, _, _ in pairs):
            return
        again = self.tqdm == (done, of)
        self.tqdm = (done, of)
        self.bars += 1
        self._row(pairs, again)

    def _cells(self, line: str) -> bool:
        """Tables in columns of blanks or bars (fastai, rich, log files): a header with a loss, then rows as wide."""
        if not self.header and _DIGIT.search(line):
            return False  # neither a row nor a header
        cells = line.replace("│", " ").replace("┃", " ").replace("|", " ").split()
        if len(cells) < 2:
            return False
        if all(re.fullmatch(r"[A-Za-z_][\w./@%\-]*", c) for c in cells) and any(rank(c) is not None for c in cells):
            self.header = cells
            return True
        if len(cells) != len(self.header):
            return False
        pairs = []
        for name, cell in zip(self.header, cells):
            if re.fullmatch(_NUM + "%?", cell, re.I):
                digits = cell.rstrip("%")
                pairs.append((name, float(digits) / (100.0 if cell != digits else 1.0), decimals_of(digits)))
        if not any(role(name) == "loss" for name, _, _ in pairs):
            return False
        self._row(pairs)
        return True

    def done(self) -> Table:
        table = self.table
        if self.bare and not any(role(n) == "loss" and len(c) for n, c in table.columns.items()):
            column = table.column("loss")
            assert column is not None  # a loss by its name
            for row, (value, decimals) in enumerate(self.bare):
                column.add(row, value)
                column.decimals = max(column.decimals, decimals)
            table.notes.append("numbers without a name: they are taken to be the loss")
        if self.updates:
            table.notes.append(
                f"Keras shows running means within an epoch: of {self.updates + self.row + 1:,} drawings of the bar the last one of"
                f" each epoch, its mean, is judged ({self.row + 1:,} in all)"
            )
        if self.bars:
            table.notes.append("values of a progress bar: what it shows may be a running mean, and not every step is shown")
        return table


def _pairs(line: str, wanted: str | None = None) -> list[tuple[str, float, int]]:
    """(name, number, decimals) of everything in a line that has a part to play."""
    found = []
    context = ""
    last = 0
    for match in _PAIR.finditer(line):
        name = match["name"].strip("./-@")
        before = line[max(last, match.start() - 200) : match.start()]
        if not last:
            lead = set(words(before))
            context = "val" if lead & _HELD_OUT and not lead & _TRAIN else ""
        last = match.end()
        while (word := _BEFORE.search(before)) is not None and word[1].lower() in _QUALIFIERS:
            name = f"{word[1]} {name}"
            before = before[: word.start()]
        kind = role(name)
        if wanted is not None and wanted.lower() in (name.lower(), match["name"].lower()):
            name, kind = wanted, "loss"
        if kind is None:
            continue
        if kind in {"loss", "accuracy"} and name != wanted and context and not set(words(name)) & (_HELD_OUT | _TRAIN):
            name = f"{context} {name}"
        number = float(match["number"])
        decimals = decimals_of(match["number"])
        if kind == "accuracy":
            if match["of"] and float(match["of"]) > 0:
                number, decimals = number / float(match["of"]), 6
            elif match["share"]:
                number, decimals = number / 100.0, decimals + 2
        found.append((name, number, decimals))
    return found
