"""unstuck explain CODE: a rule's page."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from unstuck.errors import UsageError


def explain(
    code: Annotated[str, typer.Argument(metavar="CODE", help="A code such as W101, or a name such as softmax-twice.")],
) -> None:
    """Print the page of a diagnosis."""
    from unstuck.rules import rules

    known = rules()
    rule = known.get(code.upper()) or next((r for r in known.values() if r.name == code.lower()), None)
    if rule is None:
        raise UsageError(f"{code}: no such diagnosis; 'unstuck rules' lists them")
    title = f"{rule.code} {rule.name}"
    print(f"{title}\n{'=' * len(title)}\n")
    print(re.sub(r"(?m)^## (.+)$", lambda m: f"{m[1]}\n{'-' * len(m[1])}", rule.page))
