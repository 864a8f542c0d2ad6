"""Runs gallery scripts of one backend one after the other in this process, each observed, and prints one JSON line for
each: importing a backend takes longer than a script. Usage: gallery_runner.py BACKEND SCRIPT..."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path


def main() -> None:
    os.environ["KERAS_BACKEND"] = sys.argv[1]
    from unstuck.engine import diagnose
    from unstuck.observe.launch import Target, observe
    from unstuck.trace.storage import read_run

    for script in sys.argv[2:]:
        with tempfile.TemporaryDirectory() as folder:
            with contextlib.redirect_stdout(io.StringIO()):
                seen = observe(Target("script", script, []), Path(folder) / "trace")
            training = diagnose(read_run(Path(folder) / "trace")).worst
        print(json.dumps({
            "script": Path(script).name, "symptom": training.symptom.name, "exit": seen.code, "own_errors": seen.run.own_errors,
            "findings": [(f.code, f.role, f.grade, [(Path(s.file).name, s.line) for s in f.locations]) for f in training.findings],
            "not_checked": {n.code: n.reason for n in training.not_checked}, "framework": seen.run.framework,
            "steps": training.steps if hasattr(training, "steps") else None,
        }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
