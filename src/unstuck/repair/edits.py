"""The mechanical change for each kind of intervention: pure functions of a source file, the lines a finding names, and arguments.

Each edit returns an Edit (spans of text) or raises Cannot with the reason, as the end of the sentence "no machine can make this
change: ...". It changes what the finding's lines show and nothing else; where it would have to guess, it does not.

  safe     the program means the same, only right: nothing to decide
  unsafe   somebody has to agree: another number, another loss, another optimizer
"""

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


# ---------------------------------------------------------------------- reading the file


def _attempt(lines: Sequence[int], edit: Callable[[int], Edit | None], reason: str) -> Edit:
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


def _argument(call: ast.Call, name: str, position: int | None = None) -> ast.expr | None:
    """The value of an argument, by keyword or by position."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    if position is None or any(isinstance(a, ast.Starred) for a in call.args[: position + 1]):
        return None
    return call.args[position] if len(call.args) > position else None


def _plain(name: str) -> str:
    """LogSoftmax, log_softmax, Softmax2d -> logsoftmax, softmax."""
    return re.sub(r"[123]d$", "", name).replace("_", "").lower()


def _made(source: Source, node: ast.AST) -> ast.Call | None:
    """The one construction that a name or attribute is assigned in this file."""
    values = source.assigned.get(ast.unparse(node), [])
    return values[0] if len(values) == 1 and isinstance(values[0], ast.Call) else None


def _name(source: Source, dotted: str) -> tuple[str, list[Span]]:
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


def _renamed(source: Source, function: ast.expr, new: str, module: str) -> list[Span]:
    """The called name with its last part replaced: nn.MSELoss -> nn.CrossEntropyLoss; imports are extended where needed."""
    if isinstance(function, ast.Attribute):
        return [Span(source.end(function) - len(function.attr), source.end(function), new)]
    name, spans = _name(source, f"{module}.{new}")
    return [source.replace(function, name), *spans]


# ---------------------------------------------------------------------- activations

_ACTIVATIONS = {
    "softmax", "logsoftmax", "sigmoid", "logsigmoid", "tanh", "relu", "relu6", "leakyrelu", "hardtanh", "hardsigmoid", "softsign",
    "softplus", "gelu", "elu", "selu", "silu", "expit",
}  # fmt: skip


def _activation(source: Source, call: ast.Call, wanted: set[str]) -> tuple[str, ast.expr] | None:
    """("call", its input) where the activation is applied here; ("made", the call) where its module is constructed here."""
    name = tail(call.func)
    attribute = isinstance(call.func, ast.Attribute)
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    made = _made(source, call.func)
    if made is not None and made is not call and _plain(tail(made.func)) in wanted:
        return ("call", call.args[0]) if len(call.args) == 1 else None
    if _plain(name) not in wanted:
        return None
    dotted = source.dotted(call.func)
    if name[:1].isupper():
        return "made", call
    if attribute and owner is not None and not source.imported(owner) and source.dotted(owner) != "self":
        return "call", owner  # x.softmax(-1)
    inputs = _argument(call, "input", 0)
    if inputs is None or isinstance(inputs, ast.Starred):
        raise Cannot(f"the input of {dotted} is not written out")
    return "call", inputs


def remove_activation(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """The activation at the line returns its input. Of a module that is constructed there: its call, else the module itself."""
    given = _plain(str(arguments.get("activation") or ""))
    wanted = ({given} | ({"expit"} if given == "sigmoid" else set())) if given else _ACTIVATIONS
    constructed: list[ast.Call] = []
    shared = ""
    for line in lines:
        for call in source.calls(line):
            found = _activation(source, call, wanted)
            if found is None:
                continue
            what, inputs = found
            if what == "made":
                constructed.append(call)
                continue
            why = source.shared(call)
            if why:
                shared = shared or why
                continue
            return _judged(source, call, [_replaced(source, inputs, call)])
    for call in constructed:
        why = source.shared(call)
        if why:
            shared = shared or why
            continue
        return _judged(source, call, _without_module(source, call))
    if shared:
        raise Cannot(f"the line makes other activations too: {shared}; leave out the last one only")
    raise Cannot("no activation is called or constructed at the line")


def _replaced(source: Source, inputs: ast.expr, call: ast.Call) -> Span:
    parent = source.parents[call]
    text = source.fitting(inputs, call)
    if isinstance(parent, ast.Assign) and len(parent.targets) == 1 and source.of(parent.targets[0]) == text:
        return source.delete(parent)  # x = F.softmax(x, dim=1): nothing is left to do
    return source.replace(call, text)


def _without_module(source: Source, call: ast.Call) -> list[Span]:
    parent = source.parents[call]
    if isinstance(parent, ast.Call) and _plain(tail(parent.func)) == "sequential" and parent.args[-1] is call:
        return [source.without(call)]
    # In the middle of a stack the layers behind it would change their numbers, and the checkpoints their names.
    if isinstance(call.func, ast.Attribute):
        return [source.replace(call, f"{source.of(call.func.value)}.Identity()")]
    name, spans = _name(source, "torch.nn.Identity")
    return [source.replace(call, f"{name}()"), *spans]


def _judged(source: Source, call: ast.Call, spans: list[Span]) -> Edit:
    """A sigmoid's consumers compare with 0.5: after its removal 0 is the same place."""
    made = _made(source, call.func)
    name = _plain(tail(made.func if made is not None else call.func))
    if name in {"sigmoid", "expit", "hardsigmoid"}:
        halves = {n.lineno for n in source.walk(ast.Constant) if n.value == 0.5 and isinstance(source.parents[n], ast.Compare)}
        halves |= {n.lineno for n in source.walk(ast.Call) if tail(n.func) == "round" and not n.args}
        if halves:
            where = f"line{'s' if len(halves) > 1 else ''} {', '.join(map(str, sorted(halves)))}"
            return Edit(
                spans, "unsafe", f"The model now returns logits: what was compared with 0.5 ({where}) is to be compared with 0."
            )
    return Edit(spans)


def change_dim(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """The axis of a softmax (or of whatever takes a dim at the line)."""
    dim = _number_of(arguments, "dim")
    new = f"{dim:.0f}"

    def edit(line: int) -> Edit | None:
        calls = source.calls(line)
        calls.sort(key=lambda c: "softmax" not in _plain(tail(c.func)))
        for call in calls:
            softmax = "softmax" in _plain(tail(call.func))
            method = (
                isinstance(call.func, ast.Attribute) and not source.imported(call.func.value) and not tail(call.func)[:1].isupper()
            )
            position = 0 if method or tail(call.func)[:1].isupper() else 1
            for word in ("dim", "axis"):
                value = _argument(call, word, position if softmax and word == "dim" else None)
                if value is not None:
                    return Edit([source.replace(value, new)])
            if softmax:
                return Edit([source.argument(call, f"dim={new}")])
        return None

    return _attempt(lines, edit, "nothing at the line takes a dim")


# ---------------------------------------------------------------------- losses

_LOSS = {
    "nll": "NLLLoss", "bce": "BCELoss", "mse": "MSELoss", "l1": "L1Loss", "smoothl1": "SmoothL1Loss", "huber": "HuberLoss",
    "crossentropy": "CrossEntropyLoss", "bcewithlogits": "BCEWithLogitsLoss", "binarycrossentropy": "BCELoss",
    "binarycrossentropywithlogits": "BCEWithLogitsLoss", "kldiv": "KLDivLoss", "multimargin": "MultiMarginLoss",
    "bcelogits": "BCEWithLogitsLoss", "softmarginloss": "SoftMarginLoss",
}  # fmt: skip
_FUNCTIONAL = {
    "NLLLoss": "nll_loss", "BCELoss": "binary_cross_entropy", "MSELoss": "mse_loss", "L1Loss": "l1_loss",
    "SmoothL1Loss": "smooth_l1_loss", "HuberLoss": "huber_loss", "CrossEntropyLoss": "cross_entropy",
    "BCEWithLogitsLoss": "binary_cross_entropy_with_logits", "KLDivLoss": "kl_div", "MultiMarginLoss": "multi_margin_loss",
}  # fmt: skip


def _loss(name: str) -> str:
    """mse_loss, MSELoss, mse -> MSELoss; '' for what is no loss of torch's."""
    plain = _plain(name)
    return _LOSS.get(plain) or _LOSS.get(plain.removesuffix("loss"), "")


def _loss_at(source: Source, line: int, wanted: str = "") -> ast.Call | None:
    """The call on the line that constructs a loss of torch's or applies its function."""
    for call in source.calls(line):
        name = tail(call.func)
        loss = _loss(name)
        if loss and (not wanted or loss == wanted) and (name == loss or name == _FUNCTIONAL.get(loss)):
            return call
    return None


def _applied(source: Source, line: int) -> ast.Call | None:
    """The call on the line that applies a loss to (input, target)."""
    calls = [c for c in source.calls(line) if len(c.args) >= 2 and not any(isinstance(a, ast.Starred) for a in c.args[:2])]
    for call in calls:
        made = _made(source, call.func)
        if _loss(tail(call.func)) and not tail(call.func)[:1].isupper():
            return call
        if made is not None and _loss(tail(made.func)):
            return call
    return next((c for c in calls if re.search(r"crit|loss|objective", tail(c.func).lower())), None)


def _swapped(source: Source, call: ast.Call, new: str) -> list[Span]:
    """The same call of another loss."""
    if tail(call.func)[:1].isupper():
        return _renamed(source, call.func, new, "torch.nn")
    return _renamed(source, call.func, _FUNCTIONAL[new], "torch.nn.functional")


def insert_activation(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """The loss that applies the missing activation itself: CrossEntropyLoss for NLLLoss, BCEWithLogitsLoss for BCELoss.

    A softmax in front of NLLLoss becomes log_softmax; where the loss cannot be exchanged (its input is clamped, or the loss is
    written by hand) a module is put behind the last layer of a stack.
    """
    activation = _plain(str(arguments.get("activation") or ""))

    def softmax(line: int) -> Edit | None:
        for call in source.calls(line):
            if _plain(tail(call.func)) == "softmax":
                if tail(call.func)[:1].isupper():
                    return Edit(_renamed(source, call.func, "LogSoftmax", "torch.nn"))
                module = "torch.nn.functional" if source.dotted(call.func).startswith("torch.nn") else "torch"
                return Edit(_renamed(source, call.func, "log_softmax", module))
            made = _made(source, call.func)
            if made is not None and _plain(tail(made.func)) == "softmax":
                return Edit(_renamed(source, made.func, "LogSoftmax", "torch.nn"))
        return None

    def loss(line: int) -> Edit | None:
        for old, new, needs in (("NLLLoss", "CrossEntropyLoss", "logsoftmax"), ("BCELoss", "BCEWithLogitsLoss", "sigmoid")):
            call = _loss_at(source, line, old)
            if call is not None and activation in {"", needs}:
                given = _inputs(source, call)
                if any(_clamps(n) for g in given for n in ast.walk(g)):
                    return None  # a logit that is clamped to [0, 1] is no logit any more
                return Edit(_swapped(source, call, new))
        return None

    def behind(line: int) -> Edit | None:
        module = {"sigmoid": "Sigmoid()", "logsoftmax": "LogSoftmax(dim=-1)", "softmax": "Softmax(dim=-1)"}.get(activation)
        for call in source.calls(line):
            parent = source.parents[call]
            if module and tail(call.func) == "Linear" and isinstance(parent, ast.Call) and tail(parent.func) == "Sequential":
                if parent.args[-1] is call and isinstance(call.func, ast.Attribute):
                    return Edit([_behind(source, call, f"{source.of(call.func.value)}.{module}")])
        return None

    for attempt in (*((softmax,) if activation in {"", "logsoftmax"} else ()), loss, behind):
        try:
            return _attempt(lines, attempt, "")
        except Cannot as cannot:
            if str(cannot):
                raise
    raise Cannot("the loss at the line is none that has a twin for raw outputs")


def _clamps(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and tail(node.func) in {"clamp", "clip", "clamp_"}


def _inputs(source: Source, call: ast.Call) -> list[ast.expr]:
    """What a loss (or the loss that is constructed here) is applied to: its first arguments and what is assigned to them."""
    given = [c.args[0] for c in _applications(source, call) if c.args]
    return [*given, *(v for g in given for v in source.assigned.get(ast.unparse(g), []))]


def _behind(source: Source, node: ast.expr, text: str) -> Span:
    """One more element behind another one, on a line of its own where that one has one."""
    start, end = source.start(node), source.end(node)
    comma = re.compile(r"\s*,").match(source.text, end)
    at = comma.end() if comma else end
    if comma and source.own_lines(start, at):
        row = source.line_end(at)
        indentation = source.text[source.line_start(start) : start]
        return Span(row, row, f"{indentation}{text},{source._ending(at)}")
    return Span(end, end, f", {text}")


def replace_loss(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """A cross-entropy in place of a loss for another task, on the numbers in front of the last activation.

    Where a likelihood is written by hand on what softmax gives, log_softmax takes the place of the softmax.
    """
    new = _loss(str(arguments.get("loss") or "cross_entropy"))
    old = _loss(str(arguments.get("from") or ""))
    if new not in _FUNCTIONAL:
        raise Cannot(f"{arguments.get('loss')} is no loss that can be put in its place")
    squashing = _squashing(source, arguments)

    def edit(line: int) -> Edit | None:
        call = _loss_at(source, line, old) or _loss_at(source, line)
        if call is None or _loss(tail(call.func)) == new:
            return None
        spans = _swapped(source, call, new)
        like = new == "CrossEntropyLoss" and old == "NLLLoss"  # they take the same options
        spans += [source.without(k) for k in call.keywords if not like and k.arg not in {"reduction", "input", "target"}]
        for one in _applications(source, call):
            if len(one.args) >= 2:
                spans += _matching_targets(source, one, new)
        spans += (
            squashing or next((s for g in _inputs(source, call) if (s := _stripped(source, g))), []) or _last_activation(source)
        )
        if like and squashing:
            return Edit(spans)
        return Edit(spans, "unsafe", "Another loss is minimised: its numbers do not compare with the old ones.")

    def logarithm(line: int) -> Edit | None:
        return insert_activation(source, [line], {"activation": "log_softmax"})

    if old == "NLLLoss" and isinstance(arguments.get("activation_line"), int) and not any(_loss_at(source, n) for n in lines):
        return _attempt([int(arguments["activation_line"])], logarithm, "")
    return _attempt(lines, edit, "no loss of torch's is constructed or called at the line")


def _squashing(source: Source, arguments: Arguments) -> list[Span]:
    """The activation under the old loss left out, where the finding names it."""
    line = arguments.get("activation_line")
    if not isinstance(line, int):
        return []
    return remove_activation(source, [line], {"activation": arguments.get("activation", "")}).spans


def _applications(source: Source, call: ast.Call) -> list[ast.Call]:
    """Where a loss is applied: the call itself, or all calls of the criterion that it constructs."""
    if not tail(call.func)[:1].isupper():
        return [call]
    name = next((n for n, values in source.assigned.items() if call in values), "")
    return [c for c in source.walk(ast.Call) if name and ast.unparse(c.func) == name]


def _matching_targets(source: Source, call: ast.Call, new: str) -> list[Span]:
    """Targets as the new loss wants them: cross-entropy takes class indices (long) or probabilities (one-hot, float)."""
    given, target = call.args[0], call.args[1]
    if new != "CrossEntropyLoss":
        return []
    text = " ".join([ast.unparse(target), *(ast.unparse(v) for v in source.assigned.get(ast.unparse(target), []))])
    if "one_hot" in text or "eye(" in text:
        return []
    squeezed = [n for n in ast.walk(given) if isinstance(n, ast.Call) and tail(n.func) in {"squeeze", "flatten"}]
    if squeezed or "argmax" in ast.unparse(given):
        raise Cannot("the model gives one number per sample; a cross-entropy needs one output per class")
    inner: ast.expr = target
    while (
        isinstance(inner, ast.Call)
        and isinstance(inner.func, ast.Attribute)
        and inner.func.attr in {"float", "unsqueeze", "double"}
    ):
        if inner.func.attr == "unsqueeze":
            raise Cannot("the model gives one number per sample; a cross-entropy needs one output per class")
        inner = inner.func.value
    return [] if inner is target else [source.inner(inner, target)]


def _stripped(source: Source, given: ast.expr) -> list[Span]:
    """The outermost squashing function of the loss's input left out."""
    if not isinstance(given, ast.Call):
        return []
    found = _activation(source, given, {"softmax", "sigmoid", "tanh", "relu", "logsoftmax"})
    return [_replaced(source, found[1], given)] if found is not None and found[0] == "call" else []


def _last_activation(source: Source) -> list[Span]:
    """The squashing module at the end of the only stack that ends in one."""
    ends = [
        c.args[-1] for c in source.walk(ast.Call)
        if tail(c.func) == "Sequential" and c.args and isinstance(c.args[-1], ast.Call)
        and _plain(tail(c.args[-1].func)) in {"softmax", "sigmoid", "logsoftmax"}
    ]  # fmt: skip
    return [source.without(ends[0])] if len(ends) == 1 else []


def transpose_classes(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """[B, T, C] (or [B, H, W, C]) -> [B, C, T]: the last axis moves to where the loss expects the classes."""

    def edit(line: int) -> Edit | None:
        call = _applied(source, line)
        if call is None:
            return None
        given = call.args[0]
        if any(isinstance(n, ast.Call) and tail(n.func) in {"view", "reshape"} for n in ast.walk(given)):
            raise Cannot("the input of the loss is reshaped; the transposition belongs in front of that")
        return Edit([source.replace(given, _called(source, given, "movedim(-1, 1)"))])

    return _attempt(lines, edit, "no call of a loss with an input and a target stands at the line")


def _called(source: Source, node: ast.expr, method: str) -> str:
    """`node.method`, with parentheses around what needs them."""
    atom = isinstance(node, (ast.Name, ast.Attribute, ast.Call, ast.Subscript))
    return f"{source.of(node)}.{method}" if atom else f"({source.of(node)}).{method}"


def align_targets(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """[N, 1] against [N]: the targets take the shape of the outputs."""

    def edit(line: int) -> Edit | None:
        call = _applied(source, line)
        if call is None:
            return None
        given, target = call.args[:2]
        if isinstance(given, (ast.Name, ast.Attribute)):
            return Edit([source.replace(target, _called(source, target, f"view_as({source.of(given)})"))])
        # An expression is not written twice: both sides become rows.
        return Edit([source.replace(node, _called(source, node, "flatten()")) for node in (given, target)])

    return _attempt(lines, edit, "no call of a loss with an input and a target stands at the line")


def negate_loss(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """The sign that makes the loss grow: a minus too many or too few, maximize=True, += in a hand-written update."""

    def edit(line: int) -> Edit | None:
        for call in source.calls(line):
            for keyword in call.keywords:
                if keyword.arg == "maximize" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True:
                    return Edit([source.without(keyword)], "unsafe", "The optimizer then minimises.")
        statement = source.statement_at(line)
        if statement is None:
            return None
        if (
            isinstance(statement, ast.AugAssign)
            and isinstance(statement.op, (ast.Add, ast.Sub))
            and "grad" in ast.unparse(statement.value)
        ):
            between = source.text[source.end(statement.target) : source.start(statement.value)]
            at = source.end(statement.target) + between.index("=") - 1
            return Edit(
                [Span(at, at + 1, "-" if isinstance(statement.op, ast.Add) else "+")], "unsafe", "The update changes its direction."
            )
        for node in source.at(line, ast.UnaryOp):
            parent = source.parents[node]
            outermost = isinstance(parent, (ast.Assign, ast.Return, ast.Call)) or (
                isinstance(parent, ast.Attribute) and parent.attr == "backward"
            )
            if (
                isinstance(node, ast.UnaryOp)
                and isinstance(node.op, ast.USub)
                and outermost
                and not isinstance(node.operand, ast.Constant)
            ):
                return Edit([source.inner(node.operand, node)], "unsafe", "The loss changes its sign.")
        return None

    def missing(line: int) -> Edit | None:
        value = _computed(source, line)
        if value is None:
            return None
        text = source.of(value) if isinstance(value, (ast.Call, ast.Name, ast.Attribute)) else f"({source.of(value)})"
        return Edit([source.replace(value, f"-{text}")], "unsafe", "The loss changes its sign.")

    try:
        return _attempt(lines[:1], edit, "")
    except Cannot:
        pass
    try:
        return _attempt(lines[:2], missing, "")
    except Cannot:
        return _attempt(lines[1:], edit, "no sign of the loss was found at the line")


def _computed(source: Source, line: int) -> ast.expr | None:
    """What the statement at the line computes and returns or gives a name."""
    statement = source.statement_at(line)
    value = statement.value if isinstance(statement, (ast.Return, ast.Assign)) else None
    return value if isinstance(value, (ast.Call, ast.BinOp, ast.UnaryOp, ast.Name, ast.Attribute)) else None


def mean_reduction(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """The mean over the samples in place of the sum."""

    def keyword(line: int) -> Edit | None:
        for call in source.calls(line):
            for one in call.keywords:
                if one.arg == "reduction" and isinstance(one.value, ast.Constant) and one.value.value == "sum":
                    quote = source.of(one.value)[0]
                    return Edit([source.replace(one.value, f"{quote}mean{quote}")], "unsafe", _SMALLER)
                if one.arg == "size_average" and isinstance(one.value, ast.Constant) and one.value.value is False:
                    return Edit([source.without(one)], "unsafe", _SMALLER)
        return None

    def method(line: int) -> Edit | None:
        for call in source.calls(line):
            parent = source.parents[call]
            ends = isinstance(parent, (ast.Assign, ast.Return, ast.UnaryOp)) or (
                isinstance(parent, ast.Attribute) and parent.attr == "backward"
            )
            if isinstance(call.func, ast.Attribute) and call.func.attr == "sum" and not call.args and not call.keywords and ends:
                return Edit([Span(source.end(call.func) - 3, source.end(call.func), "mean")], "unsafe", _SMALLER)
        return None

    try:
        return _attempt(lines, keyword, "")
    except Cannot:
        return _attempt(lines, method, "no reduction is written at the line")


_SMALLER = "The gradient becomes smaller by the size of the batch; the learning rate may have been chosen for the sum."


def scale_loss(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """A mean over samples and classes becomes the sum over the classes; any other loss is multiplied."""

    def classes(line: int) -> Edit | None:
        for call in source.calls(line):
            method = isinstance(call.func, ast.Attribute) and call.func.attr == "mean" and not call.args and not call.keywords
            if method and isinstance(call.func.value, ast.BinOp) and isinstance(call.func.value.op, ast.Mult):
                at = source.end(call.func) - len(".mean")
                return Edit(
                    [Span(at, at, ".sum(-1)")], "unsafe", "The loss and its gradient become larger by the number of classes."
                )
            for one in call.keywords:
                if tail(call.func) in {"KLDivLoss", "kl_div"} and one.arg == "reduction" and "mean" in ast.unparse(one.value):
                    return Edit([source.replace(one.value, '"batchmean"')], "unsafe", "")
        return None

    def factor(line: int) -> Edit | None:
        value = _computed(source, line)
        if value is None:
            return None
        text = source.of(value) if isinstance(value, (ast.Call, ast.Name, ast.Attribute)) else f"({source.of(value)})"
        number = _shown(_number_of(arguments, "factor"))
        return Edit([source.replace(value, f"{number} * {text}")], "unsafe", "The gradient grows by the same factor.")

    try:
        return _attempt(lines, classes, "")
    except Cannot:
        return _attempt(lines, factor, "no loss is computed at the line")


def class_weights(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """weight= (or pos_weight=) at the loss."""
    given = arguments.get("weights")
    weights = [float(w) for w in given] if isinstance(given, list) else []
    if not weights:
        raise Cannot("the weights are not known")

    def edit(line: int) -> Edit | None:
        call = _loss_at(source, line)
        loss = _loss(tail(call.func)) if call is not None else ""
        if call is None or loss not in {"CrossEntropyLoss", "NLLLoss", "BCEWithLogitsLoss"}:
            return None
        name, numbers = "weight", weights
        if loss == "BCEWithLogitsLoss":
            name = "pos_weight"
            numbers = [weights[1] / weights[0]] if len(weights) == 2 and weights[0] else weights
        elif len(weights) == 1:
            numbers = [1.0, weights[0]]
        if _argument(call, name) is not None:
            raise Cannot(f"the loss has a {name} already")
        tensor, spans = _name(source, "torch.tensor")
        text = f"{name}={tensor}([{', '.join(_shown(n) for n in numbers)}])"
        return Edit([source.argument(call, text), *spans], "unsafe", "Predicted probabilities then belong to balanced classes.")

    return _attempt(lines, edit, "no loss that takes class weights stands at the line")


# ---------------------------------------------------------------------- numbers


def _number_of(arguments: Arguments, name: str) -> float:
    value = arguments.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise Cannot(f"{name} is not known")
    return float(value)


def _shown(value: float) -> str:
    """Three digits, as one would write it: 0.001, 1e-5, 3.0."""
    text = f"{value:.3g}"
    text = re.sub(r"e([+-])0*", lambda m: "e-" if m[1] == "-" else "e", text)
    return text if any(c in text for c in ".en") else f"{text}.0"


def _constant(node: ast.AST) -> float | None:
    """The value of a number that is written out."""
    sign = 1.0
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node, sign = node.operand, -1.0
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        return sign * float(node.value)
    return None


def _literal(source: Source, node: ast.expr, what: str, depth: int = 0) -> ast.expr:
    """The number written in this file that an expression takes its value from. Raises Cannot that says where it comes from."""
    text = source.of(node) if hasattr(node, "lineno") else ""
    if _constant(node) is not None:
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
            return _literal(source, values[0], what, depth + 1)
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
        return _literal(source, values[0], what, depth + 1)
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
            return _literal(source, found[0], what, depth + 1)
        raise Cannot(f"{what} is the parameter {name} of {called}(), given with others")
    given = [v for v in (_argument(c, name, place) for c in callers) if v is not None]
    if len(given) == 1 and len(callers) == 1:
        return _literal(source, given[0], what, depth + 1)
    defaults = dict(zip(reversed(positional), reversed(parameters.defaults)))
    defaults |= {a.arg: d for a, d in zip(parameters.kwonlyargs, parameters.kw_defaults) if d is not None}
    if not given and name in defaults:
        return _literal(source, defaults[name], what, depth + 1)
    raise Cannot(f"{what} is the parameter {name} of {called or 'a lambda'}(), which {len(given)} callers in this file give")


def _of_attribute(source: Source, node: ast.Attribute, what: str, depth: int) -> ast.expr:
    """args.lr, cfg.lr, self.lr: a field's default, an assignment, or an option of the command line (which is told, not changed)."""
    for call in source.walk(ast.Call):
        if tail(call.func) in {"add_argument", "option"}:
            names = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            destination = _argument(call, "dest")
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
            return _literal(source, given[0] if given else default, what, depth + 1)
    if len(stored) == 1 and not fields:
        return _literal(source, stored[0][1], what, depth + 1)
    raise Cannot(f"{what} is {owner}.{node.attr}, which is set in {len(fields) + len(stored)} places of this file")


def _renumbered(source: Source, node: ast.expr, new: Callable[[float], float], what: str) -> Span:
    """The number that an expression takes its value from, replaced."""
    try:
        literal = _literal(source, node, what)
    except Cannot as cannot:
        raise Cannot(f"{cannot}") from None
    return source.replace(literal, _shown(new(_constant(literal) or 0.0)))


# ---------------------------------------------------------------------- optimizers


def _optimizer(source: Source, call: ast.Call) -> bool:
    """Does the call construct an optimizer?"""
    name, dotted = tail(call.func), source.dotted(call.func)
    if not name[:1].isupper() or "lr_scheduler" in dotted:
        return False
    known = re.search(r"\boptim(izers?)?\b", dotted) or re.search(r"SGD|Adam|RMSprop|Adagrad|Adadelta|LBFGS|Lion", name)
    return bool(known) or (_argument(call, "lr") is not None and bool(call.args))


def _optimizer_at(source: Source, line: int) -> ast.Call | None:
    """The call on the line that constructs an optimizer."""
    return next((c for c in source.calls(line) if _optimizer(source, c)), None)


def _with_optimizer(source: Source, lines: Sequence[int]) -> list[int]:
    """The lines; where none of them constructs an optimizer also that of the only one of the file."""
    if any(_optimizer_at(source, line) for line in lines):
        return list(lines)
    made = {c.lineno for c in source.walk(ast.Call) if _optimizer(source, c)}
    return [*lines, *made] if len(made) == 1 else list(lines)


def _rates(source: Source, call: ast.Call, option: str, position: int | None) -> list[ast.expr]:
    """The values of an option: of the optimizer and of its groups."""
    found = [v for v in [_argument(call, option, position)] if v is not None]
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
                values = [v for v in (_argument(call, w, p) for w, p in (("max_lr", 1), ("base_lr", None))) if v is not None]
                return Edit([_renumbered(source, v, new, what) for v in values], "unsafe", note)
        return None

    def edit(line: int) -> Edit | None:
        call = _optimizer_at(source, line)
        if call is None:
            return None
        values = _rates(source, call, option, position)
        if not values:
            raise Cannot(f"the optimizer at line {call.lineno} is given no {option}")
        return Edit(sorted({_renumbered(source, v, new, what) for v in values}), "unsafe", note)

    note = "The right value is found by trying: three to ten times more or less is the next step."
    if option == "lr":
        try:
            return _attempt(lines, scheduled, "")
        except Cannot as cannot:
            if str(cannot):
                raise
    return _attempt(_with_optimizer(source, lines), edit, "no optimizer is constructed at the line")


def scale_learning_rate(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    factor = _number_of(arguments, "factor")
    return _options(source, lines, "lr", 1, lambda v: v * factor, "the learning rate")


def set_learning_rate(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    rate = _number_of(arguments, "lr")
    return _options(source, lines, "lr", 1, lambda v: rate, "the learning rate")


def scale_weight_decay(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    factor = _number_of(arguments, "factor")
    return _options(source, lines, "weight_decay", None, lambda v: v * factor, "the weight decay")


def adaptive_optimizer(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """torch.optim.SGD(parameters, ...) -> torch.optim.Adam(parameters, lr=1e-3), with its weight decay."""
    rate = arguments.get("lr")
    rate = float(rate) if isinstance(rate, (int, float)) and not isinstance(rate, bool) else 1e-3

    def edit(line: int) -> Edit | None:
        call = _optimizer_at(source, line)
        if call is None:
            return None
        if tail(call.func) != "SGD" or not call.args or any(k.arg is None for k in call.keywords):
            raise Cannot(f"the optimizer at line {call.lineno} is no plain SGD")
        if any(isinstance(n, ast.Dict) for n in ast.walk(call.args[0])):
            raise Cannot("its groups have learning rates of their own")
        decay = _argument(call, "weight_decay", 4)
        name = _renamed(source, call.func, "Adam", "torch.optim")
        open_, close = source.end(call.args[0]), source.end(call) - 1
        rest = f", lr={_shown(rate)}" + (f", weight_decay={source.of(decay)}" if decay is not None else "")
        return Edit(
            [*name, Span(open_, close, rest)], "unsafe", "Adam takes steps of another length: its learning rate is chosen anew."
        )

    return _attempt(lines, edit, "no optimizer is constructed at the line")


def constant_learning_rate(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """The scheduler is not asked any more; a plateau scheduler that waits for a loss to grow waits for it to fall."""

    def edit(line: int) -> Edit | None:
        for call in source.calls(line):
            mode = _argument(call, "mode", 1)
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

    return _attempt(lines, edit, "no scheduler whose steps could be left out is constructed at the line")


# ---------------------------------------------------------------------- the update loop


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
        made = _made(source, owner)
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
        regions = [*reversed(source.loops(statement)), source.function(statement)]
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

    return _attempt(lines, edit, "no backward is called at the line")


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

    return _attempt(lines, edit, "no backward is called at the line")


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
    norm = _number_of(arguments, "norm")

    def there(line: int) -> Edit | None:
        call = _clipping(source, line)
        if call is None:
            return None
        threshold = _argument(call, "max_norm", 1) or _argument(call, "clip_value", 1)
        if threshold is None:
            raise Cannot("its threshold is not written out")
        return Edit([_renumbered(source, threshold, lambda v: norm, "the threshold")], "unsafe", _THRESHOLD)

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
            simple = isinstance(given, ast.Call) and isinstance(given.func, ast.Attribute) and given.func.attr == "parameters"
            if simple and (source.function(call) in {function, source.tree} or text.startswith("self.")):
                name, spans = _name(source, "torch.nn.utils.clip_grad_norm_")
                line_ = f"{name}({text}, {_shown(norm)})"
                put = source.before(statement, line_) if statement is step else source.after(statement, line_)
                return Edit([put, *spans], "unsafe", _THRESHOLD)
        raise Cannot("the parameters to be clipped have no name at that line")

    try:
        return _attempt(lines, there, "")
    except Cannot as cannot:
        if str(cannot):
            raise
    return _attempt(lines, new, "neither backward nor step is called at the line")


_THRESHOLD = "A good threshold is a little above the usual norm of the gradient."


def _clipping(source: Source, line: int) -> ast.Call | None:
    return next((c for c in source.calls(line) if tail(c.func) in {"clip_grad_norm_", "clip_grad_value_", "clip_gradients"}), None)


def scale_clipping(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    factor = _number_of(arguments, "factor")

    def edit(line: int) -> Edit | None:
        call = _clipping(source, line)
        threshold = call and (_argument(call, "max_norm", 1) or _argument(call, "clip_value", 1))
        if not threshold:
            return None
        return Edit([_renumbered(source, threshold, lambda v: v * factor, "the threshold")], "unsafe", _THRESHOLD)

    return _attempt(lines, edit, "no clipping with a threshold stands at the line")


def no_clipping(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    def edit(line: int) -> Edit | None:
        call = _clipping(source, line)
        if call is None:
            return None
        statement = source.statement(call)
        if _call_of(statement) is not call:
            raise Cannot("the norm that the clipping returns is used")
        return Edit([source.delete(statement)], "unsafe", "Rare very large gradients are then not held back.")

    return _attempt(lines, edit, "no clipping stands at the line")


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

    return _attempt(lines, edit, "no call of a model whose mode is switched in this file stands at the line")


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


# ---------------------------------------------------------------------- data, layers, initialisation


def shuffle(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """shuffle=True at the DataLoader."""

    def edit(line: int) -> Edit | None:
        call = next((c for c in source.calls(line) if tail(c.func) == "DataLoader"), None)
        if call is None:
            return None
        if any(k.arg in {"sampler", "batch_sampler"} for k in call.keywords):
            raise Cannot("the DataLoader has a sampler, which decides the order")
        given = _argument(call, "shuffle", 2)
        if given is not None:
            if isinstance(given, ast.Constant) and given.value is False:
                return Edit([source.replace(given, "True")])
            raise Cannot(f"shuffle is {source.of(given)}")
        if any(k.arg is None for k in call.keywords):
            raise Cannot("the DataLoader's options are set in another place")
        return Edit([source.argument(call, "shuffle=True")])

    return _attempt(lines, edit, "no DataLoader is constructed at the line; draw a new torch.randperm(len(X)) in every epoch")


def set_dropout(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    p = _number_of(arguments, "p")

    def edit(line: int) -> Edit | None:
        for call in source.calls(line):
            name = tail(call.func)
            value = _argument(call, "dropout")
            if value is None and "dropout" in name.lower():
                value = _argument(call, "p", 0 if name[:1].isupper() else 1)
            if value is None:
                continue
            try:
                span = _renumbered(source, value, lambda v: p, "the share that is dropped")
            except Cannot:
                span = source.replace(value, _shown(p))
            return Edit([span], "unsafe", "How strong dropout may be is found by trying.")
        return None

    return _attempt(lines, edit, "no dropout stands at the line")


def unfreeze(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """requires_grad = True where it was set to something else."""

    def edit(line: int) -> Edit | None:
        statement = source.statement_at(line)
        if isinstance(statement, ast.Assign) and any(
            isinstance(t, ast.Attribute) and t.attr == "requires_grad" for t in statement.targets
        ):
            return Edit([source.replace(statement.value, "True")], "unsafe", _UNFREEZE)
        for call in source.calls(line):
            if tail(call.func) == "requires_grad_":
                value = _argument(call, "requires_grad", 0)
                if isinstance(value, ast.Constant) and value.value is False:
                    return Edit([source.replace(value, "True")], "unsafe", _UNFREEZE)
        return None

    return _attempt(lines, edit, "nothing at the line freezes parameters")


_UNFREEZE = "The layers may have been frozen on purpose; the optimizer must hold them too."


def add_parameters(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """Layers in a plain list become a ModuleList; an optimizer that was built too early moves behind the model; an optimizer of
    one part of the model is given all of it."""

    def edit(line: int) -> Edit | None:
        call = _optimizer_at(source, line)
        if call is None:
            return None
        lists = [n for n in source.walk(ast.Assign) if isinstance(n.targets[0], ast.Attribute) and _layers(source, n.value)]
        if len(lists) == 1:
            name, spans = _name(source, "torch.nn.ModuleList")
            value = lists[0].value
            return Edit(
                [source.replace(value, f"{name}({source.of(value)})"), *spans], "unsafe", "The layers then belong to the model."
            )
        moved = _moved(source, call, lines)
        if moved:
            return Edit(moved, "unsafe", "The optimizer is built once the model is final.")
        given = call.args[0] if call.args else None
        if (
            isinstance(given, ast.Call) and isinstance(given.func, ast.Attribute) and given.func.attr == "parameters"
            and isinstance(given.func.value, ast.Attribute) and not given.args and source.of(given.func.value.value) != "self"
        ):  # fmt: skip
            return Edit([source.inner(given.func.value.value, given.func.value)], "unsafe", "The rest of the model is trained too.")
        raise Cannot("which parameters are missing in its groups has to be seen")

    return _attempt(_with_optimizer(source, lines), edit, "no optimizer is constructed at the line")


def _layers(source: Source, node: ast.expr) -> bool:
    """Is it a plain list of modules?"""
    elements = node.elts if isinstance(node, ast.List) else [node.elt] if isinstance(node, ast.ListComp) else []
    made = [e.func for e in elements if isinstance(e, ast.Call)]
    return any(source.dotted(f).startswith("torch.nn.") and tail(f)[:1].isupper() for f in made)


def _moved(source: Source, call: ast.Call, lines: Sequence[int]) -> list[Span]:
    """The optimizer's line behind a later line of the same block that makes its model anew; [] where there is none."""
    statement = source.statement(call)
    if source.statement(call) is not source.parents[call] or not isinstance(statement, ast.Assign):
        return []
    block = source.block(statement)
    used = {n.id for n in ast.walk(call) if isinstance(n, ast.Name)}
    name = ast.unparse(statement.targets[0])
    later = [
        s for s in block[block.index(statement) + 1 :]
        if isinstance(s, ast.Assign) and s.lineno in lines and any(isinstance(t, ast.Name) and t.id in used for t in s.targets)
    ]  # fmt: skip
    if not later:
        return []
    between = block[block.index(statement) + 1 : block.index(later[-1]) + 1]
    if any(isinstance(n, ast.Name) and n.id == name for s in between for n in ast.walk(s)):
        return [source.after(later[-1], source.of(statement))]  # it was used in between: it is built again
    return [source.delete(statement), source.after(later[-1], source.of(statement))]


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
    numbers = [c for c in (_constant(a) for a in [*call.args[1:], *(k.value for k in call.keywords)]) if c is not None]
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
                spans.append(source.delete(source.statement(node)) if plain else Span(source.end(inner), source.end(node), ""))
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
                return Edit(sorted({_behind(source, a, f"{_module(source, a)}ReLU()") for a, _ in pairs}), "unsafe", "")
        return None

    def identity(line: int) -> Edit | None:
        used = [n for n in source.walk(ast.Attribute) if source.dotted(n) == "torch.nn.Identity"]
        if len(used) != 1:
            return None
        return Edit([Span(source.end(used[0]) - len("Identity"), source.end(used[0]), "ReLU")], "unsafe", "")

    try:
        return _attempt(lines, edit, "")
    except Cannot:
        return _attempt(lines[:1], identity, "no stack with neighbouring linear layers stands at the line")


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
    width = _number_of(arguments, "width")

    def edit(line: int) -> Edit | None:
        for call in source.calls(line):
            value = _argument(call, "out_features", 1) or _argument(call, "out_channels", 1) or _argument(call, "hidden_size", 1)
            if value is None or tail(call.func)[:1].islower():
                continue
            if _constant(value) is None:
                literal = _literal(source, value, "the width")
                return Edit([source.replace(literal, f"{width:.0f}")], "unsafe", "More units need more time and memory.")
            parent = source.parents[call]
            if isinstance(parent, ast.Call) and tail(parent.func) == "Sequential":
                behind = [a for a in parent.args[parent.args.index(call) + 1 :] if _linear(a)]
                entry = _argument(behind[0], "in_features", 0) if behind and isinstance(behind[0], ast.Call) else None
                if entry is not None and _constant(entry) == _constant(value):
                    return Edit([source.replace(value, f"{width:.0f}"), source.replace(entry, f"{width:.0f}")],
                                "unsafe", "More units need more time and memory.")  # fmt: skip
            raise Cannot("the layers behind it name the same number")
        return None

    return _attempt(lines, edit, "no layer with a width stands at the line")


def reattach(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """.detach() and .data at the line are left out."""

    def edit(line: int) -> Edit | None:
        spans = []
        for node in source.at(line, ast.Call, ast.Attribute):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "detach" and not node.args:
                spans.append(Span(source.end(node.func.value), source.end(node), ""))
            elif (
                isinstance(node, ast.Attribute)
                and node.attr == "data"
                and isinstance(node.ctx, ast.Load)
                and not source.imported(node)
            ):
                spans.append(Span(source.end(node.value), source.end(node), ""))
        return Edit(spans, "unsafe", "The gradient then flows there; it may have been cut on purpose.") if spans else None

    return _attempt(lines, edit, "what cuts the gradient path has to be written in another way")


def batch_statistics(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """The momentum of a batch norm's running statistics becomes 0.1, torch's own."""

    def edit(line: int) -> Edit | None:
        for call in source.calls(line):
            value = _argument(call, "momentum", 2) if "BatchNorm" in tail(call.func) else None
            if value is not None:
                return Edit([_renumbered(source, value, lambda v: 0.1, "the momentum")], "unsafe", "")
        return None

    return _attempt(lines, edit, "no batch norm with a momentum of its own stands at the line")


EDITS: dict[str, Callable[[Source, Sequence[int], Arguments], Edit]] = {
    "remove-activation": remove_activation,
    "insert-activation": insert_activation,
    "replace-loss": replace_loss,
    "negate-loss": negate_loss,
    "change-dim": change_dim,
    "transpose-classes": transpose_classes,
    "align-targets": align_targets,
    "scale-learning-rate": scale_learning_rate,
    "set-learning-rate": set_learning_rate,
    "constant-learning-rate": constant_learning_rate,
    "adaptive-optimizer": adaptive_optimizer,
    "zero-before-backward": zero_before_backward,
    "keep-gradients-until-step": keep_gradients,
    "call-step": call_step,
    "add-parameters": add_parameters,
    "unfreeze": unfreeze,
    "reattach": reattach,
    "reinitialise": reinitialise,
    "shuffle": shuffle,
    "class-weights": class_weights,
    "scale-weight-decay": scale_weight_decay,
    "set-dropout": set_dropout,
    "clip-gradients": clip_gradients,
    "scale-clipping": scale_clipping,
    "no-clipping": no_clipping,
    "train-mode": train_mode,
    "batch-statistics": batch_statistics,
    "full-precision": full_precision,
    "mean-reduction": mean_reduction,
    "scale-loss": scale_loss,
    "widen": widen,
    "add-activation": add_activation,
}
