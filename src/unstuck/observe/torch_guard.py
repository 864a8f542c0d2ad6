"""Runs our own code in the middle of somebody's training, and keeps the spy out of sight.

Whatever of ours runs while the script trains runs `guarded`: never re-entered, never seen by the spy, its errors noted
and kept from the user. The spy (see `torch_spy`) lies on torch's stack of modes only while a pass is to be seen closely.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from unstuck.observe import torch_probes, torch_spy
from unstuck.trace.facts import Run

MAX_OWN_ERRORS = 20
SPIED_PASSES = 2  # backward calls seen with every function's line


class Local(threading.local):
    """Per thread: are we inside a module call, a step, our own code?"""

    depth = 0
    in_step = 0
    in_backward = 0
    busy = False


class Guard:
    """What every part of an observer asks: is anything observed now, is this our own code, what does the spy do?

    `function_raised(error, func, args, kwargs)` is told of every exception of a torch function that the spy sees.
    """

    def __init__(self, run: Run, function_raised: Callable[..., None]) -> None:
        self.run = run
        self.active = False
        self.local = Local()
        self.lock = threading.RLock()
        self.spy = torch_spy.Spy(self.own_error, function_raised, self.local)
        self.spy_pushed = False
        self.spy_left = SPIED_PASSES  # passes that are still to be seen
        self.spied_passes = 0
        self.compiles = False
        self.packs = False  # saved-tensor hooks are in use: reading a saved tensor may run the user's code

    # ------------------------------------------------------------------ our own code

    def own_error(self, error: BaseException) -> None:
        """A bug of ours: noted; after twenty of them the observer steps aside."""
        frames = traceback.extract_tb(error.__traceback__)
        where = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
        self.run.own_errors.append(f"{type(error).__name__}: {error}"[:300] + where)
        if os.environ.get("UNSTUCK_DEBUG"):
            traceback.print_exception(error)
        if len(self.run.own_errors) >= MAX_OWN_ERRORS:
            self.active = False
            self.spy.on = False
            self.run.notes.append("observation was given up after twenty errors of our own")

    def guarded(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run our own code: never re-entered, never seen by the spy, errors kept from the user."""
        local = self.local
        if not self.active or local.busy:
            return None
        local.busy = True
        spying, self.spy.on = self.spy.on or not self.spy_pushed, False  # one that is pushed meanwhile is awake
        began = time.perf_counter()
        try:
            with self.lock:
                return work(*args)
        except Exception as error:
            self.own_error(error)
            return None
        finally:
            self.run.own_seconds += time.perf_counter() - began
            self.spy.on = spying and self.active and self.spy_pushed
            local.busy = False

    # ------------------------------------------------------------------ the spy

    def start_tape(self) -> None:
        """Record the next forward pass, so that its batch can be evaluated again."""
        self.push_spy()
        self.spy.noting = self.spy_left > 0
        if self.spy_pushed:
            self.spy.tape = torch_probes.Tape()

    def push_spy(self) -> None:
        """See the next pass closely, if another mode does not lie above."""
        self.spy.noting = True
        if not self.spy_pushed and not self.compiles and self.active and torch_spy.push(self.spy):
            self.spy_pushed = self.spy.on = True

    def rest_spy(self) -> None:
        """Take the spy off the stack where that is possible; where it is not, it is asleep at least."""
        if self.spy_pushed and self.spy_left <= 0 and self.spy.tape is None:
            self.drop_spy()

    def drop_spy(self) -> None:
        """Off the stack, or asleep where somebody's mode lies on it."""
        self.spy.on = False
        if torch_spy.pop(self.spy):
            self.spy_pushed = False
