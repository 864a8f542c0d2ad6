"""JSON, schema 1, written and read back. Numbers that are not finite become null: JSON has no NaN.

Reading is tolerant where a newer or older unstuck of the same schema may differ (fields it does not know are left out, fields
that are missing have their defaults) and strict where a wrong value would tell another story (grades, roles, verdicts).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

import msgspec

from unstuck.errors import UsageError
from unstuck.findings import (
    GRADES,
    ROLES,
    Diagnosis,
    Evidence,
    Excluded,
    Finding,
    Fix,
    NotChecked,
    Symptom,
    Training,
    Verdict,
)  # fmt: skip
from unstuck.trace.facts import Run, Site

SCHEMA = 1
_VERDICTS = ("supported", "refuted", "inconclusive", "not-verified")
_APPLICABILITY = ("safe", "unsafe", "display")
_Struct = TypeVar("_Struct", bound=msgspec.Struct)


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


# ---------------------------------------------------------------------------------------------------- reading back


def read(text: str) -> Diagnosis:
    """The diagnosis of a report that `render` wrote, of this schema or an older one; `record` is None.

    Raises UsageError, one sentence, for what is no JSON, no report, damaged, or of a newer schema. Not in the report, and so not
    in the diagnosis: the interventions of the fixes, the bearings, functions of the lines, the working directory, the sources.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise UsageError(f"not JSON{where}; a report is written by: unstuck run -o report.json train.py") from None
    schema = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1 or not {"trainings", "symptom"} & set(data):
        raise UsageError("JSON, but no report of unstuck; to read a log use: unstuck diagnose FILE")
    if schema > SCHEMA:
        raise UsageError(f"written by a newer unstuck (schema {schema}, this one reads up to {SCHEMA}); update this one")
    # The first reports of one training had no list of them: then the top level is the training.
    several = data.get("trainings", [data])
    trainings = [_read_training(t, f"trainings[{i}]") for i, t in enumerate(_objects(several, "trainings"))]
    if not trainings:
        raise UsageError("the report holds no training: none of its logs could be read")
    told = _object(data.get("run", {}), "run")
    return Diagnosis(_read_run(told), trainings, _text(told, "trace", "run"))


def _read_run(told: Mapping[str, Any]) -> Run:
    run = _struct(told, Run, "run")
    overhead = told.get("overhead")
    if isinstance(overhead, (int, float)) and not isinstance(overhead, bool) and overhead >= 1.0:
        run.own_seconds = run.seconds * (1.0 - 1.0 / overhead)
    return run


def _read_training(told: Mapping[str, Any], where: str) -> Training:
    symptom = dict(_object(told.get("symptom", {}), f"{where}.symptom"))
    # Lists of numbers have null where a number was not finite; half an interval is none.
    symptom["skill_interval"] = _interval(symptom.get("skill_interval"))
    shares = symptom.get("predicted_share")
    symptom["predicted_share"] = _numbers(shares, f"{where}.symptom.predicted_share") if shares is not None else None
    return Training(
        _struct(symptom, Symptom, f"{where}.symptom"),
        [_read_finding(f, f"{where}.findings[{i}]") for i, f in enumerate(_list(told, "findings", where))],
        [_struct(e, Excluded, f"{where}.excluded") for e in _list(told, "excluded", where)],
        [_struct(n, NotChecked, f"{where}.not_checked") for n in _list(told, "not_checked", where)],
        _text(told, "model", where),
        _number(told, "steps", where),
    )


def _read_finding(told: Mapping[str, Any], where: str) -> Finding:
    plain = {k: v for k, v in told.items() if k not in {"evidence", "locations", "fix", "verdict"}}
    plain["separating"] = plain.get("separating") or ""
    for field, known in (("grade", GRADES), ("role", ROLES)):
        _one_of(plain, field, known, where)
    finding = _struct(plain, Finding, where)
    finding.evidence = [_read_evidence(e, where) for e in _list(told, "evidence", where)]
    finding.locations = [_struct(s, Site, f"{where}.locations") for s in _list(told, "locations", where)]
    fix, verdict = told.get("fix"), told.get("verdict")
    if fix is not None:
        _one_of(_object(fix, f"{where}.fix"), "applicability", _APPLICABILITY, f"{where}.fix")
        finding.fix = _struct(fix, Fix, f"{where}.fix")
    if verdict is not None:
        finding.verdict = _read_verdict(_object(verdict, f"{where}.verdict"), f"{where}.verdict")
    return finding


def _read_evidence(told: Mapping[str, Any], where: str) -> Evidence:
    """A kind of source that is not known here is kept as it was written: it changes nothing of what is said."""
    source = _text(told, "source", f"{where}.evidence") or "graph"
    plain = _struct({k: v for k, v in told.items() if k != "source"}, Evidence, f"{where}.evidence")
    return msgspec.structs.replace(plain, source=source)


def _read_verdict(told: Mapping[str, Any], where: str) -> Verdict:
    _one_of(told, "name", _VERDICTS, where)
    curves = _object(told.get("curves", {}), f"{where}.curves")
    return _struct(
        {
            **told,
            "interval": _interval(told.get("interval")) or [],
            "curves": {name: _numbers(values, f"{where}.curves") for name, values in curves.items()},
        },
        Verdict,
        where,
    )


def _struct(told: Any, kind: type[_Struct], where: str) -> _Struct:
    """A struct of plain fields; fields it has not are left out, fields that are missing have their defaults."""
    try:
        return msgspec.convert(told, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        _damaged(where, str(error))


def _one_of(told: Mapping[str, Any], field: str, known: tuple[str, ...], where: str) -> None:
    if field in told and told[field] not in known:
        _damaged(where, f"{field} is {told[field]!r:.40}, not {', '.join(known[:-1])} or {known[-1]}")


def _object(told: Any, where: str) -> Mapping[str, Any]:
    return told if isinstance(told, dict) else _damaged(where, "not an object")


def _objects(told: Any, where: str) -> list[Mapping[str, Any]]:
    return [_object(t, where) for t in told] if isinstance(told, list) else _damaged(where, "not a list")


def _list(told: Mapping[str, Any], field: str, where: str) -> list[Mapping[str, Any]]:
    return _objects(told.get(field, []), f"{where}.{field}")


def _text(told: Mapping[str, Any], field: str, where: str) -> str:
    value = told.get(field, "")
    return value if isinstance(value, str) else _damaged(f"{where}.{field}", "not a text")


def _number(told: Mapping[str, Any], field: str, where: str) -> int:
    value = told.get(field, 0)
    return value if isinstance(value, int) and not isinstance(value, bool) else _damaged(f"{where}.{field}", "not a whole number")


def _numbers(told: Any, where: str) -> list[float]:
    if not isinstance(told, list):
        _damaged(where, "not a list")
    return [math.nan if value is None else value for value in told]


def _interval(told: Any) -> list[float] | None:
    return told if told and (not isinstance(told, list) or None not in told) else None


def _damaged(where: str, what: str) -> NoReturn:
    raise UsageError(f"damaged report: {where}: {what}")
