"""unstuck compare: what changed between two runs, and what that did to the findings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from test_report import FIRST, call, record

from unstuck.cli.compare import Side, between, render
from unstuck.engine import diagnose
from unstuck.findings import Finding, NotChecked
from unstuck.report.json import read
from unstuck.report.json import render as as_report
from unstuck.rules import rules
from unstuck.trace import synthetic
from unstuck.trace.facts import Clipping, Facts, Inputs, Loader, ModeLayer, OpNode, Optimizer, Run
from unstuck.trace.trace import RunRecord, Trace

SOFTMAX = OpNode("softmax", "SoftmaxBackward0", [64, 5], dim=1, site=synthetic.site(41, "return softmax(x)"))


def sick(**facts: Any) -> Trace:
    return synthetic.training(synthetic.cross_entropy(SOFTMAX), state="at-chance", **facts)


def healthy(**facts: Any) -> Trace:
    return synthetic.training(**facts)


def side(*traces: Trace, name: str = "run", **run: Any) -> Side:
    diagnosis = diagnose(RunRecord(Run(**{"script": "train.py", **run}), list(traces), "dir"))
    return Side(name, diagnosis, diagnosis.worst, traces[0].facts if len(traces) == 1 else None)


def changed(a: Side, b: Side) -> dict[str, tuple[str, str]]:
    return {c.what: (c.a, c.b) for c in between(a, b).changed}


def test_the_verdict_is_a_sentence() -> None:
    assert between(side(sick()), side(healthy())).verdict == "B learns, A was at chance; gone: W101."
    assert between(side(healthy()), side(sick())).verdict == "B is at chance, A learned; new: W101."
    assert between(side(sick()), side(sick())).verdict == "A and B both are at chance; still: W101."
    assert between(side(healthy()), side(healthy())).verdict == "A and B both learn."
    assert between(side(sick()), side()).verdict == "B trains nothing, A was at chance; not checked in B: W101."


@pytest.mark.parametrize("code", list(rules()))
def test_every_rules_example_against_itself_has_no_change(code: str) -> None:
    a, b = (side(rules()[code].sick(), script="train.py") for _ in "ab")
    result = between(a, b)
    assert result.changed == [] and result.gone == result.came == result.unknown == []
    assert [(x.code, y.code) for x, y in result.stay] == [(f.code, f.code) for f in b.training.findings]
    assert max(map(len, render(a, b, result).splitlines())) <= 80


def optimizer(kind: str, lr: float, **options: Any) -> Optimizer:
    hyper = f"{kind} " + ", ".join(f"{k}={v}" for k, v in sorted({"lr": lr, "foreach": None, **options}.items()))
    return Optimizer(kind, steps=400, lr_first=lr, lr_largest=lr, lr_last=lr, hyper=hyper)


def term(**changes: Any) -> Any:
    return synthetic.cross_entropy(**changes)


@pytest.mark.parametrize(
    ("a", "b", "what", "values"),
    [
        ({"optimizers": [optimizer("SGD", 0.1)]}, {"optimizers": [optimizer("SGD", 0.5)]}, "learning rate", ("0.1", "0.5")),
        ({"optimizers": [optimizer("SGD", 0.1)]}, {"optimizers": [optimizer("Adam", 0.1)]}, "optimizer", ("SGD", "Adam")),
        ({"optimizers": [optimizer("SGD", 0.1, momentum=0)]}, {"optimizers": [optimizer("SGD", 0.1, momentum=0.9)]}, "momentum",
         ("0", "0.9")),
        ({"optimizers": [optimizer("Adam", 0.1, betas=(0.9, 0.999))]}, {"optimizers": [optimizer("Adam", 0.1, betas=(0.5, 0.9))]},
         "betas", ("(0.9, 0.999)", "(0.5, 0.9)")),
        ({"optimizers": [Optimizer("SGD", steps=9, lr_first=0.1, lr_largest=0.4, lr_last=0.01)]},
         {"optimizers": [optimizer("SGD", 0.1)]}, "learning rate", ("0.1 to 0.01, at most 0.4", "0.1")),
        ({"loaders": [Loader(batch_size=32, taken=5)]}, {"loaders": [Loader(batch_size=64, taken=5)]}, "batch size", ("32", "64")),
        ({"loaders": [Loader(shuffled=False)]}, {"loaders": [Loader(shuffled=True)]}, "shuffled", ("no", "yes")),
        ({"clippings": []}, {"clippings": [Clipping("norm", 0.5)]}, "gradient clipping", ("none", "norm 0.5")),
        ({"modes": [ModeLayer("dropout", p=0.9)]}, {"modes": [ModeLayer("dropout", p=0.1)]}, "dropout", ("0.9", "0.1")),
        ({"name": "Net"}, {"name": "Wide"}, "model", ("Net", "Wide")),
        ({"term": term()}, {"term": term(label_smoothing=0.1, reduction="sum")}, "loss options",
         ("mean", "sum, label smoothing 0.1")),
        ({"term": term()}, {"term": term(weight=[1.0, 2.5])}, "loss options", ("mean", "mean, class weights [1, 2.5]")),
        ({"term": term()}, {"term": term(sign=-1)}, "loss options", ("mean", "mean, sign flipped")),
        ({"term": synthetic.cross_entropy(SOFTMAX)}, {"term": term()}, "path to the head",
         ("linear 5 -> softmax over axis 1 -> cross-entropy", "linear 5 -> cross-entropy")),
        ({"term": term()}, {"term": synthetic.binary()}, "labels", ("index 0 to 4 for 5 outputs", "binary 0 to 1 for 1 outputs")),
        ({"inputs": [Inputs(kind="real", dtype="float32", shape=[32, 784], rms=0.5)]},
         {"inputs": [Inputs(kind="real", dtype="float32", shape=[32, 784], rms=90.0)]}, "scale of inputs", ("rms 0.5", "rms 90")),
        ({"inputs": [Inputs(kind="ids", dtype="int64", shape=[32, 64])]},
         {"inputs": [Inputs(kind="ids", dtype="int64", shape=[32, 9])]}, "inputs", ("ids int64 64", "ids int64 9")),
    ],
)  # fmt: skip
def test_what_is_different_is_named(a: dict[str, Any], b: dict[str, Any], what: str, values: tuple[str, str]) -> None:
    assert changed(side(healthy(**a)), side(healthy(**b)))[what] == values
    assert what not in changed(side(healthy(**a)), side(healthy(**a)))


def test_of_two_kinds_of_optimizer_only_what_both_have_is_compared() -> None:
    a = side(healthy(optimizers=[optimizer("SGD", 0.1, momentum=0.9, weight_decay=0)]))
    b = side(healthy(optimizers=[optimizer("Adam", 0.1, betas=(0.9, 0.999), weight_decay=0.1)]))
    assert changed(a, b) == {"optimizer": ("SGD", "Adam"), "weight decay": ("0", "0.1")}


def test_what_only_chance_makes_different_is_the_same() -> None:
    """Other draws of the same data: shares of labels within their error, a scale within five percent."""
    def with_counts(*counts: float) -> Side:
        one = term()
        one.labels.counts = list(counts)
        return side(healthy(term=one, inputs=[Inputs(kind="real", dtype="float32", shape=[8, 2], rms=1.0 + counts[0] / 1e5)]))

    assert changed(with_counts(500, 520, 480, 510, 490), with_counts(520, 480, 505, 495, 500)) == {}
    assert "shares of labels" in changed(with_counts(500, 520, 480, 510, 490), with_counts(900, 400, 400, 400, 400))
    # The same shares of a hundred times as many labels are another matter.
    many, others = with_counts(50000, 52000, 48000, 51000, 49000), with_counts(52000, 48000, 50500, 49500, 50000)
    assert "shares of labels" in changed(many, others)


def test_source_files_are_compared_by_hash() -> None:
    a = side(healthy(), sources={"train.py": "1" * 64, "model.py": "2" * 64, "old.py": "3" * 64, "busy.py": ""})
    b = side(healthy(), sources={"train.py": "1" * 64, "model.py": "9" * 64, "new.py": "4" * 64, "busy.py": "5" * 64})
    result = between(a, b)
    assert {c.what: (c.a, c.b) for c in result.changed} == {
        "model.py": ("2" * 12, "9" * 12), "new.py": ("did not run", "ran"), "old.py": ("ran", "did not run"),
    }  # fmt: skip
    assert "1 source file" in result.same
    assert result.not_compared == {"busy.py": "it was changed while A ran"}
    assert between(side(healthy()), b).not_compared == {"source files": "A has no hashes of them"}


def test_options_of_the_script_are_compared() -> None:
    a, b = side(healthy(), arguments=["--lr", "0.1", "--name", "a b"]), side(healthy(), arguments=["--lr", "1"])
    assert changed(a, b) == {"arguments": ("--lr 0.1 --name 'a b'", "--lr 1")}


def test_a_finding_that_was_not_asked_for_is_not_gone() -> None:
    a, b = side(sick()), side(healthy())
    b.training.not_checked.append(NotChecked("W101", "no channel: terms (compiled)"))
    result = between(a, b)
    assert result.gone == [] and [f.code for f in result.unknown] == ["W101"]
    assert result.verdict.endswith("not checked in B: W101.")
    assert "Not checked in B:" in render(a, b, result)


def test_a_role_that_moved_is_told() -> None:
    a, b = side(sick()), side(sick())
    b.training.findings[0].role = "latent"
    assert "(latent, certain, in A a cause)" in " ".join(render(a, b, between(a, b)).split())


def test_a_saved_report_says_what_it_does_not_hold() -> None:
    a = side(sick())
    saved = read(as_report(a.diagnosis))
    result = between(Side("a.json", saved, saved.worst), side(healthy()))
    assert result.verdict == "B learns, A was at chance; gone: W101."
    assert set(result.not_compared.values()) == {"a saved report does not hold it: compare trace directories"}
    assert {"learning rate", "optimizer", "path to the head", "batch size", "source files", "labels"} <= set(result.not_compared)


def test_other_trainings_and_other_lengths_are_noted() -> None:
    result = between(side(sick(), healthy()), side(sick(steps=4000)))
    assert result.notes[0] == "A has 2 trainings; compared is the worst one (Net)."
    assert "400 steps, B 4,000" in result.notes[1]


def test_the_facts_are_those_of_the_training_that_is_compared(tmp_path: Path) -> None:
    """The diagnosis has its trainings in another order than the trace."""
    from unstuck.cli.compare import _facts

    good, bad = healthy(name="Good"), sick(name="Bad")
    diagnosis = diagnose(RunRecord(Run(), [good, bad]))
    assert diagnosis.worst.name == "Bad"
    assert _facts(diagnosis) is bad.facts
    assert isinstance(bad.facts, Facts)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = record(tmp_path / "a", "W101"), record(tmp_path / "b", "W101", healthy=True)
    assert call("compare", str(a), str(b), "-o", str(tmp_path / "c.json"), "-o", str(tmp_path / "c.txt")) == 0
    printed = capsys.readouterr().out
    assert "gone: W101" in printed and f"Next: unstuck report {b}" in printed
    assert re.search(r"(?m)^    W101 softmax-twice at .*\(cause, certain\)$", printed)
    assert all(len(row) <= 80 or str(tmp_path) in row for row in printed.splitlines())
    assert printed.startswith((tmp_path / "c.txt").read_text(encoding="utf-8"))
    data = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert {"schema", "verdict", "a", "b", "changed", "same", "not_compared", "findings", "notes"} == set(data)
    assert (data["a"]["state"], data["b"]["state"]) == ("at-chance", "learning")
    assert [f["code"] for f in data["findings"]["gone"]] == ["W101"]
    paths = {"a": "linear 5 -> softmax over axis 1 -> cross-entropy", "b": "linear 5 -> cross-entropy"}
    assert {"what": "path to the head", **paths} in data["changed"]
    # The exit code is B's.
    assert call("compare", str(b), str(a)) == 11
    assert call("compare", str(b), str(FIRST)) == 12
    assert "unstuck explain S505" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "part"),
    [(("nowhere", "{b}"), "nowhere: no such"), (("{b}", "nowhere"), "nowhere: no such"),
     (("{b}", "{b}", "-o", "c.html"), "as .json or .txt"), (("{b}", "{b}", "-o", "no/c.json"), "does not exist")],
)  # fmt: skip
def test_unusable_input_is_exit_code_2(
    tmp_path: Path, words: tuple[str, ...], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    b = record(tmp_path / "b", "W101")
    assert call("compare", *(w.format(b=b) for w in words)) == 2
    assert part in capsys.readouterr().err


def test_hostile_names_stay_text_and_in_80_columns() -> None:
    a, b = side(sick(name="\x1b[2J" + "x" * 100), name="a\x1b[31m" + "/long" * 30), side(sick(name="y\u202e"), name="b")
    b.training.findings.append(Finding("X1", "\x07 bell " + "z" * 90, "likely", "S.", role="note"))
    text = render(a, b, between(a, b))
    assert "\x1b" not in text and "\x07" not in text and "\u202e" not in text
    assert max(map(len, text.splitlines())) <= 80
