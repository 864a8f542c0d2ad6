"""Our own code in the middle of a training: never re-entered, never seen by the spy, its errors kept from the user."""

from __future__ import annotations

import torch

from unstuck.observe.torch_guard import MAX_OWN_ERRORS, Guard
from unstuck.trace.facts import Run


def fails() -> None:
    raise ValueError("on purpose")


def test_an_error_of_ours_is_noted_and_kept() -> None:
    guard = Guard(Run(), lambda *told: None)
    guard.active = True
    assert guard.guarded(fails) is None
    assert guard.run.own_errors == [f"ValueError: on purpose (test_torch_guard.py:{fails.__code__.co_firstlineno + 1})"]
    assert not guard.local.busy and guard.active
    assert guard.guarded(lambda a: a + 1, 2) == 3


def test_after_too_many_of_them_the_observer_steps_aside() -> None:
    guard = Guard(Run(), lambda *told: None)
    guard.active = True
    for _ in range(MAX_OWN_ERRORS + 5):
        guard.guarded(fails)
    assert not guard.active and len(guard.run.own_errors) == MAX_OWN_ERRORS
    assert guard.guarded(lambda: 1) is None


def test_it_is_not_entered_twice() -> None:
    guard = Guard(Run(), lambda *told: None)
    guard.active = True
    assert guard.guarded(lambda: (1, guard.guarded(lambda: 2))) == (1, None)


def test_the_spy_sleeps_meanwhile() -> None:
    guard = Guard(Run(), lambda *told: None)
    guard.active = True
    guard.push_spy()
    try:
        x = torch.ones(3, requires_grad=True)
        seen = [len(guard.spy.ops)]
        for work in (lambda: x + 1, lambda: guard.guarded(lambda: x + 1), lambda: x + 1):
            work()
            seen.append(len(guard.spy.ops))
    finally:
        guard.drop_spy()
    assert seen == [0, 1, 1, 2]
    assert torch._C._len_torch_function_stack() == 0


def test_a_spy_that_is_due_lies_below_nobodys_mode() -> None:
    """Pushed on an empty stack only, and taken off only when nothing lies on it."""
    guard = Guard(Run(), lambda *told: None)
    guard.active = True

    class Theirs(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    with Theirs():
        guard.push_spy()
        assert not guard.spy_pushed
    guard.push_spy()
    assert guard.spy_pushed and guard.spy.on
    with Theirs():
        guard.drop_spy()
        assert guard.spy_pushed and not guard.spy.on  # asleep below the other one
    guard.drop_spy()
    assert not guard.spy_pushed and torch._C._len_torch_function_stack() == 0
