"""U403."""

from unstuck.rules.update import frozen_parameters as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Loop, Parameter, Raised

NO_GRAD = "element 0 of tensors does not require grad and does not have a grad_fn"


def all_frozen():
    trace = rule.healthy()
    for parameter in trace.facts.parameters:
        parameter.trainable, parameter.reached = False, False
    return trace


def test_sick_head():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("U403", "certain", "choice")
    assert finding.locations[0].line == 17


def test_head_without_a_freezing_line_points_to_its_constructor():
    trace = rule.sick()
    trace.facts.loop.freezes = []
    assert rule.check(trace).locations[0].line == 10


def test_frozen_backbone_with_live_head_is_healthy():
    assert rule.check(rule.healthy()) is None


def test_nothing_frozen_is_healthy():
    assert rule.check(synthetic.training()) is None


def test_all_frozen_blocks():
    finding = rule.check(all_frozen())
    assert (finding.bearing, finding.grade) == ("blocks", "certain")


def test_all_frozen_and_backward_raised():
    trace = all_frozen()
    trace.facts.optimizers, trace.facts.loop = [], Loop(backwards=1, without_graph=1)
    trace.facts.exceptions = [Raised("RuntimeError", NO_GRAD, "backward", fatal=True)]
    assert rule.check(trace).bearing == "blocks"


def test_gradients_of_a_frozen_model_with_respect_to_its_input():
    trace = all_frozen()
    trace.facts.optimizers, trace.facts.loop = [], Loop(forwards=50, backwards=50, without_graph=50)
    assert rule.check(trace) is None


def test_frozen_in_the_middle():
    trace = rule.healthy()
    trace.facts.parameters[0].reached = True
    assert rule.check(trace) is None
    trace.facts.exceptions = [Raised("RuntimeError", NO_GRAD, "backward", fatal=True)]
    finding = rule.check(trace)
    assert (finding.bearing, finding.grade) == ("blocks", "likely")


def test_only_vectors_left():
    trace = rule.healthy()
    trace.facts.parameters = [
        Parameter("out.weight", [10, 48], trainable=False),
        Parameter("calibration", [10], reached=True, held=True, gradient="nonzero", changed=True),
    ]
    finding = rule.check(trace)
    assert finding.bearing == "choice" and finding.evidence[0].value == 10 / 490


def test_soft_prompt_is_a_matrix_and_silent():
    trace = rule.healthy()
    prompt = Parameter("prompt", [8, 64], reached=True, held=True, gradient="nonzero", changed=True)
    trace.facts.parameters.append(prompt)
    trace.facts.parameters[1].trainable = False
    assert rule.check(trace) is None


def test_head_unfrozen_later_is_silent():
    trace = rule.sick()
    trace.facts.parameters[1].trainable = True
    assert rule.check(trace) is None


def test_partly_frozen_head_is_silent():
    trace = rule.sick()
    trace.facts.terms[0].path[-1].parameters = ["head.bias"]
    assert rule.check(trace) is None
