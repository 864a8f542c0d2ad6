"""What the page calls things: every term is said in words that need no other page."""

from __future__ import annotations

from typing import NamedTuple


class State(NamedTuple):
    """A state of a training as a reader meets it. tone: bad, good or open (nothing is decided)."""

    title: str
    tone: str
    meaning: str


STATES = {
    "learning": State("Learning", "good", "The loss is clearly below what one scores without looking at the inputs."),
    "at-chance": State("Stuck at chance", "bad", "The loss stays where a network that only guesses has it."),
    "at-prior": State(
        "Stuck at the base rates", "bad",
        "The network has learned how frequent each label is, and nothing about the inputs.",
    ),
    "above-chance": State("Worse than guessing", "bad", "The loss stays above that of a network that only guesses."),
    "plateau": State("Stuck on a plateau", "bad", "The loss fell at first and has stopped falling, far above what is possible."),
    "constant": State("The loss is constant", "bad", "The loss is the same number, step after step."),
    "diverging": State("Diverging", "bad", "The loss moves away instead of settling."),
    "non-finite": State("Not a number", "bad", "The loss (or a weight) became NaN or infinite; from there on nothing is learned."),
    "slow": State("Slow", "open", "The loss falls, but so slowly that it will not arrive in a run like this."),
    "too-early": State("Too early to say", "open", "The steps so far do not settle whether it learns."),
    "not-judged": State("Level not judged", "open", "What level this loss should have is not known, so it is not judged."),
    "no-training": State("No training seen", "open", "Nothing was seen that could be followed."),
}  # fmt: skip

GRADES = {
    "certain": "a fact of the program or of arithmetic, no estimate",
    "likely": "a statement from measured numbers, with a small known rate of error",
    "possible": "goes with what was seen, but so do other explanations",
}

ROLES = {
    "cause": ("Also a cause", "To be mended as well, after the first one."),
    "latent": ("Also a fault, not shown to hold this training back", "Real, but mending it alone may change nothing here."),
    "consequence": ("Follows from the cause", "Goes away once the cause is mended; nothing to do about it."),
    "note": ("Worth knowing", "No fault."),
}

SOURCES = {
    "graph": "read from the program's own computation",
    "values": "seen in the numbers",
    "statistics": "worked out from many steps",
    "probe": "tried on one batch, without touching the training",
    "experiment": "the script was run again",
    "loop": "counted in the training loop",
    "exception": "an error that was raised",
}

APPLICABILITY = {
    "safe": "This keeps the meaning of the program and only sets it right.",
    "unsafe": "This needs your decision: it changes more than the fault.",
    "display": "This is to be changed by hand.",
}

VERDICTS = {
    "supported": ("Proven by experiment", "good"),
    "refuted": ("Refuted by experiment", "bad"),
    "inconclusive": ("The experiment did not decide", "open"),
    "not-verified": ("Not tried out", "open"),
}

# What an operation is called and what it does to the numbers. Others keep their own name and stand without a remark.
OPERATIONS = {
    "linear": ("linear layer", "weights times inputs: any numbers come out, the logits"),
    "conv": ("convolution", "a linear layer that slides over the input"),
    "matmul": ("matrix product", ""),
    "embedding": ("embedding", "looks up a row of weights for each token"),
    "rnn": ("recurrent layer", ""),
    "softmax": ("softmax", "turns numbers into shares that are positive and sum to 1"),
    "log_softmax": ("log-softmax", "turns numbers into logarithms of such shares"),
    "sigmoid": ("sigmoid", "squeezes each number to between 0 and 1"),
    "log_sigmoid": ("log-sigmoid", "the logarithm of a number squeezed to between 0 and 1"),
    "tanh": ("tanh", "squeezes each number to between -1 and 1"),
    "relu": ("ReLU", "sets negative numbers to 0"),
    "leaky_relu": ("leaky ReLU", "shrinks negative numbers"),
    "clamp": ("clamp", "cuts numbers off at a limit"),
    "dropout": ("dropout", "sets a random part to 0 while training"),
    "log": ("logarithm", ""),
    "exp": ("exponential", ""),
    "mul": ("times a number", ""),
    "div": ("divided by a number", ""),
    "add": ("sum", ""),
    "mean": ("mean", ""),
    "view": ("reshape", "renames the axes, moves no number"),
    "squeeze": ("squeeze", "drops an axis of length 1"),
    "unsqueeze": ("unsqueeze", "adds an axis of length 1"),
    "transpose": ("transpose", "swaps two axes"),
    "permute": ("permute", "reorders the axes"),
    "expand": ("expand", "repeats numbers along an axis to fit another shape"),
    "batch_norm": ("batch norm", "shifts and scales each column over the batch"),
    "layer_norm": ("layer norm", "shifts and scales each row"),
    "group_norm": ("group norm", "shifts and scales groups of columns"),
}

LOSSES = {
    "cross-entropy": ("cross-entropy", "minus the logarithm of the share that the right class gets"),
    "soft-cross-entropy": ("cross-entropy (probability targets)", "the same, for targets that are shares themselves"),
    "nll": ("negative log-likelihood", "minus the number it is given for the right class; expects log-softmax before it"),
    "bce": ("binary cross-entropy", "minus the logarithm of the probability of the right answer; expects probabilities"),
    "bce-logits": ("binary cross-entropy with logits", "minus the logarithm of the probability of the right answer"),
    "mse": ("mean squared error", "the squared distance to the target"),
    "l1": ("mean absolute error", "the distance to the target"),
    "smooth-l1": ("smooth L1", "squared distance when near, plain distance when far"),
    "huber": ("Huber", "squared distance when near, plain distance when far"),
    "kl": ("Kullback-Leibler divergence", "how far one distribution is from another"),
}

# What a loss does to its input first, in the same call: users do not see it, and the double use is the commonest fault.
WITHIN = {"cross-entropy": ("log_softmax",), "soft-cross-entropy": ("log_softmax",), "bce-logits": ("sigmoid",)}

# Losses that are logarithms of probabilities. Others (squares, distances, margins) have the unit of their targets.
NATS = frozenset({"cross-entropy", "soft-cross-entropy", "nll", "bce", "bce-logits", "kl", "ctc", "gaussian-nll", "poisson-nll"})
_SAID = {"cross-entropy (probability targets)", "binary cross-entropy", "binary cross-entropy with logits",
         "negative log-likelihood"}  # fmt: skip


def unit(loss_kind: str) -> str:
    """'nats' where a loss of this name is one; '' where it is not or where nothing is known of it."""
    return "nats" if loss_kind in NATS or loss_kind in _SAID else ""


# First words of a finding's summary that lose their capital inside a sentence. Others are names of the user's.
_PLAIN = frozenset({
    "A", "All", "An", "Clipping", "Dropout", "Every", "Found", "Gradients", "In", "Inputs", "Labels", "Log-softmax", "Nearly", "No",
    "Outputs", "Sigmoid", "Softmax", "Some", "Step", "The", "These", "This", "What",
})  # fmt: skip


def inside(sentence: str) -> str:
    """A sentence as a part of another one: its first letter small, unless the first word may be a name; no full stop."""
    first = sentence.split(" ", 1)[0]
    return (sentence[:1].lower() + sentence[1:] if first in _PLAIN else sentence).rstrip().rstrip(".")


def number(value: float, digits: int = 4) -> str:
    """A measured number for people: four decimals in the range of losses, otherwise four significant digits."""
    if value != value:
        return "not a number"
    if abs(value) == float("inf"):
        return "infinite"
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.{digits}f}"
    if 1e4 <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def joined(text: str, of: str) -> str:
    """A number and its unit, joined so that no line ends between them."""
    return f"{text}\N{NO-BREAK SPACE}{of}" if of else text


def measure(value: float, of: str) -> str:
    """The number for people with its unit; what is no number has none."""
    return joined(number(value), of if abs(value) < float("inf") else "")


def share(value: float) -> str:
    """A share of 1 in percent, never rounded to a 0 or a 100 that it is not."""
    if value in {0.0, 1.0}:
        return f"{value:.0%}"
    if 0 < value < 5e-4:
        return f"{100 * value:.1g}%"
    if 0.9995 <= value < 1:
        return "over 99.9%"
    return f"{value:.1%}"


def count(n: int, one: str, many: str = "") -> str:
    """'1 step', '1,000 steps'."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
