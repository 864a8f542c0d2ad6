"""One change to a Keras training, made from outside, as `interventions` makes it for torch: the same kinds, the same meaning.

    with apply(Intervention("scale-learning-rate", {"factor": 0.1})) as applied:
        run_the_script()
    applied.count  # how often it really did something; 0: there was nothing to change

Keras need not be imported yet: what is to be changed is changed right after the script has imported it, before an observer of
`unstuck.observe` looks, so that the observer sees the training as it is changed. Steps that TensorFlow and JAX compile are
traced with the change in them, so that `count` counts tracings there. Everything is restored at the end. `NotPossible` is raised
where the change cannot be made, by `apply` itself, by the script's import of Keras, or in the middle of the training.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator

import msgspec

from unstuck.experiments.change import AllApplied, Applied, NotPossible
from unstuck.experiments.keras_patches import Patches
from unstuck.experiments.kinds import KERAS, NOT_IN_KERAS, TOGETHER
from unstuck.findings import Intervention
from unstuck.observe.launch import AfterImport

__all__ = ["Applied", "NotPossible", "apply"]

FILES = ("loss", "loop", "model", "data")


@contextlib.contextmanager
def apply(intervention: Intervention | None) -> Iterator[Applied]:
    """Make the change for the duration of the block. None changes nothing and patches nothing.

    Raises NotPossible for a kind that Keras has no experiment for, or that lacks an argument.
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
    kind = intervention.kind
    if kind in NOT_IN_KERAS:
        raise applied.impossible(NOT_IN_KERAS[kind])
    if kind not in KERAS:
        raise applied.impossible(f"no experiment is known for {kind!r}")
    made: list[Patches] = []

    def keras_is_there() -> None:
        patches = Patches(applied, dict(intervention.arguments), sys.modules["keras"])
        made.append(patches)
        for name in FILES:
            module = importlib.import_module(f"unstuck.experiments.keras_{name}")
            if kind in module.KINDS:
                try:
                    module.KINDS[kind](patches)
                except KeyError as missing:
                    raise applied.impossible(f"{kind} needs the argument {missing}") from None
                except AttributeError as error:  # a private name of Keras that this version does not have
                    raise applied.impossible(f"{kind} cannot be made with this version of Keras: {error}") from None

    finder = AfterImport("keras", keras_is_there)
    try:
        if "keras" in sys.modules:
            keras_is_there()
        else:
            sys.meta_path.insert(0, finder)
        yield applied
    finally:
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)
        for patches in made:
            patches.restore()
