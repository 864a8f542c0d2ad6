"""The vocabulary of a trace: one line per observable.

Series channels hold one float64 per recorded optimizer step (NaN: not measured at this step). Fact channels are parts
of `facts.Facts`. A rule lists the channels it NEEDS; where one is absent the rule is *not checked*, and the report says
why.
"""

from __future__ import annotations

from typing import NamedTuple


class Channel(NamedTuple):
    """One observable."""

    name: str
    unit: str
    shape: str
    cost: str
    meaning: str


SERIES = (
    Channel("loss", "nats", "step", "every step", "the judged loss term (one micro-batch's where several accumulate)"),
    Channel("chance", "nats", "step", "every step", "what the uniform predictor scores on the targets of that call"),
    Channel("base", "nats", "step", "every step", "what the base rates of earlier steps score on the same targets"),
    Channel("accuracy", "share", "step", "every step, subsampled rows", "share of kept rows whose argmax is the label"),
    Channel("lr", "1", "step", "every step", "largest learning rate over the groups of the optimizer that stepped"),
    Channel("predicted", "nats", "step", "sampled steps", "first-order decrease <g, -delta theta> of the update"),
    Channel("grad_norm", "nats/weight", "step", "sampled steps", "2-norm of the gradient the optimizer was given"),
    Channel("update_ratio", "1", "step", "sampled steps", "2-norm of the update over 2-norm of the weights"),
    Channel("backwards", "count", "step", "every step", "backward calls since the previous optimizer step"),
)

FACTS = (
    Channel("terms", "-", "list", "first steps, then rarely", "loss calls found in the autograd graph, with options"),
    Channel("path", "-", "list per term", "first steps", "operations between the loss and the last parametric layer"),
    Channel("values", "-", "per term", "sampled steps", "what the numbers entering the loss look like"),
    Channel("labels", "-", "per term", "every step", "label counts, range, distinct values, ignored share"),
    Channel("parameters", "-", "list", "first steps, then rarely", "reached, trainable, held by an optimizer, changed"),
    Channel("optimizers", "-", "list", "every step", "kind, groups, learning rates, where it was made"),
    Channel("loop", "-", "one", "every step", "counts of forward, backward, step, zeroing, and their order"),
    Channel("layers", "-", "list", "deep steps", "activations: size, spread over the batch, dead and saturated units"),
    Channel("probes", "nats", "list", "deep steps", "the same batch evaluated again after the update, and in other modes"),
    Channel("gradient_checks", "nats", "list", "once, when stuck", "backward's slope against the loss's own difference"),
    Channel("modes", "-", "list", "deep steps", "dropout and batch-norm layers and the mode they ran in"),
    Channel("inputs", "-", "list", "first steps", "the data given to the model: size, scale, constant parts, repeats"),
    Channel("pairs", "-", "arrays", "first steps", "captured (input, label) pairs, at most a few thousand rows"),
    Channel("loaders", "-", "list", "every iteration", "DataLoaders: rows, shuffling, batches taken"),
    Channel("clippings", "-", "list", "every call", "gradient clipping: threshold, norms before it"),
    Channel("reshapes", "-", "list", "first steps", "views that gave axes each other's sizes"),
    Channel("formulas", "-", "list", "deep steps", "log-softmax written out by hand"),
    Channel("operations", "-", "list", "first steps", "kinds of operation between the data and the loss"),
    Channel("breaks", "-", "list", "first steps", "operations that took a tensor with gradient and gave one without"),
    Channel("exceptions", "-", "list", "when raised", "exceptions that passed or ended the training"),
    Channel("nonfinite", "-", "one", "every step", "the first tensor that was NaN or infinite"),
)

SERIES_NAMES = tuple(c.name for c in SERIES)
FACT_NAMES = tuple(c.name for c in FACTS)
BY_NAME = {c.name: c for c in (*SERIES, *FACTS)}
