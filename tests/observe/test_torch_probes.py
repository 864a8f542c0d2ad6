"""A batch evaluated again: what it gives is worked out by hand, in the same training, on copies of the model."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from watch import Watch, watched

from unstuck.observe import torch_probes as probes
from unstuck.rules.gradient.gradient_disagrees_with_loss import _disagrees
from unstuck.trace.facts import GradientCheck

DEEP = (1, 2, 3, 4, 6, 10, 20, 50)
X, Y = torch.randn(96, 10, generator=torch.Generator().manual_seed(0)), torch.arange(96) % 3


def batches(steps: int, rows: int = 16) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    own = torch.Generator().manual_seed(1)
    for _ in range(steps):
        chosen = torch.randint(0, len(X), (rows,), generator=own)
        yield X[chosen], Y[chosen]


def mlp(*, p: float = 0.0, norm: Callable[[int], nn.Module] = nn.Identity, act: Callable[[], nn.Module] = nn.ReLU) -> nn.Module:
    return nn.Sequential(nn.Linear(10, 16), norm(16), act(), nn.Dropout(p) if p else nn.Identity(), nn.Linear(16, 3))


def train(
    model: nn.Module,
    opt: torch.optim.Optimizer,
    steps: int,
    *,
    clip: float = 0.0,
    loss_of: Callable[..., torch.Tensor] = F.cross_entropy,
) -> list[dict[str, Any]]:
    """A training; for each step what is needed to work a probe out by hand."""
    done = []
    for x, y in batches(steps):
        states = torch.get_rng_state()
        loss = loss_of(model(x), y)
        opt.zero_grad()
        loss.backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        before = [p.detach().clone() for p in model.parameters()]
        opt.step()
        moved = [p.detach() - b for p, b in zip(model.parameters(), before)]
        predicted = -sum(float((g.double() * d.double()).sum()) for g, d in zip(gradients, moved))
        done.append({"x": x, "y": y, "states": states, "loss": loss.item(), "predicted": predicted,
                     "model": copy.deepcopy(model), "before": before})  # fmt: skip
    return done


def again(
    one: dict[str, Any], *, factor: float = 1.0, evaluation: bool = False, loss_of: Callable[..., Any] = F.cross_entropy
) -> float:
    """The loss of the step's batch with its random numbers, at its weights after the update, or part of the way there."""
    model = copy.deepcopy(one["model"])
    with torch.no_grad():
        for p, b in zip(model.parameters(), one["before"]):
            p.copy_(b + factor * (p - b))
    if evaluation:
        model.eval()
    kept = torch.get_rng_state()
    torch.set_rng_state(one["states"])
    with torch.no_grad():
        value = loss_of(model(one["x"]), one["y"]).item()
    torch.set_rng_state(kept)
    return value


def right(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (logits.argmax(1) == y).float().mean()


MODELS: dict[str, Callable[[], nn.Module]] = {
    "plain": mlp,
    "dropout": lambda: mlp(p=0.5),
    "batch norm": lambda: mlp(norm=nn.BatchNorm1d),
    "both": lambda: mlp(p=0.3, norm=nn.BatchNorm1d),
    "layer norm": lambda: mlp(p=0.3, norm=nn.LayerNorm),
}


# ---------------------------------------------------------------------- against evaluation by hand


@pytest.mark.parametrize("name", MODELS)
def test_each_number_of_a_probe(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    with watched(tmp_path) as watch:
        done = train(model, torch.optim.SGD(model.parameters(), lr=0.2), 20)
    assert [p.step for p in watch.facts.probes] == [n for n in DEEP if n <= 20]
    for probe in watch.facts.probes:
        one = done[probe.step - 1]
        assert probe.before == probe.again == one["loss"]
        assert probe.after == pytest.approx(again(one), rel=1e-6)
        assert probe.predicted == pytest.approx(one["predicted"], rel=1e-4)
        assert probe.accuracy == pytest.approx(again(one, loss_of=right))
        if name == "plain":
            assert probe.evaluation is None  # no layer knows the difference
        else:
            assert probe.evaluation == pytest.approx(again(one, evaluation=True), rel=1e-5)
            assert probe.evaluation_accuracy == pytest.approx(again(one, evaluation=True, loss_of=right))


@pytest.mark.parametrize("lr, factors", [(40.0, {"0.1", "0.01"}), (1e-6, {"10", "100"}), (0.05, set())])
def test_the_scan_along_the_step(tmp_path: Path, lr: float, factors: set[str]) -> None:
    """A step that was too long is tried shorter, one that did next to nothing longer."""
    torch.manual_seed(0)
    model = mlp(p=0.2, norm=nn.BatchNorm1d)
    with watched(tmp_path) as watch:
        done = train(model, torch.optim.SGD(model.parameters(), lr=lr), 2)
    assert len(watch.facts.probes) == 2
    for probe in watch.facts.probes[:1]:
        assert set(probe.scan) == factors
        for factor, value in probe.scan.items():
            assert value == pytest.approx(again(done[probe.step - 1], factor=float(factor)), rel=1e-6)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_the_predicted_decrease_is_that_of_the_loss_and_not_of_the_clipped_gradient(tmp_path: Path, kind: Any) -> None:
    torch.manual_seed(0)
    model = mlp()
    with watched(tmp_path) as watch:
        done = train(model, kind(model.parameters(), lr=1e-3), 10, clip=0.01)
    assert watch.facts.clippings[0].active == watch.facts.clippings[0].calls == 10
    for probe in watch.facts.probes:
        assert probe.predicted == pytest.approx(done[probe.step - 1]["predicted"], rel=1e-3)
        assert probe.before - again(done[probe.step - 1]) == pytest.approx(probe.predicted, rel=0.2)  # short steps


def test_an_update_by_hand(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = mlp(p=0.3)
    done: list[dict[str, Any]] = []
    with watched(tmp_path) as watch:
        for x, y in batches(11):
            states, before = torch.get_rng_state(), [p.detach().clone() for p in model.parameters()]
            loss = F.cross_entropy(model(x), y)
            model.zero_grad()
            loss.backward()
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.1 * p.grad
            done.append({"x": x, "y": y, "states": states, "loss": loss.item(), "before": before, "model": copy.deepcopy(model)})
    assert watch.facts.loop.functional
    assert watch.facts.probes
    for probe in watch.facts.probes:
        one = done[probe.step - 1]
        assert probe.before == probe.again == one["loss"]
        assert probe.after == pytest.approx(again(one), rel=1e-6)


def test_raw_tensors_and_functions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    w = (torch.randn(10, 3) / 3).requires_grad_()
    opt = torch.optim.SGD([w], lr=0.1)
    after = []
    with watched(tmp_path) as watch:
        for x, y in batches(6):
            states = torch.get_rng_state()
            loss = F.cross_entropy(F.dropout(x @ w, 0.3, training=True), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            kept = torch.get_rng_state()
            torch.set_rng_state(states)
            after.append(float(F.cross_entropy(F.dropout(x @ w.detach(), 0.3, training=True), y)))
            torch.set_rng_state(kept)
    assert [p.step for p in watch.facts.probes] == [1, 2, 3, 4, 6]
    for probe in watch.facts.probes:
        assert probe.again == probe.before
        assert probe.after == pytest.approx(after[probe.step - 1], rel=1e-6)


def test_autocast(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = mlp(p=0.3)
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    after = []
    with watched(tmp_path) as watch:
        for x, y in batches(6):
            states = torch.get_rng_state()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.cross_entropy(model(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            kept = torch.get_rng_state()
            torch.set_rng_state(states)
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
                after.append(F.cross_entropy(copy.deepcopy(model)(x), y).item())
            torch.set_rng_state(kept)
    assert [p.step for p in watch.facts.probes] == [1, 2, 3, 4, 6]
    for probe in watch.facts.probes:
        assert probe.again == probe.before
        assert probe.after == after[probe.step - 1]


def test_a_stateful_lstm(tmp_path: Path) -> None:
    """The hidden state that the batch began with belongs to the batch."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head, self.state = nn.LSTM(5, 8, batch_first=True), nn.Linear(8, 3), None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out, state = self.lstm(x.view(16, 2, 5), self.state)
            self.state = tuple(s.detach() for s in state)
            return self.head(out[:, -1])

    torch.manual_seed(0)
    model = Net()
    with watched(tmp_path) as watch:
        train(model, torch.optim.SGD(model.parameters(), lr=0.5), 10)
    assert len(watch.facts.probes) == 6
    for probe in watch.facts.probes:
        assert probe.again == pytest.approx(probe.before, rel=1e-6)
    state = [s.clone() for s in model.state]
    assert all(torch.equal(a, b) for a, b in zip(state, model.state))


def test_random_numbers_of_numpy_and_python_and_of_global_generators(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(10, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(x * np.random.rand() + random.random() + NOISE.normal())

    torch.manual_seed(0)
    model = Net()
    with watched(tmp_path) as watch:
        train(model, torch.optim.SGD(model.parameters(), lr=0.5), 10)
    assert len(watch.facts.probes) == 6
    assert all(p.again == p.before for p in watch.facts.probes)


NOISE = np.random.default_rng(0)


# ---------------------------------------------------------------------- what cannot be evaluated again


class AssignsGlobal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(10, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        global COUNTED
        COUNTED += 1
        return self.a(x)


COUNTED = 0


def test_a_forward_that_assigns_globals_is_not_run_again(tmp_path: Path) -> None:
    model = AssignsGlobal()
    with watched(tmp_path) as watch:
        train(model, torch.optim.SGD(model.parameters(), lr=0.5), 10)
    assert watch.facts.probes == []
    assert "global" in watch.facts.absent["probes"]
    assert COUNTED == 10


def test_an_unfaithful_replay_is_seen_and_said(tmp_path: Path) -> None:
    """A hook of the user's own is left out of the replay; the loss then is not that of the training."""
    torch.manual_seed(0)
    model = mlp()
    model[0].register_forward_hook(lambda module, args, out: 3 * out)
    with watched(tmp_path) as watch:
        train(model, torch.optim.SGD(model.parameters(), lr=0.5), 10)
    assert watch.facts.probes == []
    assert "does not give the loss of the training" in watch.facts.absent["probes"]


def test_several_backward_calls_in_a_step_are_not_probed(tmp_path: Path) -> None:
    """The update is that of all the batches, the tape holds one."""
    torch.manual_seed(0)
    model = mlp()
    opt = torch.optim.SGD(model.parameters(), lr=0.5)
    with watched(tmp_path) as watch:
        for number, (x, y) in enumerate(batches(40)):
            F.cross_entropy(model(x), y).backward()
            if number % 4 == 3:
                opt.step()
                opt.zero_grad()
    assert watch.facts.probes == []


def test_a_skeleton_shares_the_weights_and_nothing_else() -> None:
    model = mlp(p=0.5, norm=nn.BatchNorm1d)
    model.seen, model.table = [], {"a": [1]}
    new = probes.skeleton(model)
    assert all(p is q for p, q in zip(model.parameters(), new.parameters()))
    assert not any(m is n for m, n in zip(model.modules(), new.modules()))
    assert not any(b is c or b.data_ptr() == c.data_ptr() for b, c in zip(model.buffers(), new.buffers()))
    new.seen.append(1)
    new.table["a"].append(2)
    new.eval()
    assert model.seen == [] and model.table == {"a": [1]}
    assert all(m.training for m in model.modules())


# ---------------------------------------------------------------------- is the gradient the derivative?


def checked(
    folder: Path, model: nn.Module, *, steps: int = 4, prepare: Callable[[torch.Tensor], torch.Tensor] = lambda x: x
) -> list[GradientCheck]:
    opt = torch.optim.SGD(model.parameters(), lr=0.05)
    with watched(folder) as watch:
        for x, y in batches(steps):
            opt.zero_grad()
            F.cross_entropy(model(prepare(x)), y).backward()
            opt.step()
    return look(watch)


def look(watch: Watch) -> list[GradientCheck]:
    tape = watch.state.tape
    assert tape is not None and tape.ready
    with probes.unnoticed(tape):
        return probes.check_gradient(tape, watch.trained, lambda: False)


class Image(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.MaxPool1d(2), nn.Flatten())
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x.unsqueeze(1)))


class Sequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(2, 12, 2, batch_first=True, dropout=0.2), nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x.view(len(x), 5, 2))[0][:, -1])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.head = nn.Linear(2, 8), nn.Linear(8, 3)
        self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0.1, batch_first=True), 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.up(x.view(len(x), 5, 2))).mean(1))


class Single(nn.Module):
    """Insists on float32."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x.float())


def scaled(model: nn.Module, factor: float) -> nn.Module:
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(factor)
    return model


RIGHT: dict[str, Callable[[], nn.Module]] = {
    **MODELS,
    "convolution": Image,
    "LSTM": Sequence,
    "transformer": Attention,
    "saturated tanh": lambda: scaled(mlp(act=nn.Tanh), 20.0),
    "saturated sigmoid": lambda: scaled(mlp(act=nn.Sigmoid), 10.0),
    "large weights": lambda: scaled(mlp(), 10.0),
    "small weights": lambda: scaled(mlp(), 0.01),
}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("precision", ["float32", "kept in float32", "bfloat16", "autocast"])
def test_torchs_own_gradients_agree_with_the_loss(tmp_path: Path, name: str, precision: str) -> None:
    torch.manual_seed(0)
    model = RIGHT[name]()
    if precision == "bfloat16":
        model = model.bfloat16()
    elif precision == "kept in float32":
        model = Single(model)
    if precision == "autocast":
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = checked(tmp_path, model)
    else:
        found = checked(tmp_path, model, prepare=torch.Tensor.bfloat16 if precision == "bfloat16" else torch.Tensor.float)
    assert len(found) == min(8, len(list(model.parameters())))
    assert {c.dtype for c in found} == {"float32" if precision == "kept in float32" else "float64"}
    assert [c for c in found if _disagrees(c)] == []
    assert all(math.isfinite(c.slope) for c in found)


class Forward(torch.autograd.Function):
    """tanh with a backward to be chosen."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, factor: float) -> torch.Tensor:
        out = torch.tanh(x)
        ctx.save_for_backward(out)
        ctx.factor = factor
        return out

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor, None]:
        (out,) = ctx.saved_tensors
        return ctx.factor * g * (1 - out * out), None


class NoDerivative(torch.autograd.Function):
    """tanh whose backward forgets the derivative."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        return g


class Custom(nn.Module):
    def __init__(self, act: Callable[[torch.Tensor], torch.Tensor], p: float = 0.0) -> None:
        super().__init__()
        self.a, self.b, self.act, self.drop = nn.Linear(10, 16), nn.Linear(16, 3), act, nn.Dropout(p)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.drop(self.act(2 * self.a(x))))


@pytest.mark.parametrize("p", [0.0, 0.5])
@pytest.mark.parametrize("in_single", [False, True])
@pytest.mark.parametrize(
    "act, wrong",
    [
        (lambda x: Forward.apply(x, 1.0), False),
        (lambda x: Forward.apply(x, -1.0), True),
        (lambda x: Forward.apply(x, 2.0), True),
        (lambda x: Forward.apply(x, 0.5), True),
        (lambda x: Forward.apply(x, 0.0), True),
        (lambda x: Forward.apply(x, 0.99), False),  # within 5 %
        (NoDerivative.apply, True),
        (lambda x: torch.tanh(x) * torch.tanh(x), False),
        (lambda x: torch.tanh(x) * torch.tanh(x).detach(), True),  # a factor that is not differentiated: half of it
    ],
)
def test_a_backward_that_is_not_the_derivative_is_found(tmp_path: Path, act: Any, wrong: bool, in_single: bool, p: float) -> None:
    torch.manual_seed(0)
    model: nn.Module = Custom(act, p)
    found = checked(tmp_path, Single(model) if in_single else model)
    assert len(found) == 4
    bad = {c.parameters[0].removeprefix("inner.") for c in found if _disagrees(c)}
    assert bad == ({"a.weight", "a.bias"} if wrong else set())  # what lies behind the fault has the right gradient


@pytest.mark.parametrize("suspicious", [True, False])
@pytest.mark.parametrize("custom", [True, False])
def test_when_the_gradient_is_checked(tmp_path: Path, suspicious: bool, custom: bool) -> None:
    """Where a function of the user's own is seen, or at the end where it is asked for; the training stays what it was."""
    torch.manual_seed(0)
    model = Custom(lambda x: Forward.apply(x, -1.0) if custom else torch.tanh(x), 0.2)
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    with watched(tmp_path, suspicious=suspicious) as watch:
        train(model, opt, 60)
        kept = [p.detach().clone() for p in model.parameters()]
        gradients = [p.grad.clone() for p in model.parameters()]
        drawn = torch.get_rng_state()
    checks = watch.facts.gradient_checks
    assert bool(checks) if suspicious else custom or not checks
    assert any(_disagrees(c) for c in checks) == (custom and bool(checks))
    assert [c.function for c in watch.facts.custom] == (["Forward"] if custom else [])
    assert all(torch.equal(a, b) for a, b in zip(kept, model.parameters()))
    assert all(torch.equal(a, b.grad) for a, b in zip(gradients, model.parameters()))
    assert torch.equal(drawn, torch.get_rng_state())


def test_out_of_time(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = mlp()
    with watched(tmp_path) as watch:
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 4)
    tape = watch.state.tape
    assert tape is not None
    left = iter([False, False, True])
    with probes.unnoticed(tape):
        assert len(probes.check_gradient(tape, watch.trained, lambda: next(left))) == 2
        assert probes.check_gradient(tape, [], lambda: False) == []


def test_a_directions_weights_are_spread_over_the_depth(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 8), *(m for _ in range(8) for m in (nn.Tanh(), nn.Linear(8, 8))), nn.Linear(8, 3))
    found = checked(tmp_path, model)
    assert len(found) == 8
    assert {c.parameters[0] for c in found} >= {"0.weight"}
