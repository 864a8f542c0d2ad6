"""What the interventions of all frameworks share: what came of a change, why it cannot be made, where in the user's code it is.

Imports no framework: the process of a script that trains with one of them may not have the others.
"""

from __future__ import annotations

import os
import sys
from types import FrameType
from typing import Any

from unstuck.observe import sites

PATIENCE = 200  # steps without anything to change after which an experiment gives up: a pretraining may come first


class NotPossible(BaseException):
    """The change cannot be made in this training; `reason` is half a sentence."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Applied:
    """What came of an intervention: how often it did something, and why not where it could not."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.count = 0
        self.raised = ""
        self.missing = ""  # what is not there, if nothing is done to the end

    @property
    def reason(self) -> str:
        return self.raised or ("" if self.count else self.missing)

    def impossible(self, reason: str) -> NotPossible:
        """The exception to raise; the reason is kept in case a bare `except:` of the script swallows it."""
        self.raised = reason
        return NotPossible(reason)


class AllApplied(Applied):
    """Of several interventions at once: done as often as the one that was done least; impossible where one is."""

    def __init__(self, kind: str, parts: list[Applied]) -> None:
        self.kind = kind
        self.parts = parts

    @property
    def count(self) -> int:  # type: ignore[override]
        return min((p.count for p in self.parts), default=0)

    @property
    def reason(self) -> str:  # type: ignore[override]
        return next((p.reason for p in self.parts if p.reason), "")


class Place:
    """file:line of an intervention's arguments. The file is compared by its name only: an experiment runs in a copy of
    the working tree, and a second file of that name with the same kind of call in the same line is not to be expected."""

    def __init__(self, file: Any, line: Any) -> None:
        self.file = os.path.basename(str(file))
        self.line = int(line)

    def is_at(self, frame: FrameType | None) -> bool:
        return frame is not None and self.names(frame.f_code.co_filename, frame.f_lineno)

    def names(self, file: str, line: int) -> bool:
        return line == self.line and os.path.basename(file) == self.file


def place_in(arguments: dict[str, Any], prefix: str = "") -> Place | None:
    """The line that an intervention's arguments name; None where they name none."""
    file, line = arguments.get(prefix + "file"), arguments.get(prefix + "line")
    return None if not file or line is None else Place(file, line)


def rounded(value: float) -> float:
    """A product as one would have written it: 0.0003 * 10 is 0.003, not 0.0029999999999999996."""
    return float(f"{value:.15g}")


def constructing(thing: Any) -> FrameType | None:
    """The user's frame that wrote `Thing(...)`: past every __init__ of the object itself."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        own = code.co_name == "__init__" and code.co_varnames and frame.f_locals.get(code.co_varnames[0]) is thing
        if not own and sites.owner(code.co_filename) == "user":
            return frame
        frame = frame.f_back
    return None
