"""One line where a command line does not fit: `with unstuck.watch() as doctor: train()`.

The doctor watches the process it is called in, says what is wrong when asked or when the training is over, and puts
everything back. It is the same observation, trace and report as of `unstuck run`.
"""

from __future__ import annotations

import atexit
import html
import os
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from unstuck.errors import UnstuckError
from unstuck.findings import Diagnosis as PlainDiagnosis
from unstuck.observe.launch import CURRENT
from unstuck.observe.watch import Watch, rank

if TYPE_CHECKING:
    from unstuck.trace.trace import RunRecord

ROWS = 8  # findings in the short table
_CURRENT: list[Doctor] = []  # the one that watches now


class Diagnosis(PlainDiagnosis):
    """A diagnosis that shows itself: print(diagnosis), or a cell of a notebook."""

    def __str__(self) -> str:
        from unstuck.report.terminal import render

        return render(self)

    def html(self) -> str:
        """The whole report as one page of about 5 MB, the curves drawn: for a file, not for a cell."""
        from unstuck.report.html import render

        return render(self)

    def save(self, file: str | os.PathLike[str]) -> None:
        """Write the report; its format is that of the file's ending (.html, .md, .json ...). Raises UsageError."""
        from unstuck import report

        report.check_writable(os.fspath(file))
        report.write(self, os.fspath(file))

    def _repr_html_(self) -> str:
        return _table(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": _table(self)}


class Doctor:
    """Watches from `start` (which `watch` calls) to `stop`. No method raises what the observation runs into.

    As a context manager it prints the report on standard error when the block ends; called plainly, when the process
    ends, if nobody has asked before. `quiet`: neither. Of processes that train together the first one speaks.
    """

    def __init__(self, trace: str | os.PathLike[str] | None = None, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.asked = False
        self._process = os.getpid()
        self._diagnosis: Diagnosis | None = None
        self._watch = Watch(trace, suspicious=self._suspicious)

    # ------------------------------------------------------------------ watching

    def start(self, model: Any = None, optimizer: Any = None) -> Doctor:
        """Begin. Of two doctors in one process the later one watches: the earlier one stops, and keeps what it saw."""
        for other in list(_CURRENT):
            other.stop()
        self._watch.start(model, optimizer)
        _CURRENT.append(self)
        atexit.register(self._at_exit)
        return self

    def stop(self, error: BaseException | None = None) -> None:
        """End the observation and put back all that was replaced. Safe to call twice."""
        atexit.unregister(self._at_exit)
        if self in _CURRENT:
            _CURRENT.remove(self)
        if self._watch.active:
            self._watch.stop(error)
            self._diagnosis = None

    @property
    def watching(self) -> bool:
        """Is the process observed by this doctor now?"""
        return self._watch.active

    @property
    def shared(self) -> bool:
        """Was the process observed anyway, by `unstuck run`? Then that prints the report."""
        return self._watch.shared

    @property
    def trace(self) -> Path | None:
        """The folder of the trace; None where none could be written."""
        return self._watch.directory

    def __enter__(self) -> Doctor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:  # fmt: skip
        self.stop(error)
        self.tell()

    def _at_exit(self) -> None:
        self.stop()
        if not self.asked:
            self.tell()

    # ------------------------------------------------------------------ what is said

    def diagnose(self) -> Diagnosis:
        """What is wrong with the training, as far as it has been seen. May be asked while it goes on, and again later.

        Raises TraceError where no trace could be written.
        """
        self.asked = True
        return self._diagnose()

    def _diagnose(self) -> Diagnosis:
        if self._diagnosis is not None:
            return self._diagnosis
        directory = self._watch.flush()
        if directory is None:
            from unstuck.errors import TraceError

            raise TraceError("nothing was recorded: " + "; ".join(self._watch.run.notes or ["the doctor was not started"]))
        found = diagnose(directory)
        if not self._watch.active:
            self._diagnosis = found  # nothing will be added to the trace any more
        return found

    def tell(self) -> None:
        """Print the report on standard error, on the first rank only, and not where `unstuck run` will."""
        if self.quiet or self.shared or rank() or self._process != os.getpid():
            return
        self.asked = True
        _say("\n" + str(self))

    def _suspicious(self, training: int) -> bool:
        directory = self._watch.directory
        with _unnoticed():
            return directory is not None and worth_a_look(directory, training)

    def __str__(self) -> str:
        """The report; where there is none, one line that says why. Never raises."""
        try:
            return str(self.diagnose())
        except UnstuckError as error:
            return f"unstuck: {error}"
        except Exception as error:
            if os.environ.get("UNSTUCK_DEBUG"):
                raise
            return f"unstuck: the report failed ({type(error).__name__}: {error}); the trace is in {self.trace}"

    def __repr__(self) -> str:
        state = "watching" if self.watching else "done"
        return f"<unstuck.Doctor: {state}, trace {self.trace}>"

    def _repr_html_(self) -> str:
        return self._repr_mimebundle_()["text/html"]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        try:
            return self.diagnose()._repr_mimebundle_()
        except Exception:
            text = str(self)
            return {"text/plain": text, "text/html": f"<pre>{html.escape(text)}</pre>"}


class Attending:
    """What a framework's callback does with the two events it translates: a training begins, it is over.

    Nothing where the process is observed anyway: `unstuck run` and `unstuck.watch` print a report of their own.
    """

    diagnosis: Diagnosis | None = None  # of the training that was over last

    def __init__(self, trace: str | os.PathLike[str] | None = None, quiet: bool = False) -> None:
        super().__init__()
        self.quiet = quiet
        self._trace = trace
        self._doctor: Doctor | None = None

    def begin(self, model: Any = None, optimizer: Any = None) -> None:
        """A training begins. One that never came to its end (an exception) ends here."""
        self.over()
        if not CURRENT:
            self._doctor = watch(model, optimizer, trace=self._trace, quiet=self.quiet)

    def over(self, error: BaseException | None = None) -> None:
        """The training is over: the report, once."""
        doctor, self._doctor = self._doctor, None
        if doctor is None or not doctor.watching:
            return
        doctor.stop(error)
        try:
            self.diagnosis = doctor.diagnose()
        except Exception:
            pass  # `tell` says it
        doctor.tell()


def watch(
    model: Any = None, optimizer: Any = None, *, trace: str | os.PathLike[str] | None = None, quiet: bool = False
) -> Doctor:  # fmt: skip
    """Watch the trainings of this process: `with unstuck.watch() as doctor:`, or a plain call and `doctor.stop()` later.

    No argument is needed. `model`, `optimizer`: one or a list, made before; with them a model that never gets a gradient
    and an optimizer that never steps are known as well. `trace`: the folder to write (default .unstuck/<time>). `quiet`:
    nothing is printed. Works after torch was imported; no number of the training is changed. Raises UsageError where
    `trace` is something else than a trace.
    """
    return Doctor(trace, quiet=quiet).start(model, optimizer)


def diagnose(trace: str | os.PathLike[str] | RunRecord) -> Diagnosis:
    """The diagnosis of a recorded run: a folder written by `unstuck run` or `unstuck.watch`, or what `read_run` gave.

    Raises TraceError where the folder is no trace.
    """
    with _unnoticed():
        from unstuck import engine
        from unstuck.trace.storage import read_run

        record = read_run(trace) if isinstance(trace, (str, os.PathLike)) else trace
        plain = engine.diagnose(record)
        if isinstance(trace, (str, os.PathLike)):
            plain.trace = _shown(Path(trace))
        return Diagnosis(plain.run, plain.trainings, plain.trace, plain.record)


def worth_a_look(directory: Path, training: int) -> bool:
    """Is a thorough look worth its price? Where the training does not learn, has an autograd function of its own, or has
    not won half of what there is to win."""
    from unstuck.symptom import symptom_of
    from unstuck.trace.storage import read_run

    trace = next((t for t in read_run(directory).traces if t.facts.id == training), None)
    if trace is None or not len(trace.series):
        return False
    symptom = symptom_of(trace)
    half = symptom.loss is not None and symptom.chance is not None and symptom.loss > 0.5 * symptom.chance
    return symptom.judged and (not symptom.learns or half or bool(trace.facts.custom))


@contextmanager
def _unnoticed() -> Iterator[None]:
    """The training may be in the middle of its work: what we import and compute draws none of its random numbers and
    leaves it its warning filters."""
    drawn = random.getstate()
    numpy = sys.modules.get("numpy")
    legacy = numpy.random.get_state() if numpy is not None and "numpy.random" in sys.modules else None
    try:
        with warnings.catch_warnings():
            yield
    finally:
        random.setstate(drawn)
        if legacy is not None and numpy is not None:
            numpy.random.set_state(legacy)


# ---------------------------------------------------------------------- the short table


def _table(diagnosis: PlainDiagnosis) -> str:
    """The state, the level, and one row for each finding. Everything that comes from the training is escaped."""
    from unstuck.report import words

    worst = diagnosis.worst
    parts = [f"<p><b>{_text(words.headline(worst, words.ended_by(diagnosis)))}</b> {_text(words.level(worst.symptom))} "
             f"{_text(words.because(worst.symptom))}</p>"]  # fmt: skip
    rows = []
    for finding in worst.findings[:ROWS]:
        where = words.place(finding.locations[0]) if finding.locations else ""
        source = words.code(finding.locations[0].text).strip() if finding.locations else ""
        fix = finding.fix.summary if finding.fix is not None else ""
        cells = (
            f"<b>{_text(finding.code)}</b> {_text(words.line(finding.name))}", f"{finding.role}, {finding.grade}",
            _text(words.line(finding.summary)), f"{_text(where)}<br><code>{_text(source)}</code>" if where else "",
            _text(words.line(fix)),
        )  # fmt: skip
        rows.append("<tr>" + "".join(f'<td style="text-align:left;vertical-align:top">{c}</td>' for c in cells) + "</tr>")
    if rows:
        heads = "".join(f'<th style="text-align:left">{h}</th>' for h in ("Finding", "Role", "What", "Where", "Fix"))
        parts.append(f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>")
    more = len(worst.findings) - ROWS
    notes = [f"{more} more findings."] if more > 0 else []
    if len(diagnosis.trainings) > 1:
        notes.append(f"The worst of {len(diagnosis.trainings)} trainings.")
    notes.append("print(...) shows the evidence; .save('report.html') writes the whole report.")
    return "".join(parts) + f"<p><small>{_text(' '.join(notes))}</small></p>"


def _text(text: str) -> str:
    from unstuck.report import words

    return html.escape(words.visible(text))


def _shown(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def _say(text: str) -> None:
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        pass  # standard error is closed: the training's result matters more than our report
