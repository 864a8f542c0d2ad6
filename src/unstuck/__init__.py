"""unstuck: says that a classifier's training is stuck, why, and what to change.

Importing the package pulls in no framework and no numpy: `unstuck run` must not load anything before the observed
script does (a script may set OMP_NUM_THREADS first).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Diagnosis", "Doctor", "LightningCallback", "Trace", "TrainerCallback", "__version__", "diagnose", "read_run", "watch",
]  # fmt: skip

if TYPE_CHECKING:
    from unstuck.doctor import Diagnosis, Doctor, diagnose, watch
    from unstuck.lightning import Callback as LightningCallback
    from unstuck.trace.storage import read_run
    from unstuck.trace.trace import Trace
    from unstuck.transformers import Callback as TrainerCallback

# name -> (module, its name there)
_LAZY = {
    "Diagnosis": ("unstuck.doctor", "Diagnosis"),
    "Doctor": ("unstuck.doctor", "Doctor"),
    "LightningCallback": ("unstuck.lightning", "Callback"),
    "Trace": ("unstuck.trace.trace", "Trace"),
    "TrainerCallback": ("unstuck.transformers", "Callback"),
    "diagnose": ("unstuck.doctor", "diagnose"),
    "read_run": ("unstuck.trace.storage", "read_run"),
    "watch": ("unstuck.doctor", "watch"),
}
_MODULES = ("keras", "testing")  # unstuck.keras.Callback, unstuck.testing.assert_learns without an import of their own


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _LAZY:
        module, there = _LAZY[name]
        return getattr(import_module(module), there)
    if name in _MODULES:
        return import_module(f"unstuck.{name}")
    raise AttributeError(f"module 'unstuck' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
