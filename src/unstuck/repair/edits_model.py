"""Edits of data, layers and what they start from."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from unstuck.repair.edits_loop import optimizer_at, with_optimizer
from unstuck.repair.edits_loss import behind
from unstuck.repair.reading import (
    Arguments,
    Edit,
    argument_of,
    attempt,
    constant_of,
    dot_before,
    literal_of,
    name_for,
    number_of,
    renumbered,
    written,
)
from unstuck.repair.source import Cannot, Source, Span, tail


def shuffle(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """shuffle=True at the DataLoader."""

    def edit(line: int) -> Edit | None:
        call = next((c for c in source.calls(line) if tail(c.func) == "DataLoader"), None)
        if call is None:
            return None
        if any(k.arg in {"sampler", "batch_sampler"} for k in call.keywords):
            raise Cannot("the DataLoader has a sampler, which decides the order")
        given = argument_of(call, "shuffle", 2)
        if given is not None:
            if isinstance(given, ast.Constant) and given.value is False:
                return Edit([source.replace(given, "True")])
            raise Cannot(f"shuffle is {source.of(given)}")
        if any(k.arg is None for k in call.keywords):
            raise Cannot("the DataLoader's options are set in another place")
        return Edit([source.argument(call, "shuffle=True")])

    return attempt(lines, edit, "no DataLoader is constructed at the line; draw a new torch.randperm(len(X)) in every epoch")


def set_dropout(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    p = number_of(arguments, "p")

    def edit(line: int) -> Edit | None:
        for call in source.calls(line):
            name = tail(call.func)
            value = argument_of(call, "dropout")
            if value is None and "dropout" in name.lower():
                value = argument_of(call, "p", 0 if name[:1].isupper() else 1)
            if value is None:
                continue
            try:
                if (constant_of(literal_of(source, value, "")) or 0.0) <= p:
                    continue  # another dropout on the line, which is no stronger
                span = renumbered(source, value, lambda v: p, "the share that is dropped")
            except Cannot:
                span = source.replace(value, written(p))
            return Edit([span], "unsafe", "How strong dropout may be is found by trying.")
        return None

    return attempt(lines, edit, "no dropout stands at the line")


def unfreeze(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """requires_grad = True where it was set to something else."""

    def edit(line: int) -> Edit | None:
        statement = source.statement_at(line)
        if (
            isinstance(statement, ast.Assign)
            and any(isinstance(t, ast.Attribute) and t.attr == "requires_grad" for t in statement.targets)
            and not (isinstance(statement.value, ast.Constant) and statement.value.value is True)
        ):
            return Edit([source.replace(statement.value, "True")], "unsafe", _UNFREEZE)
        for call in source.calls(line):
            if tail(call.func) == "requires_grad_":
                value = argument_of(call, "requires_grad", 0)
                if isinstance(value, ast.Constant) and value.value is False:
                    return Edit([source.replace(value, "True")], "unsafe", _UNFREEZE)
        return None

    try:
        return attempt(lines, edit, "nothing at the line freezes parameters")
    except Cannot:
        named = [n.lineno for n in source.walk(ast.Assign, ast.Expr) if "requires_grad" in ast.unparse(n)]
        freezing = [found for found in map(edit, named) if found is not None]
        if len(freezing) != 1:
            raise
        return freezing[0]


_UNFREEZE = "The layers may have been frozen on purpose; the optimizer must hold them too."


def add_parameters(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """Layers in a plain list become a ModuleList; an optimizer that was built too early moves behind the model; an optimizer of
    one part of the model is given all of it."""

    def edit(line: int) -> Edit | None:
        call = optimizer_at(source, line)
        if call is None:
            return None
        lists = [n for n in source.walk(ast.Assign) if isinstance(n.targets[0], ast.Attribute) and _layers(source, n.value)]
        if len(lists) == 1:
            name, spans = name_for(source, "torch.nn.ModuleList")
            value = lists[0].value
            return Edit(
                [source.replace(value, f"{name}({source.of(value)})"), *spans], "unsafe", "The layers then belong to the model."
            )
        moved = _moved(source, call)
        if moved:
            return Edit(moved, "unsafe", "The optimizer is built once the model is final.")
        given = call.args[0] if call.args else None
        if (
            isinstance(given, ast.Call) and isinstance(given.func, ast.Attribute) and given.func.attr == "parameters"
            and isinstance(given.func.value, ast.Attribute) and not given.args and source.of(given.func.value.value) != "self"
        ):  # fmt: skip
            return Edit([source.inner(given.func.value.value, given.func.value)], "unsafe", "The rest of the model is trained too.")
        raise Cannot("which parameters are missing in its groups has to be seen")

    return attempt(with_optimizer(source, lines), edit, "no optimizer is constructed at the line")


def _layers(source: Source, node: ast.expr) -> bool:
    """Is it a plain list of modules?"""
    elements = node.elts if isinstance(node, ast.List) else [node.elt] if isinstance(node, ast.ListComp) else []
    made = [e.func for e in elements if isinstance(e, ast.Call)]
    return any(source.dotted(f).startswith("torch.nn.") and tail(f)[:1].isupper() for f in made)


def _moved(source: Source, call: ast.Call) -> list[Span]:
    """The optimizer's line behind the last line that makes its model anew before the optimizer is used; [] where there is none."""
    statement = source.parents[call]
    if not isinstance(statement, ast.Assign) or not call.args:
        return []
    held = {n.id for n in ast.walk(call.args[0]) if isinstance(n, ast.Name)}
    name = ast.unparse(statement.targets[0])
    block = source.block(statement)
    last: ast.stmt | None = None
    for later in block[block.index(statement) + 1 :]:
        if any(ast.unparse(n) == name for n in ast.walk(later) if isinstance(n, (ast.Name, ast.Attribute))):
            break
        if isinstance(later, ast.Assign) and any(isinstance(t, ast.Name) and t.id in held for t in later.targets):
            last = later
    return [source.delete(statement), source.after(last, source.of(statement))] if last is not None else []


def reinitialise(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """The line that overwrites torch's own initialisation is left out."""
    statements = [s for s in source.walk(ast.Expr) if isinstance(s.value, ast.Call) and _initialises(source, s.value)]
    here = [s for s in statements if any(s.lineno <= line <= (s.end_lineno or 0) for line in lines)]
    found = here[:1] or statements
    if len(found) == 1:
        return Edit([source.delete(found[0])], "unsafe", "The layer then starts as torch draws it.")
    if not found:
        raise Cannot("no line of this file was found that sets the weights to constants or too far apart")
    raise Cannot(f"several lines set weights or biases: {', '.join(str(s.lineno) for s in found)}")


def _initialises(source: Source, call: ast.Call) -> bool:
    """Does it set weights to a constant, biases to one that is not 0, or draw without regard to the size of the layer?"""
    name = tail(call.func)
    text = ast.unparse(call.args[0]) if call.args else ""
    if isinstance(call.func, ast.Attribute) and not source.dotted(call.func).startswith("torch.nn.init"):
        text = ast.unparse(call.func.value)
        if not re.search(r"\b(weight|bias|data)\b", text) or name not in {"zero_", "fill_", "normal_", "uniform_"}:
            return False
    elif name not in {"zeros_", "ones_", "constant_", "normal_", "uniform_", "orthogonal_"}:
        return False
    bias = "bias" in text
    numbers = [c for c in (constant_of(a) for a in [*call.args[1:], *(k.value for k in call.keywords)]) if c is not None]
    if bias:
        return (name in {"constant_", "fill_"} and not (numbers and numbers[0] == 0)) or name == "ones_"
    # Batch and layer norms start with weights of 1 and that is right; torch's draw depends on the fan-in, a bare normal_ does not.
    return name not in {"ones_"} or "norm" not in text.lower()


def full_precision(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """All half-precision casts of the file become float32; autocast regions stay what they are."""
    spans: list[Span] = []
    for node in source.walk(ast.Call, ast.Attribute):
        within = any(isinstance(a, ast.Call) and "autocast" in tail(a.func).lower() for a in source.above(node))
        if isinstance(node, ast.Call):
            method = isinstance(node.func, ast.Attribute) and node.func.attr in {"half", "bfloat16"} and not node.args
            if method and not source.imported(node.func.value):
                inner = node.func.value
                parent = source.parents[node]
                plain = isinstance(parent, ast.Expr) or (
                    isinstance(parent, ast.Assign) and source.of(parent.targets[0]) == source.of(inner)
                )
                cast = Span(dot_before(source, node.func), source.end(node), "")
                spans.append(source.delete(source.statement(node)) if plain else cast)
        elif source.dotted(node) in {"torch.float16", "torch.bfloat16", "torch.half"} and not within:
            spans.append(Span(source.end(node) - len(node.attr), source.end(node), "float32"))
    if not spans:
        raise Cannot("nothing in this file casts to half precision")
    return Edit(spans, "unsafe", "Twice the memory, and slower where the device is faster in half precision.")


def add_activation(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """nn.ReLU() between linear layers of a stack that follow each other; nn.Identity given as an activation becomes nn.ReLU."""

    def edit(line: int) -> Edit | None:
        stacks = [c for c in source.calls(line) if tail(c.func) == "Sequential"]
        for stack in stacks:
            pairs = [(a, b) for a, b in zip(stack.args, stack.args[1:]) if _linear(a) and _linear(b)]
            if pairs:
                return Edit(sorted({behind(source, a, f"{_module(source, a)}ReLU()") for a, _ in pairs}), "unsafe", "")
        return None

    def identity(line: int) -> Edit | None:
        used = [n for n in source.walk(ast.Attribute) if source.dotted(n) == "torch.nn.Identity"]
        if len(used) != 1:
            return None
        return Edit([Span(source.end(used[0]) - len("Identity"), source.end(used[0]), "ReLU")], "unsafe", "")

    try:
        return attempt(lines, edit, "")
    except Cannot:
        return attempt(lines[:1], identity, "no stack with neighbouring linear layers stands at the line")


def _linear(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and bool(re.fullmatch(r"Linear|Conv[123]d", tail(node.func)))


def _module(source: Source, node: ast.expr) -> str:
    """`nn.` of nn.Linear(...)."""
    function = node.func if isinstance(node, ast.Call) else node
    if isinstance(function, ast.Attribute):
        return f"{source.of(function.value)}."
    known = source.spelled("torch.nn")
    if known is None:
        raise Cannot("torch.nn is not imported in this file")
    return f"{known}."


def widen(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """The number of units of the narrow layer, where one number of the file says it; or in two neighbours of a stack."""
    width = number_of(arguments, "width")

    def edit(line: int) -> Edit | None:
        for call in source.calls(line):
            value = (
                argument_of(call, "out_features", 1) or argument_of(call, "out_channels", 1) or argument_of(call, "hidden_size", 1)
            )
            if value is None or tail(call.func)[:1].islower():
                continue
            if constant_of(value) is None:
                literal = literal_of(source, value, "the width")
                return Edit([source.replace(literal, f"{width:.0f}")], "unsafe", "More units need more time and memory.")
            parent = source.parents[call]
            if isinstance(parent, ast.Call) and tail(parent.func) == "Sequential":
                behind = [a for a in parent.args[parent.args.index(call) + 1 :] if _linear(a)]
                entry = argument_of(behind[0], "in_features", 0) if behind and isinstance(behind[0], ast.Call) else None
                if entry is not None and constant_of(entry) == constant_of(value):
                    return Edit([source.replace(value, f"{width:.0f}"), source.replace(entry, f"{width:.0f}")],
                                "unsafe", "More units need more time and memory.")  # fmt: skip
            raise Cannot("the layers behind it name the same number")
        return None

    return attempt(lines, edit, "no layer with a width stands at the line")


def reattach(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """.detach() and .data at the line are left out."""

    def edit(line: int) -> Edit | None:
        spans = []
        for node in source.at(line, ast.Call, ast.Attribute):
            if any(isinstance(a, ast.Call) and tail(a.func) in _LEAVES for a in source.above(node)):
                continue  # what makes a new tensor or a number cuts the path as well
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "detach" and not node.args:
                spans.append(Span(dot_before(source, node.func), source.end(node), ""))
            elif (
                isinstance(node, ast.Attribute)
                and node.attr == "data"
                and isinstance(node.ctx, ast.Load)
                and not source.imported(node)
            ):
                spans.append(Span(dot_before(source, node), source.end(node), ""))
        return Edit(spans, "unsafe", "The gradient then flows there; it may have been cut on purpose.") if spans else None

    return attempt(lines, edit, "what cuts the gradient path has to be written in another way")


_LEAVES = {"numpy", "item", "tolist", "Variable", "tensor", "as_tensor", "from_numpy", "argmax"}


def batch_statistics(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """The momentum of a batch norm's running statistics becomes 0.1, torch's own."""

    def edit(line: int) -> Edit | None:
        for call in source.calls(line):
            value = argument_of(call, "momentum", 2) if "BatchNorm" in tail(call.func) else None
            if value is not None:
                return Edit([renumbered(source, value, lambda v: 0.1, "the momentum")], "unsafe", "")
        return None

    return attempt(lines, edit, "no batch norm with a momentum of its own stands at the line")
