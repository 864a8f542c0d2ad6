"""The numbers of one backward call, before the graph is freed: the loss against its chance level, what entered it, and the
inputs that belong to its labels."""

from __future__ import annotations

import math
import sys
import weakref
from typing import Any

import numpy as np
import torch

from unstuck.observe import torch_graph, torch_modules, torch_nonfinite, torch_spy, torch_values
from unstuck.observe.torch_guard import Guard
from unstuck.observe.torch_models import Models
from unstuck.observe.torch_patches import Patches
from unstuck.observe.torch_state import Recipe, State
from unstuck.observe.torch_values import NAN
from unstuck.observe.torch_weights import Weights
from unstuck.trace.facts import LossTerm


class Levels:
    """Reads the judged term of a loss along the recipe of its graph."""

    def __init__(self, guard: Guard, patches: Patches, models: Models, weights: Weights) -> None:
        self.guard = guard
        self.patches = patches
        self.models = models
        self.weights = weights
        self._telemetry: Any = None  # unstuck.losses.telemetry, where the script uses those losses
        self._calls_heard: list[tuple[int, Any]] = []  # (autograd's number at the call, what that loss knew)

    def read(self, state: State, recipe: Recipe, loss: Any, chain: tuple[str, ...]) -> None:
        """One more level of this training, in nats; `chain` is the signature of the graph."""
        root = float(loss.detach()) if loss.numel() == 1 else NAN
        if loss.numel() == 1 and not math.isfinite(root) and state.facts.nonfinite is None:
            torch_nonfinite.in_loss(state, loss, self.models, self.weights)
        term, labels = recipe.term, recipe.labels
        if term is None or labels is None:
            state.levels.append(torch_values.Level(root, NAN, NAN, NAN))
            return
        node = torch_graph.follow(loss.grad_fn, recipe.route)
        if node is None or node.name() != recipe.name:
            state.recipes.pop(chain, None)
            return
        loop = state.facts.loop
        total = root if recipe.exact else None
        if loop.backwards <= 4 or (loop.backwards % 25 == 0 and term.values.calls < 40):
            self._look_at_input(term, recipe, node)
        with np.errstate(all="ignore"):  # labels outside [0, 1] and the like: said by a rule, not by numpy
            level = self._level(term, labels, recipe, node, loss, total)
        if loop.backwards <= 4 and not recipe.exact and len(state.facts.terms) == 1 and abs(level.loss) > 1e-6:
            ratio = root / level.loss
            if term.scale is not None and not math.isclose(term.scale, ratio, rel_tol=1e-2):
                ratio = NAN  # no fixed factor
            term.scale = ratio if math.isfinite(ratio) else None
        if level.loss != level.loss and recipe.alone:
            level = level._replace(loss=root)
        if term.judged:
            state.levels.append(level)

    def _level(
        self, term: LossTerm, labels: torch_values.Labels, recipe: Recipe, node: Any, loss: Any, total: float | None
    ) -> torch_values.Level:
        kind = term.kind
        if kind == "nll" and "hand" in recipe.flags:
            # minus the probability of the label: -1/K at the uniform guess
            labels.stats.calls += 1
            return torch_values.Level(float(loss.detach()), -1.0 / term.classes if term.classes else NAN, NAN, NAN)
        if kind == "bce" and "hand" in recipe.flags:
            pick = torch_graph.follow(loss.grad_fn, recipe.pick) if recipe.pick is not None else None
            t = _other_operand(pick) if pick is not None else None
            p = getattr(node, "_saved_result", None)
            if t is None or p is None:
                return torch_values.UNKNOWN
            if bool((t <= 0).all()) and bool((t < 0).any()):
                t = -t
            if "log(1-p)" in recipe.first_flags:
                t = 1 - t
            if t.shape != p.shape:
                return torch_values.UNKNOWN
            return labels.binary(p, t, None, logits=False)
        own = torch_graph.own_call(node) if "own" in recipe.flags else None
        if own is not None:
            logits, target, *_ = own
            term.target_shape = term.target_shape or list(target.shape)
            if kind == "bce-logits":
                return labels.binary(logits, target, total, logits=True)
            seen = self._heard(node, logits)
            if kind == "soft-cross-entropy":
                return labels.soft(logits.detach().log_softmax(1 if logits.dim() > 1 else 0), target, total)
            labels.stats.kind = labels.stats.kind or "index"
            return labels.index(logits if seen is not None else logits.detach().log_softmax(1), target, total, seen)
        if kind in {"cross-entropy", "nll"}:
            if "fused" in recipe.flags or kind == "nll" or node.name().startswith("NllLoss"):
                y = node._saved_target
                if term.target_shape is None:
                    term.target_shape = list(y.shape)
                labels.stats.kind = labels.stats.kind or "index"
                level = labels.index(node._saved_self, y, total)
                if kind == "nll" and not term.values.log_probabilities and term.values.calls:
                    # No log-probabilities: ln K is not its level. Probabilities start at -1/K; logits have no level.
                    simplex = term.values.simplex_rows == term.values.calls and term.classes
                    return level._replace(chance=-1.0 / term.classes if simplex and term.classes else NAN, base=NAN)
                return level
            log_probs, y = _by_hand(recipe, node, loss)
            if y is not None and log_probs is not None and y.dim() <= log_probs.dim():
                labels.stats.kind = labels.stats.kind or "index"
                if log_probs.dim() == 2 and y.numel() == log_probs.shape[0]:
                    return labels.index(log_probs, y, total)
            return torch_values.UNKNOWN
        if kind in {"soft-cross-entropy", "kl"}:
            pick = torch_graph.follow(loss.grad_fn, recipe.pick) if recipe.pick is not None else None
            q = _other_operand(pick) if pick is not None else None
            log_probs = getattr(node, "_saved_result", None)
            if node.name().startswith("Softmax") and log_probs is not None:
                log_probs = log_probs.detach().log()
            elif node.name().startswith("Logsumexp"):
                x = node._saved_self.detach()
                log_probs = x - x.logsumexp(-1, keepdim=True)
            if q is None or log_probs is None or q.shape != log_probs.shape or term.class_axis is None:
                return torch_values.Level(total if total is not None else NAN, NAN, NAN, NAN)
            if bool((q <= 0).all()):
                q = -q  # -t * log p: the minus sign sits in the targets
            if term.class_axis != 1 and log_probs.dim() > 1:
                log_probs = log_probs.detach().movedim(term.class_axis, 1)
                q = q.detach().movedim(term.class_axis, 1)
            if term.target_shape is None:
                term.target_shape = list(q.shape)
            return labels.soft(log_probs, q, None if kind == "kl" else total)
        if kind in {"bce-logits", "bce"} and hasattr(node, "_saved_target"):
            term.target_shape = term.target_shape or list(node._saved_target.shape)
            return labels.binary(node._saved_self, node._saved_target, total, logits=kind == "bce-logits")
        if kind in {"mse", "smooth-l1", "huber"} and hasattr(node, "_saved_target"):
            target = node._saved_target
            if 0 in target.stride() and target.numel() > 1 and target.dim() > 1 and term.broadcast is not None:
                target = target[0]
            term.target_shape = term.target_shape or list(node._saved_target.shape)
            return labels.regression(node._saved_self, target, total, 2)
        if kind == "soft-margin" and hasattr(node, "_saved_target"):
            labels.stats.calls += 1
            labels._real_targets(torch_values.numpy_of(node._saved_target).reshape(-1, 1).astype(np.float64))
        elif kind == "multi-margin":
            labels.stats.calls += 1
        else:
            call = self.guard.spy.losses[-1] if self.guard.spy.losses else None
            x, y = (call.arguments.get(name) for name in ("input", "target")) if call is not None else (None, None)
            if isinstance(y, torch.Tensor) and y.numel():
                if kind == "l1" and isinstance(x, torch.Tensor) and x.shape == y.shape:
                    return labels.regression(x.detach(), y, total, 1)
                labels.stats.calls += 1
                array = torch_values.numpy_of(y).astype(np.float64)
                labels._real_targets(array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1))
        return torch_values.Level(
            float(loss.detach()) if total is None and loss.numel() == 1 else (total if total is not None else NAN),
            NAN,
            NAN,
            NAN,
        )

    def _heard(self, node: Any, logits: Any) -> Any:
        """The telemetry of a call of `unstuck.losses`; None where nobody listened yet. It has the numbers of the loss's own pass:
        nothing wide as the logits is computed a second time."""
        if self._telemetry is None:
            room = sys.modules.get("unstuck.losses.telemetry")
            if room is None:
                return None
            self._telemetry = room
            room.listeners.append(self._hear)
            self.patches.restore.append(lambda: room.listeners.remove(self._hear))
            return None
        rows = logits.numel() // max(1, logits.shape[1 if logits.dim() > 1 else 0])
        number = node._sequence_nr()  # taken before its forward ran, which is where it was heard
        return next((t for n, t in self._calls_heard if n > number and t.predicted.numel() == rows), None)

    def _hear(self, seen: Any) -> None:
        if self.guard.active and not self.guard.local.busy:
            self._calls_heard.append((torch_spy.sequence(), seen))
            del self._calls_heard[:-4]

    def _look_at_input(self, term: LossTerm, recipe: Recipe, node: Any) -> None:
        """The numbers that entered the loss: from the spied call, from what a node saved, or from the model's output."""
        x = None
        number = node._sequence_nr()
        call = next((c for c in self.guard.spy.losses if c.first <= number < c.last), None)
        if call is not None and isinstance(call.arguments.get("input"), torch.Tensor):
            x = call.arguments["input"]
            if call.name == "nll_loss" and term.kind == "cross-entropy":
                x = None
        if x is None and term.kind in {"nll", "bce"} and "hand" in recipe.flags:
            x = getattr(node, "_saved_result", None)
            if x is None and self.models.last_output is not None and (out := self.models.last_output()) is not None:
                x = out if term.input_shape is None or list(out.shape) == term.input_shape else None
        elif x is None and term.kind not in {"cross-entropy", "soft-cross-entropy", "kl"}:
            x = getattr(node, "_saved_self", None)
        if x is None and term.kind in {"cross-entropy", "soft-cross-entropy"}:
            below, _ = torch_graph.skip_views(recipe.under(node))
            if below is not None and torch_graph.op_name(below) in {"softmax", "sigmoid", "tanh", "relu"}:
                x = getattr(below, "_saved_result", None)
            elif below is not None and term.path_end != "parametric":
                x = self.models.last_output() if self.models.last_output is not None else None
                if x is not None and (term.input_shape is None or x.numel() != math.prod(term.input_shape)):
                    x = None
        if x is None:
            return
        axis = term.class_axis
        if axis is not None and axis >= x.dim():
            axis = x.dim() - 1 if x.dim() > 1 else None
        if term.input_shape is None:
            term.input_shape = list(x.shape)
        torch_values.look_at_values(term.values, x, axis)

    def take_data(self, state: State, recipe: Recipe, loss: Any, inputs: list[list[weakref.ref[Any]]]) -> None:
        """(input, label) pairs: `inputs` are the tensors of each model call before this loss, whose labels were just read."""
        calls = [[t for ref in refs if (t := ref()) is not None] for refs in inputs]
        calls = [tensors for tensors in calls if tensors]
        y = recipe.labels.last if recipe.labels is not None else None
        # Of several calls (an evaluation in between, two views) the one with as many rows as there are labels is meant.
        fits = [t for t in calls if y is not None and t[0].dim() and t[0].shape[0] == y.size]
        tensors = fits[-1] if fits else calls[0] if calls else []
        if not tensors and recipe.data_route is not None and not self.guard.packs:
            node = torch_graph.follow(loss.grad_fn, recipe.data_route)
            if node is not None:
                _, value, data = torch_modules.saved(node, torch_graph.op_name(node))
                tensors = [value] if data else []
        if tensors and recipe.labels is not None and recipe.term is not None:
            state.data.arrived(tensors, self.models.input_site, self.guard.spy.rows_of)
            state.data.labelled(recipe.labels.last, recipe.term.ignore_index)


def _by_hand(recipe: Recipe, node: Any, loss: Any) -> tuple[Any, Any]:
    """(log-probabilities, labels) of a cross-entropy that is written out."""
    pick = torch_graph.follow(loss.grad_fn, recipe.pick) if recipe.pick is not None else None
    result = getattr(node, "_saved_result", None)
    name = node.name()
    if name.startswith("LogSoftmax"):
        log_probs = result
    elif name.startswith("Softmax") and result is not None:
        log_probs = result.detach().log()
    elif name.startswith("Logsumexp"):
        x = node._saved_self
        log_probs = x.detach() - x.detach().logsumexp(-1, keepdim=True)
        pick = _find_pick(loss.grad_fn)
    else:
        return None, None
    if pick is None:
        return log_probs, None
    index = getattr(pick, "_saved_index", None)
    if index is None:
        indices = [i for i in (getattr(pick, "_saved_indices", None) or ()) if i is not None]
        index = indices[-1] if indices else None
    if index is None or index.is_floating_point() or index.dtype == torch.bool:
        return log_probs, None
    return log_probs, index.reshape(-1) if index.numel() == (log_probs.shape[0] if log_probs.dim() > 1 else 1) else None


def _other_operand(node: Any) -> Any:
    """The saved operand of a multiplication that is not differentiated."""
    edges = node.next_functions
    return getattr(node, "_saved_other" if edges and edges[0][0] is not None else "_saved_self", None)


def _find_pick(root: Any) -> Any:
    """The first gather or index below the root."""
    stack, seen = [root], 0
    while stack and seen < 60:
        node = stack.pop(0)
        seen += 1
        if torch_graph.is_leaf(node):
            continue
        if torch_graph.op_name(node) in {"index", "gather"}:
            return node
        stack.extend(torch_graph.children(node))
    return None
