"""unstuck run --live: what stands on the screen, what it costs, and that the script is as it is without it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unstuck.cli import live
from unstuck.cli.live import Course, Line, LiveWriter, judged, status
from unstuck.symptom import symptom_of
from unstuck.trace import synthetic
from unstuck.trace.channels import SERIES_NAMES
from unstuck.trace.facts import Facts, Loop
from unstuck.trace.storage import read_run
from unstuck.trace.trace import Trace
from unstuck.trace.writer import Writer

NAN = float("nan")
LINE = re.compile(r"(unstuck: )?step \d")
Make = Callable[..., "Terminal"]


class Screen:
    """A terminal of the kind of VT100, as far as the line and a script use it: text, CR, LF, margins, save and restore."""

    def __init__(self, lines: int, columns: int) -> None:
        self.lines, self.columns = lines, columns
        self.rows = [""] * lines
        self.scrolled: list[str] = []  # what left at the top
        self.y = self.x = 0
        self.saved = (0, 0)
        self.bottom = lines - 1

    def feed(self, text: str) -> None:
        for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[78D]|\r|\n|[^\x1b\r\n]+", text):
            self._take(part)

    def _take(self, part: str) -> None:
        found = re.fullmatch(r"\x1b\[([0-9;]*)([A-Za-z])", part)
        numbers = [int(n or 1) for n in found[1].split(";")] if found and found[1] else []
        match found[2] if found else part:
            case "\r":
                self.x = 0
            case "\n" | "\x1bD":
                self._down()
            case "\x1b7":
                self.saved = (self.y, self.x)
            case "\x1b8":
                self.y, self.x = self.saved
            case "A":
                self.y = max(self.y - 1, 0)
            case "H":
                self.y, self.x = min(numbers[0], self.lines) - 1, numbers[1] - 1
            case "K":
                self.rows[self.y] = self.rows[self.y][: self.x]
            case "r":
                self.bottom = numbers[1] - 1 if numbers else self.lines - 1
                self.y = self.x = 0
            case "m":
                pass
            case _:
                assert found is None, f"not known: {part!r}"
                assert self.x + len(part) <= self.columns, f"would wrap: {part!r}"
                row = self.rows[self.y].ljust(self.x)
                self.rows[self.y] = row[: self.x] + part + row[self.x + len(part) :]
                self.x += len(part)

    def _down(self) -> None:
        if self.y == self.bottom:
            self.scrolled.append(self.rows[0])
            self.rows[: self.bottom + 1] = [*self.rows[1 : self.bottom + 1], ""]
        elif self.y < self.lines - 1:
            self.y += 1

    @property
    def text(self) -> list[str]:
        """All rows from the first on, without the empty ones at the end."""
        rows = [*self.scrolled, *self.rows]
        while rows and not rows[-1]:
            rows.pop()
        return [row.rstrip() for row in rows]


class Terminal:
    """What a screen is given, and the screen. A file stands for the device: what is written there is there at once."""

    def __init__(self, folder: Path, lines: int = 24, columns: int = 80) -> None:
        self.near = os.open(folder / "terminal", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self.size = os.terminal_size((columns, lines))
        self.screen = Screen(lines, columns)

    def read(self) -> str:
        """What was written since the last time."""
        data = os.pread(self.near, 1 << 24, 0)
        os.ftruncate(self.near, 0)
        os.lseek(self.near, 0, os.SEEK_SET)
        return data.decode()

    def show(self) -> list[str]:
        self.screen.feed(self.read())
        return self.screen.text

    def says(self, text: str) -> None:
        """The script prints."""
        os.write(self.near, text.replace("\n", "\r\n").encode())


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def terminals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Terminal]:
    """Makes terminals that this process takes for such."""
    made: dict[int, Terminal] = {}
    is_one = os.isatty

    def make(lines: int = 24, columns: int = 80) -> Terminal:
        terminal = Terminal(tmp_path, lines, columns)
        made[terminal.near] = terminal
        return terminal

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(os, "isatty", lambda descriptor: descriptor in made or is_one(descriptor))
    monkeypatch.setattr(os, "get_terminal_size", lambda descriptor: made[descriptor].size)
    return make


def values(loss: float = 1.6, chance: float = 1.6094) -> tuple[float, ...]:
    given = {"loss": loss, "chance": chance, "base": chance, "lr": 0.1, "backwards": 1.0}
    return tuple(given.get(name, NAN) for name in SERIES_NAMES)


def steps(line: Line, clock: Clock, first: int, last: int, every: float = 0.1, training: int = 0) -> None:
    for step in range(first, last + 1):
        clock.now += every
        line.row(training, step, values())


# ------------------------------------------------------------------------------------------------------ on the screen


@pytest.mark.parametrize("printed", [0, 1, 9, 10, 11, 12, 40])
def test_the_scripts_output_is_untouched_and_the_line_is_gone_at_the_end(terminals: Make, clock: Clock, printed: int) -> None:
    """Wherever the cursor stands when the line comes: at the top, in the last row, above it."""
    terminal = terminals(12, 80)
    said = [f"before {i}" for i in range(printed)]
    terminal.says("".join(f"{row}\n" for row in said))
    line = Line(terminal.near, clock)
    for epoch in range(30):
        steps(line, clock, epoch * 10 + 1, epoch * 10 + 10)
        assert LINE.match(terminal.show()[-1]) and LINE.match(terminal.screen.rows[-1])
        terminal.says(f"epoch {epoch} ")  # a line in two pieces, with a redraw between them
        steps(line, clock, epoch * 10 + 10, epoch * 10 + 13)
        terminal.says("done\n")
        said.append(f"epoch {epoch} done")
        assert terminal.show()[:-1] == said + [""] * (len(terminal.screen.text) - 1 - len(said))
    line.close()
    assert terminal.show() == said
    terminal.says("after\n")
    assert terminal.show() == [*said, "after"]
    assert terminal.screen.bottom == 11  # the whole screen scrolls again


def test_nothing_is_written_before_the_first_step_nor_after_the_end(terminals: Make, clock: Clock) -> None:
    terminal = terminals()
    line = Line(terminal.near, clock)
    line.close()
    assert terminal.read() == ""
    line = Line(terminal.near, clock)
    steps(line, clock, 1, 20)
    line.close()
    terminal.read()
    steps(line, clock, 21, 40)
    line.close()
    assert terminal.read() == ""


def test_at_most_four_drawings_a_second(terminals: Make, clock: Clock) -> None:
    terminal = terminals()
    line = Line(terminal.near, clock)
    steps(line, clock, 1, 10_000, every=1e-3)  # ten seconds
    assert 30 <= terminal.read().count("step ") <= 40


def test_the_screen_may_change_its_size(terminals: Make, clock: Clock) -> None:
    terminal = terminals(12, 80)
    line = Line(terminal.near, clock)
    steps(line, clock, 1, 10)
    terminal.show()
    terminal.size = os.terminal_size((60, 20))
    terminal.screen.lines, terminal.screen.columns = 20, 60
    terminal.screen.rows += [""] * 8
    steps(line, clock, 11, 20)
    terminal.show()
    assert LINE.match(terminal.screen.rows[19]) and terminal.screen.rows[11] == ""
    assert terminal.screen.bottom == 18
    line.close()
    assert terminal.show() == []


def test_a_screen_of_two_lines_has_no_row_to_spare(terminals: Make, clock: Clock) -> None:
    terminal = terminals(2, 80)
    line = Line(terminal.near, clock)
    steps(line, clock, 1, 20)
    line.close()
    assert terminal.read() == ""


@pytest.mark.parametrize("term", ["dumb", "", "unknown"])
def test_where_nothing_can_be_redrawn_there_is_a_line_every_thirty_seconds(
    terminals: Make, clock: Clock, term: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    line = Line(file, clock)
    steps(line, clock, 1, 610, every=0.2)  # 122 s
    line.close()
    rows = (tmp_path / "log").read_text().splitlines()
    assert len(rows) == 4
    assert rows[0].startswith("unstuck: step 150  loss 1.6  chance 1.609  skill 0.009  5 steps/s")
    assert not any("\x1b" in row for row in rows)
    monkeypatch.setenv("TERM", term)
    terminal = terminals()
    line = Line(terminal.near, clock)
    steps(line, clock, 1, 100)
    assert terminal.read() == ""


def test_without_standard_error_there_is_no_line(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    line = Line(clock=clock)
    steps(line, clock, 1, 100)
    line.close()
    assert line.off


def test_a_terminal_that_goes_away_costs_the_line_only(terminals: Make, clock: Clock) -> None:
    terminal = terminals()
    line = Line(terminal.near, clock)
    steps(line, clock, 1, 10)
    os.close(terminal.near)
    steps(line, clock, 11, 20)
    assert line.off
    line.close()


def test_a_fork_of_the_process_draws_nothing(terminals: Make, clock: Clock) -> None:
    terminal = terminals()
    line = Line(terminal.near, clock)
    steps(line, clock, 1, 10)
    terminal.read()
    child = os.fork()
    if child == 0:
        try:
            steps(line, clock, 11, 100)
            line.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert terminal.read() == ""
    line.close()
    assert terminal.read() != ""


# ---------------------------------------------------------------------------------------------------- what it says


def course(losses: list[float], chances: list[float], step: int | None = None) -> Course:
    one = Course(Facts(), 100.0)
    for i, (loss, chance) in enumerate(zip(losses, chances), 1):
        one.add(i, values(loss, chance))
    one.step = step if step is not None else one.step
    return one


def test_the_numbers_are_means_of_the_newest_steps() -> None:
    rng = np.random.default_rng(0)
    loss, chance = rng.normal(1.5, 0.1, 200), rng.normal(1.6, 0.1, 200)
    shown = course(list(loss), list(chance)).recent()
    assert shown == pytest.approx((loss[-50:].mean(), chance[-50:].mean(), (chance - loss)[-50:].mean()))


def test_where_few_steps_are_looked_at_the_chance_level_is_that_of_the_ones_that_were() -> None:
    chances = [1.5 if i % 32 == 0 else NAN for i in range(320)]
    shown = course([1.25] * 320, chances).recent()
    assert shown == pytest.approx((1.25, 1.5, 0.25))


def test_what_is_not_measured_is_not_shown() -> None:
    assert status(course([NAN] * 3, [NAN] * 3), 101.0) == "unstuck: step 3  3 steps/s  watching"
    assert status(course([0.5] * 3, [NAN] * 3), 101.0) == "unstuck: step 3  loss 0.5  3 steps/s  watching"
    assert "loss inf  chance 1.609  skill -inf" in status(course([1.0, float("inf")], [1.609] * 2), 101.0)
    assert status(course([], []), 100.0) == "unstuck: step 0  watching"


def test_it_fits() -> None:
    one = course([1.60944] * 60, [1.60944] * 60, step=12_345_678)
    one.state = "verdict due at step 13,000,000"
    whole = status(one, 105.0, "training 2")
    assert whole == (
        "unstuck: training 2, step 12,345,678  loss 1.609  chance 1.609  skill 0.000  12 steps/s  verdict due at step 13,000,000"
    )
    texts = [status(one, 105.0, "training 2", width) for width in range(len(whole) + 1)]
    assert all(len(text) <= width for width, text in enumerate(texts))
    assert texts[-1] == whole
    # What is left out last: which step it is, the loss, and the state.
    assert all("12,345,678" in text and "loss 1.609" in text and text.endswith(one.state) for text in texts[71:])


def test_the_rate_is_that_of_the_last_seconds() -> None:
    one = Course(Facts(), 0.0)
    now = 0.0
    for step in range(1, 1001):  # ten seconds of 100 steps, then ten of 10
        now = step * 0.01
        one.add(step, values())
        if step % 25 == 0:
            rate = one.rate(now)
    assert rate == pytest.approx(100, rel=0.05)
    for step in range(1001, 1101):
        now += 0.1
        one.add(step, values())
        if step % 3 == 0:
            rate = one.rate(now)
    assert rate == pytest.approx(10, rel=0.05)


def written(trace: Trace, folder: Path, number: int = 3) -> LiveWriter:
    writer = LiveWriter(folder, Line(-1))
    other = synthetic.training(state="learning", steps=len(trace.series))
    for i, step in enumerate(trace.series.steps):  # beside another training's rows
        for training, one in ((number, trace), (number + 1, other)):
            writer.row(training, int(step), tuple(float(one.series[n][i]) for n in SERIES_NAMES))
    return writer


@pytest.mark.parametrize("state", ["learning", "at-chance", "at-prior", "plateau", "above-chance", "non-finite", "constant"])
def test_the_state_is_that_of_the_report(state: str, tmp_path: Path, clock: Clock) -> None:
    trace = synthetic.training(state=state, steps=600)
    trace.facts.id = 3
    writer = written(trace, tmp_path)
    one = Course(trace.facts, 0.0)
    one.step = 600
    said, _ = judged(one, writer.written, clock)
    symptom = symptom_of(trace)
    assert said == symptom.name.replace("-", " ") or symptom.name == "too-early"


def test_a_verdict_that_is_due_is_announced(tmp_path: Path, clock: Clock) -> None:
    trace = synthetic.training(state="at-chance", steps=40)
    trace.facts.id = 3
    due = symptom_of(trace).due_step
    assert due is not None and due > 40
    writer = written(trace, tmp_path)
    one = Course(trace.facts, 0.0)
    one.step = 40
    assert judged(one, writer.written, clock)[0] == f"verdict due at step {due:,}"
    one.step = due  # the evidence came more slowly than it promised to
    assert judged(one, writer.written, clock)[0] == "too early"
    one.facts = Facts(id=3, loop=Loop(unjudged="two optimizers share a loss"))
    assert judged(one, writer.written, clock)[0] == "not judged"


def test_the_facts_that_the_trace_is_given_are_the_ones_that_are_judged(terminals: Make, tmp_path: Path, clock: Clock) -> None:
    terminal = terminals()
    line = Line(terminal.near, clock)
    writer = LiveWriter(tmp_path, line)
    writer.facts(Facts(id=7, loop=Loop(unjudged="two optimizers share a loss")))
    for step in range(1, 40):
        clock.now += 0.1
        writer.row(7, step, values())
    assert "not judged" in terminal.read()
    writer.facts(Facts(id=7))
    for step in range(40, 80):
        clock.now += 0.1
        writer.row(7, step, values())
    assert "not judged" not in terminal.read().rsplit("\x1b7", 1)[-1]
    writer.row(8, 1, values())
    clock.now += 1.0
    writer.row(8, 2, values())
    assert "training 9, step 2" in terminal.read()


def test_the_trace_is_the_one_of_the_plain_writer(terminals: Make, tmp_path: Path, clock: Clock) -> None:
    terminal = terminals()
    rows = [(0, step, values(1.6 - step / 1e4)) for step in range(1, 400)]
    for name, writer in (("a", Writer(tmp_path / "a")), ("b", LiveWriter(tmp_path / "b", Line(terminal.near, clock)))):
        for row in rows:
            clock.now += 0.1
            writer.row(*row)
        writer.facts(Facts())
        writer.close()
        assert len(read_run(tmp_path / name).traces[0].series) == 399
    for file in ("series.bin", "facts.jsonl", "run.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_looking_takes_a_four_hundredth_of_the_time(terminals: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    def slow(one: Course, rows: Callable[[], bytes], tick: Clock) -> tuple[str, float]:
        looks.append(tick.now)
        return "learning", 0.1

    monkeypatch.setattr(live, "judged", slow)
    terminal = terminals()
    line = Line(terminal.near, clock)
    for _ in range(10):
        steps(line, clock, 1, 1000)  # 1,000 s in all
        terminal.read()
    assert len(looks) == pytest.approx(1000 / 40, abs=2)


def test_a_step_costs_under_a_microsecond_more(terminals: Make, tmp_path: Path) -> None:
    """Beside what writing it costs: a step of a tenth of a millisecond is then one percent dearer. Best of several tries."""
    terminal = terminals()

    def cost(writer: Writer) -> float:
        row = values()
        best = 1.0
        for start in range(0, 40_000, 2_000):
            began = time.perf_counter()
            for step in range(start, start + 2_000):
                writer.row(0, step, row)
            best = min(best, (time.perf_counter() - began) / 2_000)
            terminal.read()
        return best

    plain, shown = cost(Writer(tmp_path / "a")), cost(LiveWriter(tmp_path / "b", Line(terminal.near)))
    assert shown - plain < 1e-6


# ------------------------------------------------------------------------------------------------------ the command

SCRIPT = """
import random, sys, time, torch
torch.manual_seed(0)
random.seed(0)
model = torch.nn.Linear(4, 3)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(60):
    loss = torch.nn.functional.cross_entropy(model(torch.randn(8, 4)), torch.randint(0, 3, (8,)))
    opt.zero_grad(); loss.backward(); opt.step()
    time.sleep(0.03)
    if step % 20 == 0:
        print("step", step, end=" ", flush=True)
        print(f"{loss.item():.9f}", random.random(), flush=True)
for w in model.weight.flatten().tolist():
    print(w.hex())
print(random.random(), torch.rand(1).item())
print("on standard error", file=sys.stderr)
"""


def on_a_terminal(folder: Path, *words: str) -> tuple[str, int]:
    """Everything that a command prints on a terminal of 24 rows, and its exit code."""
    pid, descriptor = pty.fork()
    if pid == 0:
        try:
            os.chdir(folder)
            os.environ.update(OMP_NUM_THREADS="1", TERM="xterm")
            os.execv(sys.executable, [sys.executable, *words])
        finally:
            os._exit(127)
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    data = b""
    while True:
        try:
            piece = os.read(descriptor, 1 << 16)
        except OSError:
            break
        if not piece:
            break
        data += piece
    return data.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.slow
def test_the_script_is_as_without_it(tmp_path: Path) -> None:
    """Output, weights, random numbers and exit code; the line was there, and at the end the screen is the script's and ours."""
    (tmp_path / "train.py").write_text(SCRIPT)
    plain = subprocess.run([sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    shown, code = on_a_terminal(tmp_path, "-m", "unstuck", "run", "--live", "--trace", "t", "train.py")
    assert code == 0
    screen = Screen(24, 10_000)  # long rows: the report's own rows are not the matter here
    screen.feed(shown)
    rows = [row for row in screen.text if row]
    expected = [*plain.splitlines(), "on standard error"]
    assert rows[: len(expected)] == expected
    assert len(re.findall(r"\x1b\[24;1H(?:unstuck: )?step \d", shown)) >= 4
    assert "\x1b7\x1b[r\x1b[24;1H\x1b[K\x1b8" in shown
    assert shown.index("\x1b[r") < shown.index("── unstuck")


@pytest.mark.slow
def test_ctrl_c_and_errors_give_the_screen_back(tmp_path: Path) -> None:
    stopped = SCRIPT.replace("if step % 20 == 0:", "if step == 50: raise KeyboardInterrupt\n    if False:")
    (tmp_path / "train.py").write_text(stopped)
    shown, code = on_a_terminal(tmp_path, "-m", "unstuck", "run", "--live", "--trace", "t", "train.py")
    assert code == -2
    assert "\x1b[1;23r" in shown and "\x1b7\x1b[r\x1b[24;1H\x1b[K\x1b8" in shown


@pytest.mark.slow
def test_in_a_pipe_there_is_no_escape(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", "unstuck", "run", "--live", "-q", "--trace", "t", "train.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stderr == "on standard error\n"  # under thirty seconds there is no line
