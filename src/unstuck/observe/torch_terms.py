"""The terms of a loss: which they are, their options, and the path from each to the head of the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from unstuck.observe import arrays, sites, torch_graph, torch_spy, torch_values
from unstuck.observe.torch_guard import Guard
from unstuck.observe.torch_models import Models
from unstuck.observe.torch_origins import Origins
from unstuck.observe.torch_state import Recipe, State
from unstuck.trace.facts import Break, LossTerm, OpNode, Site


class Terms:
    """Finds the terms in the graph of a loss; from the arguments of a loss function where there is no graph."""

    def __init__(self, guard: Guard, origins: Origins, models: Models) -> None:
        self.guard = guard
        self.origins = origins
        self.models = models

    def find(self, state: State, recipe: Recipe, loss: Any, names: dict[int, str]) -> None:
        """Of a loss with a graph: its terms become facts, the judged one is in the recipe."""
        found = torch_graph.find_terms(loss.grad_fn)
        terms: list[LossTerm] = []
        for item in found[:6]:
            term = LossTerm(item.kind, item.node.name())
            term.sign, term.coefficient = item.sign, item.coefficient
            term.sample_weighted = item.weighted
            term.input_shape = torch_graph.shape_of(item.below) if item.below is not None else None
            torch_graph.options(term, item.node)
            number = item.node._sequence_nr()
            if "hand" in item.flags and item.pick is not None:
                pick = torch_graph.follow(loss.grad_fn, item.pick)
                number = pick._sequence_nr() if pick is not None else number
            op, module_call = self.guard.spy.place(number)
            if op is not None:
                term.site = sites.at(op.file, op.line, op.function)
            if module_call is not None and type(module_call.module).__module__.startswith("torch."):
                term.made = self.origins.modules.get(module_call.module)
            if item.sign_node is not None and item.sign < 0:
                term.sign_site = self.origins.describe(item.sign_node)[0]
            call = next((c for c in self.guard.spy.losses if c.first <= number < c.last), None)
            if call is not None:
                _options_from_call(term, call)
            term.path, term.path_end = torch_graph.path_to_head(
                item.below, self.origins.describe, lambda p: names.get(id(p), f"tensor {list(p.shape)}")
            )
            if term.path_end == "hidden":
                term.hidden = term.path[-1].op if term.path else "hidden"
            self._axes(term, item, call, loss)
            self._broadcasts(term, item, loss)
            for step in term.path:
                if step.op == "relu":
                    note_zero_columns(item.below, step)
                    break
            terms.append(term)
        _merge(state, recipe, terms, found)
        recipe.flat = bool(recipe.term is not None and len(terms) == 1 and any(n.op in torch_graph.FLAT for n in recipe.term.path))
        if recipe.flat and recipe.term is not None:
            node = next(n for n in recipe.term.path if n.op in torch_graph.FLAT)
            if not any(b.reason == "round" for b in state.facts.breaks):
                state.facts.breaks.append(Break("round", node.where, node.op, True))

    def _axes(self, term: LossTerm, item: torch_graph.Found, call: torch_spy.LossCall | None, loss: Any) -> None:
        shape = term.input_shape
        if not shape:
            return
        if term.kind in {"cross-entropy", "nll", "soft-cross-entropy", "kl"}:
            term.class_axis = 1 if len(shape) > 1 else 0
            if "hand" in item.flags:
                dim = getattr(item.node, "_saved_dim", None)
                if isinstance(dim, int):
                    term.class_axis = torch_graph._axis(dim, len(shape))
                else:
                    term.class_axis = len(shape) - 1
                picked = _picked_axis(item, loss, len(shape))
                units, mixed = torch_graph.feature_axis(term.path, term.class_axis)
                if picked is not None and picked != term.class_axis == units and not mixed:
                    term.class_axis = picked  # normalised over the units, but gathered along another axis
            term.classes = shape[term.class_axis]
            term.feature_axis, term.scrambled = torch_graph.feature_axis(term.path, term.class_axis)
            if item.flags & {"fused", "log(softmax)"} and "hand" not in item.flags:
                self._own_axis(term, item, call)
        else:
            term.class_axis = len(shape) - 1 if len(shape) > 1 else None
            term.classes = shape[-1] if len(shape) > 1 else 1

    def _own_axis(self, term: LossTerm, item: torch_graph.Found, call: torch_spy.LossCall | None) -> None:
        """NLLLoss on a normaliser of the user's own: over the right axis, it is cross-entropy along that axis; over a
        wrong one, the normaliser becomes the first node of the path, with the axis it took."""
        first = next(iter(torch_graph.children(item.node)), None)
        node, _ = torch_graph.skip_views(first)
        if node is not None and torch_graph.op_name(node) == "log":
            node = torch_graph._log_of_softmax(first)
        if node is None or torch_graph.op_name(node) not in {"log_softmax", "softmax"}:
            return
        shape = torch_graph.shape_of(node) or []
        if not shape or term.class_axis is None:
            return
        internal = (call is not None and call.name == "cross_entropy") or (call is None and "2" in item.node.name()[:9])
        if internal and torch_graph.op_name(node) == "log_softmax":
            return  # torch's own log_softmax inside F.cross_entropy; its views are torch's, too
        axis = torch_graph._axis(node._saved_dim, len(shape))
        units, _ = torch_graph.feature_axis(term.path, axis)
        views = first is not node and torch_graph.op_name(node) == "log_softmax"
        given = getattr(call.arguments.get("input"), "grad_fn", None) if call is not None else None
        if given is not None and (given is node or torch_graph._log_of_softmax(given) is node):
            views = False  # what lies between is torch's own: it gives nll_loss a fourth axis
            if axis != term.class_axis and len(shape) > 2 and units != term.class_axis:
                # The normaliser runs over the units of the head, and nll_loss picks from another axis: it looks for the
                # classes where they are not. Where the units cannot be told, either of the two may be meant.
                term.feature_axis, term.scrambled = (axis, False) if units == axis else (None, False)
                return
        if not views and axis != term.class_axis:
            wrong, right = True, term.class_axis
        else:
            wrong, right = (units is not None and units != axis), (units if units is not None else axis)
        term.class_axis = right
        term.classes = shape[right]
        if wrong:
            place, module, made, _, library = self.origins.describe(node)
            term.path.insert(0, OpNode(torch_graph.op_name(node), node.name(), shape, dim=axis, site=place, module=module,
                                       made=made if library else None))  # fmt: skip
            term.feature_axis, term.scrambled = right, False
        else:
            term.feature_axis, term.scrambled = torch_graph.feature_axis(term.path, right)

    def _broadcasts(self, term: LossTerm, item: torch_graph.Found, loss: Any) -> None:
        pick = torch_graph.follow(loss.grad_fn, item.pick) if item.pick is not None else None
        numbers = [n._sequence_nr() for n in (item.node, item.below, pick) if n is not None and not torch_graph.is_leaf(n)]
        spy = self.guard.spy
        if not spy.broadcasts:
            return
        fused = torch_graph.base_name(item.node) in torch_graph.LOSSES
        order = [] if fused else torch_graph.walk(loss.grad_fn)[0]
        for outer in spy.broadcasts:
            if any(outer.first <= n < outer.last for n in numbers):
                if not fused and not torch_graph.all_pairs(
                    loss.grad_fn, order, outer.first, outer.last, max(outer.shapes[0]), chosen=spy.chosen, met=spy.met
                ):
                    continue  # a mask, a minimum or a second matrix: the pairs are meant
                term.broadcast, term.argument_shapes = outer.site, outer.shapes
                return

    def from_calls(self, state: State) -> None:
        """Of a loss without a graph: from the loss function that was called last."""
        for call in self.guard.spy.losses[-1:]:
            term = self.from_arguments(call.name, call.arguments, call.site)
            state.facts.terms.append(term)

    def from_arguments(self, name: str, arguments: dict[str, Any], place: Site | None) -> LossTerm:
        """A loss term from the arguments of a call that raised or has no graph."""
        kind = torch_spy.LOSS_FUNCTIONS[name]
        x, y = arguments.get("input"), arguments.get("target")
        term = LossTerm(kind, name, site=place)
        if isinstance(y, torch.Tensor) and y.is_floating_point() and kind == "cross-entropy":
            term.kind = kind = "soft-cross-entropy"
        if isinstance(x, torch.Tensor):
            term.input_shape = list(x.shape)
            term.class_axis = 1 if x.dim() > 1 else None
            term.classes = int(x.shape[1]) if x.dim() > 1 else 1
            torch_values.look_at_values(term.values, x.detach(), term.class_axis)
            if x.grad_fn is not None:
                names = self.models.names()
                term.path, term.path_end = torch_graph.path_to_head(
                    x.grad_fn, self.origins.describe, lambda p: names.get(id(p), f"tensor {list(p.shape)}")
                )
                if term.kind in {"cross-entropy", "nll"}:
                    term.feature_axis, term.scrambled = torch_graph.feature_axis(term.path, term.class_axis)
        if isinstance(y, torch.Tensor):
            term.target_shape = list(y.shape)
            if isinstance(x, torch.Tensor):
                term.argument_shapes = [list(x.shape), list(y.shape)]
            ignore = arguments.get("ignore_index", -100)
            term.ignore_index = ignore if isinstance(ignore, int) else -100
            _labels_from(term, y)
        return term


def note_zero_columns(below: Any, step: Any) -> None:
    """`step` is a relu on the path, `below` what enters the term: which of the relu's columns are 0 throughout?"""
    node, _ = torch_graph.skip_views(below)
    while node is not None and torch_graph.op_name(node) == "dropout":
        node = next(iter(torch_graph.children(node)), None)
    if node is not None and torch_graph.op_name(node) == "relu":
        step.zero_columns = torch_graph.zero_columns(node)


def _picked_axis(item: torch_graph.Found, loss: Any, rank: int) -> int | None:
    """The axis along which a gather right above the normaliser takes one entry for each label."""
    pick = torch_graph.follow(loss.grad_fn, item.pick) if item.pick is not None and rank > 2 else None
    if pick is None or torch_graph.op_name(pick) != "gather" or torch_graph.children(pick) != [item.node]:
        return None
    return torch_graph._axis(pick._saved_dim, rank)


def _options_from_call(term: LossTerm, call: torch_spy.LossCall) -> None:
    named = call.arguments
    term.site = call.site or term.site
    kind = torch_spy.LOSS_FUNCTIONS[call.name]
    x, y = named.get("input"), named.get("target")
    if kind == "cross-entropy" and isinstance(y, torch.Tensor) and y.is_floating_point():
        kind = "soft-cross-entropy"
    if term.kind in {"unknown", "l1", "kl", "soft-cross-entropy", "log_softmax"}:
        term.kind = kind
    term.reduction = str(named.get("reduction", term.reduction or "mean"))
    term.label_smoothing = float(named.get("label_smoothing", 0.0) or 0.0)
    if isinstance(named.get("ignore_index"), int) and kind in {"cross-entropy", "nll"}:
        term.ignore_index = named["ignore_index"]
    if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor):
        term.argument_shapes = [list(x.shape), list(y.shape)]
        term.target_shape = list(y.shape)


def _merge(state: State, recipe: Recipe, terms: list[LossTerm], found: list[torch_graph.Found]) -> None:
    """Keep terms that were known (their counts go on), add new ones, choose the judged one."""
    known = state.facts.terms
    chosen: tuple[int, LossTerm] | None = None
    for position, term in enumerate(terms):
        old = next((t for t in known if _same_term(t, term)), None)
        if old is not None:
            _update_term(old, term)
            terms[position] = old
        elif len(known) < 16:
            known.append(term)
        if chosen is None and terms[position].kind != "unknown":
            chosen = (position, terms[position])
    known[:] = [t for t in known if t.kind != "unknown"] or known[:1]
    if chosen is None:
        return
    position, term = chosen
    item = found[position]
    judged = next((t for t in known if t.judged), None)
    if judged is None or judged is term:
        term.judged = True
    elif not term.why_not:
        term.why_not = "another loss of this training is judged"
    if recipe.labels is None or recipe.term is not term:
        recipe.labels = next((s for s in state.labels if s.term is term), None) or torch_values.Labels(term)
        if recipe.labels not in state.labels:
            state.labels.append(recipe.labels)
    recipe.term, recipe.route, recipe.pick, recipe.name = term, item.route, item.pick, item.node.name()
    recipe.flags, recipe.first_flags = item.flags, item.first_flags
    recipe.exact = (
        len([t for t in terms if t.kind != "unknown"]) == 1 and item.linear and item.coefficient is not None
        and not item.weighted and abs(item.coefficient - 1) < 1e-6 and "again" not in item.flags
        and term.reduction in {"mean", ""} and "hand" not in item.flags
    ) or (len(terms) == 1 and term.kind in {"mse", "l1", "smooth-l1", "huber"} and item.linear)  # fmt: skip
    if term.label_smoothing and len(terms) == 1 and term.reduction == "mean" and item.coefficient is not None:
        # torch writes (1 - eps) nll + eps smooth: the coefficient of the nll is 1 - eps, times what the script adds.
        recipe.exact = abs(item.coefficient - (1 - term.label_smoothing)) < 1e-6
    recipe.alone = len(terms) == 1 and item.linear and (item.coefficient is None or abs(item.coefficient - 1) < 1e-6)
    if item.weighted:
        term.why_not = "each sample's loss is multiplied by a weight of its own (a policy gradient, or sample weights)"


def _labels_from(term: LossTerm, y: Any) -> None:
    array = torch_values.numpy_of(y).reshape(-1).astype(np.float64)
    stats = term.labels
    stats.calls = 1
    stats.rows = array.size
    if term.kind in {"cross-entropy", "nll"} and not y.is_floating_point():
        stats.kind = "index"
        array = array[array != term.ignore_index]
    if not array.size:
        stats.all_ignored_calls = 1
        return
    stats.kept = array.size
    distinct = np.unique(array)
    stats.lowest, stats.highest = float(distinct[0]), float(distinct[-1])
    stats.distinct = distinct[:33].tolist()
    stats.many_distinct = len(distinct) > 32
    if stats.kind != "index":
        stats.kind = arrays.target_kind(stats, torch_values.numpy_of(y).reshape(len(y), -1) if y.dim() else np.zeros((1, 1)))
    elif term.classes is not None:
        wrong = array[(array < 0) | (array >= term.classes)]
        stats.outside = wrong.size
        stats.outside_example = float(wrong[0]) if wrong.size else None


def _same_term(a: LossTerm, b: LossTerm) -> bool:
    if a.sign != b.sign or a.kind != b.kind or a.classes != b.classes or len(a.path) != len(b.path):
        return False
    if [n.raw for n in a.path] != [n.raw for n in b.path]:
        return False
    head_a = a.path[-1].parameters if a.path else []
    head_b = b.path[-1].parameters if b.path else []
    unnamed = any(n.startswith("tensor ") for n in (*head_a, *head_b))
    return head_a == head_b or not head_a or not head_b or unnamed


def _update_term(old: LossTerm, new: LossTerm) -> None:
    """A later look fills what an earlier one could not see (lines, options), never removes."""
    for name in ("site", "made", "sign_site", "broadcast", "argument_shapes", "target_shape"):
        if getattr(old, name) is None and getattr(new, name) is not None:
            setattr(old, name, getattr(new, name))
    if new.label_smoothing:
        old.label_smoothing = new.label_smoothing
    old.reduction = old.reduction or new.reduction
    if any(n.site for n in new.path) or [n.frozen for n in old.path] != [n.frozen for n in new.path]:
        # Seen closely (again): layers may have been exchanged or frozen since.
        zeros = {n.raw: n.zero_columns for n in old.path if n.zero_columns is not None}
        places = {n.raw: (n.site, n.made, n.module) for n in old.path}
        old.path = new.path
        for n in old.path:
            n.zero_columns = n.zero_columns if n.zero_columns is not None else zeros.get(n.raw)
            if n.site is None and n.raw in places:
                n.site, n.made, n.module = places[n.raw]
        return
    for a, b in zip(old.path, new.path):
        a.site, a.made, a.module = a.site or b.site, a.made or b.made, a.module or b.module
        a.frozen = a.frozen or b.frozen
        if b.zero_columns is not None:
            a.zero_columns = b.zero_columns
