"""I601."""

import math

import pytest

from unstuck.findings import Symptom
from unstuck.rules.init import symmetric_init as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Parameter, ParameterLook


def sick(**body):
    """The rule's own example with other facts of its hidden layer."""
    trace = rule.sick()
    for name, value in body.items():
        setattr(trace.facts.parameters[0], name, value)
    return trace


def biased(bias="body.bias", **body):
    """With a bias beside the hidden layer's weight."""
    trace = sick(**body)
    trace.facts.parameters.append(Parameter(bias, [64], reached=True, held=True, gradient="nonzero", changed=True, order=0))
    return trace


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("I601", "certain", "hinders")
    assert "All 64 units of body.weight" in finding.summary and "(zeros)" in finding.summary
    assert [e.text for e in finding.evidence] == ["body.weight: all 64 rows were equal at the first look and at step 50."]
    assert (finding.evidence[0].value, finding.evidence[0].unit, finding.evidence[0].source) == (64.0, "rows", "values")
    assert [s.line for s in finding.locations] == [10]


def test_healthy():
    assert rule.check(rule.healthy()) is None


def test_an_exact_fact_whatever_the_loss_does():
    trace = rule.sick()
    trace.series = synthetic.training(state="learning").series
    assert rule.check(trace) is not None  # latent, by the engine


def test_other_constants():
    assert "(zeros)" not in rule.check(sick(first_rms=0.5)).summary
    assert "(zeros)" not in rule.check(sick(first_rms=None)).summary


@pytest.mark.parametrize(
    "change",
    [
        {"equal_rows_first": 0.0},  # rows that became equal are another fault
        {"equal_rows_first": 0.5},
        {"equal_rows_first": None},
        {"shape": [64]},
        {"shape": [1, 64]},  # one unit is equal to itself
        {"shape": []},
        {"trainable": False},
        {"reached": False},
        {"order": None},
        {"order": 2},  # the last layer: a head of zeros is healthy
        {"looks": []},
    ],
)
def test_what_is_no_symmetry(change):
    assert rule.check(sick(**change)) is None


@pytest.mark.parametrize("state, grade", [
    ("learning", None), ("slow", None), ("too-early", None), ("at-chance", "likely"), ("at-prior", "likely"),
])  # fmt: skip
def test_rows_that_biases_told_apart(state, grade):
    """A gate, a branch that starts at zero: nothing to say where the training learns or has only begun."""
    trace = biased(equal_rows=0.0)
    trace.known["symptom"] = Symptom(state)
    finding = rule.check(trace)
    assert (finding.grade if finding is not None else None) == grade
    if finding is not None:
        assert (finding.code, finding.bearing) == ("I601", "hinders") and finding.separating
        assert "started with equal weights" in finding.summary and [s.line for s in finding.locations] == [10]


@pytest.mark.parametrize("weight, bias, fires", [
    ("body.weight", "body.bias", True), ("body.weight", "head.bias", False), ("body.weight", "norm.weight", False),
    ("body.0.weight", "body.bias", False), ("lora_B.weight", "body.bias", False), ("body.lora_B", "body.bias", False),
    ("rnn.weight_hh_l0", "rnn.bias_hh_l0", True), ("W1", "b1", True), ("W2", "b1", False), ("body.kernel", "body.b", True),
])  # fmt: skip
def test_biases_must_be_there_to_tell_rows_apart(weight, bias, fires):
    """What follows a layer tells its units apart as well: LoRA's B begins at zero on purpose, and has no bias."""
    trace = biased(bias, name=weight, equal_rows=0.0)
    if weight in {"body.lora_B", "rnn.weight_hh_l0", "W1", "W2"}:  # beside the matrices of the same module
        trace.facts.parameters.append(Parameter(weight.rpartition(".")[0] + ".other" if "." in weight else "W3", [64, 64]))
    trace.known["symptom"] = Symptom("at-chance")
    assert (rule.check(trace) is not None) == fires


def test_a_training_that_falls_short_counts_as_stuck():
    trace = biased(equal_rows=0.5)
    trace.known["symptom"] = Symptom("learning", underachieves=True)
    assert rule.check(trace).grade == "likely"


@pytest.mark.parametrize("now", [0.0, 0.98, None, math.nan])
def test_equal_no_more(now):
    trace = sick(equal_rows=now)
    trace.series = synthetic.training(state="learning").series
    assert rule.check(trace) is None


def test_after_three_steps_nothing_is_certain():
    trace = sick(looks=[ParameterLook(3, 1.0, 0.1, 0.01)])
    trace.known["symptom"] = Symptom("too-early")
    assert rule.check(trace) is None


def test_after_four_steps_equal_rows_would_have_parted():
    assert rule.check(sick(looks=[ParameterLook(4, 1.0, 0.1, 0.01)])) is not None


def test_only_the_head():
    trace = rule.healthy()
    head = trace.facts.parameters[1]
    head.equal_rows_first = head.equal_rows = 1.0
    assert rule.check(trace) is None
    trace.facts.parameters = [head]  # logistic regression, begun at zero
    assert rule.check(trace) is None


def test_all_layers_are_equal():
    trace = rule.sick()
    head = trace.facts.parameters[1]
    head.equal_rows_first = head.equal_rows = 1.0
    finding = rule.check(trace)
    assert "body.weight" in finding.summary and len(finding.evidence) == 1


def test_the_layer_nearest_to_the_data_comes_first():
    trace = sick(order=1)
    early = rule.sick().facts.parameters[0]
    early.name, early.order, early.made = "stem.weight", 0, synthetic.site(8, "self.stem = nn.Linear(64, 64)")
    trace.facts.parameters.append(early)
    finding = rule.check(trace)
    assert "stem.weight" in finding.summary and [s.line for s in finding.locations] == [8]
    assert len(finding.evidence) == 2


def test_units_of_a_matrix_used_as_x_at_w():
    assert "All 16 units" in rule.check(sick(shape=[64, 16], transposed=True)).summary
    assert rule.check(sick(shape=[64, 1], transposed=True)) is None
    assert rule.check(sick(shape=[1, 64], transposed=True)) is not None


def test_nothing_was_seen_of_the_line():
    finding = rule.check(sick(made=None))
    assert finding.locations == []
