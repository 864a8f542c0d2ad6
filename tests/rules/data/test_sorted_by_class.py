"""D205."""

import numpy as np
import pytest

from unstuck.rules.data import sorted_by_class as rule
from unstuck.trace import synthetic
from unstuck.trace.trace import Pairs


def with_labels(y, size=64, **loader):
    trace = rule.sick()
    y = np.asarray(y, dtype=np.int64)
    trace.pairs = Pairs(np.zeros((len(y), 2), np.float32), y, np.arange(len(y)) // size)
    for name, value in loader.items():
        setattr(trace.facts.loaders[0], name, value)
    return trace


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing, finding.shown) == ("D205", "likely", "hinders", True)
    assert "1.0 classes" in finding.evidence[0].text
    assert finding.locations[0].line == 9


def test_healthy():
    assert rule.check(rule.healthy()) is None
    assert "shuffled" in rule.in_order(rule.healthy())


def test_not_shown_without_a_saw_tooth():
    trace = rule.sick()
    trace.series = synthetic.training(state="plateau").series
    finding = rule.check(trace)
    assert not finding.shown and finding.separating


def test_false_alarms_on_shuffled_data():
    rng = np.random.default_rng(3)
    for classes in (2, 5, 50):
        for size in (1, 2, 8, 64):
            assert not any(rule.check(with_labels(rng.integers(0, classes, 512), size)) for _ in range(4))


def test_runs_deviation_is_standard_normal_under_shuffling():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [300, 150, 50])
    z = [rule.runs_deviation(rng.permutation(y)) for _ in range(400)]
    assert abs(np.mean(z)) < 0.2 and 0.9 < np.std(z) < 1.1
    assert rule.runs_deviation(np.zeros(10, int)) == 0


def test_whole_data_set_in_one_batch():
    y = np.repeat(np.arange(5), 30)
    assert rule.check(with_labels(np.tile(y, 6), 150)) is None


def test_batches_that_are_only_a_little_purer():
    """Half of the classes in each batch is not more than half of the way down to one."""
    rng = np.random.default_rng(0)
    parts = [rng.choice(rng.permutation(8)[:6], 32) for _ in range(20)]
    assert rule.check(with_labels(np.concatenate(parts), 32)) is None


def test_one_sample_at_a_time():
    assert rule.check(with_labels(np.repeat([0, 1, 2], 100), 1)) is not None
    assert rule.check(with_labels(np.tile([0, 1, 2], 100), 1)) is None


def test_only_the_first_class_was_captured():
    trace = with_labels(np.zeros(512))
    assert "20%" in rule.check(trace).evidence[0].text
    trace.facts.terms[0].labels.counts = [512.0, 0, 0, 0, 0]
    assert rule.check(trace) is None  # D210
    trace.facts.terms[0].labels.counts = [0.98, 0.02]
    trace.pairs = Pairs(trace.pairs.x[:200], trace.pairs.y[:200], trace.pairs.batch[:200])
    assert rule.check(trace) is None  # 0.98^200 is no rarity


def test_a_sampler_of_their_own_that_gives_class_after_class():
    trace = with_labels(np.repeat(np.arange(5), 128), sampler="ClassesPerBatch", shuffled=None)
    assert rule.check(trace).bearing == "hinders"


@pytest.mark.parametrize("rows", [0, 20])
def test_too_few(rows):
    assert rule.check(with_labels(np.arange(rows) // 10, 5)) is None
