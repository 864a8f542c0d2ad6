"""The catalogue in code: one file per diagnosis, each a pure function of a trace. No framework is known here.

There is no registration: the package is walked. A rule file holds its page (the module docstring), CODE, NEEDS,
`check(trace)`, and two synthetic traces, `sick()` and `healthy()`. Its name is its file's name. Optional: EXPLAINS, the
codes that become consequences where this finding stands; COSTLY, seconds are spent on the captured samples, so that the
rule is asked last and only where no certain cause was found; `in_order(trace)`, one sentence of negative evidence ('' for
none), asked when the rule found nothing.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from unstuck.findings import Finding
from unstuck.trace.trace import Trace

HEADINGS = (
    "What it means", "What is seen", "Why training gets stuck", "Fix", "Not to be confused with", "References",
)  # fmt: skip


class Rule(NamedTuple):
    """One diagnosis, as read from its file."""

    code: str
    name: str
    page: str
    needs: tuple[str, ...]
    check: Callable[[Trace], Finding | None]
    sick: Callable[[], Trace]
    healthy: Callable[[], Trace]
    summary: str
    explains: tuple[str, ...] = ()
    in_order: Callable[[Trace], str] = lambda trace: ""
    costly: bool = False


@cache
def rules() -> dict[str, Rule]:
    """All rules by code, in the order of their codes."""
    found = {}
    for package in pkgutil.iter_modules(__path__, __name__ + "."):
        if not package.ispkg:
            continue
        for module in pkgutil.iter_modules(importlib.import_module(package.name).__path__, package.name + "."):
            rule = _read(module.name)
            if rule.code in found:
                raise ValueError(f"{rule.code} is used by both {found[rule.code].name} and {rule.name}")
            found[rule.code] = rule
    return dict(sorted(found.items()))


def _read(module_name: str) -> Rule:
    module = importlib.import_module(module_name)
    name = module_name.rpartition(".")[2].replace("_", "-")
    page = (module.__doc__ or "").strip()
    return Rule(module.CODE, name, page, module.NEEDS, module.check, module.sick, module.healthy, page.split("\n", 1)[0],
                getattr(module, "EXPLAINS", ()), getattr(module, "in_order", lambda trace: ""),
                getattr(module, "COSTLY", False))  # fmt: skip
