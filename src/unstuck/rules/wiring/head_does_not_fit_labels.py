"""The model's last layer does not fit the labels: too few outputs, or labels in a form that the loss does not take.

## What it means
A head with K outputs can tell K classes apart. Here the labels name more classes than that, one unit stands for three
or more classes, or the labels are one-hot rows where the loss wants class numbers (or the other way round).

## What is seen
More different labels than outputs; a binary loss or a sigmoid on one unit with labels 0, 1, 2, ...; one output per
sample given to a categorical cross-entropy, which then normalises over the batch; or the loss call raised, and its
arguments say the same.

## Why training gets stuck
A class without an output cannot be predicted. One unit with a binary loss is pushed up for every label above 1,
without bound; a sigmoid never reaches 2. Where the loss call raises and the script goes on, no step is taken at all.

## Fix
As many outputs as classes, CrossEntropyLoss, and integer class numbers from 0 to K-1. For two classes either two
outputs with CrossEntropyLoss, or one output with BCEWithLogitsLoss and labels of the output's shape.

## Not to be confused with
Labels that count from 1, negative labels, a marker such as 255 that should be ignored: D201. More outputs than labels,
which only wastes some. A regression on small whole numbers.

## References
torch.nn.CrossEntropyLoss: class indices in [0, C), or class probabilities as floating-point numbers of the input's
shape.
"""

from __future__ import annotations

from unstuck.findings import Bearing, Evidence, Finding, Fix, Grade, Intervention
from unstuck.rules.paths import RESHAPING, at, instead, more_classes, next_op, sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Facts, LabelStats, LossTerm, Raised
from unstuck.trace.trace import Trace

CODE = "W108"
NEEDS = ("terms",)
EXPLAINS = ("D201", "N701")

_CATEGORICAL = frozenset({"cross-entropy", "nll"})
REGRESSIONS = frozenset({"mse", "l1", "smooth-l1", "huber"})


def check(trace: Trace) -> Finding | None:
    for term in trace.facts.terms:
        finding = (
            _wrong_form(trace.facts, term)
            or _too_few(trace.facts, term)
            or _one_unit(term)
            or _out_of_reach(term)
            or _one_score_per_sample(term)
        )
        if finding is not None:
            return finding
    return None


# ---------------------------------------------------------------------- what the labels look like


def contiguous(labels: LabelStats, first: tuple[float, ...] = (0.0,)) -> int:
    """How many classes the labels name, if they are whole numbers without a gap from one of `first`; otherwise 0."""
    distinct = sorted(labels.distinct)
    if labels.many_distinct or not distinct or distinct[0] not in first:
        return 0
    return len(distinct) if distinct == [distinct[0] + i for i in range(len(distinct))] else 0


def columns(term: LossTerm) -> int | None:
    """Outputs per sample of the loss input."""
    shape = term.input_shape
    if shape is None:
        return None
    return 1 if len(shape) < 2 else shape[-1]


def out_of_reach(term: LossTerm) -> str:
    """The saturating operation whose range ends below the labels: sigmoid or tanh on one unit, labels 0, 1, 2, ..."""
    if term.kind not in REGRESSIONS or columns(term) != 1 or term.labels.kind != "integer":
        return ""
    node = next_op(term.path, skip=RESHAPING)
    if node is None or node.op not in {"sigmoid", "tanh"} or contiguous(term.labels) < 3:
        return ""
    return node.op


def _raised(facts: Facts, *parts: str) -> Raised | None:
    return next((r for r in facts.exceptions if r.phase == "loss" and any(p in r.message for p in parts)), None)


# ---------------------------------------------------------------------- the cases


def _wrong_form(facts: Facts, term: LossTerm) -> Finding | None:
    """Integer labels in the shape of the outputs, or with a superfluous axis."""
    if term.kind not in _CATEGORICAL or term.input_shape is None or term.target_shape is None:
        return None
    if (finding := _keras_form(facts, term)) is not None:
        return finding
    raised = _raised(facts, "multi-target not supported", "target with class probabilities, got")
    if raised is None:
        return None
    said = Evidence(f"The loss call raised {raised.type}: {raised.message}", source="exception")
    shapes = f"{_times(term.input_shape)} outputs and {_times(term.target_shape)} labels"
    if term.target_shape == term.input_shape and (term.classes or 0) > 1:
        return _finding(
            term, "The labels are one-hot rows of whole numbers, where the loss wants class numbers.", "blocks",
            [said, Evidence(f"The loss was given {shapes}, all of them 0 or 1, as integers.", source="values")],
            "Give the class numbers (drop the one-hot encoding), or the one-hot rows as floating-point numbers.",
            loss_first=True, intervention=instead(term, "cross_entropy"),
        )  # fmt: skip
    if len(term.target_shape) == len(term.input_shape) and term.target_shape[-1] == 1:
        return _finding(
            term, "The labels have one axis too many for the loss.", "blocks",
            [said, Evidence(f"The loss was given {shapes}; it wants plain class numbers.", source="values")],
            "Remove the last axis of the labels: y.squeeze(1).",
            loss_first=True, intervention=Intervention("align-targets", at(term.site)),
        )  # fmt: skip
    return None


def _keras_form(facts: Facts, term: LossTerm) -> Finding | None:
    """Keras' two categorical losses, each with the labels of the other one."""
    raised = _raised(facts, "`target` and `output` must have the same", "`target.ndim - 1`", "same shape up until the last")
    if raised is None or (term.classes or 0) < 2:
        return None
    sparse = term.raw.startswith("sparse")
    one_hot = (term.target_shape or [0])[-1] == term.classes and len(term.target_shape or []) == len(term.input_shape or [])
    if sparse != one_hot:
        return None  # other shapes that do not fit: not this question
    what, wanted = ("one-hot rows", "class numbers") if sparse else ("class numbers", "one-hot rows")
    other = "categorical_crossentropy" if sparse else "sparse_categorical_crossentropy"
    return _finding(
        term, f"The labels are {what}, and {term.raw} wants {wanted}.", "blocks",
        [
            Evidence(f"The loss call raised {raised.type}: {raised.message}", source="exception"),
            Evidence(f"The labels have the shape {_times(term.target_shape or [])} for {term.classes} outputs.", source="values"),
        ],
        f"Use {other} with these labels.", loss_first=True,
    )  # fmt: skip


def _too_few(facts: Facts, term: LossTerm) -> Finding | None:
    """More different labels than outputs."""
    labels, classes = term.labels, term.classes or 0
    if term.kind not in _CATEGORICAL or labels.kind != "index" or not classes or labels.highest is None:
        return None
    # A categorical loss of [N] outputs is one sample of N classes to torch: not this question.
    if term.input_shape is not None and len(term.input_shape) < 2:
        return None
    if labels.lowest is None or labels.lowest < 0 or labels.highest < classes:
        return None
    if term.target_shape is not None and term.target_shape == term.input_shape:
        return None
    raised = _raised(facts, "out of bounds")
    if raised is None and not labels.outside:
        return None
    seen = {float(i) for i, n in enumerate(labels.counts) if n > 0} | set(labels.distinct)
    # Labels 1..K are shifted, a lone label far outside is a marker: both are D201's.
    if classes > 1 and not more_classes(labels, classes):
        return None
    evidence = [
        Evidence(
            f"The last layer has {classes} output{'s' if classes > 1 else ''}; the labels go "
            f"from {labels.lowest:.0f} to {labels.highest:.0f}.",
            value=float(len(seen)),
            unit="classes",
            source="values",
        )
    ]
    if raised is not None:
        evidence.append(Evidence(f"The loss call raised {raised.type}: {raised.message}", source="exception"))
    summary = (
        "A single output is given to a loss that needs one output per class."
        if classes == 1
        else "The model has fewer outputs than the labels have classes."
    )
    fix = (
        "Two classes: BCEWithLogitsLoss on the one output, with floating-point labels of its shape. More: one output "
        "per class."
        if classes == 1
        else f"Give the last layer {int(labels.highest) + 1} outputs, one for each class from 0 to "
            f"{labels.highest:.0f}."
    )
    binary = classes == 1 and labels.lowest == 0 and labels.highest == 1
    return _finding(
        term, summary, "blocks", evidence, fix, intervention=instead(term, "bce_with_logits") if binary else None
    )  # fmt: skip


def _one_unit(term: LossTerm) -> Finding | None:
    """A binary loss on one unit, labels 0, 1, 2, ..."""
    number = contiguous(term.labels)
    if term.kind not in {"bce", "bce-logits"} or columns(term) != 1 or term.labels.kind != "integer" or number < 3:
        return None
    return _finding(
        term, f"One output with a binary loss stands for {number} classes.", "hinders",
        [
            Evidence(
                f"The binary loss has one output per sample; its labels are the whole numbers 0 to {number - 1}.",
                value=float(number), unit="classes", source="values",
            ),
            Evidence("A label above 1 pushes the output up without bound, and the loss below 0.", source="values"),
        ],
        f"Give the last layer {number} outputs and use CrossEntropyLoss with the labels as integers.",
    )  # fmt: skip


def _out_of_reach(term: LossTerm) -> Finding | None:
    op = out_of_reach(term)
    if not op:
        return None
    number = contiguous(term.labels)
    return _finding(
        term, f"The single output ends in a {op} and cannot reach the labels, which go up to {number - 1}.", "hinders",
        [
            Evidence(f"The graph has a {op.capitalize()} under the loss: every output lies below 1."),
            Evidence(
                f"The labels are the whole numbers 0 to {number - 1}.",
                value=float(number), unit="classes", source="values",
            ),
        ],
        f"Give the last layer {number} outputs and use CrossEntropyLoss with the labels as integers.",
    )  # fmt: skip


def _one_score_per_sample(term: LossTerm) -> Finding | None:
    """[N] scores of one unit against [N] labels: to the categorical loss this is one sample of N classes."""
    shape = term.input_shape
    if term.kind != "soft-cross-entropy" or shape is None or len(shape) != 1 or shape[0] < 2:
        return None
    head = term.path[-1].shape if term.path and term.path_end == "parametric" else None
    if head is None or len(head) != 2 or head != [shape[0], 1] or term.target_shape != shape:
        return None
    labels = term.labels
    total = sum(labels.counts)
    # Targets that sum to 1 over the batch are a distribution over its items (a ranking loss): that is legal.
    if not labels.rows or not total or abs(total / labels.rows - 1) < 0.01:
        return None
    return _finding(
        term,
        "One output per sample is given to a categorical cross-entropy, which normalises over the batch.",
        "hinders",
        [
            Evidence(
                f"The last layer has one unit; the loss was given {shape[0]} numbers, one per sample, and takes them "
                f"for {shape[0]} classes of one sample."
            ),
            Evidence(
                f"The targets of one call sum to {total / labels.rows:.4g} on average, so they are labels and no "
                "distribution.",
                value=total / labels.rows, source="values",
            ),
        ],
        "Use BCEWithLogitsLoss on the one output, or two outputs with CrossEntropyLoss and integer labels.",
        grade="likely", intervention=instead(term, "bce_with_logits") if total <= labels.rows * shape[0] else None,
    )  # fmt: skip


def _finding(
    term: LossTerm, summary: str, bearing: Bearing, evidence: list[Evidence], fix: str, *, grade: Grade = "certain",
    loss_first: bool = False, intervention: Intervention | None = None,
) -> Finding:  # fmt: skip
    head = term.path[-1].where if term.path and term.path_end == "parametric" else None
    loss = (term.made, term.site)
    return Finding(
        CODE,
        "head-does-not-fit-labels",
        grade,
        summary,
        bearing=bearing,
        evidence=evidence,
        locations=sites(*loss[::-1], head) if loss_first else sites(head, *loss),
        fix=Fix(fix, "display" if intervention is None else "unsafe", intervention=intervention),
    )


def _times(shape: list[int]) -> str:
    return " x ".join(map(str, shape))


def sick() -> Trace:
    labels = LabelStats(
        "index", rows=64, kept=64, calls=1, lowest=0.0, highest=5.0, distinct=[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], outside=9,
        outside_example=5.0,
    )  # fmt: skip
    term = synthetic.cross_entropy(labels=labels)
    raised = Raised("IndexError", "Target 5 is out of bounds.", "loss", term.site, fatal=True)
    return synthetic.training(term, steps=1, exceptions=[raised])


def healthy() -> Trace:
    return synthetic.training(synthetic.cross_entropy(classes=6), state="learning")
