"""What a training is given: pairs that belong together, repeats, scale, loaders. Each row carries its own number."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from watch import Watch, watched

from unstuck.observe import torch_data
from unstuck.trace.facts import Facts
from unstuck.trace.storage import read_run
from unstuck.trace.trace import Pairs

N, K = 80, 5
NUMBERS = torch.arange(N)
X = torch.stack((NUMBERS.float(), NUMBERS.float().sin(), NUMBERS.float().cos()), dim=1)
Y = NUMBERS % K


def step(opt: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    opt.zero_grad()
    loss.backward()
    opt.step()


def pairs_of(watch: Watch) -> Pairs | None:
    return read_run(watch.folder).traces[0].pairs


def run(folder: Path, each: Callable[[nn.Module, Callable[[torch.Tensor], None]], None], model: nn.Module | None = None) -> Watch:
    """`each(model, descend)` is the loop; `descend(loss)` a step."""
    torch.manual_seed(0)
    model = model if model is not None else nn.Linear(3, K)
    opt = torch.optim.SGD(model.parameters(), lr=1e-4)
    with watched(folder) as watch:
        each(model, lambda loss: step(opt, loss))
    return watch


def belong_together(pairs: Pairs | None, rows: int | None = None) -> None:
    assert pairs is not None and pairs.kind == "real"
    assert len(pairs.y) > 0 and (rows is None or len(pairs.y) == rows)
    assert (np.rint(pairs.x[:, 0]).astype(int) % K == pairs.y).all()


# ---------------------------------------------------------------------- pairs


def by_slices(model: Any, descend: Any) -> None:
    for i in range(0, N, 16):
        descend(F.cross_entropy(model(X[i : i + 16]), Y[i : i + 16]))


def by_index(model: Any, descend: Any) -> None:
    for _ in range(8):
        rows = torch.randint(0, N, (10,))
        descend(F.cross_entropy(model(X[rows]), Y[rows]))


def by_loader(model: Any, descend: Any) -> None:
    for _ in range(2):
        for x, y in DataLoader(TensorDataset(X, Y), batch_size=12, shuffle=True):
            descend(F.cross_entropy(model(x), y))


def by_name(model: Any, descend: Any) -> None:
    for i in range(0, N, 16):
        descend(F.cross_entropy(input=model.forward(input=X[i : i + 16]), target=Y[i : i + 16]))


def one_by_one(model: Any, descend: Any) -> None:
    for i in range(20):
        descend(F.cross_entropy(model(X[i : i + 1]), Y[i : i + 1]))


def without_a_module(model: Any, descend: Any) -> None:
    for i in range(0, N, 16):
        descend(F.cross_entropy(X[i : i + 16] @ model.weight.t() + model.bias, Y[i : i + 16]))


def written_by_hand(model: Any, descend: Any) -> None:
    for i in range(0, N, 16):
        out = F.log_softmax(model(X[i : i + 16]), 1)
        descend(-out[torch.arange(16), Y[i : i + 16]].mean())


def evaluated_in_between(model: Any, descend: Any) -> None:
    for i in range(0, N, 16):
        descend(F.cross_entropy(model(X[i : i + 16]), Y[i : i + 16]))
        with torch.no_grad():
            model(X.flip(0)[:16])


def evaluated_on_everything(model: Any, descend: Any) -> None:
    for i in range(0, N, 16):
        model(X.flip(0))
        descend(F.cross_entropy(model(X[i : i + 16]), Y[i : i + 16]))


LOOPS = [by_slices, by_index, by_loader, by_name, one_by_one, without_a_module, written_by_hand, evaluated_in_between,
         evaluated_on_everything]  # fmt: skip


@pytest.mark.parametrize("loop", LOOPS, ids=lambda f: f.__name__)
def test_inputs_and_labels_belong_together(tmp_path: Path, loop: Any) -> None:
    pairs = pairs_of(run(tmp_path, loop))
    belong_together(pairs)
    assert pairs is not None and pairs.columns == 3 and pairs.x.dtype == np.float32 and pairs.y.dtype == np.int64


def test_batches_are_numbered_in_the_order_seen(tmp_path: Path) -> None:
    pairs = pairs_of(run(tmp_path, by_slices))
    belong_together(pairs, N)
    assert pairs is not None
    assert pairs.x[:, 0].tolist() == list(range(N))
    assert pairs.batch.tolist() == [i // 16 for i in range(N)]


def test_what_the_model_makes_of_its_input_first(tmp_path: Path) -> None:
    """A temporary that is gone when backward is called is read where it enters the first layer."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, K)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x * 1.0)

    def loop(model: Any, descend: Any) -> None:
        for i in range(0, N, 16):
            descend(F.cross_entropy(model(X[i : i + 16] + 0.0), Y[i : i + 16]))

    belong_together(pairs_of(run(tmp_path, loop, Net())))


def test_shuffled_apart_is_not_put_right(tmp_path: Path) -> None:
    def loop(model: Any, descend: Any) -> None:
        wrong = Y.roll(3)
        for i in range(0, N, 16):
            descend(F.cross_entropy(model(X[i : i + 16]), wrong[i : i + 16]))

    pairs = pairs_of(run(tmp_path, loop))
    assert pairs is not None
    assert ((np.rint(pairs.x[:, 0]).astype(int) - 3) % N % K == pairs.y).all()


def test_images_are_laid_out_flat(tmp_path: Path) -> None:
    images = torch.randn(N, 1, 4, 4)
    images[:, 0, 0, 0] = NUMBERS.float()

    def loop(model: Any, descend: Any) -> None:
        for i in range(0, N, 16):
            descend(F.cross_entropy(model(images[i : i + 16]), Y[i : i + 16]))

    pairs = pairs_of(run(tmp_path, loop, nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, K))))
    belong_together(pairs, N)
    assert pairs is not None and np.array_equal(pairs.x, images.flatten(1).numpy())


def test_wide_inputs_hold_the_same_columns_in_each_batch(tmp_path: Path) -> None:
    wide = NUMBERS.float()[:, None] + torch.arange(3000).float() / 4096

    def loop(model: Any, descend: Any) -> None:
        for i in range(0, N, 16):
            descend(F.cross_entropy(model(wide[i : i + 16]), Y[i : i + 16]))

    pairs = pairs_of(run(tmp_path, loop, nn.Linear(3000, K)))
    belong_together(pairs, N) if pairs is not None and (pairs.x[:, 0] == NUMBERS.numpy()).all() else pytest.fail("first column")
    assert pairs is not None and pairs.x.shape == (N, torch_data.MAX_COLUMNS)
    columns = np.rint((pairs.x - pairs.x[:, :1]) * 4096)
    assert (columns == columns[:1]).all() and (np.diff(columns[0]) >= 2).all()


def test_several_inputs(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, K), nn.Linear(2, K)

        def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            return self.a(x) + self.b(z)

    more = torch.stack((NUMBERS.float() * 2, torch.ones(N)), dim=1)

    def loop(model: Any, descend: Any) -> None:
        for i in range(0, N, 16):
            descend(F.cross_entropy(model(X[i : i + 16], z=more[i : i + 16]), Y[i : i + 16]))

    watch = run(tmp_path, loop, Two())
    pairs = pairs_of(watch)
    belong_together(pairs, N)
    assert pairs is not None and pairs.x.shape == (N, 5) and (pairs.x[:, 3] == 2 * pairs.x[:, 0]).all()
    assert [i.shape for i in watch.facts.inputs] == [[16, 3], [16, 2]]


@pytest.mark.parametrize("ignore", [-100, 2])
def test_ignored_labels_are_dropped(tmp_path: Path, ignore: int) -> None:
    y = Y.clone()
    y[::4] = ignore

    def loop(model: Any, descend: Any) -> None:
        for i in range(0, N, 16):
            descend(F.cross_entropy(model(X[i : i + 16]), y[i : i + 16], ignore_index=ignore))

    pairs = pairs_of(run(tmp_path, loop))
    kept = y != ignore
    belong_together(pairs, int(kept.sum()))
    assert pairs is not None
    assert pairs.x[:, 0].tolist() == NUMBERS[kept].tolist()
    assert pairs.batch.tolist() == (NUMBERS[kept] // 16).tolist()


@pytest.mark.parametrize("form", ["binary", "column", "one-hot"])
def test_other_forms_of_labels(tmp_path: Path, form: str) -> None:
    def loop(model: Any, descend: Any) -> None:
        for i in range(0, N, 16):
            x, y = X[i : i + 16], Y[i : i + 16]
            if form == "one-hot":
                descend(F.cross_entropy(model(x), F.one_hot(y, K).float()))
            elif form == "column":
                descend(F.binary_cross_entropy_with_logits(model(x), (y[:, None] > 1).float()))
            else:
                descend(F.binary_cross_entropy_with_logits(model(x).squeeze(1), (y > 1).float()))

    pairs = pairs_of(run(tmp_path, loop, nn.Linear(3, K if form == "one-hot" else 1)))
    if pairs is None:  # not every form is captured; but what is captured is right
        return
    number = np.rint(pairs.x[:, 0]).astype(int) % K
    assert (pairs.y == (number if form == "one-hot" else number > 1)).all()


def test_a_label_per_pixel_makes_no_pairs(tmp_path: Path) -> None:
    def loop(model: Any, descend: Any) -> None:
        for _ in range(5):
            descend(F.cross_entropy(model(torch.randn(4, 1, 6, 6)), torch.randint(0, K, (4, 6, 6))))

    watch = run(tmp_path, loop, nn.Conv2d(1, K, 3, padding=1))
    assert pairs_of(watch) is None
    assert watch.facts.inputs[0].shape == [4, 1, 6, 6]


# ---------------------------------------------------------------------- token ids


class Words(nn.Module):
    def __init__(self, vocabulary: int = 40, classes: int = 40, pooled: bool = False, axis: int = -1) -> None:
        super().__init__()
        self.table, self.head, self.pooled, self.axis = nn.Embedding(vocabulary, 8), nn.Linear(8, classes), pooled, axis

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        h = self.table(ids)
        out = self.head(h.mean(1) if self.pooled else h)
        return out.movedim(-1, self.axis)


@pytest.mark.parametrize("axis", [-1, 1])
def test_a_label_per_token(tmp_path: Path, axis: int) -> None:
    """The next token is (3 t + position) mod 40: the pair holds the token and the one before it."""
    ids = torch.zeros(16, 9, dtype=torch.long)
    ids[:, 0] = torch.arange(16)
    for position in range(8):
        ids[:, position + 1] = (3 * ids[:, position] + position) % 40

    def loop(model: Any, descend: Any) -> None:
        for i in range(0, 16, 4):
            x, y = ids[i : i + 4, :-1], ids[i : i + 4, 1:]
            out = model(x)
            descend(F.cross_entropy(out, y) if axis == 1 else F.cross_entropy(out.flatten(0, 1), y.flatten()))

    pairs = pairs_of(run(tmp_path, loop, Words(axis=axis)))
    assert pairs is not None and pairs.kind == "ids" and pairs.x.dtype == np.int64
    assert len(pairs.y) == 16 * 8
    assert np.array_equal(pairs.x[:, 0], ids[:, :-1].flatten()) and np.array_equal(pairs.y, ids[:, 1:].flatten())
    assert (pairs.x[::8, 1] == -1).all()
    inside = np.arange(len(pairs.y)) % 8 > 0
    assert (pairs.x[inside, 1] == pairs.x[np.flatnonzero(inside) - 1, 0]).all()


def test_padding_is_dropped(tmp_path: Path) -> None:
    def loop(model: Any, descend: Any) -> None:
        for _ in range(6):
            x = torch.randint(1, 40, (4, 8))
            y = (x + 1) % 40
            y[:, 5:] = -100
            descend(F.cross_entropy(model(x).flatten(0, 1), y.flatten()))

    pairs = pairs_of(run(tmp_path, loop, Words()))
    assert pairs is not None and len(pairs.y) == 6 * 4 * 5
    assert ((pairs.x[:, 0] + 1) % 40 == pairs.y).all()


@pytest.mark.parametrize("length, columns", [(8, 8), (100, 64), (1000, 63)])
def test_a_label_per_sequence(tmp_path: Path, length: int, columns: int) -> None:
    def loop(model: Any, descend: Any) -> None:
        for _ in range(6):
            x = torch.randint(1, 40, (4, length))
            descend(F.cross_entropy(model(x), x[:, 0] % K))

    pairs = pairs_of(run(tmp_path, loop, Words(classes=K, pooled=True)))
    assert pairs is not None and pairs.kind == "ids"
    assert pairs.x.shape == (24, columns) and (pairs.x[:, 0] % K == pairs.y).all()


# ---------------------------------------------------------------------- how much is kept


def test_capture_ends_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_data, "MAX_ROWS", 40)

    def loop(model: Any, descend: Any) -> None:
        for _ in range(3):
            by_slices(model, descend)

    watch = run(tmp_path, loop)
    belong_together(pairs_of(watch), 48)  # the batch that fills it is kept whole
    assert watch.facts.inputs[0].calls == 15


@pytest.mark.parametrize("limit, value", [("MAX_CALLS", 3), ("MAX_BYTES", 3 * 16 * 3 * 4)])
def test_other_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    monkeypatch.setattr(torch_data, limit, value)
    belong_together(pairs_of(run(tmp_path, by_slices)), 48)


# ---------------------------------------------------------------------- repeats and slices


def facts_of(folder: Path, loop: Any, model: nn.Module | None = None) -> Facts:
    return run(folder, loop, model).facts


@pytest.mark.parametrize("same", [True, False])
def test_the_same_batch_at_each_step(tmp_path: Path, same: bool) -> None:
    def loop(model: Any, descend: Any) -> None:
        for i in range(12):
            rows = slice(0, 8) if same else slice(4 * i, 4 * i + 8)
            descend(F.cross_entropy(model(X[rows]), Y[rows]))

    data = facts_of(tmp_path, loop).inputs[0]
    assert (data.compared_calls, data.same_calls) == (11, 11 if same else 0)
    assert (data.calls, data.rows, data.distinct_rows) == (12, 96, 8 if same else 52)


def test_the_same_inputs_with_other_labels_are_no_repeat(tmp_path: Path) -> None:
    def loop(model: Any, descend: Any) -> None:
        for i in range(6):
            descend(F.cross_entropy(model(X[:8]), (Y[:8] + i) % K))

    assert facts_of(tmp_path, loop).inputs[0].same_calls == 1  # K steps later they come round


def test_a_slice_of_a_longer_tensor(tmp_path: Path) -> None:
    assert facts_of(tmp_path, by_slices).inputs[0].part_of == N


def test_the_whole_tensor_is_no_slice(tmp_path: Path) -> None:
    def loop(model: Any, descend: Any) -> None:
        for _ in range(6):
            descend(F.cross_entropy(model(X), Y))

    data = facts_of(tmp_path, loop).inputs[0]
    assert data.part_of is None or data.part_of <= N
    assert data.same_calls == data.compared_calls == 5


def test_batches_that_are_made_anew_are_no_slices(tmp_path: Path) -> None:
    def loop(model: Any, descend: Any) -> None:
        for _ in range(6):
            descend(F.cross_entropy(model(torch.randn(8, 3)), torch.randint(0, K, (8,))))

    data = facts_of(tmp_path, loop).inputs[0]
    assert data.part_of is None and data.same_calls == 0 and data.distinct_rows == 48


# ---------------------------------------------------------------------- statistics


def test_statistics_of_the_columns(tmp_path: Path) -> None:
    torch.manual_seed(0)
    z = torch.randn(N, 4) * torch.tensor([1.0, 20.0, 0.01, 0.0]) + torch.tensor([0.0, 300.0, 0.0, 7.0])

    def loop(model: Any, descend: Any) -> None:
        for i in range(0, N, 16):
            descend(F.cross_entropy(model(z[i : i + 16]), Y[i : i + 16]))

    data = facts_of(tmp_path, loop, nn.Linear(4, K)).inputs[0]
    a = z.double().numpy()
    assert (data.kind, data.dtype, data.shape, data.rows) == ("real", "float32", [16, 4], N)
    assert (data.lowest, data.highest) == pytest.approx((a.min(), a.max()))
    assert (data.mean, data.rms) == pytest.approx((a.mean(), math.sqrt((a**2).mean())))
    std = a[:, :3].std(0)
    assert (data.column_std_low, data.column_std_mid, data.column_std_high) == pytest.approx((std.min(), np.median(std), std.max()))
    assert data.column_mean_high == pytest.approx(np.abs(a[:, :3].mean(0)).max())
    assert data.constant_columns == 0.25
    assert data.distinct_rows == N
    assert data.site is not None and "model(z[i" in data.site.text


def test_a_constant_input(tmp_path: Path) -> None:
    def loop(model: Any, descend: Any) -> None:
        for i in range(0, N, 16):
            descend(F.cross_entropy(model(torch.ones(16, 3)), Y[i : i + 16]))

    data = facts_of(tmp_path, loop).inputs[0]
    assert (data.constant_columns, data.distinct_rows, data.column_std_high) == (1.0, 1, None)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_inputs_that_are_not_finite(tmp_path: Path, value: float) -> None:
    z = X.clone()
    z[20, 1] = value

    def loop(model: Any, descend: Any) -> None:
        for i in range(0, N, 16):
            descend(F.cross_entropy(model(z[i : i + 16]), Y[i : i + 16]))

    data = facts_of(tmp_path, loop).inputs[0]
    assert (data.nonfinite_calls, data.nonfinite_share) == (1, pytest.approx(1 / 48))
    assert data.highest == N - 1 and data.rms is not None and math.isfinite(data.rms)
    assert data.column_std_high is not None and math.isfinite(data.column_std_high)


def test_ids(tmp_path: Path) -> None:
    def loop(model: Any, descend: Any) -> None:
        for _ in range(6):
            x = torch.randint(3, 30, (4, 8))
            x[:, 0] = 1
            descend(F.cross_entropy(model(x), x[:, 1] % K))

    data = facts_of(tmp_path, loop, Words(classes=K, pooled=True)).inputs[0]
    assert (data.kind, data.dtype, data.lowest, data.constant_columns) == ("ids", "int64", 1.0, 1 / 8)
    assert data.highest is not None and data.highest <= 29


# ---------------------------------------------------------------------- loaders


class Numbered(Dataset):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        return X[i], Y[i]


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_loader(tmp_path: Path, shuffle: bool) -> None:
    def loop(model: Any, descend: Any) -> None:
        loader = DataLoader(Numbered(), batch_size=12, shuffle=shuffle)
        for _ in range(3):
            for x, y in loader:
                descend(F.cross_entropy(model(x), y))

    watch = run(tmp_path, loop)
    (loader,) = watch.facts.loaders
    assert (loader.rows, loader.batch_size, loader.batches, loader.shuffled) == (N, 12, 7, shuffle)
    assert (loader.iterators, loader.taken, loader.longest) == (3, 21, 7)
    assert loader.made is not None and "DataLoader(Numbered()" in loader.made.text
    assert loader.site is not None and "in loader" in loader.site.text
    belong_together(pairs_of(watch), 3 * N)


def test_only_the_first_batch_is_ever_taken(tmp_path: Path) -> None:
    def loop(model: Any, descend: Any) -> None:
        loader = DataLoader(Numbered(), batch_size=12)
        for _ in range(9):
            x, y = next(iter(loader))
            descend(F.cross_entropy(model(x), y))

    facts = facts_of(tmp_path, loop)
    (loader,) = facts.loaders
    assert (loader.iterators, loader.taken, loader.longest, loader.shuffled) == (9, 9, 1, False)
    assert facts.inputs[0].same_calls == facts.inputs[0].compared_calls == 8


def test_a_sampler_and_a_loader_without_length(tmp_path: Path) -> None:
    class Stream(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            return iter((X[i], Y[i]) for i in range(20))

    def loop(model: Any, descend: Any) -> None:
        weighted = torch.utils.data.WeightedRandomSampler(torch.ones(N), 30)
        for loader in (DataLoader(Numbered(), batch_size=10, sampler=weighted), DataLoader(Stream(), batch_size=10)):
            for x, y in loader:
                descend(F.cross_entropy(model(x), y))

    first, second = facts_of(tmp_path, loop).loaders
    assert (first.sampler, first.shuffled, first.batches, first.taken) == ("WeightedRandomSampler", True, 3, 3)
    assert (second.rows, second.shuffled, second.batches, second.taken) == (None, None, None, 2)
