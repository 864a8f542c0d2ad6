"""An activation -> the loss whose gradient drops the activation's derivative, derived and checked step by step.

With a = s(z) the chain rule gives dL/dz = dL/da * s'(z). Where s is flat, s'(z) is almost 0 and a wrong answer learns
nothing: that is the plateau of squared error behind a sigmoid. The matching loss is the solution of

    dL/da * s'(z) = a - y,        so that        dL/dz = s(z) - y

Written in the logit it needs no inverse: L(z) = A(z) - y z with A' = s. That is convex exactly when s never falls.

What is said of any such loss (A* is the convex conjugate of A, A*(y) = max over z of y z - A(z)):
- floor for a target y: -A*(y), reached where s(z) = y; for y at the edge of the range of s only in the limit, and only
  where s reaches its edge fast enough.
- chance level: the best constant answer to targets of mean m has s(z) = m and costs -A*(m).
Both move by the same c0 + c1 y when such a constant is added to the loss; the pages say which one was added.

Everything is in nats. SymPy is imported inside functions. Expressions that a person typed are read by `parse`, never by
`sympify` (which runs `eval`), and are worked on in a second process with a time limit per stage, because no bound is
known for how long SymPy may think. A stage that runs out of time is left out and the page says so.
Sources: the matching loss is Auer, Herbster and Warmuth, NIPS 1995; as the canonical link of a generalised linear model,
McCullagh and Nelder, 1989, chapter 2; as a Fenchel-Young loss, Blondel, Martins and Niculae, JMLR 2020.
"""

from __future__ import annotations

import ast
import json
import math
import queue
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from unstuck.errors import UnstuckError, UsageError

__all__ = ["ACTIVATIONS", "TOPICS", "Check", "Derivation", "Level", "Step", "derive", "matching_loss", "parse"]

ACTIVATIONS: dict[str, str] = {
    "sigmoid": "1/(1 + exp(-z)): binary cross-entropy",
    "softmax": "the vector case: cross-entropy, gradient p - y",
    "tanh": "targets in -1..1: log cosh z - y z, binary cross-entropy of 2z",
    "probit": "the normal distribution function; not the likelihood",
    "cloglog": "1 - exp(-exp(z)), complementary log-log; not the likelihood",
    "identity": "half the squared error",
}
TOPICS: dict[str, str] = {
    "entropy": "cross-entropy = entropy + Kullback-Leibler divergence",
    "likelihood": "minimal cross-entropy = maximum likelihood",
}
WIDTH = 80
SECONDS = 10.0  # for one stage of one expression


# --------------------------------------------------------------------------------------------------- what is returned


@dataclass(frozen=True)
class Step:
    """One step of a derivation. `plain` is unicode of at most 76 columns, several lines where needed; may be empty."""

    title: str
    text: str
    plain: str = ""
    latex: str = ""


@dataclass(frozen=True)
class Check:
    """What was verified, and how: "exact" (SymPy reduced the difference to 0) or "numeric" at `points` points.

    `error` is the largest relative error seen, 0 for an exact check.
    """

    what: str
    how: str
    points: int = 0
    error: float = 0.0


@dataclass(frozen=True)
class Level:
    """A loss, in nats, that this derivation says where it comes from. `value` is None where there is no finite one."""

    name: str
    value: float | None
    text: str


@dataclass(frozen=True)
class Derivation:
    """A derivation as data.

    `exists`: there is a loss L(a, y) of the activation's value with the wanted gradient; where not, `answer` says why.
    `python`: source of a torch function of the logits, None where no honest one exists. `next`: a useful command.
    """

    topic: str
    title: str
    exists: bool
    answer: str
    steps: tuple[Step, ...]
    checks: tuple[Check, ...] = ()
    levels: tuple[Level, ...] = ()
    python: str | None = None
    next: str = "unstuck demo neuron"

    def as_dict(self) -> dict[str, Any]:
        """Plain lists, dictionaries, strings and numbers, fit for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Derivation:
        """The inverse of `as_dict`."""
        parts = {
            "steps": tuple(Step(**s) for s in data["steps"]),
            "checks": tuple(Check(**c) for c in data["checks"]),
            "levels": tuple(Level(**v) for v in data["levels"]),
        }
        return cls(**{**data, **parts})

    def as_text(self) -> str:
        """The page, at most 80 columns, unicode, no colour."""
        lines = [*_wrap(self.title), "=" * min(WIDTH, len(self.title)), "", *_wrap(self.answer), ""]
        for place, step in enumerate(self.steps, start=1):
            lines += [*_wrap(f"{place}. {step.title}"), *_wrap(step.text, "   ")]
            if step.plain:
                lines += ["", *(f"    {line}".rstrip() for line in step.plain.splitlines())]
            lines.append("")
        if self.levels:
            lines += ["Levels (nats)"]
            for level in self.levels:
                value = "none" if level.value is None else f"{level.value:.4f}"
                lines += _wrap(f"{value:>9}  {level.name}: {level.text}", "", " " * 11)
            lines.append("")
        if self.checks:
            lines += ["Checked"]
            lines += [line for check in self.checks for line in _wrap(f"- {check.what}: {_how(check)}", "", "  ")]
            lines.append("")
        return "\n".join(lines)

    def as_latex(self) -> str:
        """Body of a LaTeX document: a section, text and displayed formulas (needs amsmath)."""
        lines = [f"\\section*{{{_tex(self.title)}}}", _tex(self.answer), ""]
        for step in self.steps:
            lines += [f"\\paragraph{{{_tex(step.title)}.}} {_tex(step.text)}"]
            if step.latex:
                lines += ["\\begin{equation*}", step.latex, "\\end{equation*}"]
            lines.append("")
        if self.levels:
            lines += ["\\paragraph{Levels (nats).}", "\\begin{itemize}"]
            for level in self.levels:
                value = "none" if level.value is None else f"${level.value:.4f}$"
                lines.append(f"\\item {value}: {_tex(level.name)}, {_tex(level.text)}")
            lines += ["\\end{itemize}", ""]
        if self.checks:
            lines += ["\\paragraph{Checked.}", "\\begin{itemize}"]
            lines += [f"\\item {_tex(c.what)}: {_tex(_how(c))}" for c in self.checks]
            lines += ["\\end{itemize}", ""]
        return "\n".join(lines)


def _how(check: Check) -> str:
    if check.how == "exact":
        return "exact, by SymPy"
    return f"numerically at {check.points} points, largest error {check.error:.1e}"


def _wrap(text: str, first: str = "", rest: str | None = None) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=first if rest is None else rest, break_on_hyphens=False
    )


_TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\ensuremath{<}",
    ">": r"\ensuremath{>}",
    "*": r"\ensuremath{*}",
    "∞": r"\ensuremath{\infty}",
    "−": r"\ensuremath{-}",
    "³": r"\ensuremath{^3}",
    "≤": r"\ensuremath{\le}",
    "≥": r"\ensuremath{\ge}",
    "γ": r"\ensuremath{\gamma}",
    "π": r"\ensuremath{\pi}",
    "Φ": r"\ensuremath{\Phi}",
    "φ": r"\ensuremath{\varphi}",
    "·": r"\ensuremath{\cdot}",
    "√": r"\ensuremath{\surd}",
    "²": r"\ensuremath{^2}",
    "±": r"\ensuremath{\pm}",
    "Σ": r"\ensuremath{\Sigma}",
    "∫": r"\ensuremath{\int}",
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)


# --------------------------------------------------------------------------------------------------- reading safely

_FUNCTIONS = (
    "exp",
    "log",
    "sqrt",
    "tanh",
    "sinh",
    "cosh",
    "sin",
    "cos",
    "tan",
    "atan",
    "asinh",
    "erf",
    "erfc",
    "Abs",
    "Max",
    "Min",
    "sigmoid",
    "softplus",
    "relu",
)
_SPELT = {"abs": "Abs", "max": "Max", "min": "Min", "ln": "log", "arctan": "atan", "arcsinh": "asinh"}
_LENGTH, _NODES, _DEPTH, _NUMBER, _POWER = 200, 80, 16, 1e6, 12


def parse(text: str) -> Any:
    """The SymPy expression in the real symbol z that `text` spells, or UsageError naming the part that is not allowed.

    The text is read by `ast` and built node by node from a fixed list: z, pi, E, numbers, + - * / **, and the functions
    in `_FUNCTIONS`; nothing else is looked up and nothing is evaluated. Length, nesting, the size of numbers and of
    constant powers are bounded, for 9**9**9 takes for ever before it is even an expression.
    """
    import sympy as sp

    wanted = "write an expression in z such as 'z/(1+Abs(z))'"
    if len(text) > _LENGTH:
        raise UsageError(f"the expression has {len(text)} characters and at most {_LENGTH} are read: shorten it")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UsageError(f"{text!r} is not an expression: {wanted}, or one of {', '.join(ACTIVATIONS)}") from None
    if sum(1 for _ in ast.walk(tree)) > 4 * _NODES:
        raise UsageError(f"{text!r} has too many parts: shorten it")
    z = sp.Symbol("z", real=True)
    functions: dict[str, Callable[..., Any]] = {n: getattr(sp, n) for n in _FUNCTIONS if hasattr(sp, n)}
    functions |= {
        "sigmoid": lambda x: 1 / (1 + sp.exp(-x)),
        "softplus": lambda x: sp.log(1 + sp.exp(x)),
        "relu": lambda x: sp.Max(x, 0),
    }
    names = {"z": z, "pi": sp.pi, "E": sp.E, "e": sp.E}

    def small(value: Any) -> Any:
        if value.has(sp.nan, sp.zoo, sp.oo, -sp.oo):
            raise UsageError(f"{text!r} divides by zero or has no value: {wanted}")
        for number in value.atoms(sp.Rational):
            if number.p.bit_length() > 64 or number.q.bit_length() > 64:
                raise UsageError(f"a number in {text!r} grows too large: keep constants below {_NUMBER:.0e}")
        return value

    def power(base: Any, exponent: Any) -> Any:
        if exponent.is_number and not abs(float(exponent)) <= _POWER:
            raise UsageError(f"the power {exponent} in {text!r} is too large: at most {_POWER}")
        return base**exponent

    def build(node: ast.expr, depth: int) -> Any:
        if depth > _DEPTH:
            raise UsageError(f"{text!r} is nested deeper than {_DEPTH} levels: simplify it")
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                if not (number == 0 or 1.0 / _NUMBER <= abs(number) <= _NUMBER):
                    raise UsageError(f"{number} is too large or too small: numbers between {1 / _NUMBER:.0e} and {_NUMBER:.0e}")
                return sp.Rational(repr(number))
            case ast.Name(id=name):
                if name not in names:
                    raise UsageError(f"{name!r} is not known: the variable is z, constants are pi and E; {wanted}")
                return names[name]
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return small(-build(inner, depth + 1))
            case ast.UnaryOp(op=ast.UAdd(), operand=inner):
                return build(inner, depth + 1)
            case ast.BinOp(left=left, op=op, right=right):
                one, two = build(left, depth + 1), build(right, depth + 1)
                match op:
                    case ast.Add():
                        return small(one + two)
                    case ast.Sub():
                        return small(one - two)
                    case ast.Mult():
                        return small(one * two)
                    case ast.Div():
                        return small(one / two)
                    case ast.Pow():
                        return small(power(one, two))
                    case ast.BitXor():
                        raise UsageError(f"{text!r} has a ^: write ** for a power")
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                name = _SPELT.get(name, name)
                if name not in functions:
                    raise UsageError(f"{name!r} is not one of the functions that are read: {', '.join(sorted(_FUNCTIONS))}")
                if len(arguments) != (2 if name in ("Max", "Min") else 1):
                    raise UsageError(f"{name} takes {'two values' if name in ('Max', 'Min') else 'one value'}: see {text!r}")
                return small(functions[name](*(build(argument, depth + 1) for argument in arguments)))
        raise UsageError(f"{ast.unparse(node)!r} is not allowed in an activation: {wanted}")

    try:
        return build(tree, 0)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{text!r} cannot be built ({error}): {wanted}") from None


# --------------------------------------------------------------------------------------------------- numbers to check with

_DIGITS = 60
_GRID = tuple(k / 20.0 for k in range(-160, 161)) + tuple(
    s * t for t in (10.0, 12.0, 15.0, 20.0, 25.0, 30.0, 40.0) for s in (-1.0, 1.0)
)
_FAR = (-1e4, -800.0, -100.0, -40.0, 40.0, 100.0, 800.0, 1e4)
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class _Piece:
    """A smooth stretch lo < z < hi of an activation; None stands for no end."""

    lo: Any
    hi: Any
    expr: Any

    def holds(self, z: float) -> bool:
        return (self.lo is None or z >= float(self.lo)) and (self.hi is None or z < float(self.hi))

    @property
    def inside(self) -> list[float]:
        """Some numbers well inside."""
        if self.lo is None and self.hi is None:
            return [-1.7, -0.6, 0.3, 1.1, 2.3]
        if self.lo is None or self.hi is None:
            sign, end = (1.0, float(self.lo)) if self.hi is None else (-1.0, float(self.hi))
            return [end + sign * t for t in (0.2, 0.7, 1.3, 2.1, 3.0)]
        return [float(self.lo) + t * float(self.hi - self.lo) for t in (0.1, 0.3, 0.5, 0.7, 0.9)]


def _pieces(expr: Any) -> list[_Piece]:
    """The expression without Abs, Max and Min: one smooth expression between any two kinks, innermost switches first."""
    import sympy as sp

    z = sp.Symbol("z", real=True)
    switches = (sp.Abs, sp.Max, sp.Min)
    done: list[_Piece] = []
    open_ = [_Piece(None, None, expr)]
    while open_:
        piece = open_.pop()
        inner = [n for n in piece.expr.atoms(*switches) if not any(argument.has(*switches) for argument in n.args)]
        if not inner:
            done.append(piece)
            continue
        kinks: set[Any] = set()
        for node in inner:
            arguments = [node.args[0], sp.S.Zero] if isinstance(node, sp.Abs) else list(node.args)
            for gap in (one - two for place, one in enumerate(arguments) for two in arguments[:place]):
                if not gap.is_polynomial(z) or sp.degree(gap, z) > 1:
                    raise UsageError(f"{node}: Abs, Max and Min are read only where they switch on a line such as 2*z+1")
                kinks |= set(sp.solve(gap, z)) if gap.has(z) else set()
        within = [k for k in kinks if (piece.lo is None or k > piece.lo) and (piece.hi is None or k < piece.hi)]
        ends = [piece.lo, *sorted(within, key=float), piece.hi]
        for lo, hi in pairwise(ends):
            probe = sp.Rational(str(_Piece(lo, hi, expr).inside[2]))

            open_.append(_Piece(lo, hi, piece.expr.xreplace({node: _taken(node, probe) for node in inner})))
    done.sort(key=lambda piece: -math.inf if piece.lo is None else float(piece.lo))
    return _joined(done)


def _taken(switch: Any, probe: Any) -> Any:
    """The branch of an Abs, Max or Min that holds at z = probe."""
    import sympy as sp

    z = sp.Symbol("z", real=True)
    if isinstance(switch, sp.Abs):
        return switch.args[0] if switch.args[0].subs(z, probe) > 0 else -switch.args[0]
    pick = max if isinstance(switch, sp.Max) else min
    return pick(switch.args, key=lambda argument: argument.subs(z, probe))


def _joined(pieces: Sequence[_Piece]) -> list[_Piece]:
    """Neighbours with the same expression made one."""
    joined = [pieces[0]]
    for piece in pieces[1:]:
        if piece.expr == joined[-1].expr:
            joined[-1] = _Piece(joined[-1].lo, piece.hi, piece.expr)
        else:
            joined.append(piece)
    return joined


def _evaluate(expr: Any, at: float | Any, digits: int = _DIGITS, name: str = "z") -> Any:
    """A real mpmath number, or None where the expression has no finite real value."""
    import mpmath
    import sympy as sp

    symbol = next((s for s in expr.free_symbols if s.name == name), None)
    with mpmath.workdps(digits):
        try:
            if symbol is None:
                value = sp.lambdify([], expr, "mpmath")()
            else:
                value = _compiled(expr, symbol)(mpmath.mpf(at))
        except (ZeroDivisionError, ValueError, OverflowError, TypeError, mpmath.libmp.ComplexResult, mpmath.libmp.NoConvergence):
            return None
        value = mpmath.mpmathify(value)
        if isinstance(value, mpmath.mpc):
            if abs(value.imag) > mpmath.mpf(10) ** (10 - digits) * (1 + abs(value.real)):
                return None
            value = value.real
        return value if mpmath.isfinite(value) else None


_CODE: dict[tuple[Any, Any], Any] = {}


def _compiled(expr: Any, symbol: Any) -> Any:
    import sympy as sp

    if (expr, symbol) not in _CODE:
        if len(_CODE) > 500:
            _CODE.clear()
        _CODE[expr, symbol] = sp.lambdify(symbol, expr, "mpmath")
    return _CODE[expr, symbol]


def _on(pieces: Sequence[_Piece], z: float, digits: int = _DIGITS) -> Any:
    """The value of a function given in pieces."""
    return _evaluate(next(p.expr for p in pieces if p.holds(z)), z, digits)


def _agree(left: Any, right: Any, points: Iterable[float], name: str = "z", digits: int = _DIGITS) -> tuple[int, float]:
    """(points with a value, largest relative error) of two expressions; an expression without any value agrees nowhere."""
    count, worst = 0, 0.0
    for point in points:
        one, two = _evaluate(left, point, digits, name), _evaluate(right, point, digits, name)
        if one is None or two is None:
            continue
        count += 1
        worst = max(worst, float(abs(one - two) / max(1, abs(two))))
    return (count, worst) if count else (0, math.inf)


def _verified(what: str, left: Any, right: Any, points: Sequence[float], name: str = "z", exact: bool = True) -> Check | None:
    """The check that two expressions are equal: exact where SymPy can, else at the points; None where they are not."""
    import sympy as sp

    count, worst = _agree(left, right, points, name)
    if worst > _TOLERANCE:  # 1 + tanh(-80) cancels all of 60 digits
        count, worst = _agree(left, right, points, name, 600)
    if worst > _TOLERANCE:
        return None
    if exact:
        difference = left - right
        for simplify in (lambda x: x, sp.expand, sp.simplify, lambda x: sp.simplify(x.rewrite(sp.exp))):
            try:
                if simplify(difference) == 0:
                    return Check(what, "exact")
            except Exception:  # SymPy fails in many ways; the numeric check has been passed already
                continue
    return Check(what, "numeric", count, worst)


# --------------------------------------------------------------------------------------------------- is there a loss?


@dataclass(frozen=True)
class _Course:
    """How an activation runs: "rising", "flat" (rising with flat stretches), "falling", "turning", "constant", "no value"."""

    kind: str
    text: str
    proved: bool = False
    touches: tuple[float, ...] = ()  # single points where the slope is 0


def _sign(slope: Any, z: float) -> int:
    value = _evaluate(slope, z)
    if value is not None and abs(value) < 1e-30:  # tanh(10 z) at 40 needs 350 digits before its slope is told from 0
        value = _evaluate(slope, z, 2000)
    return 0 if value is None else (value > 0) - (value < 0)


def _course(pieces: Sequence[_Piece]) -> _Course:
    import sympy as sp

    z = sp.Symbol("z", real=True)
    grid = sorted({*_GRID, *(float(p.lo) for p in pieces if p.lo is not None)})
    before = None
    for point in grid:
        if _on(pieces, point) is None:
            return _Course(
                "no value",
                f"{_short(pieces, point)} is not a finite real number at z = {point:g}; an activation"
                " needs a value for every real z",
            )
        for left, right in pairwise(pieces):
            if float(right.lo) == point:
                before, after = _evaluate(left.expr, point), _evaluate(right.expr, point)
                if before is None or abs(before - after) > 1e-30:
                    return _Course("no value", f"it jumps at z = {point:g}; an activation has to be continuous")
    slopes = [(p, sp.diff(p.expr, z)) for p in pieces]
    signs: list[tuple[float, int]] = []
    for piece, slope in slopes:
        own = [g for g in grid if piece.holds(g) and (piece.lo is None or g > float(piece.lo))] + piece.inside
        signs += _resolved([(g, _sign(slope, g)) for g in sorted(set(own))])
    signs.sort()
    rising, falling = any(s > 0 for _, s in signs), any(s < 0 for _, s in signs)
    for one, two in pairwise(grid):  # tan rises wherever it has a slope
        if rising != falling and (_on(pieces, two) - _on(pieces, one)) * (1 if rising else -1) < -1e-30:
            return _Course("no value", f"it jumps between z = {one:g} and z = {two:g}; an activation has to be continuous")
    if rising and not falling:
        dips = [d for piece, slope in slopes for d in _dips(piece, slope, grid)]
        falling = bool(dips)
        signs = sorted([*signs, *((d, -1) for d in dips)])
    if rising and falling:
        return _Course("turning", _witness(pieces, slopes, signs))
    if not rising and not falling:
        return _Course("constant", "it is constant: its derivative is 0 everywhere, so no loss can send a gradient through it")
    if falling:
        return _Course("falling", "it falls")
    runs: list[list[float]] = [[]]
    for point, sign in signs:
        if sign == 0:
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    flat = max(runs, key=len)
    if len(flat) > 1:
        return _Course("flat", f"it rises but is flat, at least from z = {flat[0]:g} to {flat[-1]:g}")
    proved = all(_positive(slope, piece) for piece, slope in slopes)
    touches = tuple(point for point, sign in signs if sign == 0)
    return _Course("rising", "it rises everywhere", proved, touches)


def _resolved(signs: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """The signs of the slope of one smooth piece without stretches of 0 that are only too small to be told from 0.

    A piece is made of analytic functions, so its slope is 0 everywhere on it or in single points only.
    """
    if all(sign == 0 for _, sign in signs):
        return signs
    around = [1, *(sign for _, sign in signs), 1]
    return [pair for place, pair in enumerate(signs, start=1) if pair[1] or (around[place - 1] and around[place + 1])]


def _short(pieces: Sequence[_Piece], point: float) -> str:
    return str(next(p.expr for p in pieces if p.holds(point)))


def _dips(piece: _Piece, slope: Any, grid: Sequence[float]) -> list[float]:
    """Where the slope is negative between points of the grid: a golden-section search around each of its least values."""
    own = [g for g in grid if piece.holds(g)]
    height = {g: _evaluate(slope, g) for g in own}
    found = []
    for left, middle, right in zip(own, own[1:], own[2:]):
        if None in (height[left], height[middle], height[right]) or not height[left] >= height[middle] <= height[right]:
            continue
        if not height[middle] < height[left] and not height[middle] < height[right]:
            continue
        low, high = left, right
        for _ in range(45):
            one, two = high - 0.6180339887 * (high - low), low + 0.6180339887 * (high - low)
            at_one, at_two = _evaluate(slope, one), _evaluate(slope, two)
            if at_one is None or at_two is None:
                break
            low, high = (low, two) if at_one < at_two else (one, high)
        bottom = _evaluate(slope, 0.5 * (low + high))
        if bottom is not None and bottom < -1e-12:
            found.append(0.5 * (low + high))
    return found


def _positive(slope: Any, piece: _Piece) -> bool:
    """SymPy proves slope > 0 on the piece."""
    import sympy as sp

    z, t = sp.Symbol("z", real=True), sp.Symbol("t", positive=True)
    if piece.lo is not None and piece.hi is not None:
        inside = (piece.lo + piece.hi * t) / (1 + t)
    elif piece.lo is not None:
        inside = piece.lo + t
    elif piece.hi is not None:
        inside = piece.hi - t
    else:
        inside = z
    for form in (
        lambda x: x,
        sp.simplify,
        sp.factor,
        lambda x: sp.simplify(x.rewrite(sp.exp)),
        lambda x: sp.simplify(x.rewrite(sp.cos)),
    ):
        try:
            if form(slope).subs(z, inside).is_positive or form(slope.subs(z, inside)).is_positive:
                return True
        except Exception:  # a rewriting that SymPy cannot do proves nothing; the next one may
            continue
    return False


def _witness(pieces: Sequence[_Piece], slopes: Sequence[tuple[_Piece, Any]], signs: Sequence[tuple[float, int]]) -> str:
    """Two logits with the same activation and slopes of different sign, in words."""
    turns = [(one, two) for (one, s), (two, t) in pairwise(signs) if s and t and s != t]
    turns += [(one, two) for (one, s), (mid, m), (two, t) in zip(signs, signs[1:], signs[2:]) if m == 0 and s * t < 0]
    for left, right in sorted(turns, key=lambda pair: abs(pair[0])):
        points = [g for g, _ in signs]
        for first in [g for g in reversed(points) if g <= left][:10][::-1]:
            a = _on(pieces, first)
            beyond = [g for g in points if g >= right]
            for low, high in zip([right, *beyond], beyond):
                f_low, f_high = _on(pieces, low) - a, _on(pieces, high) - a
                if f_low * f_high > 0:
                    continue
                for _ in range(60):
                    middle = 0.5 * (low + high)
                    low, high = (middle, high) if (_on(pieces, middle) - a) * f_low > 0 else (low, middle)
                slope = [next(float(_evaluate(s, x)) for p, s in slopes if p.holds(x)) for x in (first, high)]
                if slope[0] * slope[1] < 0:
                    return (
                        f"it is not monotone: a = {float(a):.4g} comes from z = {first:.4g}, where the slope is {slope[0]:.4g}, and"
                        f" from z = {high:.4g}, where it is {slope[1]:.4g}. dL/da would have to be (a - y)/({slope[0]:.4g}) and"
                        f" (a - y)/({slope[1]:.4g}) at once"
                    )
    return f"it is not monotone: its slope changes sign between z = {turns[0][0]:.4g} and z = {turns[0][1]:.4g}"


# --------------------------------------------------------------------------------------------------- the calculus


def _tidy(expr: Any, at: float, name: str) -> Any:
    """log(-a/(a-1)) as log(a) - log(1-a), likewise roots: split into numerator and denominator that are positive at `at`.

    The logarithm of a negative number becomes that of its absolute value, the real branch of an antiderivative.
    """
    import sympy as sp

    def halves(argument: Any, real_branch: bool) -> tuple[Any, Any] | None:
        top, bottom = sp.fraction(sp.together(argument))
        values = [_evaluate(part, at, name=name) for part in (top, bottom)]
        if None in values or not argument.free_symbols or 0 in values or (values[0] * values[1] < 0 and not real_branch):
            return None
        return tuple(sp.factor_terms(sp.expand(part if value > 0 else -part)) for part, value in zip((top, bottom), values))

    def logarithm(argument: Any) -> Any:
        parts = halves(argument, real_branch=True)
        if parts is None:
            return sp.log(argument)
        total = sp.S.Zero
        for part, sense in zip(parts, (1, -1)):
            base, exponent = part.as_base_exp()
            content, base = base.as_content_primitive() if exponent == 1 else (sp.S.One, base)
            total += sense * (sp.log(content) + (exponent * sp.log(base) if base != 1 else 0))
        return total

    def root(base: Any, exponent: Any) -> Any:
        parts = halves(base, real_branch=False) if exponent.is_Rational and not exponent.is_Integer else None
        return base**exponent if parts is None else parts[0] ** exponent * parts[1] ** -exponent

    return expr.replace(sp.Pow, root).replace(sp.log, logarithm)


def _scale(expr: Any) -> Any:
    """c where z occurs only as c z inside functions, else 1: tanh(10 z) would be inverted through tenth roots."""
    import sympy as sp

    z = sp.Symbol("z", real=True)
    slopes = {sp.diff(n.args[0], z) for n in expr.atoms(sp.Function) if n.has(z)}
    c = next(iter(slopes)) if len(slopes) == 1 else sp.S.One
    if not c.is_Rational or c in (1, -1, 0) or expr.subs(z, z / c).atoms(sp.Rational) >= expr.atoms(sp.Rational):
        return sp.S.One
    return abs(c)


def _antiderivative(pieces: Sequence[_Piece]) -> tuple[list[_Piece], list[Check]] | None:
    """(A in pieces, continuous, with A' = s; its checks), or None where SymPy finds no closed form."""
    import sympy as sp

    z = sp.Symbol("z", real=True)
    found: list[_Piece] = []
    checks = []
    for piece in pieces:
        c = _scale(piece.expr)
        area = sp.integrate(piece.expr.subs(z, z / c), z).subs(z, c * z) / c
        if area.has(sp.Integral, sp.Piecewise):
            return None
        if _evaluate(area, piece.inside[0]) is None:
            area = _tidy(area, piece.inside[0], "z")
        if found:  # continuous at the kink
            gap = found[-1].expr.subs(z, piece.lo) - area.subs(z, piece.lo)
            area = area + sp.nsimplify(sp.simplify(gap))
        points = _inner(piece)
        check = _verified(f"dA/dz = s(z){_where(piece)}", sp.diff(area, z), piece.expr, points)
        if check is None:
            return None
        found.append(_Piece(piece.lo, piece.hi, area))
        checks.append(check)
    return found, checks


def _inner(piece: _Piece) -> list[float]:
    """Points of the grid between -8 and 8 that lie inside, and the piece's own."""
    own = [g for g in _GRID if abs(g) <= 8.0 and piece.holds(g) and (piece.lo is None or g > float(piece.lo))]
    return sorted({*own, *piece.inside})


def _where(piece: _Piece) -> str:
    if piece.lo is None and piece.hi is None:
        return ""
    if piece.lo is None:
        return f" for z < {piece.hi}"
    return f" for z > {piece.lo}" if piece.hi is None else f" for {piece.lo} < z < {piece.hi}"


@dataclass(frozen=True)
class _Inverse:
    """One piece, inverted: z(a) and the slope v(a) = s'(z(a))."""

    piece: _Piece
    logit: Any
    slope: Any


def _inverse(pieces: Sequence[_Piece]) -> tuple[list[_Inverse], list[Check]] | None:
    import sympy as sp

    z, a = sp.Symbol("z", real=True), sp.Symbol("a", real=True)
    found = []
    checks = []
    for piece in pieces:
        slope = sp.diff(piece.expr, z)
        values = [(x, _evaluate(piece.expr, x)) for x in piece.inside]
        best, c = None, _scale(piece.expr)
        for candidate in sp.solve(sp.Eq(piece.expr.subs(z, z / c), a), z):
            candidate = candidate / c
            if not hasattr(candidate, "free_symbols") or candidate.has(z, sp.Integral, sp.CRootOf):
                continue
            right = [_evaluate(candidate, v, name="a") for _, v in values]
            if None in right or any(abs(r - x) > 1e-12 for r, (x, _) in zip(right, values)):
                continue
            tidy = _tidy(candidate, values[2][1], "a")
            logit = tidy if _agree(tidy, candidate, [v for _, v in values], "a")[1] < 1e-20 else candidate
            best = logit if best is None or logit.count_ops() < best.count_ops() else best
        if best is None:
            return None
        forms = []
        for form in (
            lambda x: x,
            sp.simplify,
            lambda x: sp.factor(sp.simplify(x)),
            lambda x: sp.simplify(x.rewrite(sp.exp)),
            lambda x: sp.factor(sp.simplify(sp.expand(x))),
        ):
            for start in (slope, slope.rewrite(sp.exp) if slope.has(sp.tanh, sp.sinh, sp.cosh) else slope):
                try:
                    shape = form(start.subs(z, best))
                except Exception:  # SymPy fails in many ways, each of them means: no shorter form this way
                    continue
                tidy = _tidy(shape, float(values[2][1]), "a")
                forms += [s for s in (shape, tidy) if all(_same(s, v, slope, x) for x, v in values)]
        if not forms:
            return None
        shortest = min(forms, key=lambda shape: (not shape.is_rational_function(a), shape.count_ops(), len(str(shape))))
        check = _verified(f"s'(z) written in a{_where(piece)}", shortest.subs(a, piece.expr), slope, _inner(piece))
        found.append(_Inverse(piece, best, shortest))
        checks += [check] if check else []
    return found, checks


def _same(shape: Any, a: Any, slope: Any, z: float) -> bool:
    one, two = _evaluate(shape, a, name="a"), _evaluate(slope, z)
    return one is not None and two is not None and abs(one - two) <= 1e-15 * (1 + abs(two))


def _separated(inverse: _Inverse) -> tuple[Any, list[Any] | None]:
    """((a - y)/v(a), its partial fractions with positive denominators, or None where it is no rational function)."""
    import sympy as sp

    a, y = sp.symbols("a y", real=True)
    right = (a - y) / inverse.slope
    if not inverse.slope.is_rational_function(a) or not inverse.slope.has(a):
        return right, None
    terms = []
    at = float(_evaluate(inverse.piece.expr, inverse.piece.inside[2]))
    for term in sp.Add.make_args(sp.apart(right, a)):
        top, bottom = sp.fraction(sp.together(term))
        number, bottom = sp.factor_terms(bottom).as_independent(a) if not bottom.is_Add else bottom.as_content_primitive()
        value = _evaluate(bottom, at, name="a")
        if value is not None and value < 0:
            top, bottom = sp.expand(-top), sp.expand(-bottom)
        if top.is_Add and all(part.could_extract_minus_sign() for part in top.args):
            terms.append(sp.Mul(-1, sp.expand(-top), 1 / number, 1 / bottom))
        else:
            terms.append(sp.Mul(top, 1 / number, 1 / bottom))
    return right, sorted(terms, key=str)


def _gathered(loss: Any) -> Any:
    """The terms that contain a, gathered by the functions and powers of a they contain; what is constant goes into C."""
    import sympy as sp

    a = sp.Symbol("a", real=True)
    flat = sp.expand(loss)
    flat = sp.Add(*(term for term in sp.Add.make_args(flat) if term.has(a)))
    parts = [part for part in flat.atoms(sp.Function, sp.Pow) if part.has(a)]
    return sp.collect(flat, sorted(parts, key=str), sp.factor)


def _loss_of_a(inverse: _Inverse, area: Any, right: Any, terms: Sequence[Any] | None) -> tuple[Any, Check] | None:
    """(L(a, y), its check by differentiation)."""
    import sympy as sp

    a, y, z = sp.Symbol("a", real=True), sp.Symbol("y", real=True), sp.Symbol("z", real=True)
    values = [float(_evaluate(inverse.piece.expr, x)) for x in inverse.piece.inside]
    candidates = []
    if terms is not None:
        candidates.append(_gathered(_tidy(sp.Add(*(sp.integrate(term, a) for term in terms)), values[2], "a")))
    elif not inverse.slope.has(a):
        candidates.append((a - y) ** 2 / (2 * inverse.slope))
    elif area is not None:
        for shape in (area.subs(inverse.piece.expr, a), area):
            loss = shape.subs(z, inverse.logit) - y * inverse.logit
            simple = sp.simplify(loss)
            candidates += [_gathered(simple), sp.expand(simple), simple, loss]
        candidates.sort(key=lambda c: c.count_ops())
    for loss in candidates:
        if loss.has(sp.Integral):
            continue
        tidy = _tidy(loss, values[2], "a")
        for form in (tidy, loss):
            for share in (sp.Rational(1, 3), sp.S.Zero, sp.S.One):  # real at hard and soft targets
                if _evaluate(form.subs(y, share), values[2], name="a") is None:
                    break
            else:
                check = _differentiated(form, right, inverse, values)
                if check is not None:
                    return form, check
    return None


def _differentiated(loss: Any, right: Any, inverse: _Inverse, values: Sequence[float]) -> Check | None:
    import sympy as sp

    a, y = sp.symbols("a y", real=True)
    what = f"dL/da = (a - y)/v(a){_where(inverse.piece)}"
    checks = []
    points = [float(_evaluate(inverse.piece.expr, x)) for x in _inner(inverse.piece) if abs(x) <= 4.0] + list(values)
    for share in (sp.Rational(1, 3), sp.S.Zero, sp.S.One):
        check = _verified(what, sp.diff(loss, a).subs(y, share), right.subs(y, share), points, "a", exact=False)
        if check is None:
            return None
        checks.append(check)
    try:
        if sp.simplify(sp.diff(loss, a) - right) == 0:
            return Check(what, "exact")
    except Exception:  # the numeric check has been passed already
        pass
    return Check(what, "numeric", sum(c.points for c in checks), max(c.error for c in checks))


# --------------------------------------------------------------------------------------------------- code in float64


class _NoCode(Exception):
    """A function that torch does not have."""


def _code(expr: Any, lib: str) -> str:
    """The expression as an expression of torch or numpy (`np`); log1p and expm1 where the argument asks for them."""
    import sympy as sp

    def call(name: str, argument: Any) -> str:
        if not argument.free_symbols:  # torch functions take no plain numbers
            return repr(float(getattr(sp, name)(argument)))
        if name in ("erf", "erfc") and lib == "np":
            return f"special.{name}({_code(argument, lib)})"
        return f"{lib}.{name}({_code(argument, lib)})"

    if expr.is_Symbol:
        return expr.name
    if expr.is_Integer:
        return f"{int(expr)}.0" if int(expr) >= 0 else f"({int(expr)}.0)"
    if not expr.free_symbols:
        return f"({float(expr)!r})"
    if expr.is_Add:
        rest = expr - 1
        if not rest.is_Add and rest.is_Mul and rest.args[0] == -1 and isinstance(-rest, sp.exp):  # 1 - exp(x)
            return f"(-{lib}.expm1({_code(rest.args[1].args[0], lib)}))"
        if isinstance(expr + 1, sp.exp):  # exp(x) - 1
            return f"{lib}.expm1({_code((expr + 1).args[0], lib)})"
        return "(" + " + ".join(_code(term, lib) for term in expr.args) + ")"
    if expr.is_Mul:
        top, bottom = sp.fraction(expr)
        if bottom != 1:
            return f"({_code(top, lib)} / {_code(bottom, lib)})"
        if top.args[0] == -1:
            return f"(-{_code(-top, lib)})"
        return "(" + " * ".join(_code(factor, lib) for factor in top.args) + ")"
    if expr.is_Pow:
        base, exponent = expr.args
        if base == sp.E:
            return call("exp", exponent)
        if exponent == sp.Rational(1, 2):
            return call("sqrt", base)
        if exponent.is_negative:
            return f"(1.0 / {_code(base**-exponent, lib)})"
        if exponent.is_Integer and int(exponent) == 2:
            return f"{lib}.square({_code(base, lib)})"
        return f"({_code(base, lib)} ** {_code(exponent, lib)})" if base.free_symbols else call("exp", exponent * sp.log(base))
    if isinstance(expr, sp.log):
        inner = expr.args[0]
        one = inner - 1
        if isinstance(one, sp.exp) and lib == "torch":  # log(1 + exp u), which must not overflow on the way
            return f"torch.nn.functional.softplus({_code(one.args[0], lib)}, threshold=40.0)"
        if isinstance(one, sp.exp):
            return f"np.logaddexp({_code(one.args[0], lib)}, 0.0)"
        if inner.is_Add and inner.as_coeff_Add()[0] == 1:
            return f"{lib}.log1p({_code(one, lib)})"
        return call("log", inner)
    name = type(expr).__name__
    if name in ("exp", "tanh", "sinh", "cosh", "sin", "cos", "tan", "erf", "erfc"):
        return call(name, expr.args[0])
    if name in ("atan", "asinh"):
        return f"{lib}.{name if lib == 'torch' else 'arc' + name[1:]}({_code(expr.args[0], lib)})"
    raise _NoCode(name)


def _decaying(expr: Any, positive: bool) -> Any:
    """The expression for z > 0 (or z < 0) in e = exp(-|z|), which cannot overflow, with log e taken out as -|z|."""
    import sympy as sp

    z, e = sp.Symbol("z", real=True), sp.Symbol("e", positive=True)
    sign = 1 if positive else -1

    def power(exponent: Any) -> Any:
        slope = sp.diff(exponent, z)
        if slope.free_symbols or not slope.is_Rational or slope == 0:
            return sp.exp(exponent)
        return sp.exp(exponent - slope * z) * e ** (-sign * slope)

    def logarithm(argument: Any) -> Any:
        total = sp.S.Zero
        rest = sp.S.One
        for part, sense in zip(sp.fraction(sp.together(argument)), (1, -1)):
            steep = max((abs(n.exp) for n in part.atoms(sp.Pow) if n.base == e and n.exp.is_Rational), default=1)
            shape = sp.factor(part) if steep <= 32 else sp.factor_terms(part)  # e**2000 + 1 has factors nobody waits for
            for factor in sp.Mul.make_args(shape):
                base, exponent = factor.as_base_exp()
                if base == e:
                    total += sense * exponent * (-sign * z)
                elif factor.is_number and factor.is_positive:
                    total += sense * sp.log(factor)
                else:
                    rest *= factor if sense == 1 else 1 / factor
        top, bottom = sp.fraction(sp.together(rest))
        top, bottom = sp.expand(top), sp.expand(bottom)
        if top.subs({e: sp.Rational(1, 3), z: sign}).is_negative:
            top, bottom = -top, -bottom
        return total + sp.log(top) - sp.log(bottom)

    shape = expr
    for function, meaning in (
        (sp.tanh, lambda x: (sp.exp(x) - sp.exp(-x)) / (sp.exp(x) + sp.exp(-x))),
        (sp.sinh, lambda x: (sp.exp(x) - sp.exp(-x)) / 2),
        (sp.cosh, lambda x: (sp.exp(x) + sp.exp(-x)) / 2),
    ):
        shape = shape.replace(function, meaning)
    shape = shape.replace(sp.exp, power)
    if shape.has(e):
        shape = shape.replace(sp.log, logarithm)
        if not shape.has(sp.log):
            shape = sp.cancel(sp.together(shape))
    return shape


@dataclass(frozen=True)
class _Program:
    """Expressions of z (and e = exp(-|z|)) with the least z from which each holds, and how far they were verified."""

    parts: tuple[tuple[float | None, Any], ...]
    decays: bool
    reach: float  # float64 agrees with 60 digits for all tested |z| up to here


def _program(pieces: Sequence[_Piece], truth: Callable[[float], Any]) -> _Program | None:
    """The stablest form found. Each candidate is run in float64 and compared with `truth`, computed with 60 digits."""
    import sympy as sp

    e = sp.Symbol("e", positive=True)
    best = None
    for decaying in (True, False):
        parts: list[tuple[float | None, Any]] = []
        for piece in pieces:
            at = None if piece.lo is None else float(piece.lo)
            if not decaying:
                parts.append((at, piece.expr))
                continue
            if piece.holds(-1e-9):
                parts.append((at, _decaying(piece.expr, positive=False)))
                at = 0.0
            if piece.hi is None or piece.hi > 0:
                parts.append((at, _decaying(piece.expr, positive=True)))
            elif not piece.holds(-1e-9):
                parts.append((at, _decaying(piece.expr, positive=False)))
        program = _Program(tuple(parts), any(p.has(e) for _, p in parts), 0.0)
        try:
            reach = _reach(_runner(program), truth)
        except _NoCode:
            continue
        if best is None or reach > best.reach:
            best = _Program(program.parts, program.decays, reach)
    return best if best is not None and best.reach > 0.0 else None


def _reach(function: Callable[[np.ndarray], np.ndarray], truth: Callable[[float], Any]) -> float:
    """The largest tested |z| up to which float64 is right to 1e-9, relative above 1 and absolute below; 0 if nowhere."""
    grid = {g for g in _GRID if abs(g) <= 8.0 and round(20 * g) % 4 == 0} | {g for g in _GRID if abs(g) > 8.0} | set(_FAR)
    points, right, over, limit = [], [], {-1.0: False, 1.0: False}, math.inf
    for point in sorted(grid, key=abs):
        side = math.copysign(1.0, point)
        value = None if over[side] else truth(point)
        if value is None:  # nothing to compare with: the claim ends here
            limit = min(limit, abs(point))
            over[side] = True
            continue
        if abs(value) > 1e300:  # farther out it is no smaller, and may be too large to compute
            over[side] = True
            continue
        points.append(point)
        right.append(float(value))
    with np.errstate(all="ignore"):
        got = function(np.array(points))
        wrong = ~(np.abs(got - right) <= 1e-9 * np.maximum(1.0, np.abs(right)))
    first = min((abs(p) for p, bad in zip(points, wrong) if bad), default=limit)
    first = min(first, limit)
    return max((abs(p) for p in points if abs(p) < first), default=0.0)


def _runner(program: _Program) -> Callable[[np.ndarray], np.ndarray]:
    """What the printed source computes, with numpy in place of torch. Raises _NoCode where it cannot be printed."""
    from scipy import special

    # our own printer's words only: what a person typed went through `parse`
    compiled = [(at, compile(_code(expr, "np"), "<printed>", "eval")) for at, expr in program.parts]

    def run(z: np.ndarray) -> np.ndarray:
        names = {"np": np, "special": special, "z": z, "e": np.exp(-np.abs(z))}
        value = np.zeros_like(z)
        for at, code in compiled:
            here = np.zeros_like(z) + eval(code, {"__builtins__": {}}, names)
            value = here if at is None else np.where(z >= at, here, value)
        return value

    return run


def _source(program: _Program, name: str, indent: str = "") -> list[str]:
    """A torch function of z as lines of source."""
    lines = [f"def {name}(z):"]
    if program.decays:
        lines.append("    e = torch.exp(-z.abs())  # at most 1: cannot overflow")
    for at, expr in program.parts:
        code = _code(expr, "torch")
        here = code if expr.free_symbols else f"torch.full_like(z, {code})"
        lines.append(f"    value = {here}" if at is None else f"    value = torch.where(z >= {at!r}, {here}, value)")
    return [indent + line for line in [*lines, "    return value"]]


_NODES_16, _WEIGHTS_16 = np.polynomial.legendre.leggauss(16)


def _edges(pieces: Sequence[_Piece]) -> list[float]:
    """Panels for the integral from 0 to |z|: narrow near 0, where activations bend, then doubling; kinks are edges."""
    kinks = {abs(float(p.lo)) for p in pieces if p.lo is not None}
    return sorted({0.0, *kinks, *(0.5 * k for k in range(1, 17)), *(2.0**k for k in range(4, 16))})


def _quadrature(function: Callable[[np.ndarray], np.ndarray], edges: Sequence[float], z: np.ndarray) -> np.ndarray:
    """The integral of `function` from 0 to z by Gauss-Legendre panels; what `_QUADRATURE` does with torch."""
    size, sign, total = np.abs(z), np.sign(z), np.zeros_like(z)
    for left, right in pairwise(edges):
        low, width = np.minimum(left, size), np.minimum(right, size) - np.minimum(left, size)
        for node, weight in zip(_NODES_16, _WEIGHTS_16):
            total = total + np.where(width > 0, 0.5 * weight * width * function(sign * (low + 0.5 * (1 + node) * width)), 0.0)
    return total * sign


_QUADRATURE = '''
# Gauss-Legendre, 16 nodes a panel: no closed form of the integral of s that is right farther out
NODES = {nodes}
WEIGHTS = {weights}
EDGES = {edges}


def A(z):
    """The integral of s from 0 to z."""
    size, sign, total = z.abs(), torch.sign(z), torch.zeros_like(z)
    for left, right in zip(EDGES, EDGES[1:]):
        low = torch.clamp(size, max=left)
        width = torch.clamp(size, max=right) - low
        if not bool((width > 0).any()):
            break
        for node, weight in zip(NODES, WEIGHTS):
            t = low + 0.5 * (1 + node) * width
            total = total + 0.5 * weight * width * s(sign * t)
    return total * sign
'''

_MATCHING = '''

class _Matching(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, y):
        ctx.save_for_backward(z, y)
        return A(z) - y * z

    @staticmethod
    def backward(ctx, upstream):
        z, y = ctx.saved_tensors
        return upstream * (s(z) - y), -upstream * z


def matching_loss(z, y):
    """{doc}"""
    return _Matching.apply(z, y)
'''


# --------------------------------------------------------------------------------------------------- words and formulas


def _shown(expr: Any) -> str:
    """Two-dimensional where it fits 74 columns, else one line of code, wrapped."""
    import sympy as sp

    drawn = sp.pretty(expr, use_unicode=True, wrap_line=False)
    if max(len(line) for line in drawn.splitlines()) <= 74:
        return "\n".join(line.rstrip() for line in drawn.splitlines())
    return "\n".join(textwrap.wrap(_linear(expr), 72, subsequent_indent="    ", break_long_words=True))


def _linear(expr: Any) -> str:
    import sympy as sp

    if isinstance(expr, sp.Eq):
        return f"{_linear(expr.lhs)} = {_linear(expr.rhs)}"
    return sp.sstr(expr)


def _step(title: str, text: str, *formulas: Any) -> Step:
    """A step from SymPy formulas, one under the other."""
    import sympy as sp

    plain = "\n\n".join(_shown(f) for f in formulas)
    latex = " \\\\\n".join(sp.latex(f) for f in formulas)
    if len(formulas) > 1:
        latex = "\\begin{gathered}\n" + latex + "\n\\end{gathered}"
    return Step(title, text, plain, latex if formulas else "")


def _whole(pieces: Sequence[_Piece], of: Callable[[_Piece], Any] = lambda p: p.expr) -> Any:
    """One SymPy expression again: a Piecewise where there are several."""
    import sympy as sp

    z = sp.Symbol("z", real=True)
    if len(pieces) == 1:
        return of(pieces[0])
    return sp.Piecewise(*((of(p), z < p.hi if p.hi is not None else True) for p in pieces), evaluate=False)


# --------------------------------------------------------------------------------------------------- one variable


@dataclass
class _Work:
    """What is known so far about an activation of one variable. Filled stage by stage."""

    name: str
    expr: Any
    pieces: list[_Piece]
    course: _Course
    area: list[_Piece] | None = None
    inverse: list[_Inverse] | None = None
    separated: list[tuple[Any, list[Any] | None]] = field(default_factory=list)
    loss: list[Any] | None = None
    range: tuple[Any, Any] | None = None
    checks: list[Check] = field(default_factory=list)
    late: list[str] = field(default_factory=list)  # stages that ran out of time


_STAGES = {
    "values": "evaluating the activation",
    "antiderivative": "integrating s(z)",
    "inverse": "inverting the activation",
    "loss": "writing the loss in a",
    "range": "finding the range",
    "code": "checking the code in float64",
    "levels": "finding the levels",
}


def _worked(name: str, expr: Any, skip: Sequence[str], tell: Callable[[str], None]) -> _Work:
    """All stages that are not skipped. `tell` hears of each before it starts. UsageError where the stage cannot be left out."""
    import sympy as sp

    z = sp.Symbol("z", real=True)

    def attempt(stage: str, compute: Callable[[], Any]) -> Any:
        if stage in skip:
            return None
        tell(stage)
        try:
            return compute()
        except (UnstuckError, MemoryError):
            raise
        except Exception:  # whatever SymPy raises means the same here: no closed form this way
            return None

    if "values" in skip:
        raise UsageError(f"{name!r} cannot be evaluated in reasonable time between z = -40 and 40: write it with smaller numbers")
    if not expr.has(z):
        raise UsageError(f"{name!r} does not contain z: write an activation as an expression in z, for instance 'z/(1+Abs(z))'")
    tell("values")
    pieces = _pieces(expr)
    work = _Work(name, expr, pieces, _course(pieces))
    work.late = [s for s in skip if s in _STAGES]
    if work.course.kind not in ("rising", "flat"):
        return work
    found = attempt("antiderivative", lambda: _antiderivative(pieces))
    if found is not None:
        work.area, checks = found
        work.checks += checks
    if work.course.kind == "rising":
        inverted = attempt("inverse", lambda: _inverse(pieces))
        if inverted is not None:
            work.inverse, checks = inverted
            work.checks += checks
            attempt("loss", lambda: _losses(work))
    work.range = attempt("range", lambda: tuple(sp.limit(p.expr, z, end) for p, end in ((pieces[0], -sp.oo), (pieces[-1], sp.oo))))
    if work.range is not None and not all(isinstance(end, sp.Expr) and end.is_number for end in work.range):
        work.range = None
    return work


def _losses(work: _Work) -> None:
    import sympy as sp

    a = sp.Symbol("a", real=True)
    losses: list[Any] = []
    for place, inverse in enumerate(work.inverse or []):
        right, terms = _separated(inverse)
        work.separated.append((right, terms))
        found = _loss_of_a(inverse, work.area[place].expr if work.area else None, right, terms)
        if found is None:
            return
        loss, check = found
        if losses:  # continuous where two pieces meet
            kink = _pieces_value(work.pieces[place])
            gap = (losses[-1] - loss).subs(a, kink)
            loss = loss + sp.simplify(gap)
        losses.append(loss)
        work.checks.append(check)
    work.loss = losses


def _pieces_value(piece: _Piece) -> Any:
    import sympy as sp

    return piece.expr.subs(sp.Symbol("z", real=True), piece.lo)


def _basics(work: _Work) -> list[Step]:
    """Steps 1 to 5: activation, condition, inverse, separated, integrated."""
    import sympy as sp

    z, a, y = sp.Symbol("z", real=True), sp.Symbol("a", real=True), sp.Symbol("y", real=True)
    loss = sp.Function("L")(a)
    slope = sp.Derivative(sp.Function("s")(z), z)
    steps = [_step("The activation", _rises(work), sp.Eq(a, _whole(work.pieces), evaluate=False))]
    chain = sp.Eq(sp.Derivative(loss, a) * slope, a - y, evaluate=False)
    steps.append(
        _step(
            "The condition",
            "The chain rule gives dL/dz = dL/da · s'(z). The factor s'(z) is what makes a saturated unit learn"
            " slowly. Ask for the loss in which it cancels:",
            chain,
        )
    )
    if work.inverse is None:
        steps.append(
            Step(
                "Inverse",
                "SymPy gives no closed form of z as a function of"
                " a"
                + (" in the time allowed" if "inverse" in work.late else "")
                + ". The loss of a exists all the same, because s rises; it is written in z below, where no inverse is needed.",
            )
        )
        return steps
    formulas = []
    for inverse in work.inverse:
        formulas += [
            sp.Eq(z, inverse.logit, evaluate=False),
            sp.Eq(sp.Function("v")(a), inverse.slope, evaluate=False),
        ]
    several = len(work.inverse) > 1
    where = "; ".join(_where(i.piece).strip() for i in work.inverse)
    steps.append(
        _step(
            "The slope in terms of a",
            "Solve a = s(z) for z and put it into s'(z) = v(a)" + (f", piece by piece ({where})" if several else "") + ".",
            *formulas,
        )
    )
    formulas, texts = [], []
    for right, terms in work.separated or [((a - y) / inverse.slope, None) for inverse in work.inverse]:
        formulas.append(sp.Eq(sp.Derivative(loss, a), right, evaluate=False))
        if terms is not None and len(terms) > 1:
            formulas.append(sp.Eq(right, sp.Add(*terms, evaluate=False), evaluate=False))
            texts = ["The right side depends on a alone: the variables are separated. In partial fractions:"]
    steps.append(_step("Separate", texts[0] if texts else "Divide by v(a). The right side depends on a alone.", *formulas))
    if work.loss is None:
        steps.append(Step("Integrate", "SymPy gives no closed form in a. In z there is one integral left, below."))
        return steps
    how = (
        "Each fraction is integrated by itself."
        if work.separated[0][1] is not None
        else "Integrate over a."
        if not work.inverse[0].slope.has(a)
        else "Substitute a = s(z), da = s'(z) dz: the integral of (a - y)/v(a) da is that of (s(z) - y) dz. Then put z(a) back."
    )
    touched = (
        f" At {', '.join(f'z = {t:g}' for t in work.course.touches)} the slope is 0 and dL/da infinite."
        if work.course.touches
        else ""
    )
    steps.append(
        _step(
            "Integrate",
            how + " The result is checked by differentiation (below)." + touched,
            *(sp.Eq(sp.Function("L")(a, y), form + sp.Symbol("C"), evaluate=False) for form in work.loss),
        )
    )
    return steps


def _rises(work: _Work) -> str:
    ends = f" from {_end(work.range[0])} to {_end(work.range[1])}" if work.range is not None else ""
    how = (
        "SymPy proves s'(z) > 0"
        if work.course.proved
        else f"s'(z) was looked at in {len(_GRID)} points and around its least values, no proof"
    )
    if work.course.touches:
        how = "its slope is 0 only in single points; looked at numerically, no proof"
    return (
        f"It rises{ends} ({how}). So every a belongs to one z only."
        if work.course.kind == "rising"
        else f"As a function of z{ends}, {work.course.text}."
    )


def _end(value: Any) -> str:
    import sympy as sp

    return {sp.oo: "∞", -sp.oo: "−∞"}.get(value, str(value))


def _in_logits(work: _Work) -> Step:
    import sympy as sp

    z, y = sp.Symbol("z", real=True), sp.Symbol("y", real=True)
    left = sp.Function("L")(z, y)
    area = _whole(work.area) if work.area is not None else sp.Integral(work.expr.subs(z, sp.Symbol("t")), (sp.Symbol("t"), 0, z))
    return _step(
        "The same loss in the logit",
        "In z the condition reads dL/dz = s(z) - y and is integrated at once: L = A(z) - y z + C with A' = s. No inverse is"
        " needed, and L is convex because"
        " L'' = s'(z) is never"
        " negative."
        + (
            ""
            if work.area is not None
            else " SymPy knows no closed form of the integral; the function below adds it up numerically."
        ),
        sp.Eq(left, area - y * z, evaluate=False),
    )


def _custom(text: str, expr: Any, skip: Sequence[str], tell: Callable[[str], None]) -> Derivation:
    """The page of an expression. UsageError where it is no activation at all."""
    work = _worked(text, expr, skip, tell)
    title = f"Matching loss of s(z) = {text}"
    opening = f"No matching loss exists for s(z) = {text}"
    import sympy as sp

    a = sp.Symbol("a", real=True)
    first = _step("The activation", f"{work.course.text[0].upper()}{work.course.text[1:]}.", sp.Eq(a, expr, evaluate=False))
    if work.course.kind in ("no value", "constant", "turning"):
        more = {
            "no value": "",
            "constant": " s'(z) = 0 turns the condition dL/da · s'(z) = a - y into 0 = a - y.",
            "turning": " The equation in the logit, dL/dz = s(z) - y, can be integrated, but the result is not a function of a,"
            " is not convex, and has its"
            " stationary points wherever s(z) = y, maxima among them: it is not offered as a loss.",
        }[work.course.kind]
        return Derivation(text, title, False, f"{opening}: {work.course.text}.{more}", (first,), next="unstuck derive sigmoid")
    if work.course.kind == "falling":
        z = sp.Symbol("z", real=True)
        mirrored = str(expr.subs(z, -z))
        return Derivation(
            text,
            title,
            False,
            f"{opening}: it falls. The equation dL/da · s'(z) = a - y has a solution, but that has its"
            " largest value at a = y"
            " (there d²L/da² = 1/s'(z) < 0), so that descending it leads away from the target. Mirror the logit: derive s(-z).",
            (first,),
            next=f'unstuck derive "{mirrored}"',
        )
    flat = work.course.kind == "flat"
    steps = [first] if flat else _basics(work)
    steps.append(_in_logits(work))
    python, notes = None, None
    if "code" not in skip:
        tell("code")
        python, notes = _emitted(work)
    if notes is not None:
        steps.append(notes)
    levels: list[Level] = []
    if "levels" not in skip:
        tell("levels")
        levels = _levels(work)
    if flat:
        answer = (
            f"{opening}: {work.course.text}. There s'(z) = 0 and the condition dL/da · s'(z) = a - y reads 0 = a - y. A loss of"
            " the logit with the"
            " gradient s(z) - y does exist and is convex; it is given below. It tells apart logits that the activation makes equal."
        )
    else:
        shape = (
            f"L(z, y) = {_linear(_whole(work.area))} - y z"
            if work.area is not None and len(work.area) == 1
            else "L(z, y) = A(z) - y z with A' = s"
        )
        answer = f"{shape} has the gradient s(z) - y: the activation's derivative is gone."
    if work.late:
        answer += f" (Out of time, left out: {', '.join(_STAGES[s] for s in work.late)}.)"
    return Derivation(
        text,
        title,
        not flat,
        answer,
        tuple(steps),
        tuple(work.checks),
        tuple(levels),
        python,
        f'unstuck derive "{text}" --as python' if python else "unstuck derive sigmoid",
    )


def _emitted(work: _Work) -> tuple[str | None, Step | None]:
    """(source of the torch function or None, the step that says how far it is right)."""
    rate = _program(work.pieces, lambda z: _on(work.pieces, z))
    if rate is None:
        return None, None
    area = _program(work.area, _area(work)) if work.area is not None else None
    head = [f'"""Matching loss of s(z) = {work.name}. Gradient with respect to z: s(z) - y."""', "", "import torch", "", ""]
    lines = [*head, *_source(rate, "s"), ""]
    edges, run = _edges(work.pieces), _runner(rate)
    if area is None or area.reach < rate.reach:
        summed = min(rate.reach, _reach(lambda z: _quadrature(run, edges, z), _integral(work)))
    else:
        summed = 0.0
    closed = 0.0 if area is None else min(rate.reach, area.reach)
    reach = max(closed, summed)
    if reach < 2.0:
        return None, None
    if area is not None and closed >= summed:
        lines += ["", *_source(area, "A"), ""]
        how = "e = exp(-|z|) in place of exp(z), and log1p in place of log(1 + ...)" if area.decays else "the formula itself"
    else:
        lines += [_QUADRATURE.format(nodes=_numbers(_NODES_16), weights=_numbers(_WEIGHTS_16), edges=_numbers(edges))]
        how = "A(z) by quadrature, from 0 to z"
    lines += [
        _MATCHING.format(
            doc=f"Elementwise, nats; logits z and targets y of one shape. Right to 1e-9 for |z| up to {reach:g}, in float64."
        ).rstrip()
    ]
    text = f"Computed as {how}. In float64 it agrees with 60 digits to 1e-9 at every tested |z| up to {reach:g}" + (
        " where the value is finite." if reach >= 1e4 else "; beyond that it may overflow or lose digits."
    )
    return "\n".join(lines).replace("\n\n\n\n", "\n\n\n") + "\n", Step("In floating point", text)


def _numbers(values: Iterable[float]) -> str:
    body = ", ".join(repr(float(v)) for v in values)
    return "(\n" + "\n".join(textwrap.wrap(body, 96, initial_indent="    ", subsequent_indent="    ")) + ",\n)"


def _integral(work: _Work) -> Callable[[float], Any]:
    """The integral of s from 0 to z by mpmath's own quadrature with 20 digits, remembered at whole numbers; None where unknown."""
    import mpmath

    kinks = {float(p.lo) for p in work.pieces if p.lo is not None}
    far = {40.0 * 2.0**k for k in range(9)}
    stops = sorted({-t for t in far} | far | {float(k) for k in range(-40, 41)} | kinks)
    zero = stops.index(0.0)
    sums = {zero: mpmath.mpf(0)}

    def between(low: float, high: float) -> Any:
        return mpmath.quad(lambda t: _on(work.pieces, t, 20), [low, high]) if high > low else mpmath.mpf(0)

    def upto(place: int) -> Any:
        """The integral from 0 to stops[place], from that to the stop before."""
        if place not in sums:
            step = 1 if place > zero else -1
            for k in range(zero + step, place + step, step):
                if k not in sums:
                    sums[k] = sums[k - step] + step * between(stops[min(k, k - step)], stops[max(k, k - step)])
        return sums[place]

    def truth(z: float) -> Any:
        if not stops[0] <= z < stops[-1]:
            return None
        with mpmath.workdps(20):
            try:
                place = max(k for k in range(len(stops)) if stops[k] <= z)
                return upto(place) + between(stops[place], z)
            except (TypeError, OverflowError):  # the activation itself has no finite value there
                return None

    return truth


def _area(work: _Work) -> Callable[[float], Any]:
    """A(z): the closed form; the integral from 0 where there is none, or where it has lost its digits (1 + tanh(-800))."""
    integral = _integral(work)
    start = None if work.area is None else _on(work.area, 0.0)

    def value(z: float) -> Any:
        closed, again = (None, None) if work.area is None else (_on(work.area, z), _on(work.area, z, 600))
        if closed is not None and again is not None and abs(closed - again) <= 1e-20 * (1 + abs(again)):
            return closed
        if work.area is not None and start is None:
            return None
        numeric = integral(z)
        return None if numeric is None else numeric + (start or 0)

    return value


def _constant_answer(work: _Work, mean: float) -> float | None:
    """The logit with s(z) = mean, by bisection."""
    low, high = -1.0, 1.0
    while (v := _on(work.pieces, low)) is not None and v > mean and low > -1e6:
        low *= 4.0
    while (v := _on(work.pieces, high)) is not None and v < mean and high < 1e6:
        high *= 4.0
    ends = _on(work.pieces, low), _on(work.pieces, high)
    if None in ends or not ends[0] <= mean <= ends[1]:
        return None
    for _ in range(100):
        middle = 0.5 * (low + high)
        value = _on(work.pieces, middle)
        if value is None:
            return None
        low, high = (middle, high) if value < mean else (low, middle)
    return 0.5 * (low + high)


def _tail(work: _Work, edge: Any, sign: float) -> bool | None:
    """Whether the integral of |s(z) - edge| out to sign * infinity is finite; None where it cannot be told.

    With |s - edge| ~ |z|^-p it is for p > 1. The exponent is read off between |z| = 1e4 and 1e5.
    """
    import mpmath

    far = []
    with mpmath.workdps(400):
        limit = _evaluate(edge, 0, 400)
        near = _on(pieces=work.pieces, z=sign * 200.0, digits=400)
        if near is not None and limit is not None and abs(near - limit) < 1e-40:
            return True  # 200^-p with p > 17, in truth exponential
        for z in (1e4, 1e5):
            value = _on(work.pieces, sign * z, 400)
            if value is None or limit is None:
                return None
            far.append(abs(value - limit))
        if far[1] == 0 or far[0] == 0:
            return True
        power = float(mpmath.log(far[0] / far[1]) / mpmath.log(10))
    if abs(power - 1.0) < 0.02:
        return False  # 1/z itself, whose integral is a logarithm
    return power > 1.0


def _rounded(value: Any) -> float:
    """A float; what is 0 but for rounding is 0."""
    return 0.0 if abs(value) < 1e-12 else float(value)


def _levels(work: _Work) -> list[Level]:
    """Floors at the edges of the range, the chance level of an even mixture of both edges, and the rule for all others."""
    levels: list[Level] = []
    value = _area(work)
    with_zero = " (A(0) = 0)" if work.area is None else " (A as printed)"
    finite = []
    for end, sign in zip(work.range or (), (-1.0, 1.0)):
        if end.is_infinite:
            continue
        finite.append(float(end))
        edge = f"floor for the target y = {end}, the edge of the range"
        reached = _tail(work, end, sign)
        if reached is None:
            continue
        if not reached:
            levels.append(
                Level(
                    edge,
                    None,
                    f"s reaches {end} so slowly that the loss falls below every number as z goes to"
                    f" {'−' if sign < 0 else ''}∞;"
                    f" keep targets inside the range",
                )
            )
            continue
        areas = [(z, value(z)) for z in (50.0 * sign, 100.0 * sign)]
        at = [None if area is None else area - z * _evaluate(end, 0) for z, area in areas]
        if None not in at and abs(at[0] - at[1]) < 1e-8:
            levels.append(Level(edge, _rounded(at[1]), f"approached as z goes to {'−' if sign < 0 else ''}∞{with_zero}"))
    if len(finite) == 2:
        mean, what = (
            0.5 * (finite[0] + finite[1]),
            f"chance: constant answer to the targets {finite[0]:g} and {finite[1]:g}, half of each",
        )
    else:
        mean = float(_on(work.pieces, 1.0))
        what = f"chance: constant answer to targets of mean {mean:.4g}"
    z = _constant_answer(work, mean)
    z = None if z is None else _rounded(z)
    if z is not None and value(z) is not None:
        levels.append(
            Level(
                what,
                _rounded(value(z) - mean * z),
                f"A(z) - m z at s(z) = m = {mean:.4g}, z = {z:.4g}; also the floor if every target is m{with_zero}",
            )
        )
    return levels


# --------------------------------------------------------------------------------------------------- known activations

_SOURCE = {
    "sigmoid": '''
import torch
import torch.nn.functional as F


def matching_loss(z, y):
    """-y log s(z) - (1-y) log(1 - s(z)), elementwise, nats. z: logits; y: targets in [0, 1] of the same shape.

    Gradient with respect to z: sigmoid(z) - y. Equals F.binary_cross_entropy_with_logits(z, y, reduction="none").
    """
    return -y * F.logsigmoid(z) - (1 - y) * F.logsigmoid(-z)
''',
    "softmax": '''
import torch


def matching_loss(z, y):
    """logsumexp(z) - sum y z over the last axis, nats. z: logits (..., K); y: shares of the classes, sum 1, (..., K).

    Gradient with respect to z: softmax(z) - y. Equals F.cross_entropy(z, y, reduction="none") for z of shape (N, K).
    """
    return -(y * torch.log_softmax(z, dim=-1)).sum(dim=-1)
''',
    "tanh": '''
import torch
import torch.nn.functional as F


def matching_loss(z, y):
    """log cosh z - y z + log 2, elementwise, nats. z: logits; y: targets in [-1, 1] of the same shape.

    Gradient with respect to z: tanh(z) - y. Binary cross-entropy of the logit 2z with the target (1 + y)/2.
    """
    return -0.5 * (1 + y) * F.logsigmoid(2 * z) - 0.5 * (1 - y) * F.logsigmoid(-2 * z)
''',
    "probit": '''
import math

import torch


def _area(z):
    return z * torch.special.ndtr(z) + torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def matching_loss(z, y):
    """z ndtr(z) + density(z) - y z, elementwise. z: logits; y: targets in [0, 1] of the same shape.

    Gradient with respect to z: ndtr(z) - y. As A(z) - A(-z) = z, it is y A(-z) + (1-y) A(z): nothing cancels for large z.
    """
    return y * _area(-z) + (1 - y) * _area(z)


def negative_log_likelihood(z, y):
    """-y log ndtr(z) - (1-y) log ndtr(-z), nats. Its gradient keeps the factor density/(a(1-a)) before a - y."""
    return -y * torch.special.log_ndtr(z) - (1 - y) * torch.special.log_ndtr(-z)
''',
    "cloglog": '''
import torch

EULER = 0.5772156649015329  # Euler's constant


class _Parts(torch.autograd.Function):
    """Ein(u) and E1(u) at u = exp(z), as functions of z; Ein(u) = E1(u) + z + EULER."""

    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        small = z < 0.75
        u = torch.exp(torch.where(small, z, torch.zeros_like(z)))
        series, term = torch.zeros_like(z), -torch.ones_like(z)
        for k in range(1, 41):  # Ein(u) = u - u^2/(2 2!) + u^3/(3 3!) - ...
            term = -term * u / k
            series = series + term / k
        v = torch.exp(torch.where(small, torch.ones_like(z), z).clamp(max=6.7))  # beyond, E1 < exp(-812) = 0
        fraction = torch.zeros_like(z)
        for k in range(60, 0, -1):  # E1(u) = exp(-u)/(u+1 - 1/(u+3 - 4/(u+5 - ...)))
            fraction = k * k / (v + 2 * k + 1 - fraction)
        tail = torch.exp(-v) / (v + 1 - fraction)
        return torch.where(small, series, tail + z + EULER), torch.where(small, series - z - EULER, tail)

    @staticmethod
    def backward(ctx, upstream_ein, upstream_e1):
        (z,) = ctx.saved_tensors
        a = -torch.expm1(-torch.exp(z))
        return upstream_ein * a + upstream_e1 * (a - 1)


def matching_loss(z, y):
    """(1-y) Ein(exp z) + y E1(exp z), elementwise. z: logits; y: targets in [0, 1] of the same shape.

    Gradient with respect to z: 1 - exp(-exp(z)) - y.
    """
    ein, e1 = _Parts.apply(z)
    return (1 - y) * ein + y * e1


def negative_log_likelihood(z, y):
    """-y log a - (1-y) log(1-a), nats, a = 1 - exp(-exp(z)). Its gradient keeps the factor exp(z)/a before a - y."""
    u = torch.exp(z)
    low = z < -15  # there log a = z - u/2 to 1e-14, and u itself may underflow
    inner = torch.where(low, torch.ones_like(z), u)
    log_a = torch.where(low, z - 0.5 * u, torch.log(-torch.expm1(-inner)))
    return -y * log_a + (1 - y) * u
''',
    "identity": '''
import torch


def matching_loss(z, y):
    """(z - y)^2/2, elementwise. z: outputs; y: targets of the same shape. Gradient with respect to z: z - y."""
    return 0.5 * (z - y) ** 2
''',
}


def _known(name: str) -> Derivation:
    """The page of a named activation of one variable, computed by the same engine and completed with what is known."""
    import sympy as sp

    z, y = sp.Symbol("z", real=True), sp.Symbol("y", real=True)
    expr = {
        "sigmoid": 1 / (1 + sp.exp(-z)),
        "tanh": sp.tanh(z),
        "probit": (1 + sp.erf(z / sp.sqrt(2))) / 2,
        "cloglog": 1 - sp.exp(-sp.exp(z)),
        "identity": z,
    }[name]
    work = _worked(name, expr, (), lambda stage: None)
    steps = [*_basics(work), _in_logits(work)]
    value = sp.Function("L")(z, y)
    density = sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi)
    softplus = sp.Function("softplus")
    # the stable form, written with functions whose defining property is checked: stable - (A - y z) is linear in y alone
    stable, spelt, text = {
        "sigmoid": (
            y * sp.log(1 + sp.exp(-z)) + (1 - y) * sp.log(1 + sp.exp(z)),
            y * softplus(-z) + (1 - y) * softplus(z),
            "softplus(x) = log(1 + exp x) = max(x, 0) + log1p(exp(-|x|)) never overflows, and each target keeps its own term, so"
            " that nothing cancels."
            " This is binary cross-entropy with logits.",
        ),
        "tanh": (
            (1 + y) / 2 * sp.log(1 + sp.exp(-2 * z)) + (1 - y) / 2 * sp.log(1 + sp.exp(2 * z)),
            (1 + y) / 2 * softplus(-2 * z) + (1 - y) / 2 * softplus(2 * z),
            "This is log cosh z - y z + log 2, with log cosh z = |z| + log1p(exp(-2|z|)) - log 2. It is binary cross-entropy of"
            " the logit 2z with the"
            " target y' = (1 + y)/2, because tanh z = 2 sigmoid(2z) - 1.",
        ),
        "probit": (
            (1 - y) * (z * expr + density) + y * (-z * (1 - expr) + density),
            (1 - y) * sp.Function("A")(z) + y * sp.Function("A")(-z),
            "A(z) = z Φ(z) + φ(z) with Φ the normal distribution function and φ its density. Because A(z) - A(-z) = z, the loss"
            " is a mixture of A(z) and"
            " A(-z), in which nothing cancels for large |z|.",
        ),
        "cloglog": (
            (1 - y) * (-sp.Ei(-sp.exp(z)) + z + sp.EulerGamma) + y * -sp.Ei(-sp.exp(z)),
            (1 - y) * sp.Function("Ein")(sp.exp(z)) + y * sp.Function("E1")(sp.exp(z)),
            "E1 is the exponential integral, E1(u) = -Ei(-u), and Ein(u) = E1(u) + log u + γ the power series u - u²/(2·2!) +"
            " u³/(3·3!) - ...; γ = 0.5772"
            " is Euler's constant. The constant γ (1 - y) was added to A(z) - y z: it makes the floor 0 for both labels and"
            " leaves the gradient alone.",
        ),
        "identity": ((z - y) ** 2 / 2, (z - y) ** 2 / 2, "Half the squared error; y²/2 was added to A(z) - y z."),
    }[name]
    steps.append(_step("In floating point", text, sp.Eq(value, spelt, evaluate=False)))
    check = None
    for share in (sp.S.Zero, sp.Rational(1, 3), sp.S.One):
        check = _verified(
            "gradient of the stable form = s(z) - y, for y = 0, 1/3, 1",
            sp.diff(stable, z).subs(y, share),
            expr - share,
            _inner(work.pieces[0]),
        )
        if check is None:
            raise UnstuckError(f"the stable form for {name} failed its own check: please report this")
        if check.how != "exact":
            break
    work.checks.append(check)
    if name in ("probit", "cloglog"):
        steps += _likelihood_beside(name, work, expr)
    if name == "tanh":
        bce = sp.log(1 + sp.exp(2 * z)) - (1 + y) / 2 * 2 * z
        same = _verified(
            "equals binary cross-entropy of 2z with (1 + y)/2, at y = 1/3",
            stable.subs(y, sp.Rational(1, 3)),
            bce.subs(y, sp.Rational(1, 3)),
            _inner(work.pieces[0]),
        )
        work.checks += [same] if same else []
    answer = {
        "sigmoid": "Binary cross-entropy, -y log a - (1 - y) log(1 - a), is the one loss, up to a constant, whose gradient at the"
        " logit is a - y.",
        "tanh": "log cosh z - y z, for targets between -1 and 1, has the gradient tanh z - y. It is binary cross-entropy in other"
        " clothes.",
        "probit": "z Φ(z) + φ(z) - y z has the gradient Φ(z) - y. It is not the negative log-likelihood of the probit model,"
        " whose gradient keeps a factor.",
        "cloglog": "z + E1(exp z) - y z, up to a constant, has the gradient 1 - exp(-exp z) - y. It is not the negative"
        " log-likelihood of this link, whose"
        " gradient keeps a factor.",
        "identity": "Half the squared error, (z - y)²/2: a linear output needs nothing else.",
    }[name]
    return Derivation(
        name,
        f"Matching loss of {name}",
        True,
        answer,
        tuple(steps),
        tuple(work.checks),
        tuple(_known_levels(name)),
        _head(name) + _SOURCE[name],
        f"unstuck derive {name} --as python",
    )


def _head(name: str) -> str:
    return f'"""Matching loss of {name}, from `unstuck derive {name} --as python`."""\n'


def _likelihood_beside(name: str, work: _Work, expr: Any) -> list[Step]:
    """The negative log-likelihood of the same model and the factor its gradient keeps."""
    import sympy as sp

    z, a, y = sp.Symbol("z", real=True), sp.Symbol("a", real=True), sp.Symbol("y", real=True)
    nll = -y * sp.log(a) - (1 - y) * sp.log(1 - a)
    slope = sp.Function("v")(a)
    kept = sp.Eq(sp.Derivative(sp.Function("NLL")(z, y), z), (a - y) * slope / (a * (1 - a)), evaluate=False)
    points = [p for p in _inner(work.pieces[0]) if abs(p) <= 2.0]
    gradient = sp.diff(nll.subs(a, expr), z)
    claimed = (expr - y) * sp.diff(expr, z) / (expr * (1 - expr))
    for share in (sp.S.Zero, sp.Rational(1, 3), sp.S.One):
        check = _verified(
            "gradient of the negative log-likelihood = (a - y) v(a)/(a (1 - a)), for y = 0, 1/3, 1",
            gradient.subs(y, share),
            claimed.subs(y, share),
            points,
        )
        if check is None:
            raise UnstuckError(f"the negative log-likelihood for {name} failed its own check: please report this")
        if check.how != "exact":
            break
    work.checks.append(check)
    grows = {
        "probit": "the factor φ(z)/(a (1 - a)), which grows like |z|: a certain wrong answer is corrected with a force that grows"
        " without end, where the"
        " matching loss pulls with at most 1. Both are convex in z.",
        "cloglog": "the factor exp(z)/a, which grows like exp(z): for y = 0 at z = 10 it pulls 22,000 times as hard as the"
        " matching loss.",
    }[name]
    return [
        _step(
            "Not the likelihood",
            "The negative log-likelihood of a 0/1 label under this activation is another loss. Only where"
            " v(a) = a (1 - a), the sigmoid,"
            f" are the two the same. Its gradient keeps {grows}",
            sp.Eq(sp.Function("NLL")(a, y), nll, evaluate=False),
            kept,
        )
    ]


def _known_levels(name: str) -> list[Level]:
    from scipy import special

    from unstuck.theory import chance

    def entropy(share: float) -> float:
        return chance.binary_entropy(share)

    def normal(share: float) -> float:
        return math.exp(-0.5 * float(special.ndtri(share)) ** 2) / math.sqrt(2.0 * math.pi)

    def gumbel(share: float) -> float:
        u = -math.log1p(-share)
        e1 = float(special.exp1(u))
        return (1.0 - share) * (e1 + math.log(u) + float(np.euler_gamma)) + share * e1

    if name == "identity":
        return [
            Level("floor", 0.0, "z = y"),
            Level(
                "chance, targets 0 and 1, half of each",
                0.125,
                "half the variance of the targets: the constant answer is their mean",
            ),
        ]
    low = -1 if name == "tanh" else 0
    level, formula = {
        "sigmoid": (entropy, "the entropy H(m) of the share m of ones"),
        "tanh": (entropy, "the entropy H((1 + m)/2), m the mean of the targets"),
        "probit": (normal, "φ at the quantile of the share m of ones"),
        "cloglog": (gumbel, "(1-m) Ein(u) + m E1(u), u = -log(1 - m), m the share of ones"),
    }[name]
    levels = [
        Level(f"floor for hard targets, {low} or 1", 0.0, "approached as z goes to ±∞, never reached"),
        Level(f"chance, targets {low} and 1, half of each", level(0.5), formula),
        Level(f"chance, targets {low} nine times as often as 1", level(0.1), "the same formula"),
        Level(
            f"floor for a soft target {0.9 if low == 0 else 0.8}", level(0.9), "the same formula with m = y: reached where s(z) = y"
        ),
    ]
    if name in ("probit", "cloglog"):
        levels.append(Level("chance of the negative log-likelihood, half of each", math.log(2.0), "ln 2, as for the sigmoid"))
    return levels


# --------------------------------------------------------------------------------------------------- the vector case


def _softmax() -> Derivation:
    """The page of softmax: Jacobian by SymPy for three classes, gradient also for ten at random."""
    import sympy as sp

    from unstuck.theory import chance

    z = sp.symbols("z1:4", real=True)
    total = sum(sp.exp(x) for x in z)
    p = sp.Matrix([sp.exp(x) / total for x in z])
    jacobian = p.jacobian(z)
    claimed = sp.diag(*p) - p * p.T
    exact = (jacobian - claimed).applyfunc(sp.simplify) == sp.zeros(3, 3)
    y1, y2 = sp.symbols("y1 y2", real=True)
    y = sp.Matrix([y1, y2, 1 - y1 - y2])
    slope = sp.Matrix([-y[k] / p[k] for k in range(3)])
    solved = (jacobian.T * slope - (p - y)).applyfunc(sp.simplify) == sp.zeros(3, 1)
    loss = sp.log(total) - sum(y[k] * z[k] for k in range(3))
    direct = all(sp.simplify(sp.diff(loss, z[k]) - p[k] + y[k]) == 0 for k in range(3))
    null = (jacobian * sp.ones(3, 1)).applyfunc(sp.simplify) == sp.zeros(3, 1)
    if not (exact and solved and direct and null):
        raise UnstuckError("the softmax derivation failed its own check: please report this")
    random = np.random.default_rng(0)
    worst = 0.0
    for _ in range(200):
        logits, target = random.normal(0.0, 3.0, 10), random.dirichlet(np.ones(10))
        share = np.exp(logits - logits.max())
        share /= share.sum()
        table = np.diag(share) - np.outer(share, share)
        worst = max(worst, float(np.abs(table.T @ (-target / share) - (share - target)).max()))
    steps = (
        Step(
            "The activation",
            "K logits give K probabilities that sum to 1. Adding the same number to all logits changes nothing.",
            "p_k = exp(z_k) / Σ_j exp(z_j)",
            r"p_k = \frac{e^{z_k}}{\sum_j e^{z_j}}",
        ),
        Step(
            "Its derivative is a matrix",
            "dp_j/dz_k is p_j (1 - p_j) on the diagonal and -p_j p_k elsewhere. Rows sum to 0: it cannot be inverted,"
            " because"
            " one direction, all logits together, has no"
            " effect.",
            "J = diag(p) − p pᵀ,    J 1 = 0",
            r"J = \operatorname{diag}(p) - p p^\top, \qquad J \mathbf 1 = 0",
        ),
        Step(
            "The condition",
            "The chain rule gives grad_z L = J^T grad_p L. Ask for the loss in which the Jacobian cancels. The"
            " left side"
            " sums to 0, and so must the right: the targets have to sum to"
            " 1.",
            "Jᵀ ∇ₚL = p − y,    Σ y_k = 1",
            r"J^\top \nabla_p L = p - y, \qquad \sum_k y_k = 1",
        ),
        Step(
            "Solve",
            "Try a gradient with one variable in each entry: row k of J times -y/p is -y_k + p_k Σ y_j = p_k - y_k. Any"
            " multiple of the ones may be"
            " added, it is lost in J.",
            "∂L/∂p_k = −y_k / p_k",
            r"\frac{\partial L}{\partial p_k} = -\frac{y_k}{p_k}",
        ),
        Step(
            "Integrate",
            "Every entry depends on its own variable, so each is integrated by itself. This is cross-entropy.",
            "L(p, y) = −Σ_k y_k log p_k",
            r"L(p, y) = -\sum_k y_k \log p_k",
        ),
        Step(
            "The same loss in the logits",
            "log p_k = z_k - logsumexp(z). The part without y is A(z) = logsumexp(z), whose gradient is p: again"
            " L = A(z) - y·z, convex because its second derivative is J, a covariance matrix.",
            "L(z, y) = log Σ_j exp(z_j) − Σ_k y_k z_k,    ∇L = p − y",
            r"L(z, y) = \log \sum_j e^{z_j} - \sum_k y_k z_k, \qquad \nabla_z L = p - y",
        ),
        Step(
            "In floating point",
            "Subtract the largest logit first; nothing then overflows. Targets that sum to some other S have the gradient S p - y.",
            "logsumexp(z) = m + log Σ_j exp(z_j − m),    m = max z",
            r"\operatorname{logsumexp}(z) = m + \log \sum_j e^{z_j - m}, \quad m = \max_k z_k",
        ),
    )
    levels = (
        Level("floor for hard targets", 0.0, "approached as the right logit leaves the others behind"),
        Level(
            "floor for soft targets 0.9 and 0.1", chance.entropy([0.9, 0.1]), "the entropy H(y) of the targets, reached at p = y"
        ),
        Level("chance, K = 2", math.log(2.0), "the uniform guess, ln K"),
        Level("chance, K = 10", math.log(10.0), "the uniform guess, ln K"),
        Level(
            "chance, K = 1000",
            math.log(1000.0),
            "the uniform guess, ln K; the best constant answer costs the entropy of the class shares",
        ),
    )
    checks = (
        Check("Jacobian = diag(p) - p p^T, and its rows sum to 0, for 3 classes", "exact"),
        Check("J^T (-y/p) = p - y, for 3 classes", "exact"),
        Check("gradient of logsumexp(z) - y z = p - y, for 3 classes", "exact"),
        Check("J^T (-y/p) = p - y, for 10 classes at random", "numeric", 200, worst),
    )
    return Derivation(
        "softmax",
        "Matching loss of softmax",
        True,
        "Cross-entropy, -sum y_k log p_k, is the loss whose gradient at the logits is p - y.",
        steps,
        checks,
        levels,
        _head("softmax") + _SOURCE["softmax"],
        "unstuck derive softmax --as python",
    )


# --------------------------------------------------------------------------------------------------- entropy, likelihood

_SOURCE_ENTROPY = '''"""Cross-entropy in its two parts, from `unstuck derive entropy --as python`."""

import torch


def parts(logits, target):
    """(entropy of the target, Kullback-Leibler divergence), nats; their sum is the cross-entropy.

    logits: (..., K); target: shares of the classes, sum 1, (..., K). Only the second part has a gradient.
    """
    entropy = -torch.xlogy(target, target).sum(dim=-1)
    cross = -(target * torch.log_softmax(logits, dim=-1)).sum(dim=-1)
    return entropy, cross - entropy
'''

_SOURCE_LIKELIHOOD = '''"""Log-likelihood of labels, from `unstuck derive likelihood --as python`."""

import torch


def log_likelihood(logits, labels):
    """Sum over samples of log p(label), nats. logits: (N, K); labels: integers (N,).

    Minus this, divided by N, is F.cross_entropy(logits, labels).
    """
    return torch.log_softmax(logits, dim=-1).gather(-1, labels[:, None]).sum()
'''


def _entropy() -> Derivation:
    import sympy as sp

    y, p = sp.symbols("y1:4", positive=True), sp.symbols("p1:4", positive=True)
    cross = -sum(t * sp.log(q) for t, q in zip(y, p))
    entropy = -sum(t * sp.log(t) for t in y)
    divergence = sum(t * sp.log(t / q) for t, q in zip(y, p))
    if sp.simplify(sp.expand_log(cross - entropy - divergence, force=True)) != 0:
        raise UnstuckError("the entropy derivation failed its own check: please report this")
    random = np.random.default_rng(0)
    worst, least = 0.0, math.inf
    for _ in range(1000):
        t, q = random.dirichlet(np.full(10, 0.5)), random.dirichlet(np.full(10, 0.5))
        t, q = (t + 1e-12) / (t + 1e-12).sum(), (q + 1e-12) / (q + 1e-12).sum()
        both = -np.sum(t * np.log(q)), -np.sum(t * np.log(t)) + np.sum(t * np.log(t / q))
        worst, least = max(worst, float(abs(both[0] - both[1]) / abs(both[0]))), min(least, float(np.sum(t * np.log(t / q))))
    if least < 0.0:
        raise UnstuckError("the divergence came out negative: please report this")
    r = sp.Symbol("r", positive=True)
    tangent = sp.simplify(sp.diff(r - 1 - sp.log(r), r, 2) * r**2) == 1 and sp.solve(sp.diff(r - 1 - sp.log(r), r), r) == [1]
    if not tangent:
        raise UnstuckError("the tangent of the logarithm failed its own check: please report this")
    steps = (
        Step(
            "Start",
            "y is what is true, p what the model says; both sum to 1.",
            "H(y, p) = −Σ y_k log p_k",
            r"H(y, p) = -\sum_k y_k \log p_k",
        ),
        Step(
            "Add and subtract",
            "Write log p_k = log y_k - log(y_k/p_k).",
            "H(y, p) = −Σ y_k log y_k + Σ y_k log(y_k / p_k)",
            r"H(y, p) = -\sum_k y_k \log y_k + \sum_k y_k \log \frac{y_k}{p_k}",
        ),
        Step(
            "Read",
            "The first sum is the entropy of the targets, which no model can change. The second is the Kullback-Leibler"
            " divergence.",
            "H(y, p) = H(y) + KL(y ‖ p)",
            r"H(y, p) = H(y) + \mathrm{KL}(y \,\|\, p)",
        ),
        Step(
            "The divergence is never negative",
            "log r ≤ r - 1, with equality at r = 1 only. Put r = p_k/y_k and add up with the weights y_k (Gibbs).",
            "−KL(y ‖ p) = Σ y_k log(p_k / y_k) ≤ Σ y_k (p_k / y_k − 1) ≤ 0",
            r"-\mathrm{KL}(y \,\|\, p) = \sum_k y_k \log \frac{p_k}{y_k} \le \sum_k y_k \Bigl(\frac{p_k}{y_k} - 1\Bigr)"
            r" \le 0",
        ),
        Step(
            "So",
            "Cross-entropy is lowest, H(y), exactly at p = y. A loss of H(y) is a finished training, not a stuck one. For"
            " hard labels H(y) = 0.",
            "min over p of H(y, p) = H(y)",
            r"\min_p H(y, p) = H(y)",
        ),
    )
    checks = (
        Check("H(y, p) - H(y) - KL(y, p) = 0, for 3 classes", "exact"),
        Check("r - 1 - log r has its only minimum at r = 1", "exact"),
        Check("the same identity and KL of at least 0, for 10 classes at random", "numeric", 1000, worst),
    )
    levels = (
        Level("floor, hard labels", 0.0, "H(y) of a single certain class"),
        Level("floor, soft targets 0.9 and 0.1", -0.9 * math.log(0.9) - 0.1 * math.log(0.1), "H(y)"),
        Level("chance, 10 classes equally often, uniform guess", math.log(10.0), "H(y) = 0 for each label, all of it divergence"),
    )
    return Derivation(
        "entropy",
        "Cross-entropy = entropy + divergence",
        True,
        "Cross-entropy is the entropy of the targets, which cannot be learned away, plus the divergence of the model from them,"
        " which can.",
        steps,
        checks,
        levels,
        _SOURCE_ENTROPY,
        "unstuck derive likelihood",
    )


def _likelihood() -> Derivation:
    import sympy as sp

    q, n1, n0 = sp.symbols("q n1 n0", positive=True)
    cost = -n1 * sp.log(q) - n0 * sp.log(1 - q)
    best = sp.solve(sp.diff(cost, q), q)
    if best != [n1 / (n0 + n1)]:
        raise UnstuckError("the constant optimum failed its own check: please report this")
    random = np.random.default_rng(0)
    worst = 0.0
    for _ in range(200):
        p = random.dirichlet(np.ones(5), size=20)
        labels = random.integers(0, 5, 20)
        product = math.log(math.prod(float(p[i, k]) for i, k in enumerate(labels)))
        mean = float(-(np.eye(5)[labels] * np.log(p)).sum(axis=1).mean())
        worst = max(worst, abs(-product / 20 - mean) / mean)
    steps = (
        Step(
            "The likelihood",
            "N independent samples with labels k_1 .. k_N: the model gives the observed labels the probability",
            "P = Π_i p_i(k_i)",
            r"P = \prod_i p_i(k_i)",
        ),
        Step(
            "Its logarithm",
            "The logarithm rises, so the largest P and the largest log P are at the same model; and a product"
            " of thousands of numbers below 1"
            " would underflow.",
            "log P = Σ_i log p_i(k_i)",
            r"\log P = \sum_i \log p_i(k_i)",
        ),
        Step(
            "Per sample",
            "With y_i the one-hot label, log p_i(k_i) is the sum of y_ik log p_ik over k: minus that is the"
            " cross-entropy of sample i.",
            "−log P / N = (1/N) Σ_i H(y_i, p_i)",
            r"-\frac{\log P}{N} = \frac 1N \sum_i H(y_i, p_i)",
        ),
        Step(
            "So",
            "Least mean cross-entropy and greatest likelihood are the same model. Two classes are the Bernoulli case p^y"
            " (1-p)^(1-y), and Gaussian noise"
            " of fixed width gives squared error in the same way.",
            "argmin H = argmax P",
            r"\arg\min H = \arg\max P",
        ),
        _step(
            "A model that ignores its input",
            "With n1 ones and n0 zeros and the constant answer q, set the derivative of -n1 log q - n0 log(1 - q) to"
            " 0. The"
            " best constant is the base rate, and its cost the entropy of the base rates: the chance level.",
            sp.Eq(sp.Symbol("q"), best[0], evaluate=False),
        ),
    )
    checks = (
        Check("-log P/N = mean cross-entropy, for 20 samples and 5 classes at random", "numeric", 200, worst),
        Check("the best constant is the base rate", "exact"),
    )
    levels = (
        Level("floor", 0.0, "P = 1: every observed label was certain"),
        Level("chance, base rates 0.9 and 0.1", -0.9 * math.log(0.9) - 0.1 * math.log(0.1), "the entropy of the base rates"),
        Level("chance, 10 classes equally often", math.log(10.0), "ln K"),
    )
    return Derivation(
        "likelihood",
        "Least cross-entropy = greatest likelihood",
        True,
        "The mean cross-entropy of labels is minus the log-likelihood per sample.",
        steps,
        checks,
        levels,
        _SOURCE_LIKELIHOOD,
        "unstuck derive sigmoid",
    )


# --------------------------------------------------------------------------------------------------- the doors


def derive(what: str, *, seconds: float = SECONDS) -> Derivation:
    """A topic (entropy, likelihood), a named activation, or the matching loss of an expression in z. See `matching_loss`."""
    name = what.strip().lower()
    if name == "entropy":
        return _entropy()
    if name == "likelihood":
        return _likelihood()
    return matching_loss(what, seconds=seconds)


def matching_loss(activation: Any, *, seconds: float = SECONDS) -> Derivation:
    """The derivation of the loss whose gradient at the logit is s(z) - y.

    - `activation`: a name of `ACTIVATIONS`, an expression in z as text (grammar: `parse`), or a SymPy expression in one
      symbol named z, which is printed and read again by the same grammar.
    - `seconds`: limit for one stage (evaluate, integrate, invert, ...) of an expression; up to seven stages. A stage that
      takes longer is left out, and the page says which.

    Where no such loss exists, `exists` is False and `answer` says why. UsageError (exit code 2), naming the input, for
    what cannot be read as an activation.
    """
    text = activation if isinstance(activation, str) else _printed(activation)
    name = text.strip().lower()
    if name == "softmax":
        return _softmax()
    if name in ACTIVATIONS:
        return _known(name)
    parse(text)
    if not seconds > 0.0:
        raise UsageError(f"seconds must be positive, got {seconds!r}")
    return _apart(text.strip(), seconds)


def _printed(expression: Any) -> str:
    import sympy as sp

    if not isinstance(expression, sp.Expr):
        raise UsageError(f"an activation is a name, a text, or a SymPy expression in z, got {type(expression).__name__}")
    strange = sorted(s.name for s in expression.free_symbols if s.name != "z")
    if strange:
        raise UsageError(f"the expression contains {', '.join(strange)}: put numbers in, only z may stay free")
    return sp.sstr(expression, full_prec=True)


def _apart(text: str, seconds: float) -> Derivation:
    """The work in a process of its own, started again without the stage that ran out of time."""
    skip: list[str] = []
    while True:
        answer = _asked(text, skip, seconds)
        if isinstance(answer, Derivation):
            return answer
        skip.append(answer)


def _asked(text: str, skip: Sequence[str], seconds: float) -> Derivation | str:
    """The finished page, or the name of the stage in which the time ran out."""
    command = [sys.executable, "-c", "from unstuck.theory.matching_loss import _serve; _serve()"]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert child.stdin is not None and child.stdout is not None and child.stderr is not None
    lines: queue.Queue[str | None] = queue.Queue()

    def read(stream: Any) -> None:
        for line in stream:
            lines.put(line)
        lines.put(None)

    said: list[str] = []
    readers = [
        threading.Thread(target=read, args=(child.stdout,), daemon=True),
        threading.Thread(target=lambda: said.extend(child.stderr or ()), daemon=True),
    ]
    for reader in readers:
        reader.start()
    stage = "start"
    try:
        child.stdin.write(json.dumps({"text": text, "skip": list(skip)}) + "\n")
        child.stdin.close()
        while True:
            # starting Python and SymPy is not the expression's fault, and a busy machine is slow at it
            line = lines.get(timeout=60.0 if stage == "start" else seconds)
            if line is None:
                child.wait()
                if stage not in ("start", *skip) and (child.returncode == _TOO_MUCH or child.returncode < 0):
                    return stage  # out of memory or out of stack, by its own word or killed by the system
                raise UnstuckError(f"the derivation of {text!r} ended without an answer: {(said or ['no message'])[-1].strip()}")
            message = json.loads(line)
            if "stage" in message:
                stage = message["stage"]
            elif "usage" in message:
                raise UsageError(message["usage"])
            else:
                return Derivation.from_dict(message["page"])
    except queue.Empty:
        if stage == "start" or stage in skip:
            raise UnstuckError(f"the process that derives {text!r} does not start or does not end") from None
        return stage
    except BrokenPipeError:
        raise UnstuckError(f"the process that derives {text!r} ended at once: {(said or ['no message'])[-1].strip()}") from None
    finally:
        child.kill()
        child.wait()
        for reader in readers:
            reader.join(timeout=5.0)
        child.stdout.close()
        child.stderr.close()


_TOO_MUCH = 75  # exit code of the second process


def _serve() -> None:
    """The other side of `_asked`: one request on standard input, messages as lines of JSON on standard output."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))  # exp(exp(exp(z))) asks for more memory than there is
    except (ImportError, ValueError, OSError):
        pass  # no such limit on this system: the time limit remains
    request = json.loads(sys.stdin.readline())

    def tell(stage: str) -> None:
        print(json.dumps({"stage": stage}), flush=True)

    try:
        page = _custom(request["text"], parse(request["text"]), request["skip"], tell)
        print(json.dumps({"page": page.as_dict()}), flush=True)
    except UsageError as error:
        print(json.dumps({"usage": str(error)}), flush=True)
    except (MemoryError, RecursionError):
        sys.exit(_TOO_MUCH)
