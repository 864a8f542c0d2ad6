"""unstuck.testing: what a test suite of somebody else sees."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from unstuck.errors import UsageError
from unstuck.observe import launch
from unstuck.testing import assert_learns, assert_wired

X = torch.randn(256, 12, generator=torch.Generator().manual_seed(1))
Y = (X @ torch.randn(12, 4, generator=torch.Generator().manual_seed(2))).argmax(1)


def net(*tail: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 4), *tail)


def stepper(model: nn.Module, lr: float = 1e-2) -> Any:
    optimizer = torch.optim.Adam(model.parameters(), lr)

    def step() -> None:
        rows = torch.randint(0, 256, (32,))
        optimizer.zero_grad()
        F.cross_entropy(model(X[rows]), Y[rows]).backward()
        optimizer.step()

    return step


# ---------------------------------------------------------------------- assert_learns


def test_a_training_that_learns_passes() -> None:
    diagnosis = assert_learns(stepper(net()), steps=120)
    assert (diagnosis.worst.symptom.name, diagnosis.worst.steps) == ("learning", 120)
    assert launch.CURRENT == []


def test_one_that_does_not_fails_with_the_report() -> None:
    with pytest.raises(AssertionError) as failed:
        assert_learns(stepper(net(nn.Softmax(1)), lr=1e-5), steps=80)
    text = str(failed.value)
    assert text.startswith("W101 softmax-twice: ") and "test_testing.py" in text and "Fix:" in text
    assert "unstuck verify" not in text  # the trace is gone
    assert launch.CURRENT == []


def test_no_fault_known_and_yet_no_learning() -> None:
    """Labels that nothing can be learned from: whatever is ignored, the loss has to fall."""
    noise = torch.randint(0, 4, (4096,), generator=torch.Generator().manual_seed(5))
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    numbers = []

    def step(number: int) -> None:
        numbers.append(number)
        rows = torch.randint(0, 256, (32,))
        optimizer.zero_grad()
        F.cross_entropy(model(X[rows]), noise[rows + 32 * (number % 100)]).backward()
        optimizer.step()

    with pytest.raises(AssertionError, match=r"not shown to learn|D202|S50"):
        assert_learns(step, steps=60, ignore={"D202", "S501", "S502"})
    assert numbers == list(range(60))


def test_a_finding_may_be_ignored_where_the_loss_falls() -> None:
    with pytest.raises(AssertionError, match="W101"):
        assert_learns(stepper(net(nn.Softmax(1))), steps=150)
    assert_learns(stepper(net(nn.Softmax(1))), steps=150, ignore={"W101"})


def test_too_few_steps_say_nothing() -> None:
    with pytest.raises(AssertionError, match="not shown to learn: too early"):
        assert_learns(stepper(net()), steps=3)
    with pytest.raises(UsageError, match="steps=0"):
        assert_learns(stepper(net()), steps=0)


def test_what_a_step_raises_is_raised() -> None:
    def step() -> None:
        raise ZeroDivisionError("theirs")

    with pytest.raises(ZeroDivisionError, match="theirs"):
        assert_learns(step, steps=3)
    assert launch.CURRENT == []


SCRIPT = """
import sys, torch
torch.manual_seed(0)
X = torch.randn(256, 12); Y = (X @ torch.randn(12, 4)).argmax(1)
model = torch.nn.Sequential(torch.nn.Linear(12, 4), *([torch.nn.Softmax(1)] if sys.argv[1] == "sick" else []))
optimizer = torch.optim.Adam(model.parameters(), 1e-5 if sys.argv[1] == "sick" else 1e-2)
if sys.argv[1] == "broken": raise SystemExit("no such data")
while True:
    rows = torch.randint(0, 256, (32,))
    optimizer.zero_grad(); torch.nn.functional.cross_entropy(model(X[rows]), Y[rows]).backward(); optimizer.step()
"""


@pytest.mark.slow
def test_a_script(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    assert assert_learns(script, steps=150, arguments=["healthy"]).worst.steps == 150
    with pytest.raises(AssertionError, match=r"^W101 softmax-twice"):
        assert_learns(str(script), steps=60, arguments=["sick"])
    with pytest.raises(AssertionError, match=r"(?s)exit code 1.*no such data"):
        assert_learns(script, arguments=["broken"])
    with pytest.raises(UsageError, match="no such script"):
        assert_learns(tmp_path / "gone.py")


# ---------------------------------------------------------------------- assert_wired

BATCH = (X[:32], Y[:32])
WRONG: dict[str, tuple[Any, Any, Any]] = {
    "W101": (lambda: net(nn.Softmax(1)), nn.CrossEntropyLoss(), BATCH),
    "W105": (lambda: net(nn.Softmax(0)), nn.CrossEntropyLoss(), BATCH),
    "W107": (net, nn.NLLLoss(), BATCH),
    "W112": (net, lambda out, y: -F.cross_entropy(out, y), BATCH),
    "G301": (net, lambda out, y: F.cross_entropy(out.detach(), y), BATCH),
    "D201": (net, nn.CrossEntropyLoss(), (X[:32], Y[:32] + 1)),
    "D206": (net, nn.CrossEntropyLoss(ignore_index=-100), (X[:32], torch.full((32,), -100))),
}


@pytest.mark.parametrize("code", WRONG)
def test_wrong_wiring_fails_with_the_finding(code: str) -> None:
    make, loss, batch = WRONG[code]
    with pytest.raises(AssertionError) as failed:
        assert_wired(make(), loss, batch)
    assert str(failed.value).startswith(f"{code} "), failed.value
    assert launch.CURRENT == []


def test_right_wiring_passes_and_leaves_everything_as_it_was() -> None:
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    model[0].weight.grad = torch.ones(32, 12)
    model[1].eval()

    def left() -> list[Any]:
        tensors = [t.detach().clone() for t in (*model.state_dict().values(), model[0].weight.grad, torch.get_rng_state())]
        return [
            [t.numpy().tobytes() for t in tensors], [p.grad is None for p in model.parameters()],
            [m.training for m in model.modules()], random.getstate(), repr(np.random.get_state()), dict(optimizer.state),
        ]  # fmt: skip

    before = left()
    assert_wired(model, nn.CrossEntropyLoss(), BATCH)
    assert_wired(model, nn.CrossEntropyLoss(), BATCH, optimizer=optimizer)
    with pytest.raises(AssertionError, match="W107"):
        assert_wired(model, nn.NLLLoss(), BATCH, optimizer=optimizer)
    assert left() == before


@pytest.mark.parametrize("kind", ["other", "part", "LBFGS", "used"])
def test_does_the_optimizer_hold_what_the_loss_trains(kind: str) -> None:
    model = net()
    if kind == "used":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()
        before = [s["momentum_buffer"].clone() for s in optimizer.state.values()]
        assert_wired(model, nn.CrossEntropyLoss(), BATCH, optimizer=optimizer)
        assert all(torch.equal(a, s["momentum_buffer"]) for a, s in zip(before, optimizer.state.values()))
        return
    if kind == "LBFGS":
        assert_wired(model, nn.CrossEntropyLoss(), BATCH, optimizer=torch.optim.LBFGS(model.parameters()))
        return
    optimizer = torch.optim.Adam((net() if kind == "other" else model[-1:]).parameters())
    with pytest.raises(AssertionError, match="U401" if kind == "other" else "U402"):
        assert_wired(model, nn.CrossEntropyLoss(), BATCH, optimizer=optimizer)


def test_the_forms_of_a_batch() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(12, 4)

        def forward(self, a: Any, b: Any, labels: Any = None) -> Any:
            logits = self.head(a + b)
            return logits if labels is None else {"loss": F.cross_entropy(logits, labels)}

    x, y = BATCH
    assert_wired(Two(), nn.CrossEntropyLoss(), ((x, x), y))
    assert_wired(Two(), nn.CrossEntropyLoss(), ({"a": x, "b": x}, y))
    assert_wired(Two(), lambda out: out["loss"], {"a": x, "b": x, "labels": y})


def test_what_no_finding_explains_is_raised_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        assert_wired(net(), nn.CrossEntropyLoss(), (X[:8, :5], Y[:8]))
    assert launch.CURRENT == []


# ---------------------------------------------------------------------- the plugin


@pytest.mark.slow
def test_the_plugin_in_somebody_elses_suite(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text("""
import torch
from torch.nn import functional as F
from unstuck.testing import assert_wired

def train():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Softmax(1))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    for _ in range(40):
        x = torch.randn(8, 4)
        optimizer.zero_grad(); F.cross_entropy(model(x), x[:, :3].argmax(1)).backward(); optimizer.step()

def test_watched(doctor):
    train()
    assert doctor.diagnose().worst.cause.code == "W101"

def test_wired():
    assert_wired(torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Softmax(1)), F.cross_entropy,
                 (torch.randn(8, 4), torch.randint(0, 3, (8,))))
""")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "unstuck.testing", "-p", "no:cacheprovider", "test_theirs.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "W101 softmax-twice (certain)" in done.stdout
    assert "unstuck/testing.py" not in done.stdout.replace("src/unstuck/testing.py:0", "")  # our frames are hidden
