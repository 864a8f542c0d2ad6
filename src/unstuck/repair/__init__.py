"""The change itself: a finding's intervention as an edit of the user's file, shown as a diff and written only when asked.

`change(finding, run)` says what would be changed, `write(change)` does it, `fill(diagnosis)` puts the diffs into a diagnosis.
A file is changed only where it is the user's own and still is what ran: its SHA-256 was taken by the run.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import stat
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from unstuck.errors import UsageError
from unstuck.findings import Diagnosis, Finding
from unstuck.repair.edits import EDITS
from unstuck.repair.reading import Arguments, Edit
from unstuck.repair.source import Cannot, Source, changed, lines_of, parse
from unstuck.trace.facts import Run

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


class Change(msgspec.Struct, frozen=True):
    """What a fix does to a file; display: nothing is done by a machine, `note` says why."""

    file: str  # as the trace names it
    path: str = ""  # the real file, links followed
    before_hash: str = ""  # SHA-256 of the bytes the change was made for
    diff: str = ""
    applicability: Literal["safe", "unsafe", "display"] = "display"
    new_source: bytes = b""
    note: str = ""  # unsafe: what is to be decided; display: the reason, one sentence
    stale: bool = False  # display, because the file is not the one that ran


class _Wanted(NamedTuple):
    """What is to be done in one file."""

    edit: Callable[[Source, Sequence[int], Arguments], Edit]
    lines: list[int]  # of the file that ran; the first one is the place itself
    arguments: Arguments
    texts: dict[int, str]  # what the trace says that stands on them


class Bench:
    """The files of a run as they are being changed: several findings may change the same file, one after another."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.now: dict[str, bytes] = {}  # real path -> what is (or would be) in the file
        self.ran: dict[str, bytes] = {}  # real path -> what ran

    def change(self, finding: Finding) -> Change | None:
        """The change that a finding's fix asks for; None where it names no intervention."""
        asked = finding.fix.intervention if finding.fix is not None else None
        if asked is None or asked.kind == "placebo":
            return None
        places = list(_places(finding))
        first = places[0][0] if places else ""
        edit = EDITS.get(asked.kind)
        if edit is None:
            return Change(first, note="It is to be changed by hand.")
        arguments = dict(asked.arguments)
        beside = arguments.pop("activation_file", "")
        told: Change | None = None
        # Last the script itself: some changes (the only optimizer, a cast) find their line without being told.
        for file in dict.fromkeys([*(f for f, _ in places), *self._script()]):
            lines = list(dict.fromkeys(n for f, n in places if f == file))
            wanted = _Wanted(edit, lines, arguments, {s.line: s.text for s in finding.locations if s.file == file})
            done = self._edit(file, wanted) if beside in {"", file} else Change(
                file, note=f"No machine can make this change: it touches two files, {file} and {beside}."
            )  # fmt: skip
            if done.applicability != "display":
                return done
            told = told or done
        return told or Change("", note="The finding names no line.")

    def _script(self) -> list[str]:
        """The script under the name the trace gives it."""
        path = locate(self.run.script, self.run) if not self.run.script.startswith("-") else ""
        return [f for f in self.run.sources if path and locate(f, self.run) == path]

    def _edit(self, file: str, wanted: _Wanted) -> Change:
        path = locate(file, self.run)
        reason = forbidden(path, self.run)
        if reason:
            return Change(file, path, note=reason)
        try:
            raw = self.now.get(path) or Path(path).read_bytes()
        except OSError as error:
            return Change(file, path, note=f"{file} cannot be read: {error.strerror}.")
        if path not in self.ran:
            reason = stale(file, path, raw, wanted.texts, self.run)
            if reason:
                return Change(file, path, note=reason, stale=True)
            self.ran[path] = raw
        digest = hashlib.sha256(raw).hexdigest()
        try:
            source = Source(raw)
            carried = _carried(self.ran[path], source)
            lines = [carried[n] for n in wanted.lines if n in carried]
            if wanted.lines and wanted.lines[0] not in carried:
                raise Cannot("the line is not there, or another fix has changed it: run it again first")
            arguments = dict(wanted.arguments)
            if isinstance(arguments.get("activation_line"), int):
                arguments["activation_line"] = carried.get(arguments["activation_line"], 0)
            made = wanted.edit(source, lines, arguments)
            text = changed(source.text, made.spans)
            new = source.encode(text)
            parse(text)
        except Cannot as cannot:
            return Change(file, path, digest, note=f"No machine can make this change: {cannot}.")
        except (SyntaxError, ValueError):
            return Change(file, path, digest, note="No machine can make this change: the result would not be a Python program.")
        if new == raw:
            return Change(file, path, digest, note="The file is already so.")
        return Change(file, path, digest, _diff(source.text, text, file), made.applicability, new, made.note)

    def keep(self, change: Change) -> None:
        """From here on the file is as this change leaves it."""
        self.now[change.path] = change.new_source


def change(finding: Finding, run: Run) -> Change | None:
    """What the fix of one finding would do to the user's file. None where the finding names no intervention."""
    return Bench(run).change(finding)


diff = change  # the name under which the house knows it


def fill(diagnosis: Diagnosis) -> None:
    """Diff and applicability of each finding's fix, from the files as they are now. A fault of ours leaves the finding as it is."""
    for training in diagnosis.trainings:
        for finding in training.findings:
            try:
                made = change(finding, diagnosis.run) if finding.role != "note" else None
            except Exception:  # a report with one diff less is better than none
                made = None
            if made is not None and finding.fix is not None:
                finding.fix = msgspec.structs.replace(finding.fix, diff=made.diff or None, applicability=made.applicability)


def write(change: Change) -> None:
    """Put the new source in the file's place: whole or not at all, with its mode. Raises UsageError where that cannot be done."""
    path = Path(change.path)
    try:
        if hashlib.sha256(path.read_bytes()).hexdigest() != change.before_hash:
            raise UsageError(f"{change.file}: changed since it was looked at; nothing was written")
        status = path.stat()
        number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".unstuck")
        try:
            with os.fdopen(number, "wb") as file:
                file.write(change.new_source)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, stat.S_IMODE(status.st_mode))
            if hasattr(os, "chown") and (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                try:
                    os.chown(name, status.st_uid, status.st_gid)
                except OSError:
                    pass  # not allowed to give a file away: it then belongs to who changed it, as in any editor
            os.replace(name, path)
        except BaseException:
            try:
                os.unlink(name)
            except OSError:
                pass
            raise
    except OSError as error:
        raise UsageError(f"{change.file}: could not be written: {error.strerror}; it is unchanged") from None


# ---------------------------------------------------------------------- which file, and may it be changed


def _places(finding: Finding) -> Iterator[tuple[str, int]]:
    """(file, line): what the intervention names, then the finding's own lines."""
    asked = finding.fix.intervention if finding.fix is not None else None
    if asked is not None:
        file, line = asked.arguments.get("file"), asked.arguments.get("line")
        if isinstance(file, str) and isinstance(line, (int, float)) and file:
            yield file, int(line)
    for site in finding.locations:
        yield site.file, site.line


def locate(file: str, run: Run) -> str:
    """The real path of a file that the trace names, links followed; '' for code that is in no file."""
    if not file or file.startswith("<"):
        return ""
    return os.path.realpath(os.path.join(run.directory or os.getcwd(), file))


def forbidden(path: str, run: Run) -> str:
    """Why a file must not be changed; '' where it may."""
    if not path:
        return "The code is in no file."
    name = os.path.basename(path)
    if not os.path.isfile(path):
        return f"{name} is not there any more."
    standard = [p for p in (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")) if p]
    if any(part in path for part in _INSTALLED):
        return f"{name} belongs to an installed package, not to you: change what calls it."
    if any(path.startswith(os.path.realpath(p) + os.sep) for p in standard) or path.startswith(os.path.realpath(_OURS) + os.sep):
        return f"{name} belongs to Python's own library, not to you: change what calls it."
    if not any(_below(path, folder) for folder in _yours(run)):
        return f"{name} lies outside of the folders of this run and of your home."
    if not os.stat(path).st_mode & 0o222 or not os.access(path, os.W_OK):
        return f"{name} is read-only."
    if not os.access(os.path.dirname(path), os.W_OK):
        return f"{name} lies in a folder that is read-only."
    return ""


def _yours(run: Run) -> list[str]:
    """The folder of the run, that of its script, and the home directory."""
    folders = [run.directory, os.path.expanduser("~")]
    if run.script and not run.script.startswith("-"):
        folders.append(os.path.dirname(os.path.join(run.directory, run.script)))
    return [os.path.realpath(f) for f in folders if f]


def _below(path: str, folder: str) -> bool:
    return folder != os.path.dirname(folder) and path.startswith(folder + os.sep)  # the root is nobody's


def stale(file: str, path: str, raw: bytes, texts: dict[int, str], run: Run) -> str:
    """Why this is not the file that ran; '' where it is."""
    known = run.sources.get(file)
    if known is not None:
        if not known:
            return f"{file} was changed while it ran."
        return "" if known == hashlib.sha256(raw).hexdigest() else f"{file} has changed since this run."
    # A trace without hashes (the run was killed): not touched since, and the lines say what they said.
    if run.started and os.stat(path).st_mtime > run.started:
        return f"{file} has changed since this run."
    rows = lines_of(raw.decode("utf-8", "replace"))
    for line, text in texts.items():
        if text and (line > len(rows) or rows[line - 1].strip()[:200] != text):
            return f"{file} has changed since this run."
    return ""


def _carried(ran: bytes, source: Source) -> dict[int, int]:
    """The lines of the file that ran -> where they are now; lines that an earlier fix has changed are missing."""
    old, new = lines_of(ran.decode(source.encoding)), lines_of(source.text)
    if old == new:
        return {n: n for n in range(1, len(new) + 1)}
    blocks = difflib.SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
    return {a + i + 1: b + i + 1 for a, b, size in blocks for i in range(size)}


def _diff(old: str, new: str, file: str) -> str:
    """A unified diff that patch(1) reads: newlines as they are in the file."""
    rows = []
    for row in difflib.unified_diff(lines_of(old), lines_of(new), file, file):
        rows.append(row if row.endswith(("\n", "\r")) else f"{row}\n\\ No newline at end of file\n")
    return "".join(rows)
