"""Runs every gallery script under `unstuck run` and prints which finding came first, as a confusion matrix.

    python benchmarks/detection.py [PATTERN ...] [-j 2] [--json FILE]

A sick script (gallery/CODE_name/sick_*.py) is right when its first finding has its folder's code; healthy twins and traps
are right when no finding has the role cause. The line is right when one of the finding's first two locations is the line
that carries the mark `# <- fault`. Exit code 1 when anything is wrong.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
GALLERY = ROOT / "gallery"
MARK = "# <- fault"


class Case(NamedTuple):
    """A gallery script and what is expected of it; `code` is '' for healthy scripts."""

    path: Path
    code: str

    @property
    def name(self) -> str:
        return str(self.path.relative_to(GALLERY))

    @property
    def line(self) -> int | None:
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return next((i for i, text in enumerate(lines, 1) if text.rstrip().endswith(MARK)), None)


class Result(NamedTuple):
    """What came out. `line_right` is None where the script marks no line."""

    case: Case
    first: str
    role: str
    causes: list[str]
    symptom: str
    right: bool
    line_right: bool | None
    seconds: float
    trouble: str
    lines: list[int]


def cases(patterns: list[str] | None = None) -> list[Case]:
    """All gallery scripts whose path contains one of the patterns."""
    found = []
    for path in sorted(GALLERY.rglob("*.py")):
        folder = path.parent.name
        if folder in {"traps", "demo"} or path.name.startswith("healthy_"):
            code = ""
        elif path.name.startswith("sick_"):
            code = folder.split("_", 1)[0]
        else:
            continue  # a helper module of a script
        if folder == "demo":
            continue
        if not patterns or any(p in str(path.relative_to(GALLERY)) for p in patterns):
            found.append(Case(path, code))
    return found


def observe(case: Case) -> Result:
    """Run one script under unstuck, in a scratch directory of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        began = time.monotonic()
        try:
            process = subprocess.run(
                [sys.executable, "-m", "unstuck", "run", "--quiet", "-o", str(report),
                 "--trace", f"{scratch}/trace", str(case.path)],
                cwd=scratch, env=environment, capture_output=True, text=True, timeout=120,
            )  # fmt: skip
            trouble = process.stderr.strip().rsplit("\n", 1)[-1] if not report.exists() else ""
        except subprocess.TimeoutExpired:
            trouble = "ran longer than two minutes"
        seconds = time.monotonic() - began
        if trouble:
            return Result(case, "-", "-", [], "-", False, None, seconds, trouble, [])
        return judge(case, json.loads(report.read_text()), seconds)


def judge(case: Case, document: dict[str, Any], seconds: float) -> Result:
    findings = document["findings"]
    first = findings[0] if findings else None
    causes = [f["code"] for t in document["trainings"] for f in t["findings"] if f["role"] == "cause"]
    lines = [place["line"] for place in (first["locations"] if first else [])[:2]]
    right = (first is not None and first["code"] == case.code) if case.code else not causes
    line_right = (case.line in lines) if case.code and case.line is not None and right else None
    own = "; ".join(document["run"]["own_errors"])
    return Result(
        case, first["code"] if first else "-", first["role"] if first else "-", causes, document["symptom"]["name"], right,
        line_right, seconds, own, lines,
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*")
    parser.add_argument("-j", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chosen = cases(options.patterns)
    with concurrent.futures.ThreadPoolExecutor(options.j) as pool:
        results = []
        for result in pool.map(observe, chosen):
            results.append(result)
            print(_line(result), flush=True)
    _matrix(results)
    wrong = [r for r in results if not r.right]
    lines = [r for r in results if r.line_right is not None]
    sick = [r for r in results if r.case.code]
    healthy = [r for r in results if not r.case.code]
    print(f"\nsick: {sum(r.right for r in sick)} of {len(sick)} with the right first finding")
    print(f"line: {sum(bool(r.line_right) for r in lines)} of {len(lines)} right findings name the marked line")
    print(f"healthy and traps: {sum(not r.right for r in healthy)} false causes in {len(healthy)} scripts")
    print(f"own errors: {sum(bool(r.trouble) for r in results)} scripts")
    if options.json:
        options.json.write_text(
            json.dumps([{**r._asdict(), "case": r.case.name, "expected": r.case.code} for r in results], indent=1)
        )
    return 1 if wrong else 0


def _line(r: Result) -> str:
    mark = "ok  " if r.right else "WRONG"
    place = "" if r.line_right is None else "" if r.line_right else f"  line {r.case.line} expected, {r.lines} given"
    trouble = f"  [{r.trouble}]" if r.trouble else ""
    expected = r.case.code or "none"
    return (
        f"{mark:5} {r.case.name:66} {expected:5} -> {r.first:5} {r.role:11} {r.symptom:12} {r.seconds:5.1f}s{place}{trouble}"
    )


def _matrix(results: list[Result]) -> None:
    """Rows: what is wrong with the script. Columns: the first finding (for healthy scripts: the first cause)."""
    table: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for r in results:
        said = r.first if r.case.code else (r.causes[0] if r.causes else "none")
        table[r.case.code or "healthy"][said] += 1
    print("\nConfusion matrix (expected: first finding x count)")
    for code in sorted(table):
        print(f"  {code:8} " + "  ".join(f"{said} x{n}" for said, n in table[code].most_common()))


if __name__ == "__main__":
    raise SystemExit(main())
