"""What is replaced in torch, and that all of it is put back."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler
from watch import watched

from unstuck.observe.torch_patches import Patches

NAMES: list[tuple[Any, str]] = [
    (torch.autograd, "backward"), (torch.autograd, "grad"), (torch.autograd.Function, "apply"),
    (torch.nn.Module, "__init__"), (torch.nn.Module, "__call__"), (torch.nn.Module, "zero_grad"),
    (torch.nn.Module, "load_state_dict"), (torch.nn.modules.batchnorm._NormBase, "reset_running_stats"),
    (torch.optim.Optimizer, "__init__"), (torch.optim.Optimizer, "zero_grad"), (LRScheduler, "__init__"),
    (torch.amp.GradScaler, "__init__"), (torch.amp.GradScaler, "step"), (torch, "compile"), (torch, "from_numpy"),
    (torch.autograd.graph.saved_tensors_hooks, "__enter__"),
    *((owner, f"clip_grad_{kind}_") for owner in (torch.nn.utils, torch.nn.utils.clip_grad) for kind in ("norm", "value")),
    (torch.utils.data.DataLoader, "__init__"), (torch.utils.data.DataLoader, "__iter__"),
    (torch.utils.data.dataloader._BaseDataLoaderIter, "__next__"),
]  # fmt: skip


def test_the_names_that_are_replaced(tmp_path: Path) -> None:
    before = [vars(owner)[name] for owner, name in NAMES]
    with watched(tmp_path):
        same = [name for (owner, name), old in zip(NAMES, before) if vars(owner)[name] is old]
        assert same == []
        assert torch._C._len_torch_function_stack() == 1
    assert [vars(owner)[name] for owner, name in NAMES] == before
    assert torch._C._len_torch_function_stack() == 0


def test_undone_in_the_opposite_order() -> None:
    thing = SimpleNamespace(f=lambda: "f")
    original, patches = thing.f, Patches()
    for mark in "ab":
        patches.replace(thing, "f", lambda inner, mark=mark: lambda: mark + inner())
    assert thing.f() == "baf"
    patches.undo()
    assert thing.f is original and patches.restore == []


def test_what_somebody_has_wrapped_since_stays() -> None:
    thing = SimpleNamespace(f=lambda: "f")
    patches = Patches()
    patches.replace(thing, "f", lambda inner: lambda: "ours " + inner())
    ours = thing.f
    thing.f = theirs = lambda: "theirs " + ours()
    patches.undo()
    assert thing.f is theirs
