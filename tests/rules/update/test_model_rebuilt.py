"""U409."""

import numpy as np

from unstuck.rules.update import model_rebuilt as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Inputs, Loader


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


def learned(**fields):
    """Eight stretches, each from 1.6 down to 0.5, falling to its last step."""
    trace = rebuilt(saw(0.7, parts=8), 40, **({"rebuilt_unused": 4} | fields))
    trace.facts.loaders = [Loader(rows=1600, batch_size=40, iterators=8, taken=320)]
    return trace


def test_a_stretch_that_learns_and_is_thrown_away_unused():
    finding = rule.check(learned())
    assert finding is not None and finding.shown
    assert rule.check(learned(rebuilt_unused=3)) is None  # one was tested after its last step


def test_several_passes_over_the_data():
    trace = learned()
    trace.facts.loaders[0].iterators = 40
    assert rule.check(trace) is None


def test_a_stretch_that_has_arrived():
    trace = learned()
    stretch = np.concatenate([np.linspace(1.6, 0.4, 10), np.full(30, 0.4)])
    trace.series.columns["loss"] = np.tile(stretch, 8)
    assert rule.check(trace) is None


def test_rows_of_a_tensor_stand_for_the_loader():
    trace = learned()
    trace.facts.loaders, trace.facts.inputs = [], [Inputs(shape=[40, 8], part_of=1600)]
    assert rule.check(trace) is not None
    trace.facts.inputs[0].part_of = 400  # then forty steps are four passes
    assert rule.check(trace) is None


def test_an_ensemble_keeps_its_models():
    assert rule.check(rebuilt(saw(0.2), 40)) is not None
    assert rule.check(rebuilt(saw(0.2), 40, rebuilt_kept=4)) is None


def test_folds_with_loaders_of_their_own():
    trace = rebuilt(saw(0.2), 40)
    trace.facts.loaders = [Loader(rows=1600, iterators=1, taken=40) for _ in range(5)]
    assert rule.check(trace) is None


def test_weights_loaded_back_once_an_epoch():
    trace = rebuilt(saw(0.95, parts=8), 40, rebuilt_total=0, resets=7, resets_unused=7)
    trace.facts.loop.reset_at, trace.facts.loop.rebuilt = trace.facts.loop.rebuilt, []
    trace.facts.loaders = [Loader(rows=1600, iterators=8, taken=320)]
    assert rule.check(trace).shown
    trace.facts.loop.resets_unused = 6
    assert rule.check(trace) is None
