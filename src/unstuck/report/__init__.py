"""One file per format, each with render(diagnosis) -> str. FORMATS is the table: name -> (file ending, module)."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from unstuck.errors import UsageError
from unstuck.findings import Diagnosis

FORMATS = {"json": ".json", "terminal": ".txt"}


def format_of(file: str) -> str:
    """The format that a file's ending asks for. Raises UsageError naming the endings that there are."""
    ending = Path(file).suffix.lower()
    for name, known in FORMATS.items():
        if ending == known:
            return name
    raise UsageError(
        f"{file}: no report format for {ending or 'a name without ending'!r}; use {' or '.join(FORMATS.values())}"
    )


def render(diagnosis: Diagnosis, name: str) -> str:
    """The diagnosis in a format of FORMATS."""
    text: str = import_module(f"unstuck.report.{name}").render(diagnosis)
    return text


def check_writable(file: str) -> None:
    """Before a run: is there a place for the report? Raises UsageError."""
    format_of(file)
    folder = Path(file).resolve().parent
    if not folder.is_dir():
        raise UsageError(f"{file}: the directory {folder} does not exist")
    if Path(file).is_dir():
        raise UsageError(f"{file}: is a directory; name a file")


def write(diagnosis: Diagnosis, file: str) -> None:
    """Write the report to a file. Raises UsageError where it cannot be written."""
    try:
        Path(file).write_text(render(diagnosis, format_of(file)), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file}: the report could not be written: {error.strerror}") from None
