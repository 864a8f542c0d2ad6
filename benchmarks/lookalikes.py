"""Does verification change the answer where it should?

    python benchmarks/lookalikes.py [PATTERN ...] [--budget 60] [--no-twins] [-j 2] [--json FILE]

The scripts are gallery/lookalikes/RIGHT_not_OTHER_style.py: small trainings with one fault each, RIGHT, that leaves the same
traces as OTHER (or as nothing in particular). The line with the fault ends in `# <- fault: ` and what a healthy script has in its
place; the twin is the script with that line exchanged. For each script:

- twin: observed, it learns.
- before: the diagnosis is ambiguous: its only cause is not RIGHT (several causes, another one, or none).
- after `search.verify`, as `unstuck verify` calls it: RIGHT comes first, as a cause, supported; nothing else is left as a cause.

Prints the findings before and after and the counts with exact 95 % intervals. Exit code 1 only for errors of our own.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import detection
import verification

from unstuck.experiments import search
from unstuck.experiments.pool import LocalPool
from unstuck.findings import Finding, Training

SCRIPTS = detection.GALLERY / "lookalikes"
_NAME = re.compile(r"([A-Z]\d{3})_not_([A-Z]\d{3})_\w+")
_FAULT = re.compile(r"^(\s*).*?  # <- fault: (.+)$", re.MULTILINE)


def scripts(patterns: list[str] | None = None) -> list[tuple[Path, str, str]]:
    """(path, the right code, the code of its look-alike) of the scripts whose name contains one of the patterns."""
    found = []
    for path in sorted(SCRIPTS.glob("*.py")):
        named = _NAME.fullmatch(path.stem)
        if named and (not patterns or any(p in path.name for p in patterns)):
            found.append((path, *named.groups()))
    return found


def twin_of(source: str) -> str:
    """The script without its fault. Raises ValueError where not exactly one line is marked."""
    twin, count = _FAULT.subn(lambda m: m[1] + m[2], source)
    if count != 1:
        raise ValueError(f"{count} lines are marked as the fault")
    return twin


def causes(training: Training) -> list[str]:
    return [f.code for f in training.findings if f.role == "cause"]


def ambiguous(training: Training, right: str) -> bool:
    return causes(training) != [right]


def answered(training: Training, right: str) -> bool:
    """Is the right cause first, supported, and the only one left?"""
    first = training.findings[0] if training.findings else None
    proven = first is not None and first.verdict is not None and first.verdict.name == "supported"
    return proven and causes(training) == [right]


def told(findings: list[Finding]) -> list[str]:
    """The findings in their order: code, role, and the verdict where there is one."""
    return [f"{f.code} {f.role}" + (f" {f.verdict.name}" if f.verdict is not None else "") for f in findings]


def pair(path: Path, right: str, pool: LocalPool, budget: float, twins: bool = True) -> dict[str, Any]:
    """One script: what is said before and after, and whether its twin learns."""
    scratch = Path(tempfile.mkdtemp(prefix="lookalikes-"))
    row: dict[str, Any] = {"script": path.stem, "right": right}
    began = time.monotonic()
    try:
        if twins:
            healthy = scratch / f"{path.stem}_twin.py"
            healthy.write_text(twin_of(path.read_text(encoding="utf-8")), encoding="utf-8")
            (scratch / "twin").mkdir()
            row["twin"] = verification.look(healthy, scratch / "twin")[1].worst.symptom.name
        (scratch / "sick").mkdir()
        record, found = verification.look(path, scratch / "sick")
        row["symptom"], row["before"] = found.worst.symptom.name, told(found.worst.findings)
        row["ambiguous"] = ambiguous(found.worst, right)
        started = time.monotonic()
        search.verify(found, record, budget, pool)
        row["verified_in"] = round(time.monotonic() - started, 1)
        row["after"], row["answered"] = told(found.worst.findings), answered(found.worst, right)
        row["reason"] = next((f.verdict.reason for f in found.worst.findings if f.verdict is not None), "")
    except Exception:
        row["error"] = traceback.format_exc()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    row["seconds"] = round(time.monotonic() - began, 1)
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds for the verification of a script")
    parser.add_argument("--no-twins", action="store_true")
    parser.add_argument("-j", type=int, default=2)
    parser.add_argument("--json")
    options = parser.parse_args()
    detection.warm_up()
    rows = []
    with LocalPool(options.j) as pool:
        for path, right, _ in scripts(options.patterns or None):
            row = pair(path, right, pool, options.budget, not options.no_twins)
            rows.append(row)
            if "error" in row:
                print(f"{row['script']}: an error of our own\n{row['error']}", flush=True)
                continue
            state = "ambiguous, then " if row["ambiguous"] else "not ambiguous, then "
            print(f"{row['script']:36} {state}{'right' if row['answered'] else 'NOT right'} ({row['verified_in']:.0f} s)")
            print(f"  before  {row['symptom']}: {', '.join(row['before']) or 'nothing named'}")
            print(f"  after   {', '.join(row['after']) or 'nothing named'}")
            print(f"          {row['reason']}", flush=True)
            if row.get("twin", "learning") != "learning":
                print(f"  twin    {row['twin']}")
    whole = [r for r in rows if "error" not in r]
    unclear = [r for r in whole if r["ambiguous"]]
    right = sum(r["answered"] for r in unclear)
    print(f"ambiguous before: {len(unclear)} of {len(whole)}")
    print(f"of them right after verification: {right} of {len(unclear)}, {detection.share(right, len(unclear))}")
    twins = [r["twin"] for r in whole if "twin" in r]
    if twins:
        print(f"twins that learn: {twins.count('learning')} of {len(twins)}")
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return int(len(whole) < len(rows))


if __name__ == "__main__":
    raise SystemExit(main())
