"""Edits between the last layer and the loss: activations, the loss itself, its sign, its targets, its weights."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from unstuck.repair.reading import Arguments, Edit, argument_of, attempt, made_by, name_for, number_of, plain, renamed, written
from unstuck.repair.source import Cannot, Source, Span, tail

_ACTIVATIONS = {
    "softmax", "logsoftmax", "sigmoid", "logsigmoid", "tanh", "relu", "relu6", "leakyrelu", "hardtanh", "hardsigmoid", "softsign",
    "softplus", "gelu", "elu", "selu", "silu", "expit",
}  # fmt: skip


def _activation(source: Source, call: ast.Call, wanted: set[str]) -> tuple[str, ast.expr] | None:
    """("call", its input) where the activation is applied here; ("made", the call) where its module is constructed here."""
    name = tail(call.func)
    attribute = isinstance(call.func, ast.Attribute)
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    made = made_by(source, call.func)
    if made is not None and made is not call and plain(tail(made.func)) in wanted:
        return ("call", call.args[0]) if len(call.args) == 1 else None
    if plain(name) not in wanted:
        return None
    dotted = source.dotted(call.func)
    if name[:1].isupper():
        return "made", call
    if attribute and owner is not None and not source.imported(owner) and source.dotted(owner) != "self":
        return "call", owner  # x.softmax(-1)
    inputs = argument_of(call, "input", 0)
    if inputs is None or isinstance(inputs, ast.Starred):
        raise Cannot(f"the input of {dotted} is not written out")
    return "call", inputs


def remove_activation(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """The activation at the line returns its input. Of a module that is constructed there: its call, else the module itself."""
    given = plain(str(arguments.get("activation") or ""))
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
    if isinstance(parent, ast.Call) and plain(tail(parent.func)) == "sequential" and parent.args[-1] is call:
        return [source.without(call)]
    # In the middle of a stack the layers behind it would change their numbers, and the checkpoints their names.
    if isinstance(call.func, ast.Attribute):
        return [source.replace(call, f"{source.of(call.func.value)}.Identity()")]
    name, spans = name_for(source, "torch.nn.Identity")
    return [source.replace(call, f"{name}()"), *spans]


def _judged(source: Source, call: ast.Call, spans: list[Span]) -> Edit:
    """A sigmoid's consumers compare with 0.5: after its removal 0 is the same place."""
    made = made_by(source, call.func)
    name = plain(tail(made.func if made is not None else call.func))
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
    dim = number_of(arguments, "dim")
    new = f"{dim:.0f}"

    def edit(line: int) -> Edit | None:
        calls = source.calls(line)
        calls.sort(key=lambda c: "softmax" not in plain(tail(c.func)))
        for call in calls:
            softmax = "softmax" in plain(tail(call.func))
            method = (
                isinstance(call.func, ast.Attribute) and not source.imported(call.func.value) and not tail(call.func)[:1].isupper()
            )
            position = 0 if method or tail(call.func)[:1].isupper() else 1
            for word in ("dim", "axis"):
                value = argument_of(call, word, position if softmax and word == "dim" else None)
                if value is not None:
                    return Edit([source.replace(value, new)])
            if softmax:
                return Edit([source.argument(call, f"dim={new}")])
        return None

    try:
        return attempt(lines, edit, "nothing at the line takes a dim")
    except Cannot:
        softmaxes = [c for c in source.walk(ast.Call) if "softmax" in plain(tail(c.func))]
        found = edit(softmaxes[0].lineno) if len(softmaxes) == 1 else None
        if found is None:
            raise
        return Edit(found.spans, "unsafe", "It is the only softmax of the file; the run did not show the line.")


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
    short = plain(name)
    return _LOSS.get(short) or _LOSS.get(short.removesuffix("loss"), "")


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
        made = made_by(source, call.func)
        if _loss(tail(call.func)) and not tail(call.func)[:1].isupper():
            return call
        if made is not None and _loss(tail(made.func)):
            return call
    return next((c for c in calls if re.search(r"crit|loss|objective", tail(c.func).lower())), None)


def _swapped(source: Source, call: ast.Call, new: str) -> list[Span]:
    """The same call of another loss."""
    if tail(call.func)[:1].isupper():
        return renamed(source, call.func, new, "torch.nn")
    return renamed(source, call.func, _FUNCTIONAL[new], "torch.nn.functional")


def insert_activation(source: Source, lines: Sequence[int], arguments: Arguments) -> Edit:
    """The loss that applies the missing activation itself: CrossEntropyLoss for NLLLoss, BCEWithLogitsLoss for BCELoss.

    A softmax in front of NLLLoss becomes log_softmax; where the loss cannot be exchanged (its input is clamped, or the loss is
    written by hand) a module is put behind the last layer of a stack.
    """
    activation = plain(str(arguments.get("activation") or ""))

    def softmax(line: int) -> Edit | None:
        for call in source.calls(line):
            if plain(tail(call.func)) == "softmax":
                if tail(call.func)[:1].isupper():
                    return Edit(renamed(source, call.func, "LogSoftmax", "torch.nn"))
                module = "torch.nn.functional" if source.dotted(call.func).startswith("torch.nn") else "torch"
                return Edit(renamed(source, call.func, "log_softmax", module))
            made = made_by(source, call.func)
            if made is not None and plain(tail(made.func)) == "softmax":
                return Edit(renamed(source, made.func, "LogSoftmax", "torch.nn"))
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

    def at_the_end(line: int) -> Edit | None:
        module = {"sigmoid": "Sigmoid()", "logsoftmax": "LogSoftmax(dim=-1)", "softmax": "Softmax(dim=-1)"}.get(activation)
        for call in source.calls(line):
            parent = source.parents[call]
            if module and tail(call.func) == "Linear" and isinstance(parent, ast.Call) and tail(parent.func) == "Sequential":
                if parent.args[-1] is call and isinstance(call.func, ast.Attribute):
                    return Edit([behind(source, call, f"{source.of(call.func.value)}.{module}")])
        return None

    for way in (*((softmax,) if activation in {"", "logsoftmax"} else ()), loss, at_the_end):
        try:
            return attempt(lines, way, "")
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


def behind(source: Source, node: ast.expr, text: str) -> Span:
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
        return attempt([int(arguments["activation_line"])], logarithm, "")
    return attempt(lines, edit, "no loss of torch's is constructed or called at the line")


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
        and plain(tail(c.args[-1].func)) in {"softmax", "sigmoid", "logsoftmax"}
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

    return attempt(lines, edit, "no call of a loss with an input and a target stands at the line")


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

    return attempt(lines, edit, "no call of a loss with an input and a target stands at the line")


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
                return Edit([_positive(source, node)], "unsafe", "The loss changes its sign.")
        return None

    def missing(line: int) -> Edit | None:
        value = _computed(source, line)
        if value is None:
            return None
        text = source.of(value) if isinstance(value, (ast.Call, ast.Name, ast.Attribute)) else f"({source.of(value)})"
        return Edit([source.replace(value, f"-{text}")], "unsafe", "The loss changes its sign.")

    try:
        return attempt(lines[:1], edit, "")
    except Cannot:
        pass
    try:
        return attempt(lines[:2], missing, "")
    except Cannot:
        return attempt(lines[1:], edit, "no sign of the loss was found at the line")


def _positive(source: Source, minus: ast.UnaryOp) -> Span:
    """Without the minus, and without the parentheses that it needed: (-loss).backward() -> loss.backward()."""
    span = source.inner(minus.operand, minus)
    around = source.text[span.start - 1 : span.start] + source.text[span.end : span.end + 1]
    if around == "()" and isinstance(minus.operand, (ast.Name, ast.Attribute)) and isinstance(source.parents[minus], ast.Attribute):
        return Span(span.start - 1, span.end + 1, source.of(minus.operand))
    return span


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
        return attempt(lines, keyword, "")
    except Cannot:
        return attempt(lines, method, "no reduction is written at the line")


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
        number = written(number_of(arguments, "factor"))
        return Edit([source.replace(value, f"{number} * {text}")], "unsafe", "The gradient grows by the same factor.")

    try:
        return attempt(lines, classes, "")
    except Cannot:
        return attempt(lines, factor, "no loss is computed at the line")


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
        if argument_of(call, name) is not None:
            raise Cannot(f"the loss has a {name} already")
        tensor, spans = name_for(source, "torch.tensor")
        text = f"{name}={tensor}([{', '.join(written(n) for n in numbers)}])"
        return Edit([source.argument(call, text), *spans], "unsafe", "Predicted probabilities then belong to balanced classes.")

    return attempt(lines, edit, "no loss that takes class weights stands at the line")
