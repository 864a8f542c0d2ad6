"""unstuck.watch: one line in a running process. Everything is put back, nothing of the training changes."""

from __future__ import annotations

import gc
import io
import linecache
import os
import subprocess
import sys
import types
import weakref
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import torch
from test_torch_patches import NAMES
from torch import nn
from torch.nn import functional as F

import unstuck
from unstuck import doctor as doctor_module
from unstuck.errors import TraceError, UsageError
from unstuck.observe import launch, sites
from unstuck.observe.watch import rank

X = torch.randn(256, 12, generator=torch.Generator().manual_seed(1))
Y = (X @ torch.randn(12, 4, generator=torch.Generator().manual_seed(2))).argmax(1)


def train(steps: int = 60, softmax: bool = True, lr: float = 1e-2) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 4), *([nn.Softmax(1)] if softmax else []))
    optimizer = torch.optim.Adam(model.parameters(), lr)
    for _ in range(steps):
        rows = torch.randint(0, 256, (32,))
        optimizer.zero_grad()
        F.cross_entropy(model(X[rows]), Y[rows]).backward()
        optimizer.step()
    return model


def numbers(model: nn.Module) -> list[bytes]:
    return [t.numpy().tobytes() for t in (*model.state_dict().values(), torch.get_rng_state())]


def first(diagnosis: Any) -> str | None:
    cause = diagnosis.worst.cause
    return cause.code if cause is not None else None


@pytest.fixture(autouse=True)
def nobody_watches() -> Iterator[None]:
    yield
    left = [*launch.CURRENT, *doctor_module._CURRENT]
    for other in list(doctor_module._CURRENT):
        other.stop()
    assert left == []


def test_a_block_is_diagnosed_and_everything_is_put_back(tmp_path: Path) -> None:
    before = [vars(owner)[name] for owner, name in NAMES]
    finders = list(sys.meta_path)
    with unstuck.watch(trace=tmp_path / "t", quiet=True) as doctor:
        assert [vars(owner)[name] for owner, name in NAMES] != before
        train()
        during = doctor.diagnose()
    assert [vars(owner)[name] is old for (owner, name), old in zip(NAMES, before)] == [True] * len(NAMES)
    assert torch._C._len_torch_function_stack() == 0
    assert sys.meta_path == finders
    assert (first(during), first(doctor.diagnose())) == ("W101", "W101")
    site = doctor.diagnose().worst.cause.locations[0]
    assert site.file.endswith("test_watch.py") and "nn.Softmax" in site.text
    assert first(unstuck.diagnose(tmp_path / "t")) == "W101"
    assert first(unstuck.diagnose(unstuck.read_run(tmp_path / "t"))) == "W101"


def test_to_the_bit_the_training_that_nobody_watches(tmp_path: Path) -> None:
    plain = numbers(train())
    with unstuck.watch(trace=tmp_path / "t", quiet=True) as doctor:
        seen = numbers(train(30)), doctor.diagnose(), numbers(train())
    assert doctor.diagnose().run.own_errors == []
    assert seen[2] == plain and seen[0] != plain


@pytest.mark.slow
def test_asking_in_the_middle_changes_no_number_and_draws_none(tmp_path: Path) -> None:
    """The rules load half of scipy: not one random number may be gone afterwards."""
    script = """
import random, sys, warnings
import numpy as np, torch, unstuck
torch.manual_seed(0); np.random.seed(0); random.seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
doctor = unstuck.watch(quiet=True) if len(sys.argv) > 1 else None
for step in range(60):
    x, y = torch.randn(8, 4), torch.randint(0, 3, (8,))
    optimizer.zero_grad(); torch.nn.functional.cross_entropy(model(x), y).backward(); optimizer.step()
    if step == 30 and doctor is not None: doctor.diagnose()
if doctor is not None: doctor.stop()
print(np.random.rand(), random.random(), torch.rand(1).item(), len(warnings.filters))
print([p.sum().item() for p in model.parameters()])
"""
    (tmp_path / "script.py").write_text(script)
    out = [
        subprocess.run([sys.executable, "script.py", *words], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        for words in ([], ["watch"])
    ]
    assert out[0] == out[1] != ""


def test_a_plain_call_and_stop(tmp_path: Path) -> None:
    doctor = unstuck.watch(trace=tmp_path / "t")
    model = train()
    assert doctor.watching and "watching" in repr(doctor)
    doctor.stop()
    doctor.stop()
    assert not doctor.watching and doctor.trace == tmp_path / "t"
    assert "W101 softmax-twice" in str(doctor)
    model(X).sum().backward()  # what was watched goes on as if nothing had been
    assert doctor.diagnose() is doctor.diagnose()


def test_a_healthy_training_has_no_cause(tmp_path: Path) -> None:
    with unstuck.watch(trace=tmp_path / "t", quiet=True) as doctor:
        train(150, softmax=False)
    assert first(doctor.diagnose()) is None
    assert doctor.diagnose().worst.symptom.name == "learning"


def test_what_was_made_before_is_known_if_it_is_named(tmp_path: Path) -> None:
    """An optimizer that never steps shows itself to nobody."""
    model = nn.Linear(12, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with unstuck.watch(model, optimizer, trace=tmp_path / "t", quiet=True) as doctor:
        for _ in range(40):
            optimizer.zero_grad()
            F.cross_entropy(model(X[:32]), Y[:32]).backward()
    assert first(doctor.diagnose()) == "U404"


def test_the_report_is_printed_once(tmp_path: Path) -> None:
    err = io.StringIO()
    with redirect_stderr(err), unstuck.watch(trace=tmp_path / "a"):
        train(40)
    assert err.getvalue().count("W101 softmax-twice") == 1
    err = io.StringIO()
    with redirect_stderr(err), unstuck.watch(trace=tmp_path / "b", quiet=True):
        train(5)
    assert err.getvalue() == ""


@pytest.mark.slow
def test_a_script_that_only_calls_watch_gets_its_report_at_the_end(tmp_path: Path) -> None:
    script = """
import unstuck; doctor = unstuck.watch()
import torch  # after the watch began
model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Softmax(1)); optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(40):
    x = torch.randn(8, 4); optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(x), x[:, :3].argmax(1)).backward(); optimizer.step()
print("out"); {end}
"""
    for end, code, reports in (("pass", 0, 1), ("raise SystemExit(3)", 3, 1), ("print(doctor)", 0, 0), ("1 / 0", 1, 1)):
        (tmp_path / "script.py").write_text(script.replace("{end}", end))
        done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert done.stderr.count("── unstuck ──") == reports, done.stderr
        assert (done.stdout == "out\n") == (end != "print(doctor)")
        assert "W101" in done.stderr + done.stdout


@pytest.mark.slow
def test_under_unstuck_run_nothing_is_watched_twice(tmp_path: Path) -> None:
    """The trace is that of the run; the doctor can be asked all the same."""
    script = """
import torch, unstuck
model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Softmax(1)); optimizer = torch.optim.SGD(model.parameters(), 0.1)
with unstuck.watch() as doctor:
    assert doctor.shared
    for step in range(40):
        x = torch.randn(8, 4); optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), x[:, :3].argmax(1)).backward(); optimizer.step()
print(doctor.diagnose().worst.cause.code)
"""
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "-m", "unstuck", "run", "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "W101\n"
    assert done.stderr.count("── unstuck ──") == 1
    assert len(list((tmp_path / ".unstuck").iterdir())) == 1
    assert len(unstuck.read_run(next((tmp_path / ".unstuck").iterdir())).traces[0].series) == 40


def test_a_second_watch_ends_the_first(tmp_path: Path) -> None:
    """A cell that is run again begins anew; the old doctor keeps what it saw."""
    one = unstuck.watch(trace=tmp_path / "a", quiet=True)
    train(30)
    two = unstuck.watch(trace=tmp_path / "b", quiet=True)
    assert not one.watching
    train(70, softmax=False)
    two.stop()
    assert (first(one.diagnose()), first(two.diagnose())) == ("W101", None)
    assert [one.diagnose().worst.steps, two.diagnose().worst.steps] == [30, 70]


def test_an_exception_passes_through_and_is_in_the_report(tmp_path: Path) -> None:
    before = [vars(owner)[name] for owner, name in NAMES]
    doctor = unstuck.watch(trace=tmp_path / "t", quiet=True)
    with pytest.raises(RuntimeError, match="shapes cannot"), doctor:
        train(20)
        nn.Linear(3, 2)(X)
    assert [vars(owner)[name] for owner, name in NAMES] == before
    assert doctor.diagnose().run.exit == "RuntimeError"


def test_a_service_that_watches_often_keeps_nothing_of_what_is_over(tmp_path: Path) -> None:
    seen = []
    for i in range(3):
        with unstuck.watch(trace=tmp_path / str(i), quiet=True):
            seen.append(weakref.ref(launch.CURRENT[-1].observers[0]))
            seen.append(weakref.ref(train(5)))
    gc.collect()
    assert [ref() for ref in seen] == [None] * 6


def test_a_forked_child_neither_writes_nor_speaks(tmp_path: Path) -> None:
    with unstuck.watch(trace=tmp_path / "t", quiet=True) as doctor:
        train(10)
        child = os.fork()
        if not child:
            code = 1
            try:
                train(10)
                doctor.stop()
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        train(10)
    traces = unstuck.read_run(tmp_path / "t").traces
    assert [sum(t.facts.loop.steps for t in traces), sum(len(t.series) for t in traces)] == [20, 20]
    assert doctor.diagnose().run.finished


def test_nowhere_to_write_costs_the_trace_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".unstuck").write_text("in the way")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with unstuck.watch(quiet=True) as doctor:  # the system's temporary folder takes it
        train(40)
    assert doctor.trace is not None and doctor.trace.name.startswith("unstuck-")
    assert first(doctor.diagnose()) == "W101"
    assert any("no trace could be written" in note for note in doctor.diagnose().run.notes)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with unstuck.watch(quiet=True) as doctor:
        model = train(40)
    assert doctor.trace is None and numbers(model) == numbers(train(40))
    assert str(doctor).startswith("unstuck: nothing was recorded")
    assert "nothing was recorded" in doctor._repr_html_()
    with pytest.raises(TraceError):
        doctor.diagnose()


def test_a_folder_that_is_no_trace_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(UsageError, match="not a trace directory"):
        unstuck.watch(trace=tmp_path)
    with pytest.raises(UsageError):
        unstuck.watch(trace=tmp_path / "thesis.tex")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["thesis.tex"]


def test_closed_standard_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (closed, None):
        with monkeypatch.context() as patch, unstuck.watch(trace=tmp_path / "t"):
            patch.setattr(sys, "stderr", stream)
            train(10)


# ---------------------------------------------------------------------- notebooks


def test_what_a_notebook_shows(tmp_path: Path) -> None:
    with unstuck.watch(trace=tmp_path / "t", quiet=True) as doctor:
        train(40)
    diagnosis = doctor.diagnose()
    bundle = diagnosis._repr_mimebundle_()
    assert bundle["text/plain"] == str(diagnosis) == str(doctor)
    assert bundle["text/html"] == diagnosis._repr_html_() == doctor._repr_html_()
    assert "<b>W101</b> softmax-twice" in bundle["text/html"] and "test_watch.py" in bundle["text/html"]
    assert len(bundle["text/html"]) < 20_000
    diagnosis.save(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html")
    assert diagnosis.html().count("<script") >= 1
    with pytest.raises(UsageError):
        diagnosis.save(tmp_path / "report.docx")


def test_nothing_of_the_training_is_markup(tmp_path: Path) -> None:
    from unstuck.findings import Finding, Symptom, Training
    from unstuck.trace.facts import Run, Site

    evil = "<img src=x onerror=alert(1)>\x1b[31m"
    finding = Finding("W101", evil, "certain", evil, locations=[Site(evil, 1, evil)])
    shown = unstuck.Diagnosis(Run(), [Training(Symptom("plateau", reason=evil), [finding])])._repr_html_()
    assert "<img" not in shown and "\x1b" not in shown and "&lt;img" in shown


def test_lines_of_a_notebooks_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ipykernel compiles a cell as /tmp/ipykernel_<pid>/<hash of the code>.py; IPython alone knows its number."""
    file = "/tmp/ipykernel_4242/1234567890.py"
    source = (
        "model = nn.Sequential(nn.Linear(12, 4),\n"
        "                      nn.Softmax(dim=1))\n"
        "optimizer = torch.optim.SGD(model.parameters(), 0.01)\n"
        "for _ in range(40):\n"
        "    optimizer.zero_grad()\n"
        "    loss = F.cross_entropy(model(X), Y)\n"
        "    loss.backward()\n"
        "    optimizer.step()\n"
    )
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    numbers_of = {file: 7}
    compiler = types.SimpleNamespace(
        format_code_name=lambda name: ("Cell", f"In[{numbers_of[name]}]") if name in numbers_of else ("File", name)
    )
    shell = types.SimpleNamespace(compile=compiler)
    try:
        for ipython, name in ((None, file), (types.SimpleNamespace(get_ipython=lambda: shell), "In[7]")):
            with monkeypatch.context() as patch:
                if ipython is not None:
                    patch.setitem(sys.modules, "IPython", ipython)
                with unstuck.watch(trace=tmp_path / name.replace("/", "_"), quiet=True) as doctor:
                    exec(compile(source, file, "exec"), {"torch": torch, "nn": nn, "F": F, "X": X, "Y": Y})
                finding = doctor.diagnose().worst.cause
                assert finding is not None and finding.code == "W101"
                assert [(s.file, s.line, s.text) for s in finding.locations[:1]] == [(name, 2, "nn.Softmax(dim=1))")]
                numbers_of[file] += ipython is not None  # the same code in another cell
                assert sites.shown(file) == (file if ipython is None else "In[8]")
                assert sites.shown(__file__).endswith("test_watch.py")
    finally:
        del linecache.cache[file]


@pytest.mark.parametrize(
    ("names", "number"),
    [({}, 0), ({"RANK": "3"}, 3), ({"LOCAL_RANK": "1"}, 1), ({"RANK": "2", "LOCAL_RANK": "0"}, 2), ({"RANK": "x"}, 0),
     ({"SLURM_PROCID": "1"}, 0), ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, 1)],
)  # fmt: skip
def test_which_process_speaks(names: dict[str, str], number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    assert rank() == number


def test_another_rank_writes_its_own_trace_and_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    err = io.StringIO()
    with redirect_stderr(err), unstuck.watch(trace=tmp_path / "t") as doctor:
        train(30)
    assert err.getvalue() == "" and doctor.trace == tmp_path / "t" / "rank-1"
    assert first(unstuck.diagnose(tmp_path / "t" / "rank-1")) == "W101"


def test_importing_the_package_stays_light() -> None:
    code = (
        "import time, sys; t = time.process_time(); import unstuck; t = time.process_time() - t; dir(unstuck); "
        "print(t < 0.1, sorted({'torch', 'numpy', 'msgspec', 'keras'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True []\n"
    assert {"watch", "diagnose", "LightningCallback", "TrainerCallback", "testing", "keras"} <= set(dir(unstuck))
    with pytest.raises(AttributeError, match="no attribute 'wach'"):
        unstuck.wach  # noqa: B018
