"""U408."""

import pytest

from unstuck.rules.update import scaler_skips_every_step as rule


def skips(steps, skipped, run):
    trace = rule.healthy()
    loop = trace.facts.loop
    loop.steps, loop.skipped_steps, loop.longest_skip_run = steps, skipped, run
    return trace


def test_sick():
    finding = rule.check(rule.sick())
    assert (finding.code, finding.grade, finding.bearing) == ("U408", "certain", "blocks")
    assert finding.locations[0].text == "scaler.step(opt)"
    assert len(finding.evidence) == 2


def test_healthy():
    assert rule.check(rule.healthy()) is None


def test_one_long_run():
    assert rule.check(skips(3, 97, 97)).bearing == "hinders"


@pytest.mark.parametrize("steps, skipped, run", [(0, 4, 4), (400, 12, 12), (10, 90, 40), (400, 0, 0), (0, 0, 0)])
def test_few_or_scattered(steps, skipped, run):
    assert rule.check(skips(steps, skipped, run)) is None
