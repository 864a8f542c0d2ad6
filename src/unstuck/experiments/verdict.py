"""What the arms say about one fix, and how that is kept in the trace directory.

supported     The fixed arm gains clearly, and the gain is at least half of what is known to be within reach. A fix of
              another disease that merely helps a little (a longer step in a network whose logits are bounded) must not pass
              for the explanation.
refuted       The gain is inside the band (or a loss), and one that would explain is excluded.
inconclusive  Neither; the reason says whether it helps without explaining, or whether the arms were too few or too short.
not-verified  No experiment was possible; the reason says why.

The unit is skill, 1 - loss / chance of each arm's own loss, because the fix may change the loss's scale. Where it replaces
the loss altogether (squares for cross-entropy), the share that a mean-square error explains and the skill of a
cross-entropy are different things: accuracies are compared there. Class weights are for the recall of the rare classes, and cost
accuracy: there the mean of the recalls is compared (K. H. Brodersen et al., The balanced accuracy, ICPR 2010). It is one number
an arm, so that nothing is decided before three seeds agree.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from unstuck.findings import ROLES, Diagnosis, Evidence, Finding, Fix, Grade, Intervention, Role, Verdict
from unstuck.stats import paired

if TYPE_CHECKING:
    from unstuck.experiments.arms import ArmResult

# After these a loss before and one after the fix are different functions of the outputs.
OTHER_LOSS = frozenset({"replace-loss", "insert-activation", "class-weights", "resize-head", "renumber-labels"})
# These draw new random numbers: the arms of a seed share no initial weights or no batches, so that they are no pairs. (Weaker
# dropout draws as many numbers as before and shares both.)
REDRAWS = frozenset({"reinitialise", "widen", "shuffle"})
HALF = 0.5  # of what is within reach
RISING = 0.1  # of its gain, won between the last quarter's start and its end: an arm that was cut while it learned
CURVE = 60  # points kept of a curve
STUCK = frozenset({"at-chance", "at-prior", "above-chance", "plateau", "constant", "diverging", "non-finite", "crashed"})
CRASHED = "crashed"  # symptom of an arm that ended with the error of the recorded run


class Known(msgspec.Struct):
    """What is known besides the arms of this one fix."""

    rest: float = 0.0  # skill of the best answer without the inputs
    rest_accuracy: float | None = None  # share of the most frequent label
    reference: float | None = None  # loss of always answering the mean, where there is no chance level
    recorded_steps: int = 0
    best: float | None = None  # skill of the best arm of any fix
    reachable: float | None = None  # skill of a simple classifier on captured samples, cross-validated
    reachable_accuracy: float | None = None  # its accuracy
    placebo: float | None = None  # gain of the arm whose intervention changes nothing
    seconds: float = 0.0
    certain: bool = False  # the fault is a fact of the program; the question is only what it costs


class Arms(msgspec.Struct):
    """The arms of one fix by seed; `kind` is the intervention's."""

    kind: str
    control: Mapping[int, ArmResult]
    fixed: Mapping[int, ArmResult]

    @property
    def seeds(self) -> list[int]:
        """Seeds with both arms, seed 0 first; none without it: the run that was recorded comes before any other."""
        both = sorted(s for s in self.fixed if s in self.control and self.fixed[s].ok and self.control[s].ok)
        return both if both[:1] == [0] else []


class Scores(msgspec.Struct):
    """Per-step scores of both arms by seed on one common scale, and what an answer without the inputs scores on it."""

    what: str  # skill, accuracy, balanced accuracy
    control: list[np.ndarray]
    fixed: list[np.ndarray]
    rest: float
    others: list[np.ndarray] = msgspec.field(default_factory=list)  # all controls, those of seeds without the fix included

    @property
    def differences(self) -> list[float]:
        ends = [(paired.score(c), paired.score(f)) for c, f in zip(self.control, self.fixed)]
        return [paired.gain(c, f, self.rest) for c, f in ends]


def not_verified(reason: str) -> Verdict:
    return Verdict("not-verified", reason)


def judge(arms: Arms, known: Known) -> Verdict:
    """The verdict on one fix. Never raises for what an arm came back with; a reason says what was missing."""
    failed = _failed(arms)
    if failed:
        return not_verified(failed)
    scores = scores_of(arms, known)
    if isinstance(scores, str):
        return not_verified(scores)
    seeds = arms.seeds
    interval, name, more = _decide(arms, scores, _far(scores, known))
    if name == "supported":
        name, more = _explains(arms, scores, known)
    if name == "refuted":
        name, more = _long_enough(arms, scores, known, interval)
    if known.placebo is not None and abs(known.placebo) > paired.BAND and name in {"supported", "refuted"}:
        name, more = "inconclusive", f"a change that does nothing changes the {scores.what} by {known.placebo:+.2f}"
    control, fixed = arms.control[0], arms.fixed[0]
    steps = min(control.steps, fixed.steps)
    reason = _sentence(name, arms, scores, steps)
    return Verdict(
        name,  # type: ignore[arg-type]
        reason + (f": {more}" if more else ""),
        control=_median([arms.control[s].final_loss for s in seeds]),
        fixed=_median([arms.fixed[s].final_loss for s in seeds]),
        skill_control=_median([paired.score(c) for c in scores.control]) if scores.what == "skill" else None,
        skill_fixed=_median([paired.score(f) for f in scores.fixed]) if scores.what == "skill" else None,
        interval=[interval.low, interval.high] if math.isfinite(interval.low) and math.isfinite(interval.high) else [],
        seeds=len(seeds),
        steps=steps,
        how="rerun",
        seconds=known.seconds,
        placebo=known.placebo,
        curves=_curves(control, fixed),
    )


def _failed(arms: Arms) -> str:
    """Why there is nothing to compare; '' where there is."""
    control, fixed = arms.control.get(0), arms.fixed.get(0)
    if control is None or fixed is None:
        return "the budget ended before it was its turn"
    if not control.ok:
        return f"the unchanged script could not be run again: {control.reason}"
    if not fixed.ok:
        return f"the changed script could not be run: {fixed.reason}"
    if not fixed.applied:
        return "the intervention found nothing to change"
    return ""


# ------------------------------------------------------------------------------------------------------------ one scale


def scores_of(arms: Arms, known: Known) -> Scores | str:
    """Both arms on one scale; a reason where they have none in common."""
    seeds = arms.seeds
    control, fixed = [arms.control[s] for s in seeds], [arms.fixed[s] for s in seeds]
    if arms.kind == "class-weights":
        # The weighted loss is another loss, and what the weights are for costs accuracy: the frequent class loses.
        if not all(math.isfinite(r.balanced) for r in (*control, *fixed)):
            return "weighted and unweighted losses have no common scale, and the recalls of the classes were not seen"
        rest = 1.0 / control[0].classes
        a, b = ([np.array([r.balanced]) for r in arms_] for arms_ in (control, fixed))
        return Scores("balanced accuracy", a, b, rest)
    every = [r for _, r in sorted(arms.control.items()) if r.ok]
    answers = known.rest_accuracy is not None and all(_has(r.accuracies) for r in (*control, *fixed))
    skills = all(_skilled(r) for r in (*control, *fixed))
    # A skill above 1 is no skill: that loss has no lowest value (NLL of what is no log-probability).
    ends = [paired.tail(_skill(r)) for r in (*control, *fixed)]
    bounded = not any(end.size and end.mean() > 1.0 + paired.BAND for end in ends)
    if answers and (arms.kind in OTHER_LOSS or not skills or not bounded):
        rest = known.rest_accuracy or 0.0
        own = [_accuracy(r, rest) for r in every if _has(r.accuracies)]
        return Scores("accuracy", [_accuracy(r, rest) for r in control], [_accuracy(r, rest) for r in fixed], rest, own)
    if skills and bounded:
        rest = 0.0 if arms.kind in OTHER_LOSS else known.rest
        own = [_skill(r) for r in every if _skilled(r)]
        return Scores("skill", [_skill(r) for r in control], [_skill(r) for r in fixed], rest, own)
    if skills:
        return "the losses before and after the fix have no common scale, and no accuracies were seen"
    # No chance level (squares of real targets): the same loss is measured against the mean's, or against where it began.
    level = known.reference or _beginning(arms.control[0])
    losses = [np.array(r.losses, dtype=np.float64) for r in (*control, *fixed)]
    least = min((paired.tail(x).mean() for x in losses if paired.tail(x).size), default=-1.0)
    if level is None or least < 0 or arms.kind in OTHER_LOSS:
        return "the level of the loss cannot be judged, and no accuracies were seen"
    scores = [1.0 - np.where(np.isinf(x), np.nan, x) / level for x in losses]
    return Scores("skill", scores[: len(seeds)], scores[len(seeds) :], 0.0)


def _beginning(control: ArmResult) -> float | None:
    """The loss an arm begins with, before anything can have been learned; None where it is no positive number."""
    first = [v for v in control.losses if not math.isnan(v)][:5]
    level = float(np.median(first)) if first else math.nan
    return level if math.isfinite(level) and level > 0 else None


def _has(values: Sequence[float]) -> bool:
    return len(paired.tail(values)) >= 1


def _skilled(result: ArmResult) -> bool:
    return _has(_skill(result))


def _skill(result: ArmResult) -> np.ndarray:
    """Skills per step; a loss that is not a number has none: it counts as worst from there on.

    Where steps are short the chance level is looked at now and then, on other steps in each arm. Between them the mean
    level stands in: exact for a plain cross-entropy (ln K at every call), and otherwise it costs the pairing of a few steps.
    """
    skills, losses = np.array(result.skills, dtype=np.float64), np.array(result.losses, dtype=np.float64)
    if skills.shape == losses.shape:
        with np.errstate(all="ignore"):
            chances = losses / (1.0 - skills)
        chances = chances[np.isfinite(chances) & (chances > 0)]
        level = float(chances.mean()) if chances.size else result.chance
        skills = np.where(np.isnan(skills) & np.isfinite(losses), 1.0 - losses / level, skills) if level else skills
    if result.symptom in {"non-finite", CRASHED}:
        known = np.flatnonzero(np.isfinite(skills))
        start = int(known[-1]) + 1 if known.size else 0
        return np.concatenate([skills[:start], np.full(max(result.steps - start, paired.FEWEST), -1.0)])
    return skills


def end_of(result: ArmResult) -> float:
    """The skill an arm ends with; NaN where it is not known."""
    return paired.score(_skill(result))


def _accuracy(result: ArmResult, rest: float) -> np.ndarray:
    values = np.array(result.accuracies, dtype=np.float64)
    return np.where(np.isfinite(np.array(result.losses)), values, rest) if len(result.losses) == len(values) else values


# --------------------------------------------------------------------------------------------------------- the decision


def _far(scores: Scores, known: Known) -> float:
    """The least gain that would explain: FAR, or less where a simple classifier shows that less is there to be had."""
    there = {"skill": known.reachable, "accuracy": known.reachable_accuracy}.get(scores.what)
    return paired.FAR if there is None else min(paired.FAR, max(HALF * (there - scores.rest), paired.BAND))


def _decide(arms: Arms, scores: Scores, far: float) -> tuple[paired.Interval, str, str]:
    """(interval of the gain, supported | refuted | inconclusive, what is missing), before it is asked how much that is."""
    differences, rest = scores.differences[: paired.MOST], scores.rest
    if not all(map(math.isfinite, differences)):
        nan = math.nan
        return paired.Interval(nan, nan, nan, "seeds"), "inconclusive", f"the {scores.what} of an arm could not be measured"
    first = paired.within(scores.control[0], scores.fixed[0], rest=rest)
    ends = [(paired.score(c), paired.score(f)) for c, f in zip(scores.control, scores.fixed)]
    controls = [paired.score(c) for c in scores.others] if scores.others else [c for c, _ in ends]
    if arms.kind in REDRAWS:
        error = paired.separated(controls, [f for _, f in ends], rest=rest)
        interval = paired.over_seeds(differences) if len(differences) >= 3 else first
        if error <= paired.LEVEL:
            return interval, "supported", ""
        if paired.nothing(interval, far=far) and max(f for _, f in ends) <= rest + paired.BAND:
            return interval, "refuted", ""
        if error < 1.0:
            return interval, "inconclusive", (
                "the change draws new random numbers, and by chance alone it would look like this in up to "
                f"{error:.0%} of such runs"
            )  # fmt: skip
        lucky = any(c >= rest + far for c in controls[1:])
        why = "the unchanged script learns with another seed" if lucky else "one seed is not enough"
        return interval, "inconclusive", why if lucky or len(ends) < 2 else "some seeds learn and some do not"
    doubtless = paired.beyond_doubt(scores.control[0], scores.fixed[0], rest=rest, far=far)
    # A second control that learns says that this seed was unlucky: one seed proves nothing then.
    lottery = any(c >= rest + paired.FAR for c in controls[1:])
    if len(differences) < 3:
        if doubtless == "nothing":
            return first, "refuted", ""
        agrees = all(d >= far for d in differences)
        if doubtless == "helps" and agrees and not lottery:
            return first, "supported", ""
        if lottery:
            return first, "inconclusive", "the unchanged script learns with another seed"
        return first, "inconclusive", "too few seeds to tell the effect from chance"
    interval = paired.over_seeds(differences)
    if interval.low > paired.BAND:
        return interval, "supported", ""
    if paired.nothing(interval, far=far):
        return interval, "refuted", ""
    return interval, "inconclusive", "the seeds disagree"




def _explains(arms: Arms, scores: Scores, known: Known) -> tuple[str, str]:
    """Is the gain at least half of what is known to be within reach?"""
    control = max(float(np.median([paired.score(c) for c in scores.control])), scores.rest)
    fixed = float(np.median([paired.score(f) for f in scores.fixed]))
    won = fixed - control
    # An arm that was cut while it still learned has not shown how far it gets: half of the half will do. Of a fault that is
    # certain it need not show that there is no other: only that no other change gets clearly further in as many steps.
    rising = _rising(scores.fixed[0], won)
    share = HALF * (HALF if rising else 1.0)
    classifier = {"skill": known.reachable, "accuracy": known.reachable_accuracy}.get(scores.what)
    if rising and known.certain:
        classifier = None
    there, who = max(
        (known.best if scores.what == "skill" and known.best is not None else -math.inf, "another change"),
        (classifier if classifier is not None else -math.inf, "a simple classifier"),
    )
    if won < share * (there - control):
        return "inconclusive", (
            f"it helps and does not explain: {won:.2f} of the {there - control:.2f} in {scores.what} that {who} shows to be there"
        )  # fmt: skip
    return "supported", ""


def _rising(scores: np.ndarray, won: float) -> bool:
    """Was the arm cut while it still learned?"""
    if scores.size < 8:
        return False
    last, before = np.array_split(scores, 8)[-1], np.array_split(scores, 8)[-3]
    if np.isnan(last).all() or np.isnan(before).all():
        return False
    return float(np.nanmean(last) - np.nanmean(before)) > RISING * won


def _long_enough(arms: Arms, scores: Scores, known: Known, interval: paired.Interval) -> tuple[str, str]:
    """A fix that needs longer than the arm is not refuted by it; a stuck symptom, or the whole length, says it had enough.

    Unless the run itself was short: a gain that is small, no chance, and still growing when the script ended is a beginning.
    """
    fixed = arms.fixed[0]
    if fixed.symptom not in STUCK and interval.low > 0 and _rising(scores.fixed[0], interval.mean):
        return "inconclusive", "it had begun to learn when the script ended, after too few steps to see how far it gets"
    if fixed.steps >= 0.9 * known.recorded_steps or fixed.symptom in STUCK:
        return "refuted", ""
    return "inconclusive", f"{fixed.steps:,} steps, of {known.recorded_steps:,} recorded, may be too few to see it learn"


# ------------------------------------------------------------------------------------------------------------- the words


def _sentence(name: str, arms: Arms, scores: Scores, steps: int) -> str:
    """What the two arms ended with, in the unit they were compared in."""
    if scores.what != "skill":
        control = f"{np.median([paired.score(c) for c in scores.control]):.0%}"
        fixed = f"{np.median([paired.score(f) for f in scores.fixed]):.0%}"
        unit, stays = f"{scores.what} ", "it has"
    else:
        a, b = (_median([r[s].final_loss for s in arms.seeds]) for r in (arms.control, arms.fixed))
        control, fixed, unit = _nats(a), _nats(b), ""
        still = all(
            paired.at_rest(c, rest=scores.rest) and paired.score(c) > scores.rest - paired.FAR for c in scores.control
        )
        stays = "it stays at" if still else "it is at"
    if arms.control[0].symptom == CRASHED:
        error = arms.control[0].reason
        if arms.fixed[0].symptom == CRASHED:
            return f"ends with {error} with the fix and without"
        stays, control = "it ends with", error
    if name == "supported":
        return f"reaches {unit}{fixed} after {steps:,} steps; unchanged {stays} {control}"
    return f"{unit}{fixed} after {steps:,} steps with the fix, {control} without"


def _nats(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "no number (NaN)"
    return f"{value:.3f} nats" if 1e-3 <= abs(value) < 100 or value == 0 else f"{value:.4g} nats"


def _median(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None and not math.isnan(v)]
    return float(np.median(known)) if known else None


def _curves(control: ArmResult, fixed: ArmResult) -> dict[str, list[float]]:
    """Losses of seed 0 in both arms: means over equal stretches of steps, at most CURVE of them."""
    n = min(len(control.losses), len(fixed.losses))
    if n < 2:
        return {}
    edges = np.unique(np.linspace(0, n, min(CURVE, n) + 1).astype(int))

    def thin(losses: Sequence[float]) -> list[float]:
        values = np.asarray(losses[:n], dtype=np.float64)
        parts = [values[a:b] for a, b in pairwise(edges)]
        return [float(np.nanmean(p)) if np.isfinite(p).any() else math.nan for p in parts]

    scale = max(control.steps, n) / len(control.losses)
    rows = zip([float(b * scale) for b in edges[1:]], thin(control.losses), thin(fixed.losses))
    kept = [row for row in rows if math.isfinite(sum(row))]  # JSON has no NaN
    return dict(zip(("steps", "control", "fixed"), map(list, zip(*kept)))) if kept else {}


# ----------------------------------------------------------------------------------------------- the recorded run, again


def reproduces(losses: Mapping[int, float], symptom: str, control: ArmResult, known: Known) -> tuple[bool, str]:
    """Does the unchanged re-run show what was recorded? (yes or no, a sentence).

    losses: recorded loss by optimizer step; symptom: the recorded state. Step for step where both have the same steps;
    otherwise it must end in the same state, or at a level that is as far from chance as the recorded run was there.
    """
    if control.symptom == CRASHED:
        return True, "The unchanged re-run ends with the same error as the recorded run"
    mine = dict(enumerate(control.losses, 1)) if len(control.losses) == control.steps else {}
    common = sorted(s for s in losses if s in mine and math.isfinite(losses[s]) and math.isfinite(mine[s]))
    if len(common) >= 3:
        a, b = np.array([losses[s] for s in common]), np.array([mine[s] for s in common])
        if np.allclose(a, b, rtol=1e-5, atol=1e-6):
            return True, "The unchanged re-run repeats the recorded run step for step"
    if control.symptom == symptom or (control.symptom in STUCK and symptom in STUCK):
        return True, "The unchanged re-run shows the same fault as the recorded run, with other numbers"
    if control.chance:
        there = [v for s, v in losses.items() if (1 - paired.TAIL) * control.steps < s <= control.steps and math.isfinite(v)]
        if there and control.final_loss is not None and math.isfinite(control.final_loss):
            gap = abs(float(np.median(there)) - control.final_loss) / control.chance
            if gap <= 5 * paired.BAND:
                return True, "The unchanged re-run is where the recorded run was after as many steps"
    return False, "A re-run of the unchanged script does not show the fault (is its seed fixed?)"


# ------------------------------------------------------------------------------------------------ kept in the trace folder

FORMAT = 1
FILE = "verdicts.json"


class _Kept(msgspec.Struct):
    """One finding as the experiments left it."""

    code: str
    role: Role
    grade: Grade
    verdict: Verdict | None = None
    evidence: list[Evidence] = msgspec.field(default_factory=list)
    fix: Fix | None = None
    made: Finding | None = None  # the whole of it, where the experiments found what no rule had named


class _File(msgspec.Struct):
    format: int
    started: float  # of the run it belongs to: the folder may have been written anew since
    training: str
    steps: int
    findings: list[_Kept]
    reason: str = ""
    notes: list[str] = msgspec.field(default_factory=list)


class _Head(msgspec.Struct):
    format: int


def save(diagnosis: Diagnosis, directory: str | os.PathLike[str], notes: Sequence[str] = ()) -> None:
    """Keep the verdicts on the worst training beside its trace. Raises OSError where the folder cannot be written."""
    worst = diagnosis.worst
    kept = [_keep(f) for f in worst.findings]
    symptom = worst.symptom
    file = _File(FORMAT, diagnosis.run.started, worst.name, worst.steps, kept, symptom.reason, list(notes))
    path = Path(directory) / FILE
    half = path.with_suffix(".part")
    half.write_bytes(msgspec.json.format(msgspec.json.encode(file), indent=1))
    os.replace(half, path)  # readers see the old file or the new one, never half of one


def _asked(fix: Fix | None) -> Intervention | None:
    return fix.intervention if fix is not None else None


def _keep(finding: Finding) -> _Kept:
    shown = [e for e in finding.evidence if e.source == "experiment"]
    made = finding if shown and len(shown) == len(finding.evidence) else None
    fix = msgspec.structs.replace(finding.fix, diff=None) if finding.fix is not None else None
    return _Kept(finding.code, finding.role, finding.grade, finding.verdict, shown, fix, made)


def load(diagnosis: Diagnosis, directory: str | os.PathLike[str]) -> None:
    """Show the verdicts that were kept in the folder again. What does not fit or is damaged is said in a note, no error."""
    path = Path(directory) / FILE
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        diagnosis.run.notes.append(f"{FILE} could not be read: {error.strerror}")
        return
    try:
        if msgspec.json.decode(text, type=_Head).format > FORMAT:
            diagnosis.run.notes.append(f"{FILE} was written by a newer unstuck and is not shown")
            return
        file = msgspec.json.decode(text, type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        diagnosis.run.notes.append(f"{FILE} is damaged and not shown; unstuck verify writes it anew")
        return
    training = next((t for t in diagnosis.trainings if (t.name, t.steps) == (file.training, file.steps)), None)
    if training is None or not math.isclose(file.started, diagnosis.run.started, abs_tol=1e-3):
        return  # of another run that was recorded in this folder
    kept = {k.code: k for k in file.findings}
    for finding in training.findings:
        mine = kept.get(finding.code)
        if mine is not None:
            finding.role, finding.grade, finding.verdict = mine.role, mine.grade, mine.verdict
            finding.evidence += mine.evidence
            if mine.fix is not None and _asked(mine.fix) != _asked(finding.fix) and supported(finding):
                finding.fix = mine.fix  # the experiments found another one
    there = {f.code for f in training.findings}
    training.findings += [k.made for k in file.findings if k.made is not None and k.code not in there]
    order = list(kept)
    training.findings.sort(key=lambda f: (ROLES.index(f.role), order.index(f.code) if f.code in kept else len(order)))
    if file.reason:
        training.symptom.reason = file.reason
    diagnosis.run.notes += file.notes


def refuted(finding: Finding) -> bool:
    return finding.verdict is not None and finding.verdict.name == "refuted"


def supported(finding: Finding) -> bool:
    return finding.verdict is not None and finding.verdict.name == "supported"
