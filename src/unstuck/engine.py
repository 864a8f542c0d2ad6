"""diagnose(run): symptom, rules, causes before consequences, and what could not be checked."""

from __future__ import annotations

import math

from unstuck.findings import GRADES, Diagnosis, Excluded, Finding, NotChecked, Role, Symptom, Training
from unstuck.rules import levels, rules
from unstuck.rules.learnable import learnable
from unstuck.rules.paths import RESHAPING
from unstuck.symptom import symptom_of
from unstuck.trace.facts import Facts, OpNode
from unstuck.trace.trace import RunRecord, Series, Trace

# What is fixed first where several causes stand side by side: what nothing can be learned with, then the order of examination.
# Does anything finite move at all? What does the loss measure? What comes through the layers? What is it fed with? How far is
# a step?
_EXAMINATION = (
    "D208", "N", "U", "G301", "G302", "G306", "D201", "D206", "D210", "I601", "E803", "W", "I", "G303", "G304", "D", "S", "G", "E",
)  # fmt: skip
COMPARABLE = RESHAPING | {
    "linear", "conv", "matmul", "softmax", "log_softmax", "sigmoid", "tanh", "relu", "leaky_relu", "dropout", "mul", "div", "mean",
    "cosine_similarity", "unit_norm", "log", "clamp", "rnn", "batch_norm", "layer_norm", "norm", "embedding",
}  # fmt: skip
ROOM = 0.1  # of the labels' entropy: five times the band in which a loss counts as not moved
_ROLES: tuple[Role, ...] = ("cause", "latent", "consequence", "note")


def diagnose(record: RunRecord) -> Diagnosis:
    """The diagnosis of a run; its trainings with the worst first."""
    trainings = [examine(trace) for trace in record.traces]
    trainings.sort(key=_badness)
    if not trainings:
        reason = (
            "a part of unstuck failed before the training could be followed"
            if record.run.own_errors
            else "the script called backward, but on nothing that could be followed"
            if record.run.backward_seen
            else "the script never called backward: no training was seen (steps through torch.func are not followed)"
        )
        trainings = [Training(Symptom("no-training", reason=reason, judged=False))]
    return Diagnosis(record.run, trainings, record.directory, record)


def examine(trace: Trace) -> Training:
    """Symptom and findings of one training."""
    found, not_checked, excluded = [], [], []
    trace.known["symptom"] = symptom = symptom_of(trace)
    _compare(trace, symptom)
    for rule in sorted(rules().values(), key=lambda r: r.costly):
        reason = trace.missing(rule.needs)
        if reason:
            not_checked.append(NotChecked(rule.code, reason))
            continue
        try:
            finding = rule.check(trace)
            text = rule.in_order(trace) if finding is None else ""
        except Exception as error:  # a bug in one rule must not cost the other rules' answers
            not_checked.append(NotChecked(rule.code, f"our own error: {type(error).__name__}: {error}"))
            continue
        if finding is not None:
            found.append(finding)
        elif text:
            excluded.append(Excluded(rule.code, text))
    return Training(symptom, assign_roles(found, symptom), excluded, not_checked, trace.facts.name, levels.steps(trace))


def _compare(trace: Trace, symptom: Symptom) -> None:
    """Is a loss that falls still clearly above what a simple classifier reaches on the training's own samples?

    Asked only where there is room (a tenth of the labels' entropy), and only of losses that can be compared: one plain
    cross-entropy of hard labels. Dropout is no fault of the weights: the evaluation-mode loss counts where it is lower.
    """
    term = trace.facts.term
    if (
        not symptom.learns or symptom.loss is None or trace.pairs is None or term is None
        or term.labels.kind not in {"index", "binary", "one-hot", "integer"} or term.sample_weighted
        or len({t.kind for t in trace.facts.terms if t.kind != "unknown"}) > 1
        # A margin, a mask or a mixture between the last layer and the loss makes another loss of it.
        or not _plain(term.path)
    ):  # fmt: skip
        return
    last = [p for p in trace.facts.probes[-3:] if p.evaluation is not None]
    scale = term.scale if term.scale and math.isfinite(term.scale) else 1.0  # probes hold what the script calls its loss
    if (
        symptom.chance is not None and term.kind in {"cross-entropy", "bce", "bce-logits", "soft-cross-entropy"}
        and not (term.label_smoothing or term.weight or term.pos_weight)
    ):  # fmt: skip
        loss = min([symptom.loss, *([sum(p.evaluation or 0.0 for p in last) / len(last) / scale] if last else [])])
        if loss <= ROOM * min(symptom.chance, symptom.base_rate or symptom.chance):
            return
        learn = learnable(trace)
        best = learn.best if learn is not None and learn.found else None
        if best is not None:
            symptom.reachable = best.loss
        if best is not None and loss - best.loss > ROOM * learn.base + 2 * best.gain_error:
            symptom.underachieves = True
            symptom.reason = (
                f"it falls, but a {best.name} reaches {best.loss:.3g} nats on {best.rows:,} of the training's own samples "
                "(cross-validated)"
            )
        return
    # Another loss on class labels (squares, NLL of what is no log-probability): its level cannot be compared, answers can.
    known = [p.evaluation_accuracy for p in last if p.evaluation_accuracy is not None]
    accuracy = max([symptom.accuracy or 0.0, *known])
    if symptom.accuracy is None or accuracy > 1 - ROOM / 2:
        return
    learn = learnable(trace)
    best = max(learn.probes, key=lambda p: p.accuracy, default=None) if learn is not None and learn.found else None
    if best is not None and best.accuracy - accuracy > ROOM / 2 + 3 * (0.25 / best.rows) ** 0.5:
        symptom.underachieves = True
        symptom.reason = (
            f"it falls, but a {best.name} answers {best.accuracy:.0%} of {best.rows:,} of the training's own samples right "
            f"(cross-validated), the network {accuracy:.0%}"
        )


def _plain(path: list[OpNode]) -> bool:
    """Only operations between the last layer and the loss after which it is still a loss of that layer's numbers."""
    return all(
        n.op in COMPARABLE or (n.op == "add" and i + 1 < len(path) and path[i + 1].op in {"linear", "matmul"})
        for i, n in enumerate(path)
    )


def certain_now(facts: Facts) -> list[Finding]:
    """Structural findings that need no series and no symptom: what can be said in the first steps of a training."""
    trace = Trace(facts, Series.empty())
    found = []
    for rule in rules().values():
        if not trace.missing(rule.needs):
            finding = rule.check(trace)
            if finding is not None and finding.grade == "certain" and finding.bearing in {"blocks", "hinders"}:
                found.append(finding)
    return [f for f in assign_roles(found, Symptom("too-early")) if f.role == "cause"]


# ---------------------------------------------------------------------- roles and order


def assign_roles(found: list[Finding], symptom: Symptom) -> list[Finding]:
    """Role by bearing and symptom; consequences under their causes; what to fix first comes first."""
    for finding in found:
        finding.role = role(finding, symptom)
    present = {f.code: f for f in found if f.role != "note"}
    claims = {code: {*rules()[code].explains, *finding.explains} for code, finding in present.items()}
    for code, finding in present.items():
        finding.explains = []
        for other in sorted(claims[code] & set(present)):
            if present[other].role in {"cause", "latent"} and finding.role in {"cause", "latent"}:
                if code in claims[other] and other < code:
                    continue  # of two that name each other the lower code stands first
                if finding.role == "latent" and present[other].role == "cause":
                    finding.role = "cause"
                finding.explains.append(other)
    explained = {c for f in found for c in f.explains}
    for code in explained:
        present[code].role = "consequence"
    if any(f.role == "cause" for f in found) and not symptom.learns:
        for finding in found:  # it may be meant; in a training that fails for another reason as well it is to be looked at
            if finding.role == "latent" and finding.bearing == "choice" and finding.grade == "certain":
                finding.role = "cause"
    return sorted(
        found,
        key=lambda f: (_ROLES.index(f.role), f.bearing != "blocks", _place(f.code), GRADES.index(f.grade), f.code),
    )


def _place(code: str) -> int:
    """Where in the order of examination; the longest entry that fits decides."""
    return _EXAMINATION.index(max((e for e in _EXAMINATION if code.startswith(e)), key=len))


def role(finding: Finding, symptom: Symptom) -> Role:
    """A fault that does not hold this training back is latent; what may be meant is a cause only where it is stuck.

    A fault with a floor of its own is a cause where most of what is left of the loss is that floor. A structural fact is a
    cause until all but a tenth of what there is to win has been won.
    """
    if finding.bearing == "harmless":
        return "note"
    if symptom.name == "not-judged":
        return "latent" if finding.bearing in {"choice", "hinders"} else "cause"
    if finding.shown and finding.bearing != "choice":
        return "cause"
    if symptom.learns:
        if symptom.loss is not None and symptom.chance:
            if finding.floor is not None and finding.floor > max(0.02 * symptom.chance, 0.5 * symptom.loss):
                return "cause"
            if finding.grade == "certain" and finding.bearing != "choice" and symptom.loss > ROOM * symptom.chance:
                return "cause"
        elif finding.grade == "certain" and finding.bearing != "choice" and not (symptom.accuracy or 0.0) > 1 - ROOM / 2:
            return "cause"  # a loss without a level of its own: nothing says that this fault costs nothing
        if (
            symptom.constant_answer is not None
            and symptom.accuracy is not None
            and symptom.accuracy <= symptom.constant_answer
        ):
            return (
                "cause"  # the loss falls, yet the predictions are no better than one constant answer: it is the wrong loss
            )
        return "latent"
    if finding.grade == "possible":
        return "latent"
    if finding.bearing == "choice":
        return "cause" if symptom.stuck or symptom.underachieves else "latent"
    return "cause"


def _badness(training: Training) -> tuple[int, int, int]:
    first = training.findings[0] if training.findings else None
    states = ("non-finite", "diverging", "above-chance", "at-chance", "constant", "at-prior", "plateau", "slow",
              "too-early", "not-judged", "no-training", "learning")  # fmt: skip
    cause = first is not None and first.role == "cause"
    grade = GRADES.index(first.grade) if first is not None and cause else len(GRADES)
    state = states.index(training.symptom.name) if training.symptom.name in states else len(states)
    return (0 if cause else 1, grade, state)


def closed_form(symptom: Symptom) -> str:
    """The name of the chance level, where it is a plain logarithm: 'ln 5'. '' otherwise."""
    if symptom.chance is None or not symptom.classes or symptom.classes < 2:
        return ""
    return f"ln {symptom.classes}" if math.isclose(symptom.chance, math.log(symptom.classes), rel_tol=1e-3) else ""
