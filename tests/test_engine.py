"""Roles, order, symptom: what the engine makes of findings."""

from __future__ import annotations

import math

import numpy as np
import pytest

from unstuck import engine
from unstuck.findings import Diagnosis, Finding, Symptom
from unstuck.rules import rules
from unstuck.symptom import symptom_of
from unstuck.trace import synthetic
from unstuck.trace.facts import Facts, Loop, NonFinite, OpNode, Run
from unstuck.trace.trace import RunRecord, Series, Trace

SOFTMAX = OpNode("softmax", "SoftmaxBackward0", [64, 5], dim=1, site=synthetic.site(41, "return softmax(x)"))


def finding(code: str, bearing: str = "hinders", grade: str = "certain", **more: object) -> Finding:
    return Finding(code, code.lower(), grade, "text", bearing=bearing, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bearing", "state", "role"),
    [
        ("hinders", "learning", "latent"),
        ("hinders", "at-chance", "cause"),
        ("hinders", "too-early", "cause"),
        ("blocks", "too-early", "cause"),
        ("choice", "too-early", "latent"),
        ("choice", "learning", "latent"),
        ("choice", "at-prior", "cause"),
        ("harmless", "at-chance", "note"),
        ("hinders", "not-judged", "latent"),
        ("blocks", "not-judged", "cause"),
    ],
)
def test_role_from_bearing_and_symptom(bearing: str, state: str, role: str) -> None:
    assert engine.role(finding("W101", bearing), Symptom(state, loss=0.1, chance=math.log(5))) == role


def test_possible_alone_is_never_the_answer() -> None:
    assert engine.role(finding("W101", grade="possible"), Symptom("at-chance")) == "latent"


def test_where_most_of_the_loss_is_the_faults_own_floor_it_is_its_doing() -> None:
    low = Symptom("learning", loss=0.3, chance=math.log(5))
    assert engine.role(finding("W103", floor=0.16, grade="likely"), low) == "cause"
    assert engine.role(finding("W103", floor=0.14, grade="likely"), low) == "latent"
    zero = Symptom("learning", loss=0.03, chance=math.log(5))
    assert engine.role(finding("W103", floor=0.02), zero) == "latent"  # within the band of 0


def test_a_structural_fact_is_a_cause_until_nearly_all_is_won() -> None:
    early, late = (Symptom("learning", loss=loss, chance=math.log(5)) for loss in (0.17, 0.15))
    assert engine.role(finding("W101"), early) == "cause"
    assert engine.role(finding("W101"), late) == "latent"
    assert engine.role(finding("U402", "choice"), early) == "latent"
    assert engine.role(finding("S501", grade="likely"), early) == "latent"
    unknown = Symptom("learning", loss=0.17)  # a loss without a level: the answers tell, where they are known
    assert engine.role(finding("W110"), unknown) == "cause"
    assert engine.role(finding("W110", "choice"), unknown) == "latent"
    unknown.accuracy = 0.96
    assert engine.role(finding("W110"), unknown) == "latent"


def test_a_falling_loss_with_constant_answers_is_the_wrong_loss() -> None:
    falling = Symptom("learning", loss=0.5, chance=1.6, accuracy=0.2, constant_answer=0.21)
    assert engine.role(finding("W113", grade="likely"), falling) == "cause"
    falling.accuracy = 0.6
    assert engine.role(finding("W113", grade="likely"), falling) == "latent"


def test_consequences_stand_under_their_cause() -> None:
    found = engine.assign_roles([finding("N701"), finding("D206", "blocks")], Symptom("non-finite"))
    assert [(f.code, f.role, f.explains) for f in found] == [("D206", "cause", ["N701"]), ("N701", "consequence", [])]


def test_explains_names_known_codes_and_has_no_cycle_that_hides_everything() -> None:
    known = set(rules())
    for code, rule in rules().items():
        assert {code, *rule.explains} <= known
        assert code not in rule.explains
    for code in known:
        for other in rules()[code].explains:
            found = engine.assign_roles([finding(code, "blocks"), finding(other, "blocks")], Symptom("at-chance"))
            assert sum(f.role == "cause" for f in found) == 1


def test_what_blocks_comes_before_what_hinders() -> None:
    found = engine.assign_roles([finding("W101"), finding("U404", "blocks")], Symptom("at-chance"))
    assert [f.code for f in found] == ["U404", "W101"]


@pytest.mark.parametrize("state", ["learning", "at-chance", "at-prior", "plateau", "above-chance", "non-finite", "constant"])
def test_the_symptom_of_synthetic_trainings(state: str) -> None:
    trace = synthetic.training(state=state, steps=600)
    if state == "non-finite":
        trace.facts.nonfinite = NonFinite("loss", "the loss", 20)
    assert symptom_of(trace).name == state


def test_a_healthy_training_has_no_finding_and_a_list_of_what_is_in_order() -> None:
    training = engine.examine(synthetic.training())
    assert training.findings == []
    assert {e.code for e in training.excluded} >= {"W101", "D201", "U401", "U405", "G301"}


def test_a_sick_one_says_what_and_where() -> None:
    training = engine.examine(synthetic.training(synthetic.cross_entropy(SOFTMAX), state="at-chance"))
    assert (training.cause.code, training.cause.locations[0].line) == ("W101", 41)
    assert "W101" not in {e.code for e in training.excluded}


def test_a_broken_rule_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(trace: Trace) -> None:
        raise ZeroDivisionError("on purpose")

    table = dict(rules())
    table["U405"] = table["U405"]._replace(check=broken)
    monkeypatch.setattr(engine, "rules", lambda: table)
    training = engine.examine(synthetic.training(synthetic.cross_entropy(SOFTMAX), state="at-chance"))
    assert training.cause.code == "W101"
    assert any(n.code == "U405" and "our own error" in n.reason for n in training.not_checked)


def test_weights_that_are_nan_behind_a_finite_loss() -> None:
    trace = synthetic.training(state="at-chance", steps=600)
    trace.facts.nonfinite = NonFinite("parameter", "body.weight", 30)
    assert symptom_of(trace).name == "non-finite"


def test_losses_that_were_not_measured_are_not_nan() -> None:
    trace = synthetic.training(state="learning", steps=600)
    trace.series["loss"][150::2] = np.nan
    trace.series["chance"][150::2] = np.nan
    assert symptom_of(trace).name == "learning"


def test_a_binary_loss_below_zero_is_no_success() -> None:
    trace = synthetic.training(synthetic.binary(), level=-5.0)
    assert symptom_of(trace).name == "diverging"


def test_a_model_built_anew_is_judged_on_its_last_life() -> None:
    trace = synthetic.training(state="learning", steps=400)
    again = synthetic.training(state="learning", steps=400, seed=1)
    columns = {n: np.concatenate([trace.series[n], again.series[n]]) for n in trace.series.columns}
    both = Trace(again.facts, Series(np.arange(1, 801), columns))
    both.facts.loop.rebuilt = [400]
    assert symptom_of(both).name == "learning"


def test_adversarial_training_gets_no_verdict() -> None:
    loop = Loop(backwards=400, steps=400, unjudged="two optimizers share a loss")
    symptom = symptom_of(synthetic.training(state="at-chance", loop=loop))
    assert (symptom.name, symptom.judged) == ("not-judged", False)


def test_no_training_and_the_exit_codes() -> None:
    empty = engine.diagnose(RunRecord(Run(), []))
    assert (empty.worst.symptom.name, empty.exit_code) == ("no-training", 0)
    sick = engine.diagnose(RunRecord(Run(), [synthetic.training(synthetic.cross_entropy(SOFTMAX), state="at-chance")]))
    assert sick.exit_code == 11
    sick.worst.findings[0].grade = "likely"
    assert sick.exit_code == 12
    assert Diagnosis(Run(), [engine.examine(synthetic.training())]).exit_code == 0


def test_the_worst_training_comes_first() -> None:
    traces = [synthetic.training(), synthetic.training(synthetic.cross_entropy(SOFTMAX), state="at-chance")]
    assert [bool(t.cause) for t in engine.diagnose(RunRecord(Run(), traces)).trainings] == [True, False]


def test_certain_now_needs_no_series() -> None:
    trace = synthetic.training(synthetic.cross_entropy(SOFTMAX))
    assert [f.code for f in engine.certain_now(trace.facts)] == ["W101"]
    assert engine.certain_now(synthetic.training().facts) == []
    assert engine.certain_now(Facts()) == []
