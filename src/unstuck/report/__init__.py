"""One file per format, each with render(diagnosis) -> str. FORMATS is the table: name -> file ending; the name is the module's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from unstuck.errors import UsageError
from unstuck.findings import Diagnosis

FORMATS = {"json": ".json", "terminal": ".txt", "html": ".html", "markdown": ".md", "sarif": ".sarif", "junit": ".xml"}
QUOTING = frozenset({"sarif", "junit"})  # formats whose render also takes the catalogue: they speak of rules, not of findings only


class Entry(NamedTuple):
    """A diagnosis of the catalogue, as a report quotes it."""

    name: str  # softmax-twice
    room: str  # wiring
    page: str  # the rule's page: a sentence, then Markdown with ## headings


# Code -> entry. The caller's to give: this room knows findings, not rules.
Catalogue = Mapping[str, Entry]


def endings(last: str = "or") -> str:
    """The file endings that there are, for help texts and errors: '.json, .txt or .html'."""
    *most, end = FORMATS.values()
    return f"{', '.join(most)} {last} {end}"


def format_of(file: str) -> str:
    """The format that a file's ending asks for. Raises UsageError naming the endings that there are."""
    ending = Path(file).suffix.lower()
    for name, known in FORMATS.items():
        if ending == known:
            return name
    raise UsageError(f"{file}: no report format for {ending or 'a name without ending'!r}; use {endings()}")


def render(diagnosis: Diagnosis, name: str, catalogue: Catalogue | None = None) -> str:
    """The diagnosis in a format of FORMATS. Without a catalogue SARIF has no rule pages and JUnit no names of silent rules."""
    module = import_module(f"unstuck.report.{name}")
    text: str = module.render(diagnosis, catalogue or {}) if name in QUOTING else module.render(diagnosis)
    return text


def check_writable(file: str) -> None:
    """Before a run: is there a place for the report? Raises UsageError."""
    format_of(file)
    folder = Path(file).resolve().parent
    if not folder.is_dir():
        raise UsageError(f"{file}: the directory {folder} does not exist")
    if Path(file).is_dir():
        raise UsageError(f"{file}: is a directory; name a file")
    if not os.access(file if Path(file).exists() else folder, os.W_OK):
        raise UsageError(f"{file}: may not be written; name another place")


def write(diagnosis: Diagnosis, file: str, catalogue: Catalogue | None = None) -> None:
    """Write the report to a file. Raises UsageError where it cannot be written."""
    save(render(diagnosis, format_of(file), catalogue), file)


def save(text: str, file: str) -> None:
    """Write a text that is at hand. Raises UsageError where it cannot be written.

    A file name of the training may hold bytes that are no text; they are written as escapes, which JSON reads back.
    """
    try:
        Path(file).write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UsageError(f"{file}: the report could not be written: {error.strerror}") from None
