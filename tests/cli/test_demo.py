"""`unstuck demo neuron`: the terminal picture, the page, the JSON, and what it refuses."""

from __future__ import annotations

import html.parser
import json
import re

import pytest

from unstuck.cli import main


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    return int(stop.value.code or 0)


def test_the_picture_is_plain_text_in_eighty_columns_and_shows_both_shapes(capsys):
    assert call("demo", "neuron") == 0
    out = capsys.readouterr().out
    assert out.isascii() and "\x1b" not in out and max(map(len, out.splitlines())) <= 80
    rows = re.findall(r"^ +[\d.e-]+ +\d+ +(\d+)  (\w+) +\d+ +(\d+)  (\w+)$", out, re.M)
    assert len(rows) == 13
    assert {(row[1], row[3]) for row in rows} == {("plateau", "descent")}
    assert all(int(row[0]) > 1 and row[2] == "1" for row in rows)
    assert out.rstrip().splitlines()[-1] == "  unstuck derive sigmoid"
    loss = out.split("Weight")[0].splitlines()
    top = next(line for line in loss if line.startswith("        1 |"))
    assert top.count("s") > 15 and "c" not in top.split("|")[1]  # squared error stays at the top, cross-entropy has left it
    assert out.count("+---") == 3


class _Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "line", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_in_itself(tmp_path, capsys):
    file = tmp_path / "neuron.html"
    assert call("demo", "neuron", "-o", str(file)) == 0
    assert f"Written: {file}" in capsys.readouterr().out
    text = file.read_text(encoding="utf-8")
    tags = _Tags()
    tags.feed(text)
    assert tags.open == []
    names = [tag for tag, _ in tags.seen]
    assert names.count("svg") == names.count("figcaption") == 4
    assert not {"script", "link", "img", "iframe"} & set(names)
    assert "://" not in text and "@import" not in text and "url(" not in text
    assert "prefers-color-scheme: dark" in text
    lines = [attrs["points"] for tag, attrs in tags.seen if tag == "polyline"]
    assert len(lines) == 3 * 2 + 13 * 2 and "nan" not in " ".join(lines)
    for points in lines:
        for x, y in (pair.split(",") for pair in points.split()):
            assert 0 <= float(x) <= 720 and 0 <= float(y) <= 260


def test_json_holds_the_curves_and_the_scan(capsys):
    assert call("demo", "neuron", "--json", "--steps", "20", "--target", "1", "--weight", "-2", "--bias", "-2") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == 1 and answer["next"].startswith("unstuck ")
    assert [len(run["losses"]) for run in answer["runs"]] == [21, 21]
    assert {(row["loss"], row["shape"]) for row in answer["scan"]} == {("squared error", "plateau"), ("cross-entropy", "descent")}


def test_an_unsaturated_start_is_told_as_such(capsys):
    assert call("demo", "neuron", "--weight", "0.2", "--bias", "0.1") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "This start is not saturated" in out and "0 of 13 rates: squared error has a plateau" in out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--target", "2"), "target"),
        (("--rate", "0"), "rate"),
        (("--steps", "1"), "steps"),
        (("--weight", "nan"), "weight"),
        (("--bias", "1e9"), "bias"),
        (("--weight", "0", "--bias", "0", "--target", "0.5"), "nothing to learn"),
        (("-o", "page.txt"), "page.txt"),
        (("-o", "/nowhere/at/all.html"), "nowhere"),
        (("--rate", "fast"), "rate"),
    ],
)
def test_unusable_input_is_exit_code_2_with_words(words, part, capsys):
    assert call("demo", "neuron", *words) == 2
    assert part in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("--weight", "250", "--bias", "250"),
        ("--weight", "-300", "--bias", "0", "--target", "1"),
        ("--rate", "1000"),
        ("--rate", "1e-6", "--steps", "5"),
        ("--target", "0.5", "--bias", "-9"),
    ],
)
def test_extreme_starts_and_rates_give_a_page_too(words, tmp_path, capsys):
    assert call("demo", "neuron", *words, "-o", str(tmp_path / "x.html")) == 0
    out = capsys.readouterr().out
    assert "nan" not in out and max(map(len, out.replace(str(tmp_path), "").splitlines())) <= 80
