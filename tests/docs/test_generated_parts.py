"""The generated parts: they say what the program says, and the pages around them keep to it."""

from __future__ import annotations

import html
import json
import math
import re
from pathlib import Path

import blocks
import pytest

from unstuck.rules import HEADINGS, rules

REPO = Path(__file__).resolve().parents[2]
DOCS = REPO / "docs"
WRITTEN = [*sorted(DOCS.glob("*.md")), REPO / "README.md"]


@pytest.mark.parametrize("classes", [2, 5, 10, 100, 1000, 50257])
def test_the_numbers_page_starts_from_the_number(pages, classes: int) -> None:
    text = pages.fill((DOCS / "numbers.md").read_text(encoding="utf-8"))
    section = text.split(f"{{ #ln-{classes} }}\n")[1].split("\n## ")[0]
    heading = re.search(rf"^## ([\d.]+): ln {classes} ", text, re.M)
    assert heading and abs(float(heading[1]) - math.log(classes)) < 0.5 * 10.0 ** -len(heading[1].split(".")[1])
    assert f"ln {classes} = " in section and "$ unstuck value " in section
    assert f"| [{math.log(classes):.4f}](#ln-{classes}) |" in text


def test_the_numbers_page_holds_the_numbers_of_its_title(pages) -> None:
    text = pages.fill((DOCS / "numbers.md").read_text(encoding="utf-8"))
    named = re.findall(r"\d+\.\d+", text.splitlines()[0])
    assert named == re.findall(r"^## (\d+\.\d+): ln", text, re.M)


def test_an_unknown_directive_is_an_error(pages) -> None:
    with pytest.raises(ValueError, match="no directive 'nothing'"):
        pages.fill("<!-- unstuck: nothing 1 -->")


def test_a_rule_page_holds_the_whole_docstring(pages) -> None:
    for code, rule in rules().items():
        if rule.costly:
            continue
        text = pages.rule_page(code)
        assert [h for h in HEADINGS if f"## {h}\n" not in text] == [], code
        plain = html.unescape(re.sub(r"\[([A-Z]\d{3})\]\([^)]*\)", r"\1", text).replace("\\", ""))
        for sentence in re.findall(r"[^\n]{30,}", rule.page.replace("\\", "")):
            assert sentence in plain, (code, sentence)


def test_prose_is_escaped_outside_of_code(pages) -> None:
    assert pages.prose("a*b `c*d` e_f <g> h|i") == r"a\*b `c*d` e\_f &lt;g&gt; h&#124;i"


def test_measured_figures_are_those_of_the_file(pages) -> None:
    text = (DOCS / "detection.md").read_text(encoding="utf-8")
    for line in pages.detection().splitlines():
        assert line.removeprefix("- ") in text
    for code, row in pages.detection_rows().items():
        assert f"Of {row[0]} random programs" in pages.measured_for(code)


def test_the_overhead_table_is_that_of_the_file(pages) -> None:
    told = json.loads((DOCS / "overhead.json").read_text(encoding="utf-8"))
    table = pages.overhead()
    for row in told["rows"]:
        assert f"| {row['name']} |" in table and f"**{row['ratio'][1]:.3f}**" in table
        assert row["own_errors"] == 0


def test_every_verb_and_option_is_in_the_reference(pages) -> None:
    text = pages.cli_page()
    for name, command in pages.verbs().items():
        section = text.split(f"## unstuck {name} ")[1].split("\n## ")[0]
        for parameter in command.params:
            for option in parameter.opts if not type(parameter).__name__.endswith("Argument") else []:
                assert f"`{option}`" in section, (name, option)


@pytest.mark.parametrize("page", WRITTEN, ids=lambda p: p.name)
def test_commands_in_the_text_exist(pages, page: Path) -> None:
    """`unstuck verb --option` in a sentence, too: the verb is one, and it has the option."""
    known = pages.verbs()
    text = re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.S)
    lines = re.findall(r"`(unstuck [^`\n]+)`", blocks.FENCE.sub("", text))
    lines += [c.line for b in blocks.blocks(text) if b.language == "console" for c in blocks.commands(b.text)]
    for line in lines:
        words = line.split()
        if words[0] != "unstuck" or words[1].isupper() or words[1].startswith("-"):
            continue
        name = " ".join(words[1:3]) if " ".join(words[1:3]) in known else words[1]
        assert name in known or any(k.startswith(f"{name} ") for k in known), f"{page.name}: {line}"
        if name in known:
            mine = " ".join(words)
            mine = mine.split("train.py")[0] if name == "run" else mine
            options = {option for p in known[name].params for option in p.opts}
            for word in re.findall(r"(?<=\s)(--[a-z-]+)", mine):
                assert word in options, f"{page.name}: {line}: unstuck {name} has no {word}"


def test_codes_in_the_text_exist() -> None:
    for page in WRITTEN:
        for code in re.findall(r"\b[DEGINSUW]\d{3}\b", re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)):
            assert code in rules(), f"{page.name}: {code}"


def test_the_page_on_formats_names_every_field() -> None:
    import msgspec

    from unstuck.findings import Diagnosis, Evidence, Finding, Fix, NotChecked, Symptom, Training, Verdict
    from unstuck.report.json import document
    from unstuck.trace.facts import Run

    finding = Finding("W101", "x", "certain", "y", evidence=[Evidence("z")], fix=Fix("f"), verdict=Verdict("supported"))
    told = document(Diagnosis(Run(), [Training(Symptom("at-chance"), [finding], [], [NotChecked("a", "b")])]))
    page = (DOCS / "formats.md").read_text(encoding="utf-8")

    def keys(value) -> set[str]:
        if isinstance(value, dict):
            return set(value).union(*(keys(v) for v in value.values())) if value else set()
        return set().union(*(keys(v) for v in value)) if isinstance(value, list) and value else set()

    missing = sorted(key for key in keys(msgspec.to_builtins(told)) if f"`{key}`" not in page)
    assert missing == []


def test_exit_codes_are_those_of_the_errors() -> None:
    from unstuck.errors import UnstuckError, UsageError

    page = (DOCS / "formats.md").read_text(encoding="utf-8")
    assert f"| {UnstuckError.exit_code} | a failure of unstuck itself" in page
    assert f"| {UsageError.exit_code} | input or arguments" in page


def test_formulas_become_mathml(pages) -> None:
    drawn = pages.formulas(r'<span class="arithmatex">\(x &lt; \alpha\)</span><div class="arithmatex">\[\frac{a}{b}\]</div>')
    assert drawn.count("<math") == 2 and "<mfrac>" in drawn and "&#x0003C;" in drawn and 'display="block"' in drawn


def test_every_formula_of_the_pages_is_understood(pages) -> None:
    """latex2mathml writes an unknown command out as text, with its backslash."""
    text = (DOCS / "statistics.md").read_text(encoding="utf-8")
    text = blocks.FENCE.sub("", text)
    found = re.findall(r"\$\$(.+?)\$\$", text, re.S) + re.findall(r"(?<!\$)\$([^$\n]+)\$(?!\$)", text)
    assert len(found) > 60
    for formula in found:
        drawn = pages.formulas(f'<span class="arithmatex">\\({formula}\\)</span>')
        assert "\\" not in re.sub(r"&#x0*5C;", "\\\\", drawn), formula
