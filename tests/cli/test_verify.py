"""unstuck verify and unstuck run --verify: budgets, what is printed and kept, whose exit code counts."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from unstuck.cli import main, protect
from unstuck.cli import verify as verify_verb
from unstuck.cli.verify import is_budget, parse_budget
from unstuck.engine import diagnose
from unstuck.errors import UsageError
from unstuck.experiments import search
from unstuck.experiments.arms import ArmResult
from unstuck.report import words as said
from unstuck.rules import rules
from unstuck.trace.facts import Run
from unstuck.trace.storage import read_run
from unstuck.trace.writer import Writer

CHANCE = 1.6094379


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    return int(stop.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A trace of a training whose optimizer never steps."""
    trace = rules()["U404"].sick()
    writer = Writer(tmp_path / "trace")
    writer.run(Run(script="train.py", seconds=2.0, started=5.0))
    for i, step in enumerate(trace.series.steps):
        writer.row(0, int(step), tuple(float(trace.series[n][i]) for n in trace.series.columns))
    writer.facts(trace.facts)
    writer.close()
    return tmp_path / "trace"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Arms that cost nothing: `skill` is what the fix reaches. Records what was asked for."""
    seen: dict[str, Any] = {"skill": 0.8, "arms": [], "pool": None, "stop": 10**9}

    def run(record: Any, arms: Any, pool: Any, deadline: float, **which: Any) -> Iterator[Any]:
        for arm in arms:
            if len(seen["arms"]) >= seen["stop"]:
                raise KeyboardInterrupt
            seen["arms"].append(arm)
            fixed = arm.intervention is not None and arm.intervention.kind != "placebo"
            end = seen["skill"] if fixed else 0.0
            yield arm, ArmResult(
                True, losses=[CHANCE * (1 - end)] * arm.steps, skills=[end] * arm.steps, accuracies=[], chance=CHANCE,
                final_loss=CHANCE * (1 - end), final_skill=end, symptom="learning" if end else "at-chance",
                steps=arm.steps, seconds=0.01, applied=arm.steps,
            )  # fmt: skip

    @contextmanager
    def pool(name: str, jobs: int) -> Iterator[Any]:
        seen["pool"] = (name, jobs)
        yield SimpleNamespace(jobs=jobs or 2)

    monkeypatch.setattr(search, "run_arms", run)
    monkeypatch.setattr(verify_verb, "open_pool", pool)
    return seen


@pytest.mark.parametrize(
    ("text", "seconds"), [("60", 60), ("60s", 60), ("2m", 120), ("1.5h", 5400), (" 90S ", 90), (".5m", 30)]
)
def test_budgets(text: str, seconds: float) -> None:
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5", "5 apples", "m", "1e3", "nan", "train.py"])
def test_what_is_no_budget_is_an_error_that_names_it(text: str) -> None:
    with pytest.raises(UsageError, match="budget"):
        parse_budget(text)


@pytest.mark.parametrize(
    ("given", "then"),
    [
        (["run", "--verify", "train.py"], ["run", "--verify=60s", "train.py"]),
        (["run", "--verify", "2m", "train.py", "90s"], ["run", "--verify=2m", "train.py", "90s"]),
        (["run", "--verify=30", "-q", "train.py"], ["run", "--verify=30", "-q", "train.py"]),
        (["run", "-q", "--verify", "-m", "pkg", "-x"], ["run", "-q", "--verify=60s", "-m", "pkg", "--", "-x"]),
        (["run", "train.py", "--verify"], ["run", "train.py", "--verify"]),  # the script's own
        (["run", "--verify"], ["run", "--verify=60s"]),
    ],
)
def test_the_budget_of_run_is_optional(given: list[str], then: list[str]) -> None:
    assert protect(given) == then
    assert not is_budget("train.py")


def test_verify_prints_writes_and_keeps_the_verdict(
    folder: Path, tmp_path: Path, world: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("verify", str(folder), "--budget", "2m", "--jobs", "3", "-o", str(tmp_path / "r.json")) == 11
    printed = capsys.readouterr()
    assert "Verified: reaches 0.322 nats after" in " ".join(printed.out.split())
    assert "it stays at 1.609 nats (1 seed, gain in skill 0.80 to 0.80)" in " ".join(printed.out.split())
    assert printed.err == ""  # no terminal, no bar
    assert max(len(line) for line in printed.out.splitlines() if str(folder) not in line) <= 80
    assert world["pool"] == ("local", 3)
    found = json.loads((tmp_path / "r.json").read_text())["findings"][0]["verdict"]
    assert {"name", "control", "fixed", "interval", "seeds", "how"} <= set(found)
    assert (found["name"], found["seeds"], found["how"]) == ("supported", 1, "rerun")
    assert found["control"] == pytest.approx(CHANCE)
    # diagnose shows it again
    assert call("diagnose", str(folder)) == 11
    assert "Verified: reaches 0.322 nats" in " ".join(capsys.readouterr().out.split())


def test_a_damaged_file_of_verdicts_does_not_stop_diagnose(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "verdicts.json").write_text("{")
    assert call("diagnose", str(folder)) == 11
    out = " ".join(capsys.readouterr().out.split())
    assert "verdicts.json is damaged" in out
    assert "Verified" not in out


def test_quiet_says_nothing(folder: Path, world: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("verify", "-q", str(folder)) == 11
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_a_fix_that_does_nothing(folder: Path, world: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    world["skill"] = 0.0
    call("verify", str(folder))
    assert "Inconclusive: 1.609 nats" in " ".join(capsys.readouterr().out.split())  # certain, and nothing else helped


def test_ctrl_c_reports_what_is_known(folder: Path, world: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    world["stop"] = 2
    assert call("verify", str(folder)) == 11
    assert "Verified: reaches" in " ".join(capsys.readouterr().out.split())
    world.update(stop=1, arms=[])
    assert call("verify", str(folder)) == 11
    assert "Not verified because it was stopped before it was its turn" in " ".join(capsys.readouterr().out.split())
    call("diagnose", str(folder))  # what the first search found is still there
    assert "Verified: reaches" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("verify", "nowhere"), "nowhere"),
        (("verify", "{folder}", "--budget", "soon"), "soon"),
        (("verify", "{folder}", "--pool", "slurm"), "slurm"),
        (("verify", "{folder}", "--jobs", "-1"), "-1"),
        (("verify", "{folder}", "-o", "x.doc"), ".doc"),
        (("run", "--verify=tomorrow", "-c", "pass"), "tomorrow"),
    ],
)
def test_unusable_arguments_are_exit_code_2_and_named(
    folder: Path, words: tuple[str, ...], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*(w.format(folder=folder) for w in words)) == 2
    assert part in capsys.readouterr().err


def test_an_unverified_cause_names_the_command_that_proves_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("diagnose", str(folder))
    assert f"unstuck verify {folder}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["supported", "refuted", "inconclusive", "not-verified"])
def test_every_verdict_has_a_sentence(name: str) -> None:
    from unstuck.findings import Verdict

    text = said.verdict(Verdict(name, "something happened", interval=[0.1, 0.2], seeds=5))  # type: ignore[arg-type]
    assert text.endswith(".")
    assert "something happened" in text
    assert ("5 seeds" in text) == (name != "not-verified")


SCRIPT = """
import sys
import torch
torch.manual_seed(0)
x = torch.randn(256, 8)
y = (x @ torch.randn(8, 3)).argmax(1)
net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
opt = torch.optim.Adam(net.parameters(), lr=0.02)
for step in range(120):
    rows = torch.randint(0, 256, (32,))
    opt.zero_grad()
    loss = -torch.nn.functional.cross_entropy(net(x[rows]), y[rows])
    loss.backward()
    opt.step()
open("written.txt", "a").write("x")
print("done")
sys.exit(3)
"""


@pytest.mark.slow
def test_run_verify_end_to_end(tmp_path: Path) -> None:
    """The script's exit code and output stay its own, its files are written once, and the fix is proven."""
    (tmp_path / "train.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", "unstuck", "run", "--verify", "90s", "--trace", "t", "-o", "r.json", "train.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert done.stdout == "done\n"
    assert (tmp_path / "written.txt").read_text() == "x"
    said = " ".join(done.stderr.split())
    assert said.index("W112") < said.index("verifying") < said.index("Verified: reaches")
    first = json.loads((tmp_path / "r.json").read_text())["findings"][0]
    assert (first["code"], first["verdict"]["name"]) == ("W112", "supported")
    assert json.loads((tmp_path / "t" / "verdicts.json").read_text())["format"] == 1


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ({"train.py": "of-another"}, "train.py has changed since this run."),
        ({"train.py": ""}, "train.py was changed while it ran."),
        ({"gone.py": "of-another"}, "gone.py is not there any more."),
        ({}, "train.py has changed since this run."),  # no hashes: written after the run began
    ],
)
def test_a_script_that_has_changed_since_the_run_is_not_run(
    tmp_path: Path, world: dict[str, Any], capsys: pytest.CaptureFixture[str], sources: dict[str, str], words: str
) -> None:
    (tmp_path / "train.py").write_text("lr = 0.1\n")
    path = recorded(tmp_path, sources)
    assert call("verify", str(path)) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert words in said
    assert "unstuck run train.py" in said
    assert not world["arms"]


def test_a_script_that_is_what_ran_is_run(tmp_path: Path, world: dict[str, Any]) -> None:
    (tmp_path / "train.py").write_text("lr = 0.1\n")
    right = hashlib.sha256(b"lr = 0.1\n").hexdigest()
    call("verify", str(recorded(tmp_path, {"train.py": right})))
    assert world["arms"]


def test_run_verify_tells_where_a_file_was_changed_while_it_ran(tmp_path: Path, world: dict[str, Any]) -> None:
    (tmp_path / "train.py").write_text("lr = 0.1\n")
    record = read_run(recorded(tmp_path, {"train.py": ""}))
    diagnosis = diagnose(record)
    verify_verb.prove(diagnosis, record, 60.0)
    verdict = diagnosis.worst.findings[0].verdict
    assert verdict is not None
    assert (verdict.name, verdict.reason) == ("not-verified", "train.py was changed while it ran")
    assert not world["arms"]


def recorded(where: Path, sources: dict[str, str]) -> Path:
    """A trace of a training whose optimizer never steps, by a script in that folder."""
    trace = rules()["U404"].sick()
    writer = Writer(where / "trace")
    writer.run(Run(script="train.py", directory=str(where), seconds=2.0, started=5.0, sources=sources))
    for i, step in enumerate(trace.series.steps):
        writer.row(0, int(step), tuple(float(trace.series[n][i]) for n in trace.series.columns))
    writer.facts(trace.facts)
    writer.close()
    return where / "trace"
