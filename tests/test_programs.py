"""The random programs and the arithmetic of the error rates; the programs themselves run in the benchmarks."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import detection
import programs

CODES = sorted(programs.FAULTS)
# An iris program of a second, as every test that runs one needs.
SMALL = next(
    n for n in range(1000)
    if (c := programs.draw(n)).data == "iris" and c.model == "sequential" and c.optimizer == "adam" and c.classes == 3
)  # fmt: skip


@pytest.mark.parametrize("base", sorted(programs.CONSTRAINTS))
def test_healthy_programs_compile_and_are_drawn_the_same_again(base: str) -> None:
    for number in range(25):
        program = programs.healthy(number, base)
        compile(program.source, program.name, "exec")
        assert program.source == programs.healthy(number, base).source
        assert not program.code and "FINAL train_loss=" in program.source


@pytest.mark.parametrize("base", sorted(programs.CONSTRAINTS))
def test_a_configuration_keeps_the_constraints_of_its_base(base: str) -> None:
    for number in range(25):
        config = programs.draw(number, base)
        for name, allowed in programs.CONSTRAINTS[base].items():
            if name in {"start", "batch"}:  # he becomes xavier for tanh; a batch is a quarter of the rows at most
                continue
            if name == "classes" and config.data not in {"blobs", "classification"}:  # the data set says how many there are
                continue
            assert getattr(config, name) in allowed, (name, config)


@pytest.mark.parametrize("code", CODES)
def test_every_patch_makes_a_program_that_differs_from_its_healthy_twin(code: str) -> None:
    patches = programs.FAULTS[code]
    assert len(patches) >= 2
    for number in range(len(patches)):
        program = programs.sick(code, number)
        compile(program.source, program.name, "exec")
        compile(program.twin, program.name, "exec")
        assert program.code == code
        assert program.patch == patches[number % len(patches)].name
        assert program.source != program.twin
        assert program.twin == programs.healthy(program.config.number, program.config.base).source
        assert program.source == programs.sick(code, number).source


@pytest.mark.parametrize("pair", programs.PAIRS, ids=lambda p: f"{p.first}+{p.second}")
def test_two_faults_are_two_changes_of_the_twin(pair: programs.Pair) -> None:
    program = programs.both(pair, 0)
    compile(program.source, program.name, "exec")
    assert (program.code, program.second) == pair
    assert program.twin == programs.healthy(program.config.number, program.config.base).source != program.source


def test_all_codes_of_the_catalogue_have_patches() -> None:
    numbers = {"W": range(101, 114), "D": range(201, 211), "G": range(301, 307), "U": range(401, 412), "S": range(501, 506),
               "I": range(601, 608), "N": range(701, 704), "E": range(801, 804)}  # fmt: skip
    assert {f"{room}{n}" for room, numbered in numbers.items() for n in numbered} == set(programs.FAULTS)
    assert len(programs.PAIRS) >= 12


def test_a_patch_that_changes_nothing_does_not_apply() -> None:
    config = programs.draw(SMALL)
    parts = programs.build(config)
    same = programs.Patch("same", "", lambda c, p, rng: p.changed())
    absent = programs.Patch("absent", "", lambda c, p, rng: p.swap("step", "not in any program", ""))
    assert same(config, parts, programs.Random(0)) is None
    assert absent(config, parts, programs.Random(0)) is None


@pytest.mark.parametrize(
    ("right", "runs", "low", "high"),
    [
        (0, 10, 0.0, 0.30850),  # 1 - 0.025 ** (1 / 10)
        (10, 10, 0.69150, 1.0),
        (5, 10, 0.18709, 0.81291),
        (1, 20, 0.00127, 0.24873),
        (0, 200, 0.0, 0.01828),
        (0, 0, 0.0, 1.0),
    ],
)
def test_the_exact_interval_against_known_values(right: int, runs: int, low: float, high: float) -> None:
    assert detection.interval(right, runs) == pytest.approx((low, high), abs=2e-5)


def final(loss: float, accuracy: float, held: float = 0.9) -> dict[str, float]:
    return {"train_loss": loss, "train_accuracy": accuracy, "eval_loss": loss, "eval_accuracy": accuracy, "heldout_accuracy": held}


@pytest.mark.parametrize(
    ("sick", "code", "expected"),
    [
        ({}, "W101", True),  # it crashed
        (final(math.nan, 0.95), "W101", True),
        (final(0.1, 0.95), "W101", False),
        (final(0.1, 0.901), "W101", False),
        (final(0.1, 0.899), "W101", True),
        (final(0.1 + 0.099 * math.log(10), 0.95), "W101", False),
        (final(0.1 + 0.101 * math.log(10), 0.95), "W101", True),
        (final(0.1, 0.95, held=0.5), "W101", False),
        (final(0.1, 0.95, held=0.5), "D209", True),
        (final(0.1, 0.95, held=0.88), "E801", False),
        (final(0.05, 1.0), "W101", False),  # better than the twin
    ],
)
def test_what_counts_as_hurt(sick: dict[str, float], code: str, expected: bool) -> None:
    assert detection.hurt(sick, final(0.1, 0.95), 10, code) is expected


def test_the_last_line_is_read_with_what_is_not_a_number() -> None:
    said = "epoch 1\nFINAL train_loss=nan train_accuracy=0.1 eval_loss=inf eval_accuracy=0.2 heldout_accuracy=0.3\n"
    read = detection.read_final(said)
    assert math.isnan(read["train_loss"]) and math.isinf(read["eval_loss"]) and read["heldout_accuracy"] == 0.3
    assert detection.read_final("epoch 1\n") == {}
    assert not detection.learned({}, 0.1) and not detection.learned(read, 0.1)
    assert detection.learned(final(0.3, 0.8), 0.5) and not detection.learned(final(0.3, 0.6), 0.5)


def test_two_faults_are_right_only_when_the_first_leads_and_the_other_is_named() -> None:
    program = programs.both(programs.PAIRS[0], 0)

    first, second = program.code, program.second

    def right(*findings: tuple[str, str], before: str = first) -> bool:
        outcome = detection.Outcome({}, list(findings), [], "", "0", "", 1.0)
        return detection.Variation(program, outcome, True, before).right

    assert right((first, "cause"), (second, "cause")) and right((first, "cause"), (second, "consequence"))
    assert not right((second, "cause"), (first, "cause")) and not right((first, "cause"), (second, "note"))
    assert not right((first, "latent"), (second, "cause")) and not right()
    assert right((second, "cause"), (first, "cause"), before=second) and right((second, "cause"), (first, "cause"), before="")
    assert not right((second, "cause"), (first, "note"), before="")


@pytest.mark.slow
def test_of_two_faults_the_first_is_the_one_whose_repair_gains_more() -> None:
    pair = programs.Pair("U404", "W101")  # nothing moves without a step; a softmax too many costs some
    program = programs.both(pair, 0)
    assert detection.Measured(2)._before(program) == "U404"
    assert all(half not in {program.source, program.twin, ""} for half in program.halves)


@pytest.mark.slow
def test_the_fork_server_leaves_the_training_as_it_is() -> None:
    sources = [programs.healthy(SMALL).source, "import sys\nprint('FINAL eval_loss=1.0')\nsys.exit(3)\n", "1 / 0\n"]
    plain = detection.run_programs(sources, observed=False)
    observed = detection.run_programs(sources)
    assert [o.final for o in plain] == [o.final for o in observed]
    assert detection.learned(plain[0].final, 1 / 3)
    assert [o.trouble for o in observed] == ["", "", ""]
    assert [o.exit for o in observed] == ["0", "3", "ZeroDivisionError"]
    assert observed[0].causes == []
