"""A derivation as data, its rendering as text and LaTeX, and the words of every page."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from unstuck.errors import UnstuckError
from unstuck.theory import chance
from unstuck.theory.matching_loss.calculus import GRID, Check, Piece, Work, at_targets, symbols, verified
from unstuck.theory.matching_loss.source import SOURCE, Emitted, Level

WIDTH = 80


@dataclass(frozen=True)
class Step:
    """One step of a derivation. `plain` is unicode of at most 76 columns, several lines where needed; may be empty."""

    title: str
    text: str
    plain: str = ""
    latex: str = ""


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
        kinds = {"steps": Step, "checks": Check, "levels": Level}
        return cls(**{**data, **{key: tuple(kind(**part) for part in data[key]) for key, kind in kinds.items()}})

    def as_text(self) -> str:
        """The page, at most 80 columns, unicode, no colour."""
        lines = [*_wrap(self.title), "=" * min(WIDTH, len(self.title)), "", *_wrap(self.answer), ""]
        for place, step in enumerate(self.steps, start=1):
            lines += [*_wrap(f"{place}. {step.title}"), *_wrap(step.text, "   ")]
            if step.plain:
                lines += ["", *(f"    {line}".rstrip() for line in step.plain.splitlines())]
            lines.append("")
        if self.levels:
            lines.append("Levels (nats)")
            for level in self.levels:
                lines += _wrap(f"{_amount(level):>9}  {level.name}: {level.text}", "", " " * 11)
            lines.append("")
        if self.checks:
            lines += ["Checked", *(line for c in self.checks for line in _wrap(f"- {c.what}: {_how(c)}", "", "  ")), ""]
        return "\n".join(lines)

    def as_latex(self) -> str:
        """Body of a LaTeX document: a section, text and displayed formulas (needs amsmath)."""
        lines = [f"\\section*{{{_tex(self.title)}}}", _tex(self.answer), ""]
        for step in self.steps:
            lines.append(f"\\paragraph{{{_tex(step.title)}.}} {_tex(step.text)}")
            lines += ["\\begin{equation*}", step.latex, "\\end{equation*}", ""] if step.latex else [""]
        amounts = [_amount(v) if v.value is None else f"${_amount(v)}$" for v in self.levels]
        levels = [f"\\item {amount}: {_tex(v.name)}, {_tex(v.text)}" for amount, v in zip(amounts, self.levels)]
        checks = [f"\\item {_tex(c.what)}: {_tex(_how(c))}" for c in self.checks]
        for title, items in (("Levels (nats)", levels), ("Checked", checks)):
            if items:
                lines += [f"\\paragraph{{{title}.}}", "\\begin{itemize}", *items, "\\end{itemize}", ""]
        return "\n".join(lines)


def _amount(level: Level) -> str:
    return "none" if level.value is None else f"{level.value:.4f}"


def _how(check: Check) -> str:
    exact = "exact, by SymPy"
    return exact if check.how == "exact" else f"numerically at {check.points} points, largest error {check.error:.1e}"


def _wrap(text: str, first: str = "", rest: str | None = None) -> list[str]:
    rest = first if rest is None else rest
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


_MATH = {"∞": "\\infty", "−": "-", "³": "^3", "≤": "\\le", "≥": "\\ge", "γ": "\\gamma", "π": "\\pi", "Φ": "\\Phi", "φ": "\\varphi"}
_MATH |= {"·": "\\cdot", "√": "\\surd", "²": "^2", "±": "\\pm", "Σ": "\\Sigma", "∫": "\\int", "<": "<", ">": ">", "*": "*"}
_TEX = {letter: f"\\ensuremath{{{command}}}" for letter, command in _MATH.items()}
_TEX |= {letter: "\\" + letter for letter in "&%$#_{}"}
_TEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)


def _shown(expr: Any) -> str:
    """Two-dimensional where it fits 74 columns, else one line of code, wrapped."""
    import sympy as sp

    drawn = [line.rstrip() for line in sp.pretty(expr, use_unicode=True, wrap_line=False).splitlines()]
    if max(map(len, drawn)) > 74:
        line = f"{expr.lhs} = {expr.rhs}" if isinstance(expr, sp.Eq) else str(expr)
        drawn = textwrap.wrap(line, 72, subsequent_indent="    ", break_long_words=True)
    return "\n".join(drawn)


def _step(title: str, text: str, *formulas: Any) -> Step:
    """A step from SymPy formulas, one under the other."""
    import sympy as sp

    latex = " \\\\\n".join(sp.latex(f) for f in formulas)
    if len(formulas) > 1:
        latex = f"\\begin{{gathered}}\n{latex}\n\\end{{gathered}}"
    return Step(title, text, "\n\n".join(_shown(f) for f in formulas), latex if formulas else "")


def _eq(left: Any, right: Any) -> Any:
    import sympy as sp

    return sp.Eq(left, right, evaluate=False)


def _whole(pieces: Sequence[Piece]) -> Any:
    """One SymPy expression again: a Piecewise where there are several."""
    import sympy as sp

    if len(pieces) == 1:
        return pieces[0].expr
    z = symbols()[0]
    return sp.Piecewise(*((p.expr, z < p.hi if p.hi is not None else True) for p in pieces), evaluate=False)


def _sure(check: Check | None, what: str) -> Check:
    if check is None:
        raise UnstuckError(f"{what} failed its own check: please report this")
    return check


def _small(check: Check) -> Check:
    return _sure(check if check.error < 1e-12 else None, check.what)


def _proved(true: bool, what: str) -> Check:
    return _sure(Check(what, "exact") if true else None, what)


# ------------------------------------------------------------------------------------------------- one variable


def _opening(work: Work) -> list[Step]:
    """The activation, the condition, the inverse, separated and integrated, as far as each is known."""
    import sympy as sp

    z, a, y = symbols()
    loss, slope = sp.Function("L")(a), sp.Derivative(sp.Function("s")(z), z)
    steps = [
        _step("The activation", _rises(work), _eq(a, _whole(work.pieces))),
        _step(
            "The condition",
            "The chain rule gives dL/dz = dL/da · s'(z). The factor s'(z) is what makes a saturated unit learn slowly. Ask for the"
            " loss in which it cancels:",
            _eq(sp.Derivative(loss, a) * slope, a - y),
        ),
    ]
    if work.inverse is None:
        text = (
            "No closed form of z as a function of a was found. The loss of a exists all the same, because s rises; here is the"
            " form in z, which needs no inverse."
        )
        return [*steps, Step("Inverse", text)]
    by_piece = f", piece by piece ({'; '.join(i.piece.where.strip() for i in work.inverse)})" if len(work.inverse) > 1 else ""
    formulas = [f for i in work.inverse for f in (_eq(z, i.logit), _eq(sp.Function("v")(a), i.slope))]
    steps.append(_step("The slope in terms of a", f"Solve a = s(z) for z and put it into s'(z) = v(a){by_piece}.", *formulas))
    fractions = any(i.terms is not None and len(i.terms) > 1 for i in work.inverse)
    text = "The right side depends on a alone: the variables are separated. In partial fractions:"
    formulas = []
    for i in work.inverse:
        formulas.append(_eq(sp.Derivative(loss, a), i.right))
        if i.terms is not None and len(i.terms) > 1:
            formulas.append(_eq(i.right, sp.Add(*i.terms, evaluate=False)))
    steps.append(_step("Separate", text if fractions else "Divide by v(a). The right side depends on a alone.", *formulas))
    if work.loss is None:
        return [*steps, Step("Integrate", "No closed form in a was found; here is the form in z.")]
    if work.inverse[0].terms is not None:
        text = "Each fraction is integrated by itself."
    elif not work.inverse[0].slope.has(a):
        text = "Integrate over a."
    else:
        text = "Substitute a = s(z), da = s'(z) dz: the integral of (a - y)/v(a) da is that of (s(z) - y) dz. Then put z(a) back."
    formulas = [_eq(sp.Function("L")(a, y), form + sp.Symbol("C")) for form in work.loss]
    return [*steps, _step("Integrate", f"{text} The result is checked by differentiation (below).", *formulas)]


def _rises(work: Work) -> str:
    ends = " from {} to {}".format(*(str(e).replace("-oo", "−∞").replace("oo", "∞") for e in work.ends)) if work.ends else ""
    if work.course.kind == "flat":
        return f"As a function of z{ends}, {work.course.text}."
    how = "SymPy proves s'(z) > 0" if work.course.proved else f"s'(z) was looked at in {len(GRID)} points, no proof"
    return f"It rises{ends} ({how}). So every a belongs to one z only."


def _in_logits(work: Work) -> Step:
    import sympy as sp

    z, _, y = symbols()
    t = sp.Symbol("t")
    area = sp.Integral(work.expr.subs(z, t), (t, 0, z)) if work.area is None else _whole(work.area)
    text = (
        "In z the condition reads dL/dz = s(z) - y and is integrated at once: L = A(z) - y z + C with A' = s. No inverse is"
        " needed, and L is convex because L'' = s'(z) is never negative."
    )
    text += " No closed form of the integral was found." if work.area is None else ""
    return _step("The same loss in the logit", text, _eq(sp.Function("L")(z, y), area - y * z))


_NO_LOSS = {
    "no value": "",
    "constant": " s'(z) = 0 turns the condition dL/da · s'(z) = a - y into 0 = a - y.",
    "turning": " The equation in the logit, dL/dz = s(z) - y, can be integrated, but the result is not a function of a, is not"
    " convex, and has its stationary points wherever s(z) = y, maxima among them: it is not offered as a loss.",
    "falling": " The equation dL/da · s'(z) = a - y has a solution, but that has its largest value at a = y (there d²L/da² ="
    " 1/s'(z) < 0), so that descending it leads away from the target. Mirror the logit: derive s(-z).",
}


def custom(work: Work, function: Emitted | None = None, levels: Sequence[Level] = ()) -> Derivation:
    """The page of an expression, as far as it is worked out."""
    name, course = work.name, work.course
    title, opening = f"Matching loss of s(z) = {name}", f"No matching loss exists for s(z) = {name}: {course.text}."
    if course.kind in _NO_LOSS:
        z, a, _ = symbols()
        first = _step("The activation", f"{course.text[0].upper()}{course.text[1:]}.", _eq(a, work.expr))
        after = f'unstuck derive "{work.expr.subs(z, -z)}"' if course.kind == "falling" else "unstuck derive sigmoid"
        return Derivation(name, title, False, opening + _NO_LOSS[course.kind], (first,), next=after)
    if course.kind == "flat":
        answer = (
            f"{opening} There s'(z) = 0 and the condition dL/da · s'(z) = a - y reads 0 = a - y. A loss of the logit with the"
            " gradient s(z) - y does exist and is convex; it is given below. It tells apart logits that the activation makes equal."
        )
        steps = [_step("The activation", _rises(work), _eq(symbols()[1], work.expr)), _in_logits(work)]
    else:
        short = work.area is not None and len(work.area) == 1
        form = f"L(z, y) = {work.area[0].expr} - y z" if short else "L(z, y) = A(z) - y z with A' = s"
        answer = f"{form} has the gradient s(z) - y: the activation's derivative is gone."
        steps = [*_opening(work), _in_logits(work)]
    if function is not None:
        steps.append(Step("In floating point", function.how))
    after = f'unstuck derive "{name}" --as python' if function else "unstuck derive sigmoid"
    python = function.source if function else None
    return Derivation(name, title, course.kind != "flat", answer, tuple(steps), tuple(work.checks), tuple(levels), python, after)


# ------------------------------------------------------------------------------------------------- named activations


@dataclass(frozen=True)
class Named:
    """What is known of a named activation beyond its derivation.

    `stable`: (formula, how it is printed) of the form that loses no digits; its gradient is checked to be s(z) - y.
    `level`: loss of the best constant answer to the share m of ones, and its formula in words.
    """

    expr: Any
    stable: tuple[Any, Any]
    text: str
    answer: str
    level: tuple[Callable[[float], float], str] | None = None
    factor: str = ""  # kept by the gradient of the negative log-likelihood, where that is another loss


def named(name: str) -> Named:
    """What is known of sigmoid, tanh, probit, cloglog or identity."""
    import sympy as sp

    z, _, y = symbols()
    softplus = sp.Function("softplus")

    def soft(c: int) -> tuple[Any, Any]:
        """Binary cross-entropy of the logit c z, spelt out and with softplus; targets -1..1 for c = 2."""
        share = (1 + y) / 2 if c == 2 else y
        spelt = lambda x: sp.log(1 + sp.exp(x))  # noqa: E731
        return share * spelt(-c * z) + (1 - share) * spelt(c * z), share * softplus(-c * z) + (1 - share) * softplus(c * z)

    if name == "sigmoid":
        return Named(
            1 / (1 + sp.exp(-z)),
            soft(1),
            "softplus(x) = log(1 + exp x) = max(x, 0) + log1p(exp(-|x|)) never overflows, and each target keeps its own term, so"
            " that nothing cancels. This is binary cross-entropy with logits.",
            "Binary cross-entropy, -y log a - (1 - y) log(1 - a), is the one loss, up to a constant, whose gradient at the logit is"
            " a - y.",
            (chance.binary_entropy, "the entropy H(m) of the share m of ones"),
        )
    if name == "tanh":
        return Named(
            sp.tanh(z),
            soft(2),
            "This is log cosh z - y z + log 2, with log cosh z = |z| + log1p(exp(-2|z|)) - log 2. It is binary cross-entropy of the"
            " logit 2z with the target y' = (1 + y)/2, because tanh z = 2 sigmoid(2z) - 1.",
            "log cosh z - y z, for targets between -1 and 1, has the gradient tanh z - y. It is binary cross-entropy in other"
            " clothes.",
            (chance.binary_entropy, "the entropy H((1 + m)/2), m the mean of the targets"),
        )
    if name == "probit":
        ndtr, density = (1 + sp.erf(z / sp.sqrt(2))) / 2, sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi)
        area = sp.Function("A")
        return Named(
            ndtr,
            ((1 - y) * (z * ndtr + density) + y * (-z * (1 - ndtr) + density), (1 - y) * area(z) + y * area(-z)),
            "A(z) = z Φ(z) + φ(z) with Φ the normal distribution function and φ its density. Because A(z) - A(-z) = z, the loss is"
            " a mixture of A(z) and A(-z), in which nothing cancels for large |z|.",
            "z Φ(z) + φ(z) - y z has the gradient Φ(z) - y. It is not the negative log-likelihood of the probit model, whose"
            " gradient keeps a factor.",
            (_normal, "φ at the quantile of the share m of ones"),
            "φ(z)/(a (1 - a)), which grows like |z|: a certain wrong answer is corrected with a force that grows without end, where"
            " the matching loss pulls with at most 1. Both are convex in z.",
        )
    if name == "cloglog":
        e1, ein = sp.Function("E1")(sp.exp(z)), sp.Function("Ein")(sp.exp(z))
        return Named(
            1 - sp.exp(-sp.exp(z)),
            ((1 - y) * (-sp.Ei(-sp.exp(z)) + z + sp.EulerGamma) + y * -sp.Ei(-sp.exp(z)), (1 - y) * ein + y * e1),
            "E1 is the exponential integral, E1(u) = -Ei(-u), and Ein(u) = E1(u) + log u + γ the power series u - u²/(2·2!) +"
            " u³/(3·3!) - ...; γ = 0.5772 is Euler's constant. The constant γ (1 - y) was added to A(z) - y z: it makes the floor 0"
            " for both labels and leaves the gradient alone.",
            "z + E1(exp z) - y z, up to a constant, has the gradient 1 - exp(-exp z) - y. It is not the negative log-likelihood of"
            " this link, whose gradient keeps a factor.",
            (_gumbel, "(1-m) Ein(u) + m E1(u), u = -log(1 - m), m the share of ones"),
            "exp(z)/a, which grows like exp(z): for y = 0 at z = 10 it pulls 22,000 times as hard as the matching loss.",
        )
    square = (z - y) ** 2 / 2
    text = "Half the squared error; y²/2 was added to A(z) - y z."
    return Named(z, (square, square), text, "Half the squared error, (z - y)²/2: a linear output needs nothing else.")


def _normal(share: float) -> float:
    from scipy import special

    return math.exp(-0.5 * float(special.ndtri(share)) ** 2) / math.sqrt(2.0 * math.pi)


def _gumbel(share: float) -> float:
    from scipy import special

    u = -math.log1p(-share)
    return float(special.exp1(u)) + (1.0 - share) * (math.log(u) + float(np.euler_gamma))


def completed(name: str, work: Work) -> Derivation:
    """The page of a named activation of one variable whose derivation has been worked out."""
    import sympy as sp

    z, a, y = symbols()
    known, points = named(name), work.pieces[0].points
    stable, printed = known.stable
    steps = [*_opening(work), _in_logits(work), _step("In floating point", known.text, _eq(sp.Function("L")(z, y), printed))]
    what = "gradient of the stable form = s(z) - y, for y = 0, 1/3, 1"
    checks = [*work.checks, _sure(at_targets(what, sp.diff(stable, z), work.expr - y, points), what)]
    if name == "tanh":
        what, third = "equals binary cross-entropy of 2z with (1 + y)/2, at y = 1/3", sp.Rational(1, 3)
        bce = sp.log(1 + sp.exp(2 * z)) - (1 + y) / 2 * 2 * z
        checks.append(_sure(verified(what, stable.subs(y, third), bce.subs(y, third), points), what))
    if known.factor:
        what = "gradient of the negative log-likelihood = (a - y) v(a)/(a (1 - a)), for y = 0, 1/3, 1"
        nll, kept = -y * sp.log(a) - (1 - y) * sp.log(1 - a), (a - y) / (a * (1 - a))
        claimed = kept.subs(a, work.expr) * sp.diff(work.expr, z)
        near = [p for p in points if abs(p) <= 2.0]
        checks.append(_sure(at_targets(what, sp.diff(nll.subs(a, work.expr), z), claimed, near), what))
        text = (
            "The negative log-likelihood of a 0/1 label under this activation is another loss. Only where v(a) = a (1 - a), the"
            f" sigmoid, are the two the same. Its gradient keeps the factor {known.factor}"
        )
        gradient = sp.Derivative(sp.Function("NLL")(z, y), z)
        formulas = _eq(sp.Function("NLL")(a, y), nll), _eq(gradient, kept * sp.Function("v")(a))
        steps.append(_step("Not the likelihood", text, *formulas))
    levels = _named_levels(name, known)
    title = f"Matching loss of {name}"
    return Derivation(name, title, True, known.answer, tuple(steps), tuple(checks), tuple(levels), *_python(name))


def _python(topic: str) -> tuple[str, str]:
    """(source, the command that prints it)."""
    command = f"unstuck derive {topic} --as python"
    return f'"""From `{command}`."""\n{SOURCE[topic]}', command


def _named_levels(name: str, known: Named) -> list[Level]:
    if known.level is None:
        text = "half the variance of the targets: the constant answer is their mean"
        return [Level("floor", 0.0, "z = y"), Level("chance, targets 0 and 1, half of each", 0.125, text)]
    (level, formula), low = known.level, -1 if name == "tanh" else 0
    soft, same = 0.8 if name == "tanh" else 0.9, "the same formula"
    levels = [
        Level(f"floor for hard targets, {low} or 1", 0.0, "approached as z goes to ±∞, never reached"),
        Level(f"chance, targets {low} and 1, half of each", level(0.5), formula),
        Level(f"chance, targets {low} nine times as often as 1", level(0.1), same),
        Level(f"floor for a soft target {soft}", level(0.9), f"{same} with m = y: reached where s(z) = y"),
    ]
    if known.factor:
        levels.append(Level("chance of the negative log-likelihood, half of each", math.log(2.0), "ln 2, as for the sigmoid"))
    return levels


# ------------------------------------------------------------------------------------------------- softmax and the topics


def softmax() -> Derivation:
    """The vector case: Jacobian by SymPy for three classes, the solution also for ten at random."""
    import sympy as sp

    z = sp.symbols("z1:4", real=True)
    y = sp.Matrix([*sp.symbols("y1 y2", real=True), 1 - sum(sp.symbols("y1 y2", real=True))])
    total = sum(sp.exp(x) for x in z)
    p = sp.Matrix([sp.exp(x) / total for x in z])
    jacobian = p.jacobian(z)
    gradient = sp.Matrix([sp.log(total) - y.dot(sp.Matrix(z))]).jacobian(z).T

    def zero(matrix: Any) -> bool:
        return matrix.applyfunc(sp.simplify).is_zero_matrix

    random, worst = np.random.default_rng(0), 0.0
    for _ in range(200):
        share, target = random.dirichlet(np.ones(10)), random.dirichlet(np.ones(10))
        table = np.diag(share) - np.outer(share, share)
        worst = max(worst, float(np.abs(table.T @ (-target / share) - (share - target)).max()))
    shape = zero(jacobian - sp.diag(*p) + p * p.T) and zero(jacobian * sp.ones(3, 1))
    checks = (
        _proved(shape, "Jacobian = diag(p) - p p^T, and its rows sum to 0, for 3 classes"),
        _proved(zero(jacobian.T * -sp.HadamardProduct(y, p.applyfunc(lambda x: 1 / x)).doit() - p + y),
                "J^T (-y/p) = p - y, for 3 classes"),
        _proved(zero(gradient - p + y), "gradient of logsumexp(z) - y z = p - y, for 3 classes"),
        _small(Check("J^T (-y/p) = p - y, for 10 classes at random", "numeric", 200, worst)),
    )  # fmt: skip
    steps = (
        Step("The activation", "K logits give K probabilities that sum to 1. Adding the same number to all logits changes nothing.",
             "p_k = exp(z_k) / Σ_j exp(z_j)", r"p_k = \frac{e^{z_k}}{\sum_j e^{z_j}}"),
        Step("Its derivative is a matrix",
             "dp_j/dz_k is p_j (1 - p_j) on the diagonal and -p_j p_k elsewhere. Rows sum to 0: it cannot be inverted, because one"
             " direction, all logits together, has no effect.",
             "J = diag(p) − p pᵀ,    J 1 = 0", r"J = \operatorname{diag}(p) - p p^\top, \qquad J \mathbf 1 = 0"),
        Step("The condition",
             "The chain rule gives grad_z L = J^T grad_p L. Ask for the loss in which the Jacobian cancels. The left side sums to 0"
             ", and so must the right: the targets have to sum to 1.",
             "Jᵀ ∇ₚL = p − y,    Σ y_k = 1", r"J^\top \nabla_p L = p - y, \qquad \sum_k y_k = 1"),
        Step("Solve",
             "Try a gradient with one variable in each entry: row k of J times -y/p is -y_k + p_k Σ y_j = p_k - y_k. Any multiple"
             " of the ones may be added, it is lost in J.",
             "∂L/∂p_k = −y_k / p_k", r"\frac{\partial L}{\partial p_k} = -\frac{y_k}{p_k}"),
        Step("Integrate", "Every entry depends on its own variable, so each is integrated by itself. This is cross-entropy.",
             "L(p, y) = −Σ_k y_k log p_k", r"L(p, y) = -\sum_k y_k \log p_k"),
        Step("The same loss in the logits",
             "log p_k = z_k - logsumexp(z). The part without y is A(z) = logsumexp(z), whose gradient is p: again L = A(z) - y·z,"
             " convex because its second derivative is J, a covariance matrix.",
             "L(z, y) = log Σ_j exp(z_j) − Σ_k y_k z_k,    ∇L = p − y",
             r"L(z, y) = \log \sum_j e^{z_j} - \sum_k y_k z_k, \qquad \nabla_z L = p - y"),
        Step("In floating point",
             "Subtract the largest logit first; nothing then overflows. Targets that sum to some other S have the gradient S p - y"
             ".", "logsumexp(z) = m + log Σ_j exp(z_j − m),    m = max z",
             r"\operatorname{logsumexp}(z) = m + \log \sum_j e^{z_j - m}, \quad m = \max_k z_k"),
    )  # fmt: skip
    levels = (
        Level("floor for hard targets", 0.0, "approached as the right logit leaves the others behind"),
        Level("floor for soft targets 0.9 and 0.1", chance.entropy([0.9, 0.1]), "the entropy H(y), reached at p = y"),
        *(Level(f"chance, K = {k}", math.log(k), "the uniform guess, ln K") for k in (2, 10, 1000)),
    )
    answer = "Cross-entropy, -sum y_k log p_k, is the loss whose gradient at the logits is p - y."
    return Derivation("softmax", "Matching loss of softmax", True, answer, steps, checks, levels, *_python("softmax"))


def entropy() -> Derivation:
    """Cross-entropy = entropy + divergence, by SymPy for three classes and for ten at random."""
    import sympy as sp

    y, p, r = sp.symbols("y1:4", positive=True), sp.symbols("p1:4", positive=True), sp.Symbol("r", positive=True)
    parts = sum(-t * sp.log(q) + t * sp.log(t) - t * sp.log(t / q) for t, q in zip(y, p))
    random, worst, least = np.random.default_rng(0), 0.0, math.inf
    for _ in range(1000):
        t, q = random.dirichlet(np.ones(10)), random.dirichlet(np.ones(10))
        cross, divergence = -np.sum(t * np.log(q)), np.sum(t * np.log(t / q))
        worst = max(worst, float(abs(cross - chance.entropy(t) - divergence) / cross))
        least = min(least, float(divergence))
    tangent, what = r - 1 - sp.log(r), "r - 1 - log r has its only minimum at r = 1"
    numeric = Check("the same identity and KL of at least 0, for 10 classes at random", "numeric", 1000, worst)
    checks = (
        _proved(sp.simplify(sp.expand_log(parts, force=True)) == 0, "H(y, p) - H(y) - KL(y, p) = 0, for 3 classes"),
        _proved(tangent.diff(r, 2).is_positive and sp.solve(tangent.diff(r), r) == [1], what),
        _small(numeric if least >= 0 else replace(numeric, error=math.inf)),
    )
    steps = (
        Step("Start", "y is what is true, p what the model says; both sum to 1.",
             "H(y, p) = −Σ y_k log p_k", r"H(y, p) = -\sum_k y_k \log p_k"),
        Step("Add and subtract", "Write log p_k = log y_k - log(y_k/p_k).",
             "H(y, p) = −Σ y_k log y_k + Σ y_k log(y_k / p_k)",
             r"H(y, p) = -\sum_k y_k \log y_k + \sum_k y_k \log \frac{y_k}{p_k}"),
        Step("Read", "The first sum is the entropy of the targets, which no model can change. The second is the Kullback-Leibler"
             " divergence.", "H(y, p) = H(y) + KL(y ‖ p)", r"H(y, p) = H(y) + \mathrm{KL}(y \,\|\, p)"),
        Step("The divergence is never negative",
             "log r ≤ r - 1, with equality at r = 1 only. Put r = p_k/y_k and add up with the weights y_k (Gibbs).",
             "−KL(y ‖ p) = Σ y_k log(p_k / y_k) ≤ Σ y_k (p_k / y_k − 1) ≤ 0",
             r"-\mathrm{KL}(y \,\|\, p) = \sum_k y_k \log \frac{p_k}{y_k} \le \sum_k y_k \Bigl(\frac{p_k}{y_k} - 1\Bigr) \le 0"),
        Step("So", "Cross-entropy is lowest, H(y), exactly at p = y. A loss of H(y) is a finished training, not a stuck one. For"
             " hard labels H(y) = 0.", "min over p of H(y, p) = H(y)", r"\min_p H(y, p) = H(y)"),
    )  # fmt: skip
    levels = (
        Level("floor, hard labels", 0.0, "H(y) of a single certain class"),
        Level("floor, soft targets 0.9 and 0.1", chance.entropy([0.9, 0.1]), "H(y)"),
        Level("chance, 10 classes equally often, uniform guess", math.log(10.0), "H(y) = 0 for each label, all of it divergence"),
    )
    answer = (
        "Cross-entropy is the entropy of the targets, which cannot be learned away, plus the divergence of the model from them,"
        " which can."
    )
    title = "Cross-entropy = entropy + divergence"
    source, _ = _python("entropy")
    return Derivation("entropy", title, True, answer, steps, checks, levels, source, "unstuck derive likelihood")


def likelihood() -> Derivation:
    """Least cross-entropy = greatest likelihood, on random samples; the best constant answer by SymPy."""
    import sympy as sp

    q, n1, n0 = sp.symbols("q n1 n0", positive=True)
    best = sp.solve(sp.diff(-n1 * sp.log(q) - n0 * sp.log(1 - q), q), q)
    random, worst = np.random.default_rng(0), 0.0
    for _ in range(200):
        p, labels = random.dirichlet(np.ones(5), size=20), random.integers(0, 5, 20)
        product = math.log(math.prod(float(p[i, k]) for i, k in enumerate(labels)))
        mean = float(-(np.eye(5)[labels] * np.log(p)).sum(axis=1).mean())
        worst = max(worst, abs(-product / 20 - mean) / mean)
    numeric = Check("-log P/N = mean cross-entropy, for 20 samples and 5 classes at random", "numeric", 200, worst)
    checks = (
        _small(numeric),
        _proved(best == [n1 / (n0 + n1)], "the best constant is the base rate"),
    )
    steps = (
        Step("The likelihood", "N independent samples with labels k_1 .. k_N: the model gives the observed labels the probability",
             "P = Π_i p_i(k_i)", r"P = \prod_i p_i(k_i)"),
        Step("Its logarithm",
             "The logarithm rises, so the largest P and the largest log P are at the same model; and a product of thousands of"
             " numbers below 1 would underflow.", "log P = Σ_i log p_i(k_i)", r"\log P = \sum_i \log p_i(k_i)"),
        Step("Per sample",
             "With y_i the one-hot label, log p_i(k_i) is the sum of y_ik log p_ik over k: minus that is the cross-entropy of"
             " sample i.", "−log P / N = (1/N) Σ_i H(y_i, p_i)", r"-\frac{\log P}{N} = \frac 1N \sum_i H(y_i, p_i)"),
        Step("So", "Least mean cross-entropy and greatest likelihood are the same model. Two classes are the Bernoulli case p^y"
             " (1-p)^(1-y), and Gaussian noise of fixed width gives squared error in the same way.",
             "argmin H = argmax P", r"\arg\min H = \arg\max P"),
        _step("A model that ignores its input",
              "With n1 ones and n0 zeros and the constant answer q, set the derivative of -n1 log q - n0 log(1 - q) to 0. The best"
              " constant is the base rate, and its cost the entropy of the base rates: the chance level.", _eq(q, best[0])),
    )  # fmt: skip
    levels = (
        Level("floor", 0.0, "P = 1: every observed label was certain"),
        Level("chance, base rates 0.9 and 0.1", chance.entropy([0.9, 0.1]), "the entropy of the base rates"),
        Level("chance, 10 classes equally often", math.log(10.0), "ln K"),
    )
    answer = "The mean cross-entropy of labels is minus the log-likelihood per sample."
    title = "Least cross-entropy = greatest likelihood"
    source, _ = _python("likelihood")
    return Derivation("likelihood", title, True, answer, steps, checks, levels, source, "unstuck derive sigmoid")
