"""Every derived loss against autograd, numerical integration and direct minimisation; every refusal against its witness."""

from __future__ import annotations

import json
import math
import re
import time

import numpy as np
import pytest
import sympy as sp
import torch
import torch.nn.functional as F
from scipy import integrate, optimize, special

from unstuck.errors import UsageError
from unstuck.theory import matching_loss as theory
from unstuck.theory.matching_loss.calculus import verified

torch.set_num_threads(1)

SCALAR = {
    "sigmoid": special.expit,
    "tanh": np.tanh,
    "probit": special.ndtr,
    "cloglog": lambda z: -np.expm1(-np.exp(z)),
    "identity": lambda z: z,
}
LOW = {"tanh": -1.0}
CUSTOM = {
    "z/(1+Abs(z))": lambda z: z / (1 + np.abs(z)),
    "atan(z)": np.arctan,
    "exp(z)": np.exp,
    "sigmoid(2*z+1)": lambda z: special.expit(2 * z + 1),
    "tanh(10*z)": lambda z: np.tanh(10 * z),
    "exp(z)/(1+exp(z))": special.expit,
    "z/sqrt(1+z**2)": lambda z: z / np.sqrt(1 + z * z),
    "0.1*z+0.9*Max(z,0)": lambda z: 0.1 * z + 0.9 * np.maximum(z, 0),
    "z**3": lambda z: z**3,
    "Max(-1,Min(1,z))": lambda z: np.clip(z, -1, 1),
}


def executed(page: theory.Derivation, name: str = "matching_loss"):
    assert page.python is not None
    names: dict[str, object] = {}
    exec(page.python, names)
    return names[name]


@pytest.fixture(scope="module")
def pages() -> dict[str, theory.Derivation]:
    """Each derivation once: SymPy takes about a second for one."""
    return {name: theory.derive(name) for name in [*theory.ACTIVATIONS, *theory.TOPICS]}


@pytest.fixture(scope="module")
def custom() -> dict[str, theory.Derivation]:
    return {text: theory.worked(text) for text in CUSTOM}


def slope(loss, z: np.ndarray, y: float) -> np.ndarray:
    at = torch.tensor(z, dtype=torch.float64, requires_grad=True)
    loss(at, torch.full_like(at, y).detach()).sum().backward()
    return at.grad.numpy()


def at(loss, z: float, y: float) -> float:
    return float(loss(torch.tensor([z], dtype=torch.float64), torch.tensor([y], dtype=torch.float64))[0])


# --------------------------------------------------------------------------------------------------- known activations


@pytest.mark.parametrize("name", SCALAR)
@pytest.mark.parametrize("y", [0.0, 0.3, 1.0])
def test_autograd_gives_s_minus_y_also_at_zero(pages, name, y):
    y = y if name not in LOW else 2 * y - 1
    z = np.concatenate([np.linspace(-30, 30, 241), [-1e-9, 0.0, 1e-9]])
    got = slope(executed(pages[name]), z, y)
    assert np.abs(got - (SCALAR[name](z) - y)).max() < 1e-13 * (30 if name == "identity" else 1)


@pytest.mark.parametrize("name", SCALAR)
def test_the_value_is_the_integral_of_the_gradient(pages, name):
    """Some sources state their gradient by hand (cloglog): the value has to be the one that belongs to it."""
    loss = executed(pages[name])
    for z in (-6.0, -1.3, 0.4, 0.75, 1.9, 5.0):
        for y in (0.0, 0.7, 1.0):
            area = integrate.quad(lambda t, y=y: float(SCALAR[name](t)) - y, 0.0, z, epsabs=1e-13)[0]
            assert at(loss, z, y) - at(loss, 0.0, y) == pytest.approx(area, abs=1e-11)


@pytest.mark.parametrize("name", SCALAR)
@pytest.mark.parametrize("z", [-1e4, 1e4])
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_extreme_logits_stay_finite(pages, name, z, y):
    loss = executed(pages[name])
    assert math.isfinite(at(loss, z, y)) and at(loss, z, y) >= 0.0
    got = slope(loss, np.array([z]), y)[0]
    with np.errstate(over="ignore"):
        assert got == pytest.approx(float(SCALAR[name](z)) - y, abs=1e-12)
    if name != "identity" and (z > 0) == (y > 0):
        assert at(loss, z, y) == 0.0 or name == "tanh"


@pytest.mark.parametrize("name", SCALAR)
def test_second_derivatives_exist_and_match_differences(pages, name):
    z = torch.linspace(-3, 3, 13, dtype=torch.float64, requires_grad=True)
    y = torch.full_like(z, 0.3).detach()
    loss = executed(pages[name])
    assert torch.autograd.gradcheck(lambda t: loss(t, y), (z,))
    assert torch.autograd.gradgradcheck(lambda t: loss(t, y), (z,))


def test_known_losses_are_torch_s_own(pages):
    z = torch.randn(50, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 5
    y = torch.rand(50, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    bce = F.binary_cross_entropy_with_logits
    assert torch.allclose(executed(pages["sigmoid"])(z, y), bce(z, y, reduction="none"), atol=1e-12)
    assert torch.allclose(executed(pages["tanh"])(z, 2 * y - 1), bce(2 * z, y, reduction="none"), atol=1e-12)
    y = y / y.sum(dim=1, keepdim=True)
    assert torch.allclose(executed(pages["softmax"])(z, y), F.cross_entropy(z, y, reduction="none"), atol=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_softmax_gradient_is_p_minus_y(pages, classes):
    random = np.random.default_rng(classes)
    z = torch.tensor(random.normal(0, 4, (20, classes)), requires_grad=True)
    y = torch.tensor(random.dirichlet(np.ones(classes), 20))
    executed(pages["softmax"])(z, y).sum().backward()
    assert torch.allclose(z.grad, z.detach().softmax(1) - y, atol=1e-14)
    far = torch.tensor([[1e4, -1e4, 0.0]], dtype=torch.float64)
    assert float(executed(pages["softmax"])(far, torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64))) == 2e4


def test_cloglog_against_the_exponential_integral(pages):
    loss = executed(pages["cloglog"])
    for z in np.linspace(-5, 5, 101):
        e1 = special.exp1(np.exp(z))
        assert at(loss, z, 1.0) == pytest.approx(e1, rel=1e-12, abs=1e-300)
        assert at(loss, z, 0.0) == pytest.approx(e1 + z + np.euler_gamma, rel=1e-11)


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("probit", lambda z: np.exp(-z * z / 2) / math.sqrt(2 * math.pi) / (special.ndtr(z) * special.ndtr(-z))),
        ("cloglog", lambda z: np.exp(z) / -np.expm1(-np.exp(z))),
    ],
)
def test_the_likelihood_keeps_a_factor_and_the_matching_loss_does_not(pages, name, factor):
    nll = executed(pages[name], "negative_log_likelihood")
    z = np.linspace(-4, 2, 61)
    for y in (0.0, 0.4, 1.0):
        assert np.abs(slope(nll, z, y) / ((SCALAR[name](z) - y) * factor(z)) - 1).max() < 1e-9
        assert np.abs(slope(nll, z, y) - (SCALAR[name](z) - y)).max() > 0.1
    assert math.isfinite(at(nll, -1e4, 1.0)) and math.isfinite(at(nll, -1e4, 0.0))
    assert "negative log-likelihood" in pages[name].answer


def lowest(loss, targets: list[float]) -> float:
    """The least mean loss of one constant logit, by search."""
    mean = lambda z: float(np.mean([at(loss, z, y) for y in targets]))  # noqa: E731
    return min(
        optimize.minimize_scalar(mean, bounds=b, method="bounded", options={"xatol": 1e-7}).fun
        for b in ((-60, 0), (-5, 5), (0, 60))
    )


@pytest.mark.parametrize("name", SCALAR)
def test_levels_are_the_minima_that_a_search_finds(pages, name):
    loss, low = executed(pages[name]), LOW.get(name, 0.0)
    levels = {level.name: level.value for level in pages[name].levels}
    half = next(v for n, v in levels.items() if n.startswith("chance") and "half of each" in n and "likelihood" not in n)
    assert half == pytest.approx(lowest(loss, [low, 1.0]), abs=1e-9)
    if name == "identity":
        return
    assert levels[f"floor for hard targets, {low:g} or 1"] == 0.0
    assert lowest(loss, [low]) == pytest.approx(0.0, abs=1e-9) and lowest(loss, [1.0]) == pytest.approx(0.0, abs=1e-9)
    assert next(v for n, v in levels.items() if "nine times" in n) == pytest.approx(lowest(loss, [low] * 9 + [1.0]), abs=1e-9)
    soft = next((n, v) for n, v in levels.items() if "soft" in n)
    assert soft[1] == pytest.approx(lowest(loss, [float(soft[0].rsplit(" ", 1)[1])]), abs=1e-9)


def test_sigmoid_shows_the_partial_fractions_and_the_cross_entropy(pages):
    plain = {step.title: step.plain for step in pages["sigmoid"].steps}
    assert "1 - y   y" in plain["Separate"] and "1 - a   a" in plain["Separate"]
    assert plain["Integrate"] == "L(a, y) = C - y⋅log(a) + (y - 1)⋅log(1 - a)"
    assert plain["The slope in terms of a"].endswith("v(a) = a⋅(1 - a)")


def test_every_known_page_is_checked_and_the_scalar_ones_exactly(pages):
    for name in SCALAR:
        assert {"dA/dz = s(z)", "s'(z) written in a", "dL/da = (a - y)/v(a)"} <= {c.what for c in pages[name].checks}
        assert {c.how for c in pages[name].checks} == {"exact"}


def test_a_wrong_formula_does_not_pass_the_check():
    z = sp.Symbol("z", real=True)
    points = [-1.0, 0.3, 2.0]
    assert verified("same", sp.sin(z) ** 2, 1 - sp.cos(z) ** 2, points).how == "exact"
    assert verified("nearly", z, z * (1 + sp.Rational(1, 10**8)), points) is None
    assert verified("nowhere defined", sp.log(-(z**2) - 1), sp.log(-(z**2) - 1), points) is None


# --------------------------------------------------------------------------------------------------- own expressions


@pytest.mark.slow
def test_expressions_give_a_function_with_the_gradient_s_minus_y(custom):
    z = np.linspace(-6, 6, 121)
    for text, function in CUSTOM.items():
        page = custom[text]
        loss = executed(page)
        assert np.abs(slope(loss, z, 0.3) - (function(z) - 0.3)).max() < 1e-12 * max(1.0, np.abs(function(z)).max()), text
        for point in (-5.0, -0.7, 1.1, 4.0):
            kinks = [k for k in (-1.0, 0.0, 1.0) if min(0, point) < k < max(0, point)]
            area = integrate.quad(function, 0.0, point, points=kinks or None, epsabs=1e-12, limit=200)[0]
            assert at(loss, point, 0.0) - at(loss, 0.0, 0.0) == pytest.approx(area, rel=1e-9, abs=1e-9), text


@pytest.mark.slow
def test_expressions_are_finite_at_extreme_logits_where_the_loss_is(custom):
    for text in CUSTOM:
        loss = executed(custom[text])
        for z in (-1e4, 1e4):
            if text == "exp(z)" and z > 0:
                assert at(loss, z, 0.3) == math.inf
                continue
            assert math.isfinite(at(loss, z, 0.3)), (text, z)


@pytest.mark.slow
def test_only_a_rising_activation_has_a_loss_of_a_and_a_flat_one_says_so(custom):
    assert {t for t in CUSTOM if not custom[t].exists} == {"Max(-1,Min(1,z))"}
    assert "flat" in custom["Max(-1,Min(1,z))"].answer and "0 = a - y" in custom["Max(-1,Min(1,z))"].answer


@pytest.mark.slow
def test_the_pages_name_their_floors(custom):
    """Softsign reaches 1 like 1 - 1/z: the loss of a hard target has no floor at all, and the page says it."""
    levels = {level.name: level for level in custom["z/(1+Abs(z))"].levels}
    assert levels["floor for the target y = 1, the edge of the range"].value is None
    loss = executed(custom["z/(1+Abs(z))"])
    assert at(loss, 1e2, 1.0) - 4.0 > at(loss, 1e4, 1.0) > at(loss, 1e6, 1.0) + 4.0
    for text in ("sigmoid(2*z+1)", "tanh(10*z)"):
        loss = executed(custom[text])
        for level in custom[text].levels:
            if level.name.startswith("floor"):
                edge = float(re.search(r"y = (\S+),", level.name)[1])
                assert level.value == pytest.approx(min(at(loss, -40.0, edge), at(loss, 40.0, edge)), abs=1e-9), (text, level)
            else:
                ends = [0.0, 1.0] if text.startswith("sigmoid") else [-1.0, 1.0]
                assert level.value == pytest.approx(lowest(loss, ends), abs=1e-9), (text, level)


@pytest.mark.slow
def test_steps_in_a_are_shown_for_what_sympy_can_invert(custom):
    plain = {s.title: s.plain for s in custom["z/(1+Abs(z))"].steps}
    assert "a + 1" in plain["The slope in terms of a"] and "log(a + 1)" in plain["Integrate"]


@pytest.mark.parametrize("text", ["sin(z)", "z**2", "z*sigmoid(z)", "Abs(z)"])
def test_where_s_turns_the_two_logits_named_have_the_same_a_and_other_slopes(text):
    page = theory.worked(text)
    assert not page.exists and page.python is None
    a, one, slope_one, two, slope_two = (
        float(x)
        for x in re.search(
            r"a = (\S+) comes from z = (\S+), where the slope is (\S+), and from z = (\S+), where it is"
            r" (\S+?)\. ",
            page.answer,
        ).groups()
    )
    expression = theory.parse(text)
    z = next(iter(expression.free_symbols))
    for at_z, stated in ((one, slope_one), (two, slope_two)):
        assert float(expression.subs(z, at_z)) == pytest.approx(a, abs=2e-3)
        assert float((expression.subs(z, at_z + 1e-6) - expression.subs(z, at_z - 1e-6)) / 2e-6) == pytest.approx(stated, abs=5e-3)
    assert slope_one * slope_two < 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("log(z)", "not a finite real number"),
        ("1/z", "not a finite real number at z = 0"),
        ("z/Abs(z)", "it jumps at z = 0"),
        ("tan(z)", "it jumps between"),
        ("z+1.0001*sin(z)", "not monotone"),
        ("exp(-z)", "it falls"),
        ("Max(1,Min(1,z))", "does not contain z"),
    ],
)
def test_other_refusals_say_why(text, why):
    try:
        page = theory.worked(text)
    except UsageError as error:
        assert why in str(error)
        return
    assert not page.exists and page.python is None and why in page.answer


def test_the_command_offered_for_a_falling_activation_works():
    text = re.fullmatch(r'unstuck derive "(.*)"', theory.worked("1/(1+exp(z))").next)[1]
    assert theory.worked(text).exists


def test_a_sympy_expression_is_taken_and_other_symbols_are_named():
    z, c = sp.symbols("z c")
    assert theory.matching_loss(2 * z + sp.Rational(1, 3)).exists
    with pytest.raises(UsageError, match="contains c"):
        theory.matching_loss(c * z)
    with pytest.raises(UsageError, match="list"):
        theory.matching_loss([1])


# --------------------------------------------------------------------------------------------------- safety


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "z.__class__",
        "(lambda: 1)()",
        "[z for z in (1,)]",
        "open('x')",
        "exec('1')",
        "z if z else 1",
        "f'{z}'",
        "'z'",
        "True",
        "z and 1",
        "z < 1",
        "z := 1",
        "exp(z, z)",
        "exp(*z)",
        "Max(z)",
        "exp(x=z)",
        "x",
        "foo(z)",
        "z^2",
        "",
        "z +",
        "1/0",
        "1e9*z",
        "z**1e5",
        "9**9**9",
        "2**(3**(2**9))",
        "(" * 60 + "z" + ")" * 60 + "+" + "-" * 60 + "z",
        "z" * 201,
        "+".join(["z"] * 150),
        "\0",
        "z\nz",
        "1j*z",
        "z//2",
        "z % 2",
        "~z",
        "((((((10**6)**6)**6)**6)**6)**6)*z",
    ],
)
def test_what_is_not_an_expression_in_z_is_refused_at_once_by_name(text):
    started = time.perf_counter()
    with pytest.raises(UsageError) as refusal:
        theory.parse(text)
    assert refusal.value.exit_code == 2 and "\n" not in str(refusal.value).replace(text, "")
    assert time.perf_counter() - started < 1.0


def test_the_grammar_reads_what_it_promises():
    z = sp.Symbol("z", real=True)
    assert theory.parse("abs(z) + ln(z**2+1)/0.25 - pi*E") == sp.Abs(z) + 4 * sp.log(z**2 + 1) - sp.pi * sp.E
    assert theory.parse("sigmoid(-z)") == 1 / (1 + sp.exp(z))


@pytest.mark.slow
def test_what_was_derived_before_the_limit_is_shown():
    page = theory.matching_loss("tanh(z)**3", seconds=4.0)  # its inverse keeps SymPy busy for minutes
    assert page.exists and "limit of 4 s" in page.answer and "inverting the activation" in page.answer
    assert "Inverse" in {s.title for s in page.steps}
    z = np.linspace(-4, 4, 41)
    assert np.abs(slope(executed(page), z, 0.2) - (np.tanh(z) ** 3 - 0.2)).max() < 1e-12


@pytest.mark.slow
def test_without_a_closed_form_the_function_adds_up_the_integral():
    page = theory.worked("softplus(z)")
    assert page.exists and "EDGES" in page.python
    for z in (-30.0, -1.3, 0.4, 7.7):
        area = integrate.quad(lambda t: float(np.logaddexp(t, 0.0)), 0.0, z, epsabs=1e-12, limit=200)[0]
        assert at(executed(page), z, 0.5) == pytest.approx(area - 0.5 * z, rel=1e-10)
    assert math.isfinite(at(executed(page), -1e4, 0.5)) and math.isfinite(at(executed(page), 1e4, 0.5))


@pytest.mark.slow
def test_a_value_that_cannot_be_computed_is_an_error_with_words():
    with pytest.raises(UsageError, match="cannot be evaluated"):
        theory.matching_loss("exp(exp(exp(z)))", seconds=1.0)


# --------------------------------------------------------------------------------------------------- topics, rendering


def test_entropy_splits_cross_entropy_and_likelihood_is_its_sum(pages):
    random = np.random.default_rng(0)
    z = torch.tensor(random.normal(size=(30, 6)))
    y = torch.tensor(random.dirichlet(np.ones(6), 30))
    entropy, divergence = executed(pages["entropy"], "parts")(z, y)
    assert torch.allclose(entropy + divergence, F.cross_entropy(z, y, reduction="none"))
    assert torch.allclose(divergence, F.kl_div(z.log_softmax(1), y, reduction="none").sum(1)) and float(divergence.min()) > 0
    labels = torch.tensor(random.integers(0, 6, 30))
    total = executed(pages["likelihood"], "log_likelihood")(z, labels)
    assert float(-total / 30) == pytest.approx(float(F.cross_entropy(z, labels)))
    product = float(torch.prod(z.softmax(1)[torch.arange(30), labels]))
    assert float(total) == pytest.approx(math.log(product))
    assert all(check.how in ("exact", "numeric") for name in theory.TOPICS for check in pages[name].checks)


def test_pages_fit_eighty_columns_and_latex_is_plain_and_balanced(pages):
    for page in [*pages.values(), theory.worked("exp(-z)"), theory.worked("relu(z)")]:
        assert max(len(line) for line in page.as_text().splitlines()) <= 80, page.topic
        latex = page.as_latex()
        assert latex.isascii(), {c for c in latex if not c.isascii()}
        assert latex.count("{") - latex.count("\\{") == latex.count("}") - latex.count("\\}")
        assert latex.count("\\begin{") == latex.count("\\end{")


def test_a_page_survives_json(pages):
    for page in pages.values():
        assert theory.Derivation.from_dict(json.loads(json.dumps(page.as_dict(), allow_nan=False))) == page
