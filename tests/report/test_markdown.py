"""Markdown: read by a Markdown parser, the story is there, and nothing of the training is markup."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import msgspec
import pytest
import told
from markdown_it import MarkdownIt

from unstuck.findings import Diagnosis, Finding, Symptom, Training
from unstuck.report import markdown, words
from unstuck.trace.facts import Run, Site

ALLOWED = {
    "h3", "h4", "p", "code", "pre", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "strong", "details", "summary", "sub",
}  # fmt: skip


def parser() -> MarkdownIt:
    """As GitHub reads it: CommonMark with tables and strikethrough, HTML let through."""
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


class Page(HTMLParser):
    """The elements of a page, the text outside of code, and what stands in code."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.prose, self.code = "", ""
        self.cells: list[int] = []  # of each row of a table
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag == "tr":
            self.cells.append(0)
        if tag in {"td", "th"}:
            self.cells[-1] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if "code" in self.open:
            self.code += data
        else:
            self.prose += data


def page(diagnosis: Diagnosis) -> Page:
    shown = Page(parser().render(markdown.render(diagnosis)))
    assert not shown.open
    return shown


def test_the_verdict_comes_first_and_the_story_is_there() -> None:
    text = markdown.render(told.diagnosis())
    assert text.startswith("### Stuck at chance. Cause: W101 softmax-twice at `src/model.py:22` (certain)\n")
    shown = page(told.diagnosis())
    assert set(shown.tags) <= ALLOWED
    for part in ("1.6089 nats", "ln 5 = 1.6094 nats", "class 1 (99%)", "Verified:", "0.84 to 0.89", "graph was compiled", "Gate"):
        assert part in shown.prose
    for part in ("return F.softmax(self.fc2(x), dim=1)", "-        return F.softmax", "+        return self.fc2(x)"):
        assert part in shown.code
    assert set(shown.cells) == {2}
    # What is not needed at first is folded away: the excluded rules come after a <details>.
    assert text.index("<details>") < text.index("Looked at and in order") < text.index("How it was run")


def test_code_stands_in_blocks_of_its_language() -> None:
    fences = [t for t in parser().parse(markdown.render(told.diagnosis())) if t.type == "fence"]
    assert [t.info for t in fences] == ["python", "python", "diff"]
    assert fences[2].content == told.DIFF


def test_nothing_of_the_training_is_markup() -> None:
    shown = page(told.hostile())
    assert set(shown.tags) <= ALLOWED  # no script, img, a, em, del, h1, blockquote, hr
    assert not [a for a in shown.attributes if a not in {"class", "style"}]
    assert set(shown.cells) == {2}
    text = shown.prose + shown.code
    for word in ("<script>alert('html')</script>", "onerror=alert(1)", "**bold** _it_", "| bar |", "[link](http", "</details>"):
        assert word in text.replace("\u200b", "")


def test_nothing_is_linked_by_a_code_host() -> None:
    """Mentions, issue numbers, addresses and emoji are looked for in the text outside of code, after Markdown was read."""
    prose = page(told.hostile()).prose
    for pattern in (r"@\w", r"#\d", r"GH-\d", r"https?://", r"www\.\w", r":[\w+-]+:"):
        found = re.search(pattern, prose)
        assert found is None, prose[max(found.start() - 30, 0) : found.end() + 30]
    assert "@\u200bsomeone" in prose and "#\u200b123" in prose


def test_no_character_that_acts_is_left() -> None:
    text = markdown.render(told.hostile())
    text.encode("utf-8")
    assert words.visible(text, keep="\n") == text
    assert r"\x1b[2J" in text and r"\u202e" in text and r"\udcff" in text


@pytest.mark.parametrize("text", ["`", "``", "a`b", "`a", "a``b`c", " ", "", "``` x", "\\", "a|b"])
def test_a_code_span_says_what_it_was_given(text: str) -> None:
    inner = re.search(r"<code>(.*?)</code>", parser().render(f"x {markdown._span(text)} y"), re.S)
    if text.strip():
        assert inner is not None and html.unescape(inner[1]) == text


@pytest.mark.parametrize("text", ["```", "~~~", "````\n```", "</details>\n\n# x", "    indented", "\\```"])
def test_a_code_block_says_what_it_was_given(text: str) -> None:
    (fence,) = [t for t in parser().parse(markdown._block(text, "python")) if t.type == "fence"]
    assert fence.content == text + "\n"


@pytest.mark.parametrize(
    "text",
    ["# h", "- item", "+ item", "1. item", "12) item", "> quote", "=", "---", "***", "___", "~~~", "```", "<b>x</b>", "&amp;",
     "&#64;", "a  b", "\\*", "[a]: http://x", "|a|b|", "<!-- x -->", "* * *", "*", "- - -", "$x$", "<http://a.b>", "# ",
     "_x_ __init__ *y*", "[x](y)"],
)  # fmt: skip
def test_a_sentence_says_what_it_was_given(text: str) -> None:
    shown = Page(parser().render(markdown._text(text)))
    assert shown.tags == ["p"]
    assert " ".join(shown.prose.replace("\u200b", "").split()) == " ".join(text.split())


def test_the_headline_without_a_cause() -> None:
    def first(symptom: Symptom, findings: list[Finding] | None = None) -> str:
        return markdown.render(Diagnosis(Run(script="t.py"), [Training(symptom, findings or [])])).split("\n", 1)[0]

    assert first(Symptom("learning")) == "### Learning"
    assert first(Symptom("no-training", judged=False)) == "### No training seen"
    at_chance = Symptom("too-early", loss=1.61, chance=1.609)
    assert first(at_chance) == "### At chance so far"
    bare = Finding("W101", "softmax-twice", "likely", "S.")
    assert first(at_chance, [bare]) == "### At chance so far. Cause: W101 softmax-twice (likely)"
    text = markdown.render(Diagnosis(Run(script="t.py"), [Training(Symptom("at-chance", loss=1.6, chance=1.6))]))
    assert "No structural fault was found" in text


def test_places_in_the_report_are_file_and_line() -> None:
    diagnosis = told.diagnosis()
    strange = [Site("a b`c.py", 7, "x = 1")]
    diagnosis.worst.findings = [msgspec.structs.replace(f, locations=strange) for f in diagnosis.worst.findings]
    assert "``" in markdown.render(diagnosis).split("\n")[0]
    assert "a b`c.py:7" in page(diagnosis).code
