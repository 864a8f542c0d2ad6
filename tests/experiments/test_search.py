"""The search with a made-up runner: what is run in which order, what is concluded, and what the budget and Ctrl-C leave."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from unstuck.experiments import search
from unstuck.experiments.arms import Arm, ArmResult
from unstuck.experiments.search import LOOKALIKES, STANDARD, describe, verify
from unstuck.findings import Diagnosis, Finding, Fix, Intervention, Symptom, Training
from unstuck.rules import rules
from unstuck.trace import synthetic
from unstuck.trace.facts import Clipping, ModeLayer, Raised, Run
from unstuck.trace.trace import Pairs, RunRecord

CHANCE = math.log(5)
STEPS = 400  # of synthetic.training
POOL = SimpleNamespace(jobs=2)

World = Callable[[list[Intervention], int], float]  # (what is changed, seed) -> final skill, NaN: it cannot be run


def parts(intervention: Intervention | None) -> list[Intervention]:
    if intervention is None or intervention.kind == "placebo":
        return []
    if intervention.kind == search.TOGETHER:
        return msgspec.json.decode(str(intervention.arguments["fixes"]), type=list[Intervention])
    return [intervention]


class Runner:
    """Arms of a world in which the final skill is known."""

    def __init__(self, world: World, seconds: float = 0.0, stop_after: int = 10**9) -> None:
        self.world, self.seconds, self.stop_after = world, seconds, stop_after
        self.ran: list[Arm] = []

    def __call__(
        self, record: RunRecord, arms: Sequence[Arm], pool: Any, deadline: float, **which: Any
    ) -> Iterator[tuple[Arm, ArmResult]]:
        for arm in arms:
            if len(self.ran) >= self.stop_after:
                raise KeyboardInterrupt
            if time.monotonic() > deadline:
                return
            self.ran.append(arm)
            time.sleep(self.seconds)
            yield arm, self.result(arm)

    def result(self, arm: Arm) -> ArmResult:
        end = self.world(parts(arm.intervention), arm.seed)
        if math.isnan(end):
            return ArmResult(False, "not possible here")
        noise = 0.03 * np.random.default_rng(arm.seed).standard_normal(arm.steps)
        half = arm.steps // 2
        skills = np.concatenate([np.linspace(min(end, 0.0), end, half), np.full(arm.steps - half, end)]) + noise
        losses = CHANCE * (1 - skills)
        return ArmResult(
            ok=True, reason="", losses=losses.tolist(), skills=skills.tolist(), accuracies=[], chance=CHANCE,
            final_loss=float(losses[-20:].mean()), final_skill=end, accuracy=None,
            symptom="learning" if end > 0.1 else "at-chance", steps=arm.steps, seconds=self.seconds,
            applied=arm.steps,
        )  # fmt: skip

    def kinds(self, seed: int = 0) -> list[str]:
        return ["" if a.intervention is None else a.intervention.kind for a in self.ran if a.seed == seed]


def finding(
    code: str, kind: str = "", grade: str = "likely", role: str = "cause", bearing: str = "hinders", **arguments: Any
) -> Finding:
    fix = Fix("Mend it.", intervention=Intervention(kind, arguments) if kind else None)
    return Finding(code, rules()[code].name, grade, "It is ill.", role=role, bearing=bearing, fix=fix)  # type: ignore[arg-type]


def run(
    world: World, *findings: Finding, budget: float = 60.0, state: str = "at-chance", **options: Any
) -> tuple[Diagnosis, Runner]:
    trace = synthetic.training(state="at-chance")
    symptom = Symptom(state, loss=CHANCE, chance=CHANCE, classes=5)
    trace.known["symptom"] = symptom
    training = Training(symptom, list(findings), name=trace.facts.name, steps=STEPS)
    diagnosis = Diagnosis(Run(script="train.py", seconds=2.0), [training])
    runner = Runner(world, **options)
    return verify(diagnosis, RunRecord(diagnosis.run, [trace]), budget, POOL, run=runner), runner


def has(changed: list[Intervention], kind: str) -> bool:
    return any(i.kind == kind for i in changed)


def test_a_certain_fault_whose_fix_works_needs_few_arms() -> None:
    diagnosis, runner = run(lambda c, s: 0.8 if has(c, "call-step") else 0.0, finding("U404", "call-step", "certain"))
    first = diagnosis.worst.findings[0]
    assert first.verdict is not None
    assert (first.verdict.name, first.verdict.how, first.role) == ("supported", "rerun", "cause")
    assert runner.kinds() == ["", "call-step", "placebo"]
    assert len(runner.ran) <= 4
    assert first.verdict.placebo == pytest.approx(0.0, abs=1e-9)
    assert "re-runs" in diagnosis.run.notes[-1]


def test_the_control_and_the_first_fix_are_run_first() -> None:
    _, runner = run(lambda c, s: 0.0, finding("U404", "call-step", "certain"), finding("S501", "scale-learning-rate", factor=0.1))
    assert runner.kinds()[:2] == ["", "call-step"]


def test_a_refuted_cause_steps_down_and_the_supported_one_comes_first() -> None:
    diagnosis, _ = run(
        lambda c, s: 0.8 if has(c, "standardise-inputs") else 0.0,
        finding("S501", "scale-learning-rate", factor=0.1), finding("D203", "standardise-inputs", "possible", "latent"),
    )  # fmt: skip
    first, second = diagnosis.worst.findings
    assert (first.code, first.role, first.grade, first.verdict.name) == ("D203", "cause", "likely", "supported")
    assert (second.code, second.role, second.grade, second.verdict.name) == ("S501", "latent", "possible", "refuted")


def test_a_lookalike_that_no_rule_named_becomes_a_finding() -> None:
    diagnosis, _ = run(
        lambda c, s: 0.8 if {"factor": 0.01} in [i.arguments for i in c] else 0.0, finding("I604", "reinitialise")
    )
    first, second = diagnosis.worst.findings
    assert (first.code, first.name, first.role, first.grade) == ("S501", "learning-rate-too-high", "cause", "likely")
    assert first.verdict.name == "supported"
    assert first.evidence[-1].source == "experiment"
    assert first.evidence[-1].text.startswith("Scaling the learning rate by 0.01 makes it learn: it reaches 0.3")
    assert first.fix.intervention == Intervention("scale-learning-rate", {"factor": 0.01})
    assert (second.code, second.role, second.verdict.name) == ("I604", "latent", "refuted")


def test_where_another_change_cures_the_named_disease_the_fix_is_that_change() -> None:
    diagnosis, _ = run(
        lambda c, s: 0.8 if {"lr": 0.01} in [i.arguments for i in c] else 0.0, finding("S505", "standardise-inputs")
    )
    first = diagnosis.worst.findings[0]
    assert (first.code, first.role, first.verdict.name) == ("S505", "cause", "supported")
    assert first.verdict.reason.startswith("using Adam (rate 0.01): reaches")
    assert first.fix.intervention == Intervention("adaptive-optimizer", {"lr": 0.01})


def test_beside_a_certain_fault_that_cannot_be_tried_what_helps_is_only_evidence() -> None:
    diagnosis, runner = run(lambda c, s: 0.8 if has(c, "scale-learning-rate") else 0.0, finding("W103", "", "certain"))
    assert [f.code for f in diagnosis.worst.findings] == ["W103"]
    assert diagnosis.worst.findings[0].evidence[-1].source == "experiment"
    assert "standardise-inputs" not in runner.kinds()  # only its look-alikes were tried


def test_of_equal_gains_the_change_that_names_one_thing_comes_before_the_length_of_the_step() -> None:
    def world(longer: float) -> World:
        return lambda c, s: longer if {"factor": 10.0} in [i.arguments for i in c] else 0.8 if has(c, "standardise-inputs") else 0.0

    diagnosis, _ = run(world(0.85))
    assert [f.code for f in diagnosis.worst.findings] == ["D203"]
    diagnosis, _ = run(world(0.95))
    assert [f.code for f in diagnosis.worst.findings] == ["S502"]


def test_where_what_was_named_does_nothing_the_rest_is_tried() -> None:
    diagnosis, _ = run(lambda c, s: 0.8 if has(c, "standardise-inputs") else 0.0, finding("U402", "add-parameters", "certain"))
    first, second = diagnosis.worst.findings
    assert (first.code, first.verdict.name) == ("D203", "supported")
    assert (second.code, second.role, second.verdict.name) == ("U402", "latent", "refuted")


def test_suspects_are_what_the_script_does_besides_the_plain_update() -> None:
    trace = synthetic.training(state="at-chance")
    plain = {c.code for c in search.suspects(trace)}
    assert plain == {*search.ANYTHING, "I605"}
    trace.facts.clippings = [Clipping("norm", 1e-3, calls=400, active=400)]
    trace.facts.optimizers[0].weight_decay = 0.1
    trace.facts.modes = [ModeLayer("dropout", p=0.8)]
    assert [c.code for c in search.suspects(trace)][:3] == ["G305", "S503", "S504"]
    trace.facts.clippings[0].active = 0
    assert "G305" not in {c.code for c in search.suspects(trace)}


def test_labels_in_runs_are_tried_at_the_shift_that_fits_best() -> None:
    """No shift is clearly better than its neighbours there, so that no rule names one."""
    rng = np.random.default_rng(0)
    y = np.repeat(rng.integers(0, 4, 200), 4)
    x = (3 * np.eye(4)[y] + rng.standard_normal((800, 4))).astype(np.float32)
    for late, wanted in ((3, [3.0]), (0, [])):
        trace = synthetic.training(state="at-chance")
        trace.pairs = Pairs(x, np.roll(y, late), np.arange(800) // 40, columns=4)
        found = [c.intervention for c in search.suspects(trace) if c.code == "D202"]
        assert [i.arguments["offset"] for i in found] == wanted


def test_a_lookalike_whose_code_is_among_the_findings_promotes_it() -> None:
    diagnosis, _ = run(
        lambda c, s: 0.8 if {"factor": 0.01} in [i.arguments for i in c] else 0.0,
        finding("I604", "reinitialise"), finding("S501", grade="possible", role="latent"),
    )  # fmt: skip
    first = diagnosis.worst.findings[0]
    assert (first.code, first.role, first.grade, first.verdict.name) == ("S501", "cause", "likely", "supported")


def test_a_stuck_training_without_findings_is_tried_with_what_helps_most_often() -> None:
    diagnosis, _ = run(lambda c, s: 0.8 if has(c, "adaptive-optimizer") else 0.0)
    assert [(f.code, f.verdict.name) for f in diagnosis.worst.findings] == [("S505", "supported")]
    assert diagnosis.exit_code == 12


def test_a_fix_that_helps_a_little_does_not_hide_the_one_that_explains() -> None:
    def world(changed: list[Intervention], seed: int) -> float:
        return 0.9 if has(changed, "remove-activation") else 0.3 if has(changed, "scale-learning-rate") else 0.0

    diagnosis, _ = run(
        world, finding("S502", "scale-learning-rate", factor=10.0), finding("W103", "remove-activation", activation="tanh")
    )
    first, second = diagnosis.worst.findings
    assert (first.code, first.verdict.name) == ("W103", "supported")
    assert (second.code, second.verdict.name) == ("S502", "inconclusive")
    assert "does not explain" in second.verdict.reason


def test_among_equals_the_certain_fault_stays_before_the_tuning() -> None:
    def world(changed: list[Intervention], seed: int) -> float:
        return 0.7 if has(changed, "remove-activation") else 0.95 if has(changed, "scale-learning-rate") else 0.0

    diagnosis, _ = run(
        world,
        finding("W101", "remove-activation", "certain", activation="softmax"),
        finding("S502", "scale-learning-rate", factor=10.0),
    )
    assert [f.code for f in diagnosis.worst.findings] == ["W101", "S502"]
    assert [f.verdict.name for f in diagnosis.worst.findings] == ["supported", "supported"]


def test_a_fault_that_must_be_mended_stays_a_cause_where_nothing_else_helps() -> None:
    diagnosis, _ = run(lambda c, s: 0.0, finding("U404", "call-step", "certain", bearing="blocks"))
    first = diagnosis.worst.findings[0]
    assert (first.role, first.verdict.name) == ("cause", "inconclusive")
    assert "second fault" in first.verdict.reason


def test_two_faults_that_are_only_mended_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "SUPPORTED", search.SUPPORTED | {search.TOGETHER})
    diagnosis, runner = run(
        lambda c, s: 0.8 if has(c, "call-step") and has(c, "scale-learning-rate") else 0.0,
        finding("U404", "call-step", "certain", bearing="blocks"), finding("S501", "scale-learning-rate", factor=0.1),
    )  # fmt: skip
    assert [f.verdict.name for f in diagnosis.worst.findings] == ["supported", "supported"]
    assert [f.role for f in diagnosis.worst.findings] == ["cause", "cause"]
    assert diagnosis.worst.findings[0].verdict.reason.startswith("together with the fix of S501: ")
    assert "together" in runner.kinds()


def test_the_second_of_two_faults_is_found_on_top_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "SUPPORTED", search.SUPPORTED | {search.TOGETHER})

    def world(changed: list[Intervention], seed: int) -> float:
        return (0.9 if has(changed, "remove-activation") else 0.5) if has(changed, "scale-learning-rate") else 0.0

    diagnosis, _ = run(
        world,
        finding("S501", "scale-learning-rate", factor=0.1),
        finding("W101", "remove-activation", "certain", activation="softmax"),
    )
    found = {f.code: f for f in diagnosis.worst.findings}
    assert found["S501"].verdict.name == "supported"
    assert found["W101"].verdict.name == "supported"
    assert "together with the fix of S501" in found["W101"].verdict.reason


def test_new_weights_are_believed_after_four_seeds_and_before_lookalikes_are_tried() -> None:
    diagnosis, runner = run(lambda c, s: 0.8 if has(c, "reinitialise") else 0.0, finding("I602", "reinitialise"))
    assert diagnosis.worst.findings[0].verdict.name == "supported"
    assert diagnosis.worst.findings[0].verdict.seeds == 4
    assert [a.seed for a in runner.ran[:8]] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_learning_rate_that_needs_the_double_dose() -> None:
    """0.1 does nothing, 0.01 does: the finding is right, its factor was not."""
    diagnosis, _ = run(
        lambda c, s: 0.8 if {"factor": 0.01} in [i.arguments for i in c] else 0.0,
        finding("S501", "scale-learning-rate", factor=0.1),
    )
    first = diagnosis.worst.findings[0]
    assert (first.code, first.role, first.verdict.name) == ("S501", "cause", "supported")
    assert first.verdict.reason.startswith("scaling the learning rate by 0.01: reaches 0.3")
    assert first.fix.intervention.arguments == {"factor": 0.01}


def test_a_healthy_training_that_could_learn_a_little_faster_has_no_cause() -> None:
    found = finding("W112", "negate-loss", "certain", "latent")
    diagnosis, _ = run(lambda c, s: 0.95 if c else 0.9, found, state="learning")
    assert found.verdict is not None
    assert (found.verdict.name, found.role) == ("supported", "latent")
    assert diagnosis.exit_code == 0


def test_a_weak_difference_gets_more_seeds() -> None:
    rng = np.random.default_rng(0)
    luck = 0.02 * rng.standard_normal((2, 5))

    def world(changed: list[Intervention], seed: int) -> float:
        return (0.7 if has(changed, "negate-loss") else 0.3) + luck[int(bool(changed)), seed]

    diagnosis, runner = run(world, finding("W112", "negate-loss", "certain"), state="learning")
    found = diagnosis.worst.findings[0].verdict
    assert found.name == "supported"
    assert found.seeds >= 3
    assert {a.seed for a in runner.ran} >= {0, 1, 2}


def test_where_the_control_does_not_show_the_fault_nothing_is_proven() -> None:
    diagnosis, runner = run(lambda c, s: 0.8, finding("S501", "scale-learning-rate", factor=0.1))
    first = diagnosis.worst.findings[0]
    assert first.verdict.name == "not-verified"
    assert "does not show the fault" in first.verdict.reason
    assert first.role == "cause"
    assert len(runner.ran) == 2


def test_a_fix_that_cannot_be_run_says_why() -> None:
    diagnosis, _ = run(
        lambda c, s: math.nan if c else 0.0, finding("D205", "shuffle"), finding("U409"), finding("G301", "reattach")
    )
    reasons = [f.verdict.reason for f in diagnosis.worst.findings]
    assert all(f.verdict.name == "not-verified" for f in diagnosis.worst.findings)
    assert "not possible here" in reasons[0]
    assert "by a machine" in reasons[1]
    assert "reattach" in reasons[2]


def test_ctrl_c_keeps_what_is_known() -> None:
    diagnosis, _ = run(
        lambda c, s: 0.8 if has(c, "call-step") else 0.0,
        finding("U404", "call-step", "certain"), finding("S501", "scale-learning-rate", factor=0.1), stop_after=3,
    )  # fmt: skip
    first, second = diagnosis.worst.findings
    assert first.verdict.name == "supported"
    assert second.verdict.name == "not-verified"
    assert "stopped" in second.verdict.reason


def test_the_budget_ends_the_search() -> None:
    began = time.monotonic()
    diagnosis, runner = run(
        lambda c, s: 0.0, *(finding(c, "scale-learning-rate", factor=f) for c, f in [("S501", 0.1), ("S502", 3.0)]),
        budget=0.5, seconds=0.1,
    )  # fmt: skip
    assert time.monotonic() - began < 1.5
    assert 2 <= len(runner.ran) < 10
    assert diagnosis.worst.findings[0].verdict is not None


def test_progress_names_what_is_tried() -> None:
    said: list[tuple[int, int, str]] = []
    trace = synthetic.training(state="at-chance")
    symptom = Symptom("at-chance", loss=CHANCE, chance=CHANCE, classes=5)
    trace.known["symptom"] = symptom
    training = Training(symptom, [finding("W112", "negate-loss", "certain")], name=trace.facts.name, steps=STEPS)
    diagnosis = Diagnosis(Run(seconds=2.0), [training])
    verify(diagnosis, RunRecord(diagnosis.run, [trace]), 60, POOL, lambda *a: said.append(a), run=Runner(lambda c, s: 0.0))
    assert all(done <= planned for done, planned, _ in said)
    assert any("turning the sign of the loss" in doing for _, _, doing in said)
    assert any("the unchanged script, seed 1" in doing for _, _, doing in said)


def test_the_first_arms_show_how_many_steps_fit() -> None:
    """They are given the recorded steps and a share of the time; the others get what these came to."""

    class Slow(Runner):
        def __call__(self, record: RunRecord, arms: Sequence[Arm], pool: Any, deadline: float, **which: Any) -> Any:
            ends.append(deadline - time.monotonic())
            for arm, result in super().__call__(record, arms, pool, deadline):
                n = 150
                yield arm, msgspec.structs.replace(result, losses=result.losses[-n:], skills=result.skills[-n:], steps=n)

    ends: list[float] = []
    trace = synthetic.training(state="at-chance")
    symptom = Symptom("at-chance", loss=CHANCE, chance=CHANCE, classes=5)
    trace.known["symptom"] = symptom
    training = Training(symptom, [finding("S501", "scale-learning-rate", factor=0.1)], name=trace.facts.name, steps=STEPS)
    diagnosis = Diagnosis(Run(seconds=2.0), [training])
    runner = Slow(lambda c, s: 0.0)
    verify(diagnosis, RunRecord(diagnosis.run, [trace]), 60, POOL, run=runner)
    assert [a.steps for a in runner.ran[:2]] == [STEPS, STEPS]
    assert {a.steps for a in runner.ran[2:]} == {150}
    assert ends[0] <= 60 / 2
    assert ends[1] > 50


def test_the_tables_name_codes_and_kinds_that_exist() -> None:
    known = set(rules())
    assert set(LOOKALIKES) <= known
    assert {c for codes in LOOKALIKES.values() for c in codes} | set(search.ANYTHING) <= set(STANDARD)
    assert set(STANDARD) | {"D202"} == set(search.PLAIN)
    assert set(STANDARD) <= known
    assert {i.kind for group in STANDARD.values() for i in group} <= search.SUPPORTED
    for kind in search.SUPPORTED:
        assert describe(Intervention(kind))
    assert describe(Intervention("scale-learning-rate", {"factor": 0.01})) == "scaling the learning rate by 0.01"


def test_a_run_that_ended_in_an_error_is_tried_for_longer_and_its_controls_count() -> None:
    class Crashing(Runner):
        def result(self, arm: Arm) -> ArmResult:
            if has(parts(arm.intervention), "insert-activation"):
                return super().result(arm)
            found = super().result(arm._replace(steps=6))
            return msgspec.structs.replace(found, ok=False, reason="RuntimeError: between 0 and 1", steps=6)

    trace = synthetic.training(state="at-chance")
    symptom = Symptom("too-early", loss=CHANCE, chance=CHANCE, classes=5)
    trace.known["symptom"] = symptom
    found = [finding("W111", "insert-activation", "certain"), finding("S501", "scale-learning-rate", factor=0.1)]
    diagnosis = Diagnosis(Run(seconds=2.0), [Training(symptom, found, name=trace.facts.name, steps=6)])
    raised = Raised("RuntimeError", "between 0 and 1", "loss", fatal=True)
    record = RunRecord(Run(seconds=2.0, exit="RuntimeError", exceptions=[raised]), [trace])
    runner = Crashing(lambda c, s: 0.8)
    verify(diagnosis, record, 60, POOL, run=runner)
    assert {a.steps for a in runner.ran} == {search.LONGER}
    first, second = diagnosis.worst.findings
    assert (first.code, first.verdict.name) == ("W111", "supported")
    assert first.verdict.reason.endswith("unchanged it ends with RuntimeError")
    assert (second.code, second.role) == ("S501", "latent")
    assert "ends with the same error" in diagnosis.run.notes[-1]


def test_adam_is_tried_at_two_rates() -> None:
    diagnosis, _ = run(
        lambda c, s: 0.8 if {"lr": 0.01} in [i.arguments for i in c] else 0.0, finding("G303", "adaptive-optimizer")
    )
    first = diagnosis.worst.findings[0]
    assert (first.code, first.verdict.name) == ("G303", "supported")
    assert first.verdict.reason.startswith("using Adam (rate 0.01): reaches")


def test_a_fix_that_only_improves_what_another_one_made_learn_is_no_cause() -> None:
    def world(changed: list[Intervention], seed: int) -> float:
        return 0.0 if not has(changed, "scale-learning-rate") else 0.86 if has(changed, "add-activation") else 0.8

    diagnosis, _ = run(
        world, finding("I606", "add-activation", "certain"), finding("S502", "scale-learning-rate", factor=10.0)
    )
    first, second = diagnosis.worst.findings
    assert (first.code, first.verdict.name) == ("S502", "supported")
    assert (second.code, second.role, second.verdict.name) == ("I606", "latent", "refuted")


def test_of_equal_gains_the_plainer_change_gets_the_seeds() -> None:
    """All of them need seeds; two at a time get them, and the first to be supported is the answer."""
    def world(changed: list[Intervention], seed: int) -> float:
        return 0.92 if has(changed, "adaptive-optimizer") else 0.9 if has(changed, "standardise-inputs") else 0.08

    diagnosis, _ = run(world, finding("U402", "add-parameters", "certain"))
    assert (diagnosis.worst.findings[0].code, diagnosis.worst.findings[0].verdict.name) == ("D203", "supported")
