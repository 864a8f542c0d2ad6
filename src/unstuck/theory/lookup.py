"""A loss value, as it was printed, to the closed forms that equal it.

A loss that stands still often stands on a number that can be written down: ln 10, ln(e+9)-1, 15.942 (1-accuracy). This
module compares a printed number with those forms. Its hard part is not to find a form but to *refuse*: among enough
forms with enough free parameters, every number is close to something. So each match carries `accidental`, the number of
forms that would be expected to come this close to a number that means nothing, counting everything that was tried, and
matches for which that is too large are not returned. An empty list means "nothing fits" and is the usual answer for a
healthy training.

How `accidental` is counted. A meaningless loss is taken as uniform on (0, L), L = max(3, 2 |value|): losses of this
size. A form within w of the number, one of n that were looked at, then comes this close by accident n * 2w / L times,
where w is the distance, but at least the rounding of the number as printed. Forms are looked at in the order of how
usual they are (`tier`), so n for ln K does not include the exotic forms that come later: this is Bonferroni's
correction with the tests ordered beforehand. It is an expectation, not a probability that the explanation is right.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Literal

from unstuck.theory import chance, floors

__all__ = ["ACCIDENTAL_LIMIT", "COMMON_CLASSES", "VOCABULARIES", "Match", "explain_value", "nearest", "written"]

Agreement = Literal["exact", "last-digit", "near"]

# More accidental matches than this expected: not an explanation. At four decimals nearly every form stays below; at two
# only ln K and its closest kin do, which is the intention.
ACCIDENTAL_LIMIT = 0.025
# "near" means a relative distance of at most 0.1 %: a loss that wobbles around its level.
NEAR = 1e-3
# A float32 mean over a batch is good to about this relative error, however many digits were printed.
FLOAT32_ERROR = 1e-6

# Class counts that are tried when the number of classes is not known, from the usual to the rare.
CANONICAL_CLASSES = (2, 3, 4, 5, 10, 100, 1000)
COMMON_CLASSES = (
    *range(2, 21), 26, 27, 32, 36, 37, 43, 47, 50, 52, 62, 64, 90, 100, 101, 102, 120, 128, 151, 196, 200, 256, 365,
    397, 400, 512, 1000, 1024, 2048, 4096, 8192, 10000, 21841, 21843,
)
VOCABULARIES = (
    21128, 28996, 30522, 32000, 32100, 32128, 49152, 49408, 50257, 50265, 50280, 50304, 50432, 51200, 65536, 100277,
    128256, 151936, 152064, 250002, 256000, 262144,
)
# Structural forms are searched over fewer K than ln K is: their free parameter is what makes accidents.
FORM_CLASSES = (*range(2, 21), 26, 100, 1000)


@dataclass(frozen=True)
class Match:
    """One closed form that a printed loss agrees with.

    `value`: the form, evaluated, in nats. `digits`: leading significant digits in which it agrees with the printed
    number. `agreement`: 'exact' (equal when rounded like the number), 'last-digit' (off by one in the last digit),
    'near' (within 0.1 %, at the level within noise). `parameters`: what was put into the form. `code`: catalogue
    entry, None for a level that is a symptom and no fault. `accidental`: forms expected to fit this well by accident;
    smaller is stronger.
    """

    name: str
    formula: str
    value: float
    digits: int
    agreement: Agreement
    parameters: dict[str, float]
    meaning: str
    code: str | None
    accidental: float


@dataclass(frozen=True)
class _Form:
    tier: int  # 0 everybody knows it, 1 common, 2 rare: how early in the ordered search it is looked at
    name: str
    formula: str
    value: float
    meaning: str
    code: str | None = None
    parameters: dict[str, float] = field(default_factory=dict)
    blur: float = 0.0  # half-width of the values it may take, because an accuracy that enters it is rounded
    near: Literal["no", "both", "above"] = "no"  # a floor is approached from above only
    slack: bool = True  # may differ by one in the last digit


# ------------------------------------------------------------------------------------------------ reading numbers


def written(value: str | float | int, name: str = "value") -> tuple[float, float]:
    """(number, unit of its last written digit): "1.4612" gives (1.4612, 0.0001), "2.30" knows its trailing zero.

    A float is taken with its shortest representation. Raises ValueError, naming the input, for text that is no finite
    number, with a hint for the two that are printed often: nan and a percentage.
    """
    text = str(value).strip()
    try:
        decimal = Decimal(text)
    except InvalidOperation:
        hint = ": give a fraction, 0.93 instead of 93%" if text.endswith("%") else ""
        raise ValueError(f"{name} must be a number such as 1.4612, got {text!r}{hint}") from None
    if not decimal.is_finite():
        raise ValueError(
            f"{name} is {text}: no closed form equals it. A mean over no targets (all ignored, D206) is NaN, everything"
            " else is an overflow (N701)"
        )
    exponent = decimal.as_tuple().exponent
    assert isinstance(exponent, int)  # finite
    return float(decimal), 10.0 ** max(exponent, -300)


def _agreeing_digits(form: float, number: float, unit: float) -> int:
    """The largest s for which form and number are the same when both are rounded to s significant digits."""
    if number == 0.0:
        return 0
    most = max(1, math.floor(math.log10(abs(number) / unit) + 1e-9) + 1)
    for digits in range(min(most, 15), 0, -1):
        if f"{form:.{digits - 1}e}" == f"{number:.{digits - 1}e}":
            return digits
    return 0


# ------------------------------------------------------------------------------------------------------- the forms

_UNIFORM = (
    "The model does no better than giving every class the same probability. Either nothing was learned yet, or the"
    " outputs do not depend on the input (dead ReLUs give exactly this number), or learning is blocked. The number"
    " cannot say which."
)
_UNIFORM_OF_TWO = (
    " A binary cross-entropy gives it at logit zero for any labels; for the discriminator of a GAN it is no fault but"
    " the balance that is aimed for."
)
_SOFTMAX_TWICE = (
    "The lowest loss that can be reached when the model ends in softmax and the loss applies softmax once more:"
    " training looks stuck although predictions may be good. (A sigmoid before the loss has the same floor.)"
)
_SATURATED_COST = {
    "keras-clip": "Keras: probabilities clipped at 1e-7 in float32",
    "keras-clip-plus-epsilon": "Keras: clipped at 1e-7 with 1e-7 added in the logarithm",
    "epsilon-1e-7": "logarithm limited at 1e-7",
    "epsilon-1e-8": "logarithm limited at 1e-8",
    "epsilon-1e-12": "logarithm limited at 1e-12",
    "epsilon-1e-15": "logarithm limited at 1e-15",
    "torch-bce-clamp": "torch BCELoss: logarithm limited at -100",
}


def _uniform(classes: int, tier: int, near: Literal["no", "both"], slack: bool = True) -> _Form:
    meaning = _UNIFORM + (_UNIFORM_OF_TWO if classes == 2 else "")
    return _Form(
        tier, "uniform guess", f"ln {classes}", math.log(classes), meaning, None, {"K": classes}, 0.0, near, slack
    )


def _softmax_twice(classes: int, tier: int, known: bool) -> _Form:
    return _Form(
        tier, "softmax twice, floor", f"ln(e+{classes - 1}) - 1", floors.softmax_twice(classes), _SOFTMAX_TWICE, "W101",
        {"K": classes}, 0.0, "above" if known else "no", known,
    )


def _softmax_twice_saturated(classes: int, accuracy: float, blur: float, tier: int, known: bool) -> _Form:
    return _Form(
        tier, "softmax twice, saturated", f"ln(e+{classes - 1}) - accuracy",
        floors.softmax_twice_saturated(classes, accuracy),
        "Softmax is applied twice, and the inner one is fully certain on every sample: the loss then differs from a"
        " constant only by the accuracy, and its gradient is gone.",
        "W101", {"K": classes, "accuracy": accuracy}, blur, "both" if known else "no", known,
    )


def _without_classes() -> Iterator[_Form]:
    """K unknown: the well-known levels, and the structural forms over a short list of K, without any slack."""
    for classes in CANONICAL_CLASSES:
        yield _uniform(classes, 0, "no")
    for classes in (*COMMON_CLASSES, *VOCABULARIES):
        if classes not in CANONICAL_CLASSES:
            yield _uniform(classes, 1, "no", slack=False)
    for classes in FORM_CLASSES:
        yield _softmax_twice(classes, 2, known=False)
    for classes in (10, 100):
        yield _Form(
            2, "base rate of one in " + str(classes), f"H_b(1/{classes})", chance.binary_entropy(1.0 / classes),
            f"Always answering the base rate where one label in {classes} is positive: an imbalance of {classes - 1} to"
            f" 1, or a binary loss over {classes} one-hot outputs. The inputs are not used.",
            None, {"K": classes}, slack=False,
        )
    yield _gan()


def _one_hot_bce_prior(classes: int) -> _Form:
    return _Form(
        1, "binary loss on one-hot labels, base rate", f"H_b(1/{classes})", chance.binary_entropy(1.0 / classes),
        f"A binary cross-entropy over {classes} one-hot outputs, each of which answers the base rate 1/{classes}: the"
        " inputs are not used. The loss looks small because most of the entries are easy zeros.",
        None, {"K": classes},
    )


def _gan() -> _Form:
    return _Form(
        2, "GAN discriminator, both halves added", "2 ln 2", chance.gan_discriminator(halves="sum"),
        "A discriminator that answers one half everywhere, losses on real and fake added. It is where a GAN starts"
        " and its equilibrium too, so by itself no fault.", slack=False,
    )


def _with_classes(
    classes: int, prior: tuple[float, ...] | None, accuracy: float | None, blur: float
) -> Iterator[_Form]:
    level = math.log(classes)
    k = {"K": classes}
    yield _uniform(classes, 0, "both")
    yield _softmax_twice(classes, 1, known=True)
    yield _Form(
        1, "averaged over classes too", f"ln {classes} / {classes}", level / classes,
        "The uniform guess, divided by the number of classes: the loss is averaged over the class axis as well, which"
        f" makes every step {classes} times shorter.", "E803", k,
    )
    if classes > 2:
        yield _Form(
            1, "binary loss on one-hot labels, zero logits", "ln 2", math.log(2.0),
            f"Binary cross-entropy over {classes} outputs at logit zero: every output still answers one half.", None, k,
        )
        yield _one_hot_bce_prior(classes)
    else:
        for name, formula, function in (
            ("sigmoid twice, floor", "pi 0.3133 + (1-pi) 0.6931", floors.sigmoid_twice),
            ("sigmoid twice, zero logit", "pi 0.4741 + (1-pi) 0.9741", floors.sigmoid_twice_at_zero),
        ):
            pi = 0.5 if prior is None else prior[1]
            yield _Form(
                2, name, formula, function(pi),
                "The model ends in a sigmoid and the loss applies sigmoid once more. A negative then costs at least"
                " ln 2.", "W102", {"pi": pi},
            )
    yield _Form(
        2, "tanh before the loss, floor", f"ln(1+{classes - 1} e^-2)", floors.bounded_logits(classes, 2.0),
        "The lowest cross-entropy when all logits are confined to -1..1, as by tanh.", "W103", k,
    )
    yield _Form(
        2, "squared error at the uniform guess", f"(1-1/{classes})/{classes}", (1.0 - 1.0 / classes) / classes,
        "Mean squared error between one-hot labels and the same probability for every class.", "W109", k,
    )
    if classes > 2:
        yield _Form(
            2, "squared error of one half", "1/4", 0.25,
            "Mean squared error between 0/1 labels and outputs that all say one half.", "W109",
        )
    yield _Form(
        2, "NLL on probabilities, start", f"-1/{classes}", -1.0 / classes,
        "NLLLoss was given probabilities instead of log-probabilities: the loss is minus the probability of the label.",
        "W107", k,
    )
    yield _Form(
        2, "NLL on probabilities, floor", "-1", floors.nll_on_probabilities(),
        "NLLLoss was given probabilities: minus one is all of the probability on the label, the end of this loss.",
        "W107",
    )
    yield _Form(
        2, "label smoothing 0.1, floor", "entropy of the smoothed label", floors.label_smoothing(classes, 0.1),
        "With label_smoothing=0.1 no lower loss exists: this is a finished training, not a stuck one.", None,
        {"K": classes, "eps": 0.1},
    )
    yield _Form(
        2, "focal loss at the uniform guess", f"(1-1/{classes})^2 ln {classes}", chance.focal(classes, 2.0),
        "Focal loss with gamma = 2 when every class gets the same probability: at chance.", None,
        {"K": classes, "gamma": 2.0},
    )
    yield _Form(
        2, "mean absolute error at the uniform guess", f"1-1/{classes}", chance.comp_sum(classes, 2.0),
        "One minus the probability of the label, when every class gets the same probability: at chance.", None,
        {"K": classes, "tau": 2.0},
    )
    yield _Form(
        2, "generalised cross-entropy at the uniform guess", f"(1-{classes}^-0.7)/0.7", chance.comp_sum(classes, 1.7),
        "Generalised cross-entropy with q = 0.7 when every class gets the same probability: at chance.", None,
        {"K": classes, "tau": 1.7},
    )
    for heads in sorted({classes + 1, 1000} - {classes}):
        yield _Form(
            2, "uniform guess over another number of classes", f"ln {heads}", math.log(heads),
            f"At chance among {heads} classes, not {classes}: the head has more outputs than there are labels.", "W108",
            {"K": classes, "outputs": heads},
        )
    if accuracy is not None:
        yield _softmax_twice_saturated(classes, accuracy, blur, 1, known=True)
    else:
        share = 1.0 / classes if prior is None else max(prior)
        for cost in ("keras-clip", "keras-clip-plus-epsilon", "epsilon-1e-7", "torch-bce-clamp"):
            yield _saturated(share, 0.0, cost, 2, "no", f"1/{classes}" if prior is None else f"{share:.4g}")


def _saturated(share: float, blur: float, cost: str, tier: int, near: Literal["no", "both"], shown: str) -> _Form:
    c = floors.SATURATION_COST[cost]
    return _Form(
        tier, "certain answers, error rate times the cap", f"{c:.4f} (1 - {shown})", floors.saturated(share, cost),
        f"Every wrong answer costs the same largest amount ({_SATURATED_COST[cost]}), every right one nothing: the"
        f" outputs are stuck at 0 or 1, as with a softmax over a single unit, or one class answered with certainty.",
        "W104", {"c": c, "accuracy": share}, c * blur, near,
    )


def _with_prior(prior: tuple[float, ...]) -> Iterator[_Form]:
    shown = ", ".join(f"{p:.4g}" for p in prior[:4]) + (", ..." if len(prior) > 4 else "")
    if max(prior) - min(prior) > 1e-9:  # for equal shares this is ln K again
        yield _Form(
            0, "always the base rates", f"H({shown})", chance.entropy(prior),
            "The model answers the class frequencies and does not use its input. With few classes also the floor of a"
            " loss whose [N,1] outputs were compared with [N] labels (W110).", None, {"K": len(prior)}, 0.0, "both",
        )
    if len(prior) == 2:
        yield _Form(
            2, "squared error of the base rate", f"pi (1-pi), pi = {prior[1]:.4g}", prior[1] * (1.0 - prior[1]),
            "Mean squared error of always answering the share of positives: the variance of the labels. [N,1] outputs"
            " compared with [N] labels end here (W110).", None, {"pi": prior[1]},
        )


def _with_batch(batch: int, classes: int | None) -> Iterator[_Form]:
    yield _Form(
        1, "uniform over the batch", f"ln {batch}", math.log(batch),
        "The softmax runs over the batch axis instead of the classes. (A contrastive loss that compares all pairs of"
        " a batch starts here as well, and is healthy.)", "W105", {"B": batch}, 0.0, "both",
    )
    yield _Form(
        2, "contrastive loss, two views, start", f"ln(2*{batch}-1)", chance.info_nce(batch, kind="simclr"),
        "SimCLR's loss when all similarities are equal: nothing was learned yet.", None, {"B": batch},
    )
    for k in (classes,) if classes is not None else (10,):
        yield _Form(
            1, "summed over the batch", f"{batch} ln {k}", batch * math.log(k),
            "The uniform guess, added up over the batch instead of averaged: every step is that much longer.", "E803",
            {"B": batch, "K": k}, 0.0, "both" if classes is not None else "no",
        )
    if classes is not None and batch <= 1_000_000:
        yield _Form(
            2, "softmax over the batch, floor", "E[ln n_y]", floors.batch_softmax(batch, classes=classes),
            "The softmax runs over the batch axis; samples of one class have to share its column, which keeps the"
            " loss up.", "W105", {"B": batch, "K": classes}, 0.0, "both",
        )


@lru_cache(maxsize=64)
def _forms(
    classes: int | None, batch: int | None, prior: tuple[float, ...] | None, accuracy: float | None, blur: float,
    sequence: int | None,
) -> tuple[_Form, ...]:
    found: list[_Form] = list(_without_classes() if classes is None else _with_classes(classes, prior, accuracy, blur))
    if prior is not None:
        found += _with_prior(prior)
    if accuracy is not None and accuracy < 1.0:
        shown = f"{accuracy:.6g}"
        found += [_saturated(accuracy, blur, cost, 1, "both", shown) for cost in floors.SATURATION_COST]
        if classes is None:
            found += [_softmax_twice_saturated(k, accuracy, blur, 2, known=False) for k in FORM_CLASSES]
    if batch is not None:
        found += _with_batch(batch, classes)
    if sequence is not None:
        found.append(
            _Form(
                1, "uniform over the sequence", f"ln {sequence}", math.log(sequence),
                "The softmax runs over the time axis: [batch, time, classes] was passed where [batch, classes, time] is"
                " expected.", "W113", {"T": sequence}, 0.0, "both",
            )
        )
    unique: list[_Form] = []
    for form in found:
        if not any(abs(form.value - other.value) < 1e-12 and form.name == other.name for other in unique):
            unique.append(form)
    return tuple(unique)


# ------------------------------------------------------------------------------------------------------ the search


def _count(name: str, value: int | None, least: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or int(value) != value or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)


def _question(
    classes: int | None, vocab: int | None, batch: int | None, prior: float | Iterable[float] | None,
    accuracy: str | float | None, sequence: int | None,
) -> tuple[_Form, ...]:
    """The forms for checked arguments."""
    classes, vocab = _count("classes", classes, 2), _count("vocab", vocab, 2)
    if classes is not None and vocab is not None and classes != vocab:
        raise ValueError(f"classes={classes} and vocab={vocab} are the same thing here: give one of them")
    classes = classes if classes is not None else vocab
    shares: tuple[float, ...] | None = None
    if prior is not None:
        numbers = [float(p) for p in prior] if isinstance(prior, Iterable) else [1.0 - float(prior), float(prior)]
        numbers = [1.0 - numbers[0], numbers[0]] if len(numbers) == 1 else numbers
        total = sum(numbers)
        if not all(0.0 <= p <= 1.0 for p in numbers) or abs(total - 1.0) > 0.02:  # 0.33,0.33,0.33 is meant as thirds
            raise ValueError(f"prior must hold one share per class that sum to 1, got {numbers} (sum {total:.4g})")
        if classes is not None and classes != len(numbers):
            raise ValueError(f"prior has {len(numbers)} shares but classes={classes}: give one share per class")
        shares, classes = tuple(p / total for p in numbers), len(numbers)
    exact: float | None = None
    blur = 0.0
    if accuracy is not None:
        exact, unit = written(accuracy, "accuracy")
        if not 0.0 <= exact <= 1.0:
            raise ValueError(f"accuracy must lie in [0, 1], got {accuracy}: give a fraction, 0.93 instead of 93")
        # 0.5 and 0.25 are exact shares far more often than rounded to so few digits; a blur of 0.05 would fit anything.
        blur = 0.5 * (unit if unit < 0.005 else 1e-4)
    return _forms(classes, _count("batch", batch, 2), shares, exact, blur, _count("sequence", sequence, 2))


def _judge(form: _Form, forms: Sequence[_Form], number: float, unit: float) -> Match | None:
    """The match, however accidental, or None where the form is too far away."""
    distance = abs(form.value - number)
    rounding = max(0.5 * unit, FLOAT32_ERROR * max(1.0, abs(number)))
    agreement: Agreement
    if distance <= (rounding + form.blur) * (1.0 + 1e-9):
        agreement, width = "exact", rounding + form.blur
    elif form.slack and distance <= (max(1.5 * unit, rounding) + form.blur) * (1.0 + 1e-9):
        agreement, width = "last-digit", distance
    elif form.near != "no" and distance <= NEAR * abs(form.value) and (form.near == "both" or number > form.value):
        agreement, width = "near", distance
    else:
        return None
    return _match(form, forms, number, unit, agreement, width)


def _match(
    form: _Form, forms: Sequence[_Form], number: float, unit: float, agreement: Agreement, width: float
) -> Match:
    span = max(3.0, 2.0 * abs(number))
    tried = sum(1 for f in forms if f.tier <= form.tier and abs(f.value) <= span and (f.value < 0.0) == (number < 0.0))
    return Match(
        form.name, form.formula, form.value, _agreeing_digits(form.value, number, unit), agreement,
        dict(form.parameters), form.meaning, form.code, max(tried, 1) * 2.0 * width / span,
    )


_ORDER: dict[str, int] = {"exact": 0, "last-digit": 1, "near": 2}


def explain_value(
    value: str | float | int,
    *,
    classes: int | None = None,
    batch: int | None = None,
    prior: float | Iterable[float] | None = None,
    accuracy: str | float | None = None,
    sequence: int | None = None,
    vocab: int | None = None,
) -> list[Match]:
    """The closed forms that a printed loss equals, best first; an empty list where nothing fits.

    - `value`: the loss as it was printed. Pass text to keep its digits ("2.30"); a float counts its shortest digits.
    - `classes` (or `vocab`, the same): number of classes K. Without it ln K is tried for usual K and few other forms
      for few K, beyond the best known without any slack, and the size of that search is counted in `accidental`.
    - `batch`: samples per step, `sequence`: length of the time axis, for sums and softmaxes over the wrong axis.
    - `prior`: class shares (they fix K), or for two classes the share of positives as one number.
    - `accuracy`: as printed, in [0, 1], for outputs that are certain; its own rounding widens those forms.

    Exact matches come before those off by one in the last digit, and these before near ones (0.1 %, only for levels
    that a loss wobbles around, and only with K, B, T, prior or accuracy given); inside each, the least `accidental`
    first. Raises ValueError, naming the argument, for unusable input. Values are in nats.
    """
    number, unit = written(value)
    forms = _question(classes, vocab, batch, prior, accuracy, sequence)
    judged = (_judge(form, forms, number, unit) for form in forms)
    matches = [match for match in judged if match is not None and match.accidental <= ACCIDENTAL_LIMIT]
    return sorted(matches, key=lambda m: (_ORDER[m.agreement], m.accidental, -m.digits))


def nearest(
    value: str | float | int,
    *,
    classes: int | None = None,
    prior: float | Iterable[float] | None = None,
) -> Match:
    """The closest of the levels everybody compares with (ln K, the base rate), however far: a ruler, no explanation.

    For messages such as "nothing fits; the uniform guess would be 2.3026". Same errors as `explain_value`.
    """
    number, unit = written(value)
    forms = _question(classes, None, None, prior, None, None)
    usual = [form for form in forms if form.tier == 0]
    best = min(usual, key=lambda form: abs(form.value - number))
    return _match(best, forms, number, unit, "near", max(abs(best.value - number), 0.5 * unit))
