"""Most forward passes end in an exception that the script catches and skips.

## What it means
The loop has a try/except that is meant for rare bad batches. It catches an exception in nearly every batch (out of
memory, a shape that does not fit, a label out of range) and goes on, so that few or no steps are taken.

## What is seen
More than half of the forward passes in training mode were followed by no backward call, and an exception was raised in
the forward pass, the loss or the backward call and did not end the script.

## Why training gets stuck
There are far fewer updates than batches, and those that are left come from an odd selection of the data: only short
sequences, only the last batch. The printed loss is that of the few that worked, or an old one.

## Fix
Let the exception through once and repair what it says. If batches must be skipped, count them, print the count, and
raise when it is not small.

## Not to be confused with
Forward passes that need no backward: evaluation with gradients on, several passes for one loss, rollouts: silent, as
no exception is seen. Steps skipped by a GradScaler (U408). A script that ends with the exception: its message says it.

## References
PyTorch FAQ, "My out of memory exception handler can't allocate memory" (the pattern of catching and skipping).
"""

from __future__ import annotations

from unstuck.findings import Evidence, Finding, Fix
from unstuck.rules.paths import sites
from unstuck.trace import synthetic
from unstuck.trace.facts import Raised
from unstuck.trace.trace import Trace

CODE = "U411"
NEEDS = ("loop",)
EXPLAINS = ("D201", "W108", "W113")

FEWEST = 5


def check(trace: Trace) -> Finding | None:
    facts, loop = trace.facts, trace.facts.loop
    watched = _watched(trace)
    if watched is not None:
        return watched
    if loop.dropped_forwards < FEWEST or 2 * loop.dropped_forwards <= loop.forwards:
        return None
    caught = [e for e in facts.exceptions if not e.fatal and e.phase != "script"]
    seen = sum(e.count for e in caught)
    # Not every exception can be counted; where hardly any pass got as far as backward a few of them are enough.
    sampled = seen >= 2 and 10 * loop.backwards <= loop.forwards
    if not caught or (2 * seen < loop.dropped_forwards and not sampled):
        return None
    worst = max(caught, key=lambda e: e.count)
    share = loop.dropped_forwards / max(1, loop.forwards)
    return Finding(
        CODE,
        "steps-swallowed",
        "certain",
        f"{share:.0%} of the forward passes end in an exception that the script catches: {worst.type}.",
        bearing="hinders",
        evidence=[
            Evidence(
                f"{loop.dropped_forwards} of {loop.forwards} forward passes were followed by no backward call.",
                value=share, unit="share", source="loop",
            ),
            Evidence(
                f"An exception was caught in the {_PHASES.get(worst.phase, worst.phase)}, seen {worst.count} times: "
                f"{worst.type}: {worst.message}",
                value=float(worst.count), unit="times", source="exception",
            ),
        ],
        locations=sites(worst.site, worst.caught),
        fix=Fix(f"Repair what the exception says ({worst.type}), and do not catch it without counting."),
    )  # fmt: skip


def _watched(trace: Trace) -> Finding | None:
    """The exception comes before the model is called: more of the watched passes failed than reached backward."""
    loop = trace.facts.loop
    if loop.watched_failures < FEWEST or loop.watched_failures <= loop.watched_passes:
        return None
    caught = [e for e in trace.facts.exceptions if not e.fatal and e.count > 1]
    if not caught:
        return None
    worst = max(caught, key=lambda e: e.count)
    total = loop.watched_failures + loop.watched_passes
    return Finding(
        CODE,
        "steps-swallowed",
        "certain",
        f"Most steps end in an exception that the script catches: {worst.type}.",
        bearing="hinders",
        evidence=[
            Evidence(
                f"Of the first {total} passes that were watched, {loop.watched_failures} ended in an exception that the "
                f"script caught, {loop.watched_passes} reached backward.",
                value=loop.watched_failures / total, unit="share", source="exception",
            ),
            Evidence(f"{worst.type}: {worst.message}", value=float(worst.count), unit="times", source="exception"),
        ],
        locations=sites(worst.site, worst.caught),
        fix=Fix(f"Repair what the exception says ({worst.type}), and do not catch it without counting."),
    )  # fmt: skip


_PHASES = {"forward": "forward pass", "loss": "loss call", "backward": "backward call", "step": "optimizer step"}


def sick() -> Trace:
    trace = synthetic.training(state="at-chance", steps=40)
    loop = trace.facts.loop
    loop.forwards, loop.dropped_forwards = 400, 360
    trace.facts.exceptions = [
        Raised(
            "RuntimeError", "Expected hidden[0] size (1, 64, 40), got [1, 8, 40]", "forward",
            site=synthetic.site(22, "out, _ = self.lstm(x, self.init_state(x.size(1)))"), count=360,
            caught=synthetic.site(40, "except RuntimeError:", synthetic.TRAIN, "<module>"),
        )
    ]  # fmt: skip
    return trace


def healthy() -> Trace:
    return synthetic.training(state="learning")
