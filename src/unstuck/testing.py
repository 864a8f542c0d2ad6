"""For test suites: does this training learn, and is this loss wired to this model? Both fail with the diagnosis.

    from unstuck.testing import assert_learns, assert_wired

    def test_the_loss_is_wired():
        assert_wired(Net(), nn.CrossEntropyLoss(), (images, labels))      # one batch, no optimizer

    def test_a_few_steps_learn():
        assert_learns(step)                  # step() is one training step; called 200 times
        assert_learns("train.py", steps=300) # a script, in a process of its own

As a pytest plugin (`-p unstuck.testing`, or `pytest_plugins = ["unstuck.testing"]` in the top conftest.py) it gives the
fixture `doctor`: the test's own training is watched, and `print(doctor)` or `doctor.diagnose()` says how it is.
pytest is needed for the fixture only.
"""

from __future__ import annotations

import copy
import inspect
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unstuck.errors import UsageError

if TYPE_CHECKING:
    from unstuck.doctor import Diagnosis, Doctor
    from unstuck.findings import Finding, Training

PASSES = 3  # forward and backward passes of assert_wired: labels and values are looked at in each
# What one batch without an optimizer cannot show: the update loop, the length of steps, evaluation, the data set.
_WIRING = ("W", "G301", "G302", "G306", "N", "D201", "D206", "D208", "E803")


def assert_learns(
    step: Callable[..., Any] | str | os.PathLike[str], steps: int = 200, *, arguments: Sequence[str] = (),
    ignore: Collection[str] = (), timeout: float = 600.0,
) -> Diagnosis:  # fmt: skip
    """Train for `steps` steps under observation; AssertionError with the report unless the training learns.

    `step`: a function that makes one training step (called with the number of the step where it takes an argument), or
    the path of a script, run with `arguments` in a process of its own and ended after `steps` optimizer steps or `timeout`
    seconds. Learning means: the loss is shown to fall below what guessing scores, and no fault of grade certain or likely
    holds it back. Too few steps to say so is a failure too, with a report that says so. `ignore`: codes of findings
    that are no failure (W101); a loss that does not fall is one, whatever is ignored.

    Returns the diagnosis. Raises UsageError for steps below 1, no such script, or a process that is observed already.
    """
    __tracebackhide__ = True
    if steps < 1:
        raise UsageError(f"assert_learns: steps={steps}: must be a positive number")
    with tempfile.TemporaryDirectory(prefix="unstuck-") as folder:
        if callable(step):
            diagnosis = _called(step, steps, Path(folder, "trace"))
        else:
            diagnosis = _run(os.fspath(step), steps, arguments, Path(folder, "trace"), timeout)
        diagnosis.trace = ""  # it is gone in a moment: no command may name it
        text = str(diagnosis)
    for training in diagnosis.trainings:
        why = _not_learning(training, ignore)
        if why:
            raise AssertionError(f"{why}\n\n{text}")
    return diagnosis


def assert_wired(
    model: Any, loss: Callable[..., Any], batch: Any, *, optimizer: Any = None, ignore: Collection[str] = ()
) -> Diagnosis:  # fmt: skip
    """Is the loss wired to the model? Three forward and backward passes; AssertionError with the findings if not.

    `batch`: (inputs, targets), and the loss is `loss(model(inputs), targets)`; inputs may be a tuple (model(*inputs)) or
    a mapping (model(**inputs)). A mapping as the batch is for models that return their loss: `loss(model(**batch))`, e.g.
    `lambda out: out.loss`. With `optimizer` there are three steps as well: does it hold what the loss trains?

    All is left as it was: weights, gradients, buffers, the optimizer, random states of torch, numpy and python. An
    exception of a forward or backward pass is raised as it is where no finding explains it.
    """
    __tracebackhide__ = True
    from unstuck.doctor import watch

    _free()
    with tempfile.TemporaryDirectory(prefix="unstuck-") as folder, _unchanged(model, optimizer):
        with watch(model, optimizer, trace=Path(folder, "trace"), quiet=True) as doctor:
            try:
                for _ in range(PASSES):
                    _clear(model)
                    _loss(model, loss, batch).backward()
                    if optimizer is not None:
                        _step(model, optimizer, loss, batch)
            except Exception as error:
                doctor.stop(error)
                found = _wiring(doctor.diagnose(), optimizer, ignore)
                if found:
                    raise AssertionError(_said(doctor.diagnose(), found)) from error
                raise
        diagnosis = doctor.diagnose()
        diagnosis.trace = ""
        wrong = [*_wiring(diagnosis, optimizer, ignore)]
        text = _said(diagnosis, wrong) if wrong else ""
        seen = diagnosis.run.backward_seen
    if wrong:
        raise AssertionError(text)
    if not seen or diagnosis.run.own_errors:
        reason = diagnosis.run.own_errors[0] if diagnosis.run.own_errors else "no backward pass was seen"
        raise AssertionError(f"the wiring could not be checked: {reason}")
    return diagnosis


# ---------------------------------------------------------------------- running


def _called(step: Callable[..., Any], steps: int, trace: Path) -> Diagnosis:
    from unstuck.doctor import watch

    _free()
    numbered = _takes_a_number(step)
    with watch(trace=trace, quiet=True) as doctor:
        for number in range(steps):
            step(number) if numbered else step()
    return doctor.diagnose()


def _takes_a_number(step: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(step).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.default is p.empty and p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD} for p in parameters)


def _free() -> None:
    """Is the process observed already, everything would be mixed into that trace."""
    from unstuck.observe.launch import CURRENT

    if CURRENT:
        raise UsageError("this process is observed already (unstuck run, or a watch that was not stopped)")


def _run(script: str, steps: int, arguments: Sequence[str], trace: Path, timeout: float) -> Diagnosis:
    from unstuck.doctor import diagnose

    if not Path(script).exists():
        raise UsageError(f"assert_learns: {script}: no such script")
    command = [sys.executable, "-m", "unstuck", "run", "-q", "--steps", str(steps), "--trace", str(trace), script, *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout)
        code, said = done.returncode, done.stderr
    except subprocess.TimeoutExpired:
        code, said = 0, ""  # what was seen until then is in the trace
    diagnosis = diagnose(trace)
    if code:
        raise AssertionError(f"{script} ended with exit code {code}\n{said[-2000:]}\n{diagnosis}")
    return diagnosis


# ---------------------------------------------------------------------- judging


def _not_learning(training: Training, ignore: Collection[str]) -> str:
    """Why a training does not count as one that learns; '' where it does."""
    for finding in training.findings:
        if finding.role == "cause" and finding.code not in ignore and finding.grade != "possible":
            return f"{finding.code} {finding.name}: {finding.summary}"
    symptom = training.symptom
    if symptom.name == "learning":  # a few steps need not reach what there is to reach
        return ""
    from unstuck.report import words

    return f"the training is not shown to learn: {words.headline(training).lower()}" + (
        f" ({symptom.reason})" if symptom.reason else ""
    )


def _wiring(diagnosis: Diagnosis, optimizer: Any, ignore: Collection[str]) -> list[Finding]:
    """Findings about the wiring that are certain or likely. What nothing can be learned with counts whatever its role."""
    codes = (*_WIRING, "U401", "U402") if optimizer is not None else _WIRING
    return [
        f
        for training in diagnosis.trainings
        for f in training.findings
        if f.code.startswith(codes) and f.code not in ignore and f.grade != "possible" and f.role in {"cause", "latent"}
        and f.bearing != "choice"
    ]  # fmt: skip


def _said(diagnosis: Diagnosis, found: list[Finding]) -> str:
    """The findings as the report tells them. The state of a loss over three passes is none, and is not told."""
    lines = []
    for finding in found:
        lines += [f"{finding.code} {finding.name} ({finding.grade}): {finding.summary}"]
        lines += [f"    {s.file}:{s.line}: {s.text}" for s in finding.locations[:3]]
        lines += [f"    Seen: {item.text}" for item in finding.evidence]
        lines += [f"    Fix: {finding.fix.summary}"] if finding.fix is not None else []
    return "\n".join(lines)


# ---------------------------------------------------------------------- one batch, and nothing left behind


def _loss(model: Any, loss: Callable[..., Any], batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return loss(model(**batch))
    inputs, targets = batch
    if isinstance(inputs, Mapping):
        return loss(model(**inputs), targets)
    return loss(model(*inputs) if isinstance(inputs, tuple) else model(inputs), targets)


def _step(model: Any, optimizer: Any, loss: Callable[..., Any], batch: Any) -> None:
    """What the optimizer holds is told by a step. One that calls for a closure (LBFGS) gets it."""

    def closure() -> Any:
        _clear(model)
        value = _loss(model, loss, batch)
        value.backward()
        return value

    try:
        optimizer.step()
    except TypeError:
        optimizer.step(closure)


def _clear(model: Any) -> None:
    for parameter in model.parameters():
        parameter.grad = None


@contextmanager
def _unchanged(model: Any, optimizer: Any) -> Iterator[None]:
    """Puts back gradients, weights, buffers, modes and random states. Weights too: a forward pass may write to them."""
    torch = sys.modules["torch"]  # the model is one of its modules
    numpy = sys.modules.get("numpy")
    gradients = [(p, p.grad) for p in model.parameters()]
    held = [p for group in optimizer.param_groups for p in group["params"]] if optimizer is not None else []
    gradients += [(p, p.grad) for p in held]
    tensors = [(t, t.detach().clone()) for t in (*model.parameters(), *model.buffers(), *held)]
    state = {p: copy.deepcopy(kept) for p, kept in optimizer.state.items()} if optimizer is not None else {}
    modes = [(m, m.training) for m in model.modules()]
    drawn, python, legacy = torch.get_rng_state(), random.getstate(), numpy.random.get_state() if numpy is not None else None
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, before in tensors:
                if tensor.shape == before.shape and not torch.equal(tensor, before):
                    tensor.copy_(before)
        for parameter, gradient in gradients:
            parameter.grad = gradient
        if optimizer is not None:
            optimizer.state.clear()
            optimizer.state.update(state)
        for module, training in modes:
            module.training = training
        torch.set_rng_state(drawn)
        random.setstate(python)
        if numpy is not None and legacy is not None:
            numpy.random.set_state(legacy)
        if devices is not None:
            torch.cuda.set_rng_state_all(devices)


# ---------------------------------------------------------------------- pytest

try:
    import pytest
except ImportError:
    pass
else:

    @pytest.fixture
    def doctor(tmp_path: Path) -> Iterator[Doctor]:
        """The test is watched from here on; nothing is printed. Stopped at its end, everything restored."""
        from unstuck.doctor import watch

        _free()
        with watch(trace=tmp_path / "unstuck-trace", quiet=True) as watching:
            yield watching
