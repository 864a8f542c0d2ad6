"""The script that takes the picture: it photographs a page as large as it was asked to."""

from __future__ import annotations

import struct
from pathlib import Path

import blocks
import pytest


@pytest.mark.slow
def test_a_page_becomes_a_picture(tmp_path: Path) -> None:
    page, output = tmp_path / "page.html", tmp_path / "page.png"
    page.write_text("<!doctype html><h1>1.609</h1>", encoding="utf-8")
    blocks.load("make_picture").photograph(page, output, 640, 400)
    data = output.read_bytes()
    assert data.startswith(b"\x89PNG") and struct.unpack(">II", data[16:24]) == (640, 400)


def test_without_chromium_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="chromium is not on the PATH"):
        blocks.load("make_picture").photograph(tmp_path / "page.html", tmp_path / "page.png", 640, 400)
