"""The README: what it shows is what the program prints, its tables are those of the program and the benchmarks, its links lead
somewhere."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import blocks
import pytest

REPO = Path(__file__).resolve().parents[2]
README = (REPO / "README.md").read_text(encoding="utf-8")
FIRST = blocks.blocks(README)[0]


@pytest.mark.slow
def test_the_first_block_is_what_the_command_prints(proved) -> None:
    (command,) = blocks.commands(FIRST.text)
    assert command.line == blocks.PROVE
    printed = proved[0]
    assert blocks.difference(command.shown, printed) == "", printed
    report = printed[printed.index("── unstuck") :]
    assert max(map(len, report.splitlines())) <= 80


@pytest.mark.slow
def test_the_other_blocks_run(reader: Path) -> None:
    rest = README[README.index(FIRST.text) + len(FIRST.text) :].split("```", 1)[1]
    assert blocks.run_page(rest, reader) >= 1


def test_it_begins_with_the_product() -> None:
    """The command and its output come first, in 80 columns and one screenful, then the picture, then everything else."""
    assert max(len(line) for line in FIRST.text.splitlines()) <= 80
    assert len(FIRST.text.splitlines()) <= 42 and FIRST.line < 12
    assert README.index(FIRST.text) < README.index("docs/assets/report.png") < README.index("\n## ")


def test_the_picture_is_a_picture() -> None:
    data = (REPO / "docs" / "assets" / "report.png").read_bytes()
    width, height = struct.unpack(">II", data[16:24])
    assert data.startswith(b"\x89PNG") and width >= 1000 and height >= 800 and len(data) < 400_000


def test_its_tables_and_figures_are_those_of_program_and_benchmark(pages) -> None:
    assert [name for _, name, _ in pages.MADE.findall(README)] == ["rules_short", "detection"]
    assert pages.renewed(README) == README, "write them anew: python docs/pages.py"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_to_files(page: str) -> None:
    text = blocks.FENCE.sub("", (REPO / page).read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text):
        if not link.startswith("https://"):
            assert (REPO / link.split("#")[0]).is_file(), f"{page}: {link}"


def test_both_commands_are_targets_of_make() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (REPO / "Makefile").read_text(encoding="utf-8")))
    named = set(re.findall(r"`make ([a-z-]+)`|\$ make ([a-z-]+)", README))
    assert {a or b for a, b in named} == {"demo", "test", "docs"} <= targets
