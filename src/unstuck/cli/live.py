r"""unstuck run --live: a line that says how the training is doing while it runs.

It is drawn by the recorder, when a step is put down, from the numbers that are put down; no tensor is touched and no random
number drawn. There is no thread that would draw it: a process with a second thread forks less safely (Python 3.12 warns of it on
the script's own standard error), and copies of the process for --verify could not be made.

On a terminal the line stands below the script's output: the last row is taken out of the part of the screen that scrolls
(DECSTBM, as apt does for its progress bar), so that whatever the script prints, in whatever way, goes on above it and is not
touched. At the end the row is given back and empty. A process that is killed with SIGKILL cannot do that: `reset` does. Where
standard error is no terminal (or one that cannot do this, TERM=dumb) there is a plain line every thirty seconds.

Cost: a step costs a clock reading and a place in a short queue; there are at most four redraws a second; the state is worked out
from the trace, and anew only after four hundred times as long as the last time took.
"""

from __future__ import annotations

import math
import os
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path

from unstuck.trace.channels import SERIES_NAMES
from unstuck.trace.facts import Facts
from unstuck.trace.writer import Writer

REDRAW = 0.25  # seconds between two drawings of the line
PLAIN = 30.0  # seconds between two lines where nothing can be redrawn
SHARE = 1 / 400  # of the time may go into working out the state
RECENT = 50  # steps that the numbers shown are a mean of
_LOSS, _CHANCE = SERIES_NAMES.index("loss"), SERIES_NAMES.index("chance")


class LiveWriter(Writer):
    """Writes the trace, and tells a Line what it writes."""

    def __init__(self, directory: Path, line: Line) -> None:
        super().__init__(directory)
        self.line = line
        line.written = self.written

    def row(self, training: int, step: int, values: tuple[float, ...]) -> None:
        Writer.row(self, training, step, values)
        self.line.row(training, step, values)

    def facts(self, facts: Facts) -> None:
        super().facts(facts)
        self.line.facts(facts)

    def forget(self) -> None:
        super().forget()
        self.line.off = True  # in a forked child: the screen is the parent's

    def written(self) -> bytes:
        """The rows of all trainings so far, as they lie in the trace."""
        self.flush()
        return (self.directory / "series.bin").read_bytes()


class Course:
    """What is kept of one training for the line: the newest rows; the older ones are in the trace."""

    def __init__(self, facts: Facts, now: float) -> None:
        self.facts = facts
        self.last: deque[tuple[float, ...]] = deque(maxlen=RECENT)
        self.chances: deque[float] = deque(maxlen=RECENT)  # where steps are short, one step in 32 is looked at
        self.step = 0
        self.rows = 0
        self.state = "watching"  # in words
        self.judge_at = now + 2 * REDRAW
        self.marks = [(now, 0)]  # (time, rows): the rate is that of the last few seconds

    def add(self, step: int, values: tuple[float, ...]) -> None:
        self.step = step
        self.rows += 1
        self.last.append(values)
        chance = values[_CHANCE]
        if chance == chance:
            self.chances.append(chance)

    def recent(self) -> tuple[float, float, float]:
        """(loss, chance, skill) in nats, means over the newest steps where they were measured; NaN where none was.

        Skill is chance - loss, of the same steps where both were measured, which takes out the luck of the batches; otherwise the
        difference of the two means.
        """
        losses = [row[_LOSS] for row in self.last if row[_LOSS] == row[_LOSS]]
        loss, chance = _mean(losses), _mean(self.chances)
        gains = [row[_CHANCE] - row[_LOSS] for row in self.last]
        paired = [gain for gain in gains if gain == gain]
        return loss, chance, _mean(paired) if 2 * len(paired) >= len(losses) else chance - loss

    def rate(self, now: float) -> float:
        """Steps a second over the last two to four seconds."""
        began, rows = self.marks[0]
        if now - self.marks[-1][0] > 2.0:
            self.marks = [*self.marks[-1:], (now, self.rows)]
        return (self.rows - rows) / (now - began) if now > began else 0.0


class Line:
    """The status line. `close` gives the screen back; it may be called more than once."""

    def __init__(self, descriptor: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """descriptor: of the terminal or file; None: standard error."""
        self.descriptor = _standard_error() if descriptor is None else descriptor
        self.clock = clock
        self.process = os.getpid()
        self.courses: dict[int, Course] = {}
        self.known: dict[int, Facts] = {}
        self.written: Callable[[], bytes] = bytes  # the rows of the trace so far
        self.height = 0  # of the screen whose last row is ours; 0: none is
        self.off = self.descriptor < 0
        self.plain = not self.off and not _can_redraw(self.descriptor)
        self.every = PLAIN if self.plain else REDRAW
        self.due = clock() + self.every

    def row(self, training: int, step: int, values: tuple[float, ...]) -> None:
        """A step was put down. Never raises: a line that cannot be shown is none."""
        if self.off:
            return
        now = self.clock()
        course = self.courses.get(training)
        if course is None:
            course = self.courses[training] = Course(self.known.get(training) or Facts(id=training), now)
        course.add(step, values)
        if now < self.due:
            return
        self.due = now + self.every
        if os.getpid() != self.process:
            self.off = True
            return
        try:
            self._draw(course, now)
        except Exception:
            self.off = True  # it was hung up, closed or redirected, or a fault of ours: the training matters more

    def facts(self, facts: Facts) -> None:
        self.known[facts.id] = facts
        if facts.id in self.courses:
            self.courses[facts.id].facts = facts

    def close(self) -> None:
        """Give the last row back, empty; the cursor stays where the script left it."""
        self.off = True
        if self.height and os.getpid() == self.process:
            try:
                self._write(f"\x1b7\x1b[r\x1b[{self.height};1H\x1b[K\x1b8")
            except OSError:
                pass
            self.height = 0

    def _draw(self, course: Course, now: float) -> None:
        if now >= course.judge_at:
            course.state, spent = judged(course, self.written, self.clock)
            course.judge_at = now + max(1.0, spent / SHARE)
        number = f"training {course.facts.id + 1}" if len(self.courses) > 1 else ""
        if self.plain:
            self._write(f"{status(course, now, number)}\n")
            return
        size = os.get_terminal_size(self.descriptor)
        if size.lines != self.height:
            self._take_row(size.lines)
        if self.height:
            text = status(course, now, number, size.columns - 1)
            self._write(f"\x1b7\x1b[0m\x1b[{self.height};1H{text}\x1b[K\x1b8")

    def _take_row(self, lines: int) -> None:
        """Take the last row of the screen: make room if the cursor stands there, then let the rows above it scroll alone.

        IND moves down in the same column and scrolls at the bottom; up again, and the cursor is where the text was. Setting the
        margins moves the cursor to the corner, so it is kept before and restored after.
        """
        released = f"\x1b7\x1b[r\x1b[{min(self.height, lines)};1H\x1b[K\x1b8" if self.height else ""
        self.height = lines if lines > 2 else 0
        taken = f"\x1bD\x1b[A\x1b7\x1b[1;{lines - 1}r\x1b8" if self.height else ""
        self._write(released + taken)

    def _write(self, text: str) -> None:
        """In one piece, past the buffers of the script's own streams."""
        data = text.encode("utf-8", "replace")
        while data:
            data = data[os.write(self.descriptor, data) :]


def judged(course: Course, written: Callable[[], bytes], clock: Callable[[], float]) -> tuple[str, float]:
    """The state so far in words ('learning', 'at chance', 'verdict due at step 1,200'), and the seconds that it took.

    Not counted are those of loading modules, once: the report at the end would load them.
    """
    drawn = random.getstate()  # libraries draw when they are imported; the script's own numbers must come as without us
    import numpy as np

    from unstuck.symptom import symptom_of
    from unstuck.trace.trace import Series, Trace

    random.setstate(drawn)
    began = clock()
    layout = np.dtype([("training", "<u2"), ("pad", "<u2"), ("step", "<u4"), ("values", "<f8", len(SERIES_NAMES))])
    rows = np.frombuffer(written(), dtype=layout)
    rows = rows[rows["training"] == course.facts.id]
    columns = {name: np.ascontiguousarray(rows["values"][:, i]) for i, name in enumerate(SERIES_NAMES)}
    symptom = symptom_of(Trace(course.facts, Series(rows["step"].astype(np.int64), columns)))
    words = symptom.name.replace("-", " ")
    # Past the step that was named the evidence was thinner than it promised to be: then none is named.
    if symptom.name == "too-early" and symptom.due_step is not None and symptom.due_step > course.step:
        words = f"verdict due at step {symptom.due_step:,}"
    return words, clock() - began


def status(course: Course, now: float, number: str = "", width: int = 200) -> str:
    """The line, with as much of it as fits into `width` columns."""
    loss, chance, skill = course.recent()
    rate = course.rate(now)
    speed = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
    step = f"{f'{number}, ' if number else ''}step {course.step:,}"
    levels = [f"loss {loss:.4g}"] if loss == loss else []
    levels += [f"chance {chance:.4g}", f"skill {_plain_zero(skill)}"] if chance == chance else []
    shorter = (
        [f"unstuck: {step}", *levels, *([f"{speed} steps/s"] if rate else []), course.state],
        [step, *levels, *([f"{speed} steps/s"] if rate else []), course.state],
        [f"{step} ({speed}/s)", *levels, course.state],
        [step, *levels, course.state],
        [step, *levels[:1], course.state],
    )
    for text in map("  ".join, shorter):
        if len(text) <= width:
            return text
    return text[: max(width, 0)]


def _plain_zero(value: float) -> str:
    """Three decimals; what rounds to zero has no sign."""
    return f"{value:.3f}" if abs(value) >= 5e-4 else "0.000"


def _mean(values: Collection[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _standard_error() -> int:
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return -1  # there is none


def _can_redraw(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor) and os.name == "posix" and os.environ.get("TERM", "") not in {"", "dumb", "unknown"}
    except OSError:
        return False
