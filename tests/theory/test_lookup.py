"""The lookup must find what is known and, above all, refuse what is not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.theory import chance, floors, lookup
from unstuck.theory.lookup import explain_value

torch.set_num_threads(1)

SATURATED = "certain answers, error rate times the cap"
TWICE_TEN = math.log(math.e + 9)
BATCH_FLOOR = floors.batch_softmax(64, classes=10)


@pytest.mark.parametrize(
    ("printed", "given_facts", "name", "code", "value"),
    [
        # seen in public reports: number, and what was known besides
        ("5.3141", {"accuracy": "0.6667"}, SATURATED, "W104", 23 * math.log(2) * 0.3333),
        ("5.3141", {"accuracy": 0.6667, "classes": 3}, SATURATED, "W104", 23 * math.log(2) * 0.3333),
        ("10.0025", {"accuracy": ".3726"}, SATURATED, "W104", 23 * math.log(2) * 0.6274),
        ("10.0025", {"accuracy": ".3726", "classes": 10}, SATURATED, "W104", 23 * math.log(2) * 0.6274),
        ("7.6666", {"accuracy": "0.5"}, SATURATED, "W104", -math.log(2**-23 + 1e-7) / 2),
        ("7.6666", {"accuracy": 0.5, "classes": 2}, SATURATED, "W104", -math.log(2**-23 + 1e-7) / 2),
        ("2.3622", {"accuracy": "0.0986", "classes": 10}, "softmax twice, saturated", "W101", TWICE_TEN - 0.0986),
        ("0.3251", {"classes": 10}, "binary loss on one-hot labels, base rate", None, chance.binary_entropy(0.1)),
        ("1.4612", {"classes": 10}, "softmax twice, floor", "W101", math.log(math.e + 9) - 1),
        ("1.4612", {}, "softmax twice, floor", "W101", math.log(math.e + 9) - 1),
        ("0.6931", {}, "uniform guess", None, math.log(2)),
        ("1.6094", {}, "uniform guess", None, math.log(5)),
        ("2.3026", {}, "uniform guess", None, math.log(10)),
        ("2.3026", {"classes": 10}, "uniform guess", None, math.log(10)),
        ("4.6052", {}, "uniform guess", None, math.log(100)),
        ("6.9078", {}, "uniform guess", None, math.log(1000)),
        ("10.8249", {}, "uniform guess", None, math.log(50257)),
        ("10.8249", {"vocab": 50257}, "uniform guess", None, math.log(50257)),
        ("0.6931471824645996", {}, "uniform guess", None, math.log(2)),  # a float32 printed in full
        (0.6931, {}, "uniform guess", None, math.log(2)),
        ("2.3025", {"classes": 10}, "uniform guess", None, math.log(10)),  # cut off instead of rounded
        ("0.3251", {"prior": [0.9, 0.1]}, "always the base rates", None, chance.entropy([0.9, 0.1])),
        ("0.3251", {"prior": np.array([0.9, 0.1])}, "always the base rates", None, chance.entropy([0.9, 0.1])),
        ("0.3251", {"prior": 0.1}, "always the base rates", None, chance.entropy([0.9, 0.1])),
        ("0.6551", {"prior": 0.1}, "sigmoid twice, floor", "W102", floors.sigmoid_twice(0.1)),
        ("4.1589", {"classes": 10, "batch": 64}, "uniform over the batch", "W105", math.log(64)),
        ("1.9291", {"classes": 10, "batch": 64}, "softmax over the batch, floor", "W105", BATCH_FLOOR),
        ("147.37", {"classes": 10, "batch": 64}, "summed over the batch", "E803", 64 * math.log(10)),
        ("0.2303", {"classes": 10}, "averaged over classes too", "E803", math.log(10) / 10),
        ("4.8520", {"classes": 5, "sequence": 128}, "uniform over the sequence", "W113", math.log(128)),
        ("-0.1000", {"classes": 10}, "NLL on probabilities, start", "W107", -0.1),
        ("0.0900", {"classes": 10}, "squared error at the uniform guess", "W109", 0.09),
        ("6.9078", {"classes": 10}, "uniform guess over another number of classes", "W108", math.log(1000)),
        ("0.7966", {"classes": 10}, "tanh before the loss, floor", "W103", math.log1p(9 * math.exp(-2))),
    ],
)
def test_known_numbers_are_explained(printed, given_facts, name, code, value):
    first = explain_value(printed, **given_facts)[0]
    assert (first.name, first.code) == (name, code)
    assert first.value == pytest.approx(value, rel=1e-9)
    assert 0.0 < first.accidental <= lookup.ACCIDENTAL_LIMIT
    assert first.digits >= 3
    assert first.meaning.endswith((".", ")"))


def test_digits_and_agreement_say_how_well_it_fits():
    exact, slack, near = (explain_value(text, classes=3)[0] for text in ("1.0986", "1.0985", "1.0977"))
    assert [m.name for m in (exact, slack, near)] == ["uniform guess"] * 3
    assert [m.agreement for m in (exact, slack, near)] == ["exact", "last-digit", "near"]
    assert [m.digits for m in (exact, slack, near)] == [5, 4, 3]
    assert exact.accidental < slack.accidental < near.accidental
    assert exact.parameters == {"K": 3}
    assert explain_value("1.0960", classes=3) == []  # 0.24 % away: no longer the level itself


def test_the_rounding_of_the_accuracy_is_part_of_the_comparison():
    assert explain_value("5.3141", accuracy="0.6667")[0].agreement == "exact"  # two thirds; 15.942 * 0.3333 is 5.3136
    assert explain_value("5.3141", accuracy="0.666700")[0].agreement == "near"


def test_without_classes_a_form_has_to_agree_in_every_digit():
    assert explain_value("1.4613", classes=10)[0].agreement == "last-digit"
    assert explain_value("1.4613") == []


def test_more_digits_are_more_surprising_and_more_candidates_less():
    assert explain_value("2.3026", classes=10)[0].accidental < explain_value("2.30", classes=10)[0].accidental
    assert explain_value("2.3026", classes=10)[0].accidental < explain_value("2.3026")[0].accidental
    assert explain_value("1.4612", classes=10)[0].accidental < explain_value("1.4612")[0].accidental


def test_trailing_zeros_count_as_digits():
    assert lookup.written("2.30") == (2.3, pytest.approx(0.01))
    assert lookup.written("1.4612e+00") == (1.4612, pytest.approx(1e-4))
    assert lookup.written(2.5) == (2.5, pytest.approx(0.1))
    assert explain_value("2.30") and not explain_value("2.3")
    assert [explain_value(text, classes=10)[0].digits for text in ("2.303", "2.30", "2.3")] == [4, 3, 2]
    assert explain_value("-0.100", classes=10)[0].digits == 3


@pytest.mark.parametrize("few", ["2", "2.3", "0.7", "1.5", "0.5", "1.46", "0.90", "0.33", "0"])
def test_few_digits_without_classes_are_not_stretched(few):
    assert explain_value(few) == []


@pytest.mark.parametrize(("few", "level"), [("0.69", 2), ("1.10", 3), ("1.61", 5), ("2.30", 10), ("6.91", 1000)])
def test_few_digits_without_classes_name_only_the_levels_everybody_knows(few, level):
    assert [m.formula for m in explain_value(few)][:1] == [f"ln {level}"]


def test_both_readings_of_one_number_are_shown():
    names = [m.name for m in explain_value("1.3863")]
    assert names == ["uniform guess", "GAN discriminator, both halves added"]


def test_exact_matches_come_first_and_then_the_least_accidental():
    order = {"exact": 0, "last-digit": 1, "near": 2}
    found = explain_value("2.3979", classes=10, batch=11)  # ln 11: the batch axis, or a head with one output too many
    assert [m.code for m in found] == ["W105", "W108"]
    keys = [(order[m.agreement], m.accidental) for m in found]
    assert keys == sorted(keys)
    exact, near = explain_value("8.2938", classes=4000, batch=2000)[:2]  # ln 3999, and 0.003 % under ln 4000
    assert (exact.agreement, near.agreement) == ("exact", "near")
    assert exact.accidental > near.accidental


# ------------------------------------------------------------------------------------------------------ refusal


def healthy_numbers() -> list[str]:
    """Forty losses of trainings that work: twenty arbitrary ones, and twenty from two falling curves."""
    rng = np.random.default_rng(20)
    arbitrary = rng.uniform(0.05, 3.0, 20)
    step = np.arange(10)
    falling = 2.2 * np.exp(-step / 4.0) + 0.08 + rng.normal(0.0, 0.01, 10)
    slow = 1.9 / (1.0 + 0.3 * step) + rng.normal(0.0, 0.01, 10)
    return [f"{v:.4f}" for v in np.concatenate([arbitrary, falling, slow])]


@pytest.mark.parametrize(
    "facts", [{}, {"classes": 10}, {"classes": 2}, {"classes": 10, "accuracy": "0.7312", "batch": 64}]
)
def test_numbers_of_healthy_trainings_are_not_explained(facts):
    matched = [number for number in healthy_numbers() if explain_value(number, **facts)]
    assert len(matched) <= 2, matched


def test_share_of_all_four_decimal_numbers_that_match_anything():
    numbers = [f"{n / 10000:.4f}" for n in range(500, 30000)]
    with_ten = sum(bool(explain_value(n, classes=10)) for n in numbers) / len(numbers)
    without = sum(bool(explain_value(n)) for n in numbers) / len(numbers)
    assert 0.0 < without < with_ten <= 0.01  # the promise is 0.05


@pytest.mark.parametrize("decimals", [1, 2, 3])
@pytest.mark.parametrize("facts", [{}, {"classes": 10}, {"classes": 3, "accuracy": "0.41"}])
def test_share_of_shorter_numbers_that_match_anything(decimals, facts):
    numbers = [f"{n / 10**decimals:.{decimals}f}" for n in range(1, 3 * 10**decimals)]
    assert sum(bool(explain_value(n, **facts)) for n in numbers) / len(numbers) <= 0.05


@pytest.mark.parametrize("accuracy", ["0.1000", "0.5", "0.9", "0.9312", "0.985"])
@pytest.mark.parametrize("classes", [None, 10])
def test_an_accuracy_does_not_open_the_gates(accuracy, classes):
    numbers = [f"{n / 10000:.4f}" for n in range(500, 30000, 7)]
    share = sum(bool(explain_value(n, classes=classes, accuracy=accuracy)) for n in numbers) / len(numbers)
    assert share <= 0.02


@settings(max_examples=150, deadline=None, derandomize=True)
@given(value=st.floats(0.05, 20.0), classes=st.one_of(st.none(), st.integers(2, 2000)), decimals=st.integers(1, 6))
def test_whatever_is_returned_is_close_and_rare(value, classes, decimals):
    text = f"{value:.{decimals}f}"
    for match in explain_value(text, classes=classes):
        allowed = max(1.5 * 10.0**-decimals, lookup.NEAR * abs(match.value), 2e-5)
        assert abs(match.value - float(text)) <= allowed * 1.001
        assert match.accidental <= lookup.ACCIDENTAL_LIMIT
        assert classes is not None or match.agreement != "near"


@settings(max_examples=100, deadline=None, derandomize=True)
@given(classes=st.integers(2, 3000), decimals=st.integers(4, 7))
def test_the_two_main_levels_are_found_for_every_number_of_classes(classes, decimals):
    uniform = explain_value(f"{math.log(classes):.{decimals}f}", classes=classes)
    assert uniform[0].name == "uniform guess" and uniform[0].agreement == "exact"
    twice = explain_value(f"{floors.softmax_twice(classes):.{decimals}f}", classes=classes)
    assert any(m.code == "W101" and m.agreement == "exact" for m in twice)


# ----------------------------------------------------------------------------------- against real losses, printed


def test_printed_losses_of_faulty_heads_are_recognised():
    labels = torch.arange(10).repeat(5)
    certain = F.one_hot(labels, 10).double() * 60.0
    assert explain_value(f"{F.cross_entropy(certain.softmax(1), labels).item():.4f}", classes=10)[0].code == "W101"
    one_unit = torch.randn(40, 1).softmax(1)[:, 0]
    targets = (torch.arange(40) < 25).float()
    printed = f"{F.binary_cross_entropy(one_unit, targets).item():.4f}"
    found = explain_value(printed, accuracy=f"{targets.mean().item():.4f}")[0]
    assert found.code == "W104" and found.parameters["c"] == 100.0
    zero = torch.zeros(50, 10)
    summed = f"{F.cross_entropy(zero, labels, reduction='sum').item():.3f}"
    assert explain_value(summed, classes=10, batch=50)[0].code == "E803"
    assert explain_value(f"{F.nll_loss(zero.softmax(1), labels).item():.4f}", classes=10)[0].code == "W107"


def test_nearest_is_a_ruler_and_never_refuses():
    assert lookup.nearest("1.83", classes=10).formula == "ln 10"
    assert lookup.nearest("0.60", prior=[0.7, 0.3]).name == "always the base rates"
    assert lookup.nearest("0.6935").formula == "ln 2"


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: explain_value("abc"), "value.*abc"),
        (lambda: explain_value(""), "value"),
        (lambda: explain_value("nan"), "D206"),
        (lambda: explain_value(math.inf), "N701"),
        (lambda: explain_value("1.0", classes=1), "classes"),
        (lambda: explain_value("1.0", classes=2.5), "classes"),
        (lambda: explain_value("1.0", classes=3, vocab=4), "vocab"),
        (lambda: explain_value("1.0", batch=1), "batch"),
        (lambda: explain_value("1.0", sequence=0), "sequence"),
        (lambda: explain_value("1.0", prior=[0.9, 0.2]), "prior"),
        (lambda: explain_value("1.0", prior=[1.5, -0.5]), "prior"),
        (lambda: explain_value("1.0", prior=[0.9, 0.1], classes=3), "prior.*classes=3"),
        (lambda: explain_value("1.0", accuracy="93%"), "accuracy.*fraction"),
        (lambda: explain_value("1.0", accuracy=93), "accuracy.*fraction"),
    ],
)
def test_unusable_input_is_named(call, names):
    with pytest.raises(ValueError, match=f"(?s){names}"):
        call()
