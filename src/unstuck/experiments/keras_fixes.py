"""Fixes of Keras findings that their rules leave open, because torch has no experiment for them: as data, from the trace.

In Keras a layer can be given another number of outputs before its weights are made, and labels can be changed on their way into
fit; so a head that does not fit its labels, and labels that do not count from 0, can be put to the test.
"""

from __future__ import annotations

import msgspec

from unstuck.experiments.kinds import TOGETHER
from unstuck.findings import Finding, Intervention
from unstuck.trace.facts import Facts, LossTerm, Parameter, Site
from unstuck.trace.trace import Trace

WIDTH = 64  # units of a layer that is widened without anybody saying how far
_ACTIVATIONS = {"sigmoid", "tanh", "softmax", "relu"}


def in_keras(trace: Trace | None) -> bool:
    return trace is not None and trace.facts.framework.startswith("keras ")


def complete(findings: list[Finding], trace: Trace) -> None:
    """Give findings without an intervention one, where there is one for their case."""
    for finding in findings:
        if finding.fix is None or finding.fix.intervention is not None:
            continue
        found = {"D201": renumbered, "W104": _more_units, "W108": _head}.get(finding.code, lambda facts: None)(trace.facts)
        if found is not None:
            finding.fix = msgspec.structs.replace(finding.fix, intervention=found)


def located(intervention: Intervention, trace: Trace) -> Intervention:
    """A standard intervention with what it needs to know of this model: which layer is the narrowest."""
    if intervention.kind != "widen" or "layer" in intervention.arguments:
        return intervention
    hidden = _hidden(trace.facts)
    if not hidden:
        return intervention
    narrow = min(hidden, key=_units)
    return Intervention("widen", {"width": WIDTH} | intervention.arguments | {"layer": narrow.name.rpartition(".")[0]})


def _hidden(facts: Facts) -> list[Parameter]:
    """Kernels of dense layers and convolutions in their order, without the last."""
    kernels = [p for p in facts.parameters if p.order is not None and p.name.endswith(".kernel") and len(p.shape) > 1]
    return sorted(kernels, key=lambda p: p.order or 0)[:-1]


def _units(p: Parameter) -> int:
    return p.shape[1] if p.transposed else p.shape[0]


def renumbered(facts: Facts) -> Intervention | None:
    """Labels that count from 1, or from any number above 0, count from 0. A label below 0 is more often a mark than a class."""
    term = facts.term
    if term is None or term.labels.lowest is None or term.labels.highest is None:
        return None
    low, high = term.labels.lowest, term.labels.highest
    classes = 2 if term.kind in {"bce", "bce-logits"} else term.classes or 0
    if low < 1 or low != int(low) or high - low + 1 > classes:
        return None
    return Intervention("renumber-labels", {"offset": -low})


def _head(facts: Facts) -> Intervention | None:
    term = facts.term
    if term is None:
        return None
    if any(r.phase == "loss" for r in facts.exceptions) and _other_form(term):
        return _loss(term, "cross_entropy")
    return _more_units(facts)


def _other_form(term: LossTerm) -> bool:
    """Are the targets those of Keras' other categorical loss: one-hot rows for class numbers, or the reverse?"""
    if term.input_shape is None or term.target_shape is None or (term.classes or 0) < 2:
        return False
    one_hot = len(term.target_shape) == len(term.input_shape) and term.target_shape[-1] == term.classes
    return term.raw.startswith("sparse") == one_hot


def _more_units(facts: Facts) -> Intervention | None:
    """As many outputs as the labels 0 to K-1 ask for, with the loss of class numbers."""
    term = facts.term
    if term is None or not term.path or term.path_end != "parametric" or term.labels.highest is None:
        return None
    head = term.path[-1].where
    high, low = term.labels.highest, term.labels.lowest
    if head is None or low != 0 or high < 2 or high != int(high):
        return None
    resized = Intervention("resize-head", {"units": int(high) + 1, **_at(head)})
    if term.kind in {"cross-entropy", "probability-cross-entropy"} and term.raw.startswith("sparse"):
        return resized
    node = next((n for n in term.path if n.op in _ACTIVATIONS), None)
    loss = _loss(term, "cross_entropy")
    arguments = loss.arguments | {"logits": True}
    if node is not None and node.where is not None:
        arguments |= {"activation": node.op, "activation_file": node.where.file, "activation_line": node.where.line}
    fixes = [resized, Intervention("replace-loss", arguments)]
    return Intervention(TOGETHER, {"fixes": msgspec.json.encode(fixes, order="sorted").decode()})


def _loss(term: LossTerm, loss: str) -> Intervention:
    return Intervention("replace-loss", {"loss": loss, "from": term.raw, **_at(term.made or term.site)})


def _at(site: Site | None) -> dict[str, float | str | bool | list[float]]:
    return {} if site is None else {"file": site.file, "line": site.line}
