"""Pitfall 18: the benchmark of the losses does not lie. It rotates buffers, uses random numbers, and compares what is equal."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

PATH = Path(__file__).parents[2] / "benchmarks" / "losses.py"
spec = importlib.util.spec_from_file_location("benchmarks_losses", PATH)
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)


def test_18_buffers_rotate_beyond_the_cache_and_hold_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "CACHE", 1 << 20)
    rotation = benchmark.Rotation(512, 10, torch.float32, "cpu")
    assert rotation.count * rotation.bytes >= 4 * benchmark.CACHE
    seen = {rotation.next()[0].data_ptr() for _ in range(rotation.count)}
    assert len(seen) == rotation.count  # no buffer is used again before all the others
    assert all(float(z.detach().std()) > 1 for z in rotation.logits)
    assert len({float(z.detach().sum()) for z in rotation.logits}) == rotation.count


def test_18_every_way_computes_the_same_forward_and_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*given: object, **options: object) -> None:
        raise RuntimeError("left out: compiling takes half a minute")

    monkeypatch.setattr(torch, "compile", no_compiler)
    found, missing = benchmark.ways("cpu")
    assert any("left out" in line for line in missing)
    rotation = benchmark.Rotation(70, 300, torch.float32, "cpu")
    for way in found:
        logits, target = rotation.next()
        before = logits.detach().clone().requires_grad_()
        (expected,) = torch.autograd.grad(F.cross_entropy(before, target), before)
        torch.testing.assert_close(benchmark.forward_backward(way, logits, target), expected, rtol=1e-5, atol=1e-9)
        assert logits.grad is None  # nothing was accumulated
        changed = not torch.equal(logits, before)
        assert changed == way.destroys
        if way.destroys:
            rotation.restore(logits)
            assert float(logits.detach().std()) > 1
        else:
            assert not benchmark.forward(way, logits, target).requires_grad
