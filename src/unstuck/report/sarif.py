"""SARIF 2.1.0: the findings at their lines, for code hosting and editors.

One run. Paths are relative to the working directory of the training and stand on %SRCROOT%, which the reader of the file sets:
no path of the machine is in it. A certain cause is an error, a likely one a warning, all else a note. The same finding of several
trainings of a script is one result. A rule that could not be asked is a notification, not silence.

OASIS Standard "Static Analysis Results Interchange Format (SARIF) Version 2.1.0" with Errata 01, 28 August 2023; sections in
the comments are its.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any
from urllib.parse import quote

import unstuck
from unstuck.findings import Diagnosis, Finding, Training
from unstuck.report import Catalogue, words
from unstuck.trace.facts import Site

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
ROOT = "%SRCROOT%"
_LEVELS = ("error", "warning", "note")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


def render(diagnosis: Diagnosis, catalogue: Catalogue | None = None) -> str:
    """catalogue: the pages of the rules; without it a rule is described by what its finding says."""
    return json.dumps(document(diagnosis, catalogue or {}), indent=1, ensure_ascii=False) + "\n"


def document(diagnosis: Diagnosis, catalogue: Catalogue) -> dict[str, Any]:
    """The log file as plain data."""
    found = _merged(diagnosis)
    # A report has no line to show where a training runs from -c, or where a finding is about what is not there: then the script.
    script = diagnosis.run.script
    fallback = Site(script, 0) if script.endswith(".py") and not script.startswith("-") else None
    unasked = {n.code: n.reason for t in diagnosis.trainings if t.symptom.judged for n in t.not_checked}
    for finding, _ in found:
        unasked.pop(finding.code, None)
    rules = [_rule(f.code, catalogue, f) for f in {f.code: f for f, _ in found}.values()]
    rules += [_rule(code, catalogue, None) for code in unasked]
    places = {rule["id"]: i for i, rule in enumerate(rules)}
    run = {
        "tool": {"driver": {"name": "unstuck", "semanticVersion": unstuck.__version__, "rules": rules}},
        "automationDetails": {"id": f"unstuck/{quote(_relative(script) or 'training', safe='/')}/"},  # 3.17.3: ends with a slash
        "originalUriBaseIds": {ROOT: {"description": {"text": "The directory in which the script was started."}}},
        "columnKind": "unicodeCodePoints",
        "invocations": [_invocation(diagnosis, unasked, places)],
        "results": [_result(f, t, places[f.code], fallback) for f, t in found],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _merged(diagnosis: Diagnosis) -> list[tuple[Finding, Training]]:
    """Each fault at a place once, at its most serious; in the order of the report."""
    seen: dict[tuple[str, tuple[tuple[str, int], ...]], tuple[Finding, Training]] = {}
    for training in diagnosis.trainings:
        for finding in training.findings:
            key = (finding.code, tuple((s.file, s.line) for s in finding.locations[:1]))
            if key not in seen or _LEVELS.index(level(finding)) < _LEVELS.index(level(seen[key][0])):
                seen[key] = (finding, training)
    return list(seen.values())


def level(finding: Finding) -> str:
    """error, warning or note."""
    if finding.role != "cause":
        return "note"
    return {"certain": "error", "likely": "warning"}.get(finding.grade, "note")


def _rule(code: str, catalogue: Catalogue, finding: Finding | None) -> dict[str, Any]:
    """A reportingDescriptor (3.49); its help is the rule's page where something was found."""
    entry = catalogue.get(code)
    name = entry.name if entry is not None else finding.name if finding is not None else ""
    rule: dict[str, Any] = {"id": words.line(code)}
    if name:
        rule["name"] = "".join(part.capitalize() for part in re.findall(r"\w+", name))  # 3.49.7: Pascal case
    if entry is None:
        if finding is not None:
            rule["shortDescription"] = _message(finding.summary)
            rule["help"] = _message(f"More: unstuck explain {code}")
        return rule
    first, _, page = entry.page.partition("\n")
    rule["shortDescription"] = _message(first)
    rule["properties"] = {"tags": [entry.room]}
    if finding is not None:
        meaning = re.search(r"(?ms)^## What it means\n(.*?)(?=^## |\Z)", page)
        if meaning is not None:
            rule["fullDescription"] = _message(meaning[1])
        more = f"unstuck explain {code}"
        rule["help"] = {
            "text": _plain(f"{entry.page.strip()}\n\nMore: {more}"),
            "markdown": _plain(f"{entry.page.strip()}\n\nMore: `{more}`"),
        }
    return rule


def _result(finding: Finding, training: Training, rule: int, fallback: Site | None) -> dict[str, Any]:
    sites = finding.locations or ([fallback] if fallback is not None else [])
    result: dict[str, Any] = {
        "ruleId": words.line(finding.code),
        "ruleIndex": rule,
        "level": level(finding),
        "message": _message(_said(finding)),
        "locations": [location for site in sites[:1] if (location := _location(site))],
        "partialFingerprints": {"unstuckLine/v1": fingerprint(finding)},
        "properties": {"grade": finding.grade, "role": finding.role, "training": words.line(training.name)},
    }
    related = [{**location, "id": i} for i, site in enumerate(sites[1:], 1) if (location := _location(site))]
    if related:
        result["relatedLocations"] = related
    if finding.verdict is not None:
        result["properties"]["verdict"] = finding.verdict.name
    fix = finding.fix
    changes = _changes(fix.diff) if fix is not None and fix.diff else []
    if fix is not None and changes:
        asked = " It needs your decision: it changes more than the fault." if fix.applicability == "unsafe" else ""
        result["fixes"] = [{"description": _message(fix.summary + asked), "artifactChanges": changes}]
    return result


def _said(finding: Finding) -> str:
    """The summary first: a narrow view shows one sentence."""
    parts = [finding.summary, *(item.text for item in finding.evidence)]
    if finding.fix is not None:
        parts.append(f"Fix: {finding.fix.summary}")
    if finding.verdict is not None:
        parts.append(words.verdict(finding.verdict))
    return "\n".join(words.line(part) for part in parts)


def fingerprint(finding: Finding) -> str:
    """Tells a finding from others although lines move: code, file and the text of its line, without its number."""
    site = finding.locations[0] if finding.locations else Site("", 0)
    parts = [finding.code, _relative(site.file), " ".join(site.text.split())]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:32]


def _location(site: Site) -> dict[str, Any]:
    """A physicalLocation (3.29); empty for code that is in no file."""
    artifact = _artifact(site.file)
    if not artifact:
        return {}
    place: dict[str, Any] = {"artifactLocation": artifact}
    if site.line >= 1:
        text = words.code(site.text)
        place["region"] = {"startLine": site.line, **({"snippet": {"text": text}} if text else {})}
    return {"physicalLocation": place}


def _artifact(file: str) -> dict[str, Any]:
    if not file or file.startswith("<"):
        return {}
    relative = _relative(file)
    if relative.startswith("/") or _DRIVE.match(relative):
        return {"uri": "file:///" + _quoted(relative.lstrip("/"))}
    return {"uri": _quoted(relative), "uriBaseId": ROOT}


def _relative(file: str) -> str:
    """With forward slashes and without a leading ./"""
    windows = _DRIVE.match(file) or "/" not in file
    return re.sub(r"^(\./)+", "", file.replace("\\", "/") if windows else file)


def _quoted(path: str) -> str:
    """As a relative reference (RFC 3986): bytes that are no text are kept, a colon in the first part is no scheme."""
    return quote(path, safe="/", errors="surrogateescape")


def _message(text: str) -> dict[str, str]:
    """A message whose text has no placeholder (3.11.5) and no link (3.11.6)."""
    return {"text": re.sub(r"\[(?=[^\[\]]*\]\()", r"\\[", _plain(text).strip().replace("{", "{{").replace("}", "}}"))}


def _plain(text: str) -> str:
    return words.visible(text, keep="\n")


def _invocation(diagnosis: Diagnosis, unasked: dict[str, str], places: dict[str, int]) -> dict[str, Any]:
    """How it went (3.20): what could not be asked and what of ours failed. That the script failed is not our failure."""
    run = diagnosis.run
    told: list[dict[str, Any]] = [
        {
            "level": "note",
            "message": _message(f"{code} was not checked: {reason}"),
            "associatedRule": {"id": words.line(code), "index": places[code]},
        }
        for code, reason in unasked.items()
    ]
    told += [{"level": "none", "message": _message(note)} for note in run.notes]
    told += [{"level": "error", "message": _message(f"A part of unstuck failed: {error}")} for error in run.own_errors]
    worst = diagnosis.worst
    facts = {
        "script": words.script(diagnosis), "framework": words.line(run.framework), "steps": worst.steps,
        "state": worst.symptom.name, "loss": _finite(worst.symptom.loss), "chance": _finite(worst.symptom.chance),
    }  # fmt: skip
    return {"executionSuccessful": True, "toolExecutionNotifications": told, "properties": facts}


def _finite(value: float | None) -> float | None:
    return value if value is not None and abs(value) < float("inf") else None  # NaN fails the comparison too


# ------------------------------------------------------------------------------------------------------------ fixes


def _changes(diff: str) -> list[dict[str, Any]]:
    """The artifactChanges (3.56) of a unified diff: one replacement for each run of lines that changes, whole lines at a time.

    What is inserted must stand there as it is, escapes would be another program: none for a diff that is no Unicode text.
    """
    if any("\ud800" <= c <= "\udfff" for c in diff):
        return []
    changes: list[dict[str, Any]] = []
    rows = re.findall(r"[^\n]*\n|[^\n]+", diff)
    number, open_run = 0, None  # number: of the old file, the line that comes next
    old_left = new_left = 0
    for i, row in enumerate(rows):
        head = _HUNK.match(row)
        if old_left <= 0 and new_left <= 0 and head is not None:
            old_left, new_left = (int(n) if n is not None else 1 for n in (head[2], head[4]))
            number = int(head[1]) + (old_left == 0)  # an insertion names the line before it
            open_run = None
        elif old_left <= 0 and new_left <= 0 and row.startswith("--- "):
            artifact = _artifact(row[4:].rstrip("\r\n").partition("\t")[0])
            if not artifact:
                return []
            changes.append({"artifactLocation": artifact, "replacements": []})
        elif not changes or row.startswith("\\") or old_left + new_left <= 0:
            continue  # "+++ file", "\ No newline at end of file"
        elif row[0] == " " or row[0] in "\r\n":
            number, old_left, new_left, open_run = number + 1, old_left - 1, new_left - 1, None
        else:
            # The last line of a file may have no end of line; the diff says so in the row after it.
            bare = i + 1 < len(rows) and rows[i + 1].startswith("\\")
            text = row[1:].rstrip("\n") if bare else row[1:]
            if open_run is None:
                region = {"startLine": number, "startColumn": 1, "endLine": number, "endColumn": 1}
                open_run = {"deletedRegion": region, "insertedContent": {"text": ""}}
                changes[-1]["replacements"].append(open_run)
            if row[0] == "-":
                number, old_left = number + 1, old_left - 1
                end = {"endLine": number - 1, "endColumn": len(text) + 1} if bare else {"endLine": number, "endColumn": 1}
                open_run["deletedRegion"].update(end)
            else:
                open_run["insertedContent"]["text"] += text
                new_left -= 1
    return [change for change in changes if change["replacements"]]
