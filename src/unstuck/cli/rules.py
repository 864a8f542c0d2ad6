"""unstuck rules: the list of diagnoses."""

from __future__ import annotations

import json as json_module
from typing import Annotated

import typer


def rules(
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List all diagnoses."""
    from unstuck.rules import rules as all_rules

    if json:
        rows = [{"code": r.code, "name": r.name, "summary": r.summary, "needs": list(r.needs)} for r in all_rules().values()]
        print(json_module.dumps(rows, indent=1))
        return
    for rule in all_rules().values():
        print(f"{rule.code}  {rule.name:32} {rule.summary}"[:80].rstrip())
    print("\nNext: unstuck explain CODE")
