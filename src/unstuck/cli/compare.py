"""unstuck compare A B: what is different between two runs, and which findings went away, came or stayed."""

from __future__ import annotations

import json
import math
import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from unstuck.errors import UsageError
from unstuck.report import save, words

if TYPE_CHECKING:
    from unstuck.findings import Diagnosis, Finding, Symptom, Training
    from unstuck.trace.facts import Facts, LabelStats, LossTerm, Optimizer

WIDTH = 80
_SCALE = 0.05  # relative: the scale of inputs that two runs drew in another order
_SHARES = 4.5  # standard errors between the shares of a label; over a thousand labels fewer than one in a hundred by chance
_OF_FACTS = (
    "weights", "loss options", "path to the head", "optimizer", "learning rate", "gradient clipping", "batch size", "shuffled",
    "inputs", "scale of inputs", "labels", "shares of labels", "dropout", "frozen tensors",
)  # fmt: skip
# State -> what B does, what A did, what both do.
_STATES = {
    "learning": ("learns", "learned", "learn"),
    "at-chance": ("is at chance", "was at chance", "are at chance"),
    "at-prior": ("is at the base rates", "was at the base rates", "are at the base rates"),
    "above-chance": ("is worse than guessing", "was worse than guessing", "are worse than guessing"),
    "plateau": ("is on a plateau", "was on a plateau", "are on a plateau"),
    "constant": ("has a constant loss", "had a constant loss", "have a constant loss"),
    "diverging": ("diverges", "diverged", "diverge"),
    "non-finite": ("is not a number", "was not a number", "are not a number"),
    "slow": ("learns slowly", "learned slowly", "learn slowly"),
    "at-chance-so-far": ("is at chance so far", "was at chance so far", "are at chance so far"),
    "too-early": ("is too short to say", "was too short to say", "are too short to say"),
    "not-judged": ("is not judged", "was not judged", "are not judged"),
    "no-training": ("trains nothing", "trained nothing", "train nothing"),
}  # fmt: skip


class Aspect(NamedTuple):
    """One thing that two runs have, as text."""

    what: str
    a: str
    b: str


@dataclass
class Side:
    """One run: what is said of it, and what is known of the training that is compared."""

    name: str
    diagnosis: Diagnosis
    training: Training
    facts: Facts | None = None


@dataclass
class Comparison:
    """What came out. Findings are those of B, of A where they are gone."""

    verdict: str  # one sentence
    changed: list[Aspect]
    same: list[str]
    not_compared: dict[str, str]  # what -> why
    gone: list[Finding]
    came: list[Finding]
    stay: list[tuple[Finding, Finding]]  # in A, in B
    unknown: list[Finding]  # in A; B could not ask
    notes: list[str]


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="The run before: a trace directory, or a report saved as JSON.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The run after.")],
    output: Annotated[
        list[str] | None, typer.Option("-o", "--output", metavar="FILE", help="Write the comparison to FILE (.json or .txt).")
    ] = None,
) -> None:
    """Say what changed between two runs, and which findings went away, came or stayed. Exit codes as of diagnose, for B."""
    for file in output or []:
        _check(file)
    first, second = side(a), side(b)
    result = between(first, second)
    text = render(first, second, result)
    print(text, end="")
    for file in output or []:
        save(as_json(first, second, result) if Path(file).suffix.lower() == ".json" else text, file)
        print(f"  Report: {file}")
    raise typer.Exit(second.diagnosis.exit_code)


def _check(file: str) -> None:
    from unstuck.report import check_writable

    if Path(file).suffix.lower() not in {".json", ".txt"}:
        raise UsageError(f"{file}: a comparison is written as .json or .txt")
    check_writable(file)


def side(name: str) -> Side:
    """Read a trace directory or a saved report. Raises UsageError."""
    from unstuck.cli.report import load

    diagnosis = load(name)
    return Side(name, diagnosis, diagnosis.worst, _facts(diagnosis))


def _facts(diagnosis: Diagnosis) -> Facts | None:
    """The facts of the worst training: the diagnosis has its trainings in another order than the record."""
    from unstuck.rules.levels import steps

    if diagnosis.record is None:
        return None
    worst = diagnosis.worst
    return next((t.facts for t in diagnosis.record.traces if (t.facts.name, steps(t)) == (worst.name, worst.steps)), None)


# ---------------------------------------------------------------------------------------------------- the comparison


def between(a: Side, b: Side) -> Comparison:
    """What is different from A to B."""
    changed, same, not_compared = [], [], {}
    for (what, one), (_, other) in zip(_aspects(a), _aspects(b)):
        if one is None or other is None:
            not_compared[what] = _why_not(a if one is None else b)
        elif one == other or _near(what, a.facts, b.facts):
            if one or other:
                same.append(what)
        else:
            changed.append(Aspect(what, one or "none", other or "none"))
    options = _options_changed(a, b)
    changed += options
    if not options and a.facts is not None and b.facts is not None:
        same.append("options of the optimizer")
    files, quiet, unknown = _sources(a, b)
    changed += files
    same += quiet
    not_compared |= unknown
    in_a, in_b = ({f.code: f for f in s.training.findings} for s in (a, b))
    unasked = {n.code for n in b.training.not_checked} | (set(in_a) if b.training.symptom.name == "no-training" else set())
    left = [f for code, f in in_a.items() if code not in in_b]
    result = Comparison(
        "", changed, same, not_compared, gone=[f for f in left if f.code not in unasked],
        came=[f for code, f in in_b.items() if code not in in_a], stay=[(in_a[c], f) for c, f in in_b.items() if c in in_a],
        unknown=[f for f in left if f.code in unasked], notes=_notes(a, b),
    )  # fmt: skip
    result.verdict = _verdict(a, b, result)
    return result


def _why_not(one: Side) -> str:
    if one.diagnosis.record is not None:
        return "no training was seen"
    return "a saved report does not hold it: compare trace directories"


def _verdict(a: Side, b: Side, result: Comparison) -> str:
    """B learns, A was at chance; gone: W101."""
    before, after = _state(a), _state(b)
    now, _, both = _STATES.get(after, (after,) * 3)
    _, was, _ = _STATES.get(before, (before,) * 3)
    parts = [f"A and B both {both}" if before == after else f"B {now}, A {was}"]
    for title, group in (("gone", result.gone), ("new", result.came)):
        codes = [f.code for f in group if f.role in {"cause", "latent"}]
        if codes:
            parts.append(f"{title}: {', '.join(codes)}")
    causes = [f.code for _, f in result.stay if f.role == "cause"]
    if causes:
        parts.append(f"still: {', '.join(causes)}")
    if result.unknown:
        parts.append(f"not checked in B: {', '.join(f.code for f in result.unknown)}")
    return words.line("; ".join(parts)) + "."


def _state(one: Side) -> str:
    so_far = one.training.symptom.name == "too-early" and words.headline(one.training) == words.SO_FAR
    return "at-chance-so-far" if so_far else one.training.symptom.name


def _notes(a: Side, b: Side) -> list[str]:
    notes = []
    for letter, one in (("A", a), ("B", b)):
        count = len(one.diagnosis.trainings)
        if count > 1:
            name = f" ({words.line(one.training.name)})" if one.training.name else ""
            notes.append(f"{letter} has {count} trainings; compared is the worst one{name}.")
    if a.training.steps and b.training.steps and not 0.5 <= a.training.steps / b.training.steps <= 2.0:
        notes.append(f"A ran {a.training.steps:,} steps, B {b.training.steps:,}: their losses are not those of the same moment.")
    return notes


def _aspects(one: Side) -> Iterator[tuple[str, str | None]]:
    """(what, value as text); '' where there is none of it, None where it is not known."""
    run, facts = one.diagnosis.run, one.facts
    yield "script", run.script
    yield "arguments", shlex.join(run.arguments)
    yield "framework", run.framework
    yield "python", run.python
    yield "loss", one.training.symptom.loss_kind
    yield "model", one.training.name
    if facts is None:
        yield from dict.fromkeys(_OF_FACTS).items()
        return
    term = facts.term
    yield "weights", _weights(facts)
    yield "loss options", _loss_options(term)
    yield "path to the head", _path(term)
    stepping = [o for o in facts.optimizers if o.steps]
    yield "optimizer", ", ".join(o.kind for o in stepping) or ("updates by hand" if facts.loop.functional else "")
    yield "learning rate", ", ".join(_rate(o) for o in stepping)
    yield "gradient clipping", ", ".join(f"{c.kind} {c.threshold:g}" for c in facts.clippings)
    yield "batch size", _batch(facts)
    yield "shuffled", ", ".join(dict.fromkeys({True: "yes", False: "no", None: "unknown"}[x.shuffled] for x in facts.loaders))
    yield "inputs", ", ".join(f"{x.kind} {x.dtype} {_shape(x.shape)}" for x in facts.inputs)
    yield "scale of inputs", ", ".join(f"rms {x.rms:.3g}" for x in facts.inputs if x.rms is not None)
    yield "labels", _labels(term)
    yield "shares of labels", _shares(term.labels) if term is not None else ""
    yield "dropout", ", ".join(f"{m.p:g}" for m in facts.modes if m.kind == "dropout" and m.p is not None)
    frozen = sum(not p.trainable for p in facts.parameters)
    yield "frozen tensors", str(frozen) if frozen else ""


def _weights(facts: Facts) -> str:
    if facts.parameters_total != len(facts.parameters):
        return f"{facts.parameters_total} tensors"
    return f"{sum(math.prod(p.shape) for p in facts.parameters):,} in {len(facts.parameters)} tensors"


def _loss_options(term: LossTerm | None) -> str:
    if term is None:
        return ""
    told = [term.reduction] if term.reduction else []
    if term.sign < 0:
        told.append("sign flipped")
    if term.ignore_index not in {None, -100}:
        told.append(f"ignores label {term.ignore_index}")
    if term.label_smoothing:
        told.append(f"label smoothing {term.label_smoothing:g}")
    for what, weights in (("class weights", term.weight), ("weights of positives", term.pos_weight)):
        if weights:
            shown = ", ".join(f"{w:.3g}" for w in weights[:8])
            told.append(f"{what} [{shown}{', ...' if len(weights) > 8 else ''}]")
    if term.sample_weighted:
        told.append("weights for each sample")
    return ", ".join(told)


def _path(term: LossTerm | None) -> str:
    """In the order of the forward pass: linear 5 -> softmax over axis 1 -> cross-entropy."""
    if term is None:
        return ""
    steps = []
    for node in reversed(term.path):
        text = node.op
        if node.dim is not None:
            text += f" over axis {node.dim}"
        elif node.parameters and node.shape:
            text += f" {node.shape[-1]}"
        elif node.scale is not None:
            text += f" {node.scale:g}"
        steps.append(text)
    return " -> ".join([*(["..."] if term.path_end not in {"parametric", ""} else []), *steps, term.kind])


def _rate(optimizer: Optimizer) -> str:
    first, largest, last = (
        f"{rate:.4g}" if rate is not None else "" for rate in (optimizer.lr_first, optimizer.lr_largest, optimizer.lr_last)
    )
    if first == last == largest:
        return first
    return f"{first} to {last}" + (f", at most {largest}" if largest not in {first, last} else "")


def _options_changed(a: Side, b: Side) -> list[Aspect]:
    """Options of the optimizers that step; of one that was exchanged for another kind, those that both have."""
    if a.facts is None or b.facts is None:
        return []
    pairs = [[o for o in facts.optimizers if o.steps] for facts in (a.facts, b.facts)]
    changed = []
    for number, (one, other) in enumerate(zip(*pairs), 1):
        before, after = _options(one), _options(other)
        names = [n for n in before if n in after] if one.kind != other.kind else [*before, *(n for n in after if n not in before)]
        which = f" (optimizer {number})" if len(pairs[0]) > 1 else ""
        changed += [
            Aspect(name + which, before.get(name, "none"), after.get(name, "none"))
            for name in names if before.get(name) != after.get(name)
        ]  # fmt: skip
    return changed


def _options(optimizer: Optimizer) -> dict[str, str]:
    """What the optimizer was made with besides the learning rate, without how it is computed."""
    how = {"lr", "learning_rate", "foreach", "fused", "capturable", "differentiable", "name"}
    told = re.findall(r"(\w+)=((?:\([^)]*\)|\[[^\]]*\]|[^,])*)", optimizer.hyper)
    return {name.replace("_", " "): value.strip() for name, value in told if name not in how}


def _batch(facts: Facts) -> str:
    """Of the one loader where there is one, else of the first batch that was seen."""
    sizes = {x.batch_size for x in facts.loaders if x.batch_size and x.taken}
    if len(sizes) == 1:
        return str(sizes.pop())
    shapes = [x.shape for x in facts.inputs] + ([facts.term.input_shape] if facts.term is not None else [])
    return str(next((shape[0] for shape in shapes if shape), ""))


def _shape(shape: list[int] | None) -> str:
    """Of one sample."""
    return " x ".join(map(str, shape[1:])) if shape and len(shape) > 1 else "one number"


def _labels(term: LossTerm | None) -> str:
    if term is None or not term.labels.calls:
        return ""
    labels = term.labels
    told = labels.kind
    if labels.lowest is not None and labels.highest is not None:
        told += f" {labels.lowest:g} to {labels.highest:g}"
    return told + (f" for {term.classes} outputs" if term.classes else "")


def _shares(labels: LabelStats) -> str:
    total = sum(labels.counts)
    if not total:
        return ""
    shown = ", ".join(f"{count / total:.1%}" for count in labels.counts[:10])
    return shown + (", ..." if len(labels.counts) > 10 else "")


def _near(what: str, a: Facts | None, b: Facts | None) -> bool:
    """Equal as far as a run can tell that saw other samples, or the same ones in another order."""
    if a is None or b is None:
        return False
    if what == "scale of inputs":
        scales = [[x.rms for x in facts.inputs if x.rms is not None] for facts in (a, b)]
        return len(scales[0]) == len(scales[1]) and all(math.isclose(x, y, rel_tol=_SCALE) for x, y in zip(*scales))
    if what == "shares of labels" and a.term is not None and b.term is not None:
        one, other = a.term.labels.counts, b.term.labels.counts
        n, m = sum(one), sum(other)
        if len(one) != len(other) or not n or not m:
            return False
        pooled = [(x + y) / (n + m) for x, y in zip(one, other)]
        return all(
            abs(x / n - y / m) <= _SHARES * math.sqrt(p * (1 - p) * (1 / n + 1 / m)) + 1e-12
            for x, y, p in zip(one, other, pooled)
        )
    return False


def _sources(a: Side, b: Side) -> tuple[list[Aspect], list[str], dict[str, str]]:
    """Changed files, what to say of the unchanged ones, and what is not known."""
    one, other = a.diagnosis.run.sources, b.diagnosis.run.sources
    if not one or not other:
        bare = a if not one else b
        killed = f"{'A' if bare is a else 'B'} has no hashes of them"
        return [], [], {"source files": killed if bare.diagnosis.record is not None else _why_not(bare)}
    changed, equal, unknown = [], 0, {}
    for file in sorted({*one, *other}):
        if file not in one or file not in other:
            changed.append(Aspect(file, "ran" if file in one else "did not run", "ran" if file in other else "did not run"))
        elif not one[file] or not other[file]:
            unknown[file] = f"it was changed while {'A' if not one[file] else 'B'} ran"
        elif one[file] == other[file]:
            equal += 1
        else:
            changed.append(Aspect(file, one[file][:12], other[file][:12]))
    return changed, [f"{equal} source file{'s' * (equal != 1)}"] if equal else [], unknown


# ------------------------------------------------------------------------------------------------------------ shown


def render(a: Side, b: Side, result: Comparison) -> str:
    """Plain text of 80 columns; the commands at the end may be longer."""
    lines = ["── unstuck compare " + "─" * (WIDTH - 19), "", *_wrap(result.verdict, 2), ""]
    lines += [f"  A: {_tail(words.line(a.name), WIDTH - 5)}", f"  B: {_tail(words.line(b.name), WIDTH - 5)}", ""]
    lines += _table([Aspect("", "A", "B"), *(Aspect(*row) for row in _levels(a, b))])
    for note in result.notes:
        lines += _wrap(f"Note: {note}", 2, 4)
    lines += ["", "  Changed:"]
    lines += _table(result.changed) if result.changed else ["    nothing that was looked at"]
    if result.same:
        lines += ["", *_wrap(f"The same: {', '.join(result.same)}.", 2, 4)]
    reasons: dict[str, list[str]] = {}
    for what, why in result.not_compared.items():
        reasons.setdefault(why, []).append(what)
    for why, names in reasons.items():
        lines += _wrap(f"Not compared: {', '.join(names)} ({why}).", 2, 4)
    lines += [""]
    for title, group in (("Gone:", result.gone), ("New:", result.came)):
        lines += _findings(title, [(f, "") for f in group])
    lines += _findings("Stay:", [(f, _moved(before, f)) for before, f in result.stay])
    lines += _findings("Not checked in B:", [(f, "") for f in result.unknown])
    if not (result.gone or result.came or result.stay or result.unknown):
        lines += ["  No findings in A or B."]
    cause = b.training.cause
    following = f"explain {words.line(cause.code)}" if cause is not None else f"report {shlex.quote(b.name)}"
    lines += ["", f"  Next: unstuck {following}"]
    return "\n".join(lines) + "\n"


def _levels(a: Side, b: Side) -> list[tuple[str, str, str]]:
    def column(one: Side) -> dict[str, str]:
        symptom = one.training.symptom
        return {
            "state": _state(one).replace("-", " "),
            "loss (nats)": _number(symptom.loss),
            "chance level": words.chance(symptom) if symptom.chance is not None else "",
            "skill (nats)": _skill(symptom),
            "accuracy": f"{symptom.accuracy:.1%}" if symptom.accuracy is not None else "",
            "steps": f"{one.training.steps:,}" if one.training.steps else "",
        }

    one, other = column(a), column(b)
    return [(what, one[what], other[what]) for what in one if one[what] or other[what]]


def _skill(symptom: Symptom) -> str:
    return _number(symptom.skill) if symptom.judged else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _table(rows: list[Aspect]) -> list[str]:
    """Three columns; a row whose values do not fit has them on rows of their own."""
    lines = []
    for row in rows:
        what, one, other = (words.line(cell) for cell in row)
        if len(what) <= 20 and len(one) <= 26 and len(other) <= 28:
            lines.append(f"    {what:<21}{one:<27}{other}".rstrip())
        else:
            lines += [*_wrap(what, 4), *_wrap(f"A: {one}", 8, 11), *_wrap(f"B: {other}", 8, 11)]
    return lines


def _findings(title: str, group: list[tuple[Finding, str]]) -> list[str]:
    lines = [f"  {title}"] if group else []
    for finding, more in group:
        place = f" at {words.place(finding.locations[0])}" if finding.locations else ""
        lines += _wrap(f"{finding.code} {words.line(finding.name)}{place} ({finding.role}, {finding.grade}{more})", 4, 6)
    return lines


def _moved(before: Finding, after: Finding) -> str:
    told = []
    if before.role != after.role:
        told.append(f"in A a {before.role}")
    if before.grade != after.grade:
        told.append(f"in A {before.grade}")
    return "".join(f", {t}" for t in told)


def _tail(text: str, width: int) -> str:
    return text if len(text) <= width else "…" + text[-(width - 1) :]


def _wrap(text: str, indent: int, hanging: int | None = None) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * (indent if hanging is None else hanging),
        break_on_hyphens=False,
    )  # fmt: skip


def as_json(a: Side, b: Side, result: Comparison) -> str:
    """Schema 1 of a comparison: {"schema", "verdict", "a", "b", "changed", "same", "not_compared", "findings", "notes"}."""

    def told(one: Side) -> dict[str, Any]:
        symptom = one.training.symptom
        return {
            "name": one.name, "state": symptom.name, "loss": _finite(symptom.loss), "chance": _finite(symptom.chance),
            "skill": _finite(symptom.skill), "accuracy": _finite(symptom.accuracy), "steps": one.training.steps,
        }  # fmt: skip

    def finding(one: Finding) -> dict[str, Any]:
        return {"code": one.code, "name": one.name, "role": one.role, "grade": one.grade, "summary": one.summary}

    stay = [{**finding(f), "before": {"role": before.role, "grade": before.grade}} for before, f in result.stay]
    groups = {"gone": result.gone, "new": result.came, "not_checked": result.unknown}
    document = {
        "schema": 1, "verdict": result.verdict, "a": told(a), "b": told(b),
        "changed": [c._asdict() for c in result.changed], "same": result.same, "not_compared": result.not_compared,
        "findings": {**{name: [finding(f) for f in group] for name, group in groups.items()}, "stay": stay},
        "notes": result.notes,
    }  # fmt: skip
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
