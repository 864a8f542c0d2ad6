"""Does observation change anything? Runs gallery scripts with and without `unstuck run` and compares standard output,
exit code and the bits of every weight at the end.

    python benchmarks/no_harm.py [PATTERN ...] [-j 2]

Both runs go through the same small driver: it keeps every parameter that a module registers, runs the script as
`__main__`, and writes a digest of those and of all other leaf tensors that take a gradient. Exit code 1 on a difference.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))
from detection import GALLERY, Case, cases

DRIVER = r"""
import atexit, gc, hashlib, json, os, runpy, sys
script, out = sys.argv[1], os.environ["DIGEST_FILE"]
try:
    import torch
    from torch.nn.modules.module import register_module_parameter_registration_hook
    kept = []
    register_module_parameter_registration_hook(lambda module, name, p: kept.append(p))
except ImportError:
    torch = None

def digest():
    if torch is None:
        return
    leaves = {id(t): t for t in kept if t is not None}
    for thing in gc.get_objects():
        try:
            if isinstance(thing, torch.Tensor) and thing.requires_grad and thing.is_leaf:
                leaves.setdefault(id(thing), thing)
        except Exception:
            pass
    sums = [hashlib.sha256(t.detach().contiguous().numpy().tobytes()).hexdigest()
            for t in kept if t is not None and t.dtype != torch.bfloat16]
    others = sorted(hashlib.sha256(t.detach().contiguous().numpy().tobytes()).hexdigest()
                    for k, t in leaves.items() if t.dtype != torch.bfloat16)
    with open(out, "w") as file:
        json.dump({"registered": sums, "leaves": others}, file)

sys.argv = [script]
sys.path.insert(0, os.path.dirname(script))
try:
    space = runpy.run_path(script, run_name="__main__")
finally:
    digest()
"""


class Same(NamedTuple):
    """The comparison for one script."""

    case: Case
    output: bool
    code: bool
    weights: bool
    tensors: int

    @property
    def fine(self) -> bool:
        return self.output and self.code and self.weights


def compare(case: Case) -> Same:
    """Run one script twice in scratch directories and compare."""
    results = []
    for command in (["-m", "unstuck", "run", "--quiet", "--trace", "trace"], []):
        with tempfile.TemporaryDirectory() as scratch:
            driver = Path(scratch) / "driver.py"
            driver.write_text(DRIVER)
            digest = Path(scratch) / "digest.json"
            environment = os.environ | {"OMP_NUM_THREADS": "1", "DIGEST_FILE": str(digest)}
            done = subprocess.run(
                [sys.executable, *command, str(driver), str(case.path)],
                cwd=scratch, env=environment, capture_output=True, text=True, timeout=180,
            )  # fmt: skip
            found = json.loads(digest.read_text()) if digest.exists() else {"registered": [], "leaves": []}
            results.append((done.stdout, done.returncode, found))
    (out, code, seen), (plain_out, plain_code, plain) = results
    # The observer may keep a tensor alive a little longer; every weight of the plain run must be there, bit for bit.
    weights = seen["registered"] == plain["registered"] and set(plain["leaves"]) <= set(seen["leaves"])
    return Same(case, out == plain_out, code == plain_code, weights, len(plain["leaves"]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*")
    parser.add_argument("-j", type=int, default=2)
    options = parser.parse_args()
    wrong = total = 0
    with concurrent.futures.ThreadPoolExecutor(options.j) as pool:
        for same in pool.map(compare, cases(options.patterns)):
            total += 1
            wrong += not same.fine
            if not same.fine:
                print(
                    f"DIFFERENT {same.case.path.relative_to(GALLERY)}: output {same.output}, exit code {same.code}, "
                    f"weights {same.weights}",
                    flush=True,
                )
    print(f"{total - wrong} of {total} scripts: same output, same exit code, bit-identical weights")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
