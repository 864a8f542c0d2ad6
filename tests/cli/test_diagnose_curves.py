"""Forty-eight healthy logs raise no alarm, with and without the number of classes; thirty-six stuck ones are recognised."""

from __future__ import annotations

import math

import numpy as np
import pytest

from unstuck.cli.log_judgement import Known, judge
from unstuck.observe.logs import Log
from unstuck.theory import floors

ALARMS = {"at-chance", "at-prior", "above-chance", "constant", "diverging", "non-finite"}


def log(loss, accuracy=None, *, axis="step", every=1, decimals=None, lr=None) -> Log:
    """A log of these losses, written with so many decimals (None: in full)."""
    loss = np.asarray(loss, dtype=np.float64)
    if decimals is not None:
        loss = np.round(loss, decimals)
        accuracy = None if accuracy is None else np.round(accuracy, 4)
    steps = np.arange(1, len(loss) + 1) * every
    return Log(
        "run", "csv", "loss", steps, loss, accuracy=None if accuracy is None else np.asarray(accuracy, dtype=np.float64), lr=lr,
        axis=axis, unit=0.0 if decimals is None else 10.0**-decimals, averaged="epoch" if axis == "epoch" else "",
    )  # fmt: skip


def healthy() -> dict[str, tuple[Log, int]]:
    """name -> (log, number of classes)."""
    rng = np.random.default_rng(7)
    out: dict[str, tuple[Log, int]] = {}
    for classes in (2, 3, 10, 100):
        c = math.log(classes)
        for n in (400, 5000):
            x = np.linspace(0, 1, n)
            noise = rng.standard_normal(n)
            shapes = {
                "exponential": c * (0.05 + 0.95 * np.exp(-6 * x)) + 0.03 * c * noise * np.exp(-2 * x),
                "ends at half": c * (0.45 + 0.55 * np.exp(-20 * x)) + 0.05 * c * noise,
                "plateau, then drop": np.where(x < 0.6, c, c * np.exp(-9 * (x - 0.6))) + 0.01 * c * noise,
                "slow start": c / (1 + np.exp(10 * (x - 0.6))) + 0.02 * c * noise + 0.02 * c,
            }
            for name, y in shapes.items():
                out[f"{name}, K={classes}, n={n}"] = log(np.maximum(y, 1e-4), every=5), classes
    x = np.linspace(0, 1, 3000)
    noise = rng.standard_normal(3000)
    out["language model"] = log(3.4 + 7.4 * (1 + 200 * x) ** -0.6 + 0.05 * noise, every=100), 50257
    out["language model, early and slow"] = log(10.82 - 2.2 * x + 0.05 * noise, every=10), 50257
    out["fine-tuning, low from the start"] = log(0.31 + 0.05 * np.exp(-4 * x) + 0.03 * noise), 3
    out["converged for long"] = log(0.4213 + 1.9 * np.exp(-300 * x) + 0.01 * noise), 10
    out["label smoothing, at its floor"] = log(floors.label_smoothing(10, 0.1) + 1.8 * np.exp(-30 * x) + 0.004 * np.abs(noise)), 10
    out["zero"] = log(np.maximum(2.3 * np.exp(-60 * x), 1e-6)), 10
    out["starts far above chance"] = log(0.2 + 9 * np.exp(-15 * x) + 0.05 * np.abs(noise)), 10
    out["stairs of a schedule"] = log(2.2 * 0.5 ** np.floor(4 * x) + 0.1 + 0.02 * noise), 10
    teeth = 0.1 * (1 - (30 * x) % 1) * np.exp(-2 * x)
    out["saw-tooth of epochs"] = log(2.0 * np.exp(-4 * x) + teeth + 0.02 * np.abs(noise) + 0.05), 10
    falling = 2.3 * np.exp(-5 * x) + 0.02 * np.abs(noise)
    out["two NaN that pass"] = log(np.where((np.arange(3000) % 1499) == 700, np.nan, falling)), 10
    sparse = np.full(3000, np.nan)
    sparse[::20] = falling[::20]
    out["NaN where nothing was logged"] = log(sparse), 10
    out["spikes"] = log(2.3 * np.exp(-4 * x) + np.where(rng.random(3000) < 0.01, 5.0, 0) + 0.05), 10
    epochs = {
        "ten epochs": [2.1, 1.62, 1.41, 1.2, 1.05, 0.93, 0.85, 0.8, 0.77, 0.75],
        "mnist": [0.2613, 0.1132, 0.0781, 0.0602, 0.0471],
        "slow start, short": [2.3020, 2.2984, 2.2701, 2.1007, 1.7210],
        "slow and short": [2.3010, 2.2980, 2.2950, 2.2921, 2.2890],
        "converged at once": [0.4512, 0.4309, 0.4251, 0.4230, 0.4222, 0.4216, 0.4214, 0.4213],
        "binary": [0.6912, 0.6803, 0.6450, 0.5981, 0.5512, 0.5210],
        "two values": [0.693, 0.51],
        "overfits": [0.9, 0.5, 0.2, 0.05, 0.01, 0.002, 0.001],
    }
    for name, y in epochs.items():
        out[name] = log(y, axis="epoch", decimals=4), 2 if name in {"binary", "two values"} else 10
    return out


HEALTHY = healthy()


def test_there_are_at_least_forty() -> None:
    assert len(HEALTHY) >= 40


@pytest.mark.parametrize("given", [False, True], ids=["classes unknown", "classes given"])
@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_log_raises_no_alarm(name: str, given: bool) -> None:
    one, classes = HEALTHY[name]
    report = judge(one, Known(classes if given else None))
    assert report.training.symptom.name not in ALARMS, report.training.symptom
    assert report.training.cause is None, report.training.cause
    assert report.hypothesis is None


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["ends at half", "converged"])
def test_the_level_a_healthy_run_ends_at_is_hardly_ever_explained(name: str, seed: int) -> None:
    """Sixty levels at random, with and without accuracy: a fault's code is likely for none of them."""
    rng = np.random.default_rng(seed)
    x = np.linspace(0, 1, 500)
    for level in rng.uniform(0.05, 1.6, 10):
        y = level + (2.3 - level) * np.exp(-20 * x) + 0.02 * rng.standard_normal(500) * (name != "converged")
        accuracy = np.clip(np.exp(-y) + 0.02 * rng.standard_normal(500), 0, 1)
        for known in (Known(), Known(10)):
            report = judge(log(y, accuracy), known)
            assert report.training.cause is None, (level, report.training.cause)


def stuck() -> dict[str, tuple[Log, Known, str, str | None]]:
    """name -> (log, what is known, state, code of the cause or None)."""
    rng = np.random.default_rng(3)
    out: dict[str, tuple[Log, Known, str, str | None]] = {}
    for classes in (2, 3, 5, 10, 100, 1000):
        c = math.log(classes)
        y = c * (1 + 0.001 + 0.01 * rng.standard_normal(3000))
        out[f"chance, K={classes} given"] = log(y), Known(classes), "at-chance", None
        out[f"chance, K={classes} not given"] = log(c + 0.002 * rng.standard_normal(3000)), Known(), "at-chance", None
        short = c + rng.uniform(-2e-4, 2e-4, 6)
        out[f"six epochs at chance, K={classes}"] = log(short, axis="epoch", decimals=4), Known(classes), "at-chance", None
    prior = (0.9, 0.1)
    out["base rates"] = log(0.3251 + 0.01 * rng.standard_normal(2000)), Known(2, prior), "at-prior", None
    epochs = log([0.3301, 0.3255, 0.3252, 0.3253, 0.3251], axis="epoch", decimals=4)
    out["base rates, epochs"] = epochs, Known(2, prior), "at-prior", None
    ends = np.where(np.arange(900) < 300, 2.0, np.nan) + 0.01 * rng.standard_normal(900)
    out["NaN in the middle"] = log(ends), Known(), "non-finite", "N701"
    out["NaN from the start"] = log([math.nan] * 5, axis="epoch"), Known(), "non-finite", "N701"
    out["NaN after two epochs"] = log([2.1, 1.9, math.nan, math.nan], axis="epoch"), Known(), "non-finite", "N701"
    ends = np.where(np.arange(300) < 200, 3.0 + 0.01 * np.arange(300), math.inf)
    out["infinite"] = log(ends), Known(), "non-finite", "N701"
    rising = 2.3 + 100 * np.linspace(0, 1, 1000) ** 2 + rng.standard_normal(1000)
    out["diverging"] = log(rising), Known(), "diverging", None
    out["diverging, K given"] = log(rising), Known(10), "diverging", None
    out["worse than guessing"] = log(4.2 + 0.1 * rng.standard_normal(2000)), Known(10), "above-chance", None
    for accuracy, loss in ((0.6667, 5.3141), (0.3726, 10.0025), (0.5, 7.6666)):
        one = log([loss] * 4, [accuracy] * 4, axis="epoch", decimals=4)
        out[f"one unit, {loss}"] = one, Known(), "constant", "W104"
    a = np.array([0.41, 0.44, 0.40, 0.47, 0.43])
    one = log(23 * math.log(2) * (1 - a), a, axis="epoch", decimals=4)
    out["certain answers, accuracy moves"] = one, Known(), "plateau", "W104"
    x = np.linspace(0, 1, 12)
    right = 0.1 + 0.88 * (1 - np.exp(-6 * x))
    twice = math.log(math.e + 9) - right + 0.004
    out["softmax twice, saturated"] = log(twice, right, axis="epoch", decimals=4), Known(10), "plateau", "W101"
    y = floors.softmax_twice(10) + 0.84 * np.exp(-30 * np.linspace(0, 1, 3000)) + 0.0005 * np.abs(rng.standard_normal(3000))
    out["softmax twice, accurate"] = log(y, 1 - (y - floors.softmax_twice(10))), Known(10), "plateau", "W101"
    out["averaged over classes"] = log(np.full(40, 0.2303), decimals=4), Known(10), "constant", "E803"
    out["rate 0"] = log(1.9 + 0.02 * rng.standard_normal(400), lr=np.zeros(400)), Known(), "plateau", "U407"
    out["never moves, level unknown"] = log(1.9 + 0.02 * rng.standard_normal(400)), Known(), "plateau", None
    return out


STUCK = stuck()


def test_there_are_at_least_thirty() -> None:
    assert len(STUCK) >= 30


@pytest.mark.parametrize("name", STUCK)
def test_a_stuck_log_is_recognised(name: str) -> None:
    one, known, state, code = STUCK[name]
    report = judge(one, known)
    cause = report.training.cause
    assert (report.training.symptom.name, cause.code if cause else None) == (state, code), report.training.symptom.reason
    assert cause is None or cause.grade == "likely"  # numbers alone are never certain
    assert cause is None or (cause.separating and cause.evidence)


def test_without_the_number_of_classes_chance_is_a_hypothesis_and_graded() -> None:
    exact = judge(log(np.full(50, 2.3026), decimals=4), Known())
    assert exact.hypothesis is not None and (exact.hypothesis.classes, exact.hypothesis.grade) == (10, "likely")
    rng = np.random.default_rng(0)
    rough = judge(log(math.log(10) * 1.002 + 0.02 * rng.standard_normal(2000)), Known())
    assert rough.hypothesis is not None and rough.hypothesis.grade == "possible"
    given = judge(log(np.full(50, 2.3026), decimals=4), Known(10))
    assert given.hypothesis is None and given.training.symptom.name in {"at-chance", "constant"}
    assert given.training.symptom.chance == pytest.approx(math.log(10))


def test_an_accuracy_that_moves_or_is_high_speaks_against_chance() -> None:
    n = 400
    rng = np.random.default_rng(0)
    flat = math.log(2) + 0.0005 * rng.standard_normal(n)
    rising = np.linspace(0.5, 0.85, n)
    assert judge(log(flat, rising), Known()).hypothesis is None
    constant = judge(log(flat, np.full(n, 0.9)), Known()).hypothesis
    assert constant is not None and constant.grade == "possible" and "most frequent class" in constant.text


def test_answers_that_become_certain_later_are_not_called_wiring() -> None:
    accuracy = np.array([0.52, 0.5, 0.5, 0.5, 0.5, 0.5])
    loss = np.array([2.9, 7.9712, 7.9712, 7.9712, 7.9712, 7.9712])
    report = judge(log(loss, accuracy, axis="epoch", decimals=4), Known())
    assert [f.code for f in report.training.findings] == ["S501"]
    assert report.training.cause is None  # possible only


def test_loss_and_accuracy_that_add_up_tell_the_number_of_classes_too() -> None:
    accuracy = np.array([0.88, 0.9502, 0.9682, 0.9763, 0.9817])
    report = judge(log(math.log(math.e + 9) - accuracy, accuracy, axis="epoch", decimals=4), Known())
    assert [(f.code, f.grade, f.role) for f in report.training.findings] == [("W101", "likely", "cause")]
    assert "ln(e+9)" in report.training.findings[0].summary
    # Almost adding up is not enough without the number of classes.
    rough = judge(log(math.log(math.e + 9) - accuracy + [0.02, -0.01, 0.0, 0.01, 0.0], accuracy, axis="epoch"), Known())
    assert rough.training.cause is None


def test_nll_on_probabilities_learns_and_is_named_without_alarm() -> None:
    rng = np.random.default_rng(1)
    loss = -0.1 - 0.88 * (1 - np.exp(-5 * np.linspace(0, 1, 500))) + 0.005 * rng.standard_normal(500)
    report = judge(log(loss), Known(10))
    assert [(f.code, f.grade, f.role) for f in report.training.findings] == [("W107", "likely", "latent")]
    report = judge(log(loss - 3 * np.linspace(0, 1, 500)), Known(10))  # on raw outputs: without bound
    assert [(f.code, f.grade) for f in report.training.findings] == [("W107", "possible")]


@pytest.mark.parametrize(
    ("column", "others"),
    [("d_loss", ["g_loss"]), ("loss_disc", ["loss_gen"]), ("policy_loss", []), ("critic/loss", ["actor/loss"])],
)
def test_two_players_and_agents_get_no_verdict(column: str, others: list[str]) -> None:
    one = log(np.full(200, 0.6931), decimals=4)
    one.column, one.others = column, others
    for known in (Known(), Known(2)):
        report = judge(one, known)
        assert report.training.symptom.name == "not-judged" and not report.training.symptom.judged
        assert report.hypothesis is None and report.training.findings == [] and report.forms == []


def test_a_passing_value_is_not_looked_up() -> None:
    """A curve that happens to be at 1.4612 now, on its way down, is nowhere."""
    y = np.linspace(2.3, 1.4612, 400)
    assert judge(log(y), Known(10)).forms == []
