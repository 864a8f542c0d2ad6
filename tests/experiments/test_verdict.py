"""Verdicts from made-up arms: what each of the four names needs, on which scale arms are compared, and how it is kept."""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest

from unstuck.engine import diagnose
from unstuck.experiments import verdict
from unstuck.experiments.arms import ArmResult
from unstuck.experiments.verdict import Arms, Known, judge
from unstuck.findings import Evidence, Finding, Fix, Intervention, Verdict
from unstuck.rules import rules
from unstuck.trace.facts import Run
from unstuck.trace.trace import RunRecord

CHANCE = math.log(5)
STEPS = 200


def arm(
    end: float = 0.0, *, start: float = 0.0, seed: int = 0, steps: int = STEPS, scale: float = 0.03, symptom: str = "",
    accuracy: float | None = None, applied: int = STEPS, ok: bool = True, reason: str = "", losses: list[float] | None = None,
) -> ArmResult:  # fmt: skip
    """An arm whose skill goes from `start` to `end` in its first half; the noise of a batch is the same in all arms of a seed."""
    noise = scale * np.random.default_rng(seed).standard_normal(steps)
    skills = np.concatenate([np.linspace(start, end, steps // 2), np.full(steps - steps // 2, end)]) + noise
    own = CHANCE * (1 - skills) if losses is None else np.array(losses)
    right = [] if accuracy is None else [accuracy] * steps
    return ArmResult(
        ok=ok, reason=reason, losses=own.tolist(), skills=skills.tolist(), accuracies=right, chance=CHANCE,
        final_loss=float(np.mean(own[-steps // 4 :])), final_skill=end, accuracy=accuracy,
        symptom=symptom or ("learning" if end > 0.1 else "at-chance"), steps=steps, seconds=1.0, applied=applied,
    )  # fmt: skip


def of(control: list[ArmResult], fixed: list[ArmResult], known: Known | None = None, kind: str = "negate-loss") -> Verdict:
    return judge(Arms(kind, dict(enumerate(control)), dict(enumerate(fixed))), known or Known(recorded_steps=STEPS))


def test_a_clear_fix_is_supported_by_one_seed() -> None:
    found = of([arm(0.0)], [arm(0.8)])
    assert found.name == "supported"
    assert found.seeds == 1
    assert found.steps == STEPS
    assert found.control == pytest.approx(CHANCE, rel=0.01)
    assert found.fixed == pytest.approx(0.2 * CHANCE, rel=0.05)
    assert found.interval[0] > 0.7
    assert "unchanged it stays at 1.6" in found.reason
    assert "reaches 0.3" in found.reason


def climbing(end: float) -> ArmResult:
    """An arm that was cut while it learned."""
    skills = np.linspace(0.0, end, STEPS) ** 2 / max(end, 1e-9) + 0.002 * np.random.default_rng(0).standard_normal(STEPS)
    return msgspec.structs.replace(arm(end), skills=skills.tolist(), losses=(CHANCE * (1 - skills)).tolist(), symptom="learning")


def test_of_a_certain_fault_the_fix_need_not_reach_what_a_classifier_reaches_in_a_run_that_was_short() -> None:
    still, known = arm(0.0, scale=0.002), Known(recorded_steps=STEPS, reachable=0.9)
    assert of([still], [climbing(0.25)], known).name == "inconclusive"
    assert of([still], [climbing(0.25)], msgspec.structs.replace(known, certain=True)).name == "supported"
    # Another change that gets clearly further in as many steps is another matter.
    assert of([still], [climbing(0.25)], msgspec.structs.replace(known, certain=True, best=0.9)).name == "inconclusive"
    flat = arm(0.2, scale=0.002)
    assert of([still], [flat], msgspec.structs.replace(known, certain=True)).name == "inconclusive"


def test_a_beginning_is_not_refuted() -> None:
    """A gain inside the band that is no chance and still grows when the script ends."""
    still, known = arm(0.0, scale=0.002), Known(recorded_steps=STEPS, reachable=0.9)
    found = of([still], [climbing(0.02)], known)
    assert found.name == "inconclusive" and found.interval[0] > 0
    assert of([still], [arm(0.004, scale=0.002)], known).name == "refuted"


def test_what_changes_nothing_is_refuted_by_one_seed() -> None:
    found = of([arm(0.0)], [arm(0.001)])
    assert found.name == "refuted"
    assert "with the fix" in found.reason


def test_from_diverging_to_guessing_is_refuted() -> None:
    assert of([arm(-0.8, symptom="diverging")], [arm(0.0)]).name == "refuted"


def test_two_arms_that_learn_a_little_need_three_seeds() -> None:
    seeds = range(5)
    control = [arm(0.3 + 0.02 * s, seed=s) for s in seeds]
    fixed = [arm(0.8 + 0.01 * s, seed=s) for s in seeds]
    assert of(control[:1], fixed[:1]).name == "inconclusive"
    assert of(control[:2], fixed[:2]).name == "inconclusive"
    found = of(control[:3], fixed[:3])
    assert (found.name, found.seeds) == ("supported", 3)


def test_seeds_that_disagree_are_inconclusive() -> None:
    control = [arm(0.3, seed=s) for s in range(5)]
    fixed = [arm(end, seed=s) for s, end in enumerate([0.8, 0.3, 0.8, 0.2, 0.3])]
    assert of(control, fixed).name == "inconclusive"


def test_a_help_that_is_less_than_half_of_what_another_change_reaches_does_not_explain() -> None:
    found = of([arm(0.0)], [arm(0.3)], Known(recorded_steps=STEPS, best=0.9))
    assert found.name == "inconclusive"
    assert "does not explain" in found.reason
    assert of([arm(0.0)], [arm(0.3)], Known(recorded_steps=STEPS, best=0.35)).name == "supported"
    assert of([arm(0.0)], [arm(0.3)], Known(recorded_steps=STEPS, reachable=0.9)).name == "inconclusive"


def test_an_arm_that_was_cut_while_it_learned_is_not_held_against_a_classifier() -> None:
    skills = np.linspace(0.0, 0.45, STEPS)
    losses = (CHANCE * (1 - skills)).tolist()
    rising = msgspec.structs.replace(arm(0.4), skills=skills.tolist(), losses=losses)
    assert of([arm(0.0)], [rising], Known(recorded_steps=STEPS, reachable=0.95)).name == "supported"


def test_a_short_arm_refutes_nothing_that_needs_time() -> None:
    found = of([arm(0.0)], [arm(0.0, symptom="too-early")], Known(recorded_steps=10 * STEPS))
    assert found.name == "inconclusive"
    assert "too few" in found.reason
    assert of([arm(0.0)], [arm(0.0)], Known(recorded_steps=10 * STEPS)).name == "refuted"  # judged to be stuck


@pytest.mark.parametrize(
    ("control", "fixed", "part"),
    [
        (arm(ok=False, reason="it asks for input"), arm(0.8), "could not be run again: it asks for input"),
        (arm(), arm(ok=False, reason="no DataLoader to shuffle"), "no DataLoader"),
        (arm(), arm(0.0, applied=0), "found nothing to change"),
    ],
)
def test_what_could_not_be_run_is_not_verified_and_says_why(control: ArmResult, fixed: ArmResult, part: str) -> None:
    found = of([control], [fixed])
    assert found.name == "not-verified"
    assert part in found.reason


def test_without_an_arm_of_the_recorded_seed_there_is_no_verdict() -> None:
    assert judge(Arms("negate-loss", {1: arm()}, {1: arm(0.8)}), Known()).name == "not-verified"


def test_a_placebo_that_changes_something_spoils_all_verdicts() -> None:
    found = of([arm(0.0)], [arm(0.8)], Known(recorded_steps=STEPS, placebo=0.3))
    assert found.name == "inconclusive"
    assert "does nothing" in found.reason


def test_another_loss_is_compared_by_accuracy() -> None:
    control = arm(0.5, accuracy=0.2)  # squares: half of the variance explained means nothing here
    found = of([control], [arm(0.8, accuracy=0.9)], Known(recorded_steps=STEPS, rest_accuracy=0.21), "replace-loss")
    assert found.name == "supported"
    assert "accuracy 90%" in found.reason
    assert found.skill_control is None


def test_a_loss_without_a_lowest_value_is_compared_by_accuracy_or_not_at_all() -> None:
    control = arm(40.0, accuracy=0.2, symptom="diverging")
    known = Known(recorded_steps=STEPS, rest_accuracy=0.25)
    assert of([control], [arm(0.8, accuracy=0.9)], known).name == "supported"
    assert of([arm(40.0)], [arm(0.8)]).name == "not-verified"


def test_a_loss_without_a_chance_level_is_measured_against_where_it_began() -> None:
    def real(end: float) -> ArmResult:
        losses = np.concatenate([np.linspace(1.0, end, STEPS // 2), np.full(STEPS // 2, end)])
        return msgspec.structs.replace(arm(losses=losses.tolist()), skills=[math.nan] * STEPS, chance=None)

    assert of([real(0.98)], [real(0.05)]).name == "supported"
    assert of([real(0.98)], [real(0.98)]).name == "refuted"
    assert of([real(0.98)], [real(0.05)], kind="replace-loss").name == "not-verified"
    assert of([real(0.98)], [real(0.9)], Known(reference=0.9, recorded_steps=STEPS)).name == "refuted"  # only the mean


def test_class_weights_are_judged_by_the_mean_of_the_recalls_from_three_seeds_on() -> None:
    def with_recalls(balanced: list[float]) -> list[ArmResult]:
        arms = [arm(0.8, accuracy=0.9, seed=i) for i in range(len(balanced))]
        return [msgspec.structs.replace(a, balanced=b, classes=2) for a, b in zip(arms, balanced)]

    control = with_recalls([0.5, 0.51, 0.5])
    found = of(control, with_recalls([0.94, 0.96, 0.95]), kind="class-weights")
    assert found.name == "supported"
    assert "reaches balanced accuracy 95%" in found.reason
    assert "it has 50%" in found.reason
    assert found.skill_fixed is None
    first = of(control[:1], with_recalls([0.94]), kind="class-weights")
    assert (first.name, first.seeds) == ("inconclusive", 1)
    assert of(control, with_recalls([0.51, 0.5, 0.5]), kind="class-weights").name == "refuted"
    without = of([arm(0.8, accuracy=0.9)], [arm(0.8, accuracy=0.9)], kind="class-weights")
    assert without.name == "not-verified"
    assert "recalls" in without.reason


def test_an_arm_that_gets_past_the_error_of_the_recorded_run() -> None:
    nan = [math.nan] * STEPS
    crash = msgspec.structs.replace(
        arm(0.0, symptom="crashed", reason="RuntimeError"), losses=nan, skills=nan, final_loss=math.nan, final_skill=math.nan
    )
    found = of([crash], [arm(0.8)], Known(recorded_steps=6))
    assert found.name == "supported"
    assert found.reason.endswith("unchanged it ends with RuntimeError")
    still = of([crash], [crash], Known(recorded_steps=6))
    assert (still.name, still.reason) == ("refuted", "ends with RuntimeError with the fix and without")
    assert verdict.reproduces({1: 0.7}, "too-early", crash, Known())[0]


def test_a_loss_that_is_no_number_is_the_worst() -> None:
    broken = arm(0.0, symptom="non-finite", losses=[math.nan] * STEPS)
    broken = msgspec.structs.replace(broken, skills=[math.nan] * STEPS, final_loss=math.nan)
    found = of([broken], [arm(0.8)])
    assert found.name == "supported"
    assert "NaN" in found.reason
    assert of([arm(0.0)], [broken]).name == "refuted"


def test_new_weights_need_four_seeds() -> None:
    control, fixed = [arm(0.0, seed=s) for s in range(4)], [arm(0.8, seed=s) for s in range(4)]
    two = of(control[:2], fixed[:2], kind="reinitialise")
    assert two.name == "inconclusive"
    assert "by chance alone" in two.reason
    assert of(control, fixed, kind="reinitialise").name == "supported"
    lucky = [arm(0.0), *(arm(0.8, seed=s) for s in range(1, 4))]
    assert of(lucky, fixed, kind="reinitialise").name == "inconclusive"
    assert of(control[:1], [arm(0.0)], kind="reinitialise").name == "refuted"


def test_an_unlucky_seed_is_not_proof() -> None:
    found = judge(Arms("negate-loss", {0: arm(0.0), 1: arm(0.8)}, {0: arm(0.8)}), Known(recorded_steps=STEPS))
    assert found.name == "inconclusive"
    assert "another seed" in found.reason


def test_at_the_base_rate_nothing_is_learned() -> None:
    known = Known(rest=0.7, recorded_steps=STEPS)
    assert of([arm(0.7, start=0.7)], [arm(0.7, start=0.7)], known).name == "refuted"
    assert of([arm(0.7, start=0.7)], [arm(0.95, start=0.7)], known).name == "supported"


def test_the_curves_are_thin_and_finite() -> None:
    found = of([arm(0.0)], [arm(0.8)])
    assert len(found.curves["steps"]) <= verdict.CURVE
    assert found.curves["steps"][-1] == STEPS
    assert len(found.curves["control"]) == len(found.curves["fixed"]) == len(found.curves["steps"])


def test_does_the_rerun_show_what_was_recorded() -> None:
    control = arm(0.0)
    recorded = dict(enumerate(control.losses, 1))
    known = Known(recorded_steps=STEPS)
    fits, text = verdict.reproduces(recorded, "at-chance", control, known)
    assert fits
    assert "step for step" in text
    fits, text = verdict.reproduces({s: v + 0.01 for s, v in recorded.items()}, "at-chance", control, known)
    assert fits
    assert "other numbers" in text
    fits, text = verdict.reproduces(recorded, "at-chance", arm(0.8), known)
    assert not fits
    assert "does not show the fault" in text
    fits, _ = verdict.reproduces(recorded, "at-chance", arm(0.0, steps=60, symptom="too-early"), known)
    assert fits


# ------------------------------------------------------------------------------------------------------- kept in the folder


def diagnosed():
    return diagnose(RunRecord(Run(script="train.py", started=123.5), [rules()["W101"].sick()]))


def test_a_finding_that_the_experiments_made_comes_back_whole(tmp_path: Path) -> None:
    first = diagnosed()
    made = Finding(
        "D203", "unnormalised-inputs", "likely", "Found by experiment: standardising the inputs makes it learn.",
        evidence=[Evidence("Standardising the inputs makes it learn.", source="experiment")],
        fix=Fix("As in the experiment.", "unsafe", intervention=Intervention("standardise-inputs")), verdict=Verdict("supported"),
    )  # fmt: skip
    first.worst.findings.insert(0, made)
    verdict.save(first, tmp_path)
    again = diagnosed()
    verdict.load(again, tmp_path)
    assert again.worst.findings[0] == made
    assert [f.code for f in again.worst.findings] == [f.code for f in first.worst.findings]


def test_the_fix_that_worked_comes_back_in_place_of_the_one_that_did_not(tmp_path: Path) -> None:
    first = diagnosed()
    found = first.worst.findings[0]
    found.verdict = Verdict("supported")
    found.fix = Fix("As in the experiment.", "unsafe", intervention=Intervention("adaptive-optimizer", {"lr": 0.01}))
    verdict.save(first, tmp_path)
    again = diagnosed()
    assert again.worst.findings[0].fix != found.fix
    verdict.load(again, tmp_path)
    assert again.worst.findings[0].fix == found.fix


def test_verdicts_come_back_from_the_folder(tmp_path: Path) -> None:
    first = diagnosed()
    first.worst.findings[0].verdict = of([arm(0.0)], [arm(0.8)])
    first.worst.findings[0].evidence.append(Evidence("It was tried.", source="experiment"))
    verdict.save(first, tmp_path, ["12 re-runs"])
    again = diagnosed()
    verdict.load(again, tmp_path)
    assert again.worst.findings[0].verdict == first.worst.findings[0].verdict
    assert again.worst.findings[0].evidence[-1].text == "It was tried."
    assert "12 re-runs" in again.run.notes
    json.loads((tmp_path / verdict.FILE).read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'{"format": "1"}', b'{"format": 1}', b"\xff\xfe", b"[" * 9999, b'{"format": 99}']
)
def test_a_damaged_file_is_a_note_and_no_error(tmp_path: Path, text: bytes) -> None:
    (tmp_path / verdict.FILE).write_bytes(text)
    again = diagnosed()
    verdict.load(again, tmp_path)
    assert again.worst.findings[0].verdict is None
    assert verdict.FILE in again.run.notes[-1]


def test_verdicts_of_an_older_run_in_the_same_folder_are_not_shown(tmp_path: Path) -> None:
    first = diagnosed()
    first.worst.findings[0].verdict = of([arm(0.0)], [arm(0.8)])
    verdict.save(first, tmp_path)
    again = diagnosed()
    again.run.started += 60
    verdict.load(again, tmp_path)
    assert again.worst.findings[0].verdict is None
