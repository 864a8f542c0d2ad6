"""Who may import whom: the table of the house, kept true by reading the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import unstuck

SOURCE = Path(unstuck.__file__).parent
# room -> rooms of ours it may import. A room may always import itself and `errors`.
LAW = {
    "trace": set(),
    "findings": {"trace"},
    "theory": set(),
    "stats": set(),
    "losses": set(),
    "symptom": {"trace", "findings", "theory", "stats"},
    "rules": {"trace", "findings", "theory", "stats", "symptom"},
    "engine": {"trace", "findings", "symptom", "rules"},
    "observe": {"trace", "losses"},
    "experiments": {"trace", "findings", "stats", "symptom", "engine", "observe"},
    "repair": {"trace", "findings"},
    "report": {"trace", "findings", "engine"},
    "keras": {"observe", "engine", "report", "trace", "findings"},
    "doctor": {"observe", "engine", "symptom", "report", "trace", "findings"},
    "lightning": {"observe", "doctor"},
    "transformers": {"observe", "doctor"},
    "testing": {"doctor", "observe", "report", "findings"},
    "cli": {"trace", "findings", "theory", "stats", "symptom", "rules", "engine", "observe", "report", "experiments", "repair"},
}
FRAMEWORKS = {"torch", "tensorflow", "keras", "jax", "lightning", "transformers"}


def imports(file: Path) -> list[tuple[str, int]]:
    """(module, line) of every import of a file."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "unstuck" else [node.module]
            found += [(name, node.lineno) for name in names]
    return found


def room(file: Path) -> str:
    part = file.relative_to(SOURCE).parts[0]
    return part.removesuffix(".py")


def test_imports_follow_the_law() -> None:
    wrong = []
    for file in SOURCE.rglob("*.py"):
        here = room(file)
        if here in {"__init__", "__main__"}:
            continue
        for module, line in imports(file):
            parts = module.split(".")
            if (
                parts[0] == "unstuck"
                and len(parts) > 1
                and parts[1] not in {here, "errors", "__version__"} | LAW.get(here, set())
            ):
                wrong.append(f"{file}:{line}: {here} may not import {module}")
    assert not wrong, "\n".join(wrong)


def test_frameworks_are_imported_in_observe_only_each_in_its_own_files() -> None:
    """And in what runs in the processes of an experiment, which are there to run a script of that framework; the losses are
    torch's own kind of thing."""
    arms = ("interventions", "patches", "arm")
    wrong = []
    for file in SOURCE.rglob("*.py"):
        for module, line in imports(file):
            framework = module.split(".")[0]
            if framework in FRAMEWORKS and not (
                (room(file) == "observe" and (file.stem.startswith(framework) or file.stem == "launch"))
                or (room(file) == "experiments" and file.stem.split("_")[0] in arms)
                or (room(file) == "losses" and framework == "torch")
            ):
                wrong.append(f"{file}:{line}: imports {module}")
    assert not wrong, "\n".join(wrong)


def test_every_room_of_the_law_exists_and_every_room_has_a_law() -> None:
    rooms = {room(f) for f in SOURCE.rglob("*.py")} - {"__init__", "__main__", "errors"}
    assert rooms <= set(LAW)
    assert rooms >= {"trace", "findings", "theory", "stats", "rules", "engine", "observe", "report", "cli"}


def test_importing_the_package_or_the_launcher_pulls_in_no_framework_and_no_numpy() -> None:
    """A script may set OMP_NUM_THREADS before its first import of numpy; we must not have been there before it."""
    names = sorted(FRAMEWORKS | {"numpy", "scipy"})
    code = f"import unstuck, unstuck.observe.launch, sys; print(*sorted(set(sys.modules) & set({names})))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == ""


def test_nothing_is_pickled() -> None:
    used = [
        f"{f}:{line}"
        for f in SOURCE.rglob("*.py")
        for m, line in imports(f)
        if m.split(".")[0] in {"pickle", "marshal", "shelve"}
    ]
    assert not used
