"""The terminal text: 80 columns whatever is in it, nothing that acts on a terminal, and whole commands at the end."""

from __future__ import annotations

import re
import shlex

import msgspec
import pytest
import told

from unstuck.findings import Diagnosis, Excluded, Finding, NotChecked, Symptom, Training
from unstuck.report import terminal, words
from unstuck.trace.facts import Run, Site

COMMAND = re.compile(r"  (Next|Prove|Apply|Look|Share): ")


def rows(diagnosis: Diagnosis) -> list[str]:
    return terminal.render(diagnosis).splitlines()


@pytest.mark.parametrize("make", [told.diagnosis, told.hostile])
def test_every_row_but_a_command_fits_80_columns(make) -> None:
    for row in rows(make()):
        assert len(row) <= 80 or COMMAND.match(row), row


@pytest.mark.parametrize("length", [1, 40, 60, 75, 76, 77, 90, 300])
def test_long_paths_keep_their_end_and_long_lines_their_beginning(length: int) -> None:
    file = "d/" * (length // 2) + "model.py"
    source = "y = f(" + "x" * length + ")"
    diagnosis = told.diagnosis()
    cause, *others = diagnosis.worst.findings
    cause.locations = [Site(file, 22, source)]
    for finding in others:
        finding.locations = [Site(file, 22)]
    cause.evidence = [msgspec.structs.replace(cause.evidence[0], text=f"It was {file} that did it.")]
    diagnosis.worst.excluded = [Excluded("U401", f"in {file}")]
    diagnosis.worst.not_checked = [NotChecked("I604", file)]
    shown = rows(diagnosis)
    assert all(len(row) <= 80 or COMMAND.match(row) for row in shown)
    places = [row for row in shown if row.rstrip(":").endswith("model.py:22")]
    assert len(places) >= 1 and all(len(p) == 80 for p in places if "…" in p)
    (line,) = [row for row in shown if row.startswith("        y = f(")]
    assert line == "        " + source if len(source) <= 72 else line.endswith("…")
    # In a sentence a path is no less than whole.
    sentence = "".join("".join(shown).split())
    assert sentence.count(file.replace(" ", "")) >= 2


def test_what_acts_on_a_terminal_is_shown_as_an_escape() -> None:
    text = terminal.render(told.hostile())
    assert words.visible(text, keep="\n") == text
    assert r"\x1b[2J" in text and r"\u202e" in text and r"\udcff" in text
    text.encode("utf-8")
    coloured = terminal.render(told.hostile(), colour=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == text


def commands(diagnosis: Diagnosis) -> dict[str, str]:
    return {m[1]: row[m.end() :].strip() for row in rows(diagnosis) if (m := COMMAND.match(row))}


def test_the_last_lines_are_commands_as_they_are_typed() -> None:
    diagnosis = told.diagnosis()
    diagnosis.trace = "my runs/it's"
    said = commands(diagnosis)
    assert said == {
        "Next": "unstuck explain W101", "Apply": f"unstuck fix {shlex.quote(diagnosis.trace)}",
        "Look": f"unstuck open {shlex.quote(diagnosis.trace)}",
        "Share": f"unstuck report {shlex.quote(diagnosis.trace)} -o report.html",
    }  # fmt: skip
    assert all(shlex.split(c)[2].startswith(("W101", "my runs")) for c in said.values())
    diagnosis.worst.findings[0].verdict = None  # not tried yet
    assert commands(diagnosis)["Prove"] == f"unstuck verify {shlex.quote(diagnosis.trace)}"
    diagnosis.trace = ""  # a report that was read on another machine
    assert list(commands(diagnosis)) == ["Next"]


@pytest.mark.parametrize(
    ("state", "trace", "first"),
    [
        ("learning", "t", "unstuck open t"),
        ("too-early", "t", "let it train longer, under unstuck run"),
        ("no-training", "", "run the script that trains, with its arguments: unstuck run train.py ..."),
    ],
)
def test_there_is_a_next_step_without_a_finding(state: str, trace: str, first: str) -> None:
    assert commands(Diagnosis(Run(script="t.py"), [Training(Symptom(state))], trace))["Next"] == first


def test_a_finding_without_a_cause_has_its_page_named() -> None:
    latent = Finding("S502", "learning-rate-too-low", "likely", "S.", role="latent")
    assert commands(Diagnosis(Run(script="t.py"), [Training(Symptom("learning"), [latent])]))["Next"] == "unstuck explain S502"


def test_that_all_is_wired_correctly_is_said_only_where_all_was_looked_at() -> None:
    def said(*unasked: str, framework: str = "torch 2") -> str:
        not_checked = [NotChecked(code, "no channel: terms (compiled).") for code in unasked]
        return words.unknown(Training(Symptom("at-chance"), not_checked=not_checked), Run(framework=framework))

    assert "wired correctly" in said() == said("D202", "I604")
    assert said("W101") == "No structural fault was found, but W101 could not be asked: no channel: terms (compiled)."
    assert "but 2 diagnoses of its structure could not be asked" in said("W101", "G301", "S501")
    assert "a log cannot say" in said(framework="log")
    for silent in (Training(Symptom("learning")), Training(Symptom("at-chance", judged=False)),
                   Training(Symptom("at-chance"), [Finding("W101", "x", "likely", "S.")])):  # fmt: skip
        assert words.unknown(silent, Run()) == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode 部分 🙂", "plain ünïcode 部分 🙂"),
        ("\x1b[31m", r"\x1b[31m"),
        ("a\nb\tc", r"a\x0ab\x09c"),
        ("\x7f\x80\x9b", r"\x7f\x80\x9b"),
        ("\u202e\u2066\u200f", r"\u202e\u2066\u200f"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\udc80", r"\udc80"),
        ("\ufffe\U0001ffff", r"\ufffe\U0001ffff"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert words.visible(text) == shown
    assert words.visible(shown) == shown
    assert words.visible(text, keep=text) == text


def test_a_loss_that_is_not_a_number_any_more_has_no_level_now() -> None:
    was = Symptom("non-finite", loss=0.5, loss_kind="cross-entropy")
    assert words.level(was) == "The last finite loss (cross-entropy) was 0.5000 nats."
    assert words.level(Symptom("plateau", loss=0.5)) == "The loss is 0.5000 nats."
    assert words.level(Symptom("plateau")) == words.level(Symptom("not-judged", loss=0.5, judged=False)) == ""


def test_line_and_code() -> None:
    assert words.line("  a\n\tb \r\n c  ") == "a b c"
    assert words.code("\tx = 1\r\n") == "    x = 1"
    assert words.code("a\nb") == r"a\x0ab"


def test_long_words_are_cut_at_their_separators() -> None:
    word = "/".join(["part"] * 40)
    pieces = terminal._pieces(word, 30)
    assert "".join(pieces) == word
    assert all(len(p) <= 30 and p.endswith(("/", "part")) for p in pieces)
    assert "".join(terminal._pieces("x" * 95, 30)) == "x" * 95
    assert max(map(len, terminal._pieces("x" * 95 + "/y", 30))) <= 30
