"""What observation costs: step time with and without, interleaved blocks in one process, one thread, CPU time.

    python benchmarks/overhead.py [--rounds 15] [--json docs/overhead.json]

Each round times a block of steps without the observer (nothing installed) and one with it, in alternating order; the
ratio of the round is with / without. Printed: median ratio, its quartiles, and the same for two blocks without (the
noise of the machine). The close look at the first steps is over before the timing starts; its cost is printed apart.
--json writes the same figures to a file; the table in the documentation is made from docs/overhead.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from unstuck.observe.torch_loop import Observer
from unstuck.trace.facts import Run
from unstuck.trace.writer import Writer

Step = Callable[[], None]


def mlp() -> Step:
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    return _stepper(model, torch.randn(64, 64), torch.randint(0, 10, (64,)))


def cnn() -> Step:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 8 * 8, 10),
    )  # fmt: skip
    return _stepper(model, torch.randn(64, 3, 32, 32), torch.randint(0, 10, (64,)))


class Transformer(nn.Module):
    """Four layers, 128 wide, over 64 tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(200, 128)
        layer = nn.TransformerEncoderLayer(128, 4, 256, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 4)
        self.head = nn.Linear(128, 200)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.embed(x)))


def transformer() -> Step:
    return _stepper(Transformer(), torch.randint(0, 200, (16, 64)), torch.randint(0, 200, (16, 64)))


def _stepper(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Step:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out.flatten(0, -2), y.flatten())
        loss.backward()
        optimizer.step()

    return step


def block(step: Step, steps: int) -> float:
    began = time.thread_time()
    for _ in range(steps):
        step()
    return (time.thread_time() - began) / steps


def measure(name: str, make: Callable[[], Step], steps: int, rounds: int) -> dict[str, object]:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        observer = Observer(Writer(Path(folder)), Run())
        step = make()
        block(step, max(3, steps // 10))
        observer.install()
        close = block(step, 3)
        block(step, max(steps, 60))
        observer.uninstall()
        ratios, noise, base = [], [], []
        for i in range(rounds):
            times = {}
            for kind in ("off", "on", "off2") if i % 2 else ("off2", "on", "off"):
                if kind == "on":
                    observer.install()
                    observer.rest_spy()
                    times[kind] = block(step, steps)
                    observer.uninstall()
                else:
                    times[kind] = block(step, steps)
            ratios.append(times["on"] / ((times["off"] + times["off2"]) / 2))
            noise.append(times["off"] / times["off2"])
            base.append(times["off"])
        errors = observer.run.own_errors
    ms = statistics.median(base) * 1e3
    first = close / statistics.median(base)
    print(
        f"{name:12} {ms:8.2f} ms/step   ratio {_spread(ratios)}   without/without {_spread(noise)}   "
        f"first 3 steps {first:.2f}   own errors {len(errors)}",
        flush=True,
    )
    return {
        "name": name, "ms_per_step": ms, "steps": steps, "ratio": statistics.quantiles(ratios, n=4),
        "noise": statistics.quantiles(noise, n=4), "first_steps": first, "own_errors": len(errors),
    }  # fmt: skip


def _spread(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.3f} [{low:.3f} .. {high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("median [quartiles] over rounds; ratio = step time observed / not observed, CPU time of one thread")
    rows = [
        measure("MLP 2x256", mlp, 400, options.rounds),
        measure("CNN", cnn, 20, options.rounds),
        measure("transformer", transformer, 10, options.rounds),
    ]
    if options.json is not None:
        measured = {
            "torch": torch.__version__, "python": platform.python_version(), "processor": platform.machine(), "threads": 1,
            "rounds": options.rounds, "rows": rows,
        }  # fmt: skip
        options.json.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
