"""The emitted torch function: printed from formulas, run in float64 against 60 digits, and the levels computed with it.

No torch is needed here: `torch` in the printed source stands for the numpy functions of the same meaning while it is
checked, so that what is checked is the very text that is printed. The named activations have hand-written functions.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np

from unstuck.theory.matching_loss.calculus import GRID, Piece, Work, symbols, value

Numeric = Callable[[np.ndarray], np.ndarray]
_FAR = (-1e4, -800.0, -100.0, 100.0, 800.0, 1e4)
_TRIED = np.array(sorted({g for g in GRID if g == round(5 * g) / 5} | set(_FAR), key=abs))


@dataclass(frozen=True)
class Level:
    """A loss, in nats, that this derivation says where it comes from. `value` is None where there is no finite one."""

    name: str
    value: float | None
    text: str


@dataclass(frozen=True)
class Emitted:
    """Source of `matching_loss(z, y)`, how it computes A and how far it is right, and what it computes: s and A, in numpy."""

    source: str
    how: str
    s: Numeric
    area: Numeric


# ------------------------------------------------------------------------------------------------- formulas as source


def _code(expr: Any) -> str:
    """The expression as torch code; log1p, expm1 and softplus where the argument asks for them. ValueError if torch has none."""
    import sympy as sp
    from sympy.printing.precedence import precedence
    from sympy.printing.pycode import PythonCodePrinter

    class Torch(PythonCodePrinter):
        def _print(self, part: Any, **options: Any) -> str:  # torch functions take no plain numbers
            if isinstance(part, sp.Expr) and part.is_number and not part.is_Rational:
                return repr(float(part)) if part > 0 else f"({float(part)!r})"
            return super()._print(part, **options)

        def _print_Add(self, part: Any, order: Any = None) -> str:
            if isinstance(part + 1, sp.exp):
                return f"torch.expm1({self._print((part + 1).exp)})"
            if isinstance(1 - part, sp.exp):
                return f"(-torch.expm1({self._print((1 - part).exp)}))"
            return super()._print_Add(part, order=order)

        def _print_log(self, part: Any) -> str:
            rest = part.args[0] - 1
            if isinstance(rest, sp.exp):  # log(1 + exp u), which must not overflow on the way
                return f"torch.nn.functional.softplus({self._print(rest.exp)}, threshold=40.0)"
            if part.args[0].is_Add and part.args[0].as_coeff_Add()[0] == 1:
                return f"torch.log1p({self._print(rest)})"
            return f"torch.log({self._print(part.args[0])})"

        def _print_Pow(self, part: Any, rational: bool = False) -> str:
            if part.exp == sp.Rational(1, 2):
                return f"torch.sqrt({self._print(part.base)})"
            if part.exp.is_negative:
                return f"1/{self.parenthesize(part.base**-part.exp, precedence(part))}"
            if part.base.is_number:
                return self._print_call("exp", part.exp * sp.log(part.base))
            return f"{self.parenthesize(part.base, precedence(part))}**{self.parenthesize(part.exp, precedence(part))}"

        def _print_call(self, name: str, argument: Any) -> str:
            return f"torch.{name}({self._print(argument)})"

        def _print_Function(self, part: Any) -> str:
            name = type(part).__name__
            if name not in vars(_NUMPY):
                raise ValueError(f"torch has no {name}")
            return self._print_call(name, part.args[0])

        _print_exp = _print_tanh = _print_sinh = _print_cosh = _print_sin = _print_cos = _print_tan = _print_Function
        _print_atan = _print_asinh = _print_erf = _print_erfc = _print_Function

    return Torch({"fully_qualified_modules": False}).doprint(expr)


def _function(name: str, pieces: Sequence[Piece]) -> str:
    """Source of a function of z given in pieces; e = exp(-|z|) where a formula contains it."""
    body = _code(pieces[-1].expr)
    for piece in reversed(pieces[:-1]):
        body = f"torch.where(z < {float(piece.hi)!r}, {_code(piece.expr)}, {body})"
    start = "    e = torch.exp(-torch.abs(z))  # at most 1: cannot overflow\n" if any(p.expr.has(_e()) for p in pieces) else ""
    return f"def {name}(z):\n{start}    return {body}\n"


def _e() -> Any:
    import sympy as sp

    return sp.Symbol("e", positive=True)


def _decaying(pieces: Sequence[Piece]) -> list[Piece]:
    """The same function, split at 0, in e = exp(-|z|), which cannot overflow: exp(z)/(1 + exp(z)) is 1/(1 + e) for z > 0."""
    import sympy as sp

    z, e = symbols()[0], _e()

    def halved(expr: Any, sign: int) -> Any:
        def power(exponent: Any) -> Any:
            slope = sp.diff(exponent, z)
            return sp.exp(exponent - slope * z) * e ** (-sign * slope) if slope.is_Rational else sp.exp(exponent)

        shape = expr.rewrite(sp.exp) if expr.has(sp.tanh, sp.sinh, sp.cosh) else expr
        shape = shape.replace(sp.exp, power)
        return sp.cancel(sp.together(shape)) if shape.has(e) else expr

    found = []
    for p in pieces:
        if p.lo is None or p.lo < 0:
            found.append(Piece(p.lo, p.hi if p.hi is not None and p.hi < 0 else sp.S.Zero, halved(p.expr, -1)))
        if p.hi is None or p.hi > 0:
            found.append(Piece(p.lo if p.lo is not None and p.lo > 0 else sp.S.Zero, p.hi, halved(p.expr, 1)))
    return found


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_QUADRATURE = '''# Gauss-Legendre, 16 nodes a panel: no closed form of the integral of s that is right for every z
NODES = {nodes}
WEIGHTS = {weights}
EDGES = {edges}


def A(z):
    """The integral of s from 0 to z."""
    size, sign, total = torch.abs(z), torch.sign(z), torch.zeros_like(z)
    for left, right in zip(EDGES, EDGES[1:]):
        low = torch.clamp(size, max=left)
        width = torch.clamp(size, max=right) - low
        if not bool((width > 0).any()):
            break
        for node, weight in zip(NODES, WEIGHTS):
            total = total + 0.5 * weight * width * s(sign * (low + 0.5 * (1 + node) * width))
    return total * sign
'''

_FUNCTION = '''"""Matching loss of s(z) = {name}. Gradient with respect to z: s(z) - y."""

import torch


{s}

{area}

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
    """Elementwise, nats; logits z and targets y of one shape. Right to 1e-9 in float64, tested for |z| up to 10000."""
    return _Matching.apply(z, y)
'''


def _quadrature(pieces: Sequence[Piece]) -> str:
    """Source of A: panels narrow near 0, where activations bend, then doubling; kinks are edges."""

    def tuple_of(values: Any) -> str:
        body = ", ".join(repr(float(v)) for v in values)
        return "(\n" + "\n".join(textwrap.wrap(body, 96, initial_indent="    ", subsequent_indent="    ")) + ",\n)"

    kinks = {abs(float(p.lo)) for p in pieces if p.lo is not None}
    edges = sorted({0.0, *kinks, *(0.5 * k for k in range(1, 17)), *(2.0**k for k in range(4, 16))})
    return _QUADRATURE.format(nodes=tuple_of(_NODES), weights=tuple_of(_WEIGHTS), edges=tuple_of(edges))


# ------------------------------------------------------------------------------------------------- run and compared

_SAME = ("exp", "log", "log1p", "expm1", "sqrt", "tanh", "sinh", "cosh", "sin", "cos", "tan", "abs", "sign", "where", "zeros_like")
_NUMPY = SimpleNamespace(
    **{name: getattr(np, name) for name in _SAME},
    atan=np.arctan,
    asinh=np.arcsinh,
    erf=lambda x: _special("erf", x),
    erfc=lambda x: _special("erfc", x),
    clamp=lambda x, max: np.minimum(x, max),
    nn=SimpleNamespace(functional=SimpleNamespace(softplus=lambda x, threshold: np.logaddexp(x, 0.0))),
)


def _special(name: str, x: np.ndarray) -> np.ndarray:
    from scipy import special

    return getattr(special, name)(x)


def _run(source: str, name: str) -> Numeric:
    """The function `name` of our own printer's words; what a person typed went through `parse`."""
    names: dict[str, Any] = {"torch": _NUMPY}
    exec(source, names)

    def silent(z: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return names[name](np.asarray(z, dtype=float))

    return silent


def _agrees(function: Numeric, right: np.ndarray) -> bool:
    """Right to 1e-9, relative above 1 and absolute below, at all of `_TRIED` where a finite true value is known."""
    with np.errstate(all="ignore"):
        return bool(np.all((np.abs(function(_TRIED) - right) <= 1e-9 * np.maximum(1.0, np.abs(right))) | ~np.isfinite(right)))


def _stable(name: str, pieces: Sequence[Piece], right: np.ndarray) -> tuple[str, Numeric] | None:
    """(source, function) of the plain formula, or of its form in e = exp(-|z|): the first that agrees; None if neither."""
    for form in (lambda p: p, _decaying):
        try:
            source = _function(name, form(pieces))
        except Exception:  # torch lacks a function of the formula, or SymPy cannot rewrite it
            continue
        if _agrees(function := _run(source, name), right):
            return source, function
    return None


def _integrals(s: Numeric, kinks: Sequence[float]) -> np.ndarray:
    """The integral of s from 0 to each of `_TRIED`, adaptively from point to point outwards; infinite where s overflows."""
    from scipy import integrate

    totals = {0.0: 0.0}
    for sign in (-1.0, 1.0):
        stops = sorted({0.0, *(x for x in (*_TRIED.tolist(), *kinks) if x * sign > 0)}, key=abs)
        for low, high in pairwise(stops):
            part = integrate.quad(s, low, high, epsabs=1e-13, epsrel=1e-12, full_output=1)[0]
            totals[high] = totals[low] + part if np.isfinite(s(high)) else math.inf
    return np.array([totals[z] for z in _TRIED])


def emitted(work: Work) -> Emitted | None:
    """The function of an expression; None where s or its integral is not found to be right in float64."""
    truth = [value(work.pieces, z) for z in _TRIED]
    rate = _stable("s", work.pieces, np.array([math.inf if t is None or abs(t) > 1e300 else float(t) for t in truth]))
    if rate is None:
        return None
    s_source, s = rate
    right = _integrals(s, [float(p.lo) for p in work.pieces if p.lo is not None])
    closed = None if work.area is None else _stable("A", work.area, right + float(value(work.area, 0.0) or 0))
    if closed is not None:
        (source, area), how = closed, "A(z) is the closed form, with log1p and softplus in place of log(1 + ...)."
    else:
        source, how = _quadrature(work.pieces), "A(z) is summed up numerically, from 0 to z."
        area = _run(f"{s_source}\n\n{source}", "A")
        if not _agrees(area, right):
            return None
    how += f" Tested in float64 at {len(_TRIED)} points up to |z| = 10000: right to 1e-9 wherever the value is finite."
    return Emitted(_FUNCTION.format(name=work.name, s=s_source, area=source), how, s, area)


# ------------------------------------------------------------------------------------------------- levels


def levels(work: Work, function: Emitted) -> list[Level]:
    """Floors at the edges of the range, and the chance level of an even mixture of both edges, else of the mean s(1)."""
    from scipy import optimize

    found = []
    finite = [(end, sign) for end, sign in zip(work.ends or (), (-1, 1)) if end.is_finite]
    for end, sign in finite:
        name, to = f"floor for the target y = {end}, the edge of the range", "∞" if sign > 0 else "−∞"
        floor = _floor(work, function, end, sign)
        if floor == -math.inf:
            text = f"s reaches {end} so slowly that the loss falls below every number as z goes to {to}; keep targets inside"
            found.append(Level(name, None, text))
        elif floor is not None:
            found.append(Level(name, floor, f"approached as z goes to {to} (A as in the function)"))
    mean, what = float(function.s(1.0)), "targets of mean {:.4g}"
    if len(finite) == 2:
        low, high = (float(end) for end, _ in finite)
        mean, what = 0.5 * (low + high), f"the targets {low:g} and {high:g}, half of each"
    wide = next((w for w in (2.0, 30.0, 1e3, 1e4) if function.s(-w) <= mean <= function.s(w)), None)
    if wide is not None:
        z = round(optimize.brentq(lambda x: float(function.s(x)) - mean, -wide, wide, xtol=1e-14), 12)
        text = f"A(z) - m z at s(z) = m = {mean:.4g}, z = {z:.4g}; also the floor if every target is m (A as in the function)"
        found.append(Level(f"chance: constant answer to {what.format(mean)}", _rounded(float(function.area(z)) - mean * z), text))
    return found


def _floor(work: Work, function: Emitted, edge: Any, sign: int) -> float | None:
    """The limit of A(z) - edge z as z goes to sign times infinity; -inf where there is none, None where unknown.

    Read off the checked function where it no longer moves, else SymPy's limit of the closed form.
    """
    import sympy as sp

    z = symbols()[0]
    near, far = (float(function.area(sign * x)) - float(edge) * sign * x for x in (400.0, 800.0))
    if abs(near - far) < 1e-10:
        return _rounded(far)
    if work.area is None:
        return None
    limit = sp.limit(work.area[0 if sign < 0 else -1].expr - edge * z, z, sign * sp.oo)
    return float(limit) if limit.is_number and (limit.is_finite or limit == -sp.oo) else None


def _rounded(loss: float) -> float:
    """What is 0 but for rounding is 0."""
    return 0.0 if abs(loss) < 1e-12 else loss


# ------------------------------------------------------------------------------------------------- named activations

SOURCE = {
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
    "entropy": '''
import torch


def parts(logits, target):
    """(entropy of the target, Kullback-Leibler divergence), nats; their sum is the cross-entropy.

    logits: (..., K); target: shares of the classes, sum 1, (..., K). Only the second part has a gradient.
    """
    entropy = -torch.xlogy(target, target).sum(dim=-1)
    cross = -(target * torch.log_softmax(logits, dim=-1)).sum(dim=-1)
    return entropy, cross - entropy
''',
    "likelihood": '''
import torch


def log_likelihood(logits, labels):
    """Sum over samples of log p(label), nats. logits: (N, K); labels: integers (N,).

    Minus this, divided by N, is F.cross_entropy(logits, labels).
    """
    return torch.log_softmax(logits, dim=-1).gather(-1, labels[:, None]).sum()
''',
}
