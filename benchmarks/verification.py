"""Do the experiments tell right fixes from wrong ones?

    python benchmarks/verification.py [PATTERN ...] [--budget 60] [--variations N] [--seed 0] [-j 2] [--json FILE]

For every sick gallery script (and N random programs a code) whose right cause comes first and has a fix that can be run:

- right: `search.verify`, as `unstuck verify` calls it; does the right cause come out supported?
- wrong: three fixes of other diseases, drawn at random from `OTHERS`, each with as many seeds (at most five) as the verdict
  needs; none should come out supported. Left out are fixes that would mend this disease as well, by what they do
  (`ALSO`): a longer step after clipping and no clipping are the same update.
- placebo: three seeds of an intervention that changes nothing, each alone against its control.

Prints a line a script and the three rates with exact 95 % intervals. A wrong fix that found nothing to change is counted
apart: it could not have come out supported. Exit code 1 only for errors of our own.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import detection
import programs

from unstuck.cli.run import suspicious
from unstuck.engine import diagnose
from unstuck.experiments import search
from unstuck.experiments.arms import ArmResult, run_arms
from unstuck.experiments.kinds import SUPPORTED
from unstuck.experiments.pool import LocalPool
from unstuck.experiments.verdict import Arms, judge
from unstuck.findings import Intervention, Verdict
from unstuck.observe.launch import Target, observe
from unstuck.stats import paired
from unstuck.trace.storage import read_run
from unstuck.trace.trace import RunRecord

# Fixes of other diseases, and the diseases they are for.
OTHERS: list[tuple[frozenset[str], Intervention]] = [
    (frozenset({"S501", "I603", "G304"}), Intervention("scale-learning-rate", {"factor": 0.1})),
    (frozenset({"S502", "G305", "G303"}), Intervention("scale-learning-rate", {"factor": 10.0})),
    (frozenset({"U405"}), Intervention("zero-before-backward")),
    (frozenset({"S503"}), Intervention("scale-weight-decay", {"factor": 0.0})),
    (frozenset({"S504"}), Intervention("set-dropout", {"p": 0.1})),
    (frozenset({"W112"}), Intervention("negate-loss")),
    (frozenset({"D203"}), Intervention("standardise-inputs")),
    (frozenset({"I601", "I602", "I604"}), Intervention("reinitialise")),
    (frozenset({"D205"}), Intervention("shuffle")),
    (frozenset({"U403"}), Intervention("unfreeze")),
    (frozenset({"U401", "U402"}), Intervention("add-parameters")),
    (frozenset({"G305"}), Intervention("no-clipping")),
    (frozenset({"E802"}), Intervention("train-mode")),
    (frozenset({"D202"}), Intervention("shift-labels", {"offset": 1.0, "way": "cyclic"})),
    (frozenset({"N703"}), Intervention("full-precision")),
    (frozenset({"G304"}), Intervention("clip-gradients", {"norm": 1.0})),
    (frozenset({"I606"}), Intervention("add-activation")),
]
# disease -> kinds of OTHERS that mend it too, by what they do.
ALSO: dict[str, set[str]] = {
    # the product of rate, gradient and clipping is one number
    "S501": {"scale-learning-rate", "clip-gradients", "standardise-inputs", "reinitialise"},
    "S502": {"scale-learning-rate", "standardise-inputs"},
    "G305": {"scale-learning-rate", "no-clipping"},
    "E803": {"scale-learning-rate", "clip-gradients"},
    "U407": {"scale-learning-rate"},
    "N703": {"scale-learning-rate"},
    # what throws the weights away: the step, the inputs, the weights themselves
    "D203": {"scale-learning-rate", "clip-gradients", "reinitialise"},
    "I602": {"scale-learning-rate", "clip-gradients"},
    "I603": {"scale-learning-rate", "clip-gradients", "reinitialise", "standardise-inputs"},
    "I604": {"reinitialise", "scale-learning-rate", "standardise-inputs"},
    "G304": {"scale-learning-rate", "clip-gradients", "reinitialise", "standardise-inputs"},
    "N701": {"scale-learning-rate", "clip-gradients", "reinitialise", "standardise-inputs"},
    "U408": {"scale-learning-rate", "clip-gradients", "reinitialise", "standardise-inputs"},
    # what makes little of a gradient: any longer step, any better conditioned start
    "G303": {"scale-learning-rate", "reinitialise", "standardise-inputs"},
    "S505": {"scale-learning-rate", "standardise-inputs"},
    "S503": {"scale-weight-decay"},
    "S504": {"train-mode", "set-dropout"},
    "U401": {"add-parameters", "unfreeze"},
    "U402": {"add-parameters", "unfreeze"},
    "U403": {"add-parameters", "unfreeze"},
    "U405": {"scale-learning-rate", "clip-gradients"},
    "W109": {"scale-learning-rate", "standardise-inputs", "reinitialise"},  # a saturated start is the fault's other half
    "E801": {"train-mode"},
    "E802": {"train-mode", "set-dropout"},
    "D208": {"standardise-inputs"},
}


def look(path: Path, scratch: Path) -> tuple[RunRecord, Any]:
    """The record of one run under observation, in a process of its own, and its diagnosis."""
    trace = scratch / "trace"
    pid = detection.os.fork()
    if pid == 0:
        try:
            detection.os.chdir(scratch)
            out = detection.os.open("output", detection.os.O_CREAT | detection.os.O_WRONLY)
            detection.os.dup2(out, 1)
            detection.os.dup2(out, 2)
            sys.path.insert(0, str(path.parent))
            observe(Target("script", str(path), []), trace, suspicious=partial(suspicious, trace))
        finally:
            detection.os._exit(0)
    detection.os.waitpid(pid, 0)
    record = read_run(trace)
    return record, diagnose(record)


class Trial:
    """The arms of one script, each run at most once."""

    def __init__(self, record: RunRecord, found: Any, pool: LocalPool, seconds: float) -> None:
        self.record, self.pool, self.seconds = record, pool, seconds
        self.training = found.worst
        self.search = search._Search(found, record, seconds, pool, lambda *said: None, run_arms)
        self.results = self.search.results

    def arms(self, wanted: list[tuple[Intervention | None, int]]) -> None:
        self.search.deadline = time.monotonic() + self.seconds
        self.search.fetch(wanted)

    def verdict(self, intervention: Intervention, seeds: list[int] | None = None) -> Verdict:
        mine, control = self.results.get(search.key_of(intervention), {}), self.results.get("", {})
        if seeds is not None:  # as if the first of them had been the recorded one
            mine, control = ({i: by[s] for i, s in enumerate(seeds) if s in by} for by in (mine, control))
        return judge(Arms(intervention.kind, control, mine), self.search.known())

    def decided(self, intervention: Intervention) -> Verdict:
        """As many seeds as it takes, as the search does it."""
        for seed in range(paired.MOST):
            self.arms([(None, seed), (intervention, seed)])
            found = self.verdict(intervention)
            if found.name != "inconclusive" or any(w in found.reason for w in ("does not explain", "too few to see")):
                break
        return found


def changed(results: dict[int, ArmResult]) -> bool:
    return any(r.applied > 0 for r in results.values())


def script(path: Path, code: str, pool: LocalPool, options: argparse.Namespace) -> dict[str, Any]:
    """All trials of one script."""
    rng = random.Random(f"{options.seed} {path.name} {code}")
    scratch = Path(tempfile.mkdtemp(prefix="verification-"))
    row: dict[str, Any] = {"script": f"{path.parent.name}/{path.name}", "code": code, "wrong": [], "placebo": []}
    began = time.monotonic()
    try:
        record, found = look(path, scratch)
        first = found.worst.findings[0] if found.worst.findings else None
        row["named"] = first is not None and first.code == code and first.role == "cause"
        fix = first.fix.intervention if row["named"] and first.fix is not None else None
        row["executable"] = fix is not None and fix.kind in SUPPORTED
        if not row["executable"]:
            return row
        search.verify(found, record, options.budget, pool)
        mine = next(f for f in found.worst.findings if f.code == code)
        row["right"], row["reason"] = mine.verdict.name, mine.verdict.reason
        row["first"] = found.worst.findings[0].code == code and found.worst.findings[0].role == "cause"
        row["seconds"] = round(time.monotonic() - began, 1)
        if options.only_right:
            return row
        trial = Trial(record, diagnose(record), pool, options.budget)
        spared = ALSO.get(code, set()) | {fix.kind}
        others = [i for codes, i in OTHERS if code not in codes and i.kind not in spared]
        for other in rng.sample(others, min(3, len(others))):
            verdict = trial.decided(other)
            did = changed(trial.results.get(search.key_of(other), {}))
            row["wrong"].append({"fix": search.describe(other), "verdict": verdict.name, "did": did, "reason": verdict.reason})
        trial.arms([(None, s) for s in range(3)] + [(search.PLACEBO, s) for s in range(3)])
        for seed in range(3):
            row["placebo"].append(trial.verdict(search.PLACEBO, [seed]).name)
    except Exception:
        row["error"] = traceback.format_exc()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        row["seconds"] = round(time.monotonic() - began, 1)
    return row


def chosen(options: argparse.Namespace, scratch: Path) -> list[tuple[Path, str]]:
    found = [(c.path, c.code) for c in detection.cases(options.patterns or None) if c.code]
    if options.every > 1:
        found = found[options.seed % options.every :: options.every]
    for code in sorted(programs.FAULTS) if options.variations else ():
        for number in range(options.variations):
            program = programs.sick(code, 1000 * options.seed + number)
            file = scratch / f"{program.name}.py"
            file.write_text(program.source, encoding="utf-8")
            found.append((file, code))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds for the verification of a script")
    parser.add_argument("--variations", type=int, default=0, metavar="N", help="random programs a code, besides the gallery")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th script")
    parser.add_argument("--only-right", action="store_true", help="no wrong fixes and no placebos")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-j", type=int, default=2)
    parser.add_argument("--json")
    options = parser.parse_args()
    detection.warm_up()
    rows = []
    scratch = Path(tempfile.mkdtemp(prefix="verification-"))
    try:
        with LocalPool(options.j) as pool:
            for path, code in chosen(options, scratch):
                row = script(path, code, pool, options)
                rows.append(row)
                said = row.get("right", "no experiment" if row.get("named") else "not named")
                wrong = ", ".join(f"{w['fix']}: {w['verdict']}" for w in row["wrong"] if w["did"])
                print(f"{code:5} {row['script'][:60]:60} {said:13} {row['seconds']:6.1f} s  {wrong}", flush=True)
                if "error" in row:
                    print(row["error"], flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    tried = [r for r in rows if "right" in r and r["right"] != "not-verified"]
    unable = [r for r in rows if r.get("right") == "not-verified"]
    wrong = [w for r in rows for w in r["wrong"]]
    did = [w for w in wrong if w["did"]]
    placebo = [p for r in rows for p in r["placebo"]]
    for name, hits, runs in (
        ("right causes with a fix that can be run come out supported", sum(r["right"] == "supported" for r in tried), len(tried)),
        ("of them refuted", sum(r["right"] == "refuted" for r in tried), len(tried)),
        ("wrong fixes come out supported", sum(w["verdict"] == "supported" for w in wrong), len(wrong)),
        ("of those that changed something", sum(w["verdict"] == "supported" for w in did), len(did)),
        ("placebos come out supported", placebo.count("supported"), len(placebo)),
    ):  # fmt: skip
        print(f"{name}: {hits} of {runs}, {detection.share(hits, runs)}")
    print(f"right causes whose fix could not be run on that script: {len(unable)}")
    for row in unable:
        print(f"  {row['script']}: {row['reason']}")
    print(f"right causes without an experiment: {sum(bool(r.get('named')) and not r.get('executable') for r in rows)}")
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return int(any("error" in r for r in rows))


if __name__ == "__main__":
    raise SystemExit(main())
