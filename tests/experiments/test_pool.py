"""Pools: what is started ends, whatever happens; a Ray cluster gives the same numbers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from unstuck.errors import UsageError
from unstuck.experiments.arms import Arm, Spec, Target, run_arms
from unstuck.experiments.pool import LocalPool, RayPool
from unstuck.trace.facts import Run
from unstuck.trace.trace import RunRecord

ENDLESS = """
import subprocess, sys, time
import torch
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", "MARK"], start_new_session=True)
class Data(torch.utils.data.Dataset):
    def __len__(self): return 10**6
    def __getitem__(self, i): return torch.randn(4), i % 3
torch.manual_seed(0)
model = torch.nn.Linear(4, 3)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in torch.utils.data.DataLoader(Data(), batch_size=8, num_workers=2):
    loss = torch.nn.functional.cross_entropy(model(x), y)
    opt.zero_grad(); loss.backward(); opt.step()
    print("step", flush=True)
"""
PARENT = """
import sys, time
from unstuck.experiments.arms import Arm, run_arms
from unstuck.experiments.pool import LocalPool
from unstuck.trace.facts import Run
from unstuck.trace.trace import RunRecord
record = RunRecord(Run(script="train.py", arguments=["MARK"], directory=sys.argv[1]), [])
with LocalPool(2) as pool:
    for _ in run_arms(record, [Arm(None, s, 0) for s in range(4)], pool, time.monotonic() + LIMIT):
        pass
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def processes(mark: str) -> list[str]:
    """Command lines and variables of live processes, and zombies below us, that hold the mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                status = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if mark.encode() in line or (status[0] == "Z" and int(status[1]) == os.getpid()):
                found.append(f"{entry.name} {status[0]} {line[:100]!r}")
    return found


def eventually(nothing: object, seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not nothing():  # type: ignore[operator]
            return True
        time.sleep(0.1)
    return False


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, None])
def test_nothing_survives(tmp_path: Path, how: signal.Signals | None) -> None:
    """Ctrl-C, kill, kill -9 of the parent, and the deadline: no process, no zombie, no folder is left."""
    mark, temporary = f"mark-{os.getpid()}-{time.monotonic_ns()}", Path(tempfile.mkdtemp())  # a short path, see temporary_base
    write(tmp_path / "p/train.py", ENDLESS.replace("MARK", mark))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.replace("LIMIT", "8" if how is None else "300").replace("MARK", mark), str(tmp_path / "p")],
        env=os.environ | {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1", "UNSTUCK_TEST_MARK": mark}, stderr=subprocess.PIPE,
    )  # fmt: skip

    def steps() -> int:
        return sum(b"step" in p.read_bytes() for p in temporary.glob("unstuck-*/*/output"))

    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and steps() < 2:
            time.sleep(0.05)
        assert steps() == 2, "the arms did not begin"
        if how is not None:
            parent.send_signal(how)
        parent.communicate(timeout=40)
    finally:
        parent.kill()
        parent.wait()
    assert eventually(lambda: processes(mark)), processes(mark)
    assert eventually(lambda: list(temporary.iterdir())), list(temporary.rglob("*"))
    assert [p.name for p in (tmp_path / "p").iterdir()] == ["train.py"]
    temporary.rmdir()


def spec(folder: Path, **changes: object) -> Spec:
    return Spec(Target("script", "train.py", []), str(folder), None, 0, 5, 60.0, **changes)  # type: ignore[arg-type]


TRAINS = """
import torch
torch.manual_seed(0)
model = torch.nn.Linear(4, 3)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(40):
    loss = torch.nn.functional.cross_entropy(model(torch.randn(8, 4)), torch.randint(0, 3, (8,)))
    opt.zero_grad(); loss.backward(); opt.step()
"""


def test_submit_stop_and_as_completed(tmp_path: Path) -> None:
    write(tmp_path / "p/train.py", TRAINS)
    write(tmp_path / "q/train.py", "import time; time.sleep(100)")
    with LocalPool(2) as pool:
        sleeps = pool.submit(spec(tmp_path / "q"))
        results = [f.result() for f in pool.as_completed([pool.submit(spec(tmp_path / "p")) for _ in range(3)], timeout=60)]
        assert [r.steps for r in results] == [5, 5, 5]
        assert not sleeps.done()
        pool.stop(sleeps)
        assert sleeps.result(timeout=10).reason == "it was stopped"
        folder = pool.folder
        assert [n for n in os.listdir(folder) if n.isdigit()] == []
    assert not os.path.exists(folder)
    pool.close()  # once more does nothing


def test_a_server_that_dies_is_a_reason_and_not_a_hang(tmp_path: Path) -> None:
    write(tmp_path / "p/train.py", "import time; time.sleep(100)")
    record = RunRecord(Run(script="train.py", directory=str(tmp_path / "p")), [])
    with LocalPool(1) as pool:
        arms = run_arms(record, [Arm(None, 0, 0), Arm(None, 1, 0)], pool, time.monotonic() + 100)
        future = pool.submit(spec(tmp_path / "p"))
        [server] = pool._servers.values()
        time.sleep(3)
        server.process.kill()
        assert not future.result(timeout=10).ok
        assert [r.ok for _, r in arms] == [False, False]


def test_a_server_is_paid_once(tmp_path: Path) -> None:
    """Processor time of the arms themselves; wall time would measure whoever else uses the machine."""
    write(tmp_path / "p/train.py", TRAINS)
    with LocalPool(1) as pool:
        pool.submit(spec(tmp_path / "p")).result(timeout=60)
        began = [pool.submit(spec(tmp_path / "p")).result(timeout=60).seconds for _ in range(5)]
    assert min(began) < 1.0


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    write(tmp_path / "p/train.py", TRAINS)
    write(tmp_path / "q/train.py", "import time; time.sleep(100)")
    record = RunRecord(Run(script="train.py", directory=str(tmp_path / "p")), [])
    arms = [Arm(None, seed, 10) for seed in range(3)]
    with LocalPool(2) as local:
        expected = dict(run_arms(record, arms, local, time.monotonic() + 60))
    with RayPool(jobs=2) as pool:
        assert pool.jobs == 2
        results = dict(run_arms(record, arms, pool, time.monotonic() + 120))
        assert {a: r.losses for a, r in results.items()} == {a: r.losses for a, r in expected.items()}
        assert all(r.ok and r.steps == 10 for r in results.values())
        sleeps = pool.submit(spec(tmp_path / "q"))
        time.sleep(1)
        pool.stop(sleeps)
        assert sleeps.result(timeout=30).reason == "it was stopped"
    assert [p.name for p in (tmp_path / "p").iterdir()] == ["train.py"]


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_one_line() -> None:
    pytest.importorskip("ray")
    with pytest.raises(UsageError, match="no Ray cluster"):
        RayPool("auto")
