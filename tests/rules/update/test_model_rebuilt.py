"""U409."""

import numpy as np

from unstuck.rules.update import model_rebuilt as rule
from unstuck.trace import synthetic


def rebuilt(loss, every, **fields):
    loss = np.asarray(loss, dtype=float)
    trace = synthetic.training(state="at-chance", steps=len(loss))
    trace.series.columns["loss"] = loss
    loop = trace.facts.loop
    loop.rebuilt = list(range(every, len(loss), every))
    loop.rebuilt_total = len(loop.rebuilt)
    loop.rebuilt_site = synthetic.site(24, "net = Net()", synthetic.TRAIN, "<module>")
    for name, value in fields.items():
        setattr(loop, name, value)
    return trace


def saw(depth, every=40, parts=5):
    return 1.6 * (1 - depth * np.tile(np.arange(every) / every, parts))


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("U409", "likely", "hinders")
    assert finding.locations[0].line == 24


def test_healthy():
    assert rule.check(rule.healthy()) is None


def test_optimizer_kept_is_certain():
    assert rule.check(rebuilt(np.full(200, 1.6), 40, optimizer_kept=True)).grade == "certain"


def test_a_new_model_at_every_step():
    assert rule.check(rebuilt(np.full(60, 1.7), 1)) is not None


def test_folds_and_ensembles_learn():
    assert rule.check(rebuilt(saw(0.9), 40)) is None


def test_weights_are_handed_on():
    assert rule.check(rebuilt(np.linspace(1.6, 0.9, 200), 40)) is None


def test_one_rebuild_is_not_enough():
    assert rule.check(rebuilt(saw(0.3, 40, 2), 40)) is None


def test_long_stretches_are_trainings_of_their_own():
    assert rule.check(rebuilt(np.full(9000, 1.6), 3000)) is None


def test_resets():
    trace = rule.healthy()
    trace.series.columns["loss"][:] = 1.5
    trace.facts.loop.resets = 5
    finding = rule.check(trace)
    assert finding.grade == "certain" and "5 times" in finding.evidence[0].text
    trace.facts.loop.resets = 1
    assert rule.check(trace) is None


def test_resets_of_folds_that_learn():
    trace = rule.healthy()
    trace.facts.loop.resets = 4
    assert rule.check(trace) is None


def test_without_series():
    trace = rule.sick()
    trace.series = trace.series.since(10_000)
    assert rule.check(trace) is None
    trace.facts.loop.resets = 3
    assert rule.check(trace) is None
