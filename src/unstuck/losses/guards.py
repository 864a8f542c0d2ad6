"""Refusing silent bugs at the loss call: probabilities in the place of logits, and targets that name no class.

Neither raises in plain torch on every device: a loss of probabilities trains slowly towards a floor it cannot pass, and an index
out of range on an accelerator kills the process somewhere else, later. On the CPU both are checked at once. On an accelerator a
check that waits for the device would cost more than the loss, so the verdict of a call is read at a later call, once the device
has it.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import torch
from torch import Tensor

# Rows that look like probabilities before we say so, and calls looked at: all the first ones, then ever fewer.
EVIDENCE = 8
LOOKED_AT = 8
ROWS = 32
# How far a sum of K probabilities of this dtype may be from 1: rounding of the addends, added up as a random walk.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 2e-2}

Site = tuple[str, int]
_calls: dict[Site, int] = {}
_evidence: dict[Site, int] = {}
_warned: set[Site] = set()
# (site, what, flag on the host, event that says the flag has arrived)
_later: list[tuple[Site, str, Tensor, Any]] = []


def forget() -> None:
    """Starts afresh: every call site may warn again. For tests and notebooks."""
    _calls.clear()
    _evidence.clear()
    _warned.clear()
    _later.clear()


def _caller() -> tuple[Site, int]:
    """((file, line), depth) of the innermost frame that is neither ours nor torch's."""
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None:
        name = frame.f_globals.get("__name__", "")
        if not (name.startswith("unstuck.") or name == "torch" or name.startswith("torch.")):
            break
        frame, depth = frame.f_back, depth + 1
    return (frame.f_code.co_filename, frame.f_lineno), depth


def probabilities(logits: Tensor) -> None:
    """Warns once per call site when the rows given as logits sum to 1 with every entry in [0, 1].

    `logits`: (N, C, ...) or (C,). Looked at: up to 32 rows of a call. A row is evidence if it sums to 1 within rounding, is no
    one-hot row and is not the same value throughout (untrained heads); eight such rows, from one call or from several, and not one
    row against, make the case. A single class, or a row that leaves [0, 1], never does. Known to be fooled by one thing: a head
    whose weights start at 0 and whose biases sum to 1 keeps true logits at that sum (their gradient sums to 0), for as long as
    they stay within [0, 1].
    """
    site, depth = _caller()
    count = _calls.get(site, 0)
    _calls[site] = count + 1
    if _later:
        _read_later()
    if site in _warned or (count >= LOOKED_AT and count & (count - 1)):
        return
    classes = logits.shape[1] if logits.dim() > 1 else logits.shape[0]
    if classes < 2 or logits.numel() == 0:
        return
    with torch.no_grad():
        flat = logits.detach()
        if flat.dim() == 1:
            flat = flat.unsqueeze(0)
        if flat.dim() > 2:
            flat = flat[:ROWS].flatten(2)[:, :, :ROWS].movedim(1, -1).reshape(-1, classes)
        flat = flat[:ROWS]
        if flat.device.type == "cpu" and not 0.0 <= float(flat[0, 0]) <= 1.0:  # nearly every true call ends here
            _evidence[site] = 0
            return
        tolerance = TOLERANCE.get(flat.dtype, 2e-2)
        rows = flat.double() if flat.dtype == torch.float64 else flat.float()
        low, high = rows.amin(1), rows.amax(1)
        fits = (low >= 0) & (high <= 1) & ((rows.sum(1) - 1).abs() <= tolerance)
        telling = fits & (high < 1) & (low < 0.99 * high)
        verdict = torch.where(fits.all(), telling.sum(), -1)
    if flat.device.type == "cpu":
        _probable(site, int(verdict), depth + 1)
    else:
        _postpone(site, "probabilities", verdict)


def _probable(site: Site, telling: int, stacklevel: int) -> None:
    if telling < 0:
        _evidence[site] = 0
        return
    seen = _evidence[site] = _evidence.get(site, 0) + telling
    if seen >= EVIDENCE:
        _warned.add(site)
        warnings.warn(
            f"the loss got probabilities, not logits ({site[0]}:{site[1]}): every row looked at lies in [0, 1] and sums to 1, so "
            "the softmax inside the loss is a second one. Remove the softmax (or sigmoid) in front of the loss and pass the raw "
            "scores; if only log-probabilities are at hand, pass those.",
            UserWarning,
            stacklevel=stacklevel,
        )


def out_of_range(target: Tensor, classes: int, ignore_index: int) -> bool:
    """IndexError that names the first index target outside 0..classes-1 (and not ignored). CPU targets; reads them once.
    Returns whether `ignore_index` may occur among them."""
    if target.numel() == 0:
        return False
    low, high = (int(end) for end in torch.aminmax(target))
    maybe = low <= ignore_index <= high
    if low >= 0 and high < classes:
        return maybe
    bad = ((target < 0) | (target >= classes)) & (target != ignore_index)
    if not bool(bad.any()):
        return maybe
    where = tuple(int(i) for i in torch.nonzero(bad)[0])
    place = "" if target.dim() == 0 else f"[{', '.join(map(str, where))}]"
    hint = f"ignore_index is {ignore_index}" if low < 0 else "labels start at 0; is the head one class short?"
    raise IndexError(
        f"target{place} is {int(target[where])}, out of bounds for {classes} classes: labels must lie in 0..{classes - 1} "
        f"({int(bad.sum())} of {target.numel()} do not; {hint})"
    )


def report_later(bad: Tensor) -> None:
    """`bad`: () bool on an accelerator, whether a target was out of range. Its rows are NaN already; the report follows."""
    _postpone(_caller()[0], "range", bad.to(torch.int64))


def _postpone(site: Site, what: str, flag: Tensor) -> None:
    if len(_later) >= 64:
        return
    event = None
    if flag.device.type == "cuda":
        host = torch.empty((), dtype=flag.dtype, pin_memory=True)
        host.copy_(flag, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        flag = host
    _later.append((site, what, flag, event))


def _read_later() -> None:
    waiting = []
    for site, what, flag, event in _later:
        if event is not None and not event.query():
            waiting.append((site, what, flag, event))
        elif what == "probabilities":
            if site not in _warned:
                _probable(site, int(flag), 4)
        elif int(flag) and site not in _warned:
            _warned.add(site)
            warnings.warn(f"a target was out of range at {site[0]}:{site[1]}: its rows' loss is NaN", UserWarning, stacklevel=4)
    _later[:] = waiting
