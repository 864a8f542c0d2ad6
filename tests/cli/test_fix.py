"""unstuck fix: what it shows, asks, writes and refuses; and that a run records what it needs."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unstuck.cli import main
from unstuck.cli.fix import folded
from unstuck.findings import Diagnosis, Finding, Fix, Intervention, Symptom, Training
from unstuck.rules import rules
from unstuck.trace.facts import Run, Site
from unstuck.trace.storage import read_run
from unstuck.trace.writer import Writer

SCRIPT = "import torch\nimport torch.nn.functional as F\n" + "\n" * 38 + "x = F.softmax(x, dim=1)  # é\ny = F.softmax(h, dim=1)\n"


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    return int(stop.value.code or 0)


def trace_of(folder: Path, code: str, line: int = 42, healthy: bool = False) -> str:
    """The trace of a rule's own example, whose script is there; the sites of its facts are moved to a line of the script."""
    script = folder / "train.py"
    script.write_text(SCRIPT)
    digest = hashlib.sha256(script.read_bytes()).hexdigest()
    trace = rules()[code].healthy() if healthy else rules()[code].sick()
    writer = Writer(folder / "trace")
    writer.run(Run(
        script="train.py", arguments=["--name", "a b"], directory=str(folder), started=time.time(), sources={"train.py": digest}
    ))  # fmt: skip
    for i, step in enumerate(trace.series.steps):
        writer.row(0, int(step), tuple(float(trace.series[n][i]) for n in trace.series.columns))
    writer.facts(trace.facts)
    writer.close()
    facts = folder / "trace" / "facts.jsonl"
    rows = [json.loads(row) for row in facts.read_text().splitlines()]
    for row in rows:
        _move(row, line)
    facts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "trace")


def _move(value: object, line: int) -> None:
    if isinstance(value, dict):
        if {"file", "line"} <= set(value):
            value |= {"file": "train.py", "line": line, "text": ""}
        for inner in value.values():
            _move(inner, line)
    elif isinstance(value, list):
        for inner in value:
            _move(inner, line)


@pytest.fixture
def sick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return trace_of(tmp_path, "W101")


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_the_diff_is_shown_asked_for_and_made(
    sick: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, "y\n")
    assert call("fix", sick) == 0
    out = capsys.readouterr().out
    assert "W101 softmax-twice\n" in out
    assert "--- train.py\n+++ train.py\n@@ " in out
    assert "-y = F.softmax(h, dim=1)\n+y = h\n" in out
    assert "Make this change in train.py? [y/N] " in out
    assert out.endswith("Changed train.py.\n\nNext: unstuck run train.py --name 'a b'\n")
    assert max(map(len, out.splitlines())) <= 80
    assert Path("train.py").read_text() == SCRIPT.replace("y = F.softmax(h, dim=1)", "y = h")


@pytest.mark.parametrize("text", ["n\n", "\n", "maybe\n"])
def test_anything_but_yes_leaves_the_file(
    sick: str, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, text)
    assert call("fix", sick) == 11
    assert f"Next: unstuck fix {sick}\n" in capsys.readouterr().out
    assert Path("train.py").read_text() == SCRIPT


def test_yes_asks_nothing_and_a_dry_run_writes_nothing(sick: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("fix", sick, "--dry-run") == 11
    assert Path("train.py").read_text() == SCRIPT
    assert "[y/N]" not in capsys.readouterr().out
    assert call("fix", sick, "--yes") == 0
    assert "[y/N]" not in capsys.readouterr().out
    assert Path("train.py").read_text() != SCRIPT
    assert sorted(os.listdir()) == ["trace", "train.py"]


def test_nobody_there_to_answer_is_unusable_input(
    sick: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, "")
    assert call("fix", sick) == 2
    assert "--yes" in capsys.readouterr().err
    assert Path("train.py").read_text() == SCRIPT


def test_a_script_that_changed_since_is_refused_with_the_command_to_run(sick: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("fix", sick, "--yes") == 0
    capsys.readouterr()
    assert call("fix", sick, "--yes") == 2
    error = capsys.readouterr().err
    assert error == "unstuck: train.py has changed since this run. Run it again: unstuck run train.py --name 'a b'\n"


def test_from_another_folder_the_command_says_where(
    sick: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "else where").mkdir()
    monkeypatch.chdir(tmp_path / "else where")
    assert call("fix", sick, "--yes") == 0
    assert f"Next: cd {tmp_path} && unstuck run train.py --name 'a b'\n" in capsys.readouterr().out


def test_what_no_machine_can_do_says_why_and_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = trace_of(tmp_path, "W101", line=3)
    assert call("fix", trace, "--yes") == 11
    out = capsys.readouterr().out
    assert "No machine can make this change: no activation is called" in out
    assert "train.py:3" in out
    assert "Next: unstuck explain W101\n" in out
    assert (tmp_path / "train.py").read_text() == SCRIPT


def test_a_healthy_training_leaves_nothing_to_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = trace_of(tmp_path, "W101", healthy=True)
    assert call("fix", trace, "--yes") == 0
    assert "nothing to fix" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["W101", "w101", "softmax-twice"])
def test_a_finding_can_be_chosen(sick: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("fix", sick, "--finding", name, "--dry-run") == 11
    out = capsys.readouterr().out
    assert "+y = h" in out
    assert f"--finding {name}\n" in out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("nowhere",), "nowhere: no such trace directory"),
        (("train.py",), "is a file"),
        (("trace", "--finding", "S501"), "--finding S501: not found in this run, which has W101"),
        (("trace", "--yes", "--dry-run"), "not both"),
    ],
)
def test_unusable_arguments(sick: str, words: tuple[str, ...], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("fix", *words) == 2
    assert part in capsys.readouterr().err


def test_the_json_report_has_the_diff(sick: str) -> None:
    assert call("diagnose", sick, "--quiet", "-o", "r.json") == 11
    fix = json.loads(Path("r.json").read_text())["findings"][0]["fix"]
    assert fix["applicability"] == "safe"
    assert fix["diff"].startswith("--- train.py\n+++ train.py\n@@ ")
    Path("train.py").write_text("changed = 1\n")
    assert call("diagnose", sick, "--quiet", "-o", "r.json") == 11
    fix = json.loads(Path("r.json").read_text())["findings"][0]["fix"]
    assert (fix["applicability"], fix["diff"]) == ("display", None)


def test_a_wide_diff_is_folded_to_80_columns() -> None:
    wide = "    value = " + " + ".join(f"number_{i}" for i in range(20))
    diff = f"--- a\n+++ a\n@@ -1,2 +1,2 @@\n {wide}\n-{wide}\n+{wide} + 1\r\n\\ No newline at end of file\n"
    rows = folded(diff).splitlines()
    assert max(map(len, rows)) <= 80
    assert rows[3].endswith("…")
    added = "".join(r[1:].strip() + " " for r in rows if r.startswith("+") and not r.startswith("+++"))
    assert added.split() == f"{wide} + 1".split()


def test_without_asking_a_weaker_cause_waits_for_the_next_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may follow from the surer one; whoever is asked, or names it, decides for himself."""
    text = "import torch\no = torch.optim.SGD(ps, lr=0.1)\nfor x in d:\n    f(x).backward()\n    o.step()\n"
    file = tmp_path / "loop.py"
    run = Run(script="loop.py", directory=str(tmp_path), sources={"loop.py": hashlib.sha256(text.encode()).hexdigest()})

    def both(_: object) -> Diagnosis:
        sure = Finding("U405", "gradients-never-zeroed", "certain", "", locations=[Site("loop.py", 4)],
                       fix=Fix("Zero them.", intervention=Intervention("zero-before-backward")))  # fmt: skip
        weak = Finding("S501", "learning-rate-too-high", "likely", "", locations=[Site("loop.py", 2)],
                       fix=Fix("Less.", intervention=Intervention("scale-learning-rate", {"factor": 0.1})))  # fmt: skip
        return Diagnosis(run, [Training(Symptom("diverging"), [sure, weak])])

    trace = trace_of(tmp_path, "W101")
    monkeypatch.setattr("unstuck.engine.diagnose", both)
    zeroed = text.replace("    f(x)", "    o.zero_grad()\n    f(x)")
    for words, after, code in (
        (["--yes"], zeroed, 12),
        (["--yes", "--finding", "U405", "--finding", "S501"], zeroed.replace("0.1", "0.01"), 0),
    ):
        file.write_text(text)
        assert call("fix", trace, *words) == code
        assert file.read_text() == after
    file.write_text(text)
    answer(monkeypatch, "y\ny\n")
    assert call("fix", trace) == 0
    assert file.read_text() == zeroed.replace("0.1", "0.01")
    assert "Left for the next run" in capsys.readouterr().out


MODEL = "import torch.nn.functional as F\n\n\ndef out(z):\n    return F.softmax(z, dim=1)\n"
LOOP = """import sys, torch
import model
torch.manual_seed(0)
x, y = torch.randn(64, 4), torch.randint(0, 3, (64,))
net = torch.nn.Linear(4, 3)
o = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(30):
    o.zero_grad()
    torch.nn.functional.cross_entropy(model.out(net(x)), y).backward()
    o.step()
if len(sys.argv) > 1:
    open("model.py", "a").write("# later\\n")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("how", "changes"), [(["train.py"], False), (["-m", "train"], False), (["train.py", "x"], True)])
def test_a_run_records_its_sources_and_its_fix_is_made(tmp_path: Path, how: list[str], changes: bool) -> None:
    (tmp_path / "train.py").write_text(LOOP)
    (tmp_path / "model.py").write_text(MODEL)
    unstuck = [sys.executable, "-m", "unstuck"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*unstuck, "run", "-q", "--trace", "t", "-o", "r.json", *how], cwd=tmp_path, env=env, timeout=300)
    assert done.returncode == 0
    sources = read_run(tmp_path / "t").run.sources
    assert set(sources) == {"train.py", "model.py"}
    assert sources["train.py"] == hashlib.sha256(LOOP.encode()).hexdigest()
    assert sources["model.py"] == ("" if changes else hashlib.sha256(MODEL.encode()).hexdigest())
    fix = json.loads((tmp_path / "r.json").read_text())["findings"][0]["fix"]
    assert (fix["diff"] is None) is changes
    command = [*unstuck, "fix", "t", "--yes", "--finding", "W101"]
    done = subprocess.run(command, cwd=tmp_path, env=env, timeout=300, capture_output=True, text=True)
    assert done.returncode == (2 if changes else 0), done.stderr
    if changes:
        assert "model.py was changed while it ran" in done.stderr
    else:
        assert (tmp_path / "model.py").read_text() == MODEL.replace("F.softmax(z, dim=1)", "z")
        assert f"Next: unstuck run {' '.join(how)}\n" in done.stdout
