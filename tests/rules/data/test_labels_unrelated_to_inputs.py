"""D202."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from unstuck.findings import Symptom
from unstuck.rules.data import labels_unrelated_to_inputs as rule
from unstuck.trace import synthetic
from unstuck.trace.facts import Inputs, Loader

NO_SHIFT = SimpleNamespace(shift=None, sentence=lambda: "No shift.")


def moved(rows):
    return SimpleNamespace(shift=rows, way="open", sentence=lambda: f"The labels are shifted by {rows:+d} rows.")


@pytest.fixture
def sick(dependence):
    """No relation was found; `shift` is what the offset scan says."""

    def make(shift=NO_SHIFT, state="at-chance", **learn):
        trace = rule.sick()
        trace.series = synthetic.training(state=state).series
        trace.known["learnable"] = dependence(**({"found": False, "trees": 1.6} | learn))
        trace.known["shifted"] = shift
        return trace

    return make


def test_sick(sick):
    trace = sick()
    trace.facts.inputs = [Inputs("input 1", "real", [64, 6], site=synthetic.site(40, "out = model(x)", synthetic.TRAIN))]
    trace.facts.loaders = [
        Loader(600, 64, made=synthetic.site(8, "loader = DataLoader(d)"), site=synthetic.site(39, "for x, y in loader"), taken=9),
        Loader(600, 64, made=synthetic.site(9, "test = DataLoader(test)")),
    ]
    finding = rule.check(trace)
    assert (finding.code, finding.grade, finding.bearing) == ("D202", "likely", "blocks")
    assert "nothing to do with the inputs" in finding.summary
    assert len(finding.evidence) == 1 and "p = 0.4" in finding.evidence[0].text and "0.1 nats" in finding.evidence[0].text
    assert (finding.evidence[0].value, finding.evidence[0].unit, finding.evidence[0].source) == (0.4, "p", "statistics")
    assert [s.line for s in finding.locations] == [39, 8, 40]  # the loader that nobody took from is left out
    assert finding.separating


def test_related(sick):
    trace = sick(found=True, logistic=0.1)
    assert rule.check(trace) is None
    assert "logistic regression" in rule.in_order(trace) and "0.10 nats" in rule.in_order(trace)


@pytest.mark.parametrize("rows, words", [(1, "1 row earlier"), (-1, "1 row later"), (7, "7 rows earlier"), (-32, "32 rows later")])
def test_shifted(sick, rows, words):
    finding = rule.check(sick(moved(rows)))
    assert finding.grade == "likely" and words in finding.summary
    assert f"shifted by {rows:+d} rows" in finding.evidence[0].text and finding.evidence[0].value == rows
    assert f"by {-rows} rows" in finding.fix.summary
    assert len(finding.evidence) == 2


def test_random_bits_may_hide_a_parity(sick):
    finding = rule.check(sick(structured=False))
    assert finding.grade == "possible" and finding.evidence[-1].text == "A cap."
    assert rule.check(sick(structured=False, columns=1)).grade == "likely"
    assert rule.check(sick(moved(1), structured=False)).grade == "likely"


@pytest.mark.parametrize("learn", [{"enough": False, "reason": "12 rows are too few"}, {"classes": 1}, {"columns": 0}])
def test_nothing_can_be_told(sick, learn):
    trace = sick(**learn)
    assert rule.check(trace) is None
    assert bool(rule.in_order(trace)) == (learn.get("classes") != 1)


def test_no_pairs(sick):
    trace = sick()
    trace.pairs = None
    assert rule.check(trace) is None
    trace = rule.sick()
    trace.pairs.x, trace.pairs.y, trace.pairs.batch = trace.pairs.x[:0], trace.pairs.y[:0], trace.pairs.batch[:0]
    assert rule.check(trace) is None
    assert rule.in_order(trace) == ""


def test_a_dozen_real_rows_are_too_few():
    trace = rule.sick()
    pairs = trace.pairs
    pairs.x, pairs.y, pairs.batch = pairs.x[:12, :2], pairs.y[:12], pairs.batch[:12]
    assert rule.check(trace) is None
    assert "12 of your own samples" in rule.in_order(trace)


@pytest.mark.parametrize("state, fires", [
    ("at-chance", True), ("at-prior", True), ("plateau", True), ("slow", True), ("too-early", True), ("above-chance", True),
    ("learning", False), ("non-finite", False), ("diverging", False), ("no-training", False),
])  # fmt: skip
def test_symptoms(sick, state, fires):
    trace = sick()
    trace.known["symptom"] = Symptom(state, loss=1.6, chance=math.log(5))
    assert (rule.check(trace) is not None) == fires
    trace.known["symptom"].judged = False
    assert rule.check(trace) is None


def by_heart(trace, *, distinct=640, rows=6400, batch=64, pass_level=None):
    """Every row seen many times; the loss of the first pass stands at `pass_level`, then it falls."""
    trace.known["symptom"] = Symptom("learning", loss=0.2, chance=math.log(5))
    trace.facts.inputs = [Inputs("input 1", "real", [batch, 6], calls=400, rows=rows, distinct_rows=distinct)]
    once = distinct // batch
    level = math.log(5) if pass_level is None else pass_level
    trace.series.columns["loss"] = np.concatenate((np.full(once, level), np.full(400 - once, 0.2)))
    return trace


def test_learned_by_heart(sick):
    """It learns, but not before it saw rows for the second time."""
    assert rule.check(by_heart(sick())) is not None
    assert rule.check(by_heart(sick(), pass_level=1.58)) is not None  # within 2 % of chance
    assert rule.check(by_heart(sick(), pass_level=1.5)) is None
    assert rule.check(by_heart(sick(), distinct=6400)) is None  # no row came twice
    assert rule.check(by_heart(sick(), distinct=200 * 64, rows=20000)) is None  # two passes
    assert rule.check(by_heart(sick(), distinct=4 * 64)) is None  # four steps in a pass show nothing
    trace = by_heart(sick())
    trace.series.columns["base"][:] = np.nan
    assert rule.check(trace) is None
    trace = by_heart(sick())
    trace.facts.inputs[0].shape = None
    assert rule.check(trace) is None
    trace.facts.inputs = []
    assert rule.check(trace) is None


def test_examined_once(sick, monkeypatch):
    trace = sick()
    monkeypatch.setattr("unstuck.stats.dependence.examine", lambda *a, **k: pytest.fail("asked again"))
    monkeypatch.setattr("unstuck.stats.dependence.offsets", lambda *a, **k: pytest.fail("asked again"))
    assert rule.check(trace) is not None


def test_a_real_shift_by_one_row_is_named(dependence):
    """Each label belongs to the input one row before."""
    trace = rule.healthy()
    trace.pairs.x, trace.pairs.y = trace.pairs.x[:200], np.roll(trace.pairs.y[:200], 1)
    trace.pairs.batch = trace.pairs.batch[:200]
    trace.known["learnable"] = dependence(found=False)
    finding = rule.check(trace)
    assert "1 row earlier" in finding.summary and finding.evidence[0].value == 1.0
    assert "by -1 rows" in finding.fix.summary
