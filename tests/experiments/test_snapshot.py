"""Copies of the process: the numbers of the recorded run, nothing left behind, and the script does not notice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from unstuck.experiments import snapshot
from unstuck.experiments.arms import Spec, Target
from unstuck.experiments.snapshot import Snapshot

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="copies are made on Linux only")

# Nothing of it can be repeated: the rate comes from standard input, and no seed is set. What it draws next, from each of
# the generators, is part of the loss. It holds a log open and reads a file of data as it goes.
SCRIPT = """
import os, random, sys
import numpy as np
import torch
from torch.nn.functional import cross_entropy
lr, steps = map(float, sys.stdin.readline().split())
x = torch.randn(256, 6); y = (x @ torch.randn(6, 4)).argmax(1)
model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(16, 4), LAST)
opt = torch.optim.SGD(model.parameters(), lr=lr)
data, log = open("data.txt"), open("log.txt", "w")
sys.stdout.write("begin ")  # not flushed before the copy is made
for step in range(int(steps)):
    i = np.random.randint(0, 256, 16)
    scale = 1 + 0.01 * random.random() + float(data.readline())
    out = model(x[i]) * scale
    loss = cross_entropy(out, y[i])
    opt.zero_grad(); loss.backward(); opt.step()
    log.write(f"{step} {loss.item()}\\n")
    EACH
print("end", step, sys.stdin.read())
"""
# Runs the script under observation as `unstuck run --verify` does, then the arms that are asked for; prints what came.
DRIVER = """
import json, os, sys, time
from pathlib import Path
from unstuck.experiments.snapshot import Snapshot
from unstuck.observe.launch import Target, observe
shot = Snapshot(2)
observed = observe(Target("script", "train.py", []), Path("trace"), before_backward_once=shot)
from unstuck.experiments import arms
from unstuck.findings import Intervention
from unstuck.trace.storage import read_run
record = read_run(Path("trace"))
series = record.traces[0].series if record.traces else None
told = {"reason": shot.reason, "code": observed.code, "arms": [],
        "losses": series["loss"].tolist() if series else [], "steps": series.steps.tolist() if series else []}
if not shot.reason:
    wanted = [arms.Arm(Intervention(k, a) if k else None, s, n) for k, a, s, n in json.loads(sys.argv[1])]
    for arm, r in arms.run_arms(record, wanted, shot, time.monotonic() + 60):
        told["arms"].append([wanted.index(arm), r.ok, r.reason, r.losses, r.applied, r.steps])
shot.close()
told["arms"].sort()
told["children"] = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
Path("told.json").write_text(json.dumps(told))
"""


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files whose name is short enough for a pool to use it."""
    folder = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def prepare(folder: Path, each: str = "", last: str = "torch.nn.Softmax(dim=1)") -> dict[str, str]:
    """The script in its folder; the environment it runs in."""
    folder.mkdir(exist_ok=True)
    (folder / "train.py").write_text(SCRIPT.replace("EACH", each).replace("LAST", last))
    (folder / "data.txt").write_text("".join(f"{i % 7 / 100}\n" for i in range(100_000)))  # more than is read ahead
    return os.environ | {"OMP_NUM_THREADS": "1", "MARK": str(folder)}


def drive(folder: Path, arms: list[Any], each: str = "", stdin: str = "0.3 40\n", file: Path | None = None) -> dict[str, Any]:
    environment = prepare(folder, each)
    command = [sys.executable, "-c", DRIVER, json.dumps(arms)]
    given: dict[str, Any] = {"input": stdin} if file is None else {"stdin": open(file)}  # noqa: SIM115
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, **given)
    assert done.returncode == 0, done.stderr
    told = json.loads((folder / "told.json").read_text())
    return told | {"stdout": done.stdout, "stderr": done.stderr}


def marked(folder: Path) -> list[int]:
    """Processes that were started for this folder and are alive (a zombie has no environment)."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                if f"MARK={folder}".encode() in (place / "environ").read_bytes().split(b"\0"):
                    found.append(int(place.name))
            except OSError:
                continue
    return found


def gone(folder: Path, patience: float = 8.0) -> bool:
    until = time.monotonic() + patience
    while marked(folder) and time.monotonic() < until:
        time.sleep(0.05)
    return not marked(folder) and not list(Path(os.environ["TMPDIR"]).glob("unstuck-*"))


# ---------------------------------------------------------------------- without a process


def test_without_a_copy_there_is_a_reason_and_nothing_to_run() -> None:
    shot = Snapshot()
    assert shot.reason == "no backward pass was seen"
    with pytest.raises(RuntimeError, match="no backward pass"):
        shot.submit(Spec(Target("script", "train.py"), "/", None, 0, 1, 1.0))
    shot.close()
    shot.close()


def test_a_thread_is_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_children", lambda: [])  # other tests of this process may have left some
    over = threading.Event()
    thread = threading.Thread(target=over.wait, daemon=True)
    thread.start()
    try:
        assert "thread" in snapshot.obstacle(SimpleNamespace(compiles=False))
    finally:
        over.set()
        thread.join()


def test_memory_and_files_that_a_copy_would_change_for_all(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(4096))
    assert str(tmp_path) not in snapshot._shared_memory()
    shared = np.memmap(tmp_path / "a.bin", mode="r+")
    if "a.bin" not in snapshot._shared_memory():  # another mapping of the test process's came first
        assert snapshot._shared_memory()
    del shared
    private = np.memmap(tmp_path / "a.bin", mode="c")
    assert "a.bin" not in snapshot._shared_memory()
    del private
    with open(tmp_path / "a.bin", "r+b"):
        assert snapshot._writable()


def test_where_files_are_read_is_noted(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(100))
    with open(tmp_path / "a", "rb", buffering=0) as file, open(tmp_path / "b", "wb") as other:
        file.read(7)
        places = snapshot.offsets()
        assert places[file.fileno()] == 7
        assert other.fileno() not in places


def test_kinds_that_need_the_start_are_kinds() -> None:
    from unstuck.experiments.kinds import SUPPORTED

    assert set(snapshot.FROM_THE_START) <= SUPPORTED


# ---------------------------------------------------------------------- arms


def test_arms_go_on_from_the_copy(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    line = SCRIPT.split("LAST")[0].count("\n") + 1  # where the module was made: before the copy was
    fix = ["remove-activation", {"activation": "softmax", "file": "train.py", "line": line}, 0, 40]
    control, weights = [None, {}, 0, 40], ["class-weights", {"weights": [1.0, 1.0, 1.0, 2.0]}, 0, 40]
    lr, wide = ["scale-learning-rate", {"factor": 1e-9}, 0, 40], ["widen", {"layer": "0", "width": 64}, 0, 40]
    told = drive(folder, [control, [None, {}, 1, 40], ["placebo", {}, 0, 40], fix, lr, wide, weights])
    arms = told["arms"]
    assert told["reason"] == "" and told["code"] == 0
    assert told["steps"] == list(range(1, 41))
    # Bit for bit from the first step on, whatever generator it drew from, although the script is not seeded.
    for same in (arms[0], arms[2]):
        assert same[1] and same[3] == told["losses"], same[2]
    assert arms[1][1] and arms[1][3][0] == told["losses"][0] and arms[1][3][2:] != told["losses"][2:]
    assert arms[3][1] and arms[3][4] and arms[3][3][-1] < told["losses"][-1], arms[3][2]
    assert arms[6][1] and arms[6][4] == 39, arms[6][2]  # an imported name; the first loss had been computed
    assert arms[4][1] and arms[4][4] == 40
    assert not arms[5][1] and "comes too late" in arms[5][2]
    # The script has not noticed: one of each, written by itself.
    assert told["stdout"] == "begin end 39 \n" and not told["stderr"]
    assert [line.split()[0] for line in (folder / "log.txt").read_text().splitlines()] == [str(i) for i in range(40)]
    assert told["children"] == ""
    assert gone(folder)


def test_with_a_change_the_first_step_is_not_taken(tmp_path: Path) -> None:
    """A rate that throws the weights away in the first step must not be blamed on the fix."""
    told = drive(tmp_path / "project", [["scale-learning-rate", {"factor": 1e-6}, 0, 12]], stdin="1e5 12\n")
    [[_, ok, reason, losses, applied, _]] = told["arms"]
    assert ok and applied == 12, reason
    assert max(losses) < 2.0  # initial weights: near ln 4


def test_writing_elsewhere_is_refused_and_a_checkpoint_is_not(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.pt"
    each = f"torch.save(opt.state_dict(), 'a.pt'); step == 5 and 'UNSTUCK_ARM' in os.environ and open({str(elsewhere)!r}, 'w')"
    told = drive(tmp_path / "project", [[None, {}, 0, 5], [None, {}, 0, 10]], each, stdin="0.1 10\n")
    short, long = told["arms"]
    assert short[1] and short[5] == 5, short[2]
    assert not long[1] and "elsewhere.pt" in long[2]
    assert not elsewhere.exists()


def test_a_file_on_standard_input_is_read_on_and_a_pipe_is_not(tmp_path: Path) -> None:
    each = "line = sys.stdin.readline(); assert len(line) > 1, line"
    lines = "0.1 8\n" + "".join(f"{i:06d}{'x' * 2000}\n" for i in range(8))  # beyond what is buffered at the copy
    told = drive(tmp_path / "pipe", [[None, {}, 0, 8]], each, stdin=lines)
    [[_, ok, reason, *_]] = told["arms"]
    assert not ok and ("standard input" in reason or "Bad file descriptor" in reason)
    (tmp_path / "input.txt").write_text(lines)
    told = drive(tmp_path / "file", [[None, {}, 0, 8]], each, file=tmp_path / "input.txt")
    [[_, ok, reason, losses, *_]] = told["arms"]
    assert ok and losses == told["losses"], reason


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("import threading; threading.Thread(target=__import__('time').sleep, args=(3,), daemon=True).start()", "thread"),
        ("import subprocess; child = subprocess.Popen(['sleep', '2'])", "process"),
        ("m = np.memmap('m.bin', mode='w+', shape=10)", "memory is shared"),
    ],
)
def test_what_cannot_be_copied_is_said(tmp_path: Path, line: str, word: str) -> None:
    folder = tmp_path / "project"
    prepare(folder)
    text = SCRIPT.replace("EACH", "").replace("LAST", "torch.nn.Identity()").replace("data, log", f"{line}\ndata, log")
    (folder / "train.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, "[]"], cwd=folder, input="0.1 3\n", env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert word in json.loads((folder / "told.json").read_text())["reason"]


# ---------------------------------------------------------------------- unstuck run --verify


def start(folder: Path, environment: dict[str, str], *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "unstuck", "run", "--verify", "60s", "--trace", str(folder / "trace"), *words, "train.py"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write("0.3 400\n")
    process.stdin.close()
    process.stdin = None
    return process


@pytest.mark.slow
def test_a_script_that_reads_standard_input_gets_a_verdict(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    environment = prepare(folder, "step == 399 and print(sum(p.double().sum().item() for p in model.parameters()))")
    text = (folder / "train.py").read_text().replace(" * scale", "")
    seeds = "random.seed(1); np.random.seed(1); torch.manual_seed(1)"
    (folder / "train.py").write_text(text.replace("import torch\n", f"import torch; {seeds}\n", 1))
    (folder / "input.txt").write_text("0.3 400\n")
    with open(folder / "input.txt") as file:
        command = [sys.executable, "train.py"]
        plain = subprocess.run(command, cwd=folder, env=environment, stdin=file, capture_output=True, text=True)
    assert plain.returncode == 0, plain.stderr
    log = (folder / "log.txt").read_text()
    command = [sys.executable, "-m", "unstuck", "run", "--verify", "60s", "-o", "report.json", "train.py"]
    with open(folder / "input.txt") as file:
        done = subprocess.run(command, cwd=folder, env=environment, stdin=file, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert done.stdout == plain.stdout and (folder / "log.txt").read_text() == log
    report = json.loads((folder / "report.json").read_text())
    finding = report["trainings"][0]["findings"][0]
    assert finding["code"] == "W101"
    assert finding["verdict"]["name"] == "supported" and finding["verdict"]["how"] == "fork", finding["verdict"]
    notes = " ".join(report["run"]["notes"])
    assert "reads standard input" in notes and "copies of its process" in notes and "step for step" in notes
    assert gone(folder)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("when", ["training", "verifying"])
def test_nothing_is_left(tmp_path: Path, temporary: Path, number: signal.Signals, when: str) -> None:
    folder = tmp_path / "project"
    each = "import time; time.sleep(0.02); print(step, flush=True)"
    environment = prepare(folder, each)
    (folder / "train.py").write_text((folder / "train.py").read_text().replace(" * scale", ""))
    process = start(folder, environment, *(["--steps", "40"] if when == "verifying" else []))
    assert process.stdout is not None and process.stderr is not None
    if when == "training":
        while process.stdout.readline().split()[-1:] != ["10"]:
            assert process.poll() is None
        assert len(marked(folder)) == 2  # the script and its copy
    else:
        for line in process.stderr:
            if "verifying" in line:
                break
        # An arm of a copy; those of a re-run have a file for what they print.
        until = time.monotonic() + 40
        while not [p for p in temporary.glob("unstuck-*/*/trace") if not (p.parent / "output").exists()]:
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.01)
    process.send_signal(number)
    if number == signal.SIGINT and when == "training":  # then it is verified
        for line in process.stderr:
            if "verifying" in line:
                break
        process.send_signal(number)
    process.communicate(timeout=60)
    assert gone(folder)


def test_an_exception_of_the_script_is_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    told = drive(folder, [[None, {}, 0, 5], [None, {}, 0, 10]], "assert step < 7, 'its own'", stdin="0.1 10\n")
    assert told["code"] == 1 and told["stderr"].count("its own") >= 1
    assert told["stderr"].count("Traceback") == 1
    short, long = told["arms"]
    assert short[1] and short[3] == told["losses"][:5]
    assert not long[1] and "its own" in long[2]
    assert gone(folder)


def test_torch_is_the_same_in_this_process() -> None:
    """The changes to torch are made in arms only."""
    from unstuck.experiments import interventions, patches

    assert interventions.Patches is patches.Patches
    assert torch.nn.functional.softmax.__module__ == "torch.nn.functional"
