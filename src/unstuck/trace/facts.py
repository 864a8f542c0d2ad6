"""Static facts of one training: the loss call, the path to the head, the update loop. Plain structs, no framework.

Every struct here is written to the trace as JSON (msgspec). New fields get a default, so that a trace written by an
older version can be read.
"""

from __future__ import annotations

import msgspec


class Site(msgspec.Struct, frozen=True):
    """A line of the user's code."""

    file: str
    line: int
    text: str = ""
    function: str = ""


class OpNode(msgspec.Struct):
    """One operation of the forward pass, as the autograd graph remembers it."""

    op: str  # framework-independent: softmax, log_softmax, sigmoid, tanh, relu, linear, conv, view, transpose, ...
    raw: str = ""  # the framework's own name: SoftmaxBackward0
    shape: list[int] | None = None  # of its output
    dim: int | None = None  # the axis a softmax works on, non-negative
    scale: float | None = None  # for multiplication or division by a constant: the factor
    perm: list[int] | None = None  # for transpose / permute: output axis i is input axis perm[i]
    zero_columns: float | None = None  # for relu: share of units that are 0 for every sample of the batch
    site: Site | None = None  # the line that ran it
    module: str = ""  # type of the innermost module that ran it: Softmax
    made: Site | None = None  # the line that constructed that module, where it is a library module
    parameters: list[str] = msgspec.field(default_factory=list)  # names of the parameters it uses
    frozen: list[str] = msgspec.field(default_factory=list)  # those of its module's parameters that take no gradient

    @property
    def where(self) -> Site | None:
        """The line to edit: the constructor of a library module, otherwise the line that ran the operation."""
        return self.made or self.site


class TermValues(msgspec.Struct):
    """What the numbers that enter a loss looked like on the sampled calls. Counts are calls."""

    calls: int = 0
    rows: int = 0  # smallest number of rows in a sampled call
    simplex_rows: int = 0  # every row non-negative and summing to 1 along the class axis
    simplex_columns: int = 0  # the same along the batch axis, and not along the class axis
    log_probabilities: int = 0  # exp of every row sums to 1
    unit_interval: int = 0  # all values in [0, 1]
    strictly_inside: int = 0  # all values in (0, 1)
    lowest: float | None = None
    highest: float | None = None
    widest_row: float | None = None  # largest max - min within one row
    spread: float | None = None  # largest standard deviation over the batch of any column (0: all samples equal)
    nonfinite: int = 0


class LabelStats(msgspec.Struct):
    """The targets of a loss term, summed over all observed calls."""

    kind: str = ""  # index, one-hot, probability, binary, integer, real
    rows: int = 0
    kept: int = 0  # rows that are not ignored
    calls: int = 0
    all_ignored_calls: int = 0
    lowest: float | None = None
    highest: float | None = None
    counts: list[float] = msgspec.field(default_factory=list)  # per class, empty above 4096 classes
    distinct: list[float] = msgspec.field(default_factory=list)  # up to 32 distinct values, for non-index targets
    many_distinct: bool = False  # more than 32
    outside: int = 0  # labels below 0 or >= classes that are not ignore_index
    outside_example: float | None = None
    hits: list[float] = msgspec.field(default_factory=list)  # correct predictions per class over the last window
    seen: list[float] = msgspec.field(default_factory=list)  # rows per class over the same window
    predicted: list[float] = msgspec.field(default_factory=list)  # rows per predicted class over the same window


class LossTerm(msgspec.Struct):
    """One loss found between the tensor given to backward and the model."""

    kind: str  # cross-entropy, nll, soft-cross-entropy, bce, bce-logits, mse, l1, smooth-l1, kl, hinge, ... , unknown
    raw: str = ""
    judged: bool = False  # the term whose series are recorded
    why_not: str = ""  # reason it is not judged
    site: Site | None = None
    made: Site | None = None  # constructor of the criterion object
    sign: int = 1  # +1: minimised as it should be; -1: the update makes this loss larger
    sign_site: Site | None = None  # the line that negates
    coefficient: float | None = None  # of this term in the total, where it could be read from the graph
    reduction: str = ""  # mean, sum, none
    ignore_index: int | None = None
    label_smoothing: float = 0.0
    weight: list[float] | None = None
    pos_weight: list[float] | None = None
    sample_weighted: bool = False
    input_shape: list[int] | None = None
    target_shape: list[int] | None = None
    argument_shapes: list[list[int]] | None = None  # as the user passed them, before any broadcast
    broadcast: Site | None = None  # where [N,1] met [N] and became N x N
    classes: int | None = None
    class_axis: int | None = None
    feature_axis: int | None = None  # the axis of the loss input that holds the head's output units, if it can be told
    scrambled: bool = False  # a view mixed the head's output axis with others
    path: list[OpNode] = msgspec.field(default_factory=list)  # from the loss down to the last parametric layer
    path_end: str = ""  # parametric, merge, leaf, hidden, none
    hidden: str = ""  # why the graph below cannot be seen
    values: TermValues = msgspec.field(default_factory=TermValues)
    labels: LabelStats = msgspec.field(default_factory=LabelStats)


class Parameter(msgspec.Struct):
    """A tensor of the model."""

    name: str
    shape: list[int]
    trainable: bool = True
    reached: bool = False  # a gradient path from a loss leads to it
    held: bool = False  # some optimizer that steps has it in a group, by identity
    gradient: str = "unknown"  # none, zero, nonzero
    changed: bool | None = None  # bit for bit, since the first step; None: not compared
    lag: bool = False  # belongs to the model that was called, yet was created after the optimizer
    embedding: bool = False  # rows may stay untouched for good reasons


class Optimizer(msgspec.Struct):
    """An optimizer that was seen."""

    kind: str
    made: Site | None = None
    step_site: Site | None = None
    steps: int = 0
    tensors: int = 0
    strangers: int = 0  # tensors in its groups that no loss reaches
    stranger_names: list[str] = msgspec.field(default_factory=list)
    lr_first: float | None = None
    lr_largest: float | None = None
    lr_last: float | None = None
    lr_zero_steps: int = 0
    steps_below_resolution: int = 0  # steps whose update was too small to change any weight in its dtype
    maximize: bool = False
    weight_decay: float = 0.0
    momentum: float = 0.0
    scheduler: Site | None = None
    hyper: str = ""  # text of the options, to tell a sweep from a rebuilt model


class Break(msgspec.Struct):
    """A place where a tensor with gradient went in and one without came out."""

    reason: str  # argmax, detach, item, numpy, data, round, no_grad, new-tensor, comparison, integer
    site: Site | None = None
    function: str = ""
    on_path: bool = False  # the value flows on into the loss


class Raised(msgspec.Struct):
    """An exception seen in the training."""

    type: str
    message: str
    phase: str  # forward, loss, backward, step, script
    site: Site | None = None
    fatal: bool = False
    count: int = 1
    caught: Site | None = None


class NonFinite(msgspec.Struct):
    """The first tensor that was NaN or infinite."""

    what: str  # input, parameter, buffer, output, loss, gradient
    name: str = ""
    step: int = 0
    detail: str = ""
    site: Site | None = None
    share: float | None = None


class Loop(msgspec.Struct):
    """Counts of what the training loop did. All are totals over the training."""

    forwards: int = 0  # of the model, in grad mode
    eval_forwards: int = 0  # of those, with training=False although it has dropout or batch-norm layers
    mode_layers: list[str] = msgspec.field(default_factory=list)
    dropped_forwards: int = 0  # forward passes in grad mode that no backward followed
    backwards: int = 0
    steps: int = 0
    skipped_steps: int = 0  # by a GradScaler
    longest_skip_run: int = 0
    skip_run: int = 0
    scaler_site: Site | None = None
    backward_site: Site | None = None
    step_site: Site | None = None
    zero_site: Site | None = None
    zero_calls: int = 0
    watched_passes: int = 0  # backward calls while exceptions of every torch function were watched
    watched_failures: int = 0  # exceptions that the script caught meanwhile
    stale_checked: int = 0  # backward calls, after a step, at which .grad was looked at
    stale: int = 0  # of those, .grad still held the gradient of a batch that had been stepped on
    grad_checked: int = 0  # steps at which gradients were looked at
    grad_none: int = 0  # of those, no tensor of the optimizer had a gradient
    grad_zero: int = 0  # of those, all gradients were exactly 0
    grad_lost: int = 0  # of those, the last backward had left a non-zero gradient
    step_before_backward: int = 0
    no_effect_checked: int = 0  # steps with gradient and learning rate, weights compared
    no_effect: int = 0  # of those, not one weight changed
    ascent_checked: int = 0
    ascent: int = 0  # of those, the update went up the gradient: <g, delta theta> > 0
    outside_changes: int = 0  # weights changed between a step and the next backward by somebody else
    resets: int = 0  # of those, back to the values of the first step
    reset_site: Site | None = None
    rebuilt: list[int] = msgspec.field(default_factory=list)  # steps at which the model was a new one
    rebuilt_total: int = 0
    rebuilt_site: Site | None = None
    optimizer_kept: bool = False  # the optimizer stayed while the model was rebuilt
    without_graph: int = 0  # backward calls from whose loss no parameter could be reached
    unjudged: str = ""  # why no verdict about the level of the loss is given
    functional: bool = False  # no optimizer object: the weights are updated by hand
    adversarial: int = 0  # backward calls that sent gradients into tensors of an optimizer that did not step on them
    freezes: list[Site] = msgspec.field(default_factory=list)  # lines that set requires_grad to False


class Facts(msgspec.Struct):
    """Everything about one training that is not a series."""

    id: int = 0
    framework: str = ""
    name: str = ""  # the model's class
    made: Site | None = None  # where the model was constructed
    terms: list[LossTerm] = msgspec.field(default_factory=list)
    parameters: list[Parameter] = msgspec.field(default_factory=list)
    parameters_total: int = 0
    optimizers: list[Optimizer] = msgspec.field(default_factory=list)
    loop: Loop = msgspec.field(default_factory=Loop)
    breaks: list[Break] = msgspec.field(default_factory=list)
    exceptions: list[Raised] = msgspec.field(default_factory=list)
    nonfinite: NonFinite | None = None
    absent: dict[str, str] = msgspec.field(default_factory=dict)  # channel -> why it could not be had

    @property
    def term(self) -> LossTerm | None:
        """The judged loss term, or the first one."""
        for term in self.terms:
            if term.judged:
                return term
        return self.terms[0] if self.terms else None


class Run(msgspec.Struct):
    """The script that was observed."""

    script: str = ""
    arguments: list[str] = msgspec.field(default_factory=list)
    directory: str = ""
    python: str = ""
    framework: str = ""
    started: float = 0.0
    seconds: float = 0.0
    own_seconds: float = 0.0  # time spent in our hooks
    exit: str = ""  # "0", "3", "KeyboardInterrupt", "killed" ...
    own_errors: list[str] = msgspec.field(default_factory=list)
    exceptions: list[Raised] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)
    backward_seen: bool = False
    finished: bool = False
