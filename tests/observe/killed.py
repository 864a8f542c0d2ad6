"""Trainings that are killed with SIGKILL at random moments: `python killed.py FOLDER KILLS SEED` writes FOLDER/results.json.

Each is a forked child of a process that has torch loaded, so that what is killed is a training and not an import. The
child notes the time of each of its steps on its own, which says what the trace may have lost.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

SCRIPT = """
import os, time, torch
from torch import nn
torch.manual_seed(0)
X = torch.randn(256, 12)
Y = (X @ torch.randn(12, 4)).argmax(1)
model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 4), nn.Softmax(dim=1))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
clock = os.open("clock", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
while True:
    rows = torch.randint(0, 256, (32,))
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(X[rows]), Y[rows]).backward()
    optimizer.step()
    os.write(clock, b"%f\\n" % time.time())
    time.sleep(0.001)
"""


def kill(folder: Path, after: float) -> dict[str, Any]:
    """One training, killed `after` seconds after its trace has begun; what is left of it."""
    from unstuck.observe.launch import Target, observe

    folder.mkdir()
    (folder / "script.py").write_text(SCRIPT)
    child = os.fork()
    if not child:
        try:
            os.chdir(folder)
            os.dup2(os.open("err.txt", os.O_WRONLY | os.O_CREAT), 2)
            observe(Target("script", "script.py", []), Path("trace").absolute())
        finally:
            os._exit(1)
    while not (folder / "trace" / "series.bin").exists():
        time.sleep(0.002)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    killed = time.time()
    os.waitpid(child, 0)
    clock = folder / "clock"
    steps = [float(t) for t in clock.read_text().split("\n")[:-1]] if clock.exists() else []
    left = what_is_left(folder / "trace")
    rows = min(left.get("rows", 0), len(steps))
    # Rows wait in memory for half a second of training; where a step takes long, the kill may come later than that.
    return {"steps": len(steps), "lost seconds": steps[-1] - steps[rows] if rows < len(steps) else 0.0,
            "old": sum(t < killed - 1.0 for t in steps[rows:]), **left}  # fmt: skip


def what_is_left(trace: Path) -> dict[str, Any]:
    from unstuck.engine import diagnose
    from unstuck.trace.storage import read_run

    try:
        record = read_run(trace)
        diagnosis = diagnose(record)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    cause = diagnosis.worst.cause
    rows = len(record.traces[0].series) if record.traces else 0
    return {"rows": rows, "first": cause.code if cause is not None else "", "finished": record.run.finished}


def main(folder: Path, kills: int, seed: int) -> None:
    import torch

    import unstuck.engine
    import unstuck.observe.torch_loop  # noqa: F401

    weight = torch.nn.Parameter(torch.zeros(1))  # loads half of torch, once; no backward: its engine is not for forks
    weight.grad = torch.zeros(1)
    torch.optim.SGD([weight], lr=0.1).step()
    draw = random.Random(seed)
    results = [kill(folder / str(i), draw.choice([0.0, 1.0, 3.0, 5.0]) * draw.random()) for i in range(kills)]
    (folder / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
