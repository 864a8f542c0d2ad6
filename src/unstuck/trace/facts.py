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
    scale: float | None = None  # the script's own loss over the mean of this term per sample, where it is the only term
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


class LayerLook(msgspec.Struct):
    """One look at the tensor a layer's graph node saved, on one batch. Shares are of units or of values, 0..1."""

    step: int
    rows: int = 0  # samples (and positions) the shares below were taken over
    rms: float | None = None  # root mean square of the values
    mean: float | None = None
    spread: float | None = None  # share of the mean square that differs between rows: 0 = all rows are the same
    zeros: float | None = None  # relu: share of values that are 0
    dead: float | None = None  # relu: share of units that are 0 in every row
    derivative: float | None = None  # sigmoid, tanh: mean derivative over its largest possible value
    saturated: float | None = None  # sigmoid, tanh: share of values whose derivative is below 1/20 of the largest
    one_sided: float | None = None  # sigmoid, tanh: share of units that are saturated at the same end in every row


class Layer(msgspec.Struct):
    """An operation of the forward pass with the numbers that passed it; in the order of the forward pass."""

    op: str  # linear, conv, embedding, relu, sigmoid, tanh, batch_norm, layer_norm, ...
    of: str = "output"  # what was looked at: the layer's "input" (linear, conv, norms) or its "output" (activations)
    shape: list[int] | None = None  # of the tensor that was looked at
    units: int | None = None
    site: Site | None = None
    made: Site | None = None
    module: str = ""
    parameters: list[str] = msgspec.field(default_factory=list)
    data: bool = False  # what enters is data: no trained layer lies before it
    looks: list[LayerLook] = msgspec.field(default_factory=list)

    @property
    def where(self) -> Site | None:
        """The line to edit: the constructor of a library module, otherwise the line that ran the operation."""
        return self.made or self.site

    @property
    def name(self) -> str:
        """`encoder.0` for a layer with parameters encoder.0.weight and .bias; otherwise the operation."""
        if self.parameters:
            return self.parameters[0].rpartition(".")[0] or self.parameters[0]
        return self.op


class ParameterLook(msgspec.Struct):
    """Norms of one tensor at one sampled step. 2-norms; shares 0..1."""

    step: int
    weight_norm: float = 0.0  # before the update
    grad_norm: float = 0.0  # of the gradient the optimizer was given
    update_norm: float = 0.0
    zero_gradients: float = 0.0  # share of the entries whose gradient is exactly 0
    along: float = 0.0  # cosine between gradient and weight: 1 where the gradient only shortens the weight
    lost: float = 0.0  # share of the entries with a gradient that the update left bit for bit as they were


class Parameter(msgspec.Struct):
    """A tensor of the model."""

    name: str
    shape: list[int]
    trainable: bool = True
    reached: bool = False  # a gradient path from a loss leads to it
    held: bool = False  # some optimizer that steps has it in a group, by identity
    gradient: str = "unknown"  # none, zero, nonzero
    changed: bool | None = None  # bit for bit, since the first step; None: not compared
    dtype: str = ""  # float32, bfloat16, ...
    order: int | None = None  # rank of its layer in the forward pass: 0 is nearest to the data
    made: Site | None = None  # the line that constructed its module
    first_rms: float | None = None  # root mean square of its entries when first seen
    transposed: bool = False  # a matrix used as x @ W: its units are its columns
    fan_in: int | None = None  # inputs of each unit: entries of one row
    fresh: bool = False  # when first seen it was as torch draws it by default: never trained, never loaded
    equal_rows_first: float | None = None  # share of the rows (units) that equal another row exactly, when first seen
    equal_rows: float | None = None  # the same at the last look
    looks: list[ParameterLook] = msgspec.field(default_factory=list)


class Probe(msgspec.Struct):
    """One step's batch evaluated again, with the same random numbers, after the update. Losses in nats.

    `scan` holds the loss at theta + s * (update of this step) for some factors s (0 is before, 1 is after the update).
    """

    step: int
    before: float  # as the training computed it, before the update
    again: float | None = None  # evaluated again before the update: equals `before` when the evaluation is faithful
    after: float | None = None
    predicted: float | None = None  # first-order decrease <g, -delta theta> where the gradient is of this batch alone
    scan: dict[str, float | None] = msgspec.field(default_factory=dict)  # factor as text, "0.1" -> loss
    evaluation: float | None = None  # after the update with every module in evaluation mode
    training: float | None = None  # after the update with every module in training mode (where that is not how it ran)
    accuracy: float | None = None  # of the labels, as the training ran
    evaluation_accuracy: float | None = None


class GradientCheck(msgspec.Struct):
    """The derivative that backward gives along a direction, against the difference quotient of the loss itself."""

    parameters: list[str]  # the tensors that were moved
    slope: float  # <g, d>
    difference: float  # (L(theta + e d) - L(theta - e d)) / 2e
    error: float  # how far two difference quotients with different e disagree: their uncertainty
    dtype: str = ""


class ModeLayer(msgspec.Struct):
    """A layer that behaves differently in training and in evaluation."""

    kind: str  # dropout, batch-norm
    name: str = ""
    made: Site | None = None
    p: float | None = None  # dropout: share that is set to 0
    momentum: float | None = None  # batch norm: weight of the newest batch in the running statistics; None: a plain mean
    tracked: int = 0  # batch norm: batches in its running statistics at the last look
    training: int = 0  # forward passes (with gradient, in this training) in training mode
    evaluating: int = 0  # and in evaluation mode
    last_training_step: int | None = None  # the last optimizer step at which it was in training mode
    smallest_rows: int | None = None  # batch norm: fewest values per channel it normalised over
    unset: bool = False  # batch norm: at the last evaluation its averages were the start values, although it was trained
    reset_site: Site | None = None  # the line that last set them back


class Inputs(msgspec.Struct):
    """A tensor that is given to the model as data. Shares 0..1; statistics over the captured rows, finite entries only."""

    name: str = ""
    kind: str = ""  # real, ids (integers), bool
    shape: list[int] | None = None
    dtype: str = ""
    calls: int = 0
    rows: int = 0
    lowest: float | None = None
    highest: float | None = None
    mean: float | None = None
    rms: float | None = None
    column_std_low: float | None = None  # smallest, median, largest standard deviation of a column over the rows;
    column_std_mid: float | None = None  # columns that do not vary at all are left out
    column_std_high: float | None = None
    column_mean_high: float | None = None  # largest |mean| of a column
    constant_columns: float | None = None  # share of the columns that never vary
    distinct_rows: int = 0  # different rows among those captured
    nonfinite_calls: int = 0
    nonfinite_share: float = 0.0
    same_calls: int = 0  # calls whose batch (input and labels) equals the first call's, entry for entry
    compared_calls: int = 0
    part_of: int | None = None  # rows of the tensor this batch is a slice of, where it is a view of a longer one
    site: Site | None = None  # the line that called the model


class Loader(msgspec.Struct):
    """A DataLoader."""

    rows: int | None = None
    batch_size: int | None = None
    batches: int | None = None
    shuffled: bool | None = None
    sampler: str = ""
    made: Site | None = None
    iterators: int = 0  # how often an iteration was begun
    taken: int = 0  # batches taken from it in all
    longest: int = 0  # most batches taken from one iterator
    site: Site | None = None  # the line that iterates


class Clipping(msgspec.Struct):
    """Calls of clip_grad_norm_ or clip_grad_value_."""

    kind: str  # norm, value
    threshold: float
    calls: int = 0
    active: int = 0  # calls that made the gradient smaller
    smallest: float | None = None  # norm before clipping (2-norm; for value: largest entry)
    largest: float | None = None
    total: float = 0.0  # sum over the calls, for the mean
    site: Site | None = None
    # For value: how many times what the step promises (to first order) one along the unclipped gradient would, at the last call.
    times: float | None = None

    def met(self, norm: float) -> None:
        """One more norm (or largest entry) that it met."""
        self.total += norm
        self.smallest = norm if self.smallest is None else min(self.smallest, norm)
        self.largest = norm if self.largest is None else max(self.largest, norm)


class Reshaped(msgspec.Struct):
    """A view or reshape that gave axes each other's sizes: what a transposition would do to the shape, not to memory."""

    before: list[int]
    after: list[int]
    site: Site | None = None
    samples_mixed: bool = False  # the axis of the samples is among those that moved
    function: str = ""
    calls: int = 1
    rows: int | None = None  # the size that must be the number of samples for this to be wrong; None: it is wrong anyway


class Stretched(msgspec.Struct):
    """An operation of a loss that stretched [N, 1] against [N] to [N, N], of which the loss is a plain sum or mean.

    One of the two is computed by the model, the other is data: each output is then compared with the data of all samples,
    and the loss is a sum of functions of one output each, the same function for every sample.
    """

    shapes: list[list[int]]  # as they were given
    site: Site | None = None
    function: str = ""
    calls: int = 1


class Formula(msgspec.Struct):
    """A loss or a normaliser written out by hand: log(softmax(x)), log(sum(exp(x)))."""

    kind: str  # log-of-softmax, log-sum-exp
    site: Site | None = None
    largest: float | None = None  # of the numbers that are exponentiated
    smallest: float | None = None  # of the numbers whose logarithm is taken
    dtype: str = ""
    shifted: bool = False  # the maximum is subtracted first: safe
    guarded: bool = False  # a small constant is added or a clamp stands before the logarithm


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
    decoupled: bool = False  # its weight decay acts on the weights, not through the gradient (AdamW)
    adaptive: bool = False  # each weight's step is divided by the size of its own gradient (Adam, RMSprop, Adagrad, ...)


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
    eval_forwards: int = 0  # of those, in evaluation mode although the model has dropout or batch-norm layers
    evaluated_elsewhere: int = 0  # calls without gradient on rows other than those of the one batch it trains on (up to 8)
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
    reset_at: list[int] = msgspec.field(default_factory=list)  # the last step before each of them
    resets_unused: int = 0  # of those, nobody had called the model between the last step and the reset
    rebuilt: list[int] = msgspec.field(default_factory=list)  # steps at which the model was a new one
    rebuilt_total: int = 0
    rebuilt_site: Site | None = None
    rebuilt_unused: int = 0  # of the first four, the model before had been neither kept nor called again after its last step
    rebuilt_kept: int = 0  # of the first four, the weights of the model before were still alive
    optimizer_kept: bool = False  # the optimizer stayed while the model was rebuilt
    without_graph: int = 0  # backward calls from whose loss no parameter could be reached
    unjudged: str = ""  # why no verdict about the level of the loss is given
    functional: bool = False  # no optimizer object: the weights are updated by hand
    adversarial: int = 0  # backward calls that sent gradients into tensors of an optimizer that did not step on them
    step_seconds: float | None = None  # median time between optimizer steps
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
    layers: list[Layer] = msgspec.field(default_factory=list)
    probes: list[Probe] = msgspec.field(default_factory=list)
    at_end: Probe | None = None  # the last probed batch once more, at the last evaluation, if its averages were unset then
    gradient_checks: list[GradientCheck] = msgspec.field(default_factory=list)
    modes: list[ModeLayer] = msgspec.field(default_factory=list)
    inputs: list[Inputs] = msgspec.field(default_factory=list)
    loaders: list[Loader] = msgspec.field(default_factory=list)
    clippings: list[Clipping] = msgspec.field(default_factory=list)
    reshapes: list[Reshaped] = msgspec.field(default_factory=list)
    stretched: list[Stretched] = msgspec.field(default_factory=list)
    formulas: list[Formula] = msgspec.field(default_factory=list)
    operations: list[str] = msgspec.field(default_factory=list)  # kinds of operation between the data and the judged loss
    custom: list[Break] = msgspec.field(default_factory=list)  # autograd Functions of the user's own: function, line
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
    own_seconds: float = 0.0  # time spent in our hooks, probes included
    probe_seconds: float = 0.0  # of it: evaluating batches again while the training ran
    thorough_seconds: float = 0.0  # the thorough look at the end of a training that is stuck
    thorough_steps: float = 0.0  # the same in steps of that training
    exit: str = ""  # "0", "3", "KeyboardInterrupt", "killed" ...
    own_errors: list[str] = msgspec.field(default_factory=list)
    exceptions: list[Raised] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)
    backward_seen: bool = False
    finished: bool = False
    # The user's source files that ran: name as in Site.file -> SHA-256 of what ran; "" where the file was changed meanwhile.
    sources: dict[str, str] = msgspec.field(default_factory=dict)
