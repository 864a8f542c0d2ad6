"""`unstuck derive` as a person meets it: pages, source that runs, refusals, and the list."""

from __future__ import annotations

import json

import pytest
import torch

from unstuck.cli import main
from unstuck.theory import matching_loss


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    return int(stop.value.code or 0)


def test_without_an_argument_everything_is_listed(capsys):
    assert call("derive") == 0
    out = capsys.readouterr().out
    assert all(f"  {name}" in out for name in [*matching_loss.ACTIVATIONS, *matching_loss.TOPICS])
    assert max(map(len, out.splitlines())) <= 80
    assert out.rstrip().splitlines()[-1] == "  unstuck derive sigmoid"
    assert call("derive", "--json") == 0
    assert set(json.loads(capsys.readouterr().out)["activations"]) == set(matching_loss.ACTIVATIONS)


@pytest.mark.parametrize("name", ["identity", "softmax", "entropy", "likelihood"])
def test_a_page_fits_the_terminal_and_ends_with_the_next_command(name, capsys):
    assert call("derive", name) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    last = out.rstrip().splitlines()[-1]
    assert last.startswith("  unstuck derive ")
    assert call(*last.split()[1:]) == 0


def test_python_output_is_source_to_the_last_line(capsys):
    assert call("derive", "sigmoid", "--as", "python") == 0
    out = capsys.readouterr().out
    names: dict[str, object] = {}
    exec(out, names)
    z = torch.tensor([0.5, -3.0], dtype=torch.float64, requires_grad=True)
    names["matching_loss"](z, torch.tensor([0.2, 0.2], dtype=torch.float64)).sum().backward()
    assert torch.allclose(z.grad, z.detach().sigmoid() - 0.2, atol=1e-14)
    assert out.rstrip().splitlines()[-1] == "# unstuck demo neuron"


def test_latex_and_json(capsys):
    assert call("derive", "identity", "--as", "latex") == 0
    out = capsys.readouterr().out
    assert "\\begin{equation*}" in out and out.rstrip().splitlines()[-1].startswith("% unstuck derive")
    assert call("derive", "identity", "--json") == 0
    page = json.loads(capsys.readouterr().out)
    assert page["schema"] == 1 and page["exists"] and page["next"].startswith("unstuck ")


def test_an_expression_and_one_that_begins_with_a_minus(capsys):
    assert call("derive", "2*z+1") == 0
    assert "z**2 + z - y z" in capsys.readouterr().out
    assert call("derive", "--", "-z") == 0
    out = capsys.readouterr().out
    assert "it falls" in out and out.rstrip().endswith('unstuck derive "z"')


def test_no_loss_is_an_answer_but_there_is_no_function_of_it(capsys):
    assert call("derive", "sin(z)") == 0
    assert "not monotone" in capsys.readouterr().out
    assert call("derive", "sin(z)", "--as", "python") == 2
    assert "not monotone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("x+1",), "'x'"),
        (("__import__('os')",), "__import__"),
        (("9**9**9*z",), "9**9**9*z"),
        (("2*z", "--seconds", "0"), "seconds"),
    ],
)
def test_unusable_input_is_exit_code_2_in_one_line(words, part, capsys):
    assert call("derive", *words) == 2
    err = capsys.readouterr().err
    assert part in err and err.startswith("unstuck: ") and err.count("\n") == 1
    assert call("derive", "sigmoid", "--as", "pdf") == 2


def test_a_terminal_without_unicode_gets_no_traceback(monkeypatch):
    import io
    import sys

    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert call("derive", "softmax") == 0
    stream.flush()
    assert b"p_k = exp(z_k)" in stream.buffer.getvalue()
