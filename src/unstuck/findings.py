"""The second waist: what is said. Plain data; a rule returns a Finding, the engine a Diagnosis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from unstuck.trace.facts import Run, Site

if TYPE_CHECKING:  # it brings numpy, which an observed script may want to be the first to load
    from unstuck.trace.trace import RunRecord

Grade = Literal["certain", "likely", "possible"]
Role = Literal["cause", "latent", "consequence", "note"]
Source = Literal["graph", "values", "statistics", "probe", "experiment", "loop", "exception"]

GRADES: tuple[Grade, ...] = ("certain", "likely", "possible")
ROLES: tuple[Role, ...] = ("cause", "latent", "consequence", "note")

# How a fault bears on learning; the engine turns it into a role once the symptom is known.
#   blocks  while it lasts nothing can be learned, whatever the loss looks like: a cause as soon as it is seen
#   hinders weaker or bounded learning: a cause unless the training is shown to learn
#   choice  may be meant (a frozen backbone): a cause only where the training is shown to be stuck
#   harmless a note, whatever happens
Bearing = Literal["blocks", "hinders", "choice", "harmless"]


class Evidence(msgspec.Struct, frozen=True):
    """One thing that was seen. `text` is a full sentence that a reader without the code understands."""

    text: str
    value: float | None = None
    unit: str = ""
    source: Source = "graph"


class Intervention(msgspec.Struct, frozen=True):
    """A fix as data: what an experiment would change at the boundary of the running training."""

    kind: str
    arguments: dict[str, float | str | bool | list[float]] = msgspec.field(default_factory=dict)


class Verdict(msgspec.Struct, frozen=True):
    """What came of running the fix: the same training, seed and batches, with nothing changed but the intervention.

    Losses in nats, the median over the seeds; each arm's own loss, so that where the fix replaces the loss only the skills
    (1 - loss / chance level of that very loss) and accuracies compare.
    """

    name: Literal["supported", "refuted", "inconclusive", "not-verified"]
    reason: str = ""  # one sentence
    control: float | None = None  # final loss without the fix
    fixed: float | None = None  # final loss with it
    skill_control: float | None = None
    skill_fixed: float | None = None
    interval: list[float] = msgspec.field(default_factory=list)  # of the paired difference in skill, fixed - control
    seeds: int = 0
    steps: int = 0
    how: Literal["replay", "fork", "rerun", ""] = ""
    seconds: float = 0.0
    placebo: float | None = None  # the same difference for an intervention that changes nothing
    curves: dict[str, list[float]] = msgspec.field(default_factory=dict)  # steps, control, fixed: losses of seed 0, thinned


class Fix(msgspec.Struct, frozen=True):
    """What to change. safe: same meaning, only right; unsafe: needs a decision; display: cannot be done by a machine."""

    summary: str
    applicability: Literal["safe", "unsafe", "display"] = "display"
    diff: str | None = None
    intervention: Intervention | None = None


class Finding(msgspec.Struct):
    """One diagnosis. `bearing` decides the role together with the symptom (engine.roles)."""

    code: str
    name: str
    grade: Grade
    summary: str
    bearing: Bearing = "hinders"
    role: Role = "cause"
    evidence: list[Evidence] = msgspec.field(default_factory=list)
    locations: list[Site] = msgspec.field(default_factory=list)
    explains: list[str] = msgspec.field(default_factory=list)
    fix: Fix | None = None
    shown: bool = False  # the evidence itself shows that it holds the training back
    floor: float | None = None  # nats: the lowest loss this fault allows; a plateau there is this fault's doing
    separating: str = ""  # the experiment that would decide, where the evidence does not
    verdict: Verdict | None = None


class NotChecked(msgspec.Struct, frozen=True):
    """A rule that could not be asked."""

    code: str
    reason: str


class Excluded(msgspec.Struct, frozen=True):
    """A rule that was asked and found its subject in order."""

    code: str
    text: str


class Symptom(msgspec.Struct):
    """The state a training is in. Losses in nats."""

    name: str
    since_step: int | None = None
    loss: float | None = None
    chance: float | None = None
    base_rate: float | None = None
    floor: float | None = None
    classes: int | None = None
    skill: float | None = None
    skill_interval: list[float] | None = None
    accuracy: float | None = None
    constant_answer: float | None = None  # accuracy of always answering the most frequent label
    recall: list[float | None] | None = None
    predicted_share: list[float] | None = None
    loss_kind: str = ""
    reason: str = ""
    due_step: int | None = None
    judged: bool = True
    reachable: float | None = None  # cross-validated loss of the best simple classifier on the captured samples
    underachieves: bool = False  # it falls, but stays clearly above what is reachable

    @property
    def learns(self) -> bool:
        return self.name == "learning" and not self.underachieves

    @property
    def stuck(self) -> bool:
        """The loss is shown not to do what it should."""
        return self.name in {
            "at-chance", "at-prior", "above-chance", "plateau", "constant", "diverging", "non-finite",
        }  # fmt: skip


class Training(msgspec.Struct):
    """The diagnosis of one training in the script."""

    symptom: Symptom
    findings: list[Finding] = msgspec.field(default_factory=list)
    excluded: list[Excluded] = msgspec.field(default_factory=list)
    not_checked: list[NotChecked] = msgspec.field(default_factory=list)
    name: str = ""
    steps: int = 0

    @property
    def cause(self) -> Finding | None:
        """The cause to fix first, if there is one."""
        first = self.findings[0] if self.findings else None
        return first if first is not None and first.role == "cause" else None


class Diagnosis(msgspec.Struct):
    """The diagnosis of a run: its trainings, the worst first. The first one is *the* diagnosis."""

    run: Run
    trainings: list[Training]
    trace: str = ""
    record: RunRecord | None = None  # what it was worked out from; None where only the report of it was read

    @property
    def worst(self) -> Training:
        return self.trainings[0]

    @property
    def exit_code(self) -> int:
        """Of our own verbs: 11 a certain cause, 12 a likely cause, 0 nothing found."""
        grades = {t.cause.grade for t in self.trainings if t.cause is not None}
        if "certain" in grades:
            return 11
        return 12 if "likely" in grades else 0
