"""U405."""

from unstuck.rules.update import gradients_never_zeroed as rule
from unstuck.trace.facts import Optimizer


def stale(checked, stale, **fields):
    trace = rule.healthy()
    loop = trace.facts.loop
    loop.stale_checked, loop.stale = checked, stale
    for name, value in fields.items():
        setattr(loop, name, value)
    return trace


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("U405", "certain", "hinders")
    assert [s.line for s in finding.locations] == [42, 43]
    assert "At none of 399 backward calls" in finding.evidence[0].text


def test_healthy():
    assert rule.check(rule.healthy()) is None


def test_zeroed_once_an_epoch():
    finding = rule.check(stale(100, 96, zero_calls=4))
    assert finding.grade == "likely"
    assert "4 times" in finding.evidence[1].text


def test_few_stale_ones_are_silent():
    assert rule.check(stale(100, 49)) is None
    assert rule.check(stale(8, 6)) is None


def test_one_check_is_not_enough():
    assert rule.check(stale(1, 1)) is None
    assert rule.check(stale(0, 0)) is None


def test_players_that_take_turns():
    assert rule.check(stale(100, 100, adversarial=100)) is None
    trace = stale(100, 100, zero_calls=100)
    trace.facts.optimizers.append(Optimizer("Adam", steps=100))
    assert rule.check(trace) is None
    trace.facts.loop.zero_calls = 0
    assert rule.check(trace) is not None
