"""The computation behind a page: how an activation runs, its integral, its inverse, the separated equation, the loss.

Every formula SymPy returns is compared with what it has to fulfil, exactly where SymPy reduces the difference to 0, else
with 60 digits on a grid; what fails is not shown. `z` is the logit, `a` the activation's value, `y` the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from unstuck.errors import UsageError

DIGITS = 60
GRID = tuple(sorted([k / 20 for k in range(-160, 161)] + [s * t for t in (10, 12, 15, 20, 25, 30, 40) for s in (-1.0, 1.0)]))
_TOLERANCE = 1e-10


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
class Piece:
    """A smooth stretch lo < z < hi of a function of z; None stands for no end."""

    lo: Any
    hi: Any
    expr: Any

    def holds(self, z: float) -> bool:
        return (self.lo is None or z >= float(self.lo)) and (self.hi is None or z < float(self.hi))

    @property
    def inside(self) -> list[float]:
        """Five numbers well inside."""
        if self.lo is None and self.hi is None:
            return [-1.7, -0.6, 0.3, 1.1, 2.3]
        if self.lo is None or self.hi is None:
            return [float(self.hi) - t if self.lo is None else float(self.lo) + t for t in (0.2, 0.7, 1.3, 2.1, 3.0)]
        return [float(self.lo) + t * float(self.hi - self.lo) for t in (0.1, 0.3, 0.5, 0.7, 0.9)]

    @property
    def points(self) -> list[float]:
        """Where identities are tried: the grid between -8 and 8, as far as it lies inside, and `inside`."""
        return sorted({*self.inside, *(g for g in GRID if abs(g) <= 8 and self.holds(g) and g != self.lo)})

    @property
    def where(self) -> str:
        if self.lo is None:
            return "" if self.hi is None else f" for z < {self.hi}"
        return f" for z > {self.lo}" if self.hi is None else f" for {self.lo} < z < {self.hi}"


@dataclass(frozen=True)
class Course:
    """How an activation runs: "rising", "flat" (rising with flat pieces), "falling", "turning", "constant", "no value"."""

    kind: str
    text: str
    proved: bool = False


@dataclass(frozen=True)
class Inverse:
    """One piece, inverted: z(a), the slope v(a) = s'(z(a)), (a - y)/v(a) and its partial fractions, None where it has none."""

    piece: Piece
    logit: Any
    slope: Any
    right: Any
    terms: list[Any] | None


@dataclass
class Work:
    """What is known so far about an activation of one variable. Each stage below adds its part."""

    name: str
    expr: Any
    pieces: list[Piece] = field(default_factory=list)
    course: Course | None = None
    ends: tuple[Any, Any] | None = None
    area: list[Piece] | None = None
    inverse: list[Inverse] | None = None
    loss: list[Any] | None = None
    checks: list[Check] = field(default_factory=list)


def symbols() -> tuple[Any, Any, Any]:
    """(z, a, y), real."""
    import sympy as sp

    return sp.symbols("z a y", real=True)


# ------------------------------------------------------------------------------------------------- numbers to check with

_COMPILED: dict[Any, Any] = {}


def evaluate(expr: Any, at: Any = 0, digits: int = DIGITS) -> Any:
    """A function of one symbol at a number: a real mpmath number, or None where it has no finite real value."""
    import mpmath
    import sympy as sp

    if expr not in _COMPILED:
        _COMPILED[expr] = sp.lambdify(list(expr.free_symbols) or [sp.Symbol("z")], expr, "mpmath")
    with mpmath.workdps(digits):
        try:
            value = mpmath.mpmathify(_COMPILED[expr](mpmath.mpf(at)))
        except (ZeroDivisionError, ValueError, OverflowError, TypeError, mpmath.libmp.ComplexResult, mpmath.libmp.NoConvergence):
            return None
        if isinstance(value, mpmath.mpc):
            if abs(value.imag) > mpmath.mpf(10) ** (10 - digits) * (1 + abs(value.real)):
                return None
            value = value.real
        return value if mpmath.isfinite(value) else None


def value(pieces: Sequence[Piece], z: float) -> Any:
    """The value of a function given in pieces."""
    return evaluate(next(p.expr for p in pieces if p.holds(z)), z)


def agreement(left: Any, right: Any, points: Iterable[Any], digits: int = DIGITS) -> tuple[int, float]:
    """(points where both have a value, largest relative error); two expressions without any value agree nowhere."""
    pairs = [(evaluate(left, p, digits), evaluate(right, p, digits)) for p in points]
    errors = [float(abs(one - two) / max(1, abs(two))) for one, two in pairs if one is not None and two is not None]
    return len(errors), max(errors, default=math.inf)


def verified(what: str, left: Any, right: Any, points: Sequence[Any]) -> Check | None:
    """The check that two expressions of one symbol are equal; None where they are not."""
    import sympy as sp

    count, worst = agreement(left, right, points)
    if worst > _TOLERANCE:  # 1 + tanh(-80) cancels all of 60 digits
        count, worst = agreement(left, right, points, 10 * DIGITS)
    if worst > _TOLERANCE:
        return None
    forms = (lambda x: x, sp.expand, sp.simplify, lambda x: sp.simplify(x.rewrite(sp.exp)))
    return Check(what, "exact") if any(_tried(f, left - right) == 0 for f in forms) else Check(what, "numeric", count, worst)


def at_targets(what: str, left: Any, right: Any, points: Sequence[Any]) -> Check | None:
    """`verified` for two expressions that also contain y: at y = 0, 1/3, 1."""
    import sympy as sp

    y = symbols()[2]
    checks = [verified(what, left.subs(y, t), right.subs(y, t), points) for t in (sp.S.Zero, sp.Rational(1, 3), sp.S.One)]
    return None if None in checks else max((c for c in checks if c), key=lambda c: c.how)  # "numeric" where one of them is


def _tried(form: Callable[[Any], Any], expr: Any) -> Any:
    """`form(expr)`, or None: SymPy fails in many ways, each of which means that there is no shorter form this way."""
    try:
        return form(expr)
    except Exception:
        return None


# ------------------------------------------------------------------------------------------------- is there a loss?


def split(work: Work) -> None:
    """Abs, Max and Min removed: one smooth expression between any two kinks."""
    import sympy as sp

    whole = sp.piecewise_fold(work.expr.rewrite(sp.Piecewise)) if work.expr.has(sp.Abs, sp.Max, sp.Min) else work.expr
    if not isinstance(whole, sp.Piecewise):
        work.pieces = [Piece(None, None, whole)]
        return
    pairs = _tried(lambda w: w.as_expr_set_pairs(), whole) or []
    stretches = [(part, i) for part, where in pairs for i in (where.args if isinstance(where, sp.Union) else (where,))]
    if not stretches or not all(isinstance(i, sp.Interval | sp.FiniteSet) for _, i in stretches):
        raise UsageError(f"{work.name!r}: Abs, Max and Min are read only where they switch at points that SymPy finds")
    found: list[Piece] = []
    for part, i in sorted(((p, i) for p, i in stretches if isinstance(i, sp.Interval)), key=lambda pair: float(pair[1].start)):
        if found and (found[-1].expr - part).expand() == 0:
            part, start = found[-1].expr, found.pop().lo
        else:
            start = i.start if i.start.is_finite else None
        found.append(Piece(start, i.end if i.end.is_finite else None, part))
    work.pieces = found


def run_of(work: Work) -> None:
    """Sets `work.course`, by looking at the values and slopes on the grid; a proof of s' > 0 is tried."""
    work.course = _course(work.pieces)


def _course(pieces: Sequence[Piece]) -> Course:
    import sympy as sp

    z = symbols()[0]
    for left, right in pairwise(pieces):
        one, two = evaluate(left.expr.subs(z, right.lo)), evaluate(right.expr.subs(z, right.lo))
        if one is None or two is None or abs(one - two) > 1e-30:
            return Course("no value", f"it jumps at z = {right.lo}; an activation has to be continuous")
    slopes = [sp.diff(p.expr, z) for p in pieces]
    seen: list[tuple[float, Any, int]] = []  # z, s(z), sign of s'(z)
    for point in sorted({*GRID, *(x for p in pieces for x in p.inside)}):
        place = next(k for k, p in enumerate(pieces) if p.holds(point))
        at, slope = evaluate(pieces[place].expr, point), evaluate(slopes[place], point)
        if at is None:
            why = f"{pieces[place].expr} is not a finite real number at z = {point:g}; an activation needs a value for every real z"
            return Course("no value", why)
        seen.append((point, at, 0 if slope is None or abs(slope) < 1e-30 else int(math.copysign(1, slope))))
    signs = {sign for _, _, sign in seen}
    if {1, -1} <= signs:
        return Course("turning", _witness(pieces, slopes, [s for s in seen if s[2]]))
    if signs == {0}:
        return Course("constant", "it is constant: its derivative is 0 everywhere, so no loss can send a gradient through it")
    for (left, one, _), (right, two, _) in pairwise(seen):  # tan rises wherever it has a slope
        if (two - one) * (1 if 1 in signs else -1) < -1e-30:
            return Course("no value", f"it jumps between z = {left:g} and z = {right:g}; an activation has to be continuous")
    if -1 in signs:
        return Course("falling", "it falls")
    flat = [p.where.strip() for p, slope in zip(pieces, slopes) if sp.simplify(slope) == 0]
    if flat:
        return Course("flat", f"it rises but is flat {' and '.join(flat)}")
    return Course("rising", "it rises everywhere", all(_positive(s, p) for p, s in zip(pieces, slopes)))


def _positive(slope: Any, piece: Piece) -> bool:
    """SymPy proves slope > 0 on the piece."""
    import sympy as sp

    z, t = symbols()[0], sp.Symbol("t", positive=True)
    inside = z if piece.lo is None and piece.hi is None else piece.hi - t if piece.lo is None else piece.lo + t
    if None not in (piece.lo, piece.hi):
        inside = (piece.lo + piece.hi * t) / (1 + t)
    rewritten = [lambda x, f=f: sp.simplify(x.rewrite(f)) for f in (sp.exp, sp.cos)]
    forms = (lambda x: x, sp.simplify, sp.factor, *rewritten)
    return any(_tried(lambda x, f=f: f(x).subs(z, inside).is_positive or f(x.subs(z, inside)).is_positive, slope) for f in forms)


def _witness(pieces: Sequence[Piece], slopes: Sequence[Any], seen: Sequence[tuple[float, Any, int]]) -> str:
    """Two logits with the same activation and slopes of different sign, in words."""
    turns = [k for k in range(len(seen) - 1) if seen[k][2] != seen[k + 1][2]]
    turn = min(turns, key=lambda k: abs(seen[k][0]))
    beyond = seen[turn + 1 :]
    beyond = beyond[: next((k for k, s in enumerate(beyond) if s[2] != beyond[0][2]), len(beyond))]
    before = [s for s in seen[max(0, turn - 9) : turn + 1] if s[2] == seen[turn][2]]
    for first, a, _ in before:
        for (low, one, _), (high, two, _) in pairwise(beyond):
            if (one - a) * (two - a) > 0:
                continue
            for _ in range(60):
                middle = 0.5 * (low + high)
                low, high = (middle, high) if (value(pieces, middle) - a) * (one - a) > 0 else (low, middle)
            slope = [next(float(evaluate(s, x)) for p, s in zip(pieces, slopes) if p.holds(x)) for x in (first, high)]
            return (
                f"it is not monotone: a = {float(a):.4g} comes from z = {first:.4g}, where the slope is {slope[0]:.4g}, and"
                f" from z = {high:.4g}, where it is {slope[1]:.4g}. dL/da would have to be (a - y)/({slope[0]:.4g}) and"
                f" (a - y)/({slope[1]:.4g}) at once"
            )
    return f"it is not monotone: its slope changes sign between z = {seen[turn][0]:.4g} and z = {seen[turn + 1][0]:.4g}"


def limits(work: Work) -> None:
    """Sets `work.ends`: the limits of s at minus and plus infinity."""
    import sympy as sp

    z = symbols()[0]
    ends = sp.limit(work.pieces[0].expr, z, -sp.oo), sp.limit(work.pieces[-1].expr, z, sp.oo)
    if all(isinstance(end, sp.Expr) and end.is_number for end in ends):
        work.ends = ends


# ------------------------------------------------------------------------------------------------- the calculus


def _tidy(expr: Any, at: Any) -> Any:
    """log(-a/(a-1)) as log(a) - log(1-a), likewise roots: split into numerator and denominator that are positive at `at`.

    The logarithm of a negative number becomes that of its absolute value, the real branch of an antiderivative.
    """
    import sympy as sp

    def halves(argument: Any, real_branch: bool) -> list[Any] | None:
        parts = sp.fraction(sp.together(argument))
        values = [evaluate(part, at) if len(part.free_symbols) < 2 else None for part in parts]
        if None in values or not argument.free_symbols or 0 in values or (values[0] * values[1] < 0 and not real_branch):
            return None
        return [sp.factor_terms(sp.expand(part if v > 0 else -part)) for part, v in zip(parts, values)]

    def logarithm(argument: Any) -> Any:
        total, parts = sp.S.Zero, halves(argument, real_branch=True)
        if parts is None:
            return sp.log(argument)
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

    z = symbols()[0]
    slopes = {sp.diff(n.args[0], z) for n in expr.atoms(sp.Function) if n.has(z)}
    c = next(iter(slopes)) if len(slopes) == 1 else sp.S.One
    plain = c.is_Rational and c != 0 and expr.subs(z, z / c).atoms(sp.Rational) < expr.atoms(sp.Rational)
    return abs(c) if plain else sp.S.One


def _softened(argument: Any) -> Any:
    """log(1 + tanh u) as log 2 - log(1 + exp(-2u)), which keeps its digits where tanh u is almost -1."""
    import sympy as sp

    inner = argument - 1
    return sp.log(2) - sp.log(1 + sp.exp(-2 * inner.args[0])) if isinstance(inner, sp.tanh) else sp.log(argument)


def integrate(work: Work) -> None:
    """Sets `work.area`: A in pieces, continuous, with A' = s, where SymPy finds a closed form."""
    import sympy as sp

    z = symbols()[0]
    found: list[Piece] = []
    checks = []
    for piece in work.pieces:
        c = _scale(piece.expr)
        area = sp.integrate(piece.expr.subs(z, z / c), z).subs(z, c * z) / c
        if area.has(sp.Integral, sp.Piecewise):
            return
        if evaluate(area, piece.inside[0]) is None:
            area = _tidy(area, piece.inside[0])
        area = area.replace(sp.log, _softened)
        if found:  # continuous at the kink
            area += sp.nsimplify(sp.simplify(found[-1].expr.subs(z, piece.lo) - area.subs(z, piece.lo)))
        checks.append(verified(f"dA/dz = s(z){piece.where}", sp.diff(area, z), piece.expr, piece.points))
        found.append(Piece(piece.lo, piece.hi, area))
    if None not in checks:
        work.area = found
        work.checks += checks


def invert(work: Work) -> None:
    """Sets `work.inverse` where SymPy solves a = s(z) for z on every piece."""
    import sympy as sp

    z, a, _ = symbols()
    found, checks = [], []
    for piece in work.pieces:
        slope, c = sp.diff(piece.expr, z), _scale(piece.expr)
        values = [(x, evaluate(piece.expr, x)) for x in piece.inside]
        logits = []
        for candidate in sp.solve(sp.Eq(piece.expr.subs(z, z / c), a), z):
            for shape in (_tidy(candidate / c, values[2][1]), candidate / c):
                if not shape.has(z, sp.Integral, sp.CRootOf) and _returns(shape, values):
                    logits.append(shape)
                    break
        if not logits:
            return
        logit = min(logits, key=lambda x: x.count_ops())
        shapes = _shapes(slope, logit, [(evaluate(slope, x), v) for x, v in values])
        if not shapes:
            return
        shortest = min(shapes, key=lambda x: (not x.is_rational_function(a), x.count_ops(), len(str(x))))
        check = verified(f"s'(z) written in a{piece.where}", shortest.subs(a, piece.expr), slope, piece.points)
        checks += [check] if check else []
        found.append(Inverse(piece, logit, shortest, *_separated(shortest, values[2][1])))
    work.inverse = found
    work.checks += checks


def _returns(shape: Any, pairs: Iterable[tuple[Any, Any]]) -> bool:
    """shape(argument) = result for every pair (result, argument)."""
    got = [(evaluate(shape, argument), result) for result, argument in pairs]
    return all(g is not None and abs(g - r) <= 1e-12 * (1 + abs(r)) for g, r in got)


def _shapes(slope: Any, logit: Any, pairs: Sequence[tuple[Any, Any]]) -> list[Any]:
    """Several ways to write s'(z(a)), each right at the pairs (slope, a)."""
    import sympy as sp

    starts = [slope, slope.rewrite(sp.exp)] if slope.has(sp.tanh, sp.sinh, sp.cosh) else [slope]
    forms = (
        lambda x: x,
        sp.simplify,
        lambda x: sp.factor(sp.simplify(x)),
        lambda x: sp.simplify(x.rewrite(sp.exp)),
        lambda x: sp.factor(sp.simplify(sp.expand(x))),
    )
    shapes = [_tried(form, start.subs(symbols()[0], logit)) for form in forms for start in starts]
    shapes += [_tidy(shape, pairs[2][1]) for shape in shapes if shape is not None]
    return [shape for shape in shapes if shape is not None and _returns(shape, pairs)]


def _separated(slope: Any, at: Any) -> tuple[Any, list[Any] | None]:
    """((a - y)/v(a), its partial fractions with denominators positive at `at`, or None where v is no rational function)."""
    import sympy as sp

    _, a, y = symbols()
    right = (a - y) / slope
    if not slope.is_rational_function(a) or not slope.has(a):
        return right, None
    terms = []
    for term in sp.Add.make_args(sp.apart(right, a)):
        top, bottom = sp.fraction(sp.together(term))
        number, bottom = sp.factor_terms(bottom).as_independent(a) if not bottom.is_Add else bottom.as_content_primitive()
        if (evaluate(bottom, at) or 0) < 0:
            top, bottom = sp.expand(-top), sp.expand(-bottom)
        if top.is_Add and all(part.could_extract_minus_sign() for part in top.args):
            terms.append(sp.Mul(-1, sp.expand(-top), 1 / number, 1 / bottom))
        else:
            terms.append(sp.Mul(top, 1 / number, 1 / bottom))
    return right, sorted(terms, key=str)


def _gathered(loss: Any) -> Any:
    """The terms that contain a, gathered by the functions and powers of a in them; what is constant goes into C."""
    import sympy as sp

    a = symbols()[1]
    flat = sp.Add(*(term for term in sp.Add.make_args(sp.expand(loss)) if term.has(a)))
    return sp.collect(flat, sorted((p for p in flat.atoms(sp.Function, sp.Pow) if p.has(a)), key=str), sp.factor)


def solve(work: Work) -> None:
    """Sets `work.loss`: L(a, y) piece by piece, continuous where two pieces meet, where a closed form passes its check."""
    import sympy as sp

    z, a, _ = symbols()
    losses: list[Any] = []
    checks = []
    for place, inverse in enumerate(work.inverse or []):
        found = next((f for f in _candidates(inverse, work.area[place].expr if work.area else None) if f[1] is not None), None)
        if found is None:
            return
        loss, check = found
        if losses:
            kink = inverse.piece.expr.subs(z, inverse.piece.lo)
            loss += sp.simplify((losses[-1] - loss).subs(a, kink))
        losses.append(loss)
        checks.append(check)
    work.loss = losses or None
    work.checks += checks


def _candidates(inverse: Inverse, area: Any) -> Iterable[tuple[Any, Check | None]]:
    """(closed form of the integral of (a - y)/v(a), its check by differentiation), the nicest first."""
    import sympy as sp

    z, a, y = symbols()
    values = [evaluate(inverse.piece.expr, x) for x in inverse.piece.inside]
    losses = []
    if inverse.terms is not None:
        losses = [_gathered(_tidy(sp.Add(*(sp.integrate(term, a) for term in inverse.terms)), values[2]))]
    elif not inverse.slope.has(a):
        losses = [(a - y) ** 2 / (2 * inverse.slope)]
    elif area is not None:
        for shape in (area.subs(inverse.piece.expr, a), area):
            loss = shape.subs(z, inverse.logit) - y * inverse.logit
            simple = sp.simplify(loss)
            losses += [_gathered(simple), sp.expand(simple), simple, loss]
        losses.sort(key=lambda c: c.count_ops())
    points = values + [v for x in inverse.piece.points if abs(x) <= 4 and (v := evaluate(inverse.piece.expr, x)) is not None]
    what = f"dL/da = (a - y)/v(a){inverse.piece.where}"
    for loss in losses:
        for form in (_tidy(loss, values[2]), loss):
            if not form.has(sp.Integral) and all(evaluate(form.subs(y, t), values[2]) is not None for t in (0, 1)):
                yield form, at_targets(what, sp.diff(form, a), inverse.right, points)
