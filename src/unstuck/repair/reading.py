"""What the edits share: reading a call and its arguments, names and imports, and the number that an expression stands for."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from unstuck.repair.source import Cannot, Source, Span, tail

Argument = float | str | bool | list[float] | list[str]


Arguments = dict[str, Argument]


class Edit(NamedTuple):
    spans: list[Span]
    applicability: Literal["safe", "unsafe"] = "safe"
    note: str = ""  # what is to be decided or looked at, one sentence


def attempt(lines: Sequence[int], edit: Callable[[int], Edit | None], reason: str) -> Edit:
    """The first line at which an edit finds its subject. A Cannot of an earlier line is told when no later line helps."""
    told: Cannot | None = None
    for line in lines:
        try:
            found = edit(line)
        except Cannot as cannot:
            told = told or cannot
            continue
        if found is not None:
            return found
    raise told or Cannot(reason)


def argument_of(call: ast.Call, name: str, position: int | None = None) -> ast.expr | None:
    """The value of an argument, by keyword or by position."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    if position is None or any(isinstance(a, ast.Starred) for a in call.args[: position + 1]):
        return None
    return call.args[position] if len(call.args) > position else None


def plain(name: str) -> str:
    """LogSoftmax, log_softmax, Softmax2d -> logsoftmax, softmax."""
    return re.sub(r"[123]d$", "", name).replace("_", "").lower()


def made_by(source: Source, node: ast.AST) -> ast.Call | None:
    """The one construction that a name or attribute is assigned in this file."""
    values = source.assigned.get(ast.unparse(node), [])
    return values[0] if len(values) == 1 and isinstance(values[0], ast.Call) else None


def name_for(source: Source, dotted: str) -> tuple[str, list[Span]]:
    """How to call something here, with the import that is needed for it."""
    known = source.spelled(dotted)
    if known is not None:
        return known, []
    module, _, name = dotted.rpartition(".")
    for node in source.walk(ast.ImportFrom):
        if node.module == module and not node.level and node.names[0].name != "*":
            end = source.end(node.names[-1])
            return name, [Span(end, end, f", {name}")]
    for node in source.walk(ast.ImportFrom):
        if node.module == module and node.names[0].name == "*":
            return name, []
    raise Cannot(f"{dotted} is not imported in this file")


def renamed(source: Source, function: ast.expr, new: str, module: str) -> list[Span]:
    """The called name with its last part replaced: nn.MSELoss -> nn.CrossEntropyLoss; imports are extended where needed."""
    if isinstance(function, ast.Attribute):
        return [Span(source.end(function) - len(function.attr), source.end(function), new)]
    name, spans = name_for(source, f"{module}.{new}")
    return [source.replace(function, name), *spans]


def number_of(arguments: Arguments, name: str) -> float:
    value = arguments.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise Cannot(f"{name} is not known")
    return float(value)


def written(value: float) -> str:
    """Three digits, as one would write it: 0.001, 1e-5, 3.0."""
    text = f"{value:.3g}"
    text = re.sub(r"e([+-])0*", lambda m: "e-" if m[1] == "-" else "e", text)
    return text if any(c in text for c in ".en") else f"{text}.0"


def constant_of(node: ast.AST) -> float | None:
    """The value of a number that is written out."""
    sign = 1.0
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node, sign = node.operand, -1.0
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        return sign * float(node.value)
    return None


def literal_of(source: Source, node: ast.expr, what: str, depth: int = 0) -> ast.expr:
    """The number written in this file that an expression takes its value from. Raises Cannot that says where it comes from."""
    text = source.of(node) if hasattr(node, "lineno") else ""
    if constant_of(node) is not None:
        return node
    if depth > 4:
        raise Cannot(f"{what} is passed on too often")
    if isinstance(node, ast.Name):
        return _of_name(source, node, what, depth)
    if isinstance(node, ast.Attribute):
        return _of_attribute(source, node, what, depth)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        key = node.slice.value
        values = [
            v for d in source.walk(ast.Dict) for k, v in zip(d.keys, d.values)
            if isinstance(k, ast.Constant) and k.value == key
        ]  # fmt: skip
        values += [k.value for c in source.walk(ast.Call) if tail(c.func) == "dict" for k in c.keywords if k.arg == key]
        if len(values) == 1:
            return literal_of(source, values[0], what, depth + 1)
        raise Cannot(f"{what} is {text}, which is set in {len(values)} places of this file")
    raise Cannot(f"{what} is computed: {text}")


def _of_name(source: Source, node: ast.Name, what: str, depth: int) -> ast.expr:
    function = source.function(node)
    while not isinstance(function, ast.Module):
        parameters = function.args
        if node.id in {a.arg for a in (*parameters.posonlyargs, *parameters.args, *parameters.kwonlyargs)}:
            return _of_parameter(source, function, node.id, what, depth)
        if any(isinstance(n, ast.Name) and n.id == node.id and isinstance(n.ctx, ast.Store) for n in ast.walk(function)):
            break
        function = source.function(function)
    values = source.assigned.get(node.id, [])
    stores = [n for n in source.walk(ast.Name) if n.id == node.id and isinstance(n.ctx, ast.Store)]
    if len(values) == 1 and len(stores) == 1:
        return literal_of(source, values[0], what, depth + 1)
    if node.id in source.imports:
        raise Cannot(f"{what} is {source.imports[node.id]}, which is set in another file")
    raise Cannot(f"{what} is {node.id}, which is set in {len(stores)} places of this file")


def _of_parameter(source: Source, function: ast.AST, name: str, what: str, depth: int) -> ast.expr:
    """A parameter: what the only caller gives, or the default where no caller gives anything."""
    parameters = function.args
    klass = source.parents[function]
    method = isinstance(klass, ast.ClassDef)
    called = getattr(function, "name", "")
    if isinstance(klass, ast.ClassDef) and called == "__init__":
        called = klass.name
    positional = [a.arg for a in (*parameters.posonlyargs, *parameters.args)]
    place = positional.index(name) - int(method) if name in positional else None
    callers = [c for c in source.walk(ast.Call) if called and tail(c.func) == called]
    if any(k.arg is None for c in callers for k in c.keywords) or any(isinstance(a, ast.Starred) for c in callers for a in c.args):
        found = [
            v for c in callers for k in c.keywords if k.arg is None and isinstance(k.value, ast.Name)
            for d in source.assigned.get(k.value.id, []) if isinstance(d, ast.Dict)
            for key, v in zip(d.keys, d.values) if isinstance(key, ast.Constant) and key.value == name
        ]  # fmt: skip
        if len(found) == 1:
            return literal_of(source, found[0], what, depth + 1)
        raise Cannot(f"{what} is the parameter {name} of {called}(), given with others")
    given = [v for v in (argument_of(c, name, place) for c in callers) if v is not None]
    if len(given) == 1 and len(callers) == 1:
        return literal_of(source, given[0], what, depth + 1)
    defaults = dict(zip(reversed(positional), reversed(parameters.defaults)))
    defaults |= {a.arg: d for a, d in zip(parameters.kwonlyargs, parameters.kw_defaults) if d is not None}
    if not given and name in defaults:
        return literal_of(source, defaults[name], what, depth + 1)
    raise Cannot(f"{what} is the parameter {name} of {called or 'a lambda'}(), which {len(given)} callers in this file give")


def _of_attribute(source: Source, node: ast.Attribute, what: str, depth: int) -> ast.expr:
    """args.lr, cfg.lr, self.lr: a field's default, an assignment, or an option of the command line (which is told, not changed)."""
    for call in source.walk(ast.Call):
        if tail(call.func) in {"add_argument", "option"}:
            names = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            destination = argument_of(call, "dest")
            known = {n.lstrip("-").replace("-", "_") for n in names}
            if isinstance(destination, ast.Constant):
                known = {str(destination.value)}
            if node.attr in known and names:
                raise Cannot(f"{what} is the option {max(names, key=len)} of the command line (line {call.lineno}): give it there")
    owner = source.of(node.value)
    fields: list[tuple[ast.ClassDef, ast.expr]] = []
    for klass in source.walk(ast.ClassDef):
        for statement in klass.body:
            if isinstance(statement, (ast.AnnAssign, ast.Assign)) and statement.value is not None:
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                if any(isinstance(t, ast.Name) and t.id == node.attr for t in targets):
                    fields.append((klass, statement.value))
    stored = [
        (t, n.value) for n in source.walk(ast.Assign) for t in n.targets
        if isinstance(t, ast.Attribute) and t.attr == node.attr and (ast.unparse(t.value) in {owner, "self"})
    ]  # fmt: skip
    if len(fields) == 1 and not stored:
        klass, default = fields[0]
        given = [
            k.value for c in source.walk(ast.Call) if tail(c.func) in {klass.name, "replace"}
            for k in c.keywords if k.arg == node.attr
        ]  # fmt: skip
        if len(given) <= 1:
            return literal_of(source, given[0] if given else default, what, depth + 1)
    if len(stored) == 1 and not fields:
        return literal_of(source, stored[0][1], what, depth + 1)
    raise Cannot(f"{what} is {owner}.{node.attr}, which is set in {len(fields) + len(stored)} places of this file")


def renumbered(source: Source, node: ast.expr, new: Callable[[float], float], what: str) -> Span:
    """The number that an expression takes its value from, replaced; where that number serves other ends, too, the expression."""
    literal = literal_of(source, node, what)
    text = written(new(constant_of(literal) or 0.0))
    return source.replace(node if isinstance(node, ast.Name) and _used_elsewhere(source, node) else literal, text)


def _used_elsewhere(source: Source, name: ast.Name) -> bool:
    """Is the name read for another end than here: not to be shown, and not by another call of the same function?"""

    def reader(node: ast.AST) -> str:
        calls = (a for a in source.above(node) if isinstance(a, (ast.Call, ast.JoinedStr)))
        call = next(calls, None)
        return tail(call.func) if isinstance(call, ast.Call) else "print" if isinstance(call, ast.JoinedStr) else ""

    reads = [n for n in source.walk(ast.Name) if n.id == name.id and isinstance(n.ctx, ast.Load)]
    return any(reader(n) not in {"print", reader(name)} for n in reads)


def dot_before(source: Source, attribute: ast.Attribute) -> int:
    """Where `.name` begins, behind what it is a part of and its parentheses."""
    return source.text.rindex(".", source.end(attribute.value), source.end(attribute))
