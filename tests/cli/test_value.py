"""`unstuck value` through a typer application of its own: what a person sees, and the exit codes."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from unstuck.cli.value import value
from unstuck.theory import lookup

APP = typer.Typer()
APP.command()(value)


def run(*arguments: str):
    return CliRunner().invoke(APP, list(arguments))


def test_a_known_number_is_explained_with_code_and_next_command():
    shown = run("1.4612", "--classes", "10")
    assert shown.exit_code == 0
    assert shown.stdout.splitlines()[0] == "1. softmax twice, floor  [W101]"
    assert "ln(e+9) - 1 = 1.46115" in shown.stdout
    assert "unstuck explain W101" in shown.stdout
    assert shown.stdout.rstrip().endswith("unstuck run train.py")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["5.3141", "--accuracy", "0.6667"], "15.9424 (1 - 0.6667)"),
        (["2.3622", "--classes", "10", "--accuracy", "0.0986"], "ln(e+9) - accuracy"),
        (["0.3251", "--prior", "0.9,0.1"], "H(0.9, 0.1)"),
        (["0.3251", "--prior", "0.1"], "H(0.9, 0.1)"),
        (["4.1589", "--classes", "10", "--batch", "64"], "ln 64"),
        (["4.8520", "--classes", "5", "--sequence", "128"], "ln 128"),
        (["--classes", "10", "--", "-0.1000"], "-1/10"),
        (["1.3863"], "2. GAN discriminator"),
    ],
)
def test_every_option_reaches_the_lookup(arguments, text):
    shown = run(*arguments)
    assert shown.exit_code == 0
    assert text in shown.stdout


def test_the_number_keeps_the_digits_it_was_typed_with():
    assert "uniform guess" in run("2.30").stdout.splitlines()[0]
    assert run("2.3").stdout.startswith("nothing fits: 2.3 ")


def test_nothing_fits_is_said_plainly_with_a_ruler_and_the_next_command():
    shown = run("1.83", "--classes", "10")
    assert shown.exit_code == 0
    text = " ".join(shown.stdout.split())
    assert text.startswith("nothing fits: 1.83 ")
    assert "ln 10 = 2.3026; yours is 20.5% below" in text
    assert text.endswith("unstuck run train.py")
    assert "ln 2 = 0.6931, 0.05% away" in " ".join(run("0.6935").stdout.split())


@pytest.mark.parametrize("arguments", [["1.3863"], ["1.83"], ["0.6935"], ["10.0025", "--accuracy", ".3726"], ["0"]])
def test_output_fits_eighty_columns_of_plain_text(arguments):
    shown = run(*arguments).stdout
    assert shown.strip()
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert shown.isascii()


def test_every_form_fits_eighty_columns(monkeypatch):
    """All meanings at once: with no limit, a coarse number matches nearly every form."""
    monkeypatch.setattr(lookup, "ACCIDENTAL_LIMIT", 1e9)
    monkeypatch.setattr("unstuck.cli.value._SHOWN", 1000)
    shown = run("2", "--classes", "10", "--batch", "64", "--accuracy", "0.9", "--sequence", "7").stdout
    assert shown.count("by accident") > 10
    assert max(len(line) for line in shown.splitlines()) <= 80


def test_json_holds_the_matches_as_the_lookup_returns_them():
    shown = run("1.4612", "--classes", "10", "--json")
    assert shown.exit_code == 0
    answer = json.loads(shown.stdout)
    assert (answer["schema"], answer["value"], answer["written"]) == (1, 1.4612, "1.4612")
    match = lookup.explain_value("1.4612", classes=10)[0]
    first = answer["matches"][0]
    assert (first["code"], first["digits"], first["parameters"]) == ("W101", 5, {"K": 10})
    assert first["accidental"] == match.accidental
    assert json.loads(run("1.83", "--json").stdout)["matches"] == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["abc"], "abc"),
        (["nan"], "D206"),
        (["1.2", "--prior", "a,b"], "--prior"),
        (["1.2", "--prior", "0.9,0.3"], "prior"),
        (["1.2", "--classes", "1"], "classes"),
        (["1.2", "--accuracy", "93"], "fraction"),
        (["1.2", "--batch", "0"], "batch"),
    ],
)
def test_unusable_input_ends_with_two_and_one_line_on_standard_error(arguments, text):
    shown = run(*arguments)
    assert shown.exit_code == 2
    assert shown.stdout == ""
    assert text in shown.stderr
    assert shown.stderr.startswith("unstuck value: ") and shown.stderr.count("\n") == 1
