"""One change to a training, made from outside: torch is patched, the script stays as it is.

    with apply(Intervention("scale-learning-rate", {"factor": 0.1})) as applied:
        run_the_script()
    applied.count  # how often it really did something; 0: there was nothing to change

`apply` imports torch and must be entered before the script runs, so that `from torch.nn.functional import softmax`
hands out what is patched; an observer of `unstuck.observe` goes inside, so that it sees the training as it is changed.
Everything is restored at the end. `NotPossible` is raised where the change cannot be made, by `apply` itself or in the
middle of the training: it is a BaseException because a script that retries on errors must not swallow it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator

import msgspec

from unstuck.experiments.change import AllApplied, Applied, NotPossible
from unstuck.experiments.kinds import SUPPORTED, TOGETHER
from unstuck.experiments.patches import Patches
from unstuck.findings import Intervention

__all__ = ["Applied", "NotPossible", "apply"]

FILES = ("loss", "loop", "model", "data")


@contextlib.contextmanager
def apply(intervention: Intervention | None) -> Iterator[Applied]:
    """Make the change for the duration of the block. None changes nothing and patches nothing.

    Raises NotPossible for a kind that is not in SUPPORTED or lacks an argument.
    """
    if intervention is not None and intervention.kind == TOGETHER:
        with contextlib.ExitStack() as stack:
            parts = msgspec.json.decode(str(intervention.arguments.get("fixes", "[]")), type=list[Intervention])
            yield AllApplied(TOGETHER, [stack.enter_context(apply(part)) for part in parts])
        return
    applied = Applied(intervention.kind if intervention is not None else "")
    if intervention is None:
        yield applied
        return
    if intervention.kind not in SUPPORTED:
        raise applied.impossible(f"no experiment is known for {intervention.kind!r}")
    # Compiled code would be traced through the patches, once, with the state they had then.
    compiled = None if "torch._dynamo" in sys.modules else os.environ.get("TORCHDYNAMO_DISABLE", "")
    if compiled is not None:
        os.environ["TORCHDYNAMO_DISABLE"] = "1"
    # The observer's modules remember torch's functions when they are imported: that must be the unpatched ones.
    importlib.import_module("unstuck.observe.torch_loop")
    patches = Patches(applied, dict(intervention.arguments))
    try:
        for name in FILES:
            module = importlib.import_module(f"unstuck.experiments.interventions_{name}")
            if intervention.kind in module.KINDS:
                try:
                    module.KINDS[intervention.kind](patches)
                except KeyError as missing:
                    raise applied.impossible(f"{intervention.kind} needs the argument {missing}") from None
        yield applied
    finally:
        patches.restore()
        if compiled is not None:
            if compiled:
                os.environ["TORCHDYNAMO_DISABLE"] = compiled
            else:
                del os.environ["TORCHDYNAMO_DISABLE"]
