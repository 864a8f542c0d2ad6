"""A script that trains with `unstuck.losses` under observation: the wiring is read as with torch's own, the numbers come from the
loss's telemetry, and nothing of the training changes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from unstuck.trace.storage import read_run

# 250 rows of 100 classes: past the size below which the loss hands over to torch's kernels
SCRIPT = """
import sys, torch, torch.nn as nn
from unstuck.losses import cross_entropy
torch.manual_seed(0)
X = torch.randn(1000, 40); y = (X @ torch.randn(40, {classes})).argmax(1)
head = [nn.Softmax(1)] if "twice" in sys.argv else []
net = nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, {classes}), *head)
opt = torch.optim.Adam(net.parameters(), 3e-3)
for epoch in range(10):
    for i in torch.randperm(1000).split(250):
        z = net(X[i])
        loss = cross_entropy(z, y[i], label_smoothing=0.1)
        opt.zero_grad(); loss.backward(); opt.step()
print(loss.item(), (z.argmax(1) == y[i]).float().mean().item(), [p.double().sum().item() for p in net.parameters()])
"""


def run(folder: Path, classes: int, *arguments: str) -> tuple[str, str, str]:
    """(plain output, observed output, observed standard error); the trace is in folder/trace."""
    script = folder / "train.py"
    script.write_text(SCRIPT.format(classes=classes), encoding="utf-8")
    plain = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, cwd=folder, check=True)
    observed = subprocess.run(
        [sys.executable, "-m", "unstuck", "run", "--trace", "trace", "-o", "r.json", str(script), *arguments],
        capture_output=True, text=True, cwd=folder, check=True,
    )  # fmt: skip
    return plain.stdout, observed.stdout, observed.stderr


@pytest.mark.slow
@pytest.mark.parametrize("classes", [100, 5])
def test_a_second_softmax_is_warned_of_by_the_loss_and_named_by_the_doctor(tmp_path: Path, classes: int) -> None:
    plain, observed, said = run(tmp_path, classes, "twice")
    assert plain == observed
    assert "UserWarning: the loss got probabilities, not logits" in said and "train.py:12" in said
    report = json.loads((tmp_path / "r.json").read_text())
    first = report["findings"][0]
    assert (first["code"], first["role"], first["grade"]) == ("W101", "cause", "certain")
    assert {line["line"] for line in first["locations"]} & {6, 12}
    assert report["run"]["own_errors"] == []


@pytest.mark.slow
def test_the_numbers_of_a_healthy_training_come_from_the_telemetry(tmp_path: Path) -> None:
    plain, observed, said = run(tmp_path, 100)
    assert plain == observed and "UserWarning" not in said
    trace = read_run(tmp_path / "trace").traces[0]
    term = trace.facts.term
    assert term is not None and (term.kind, term.label_smoothing, term.classes) == ("cross-entropy", 0.1, 100)
    accuracy = trace.series.measured("accuracy")
    assert float(accuracy[-1]) == pytest.approx(float(plain.split()[1]), abs=0.02)
    assert sum(term.labels.counts) > 0 and sum(term.labels.predicted) > 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert [f["code"] for f in report["findings"] if f["role"] == "cause"] == []
    assert report["run"]["own_errors"] == []
