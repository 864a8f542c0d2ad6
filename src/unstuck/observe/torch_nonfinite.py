"""The first tensor that is NaN or infinite: an input, a weight, a buffer, an operation of the forward pass, a gradient."""

from __future__ import annotations

from typing import Any

import torch

from unstuck.observe import torch_graph
from unstuck.observe.torch_models import Models
from unstuck.observe.torch_state import State
from unstuck.observe.torch_weights import Weights
from unstuck.trace.facts import NonFinite, Site

_CULPRITS = {"log", "sqrt", "div", "pow", "exp", "reciprocal", "log_sigmoid", "acos", "asin", "log1p", "log2"}
_INFINITE_SLOPE = {"sqrt", "norm", "acos", "asin", "log", "pow"}  # their derivatives at 0


def in_loss(state: State, loss: Any, models: Models, weights: Weights) -> None:
    """The loss is NaN or infinite for the first time: find the first tensor that is."""
    step = state.rows
    for i, ref in enumerate(models.last_inputs):
        x = ref()
        if x is not None and x.is_floating_point() and not bool(torch.isfinite(x).all()):
            share = float((~torch.isfinite(x)).double().mean())
            state.facts.nonfinite = NonFinite(
                "input", f"input {i + 1} of the model", step, f"{share:.2%} of its numbers", share=share
            )
            return
    weights.update(state, frozenset(), models.names())
    for ref, record in state.parameters.values():
        p = ref()
        if p is not None and not bool(torch.isfinite(p).all()):
            state.facts.nonfinite = NonFinite(
                "parameter", record.name, step, "after the update of this step, while the loss before it was finite",
                site=state.facts.loop.step_site,
            )  # fmt: skip
            return
    model = models.called()
    if model is not None:
        for name, b in model.named_buffers():
            if b.is_floating_point() and not bool(torch.isfinite(b).all()):
                state.facts.nonfinite = NonFinite("buffer", name, step)
                return
    out = models.last_output() if models.last_output is not None else None
    if out is not None and out.is_floating_point() and not bool(torch.isfinite(out).all()):
        culprit = _first_bad_node(state, loss)
        state.facts.nonfinite = NonFinite("output", "the model's output", step, culprit[0], site=culprit[1])
        return
    culprit = _first_bad_node(state, loss)
    term = state.facts.term
    if culprit[1] is None and term is not None:
        culprit = (culprit[0], term.site)
    state.facts.nonfinite = NonFinite("loss", "the loss", step, culprit[0], site=culprit[1])


def check_gradients(state: State, tensors: list[Any]) -> None:
    """Between the sampled steps of the beginning: is every gradient finite? It must be seen before the step turns
    it into weights that are not."""
    grads = [p.grad for p in tensors if p.grad is not None and not p.grad.is_sparse]
    if grads and sum(g.numel() for g in grads) <= 2_000_000:
        norms = torch.stack(torch._foreach_norm(grads))
        if not bool(torch.isfinite(norms).all()):
            in_gradients(state, tensors)


def in_gradients(state: State, tensors: list[Any]) -> None:
    """The norm of these gradients is not finite: the first of them that is not."""
    bad = next((p for p in tensors if p.grad is not None and not bool(torch.isfinite(p.grad).all())), None)
    if bad is None:
        return  # finite numbers whose norm overflows
    entry = state.parameters.get(id(bad))
    name = entry[1].name if entry is not None else f"tensor {list(bad.shape)}"
    # Derivatives that are infinite at 0, in the graph of this loss: the usual suspects.
    suspects = [
        (torch_graph.OPS.get(raw.rpartition("Backward")[0], raw.rpartition("Backward")[0].lower()), place)
        for recipe in state.recipes.values() for raw, place in recipe.places if place is not None
    ]  # fmt: skip
    found = next(((op, place) for op, place in suspects if op in _INFINITE_SLOPE), None)
    detail = "of a finite loss" + (f"; the graph has {found[0]}, whose derivative is infinite at 0" if found else "")
    site = found[1] if found else state.facts.loop.backward_site
    state.facts.nonfinite = NonFinite("gradient", name, state.rows, detail, site=site)


def in_weights(state: State) -> None:
    """relu and clamp can hide NaN weights behind a finite loss: look at the weights themselves."""
    if state.facts.nonfinite is not None:
        return
    for ref, record in state.parameters.values():
        p = ref()
        if p is not None and p.is_floating_point() and not bool(torch.isfinite(p).all()):
            state.facts.nonfinite = NonFinite(
                "parameter", record.name, state.rows, "found at the end; the loss does not show it",
                site=state.facts.loop.step_site,
            )  # fmt: skip
            return


def _first_bad_node(state: State, loss: Any) -> tuple[str, Site | None]:
    """The deepest graph node whose saved operand shows the step from finite to non-finite."""
    order, _, _ = torch_graph.walk(loss.grad_fn)
    # The lines were noted in the first passes; the same graph has its nodes in the same order.
    chain, _ = torch_graph.signature(loss.grad_fn)
    recipe = state.recipes.get(chain)
    places: dict[Any, Site | None] = {}
    if recipe is not None and [n for n, _ in recipe.places] == [n.name() for n in order[:3000]]:
        places = {node: place for node, (_, place) in zip(order, recipe.places)}
    order.sort(key=lambda n: n._sequence_nr() if not torch_graph.is_leaf(n) else -1)
    for node in order:
        if torch_graph.is_leaf(node):
            continue
        op = torch_graph.op_name(node)
        x = getattr(node, "_saved_self", None)
        if op in _CULPRITS and isinstance(x, torch.Tensor):
            if not bool(torch.isfinite(x).all()):
                continue
            place = places.get(node)
            with torch.no_grad():
                if op == "log" and bool((x <= 0).any()):
                    n = int((x <= 0).sum())
                    return f"log of {n} numbers that are 0 or negative", place
                exponent = getattr(node, "_saved_exponent", 0.5)
                whole = isinstance(exponent, (int, float)) and float(exponent).is_integer()
                if op in {"sqrt", "pow"} and not whole and bool((x < 0).any()):
                    return f"{op} of a negative number", place
                if op == "exp" and not bool(torch.isfinite(x.exp()).all()):
                    return f"exp of {float(x.max()):.0f} overflows {str(x.dtype).removeprefix('torch.')}", place
                if op == "div":
                    other = getattr(node, "_saved_other", None)
                    if isinstance(other, torch.Tensor) and bool((other == 0).any()):
                        return "division by 0", place
                if op == "reciprocal" and bool((x == 0).any()):
                    return "division by 0", place
        elif op == "div":
            other = getattr(node, "_saved_other", None)
            if isinstance(other, torch.Tensor) and bool((other == 0).any()):
                return "division by 0", places.get(node)
    return "", None
