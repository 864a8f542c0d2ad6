"""Reads the code blocks of a Markdown page and runs them as a reader would: from top to bottom, in one folder.

- ```console: lines that begin with `$ ` are run by bash; lines below one are what it is said to print, standard output and
  error together, as sets of lines in order. `...` stands for anything. Times, folders named after the time and widths of
  rules are made equal; numbers may differ by a tenth, as they do from processor to processor.
- ```python: all blocks of a page share one namespace.
- `<!-- not run: why -->` on the line above excludes a block; the reason is asked for.
- ```text, ```json, ```yaml, ```toml are shown only.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```[ \t]*$", re.M | re.S)
EXCLUDED = re.compile(r"<!-- not run: (.+?) -->\s*$", re.S)
SHOWN = {"text", "json", "yaml", "toml"}
RUN = {"python", "console"}
# A command may end with these: a finding is no failure of the page.
FINE = {0, 11, 12}
# The command that README and first page show; it takes a while, so it is run once for all of them.
PROVE = "unstuck run --verify train.py"


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, its line in the page, and the reason why it is not run ('' if it is)."""

    language: str
    text: str
    line: int
    excluded: str


@dataclass(frozen=True)
class Command:
    """One `$ ` line with the output that is shown below it."""

    line: str
    shown: list[str]


def blocks(markdown: str) -> list[Block]:
    found = []
    for match in FENCE.finditer(markdown):
        above = EXCLUDED.search(markdown[: match.start()])
        text = "\n".join(line.removeprefix(match[1]) for line in match[3].splitlines())
        found.append(Block(match[2].strip(), text, markdown.count("\n", 0, match.start()) + 1, above[1] if above else ""))
    return found


def commands(text: str) -> list[Command]:
    """ValueError for a block that begins with something else than a command."""
    found: list[Command] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:], []))
        elif not found:
            raise ValueError(f"a console block begins with '$ ', not with {line!r}")
        else:
            found[-1].shown.append(line)
    return found


def run_page(markdown: str, folder: Path, known: Mapping[str, str] | None = None) -> int:
    """Runs every block of a page in `folder` and returns how many. AssertionError, with the line, for one that fails.

    known: command -> output, of commands that were run in an equal folder already.
    """
    known = known or {}
    names: dict[str, object] = {"__name__": "__page__"}
    count = 0
    for block in blocks(markdown):
        if block.excluded or block.language not in RUN:
            continue
        count += 1
        if block.language == "python":
            run_python(block, names, folder)
            continue
        for command in commands(block.text):
            printed = known.get(command.line) or run_command(command.line, folder, f"line {block.line}")
            if command.shown:
                wrong = difference(command.shown, printed)
                assert not wrong, f"line {block.line}: $ {command.line}\n{wrong}\nIt printed:\n{printed}"
    return count


def run_python(block: Block, names: dict[str, object], folder: Path) -> None:
    code = compile("\n" * block.line + block.text, "<page>", "exec")
    try:
        with _inside(folder), contextlib.redirect_stdout(io.StringIO()):
            exec(code, names)
    except Exception as error:
        raise AssertionError(f"line {block.line}: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """contextlib.chdir, which Python 3.10 has not."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def environment() -> dict[str, str]:
    """80 columns, no colour, one thread, no browser, and this Python's `unstuck` and `python` first on the PATH."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV_", "UNSTUCK"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return kept | {"PATH": path, "COLUMNS": "80", "NO_COLOR": "1", "OMP_NUM_THREADS": "1", "BROWSER": "true", "TERM": "dumb"}


def run_command(line: str, folder: Path, where: str = "") -> str:
    """What a line prints, standard error included."""
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        stdin=subprocess.DEVNULL, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode in FINE, f"{where}: $ {line}\nended with {done.returncode}:\n{done.stdout[-3000:]}"
    return done.stdout


def load(name: str) -> ModuleType:
    """A module of docs/, which is no package."""
    file = Path(__file__).resolve().parents[2] / "docs" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"docs_{name}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ------------------------------------------------------------------------------------------------------- comparing

NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?")


def normal(text: str) -> str:
    """Times, dated folders, rules of dashes and the breaking of lines made equal."""
    text = re.sub(r"\.unstuck/(\d{8}-\d{6}(-\d+)?|<time>)", ".unstuck/TIME", text)
    text = re.sub(r"\b\d+(\.\d+)? ?s\b", "TIME s", text)
    text = re.sub(r"─+", "─", text)
    return " ".join(text.split())


def difference(shown: list[str], printed: str) -> str:
    """'' where `printed` is what was shown; otherwise the first shown part that it does not hold.

    The parts between `...` must appear in this order. Without `...` at its start (end) the output must start (end) so.
    """
    parts: list[list[str]] = [[]]
    for line in shown:
        if line.strip() in {"...", "…"}:
            parts.append([])
        else:
            parts[-1].append(line)
    rest = normal(printed)
    for number, part in enumerate(parts):
        wanted = normal("\n".join(part))
        if not wanted:
            continue
        first, last = number == 0, number == len(parts) - 1
        end = _find(wanted, rest, start_only=first, end_only=last)
        if end is None:
            return "It does not print, at this place:\n" + "\n".join(part)
        rest = rest[end:].lstrip()
    if len(parts) == 1 and rest and parts[0]:
        return "It prints more than is shown:\n" + rest
    return ""


def _find(wanted: str, text: str, *, start_only: bool, end_only: bool) -> int | None:
    """End of the first place in `text` that reads as `wanted` with every number within a tenth; None if there is none."""
    pattern, numbers, at = "", [], 0
    for match in NUMBER.finditer(wanted):
        pattern += re.escape(wanted[at : match.start()]) + f"({NUMBER.pattern})"
        numbers.append(_value(match[0]))
        at = match.end()
    pattern += re.escape(wanted[at:])
    for found in re.finditer(f"(?={'^' if start_only else ''}{pattern}{'$' if end_only else ''})", text):
        values = [_value(v) for v in found.groups()]
        if all(abs(a - b) <= 0.1 * max(abs(a), abs(b)) + 1e-9 for a, b in zip(values, numbers)):
            return found.start() + len(re.match(pattern, text[found.start() :])[0])
    return None


def _value(text: str) -> float:
    return float(text.replace(",", ""))
