"""What backward returns is not the derivative of the loss.

## What it means
The optimizer is given a vector that does not point down. Someone wrote a backward by hand (torch.autograd.Function) with
a sign, a factor or a term that is wrong, or a `.detach()` or `no_grad` stands inside a formula whose value goes on.

## What is seen
Along a direction d in the space of the weights the slope <g, d> from backward differs from the difference quotient
(L(theta + e d) - L(theta - e d)) / 2e of the same batch, by more than ten times the uncertainty of that quotient and
more than 5 % of the larger of the two.

## Why training gets stuck
Descent needs only a direction with a positive share of the true gradient. With a wrong sign the loss rises; with a
missing term it stops where the two parts balance, which is no minimum of the loss.

## Fix
`torch.autograd.gradcheck` on the function in float64. Without a backward of one's own: leave out the detach, or write
the formula so that all of it is differentiated.

## Not to be confused with
Straight-through estimators and gradient reversal, which disagree on purpose: reported as latent where the training
learns. A detach in a loss without a known chance level (a target network, a teacher): silent. Dropout draws new numbers
in each pass: the quotient uses the same ones. The loss with its sign flipped (W112).

## References
torch.autograd.gradcheck. A. Griewank, A. Walther, Evaluating derivatives, 2008. Y. Bengio, N. Léonard, A. Courville,
2013 (straight-through).
"""

from __future__ import annotations

import math

from unstuck import symptom
from unstuck.findings import Evidence, Finding, Fix
from unstuck.rules import levels
from unstuck.rules.gradient.loss_detached import uncut
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Break, GradientCheck
from unstuck.trace.trace import Trace

CODE = "G306"
NEEDS = ("gradient_checks",)
EXPLAINS = ("S501", "S502", "S505", "G303", "G304", "N701", "W112", "I605", "D207")

ERRORS = 10.0  # two quotients with steps e and 2e differ by 3 times the curvature's part of the error: 10 leaves a margin
SHARE = 0.05  # a direction that is wrong by less still has a cosine of about 1 with the gradient
_WORDS = {"detach": "detach()", "no_grad": "no_grad", "data": ".data", "item": "item()", "numpy": "numpy",
          "round": "rounding", "argmax": "argmax", "comparison": "a comparison", "new-tensor": "a new tensor",
          "integer": "a cast to integers"}  # fmt: skip


def check(trace: Trace) -> Finding | None:
    facts = trace.facts
    wrong = [c for c in facts.gradient_checks if _disagrees(c)]
    if not wrong:
        return None
    # A cut is meant in much that is no classification (a target network, an advantage, a stopped teacher): it counts only
    # where the loss that is judged has a level to fall from.
    known = symptom.of(trace).judged and levels.chance(trace) is not None
    breaks = [b for b in facts.breaks if b.on_path] if known else []
    # The derivatives of torch's own operations are right: without a function of the user's own, and without a place where
    # the path was cut, a difference is a matter of numbers (exploded weights, a kink).
    if not facts.custom and not breaks:
        return None
    worst = max(wrong, key=lambda c: abs(c.slope - c.difference) / max(abs(c.slope), abs(c.difference)))
    named = ", ".join(worst.parameters[:3]) + (", ..." if len(worst.parameters) > 3 else "")
    along = f" along a direction in {named}" if named else ""
    evidence = [
        Evidence(
            f"Backward gives a slope of {worst.slope:.4g} nats{along}; the loss itself changes by {worst.difference:.4g} "
            f"(uncertainty {worst.error:.1g}).",
            value=worst.slope - worst.difference, unit="nats", source="probe",
        )
    ]  # fmt: skip
    if len(facts.gradient_checks) > 1:
        evidence.append(
            Evidence(
                f"{len(wrong)} of {len(facts.gradient_checks)} such comparisons disagree.",
                value=float(len(wrong)), unit="checks", source="probe",
            )
        )  # fmt: skip
    evidence += [_custom(b) for b in facts.custom[:3]]
    evidence += [_break(b) for b in breaks[:3]]
    return Finding(
        CODE, "gradient-disagrees-with-loss", "certain", "What backward returns is not the derivative of the loss.",
        bearing="hinders", evidence=evidence,
        locations=sites(*(b.site for b in facts.custom), *(b.site for b in breaks))[:4],
        fix=Fix("Correct the backward of the function named; torch.autograd.gradcheck in float64 tells when it is right.")
        if facts.custom
        else uncut("Leave out the detach or no_grad inside the formula, so that all of it is differentiated.", breaks[0]),
    )  # fmt: skip


def _disagrees(one: GradientCheck) -> bool:
    if not all(math.isfinite(v) for v in (one.slope, one.difference, one.error)):
        return False
    return abs(one.slope - one.difference) > max(ERRORS * one.error, SHARE * max(abs(one.slope), abs(one.difference)))


def _custom(one: Break) -> Evidence:
    place = f", called in line {one.site.line} of {one.site.file}" if one.site is not None else ""
    return Evidence(f"The backward of {one.function or 'an autograd Function'} is written by hand{place}.")


def _break(one: Break) -> Evidence:
    place = f" in line {one.site.line} of {one.site.file}" if one.site is not None else ""
    return Evidence(f"A value on the way to the loss passes {_WORDS.get(one.reason, one.reason)}{place}.")


def in_order(trace: Trace) -> str:
    checks = [c for c in trace.facts.gradient_checks if math.isfinite(c.slope) and math.isfinite(c.difference)]
    if not checks:
        return ""
    one = checks[0]
    return f"backward's slope {one.slope:.3g} against {one.difference:.3g} +- {one.error:.1g} by differences of the loss"


def sick() -> Trace:
    trace = _example(difference=0.31)
    trace.facts.custom = [
        Break("custom", synthetic.site(25, "return Swish.apply(self.fc1(x))"), "Swish", on_path=True),
    ]
    return trace


def healthy() -> Trace:
    return _example(difference=-0.4197, state="learning")


def _example(difference: float, state: str = "at-chance") -> Trace:
    return synthetic.training(
        state=state, gradient_checks=[GradientCheck(["fc1.weight"], -0.42, difference, 1e-3, "float32")]
    )
