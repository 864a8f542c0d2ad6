"""unstuck: says that a classifier's training is stuck, why, and what to change.

Importing the package pulls in no framework and no numpy: `unstuck run` must not load anything before the observed
script does (a script may set OMP_NUM_THREADS first).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Diagnosis", "Trace", "__version__", "diagnose", "read_run"]

if TYPE_CHECKING:
    from unstuck.engine import diagnose
    from unstuck.findings import Diagnosis
    from unstuck.trace.storage import read_run
    from unstuck.trace.trace import Trace

_LAZY = {
    "Diagnosis": "unstuck.findings",
    "Trace": "unstuck.trace.trace",
    "diagnose": "unstuck.engine",
    "read_run": "unstuck.trace.storage",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'unstuck' has no attribute {name!r}")
