"""A training that is observed ends as one that is not: weights, buffers, gradients, optimizers, random states, modes,
attributes, lists, output. The scripts are in twice.py; each runs plainly and through `observe`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import twice

pytestmark = pytest.mark.slow

# Where a batch cannot be evaluated again: several backward calls a step, a closure, no weights that stay, globals assigned.
NOT_PROBED = {
    "accumulated gradients, clipped", "LBFGS with a closure", "new tensors at each step", "a forward that assigns a global",
    "logits written into a tensor of one's own", "logits added up in place", "a buffer that is filled again for each batch",
    "a teacher, an average of the weights, a retained graph",
}  # fmt: skip
NOT_FAITHFUL = {"a forward hook that changes the output"}  # user hooks are left out, and the replay is seen to differ


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("twice")
    command = [sys.executable, twice.__file__, str(folder)]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300)
    return json.loads(Path(folder, "results.json").read_text())


@pytest.mark.parametrize("name", twice.SCRIPTS)
def test_bit_for_bit(results: dict[str, Any], name: str) -> None:
    plain, seen = results[name]["plain"], results[name]["observed"]
    assert plain["left"], plain["err"]
    names = {*plain["left"], *seen["left"]}
    assert {n for n in names if plain["left"].get(n) != seen["left"].get(n)} == set()
    assert seen["out"] == plain["out"]
    assert seen["err"] == plain["err"]
    assert (seen["exit"], seen["own errors"]) == ("0", [])


@pytest.mark.parametrize("name", twice.SCRIPTS)
def test_and_it_was_looked_at_closely(results: dict[str, Any], name: str) -> None:
    """Nothing above would be worth much if no batch had been evaluated again."""
    seen = results[name]["observed"]
    assert seen["trainings"] == 1
    if name in NOT_PROBED:
        return
    assert seen["probes"] >= 1 and seen["checks"] >= 1
    assert any("probes" in absent for absent in seen["absent"]) == (name in NOT_FAITHFUL)


def test_a_process_that_loads_torch_itself(tmp_path: Path) -> None:
    """As above, but by the command line: the observer comes in when the script imports torch."""
    script = """
import atexit, hashlib, random
import numpy as np, torch
torch.manual_seed(0); np.random.seed(0); random.seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3))
opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for step in range(30):
    x = torch.randn(8, 4) + np.random.rand() + random.random()
    loss = torch.nn.functional.cross_entropy(model(x.float()), torch.randint(0, 3, (8,)))
    opt.zero_grad(); loss.backward(); opt.step()
    print(loss.item())
def left():
    tensors = [*model.state_dict().values(), *(p.grad for p in model.parameters()), torch.get_rng_state()]
    tensors += [s["momentum_buffer"] for s in opt.state.values()]
    print(hashlib.sha1(b"".join(t.numpy().tobytes() for t in tensors)).hexdigest(), np.random.rand())
left(); print(random.random()); atexit.register(left)
"""
    (tmp_path / "script.py").write_text(script)
    out = []
    for words in ([], ["-m", "unstuck", "run"]):
        done = subprocess.run(
            [sys.executable, *words, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0
        out.append(done.stdout)
    assert out[0] == out[1]
    assert len(out[0].splitlines()) == 33
