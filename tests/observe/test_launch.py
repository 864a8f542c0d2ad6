"""`unstuck run` is python with a witness: same output, exit code, exceptions and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
TRAINS = """
import torch
torch.manual_seed(0)
model = torch.nn.Linear(4, 3)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(STEPS):
    loss = torch.nn.functional.cross_entropy(model(torch.randn(8, 4)), torch.randint(0, 3, (8,)))
    opt.zero_grad(); loss.backward(); opt.step()
print('done', step, loss.item())
"""


def run(folder: Path, *words: str, plain: bool = False, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable] if plain else [sys.executable, "-m", "unstuck", "run"]
    return subprocess.run([*command, *words], cwd=folder, capture_output=True, text=True, env=ENVIRONMENT, input=stdin, timeout=120)


def write(folder: Path, text: str, name: str = "script.py") -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return name


SCRIPTS = {
    "plain": "print('hello'); print('no newline', end='')",
    "arguments": "import sys, argparse; p = argparse.ArgumentParser(); p.add_argument('--steps'); p.add_argument('-o'); "
    "print(sys.argv, p.parse_args())",
    "exit number": "import sys; print(1); sys.exit(3)",
    "exit text": "import sys; sys.exit('goodbye')",
    "exit none": "import sys; sys.exit()",
    "raises": "def f():\n    raise ValueError('bad')\nf()",
    "chained": "try:\n    1/0\nexcept ZeroDivisionError as e:\n    raise KeyError('x') from e",
    "excepthook": "import sys\nsys.excepthook = lambda t, v, tb: print('mine', t.__name__, file=sys.stderr)\nraise OSError('x')",
    "main": "if __name__ == '__main__':\n    print(__name__, __file__ is not None, __spec__)",
    "stdin": "print(input() + '!')",
    "pickle": "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))).__module__)",
    "source": "import inspect\ndef f(): return 1\nprint(inspect.getsource(f))",
    "chdir": "import os, tempfile; os.chdir(tempfile.gettempdir()); print(os.getcwd())",
    "atexit": "import atexit; atexit.register(print, 'at exit'); print('end')",
    "thread": "import threading, time\nthreading.Thread(target=lambda: (time.sleep(.2), print('thread'))).start(); print('main')",
    "pool": "import multiprocessing as m\nif __name__ == '__main__':\n    print(m.get_context('fork').Pool(2).map(abs, [-1, -2]))",
    "spawn": "import multiprocessing as m\nif __name__ == '__main__':\n    print(m.get_context('spawn').Pool(1).map(abs, [-1]))",
    "traceback": "import traceback\ntry:\n    1/0\nexcept Exception:\n    print(traceback.format_exc())",
    "os exit": "import os; print('x', flush=True); os._exit(4)",
    "import sibling": "import sibling; print(sibling.VALUE)",
    "empty": "",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_behaves_as_under_plain_python(tmp_path: Path, name: str) -> None:
    write(tmp_path, "VALUE = 5", "sibling.py")
    script = write(tmp_path, SCRIPTS[name])
    words = [script, "--steps", "7", "-o", "x"] if name == "arguments" else [script]
    plain = run(tmp_path, *words, plain=True, stdin="text\n")
    seen = run(tmp_path, *words, stdin="text\n")
    assert seen.stdout == plain.stdout
    assert seen.returncode == plain.returncode
    # standard error begins with what python prints there, traceback included
    assert seen.stderr.startswith(plain.stderr.rstrip("\n"))
    if name != "os exit":
        assert "NO TRAINING SEEN" in seen.stderr


def test_module_and_code(tmp_path: Path) -> None:
    write(tmp_path, "VALUE = 3", "package/part.py")
    write(tmp_path, "", "package/__init__.py")
    write(tmp_path, "from . import part\nimport sys\nprint(part.VALUE, sys.argv[1:], __name__)", "package/train.py")
    for words in (("-m", "package.train", "--steps", "2", "-c"), ("-c", "import sys; print(sys.argv)", "-o", "b")):
        assert run(tmp_path, *words).stdout == run(tmp_path, *words, plain=True).stdout != ""


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["missing.py"], "no such script"),
        (["."], "directory"),
        (["syntax.py"], "syntax.py:2: syntax error"),
        ([], "nothing to run"),
        (["--steps", "-1", "ok.py"], "--steps"),
        (["-o", "report.exe", "ok.py"], "report.exe"),
        (["-o", "nowhere/report.json", "ok.py"], "nowhere"),
        (["--fail-on", "always", "ok.py"], "--fail-on"),
        (["--trace", "ok.py", "ok.py"], "--trace"),
        (["-m", "no_such_module_at_all"], ""),
    ],
)
def test_unusable_input_is_one_line_and_exit_code_2(tmp_path: Path, words: list[str], part: str) -> None:
    write(tmp_path, "print(1)", "ok.py")
    write(tmp_path, "x = 1\ndef (:\n", "syntax.py")
    done = run(tmp_path, *words)
    if not part:  # the import error is python's own
        assert done.returncode == run(tmp_path, *words, plain=True).returncode == 1
        return
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert part in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_still_report_and_kill(tmp_path: Path, number: signal.Signals) -> None:
    script = write(tmp_path, TRAINS.replace("STEPS", "10**9"))
    process = subprocess.Popen(
        [sys.executable, "-m", "unstuck", "run", "--trace", "t", script],
        cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not ((tmp_path / "t/series.bin").exists() and (tmp_path / "t/series.bin").stat().st_size):
        time.sleep(0.1)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -number
    assert "── unstuck" in err


def test_steps_ends_cleanly(tmp_path: Path) -> None:
    script = write(tmp_path, TRAINS.replace("STEPS", "10**9"))
    done = run(tmp_path, "--steps", "25", "-o", "r.json", script)
    assert done.returncode == 0
    import json

    assert json.loads((tmp_path / "r.json").read_text())["run"]["steps"] == 25


def test_fail_on_and_quiet(tmp_path: Path) -> None:
    sick = write(tmp_path, TRAINS.replace("STEPS", "40").replace("opt.zero_grad(); ", ""))
    assert run(tmp_path, sick).returncode == 0
    strict = run(tmp_path, "--quiet", "--fail-on", "certain", sick)
    assert (strict.returncode, strict.stderr) == (11, "")
    healthy = write(tmp_path, TRAINS.replace("STEPS", "40"), "healthy.py")
    assert run(tmp_path, "--fail-on", "likely", healthy).returncode == 0
    # a script that fails keeps its own exit code
    failing = write(tmp_path, TRAINS.replace("STEPS", "3").replace("opt.zero_grad(); ", "") + "raise SystemExit(5)", "failing.py")
    assert run(tmp_path, "--fail-on", "certain", failing).returncode == 5


def test_an_exception_in_training_is_reported_with_the_scripts_own_traceback(tmp_path: Path) -> None:
    script = write(tmp_path, TRAINS.replace("STEPS", "30").replace("randint(0, 3", "randint(1, 4"))
    plain, seen = run(tmp_path, script, plain=True), run(tmp_path, script)
    assert seen.returncode == plain.returncode == 1
    assert "IndexError" in seen.stderr and "D201" in seen.stderr
    assert "unstuck/observe" not in seen.stderr


def test_a_bug_of_ours_costs_the_training_nothing(tmp_path: Path) -> None:
    """Every callback of ours is made to raise in turn; the numbers stay the same and the report says what failed."""
    script = write(tmp_path, TRAINS.replace("STEPS", "20"))
    plain = run(tmp_path, script, plain=True).stdout
    ours = [
        ("torch_loop.Observer", "before_root"), ("torch_models.Models", "after_root"),
        ("torch_loop.Observer", "before_backward"), ("torch_loop.Observer", "after_backward"),
        ("torch_steps.Steps", "before"), ("torch_steps.Steps", "after"), ("torch_steps.Steps", "zeroing"),
    ]  # fmt: skip
    for owner, name in ours:
        code = (
            "import sys, unstuck.observe.launch as l\nfrom unstuck.cli import main\nimport unstuck.observe\n"
            "import importlib.abc\n"
            "original = l.AfterImport.__init__\n"
            "def init(self, name, done):\n"
            "    def both():\n"
            "        from unstuck.observe import torch_loop, torch_models, torch_steps\n"
            "        def broken(*a, **k): raise RuntimeError('broken on purpose')\n"
            f"        setattr({owner}, {name!r}, broken)\n"
            "        done()\n"
            "    original(self, name, both)\n"
            "l.AfterImport.__init__ = init\n"
            f"main(['run', {script!r}])\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=ENVIRONMENT)
        assert done.stdout == plain, name
        assert done.returncode == 0, name
        if name != "zeroing":
            assert "A part of unstuck failed" in done.stderr, name


def test_an_unwritable_trace_does_not_stop_the_training(tmp_path: Path) -> None:
    script = write(tmp_path, TRAINS.replace("STEPS", "5"))
    write(tmp_path, "", "file")
    done = run(tmp_path, "--trace", "file/below", script)
    assert done.returncode == 0
    assert "done" in done.stdout
    assert "no report" in done.stderr
