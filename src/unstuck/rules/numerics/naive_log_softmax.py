"""A softmax and its logarithm are written out by hand: exp overflows, or the logarithm meets a 0.

## What it means
log(softmax(x)) and x - log(sum(exp(x))) are right on paper. In float32 exp(x) is infinite above x = 88.7, and a
probability that lies more than 104 nats below the largest one is exactly 0, whose logarithm is -inf.

## What is seen
A logarithm of a softmax, or of a sum of exponentials from which no maximum was subtracted. As a fault: numbers above the
limit of their format were exponentiated, or a logarithm was taken of 0, or this line gave the first number that was not
finite. Without any of that it is only noted.

## Why training gets stuck
An infinite loss has no gradient, its NaN reaches every weight after one step. A constant inside the logarithm, or a
clamp, hides that: the loss stays finite and the gradient of just those samples that are most wrong is 0.

## Fix
`F.cross_entropy(logits, y)`, `F.log_softmax(logits, dim=1)` or `torch.logsumexp`, which subtract the maximum first.

## Not to be confused with
log_softmax and logsumexp themselves: silent. A formula that subtracts the maximum: silent. Logits that are huge because
the learning rate is (S501): that explains this finding.

## References
P. Blanchard, D. Higham, N. Higham, Accurately computing the log-sum-exp and softmax functions, IMA J. Numer. Anal. 2021.
"""

from __future__ import annotations

import math

from unstuck import symptom
from unstuck.findings import Bearing, Evidence, Finding, Fix, Grade
from unstuck.rules import levels
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Formula, Site
from unstuck.trace.trace import Trace

CODE = "N702"
NEEDS = ("formulas",)
EXPLAINS = ("N701", "U408")

# Constants inside a logarithm are 1e-6 to 1e-12 in practice, far below any probability that a guess gives (1e-6: one class
# in a million).
GUARD = 1e-6
DIGITS = 16.0  # ln of 1e7: within the seven digits of float32 of the largest number, while logits still grow

# exp overflows above ln of the largest number of the format: float32 and bfloat16 have 8 bits of exponent.
_LARGEST = {"float64": 1.7976931348623157e308, "float32": 3.4028235e38, "bfloat16": 3.3895314e38, "float16": 65504.0}
# and underflows to 0 below ln of half the smallest subnormal number
_SMALLEST = {"float64": 5e-324, "float32": 1.4e-45, "bfloat16": 9.2e-41, "float16": 6e-8}
_WORDS = {"log-of-softmax": "log(softmax(x))", "log-sum-exp": "log(sum(exp(x)))"}


def check(trace: Trace) -> Finding | None:
    naive = [f for f in trace.facts.formulas if f.kind in _WORDS and not f.shifted]
    found = [_finding(trace, one) for one in naive]
    order: tuple[Bearing, ...] = ("blocks", "hinders", "choice", "harmless")
    return min(found, key=lambda f: order.index(f.bearing)) if found else None


def limit(dtype: str) -> float:
    """The largest x whose exp is finite."""
    return math.log(_LARGEST.get(dtype, _LARGEST["float32"]))


def depth(dtype: str) -> float:
    """A probability this many nats below the largest one is exactly 0."""
    return -math.log(_SMALLEST.get(dtype, _SMALLEST["float32"])) + (math.log(2) if dtype != "float64" else 0.0)


def _finding(trace: Trace, one: Formula) -> Finding:
    written = _WORDS[one.kind]
    dtype = one.dtype or "float32"
    evidence = [Evidence(f"The loss contains {written}, written out{_line(one.site)}.")]
    seen = _overflows(trace, one, dtype)
    evidence += seen
    lost = levels.broke(trace)
    bearing: Bearing = "harmless"
    if seen:
        bearing = "blocks" if lost and symptom.of(trace).name == "non-finite" else "hinders"
    else:
        evidence.append(
            Evidence(
                f"No overflow was seen: in {dtype} it begins at logits of {limit(dtype):.1f}, or {depth(dtype):.0f} apart.",
                value=levels.known(one.largest), unit="nats", source="values",
            )
        )  # fmt: skip
    # What is hidden by a constant in the logarithm costs the samples concerned; how many is not known.
    grade: Grade = "likely" if seen and one.guarded and not lost else "certain"
    return Finding(
        CODE, "naive-log-softmax", grade,
        f"{written} is written out by hand and overflows." if seen
        else f"{written} is written out by hand; large logits would overflow.",
        bearing=bearing, evidence=evidence, locations=sites(one.site),
        fix=Fix("Use F.cross_entropy on the raw logits, F.log_softmax or torch.logsumexp."),
    )  # fmt: skip


def _line(site: Site | None) -> str:
    return f" in line {site.line} of {site.file}" if site is not None else ""


def _overflows(trace: Trace, one: Formula, dtype: str) -> list[Evidence]:
    found = []
    largest, smallest = one.largest, one.smallest
    # torch's softmax subtracts the maximum itself: there only the zero under the logarithm counts. An exp that was
    # infinite shows in what came out of it, so a large argument counts together with a loss that is none.
    if largest is not None and largest > limit(dtype) and (one.kind == "log-sum-exp" or levels.broke(trace)):
        found.append(
            Evidence(
                f"A number of {largest:.4g} was exponentiated; in {dtype} exp is infinite above {limit(dtype):.1f}.",
                value=largest, unit="nats", source="values",
            )
        )  # fmt: skip
    first = trace.facts.nonfinite
    if largest is not None and limit(dtype) - DIGITS < largest <= limit(dtype) and first is not None and first.what == "loss":
        found.append(
            Evidence(
                f"The loss broke while inputs, weights and output were finite, and numbers up to {largest:.4g} had been "
                f"exponentiated at the last look; in {dtype} exp is infinite above {limit(dtype):.1f}.",
                value=largest, unit="nats", source="values",
            )
        )  # fmt: skip
    low = -limit(dtype) + 1.0  # below it exp has no full digits left, a little further down it is 0
    if largest is not None and largest < low and levels.broke(trace):
        found.append(
            Evidence(
                f"The largest number that was exponentiated was {largest:.4g}: in {dtype} all exponentials are 0 there, and so "
                "is their sum.", value=largest, unit="nats", source="values",
            )
        )  # fmt: skip
    if smallest is not None and smallest <= 0:
        found.append(Evidence(f"The logarithm was taken of {smallest:.3g}.", value=smallest, unit="1", source="values"))
    elif smallest is not None and one.guarded and smallest <= GUARD and symptom.of(trace).stuck:
        found.append(
            Evidence(
                f"The logarithm was taken of {smallest:.3g}, where the constant or clamp inside of it begins to rule: a sample "
                f"there costs {-math.log(smallest):.3g} nats and has (nearly) no gradient.",
                value=smallest, unit="1", source="values",
            )
        )  # fmt: skip
    first = trace.facts.nonfinite
    if (
        first is not None and first.what in {"loss", "output", "gradient"} and first.site is not None and one.site is not None
        and (first.site.file, first.site.line) == (one.site.file, one.site.line)
    ):  # fmt: skip
        found.append(Evidence(f"The first number that was not finite came from this line, after step {first.step}.",
                              source="values"))  # fmt: skip
    return found


def in_order(trace: Trace) -> str:
    safe = [f for f in trace.facts.formulas if f.kind in _WORDS]
    return f"{len(safe)} log-softmax written out by hand, with its maximum subtracted first" if safe else ""


def sick() -> Trace:
    return _example(Formula("log-sum-exp", _SITE, largest=131.0, smallest=math.inf, dtype="float32"), "non-finite")


def healthy() -> Trace:
    return _example(Formula("log-sum-exp", _SITE, largest=0.0, smallest=1.0, dtype="float32", shifted=True), "learning")


_SITE = synthetic.site(31, "return (torch.log(torch.exp(z).sum(1)) - z[rows, y]).mean()", synthetic.TRAIN, "loss_of")


def _example(formula: Formula, state: str) -> Trace:
    return synthetic.training(state=state, formulas=[formula])
