"""Every format of log comes back with its steps, losses and accuracies, recognised by content, whatever its name."""

from __future__ import annotations

import json
import math
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "benchmarks"))

import logs as writers

from unstuck.observe import logs
from unstuck.observe.logs import LogError, columns, find, read, tensorboard, to_trace


def run(n: int = 300) -> writers.Columns:
    rng = np.random.default_rng(0)
    loss = 2.3 * np.exp(-np.arange(n) / 100) + 0.01 * rng.standard_normal(n)
    loss[7] = math.nan
    return {"step": np.arange(1, n + 1) * 100, "train_loss": loss, "val_loss": loss + 1, "train_acc": rng.random(n)}


def same(log: logs.Log, data: writers.Columns, tolerance: float = 1e-6) -> None:
    np.testing.assert_array_equal(log.steps, data["step"])
    np.testing.assert_allclose(log.loss, data["train_loss"], rtol=tolerance, atol=tolerance)
    assert log.accuracy is not None
    np.testing.assert_allclose(log.accuracy, data["train_acc"], rtol=tolerance, atol=tolerance)
    assert (log.column, log.held_out, log.axis, log.others) == ("train_loss", False, "step", [])


@pytest.mark.parametrize("name", ["run.csv", "events.out.tfevents.1", "x.log", "noending"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "events", "wandb"])
def test_a_run_comes_back_whatever_the_file_is_called(tmp_path: Path, kind: str, name: str) -> None:
    if kind != "events" and "tfevents" in name:
        name = "other"
    writers.FORMATS[kind][1](tmp_path / name, run())
    (log,) = read(tmp_path / name)
    same(log, run(), 2e-6)
    assert log.format == {"csv": "csv", "jsonl": "json-lines", "events": "tensorboard", "wandb": "wandb"}[kind]


def test_mlflow_in_both_stores(tmp_path: Path) -> None:
    writers.to_mlruns(tmp_path / "mlruns" / "0" / "abc", run())
    (log,) = read(tmp_path / "mlruns" / "0" / "abc")
    same(log, run())
    (metric,) = read(tmp_path / "mlruns" / "0" / "abc" / "metrics" / "train_loss")
    np.testing.assert_allclose(metric.loss, run()["train_loss"])
    other = run()
    other["train_loss"] = other["train_loss"] * 2
    writers.to_mlflow(tmp_path / "mlflow.db", {"calm-owl": run(), "wild-fox": other})
    found = read(tmp_path / "mlflow.db")
    assert [log.name for log in found] == ["calm-owl", "wild-fox"]
    same(found[0], run())
    np.testing.assert_allclose(found[1].loss, other["train_loss"])
    assert found[1].title.endswith("mlflow.db (wild-fox)")


def test_an_mlflow_run_that_was_deleted_is_left_out_and_other_databases_are_named(tmp_path: Path) -> None:
    import sqlite3

    writers.to_mlflow(tmp_path / "m.db", {"kept": run(20), "gone": run(20)})
    with sqlite3.connect(tmp_path / "m.db") as base:
        base.execute("update runs set lifecycle_stage = 'deleted' where name = 'gone'")
    base.close()
    assert [log.name for log in read(tmp_path / "m.db")] == ["kept"]
    with sqlite3.connect(tmp_path / "other.db") as base:
        base.execute("create table songs (title text)")
    base.close()
    with pytest.raises(LogError, match=r"other\.db.*without MLflow"):
        read(tmp_path / "other.db")


# --------------------------------------------------------------------------------------------------------- CSV


def csv(tmp_path: Path, text: str, column: str | None = None) -> logs.Log:
    (tmp_path / "m.csv").write_text(text)
    return read(tmp_path / "m.csv", column)[0]


def test_lightnings_sparse_columns(tmp_path: Path) -> None:
    rows = ["epoch,step,train_acc_epoch,train_loss_epoch,train_loss_step,val_loss"]
    for step in range(0, 200, 10):
        rows.append(f"{step // 100},{step},,,{2.3 - step / 1000},")
        if step % 100 == 90:
            rows += [f"{step // 100},{step},,,,1.9", f"{step // 100},{step},0.4,2.2,,"]
    log = csv(tmp_path, "\n".join(rows) + "\n")
    assert log.column == "train_loss_step" and "train_loss_epoch" in log.others
    np.testing.assert_array_equal(log.steps, range(0, 200, 10))
    np.testing.assert_allclose(log.loss, 2.3 - np.arange(0, 200, 10) / 1000)
    epochs = csv(tmp_path, "\n".join(rows) + "\n", column="train_loss_epoch")
    assert epochs.loss.tolist() == [2.2, 2.2] and epochs.averaged == "epoch"
    assert epochs.accuracy is not None and epochs.accuracy.tolist() == [0.4, 0.4]


def test_keras_csv_logger_with_its_separators(tmp_path: Path) -> None:
    for mark in ",;\t|":
        text = "epoch,accuracy,loss,val_accuracy,val_loss\n0,0.5,0.6931471824645996,0.4,0.1\n1,0.52,0.69,0.4,0.1\n"
        log = csv(tmp_path, text.replace(",", mark))
        assert (log.column, log.axis, log.averaged, log.unit) == ("loss", "epoch", "epoch", 0.0)
        assert log.loss.tolist() == [0.6931471824645996, 0.69]
        assert log.accuracy is not None and log.accuracy.tolist() == [0.5, 0.52]
    german = csv(tmp_path, "epoch;loss\n1;1,6094\n2;1,6093\n")
    assert german.loss.tolist() == [1.6094, 1.6093]


def test_text_in_the_table_is_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    rows = '1,2.30,ok\n2,oops,"a, b"\n3,nan,ok\nTraceback (most recent call last)\n4,,\n5, 2.20 ,ok\n'
    log = csv(tmp_path, "step,loss,note\n" + rows)
    np.testing.assert_array_equal(log.loss, [2.30, math.nan, 2.20])
    np.testing.assert_array_equal(log.steps, [1, 3, 5])
    assert any("1 cell of loss holds no number" in n and "oops" in n and "line 3" in n for n in log.notes)


def test_one_quotation_mark_without_its_partner_does_not_swallow_the_rest(tmp_path: Path) -> None:
    rows = "".join(f"{i},2.{i}," + ('"what' if i == 3 else "x") + "\n" for i in range(10))
    log = csv(tmp_path, "step,loss,note\n" + rows)
    assert len(log.loss) == 10


def test_comments_one_column_and_printed_tensors(tmp_path: Path) -> None:
    assert csv(tmp_path, "# lr=0.1\n# seed=3\nstep,loss\n1,0.5\n2,0.4\n").loss.tolist() == [0.5, 0.4]
    assert csv(tmp_path, "loss\n0.5\n0.4\n").loss.tolist() == [0.5, 0.4]
    assert csv(tmp_path, "step,loss\n1,tensor(0.5)\n2,\"tensor(0.4, device='cuda:0')\"\n").loss.tolist() == [0.5, 0.4]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["val_loss", "loss"], "loss"), (["loss", "train_loss"], "loss"), (["val_loss", "train_loss"], "train_loss"),
        (["Loss/test", "Loss/train"], "Loss/train"), (["eval/loss", "train/loss"], "train/loss"),
        (["training_loss", "validation_loss"], "training_loss"), (["epoch_loss", "validation_loss"], "epoch_loss"),
        (["loss_scale", "train_cross_entropy"], "train_cross_entropy"), (["grad_norm_loss", "Loss"], "Loss"),
        (["valLoss", "trainLoss"], "trainLoss"), (["lr", "val_loss"], "val_loss"), (["test_nll", "nll"], "nll"),
        (["dev_loss", "aux_loss"], "aux_loss"),
    ],
)  # fmt: skip
def test_the_training_loss_is_chosen_and_never_a_held_out_one_beside_it(tmp_path: Path, names: list[str], chosen: str) -> None:
    for order in (names, names[::-1]):
        log = csv(tmp_path, ",".join(order) + "\n" + "\n".join("0.5,0.6" for _ in range(5)) + "\n")
        assert log.column == chosen
        assert log.held_out == (chosen == "val_loss")
        assert any("held-out" in n for n in log.notes) == log.held_out


def test_a_summary_of_one_value_is_not_the_series_and_ambiguity_is_said(tmp_path: Path) -> None:
    log = csv(tmp_path, "step,g_loss,d_loss\n1,0.7,1.4\n2,0.7,1.4\n")
    assert any("guess" in n and "--column" in n for n in log.notes)
    assert csv(tmp_path, "step,g_loss,d_loss\n1,0.7,1.4\n2,0.7,1.4\n", column="D_LOSS").column == "d_loss"
    with pytest.raises(LogError, match=r"m\.csv.*'nothing'.*g_loss"):
        csv(tmp_path, "step,g_loss,d_loss\n1,0.7,1.4\n", column="nothing")
    with pytest.raises(LogError, match=r"no column looks like a loss.*reward.*--column"):
        csv(tmp_path, "step,reward\n1,0.7\n2,0.8\n")
    assert csv(tmp_path, "step,reward\n1,0.7\n2,0.8\n", column="reward").loss.tolist() == [0.7, 0.8]


def test_restarts_repeats_and_unordered_steps(tmp_path: Path) -> None:
    first = "".join(f"{s},2.{s:03d}\n" for s in range(1, 21))
    log = csv(tmp_path, "step,loss\n" + first + "".join(f"{s},1.{s:03d}\n" for s in range(11, 31)))
    assert log.steps[0] == 11 and len(log.loss) == 20 and any("go back" in n for n in log.notes)
    batches = "".join(f"{e},{2.3 - i / 100 - e / 10}\n" for e in range(3) for i in range(9))
    log = csv(tmp_path, "epoch,loss\n" + batches)
    assert (log.axis, log.averaged, len(log.loss)) == ("row", "", 27)
    np.testing.assert_array_equal(log.steps, np.arange(1, 28))


def test_rows_of_validation_in_the_same_column_are_left_out(tmp_path: Path) -> None:
    rows = [("train", 2.3), ("val", 0.1), ("train", 2.2), ("Val", 0.1), ("train", 2.1)]
    log = csv(tmp_path, "epoch,phase,loss\n" + "".join(f"{i},{p},{x}\n" for i, (p, x) in enumerate(rows)))
    assert log.loss.tolist() == [2.3, 2.2, 2.1]
    assert csv(tmp_path, "epoch,phase,loss\n1,val,2\n2,val,1\n").loss.tolist() == [2.0, 1.0]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"split": p, "loss": x}) + "\n" for p, x in rows))
    assert read(tmp_path / "x.jsonl")[0].loss.tolist() == [2.3, 2.2, 2.1]


def test_percentages_become_shares(tmp_path: Path) -> None:
    log = csv(tmp_path, "step,loss,acc\n1,0.5,33.4\n2,0.4,80.1\n")
    assert log.accuracy is not None and log.accuracy.tolist() == pytest.approx([0.334, 0.801])
    assert any("percentage" in n for n in log.notes)


# -------------------------------------------------------------------------------------------------------- JSON


def test_trainer_state_of_hugging_face(tmp_path: Path) -> None:
    rows = [{"loss": 2.3 - i / 10, "learning_rate": 5e-5, "epoch": i / 10, "step": 10 * i} for i in range(1, 9)]
    rows.insert(3, {"eval_loss": 1.0, "epoch": 0.3, "step": 30})
    rows.append({"train_loss": 1.7, "step": 80, "epoch": 0.8})
    (tmp_path / "trainer_state.json").write_text(json.dumps({"best_metric": None, "log_history": rows}, indent=2))
    (log,) = read(tmp_path / "trainer_state.json")
    assert (log.format, log.column, log.axis) == ("trainer-state", "loss", "step")
    np.testing.assert_array_equal(log.steps, range(10, 90, 10))
    assert log.lr is not None and set(log.lr) == {5e-5}


def test_json_lines_with_nan_nesting_junk_and_numbers_as_text(tmp_path: Path) -> None:
    lines = ['{"step": 1, "train": {"loss": 2.3}}', '{"step": 2, "train": {"loss": NaN}}', "oops", ""]
    lines.append('{"step": 3, "train": {"loss": "2.1"}}')
    (tmp_path / "x").write_text("\n".join(lines) + '\n{"step": 4, "tra')
    (log,) = read(tmp_path / "x")
    assert log.column == "train/loss"
    np.testing.assert_array_equal(log.loss, [2.3, math.nan, 2.1])
    assert any("2 lines hold no JSON object" in n for n in log.notes)


@pytest.mark.parametrize(
    "document",
    [
        {"loss": [0.7, 0.6], "val_loss": [0.8, 0.8]}, [{"loss": 0.7}, {"loss": 0.6}], {"history": {"loss": [0.7, 0.6]}},
        {"epochs": [{"loss": 0.7, "epoch": 1}, {"loss": 0.6, "epoch": 2}], "seed": 3}, [0.7, 0.6],
    ],
)  # fmt: skip
def test_json_documents(tmp_path: Path, document: object) -> None:
    (tmp_path / "history.json").write_text(json.dumps(document))
    assert read(tmp_path / "history.json")[0].loss.tolist() == [0.7, 0.6]
    (tmp_path / "history.json").write_text(json.dumps(document, indent=2))
    assert read(tmp_path / "history.json")[0].loss.tolist() == [0.7, 0.6]


# ------------------------------------------------------------------------------------------------- TensorBoard


def test_the_checksum_is_crc_32c_masked() -> None:
    crc = 0xE3069283  # of "123456789", the check value of CRC-32C (Castagnoli)
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    assert tensorboard.masked_crc(b"123456789") == masked
    rows = np.frombuffer(b"123456789" * 3, dtype=np.uint8).reshape(3, 9)
    assert tensorboard.masked_crcs(rows).tolist() == [masked] * 3


def events(tmp_path: Path, *records: bytes) -> Path:
    file = tmp_path / "events.out.tfevents.1.host"
    version = writers.frame(writers.field(1, 1, struct.pack("<d", 1.7e9)) + writers.field(3, 2, b"brain.Event:2"))
    file.write_bytes(version + b"".join(records))
    return file


def test_scalars_of_every_kind(tmp_path: Path) -> None:
    def tensor(step: int, kind: int, number: int, wire: int, data: bytes) -> bytes:
        body = writers.field(1, 0, writers.varint(kind)) + writers.field(2, 2, b"") + writers.field(number, wire, data)
        value = writers.field(1, 2, b"loss") + writers.field(8, 2, body)
        return writers.frame(writers.field(2, 0, writers.varint(step)) + writers.field(5, 2, writers.field(1, 2, value)))

    file = events(
        tmp_path,
        writers.frame(writers.event(1, {"loss": 0.5})),
        writers.frame(writers.event(2, {"loss": 0.25}, tensor=True)),
        writers.frame(writers.event(3, {"loss": 0.125}, tensor=True, kind=2)),
        tensor(4, 1, 5, 2, struct.pack("<f", 4.0)),  # float_val, packed
        tensor(5, 1, 5, 5, struct.pack("<f", 5.0)),  # float_val, not packed
        tensor(6, 2, 6, 2, struct.pack("<d", 6.0)),
        tensor(7, 3, 7, 0, writers.varint(7)),  # int_val
        tensor(8, 19, 13, 0, writers.varint(int(np.float16(8.0).view(np.uint16)))),  # half_val
        tensor(9, 14, 4, 2, struct.pack("<f", 9.0)[2:]),  # bfloat16 as content
        writers.frame(writers.event(10, {"acc": 0.1, "loss": 10.0})),  # two values in one summary
        writers.frame(writers.event(1 << 40, {"loss": 11.0})),
        writers.frame(writers.event((1 << 40) + 1, {"loss": math.nan})),
    )
    (log,) = read(file)
    np.testing.assert_array_equal(log.steps, [*range(1, 11), 1 << 40, (1 << 40) + 1])
    np.testing.assert_array_equal(log.loss, [0.5, 0.25, 0.125, 4, 5, 6, 7, 8, 9, 10, 11, math.nan])


def test_tensors_written_thousands_at_a_time_agree_with_single_ones(tmp_path: Path) -> None:
    data = run(1000)
    for tensor in (False, True):
        writers.to_events(tmp_path / "a", data, tensor)
        rows = [
            writers.frame(writers.event(int(s), {n: float(np.float32(data[n][i]))}, tensor))
            for i, s in enumerate(data["step"]) for n in ("train_loss", "val_loss", "train_acc")
        ]  # fmt: skip
        one, other = read(tmp_path / "a")[0], read(events(tmp_path, *rows))[0]
        np.testing.assert_array_equal(one.loss, other.loss)
        np.testing.assert_array_equal(one.steps, other.steps)
        np.testing.assert_array_equal(one.accuracy, other.accuracy)


def test_an_independent_protobuf_reads_what_the_writers_write() -> None:
    """The field numbers of event.proto and summary.proto, declared to google.protobuf."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="e.proto", package="t", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(name: str, *entries: tuple[str, int, int, str, bool]) -> None:
        made = file.message_type.add(name=name)
        for field, number, kind, of, repeated in entries:
            made.field.add(name=field, number=number, type=kind, type_name=of or None, label=3 if repeated else 1)

    message("Value", ("tag", 1, kinds.TYPE_STRING, "", False), ("simple_value", 2, kinds.TYPE_FLOAT, "", False))
    message("Summary", ("value", 1, kinds.TYPE_MESSAGE, ".t.Value", True))
    message("Event", ("wall_time", 1, kinds.TYPE_DOUBLE, "", False), ("step", 2, kinds.TYPE_INT64, "", False),
            ("summary", 5, kinds.TYPE_MESSAGE, ".t.Summary", False))  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    made = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Event"))
    read_back = made.FromString(writers.event(300, {"loss": 0.5, "acc": 0.25}))
    assert (read_back.step, [(v.tag, v.simple_value) for v in read_back.summary.value]) == (300, [("loss", 0.5), ("acc", 0.25)])


def test_images_and_graphs_are_passed_over(tmp_path: Path) -> None:
    big = writers.frame(writers.field(4, 2, bytes(3 << 20)))  # a graph of 3 MB
    middle = writers.frame(writers.field(4, 2, bytes(5000)))
    records = [writers.frame(writers.event(i, {"loss": float(i)})) for i in range(10)]
    (log,) = read(events(tmp_path, *records[:5], big, middle, *records[5:], big))
    assert log.loss.tolist() == list(map(float, range(10))) and log.notes == []


def test_an_event_file_that_breaks_off_or_is_damaged_is_read_up_to_there(tmp_path: Path) -> None:
    records = [writers.frame(writers.event(i, {"loss": float(i)})) for i in range(50)]
    file = events(tmp_path, *records)
    whole = file.read_bytes()
    for cut in (1, 5, 20, len(records[-1]) - 1):
        file.write_bytes(whole[:-cut])
        (log,) = read(file)
        assert len(log.loss) == 49 and any("ends inside a record" in n for n in log.notes)
    size = len(records[0])
    start = len(whole) - 50 * size
    for offset, what in ((3, "length"), (30, "record")):
        broken = bytearray(whole)
        broken[start + 20 * size + offset] ^= 0x40
        file.write_bytes(bytes(broken))
        (log,) = read(file)
        assert len(log.loss) == 20 and any("damaged" in n and what in n for n in log.notes), (offset, log.notes)
    for short in (b"", whole[:7]):
        file.write_bytes(short)
        with pytest.raises(LogError, match=r"tfevents.*(empty|first record)"):
            read(file)


# ------------------------------------------------------------------------------------------------------- W&B


def test_wandb_records_over_blocks_and_damage(tmp_path: Path) -> None:
    file = tmp_path / "run-x.wandb"
    data = run(3000)
    writers.to_wandb(file, data)
    whole = file.read_bytes()
    assert len(whole) > 5 * 32768  # many records cross a block
    same(read(file)[0], data)
    file.write_bytes(whole[:-11])
    (log,) = read(file)
    assert len(log.loss) == 2999 and any("ends inside a record" in n for n in log.notes)
    broken = bytearray(whole)
    broken[40000] ^= 1
    file.write_bytes(bytes(broken))
    (log,) = read(file)
    assert 2000 < len(log.loss) < 3000 and any("checksum" in n for n in log.notes)
    file.write_bytes(whole[:4] + b"\x00\x00\x09" + whole[7:])
    with pytest.raises(LogError, match="version"):
        read(file)


def test_wandb_values_of_any_shape(tmp_path: Path) -> None:
    """Long names, nested keys, text, and no step record: the slow path."""
    def item(key: bytes, text: str, nested: bool = False) -> bytes:
        return writers.field(1, 2, writers.field(2 if nested else 1, 2, key) + writers.field(16, 2, text.encode()))

    with (tmp_path / "r.wandb").open("wb") as out:
        out.write(struct.pack("<4sHB", b":W&B", 0xBEE1, 0))
        offset = 7
        for step in range(5):
            inner = item(b"train/loss", str(2.3 - step / 10)) + item(b"note", '"hello"') + item(b"x" * 200, "1")
            inner += writers.field(1, 2, writers.field(2, 2, b"a") + writers.field(2, 2, b"loss") + writers.field(16, 2, b"9"))
            inner += item(b"_step", str(3 * step), True)
            offset = writers._write_block(out, writers.field(2, 2, inner), offset)
            offset = writers._write_block(out, writers.field(7, 2, b"\x01\x02"), offset)  # system metrics
    (log,) = read(tmp_path / "r.wandb")
    assert (log.column, log.steps.tolist()) == ("train/loss", [0, 3, 6, 9, 12])
    np.testing.assert_allclose(log.loss, 2.3 - np.arange(5) / 10)


# ---------------------------------------------------------------------------------- bounded memory, other files


def test_a_column_longer_than_the_limit_holds_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "LIMIT", 100)
    for whole in (False, True):
        column = columns.Column()
        values = np.arange(1050.0)
        if whole:
            for part in np.array_split(values, 7):
                column.extend(part, part)
        else:
            for v in values:
                column.add(v, v)
        at, kept = column.arrays()
        assert len(kept) <= 101 and column.every == 16 and column.seen == 1050
        assert np.all(np.diff(at) > 0) and at[-1] == 1049.0
        # Means of sixteen neighbours; where the stride doubled over an odd number of them, of eight.
        np.testing.assert_allclose(kept[:-2], at[:-2] - 7.5, atol=4.5)
        assert np.mean(kept == at - 7.5) > 0.9
    bad = columns.Column()
    for v in [1.0, math.nan] * 200 + [math.nan] * 100:
        bad.add(0.0, v)
    assert np.isfinite(bad.arrays()[1][:40]).all() and np.isnan(bad.arrays()[1][-5:]).all()


def test_a_long_log_says_what_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "LIMIT", 64)
    log = csv(tmp_path, "step,loss,acc\n" + "".join(f"{i},{2.0 - i / 1000},0.5\n" for i in range(1000)))
    assert log.every == 16 and any("1,000 values" in n and "every 16" in n for n in log.notes)
    assert np.all(np.diff(log.steps) > 0) and log.accuracy is not None and set(log.accuracy[np.isfinite(log.accuracy)]) == {0.5}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"), (bytes(range(256)) * 20, "binary"), (b"\x1f\x8b\x08\x00abc", "gzip"), (b"PK\x03\x04aaaa", "zip"),
        (b"hello\nworld\n", "without a loss"), (b'{"a": [1,', "JSON"), (b"SQLite format 3\x00" + bytes(500), "SQLite"),
        (b'{"a": 3}', "no column looks like a loss"), (b"a,b,c\n", "without a loss"),
        (b"step,loss\n", "no column looks like a loss"),
    ],
)  # fmt: skip
def test_what_is_no_log_is_named_in_words(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "thing"
    file.write_bytes(content)
    with pytest.raises(LogError, match=words) as error:
        read(file)
    assert str(file) in str(error.value) and "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_files_that_are_missing_or_no_files(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="no such file"):
        read(tmp_path / "nowhere.csv")
    import os

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LogError, match="not a regular file"):
        read(tmp_path / "pipe")


def test_what_powershell_writes(tmp_path: Path) -> None:
    (tmp_path / "out.log").write_text("Epoch 1 loss: 1.6094\r\nEpoch 2 loss: 1.6090\r\n", encoding="utf-16")
    assert read(tmp_path / "out.log")[0].loss.tolist() == [1.6094, 1.6090]
    (tmp_path / "bom.csv").write_text("loss,step\n0.5,1\n0.4,2\n", encoding="utf-8-sig")
    assert read(tmp_path / "bom.csv")[0].loss.tolist() == [0.5, 0.4]


def test_find_names_logs_and_leaves_out_the_rest(tmp_path: Path) -> None:
    for name in ("a/metrics.csv", "a/hparams.yaml", "a/events.out.tfevents.1", "b/train/events.out.tfevents.2", "b/run.wandb",
                 "b/validation/events.out.tfevents.3", "c/requirements.txt", "c/train.log", "c/config.json", "c/model.pt",
                 ".git/x.txt", "validation/metrics.csv", "b/files/output.log", "hf/trainer_state.json",
                 "hf/checkpoint-10/trainer_state.json"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("x")
    writers.to_mlruns(tmp_path / "mlruns" / "0" / "r1", run(20))
    assert [str(f.relative_to(tmp_path)) for f in find(tmp_path)] == [
        "a/events.out.tfevents.1", "a/metrics.csv", "b/run.wandb", "b/train/events.out.tfevents.2", "c/train.log",
        "hf/trainer_state.json", "mlruns/0/r1", "validation/metrics.csv",
    ]  # fmt: skip


def test_the_trace_of_a_log_has_its_series_and_reasons_for_everything_else(tmp_path: Path) -> None:
    log = csv(tmp_path, "step,loss,acc,lr\n1,2.3,0.1,0.01\n2,2.2,0.2,0.01\n")
    trace = to_trace(log, chance=2.3026)
    assert trace.has("loss") and trace.has("accuracy") and trace.has("lr") and trace.has("chance")
    assert not trace.has("terms") and "a log holds numbers" in trace.missing(("loop",))
    assert not to_trace(log).has("chance")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "jsonl", "text", "one line"])
def test_a_large_file_is_read_in_bounded_memory(tmp_path: Path, kind: str) -> None:
    """180 MB of CSV, less of the others: the process may not grow by more than 150 MB (an index of all values would)."""
    import subprocess

    line = {
        "csv": b"%d,2.302585,0.1,padding-padding-padding-padding\n",
        "jsonl": b'{"step": 0, "loss": 2.302585, "pad": "' + b"p" * 40 + b'"}\n',
        "text": b"step %d loss: 2.302585 | and a good deal of other words that nobody reads\n",
        "one line": b"x" * 60,
    }[kind]
    file = tmp_path / "large"
    with file.open("wb") as out:
        if kind == "csv":
            out.write(b"step,loss,acc,note\n")
        for block in range({"csv": 200, "text": 16}.get(kind, 40)):
            if kind in {"csv", "text"}:
                out.write(b"".join(line % i for i in range(block * 17000, (block + 1) * 17000)))
            else:
                out.write(line * 17000)
        if kind == "one line":
            out.write(b"\nloss: 2.302585\nloss: 2.302585\n")
    code = f"""
import resource
from unstuck.observe.logs import read
import polars, numpy
polars.read_csv(b"a,b\\n1,2\\n" * 10)
kind = {kind!r}
now = int(next(l for l in open("/proc/self/status") if l.startswith("VmSize")).split()[1]) * 1024
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
log = read({str(file)!r})[0]
print(len(log.loss), log.every, float(log.loss[-1]), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    quiet = {"POLARS_MAX_THREADS": "1", "PATH": ""}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=quiet)
    count, every, last, grown = out.stdout.split()
    assert float(last) == pytest.approx(2.302585)
    assert int(grown) < 150, grown
    if kind != "one line":
        assert int(count) <= columns.LIMIT and int(every) >= (16 if kind == "csv" else 2)
