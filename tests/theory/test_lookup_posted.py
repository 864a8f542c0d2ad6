"""Posted numbers are explained, those of healthy learning curves refused, from number, K and accuracy alone."""

from __future__ import annotations

import pytest

from unstuck.theory.lookup import ACCIDENTAL_LIMIT, explain_value

POSTED = [
    ("5.3141", {"accuracy": ".6667"}, "W104", "15.9424 (1 - 0.6667)"),
    ("10.0025", {"accuracy": ".3726"}, "W104", "15.9424 (1 - 0.3726)"),
    ("7.6666", {"accuracy": ".5"}, "W104", "15.3332 (1 - 0.5)"),
    ("2.3622", {"accuracy": ".0986", "classes": 10}, "W101", "ln(e+9) - accuracy"),
    (".3251", {"classes": 10}, None, "H_b(1/10)"),
    ("1.0977", {"classes": 3}, None, "ln 3"),
]  # fmt: skip

# (loss, accuracy, K), as a training prints them on its way and at its end.
HEALTHY = [
    ("0.4213", "0.8500", 10), ("0.2613", "0.9251", 10), ("1.5327", "0.4418", 10), ("0.0871", "0.9738", 10),
    ("0.5312", "0.7344", 2), ("0.6120", "0.6650", 2), ("0.3417", "0.8563", 2), ("0.1184", "0.9580", 2),
    ("0.8846", "0.5983", 3), ("0.4127", "0.8333", 3), ("0.0639", "0.9867", 3), ("1.2054", "0.5125", 5),
    ("0.7428", "0.7312", 5), ("3.1862", "0.2371", 100), ("1.8893", "0.5034", 100), ("0.9417", "0.7365", 100),
    ("2.4736", "0.4518", 1000), ("1.0418", "0.7429", 1000), ("0.2947", "0.9113", 10), ("1.7352", "0.3641", 10),
]  # fmt: skip


@pytest.mark.parametrize(("number", "facts", "code", "formula"), POSTED)
def test_a_posted_number_is_explained(number: str, facts: dict, code: str | None, formula: str) -> None:
    first = explain_value(number, **facts)[0]
    assert (first.code, first.formula) == (code, formula)
    assert first.accidental <= ACCIDENTAL_LIMIT


def test_there_are_twenty() -> None:
    assert len(HEALTHY) == 20


@pytest.mark.parametrize(("number", "accuracy", "classes"), HEALTHY)
def test_a_healthy_number_is_refused_with_whatever_is_known(number: str, accuracy: str, classes: int) -> None:
    for facts in ({}, {"accuracy": accuracy}, {"classes": classes}, {"classes": classes, "accuracy": accuracy}):
        assert explain_value(number, **facts) == []
