"""What people paste: progress bars, prints, dictionaries, tables. Each sample is shaped like the real thing."""

from __future__ import annotations

import numpy as np
import pytest

from unstuck.observe.logs import Log, LogError, read_pasted


def test_keras_2_bars_count_once_per_epoch_and_that_is_said() -> None:
    text = ""
    for epoch, (loss, accuracy) in enumerate([(0.6935, 0.5021), (0.6932, 0.4988), (0.6931, 0.5)], 1):
        text += f"Epoch {epoch}/3\n"
        for done in (1, 200, 640, 938):
            running = 0.9 if done < 938 else loss
            text += f"{done:>3}/938 [{'=' * 20}>....] - ETA: 3s - loss: {running:.4f} - accuracy: {accuracy:.4f}"
            text += "\x08" * 70 + "\r"
        text += f"938/938 [{'=' * 30}] - 3s 3ms/step - loss: {loss:.4f} - accuracy: {accuracy:.4f} - val_loss: 0.1\n"
    log = read_pasted(text)
    assert log.loss.tolist() == [0.6935, 0.6932, 0.6931]
    assert log.accuracy is not None and log.accuracy.tolist() == [0.5021, 0.4988, 0.5]
    assert (log.averaged, log.column, log.unit) == ("epoch", "loss", pytest.approx(1e-4))
    np.testing.assert_array_equal(log.steps, [938, 2 * 938, 3 * 938])
    assert any("running means" in n for n in log.notes)


def test_keras_3_bars_with_colours() -> None:
    text = ""
    for epoch in (1, 2):
        text += f"Epoch {epoch}/2\n"
        for done in (1, 700, 1875):
            text += (f"\r\x1b[1m{done:>4}/1875\x1b[0m \x1b[32m━━━━━━━━━━━━\x1b[0m\x1b[37m━━━━\x1b[0m \x1b[1m2s\x1b[0m 1ms/step"
                     f" - accuracy: 0.1{done % 7} - loss: 2.3{done % 10}")  # fmt: skip
        text += "\n"
    log = read_pasted(text)
    assert log.loss.tolist() == [2.35, 2.35] and log.averaged == "epoch"
    assert log.steps.tolist() == [1875, 3750]


def test_keras_with_one_line_an_epoch() -> None:
    log = read_pasted("Epoch 1/2\n1875/1875 - 3s - loss: 0.4900 - accuracy: 0.85 - 3s/epoch - 2ms/step\n"
                      "Epoch 2/2\n1875/1875 - 3s - loss: 0.4100 - accuracy: 0.88 - 3s/epoch - 2ms/step\n")  # fmt: skip
    assert log.loss.tolist() == [0.49, 0.41] and log.notes == []


def test_tqdm_postfix() -> None:
    text = ""
    for epoch in range(2):
        for i in range(0, 100, 10):
            text += f"\rEpoch {epoch}:  {i:>3}%|{'█' * (i // 10)}{' ' * (10 - i // 10)}| {i}/100 [00:0{i // 20}<00:03, 29.61it/s,"
            text += f" loss={2 - i / 100:.3f}, v_num=0]"
    log = read_pasted(text)
    assert log.loss.tolist() == pytest.approx([2 - i / 100 for i in range(0, 100, 10)] * 2)
    assert any("progress bar" in n for n in log.notes)
    assert len(read_pasted(" 50%|█████     | 5/10 [00:01<00:01, loss=0.7]\r" * 4 + "\n").loss) == 1  # drawn anew


CASES: dict[str, tuple[str, list[float], list[float] | None]] = {
    "Epoch 3 loss: 1.6094": ("Epoch 3 loss: 1.6094\nEpoch 4 loss: 1.6093\n", [1.6094, 1.6093], None),
    "train_loss=": ("step=1 train_loss=2.30 lr=0.1\nstep=2 train_loss=2.29 lr=0.1\n", [2.30, 2.29], None),
    "without any mark": ("epoch 1  loss 1.6097  accuracy 0.151\nepoch 2  loss 1.6095  accuracy 0.158\n",
                         [1.6097, 1.6095], [0.151, 0.158]),
    "words": ("Training loss: 0.9, validation loss: 0.1\nTraining loss: 0.8, validation loss: 0.1\n", [0.9, 0.8], None),
    "torch's mnist example": (
        "Train Epoch: 1 [0/60000 (0%)]\tLoss: 2.300039\nTrain Epoch: 1 [640/60000 (1%)]\tLoss: 2.213470\n\n"
        "Test set: Average loss: 0.1017, Accuracy: 9665/10000 (97%)\n", [2.300039, 2.213470], None,
    ),
    "steps in brackets": ("Epoch [1/5], Step [100/600], Loss: 2.2\nEpoch [1/5], Step [200/600], Loss: 2.1\n", [2.2, 2.1], None),
    "dictionaries": ("{'loss': 2.3026, 'grad_norm': 1.5, 'learning_rate': 5e-05, 'epoch': 0.1}\n"
                     "{'eval_loss': 0.1, 'epoch': 0.1}\n{'loss': 2.3025, 'learning_rate': 4e-05, 'epoch': 0.2}\n",
                     [2.3026, 2.3025], None),
    "gpt": ("step 0: train loss 10.9886, val loss 10.9894\niter 0: loss 10.9886, time 9000.2ms, mfu -100.00%\n"
            "iter 10: loss 9.5, time 130.5ms, mfu 12.01%\n", [10.9886, 9.5], None),
    "ImageNet": ("Epoch: [0][ 10/5005]\tTime 0.5 (0.9)\tLoss 6.9e+00 (6.95e+00)\tAcc@1   0.39 (  0.1)\tAcc@5   1.5 (  0.6)\n"
                 "Epoch: [0][ 20/5005]\tTime 0.5 (0.9)\tLoss 6.8e+00 (6.95e+00)\tAcc@1   0.78 (  0.1)\tAcc@5   1.5 (  0.6)\n",
                 [6.9, 6.8], [0.39, 0.78]),
    "percent": ("loss: 0.5, acc: 85.00%\nloss: 0.4, acc: 87.5%\n", [0.5, 0.4], [0.85, 0.875]),
    "time stamps": ("[2024-05-01 12:00:00,123] INFO loss: 0.69\n[2024-05-01 12:00:01,123] INFO loss: 0.68\n", [0.69, 0.68], None),
    "fastai": ("epoch     train_loss  valid_loss  accuracy  time    \n0         0.512300    0.3        0.9   00:12     \n"
               "1         0.401200    0.3        0.9   00:12     \n", [0.5123, 0.4012], [0.9, 0.9]),
    "rich table": ("┃ epoch ┃ loss ┃\n│ 1 │ 0.7 │\n│ 2 │ 0.6 │\n", [0.7, 0.6], None),
    "bare numbers": ("2.3026\n2.3025\n2.3027\n", [2.3026, 2.3025, 2.3027], None),
    "a list": ("[0.6931, 0.6930,\n 0.6932]\n", [0.6931, 0.6930, 0.6932], None),
    "tensors": ("loss tensor(0.6931, grad_fn=<NllLossBackward0>)\nloss tensor(0.6930, device='cuda:0')\n", [0.6931, 0.6930], None),
    "not a number": ("epoch 1 loss: 2.1\nepoch 2 loss: nan\n", [2.1, float("nan")], None),
    "windows lines": ("loss: 0.7\r\nloss: 0.6\r\n", [0.7, 0.6], None),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_shapes_of_prints(name: str) -> None:
    text, losses, accuracies = CASES[name]
    log = read_pasted(text)
    np.testing.assert_allclose(log.loss, losses)
    assert not log.held_out
    if accuracies is not None:
        assert log.accuracy is not None
        np.testing.assert_allclose(log.accuracy, np.array(accuracies))


def test_lines_of_a_test_set_are_held_out() -> None:
    log = read_pasted("Validation: loss 0.5 acc 0.7\nValidation: loss 0.6 acc 0.7\n")
    assert log.held_out and log.loss.tolist() == [0.5, 0.6]


def test_a_column_by_name() -> None:
    text = "step 1 loss: 0.5 kl: 0.2 mean reward 3.5\nstep 2 loss: 0.4 kl: 0.1 mean reward 3.6\n"
    assert read_pasted(text, "kl").loss.tolist() == [0.2, 0.1]
    assert read_pasted(text, "reward").loss.tolist() == [3.5, 3.6]
    with pytest.raises(LogError, match="'speed'"):
        read_pasted(text, "speed")


def test_pasted_csv_and_json() -> None:
    assert read_pasted("step,loss\n1,0.5\n2,0.4\n").loss.tolist() == [0.5, 0.4]
    assert read_pasted('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.4}\n').loss.tolist() == [0.5, 0.4]
    assert read_pasted('{"log_history": [{"loss": 0.5, "step": 1}]}').loss.tolist() == [0.5]
    assert read_pasted("step,loss\n1,0.5\n").file == "standard input"


@pytest.mark.parametrize("text", ["", "  \n", "hello world\n", "no numbers, but loss:\n", "Traceback\n  File x, line 3\n"])
def test_text_without_a_loss_is_said(text: str) -> None:
    with pytest.raises(LogError, match="standard input"):
        read_pasted(text)


@pytest.mark.parametrize(
    "line", ["x" * 16000, "1" * 16000, "a " * 8000, "loss " * 3000, " " * 16000, "[[" * 8000, "1 " * 8000 + "z", "\x1b]" * 8000]
)
def test_no_line_takes_long(line: str) -> None:
    """Patterns with two repeats side by side try n * n ways on a line that fits neither."""
    import time

    began = time.process_time()
    log: Log = read_pasted(line + "\nloss: 0.5\nloss: 0.4\n")
    assert log.loss.tolist()[-2:] == [0.5, 0.4]
    assert time.process_time() - began < 1.0
