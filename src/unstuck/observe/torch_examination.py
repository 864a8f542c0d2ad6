"""The whole graph of a loss, walked at a few backward calls: its terms and weights, its layers, where gradients end."""

from __future__ import annotations

from typing import Any

from unstuck.observe import torch_graph, torch_modules
from unstuck.observe.torch_guard import Guard
from unstuck.observe.torch_models import Models
from unstuck.observe.torch_modes import Modes
from unstuck.observe.torch_origins import Origins
from unstuck.observe.torch_pace import is_deep
from unstuck.observe.torch_state import Recipe, State
from unstuck.observe.torch_terms import Terms, note_zero_columns
from unstuck.observe.torch_trainings import Trainings
from unstuck.observe.torch_weights import Weights
from unstuck.trace.facts import Break, Stretched


class Examination:
    """Walks a graph, and hands it to those who know its parts."""

    def __init__(
        self, guard: Guard, origins: Origins, models: Models, trainings: Trainings, terms: Terms, weights: Weights, modes: Modes
    ) -> None:
        self.guard = guard
        self.origins = origins
        self.models = models
        self.trainings = trainings
        self.terms = terms
        self.weights = weights
        self.modes = modes

    def examine(self, state: State, loss: Any, chain: tuple[str, ...]) -> Recipe:
        """How to read losses with this graph; `chain` is its signature."""
        order, leaves, hidden = torch_graph.walk(loss.grad_fn)
        reached = frozenset(id(t) for t in leaves)
        names = self.models.names()
        recipe = state.recipes.get(chain) or Recipe()
        first = recipe.term is None
        if self.guard.spy_pushed and self.guard.spy.ops:
            recipe.places = [(n.name(), None if torch_graph.is_leaf(n) else self.origins.describe(n)[0]) for n in order[:3000]]
        recipe.reached = reached
        recipe.root = chain[0]
        state.recipes[chain] = recipe
        if len(state.recipes) > 256:
            state.recipes.clear()
        for leaf in leaves:
            if id(leaf) not in self.trainings.by_leaf:
                self.trainings.register(state, [leaf])
        if recipe.term is not None and any(n.op == "relu" for n in recipe.term.path[:3]):
            node = torch_graph.follow(loss.grad_fn, recipe.route)
            relu = next(n for n in recipe.term.path if n.op == "relu")
            if node is not None:
                note_zero_columns(recipe.under(node), relu)
        if first or (self.guard.spy_pushed and self.guard.spy.noting):
            self.terms.find(state, recipe, loss, names)
        self.weights.update(state, reached, names, hidden)
        if self.guard.spy.broadcasts:
            self._stretched(state, loss, order)
        if not self.guard.packs and not hidden and (recipe.term is None or recipe.term.judged):
            self._look_inside(state, recipe, loss, order, first)
        self.note_breaks(state, loss)
        if self.guard.spy.freezes and not state.facts.loop.freezes:
            state.facts.loop.freezes = list(self.guard.spy.freezes)
        for reason in hidden:
            state.facts.absent.setdefault("path", f"the graph is {reason}")
        if not state.facts.made and (model := self.models.called()) is not None:
            state.facts.made = self.origins.modules.get(model)
            state.facts.name = type(model).__name__
        return recipe

    def _stretched(self, state: State, loss: Any, order: list[Any]) -> None:
        """Outputs [N, 1] against data [N], or the other way round, and the loss a mean over all N x N pairs."""
        known = state.facts.stretched
        for outer in self.guard.spy.broadcasts:
            rows = max(outer.shapes[0])
            if not outer.one_sided or not torch_graph.all_pairs(
                loss.grad_fn, order, outer.first, outer.last, rows, chosen=self.guard.spy.chosen, met=self.guard.spy.met
            ):
                continue
            old = next((s for s in known if s.site == outer.site and s.function == outer.function), None)
            if old is not None:
                old.calls += 1
            elif len(known) < 8:
                known.append(Stretched(outer.shapes, outer.site, outer.function))

    def _look_inside(self, state: State, recipe: Recipe, loss: Any, order: list[Any], first: bool) -> None:
        """Layers, the order of the weights, hand-written formulas, functions of the user's own."""
        facts = state.facts
        step = state.step
        if not is_deep(facts.loop.backwards) and facts.layers:
            return
        names = {key: record.name for key, (_, record) in state.parameters.items()}
        torch_modules.look(order, step, facts.layers, names, self.origins.describe)
        for item in torch_modules.formulas(order, self.origins.describe):
            known = next((f for f in facts.formulas if f.kind == item.kind and (f.site == item.site or item.site is None)), None)
            if known is None:
                facts.formulas.append(item)
            else:
                for name, better in (("largest", max), ("smallest", min)):
                    values = [v for v in (getattr(known, name), getattr(item, name)) if v is not None]
                    setattr(known, name, better(values) if values else None)
        del facts.formulas[8:]
        self.modes.look(state)
        if first or not facts.operations:
            ranks, transposed = torch_modules.orders(order)
            for key, rank in ranks.items():
                entry = state.parameters.get(key)
                if entry is not None:
                    entry[1].order = rank
                    if key in transposed and not entry[1].transposed and (p := entry[0]()) is not None:
                        entry[1].transposed = True
                        torch_modules.first_sight(entry[1], p)
            node = torch_graph.follow(loss.grad_fn, recipe.route) if recipe.term is not None else None
            below = recipe.under(node) if node is not None else None
            facts.operations = torch_modules.operations(order, below)
            recipe.data_route = torch_modules.data_route(loss.grad_fn)
        if self.guard.spy.ops:
            known = {c.function for c in facts.custom}
            found = torch_modules.custom_functions(order, self.origins.describe)
            facts.custom.extend(c for c in found if c.function not in known)
            shape = recipe.term.target_shape if recipe.term is not None else None
            for item in self.guard.spy.reshapes:
                if item.rows is not None and (not shape or item.rows != shape[0]):
                    continue
                if not any(r.site == item.site and r.after == item.after for r in facts.reshapes) and len(facts.reshapes) < 32:
                    facts.reshapes.append(item)
            for item in self.guard.spy.dropouts:
                if not any(d.made == item.made for d in facts.modes):
                    facts.modes.append(item)

    def note_breaks(self, state: State, loss: Any) -> None:
        """Where gradient paths ended in the pass that the spy saw; is one of them on the way to this loss?"""
        broken = self.guard.spy._taint(loss)
        if broken is None and loss.grad_fn is None:
            broken = next((b for b in reversed(self.guard.spy.breaks) if b.reason in {"item", "numpy", "detach", "data"}), None)
        known = state.facts.breaks
        for item in self.guard.spy.breaks:
            on_path = item is broken
            old = next((b for b in known if b.site == item.site and b.reason == item.reason), None)
            if old is None and len(known) < 64:
                known.append(Break(item.reason, item.site, item.function, on_path))
            elif old is not None and on_path:
                old.on_path = True
