"""What of torch is replaced while a script is observed, and put back at the end."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


class Patches:
    """Replaced names, and how each is put back."""

    def __init__(self) -> None:
        self.restore: list[Callable[[], None]] = []

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Put `make(original)` in place of `owner.name`."""
        original = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
        replacement = functools.wraps(original)(make(original))
        setattr(owner, name, replacement)

        def back() -> None:
            current = owner.__dict__.get(name) if isinstance(owner, type) else getattr(owner, name)
            if current is replacement:  # somebody else may have wrapped it since: then ours must stay, and is inert
                setattr(owner, name, original)

        self.restore.append(back)

    def undo(self) -> None:
        """The last one first."""
        while self.restore:
            self.restore.pop()()
