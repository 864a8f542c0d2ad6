"""`unstuck diagnose` on logs: what a person sees, exit codes, JSON, tables, and files that cannot be read."""

from __future__ import annotations

import io
import json
import math
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "benchmarks"))

import logs as writers

from unstuck.cli import main, scan
from unstuck.cli.log_judgement import Known

UNIT = "".join(f"Epoch {e}/4\n30/30 [====] - 0s - loss: 5.3141 - accuracy: 0.6667\n" for e in range(1, 5))


def call(*words: str, pasted: str | None = None, monkeypatch: pytest.MonkeyPatch | None = None) -> int:
    if pasted is not None:
        assert monkeypatch is not None
        fake = SimpleNamespace(buffer=io.BytesIO(pasted.encode()), isatty=lambda: False)
        monkeypatch.setattr(sys, "stdin", fake)
    with pytest.raises(SystemExit) as stop:
        main(["diagnose", *words])
    return int(stop.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten runs of ten kinds, in four formats."""
    base = tmp_path / "runs"
    base.mkdir()
    rng = np.random.default_rng(0)
    for number, kind in enumerate(writers.KINDS):
        ending, write = list(writers.FORMATS.values())[number % 4]
        write(base / f"{kind.replace(' ', '-')}{ending}", writers.curve(kind, 2000, rng))
    return base


# ----------------------------------------------------------------------------------------------- posted numbers


@pytest.mark.parametrize(
    ("pasted", "options", "code", "formula"),
    [
        ("loss: 5.3141 - accuracy: 0.6667", (), "W104", "15.9424 (1 - 0.6667)"),
        ("loss: 10.0025 - accuracy: 0.3726", (), "W104", "15.9424 (1 - 0.3726)"),
        ("loss: 7.6666 - accuracy: 0.5000", (), "W104", "15.3332 (1 - 0.5)"),
        ("loss: 2.3622 - accuracy: 0.0986", ("--classes", "10"), "W101", "ln(e+9) - accuracy"),
        ("loss: 0.3251", ("--classes", "10"), None, "H_b(1/10)"),
        ("loss: 1.0977", ("--classes", "3"), None, "ln 3"),
    ],
)
def test_a_posted_number_is_explained_but_one_number_proves_nothing(
    pasted: str, options: tuple[str, ...], code: str | None, formula: str, capsys, monkeypatch
) -> None:
    assert call("-", "--json", *options, pasted=pasted, monkeypatch=monkeypatch) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["symptom"]["name"] == "too-early"
    assert formula in [f["formula"] for f in data["log"]["forms"]]
    assert [(f["code"], f["grade"]) for f in data["findings"]] == ([(code, "possible")] if code else [])


HEALTHY = [
    ("0.4213", "0.8500"), ("0.2613", "0.9251"), ("1.5327", "0.4418"), ("0.0871", "0.9738"), ("0.5312", "0.7344"),
    ("0.6120", "0.6650"), ("0.3417", "0.8563"), ("0.1184", "0.9580"), ("0.8846", "0.5983"), ("0.4127", "0.8333"),
    ("0.0639", "0.9867"), ("1.2054", "0.5125"), ("0.7428", "0.7312"), ("3.1862", "0.2371"), ("1.8893", "0.5034"),
    ("0.9417", "0.7365"), ("2.4736", "0.4518"), ("1.0418", "0.7429"), ("0.2947", "0.9113"), ("1.7352", "0.3641"),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "accuracy"), HEALTHY)
def test_a_number_of_a_healthy_run_is_refused(loss: str, accuracy: str, capsys, monkeypatch) -> None:
    assert call("-", "--json", pasted=f"loss: {loss} - accuracy: {accuracy}", monkeypatch=monkeypatch) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["findings"] == [] and data["log"]["forms"] == []


# -------------------------------------------------------------------------------------------------- one log


def test_the_report_of_a_pasted_log(capsys, monkeypatch) -> None:
    assert call("-", pasted=UNIT, monkeypatch=monkeypatch) == 12
    out = capsys.readouterr().out
    assert "CONSTANT LOSS" in out and "W104 softmax-over-one-unit  (likely)" in out
    assert "15.9424 (1 - accuracy)" in out and "To decide:" in out
    assert "Next: unstuck run train.py" in out
    assert max(map(len, out.splitlines())) <= 80
    assert "wired correctly" not in out  # nobody looked at the wiring


def test_chance_with_and_without_the_number_of_classes(capsys, monkeypatch) -> None:
    pasted = "".join(f"Epoch {e} loss: {x}\n" for e, x in enumerate((1.6094, 1.6095, 1.6094, 1.6094), 1))
    assert call("-", pasted=pasted, monkeypatch=monkeypatch) == 0  # a state, not a cause
    out = " ".join(capsys.readouterr().out.split())
    assert "STUCK AT CHANCE, IF THERE ARE 5 CLASSES (likely)" in out and "unstuck diagnose - --classes 5" in out
    assert call("-", "--classes", "5", pasted=pasted, monkeypatch=monkeypatch) == 0
    out = capsys.readouterr().out
    assert "STUCK AT CHANCE\n" in out and "IF THERE ARE" not in out
    assert call("-", "--vocab", "5", "--json", pasted=pasted, monkeypatch=monkeypatch) == 0
    assert json.loads(capsys.readouterr().out)["symptom"]["classes"] == 5


def test_prior_gives_the_base_rate(capsys, monkeypatch) -> None:
    pasted = "".join(f"Epoch {e} loss: {x}\n" for e, x in enumerate((0.3301, 0.3255, 0.3252, 0.3253, 0.3251), 1))
    assert call("-", "--prior", "0.1", "--json", pasted=pasted, monkeypatch=monkeypatch) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["symptom"]["name"], data["symptom"]["classes"]) == ("at-prior", 2)
    assert data["symptom"]["base_rate"] == pytest.approx(0.325083, abs=1e-6)
    assert [(f["code"], f["grade"]) for f in data["findings"]] == [("D207", "possible")]


def test_json_and_files_of_one_log(folder: Path, tmp_path: Path, capsys) -> None:
    one = str(folder / "not-a-number.jsonl")
    names = [f.name for f in folder.iterdir() if f.name.startswith("not-a-number")]
    one = str(folder / names[0])
    assert call(one, "--json", "-o", str(tmp_path / "r.json"), "-o", str(tmp_path / "r.txt")) == 12
    data = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert data == json.loads((tmp_path / "r.json").read_text())
    assert {"schema", "symptom", "findings", "excluded", "not_checked", "run", "trainings", "log", "unreadable"} <= set(data)
    first = data["findings"][0]
    assert (first["code"], first["grade"], first["role"]) == ("N701", "likely", "cause")
    assert data["log"]["last"] is None and data["log"]["column"] == "train_loss"
    unasked = {n["code"] for n in data["not_checked"]}
    assert unasked >= {"W102", "U401", "D202"} and "N701" not in unasked
    assert "NOT A NUMBER" in (tmp_path / "r.txt").read_text()


def test_a_healthy_log_is_exit_code_0_and_names_no_cause(folder: Path, capsys) -> None:
    for kind in writers.HEALTHY:
        (file,) = [f for f in folder.iterdir() if f.stem == kind.replace(" ", "-")]
        assert call(str(file)) == 0
        out = capsys.readouterr().out
        assert "LEARNING" in out and "STUCK" not in out
        assert max(len(line) for line in out.splitlines() if str(folder)[:20] not in line) <= 80


# ------------------------------------------------------------------------------------------------ many logs


def test_a_folder_gives_one_table_worst_first(folder: Path, tmp_path: Path, capsys) -> None:
    assert call(str(folder), "-o", str(tmp_path / "t.csv"), "-o", str(tmp_path / "r.json"), "-o", str(tmp_path / "t.txt")) == 12
    out = capsys.readouterr().out
    assert out == (tmp_path / "t.txt").read_text()
    assert max(len(line) for line in out.splitlines() if str(folder) not in line) <= 80
    endings = (".csv", ".jsonl", ".tfevents", ".wandb")
    rows = [line.split() for line in out.splitlines() if line.endswith(endings) and str(folder) not in line]
    states = [row[0] for row in rows]
    assert [row[3] for row in rows[:2]] == ["N701", "W104"]
    assert states == ["non-finite", "constant", "diverging", "at-chance", *["learning"] * 6]
    data = json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail)
    assert [t["symptom"]["name"] for t in data["trainings"]] == states
    assert data["symptom"] == data["trainings"][0]["symptom"] and data["log"] == data["trainings"][0]["log"]
    table = (tmp_path / "t.csv").read_text().splitlines()
    assert len(table) == 11 and table[0].startswith("file,state,finding")


def test_bad_files_are_named_and_the_rest_is_scanned(folder: Path, capsys) -> None:
    (folder / "junk.csv").write_bytes(bytes(range(256)) * 50)
    (folder / "empty.jsonl").write_bytes(b"")
    (folder / "words.csv").write_text("step,loss\n1,oops\n2,never\n")
    (folder / "events.out.tfevents.9").write_bytes(struct.pack("<QI", 24, 1234) + b"x" * 40)
    cut = folder / "cut.tfevents"
    writers.to_events(cut, writers.curve("healthy", 500, np.random.default_rng(1)))
    cut.write_bytes(cut.read_bytes()[:-9])
    (folder / "loop").symlink_to(folder / "loop")
    assert call(str(folder)) == 12
    out = capsys.readouterr().out
    assert "11 logged trainings" in out and "Not read (4)" in out
    flat = " ".join(out.split())
    for name, why in (("junk.csv", "binary"), ("empty.jsonl", "empty"), ("words.csv", "no column looks like a loss"),
                      ("events.out.tfevents.9", "checksum")):  # fmt: skip
        assert name in flat and why in flat


def test_a_read_error_is_named_and_the_rest_goes_on(folder: Path, capsys, monkeypatch) -> None:
    from unstuck.observe.logs import csv

    real = csv.read

    def fails(path: Path, *rest):
        if path.name.startswith("healthy"):
            raise OSError(5, "Input/output error")
        if path.name.startswith("converged"):
            raise MemoryError
        return real(path, *rest)

    monkeypatch.setattr(csv, "read", fails)
    assert call(str(folder), "--jobs", "1") == 12
    out = " ".join(capsys.readouterr().out.split())
    assert "Input/output error" in out and "MemoryError" in out and "8 logged trainings" in out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("{empty}",), "no logs in this directory"), (("{junk}",), "junk.bin: binary"), (("{empty}/none.csv",), "no such file"),
        (("{log}", "--column", "reward"), "'reward'"), (("{log}", "--classes", "1"), "--classes 1"),
        (("{log}", "--prior", "0.9,0.3"), "--prior"), (("{log}", "--classes", "3", "--prior", "0.1"), "--prior"),
        (("{log}", "--classes", "3", "--vocab", "4"), "same thing"), (("{log}", "-o", "x.docx"), "x.docx"),
        (("-", "{log}"), "pasted"),
        (("{log}", "--jobs", "-1"), "--jobs"), (("{log}", "-o", "{empty}/t.csv"), "several logs"),
    ],
)  # fmt: skip
def test_unusable_input_is_exit_code_2_and_one_line(tmp_path: Path, words: tuple[str, ...], part: str, capsys) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "junk.bin").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "log.csv").write_text("step,loss\n1,2.3\n2,2.2\n3,2.1\n")
    names = {"empty": str(tmp_path / "empty"), "junk": str(tmp_path / "junk.bin"), "log": str(tmp_path / "log.csv")}
    assert call(*(w.format(**names) for w in words), "--quiet") == 2
    error = capsys.readouterr().err
    assert part in error and error.startswith("unstuck: ") and error.count("\n") == 1


def test_several_runs_in_one_database_are_a_table(tmp_path: Path, capsys) -> None:
    rng = np.random.default_rng(0)
    writers.to_mlflow(tmp_path / "mlflow.db", {k: writers.curve(k, 300, rng) for k in ("healthy", "at chance")})
    assert call(str(tmp_path / "mlflow.db"), "--classes", "10") == 0
    out = capsys.readouterr().out
    assert "2 logged trainings" in out and out.index("at-chance") < out.index("\n  learning")


# ---------------------------------------------------------------------------------------------- in processes


@pytest.mark.slow
def test_processes_say_the_same_as_one(folder: Path) -> None:
    files = sorted(folder.iterdir()) * 3
    alone = scan.scan_files(files, Known(), None, jobs=1)
    many = scan.scan_files(files, Known(), None, jobs=2)
    key = lambda r: (r.file, r.training.symptom.name, r.level)  # noqa: E731
    assert len(many.reports) == 30 and sorted(map(key, many.reports)) == sorted(map(key, alone.reports))
    assert many.failed == {}


@pytest.mark.slow
def test_a_file_that_kills_its_process_is_named(tmp_path: Path, monkeypatch) -> None:
    """A worker that may not have more than a little memory, and a file whose name makes it end."""
    for number in range(40):
        (tmp_path / f"{number:02d}.csv").write_text("step,loss\n" + "".join(f"{i},2.3\n" for i in range(30)))
    (tmp_path / "sitecustomize.py").write_text(
        "import unstuck.cli.scan as scan, os\n"
        "one = scan._one\n"
        "scan._one = lambda file, *rest: os._exit(9) if file.endswith('13.csv') else one(file, *rest)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    files = sorted(tmp_path.glob("*.csv"))
    found = scan.scan_files(files, Known(), None, jobs=2)
    assert list(found.failed) == [str(tmp_path / "13.csv")] and "died" in found.failed[str(tmp_path / "13.csv")]
    assert sorted(r.file for r in found.reports) == [str(f) for f in files if f.name != "13.csv"]


def test_ctrl_c_keeps_what_there_is(folder: Path, capsys, monkeypatch) -> None:
    real, count = scan._one, iter(range(100))

    def stops(*given):
        if next(count) == 4:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(scan, "_one", stops)
    call(str(folder))
    out = capsys.readouterr().out
    assert "4 logged trainings" in out and "Ctrl-C" in out


def test_values_that_json_does_not_know_become_null(tmp_path: Path, capsys) -> None:
    (tmp_path / "a.csv").write_text("step,loss\n" + "".join(f"{i},inf\n" for i in range(5)))
    assert call(str(tmp_path / "a.csv"), "--json") == 12
    data = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert data["log"]["first"] is None and math.isfinite(data["findings"][0]["evidence"][0]["value"])
