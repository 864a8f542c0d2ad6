"""Every finding says what to change; where a machine can try or make the change, it says so as data that can be used."""

from __future__ import annotations

import math

import pytest

from unstuck.findings import Finding, Fix, Intervention
from unstuck.rules import Rule, rules

try:
    from unstuck.experiments.kinds import SUPPORTED
except ImportError:  # the room of experiments is not there
    SUPPORTED = None

# What each kind cannot do without. Kinds of one call may also name its line (file, line); those of a place must. Kinds that
# mean the whole training carry no line: two rules that ask for the same experiment then ask for it in the same words.
LINE = {"file", "line"}
REQUIRED: dict[str, set[str]] = {
    "rectify-sigmoids": set(),
    "remove-activation": {"activation", *LINE},
    "insert-activation": {"activation"},
    "replace-loss": {"loss", "from"},
    "negate-loss": set(),
    "change-dim": {"dim"},
    "transpose-classes": set(),
    "align-targets": set(),
    "scale-learning-rate": {"factor"},
    "set-learning-rate": {"lr"},
    "constant-learning-rate": set(),
    "adaptive-optimizer": set(),
    "zero-before-backward": set(),
    "keep-gradients-until-step": set(),
    "call-step": set(),
    "add-parameters": set(),
    "unfreeze": set(),
    "reinitialise": set(),
    "standardise-inputs": set(),
    "shift-labels": {"offset"},
    "shuffle": set(),
    "class-weights": {"weights"},
    "scale-weight-decay": {"factor"},
    "set-dropout": {"p"},
    "clip-gradients": {"norm"},
    "scale-clipping": {"factor"},
    "no-clipping": set(),
    "train-mode": set(),
    "batch-statistics": set(),
    "full-precision": set(),
    "mean-reduction": set(),
    "scale-loss": {"factor"},
    "widen": {"layer", "width"},
    "add-activation": set(),
    "reattach": set(LINE),
}
EDITS_ONLY = {"reattach"}  # there is no experiment
POSITIVE = {"factor", "lr", "norm", "width", "line", "call"}

# Rules whose sick trace has a fault that no change of ours mends, and why.
NONE = {
    "D201": "which number stands for which class is known to nobody but the author",
    "D202": "labels that belong to no row near by cannot be put back",
    "D204": "the numbers are lost before they arrive",
    "D206": "which labels were meant is not in the mask",
    "D208": "what a missing value should be is a decision about the data",
    "D209": "the rest of the data is not asked for, and where it is read is not known",
    "D210": "the other classes were never loaded",
    "G301": "a value cut from the graph has no derivative to put back",
    "G306": "the right derivative is in the formula, and only there",
    "I607": "which axes were meant to change places is not in the sizes",
    "N701": "a number that is none comes from a formula that has to be written in another way",
    "N702": "a formula written by hand has no call that could be exchanged",
    "U408": "which operation gives the infinite gradient has to be found first",
    "U409": "code has to be moved out of the loop",
    "U410": "the optimizer itself is wrong",
    "U411": "what the exception says has to be repaired",
    "W108": "a head with more outputs is another network",
}  # fmt: skip

every = pytest.mark.parametrize("rule", rules().values(), ids=lambda r: f"{r.code}-{r.name}")


def found(rule: Rule) -> Finding:
    finding = rule.check(rule.sick())
    assert finding is not None
    return finding


def fix_of(rule: Rule) -> Fix:
    fix = found(rule).fix
    assert fix is not None
    return fix


def check_arguments(intervention: Intervention) -> None:
    """The arguments are there, and each is a number that is finite, a word that is not empty, or a list of numbers."""
    arguments = intervention.arguments
    assert REQUIRED[intervention.kind] <= set(arguments)
    assert ("file" in arguments) == ("line" in arguments)
    for name, value in arguments.items():
        if isinstance(value, str):
            assert value, name
        elif isinstance(value, list):
            assert value and all(math.isfinite(v) for v in value), name
        else:
            assert math.isfinite(value), name
    assert all(arguments[name] > 0 for name in POSITIVE & set(arguments))


@every
def test_summary(rule: Rule):
    fix = fix_of(rule)
    assert fix.summary and fix.summary[0].isupper() and fix.summary.endswith((".", ":"))


@every
def test_intervention(rule: Rule):
    fix = fix_of(rule)
    if fix.intervention is None:
        assert rule.code in NONE, "no intervention: say why"
        assert fix.applicability == "display"
        return
    assert rule.code not in NONE
    assert fix.intervention.kind in REQUIRED
    check_arguments(fix.intervention)


@every
@pytest.mark.skipif(SUPPORTED is None, reason="no experiments")
def test_experiments_know_the_kind(rule: Rule):
    intervention = fix_of(rule).intervention
    assert intervention is None or intervention.kind in SUPPORTED | EDITS_ONLY


@pytest.mark.skipif(SUPPORTED is None, reason="no experiments")
def test_vocabulary_is_that_of_the_experiments():
    assert set(REQUIRED) - EDITS_ONLY == set(SUPPORTED) - {"placebo", "together"}


def test_a_reason_for_each_exception():
    assert set(NONE) <= set(rules())
