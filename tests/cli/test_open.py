"""unstuck open: the newest run of this directory becomes a page, and the browser is asked to show it."""

from __future__ import annotations

import os
import webbrowser
from pathlib import Path

import pytest
from test_report import call, record


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An empty working directory; what the browser was asked to open."""
    monkeypatch.chdir(tmp_path)
    addresses: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: addresses.append(address) or True)
    return addresses


def run(name: str, age: float, code: str = "U404") -> Path:
    folder = record(Path(".unstuck") / name, code)
    os.utime(folder / "run.json", (1e9 - age, 1e9 - age))
    return folder


def test_the_last_run_is_opened(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run("20260101-090000", 50)
    last = run("some name", 10, "W101")
    run("20260301-090000", 90)
    (Path(".unstuck") / "not-a-run").mkdir()
    assert call("open") == 0
    page = last / "report.html"
    assert asked == [page.resolve().as_uri()]
    text = page.read_text(encoding="utf-8")
    assert "W101" in text and text.lstrip().lower().startswith("<!doctype html>")
    assert capsys.readouterr().out == f"  Page: {page}\n  Next: unstuck explain W101\n"
    # The page lies in the trace's directory and does not keep it from being read, or the next one from being found.
    assert call("open", "--no-browser") == 0
    assert len(asked) == 1


def test_a_run_can_be_named(asked: list[str], tmp_path: Path) -> None:
    run("20260101-090000", 1)
    other = record(tmp_path / "else where", "U404", healthy=True)
    assert call("open", str(other), "--no-browser") == 0
    assert (other / "report.html").is_file() and asked == []


def test_without_a_browser_the_path_is_what_one_gets(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run("20260101-090000", 1)

    def fails(address: str) -> bool:
        raise webbrowser.Error("could not locate runnable browser")

    for opener in (fails, lambda address: False):
        monkeypatch.setattr(webbrowser, "open", opener)
        assert call("open") == 0
        printed = capsys.readouterr().out
        assert f"Page: {folder}/report.html" in printed and "No browser could be opened" in printed


@pytest.mark.parametrize(("words", "part"), [((), "no run in .unstuck/"), (("nowhere",), "nowhere: no such trace directory")])
def test_no_run_is_exit_code_2(
    asked: list[str], words: tuple[str, ...], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("open", *words) == 2
    printed = capsys.readouterr()
    assert part in printed.err and len(printed.err.strip().splitlines()) == 1
    assert asked == [] and printed.out == ""


def test_a_page_that_cannot_be_written_is_exit_code_2(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (run("20260101-090000", 1) / "report.html").mkdir()
    assert call("open") == 2
    assert "is a directory" in capsys.readouterr().err
