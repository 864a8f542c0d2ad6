"""Which fixes are run, in which order, with how many seeds; and what the answers do to the order of the findings.

The order follows what is worth knowing first:
1. the unchanged script and the fix of the first cause, side by side. Where the re-run does not show the fault, nothing
   that follows could prove anything, and the search ends.
2. the placebo, a control of a second seed (is the fault a lottery?), the other causes' fixes. Where the first fix did not
   settle it, or where its disease has look-alikes that leave the same traces, the look-alikes' standard interventions too.
3. where nothing that was named helps: the standard interventions of what this script does (it clips, decays, drops) and of
   what helps most often.
4. where no single fix explains, or a fault that is certain stays without effect: fixes together. Of two faults each alone
   may keep a training stuck, so that either fix alone does nothing. Each member is then judged by leaving it out.
5. more seeds, up to five, for what is still undecided, the largest gain first.
Every arm has the same number of steps: as many as were recorded, or as the two arms of 1 come to in a quarter of the
budget. Nothing has to be guessed about the speed of the script for that.

The engine's order is changed only by what was shown. Supported findings come first: a fault that is certain before a tuning
of the steps (a longer learning rate helps many a network whose wiring is wrong), then the larger gain; gains that differ by
less than EQUAL keep the engine's order. What makes it learn although no rule named it becomes a finding of its own: the
experiment is its evidence. Of several such with equal gains a change that names one thing comes before the length of the step,
which makes up for many others (PLAIN). Refuted findings become latent. The exception is a certain fault while which nothing
can be learned at all: if no other fix made the training learn either, it stays a cause, for there is a second one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from unstuck import engine
from unstuck.experiments import keras_fixes
from unstuck.experiments import verdict as verdicts
from unstuck.experiments.arms import NO_TIME, Arm, ArmResult, Target, run_arms, unlike
from unstuck.experiments.kinds import KERAS, NOT_IN_KERAS, SUPPORTED
from unstuck.experiments.verdict import Arms, Known, judge, not_verified
from unstuck.findings import ROLES, Diagnosis, Evidence, Finding, Fix, Intervention, Training, Verdict
from unstuck.stats import paired
from unstuck.trace.facts import Facts, Site
from unstuck.trace.trace import RunRecord, Trace

Progress = Callable[[int, int, str], None]  # (arms done, arms planned, what is being tried)
Runner = Callable[..., Iterator[tuple[Arm, ArmResult]]]  # as run_arms

PLACEBO = Intervention("placebo")
TOGETHER = "together"  # arguments: {"fixes": a JSON list of Interventions}
EQUAL = 0.1  # of the skill: gains that differ by less are equal
ROUNDS = 4  # rounds of arms, one after the other, among which the budget is divided
MEMBERS = 3  # fixes run together
LONGER = 300  # steps of an arm at least, where the recorded run ended in an error

_HIGH = (Intervention("scale-learning-rate", {"factor": 0.1}), Intervention("scale-learning-rate", {"factor": 0.01}))
_LOW = (Intervention("scale-learning-rate", {"factor": 10.0}), Intervention("scale-learning-rate", {"factor": 100.0}))
_INIT = (Intervention("reinitialise"),)
_INPUTS = (Intervention("standardise-inputs"),)
_ADAPTIVE = (Intervention("adaptive-optimizer"), Intervention("adaptive-optimizer", {"lr": 0.01}))
_WIDE = (Intervention("widen"),)
_UNCLIPPED = (Intervention("no-clipping"),)
_NO_DECAY = (Intervention("scale-weight-decay", {"factor": 0.0}),)
_LITTLE_DROPOUT = (Intervention("set-dropout", {"p": 0.1}),)
_RECTIFIED = Intervention("rectify-sigmoids")
# Standard interventions by the disease they would cure.
STANDARD: dict[str, tuple[Intervention, ...]] = {
    "S501": _HIGH, "S502": _LOW, "I602": _INIT, "D203": _INPUTS, "S505": _ADAPTIVE, "I605": _WIDE, "G305": _UNCLIPPED,
    "S503": _NO_DECAY, "S504": _LITTLE_DROPOUT, "G303": _ADAPTIVE,
}  # fmt: skip
# Disease -> diseases that leave the same traces and have a standard intervention; the likeliest confusion first.
LOOKALIKES: dict[str, tuple[str, ...]] = {
    # Steps that overshoot, units that die or saturate: the rate, the scale of the weights, and the scale of the inputs all
    # enter the same product, and a step thrown far leaves dead units behind whatever threw it.
    "S501": ("I602", "D203"),
    "I602": ("S501", "D203"),
    # A narrow layer of ReLUs is dead where all of its few units are off (Lu et al. 2020, Dying ReLU and initialization).
    "I603": ("S501", "I602", "D203", "I605"),
    "I604": ("S501", "I602", "D203"),
    "G304": ("S501", "I602", "D203"),
    "N701": ("S501", "I602", "D203"),
    # Little happens: a short step, a flat valley, gradients that arrive small, and clipping are one number, <g, step>.
    "S502": ("S505", "D203", "G305"),
    "S505": ("S502", "D203"),
    "D203": ("S502", "S505", "S501"),
    "G303": ("S502", "I602", "S505"),
    "G305": ("S502",),
    "W103": ("S502",),
    "S503": ("S502",),
    # Nothing is learned although the steps are sound: labels that do not belong, or a network that cannot hold them.
    "D202": ("I605", "S501", "S502"),
    "I605": ("S502", "S505"),
    "D207": ("S502",),
}
# Where the engine names no cause of a training that is stuck: what helps most often.
ANYTHING = ("S502", "S501", "D203", "S505", "I602")
# Of equal gains the first: labels and inputs, what the script adds to the plain update, the weights, the length of the step, and
# last what changes more than one thing at once.
PLAIN = ("D202", "D203", "G305", "S503", "S504", "I602", "S501", "S502", "G303", "S505", "I605")
SATURATING = 3  # layers of sigmoid or tanh: what Adam makes up for there is the gradient's way through them
SHIFTED = 3.0  # times the score at 0: the best shift of the labels is worth trying although others come near it


class Candidate(NamedTuple):
    """One intervention that is tried; `finding` is None for a look-alike's standard intervention."""

    intervention: Intervention
    finding: Finding | None
    code: str

    @property
    def key(self) -> str:
        return key_of(self.intervention)


def key_of(intervention: Intervention | None) -> str:
    return "" if intervention is None else msgspec.json.encode(intervention, order="sorted").decode()


def verify(
    diagnosis: Diagnosis,
    record: RunRecord,
    budget: float,
    pool: Any,
    progress: Progress | None = None,
    *,
    target: Target | None = None,
    run: Runner | None = None,
    spare: Any = None,
) -> Diagnosis:
    """Run the fixes of the worst training; its findings get verdicts and are put in order. budget: seconds of wall time.

    target: where the record does not say what to run (`-c code`). Ctrl-C and the end of the budget keep what is known so
    far. The diagnosis is changed in place and returned. spare: a pool of copies of the recorded process itself
    (`snapshot.Snapshot`), for a script that turns out not to be repeatable.
    """
    runner = partial(run or run_arms, target=target)
    search = _Search(diagnosis, record, budget, pool, progress or (lambda done, planned, doing: None), runner)
    try:
        search.go()
        if spare is not None and search.unrepeatable:
            search = _elsewhere(search, spare)
    except KeyboardInterrupt:
        search.interrupted = True
    search.conclude()
    return diagnosis


def _elsewhere(first: _Search, spare: Any) -> _Search:
    """The search on copies of the process, after the first one whose re-run failed; where there are none, that one."""
    left = first.deadline - time.monotonic()
    if spare.reason:
        first.unfit += f"; a copy of the running process was not possible: {spare.reason}"
        return first
    second = _Search(first.diagnosis, first.record, left, spare, first.progress, first.run)
    try:
        second.go()
    except KeyboardInterrupt:
        second.interrupted = True
    if second.unfit:
        second.unfit = f"{first.unfit}; {second.unfit}"
    else:
        why = first.unfit[0].upper() + first.unfit[1:]
        first.diagnosis.run.notes.append(f"{why}. The fixes were tried on copies of its process, made {spare.when}")
    return second


class _Search:
    """One search: the results so far, and the questions that decide what is run next."""

    def __init__(
        self, diagnosis: Diagnosis, record: RunRecord, budget: float, pool: Any, progress: Progress, run: Runner
    ) -> None:
        self.diagnosis, self.record, self.pool, self.progress, self.run = diagnosis, record, pool, progress, run
        self.training: Training = diagnosis.worst
        self.trace = trace_of(record, self.training)
        if self.trace is not None and keras_fixes.in_keras(self.trace):
            keras_fixes.complete(self.training.findings, self.trace)
        self.began = time.monotonic()
        self.deadline = self.began + budget
        self.jobs = max(int(getattr(pool, "jobs", 2)), 1)
        self.candidates = candidates(self.training, self.trace)
        # Of each arm: those of the recorded run, or what the first ones came to in their share of the budget.
        self.steps = max(self.training.steps, 1)
        self.share = budget / min(ROUNDS, max(1, math.ceil((2 + len(self.candidates)) / self.jobs)))
        self.error = _ended_by(record)
        if self.error:
            # How long the script would have gone on nobody knows; what matters is whether an arm gets past the error and learns.
            self.steps = max(2 * self.steps, LONGER)
        self.steps = min(self.steps, _while_new(self.training, self.trace) or self.steps)
        self.results: dict[str, dict[int, ArmResult]] = {}
        self.ends: dict[int, float] = {}  # skill at the end of a result, by its identity: long runs have long lists
        self.planned = 0
        self.interrupted = False
        self.unfit = ""  # why nothing can be proven here
        self.unrepeatable = False  # ... because the unchanged script could not be run again, or is another one then
        self.how: Literal["fork", "rerun"] = getattr(pool, "how", "rerun")
        self.control_says = ""
        self.groups: list[list[Candidate]] = []

    # -------------------------------------------------------------------------------------------------- what is run

    def go(self) -> None:
        if not self.candidates:
            return
        first = self.candidates[0]
        end = min(self.deadline, time.monotonic() + self.share)
        self.fetch([(None, 0), (first.intervention, 0), *([(PLACEBO, 0)] if self.jobs > 2 else [])], end)
        if not self._control_fits():
            return
        came = [by_seed[0].steps for by_seed in self.results.values() if by_seed[0].ok]
        self.steps = min(self.steps, max(min(came), 1))
        if first.intervention.kind in verdicts.REDRAWS and self._gain(first) >= paired.FAR:
            # It works and needs seeds to be believed; look-alikes can wait.
            for seed in range(1, paired.MOST):
                if self._verdict(first).name == "inconclusive":
                    self.fetch([(None, seed), (first.intervention, seed)])
        settled = self._verdict(first).name == "supported"
        rest = [c for c in self.candidates[1:] if not settled or (c.finding is not None and c.finding.role == "cause")]
        if settled and (first.finding is None or first.finding.grade != "certain"):
            # Its look-alikes may do as well, and better; more of the same need not be tried.
            rest = [c for c in self.candidates[1:] if c.finding is None or c.finding is not first.finding]
        self.fetch([(PLACEBO, 0), (None, 1), *((c.intervention, 0) for c in rest)])
        self._suspects()
        self._together()
        for seed in range(1, paired.MOST):
            open_ = self._undecided()
            if not open_ or self._late() or self._seedless():
                break
            self.fetch([(None, seed), *((i, seed) for i in open_)])
        if any(len(r) > 2 for k, r in self.results.items() if k) and not self._late():
            self.fetch([(PLACEBO, 1)])

    def fetch(self, wanted: Sequence[tuple[Intervention | None, int]], end: float | None = None) -> None:
        """Run these arms, without those that are known, a few at a time. `end`: when they are cut, default the deadline."""
        arms = []
        for intervention, seed in wanted:
            arm = Arm(intervention, seed, self.steps)
            if seed not in self.results.get(key_of(intervention), {}) and arm not in arms:
                arms.append(arm)
        done = sum(map(len, self.results.values()))
        self.planned = max(self.planned, done + len(arms))
        while arms and not self._late():
            wave, arms = arms[: 2 * self.jobs], arms[2 * self.jobs :]
            self.progress(done, self.planned, _telling(wave[: self.jobs]))
            training = self.trace.facts.id if self.trace is not None else None
            for arm, result in self.run(self.record, wave, self.pool, end or self.deadline, training=training):
                if result.reason == NO_TIME and not result.ok:
                    continue
                self.results.setdefault(key_of(arm.intervention), {})[arm.seed] = self._crashed(result)
                done += 1
                waiting = [a for a in wave if a.seed not in self.results.get(key_of(a.intervention), {})]
                self.progress(done, self.planned, _telling(waiting[: self.jobs]))

    def _crashed(self, result: ArmResult) -> ArmResult:
        """An arm that ends with the error of the recorded run has shown something: from there on it learns nothing."""
        if not self.error or result.ok or self.error not in result.reason.split(":")[0]:
            return result
        rows = {name: getattr(result, name)[: self.steps] for name in ("losses", "skills", "accuracies")}
        rows = {name: row + [math.nan] * (self.steps - len(row)) for name, row in rows.items()}
        return msgspec.structs.replace(
            result, ok=True, reason=self.error, symptom=verdicts.CRASHED, steps=self.steps, final_loss=math.nan,
            final_skill=math.nan, **rows,
        )  # fmt: skip

    def _late(self) -> bool:
        """Is there no time left for another arm of the length seen so far?"""
        lengths = [r.seconds for by_seed in self.results.values() for r in by_seed.values() if r.ok]
        return time.monotonic() + 0.5 * (max(lengths) if lengths else 0.0) >= self.deadline

    def _seedless(self) -> bool:
        """Copies have one set of initial weights; where nothing is drawn later, other seeds are the same run again."""
        control = self.results.get("", {})
        if self.how != "fork" or not {0, 1} <= control.keys() or not _same(control[0], control[1]):
            return False
        return control[0].symptom != "non-finite"  # one that overflows has not had the time to differ

    def _control_fits(self) -> bool:
        control = self.results.get("", {}).get(0)
        if control is None:
            self.unfit = "the budget ended before the unchanged script had been run again"
        elif not control.ok:
            what = "script could not be run again" if self.how == "rerun" else "copy of the process could not go on"
            self.unfit = f"the unchanged {what}: {control.reason}"
            self.unrepeatable = True
        else:
            fits, self.control_says = verdicts.reproduces(
                _losses(self.trace), self.training.symptom.name, control, self.known()
            )
            if not fits:
                self.unfit = self.control_says[0].lower() + self.control_says[1:]
                self.unrepeatable = True
        return not self.unfit

    def _suspects(self) -> None:
        """Where nothing that was named explains: what this script does besides the plain update, and what helps most often."""
        causes = [f for f in self.training.findings if f.role == "cause"]
        if not _sick(self.training) or any(self._verdict(c).name == "supported" for c in self.candidates):
            return
        tried = {id(c.finding) for c in self.candidates if self._ran(c) and self._verdict(c).name != "not-verified"}
        if any(f.grade == "certain" and id(f) not in tried for f in causes):
            return  # a fault that is certain and cannot be put to the test is answer enough
        known = {c.key for c in self.candidates}
        more = [c for c in located(suspects(self.trace), self.trace) if c.key not in known]
        if any(math.isfinite(self._gain(c)) and self._gain(c) >= paired.FAR for c in self.candidates):
            more = [c for c in more if c.code not in (*ANYTHING, "G303")]  # one of them helps, and wants seeds rather than company
        self.candidates += more
        self.fetch([(c.intervention, 0) for c in more])

    def _together(self) -> None:
        """Fixes of findings on top of the best one, or all of them where none helps alone."""
        if TOGETHER not in SUPPORTED:
            return
        tried = self._best_doses([c for c in self.candidates if c.finding is not None and self._ran(c)])
        supported = [c for c in tried if self._verdict(c).name == "supported"]
        base = [max(supported, key=self._gain)] if supported else []
        # On top of a fix that works only what is certain or shown is worth another look: latent guesses are not.
        others = [
            c for c in tried
            if c not in supported and c.finding is not None
            and (c.finding.grade == "certain" or (not supported and c.finding.grade == "likely"))
        ]  # fmt: skip
        members = (base + others)[:MEMBERS]
        if len(members) < 2 or not others:
            return
        self.groups.append(members)
        wanted = [(together(members), 0)]
        if len(members) > 2:
            wanted += [(together([m for m in members if m is not left]), 0) for left in members]
        self.fetch(wanted)

    def _best_doses(self, tried: Sequence[Candidate]) -> list[Candidate]:
        """One candidate of each finding: the one that gains most; of equals the last, the stronger one."""
        best: dict[int, Candidate] = {}
        for candidate in tried:
            known = best.get(id(candidate.finding))
            if known is None or self._gain(candidate) >= self._gain(known) - paired.BAND:
                best[id(candidate.finding)] = candidate
        return list(best.values())

    def _undecided(self) -> list[Intervention]:
        """Interventions that more seeds could decide: the first cause's, then the largest gains."""
        open_ = [c for c in self.candidates if self._ran(c) and self._verdict(c).name == "inconclusive"]
        final = ("does not explain", "too few to see", "a change that does nothing")  # no number of seeds changes these
        open_ = [c for c in open_ if not any(words in self._verdict(c).reason for words in final)]
        proven = [c for c in self.candidates if self._verdict(c).name == "supported"]
        if proven:  # then only what the engine named as well, or what does clearly better
            best = max(map(self._gain, proven)) + EQUAL
            open_ = [c for c in open_ if (c.finding is not None and c.finding.role == "cause") or self._gain(c) > best]
        most = max(map(self._gain, open_), default=0.0)

        def turn(c: Candidate) -> tuple[bool, bool, int, float]:
            """Of equal gains what would be credited with them: seeds for the others could not change the answer."""
            place = PLAIN.index(c.code) if c.finding is None else -1
            return c is not self.candidates[0], self._gain(c) < most - EQUAL, place, -self._gain(c)

        chosen = sorted(open_, key=turn)[:2]
        wanted = [c.intervention for c in chosen]
        for members in self.groups:
            for left in members:
                found = self._group_verdict(members, left)
                if found.name == "inconclusive":
                    wanted += [together(members), together([m for m in members if m is not left])]
        return wanted

    # ------------------------------------------------------------------------------------------------- what is known

    def known(self) -> Known:
        symptom = self.training.symptom
        rest = max(0.0, 1.0 - symptom.base_rate / symptom.chance) if symptom.base_rate and symptom.chance else 0.0
        reference = symptom.base_rate if symptom.chance is None else None
        placebos = self.results.get(PLACEBO_KEY, {})
        placebo = None
        control = self.results.get("", {}).get(0)
        if 0 in placebos and control is not None and _same(control, placebos[0]):
            placebo = 0.0  # to the last digit; scores may be sampled at other steps
        elif 0 in placebos:
            arms = Arms("placebo", self.results.get("", {}), placebos)
            scores = verdicts.scores_of(arms, Known(rest, symptom.constant_answer, reference)) if arms.seeds else ""
            if not isinstance(scores, str):
                worst = max(scores.differences, key=abs)
                placebo = worst if math.isfinite(worst) else None
        ends = [
            self._end(r)
            for key, by_seed in self.results.items() if key and key != PLACEBO_KEY and not self._other_loss(key)
            for seed, r in by_seed.items() if r.ok and seed == 0
        ]  # fmt: skip
        best = max([e for e in ends if math.isfinite(e)], default=None)
        reachable = accuracy = None
        if best is None or best < 0.5 * (1.0 + rest):
            reachable, accuracy = self._classifier()
        constant = symptom.constant_answer
        if constant is None and control is not None and control.classes and keras_fixes.in_keras(self.trace):
            constant = 1.0 / control.classes  # how often each label comes was not counted: some of them are outside of the range
        return Known(
            rest, constant, reference, self.training.steps, best, reachable, accuracy, placebo,
            round(time.monotonic() - self.began, 3),
        )  # fmt: skip

    def _end(self, result: ArmResult) -> float:
        if id(result) not in self.ends:
            self.ends[id(result)] = verdicts.end_of(result)
        return self.ends[id(result)]

    def _other_loss(self, key: str) -> bool:
        return any(f'"kind":"{kind}"' in key or f'\\"kind\\":\\"{kind}\\"' in key for kind in verdicts.OTHER_LOSS)

    def _classifier(self) -> tuple[float | None, float | None]:
        """(skill, accuracy) of the best simple classifier on the captured samples, where the engine had asked for it."""
        symptom = self.training.symptom
        learn = self.trace.known.get("learnable") if self.trace is not None else None
        best = learn.best if learn is not None and learn.found else None
        if best is None:
            skill = 1.0 - symptom.reachable / symptom.chance if symptom.reachable is not None and symptom.chance else None
            return skill, None
        return (1.0 - best.loss / symptom.chance if symptom.chance else None), best.accuracy

    def _ran(self, candidate: Candidate) -> bool:
        return 0 in self.results.get(candidate.key, {})

    def _verdict(self, candidate: Candidate) -> Verdict:
        arms = Arms(candidate.intervention.kind, self.results.get("", {}), self.results.get(candidate.key, {}))
        return self._judge(arms, candidate)

    def _judge(self, arms: Arms, candidate: Candidate) -> Verdict:
        certain = candidate.finding is not None and candidate.finding.grade == "certain"
        found = judge(paired_up(arms), msgspec.structs.replace(self.known(), certain=certain))
        return msgspec.structs.replace(found, how=self.how) if found.how else found

    def _group_verdict(self, members: Sequence[Candidate], left: Candidate) -> Verdict:
        """On one member: all fixes together against all but this one."""
        others = [m for m in members if m is not left]
        without = self.results.get(key_of(together(others)), {})
        return self._judge(Arms(left.intervention.kind, without, self.results.get(key_of(together(members)), {})), left)

    def _gain(self, candidate: Candidate) -> float:
        found = self._verdict(candidate)
        return gain_of(found)

    # ------------------------------------------------------------------------------------------------ what is said

    def conclude(self) -> None:
        """Verdicts into the findings, then their order."""
        tried: dict[str, Verdict] = {}
        doses: list[tuple[Candidate, Verdict]] = []
        for candidate in self.candidates:
            found = not_verified(self.unfit) if self.unfit else self._verdict(candidate)
            if self.interrupted and found.reason.startswith("the budget ended"):
                found = not_verified("it was stopped before it was its turn")
            if candidate.finding is None:
                tried[candidate.key] = found
            elif candidate.intervention == _of(candidate.finding).intervention:
                candidate.finding.verdict = found
            elif found.name == "supported":  # a stronger dose
                doses.append((candidate, found))
        for candidate, found in doses:
            own = candidate.finding.verdict if candidate.finding is not None else None
            if candidate.finding is not None and (own is None or own.name != "supported"):
                _take(candidate.finding, candidate.intervention, found)
        for finding in self.training.findings:
            if finding.verdict is None and finding.role == "cause":
                finding.verdict = not_verified(_no_experiment(finding, self.trace) + self._in_vain())
        if not self.candidates:
            self.diagnosis.run.notes.append("Nothing was run again: no finding has a fix that can be tried")
        if self.unfit or not self.candidates:
            return
        for members in self.groups:
            self._conclude_group(members)
        looks = [(c, tried[c.key]) for c in self.candidates if c.finding is None and tried[c.key].name == "supported"]
        rank(self.training, looks, self.trace.facts if self.trace is not None else None)
        self._note()

    def _in_vain(self) -> str:
        """Of labels that no network can learn: what was tried all the same, because it is what one would try."""
        if self.unfit or _while_new(self.training, self.trace) is None:
            return ""
        judged = [(c, self._verdict(c)) for c in self.candidates if c.finding is None and self._ran(c)]
        vain = [describe(c.intervention) for c, v in judged if v.name in {"refuted", "inconclusive"} and gain_of(v) < paired.FAR]
        return f"; tried in vain on rows that were new: {', '.join(vain)}" if vain else ""

    def _conclude_group(self, members: list[Candidate]) -> None:
        found = [(m, self._group_verdict(members, m)) for m in members]
        for member, mine in found:
            if member.finding is None or mine.name != "supported" or verdicts.supported(member.finding):
                continue
            if gain_of(mine) < paired.FAR:
                continue  # the others' training is made a little better; what held this one back is the others' doing
            others = " and ".join(m.code for m in members if m is not member)
            text = f"together with the fix of {others}: {mine.reason.replace('; unchanged', '; with that one alone')}"
            member.finding.verdict = msgspec.structs.replace(mine, reason=text)

    def _note(self) -> None:
        count = sum(map(len, self.results.values()))
        if not count:
            return
        known = self.known()
        what, says = "re-runs", self.control_says
        if self.how == "fork":
            what, says = "copies", says.replace("re-run", "copy")
        text = f"{count} {what} of up to {self.steps:,} steps in {known.seconds:.0f} s. {says}"
        if self._seedless():
            text += "; other seeds change nothing after that point"
        if not all(r.seeded for by_seed in self.results.values() for r in by_seed.values()):
            text += "; the script sets no seed, so the re-runs were seeded"
        if known.placebo is not None:
            text += f"; a change that does nothing changes its score by {abs(known.placebo):.3f}"
        self.diagnosis.run.notes.append(text)


PLACEBO_KEY = key_of(PLACEBO)


def paired_up(arms: Arms) -> Arms:
    """The same arms; those of the fix that were another training from the start (see `arms.unlike`) prove nothing."""
    fixed = dict(arms.fixed)
    for seed, result in arms.fixed.items():
        why = unlike(arms.kind, arms.control[seed], result) if seed in arms.control and result.ok else ""
        if why:
            fixed[seed] = msgspec.structs.replace(result, ok=False, reason=why)
    return Arms(arms.kind, arms.control, fixed)


def _same(one: ArmResult, other: ArmResult) -> bool:
    """Are the losses of two arms the same number at every step that both of them measured?"""
    n = min(len(one.losses), len(other.losses))
    a, b = np.array(one.losses[:n]), np.array(other.losses[:n])
    common = ~np.isnan(a) & ~np.isnan(b)
    return bool(common.any()) and bool((a[common] == b[common]).all())


# ---------------------------------------------------------------------------------------------------------- the choice


def candidates(training: Training, trace: Trace | None = None) -> list[Candidate]:
    """What is worth trying, the most telling first: causes, look-alikes of the first, the other findings. Of a training without
    a named cause: its suspects."""
    usable = [f for f in training.findings if f.role in {"cause", "latent"} and _runnable(f, trace)]
    causes = [f for f in usable if f.role == "cause"]
    found = [_of(f) for f in causes]
    # How much longer or shorter a step should be is the least certain part of a diagnosis: twice the dose is tried as well.
    doubled = [Candidate(dose, f, f.code) for f in causes if (dose := _double(_of(f).intervention)) is not None]
    # Adam makes up for small gradients as far as it can; ReLU does not make them small.
    doubled += [Candidate(_RECTIFIED, f, f.code) for f in causes if f.code == "G303"]
    found += doubled if len(causes) == 1 else []
    named = training.cause
    alike: list[Candidate] = []
    if named is not None:
        alike = [Candidate(i, None, code) for code in LOOKALIKES.get(named.code, ()) for i in STANDARD[code]]
    elif _sick(training):
        alike = suspects(trace)
    codes = {c.code for c in alike}
    others = [f for f in usable if f.role == "latent"]
    found += [_of(f) for f in others if f.code in codes]
    found += alike
    found += [_of(f) for f in others if f.code not in codes] + doubled
    unique: dict[str, Candidate] = {}
    for candidate in located(found, trace):
        unique.setdefault(candidate.key, candidate)
    return list(unique.values())


def located(found: Sequence[Candidate], trace: Trace | None) -> list[Candidate]:
    """Look-alikes' interventions with what Keras' experiments have to be told."""
    if trace is None or not keras_fixes.in_keras(trace):
        return list(found)
    own = [c if c.finding is not None else c._replace(intervention=keras_fixes.located(c.intervention, trace)) for c in found]
    return [c for c in own if c.intervention.kind in KERAS]


def _sick(training: Training) -> bool:
    return training.symptom.stuck or training.symptom.underachieves or training.cause is not None


def suspects(trace: Trace | None) -> list[Candidate]:
    """Standard interventions against what the script does besides the plain update, then those of ANYTHING."""
    facts = trace.facts if trace is not None else Facts()
    codes = ["G305"] if any(c.active for c in facts.clippings) else []
    codes += ["S503"] if any(o.steps and o.weight_decay > 0 for o in facts.optimizers) else []
    codes += ["S504"] if any(m.kind == "dropout" and (m.p or 0.0) > 0.1 for m in facts.modes) else []
    found = [Candidate(i, None, code) for code in codes for i in STANDARD[code]]
    shift = _shift(trace) if trace is not None else None
    if shift is not None:
        found.append(Candidate(shift, None, "D202"))
    deep = sum(layer.op in {"sigmoid", "tanh"} for layer in facts.layers) >= SATURATING
    codes = [("G303" if deep and code == "S505" else code) for code in (*ANYTHING, "I605")]
    return found + [Candidate(i, None, code) for code in codes for i in STANDARD[code]]


def _shift(trace: Trace) -> Intervention | None:
    """The shift at which the labels fit the inputs best, where no shift fits clearly worse. Labels that repeat themselves fit
    nearly as well one row further on, so that statistics alone name none; an experiment may."""
    pairs = trace.pairs
    if pairs is None or not len(pairs.y) or not pairs.x.shape[1]:
        return None
    if "shifted" not in trace.known:
        from unstuck.stats import dependence  # heavy

        trace.known["shifted"] = dependence.offsets(pairs.x, pairs.y, kind=pairs.kind, batch=pairs.batch)
    found = trace.known["shifted"]
    if not found.best or found.p_value > 0.05 or found.score < SHIFTED * max(found.score_at_zero, 0.0):
        return None
    return Intervention("shift-labels", {"offset": found.best, "way": found.way})


def _double(intervention: Intervention) -> Intervention | None:
    """A learning rate scaled by the factor twice, Adam with ten times its usual rate; None for other kinds, and where that leaves
    all reason."""
    if intervention.kind == "adaptive-optimizer" and not intervention.arguments:
        return _ADAPTIVE[1]
    factor = intervention.arguments.get("factor")
    if intervention.kind != "scale-learning-rate" or not isinstance(factor, (int, float)) or not 1e-2 <= factor <= 1e2:
        return None
    return Intervention(intervention.kind, {"factor": float(f"{factor * factor:.3g}")})


def _runnable(finding: Finding, trace: Trace | None) -> bool:
    kinds = KERAS if keras_fixes.in_keras(trace) else SUPPORTED
    return finding.fix is not None and finding.fix.intervention is not None and finding.fix.intervention.kind in kinds


def _of(finding: Finding) -> Candidate:
    assert finding.fix is not None and finding.fix.intervention is not None
    return Candidate(finding.fix.intervention, finding, finding.code)


def _no_experiment(finding: Finding, trace: Trace | None) -> str:
    if finding.fix is None or finding.fix.intervention is None:
        return "this fix cannot be made by a machine"
    if keras_fixes.in_keras(trace) and finding.fix.intervention.kind in NOT_IN_KERAS:
        return NOT_IN_KERAS[finding.fix.intervention.kind]
    return f"no experiment is known for this fix ({finding.fix.intervention.kind})"


def together(members: Sequence[Candidate]) -> Intervention:
    """Several fixes at once; one is itself."""
    if len(members) == 1:
        return members[0].intervention
    return Intervention(TOGETHER, {"fixes": f"[{','.join(m.key for m in members)}]"})


def _ended_by(record: RunRecord) -> str:
    """Type of the error that ended the recorded run in the middle of its training; '' where none did."""
    fatal = [e.type for e in record.run.exceptions if e.fatal and e.phase != "script"]
    return fatal[-1] if fatal and record.run.exit == fatal[-1] else ""


def trace_of(record: RunRecord, training: Training) -> Trace | None:
    """The trace a training's diagnosis was made from."""
    own = next((t for t in record.traces if t.known.get("symptom") is training.symptom), None)
    return own or next((t for t in record.traces if t.facts.name == training.name), None)


def _while_new(training: Training, trace: Trace | None) -> int | None:
    """Steps of the first pass over the data, where the inputs say nothing about the labels. More units or a longer step learn such
    labels by heart as soon as rows come again; a loss that falls before that says more. None: arms may be as long as the run."""
    named = training.cause
    given = next((i for i in trace.facts.inputs if i.distinct_rows and i.shape), None) if trace is not None else None
    if named is None or named.code != "D202" or given is None or (named.fix is not None and named.fix.intervention is not None):
        return None
    rows = given.part_of or given.distinct_rows
    return max(int(rows / max(given.shape[0], 1)), 1)


def _losses(trace: Trace | None) -> dict[int, float]:
    if trace is None:
        return {}
    return {int(s): float(v) for s, v in zip(trace.series.steps, trace.series["loss"]) if np.isfinite(v)}


# ----------------------------------------------------------------------------------------------------------- the order


def gain_of(verdict: Verdict | None) -> float:
    """Middle of the interval where there is one, else the difference of the skills."""
    if verdict is None:
        return -math.inf
    if len(verdict.interval) == 2:
        return sum(verdict.interval) / 2
    if verdict.skill_control is not None and verdict.skill_fixed is not None:
        return verdict.skill_fixed - max(verdict.skill_control, 0.0)
    return 0.0


def rank(training: Training, lookalikes: Sequence[tuple[Candidate, Verdict]], facts: Facts | None = None) -> None:
    """Roles and order of a training's findings from their verdicts; `lookalikes` are the supported ones without finding."""
    findings = training.findings
    before = {id(f): i for i, f in enumerate(findings)}
    helped = any(map(verdicts.supported, findings)) or bool(lookalikes)
    healthy = training.symptom.learns and not any(f.role == "cause" for f in findings)
    for finding in findings:
        if verdicts.supported(finding):
            if healthy and (finding.bearing == "choice" or gain_of(finding.verdict) < paired.FAR):
                continue  # a training that learns can nearly always be made to learn a little faster
            finding.role = "cause"
            finding.grade = "likely" if finding.grade == "possible" else finding.grade
        elif verdicts.refuted(finding) and finding.role == "cause":
            if finding.grade == "certain" and finding.bearing == "blocks" and not helped:
                assert finding.verdict is not None
                reason = f"{finding.verdict.reason}: this fix alone is not enough, there is a second fault"
                finding.verdict = msgspec.structs.replace(finding.verdict, name="inconclusive", reason=reason)
                continue
            finding.role = "latent"
            finding.grade = "possible" if finding.grade == "likely" else finding.grade
    _credit(training, lookalikes, facts)
    before |= {id(f): len(before) for f in findings if id(f) not in before}
    proven_codes = {f.code for f in findings if verdicts.supported(f)}
    for finding in findings:  # what holds the training back by itself is nobody's consequence
        finding.explains = [code for code in finding.explains if code not in proven_codes]
    best = max((gain_of(f.verdict) for f in findings if verdicts.supported(f)), default=0.0)

    def place(finding: Finding) -> tuple[int, int, int, int, int]:
        proven = verdicts.supported(finding)
        equal = proven and gain_of(finding.verdict) >= best - EQUAL
        return (
            ROLES.index(finding.role), 0 if proven else 1, 0 if finding.grade == "certain" or not proven else 1,
            0 if equal or not proven else 1, before[id(finding)],
        )  # fmt: skip

    findings.sort(key=place)


def _credit(training: Training, lookalikes: Sequence[tuple[Candidate, Verdict]], facts: Facts | None) -> None:
    """What worked without having been suspected: the finding of that code is promoted, or there is one from now on."""
    if not lookalikes:
        return
    most = max(gain_of(v) for _, v in lookalikes)
    equals = [(c, v) for c, v in lookalikes if gain_of(v) >= most - EQUAL]
    code = min((c.code for c, _ in equals), key=PLAIN.index)
    candidate, found = max(((c, v) for c, v in equals if c.code == code), key=lambda item: gain_of(item[1]))
    own = [gain_of(f.verdict) for f in training.findings if verdicts.supported(f)]
    if own and max(own) >= most - EQUAL:
        return  # a named cause explains as much
    words = describe(candidate.intervention)
    text = f"{words[0].upper()}{words[1:]} makes it learn: it {found.reason}."
    mine = next((f for f in training.findings if f.code == candidate.code and not verdicts.supported(f)), None)
    evidence = Evidence(text, value=gain_of(found), unit="skill", source="experiment")
    first = training.cause
    if mine is not None and (mine.grade == "possible" or mine.role in {"latent", "consequence"}):
        mine.role, mine.grade = "cause", "likely"
        _take(mine, candidate.intervention, found)
        mine.evidence.append(evidence)
    elif first is not None and first.grade == "certain" and not verdicts.refuted(first):
        first.evidence.append(evidence)  # a certain fault that was not shown to be harmless stays the first answer
    elif mine is not None:
        mine.evidence.append(evidence)
    else:
        training.findings.append(
            Finding(
                candidate.code, engine.rules()[candidate.code].name, "likely",
                f"Found by experiment: {words} makes it learn.", evidence=[evidence],
                locations=_places(candidate.code, facts),
                fix=Fix(f"As in the experiment: {words}.", "unsafe", intervention=candidate.intervention), verdict=found,
            )
        )  # fmt: skip


def _take(finding: Finding, intervention: Intervention, found: Verdict) -> None:
    """What this finding's own fix did not do, another dose or another fix of the same disease did: it is the fix from now on."""
    words = describe(intervention)
    finding.verdict = msgspec.structs.replace(found, reason=f"{words}: {found.reason}")
    finding.fix = Fix(f"As in the experiment: {words}.", "unsafe", intervention=intervention)


def _places(code: str, facts: Facts | None) -> list[Site]:
    """The lines that a finding made by experiment is about."""
    if facts is None:
        return []
    given: list[Site | None]
    if code[0] == "D":
        given = [i.site for i in facts.inputs]
    elif code == "G305":
        given = [c.site for c in facts.clippings if c.active]
    elif code == "S504":
        given = [m.made for m in facts.modes if m.kind == "dropout"]
    elif code[0] == "S":
        given = [o.made for o in facts.optimizers if o.steps]
    else:
        given = [p.made for p in facts.parameters]
    return list(dict.fromkeys(site for site in given if site is not None))[:3]


# ----------------------------------------------------------------------------------------------------------- the words

_WORDS = {
    "remove-activation": "removing the {activation}",
    "insert-activation": "applying {activation} before the loss",
    "replace-loss": "replacing the loss by {loss}",
    "negate-loss": "turning the sign of the loss",
    "change-dim": "changing the axis to {dim}",
    "transpose-classes": "moving the classes to axis 1",
    "align-targets": "giving the targets the shape of the outputs",
    "scale-learning-rate": "scaling the learning rate by {factor:g}",
    "set-learning-rate": "setting the learning rate to {lr:g}",
    "constant-learning-rate": "holding the learning rate constant",
    "adaptive-optimizer": "using Adam (rate {lr:g})",
    "zero-before-backward": "zeroing the gradients before each backward",
    "keep-gradients-until-step": "keeping the gradients until the step",
    "call-step": "calling step after each backward",
    "add-parameters": "giving the optimizer all parameters",
    "unfreeze": "unfreezing the parameters",
    "reinitialise": "drawing the initial weights anew",
    "standardise-inputs": "standardising the inputs",
    "shift-labels": "shifting the labels by {offset:g}",
    "shuffle": "shuffling the samples",
    "class-weights": "weighting the classes",
    "scale-weight-decay": "scaling the weight decay by {factor:g}",
    "set-dropout": "setting dropout to {p:g}",
    "clip-gradients": "clipping the gradient norm at {norm:g}",
    "scale-clipping": "scaling the clipping threshold by {factor:g}",
    "no-clipping": "leaving the gradients unclipped",
    "train-mode": "training in training mode",
    "batch-statistics": "using the statistics of the batch",
    "full-precision": "computing in float32",
    "mean-reduction": "averaging the loss instead of summing it",
    "scale-loss": "scaling the loss by {factor:g}",
    "widen": "widening the narrowest layer",
    "resize-head": "giving the last layer {units:g} outputs",
    "renumber-labels": "counting the labels from 0",
    "add-activation": "adding activations between the layers",
    "rectify-sigmoids": "using ReLU in place of the sigmoids between the layers",
    "placebo": "changing nothing (placebo)",
}


def describe(intervention: Intervention | None) -> str:
    """An intervention in words, as a gerund: 'scaling the learning rate by 0.1'."""
    if intervention is None:
        return "the unchanged script"
    if intervention.kind == TOGETHER:
        parts = msgspec.json.decode(str(intervention.arguments.get("fixes", "[]")), type=list[Intervention])
        return " and ".join(describe(p) for p in parts) or "several changes at once"
    try:
        return _WORDS[intervention.kind].format(**{"lr": 1e-3} | intervention.arguments)  # Adam's own where none is given
    except (KeyError, ValueError, TypeError, IndexError):
        return intervention.kind.replace("-", " ")


def _telling(under_way: Sequence[Arm]) -> str:
    """One of the arms under way, a fix rather than a control; there is one line for it."""
    arm = next((a for a in under_way if a.intervention is not None), next(iter(under_way), None))
    return _shown(arm) if arm is not None else ""


def _shown(arm: Arm) -> str:
    return describe(arm.intervention) + (f", seed {arm.seed}" if arm.seed else "")
