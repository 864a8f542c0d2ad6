"""The network as the page shows it: the way from the last layer to the loss, the numbers layer by layer, the labels."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from unstuck.findings import Finding, Symptom
from unstuck.report.html import words
from unstuck.trace.facts import Facts, LabelStats, Layer, LayerLook, LossTerm, OpNode, Parameter, ParameterLook, Site

NODES = 24  # of a path that are shown
PATHS = 4
LAYERS = 240  # rows of the table
CLASSES = 12
SAME = 1e-3  # spread below which the rows of a batch are called alike; the rules have their own, stricter measures
NEARLY_ALL = 0.99
DECADE = 10.0  # between the largest and the smallest bar: from here on the scale is logarithmic
# Rooms whose faults lie on this path: the wiring, the numbers, the loss's own reduction. Others name lines for other reasons.
_ON_THE_PATH = ("W", "N", "E803")
_TRAINED = frozenset({"linear", "conv", "matmul", "embedding", "rnn"})


# -------------------------------------------------------------------------------------------------------------- the path


class Node(NamedTuple):
    """A box of the path. fault: why it is marked, '' for a sound one."""

    title: str
    meaning: str
    kind: str  # layer, operation, loss
    shape: str
    site: Site | None
    fault: str


class Path(NamedTuple):
    """From the last trained layer to one loss, in the order of the forward pass."""

    title: str
    nodes: list[Node]
    left_out: int
    note: str  # what is not seen below the first box


def paths(facts: Facts, findings: Sequence[Finding]) -> list[Path]:
    """The judged loss first; losses whose way was not seen are left out. findings: the most important first."""
    suspects = [f for f in findings if f.role in {"cause", "latent"} and f.code.startswith(_ON_THE_PATH)]
    terms = sorted((t for t in facts.terms if t.path), key=lambda t: not t.judged)
    return [_path(term, suspects, len(terms) > 1) for term in terms[:PATHS]]


def _path(term: LossTerm, suspects: Sequence[Finding], several: bool) -> Path:
    marked = _marked(term, suspects)
    first_is_head = term.path_end == "parametric"
    nodes = []
    for i, node in enumerate(term.path):
        title, meaning = words.OPERATIONS.get(node.op, (node.op.replace("_", "-"), ""))
        head = first_is_head and i == len(term.path) - 1
        nodes.append(Node(
            "last layer" + ("" if node.op not in words.OPERATIONS else f": {title}") if head else title,
            meaning, "layer" if head else "operation", _shape(node.shape), node.where, marked.get(i, ""),
        ))  # fmt: skip
    left_out = max(0, len(nodes) - NODES)
    if left_out:
        # The ends are what the picture is for: the head, and what is next to the loss.
        nodes = nodes[: NODES - 1] + nodes[-1:]
    nodes.reverse()
    name, meaning = words.LOSSES.get(term.kind, (term.kind if term.kind != "unknown" else term.raw or "loss", ""))
    for op in words.WITHIN.get(term.kind, ()):
        nodes.append(Node(words.OPERATIONS[op][0], words.OPERATIONS[op][1] + "; done by the loss itself", "within", "", None, ""))
    nodes.append(Node(f"loss: {name}", meaning, "loss", "", term.site, marked.get(-1, "")))
    if term.sign < 0:
        nodes.append(Node("times -1", "the update makes what stands before it larger", "operation", "", term.sign_site,
                          marked.get(-2, "")))  # fmt: skip
    note = {
        "hidden": f"What lies before the first box cannot be seen: {term.hidden}." if term.hidden else "",
        "merge": "Before the first box several branches meet.",
        "leaf": "The first box is fed with a tensor that no layer made.",
    }.get(term.path_end, "")
    title = f"{name}{', the loss that is judged' if term.judged else ''}" if several else ""
    return Path(title, nodes, left_out, note)


def _marked(term: LossTerm, suspects: Sequence[Finding]) -> dict[int, str]:
    """Which boxes a finding is about: index into the path, -1 for the loss, -2 for its sign; each with what is said of it.

    A box is meant where the finding names its line. Several on one line: those the finding calls by name, otherwise those that
    are no trained layers, otherwise all.
    """
    marked: dict[int, str] = {}
    for finding in suspects:
        named = {(s.file, s.line) for s in finding.locations}
        on = [i for i, node in enumerate(term.path) if _at(node, named)]
        called = [i for i in on if _called(term.path[i].op, finding)]
        plain = [i for i in on if term.path[i].op not in _TRAINED]
        chosen = called or plain or on
        if term.sign < 0 and "sign" in finding.name.split("-"):
            chosen = [-2]
        if not chosen and any(s is not None and (s.file, s.line) in named for s in (term.made, term.site)):
            chosen = [-1]
        also = "" if finding.role == "cause" else " (a fault, not shown to be the cause)"
        text = f"{finding.code} {finding.name.replace('-', ' ')}{also}"
        for i in chosen:
            marked.setdefault(i, text)
    return marked


def _called(op: str, finding: Finding) -> bool:
    """Does the finding call the operation by its name?"""
    said = re.findall(r"[a-z]+", f"{finding.name} {finding.summary}".lower())
    return all(any(word in {part, f"{part}s"} for word in said) for part in op.split("_"))


def _at(node: OpNode, named: set[tuple[str, int]]) -> bool:
    where = node.where
    return where is not None and (where.file, where.line) in named


def _shape(shape: Sequence[int] | None) -> str:
    return " \N{MULTIPLICATION SIGN} ".join(f"{n}" for n in shape) if shape else ""


# ------------------------------------------------------------------------------------------------------------ the layers


class Cell(NamedTuple):
    """A number with its bar. width in percent; flag: what is conspicuous, in words."""

    text: str
    width: float
    flag: str = ""


class LayerRow(NamedTuple):
    """A layer with what was measured of it; None where it was not."""

    name: str
    what: str
    site: Site | None
    times: int
    step: str
    fault: str
    spread: Cell | None
    size: Cell | None
    idle: Cell | None  # dead ReLU units, or saturated sigmoid or tanh values
    gradient: Cell | None
    update: Cell | None


class Flow(NamedTuple):
    """The table of the layers. `columns` holds those of the five that were measured anywhere."""

    rows: list[LayerRow]
    columns: set[str]
    step: str  # of the last look, where all rows share it
    left_out: int
    logarithmic: set[str]  # columns whose bars are on a logarithmic scale
    told: str  # the table in a sentence or two


class _Row(NamedTuple):
    layer: Layer | None
    name: str
    what: str
    times: int
    step: int | None
    spread: float | None
    size: float | None
    idle: float | None
    idle_kind: str
    gradient: float | None
    update: float | None
    fault: str = ""
    order: int | None = None  # of its weights in the forward pass


def flow(facts: Facts, findings: Sequence[Finding], sound: bool = False) -> Flow | None:
    """The layers in the order of the forward pass, at their last look; None where nothing was measured.

    sound: in a training that learns no layer is pointed at, whatever its numbers.
    """
    rows = _rows(facts, findings)
    if not rows:
        return None
    # What differs between samples is lost for good only where no later layer has it: a recurrent network starts from zeros, and
    # a branch beside a skip connection may be idle.
    alive = max((i for i, r in enumerate(rows) if r.spread is not None and r.spread >= SAME), default=-1)
    left_out, rows = max(0, len(rows) - LAYERS), rows[:LAYERS]
    logarithmic = {n for n in ("size", "gradient", "update") if _decades([getattr(r, n) for r in rows])}
    seen = {r.step for r in rows if r.step is not None}
    common = f"{seen.copy().pop():,}" if len(seen) == 1 else ""
    bars = {n: _scale([getattr(r, n) for r in rows], n in logarithmic) for n in ("size", "gradient", "update")}
    cells = [_cells(r, bars, common, "" if sound else "lost" if i > alive else "passing") for i, r in enumerate(rows)]
    columns = {n for n in ("spread", "size", "idle", "gradient", "update") if any(getattr(c, n) is not None for c in cells)}
    return Flow(cells, columns, common, left_out, logarithmic, _told(rows, cells)) if columns else None


def _cells(row: _Row, bars: dict[str, Callable[[float], float]], common: str, fate: str) -> LayerRow:
    """The row as it is shown. fate of what differs between samples: lost here, passing on; '' points at nothing at all."""

    def cell(value: float | None, text: str, width: float, flag: bool, said: str) -> Cell | None:
        return None if value is None else Cell(text.format(value), width, said if flag and fate else "")

    spread, size, idle, gradient, update = (v or 0.0 for v in (row.spread, row.size, row.idle, row.gradient, row.update))
    lost = fate == "lost"
    return LayerRow(
        row.name, row.what, row.layer.site if row.layer is not None else None, row.times,
        "" if common or row.step is None else f"{row.step:,}", row.fault,
        cell(row.spread, words.share(spread), 100 * spread, lost and spread < SAME, "all samples alike"),
        cell(row.size, "{:.3g}", bars["size"](size), lost and size == 0, "all 0"),
        cell(row.idle, f"{words.share(idle)} {row.idle_kind}", 100 * idle, idle >= NEARLY_ALL, f"all {row.idle_kind}"),
        cell(row.gradient, "{:.2g}", bars["gradient"](gradient), gradient == 0, "no gradient"),
        cell(row.update, "{:.2g}", bars["update"](update), update == 0, "does not move"),
    )  # fmt: skip


def _rows(facts: Facts, findings: Sequence[Finding]) -> list[_Row]:
    by_layer: dict[str, list[Parameter]] = {}
    for parameter in facts.parameters:
        if parameter.looks:
            by_layer.setdefault(_layer_of(parameter.name), []).append(parameter)
    groups: dict[tuple, list[Layer]] = {}
    before = ""  # the last layer with weights: what tells the tenth ReLU of a stack from the tenth step of a recurrent layer
    for layer in facts.layers:
        before = layer.name if layer.parameters else before
        if layer.looks:
            site = layer.site
            key = (layer.op, layer.of, before, layer.module, layer.units, site.file if site else "", site.line if site else 0)
            # A network unrolled over time passes one layer many times: one row, not hundreds.
            groups.setdefault(key, []).append(layer)
    rows = []
    for layers in groups.values():
        layer = layers[0]
        looks = [_last(x.looks) for x in layers]
        mine = by_layer.pop(layer.name, []) if layer.parameters else []
        gradient, update = _moved(mine)
        dead = [x.dead for x in looks if x.dead is not None]
        saturated = [x.saturated for x in looks if x.saturated is not None]
        idle, kind = (max(dead), "dead") if dead else (max(saturated), "saturated") if saturated else (None, "")
        sizes = sorted(x.rms for x in looks if x.rms is not None)
        what, _ = words.OPERATIONS.get(layer.op, (layer.op.replace("_", "-"), ""))
        rows.append(_Row(
            layer, _named(layer.name) if layer.parameters else what, _described(layer, what),
            len(layers), looks[-1].step, min((x.spread for x in looks if x.spread is not None), default=None),
            sizes[len(sizes) // 2] if sizes else None, idle, kind, gradient, update, order=_order(mine),
        ))  # fmt: skip
    for name, mine in by_layer.items():  # weights whose layer was not looked at stand where they are passed
        order, (gradient, update) = _order(mine), _moved(mine)
        row = _Row(None, _named(name), "weights", 1, mine[0].looks[-1].step, None, None, None, "", gradient, update, order=order)
        later = (i for i, r in enumerate(rows) if order is not None and r.order is not None and r.order > order)
        rows.insert(next(later, len(rows)), row)
    for finding in findings:
        if finding.role == "cause":
            return _blamed(rows, finding)
    return rows


def _blamed(rows: list[_Row], finding: Finding) -> list[_Row]:
    """The rows with those marked that the finding's lines make; none where that would be most of them and say nothing."""
    named = {(s.file, s.line) for s in finding.locations}
    on = [i for i, r in enumerate(rows) if r.layer is not None and (w := r.layer.where) is not None and (w.file, w.line) in named]
    layers = [r.layer for r in rows]
    chosen = [i for i in on if _called(layers[i].op, finding)] or on
    if 2 * len(chosen) > len(rows):
        return rows
    text = f"{finding.code} {finding.name.replace('-', ' ')}"
    return [r._replace(fault=text) if i in chosen else r for i, r in enumerate(rows)]


def _named(name: str) -> str:
    """Layers of a Sequential have numbers for names."""
    return f"layer {name}" if name.replace(".", "").isdigit() else name


def _described(layer: Layer, what: str) -> str:
    """What the layer is and which of its numbers were looked at: 'convolution, 16 channels enter'."""
    enter = layer.of == "input"
    parts = [what] if layer.parameters else []
    if layer.units:
        one = layer.units == 1
        wide = words.count(layer.units, "channel" if layer.op == "conv" else "number" if enter else "unit")
        parts.append(f"{wide} {'enters' if one else 'enter'}" if enter else wide)
    if layer.module and not layer.parameters and layer.module.lower() != layer.op.replace("_", ""):
        parts.append(f"in {layer.module}")
    return ", ".join(parts)


def _layer_of(parameter: str) -> str:
    return parameter.rpartition(".")[0] or parameter


def _order(parameters: Sequence[Parameter]) -> int | None:
    return min((p.order for p in parameters if p.order is not None), default=None)


def _last(looks: Sequence[LayerLook]) -> LayerLook:
    """The last look that found numbers; after a NaN there are looks without."""
    return next((x for x in reversed(looks) if x.rms is not None), looks[-1])


def _moved(parameters: Sequence[Parameter]) -> tuple[float | None, float | None]:
    """2-norm of the gradient, and update over weight, of the tensors of one layer at their last look."""
    looks: list[ParameterLook] = [p.looks[-1] for p in parameters]
    if not looks or not all(math.isfinite(x.grad_norm) for x in looks):
        return None, None
    weight = math.hypot(*(x.weight_norm for x in looks))
    update = math.hypot(*(x.update_norm for x in looks)) / weight if weight else None
    return math.hypot(*(x.grad_norm for x in looks)), update if update is not None and math.isfinite(update) else None


def _positive(values: Sequence[float | None]) -> list[float]:
    return [v for v in values if v is not None and v > 0 and math.isfinite(v)]


def _decades(values: Sequence[float | None]) -> bool:
    there = _positive(values)
    return bool(there) and max(there) > DECADE * min(there)


def _scale(values: Sequence[float | None], logarithmic: bool) -> Callable[[float], float]:
    """A function that gives the length of a bar in percent: the largest is full; on a logarithmic scale the smallest has 4 %."""
    there = _positive(values)
    if not there:
        return lambda value: 0.0
    top, bottom = max(there), min(there)
    if not logarithmic:
        return lambda value: 100 * min(max(value, 0.0), top) / top if math.isfinite(value) else 100.0
    decades = math.log10(top / bottom)
    return lambda value: 4 + 96 * math.log10(value / bottom) / decades if value > 0 else 0.0


def _told(rows: Sequence[_Row], cells: Sequence[LayerRow]) -> str:
    """What the table shows, for who does not see the bars: the largest fall of the gradient, and the first conspicuous layer."""
    parts = []
    gradients = [(r.name, r.gradient) for r in rows if r.gradient is not None and r.layer is not None]
    if len(gradients) > 1:
        (first, a), (last, b) = gradients[0], gradients[-1]
        parts.append(f"The gradient is {a:.2g} at {first} (nearest to the data) and {b:.2g} at {last} (nearest to the loss).")
    for row in cells:
        flags = [c.flag for c in (row.spread, row.size, row.idle, row.gradient, row.update) if c is not None and c.flag]
        if flags:
            parts.append(f"The first layer that stands out is {row.name}: {', '.join(flags)}.")
            break
    return " ".join(parts)


# ------------------------------------------------------------------------------------------------------------ the labels


class ClassRow(NamedTuple):
    """A class: its share of the labels, of the network's answers, and how many of its samples were answered right."""

    name: str
    label: Cell | None
    answer: Cell | None
    right: Cell | None


class Labels(NamedTuple):
    """The balance of the labels against what the network answers."""

    rows: list[ClassRow]
    columns: set[str]
    told: str
    plain: str  # what is known of targets that are no classes


def labels(stats: LabelStats | None, symptom: Symptom) -> Labels | None:
    """Classes with the largest shares first where there are many; None where nothing is known of them."""
    counts = stats.counts if stats is not None and stats.kind in {"index", "binary", "one-hot", "probability", "integer"} else []
    total = sum(counts)
    given = [c / total for c in counts] if total else []
    answers, recall = symptom.predicted_share or [], symptom.recall or []
    size = max(len(given), len(answers), len(recall))
    if not size:
        return _targets(stats)

    def at(values: Sequence[float | None], i: int) -> float | None:
        return values[i] if i < len(values) else None

    order = list(range(size))
    if size > CLASSES:
        order.sort(key=lambda i: (-max(at(given, i) or 0.0, at(answers, i) or 0.0), i))
    shown, rest = sorted(order[:CLASSES]), order[CLASSES:]
    rows = [ClassRow(f"{i}", _cell(at(given, i)), _cell(at(answers, i)), _cell(at(recall, i))) for i in shown]
    if rest:
        rows.append(ClassRow(
            f"the other {len(rest):,} together", _cell(sum(at(given, i) or 0.0 for i in rest) if given else None),
            _cell(sum(at(answers, i) or 0.0 for i in rest) if answers else None), None,
        ))  # fmt: skip
    columns = {n for n in ("label", "answer", "right") if any(getattr(r, n) is not None for r in rows)}
    parts = []
    if given:
        top = max(range(len(given)), key=given.__getitem__)
        parts.append(f"The most frequent label is class {top}, {words.share(given[top])} of {stats.kept if stats else 0:,} labels.")
    if answers:
        top = max(range(len(answers)), key=answers.__getitem__)
        silent = sum(a == 0 for a in answers)
        parts.append(f"The network answers class {top} most often, in {words.share(answers[top])} of the recent answers"
                     + (f", and {words.count(silent, 'class', 'classes')} never." if silent else "."))  # fmt: skip
    return Labels(rows, columns, " ".join(parts), "")


def _cell(value: float | None) -> Cell | None:
    return None if value is None or not math.isfinite(value) else Cell(words.share(value), 100 * min(max(value, 0.0), 1.0))


def _targets(stats: LabelStats | None) -> Labels | None:
    if stats is None or not stats.calls or stats.lowest is None or stats.highest is None:
        return None
    kind = {"real": "real numbers", "integer": "whole numbers", "probability": "probabilities"}.get(stats.kind, "numbers")
    return Labels([], set(), "", f"The targets are {kind} from {stats.lowest:.4g} to {stats.highest:.4g}, not classes: there is no "
                  f"balance to show ({stats.kept:,} of them were seen).")  # fmt: skip
