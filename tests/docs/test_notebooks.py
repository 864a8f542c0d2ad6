"""The notebooks run from top to bottom, hold no output in the repository, and stay small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "docs" / "notebooks").glob("*.ipynb"))


def test_there_are_three() -> None:
    assert len(NOTEBOOKS) == 3


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_output_is_kept(file: Path) -> None:
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    assert all(not c.get("outputs") and c.get("execution_count") is None for c in cells)
    assert file.stat().st_size < 20_000


@pytest.mark.slow
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_runs(file: Path, pages) -> None:
    notebook = pages.executed(file)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            text = pages._output(output)
            # A command after `!` that fails does not stop a notebook: what it says is looked at.
            assert "Traceback" not in text and "command not found" not in text, text
            assert not text.startswith(("Usage:", "unstuck value:")), text
