"""Arms of real scripts: the numbers of the recorded run, an untouched folder, and a reason for whatever goes wrong."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from unstuck.experiments import sandbox
from unstuck.experiments.arms import Arm, ArmResult, Target, decode, encode, imports, run_arms, target_of
from unstuck.experiments.pool import LocalPool
from unstuck.findings import Intervention
from unstuck.trace.facts import Run
from unstuck.trace.storage import read_run
from unstuck.trace.trace import RunRecord

WHOLE = Arm(None, 0, 0)
GALLERY = Path(__file__).resolve().parents[2] / "gallery"
TRAINS = """
import torch
if SEED is not None: torch.manual_seed(SEED)
model = torch.nn.Linear(4, 3)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(STEPS):
    loss = torch.nn.functional.cross_entropy(model(torch.randn(8, 4)), torch.randint(0, 3, (8,)))
    opt.zero_grad(); loss.backward(); opt.step()
"""


@pytest.fixture(scope="module")
def pool() -> Iterator[LocalPool]:
    with LocalPool(2) as pool:
        yield pool


def trains(steps: int = 12, seed: int | None = 0) -> str:
    return TRAINS.replace("STEPS", str(steps)).replace("SEED", str(seed))


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def record(folder: Path, script: str = "train.py", *arguments: str) -> RunRecord:
    """As a trace would have it, of a run nobody recorded."""
    return RunRecord(Run(script=script, arguments=list(arguments), directory=str(folder)), [])


def one(pool: LocalPool, run: RunRecord, arm: Arm = WHOLE, seconds: float = 60.0, **options: object) -> ArmResult:
    [(_, result)] = run_arms(run, [arm], pool, time.monotonic() + seconds, **options)  # type: ignore[arg-type]
    return result


def state(folder: Path) -> dict[str, tuple[str, int]]:
    """Every entry with its content and time."""
    entries = {}
    for path in sorted(folder.rglob("*")):
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        entries[str(path.relative_to(folder))] = (content, path.lstat().st_mtime_ns)
    return entries


def recorded(script: Path, place: Path, *words: str) -> RunRecord:
    """Run under `unstuck run`, in a process of its own."""
    command = [sys.executable, "-m", "unstuck", "run", "-q", "--trace", str(place / "trace"), *words]
    done = subprocess.run(
        command, cwd=script, capture_output=True, text=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return read_run(place / "trace")


# ---------------------------------------------------------------------- the same numbers


@pytest.mark.slow
@pytest.mark.parametrize(
    "script", ["demo/train.py --epochs 2", "W101_softmax_twice/sick_functional.py", "traps/dataset_workers.py"]
)
def test_the_control_arm_of_seed_0_repeats_the_recorded_run_to_the_bit(pool: LocalPool, tmp_path: Path, script: str) -> None:
    name, *words = script.split()
    folder = (GALLERY / name).parent
    run = recorded(folder, tmp_path, (GALLERY / name).name, *words)
    series = run.traces[0].series
    before = state(folder)
    arms = [Arm(None, 0, 30), Arm(None, 1, 30), Arm(Intervention("placebo"), 0, 30), Arm(None, 1, 30)]
    results = list(run_arms(run, arms[:3], pool, time.monotonic() + 90))
    assert all(r.ok for _, r in results), results
    control, other, placebo = (next(r for a, r in results if a == arm) for arm in arms[:3])
    assert control.steps == len(control.losses) == 30
    assert np.array_equal(control.losses, series["loss"][:30])
    assert np.array_equal(control.accuracies, series["accuracy"][:30], equal_nan=True)
    assert np.array_equal(placebo.losses, control.losses)
    assert placebo.applied and not control.applied
    assert not np.array_equal(other.losses, control.losses)
    assert one(pool, run, arms[3]).losses == other.losses  # a seed is a seed
    assert control.chance == pytest.approx(float(np.mean(series["chance"][:30])), rel=0.05)
    assert control.final_skill == pytest.approx(1 - control.final_loss / control.chance, abs=0.05)
    assert control.seeded
    assert state(folder) == before


def test_an_unseeded_script_is_seeded_and_says_so(pool: LocalPool, tmp_path: Path) -> None:
    write(tmp_path / "train.py", "import random, numpy as np\n" + trains(seed=None) +
          "    torch.manual_seed(int(np.random.default_rng().integers(99)) + random.randrange(99) + np.random.randint(99))\n")
    write(tmp_path / "own.py", trains(seed=None))
    run = record(tmp_path, "own.py")
    first, second = one(pool, run), one(pool, run)
    assert not first.seeded and first.losses == second.losses
    other = one(pool, run, Arm(None, 3, 0))
    assert other.losses != first.losses
    again = [one(pool, record(tmp_path)) for _ in range(2)]
    assert again[0].losses == again[1].losses


def test_every_kind_of_seed_moves_with_the_arm_and_none_with_seed_0(pool: LocalPool, tmp_path: Path) -> None:
    write(tmp_path / "train.py", """
import random, numpy as np, torch
from torch import Generator
from numpy.random import default_rng
random.seed(1); np.random.seed(2); torch.manual_seed(3)
g = Generator().manual_seed(4)
rng = default_rng(5)
assert isinstance(g, torch.Generator) and isinstance(torch.default_generator, torch.Generator)
numbers = [random.random(), np.random.rand(), torch.rand(()).item(), torch.rand((), generator=g).item(), rng.random()]
torch.utils.data.random_split(range(10), [5, 5], generator=g); torch.randperm(4, generator=g)
list(torch.utils.data.DataLoader(range(4), shuffle=True))
w = torch.zeros(1, 2, requires_grad=True)
opt = torch.optim.SGD([w], lr=0.0)
for n in numbers:
    loss = torch.nn.functional.cross_entropy(w + torch.tensor([[n, 0.0]]), torch.tensor([0]))
    opt.zero_grad(); loss.backward(); opt.step()
""")  # fmt: skip
    plain = recorded(tmp_path, tmp_path / "out", "train.py").traces[0].series["loss"]
    assert np.array_equal(one(pool, record(tmp_path)).losses, plain)
    moved = one(pool, record(tmp_path), Arm(None, 1, 0)).losses
    assert not np.any(np.array(moved) == plain)


def test_an_intervention_changes_the_losses_and_counts(pool: LocalPool, tmp_path: Path) -> None:
    write(tmp_path / "train.py", trains())
    run = record(tmp_path)
    control, faster = one(pool, run), one(pool, run, Arm(Intervention("scale-learning-rate", {"factor": 9.0}), 0, 0))
    assert faster.ok and faster.applied == 12
    assert faster.losses[0] == control.losses[0] and faster.losses[2:] != control.losses[2:]
    nothing = one(pool, run, Arm(Intervention("remove-activation", {"activation": "softmax", "file": "train.py", "line": 4}), 0, 0))
    assert not nothing.ok and nothing.reason
    unknown = one(pool, run, Arm(Intervention("no-such-kind"), 0, 0))
    assert not unknown.ok and "no-such-kind" in unknown.reason


def test_the_file_of_an_intervention_is_found_in_the_copy(pool: LocalPool, tmp_path: Path) -> None:
    softmax = "cross_entropy(\n    torch.softmax(model(torch.randn(8, 4)), 1)"
    write(tmp_path / "p/train.py", trains().replace("cross_entropy(model(torch.randn(8, 4))", softmax))
    run = record(tmp_path / "p")
    results = [
        one(pool, run, Arm(Intervention("remove-activation", {"activation": "softmax", "file": file, "line": 8.0}), 0, 0))
        for file in ("train.py", str(tmp_path / "p/train.py"))
    ]
    assert results[0].ok and results[0].applied, results[0].reason
    assert results[0].losses == results[1].losses


# ---------------------------------------------------------------------- the user's folder

WRITING = f"""
import json, logging, os, pathlib, shutil, sqlite3, sys, tempfile
import numpy as np
import torch
{trains()}
here = pathlib.Path(__file__).resolve().parent
torch.save(model.state_dict(), "model.pt")            # overwrites the user's own
torch.save(model.state_dict(), here / "checkpoints" / "last.pt")
np.save("out.npy", np.zeros(3)); np.savetxt(here / "t.txt", np.zeros(3))
json.dump({{}}, open("log.json", "w")); open("log.txt", "a").write("more")
db = sqlite3.connect("runs.db"); db.execute("create table t (x)"); db.commit(); db.close()
pathlib.Path("runs/1").mkdir(parents=True); os.rename("notes.txt", "renamed.txt"); os.remove("old.txt")
shutil.rmtree("stale"); (here / "deep").mkdir()
with tempfile.NamedTemporaryFile() as f: f.write(b"x")
with tempfile.TemporaryDirectory() as d: open(d + "/x", "w")
logging.basicConfig(filename="train.log"); logging.warning("x")
hard = pathlib.Path("HARD"); (hard / "new").mkdir(); torch.save(1, hard / "new" / "x.pt"); (hard / "log.txt").write_text("y")
pathlib.Path(sys.argv[1], "by-argument").write_text("x")
os.system("echo more >> log.txt; mkdir made-by-shell")
"""


def test_a_script_that_writes_everywhere_leaves_its_folder_as_it_was(pool: LocalPool, tmp_path: Path) -> None:
    project = tmp_path / "p"
    write(project / "src/train.py", WRITING.replace("HARD", str(project)) + trains(20))
    for name in ("log.txt", "notes.txt", "old.txt", "model.pt", "stale/x", "src/checkpoints/last.pt"):
        write(project / name, "the user's")
    before = state(tmp_path)
    run = record(project, "src/train.py", str(project))
    result = one(pool, run)
    assert result.ok and result.steps == 20, result.reason  # the second training ran: nothing before it failed
    assert one(pool, run, Arm(None, 0, 5)).steps == 5
    assert state(tmp_path) == before


OUTSIDE = {
    "open": "open(OUT + '/x', 'w')",
    "torch.save": "torch.save(1, OUT + '/x.pt')",
    "np.save": "import numpy; numpy.save(OUT + '/x', [1])",
    "mkdir": "import os; os.makedirs(OUT + '/runs')",
    "sqlite": "import sqlite3; sqlite3.connect(OUT + '/x.db')",
    "put together": "import pathlib; pathlib.Path(*['/', *PARTS], 'mine.txt').write_text('x')",
    "large and linked": "open('large.bin', 'r+b').write(b'x')",
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_is_written_elsewhere_is_refused_and_named(pool: LocalPool, tmp_path: Path, name: str) -> None:
    project, out = tmp_path / "p", tmp_path / "out"
    out.mkdir()
    code = OUTSIDE[name].replace("OUT", repr(str(out))).replace("PARTS", repr(project.parts[1:]))
    write(project / "train.py", f"import torch\n{code}\n{trains()}")
    with open(project / "large.bin", "wb") as file:
        file.truncate(sandbox.LINK_FROM + 1)
    before = state(tmp_path)
    result = one(pool, record(project))
    assert not result.ok
    where = project if name in {"put together", "large and linked"} else out
    assert result.reason.startswith(f"the script writes to {where}/") and result.reason.endswith("outside its own folder")
    assert state(tmp_path) == before


def test_a_folder_that_cannot_be_copied_is_a_reason(pool: LocalPool, tmp_path: Path) -> None:
    result = one(pool, RunRecord(Run(script="x.py", directory="/"), []))
    assert not result.ok and "root folder" in result.reason
    gone = one(pool, record(tmp_path / "gone"))
    assert not gone.ok and "cannot be read" in gone.reason


# ---------------------------------------------------------------------- targets and ends


def test_arguments_modules_and_code(pool: LocalPool, tmp_path: Path) -> None:
    parser = "import argparse\np = argparse.ArgumentParser(); p.add_argument('--n', type=int)\nSTEPS = p.parse_args().n\n"
    write(tmp_path / "pkg/__init__.py", "")
    write(tmp_path / "pkg/part.py", "VALUE = 1")
    write(tmp_path / "pkg/train.py", f"from . import part\n{parser}{TRAINS.replace('SEED', '0')}")
    write(tmp_path / "train.py", f"import pkg.part\n{parser}{TRAINS.replace('SEED', '0')}")
    assert one(pool, record(tmp_path, "train.py", "--n", "7")).steps == 7
    assert one(pool, record(tmp_path, "-m pkg.train", "--n", "8")).steps == 8
    code = record(tmp_path, "-c ...")
    assert "-c" in one(pool, code).reason
    given = Target("code", f"import sys; STEPS = int(sys.argv[1])\n{TRAINS.replace('SEED', '0')}", ["9"])
    assert one(pool, code, target=given).steps == 9
    usage = one(pool, record(tmp_path, "train.py", "--wrong"))
    assert not usage.ok and "exit code 2" in usage.reason and "unrecognized arguments" in usage.reason


ENDS = {
    "key error": ("import os; os.environ['RANK_NOT_SET']", "KeyError: 'RANK_NOT_SET'"),
    "input": ("input('Overwrite? ')", "the script reads standard input (it asks 'Overwrite?')"),
    "network": ("import urllib.request; urllib.request.urlopen('http://example.org')", "the script connects to example.org"),
    "exit": ("raise SystemExit('no data')", "exit code 1: no data"),
    "os._exit": ("import os; print('bye', flush=True); os._exit(3)", "ended its own process: bye"),
    "signal": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
    "no training": ("raise SystemExit(0)", "no training was seen"),
    "syntax": ("def (:", "syntax error"),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_reason_for_an_end_before_the_training(pool: LocalPool, tmp_path: Path, name: str) -> None:
    code, reason = ENDS[name]
    write(tmp_path / "train.py", f"{code}\n{trains()}")
    result = one(pool, record(tmp_path))
    assert not result.ok and reason in result.reason


def test_an_exception_after_the_last_step_that_was_asked_for_does_not_count(pool: LocalPool, tmp_path: Path) -> None:
    write(tmp_path / "train.py", trains(10) + "\nraise ValueError('after')")
    run = record(tmp_path)
    assert one(pool, run, Arm(None, 0, 10)).ok
    early = one(pool, run, Arm(None, 0, 11))
    assert not early.ok and early.reason.endswith("ValueError: after") and early.steps == 10


def test_what_follows_the_last_step_does_not_run(pool: LocalPool, tmp_path: Path) -> None:
    write(tmp_path / "train.py", trains(10**9) + "\nimport time; time.sleep(60)")
    began = time.monotonic()
    result = one(pool, record(tmp_path), Arm(None, 0, 40))
    assert (result.ok, result.steps, result.reason) == (True, 40, "")
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_a_script_that_catches_everything_is_killed_and_its_steps_count(pool: LocalPool, tmp_path: Path, pause: float) -> None:
    text = trains(10**9).replace("; opt.step()", f"\n    try: opt.step()\n    except: pass\n    import time; time.sleep({pause})")
    write(tmp_path / "train.py", text)
    result = one(pool, record(tmp_path), Arm(None, 0, 20), seconds=6.0)
    assert (result.ok, result.steps, len(result.losses)) == (True, 20, 20), result.reason
    assert result.seconds < 9.0


def test_the_time_limit_keeps_what_was_seen(pool: LocalPool, tmp_path: Path) -> None:
    write(tmp_path / "train.py", trains(10**9).replace("opt.step()", "opt.step(); __import__('time').sleep(0.02)"))
    write(tmp_path / "slow.py", "import time; time.sleep(60)")
    result = one(pool, record(tmp_path), Arm(None, 0, 10**6), seconds=3.0)
    assert result.ok and 5 < result.steps < 200
    assert result.reason == f"the time was over after {result.steps:,} of 1,000,000 steps"
    slow = one(pool, record(tmp_path, "slow.py"), seconds=1.5)
    assert not slow.ok and slow.reason.startswith("the time was over")


def test_arms_without_time_left_say_so(pool: LocalPool, tmp_path: Path) -> None:
    write(tmp_path / "train.py", trains())
    arms = [Arm(None, n, 5) for n in range(3)]
    results = list(run_arms(record(tmp_path), arms, pool, time.monotonic()))
    assert [a for a, _ in results] == arms
    assert all(not r.ok and "the time was over" in r.reason for _, r in results)


# ---------------------------------------------------------------------- small parts


def test_results_keep_nan_and_infinity() -> None:
    result = decode(encode(ArmResult(True, losses=[1.0, math.inf, math.nan], final_loss=math.nan)))
    assert result.losses[1] == math.inf and math.isnan(result.losses[2]) and math.isnan(result.final_loss)


def test_what_is_loaded_before_arms_are_forked(tmp_path: Path) -> None:
    write(tmp_path / "train.py", "import torch, os\nfrom sklearn.datasets import load_digits\nimport helper")
    write(tmp_path / "helper.py", "import numpy.linalg\nimport pandas as pd")
    write(tmp_path / "pandas.py", "")
    assert imports(Target("script", "train.py"), str(tmp_path)) == ["numpy.linalg", "sklearn.datasets", "torch"]
    assert imports(Target("script", "missing.py"), str(tmp_path / "nowhere")) == ["torch"]


def test_targets_of_a_record() -> None:
    assert target_of(record(Path("/x"), "-m pkg.train", "a")) == Target("module", "pkg.train", ["a"])
    assert target_of(record(Path("/x"), "t.py", "a")) == Target("script", "t.py", ["a"])
    assert target_of(record(Path("/x"), "-c ...")) is None


def test_the_users_folder_may_be_read_only(pool: LocalPool, tmp_path: Path) -> None:
    project = tmp_path / "p"
    write(project / "train.py", trains())
    project.chmod(0o555)
    try:
        assert one(pool, record(project)).ok
    finally:
        project.chmod(0o755)
        shutil.rmtree(project)
