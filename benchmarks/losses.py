"""What a loss call costs: torch's, compiled, other libraries' and ours, beside the least the memory allows.

    python benchmarks/losses.py [--device cpu|cuda] [--rounds 5] [--only 4096x32000]

Each round times every implementation once, in turn; a figure is the least over the rounds (other work on the machine can only add).
Logits are random, not zeros, and rotate through buffers several times larger than any cache; the upstream gradient is a new
tensor each time; gradients are asked for by autograd.grad, so no AccumulateGrad clones them. Forward-only is timed without
gradients being recorded, and never compared with forward and backward. Memory is the peak above what was held before the call,
logits included. "of copy" is 2U / time, U the bytes of the logits (read them once, write the gradient once), as a share of the
copy bandwidth measured in this run. What is not installed, or does not run, is listed as such.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unstuck.losses import cross_entropy, linear_cross_entropy

CACHE = 64 << 20  # larger than the last-level cache of either device
Loss = Callable[[Tensor, Tensor], Tensor]


class Way(NamedTuple):
    """One implementation: its name, and how it is called; `destroys` where the logits do not survive."""

    name: str
    loss: Loss
    destroys: bool = False


def telemetry_beside(logits: Tensor, target: Tensor) -> Tensor:
    """torch's loss, and what our telemetry holds computed next to it in the plain way."""
    with torch.no_grad():
        z = logits.detach()
        lse = torch.logsumexp(z, 1)
        top, predicted = z.max(1)
        p = torch.softmax(z, 1)
        entropy = lse - (p * z).sum(1)
        correct = (predicted == target).sum()
        histogram = torch.bincount(predicted, minlength=z.shape[1])
        telemetry_beside.last = (lse, top, entropy, correct, histogram)  # type: ignore[attr-defined]
    return F.cross_entropy(logits, target)


def ways(device: str) -> tuple[list[Way], list[str]]:
    """Every implementation that runs here, and why the others do not."""
    found = [
        Way("torch eager", F.cross_entropy),
        Way("torch + telemetry beside", telemetry_beside),
        Way("ours", cross_entropy),
        Way("ours + telemetry", lambda z, y: cross_entropy(z, y, telemetry=lambda seen: None)),
        Way(
            "ours + telemetry, overwriting",
            lambda z, y: cross_entropy(z, y, telemetry=lambda seen: None, overwrite_logits=True),
            True,
        ),
    ]
    missing = []
    try:
        compiled = torch.compile(F.cross_entropy, dynamic=False)
        probe = torch.randn(2, 3, device=device, requires_grad=True)
        torch.autograd.grad(compiled(probe, torch.tensor([0, 1], device=device)), probe)
        found.insert(1, Way("torch.compile", compiled))
    except Exception as error:
        missing.append(f"torch.compile: {str(error).splitlines()[0][:90]}")
    for name, module in (("Liger", "liger_kernel"), ("quack", "quack")):
        if device != "cuda":
            missing.append(f"{name}: needs a GPU")
        elif importlib.util.find_spec(module) is None:
            missing.append(f"{name}: not installed")
        elif name == "Liger":
            from liger_kernel.transformers.functional import liger_cross_entropy

            found.append(Way(name, liger_cross_entropy, True))
        else:
            from quack.cross_entropy import cross_entropy as quack_cross_entropy

            found.append(Way(name, lambda z, y: quack_cross_entropy(z, y, reduction="mean")))
    if device != "cuda" or importlib.util.find_spec("cut_cross_entropy") is None:
        missing.append("cut-cross-entropy: " + ("needs a GPU" if device != "cuda" else "not installed"))
    return found, missing


class Rotation:
    """Leaves of random logits and their labels, more of them than fit into a cache, handed out in turn."""

    def __init__(self, rows: int, classes: int, dtype: torch.dtype, device: str) -> None:
        size = rows * classes * dtype.itemsize
        self.count = max(1, math.ceil(4 * CACHE / size))
        self.logits = [(torch.randn(rows, classes, device=device) * 2).to(dtype).requires_grad_() for _ in range(self.count)]
        self.targets = [torch.randint(0, classes, (rows,), device=device) for _ in range(self.count)]
        self.bytes = size
        self.at = 0

    def next(self) -> tuple[Tensor, Tensor]:
        self.at = (self.at + 1) % self.count
        return self.logits[self.at], self.targets[self.at]

    def restore(self, logits: Tensor) -> None:
        """New random numbers where a call has left its gradient."""
        with torch.no_grad():
            logits.normal_().mul_(2.0)


def forward_backward(way: Way, logits: Tensor, target: Tensor) -> Tensor:
    # a view is no leaf: the one thing an overwriting loss may overwrite
    z = logits.view_as(logits) if way.destroys else logits
    loss = way.loss(z, target)
    (gradient,) = torch.autograd.grad(loss, logits, torch.ones_like(loss))
    return gradient


def forward(way: Way, logits: Tensor, target: Tensor) -> Tensor:
    with torch.no_grad():
        return way.loss(logits, target)


def clock(call: Callable[[], object], device: str) -> float:
    """Seconds of one call: of the device, or of this thread on the CPU (its page faults included, other processes not)."""
    if device == "cuda":
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        call()
        stop.record()
        torch.cuda.synchronize()
        return start.elapsed_time(stop) / 1e3
    began = time.thread_time()
    call()
    return time.thread_time() - began


def peak(call: Callable[[], object], device: str) -> float | None:
    """Bytes at the highest point of a call above those held before. On the CPU the kernel's high-water mark; None where there is
    none."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return float(torch.cuda.max_memory_allocated() - before)
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not reset.exists():
        return None

    def read(name: str) -> float:
        line = next(line for line in status.read_text().splitlines() if line.startswith(name))
        return float(line.split()[1]) * 1024

    try:
        reset.write_text("5")  # puts the high-water mark back to what is held now
    except OSError:
        return None
    before = read("VmRSS")
    kept = call()
    high = read("VmHWM") - before
    del kept
    return high


def copy_bandwidth(device: str) -> float:
    """Bytes read and written a second by a plain copy of 512 MiB, the best of seven."""
    source = torch.randn(1 << 27, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / min(clock(lambda: target.copy_(source), device) for _ in range(7))


def table(rows: int, classes: int, dtype: torch.dtype, device: str, rounds: int, bandwidth: float, all_ways: list[Way]) -> None:
    torch.compiler.reset()  # every shape is compiled for itself
    rotation = Rotation(rows, classes, dtype, device)
    many = max(1, min(50, int(2e7 / (rows * classes))))  # short calls: the least of many
    both = dict.fromkeys((w.name for w in all_ways), math.inf)
    only = dict(both)
    for way in all_ways:  # compile, allocate, warm up
        forward_backward(way, *rotation.next())
        if not way.destroys:
            forward(way, *rotation.next())
    for logits in rotation.logits:
        rotation.restore(logits)
    for _ in range(rounds):
        for way in all_ways:
            for _ in range(many):
                logits, target = rotation.next()
                both[way.name] = min(both[way.name], clock(lambda w=way, z=logits, y=target: forward_backward(w, z, y), device))
                if way.destroys:
                    rotation.restore(logits)
                    continue
                logits, target = rotation.next()
                only[way.name] = min(only[way.name], clock(lambda w=way, z=logits, y=target: forward(w, z, y), device))
    print(
        f"\nN={rows} V={classes} {str(dtype).removeprefix('torch.')}, U = {rotation.bytes / 2**20:.1f} MiB, "
        f"{rotation.count} buffers"
    )
    print(f"{'':32}{'forward':>11}{'+ backward':>12}{'against eager':>15}{'extra memory':>14}{'of copy':>9}")
    for way in all_ways:
        logits, target = rotation.next()
        used = peak(lambda w=way, z=logits, y=target: forward_backward(w, z, y), device)
        if way.destroys:
            rotation.restore(logits)
        if device == "cpu" and rotation.bytes < CACHE // 2:
            used = None  # the allocator has such a buffer at hand, and the kernel's counters see nothing
        seconds = both[way.name]
        print(
            f"{way.name:32}{'-' if way.destroys else f'{only[way.name] * 1e3:.3f} ms':>11}{f'{seconds * 1e3:.3f} ms':>12}"
            f"{f'{both[all_ways[0].name] / seconds:.2f} x':>15}{'-' if used is None else f'{used / rotation.bytes:.2f} U':>14}"
            f"{2 * rotation.bytes / seconds / bandwidth:>8.0%}",
            flush=True,
        )


def linear_table(rows: int, features: int, classes: int, dtype: torch.dtype, device: str, rounds: int) -> None:
    hidden = [torch.randn(rows, features, device=device).to(dtype).requires_grad_() for _ in range(3)]
    matrix = (torch.randn(classes, features, device=device) / features**0.5).to(dtype).requires_grad_()
    target = torch.randint(0, classes, (rows,), device=device)
    calls: dict[str, Callable[[Tensor], Tensor]] = {
        "torch linear, cross_entropy": lambda h: F.cross_entropy(F.linear(h, matrix), target),
        "ours": lambda h: linear_cross_entropy(h, matrix, target),
        "ours + telemetry": lambda h: linear_cross_entropy(h, matrix, target, telemetry=lambda seen: None),
    }
    if hasattr(torch.nn, "LinearCrossEntropyOptions"):
        chunked = torch.nn.LinearCrossEntropyOptions()
        calls["torch linear_cross_entropy"] = lambda h: F.linear_cross_entropy(h, matrix, target, options=chunked)
    if device == "cuda" and importlib.util.find_spec("cut_cross_entropy") is not None:
        from cut_cross_entropy import linear_cross_entropy as cut

        calls["cut-cross-entropy"] = lambda h: cut(h, matrix, target)
    best = dict.fromkeys(calls, math.inf)
    used: dict[str, float | None] = {}

    def step(call: Callable[[Tensor], Tensor], h: Tensor) -> tuple[Tensor, ...]:
        loss = call(h)
        return torch.autograd.grad(loss, (h, matrix), torch.ones_like(loss))

    for turn in range(rounds):
        for name, call in calls.items():
            best[name] = min(best[name], clock(lambda c=call, h=hidden[turn % 3]: step(c, h), device))
    for name, call in calls.items():
        used[name] = peak(lambda c=call: step(c, hidden[0]), device)
    work = 6.0 * rows * features * classes
    print(f"\nlinear + loss, N={rows} D={features} V={classes} {str(dtype).removeprefix('torch.')}, {work / 1e9:.0f} GFLOP")
    print(f"{'':32}{'+ backward':>12}{'extra memory':>14}{'TFLOP/s':>10}")
    for name, seconds in best.items():
        memory = used[name]
        # on the CPU the allocator keeps smaller blocks at hand, and the kernel's counters do not see them used again
        small = memory is not None and device == "cpu" and memory < CACHE
        shown = "-" if memory is None else "< 64 MiB" if small else f"{memory / 2**20:.0f} MiB"
        print(f"{name:32}{f'{seconds * 1e3:.1f} ms':>12}{shown:>14}{work / seconds / 1e12:>10.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="one shape, as 4096x32000")
    options = parser.parse_args()
    device = options.device
    if device == "cpu":
        torch.set_num_threads(1)
    shapes = {
        "cpu": [
            (4096, 32000, torch.float32),
            (4096, 1000, torch.float32),
            (65536, 10, torch.float32),
            (1024, 32000, torch.bfloat16),
        ],
        "cuda": [(8192, v, torch.bfloat16) for v in (32000, 65536, 128256, 262144)] + [(65536, 10, torch.float32)],
    }[device]
    bandwidth = copy_bandwidth(device)
    all_ways, missing = ways(device)
    name = (
        torch.cuda.get_device_name()
        if device == "cuda"
        else f"CPU, {torch.get_num_threads()} thread, {torch.backends.cpu.get_cpu_capability()}"
    )
    print(f"torch {torch.__version__}, {name}, copy {bandwidth / 1e9:.1f} GB/s; least of {options.rounds} rounds")
    for rows, classes, dtype in shapes:
        if options.only in (None, f"{rows}x{classes}"):
            table(rows, classes, dtype, device, options.rounds, bandwidth, all_ways)
    if options.only in (None, "linear"):
        if device == "cuda":
            linear_table(8192, 4096, 128256, torch.bfloat16, device, options.rounds)
        else:
            linear_table(2048, 256, 32000, torch.float32, device, options.rounds)
    if missing:
        print("\nnot measured: " + "; ".join(missing))
    if device == "cpu":
        print("not measured: any GPU (none was asked for, or there is none)")


if __name__ == "__main__":
    main()
