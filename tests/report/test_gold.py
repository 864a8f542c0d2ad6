"""Each format, word for word, of one diagnosis that never changes (told.py).

After a change that is meant: `python tests/report/test_gold.py` writes tests/report/gold/ anew; read its diff.
The page (html) has its own tests: its text is mostly a plotting library.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import told

import unstuck
from unstuck import report

GOLD = Path(__file__).with_name("gold")
NAMES = [name for name in report.FORMATS if name != "html"]


def rendered(name: str) -> str:
    """As it would be written, but for our version."""
    return report.render(told.diagnosis(), name, told.CATALOGUE).replace(f'"{unstuck.__version__}"', '"0.0.0"')


@pytest.mark.parametrize("name", NAMES)
def test_as_it_was(name: str) -> None:
    assert rendered(name) == (GOLD / f"report{report.FORMATS[name]}").read_text(encoding="utf-8")


def test_no_gold_file_is_left_over() -> None:
    assert sorted(f.name for f in GOLD.iterdir()) == sorted(f"report{report.FORMATS[name]}" for name in NAMES)


if __name__ == "__main__":
    for format_name in NAMES:
        (GOLD / f"report{report.FORMATS[format_name]}").write_text(rendered(format_name), encoding="utf-8")
