"""Text -> a SymPy expression in z, without evaluating anything a person typed (`sympify` would run `eval` on it)."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from unstuck.errors import UsageError

FUNCTIONS = ["exp", "log", "sqrt", "tanh", "sinh", "cosh", "sin", "cos", "tan", "atan", "asinh", "erf", "erfc"]
FUNCTIONS += ["Abs", "Max", "Min", "sigmoid", "softplus", "relu"]
_SPELT = {"abs": "Abs", "max": "Max", "min": "Min", "ln": "log", "arctan": "atan", "arcsinh": "asinh"}
_LENGTH, _PARTS, _DEPTH, _NUMBER, _POWER = 200, 320, 16, 1e6, 12
_WANTED = "write an expression in z such as 'z/(1+Abs(z))'"


def parse(text: str) -> Any:
    """The SymPy expression in the real symbol z that `text` spells, or UsageError naming the part that is not allowed.

    The text is read by `ast` and built node by node from a fixed list: z, pi, E, numbers, + - * / **, and `FUNCTIONS`;
    nothing else is looked up. Length, nesting, the size of numbers and of constant powers are bounded, for 9**9**9 takes
    for ever before it is even an expression.
    """
    if len(text) > _LENGTH:
        raise UsageError(f"the expression has {len(text)} characters and at most {_LENGTH} are read: shorten it")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UsageError(f"{text!r} is not an expression: {_WANTED}") from None
    if sum(1 for _ in ast.walk(tree)) > _PARTS:
        raise UsageError(f"{text!r} has too many parts: shorten it")
    try:
        return _built(tree, text, 0)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{text!r} cannot be built ({error}): {_WANTED}") from None


def printed(expression: Any) -> str:
    """A SymPy expression in one symbol named z as text that `parse` reads."""
    import sympy as sp

    if not isinstance(expression, sp.Expr):
        raise UsageError(f"an activation is a name, a text, or a SymPy expression in z, got {type(expression).__name__}")
    strange = sorted(s.name for s in expression.free_symbols if s.name != "z")
    if strange:
        raise UsageError(f"the expression contains {', '.join(strange)}: put numbers in, only z may stay free")
    return sp.sstr(expression, full_prec=True)


def _built(node: ast.expr, text: str, depth: int) -> Any:
    import sympy as sp

    if depth > _DEPTH:
        raise UsageError(f"{text!r} is nested deeper than {_DEPTH} levels: simplify it")
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            if not (number == 0 or 1.0 / _NUMBER <= abs(number) <= _NUMBER):
                raise UsageError(f"{number} is too large or too small: numbers between {1 / _NUMBER:.0e} and {_NUMBER:.0e}")
            return sp.Rational(repr(number))
        case ast.Name(id=name):
            names = {"z": sp.Symbol("z", real=True), "pi": sp.pi, "E": sp.E, "e": sp.E}
            if name not in names:
                raise UsageError(f"{name!r} is not known: the variable is z, constants are pi and E; {_WANTED}")
            return names[name]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as op, operand=inner):
            value = _built(inner, text, depth + 1)
            return -value if isinstance(op, ast.USub) else value
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() | ast.Pow() as op, right=right):
            return _bounded(_combined(op, _built(left, text, depth + 1), _built(right, text, depth + 1), text), text)
        case ast.BinOp(op=ast.BitXor()):
            raise UsageError(f"{text!r} has a ^: write ** for a power")
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            name = _SPELT.get(name, name)
            if name not in FUNCTIONS:
                raise UsageError(f"{name!r} is not one of the functions that are read: {', '.join(sorted(FUNCTIONS))}")
            if len(arguments) != (2 if name in ("Max", "Min") else 1):
                raise UsageError(f"{name} takes {'two values' if name in ('Max', 'Min') else 'one value'}: see {text!r}")
            return _bounded(_function(name)(*(_built(argument, text, depth + 1) for argument in arguments)), text)
    raise UsageError(f"{ast.unparse(node)!r} is not allowed in an activation: {_WANTED}")


def _combined(op: ast.operator, left: Any, right: Any, text: str) -> Any:
    match op:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            return left / right
    if right.is_number and not abs(float(right)) <= _POWER:
        raise UsageError(f"the power {right} in {text!r} is too large: at most {_POWER}")
    return left**right


def _function(name: str) -> Callable[..., Any]:
    import sympy as sp

    spelt: dict[str, Callable[..., Any]] = {
        "sigmoid": lambda x: 1 / (1 + sp.exp(-x)),
        "softplus": lambda x: sp.log(1 + sp.exp(x)),
        "relu": lambda x: sp.Max(x, 0),
    }
    return spelt[name] if name in spelt else getattr(sp, name)


def _bounded(value: Any, text: str) -> Any:
    import sympy as sp

    if value.has(sp.nan, sp.zoo, sp.oo, -sp.oo):
        raise UsageError(f"{text!r} divides by zero or has no value: {_WANTED}")
    if any(max(abs(number.p), number.q).bit_length() > 64 for number in value.atoms(sp.Rational)):
        raise UsageError(f"a number in {text!r} grows too large: keep constants below {_NUMBER:.0e}")
    return value
