"""Losses to train with: drop-ins that hand over what they know, refuse silent bugs, and run in few passes over memory. Needs
torch."""

from __future__ import annotations

from unstuck.losses.binary import BinaryCrossEntropyLoss, binary_cross_entropy
from unstuck.losses.comp_sum import comp_sum, focal, generalised_cross_entropy, mean_absolute_error
from unstuck.losses.cross_entropy import CrossEntropyLoss, cross_entropy
from unstuck.losses.linear_cross_entropy import LinearCrossEntropyLoss, linear_cross_entropy
from unstuck.losses.telemetry import Telemetry, listeners

__all__ = [
    "BinaryCrossEntropyLoss",
    "CrossEntropyLoss",
    "LinearCrossEntropyLoss",
    "Telemetry",
    "binary_cross_entropy",
    "comp_sum",
    "cross_entropy",
    "focal",
    "generalised_cross_entropy",
    "linear_cross_entropy",
    "listeners",
    "mean_absolute_error",
]
