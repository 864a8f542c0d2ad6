"""Does unstuck name the right fault first, and is it silent on healthy trainings?

    python benchmarks/detection.py [PATTERN ...] [-j 2] [--json FILE]

runs every gallery script under `unstuck run` and prints which finding came first, as a confusion matrix. A sick script
(gallery/CODE_name/sick_*.py) is right when its first finding has its folder's code; healthy twins and traps are right when
no finding has the role cause. The line is right when one of the finding's first two locations is the line that carries the
mark `# <- fault`. A script with two faults (gallery/two_faults/FIRST_SECOND_style.py) is right when FIRST comes first and
SECOND is a cause or a consequence. Exit code 1 when anything is wrong.

    python benchmarks/detection.py --variations 20 [--healthy 200] [--codes W101,S501] [--seed 0] [-j 2]
                                   [--json FILE] [--table docs/detection.md] [--keep DIR] [--quick]

measures error rates on random programs (programs.py): for every code the power over N variations that the fault really
hurts, and the false alarms over all healthy programs (every distinct twin, and more up to the number asked), with exact
95 % intervals. Exit code 1 only for errors of our own and timeouts; a miss is a number, not a failure.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import contextlib
import functools
import gc
import importlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))
import programs
from programs import Program

ROOT = Path(__file__).resolve().parent.parent
GALLERY = ROOT / "gallery"
MARK = "# <- fault"


class Case(NamedTuple):
    """A gallery script and what is expected of it; `code` is '' for healthy scripts, `second` the other of two faults."""

    path: Path
    code: str
    second: str = ""

    @property
    def name(self) -> str:
        return str(self.path.relative_to(GALLERY))

    @property
    def line(self) -> int | None:
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return next((i for i, text in enumerate(lines, 1) if text.rstrip().endswith(MARK)), None)


class Result(NamedTuple):
    """What came out. `line_right` is None where the script marks no line."""

    case: Case
    first: str
    role: str
    causes: list[str]
    symptom: str
    right: bool
    line_right: bool | None
    seconds: float
    trouble: str
    lines: list[int]


def cases(patterns: list[str] | None = None) -> list[Case]:
    """All gallery scripts whose path contains one of the patterns."""
    found = []
    for path in sorted(GALLERY.rglob("*.py")):
        folder = path.parent.name
        if folder in {"traps", "demo"} or path.name.startswith("healthy_"):
            code = ""
        elif path.name.startswith("sick_"):
            code = folder.split("_", 1)[0]
        else:
            continue  # a helper module of a script
        if folder == "demo":
            continue
        if not patterns or any(p in str(path.relative_to(GALLERY)) for p in patterns):
            found.append(Case(path, code))
    return found


def two_faults(patterns: list[str] | None = None) -> list[Case]:
    """The scripts with two faults, gallery/two_faults/FIRST_SECOND_style.py; `cases` leaves them out: they have no twins."""
    found = []
    for path in sorted((GALLERY / "two_faults").glob("*.py")):
        named = re.match(r"([A-Z]\d{3})_([A-Z]\d{3})_", path.name)
        if named and (not patterns or any(p in str(path.relative_to(GALLERY)) for p in patterns)):
            found.append(Case(path, *named.groups()))
    return found


def observe(case: Case) -> Result:
    """Run one script under unstuck, in a scratch directory of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        began = time.monotonic()
        try:
            process = subprocess.run(
                [sys.executable, "-m", "unstuck", "run", "--quiet", "-o", str(report),
                 "--trace", f"{scratch}/trace", str(case.path)],
                cwd=scratch, env=environment, capture_output=True, text=True, timeout=120,
            )  # fmt: skip
            trouble = process.stderr.strip().rsplit("\n", 1)[-1] if not report.exists() else ""
        except subprocess.TimeoutExpired:
            trouble = "ran longer than two minutes"
        seconds = time.monotonic() - began
        if trouble:
            return Result(case, "-", "-", [], "-", False, None, seconds, trouble, [])
        return judge(case, json.loads(report.read_text()), seconds)


class Server:
    """A process in which torch is loaded and that runs gallery scripts in forks of itself: a second less a script."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)

    def observe(self, case: Case) -> Result:
        """What `observe` gives. The report is of the same engine; only the command line around it is left out."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{case.path}\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if answer["trouble"]:
            return Result(case, "-", "-", [], "-", False, None, answer["seconds"], answer["trouble"], [])
        return judge(case, answer["report"], answer["seconds"])


def serve() -> int:
    """Paths of scripts on standard input, one a line; a line of JSON for each."""
    warm_up()
    for line in sys.stdin:
        script = Path(line.strip())
        with tempfile.TemporaryDirectory(prefix="unstuck-gallery-") as folder:
            began = time.monotonic()
            pid = _fork(Path(folder), observed=True, script=script)
            while not (ended := os.waitpid(pid, os.WNOHANG))[0] and time.monotonic() - began < 2 * TIMEOUT:
                time.sleep(0.01)
            if not ended[0]:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            report = Path(folder) / "report.json"
            trouble = "" if report.exists() else _last_line(Path(folder)) or "no report"
            answer = {"trouble": trouble, "seconds": time.monotonic() - began,
                      "report": None if trouble else json.loads(report.read_text())}  # fmt: skip
        print(json.dumps(answer), flush=True)
    return 0


def judge(case: Case, document: dict[str, Any], seconds: float) -> Result:
    findings = document["findings"]
    first = findings[0] if findings else None
    causes = [f["code"] for t in document["trainings"] for f in t["findings"] if f["role"] == "cause"]
    lines = [place["line"] for place in (first["locations"] if first else [])[:2]]
    right = (first is not None and first["code"] == case.code) if case.code else not causes
    if case.second:
        named = {f["code"] for t in document["trainings"] for f in t["findings"] if f["role"] in {"cause", "consequence"}}
        right = right and first is not None and first["role"] == "cause" and case.second in named
    line_right = (case.line in lines) if case.code and case.line is not None and right else None
    own = "; ".join(document["run"]["own_errors"])
    return Result(
        case, first["code"] if first else "-", first["role"] if first else "-", causes, document["symptom"]["name"], right,
        line_right, seconds, own, lines,
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*")
    parser.add_argument("-j", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--variations", type=int, default=0, metavar="N", help="measure error rates, N hurt variations a code")
    parser.add_argument("--healthy", type=int, default=200, metavar="N", help="healthy programs at least")
    parser.add_argument("--codes", type=lambda text: text.split(","), help="only these, e.g. W101,S501 or none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the numbers as a markdown table")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write the source of every program that came out wrong")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="one variation a code, 20 healthy programs")
    options = parser.parse_args()
    if options.serve:
        return serve()
    if options.quick or options.variations:
        return rates(options)
    return gallery(options)


def gallery(options: argparse.Namespace) -> int:
    chosen = cases(options.patterns) + two_faults(options.patterns)
    with concurrent.futures.ThreadPoolExecutor(options.j) as pool:
        results = []
        for result in pool.map(observe, chosen):
            results.append(result)
            print(_line(result), flush=True)
    _matrix(results)
    wrong = [r for r in results if not r.right]
    lines = [r for r in results if r.line_right is not None]
    sick = [r for r in results if r.case.code]
    healthy = [r for r in results if not r.case.code]
    print(f"\nsick: {sum(r.right for r in sick)} of {len(sick)} with the right first finding")
    print(f"line: {sum(bool(r.line_right) for r in lines)} of {len(lines)} right findings name the marked line")
    print(f"healthy and traps: {sum(not r.right for r in healthy)} false causes in {len(healthy)} scripts")
    print(f"own errors: {sum(bool(r.trouble) for r in results)} scripts")
    if options.json:
        options.json.write_text(
            json.dumps([{**r._asdict(), "case": r.case.name, "expected": r.case.code} for r in results], indent=1)
        )
    return 1 if wrong else 0


def _line(r: Result) -> str:
    mark = "ok  " if r.right else "WRONG"
    place = "" if r.line_right is None else "" if r.line_right else f"  line {r.case.line} expected, {r.lines} given"
    trouble = f"  [{r.trouble}]" if r.trouble else ""
    expected = r.case.code or "none"
    return (
        f"{mark:5} {r.case.name:66} {expected:5} -> {r.first:5} {r.role:11} {r.symptom:12} {r.seconds:5.1f}s{place}{trouble}"
    )


def _matrix(results: list[Result]) -> None:
    """Rows: what is wrong with the script. Columns: the first finding (for healthy scripts: the first cause)."""
    table: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for r in results:
        said = r.first if r.case.code else (r.causes[0] if r.causes else "none")
        table[r.case.code or "healthy"][said] += 1
    print("\nConfusion matrix (expected: first finding x count)")
    for code in sorted(table):
        print(f"  {code:8} " + "  ".join(f"{said} x{n}" for said, n in table[code].most_common()))


# ---------------------------------------------------------------------------------------------- the fork server


class Outcome(NamedTuple):
    """What one program came to. `final` is its own last line, `findings` (code, role) of the worst training, best first;
    `seconds` of processor time.
    """

    final: dict[str, float]
    findings: list[tuple[str, str]]
    causes: list[str]
    symptom: str
    exit: str
    trouble: str
    seconds: float

    @property
    def lost(self) -> bool:
        """There is no report at all; an own error inside a run that was judged is trouble too, and the run still counts."""
        return bool(self.trouble) and not self.symptom

    @property
    def first(self) -> str:
        """The answer: the code of the first finding, where it is a cause."""
        return self.findings[0][0] if self.findings and self.findings[0][1] == "cause" else ""


TIMEOUT = 60.0


def warm_up() -> None:
    """Import once, in the parent, what every program needs. No autograd here: its threads do not survive a fork."""
    ours = ("engine", "observe.launch", "observe.torch_loop", "report.json", "trace.storage")
    for name in ("sklearn.datasets", "torch.utils.data", "pydoc_data.topics", *(f"unstuck.{room}" for room in ours)):
        importlib.import_module(name)
    import torch

    from unstuck.rules import rules

    torch.set_num_threads(1)
    rules()
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)  # imports torch._dynamo, which takes a second
    gc.collect()
    gc.freeze()  # children do not copy these pages


def run_programs(
    sources: Sequence[str], jobs: int = 2, observed: bool = True, said: Callable[[int, Outcome], None] | None = None
) -> list[Outcome]:
    """Each program in a forked child with a scratch directory of its own; observed and diagnosed there, or run plainly."""
    warm_up()
    outcomes: dict[int, Outcome] = {}
    waiting, running = list(range(len(sources)))[::-1], {}
    with tempfile.TemporaryDirectory(prefix="unstuck-detection-") as folder:
        while waiting or running:
            while waiting and len(running) < jobs:
                number = waiting.pop()
                scratch = Path(folder) / str(number)
                scratch.mkdir()
                (scratch / "train.py").write_text(sources[number], encoding="utf-8")
                running[_fork(scratch, observed)] = (number, scratch, time.monotonic())
            for pid, (number, scratch, began) in list(running.items()):
                late = time.monotonic() - began > TIMEOUT
                if late:
                    os.kill(pid, signal.SIGKILL)
                ended, status, used = os.wait4(pid, 0 if late else os.WNOHANG)
                if not ended:
                    continue
                del running[pid]
                trouble = f"ran longer than {TIMEOUT:.0f} s" if late else f"ended with status {status}" if status else ""
                outcomes[number] = _outcome(scratch, trouble, used.ru_utime + used.ru_stime, observed)
                shutil.rmtree(scratch, ignore_errors=True)
                if said is not None:
                    said(number, outcomes[number])
            time.sleep(0.005)
    return [outcomes[i] for i in range(len(sources))]


def _fork(scratch: Path, observed: bool, script: Path = Path("train.py")) -> int:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.chdir(scratch)
        for name, number in (("stdout", 1), ("stderr", 2)):
            file = os.open(f"{name}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(file, number)
            setattr(sys, name, open(number, "w", buffering=1, encoding="utf-8", closefd=False))  # noqa: SIM115
        _child(observed, script)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _child(observed: bool, script: Path) -> None:
    from unstuck.cli.run import suspicious
    from unstuck.engine import diagnose
    from unstuck.observe.launch import Target, observe
    from unstuck.report.json import document
    from unstuck.trace.storage import read_run

    target = Target("script", str(script), [])
    if not observed:
        with contextlib.suppress(SystemExit):
            target.execute()
        return
    folder = Path("trace").absolute()
    seen = observe(target, folder, suspicious=functools.partial(suspicious, folder))
    assert seen.directory is not None, "no trace was written"
    Path("report.json").write_text(json.dumps(document(diagnose(read_run(seen.directory)))), encoding="utf-8")


def _outcome(scratch: Path, trouble: str, seconds: float, observed: bool) -> Outcome:
    said = (scratch / "stdout.txt").read_text(encoding="utf-8", errors="replace") if (scratch / "stdout.txt").exists() else ""
    final = read_final(said)
    report = scratch / "report.json"
    if not observed:
        return Outcome(final, [], [], "", "" if not trouble else _last_line(scratch), "", seconds)
    if trouble or not report.exists():
        return Outcome(final, [], [], "", "", f"{trouble or 'no report'}: {_last_line(scratch)}", seconds)
    document = json.loads(report.read_text())
    findings = [(f["code"], f["role"]) for f in document["findings"]]
    causes = [f["code"] for t in document["trainings"] for f in t["findings"] if f["role"] == "cause"]
    own = document["run"]["own_errors"] + [
        f"{n['code']}: {n['reason']}" for t in document["trainings"] for n in t["not_checked"] if "our own error" in n["reason"]
    ]
    trouble, symptom, ended = "; ".join(dict.fromkeys(own)), document["symptom"]["name"], document["run"]["exit"]
    return Outcome(final, findings, causes, symptom, ended, trouble, seconds)


def _last_line(scratch: Path) -> str:
    text = (scratch / "stderr.txt").read_text(errors="replace") if (scratch / "stderr.txt").exists() else ""
    return text.strip().rsplit("\n", 1)[-1]


def read_final(said: str) -> dict[str, float]:
    """The numbers of the line FINAL; {} where there is none."""
    lines = [line for line in said.splitlines() if line.startswith("FINAL ")]
    return {name: float(value) for name, value in re.findall(r"(\w+)=(\S+)", lines[-1])} if lines else {}


# ---------------------------------------------------------------------------------------------- error rates

# The faults that show on rows that were not trained on, or in the other mode: there the held-out accuracy counts as well.
HELD_OUT = {"D201", "D202", "D204", "D205", "D209", "D210", "E801", "E802", "I607", "S504"}


def interval(right: int, runs: int, level: float = 0.95) -> tuple[float, float]:
    """The exact (Clopper-Pearson) interval of a share."""
    from scipy.stats import beta

    if runs == 0:
        return 0.0, 1.0
    rest = (1 - level) / 2
    low = float(beta.ppf(rest, right, runs - right + 1)) if right else 0.0
    high = float(beta.ppf(1 - rest, right + 1, runs - right)) if right < runs else 1.0
    return low, high


def learned(final: dict[str, float], share: float) -> bool:
    """Clearly above one constant answer: at least a quarter of the way from the base rate to all right."""
    return bool(final) and final["eval_accuracy"] >= enough(share) and math.isfinite(final["eval_loss"])


def enough(share: float) -> float:
    """The accuracy that counts as learned beside a constant answer's."""
    return share + 0.25 * (1 - share)


def hurt(sick: dict[str, float], twin: dict[str, float], classes: int, code: str = "") -> bool:
    """Does the fault cost anything, by the program's own last line? One of

    - the sick program prints no last line, or its loss is not a number;
    - the twin's accuracy on the training set (eval mode) is at least 5 points higher;
    - the twin's loss (eval mode) is lower by at least a tenth of ln K;
    - for the faults in HELD_OUT: the twin's held-out accuracy is at least 5 points higher.

    D207 is a network that answers the base rates: there the sick program's accuracy, every class counted alike, must also be
    that of a constant answer. W109 trains another loss than the one its last line prints: there accuracy alone counts.
    """
    if not sick or not math.isfinite(sick["eval_loss"]):
        return True
    if code == "D207" and sick["eval_accuracy"] > 1 / classes + 0.05:
        return False
    if twin["eval_accuracy"] - sick["eval_accuracy"] >= 0.05:
        return True
    if code != "W109" and sick["eval_loss"] - twin["eval_loss"] >= 0.1 * math.log(classes):
        return True
    return code in HELD_OUT and twin["heldout_accuracy"] - sick["heldout_accuracy"] >= 0.05


class Variation(NamedTuple):
    """A sick program, what it came to, and whether its fault hurt it."""

    program: Program
    outcome: Outcome
    hurt: bool
    before: str = ""  # of two faults the one whose repair alone gains more; '' where neither does

    @property
    def right(self) -> bool:
        """For two faults: the one to be fixed first comes first, and the other is among the causes and consequences."""
        both = {self.program.code, self.program.second} - {""}
        if self.outcome.first not in ({self.before} if self.before else both):
            return False
        named = {code for code, role in self.outcome.findings if role in {"cause", "consequence"}}
        return len(both) == 1 or both <= named

    @property
    def named(self) -> bool:
        return self.program.code in {code for code, _ in self.outcome.findings}


class Measured:
    """All runs of one measurement: sick variations by code, healthy programs by source."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.variations: dict[str, list[Variation]] = collections.defaultdict(list)
        self.redrawn: collections.Counter[str] = collections.Counter()
        self.healthy: dict[str, tuple[Program, Outcome]] = {}
        self.done = 0
        self.began = time.monotonic()

    def run(self, chosen: Iterable[Program]) -> None:
        """Run sick programs with those twins that have not run yet, and healthy ones; file what came out."""
        chosen = list(chosen)
        twins = {p.twin: p for p in chosen if p.code and p.twin not in self.healthy}
        fresh = [Program(f"twin-of-{p.name}", source, p.config) for source, p in twins.items()]
        fresh += [p for p in chosen if not p.code and p.source not in self.healthy and p.source not in twins]
        ill = [p for p in chosen if p.code]
        outcomes = run_programs([p.source for p in fresh + ill], self.jobs, said=self._said)
        for program, outcome in zip(fresh, outcomes):
            self.healthy[program.source] = (program, outcome)
        for program, outcome in zip(ill, outcomes[len(fresh) :]):
            twin = self.healthy[program.twin][1]
            key = f"{program.code}+{program.second}" if program.second else program.code
            if twin.lost or not learned(twin.final, program.config.share):
                self.redrawn[key] += 1
                continue
            bad = hurt(outcome.final, twin.final, program.config.classes, program.code)
            before = self._before(program) if program.second and bad else ""
            self.variations[key].append(Variation(program, outcome, bad, before))

    def _before(self, program: Program) -> str:
        """Which of two faults is to be fixed first? The one whose repair alone gains 5 points of accuracy more; '' if neither does,
        or if the better one has not learned: an untrained network can be some points off a constant answer.

        Beside a wrong loss the length of the steps has no order: without the one nothing can be judged, without the other nothing
        moves.
        """
        if program.second.startswith("S"):
            return ""
        of = "heldout_accuracy" if {program.code, program.second} & HELD_OUT else "eval_accuracy"
        first, second = (o.final.get(of, 0.0) for o in run_programs(program.halves, self.jobs, observed=False))
        if max(first, second) < enough(program.config.share):
            return ""
        return program.code if second >= first + 0.05 else program.second if first >= second + 0.05 else ""

    def _said(self, number: int, outcome: Outcome) -> None:
        self.done += 1
        if self.done % 50 == 0:
            print(f"  {self.done} programs, {time.monotonic() - self.began:.0f} s", file=sys.stderr, flush=True)

    def well(self) -> list[tuple[Program, Outcome]]:
        """The healthy programs that learned."""
        return [(p, o) for p, o in self.healthy.values() if not o.lost and learned(o.final, p.config.share)]

    def unwell(self) -> list[tuple[Program, Outcome]]:
        return [(p, o) for p, o in self.healthy.values() if not o.lost and not learned(o.final, p.config.share)]

    def troubles(self) -> list[tuple[Program, Outcome]]:
        every = list(self.healthy.values()) + [(v.program, v.outcome) for vs in self.variations.values() for v in vs]
        return [(p, o) for p, o in every if o.trouble] + [
            (p, o._replace(trouble=f"a healthy program ended with {o.exit}"))
            for p, o in self.healthy.values()
            if not o.trouble and o.exit != "0"
        ]


def measure(codes: Sequence[str], pairs: Sequence[programs.Pair], n: int, healthy: int, seed: int, jobs: int) -> Measured:
    """N hurt variations of every code (three rounds of drawing at most), their twins, and healthy programs up to `healthy`."""
    found = Measured(jobs)
    drawn: collections.Counter[str] = collections.Counter()
    makers: dict[str, Callable[[int], Program]] = {c: functools.partial(programs.sick, c) for c in codes}
    makers |= {f"{p.first}+{p.second}": functools.partial(programs.both, p) for p in pairs}
    known: set[str] = set()
    for _ in range(3):
        chosen = []
        for key, make in makers.items():
            wanted = n if key in codes else max(1, n // 10)
            hurt_before = sum(v.hurt for v in found.variations[key])
            missing, tries = wanted - hurt_before, 0
            if missing > 0 and drawn[key]:  # as many more as will do, at the share of hurt ones so far
                missing = math.ceil(missing / max(0.25, hurt_before / drawn[key]))
            while missing > 0 and tries < 4 * wanted:
                program = make(1000 * seed + drawn[key])
                drawn[key] += 1
                tries += 1
                if program.source not in known:
                    known.add(program.source)
                    chosen.append(program)
                    missing -= 1
        if not chosen:
            break
        found.run(chosen)
    number = 1_000_000 * (seed + 1)
    for _ in range(3):
        missing = healthy - len(found.well())
        if missing <= 0:
            break
        found.run(programs.healthy(number + i) for i in range(missing))
        number += missing
    return found


def rates(options: argparse.Namespace) -> int:
    n, healthy = (1, 20) if options.quick else (options.variations, options.healthy)
    codes = sorted(programs.FAULTS) if options.codes is None else [c for c in options.codes if c in programs.FAULTS]
    pairs = programs.PAIRS if options.codes is None else []
    found = measure(codes, pairs, n, healthy, options.seed, options.j)
    print(table(found, codes, plain=True))
    for program, outcome in found.troubles():
        print(f"OWN ERROR {program.name}: {outcome.trouble[:200]}")
    print(f"{found.done} programs in {time.monotonic() - found.began:.0f} s")
    if options.keep:
        keep(found, options.keep)
    if options.json:
        options.json.write_text(json.dumps(as_data(found), indent=1))
    if options.table:
        options.table.parent.mkdir(parents=True, exist_ok=True)
        options.table.write_text(table(found, codes) + "\n", encoding="utf-8")
    return 1 if found.troubles() else 0


def share(right: int, runs: int) -> str:
    low, high = interval(right, runs)
    return f"{right / runs:.3f} [{low:.3f}, {high:.3f}]" if runs else "-"


def table(found: Measured, codes: Sequence[str], plain: bool = False) -> str:
    """The numbers, as markdown (or, `plain`, for a terminal)."""
    rows = [("code", "runs", "hurt", "first", "power [95 %]", "named", "instead", "not hurt, named", "false causes")]
    well = found.well()
    false = collections.Counter(code for _, o in well for code in set(o.causes))
    total = collections.Counter[str]()
    keys = [*codes, *sorted(k for k in found.variations if "+" in k)]
    for key in keys:
        ill = [v for v in found.variations[key] if v.hurt]
        spared = [v for v in found.variations[key] if not v.hurt]
        right = sum(v.right for v in ill)
        instead = collections.Counter(v.outcome.first or "nothing" for v in ill if not v.right)
        rows.append((
            key, str(len(ill) + len(spared)), str(len(ill)), str(right), share(right, len(ill)), str(sum(v.named for v in ill)),
            ", ".join(f"{code} x{k}" for code, k in instead.most_common(5)), f"{sum(v.named for v in spared)} of {len(spared)}",
            str(false[key]) if key in codes else "",
        ))  # fmt: skip
        kind = "pairs" if "+" in key else "single"
        total.update({f"{kind} runs": len(ill), f"{kind} right": right, f"{kind} named": sum(v.named for v in ill)})
    alarms = sum(bool(o.causes) for _, o in well)
    unwell = found.unwell()
    lines = [
        f"Sick programs with one fault: {total['single right']} of {total['single runs']} with the right cause first: "
        f"{share(total['single right'], total['single runs'])}; named at all in {total['single named']}.",
        f"Programs with two faults: {total['pairs right']} of {total['pairs runs']} with the one to fix first in front and the "
        f"other named: {share(total['pairs right'], total['pairs runs'])}.",
        f"Healthy programs: {alarms} of {len(well)} with a false cause: {share(alarms, len(well))}"
        + (f" ({', '.join(f'{c} x{k}' for c, k in false.most_common())})." if false else "."),
        f"Programs without a fault that did not learn, counted nowhere: {len(unwell)}, "
        f"of them {sum(bool(o.causes) for _, o in unwell)} with a cause.",
    ]
    if plain:
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        body = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows]
        return "\n".join([*body, "", *lines])
    marked = ["| " + " | ".join(row) + " |" for row in rows]
    marked.insert(1, "|" + "---|" * len(rows[0]))
    about = (
        "# How often the right fault is named first\n\n"
        "Made by `python benchmarks/detection.py --variations N --table FILE` on random programs (`benchmarks/programs.py`).\n"
        "*hurt*: the twin, the very same program without the fault, ends clearly better by its own last line (accuracy 5 points\n"
        "higher, or loss lower by a tenth of ln K, or the sick one ends without a number). Power counts only those: the first\n"
        "finding is this code and has the role cause. Of two faults the one to fix first is the one whose repair alone gains more\n"
        "(5 points of accuracy, both halves run; where neither does or neither learns, and beside a step length, either order is\n"
        "right).\n"
        "*false causes*: healthy programs in which this code was a cause.\n"
        "Intervals are exact (Clopper-Pearson), 95 %.\n"
    )
    return "\n".join([about, *marked, "", *(f"{line}\n" for line in lines)]).rstrip()


def keep(found: Measured, folder: Path) -> None:
    """The source of every program that came out wrong, with what came out in a comment at its end."""
    folder.mkdir(parents=True, exist_ok=True)
    wrong = [(v.program, v.outcome, "miss") for vs in found.variations.values() for v in vs if v.hurt and not v.right]
    wrong += [(v.program, v.outcome, "nothurt") for vs in found.variations.values() for v in vs if not v.hurt]
    wrong += [(p, o, "false") for p, o in found.well() if o.causes]
    wrong += [(p, o, "unwell") for p, o in found.unwell()]
    wrong += [(p, o, "trouble") for p, o in found.troubles()]
    for program, outcome, kind in wrong:
        said = f"\n# {outcome.symptom}; {outcome.findings}; {outcome.final}; {outcome.exit} {outcome.trouble}\n"
        (folder / f"{kind}_{program.name}.py").write_text(program.source + said, encoding="utf-8")
        if kind == "nothurt":
            (folder / f"{kind}_{program.name}_twin.py").write_text(program.twin, encoding="utf-8")


def as_data(found: Measured) -> dict[str, Any]:
    def row(program: Program, outcome: Outcome) -> dict[str, Any]:
        return {
            "name": program.name, "code": program.code, "second": program.second, "patch": program.patch,
            **{k: v for k, v in outcome._asdict().items()}, "config": vars(program.config),
        }  # fmt: skip

    return {
        "sick": [{**row(v.program, v.outcome), "hurt": v.hurt, "right": v.right, "twin": found.healthy[v.program.twin][1].final}
                 for vs in found.variations.values() for v in vs],
        "healthy": [{**row(p, o), "learned": learned(o.final, p.config.share)} for p, o in found.healthy.values()],
        "redrawn": dict(found.redrawn),
    }  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
