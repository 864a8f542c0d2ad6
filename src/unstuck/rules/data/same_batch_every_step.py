"""One and the same batch is used at every step, although there is more data.

## What it means
`next(iter(loader))` inside the loop begins anew each time, before the loop it is asked only once; `X[:64]` stands where
`X[i:i+64]` was meant; an index never advances.

## What is seen
Inputs and labels of every call that was compared equal those of the first call, entry for entry, at 20 or more calls;
and there is more data: the batch is a slice of a longer tensor, or a DataLoader that holds more batches gives one.

## Why training gets stuck
The training loss falls, because one batch can be learned by heart. Nothing else can: on other data the network is at
chance or worse. With a loader that does not shuffle the one batch may hold one class only.

## Fix
`for x, y in loader:` and, for tensors, an index that advances: `X[i:i+64]` for i in range(0, len(X), 64).

## Not to be confused with
Learning one batch by heart on purpose, a good first test: it is reported as the cause only where the training is stuck.
The whole data set in one batch (full-batch descent), or the larger part of a split by slicing: silent.

## References
A. Karpathy, A recipe for training neural networks, 2019 (overfit one batch). torch.utils.data.DataLoader: each call of
iter() begins an epoch.
"""

from __future__ import annotations

from unstuck.findings import Evidence, Finding, Fix
from unstuck.rules import levels
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Inputs, Loader
from unstuck.trace.trace import Trace

CODE = "D209"
NEEDS = ("inputs",)

CALLS = 20  # a shuffled index repeats a batch of B rows with probability at most 1/B per call; 20 repeats are no luck
SPLIT = 2  # a part of more than half is the training half of a split by slicing: the rest is held out, not forgotten


def check(trace: Trace) -> Finding | None:
    facts = trace.facts
    compared = [i for i in facts.inputs if i.compared_calls >= CALLS and i.kind in {"real", "ids"}]
    if not compared or any(i.same_calls < i.compared_calls for i in compared):
        return None
    given = compared[0]
    loader = next((one for one in facts.loaders if _gives_one(one, given, levels.steps(trace))), None)
    more = _slice(compared)
    if loader is None and more is None:
        return None
    evidence = [
        Evidence(
            f"All {given.same_calls} batches that were compared equal the first one, entry for entry, labels as well.",
            value=float(given.same_calls), unit="calls", source="values",
        )
    ]  # fmt: skip
    if more is not None:
        evidence.append(
            Evidence(
                f"The batch holds {more.shape[0] if more.shape else 0} rows and is a slice of a tensor of {more.part_of}.",
                value=float(more.part_of or 0), unit="rows", source="values",
            )
        )  # fmt: skip
    if loader is not None:
        whole = f" with {loader.rows} rows in {loader.batches} batches" if loader.rows and loader.batches else ""
        evidence.append(
            Evidence(
                f"A DataLoader{whole} was begun {loader.iterators} times and gave {loader.taken} batches in all, never "
                f"more than {max(loader.longest, 1)} in a row.",
                value=float(loader.longest), unit="batches", source="loop",
            )
        )  # fmt: skip
    # Who overfits one batch as a test asks about that batch; who asks about other rows as well wanted to learn from more.
    meant = not facts.loop.evaluated_elsewhere
    if not meant:
        evidence.append(
            Evidence("The model was also called, without a gradient, on rows it was never trained on.", source="loop")
        )
    return Finding(
        CODE, "same-batch-every-step", "certain",
        f"The same batch was used at all {given.same_calls} steps that were compared, and there is more data.",
        bearing="choice" if meant else "hinders", shown=not meant, evidence=evidence,
        locations=sites(loader.site if loader is not None else None, given.site,
                        loader.made if loader is not None else None),
        fix=Fix("Let the batches advance: for x, y in loader, or X[i:i+n] with an index that moves on."),
    )  # fmt: skip


def _slice(compared: list[Inputs]) -> Inputs | None:
    return next((i for i in compared if i.part_of is not None and i.shape and i.part_of > SPLIT * i.shape[0] > 0), None)


def _gives_one(loader: Loader, given: Inputs, steps: int) -> bool:
    """Does this loader hold more than one batch, and give the same one for ever?"""
    if loader.batch_size and given.shape and given.shape[0] != loader.batch_size:
        return False  # another loader: of the held-out data
    held = (loader.batches or 0) > 1 or (
        loader.rows is not None and loader.batch_size is not None and loader.rows > loader.batch_size > 0
    )
    if not held:
        return False
    again = loader.longest == 1 and loader.iterators >= CALLS
    return again or (loader.taken == 1 and steps >= CALLS)


def in_order(trace: Trace) -> str:
    compared = [i for i in trace.facts.inputs if i.compared_calls >= CALLS]
    if not compared or compared[0].same_calls >= compared[0].compared_calls:
        return ""
    return f"{compared[0].same_calls} of {compared[0].compared_calls} batches equal the first one"


def sick() -> Trace:
    return _example(same=50, loader=Loader(1000, 64, 16, True, made=_made(), iterators=1, taken=1, longest=1))


def healthy() -> Trace:
    return _example(same=3, loader=Loader(1000, 64, 16, True, made=_made(), iterators=25, taken=400, longest=16))


def _made():
    return synthetic.site(9, "loader = DataLoader(data, batch_size=64, shuffle=True)", synthetic.TRAIN, "<module>")


def _example(same: int, loader: Loader) -> Trace:
    return synthetic.training(
        state="learning",
        loaders=[loader],
        inputs=[
            Inputs("x", "real", [64, 30], "float32", calls=400, rows=1280, lowest=-3.0, highest=3.0, mean=0.0, rms=1.0,
                   constant_columns=0.0, distinct_rows=64 if same == 50 else 1000, same_calls=same, compared_calls=50,
                   site=synthetic.site(40, "out = model(x)", synthetic.TRAIN, "train")),
        ],
    )  # fmt: skip
