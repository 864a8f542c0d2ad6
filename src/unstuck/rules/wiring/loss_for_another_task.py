"""A regression or margin loss is used on a classification target.

## What it means
The labels are classes, as one-hot rows or as numbers, and the loss measures a distance to them: mean squared or
absolute error, Poisson, hinge. That can be meant (the Brier score is a proper score), but it is a weaker teacher than
cross-entropy.

## What is seen
The targets of the loss are one-hot rows; or a 0/1 column together with a sigmoid, softmax or tanh; or a few whole
numbers without a gap, from 0 or 1, that a single output has to hit; or 0/1 labels in a hinge loss, which needs -1 and
+1.

## Why training gets stuck
Behind a saturating output the gradient of the squared error contains the derivative of that output, p(1-p) for a
sigmoid. It vanishes on answers that are wrong and sure: a plateau that cross-entropy does not have, because there that
factor cancels. Class numbers as values make class 3 "nearer" to 2 than to 0, which means nothing. A hinge with 0 for
"no" gives those samples no gradient.

## Fix
CrossEntropyLoss on raw logits with integer labels; for two classes BCEWithLogitsLoss on one raw logit.

## Not to be confused with
Autoencoders, whose targets are wide and real or many columns of 0 and 1. Counts and ratings, which are whole numbers
with an order. Soft targets. A deliberate Brier score that trains.

## References
G. W. Brier, 1950. X. Glorot, Y. Bengio, 2010, section 4.1 (plateaus of the quadratic cost against the logistic one).
"""

from __future__ import annotations

from unstuck.findings import Bearing, Evidence, Finding, Fix, Grade, Intervention
from unstuck.rules.paths import instead, sites
from unstuck.rules.wiring.head_does_not_fit_labels import REGRESSIONS, columns, contiguous, out_of_reach
from unstuck.trace import synthetic
from unstuck.trace.facts import LabelStats, LossTerm, OpNode
from unstuck.trace.trace import Trace

CODE = "W109"
NEEDS = ("terms", "labels")
EXPLAINS = ("W110",)

_MARGINS = frozenset({"hinge", "soft-margin"})
_KINDS = REGRESSIONS | _MARGINS | {"poisson", "mape"}
_NAMES = {"mse": "mean squared error", "l1": "mean absolute error", "smooth-l1": "smooth absolute error",
          "huber": "Huber loss", "poisson": "Poisson loss", "hinge": "hinge loss", "soft-margin": "soft margin loss",
          "mape": "relative error"}  # fmt: skip
_SATURATING = frozenset({"sigmoid", "softmax", "tanh"})


def check(trace: Trace) -> Finding | None:
    loop = trace.facts.loop
    if loop.adversarial or loop.unjudged:
        return None  # a least-squares GAN means it
    for term in trace.facts.terms:
        if term.kind not in _KINDS or not term.labels.calls:
            continue
        name = _NAMES[term.kind]
        if term.kind in _MARGINS:
            if term.labels.kind in {"binary", "one-hot"} and sorted(term.labels.distinct) == [0.0, 1.0]:
                return _finding(
                    term, f"The {name} is given labels 0 and 1; it needs -1 and +1.", "certain", "hinders",
                    [Evidence("All labels seen are 0 or 1; a label of 0 takes its sample out.", source="values")],
                    "Re-encode the labels as -1 and +1 (2*y - 1), or use BCEWithLogitsLoss.",
                )  # fmt: skip
            continue
        target = classification_target(term)
        if not target:
            continue
        squashed = next((n for n in term.path if n.op in _SATURATING), None)
        evidence = [Evidence(target, source="values")]
        grade: Grade = "likely"
        if squashed is not None:
            grade = "certain"
            evidence.append(
                Evidence(
                    f"The output ends in a {squashed.op}: the gradient of the {name} contains its derivative, which "
                    "is 0 where the model is sure, right or wrong."
                )
            )
        return _finding(
            term, f"The {name} is used on a classification target; cross-entropy is the loss for it.", grade, "choice",
            evidence,
            "Use CrossEntropyLoss on raw logits with integer labels (two classes: BCEWithLogitsLoss on one raw logit).",
        )  # fmt: skip
    return None


def classification_target(term: LossTerm) -> str:
    """Why the targets are classes, as a sentence; '' where they need not be."""
    labels = term.labels
    if labels.kind == "one-hot":
        return "Every target row is one-hot: a single 1 among zeros."
    if columns(term) != 1 or out_of_reach(term):
        return ""
    if labels.kind == "binary" and sorted(labels.distinct) == [0.0, 1.0]:
        if any(n.op in {"sigmoid", "softmax"} for n in term.path):
            return "The targets are a single column of 0 and 1, and the output is a probability."
        return ""
    # Whole numbers are what a Poisson loss is for; elsewhere three or more without a gap look like class numbers.
    if labels.kind == "integer" and term.kind in REGRESSIONS:
        number = contiguous(labels, (0.0, 1.0))
        if number > 2:
            low, high = labels.distinct[0], labels.distinct[-1]
            return f"The targets are the whole numbers {low:.0f} to {high:.0f}, for one output."
    return ""


def _finding(
    term: LossTerm, summary: str, grade: Grade, bearing: Bearing, evidence: list[Evidence], fix: str
) -> Finding:
    intervention = _entropy(term)
    return Finding(
        CODE,
        "loss-for-another-task",
        grade,
        summary,
        bearing=bearing,
        evidence=evidence,
        locations=sites(term.made, term.site),
        fix=Fix(fix, "display" if intervention is None else "unsafe", intervention=intervention),
        separating="" if grade == "certain" else "Train the same model with cross-entropy and compare the accuracy.",
    )


def _entropy(term: LossTerm) -> Intervention | None:
    """The cross-entropy that takes these outputs and targets; None where the last layer has too few outputs for it."""
    labels = term.labels
    if labels.kind == "one-hot" and (columns(term) or 0) > 1 and term.kind not in _MARGINS:
        loss = "cross_entropy"
    elif labels.kind in {"binary", "one-hot"} and sorted(labels.distinct) == [0.0, 1.0]:
        loss = "bce_with_logits"
    else:
        return None  # whole numbers for one output: it takes as many outputs as classes
    return instead(term, loss, next((n for n in term.path if n.op in _SATURATING), None))


def sick() -> Trace:
    sigmoid = OpNode(
        "sigmoid", "SigmoidBackward0", [64, 5], site=synthetic.site(41, "return torch.sigmoid(self.head(x))")
    )
    labels = LabelStats(
        "one-hot", rows=25600, kept=25600, calls=400, lowest=0.0, highest=1.0, distinct=[0.0, 1.0], counts=[5120.0] * 5
    )
    term = synthetic.cross_entropy(
        sigmoid, kind="mse", raw="MseLossBackward0", labels=labels, target_shape=[64, 5], ignore_index=None
    )
    return synthetic.training(term, state="plateau")


def healthy() -> Trace:
    labels = LabelStats("real", rows=25600, kept=25600, calls=400, lowest=-2.1, highest=3.4, many_distinct=True)
    term = synthetic.cross_entropy(
        kind="mse", raw="MseLossBackward0", labels=labels, target_shape=[64, 5], ignore_index=None
    )
    return synthetic.training(term, state="learning")
