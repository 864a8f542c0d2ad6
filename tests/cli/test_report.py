"""unstuck report: from a trace or a saved report, into every format; and the -o of the other verbs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from unstuck import report
from unstuck.cli import main
from unstuck.experiments import verdict
from unstuck.findings import Verdict
from unstuck.report.json import SCHEMA, read, render
from unstuck.rules import rules
from unstuck.trace.facts import Run
from unstuck.trace.writer import Writer

FIRST = Path(__file__).parents[1] / "report" / "data" / "schema1_first.json"


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    return int(stop.value.code or 0)


def record(folder: Path, code: str, healthy: bool = False) -> Path:
    """A trace as `unstuck run` writes it, of a rule's own example."""
    trace = rules()[code].healthy() if healthy else rules()[code].sick()
    writer = Writer(folder)
    writer.run(Run(script="train.py", started=5.0, finished=True))
    for i, step in enumerate(trace.series.steps):
        writer.row(0, int(step), tuple(float(trace.series[n][i]) for n in trace.series.columns))
    writer.facts(trace.facts)
    writer.close()
    return folder


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return record(tmp_path / "trace", "U404")


def test_without_a_file_it_is_the_terminal_report(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("report", str(trace)) == 11
    shown = capsys.readouterr().out
    assert "U404 step-never-called  (certain)" in shown
    assert call("diagnose", str(trace)) == 11
    assert capsys.readouterr().out == shown


def test_every_format_from_a_trace_and_from_its_json(trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / f"r{ending}" for ending in report.FORMATS.values()]
    assert call("report", str(trace), *(w for f in files for w in ("-o", str(f)))) == 11
    said = capsys.readouterr().out
    for file in files:
        assert "U404" in file.read_text(encoding="utf-8")
        assert f"Report: {file}" in said
    assert said.endswith("Next:   unstuck explain U404\n")
    again = tmp_path / "again"
    again.mkdir()
    assert call("report", str(tmp_path / "r.json"), *(w for f in files for w in ("-o", str(again / f.name)))) == 11
    for name in ("r.json", "r.txt", "r.md", "r.sarif"):  # in JUnit the rules that were silent are missing, in HTML the curves
        assert (again / name).read_text(encoding="utf-8") == (tmp_path / name).read_text(encoding="utf-8").replace(
            f"  Prove: unstuck verify {trace}\n", ""  # a saved report holds no interventions
        )
    # SARIF and JUnit speak of the rules' pages and rooms.
    assert "## Why training gets stuck" in (tmp_path / "r.sarif").read_text(encoding="utf-8")
    assert 'classname="update" name="U404 step-never-called"' in (again / "r.xml").read_text(encoding="utf-8")


def test_stored_verdicts_are_shown(trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from unstuck.cli.report import load

    diagnosis = load(str(trace))
    diagnosis.worst.findings[0].verdict = Verdict("supported", "reaches 0.1 nats", interval=[0.5, 0.6], seeds=3)
    verdict.save(diagnosis, trace)
    assert call("report", str(trace), "-o", str(tmp_path / "r.md")) == 11
    assert "**Verified:** reaches 0.1 nats (3 seeds" in (tmp_path / "r.md").read_text(encoding="utf-8")
    assert call("report", str(trace)) == 11
    assert "Verified: reaches 0.1 nats" in capsys.readouterr().out


def test_the_exit_code_is_that_of_diagnose(tmp_path: Path) -> None:
    healthy = record(tmp_path / "h", "U404", healthy=True)
    assert call("report", str(healthy)) == 0
    assert call("report", str(FIRST)) == 12


def test_a_report_from_elsewhere_names_no_command_for_its_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(FIRST, "saved.json")
    assert call("report", "saved.json") == 12
    assert ".unstuck/demo" not in capsys.readouterr().out
    assert call("report", "saved.json", "-o", "again.json") == 12
    assert Path("again.json").read_text(encoding="utf-8") == FIRST.read_text(encoding="utf-8")
    record(Path(".unstuck/demo"), "U404")
    capsys.readouterr()
    assert call("report", "saved.json") == 12
    assert "unstuck open .unstuck/demo" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("nowhere",), "nowhere: no such trace directory or report"),
        (("{empty}",), "run.json is missing"),
        (("{log}",), "log.json: JSON, but no report of unstuck; to read a log use: unstuck diagnose"),
        (("{text}",), "text.json: not JSON (line 1)"),
        (("{binary}",), "binary.json: is no text"),
        (("{newer}",), f"written by a newer unstuck (schema {SCHEMA + 1}"),
        (("{damaged}",), "damaged report: trainings[0].findings[0]: grade is"),
        (("{good}", "-o", "r.docx"), "r.docx: no report format for '.docx'; use .json, .txt, .html, .md, .sarif or .xml"),
        (("{good}", "-o", "nowhere/r.md"), "does not exist"),
        (("{good}", "-o", "{folder}"), "is a directory"),
    ],
)
def test_unusable_input_is_exit_code_2_and_one_line(
    tmp_path: Path, words: tuple[str, ...], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.md").mkdir()
    good = FIRST.read_text(encoding="utf-8")
    contents = {
        "log": '{"loss": [1.6, 1.6]}', "text": "loss 1.609", "newer": good.replace('"schema": 1', f'"schema": {SCHEMA + 1}', 1),
        "damaged": good.replace('"likely"', '"surely"'), "good": good,
    }  # fmt: skip
    for name, text in contents.items():
        (tmp_path / f"{name}.json").write_text(text)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00\x80")
    names = {n: str(tmp_path / f"{n}.json") for n in [*contents, "binary"]}
    names |= {"empty": str(tmp_path / "empty"), "folder": str(tmp_path / "folder.md")}
    assert call("report", *(w.format(**names) for w in words)) == 2
    printed = capsys.readouterr()
    assert part in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert printed.out == ""


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from unstuck.cli.report import LARGEST

    with (tmp_path / "r.json").open("wb") as file:
        file.truncate(LARGEST + 1)  # no such file lies on the disk: it is a hole
    assert call("report", str(tmp_path / "r.json")) == 2
    assert "too large" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["run", "diagnose", "verify", "report"])
def test_the_help_names_the_endings_of_the_table(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(verb, "--help") == 0
    said = " ".join(re.sub(r"[│\s]+", " ", capsys.readouterr().out).split())
    assert f"Write the report to FILE ({report.endings()})." in said


def test_logs_are_written_in_the_new_formats_too(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,loss\n" + "".join(f"{i},{1.6094 + 0.001 * (-1) ** i}\n" for i in range(400)))
    for ending in (".md", ".sarif", ".xml", ".html"):
        code = call("diagnose", str(tmp_path / "log.csv"), "--classes", "5", "-q", "-o", str(tmp_path / f"r{ending}"))
        assert code in {0, 11, 12}
        text = (tmp_path / f"r{ending}").read_text(encoding="utf-8").lower()
        assert "at chance" in text or "at-chance" in text
        assert "wired correctly" not in text  # a log does not show that
    call("diagnose", str(tmp_path / "log.csv"), "--classes", "5", "-q", "-o", str(tmp_path / "r.json"))
    # What a log's report has beside the schema is left out; the diagnosis is read.
    text = (tmp_path / "r.json").read_text(encoding="utf-8")
    assert read(text).worst.symptom.name == json.loads(text)["symptom"]["name"] == "at-chance"
    assert render(read(text))
