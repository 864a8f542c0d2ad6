"""Probabilities given as logits are refused aloud, once, at the line that gave them; true logits never are."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from unstuck.losses import CrossEntropyLoss, cross_entropy, guards


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    guards.forget()
    yield
    guards.forget()


def warned(calls, times: int = 1) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(times):
            calls()
    return [w for w in seen if "probabilities, not logits" in str(w.message)]


def test_a_double_softmax_is_named_at_its_first_step_with_its_line() -> None:
    logits, target = torch.randn(32, 10, requires_grad=True), torch.arange(32) % 10
    seen = warned(lambda: cross_entropy(torch.softmax(logits, 1), target), times=20)
    line = inspect.currentframe().f_lineno - 1
    assert len(seen) == 1
    assert seen[0].category is UserWarning
    assert (seen[0].filename, seen[0].lineno) == (__file__, line)
    assert f":{line}" in str(seen[0].message) and "Remove the softmax" in str(seen[0].message)


def test_the_module_names_the_line_of_its_call() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loss = CrossEntropyLoss()

        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return self.loss(torch.softmax(z, 1), torch.zeros(len(z), dtype=torch.int64))

    model = Model()
    (seen,) = warned(lambda: model(torch.randn(32, 10)))
    start = inspect.getsourcelines(Model.forward)[1]
    assert (seen.filename, seen.lineno) == (__file__, start + 1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(64, 2), (64, 10), (16, 1000), (2, 5, 4, 4), (8, 30000)])
def test_every_dtype_and_shape(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    rows = shape[:1] + shape[2:]
    bad = torch.softmax(torch.randn(shape).double() * 2, 1).to(dtype)
    assert len(warned(lambda: cross_entropy(bad, torch.zeros(rows, dtype=torch.int64)))) == 1
    good = torch.randn(shape).to(dtype)
    assert not warned(lambda: cross_entropy(good, torch.zeros(rows, dtype=torch.int64)), times=20)
    positive = torch.rand(shape).to(dtype)
    assert not warned(lambda: cross_entropy(positive, torch.zeros(rows, dtype=torch.int64)), times=20)


def test_few_rows_are_judged_over_several_calls() -> None:
    def call() -> None:
        cross_entropy(torch.softmax(torch.randn(3, 5), 1), torch.tensor([0, 1, 2]))

    assert not warned(call, times=2)
    assert len(warned(call)) == 1


def test_one_call_with_true_logits_clears_the_case() -> None:
    rows = [torch.softmax(torch.randn(3, 5), 1), torch.softmax(torch.randn(3, 5), 1), torch.randn(3, 5)] * 4
    turn = iter(rows)
    assert not warned(lambda: cross_entropy(next(turn), torch.tensor([0, 1, 2])), times=len(rows))


@pytest.mark.parametrize(
    "logits",
    [
        torch.zeros(64, 10),  # a head that starts at zero
        torch.full((64, 10), 0.1),  # ... or constant: sums to 1 by accident
        torch.eye(10).repeat(6, 1),  # one-hot
        torch.ones(64, 1),  # one class
        torch.rand(64, 2),
        torch.rand(64, 3) * 0.66,  # near a sum of 1, never at it
        torch.log_softmax(torch.randn(64, 10), 1),
        torch.sigmoid(torch.randn(64, 10)),
    ],
    ids=["zeros", "constant", "one-hot", "one class", "two in [0, 1]", "sums near 1", "log-probabilities", "sigmoid"],
)
def test_what_only_looks_alike_is_left_alone(logits: torch.Tensor) -> None:
    assert not warned(lambda: cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64)), times=40)


def test_a_real_training_never_warns() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    x = torch.randn(64, 4)
    y = x[:, :3].argmax(1)

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()

    assert not warned(step, times=60)
