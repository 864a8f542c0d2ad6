"""Edits of the training loop: the optimizer with its numbers, zero_grad, step, clipping, the mode of the model."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence

from unstuck.repair.reading import Arguments, Edit, argument_of, attempt, made_by, name_for, number_of, renamed, renumbered, written
from unstuck.repair.source import Cannot, Source, Span, tail


def _optimizer(source: Source, call: ast.Call) -> bool:
    """Does the call construct an optimizer?"""
    name, dotted = tail(call.func), source.dotted(call.func)
    if not name[:1].isupper() or "lr_scheduler" in dotted:
        return False
    known = re.search(r"\boptim(izers?)?\b", dotted) or re.search(r"SGD|Adam|RMSprop|Adagrad|Adadelta|LBFGS|Lion", name)
    return bool(known) or (argument_of(call, "lr") is not None and bool(call.args))


def optimizer_at(source: Source, line: int) -> ast.Call | None:
    """The call on the line that constructs an optimizer."""
    return next((c for c in source.calls(line) if _optimizer(source, c)), None)


def with_optimizer(source: Source, lines: Sequence[int]) -> list[int]:
    """The lines; where none of them constructs an optimizer also that of the only one of the file."""
    if any(optimizer_at(source, line) for line in lines):
        return list(lines)
    made = {c.lineno for c in source.walk(ast.Call) if _optimizer(source, c)}
    return [*lines, *made] if len(made) == 1 else list(lines)


def _rates(source: Source, call: ast.Call, option: str, position: int | None) -> list[ast.expr]:
    """The values of an option: of the optimizer and of its groups."""
    found = [v for v in [argument_of(call, option, position)] if v is not None]
    groups = [n for a in call.args[:1] for n in ast.walk(a) if isinstance(n, ast.Dict)]
    if call.args and isinstance(call.args[0], ast.Name):
        groups += [n for v in source.assigned.get(call.args[0].id, []) for n in ast.walk(v) if isinstance(n, ast.Dict)]
    found += [v for d in groups for k, v in zip(d.keys, d.values) if isinstance(k, ast.Constant) and k.value == option]
    for keyword in call.keywords:  # **options
        if keyword.arg is None:
            options = keyword.value
            values = source.assigned.get(ast.unparse(options), []) if not isinstance(options, ast.Dict) else [options]
            found += [v for d in values if isinstance(d, ast.Dict) for k, v in zip(d.keys, d.values)
                      if isinstance(k, ast.Constant) and k.value == option]  # fmt: skip
            found += [
                k.value for d in values if isinstance(d, ast.Call) and tail(d.func) == "dict" for k in d.keywords if k.arg == option
            ]
    return found


def _options(
    source: Source, lines: Sequence[int], option: str, position: int | None, new: Callable[[float], float], what: str
) -> Edit:
    def scheduled(line: int) -> Edit | None:
        """OneCycleLR and CyclicLR overwrite the optimizer's rate with their own."""
        for call in source.calls(line):
            if tail(call.func) in {"OneCycleLR", "CyclicLR"}:
                values = [v for v in (argument_of(call, w, p) for w, p in (("max_lr", 1), ("base_lr", None))) if v is not None]
                return Edit([renumbered(source, v, new, what) for v in values], "unsafe", note)
        return None

    def edit(line: int) -> Edit | None:
        call = optimizer_at(source, line)
        if call is None:
            return None
        values = _rates(source, call, option, position)
        if not values:
            raise Cannot(f"the optimizer at line {call.lineno} is given no {option}")
        return Edit(sorted({renumbered(source, v, new, what) for v in values}), "unsafe", note)

    note = "The right value is found by trying: three to ten times more or less is the next step."
    if option == "lr":
        try:
            return attempt(lines, scheduled, "")
        except Cannot as cannot:
            if str(cannot):
                raise
    return attempt(with_optimizer(source, lines), edit, "no optimizer is constructed at the line")


def scale_learning_rate(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    factor = number_of(arguments, "factor")
    return _options(source, lines, "lr", 1, lambda v: v * factor, "the learning rate")


def set_learning_rate(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    rate = number_of(arguments, "lr")
    return _options(source, lines, "lr", 1, lambda v: rate, "the learning rate")


def scale_weight_decay(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    factor = number_of(arguments, "factor")
    return _options(source, lines, "weight_decay", None, lambda v: v * factor, "the weight decay")


def adaptive_optimizer(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """torch.optim.SGD(parameters, ...) -> torch.optim.Adam(parameters, lr=1e-3), with its weight decay."""
    rate = arguments.get("lr")
    rate = float(rate) if isinstance(rate, (int, float)) and not isinstance(rate, bool) else 1e-3

    def edit(line: int) -> Edit | None:
        call = optimizer_at(source, line)
        if call is None:
            return None
        if tail(call.func) != "SGD" or not call.args or any(k.arg is None for k in call.keywords):
            raise Cannot(f"the optimizer at line {call.lineno} is no plain SGD")
        if any(isinstance(n, ast.Dict) for n in ast.walk(call.args[0])):
            raise Cannot("its groups have learning rates of their own")
        decay = argument_of(call, "weight_decay", 4)
        name = renamed(source, call.func, "Adam", "torch.optim")
        open_, close = source.end(call.args[0]), source.end(call) - 1
        rest = f", lr={written(rate)}" + (f", weight_decay={source.of(decay)}" if decay is not None else "")
        return Edit(
            [*name, Span(open_, close, rest)], "unsafe", "Adam takes steps of another length: its learning rate is chosen anew."
        )

    return attempt(with_optimizer(source, lines), edit, "no optimizer is constructed at the line")


def constant_learning_rate(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """The scheduler is not asked any more; a plateau scheduler that waits for a loss to grow waits for it to fall."""

    def edit(line: int) -> Edit | None:
        for call in source.calls(line):
            mode = argument_of(call, "mode", 1)
            if tail(call.func) == "ReduceLROnPlateau" and isinstance(mode, ast.Constant) and mode.value == "max":
                quote = source.of(mode)[0]
                return Edit(
                    [source.replace(mode, f"{quote}min{quote}")], "unsafe", "The scheduler is given a loss, which is to fall."
                )
            name = next((n for n, values in source.assigned.items() if call in values), "")
            if name and ("lr_scheduler" in source.dotted(call.func) or tail(call.func).endswith("LR")):
                steps = [
                    n for n in source.walk(ast.Expr)
                    if isinstance(n.value, ast.Call) and ast.unparse(n.value.func) == f"{name}.step"
                ]  # fmt: skip
                if steps:
                    return Edit(
                        [source.delete(s) for s in steps], "unsafe", "The learning rate then stays what it is at the start."
                    )
        return None

    return attempt(lines, edit, "no scheduler whose steps could be left out is constructed at the line")


def _call_of(statement: ast.stmt) -> ast.Call | None:
    """The call that a statement consists of."""
    return statement.value if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call) else None


def _backward(source: Source, line: int) -> ast.stmt | None:
    """The statement at the line that calls backward."""
    for call in source.calls(line):
        if tail(call.func) in {"backward", "manual_backward"}:
            return source.statement(call)
    return None


def _steps(source: Source, region: ast.AST) -> list[tuple[str, ast.Call]]:
    """(text of the optimizer, its step call) within a region; schedulers and meters are none."""
    found = []
    for call in ast.walk(region):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "step"):
            continue
        owner = call.func.value
        if re.search(r"sched|warmup|ema|profil|prof$|bar$", ast.unparse(owner).lower()):
            continue
        made = made_by(source, owner)
        if made is not None and ("lr_scheduler" in source.dotted(made.func) or tail(made.func).endswith("LR")):
            continue
        if "scaler" in ast.unparse(owner).lower() and call.args:
            owner = call.args[0]
        found.append((source.of(owner), call))
    return found


def _once(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(names))


def zero_before_backward(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """optimizer.zero_grad() right before backward; behind the step where steps are taken less often than backward is called."""

    def edit(line: int) -> Edit | None:
        statement = _backward(source, line)
        if statement is None:
            return None
        regions = [*source.loops(statement), source.function(statement)]
        steps = next((s for s in (_steps(source, r) for r in regions) if s), [])
        if not steps:
            raise Cannot("no step of an optimizer stands in the same loop")
        block = source.block(statement)
        beside = [s for s in steps if source.statement(s[1]) in block]
        backwards = [s for s in block if any(isinstance(n, ast.Call) and tail(n.func) == "backward" for n in ast.walk(s))]
        if len(beside) == len(steps) and len(backwards) == 1:
            return Edit([source.before(statement, f"{name}.zero_grad()") for name in _once([n for n, _ in steps])])
        # Gradients are gathered over several backward calls on purpose: they are spent when a step was taken.
        last = {name: call for name, call in steps}
        return Edit([source.after(source.statement(call), f"{name}.zero_grad()") for name, call in last.items()])

    return attempt(lines, edit, "no backward is called at the line")


def keep_gradients(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """The zero_grad that stands between backward and step goes in front of backward; from another function, behind the step."""
    zeros = [
        s for line in lines for s in [source.statement_at(line)]
        if s is not None and (call := _call_of(s)) is not None and tail(call.func) == "zero_grad"
    ]  # fmt: skip
    if not zeros:
        raise Cannot("no statement at the line sets the gradients to zero")
    zero = zeros[0]
    text = source.of(zero)
    block = source.block(zero)
    before = [
        s for s in block[: block.index(zero)] if any(isinstance(n, ast.Call) and tail(n.func) == "backward" for n in ast.walk(s))
    ]
    if before:
        return Edit([source.delete(zero), source.before(before[-1], text)])
    steps = [s for line in lines for c in source.calls(line) if tail(c.func) == "step" for s in [source.statement(c)]]
    for step in steps:
        same = source.klass(step) is source.klass(zero) and (
            source.function(step) is source.function(zero) or text.startswith("self.")
        )
        if same and _call_of(step) is not None:
            return Edit([source.delete(zero), source.after(step, text)])
    raise Cannot("backward, zero_grad and step stand in different places of the program")


def call_step(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """optimizer.step() behind backward (and behind the clipping that follows it); or its missing parentheses."""

    def edit(line: int) -> Edit | None:
        statement = _backward(source, line)
        if statement is None:
            return None
        function = source.function(statement)
        for node in ast.walk(function):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Attribute) and node.value.attr == "step":
                return Edit([Span(source.end(node), source.end(node), "()")])
        there = _steps(source, function)
        if there:
            raise Cannot(f"{there[0][0]}.step() stands at line {there[0][1].lineno}, but is not reached: look at its condition")
        name = _optimizer_for(source, statement)
        block = source.block(statement)
        at = block.index(statement)
        while at + 1 < len(block) and "clip_grad" in ast.unparse(block[at + 1]).split("(")[0]:
            at += 1
        return Edit([source.after(block[at], f"{name}.step()")])

    return attempt(lines, edit, "no backward is called at the line")


def _optimizer_for(source: Source, statement: ast.stmt) -> str:
    """The name under which a statement's function knows the optimizer."""
    function = source.function(statement)
    zeroed = [
        ast.unparse(n.func.value) for n in ast.walk(function)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr == "zero_grad"
    ]  # fmt: skip
    made = {
        name: call for name, values in source.assigned.items() for call in values
        if isinstance(call, ast.Call) and _optimizer(source, call)
    }  # fmt: skip
    for name in zeroed:
        if name in made or "opt" in name.lower():
            return name
    klass = source.klass(statement)
    reachable = [
        name for name, call in made.items()
        if source.function(call) in {function, source.tree} or (name.startswith("self.") and source.klass(call) is klass)
    ]  # fmt: skip
    if len(reachable) == 1:
        return reachable[0]
    parameters = getattr(function, "args", None)
    given = (
        [a.arg for a in (*parameters.posonlyargs, *parameters.args, *parameters.kwonlyargs) if "opt" in a.arg] if parameters else []
    )
    if len(given) == 1:
        return given[0]
    raise Cannot("the name of the optimizer at that line is not known")


def clip_gradients(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """clip_grad_norm_ behind backward; where there is one already, its threshold."""
    norm = number_of(arguments, "norm")

    def there(line: int) -> Edit | None:
        call = _clipping(source, line)
        if call is None:
            return None
        threshold = argument_of(call, "max_norm", 1) or argument_of(call, "clip_value", 1)
        if threshold is None:
            raise Cannot("its threshold is not written out")
        return Edit([renumbered(source, threshold, lambda v: norm, "the threshold")], "unsafe", _THRESHOLD)

    def new(line: int) -> Edit | None:
        step = next((source.statement(c) for _, c in _steps(source, source.tree) if c.lineno <= line <= (c.end_lineno or 0)), None)
        statement = _backward(source, line) or step
        if statement is None:
            return None
        if statement is step:
            block = source.block(statement)
            before = [s for s in block[: block.index(step)] if ".backward(" in ast.unparse(s)]
            statement = before[-1] if before else statement
        function = source.function(statement)
        optimizers = [c for v in source.assigned.values() for c in v if isinstance(c, ast.Call) and _optimizer(source, c)]
        for call in optimizers:
            given = call.args[0] if call.args else None
            text = source.of(given) if given is not None else ""
            named = tail(given.func if isinstance(given, ast.Call) else given) if given is not None else ""
            simple = named in {"parameters", "params"}
            if simple and (source.function(call) in {function, source.tree} or text.startswith("self.")):
                name, spans = name_for(source, "torch.nn.utils.clip_grad_norm_")
                line_ = f"{name}({text}, {written(norm)})"
                put = source.before(statement, line_) if statement is step else source.after(statement, line_)
                return Edit([put, *spans], "unsafe", _THRESHOLD)
        raise Cannot("the parameters to be clipped have no name at that line")

    try:
        return attempt(lines, there, "")
    except Cannot as cannot:
        if str(cannot):
            raise
    return attempt(lines, new, "neither backward nor step is called at the line")


_THRESHOLD = "A good threshold is a little above the usual norm of the gradient."


def _clipping(source: Source, line: int) -> ast.Call | None:
    return next((c for c in source.calls(line) if tail(c.func) in {"clip_grad_norm_", "clip_grad_value_", "clip_gradients"}), None)


def scale_clipping(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    factor = number_of(arguments, "factor")

    def edit(line: int) -> Edit | None:
        call = _clipping(source, line)
        threshold = call and (argument_of(call, "max_norm", 1) or argument_of(call, "clip_value", 1))
        if not threshold:
            return None
        return Edit([renumbered(source, threshold, lambda v: v * factor, "the threshold")], "unsafe", _THRESHOLD)

    return attempt(lines, edit, "no clipping with a threshold stands at the line")


def no_clipping(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    def edit(line: int) -> Edit | None:
        call = _clipping(source, line)
        if call is None:
            return None
        statement = source.statement(call)
        if _call_of(statement) is not call:
            raise Cannot("the norm that the clipping returns is used")
        return Edit([source.delete(statement)], "unsafe", "Rare very large gradients are then not held back.")

    return attempt(lines, edit, "no clipping stands at the line")


def train_mode(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """model.train() where the training begins (again): the eval() in front of it becomes train(), or a line is added."""

    def edit(line: int) -> Edit | None:
        switched = {
            ast.unparse(n.func.value) for n in source.walk(ast.Call)
            if isinstance(n.func, ast.Attribute) and n.func.attr == "eval" and not n.args
        }  # fmt: skip
        calls = [c for c in source.calls(line) if ast.unparse(c.func) in switched]
        made = {n for n, v in source.assigned.items() if any(isinstance(e, ast.Call) and e.lineno in lines for e in v)}
        calls = calls or [c for c in source.calls(line) if ast.unparse(c.func) in made]
        if not calls:
            return None
        call = calls[0]
        name = source.of(call.func)
        statement: ast.AST = source.statement(call)
        loops = source.loops(statement)
        # From the forward pass outwards: an eval() on the way in front of it is the one that counts.
        for place in [statement, *loops]:
            block = source.block(place)
            for earlier in reversed(block[: block.index(place)]):
                switch = _call_of(earlier)
                if switch is not None and ast.unparse(switch.func) == f"{name}.train":
                    return None
                if (
                    switch is not None
                    and ast.unparse(switch.func) == f"{name}.eval"
                    and place is not (loops[-1] if loops else None)
                ):
                    at = source.end(switch.func)
                    return Edit([Span(at - len("eval"), at, "train")], "unsafe", _TRAIN)
        if not loops:
            body = getattr(source.function(statement), "body", None)
            if not isinstance(body, list):
                raise Cannot("the training loop is not in this place")
            return Edit([source.before(_first(body), f"{name}.train()")], "unsafe", _TRAIN)
        inner = loops[0]
        if len(loops) == 1 or _evaluates(source, inner):
            return Edit([source.before(_first(inner.body), f"{name}.train()")], "unsafe", _TRAIN)
        return Edit([source.before(inner, f"{name}.train()")], "unsafe", _TRAIN)

    return attempt(lines, edit, "no call of a model whose mode is switched in this file stands at the line")


_TRAIN = "Dropout and batch norm then work as in training; they may have been switched off on purpose."


def _first(body: list[ast.stmt]) -> ast.stmt:
    """The first statement behind a docstring."""
    first = body[0]
    text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return body[1] if text and len(body) > 1 else first


def _evaluates(source: Source, loop: ast.AST) -> bool:
    """Is eval() called in the loop, or in a function of this file that the loop calls?"""

    def switches(node: ast.AST) -> bool:
        return any(isinstance(n, ast.Call) and tail(n.func) == "eval" and isinstance(n.func, ast.Attribute) for n in ast.walk(node))

    called = {tail(n.func) for n in ast.walk(loop) if isinstance(n, ast.Call)}
    functions = [f for f in source.walk(ast.FunctionDef) if f.name in called]
    return switches(loop) or any(switches(f) for f in functions)
