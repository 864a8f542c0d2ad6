"""JSON, schema 1. Numbers that are not finite become null: JSON has no NaN."""

from __future__ import annotations

import json
import math
import os
from typing import Any

import msgspec

from unstuck.findings import Diagnosis, Finding, Training

SCHEMA = 1


def render(diagnosis: Diagnosis) -> str:
    return json.dumps(document(diagnosis), indent=1, ensure_ascii=False) + "\n"


def document(diagnosis: Diagnosis) -> dict[str, Any]:
    """The diagnosis as plain data; the top level repeats the worst training."""
    trainings = [_training(t) for t in diagnosis.trainings]
    run = diagnosis.run
    worst = diagnosis.worst
    rest = max(run.seconds - run.own_seconds, 1e-9)
    return _finite({
        "schema": SCHEMA,
        **trainings[0],
        "run": {
            "script": run.script,
            "arguments": run.arguments,
            "framework": run.framework,
            "python": run.python,
            "steps": worst.steps,
            "seconds": round(run.seconds, 3),
            "overhead": round(run.seconds / rest, 3) if run.seconds else None,
            "probe_seconds": round(run.probe_seconds, 3),
            "thorough_seconds": round(run.thorough_seconds, 3),
            "thorough_steps": round(run.thorough_steps, 1),
            "exit": run.exit,
            "own_errors": run.own_errors,
            "notes": run.notes,
            "exceptions": [msgspec.to_builtins(e) for e in run.exceptions],
            "trace": diagnosis.trace,
        },
        "trainings": trainings,
    })  # fmt: skip


def _training(training: Training) -> dict[str, Any]:
    symptom = msgspec.to_builtins(training.symptom)
    return {
        "symptom": symptom,
        "findings": [_finding(f) for f in training.findings],
        "excluded": [msgspec.to_builtins(e) for e in training.excluded],
        "not_checked": [msgspec.to_builtins(n) for n in training.not_checked],
        "model": training.name,
        "steps": training.steps,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    fix = finding.fix
    return {
        "code": finding.code,
        "name": finding.name,
        "grade": finding.grade,
        "role": finding.role,
        "summary": finding.summary,
        "evidence": [msgspec.to_builtins(e) for e in finding.evidence],
        "locations": [{"file": s.file, "line": s.line, "text": s.text} for s in finding.locations],
        "explains": finding.explains,
        "floor": finding.floor,
        "separating": finding.separating or None,
        "fix": None if fix is None else {"summary": fix.summary, "applicability": fix.applicability, "diff": fix.diff},
        "verdict": None if finding.verdict is None else msgspec.to_builtins(finding.verdict),
    }


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value
