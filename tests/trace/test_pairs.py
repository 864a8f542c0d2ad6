"""The captured pairs in a run folder: written whole or not at all, read without trust."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unstuck.errors import TraceError
from unstuck.observe.torch_data import Data
from unstuck.trace.facts import Facts
from unstuck.trace.storage import read_run
from unstuck.trace.trace import Pairs
from unstuck.trace.writer import Writer

torch = pytest.importorskip("torch")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    writer = Writer(tmp_path / "trace")
    for number in range(2):
        writer.facts(Facts(id=number))
    writer.close()
    return tmp_path / "trace"


def store(folder: Path, number: int = 0, **changes: Any) -> Path:
    arrays: dict[str, Any] = {
        "x": np.arange(12, dtype=np.float32).reshape(4, 3), "y": np.arange(4), "batch": np.zeros(4, np.int64),
        "kind": np.array("real"), "columns": np.array(3),
    }  # fmt: skip
    path = folder / f"pairs-{number}.npz"
    np.savez(path, **{k: v for k, v in (arrays | changes).items() if v is not None})
    return path


def read(folder: Path, number: int = 0) -> Pairs | None:
    return read_run(folder).traces[number].pairs


def captured(*batches: tuple[Any, Any], ignore: int | None = None) -> Data:
    data = Data(Facts(id=0))
    for x, y in batches:
        data.arrived([torch.as_tensor(x)], None)
        data.labelled(np.asarray(y), ignore)
    return data


def test_round_trip(folder: Path) -> None:
    x = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)
    data = captured((x[:6], [0, 1, 2, 0, 1, 2]), (x[6:], [2, 1, 0, 2]))
    data.write(folder)
    pairs = read(folder)
    assert pairs is not None
    assert np.array_equal(pairs.x, x) and pairs.x.dtype == np.float32
    assert pairs.y.tolist() == [0, 1, 2, 0, 1, 2, 2, 1, 0, 2]
    assert pairs.batch.tolist() == [0] * 6 + [1] * 4
    assert (pairs.kind, pairs.columns) == ("real", 3)
    assert read(folder, 1) is None  # each training has its own file
    assert sorted(p.name for p in folder.iterdir() if "pairs" in p.name) == ["pairs-0.npz"]


def test_ids_stay_integers(folder: Path) -> None:
    ids = np.array([[1, 2**40], [3, 4]])
    captured((ids, [0, 1])).write(folder)
    pairs = read(folder)
    assert pairs is not None and pairs.kind == "ids" and pairs.x.tolist() == ids.tolist()


def test_ignored_rows_are_not_written(folder: Path) -> None:
    captured((np.eye(4, dtype=np.float32), [0, -100, 1, -100]), ignore=-100).write(folder)
    pairs = read(folder)
    assert pairs is not None
    assert pairs.y.tolist() == [0, 1] and pairs.x.tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]] and len(pairs.batch) == 2


def test_written_again_only_when_there_is_more(folder: Path) -> None:
    data = captured((np.eye(2, dtype=np.float32), [0, 1]))
    data.write(folder)
    path = folder / "pairs-0.npz"
    path.unlink()
    data.write(folder)
    assert not path.exists()
    data.arrived([torch.eye(2)], None)
    data.labelled(np.array([1, 0]), None)
    data.write(folder)
    pairs = read(folder)
    assert pairs is not None and pairs.y.tolist() == [0, 1, 1, 0]


def test_nothing_captured_nothing_written(folder: Path) -> None:
    Data(Facts()).write(folder)
    captured((np.zeros((2, 3), np.float32), np.zeros(8, np.int64))).write(folder)  # four labels for each row
    assert read(folder) is None


def test_batches_of_another_width_are_left_out(folder: Path) -> None:
    """Sequences of different lengths have no common columns; the labels are still told."""
    captured((np.zeros((2, 3), np.float32), [0, 1]), (np.zeros((2, 5), np.float32), [1, 1])).write(folder)
    pairs = read(folder)
    assert pairs is not None and pairs.x.shape == (4, 0) and pairs.y.tolist() == [0, 1, 1, 1]


def test_a_file_that_was_not_finished(folder: Path) -> None:
    store(folder)
    (folder / "pairs-1.part").write_bytes(b"PK\x03\x04 half of it")
    assert read(folder) is not None
    assert read(folder, 1) is None


def test_a_full_disk_leaves_the_old_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = captured((np.eye(2, dtype=np.float32), [0, 1]))
    data.write(folder)
    data.arrived([torch.eye(2)], None)
    data.labelled(np.array([1, 0]), None)

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError):
        data.write(folder)
    pairs = read(folder)
    assert pairs is not None and pairs.y.tolist() == [0, 1]


@pytest.mark.parametrize("changes", [
    {"x": None}, {"y": None}, {"batch": None}, {"kind": None}, {"columns": None},
    {"y": np.arange(3)}, {"batch": np.zeros(5, np.int64)}, {"x": np.zeros((5, 3), np.float32)}, {"x": np.zeros(4, np.float32)},
    {"x": np.array([[{}]] * 4, dtype=object)},
    {"columns": np.array("three")},
])  # fmt: skip
def test_damage_is_one_clear_line(folder: Path, changes: dict[str, Any]) -> None:
    store(folder, **changes)
    with pytest.raises(TraceError) as raised:
        read_run(folder)
    assert "pairs-0.npz" in str(raised.value) and str(folder) in str(raised.value)
    assert "\n" not in str(raised.value) and raised.value.exit_code == 2


@pytest.mark.parametrize("content", [b"", b"PK", b"not an archive", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_archive(folder: Path, content: bytes) -> None:
    (folder / "pairs-0.npz").write_bytes(content)
    with pytest.raises(TraceError, match=r"pairs-0\.npz"):
        read_run(folder)


def test_torn_at_any_place(folder: Path) -> None:
    whole = store(folder).read_bytes()
    for length in range(0, len(whole) - 1, 37):
        (folder / "pairs-0.npz").write_bytes(whole[:length])
        with pytest.raises(TraceError):
            read_run(folder)


def test_bits_that_have_flipped(folder: Path) -> None:
    whole = bytearray(store(folder).read_bytes())
    place = whole.index(np.arange(12, dtype=np.float32).tobytes())
    whole[place + 5] ^= 1
    (folder / "pairs-0.npz").write_bytes(whole)
    with pytest.raises(TraceError):
        read_run(folder)


def test_pickles_are_never_loaded(folder: Path) -> None:
    """Neither inside of the archive nor in its place."""
    mark = folder / "was run"

    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(mark),)

    path = folder / "pairs-0.npz"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(TraceError):
        read_run(folder)
    store(folder)
    array = np.empty(1, dtype=object)
    array[0] = Trap()
    with open(folder / "x.npy", "wb") as file:
        np.save(file, array, allow_pickle=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(folder / "x.npy", "x.npy")
    with pytest.raises(TraceError):
        read_run(folder)
    assert not mark.exists()
