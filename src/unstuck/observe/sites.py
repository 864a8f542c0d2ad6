"""Lines of the user's code: which frame of the stack is theirs."""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
from functools import cache
from types import FrameType, TracebackType

from unstuck.trace.facts import Site

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STDLIB = tuple(
    os.path.normcase(os.path.abspath(p)) + os.sep
    for p in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    if p
)
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


@cache
def owner(file: str) -> str:
    """'ours', 'torch', 'library' or 'user'."""
    path = os.path.abspath(file)
    if path.startswith(_OURS):
        return "ours"
    if file.startswith("<") and file not in {"<string>", "<stdin>"} and not file.startswith("<ipython"):
        return "library"
    if any(part in path for part in _INSTALLED):
        return "torch" if f"{os.sep}torch{os.sep}" in path else "library"
    if path.startswith(_STDLIB):
        return "library"
    return "user"


def caller(depth: int = 1) -> FrameType | None:
    """The innermost frame of user code; where there is none, the innermost that is neither ours nor torch's."""
    frame: FrameType | None = sys._getframe(depth)
    library = None
    while frame is not None:
        match owner(frame.f_code.co_filename):
            case "user":
                return frame
            case "library" if library is None:
                library = frame
        frame = frame.f_back
    return library


def site(frame: FrameType | None) -> Site | None:
    return None if frame is None else at(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)


def at(file: str, line: int, function: str = "") -> Site:
    return Site(shown(file), line, linecache.getline(file, line).strip()[:200], function)


def shown(file: str) -> str:
    """Relative to the working directory where it lies below it; In[4] for a notebook's cell."""
    return _cell(file) or _relative(file)


def _cell(file: str) -> str:
    """The cell that was compiled under this name; '' where it is none. IPython alone knows: the name is a hash of the code,
    so the same code run again has the same name and another number, and nothing may be remembered."""
    ipython = sys.modules.get("IPython")
    if ipython is None:
        return ""
    try:
        shell = ipython.get_ipython()
        told = shell.compile.format_code_name(file) if shell is not None else None
    except Exception:  # an older one, or one that is being set up
        return ""
    return str(told[1]) if told is not None and told[0] == "Cell" else ""


@cache
def _relative(file: str) -> str:
    path = os.path.abspath(file)
    here = os.getcwd() + os.sep
    return path[len(here) :] if path.startswith(here) else file


def raised_at(traceback: TracebackType | None) -> tuple[Site | None, Site | None]:
    """(innermost user line of a traceback, outermost user line)."""
    user = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if owner(code.co_filename) == "user":
            user.append(at(code.co_filename, traceback.tb_lineno, code.co_name))
        traceback = traceback.tb_next
    return (user[-1], user[0]) if user else (None, None)
