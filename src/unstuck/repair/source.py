"""A user's source file as text and as a tree, so that an edit replaces exactly the characters it means.

Edits are spans of the text: every character outside of them stays as it is (comments, tabs, CRLF, form feeds, a missing last
newline, the declared encoding, a byte order mark). The standard library's own tree is used because it is of the Python that ran
the script, costs no import, and gives exact positions; a concrete syntax tree would have to write the whole file again.
"""

from __future__ import annotations

import ast
import io
import itertools
import re
import tokenize
import warnings
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple, TypeVar

_NEWLINE = re.compile(r"\r\n|\n|\r")
Function = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
Loop = (ast.For, ast.AsyncFor, ast.While)
Comprehension = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
Node = TypeVar("Node", bound=ast.AST)
_ATOMS = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Constant, ast.List, ast.Dict, ast.Set, *Comprehension)


class Cannot(Exception):
    """This change cannot be made by a machine; the text says why, as the end of a sentence."""


class Span(NamedTuple):
    """The characters from `start` to `end` are replaced by `text`."""

    start: int
    end: int
    text: str


class Token(NamedTuple):
    kind: int
    text: str
    start: int
    end: int


class Source:
    """One file. Raises Cannot where it cannot be decoded and encoded again without loss, or does not parse."""

    def __init__(self, raw: bytes) -> None:
        try:
            self.encoding = tokenize.detect_encoding(io.BytesIO(raw).readline)[0]
            self.text = raw.decode(self.encoding)
            if self.encode(self.text) != raw:
                raise Cannot("the file does not survive being decoded and encoded again")
            self.tree = parse(self.text)
        except (SyntaxError, ValueError, LookupError, RecursionError) as error:
            raise Cannot(f"the file cannot be parsed: {error}") from None
        self.starts = [0, *(m.end() for m in _NEWLINE.finditer(self.text))]
        self.parents: dict[ast.AST, ast.AST] = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    def encode(self, text: str) -> bytes:
        """As the file declares it, with its byte order mark."""
        return text.encode(self.encoding)

    # ------------------------------------------------------------------ positions

    def _offset(self, line: int, column: int) -> int:
        """Of a line counted from 1 and a column in bytes of UTF-8, as the tree counts."""
        start = self.starts[line - 1]
        end = self.starts[line] if line < len(self.starts) else len(self.text)
        row = self.text[start:end]
        return start + (column if row.isascii() else len(row.encode("utf-8")[:column].decode("utf-8", "ignore")))

    def start(self, node: ast.AST) -> int:
        return self._offset(node.lineno, node.col_offset)

    def end(self, node: ast.AST) -> int:
        return self._offset(node.end_lineno, node.end_col_offset)

    def of(self, node: ast.AST) -> str:
        """The text of a node, without parentheses around it."""
        return self.text[self.start(node) : self.end(node)]

    def line_start(self, offset: int) -> int:
        return max(s for s in self.starts if s <= offset)

    def line_end(self, offset: int) -> int:
        """The end of the line, after its newline characters."""
        return min((s for s in self.starts if s > offset), default=len(self.text))

    @cached_property
    def newline(self) -> str:
        """The one that the file uses first."""
        found = _NEWLINE.search(self.text)
        return found[0] if found else "\n"

    @cached_property
    def tokens(self) -> list[Token]:
        """Without newlines and indentation, with comments."""
        plain = _NEWLINE.sub("\n", self.text)
        layout = {tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
        return [
            Token(t.type, t.string, self.starts[t.start[0] - 1] + t.start[1], self.starts[t.end[0] - 1] + t.end[1])
            for t in tokenize.generate_tokens(io.StringIO(plain).readline)
            if t.type not in layout
        ]

    # ------------------------------------------------------------------ the tree

    def walk(self, *kinds: type[Node]) -> Iterator[Node]:
        return (n for n in ast.walk(self.tree) if isinstance(n, kinds))

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes that hold this one, the innermost first."""
        while node in self.parents:
            node = self.parents[node]
            yield node

    def at(self, line: int, *kinds: type[Node]) -> list[Node]:
        """The nodes of these kinds that a line belongs to: those that begin on it first, then the smallest first."""
        found = [n for n in self.walk(*kinds) if n.lineno <= line <= (n.end_lineno or n.lineno)]
        found = [n for n in found if not any(isinstance(a, ast.JoinedStr) for a in self.above(n))]
        found.sort(key=lambda n: (n.lineno != line, n.end_lineno - n.lineno, self.end(n) - self.start(n)))
        return found

    def calls(self, line: int) -> list[ast.Call]:
        return self.at(line, ast.Call)

    def statement(self, node: ast.AST) -> ast.stmt:
        return node if isinstance(node, ast.stmt) else next(a for a in self.above(node) if isinstance(a, ast.stmt))

    def statement_at(self, line: int) -> ast.stmt | None:
        """The innermost statement that a line belongs to."""
        return min(self.at(line, ast.stmt), key=lambda n: self.end(n) - self.start(n), default=None)

    def block(self, statement: ast.stmt) -> list[ast.stmt]:
        """The statements among which it stands."""
        parent = self.parents[statement]
        for name in ("body", "orelse", "finalbody"):
            block = getattr(parent, name, None)
            if isinstance(block, list) and statement in block:
                return block
        raise Cannot("the line stands in a place that is not understood")

    def function(self, node: ast.AST) -> ast.AST:
        """The function around it, or the module."""
        return next((a for a in self.above(node) if isinstance(a, Function)), self.tree)

    def klass(self, node: ast.AST) -> ast.ClassDef | None:
        return next((a for a in self.above(node) if isinstance(a, ast.ClassDef)), None)

    def loops(self, node: ast.AST) -> list[ast.stmt]:
        """The loops around it within its function, the innermost first."""
        found = []
        for a in self.above(node):
            if isinstance(a, Function):
                break
            if isinstance(a, Loop):
                found.append(a)
        return found

    # ------------------------------------------------------------------ names

    @cached_property
    def imports(self) -> dict[str, str]:
        """Name in this file -> what it stands for: {"F": "torch.nn.functional", "nn": "torch.nn"}."""
        found: dict[str, str] = {}
        for node in self.walk(ast.Import, ast.ImportFrom):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found[alias.asname or alias.name.split(".")[0]] = alias.name if alias.asname else alias.name.split(".")[0]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names if a.name != "*"}
        return found

    def dotted(self, node: ast.AST) -> str:
        """`F.softmax` -> torch.nn.functional.softmax; names that are not imported stay: self.head. '' for other expressions."""
        if isinstance(node, ast.Name):
            return self.imports.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            left = self.dotted(node.value)
            return f"{left}.{node.attr}" if left else ""
        return ""

    def imported(self, node: ast.AST) -> bool:
        """Is it a name of a module or of something in a module?"""
        while isinstance(node, ast.Attribute):
            node = node.value
        return isinstance(node, ast.Name) and node.id in self.imports

    def spelled(self, dotted: str) -> str | None:
        """How this file can call something: `nn.functional.cross_entropy`. None where nothing that leads to it is imported."""
        best = None
        for alias, target in self.imports.items():
            if dotted == target or dotted.startswith(target + "."):
                name = alias + dotted[len(target) :]
                if best is None or len(name) < len(best):
                    best = name
        return best

    @cached_property
    def assigned(self) -> dict[str, list[ast.expr]]:
        """`self.criterion` -> the expressions that are assigned to it anywhere in the file."""
        found: dict[str, list[ast.expr]] = {}
        for node in self.walk(ast.Assign, ast.AnnAssign, ast.NamedExpr):
            value = node.value
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if value is None:
                    continue
                if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
                    for t, v in zip(target.elts, value.elts):
                        found.setdefault(ast.unparse(t), []).append(v)
                else:
                    found.setdefault(ast.unparse(target), []).append(value)
        return found

    def shared(self, node: ast.AST) -> str:
        """'' where the line serves one place of the network; otherwise what makes it run for several layers."""
        where: ast.AST | None = None
        for a in self.above(node):
            if isinstance(a, (*Comprehension, *Loop)) and not any(_trains(n) for n in ast.walk(a)):
                return "it runs in a loop, for several layers"
            if isinstance(a, (ast.FunctionDef, ast.AsyncFunctionDef)):
                where = a
                break
        if where is None or where.name in {"forward", "__call__"}:
            return ""
        klass = self.parents[where]
        name = klass.name if isinstance(klass, ast.ClassDef) and where.name == "__init__" else where.name
        callers = [c for c in self.walk(ast.Call) if tail(c.func) == name]
        # Called from two functions it is the model's output in training and in evaluation; twice from one, two layers.
        places = [self.function(c) for c in callers]
        if any(places.count(p) > 1 for p in places):
            return f"{name}() makes several layers"
        looped = [c for c in callers if any(isinstance(a, (*Comprehension, *Loop)) for a in self._within(c))]
        if looped and not any(_trains(n) for c in looped for a in self._within(c) for n in ast.walk(a)) and _builds(where):
            return f"{name}() is called in a loop and makes several layers"
        return ""

    def _within(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes above, up to its function."""
        for a in self.above(node):
            if isinstance(a, (*Function, ast.Module)):
                return
            yield a

    # ------------------------------------------------------------------ edits

    def replace(self, node: ast.AST, text: str) -> Span:
        return Span(self.start(node), self.end(node), text)

    def inner(self, node: ast.AST, outer: ast.AST) -> Span:
        """Put `node`, a part of `outer`, in its place; parentheses where the grammar needs them."""
        return self.replace(outer, self.fitting(node, outer))

    def fitting(self, node: ast.AST, outer: ast.AST) -> str:
        """The text of `node` so that it can stand where `outer` stands."""
        text = self.of(node)
        parent = self.parents[outer]
        loose = isinstance(parent, (ast.Assign, ast.AnnAssign, ast.Return, ast.Expr, ast.keyword)) or (
            isinstance(parent, ast.Call) and outer is not parent.func
        )
        return text if (loose or isinstance(node, _ATOMS)) and parses(text) else f"({text})"

    def own_lines(self, start: int, end: int) -> bool:
        """Is there nothing else on the lines from start to end but white space and a comment behind?"""
        before = self.text[self.line_start(start) : start]
        behind = self.text[end : self.line_end(end)] if end < len(self.text) else ""
        return not before.strip() and (not behind.strip() or behind.lstrip().startswith("#"))

    def indentation(self, statement: ast.stmt) -> str:
        start = self.start(statement)
        return self.text[self.line_start(start) : start]

    def before(self, statement: ast.stmt, text: str) -> Span:
        """A new statement before another one."""
        start = self.start(statement)
        indentation = self.text[self.line_start(start) : start]
        if indentation.strip():  # `if ready: loss.backward()` or `a; b`
            return Span(start, start, f"{text}; ")
        at = self.line_start(start)
        return Span(at, at, f"{indentation}{text}{self._ending(start)}")

    def after(self, statement: ast.stmt, text: str) -> Span:
        """A new statement behind another one."""
        start, end = self.start(statement), self.end(statement)
        if not self.own_lines(start, end):
            return Span(end, end, f"; {text}")
        at = self.line_end(end) if end < len(self.text) else end
        indentation = self.text[self.line_start(start) : start]
        if at == len(self.text) and not _NEWLINE.search(self.text[end:]):  # the file does not end in a newline: neither will it
            return Span(at, at, f"{self.newline}{indentation}{text}")
        return Span(at, at, f"{indentation}{text}{self._ending(end)}")

    def _ending(self, offset: int) -> str:
        found = _NEWLINE.search(self.text, offset)
        return found[0] if found else self.newline

    def delete(self, statement: ast.stmt) -> Span:
        """A statement with its line; `pass` in its place where it is the only one of its block."""
        start, end = self.start(statement), self.end(statement)
        if len(self.block(statement)) == 1 or not self.own_lines(start, end):
            return Span(start, end, "pass")
        at = self.line_end(end) if end < len(self.text) else end
        return Span(self.line_start(start), at, "")

    def without(self, node: ast.AST) -> Span:
        """An element of an argument list or a list display with its comma, and its line where it has one of its own."""
        start, end = self.start(node), self.end(node)
        tokens = [t for t in self.tokens if t.kind != tokenize.COMMENT]
        first = next(i for i, t in enumerate(tokens) if t.start >= start)
        last = next(i for i, t in reversed(list(enumerate(tokens))) if t.end <= end)
        container = self.parents[node]
        opening = self.end(container.func) if isinstance(container, ast.Call) else self.start(container)
        while tokens[first - 1].text == "(" and tokens[last + 1].text == ")" and tokens[first - 1].start > opening:
            first, last = first - 1, last + 1
        start, end = tokens[first].start, tokens[last].end
        left, right = tokens[first - 1], tokens[last + 1]
        if right.text == ",":
            end = right.end
        if self.own_lines(start, end):
            at = self.line_end(end) if end < len(self.text) else end
            return Span(self.line_start(start), at, "")
        if right.text == "," and self.text[end : self.line_end(end)].strip() and not self.text[end:].lstrip(" \t").startswith("#"):
            return Span(start, end + len(self.text[end:]) - len(self.text[end:].lstrip(" \t")), "")  # others follow on the line
        if left.text == "," and "#" not in self.text[left.end : start]:
            return Span(left.end if right.text == "," else left.start, end, "")
        return Span(start, end, "")

    def argument(self, call: ast.Call, text: str) -> Span:
        """One more argument at the end of a call."""
        tokens = [t for t in self.tokens if t.kind != tokenize.COMMENT and t.end <= self.end(call)]
        last = tokens[-2]  # in front of the closing parenthesis
        if last.text == "(" and not (call.args or call.keywords):
            return Span(last.end, last.end, text)
        if last.text != ",":
            return Span(last.end, last.end, f", {text}")
        own = self.text[self.line_start(last.start) : last.start]
        if "\n" in self.text[last.end : self.end(call)] or "\r" in self.text[last.end : self.end(call)]:
            row = self.line_end(last.start)
            indentation = own[: len(own) - len(own.lstrip())]
            return Span(row, row, f"{indentation}{text},{self._ending(last.start)}")
        return Span(last.end, last.end, f" {text}")


def _trains(node: ast.AST) -> bool:
    """A mark of a training loop."""
    return isinstance(node, ast.Call) and tail(node.func) in {"backward", "step"}


def _builds(function: ast.AST) -> bool:
    """Does it construct layers?"""
    made = {tail(n.func) for n in ast.walk(function) if isinstance(n, ast.Call)}
    return any(name[:1].isupper() for name in made)


def tail(node: ast.AST) -> str:
    """The last name of a.b.c."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def parse(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is odd in the user's strings is not ours to say
        return ast.parse(text)


def parses(text: str) -> bool:
    """Is it an expression as it stands?"""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text, mode="eval")
    except (SyntaxError, ValueError):
        return False
    return True


def changed(text: str, spans: list[Span]) -> str:
    """The text with all spans replaced. Raises Cannot where two of them overlap."""
    done = len(text) + 1
    for span in sorted(set(spans), key=lambda s: (s.start, s.end), reverse=True):
        if span.end > done:
            raise Cannot("two changes meet in the same place")
        text = text[: span.start] + span.text + text[span.end :]
        done = span.start
    return text


def lines_of(text: str) -> list[str]:
    """The lines with their newlines, split where Python splits them (not at form feeds)."""
    found = [0, *(m.end() for m in _NEWLINE.finditer(text)), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(found) if a < b]
