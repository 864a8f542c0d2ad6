"""Every code block of the documentation runs, and what it is shown to print is what it prints."""

from __future__ import annotations

from pathlib import Path

import blocks
import pytest

REPO = Path(__file__).resolve().parents[2]
PAGES = sorted((REPO / "docs").glob("*.md"))


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if blocks.blocks(p.read_text(encoding="utf-8"))], ids=lambda p: p.stem)
def test_every_block_of_a_page_runs(page: Path, reader: Path, proved: tuple[str, Path]) -> None:
    blocks.run_page(page.read_text(encoding="utf-8"), reader, {blocks.PROVE: proved[0]})


@pytest.mark.parametrize("page", [*PAGES, REPO / "README.md"], ids=lambda p: p.name)
def test_blocks_are_of_a_kind_that_runs_or_say_why_not(page: Path) -> None:
    for block in blocks.blocks(page.read_text(encoding="utf-8")):
        where = f"{page.name}:{block.line}"
        assert block.language in blocks.RUN | blocks.SHOWN, f"{where}: a block of {block.language or 'no language'}"
        assert not block.excluded or len(block.excluded.split()) >= 3, f"{where}: say why it is not run"
        if block.language == "console":
            assert blocks.commands(block.text)


# ------------------------------------------------------------------------------------------------- the reader of blocks


def test_blocks_are_found_with_their_exclusion() -> None:
    page = "a\n```python\nx = 1\n```\n<!-- not run: needs a network -->\n```console\n$ ls\n```\n  ```text\n  y\n  ```\n"
    found = blocks.blocks(page)
    assert [(b.language, b.text, b.excluded, b.line) for b in found] == [
        ("python", "x = 1", "", 2), ("console", "$ ls", "needs a network", 6), ("text", "y", "", 9),
    ]  # fmt: skip


def test_a_failing_block_fails(tmp_path: Path) -> None:
    for page in ("```python\nassert 1 == 2\n```\n", "```console\n$ exit 3\n```\n", "```console\n$ echo a\nb\n```\n"):
        with pytest.raises(AssertionError, match="line 1"):
            blocks.run_page(page, tmp_path)
    assert blocks.run_page("```python\nx = 1\n```\n```python\nassert x == 1\n```\n```console\n$ echo a\na\n```\n", tmp_path) == 3


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        (["loss 1.60"], "loss 1.61", True),
        (["loss 1.60"], "loss 2.61", False),
        (["W101  softmax", "twice"], "W101 softmax\n   twice", True),
        (["a", "...", "c"], "a\nb\nc", True),
        (["a", "...", "c"], "a\nb\nd", False),
        (["a"], "a\nb", False),
        (["a", "..."], "a\nb", True),
        (["b", "..."], "a\nb", False),
        (["...", "a"], "a\nb", False),
        (["in 19 s", "── x ──"], "in 7 s ─── x ─────", True),
        (["unstuck fix .unstuck/<time>"], "unstuck fix .unstuck/20260101-101010", True),
        (["model.py:22"], "model.py:88", False),
    ],
)
def test_comparing(shown: list[str], printed: str, same: bool) -> None:
    assert (blocks.difference(shown, printed) == "") is same
