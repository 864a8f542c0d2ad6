"""The numbers of the layers, against brute force: hooks that keep what went through each module."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from watch import watched

from unstuck.observe import torch_modules as modules
from unstuck.trace.facts import Facts, Layer

DEEP = (1, 2, 3, 4, 6, 10)


class Kept:
    """Input and output of chosen modules at each step."""

    def __init__(self, model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> None:
        self.by: dict[nn.Module, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        for module in model.modules():
            if isinstance(module, kinds):
                self.by[module] = []
                module.register_forward_hook(self.note)

    def note(self, module: nn.Module, args: Any, out: Any) -> None:
        self.by[module].append((args[0].detach().clone(), out.detach().clone()))


def train(folder: Path, model: nn.Module, shape: tuple[int, ...], *, steps: int = 10, lr: float = 0.1) -> Facts:
    torch.manual_seed(1)
    opt = torch.optim.SGD(model.parameters(), lr=lr)
    with watched(folder) as watch:
        for _ in range(steps):
            opt.zero_grad()
            F.cross_entropy(model(torch.randn(shape)), torch.randint(0, 3, (shape[0],))).backward()
            opt.step()
    return watch.facts


def one(facts: Facts, op: str, number: int = 0) -> Layer:
    return [layer for layer in facts.layers if layer.op == op][number]


def close(value: float | None, expected: Any) -> bool:
    return value is not None and math.isclose(value, float(expected), rel_tol=1e-4, abs_tol=1e-6)


def general(layer: Layer, values: list[torch.Tensor]) -> None:
    """What is measured of every tensor: size, mean, how much of it differs between rows."""
    assert [k.step for k in layer.looks] == list(DEEP)
    for look in layer.looks:
        t = values[look.step - 1]
        assert look.rows == len(t)
        assert close(look.rms, t.square().mean().sqrt()) and close(look.mean, t.mean())
        rows = t.flatten(1).double()
        share = (rows - rows.mean(0)).square().mean() / rows.square().mean()
        assert look.spread is not None and abs(look.spread - float(share)) < 1e-5


# ---------------------------------------------------------------------- activations


@pytest.mark.parametrize("dead", [0, 3, 8])
def test_relu_units(tmp_path: Path, dead: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        model[0].bias[:dead] = -100.0
    kept = Kept(model, (nn.ReLU, nn.Linear))
    layer = one(train(tmp_path, model, (16, 6)), "relu")
    assert (layer.of, layer.units, layer.module, layer.data) == ("output", 8, "ReLU", False)
    outs = [out for _, out in kept.by[model[1]]]
    for look in layer.looks:
        t = outs[look.step - 1]
        assert close(look.zeros, (t == 0).float().mean())
        assert close(look.dead, (t == 0).all(0).float().mean())
        assert look.dead is not None and look.dead >= dead / 8
    if dead < 8:
        general(layer, outs)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_relu_maps_of_a_convolution(tmp_path: Path, dimensions: int) -> None:
    """A unit is a channel: dead where it is 0 in every row and at every place."""
    torch.manual_seed(0)
    conv = nn.Conv1d if dimensions == 1 else nn.Conv2d
    norm = nn.BatchNorm1d if dimensions == 1 else nn.BatchNorm2d
    model = nn.Sequential(conv(2, 5, 3), norm(5), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    size = (16, 2, *[7] * dimensions)
    model(torch.zeros(size))
    with torch.no_grad():
        model[1].bias[1:3] = -100.0
    kept = Kept(model, (nn.ReLU,))
    layer = one(train(tmp_path, model, size), "relu")
    assert layer.units == 5
    for look in layer.looks:
        t = kept.by[model[2]][look.step - 1][1].transpose(0, 1).flatten(1)
        assert close(look.dead, (t == 0).all(1).float().mean()) and close(look.dead, 2 / 5)
        assert close(look.zeros, (t == 0).float().mean())


def test_relu_units_of_sequences(tmp_path: Path) -> None:
    """[rows, positions, units]: a unit is dead where it is 0 at all positions of all rows."""
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.act, self.b = nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.act(self.a(x))).mean(1)

    model = Net()
    with torch.no_grad():
        model.a.bias[:2] = -100.0
    kept = Kept(model, (nn.ReLU,))
    layer = one(train(tmp_path, model, (8, 5, 4)), "relu")
    assert layer.units == 6
    for look in layer.looks:
        t = kept.by[model.act][look.step - 1][1].flatten(0, 1)
        assert close(look.dead, (t == 0).all(0).float().mean())
    general(layer, [out for _, out in kept.by[model.act]])


@pytest.mark.parametrize("relu", [
    lambda: nn.ReLU(inplace=True), lambda: nn.Hardtanh(0, 1e9), lambda: nn.Threshold(0, 0), nn.ReLU,
])  # fmt: skip
def test_other_ways_to_write_a_relu(tmp_path: Path, relu: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), relu(), nn.Linear(8, 3))
    with torch.no_grad():
        model[0].bias[:4] = -100.0
    facts = train(tmp_path, model, (16, 6))
    found = [layer for layer in facts.layers if layer.op == "relu"]
    if type(model[1]) is nn.Hardtanh:
        assert found == []  # it is bounded above, too
        return
    assert [k.step for k in found[0].looks] == list(DEEP)
    assert all(k.dead is not None and k.dead >= 0.5 for k in found[0].looks)


@pytest.mark.parametrize("size", [0.1, 3.0, 50.0])
@pytest.mark.parametrize("act", [nn.Sigmoid, nn.Tanh])
def test_sigmoid_and_tanh_units(tmp_path: Path, act: type[nn.Module], size: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), act(), nn.Linear(8, 3))
    with torch.no_grad():
        model[0].weight.mul_(size)
        model[0].bias[:2] = size * 10
    kept = Kept(model, (act,))
    layer = one(train(tmp_path, model, (16, 6)), "sigmoid" if act is nn.Sigmoid else "tanh")
    assert (layer.units, layer.module) == (8, act.__name__)
    general(layer, [out for _, out in kept.by[model[1]]])
    for look in layer.looks:
        x, out = kept.by[model[1]][look.step - 1]
        x = x.double().requires_grad_()
        slope = torch.autograd.grad(model[1](x).sum(), x)[0] / (0.25 if act is nn.Sigmoid else 1.0)
        flat = slope < 0.05
        assert look.derivative is not None and abs(look.derivative - float(slope.mean())) < 1e-5
        assert look.saturated is not None and abs(look.saturated - float(flat.double().mean())) < 1e-6
        high = out > (0.5 if act is nn.Sigmoid else 0.0)
        ends = (flat & high).all(0) | (flat & ~high).all(0)
        assert look.one_sided is not None and abs(look.one_sided - float(ends.double().mean())) < 1e-6


# ---------------------------------------------------------------------- what enters a layer


def test_inputs_of_linear_layers_and_norms(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 3))
    kept = Kept(model, (nn.Linear, nn.BatchNorm1d, nn.LayerNorm))
    facts = train(tmp_path, model, (16, 6))
    for op, module, number, units in (("linear", model[0], 0, 6), ("linear", model[4], 1, 8),
                                      ("batch_norm", model[1], 0, 8), ("layer_norm", model[3], 0, 8)):  # fmt: skip
        layer = one(facts, op, number)
        assert (layer.of, layer.units) == ("input", units)
        general(layer, [x for x, _ in kept.by[module]])
    assert [layer.op for layer in facts.layers] == ["linear", "batch_norm", "tanh", "layer_norm", "linear"]
    assert [layer.data for layer in facts.layers] == [True, False, False, False, False]
    assert one(facts, "linear").parameters == ["0.weight", "0.bias"]
    assert one(facts, "linear", 1).name == "4"


def test_what_enters_a_convolution(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(5 * 9, 3))
    kept = Kept(model, (nn.Conv2d,))
    facts = train(tmp_path, model, (8, 2, 7, 7))
    for number, place in ((0, 0), (1, 2)):
        layer = one(facts, "conv", number)
        assert layer.units == (2, 4)[number] and layer.data == (number == 0)
        general(layer, [x for x, _ in kept.by[model[place]]])


def test_matrices_used_as_x_at_w(tmp_path: Path) -> None:
    torch.manual_seed(0)
    a, b = (torch.randn(6, 8) / 2).requires_grad_(), (torch.randn(8, 3) / 3).requires_grad_()
    c = torch.zeros(3, requires_grad=True)
    opt = torch.optim.SGD([a, b, c], lr=0.1)
    first = a.detach().clone()
    with watched(tmp_path) as watch:
        for _ in range(4):
            x, y = torch.randn(16, 6), torch.randint(0, 3, (16,))
            opt.zero_grad()
            F.cross_entropy(torch.relu(x @ a) @ b + c, y).backward()
            opt.step()
    shapes = {tuple(p.shape): p for p in watch.facts.parameters}
    assert shapes[6, 8].transposed and shapes[8, 3].transposed
    assert (shapes[6, 8].fan_in, shapes[8, 3].fan_in) == (6, 8)
    assert (shapes[6, 8].order or 0) < (shapes[8, 3].order or 0)
    assert close(shapes[6, 8].first_rms, first.square().mean().sqrt())
    assert one(watch.facts, "relu").units == 8


def test_all_rows_the_same(tmp_path: Path) -> None:
    """Not a rounding error away from it: exactly."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 3))
    with torch.no_grad():
        model[0].weight.zero_()
    facts = train(tmp_path, model, (16, 6), steps=1)
    assert one(facts, "sigmoid").looks[0].spread == 0.0
    assert (one(facts, "linear").looks[0].spread or 0) > 0.9


@pytest.mark.parametrize("shape", [(0, 4), (1, 4), (4,), ()])
def test_tensors_without_rows(shape: tuple[int, ...]) -> None:
    for op in ("relu", "sigmoid", "tanh", "linear"):
        look = modules.statistics(op, torch.ones(shape), 1, -1)
        assert look.step == 1 and look.rows == (shape[0] if shape else 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none(value: float) -> None:
    t = torch.randn(8, 4)
    t[3, 2] = value
    for op in ("relu", "sigmoid", "tanh", "linear"):
        modules.statistics(op, t, 1, -1)


def test_a_large_tensor_is_looked_at_on_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "MAX_NUMBERS", 100)
    t = torch.randn(64, 10)
    look = modules.statistics("relu", t.clamp_min(0), 1, -1)
    assert look.rows == 10
    assert close(look.zeros, (t[:10] <= 0).float().mean())


# ---------------------------------------------------------------------- weights


def brute_equal(p: torch.Tensor) -> float:
    """Share of the rows that equal the first one; 0 where it is alone."""
    same = sum(torch.equal(row, p[0]) for row in p)
    return same / len(p) if same > 1 else 0.0


@pytest.mark.parametrize("equal", [0, 2, 5, 8])
def test_equal_rows(equal: int) -> None:
    torch.manual_seed(0)
    for shape in ((8, 6), (8, 2, 3, 3)):
        p = torch.randn(shape)
        p[:equal] = p[:1]
        assert modules.equal_rows(p) == pytest.approx(brute_equal(p))
    wide = torch.randn(6, 8)
    wide[:, :equal] = wide[:, :1]
    assert modules.equal_rows(wide, transposed=True) == pytest.approx(brute_equal(wide.t()))


@pytest.mark.parametrize("p", [torch.zeros(4), torch.zeros(1, 4), torch.zeros(0, 4), torch.zeros(4, 0), torch.zeros(())])
def test_one_row_is_equal_to_nothing(p: torch.Tensor) -> None:
    assert modules.equal_rows(p) is None


def test_equal_rows_of_a_large_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "MAX_NUMBERS", 16)
    assert modules.equal_rows(torch.ones(8, 50)) == 1.0
    assert modules.equal_rows(torch.randn(8, 50)) == 0.0


def test_equal_units_stay_equal_and_others_part(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    with torch.no_grad():
        for p in (model[0].weight, model[0].bias, model[2].weight, model[2].bias):
            p.fill_(0.1)
        model[2].bias.copy_(torch.linspace(-1, 1, 8))
    facts = train(tmp_path, model, (16, 6))
    by = {p.name: p for p in facts.parameters}
    assert (by["0.weight"].equal_rows_first, by["2.weight"].equal_rows_first, by["4.weight"].equal_rows_first) == (1.0, 1.0, 0.0)
    assert by["0.weight"].equal_rows == pytest.approx(brute_equal(model[0].weight.detach()))
    assert by["2.weight"].equal_rows == pytest.approx(brute_equal(model[2].weight.detach()))
    assert by["0.bias"].equal_rows is None


def test_norms_of_weight_gradient_and_update(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        model[0].bias[:4] = -100.0
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    done: list[dict[str, tuple[float, float, float, float]]] = []
    with watched(tmp_path) as watch:
        for _ in range(10):
            opt.zero_grad()
            F.cross_entropy(model(torch.randn(16, 6)), torch.randint(0, 3, (16,))).backward()
            before = {n: p.detach().clone() for n, p in model.named_parameters()}
            opt.step()
            done.append({n: (float(before[n].norm()), float(p.grad.norm()), float((p.detach() - before[n]).norm()),
                             float((p.grad == 0).float().mean())) for n, p in model.named_parameters()})  # fmt: skip
    for record in watch.facts.parameters:
        assert [k.step for k in record.looks] == list(DEEP)
        for look in record.looks:
            seen = (look.weight_norm, look.grad_norm, look.update_norm, look.zero_gradients)
            assert seen == pytest.approx(done[look.step - 1][record.name], rel=1e-4, abs=1e-7)
    first, second = (p.order for p in watch.facts.parameters if p.name.endswith("weight"))
    assert first is not None and second is not None and first < second


def test_updates_that_are_rounded_away(tmp_path: Path) -> None:
    """bfloat16 has 8 bits: an update of a thousandth of a weight is lost."""
    torch.manual_seed(0)
    model = nn.Linear(6, 3).bfloat16()
    opt = torch.optim.SGD(model.parameters(), lr=1e-4)
    lost = []
    with watched(tmp_path) as watch:
        for _ in range(4):
            opt.zero_grad()
            F.cross_entropy(model(torch.randn(16, 6).bfloat16()), torch.randint(0, 3, (16,))).backward()
            before = model.weight.detach().clone()
            opt.step()
            pushed = model.weight.grad != 0
            lost.append(float(((model.weight == before) & pushed).sum() / pushed.sum()))
    record = next(p for p in watch.facts.parameters if p.name == "weight")
    assert record.dtype == "bfloat16"
    assert [k.lost for k in record.looks] == pytest.approx(lost)
    assert min(lost) > 0.5


# ---------------------------------------------------------------------- operations, formulas, functions of the user's own


def test_formulas_written_by_hand(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Linear(6, 3)
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    smallest = []
    with watched(tmp_path) as watch:
        for _ in range(4):
            z = model(30 * torch.randn(16, 6))
            p = torch.softmax(z, 1)
            smallest.append(float(p.detach().min()))
            opt.zero_grad()
            (-torch.log(p + 1e-9)[torch.arange(16), torch.randint(0, 3, (16,))].mean()).backward()
            opt.step()
    found = watch.facts.formulas[0]
    assert (found.kind, found.guarded, found.dtype) == ("log-of-softmax", True, "float32")
    assert found.smallest is not None and found.smallest == pytest.approx(min(smallest) + 1e-9, rel=1e-3)


def test_a_function_of_the_users_own_is_named(tmp_path: Path) -> None:
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
            return 2 * ctx.saved_tensors[0] * g

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(Square.apply(self.a(x)))

    facts = train(tmp_path, Net(), (16, 6), steps=3)
    assert [c.function for c in facts.custom] == ["Square"]


@pytest.mark.parametrize("make, expected", [
    (lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.1), nn.Linear(8, 3)), ["linear", "dropout", "linear"]),
    (lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), ["linear", "relu", "linear"]),
    (lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)), ["linear", "batch_norm", "linear"]),
    (lambda: nn.Linear(6, 3), ["linear"]),
])  # fmt: skip
def test_operations_from_the_loss_down(tmp_path: Path, make: Callable[[], nn.Module], expected: list[str]) -> None:
    found = [op for op in train(tmp_path, make(), (16, 6), steps=3).operations if op not in {"mul", "div"}]
    assert [op for op in found if op != "dropout"] == [op for op in expected if op != "dropout"]


def test_a_product_of_two_activations_is_no_linear_layer(tmp_path: Path) -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(self.a(x) * self.b(x))

    assert "product" in train(tmp_path, Gated(), (16, 6), steps=3).operations
