"""Training programs by the hundred, as source text: random healthy ones, and the same with one fault (or two) patched in.

    program = healthy(7)                     # or healthy(7, "binary"): a base that some faults need
    program = sick("W101", 7)                # .source, and .twin: the very same program without the patch
    program = both(PAIRS[0], 7)

A program is assembled from named parts (`Parts`), so that a fault is a small change of one of them. Everything is drawn from
the numbers given: data, model, optimizer with a step size that is sound for it, batch, coding style, strength of the fault.
Every program ends with one line

    FINAL train_loss=... train_accuracy=... eval_loss=... eval_accuracy=... heldout_accuracy=...

the whole training set in train mode and in eval mode, and the held-out rows in eval mode, measured after the training.
"""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

# ---------------------------------------------------------------------------------------------- configuration

SIZES = {  # rows, features, classes, share of the largest class
    "iris": (150, 4, 3, 1 / 3), "wine": (178, 13, 3, 0.4), "cancer": (569, 30, 2, 0.63), "digits": (1797, 64, 10, 0.1),
}  # fmt: skip
TABLES = ("iris", "wine", "cancer", "digits", "blobs", "classification", "moons", "circles")
KINDS = {"images": "image", "rows": "rows", "tokens": "tokens", "chars": "chars"}
MODELS = {
    "table": ("sequential", "class", "raw"),
    "image": ("cnn",),
    "rows": ("lstm", "gru", "rnn", "transformer"),
    "tokens": ("bag", "conv", "gru", "transformer"),
    "chars": ("gru", "lstm", "transformer"),
}
RECURRENT = ("lstm", "gru", "rnn")
STYLES = ("plain", "loader", "trainer", "functions")
# The largest sizes of step that are still sound for every model of that group; the smallest is a factor 3 to 5 below.
RATES = {
    "mlp": {"sgd": (0.08, 0.3), "momentum": (0.02, 0.08), "adam": (2e-3, 1e-2), "adamw": (2e-3, 1e-2), "rmsprop": (1e-3, 4e-3)},
    "cnn": {"sgd": (0.05, 0.2), "momentum": (0.01, 0.05), "adam": (1e-3, 5e-3), "adamw": (1e-3, 5e-3), "rmsprop": (5e-4, 2e-3)},
    "rnn": {"adam": (4e-3, 1e-2), "adamw": (4e-3, 1e-2), "rmsprop": (2e-3, 4e-3)},
    "transformer": {"adam": (2e-3, 5e-3), "adamw": (2e-3, 5e-3)},
    "bag": {"adam": (5e-3, 2e-2), "adamw": (5e-3, 2e-2), "rmsprop": (3e-3, 8e-3)},
}  # fmt: skip
ACTIVATIONS = {
    "relu": ("nn.ReLU()", "torch.relu({})"), "tanh": ("nn.Tanh()", "torch.tanh({})"), "gelu": ("nn.GELU()", "F.gelu({})"),
    "sigmoid": ("nn.Sigmoid()", "torch.sigmoid({})"), "own": ("Bent()", "Bent()({})"),
}  # fmt: skip


@dataclass
class Config:
    """What a program is. `base` names the special healthy base ('' for the general one)."""

    number: int
    base: str
    data: str
    kind: str
    classes: int
    features: int  # columns; channels of a sequence; vocabulary of tokens and characters
    length: int  # of sequences; rows of an image
    rows: int  # in the training set
    share: float  # of the largest class: what one constant answer scores
    binary: bool
    model: str
    width: int
    depth: int
    activation: str
    norm: bool
    dropout: float
    optimizer: str
    lr: float
    decay: float
    batch: int
    epochs: int
    style: str
    start: str  # initialisation: '' for torch's own, 'he', 'xavier'
    extras: tuple[str, ...] = ()

    @property
    def feeds(self) -> bool:
        """Are the batches taken from a DataLoader?"""
        return self.style in {"loader", "trainer"}

    @property
    def parameters(self) -> str:
        return "parameters" if self.model == "raw" else "model.parameters()"

    @property
    def logits(self) -> str:
        return "logits.flatten(0, 1)" if self.kind == "chars" else "logits"

    @property
    def target(self) -> str:
        return "yb.flatten()" if self.kind == "chars" else "yb"

    @property
    def outputs(self) -> int:
        return 1 if self.binary else self.classes


# Constraints of the special bases: field -> values allowed. A function in DECORATIONS of the same name changes the parts.
MLP: dict[str, Any] = {"kind": ("table",)}
CONSTRAINTS: dict[str, dict[str, Any]] = {
    "": {},
    "binary": {**MLP, "binary": (True,)},
    "byhand": {**MLP, "binary": (True,)},
    "clamped": {**MLP, "binary": (True,)},
    "chars": {"kind": ("chars",)},
    "square": {"data": ("chars",), "model": ("gru", "lstm", "transformer")},
    "prior": {
        "kind": ("table", "image"), "model": ("sequential", "class", "cnn"), "binary": (False,),
        "data": ("digits", "images", "iris", "wine", "blobs", "classification"),
    },
    "masked": {"data": ("chars",)},
    "sorted": {
        "data": ("digits", "images", "rows", "classification"), "classes": (3, 4), "batch": (16, 32), "norm": (False,),
        "dropout": (0.0,), "binary": (False,),
    },
    "units": {**MLP, "data": ("wine", "cancer", "digits", "classification", "blobs"), "norm": (False,)},
    "badly": {
        **MLP, "data": ("wine", "cancer", "digits", "classification", "blobs"), "norm": (False,), "dropout": (0.0,),
        "optimizer": ("sgd",), "model": ("sequential", "class"), "depth": (1, 2), "start": ("he",), "binary": (False,),
    },
    "missing": {**MLP},
    "imbalanced": {
        **MLP, "data": ("classification",), "optimizer": ("sgd",), "norm": (False,), "dropout": (0.0,), "depth": (1, 2),
        "width": (16, 32, 64), "model": ("sequential", "class"), "activation": ("relu", "tanh"), "batch": (64, 128), "start": ("",),
    },
    "deep": {
        **MLP, "data": ("digits", "wine", "blobs", "cancer"), "model": ("sequential", "class"), "depth": (6, 8, 10),
        "width": (32, 48, 64), "activation": ("relu",), "norm": (False,), "dropout": (0.0,), "optimizer": ("sgd", "momentum"),
        "start": ("he",),
    },
    "deeptanh": {
        **MLP, "data": ("digits", "wine", "blobs", "cancer"), "model": ("sequential", "class"), "depth": (8, 10, 12),
        "width": (48, 64), "activation": ("tanh",), "norm": (False,), "dropout": (0.0,), "optimizer": ("sgd", "momentum"),
        "start": ("orthogonal",),
    },
    "long": {"data": ("rows",), "model": ("rnn",), "width": (32, 48), "dropout": (0.0,), "optimizer": ("adam", "adamw")},
    "clipped": {"kind": ("table", "image"), "optimizer": ("sgd", "momentum")},
    "ownactivation": {**MLP, "model": ("sequential", "class"), "activation": ("own",), "dropout": (0.0,), "norm": (False,)},
    "ownloss": {**MLP, "binary": (False,), "dropout": (0.0,)},
    "scaler": {"kind": ("table", "image"), "model": ("sequential", "class", "cnn")},
    "handmade": {**MLP, "optimizer": ("sgd", "momentum"), "decay": (0.0,)},
    "trying": {"kind": ("table", "image", "rows")},
    "dropout": {
        "kind": ("table",), "model": ("sequential", "class"), "dropout": (0.1, 0.2, 0.3), "norm": (False,), "width": (64, 128),
        "depth": (1, 2), "activation": ("relu", "gelu", "tanh"),
    },
    "keep": {
        "kind": ("table",), "model": ("class",), "dropout": (0.02, 0.03, 0.05), "norm": (False,), "width": (64, 128),
        "depth": (1, 2), "activation": ("relu", "gelu"),
    },
    "rawnorm": {
        **MLP, "data": ("wine", "cancer", "digits", "classification"), "model": ("sequential",), "norm": (True,),
        "dropout": (0.0,), "depth": (1, 2), "width": (32, 64, 128), "start": ("",),
    },
    "plainsgd": {
        "data": ("digits", "images", "blobs", "classification"), "classes": (4, 5, 6), "optimizer": ("sgd",),
        "batch": (64, 128, 256), "binary": (False,),
    },
    "imagenorm": {"data": ("images",), "model": ("cnn",), "norm": (True,)},
    "wide": {
        **MLP, "data": ("digits", "classification"), "classes": (4,), "norm": (False,), "width": (64, 128, 256), "depth": (2, 3, 4),
        "dropout": (0.0,), "activation": ("tanh", "relu"), "optimizer": ("sgd", "momentum"), "binary": (False,),
    },
    "relu": {**MLP, "activation": ("relu",), "norm": (False,), "model": ("sequential", "class")},
    "relu2": {**MLP, "activation": ("relu",), "norm": (False,), "model": ("sequential", "class"), "depth": (2, 3)},
    "bent": {
        **MLP, "activation": ("tanh", "sigmoid"), "norm": (False,), "model": ("sequential", "class"), "depth": (1, 2),
        "width": (16, 32, 64), "optimizer": ("momentum", "adam", "adamw"),
    },
    "narrow": {
        **MLP, "data": ("digits", "blobs"), "classes": (5, 6, 8, 10), "model": ("sequential", "class"), "depth": (2, 3),
        "width": (32, 64), "dropout": (0.0,), "binary": (False,), "optimizer": ("momentum", "adam", "adamw"),
    },
    "narrowrnn": {"data": ("rows",), "model": ("lstm", "gru"), "dropout": (0.0,)},
    "nonlinear": {
        **MLP, "data": ("circles", "xor"), "model": ("sequential", "class", "raw"), "width": (16, 32, 64), "depth": (1, 2),
        "norm": (False,), "dropout": (0.0,), "optimizer": ("momentum", "adam", "adamw"), "activation": ("relu", "tanh", "gelu"),
    },
    "permuted": {"data": ("rows", "tokens"), "model": ("lstm", "gru", "conv", "transformer")},
    "channels": {"data": ("images",), "model": ("cnn",)},
    "temperature": {
        **MLP, "data": ("digits", "blobs", "wine", "classification"), "model": ("sequential", "class"), "binary": (False,),
        "optimizer": ("adam", "adamw"), "dropout": (0.0,), "depth": (1, 2), "width": (32, 64, 128),
    },
    "fine": {
        **MLP, "data": ("digits", "wine", "cancer", "blobs"), "model": ("sequential", "class"), "width": (128, 256),
        "depth": (1, 2), "norm": (False,), "dropout": (0.0,), "optimizer": ("adam", "adamw"), "batch": (32, 64),
        "activation": ("relu", "gelu"),
        "start": ("",),
    },
}  # fmt: skip


def draw(number: int, base: str = "") -> Config:
    """A configuration that learns well, drawn from the number, within the constraints of the base."""
    rng = Random(f"{base}/{number}")
    allowed = CONSTRAINTS[base]

    def choose(name: str, values: Any) -> Any:
        """One of the values; of the allowed ones where the base constrains the field."""
        wanted = [v for v in values if v in allowed[name]] if name in allowed else list(values)
        return rng.choice(wanted or list(allowed[name]))

    kind = choose("kind", ("table", "table", "table", "image", "rows", "tokens", "chars")) if "data" not in allowed else ""
    data = choose("data", TABLES if kind == "table" else [d for d, k in KINDS.items() if k == kind] if kind else ())
    kind = KINDS.get(data, "table")
    binary_only = allowed.get("binary") == (True,)
    if binary_only and data in {"iris", "wine", "digits"}:
        data = rng.choice(("cancer", "classification", "moons", "circles"))
    rows, features, classes, share = SIZES.get(data, (0, 0, 0, 0.0))
    length = 0
    if data == "blobs":
        rows, features = rng.choice((400, 600, 1000)), rng.choice((5, 8, 12, 20))
        classes = choose("classes", (3, 4, 5, 6)) if not binary_only else 2
    elif data == "classification":
        rows, features, classes = rng.choice((500, 800, 1200)), rng.choice((10, 16, 20)), choose("classes", (2, 2, 3, 4))
        if binary_only or base == "imbalanced":
            classes = 2
    elif data in {"moons", "circles", "xor"}:
        rows, features, classes = rng.choice((400, 600, 1000)), 2, 2
    elif data == "images":
        rows, features, classes, length = 1797, 1, 10, 8
    elif data == "rows":
        length = rng.choice((8, 16)) if base != "long" else 32
        if base == "permuted":
            length = 16
        rows, features, classes = 1797, 64 // length, 10
    elif data == "tokens":
        rows, features, classes, length = (
            rng.choice((600, 900)),
            rng.choice((20, 30, 40)),
            rng.choice((3, 4, 5)),
            rng.choice((10, 16)),
        )
    elif data == "chars":
        rows, features, length = 900, 40, rng.choice((8, 12, 16))
        if base == "square":
            features = length = rng.choice((27, 28))
        classes = features
        share = 0.18
    share = share or 1 / classes
    rows = int(rows * 0.8)
    binary = classes == 2 and choose("binary", (True, False))
    model = choose("model", MODELS[kind])
    width = choose("width", (8, 16, 32, 64, 128, 256) if kind == "table" else (32, 48, 64) if kind != "image" else (4, 6, 8))
    depth = choose("depth", (1, 1, 2, 2, 3, 4)) if kind == "table" else rng.choice((1, 2)) if model == "transformer" else 1
    if data in {"moons", "circles", "xor"}:
        width = max(width, 32)
    if classes >= 8:
        width = max(width, 16)
    activation = choose("activation", ("relu", "tanh", "gelu"))
    mlp = kind == "table" and model != "raw"
    norm = choose("norm", (True, False, False)) if mlp or model == "cnn" else False
    dropout = choose("dropout", (0.0, 0.0, 0.1, 0.2)) if mlp or model in {"cnn", "transformer"} else 0.0
    if width < 32:
        dropout = 0.0
    group = "mlp" if kind == "table" else "cnn" if model == "cnn" else "rnn" if model in RECURRENT else "transformer"
    group = "bag" if model in {"bag", "conv"} else group
    optimizer = choose("optimizer", tuple(RATES[group]))
    low, high = RATES[group][optimizer]
    adaptive = optimizer in {"adam", "adamw", "rmsprop"}
    if depth >= 3 and adaptive:
        high = (low + high) / 2
    if width <= 16 and adaptive:
        low = high / 2
    lr = _round(low * (high / low) ** rng.random())
    start = choose("start", ("he", "xavier")) if "start" in allowed else ""
    if not start and mlp and not norm and "start" not in allowed:
        # torch's own start shrinks the signal by a third a layer: too slow for plain gradient descent on deep nets
        start = "he" if (depth >= 2 and not adaptive) else rng.choice(("", "", "", "he"))
    if start == "he" and activation in {"tanh", "sigmoid"}:
        start = "xavier"
    decay = choose("decay", (0.0, 0.0, 0.0, 1e-4, 1e-3)) if optimizer != "adamw" else choose("decay", (0.01, 0.01, 1e-4))
    batch = min(choose("batch", (16, 32, 64, 128, 256)), max(16, rows // 4))
    steps = rng.randint(150, 350)
    if kind in {"chars", "tokens", "image"} or model in {"transformer", *RECURRENT}:
        batch, steps = min(max(batch, 32), 64), rng.randint(150, 250)
        steps = 250 if kind == "chars" else steps
    if kind == "chars":
        batch, lr, width = 32, _round(high), max(width, 48)
    if data in {"moons", "circles", "xor"}:
        steps, lr = 400, _round(high)
    if not adaptive and kind == "table":
        steps = max(steps, 250)
    if base == "fine":
        lr, steps = _round(rng.choice((1.5e-4, 2e-4, 3e-4))), 400
    if base in {"deep", "deeptanh"}:
        lr = _round({"sgd": 0.05, "momentum": 0.01}[optimizer] * rng.choice((1.0, 1.5)))
        batch = min(batch, 32)
    if base == "badly":
        lr, steps, batch = rng.choice((0.2, 0.3, 0.5)), 400, min(batch, 64)
    if base == "long":
        lr, batch = rng.choice((1e-3, 2e-3)), 64
    if base == "temperature":
        lr = rng.choice((1e-3, 2e-3))
    if base == "imbalanced":
        lr, steps = rng.choice((0.05, 0.1)), 300
    if base == "bent" and activation == "sigmoid":
        lr = _round(lr * 1.5)
    epochs = max(3, round(steps / max(1, rows // batch)))
    styles = ("plain", "functions") if model == "raw" else STYLES
    extras = []
    if not base or rng.random() < 0.5:
        chance = {"scheduler": 0.15, "clip": 0.15, "print": 0.5, "smooth": 0.06}
        extras = [name for name, p in chance.items() if rng.random() < p]
    if binary or base in {"ownloss", "temperature", "masked", "imbalanced", "fine"}:
        extras = [e for e in extras if e != "smooth"]
    if base in {"clipped", "handmade", "scaler", "long", "trying"}:
        extras = [e for e in extras if e not in {"clip", "scheduler"}]
    if base == "rawnorm" or base == "imagenorm":
        extras = [e for e in extras if e != "clip"]
    return Config(
        number, base, data, kind, classes, features, length, rows, share, binary, model, width, depth, activation, norm,
        dropout, optimizer, lr, decay, batch, epochs, choose("style", styles), start, tuple(extras),
    )  # fmt: skip


def _round(x: float) -> float:
    return float(f"{x:.2g}")


# ---------------------------------------------------------------------------------------------- parts


@dataclass
class Parts:
    """The lines of a program, by what they are for; in the order in which they stand in the source."""

    title: str
    imports: list[str] = field(default_factory=list)
    load: list[str] = field(default_factory=list)  # X, y as arrays
    split: list[str] = field(default_factory=list)  # shuffled, rows of the training set first
    standardise: list[str] = field(default_factory=list)
    tensors: list[str] = field(default_factory=list)  # x_train, y_train, x_test, y_test
    feed: list[str] = field(default_factory=list)  # the loader
    definitions: list[str] = field(default_factory=list)  # helper functions and classes
    layers: list[str] = field(default_factory=list)  # of a Sequential
    init: list[str] = field(default_factory=list)  # of a class Net; for raw weights the tensors
    forward: list[str] = field(default_factory=list)
    start: list[str] = field(default_factory=list)  # initialisation of the model
    criterion: list[str] = field(default_factory=list)
    optimizer: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)  # at the beginning of an epoch
    head: list[str] = field(default_factory=list)  # the loop over batches
    pick: list[str] = field(default_factory=list)  # xb, yb
    step: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)  # at the end of an epoch
    evaluation: list[str] = field(default_factory=list)

    def changed(self, **lines: list[str]) -> Parts:
        """A copy with some parts replaced."""
        new = copy.deepcopy(self)
        for name, value in lines.items():
            setattr(new, name, value)
        return new

    def swap(self, part: str, old: str, new: str, count: int = -1) -> Parts:
        """A copy where the text `old` in a part is `new`, everywhere or the first `count` times. Raises NotThere."""
        text = "\n".join(getattr(self, part))
        if old not in text:
            raise NotThere
        return self.changed(**{part: text.replace(old, new, count).split("\n")})

    def add(self, part: str, *lines: str, first: bool = False) -> Parts:
        old = getattr(self, part)
        return self.changed(**{part: [*lines, *old] if first else [*old, *lines]})


class NotThere(Exception):
    """The text that a patch wants to change is not in this program."""


STEP = ("logits = model(xb)", "loss = criterion(logits, yb)", "optimizer.zero_grad()", "loss.backward()", "optimizer.step()")


def build(c: Config) -> Parts:
    """The parts of a healthy program."""
    rng = Random(f"parts {c.base}/{c.number}")
    parts = Parts(f"A {c.model} network on {c.data}, {c.optimizer}, batches of {c.batch}.")
    parts.imports = ["import numpy as np", "import torch", "import torch.nn as nn", "import torch.nn.functional as F"]
    if c.feeds:
        parts.imports.append("from torch.utils.data import DataLoader, TensorDataset")
    _data(c, parts, rng)
    _model(c, parts)
    if c.binary:
        parts.criterion = ["criterion = nn.BCEWithLogitsLoss()"]
    else:
        parts.criterion = [f"criterion = nn.CrossEntropyLoss({'label_smoothing=0.1' if 'smooth' in c.extras else ''})"]
    decay = f", weight_decay={c.decay}" if c.decay else ""
    name = {"sgd": "SGD", "momentum": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop"}[c.optimizer]
    momentum = ", momentum=0.9" if c.optimizer == "momentum" else ""
    parts.optimizer = [f"optimizer = torch.optim.{name}({c.parameters}, lr={c.lr}{momentum}{decay})"]
    logits, loss, zero, backward, step = STEP
    if c.binary:
        logits += ".squeeze(1)"
    loss = f"loss = criterion({c.logits}, {c.target})"
    clip = [f"torch.nn.utils.clip_grad_norm_({c.parameters}, {rng.choice((1.0, 5.0))})"] if "clip" in c.extras else []
    parts.step = [zero, logits, loss] if rng.random() < 0.5 else [logits, loss, zero]
    parts.step += [backward, *clip, step]
    whole = c.norm or rng.random() < 0.3  # a batch of one row is too few for batch normalisation
    if c.feeds:
        drop = ", drop_last=True" if whole else ""
        parts.feed = [f"loader = DataLoader(TensorDataset(x_train, y_train), batch_size={c.batch}, shuffle=True{drop})"]
        parts.head = ["for xb, yb in loader:"]
    else:
        stop = f" - {c.batch - 1}" if whole else ""
        parts.before = ["order = torch.randperm(len(x_train))"]
        parts.head = [f"for start in range(0, len(x_train){stop}, {c.batch}):"]
        parts.pick = [f"index = order[start:start + {c.batch}]", "xb, yb = x_train[index], y_train[index]"]
    if "scheduler" in c.extras:
        what = rng.choice((f"CosineAnnealingLR(optimizer, {2 * c.epochs})", f"StepLR(optimizer, {max(1, c.epochs // 2)}, 0.5)"))
        parts.optimizer.append(f"scheduler = torch.optim.lr_scheduler.{what}")
        parts.after.append("scheduler.step()")
    if "print" in c.extras:
        parts.after.append(f'if epoch % {max(1, c.epochs // 5)} == 0:\n    print(f"epoch {{epoch}} loss {{loss.item():.4f}}")')
    _evaluation(c, parts)
    return DECORATIONS[c.base](c, parts, rng) if c.base in DECORATIONS else parts


def _data(c: Config, parts: Parts, rng: Random) -> None:
    seed = rng.randint(0, 9999)
    if c.data in SIZES:
        name = {"cancer": "breast_cancer"}.get(c.data, c.data)
        parts.imports.append(f"from sklearn.datasets import load_{name}")
        parts.load = [f"X, y = load_{name}(return_X_y=True)"]
    elif c.data in {"images", "rows"}:
        parts.imports.append("from sklearn.datasets import load_digits")
        shape = "1, 8, 8" if c.data == "images" else f"{c.length}, {c.features}"
        parts.load = ["X, y = load_digits(return_X_y=True)", f"X = X.reshape(-1, {shape}) / 16"]
    elif c.data == "blobs":
        parts.imports.append("from sklearn.datasets import make_blobs")
        n = round(c.rows / 0.8)
        parts.load = [
            f"X, y = make_blobs({n}, n_features={c.features}, centers={c.classes}, cluster_std={rng.choice((1.0, 2.0, 3.0))}, "
            f"random_state={seed})"
        ]
    elif c.data == "classification":
        parts.imports.append("from sklearn.datasets import make_classification")
        informative = c.features // 2
        parts.load = [
            f"X, y = make_classification({round(c.rows / 0.8)}, n_features={c.features}, n_informative={informative}, "
            f"n_redundant=2, n_classes={c.classes}, n_clusters_per_class=1,",
            f"                           class_sep=1.5, flip_y=0.01, random_state={seed})",
        ]
    elif c.data in {"moons", "circles"}:
        options = "noise=0.12" if c.data == "moons" else "noise=0.06, factor=0.4"
        parts.imports.append(f"from sklearn.datasets import make_{c.data}")
        parts.load = [f"X, y = make_{c.data}({round(c.rows / 0.8)}, {options}, random_state={seed})"]
    elif c.data == "xor":
        parts.load = [
            f"X = np.random.RandomState({seed}).uniform(-1, 1, ({round(c.rows / 0.8)}, 2))",
            "y = (X[:, 0] * X[:, 1] > 0).astype(int)",
        ]
    elif c.data == "tokens":
        n = round(c.rows / 0.8)
        parts.load = [  # every class has words that it uses more often
            f"random = np.random.RandomState({seed})",
            f"topics = random.dirichlet(np.full({c.features}, 0.3), {c.classes}) * 0.8 + 0.2 / {c.features}",
            f"y = np.arange({n}) % {c.classes}",
            f"X = np.stack([random.choice({c.features}, {c.length}, p=topics[k]) for k in y])",
        ]
    else:
        topic = rng.choice(("types", "typesseq", "string-methods", "bltin-types", "specialnames", "formatstrings"))
        topic = "specialnames" if topic == "types" else topic if topic != "bltin-types" else "string-methods"
        parts.imports.append("from pydoc_data.topics import topics")
        alphabet = " etaoinshrdlucmwfgypbvkjxqz.,()'\"-:_01=[]"[: c.features]
        parts.load = [
            f"alphabet = {alphabet!r}",
            f"text = \" \".join((topics[{topic!r}] + topics['types']).lower().split())",
            "codes = np.array([alphabet.index(letter) for letter in text if letter in alphabet])",
            f"windows = codes[: len(codes) // {c.length + 1} * {c.length + 1}].reshape(-1, {c.length + 1})[:1100]",
            "X, y = windows[:, :-1], windows[:, 1:]",
        ]
    parts.split = [
        f"order = np.random.RandomState({rng.randint(0, 9999)}).permutation(len(X))",
        "X, y = X[order], y[order]",
        "n = int(0.8 * len(X))",
    ]
    if c.kind == "table":
        parts.standardise = ["mean, std = X[:n].mean(axis=0), X[:n].std(axis=0) + 1e-6", "X = (X - mean) / std"]
    elif c.kind in {"image", "rows"}:
        parts.standardise = ["X = (X - X[:n].mean()) / X[:n].std()"]
    x_type, y_type = ("int64" if c.kind in {"tokens", "chars"} else "float32"), ("float32" if c.binary else "int64")
    parts.tensors = [
        f"x_train, y_train = torch.tensor(X[:n], dtype=torch.{x_type}), torch.tensor(y[:n], dtype=torch.{y_type})",
        f"x_test, y_test = torch.tensor(X[n:], dtype=torch.{x_type}), torch.tensor(y[n:], dtype=torch.{y_type})",
    ]


def _model(c: Config, parts: Parts) -> None:
    layer, function = ACTIVATIONS[c.activation]
    sizes = [c.features, *[c.width] * c.depth]
    if c.model == "sequential":
        for a, b in itertools.pairwise(sizes):
            parts.layers += [f"nn.Linear({a}, {b})"] + [f"nn.BatchNorm1d({b})"] * c.norm + [layer]
            parts.layers += [f"nn.Dropout({c.dropout})"] if c.dropout else []
        parts.layers.append(f"nn.Linear({c.width}, {c.outputs})")
    elif c.model == "cnn":
        w = c.width
        for a, b in ((c.features, w), (w, 2 * w)):
            parts.layers += [f"nn.Conv2d({a}, {b}, 3, padding=1)"] + [f"nn.BatchNorm2d({b})"] * c.norm + [layer, "nn.MaxPool2d(2)"]
        parts.layers.append("nn.Flatten()")
        parts.layers += [f"nn.Dropout({c.dropout})"] if c.dropout else []
        parts.layers.append(f"nn.Linear({8 * w}, {c.outputs})")
    elif c.model == "class":
        parts.forward = ["h = x"]
        for i, (a, b) in enumerate(itertools.pairwise(sizes), 1):
            inner = f"self.fc{i}(h)"
            parts.init.append(f"self.fc{i} = nn.Linear({a}, {b})")
            if c.norm:
                parts.init.append(f"self.norm{i} = nn.BatchNorm1d({b})")
                inner = f"self.norm{i}({inner})"
            parts.forward.append(f"h = {function.format(inner)}")
            if c.dropout:
                parts.forward.append("h = self.dropout(h)")
        if c.dropout:
            parts.init.append(f"self.dropout = nn.Dropout({c.dropout})")
        parts.init.append(f"self.out = nn.Linear({c.width}, {c.outputs})")
        parts.forward.append("return self.out(h)")
    elif c.model == "raw":
        sizes.append(c.outputs)
        parts.forward = ["h = x"]
        gain = 2 if c.activation in {"relu", "gelu"} else 1
        for i, (a, b) in enumerate(itertools.pairwise(sizes), 1):
            parts.init.append(f"w{i} = (torch.randn({a}, {b}) * ({gain} / {a}) ** 0.5).requires_grad_()")
            parts.init.append(f"b{i} = torch.zeros({b}, requires_grad=True)")
            affine = f"h @ w{i} + b{i}"
            parts.forward.append(f"h = {function.format(affine)}" if i < len(sizes) - 1 else f"return {affine}")
        parts.init.append(f"parameters = [{', '.join(f'w{i}, b{i}' for i in range(1, len(sizes)))}]")
    else:
        _sequence_model(c, parts)
    name = {"he": "kaiming_normal_(module.weight, nonlinearity=\"relu\")", "xavier": "xavier_uniform_(module.weight)",
            "orthogonal": "orthogonal_(module.weight)"}.get(c.start)  # fmt: skip
    if name and c.model in {"sequential", "class"}:
        parts.start = [
            f"for module in model.modules():\n    if isinstance(module, nn.Linear):\n        nn.init.{name}\n"
            "        nn.init.zeros_(module.bias)"
        ]


def _sequence_model(c: Config, parts: Parts) -> None:
    w, ids = c.width, c.kind in {"tokens", "chars"}
    if c.model in RECURRENT:
        kind = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}[c.model]
        if ids:
            parts.init.append(f"self.embed = nn.Embedding({c.features}, {w // 2})")
        parts.init += [f"self.rnn = nn.{kind}({w // 2 if ids else c.features}, {w}, batch_first=True)"]
        parts.forward.append(f"h, _ = self.rnn({'self.embed(x)' if ids else 'x'})")
        parts.forward.append("return self.out(h)" if c.kind == "chars" else "return self.out(h[:, -1])")
    elif c.model == "transformer":
        w = c.width = 32
        inner = f"nn.Embedding({c.features}, {w})" if ids else f"nn.Linear({c.features}, {w})"
        parts.init += [
            f"self.embed = {inner}",
            f"self.position = nn.Parameter(0.1 * torch.randn({c.length}, {w}))",
            f"layer = nn.TransformerEncoderLayer({w}, 4, {2 * w}, dropout={c.dropout}, batch_first=True)",
            f"self.encoder = nn.TransformerEncoder(layer, {c.depth}, enable_nested_tensor=False)",
        ]
        parts.forward.append("h = self.embed(x) + self.position")
        if c.kind == "chars":
            parts.forward.append(f"mask = nn.Transformer.generate_square_subsequent_mask({c.length})")
            parts.forward += ["h = self.encoder(h, mask=mask)", "return self.out(h)"]
        else:
            parts.forward += ["h = self.encoder(h)", "return self.out(h.mean(dim=1))"]
    elif c.model == "bag":
        parts.init += [f"self.embed = nn.Embedding({c.features}, {w})", f"self.fc1 = nn.Linear({w}, {w})"]
        function = ACTIVATIONS[c.activation][1]
        parts.forward += ["h = self.embed(x).mean(dim=1)", f"h = {function.format('self.fc1(h)')}", "return self.out(h)"]
    else:
        parts.init += [f"self.embed = nn.Embedding({c.features}, {w // 2})", f"self.conv = nn.Conv1d({w // 2}, {w}, 3, padding=1)"]
        parts.forward += ["h = self.embed(x).transpose(1, 2)", "h = torch.relu(self.conv(h)).amax(dim=2)", "return self.out(h)"]
    parts.init.append(f"self.out = nn.Linear({w}, {c.outputs})")


def _evaluation(c: Config, parts: Parts) -> None:
    logits = "model(x)" + (".squeeze(1)" if c.binary else "")
    loss = "F.binary_cross_entropy_with_logits(logits, y)" if c.binary else "F.cross_entropy(logits, y)"
    right = "(logits > 0) == (y > 0.5)" if c.binary else "logits.argmax(dim=-1) == y"
    if c.kind == "chars":
        loss = "F.cross_entropy(logits.flatten(0, 1), y.flatten())"
    mode = c.model != "raw"
    parts.evaluation = [
        "def measure(x, y):",
        "    with torch.no_grad():",
        f"        logits = {logits}",
        f"        return {loss}.item(), ({right}).float().mean().item()",
        "",
        "",
        *["model.eval()"] * mode,
        "eval_loss, eval_accuracy = measure(x_train, y_train)",
        "_, heldout_accuracy = measure(x_test, y_test)",
        *["model.train()"] * mode,
        "train_loss, train_accuracy = measure(x_train, y_train)",
        'print(f"FINAL train_loss={train_loss:.4f} train_accuracy={train_accuracy:.4f} eval_loss={eval_loss:.4f} "',
        '      f"eval_accuracy={eval_accuracy:.4f} heldout_accuracy={heldout_accuracy:.4f}")',
    ]


# ---------------------------------------------------------------------------------------------- source text


def render(c: Config, p: Parts) -> str:
    """The program as source text, in the coding style of the configuration."""
    out = [f'"""{p.title}"""', *p.imports, "", f"torch.manual_seed({c.number % 1000})", "", *p.load, *p.split, *p.standardise]
    out += [*p.tensors, *p.feed, "", *p.definitions]
    model = model_lines(c, p)
    if c.model not in {"raw", "sequential", "cnn"}:
        out += ["", "", "class Net(nn.Module):", "    def __init__(self):", "        super().__init__()"]
        out += [*_indent(p.init, 2), "", "    def forward(self, x):", *_indent(p.forward, 2), "", ""]
    out += [*model, *p.criterion, *p.optimizer, ""]
    body = [*_indent(p.before, 1), *_indent(p.head, 1), *_indent([*p.pick, *p.step], 2), *_indent(p.after, 1)]
    if c.style == "trainer":
        body = _own(body)
        inner = [line for line in body if line.strip()]
        out += [
            "", "class Trainer:", "    def __init__(self, model, criterion, optimizer):", "        self.model = model",
            "        self.criterion = criterion", "        self.optimizer = optimizer", "",
            "    def fit(self, loader, epochs):", "        for epoch in range(epochs):", *_indent(inner, 2), "", "",
            f"Trainer(model, criterion, optimizer).fit(loader, {c.epochs})",
        ]  # fmt: skip
    elif c.style == "functions":
        out += ["", "def train(model, criterion, optimizer, epochs):", "    for epoch in range(epochs):", *_indent(body, 1), "", ""]
        out += [f"train(model, criterion, optimizer, {c.epochs})"]
    else:
        out += [f"for epoch in range({c.epochs}):", *body]
    out += ["", "", *p.evaluation]
    return "\n".join(out).rstrip() + "\n"


def model_lines(c: Config, p: Parts) -> list[str]:
    """What makes `model`: raw tensors with a function, a Sequential, or an instance of Net; and its initialisation."""
    if c.model == "raw":
        return [*p.init, "", "", "def model(x):", *_indent(p.forward, 1), "", "", *p.start]
    if p.layers:
        return ["model = nn.Sequential(", *[f"    {layer}," for layer in p.layers], ")", *p.start]
    return ["model = Net()", *p.start]


def _indent(lines: list[str], by: int) -> list[str]:
    return ["    " * by + line if line else "" for text in lines for line in text.split("\n")]


def _own(lines: list[str]) -> list[str]:
    """In a method: the object's own model, criterion and optimizer."""
    return [re.sub(r"(?<![\w.\"'])(model|criterion|optimizer)\b(?!=)", r"self.\1", line) for line in lines]


# ---------------------------------------------------------------------------------------------- special bases

Decoration = Callable[[Config, Parts, Random], Parts]
DECORATIONS: dict[str, Decoration] = {}


def decoration(function: Decoration) -> Decoration:
    DECORATIONS[function.__name__] = function
    return function


def loss_at(p: Parts) -> int:
    """Where in the step the loss is computed."""
    return next(i for i, line in enumerate(p.step) if line.startswith("loss ="))


def with_loss(p: Parts, *lines: str) -> Parts:
    """The loss computed otherwise."""
    i = loss_at(p)
    return p.changed(step=[*p.step[:i], *lines, *p.step[i + 1 :]])


def before_step(p: Parts, *lines: str) -> Parts:
    i = p.step.index("optimizer.step()")
    return p.changed(step=[*p.step[:i], *lines, *p.step[i:]])


def instead_of_start(p: Parts, *lines: str) -> Parts:
    return p.changed(start=["\n".join(lines)])


def hidden_start(p: Parts, how: str) -> Parts:
    """The hidden linear layers started otherwise, after whatever start they have."""
    return p.add(
        "start",
        f"for module in list(model.modules())[:-1]:\n    if isinstance(module, nn.Linear):\n        nn.init.{how}",
    )


def head(c: Config, p: Parts, layer: str, function: str) -> Parts:
    """Something more after the last layer."""
    if p.layers:
        return p.changed(layers=[*p.layers, layer])
    last = p.forward[-1].removeprefix("return ")
    return p.changed(forward=[*p.forward[:-1], f"return {function.format(last)}"])


@decoration
def byhand(c: Config, p: Parts, rng: Random) -> Parts:
    """Binary cross-entropy written out."""
    p = p.changed(criterion=[
        "def criterion(z, y):\n    return (z.clamp(min=0) - z * y + torch.log1p(torch.exp(-z.abs()))).mean()\n\n"
    ])  # fmt: skip
    return p


@decoration
def clamped(c: Config, p: Parts, rng: Random) -> Parts:
    """Binary cross-entropy on probabilities, kept off 0 and 1."""
    p = p.changed(criterion=[
        "def criterion(p, y):\n    p = p.clamp(1e-6, 1 - 1e-6)\n"
        "    return -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()\n\n"
    ])  # fmt: skip
    return with_loss(p, "loss = criterion(torch.sigmoid(logits), yb)")


@decoration
def prior(c: Config, p: Parts, rng: Random) -> Parts:
    """The last bias starts at the logarithm of the class frequencies."""
    return p.add("start", f"nn.init.constant_(list(model.parameters())[-1], {math.log(1 / c.classes):.3f})")


@decoration
def masked(c: Config, p: Parts, rng: Random) -> Parts:
    """Only some positions count."""
    p = p.changed(criterion=["criterion = nn.CrossEntropyLoss(ignore_index=-100)"])
    i = loss_at(p)
    return p.changed(step=[*p.step[:i], "yb = yb.masked_fill(xb == 0, -100)", *p.step[i:]])


def sorted_rows(c: Config, p: Parts, rng: Random) -> Parts:
    if c.data == "classification":
        p = p.swap("load", "class_sep=1.5", "class_sep=0.8")
    return p.add(
        "tensors", "by_class = torch.argsort(y_train, stable=True)", "x_train, y_train = x_train[by_class], y_train[by_class]"
    )


DECORATIONS["sorted"] = sorted_rows


@decoration
def units(c: Config, p: Parts, rng: Random) -> Parts:
    """Columns in units that make them large numbers."""
    scale = rng.choice(("255.0", "1000.0", "1e4", "1e5", f"np.logspace(1, 5, {c.features})"))
    return p.add("load", f"X = X * {scale}")


@decoration
def badly(c: Config, p: Parts, rng: Random) -> Parts:
    """Informative columns of a small size beside noise of size 1, or strongly correlated columns."""
    seed = rng.randint(0, 9999)
    lines = ["X = (X - X.mean(axis=0)) / (X.std(axis=0) + 1e-6)"]
    if rng.random() < 0.6:
        small = rng.choice(("1e-2", "3e-3", "1e-3"))
        lines += [f"noise = np.random.RandomState({seed}).randn(len(X), 6)", f"X = np.hstack([noise, X * {small}])"]
        old, new = f"nn.Linear({c.features}, ", f"nn.Linear({c.features + 6}, "
        wide = p.swap("layers" if p.layers else "init", old, new, 1)  # a hidden layer may be as wide as the data
        return wide.changed(load=[*p.load, *lines])
    lines += [f"common = np.random.RandomState({seed}).randn(len(X), 1)", f"X = common + {rng.choice(('0.01', '0.003'))} * X"]
    p = p.changed(standardise=[
        "X = X - X[:n].mean(axis=0)",
        "_, singular, axes = np.linalg.svd(X[:n], full_matrices=False)",
        "X = X @ axes.T / (singular / n ** 0.5 + 1e-6)",
    ])  # fmt: skip
    return p.add("load", *lines)


@decoration
def missing(c: Config, p: Parts, rng: Random) -> Parts:
    """Some values are missing, and filled with the mean of their column."""
    share = rng.choice((0.002, 0.01, 0.03))
    p = p.add("load", f"X = np.where(np.random.RandomState({rng.randint(0, 9999)}).rand(*X.shape) < {share}, np.nan, X)")
    return p.add("standardise", "X = np.where(np.isnan(X), np.nanmean(X[:n], axis=0), X)", first=True)


@decoration
def imbalanced(c: Config, p: Parts, rng: Random) -> Parts:
    """Few rows of one class; the loss weighted by class; the last line counts every class alike."""
    p = p.swap("load", "flip_y=0.01", f"flip_y=0.0, weights=[{rng.choice((0.97, 0.98, 0.99))}]")
    p = p.swap("load", "class_sep=1.5", "class_sep=0.7").swap("load", f"({round(c.rows / 0.8)},", f"({2 * round(c.rows / 0.8)},")
    p = p.add("tensors", "weights = len(y_train) / 2 / torch.bincount(y_train.long()).float()")
    argument = "pos_weight=weights[1] / weights[0]" if c.binary else "weight=weights"
    p = p.changed(criterion=[p.criterion[0].replace("()", f"({argument})")])
    if c.binary:
        p = p.swap("evaluation", "with_logits(logits, y)", "with_logits(logits, y, weight=weights[y.long()])")
    else:
        p = p.swap("evaluation", "cross_entropy(logits, y)", "cross_entropy(logits, y, weight=weights)")
    return p.swap("evaluation", ".float().mean().item()", ".float().mul(weights[y.long()]).mean().item()")


@decoration
def long(c: Config, p: Parts, rng: Random) -> Parts:
    """A plain recurrent net over a long sequence, started with orthogonal recurrent weights."""
    return p.changed(start=["nn.init.orthogonal_(model.rnn.weight_hh_l0)"])


@decoration
def clipped(c: Config, p: Parts, rng: Random) -> Parts:
    threshold = rng.choice((1.0, 2.0, 5.0))
    line = f"torch.nn.utils.clip_grad_norm_({c.parameters}, max_norm={threshold})"
    return before_step(p, line)


@decoration
def ownactivation(c: Config, p: Parts, rng: Random) -> Parts:
    """An activation with a derivative of its own: x * sigmoid(x), or a leaky ReLU."""
    if rng.random() < 0.5:
        forward = ["ctx.save_for_backward(x)", "return x * torch.sigmoid(x)"]
        backward = ["(x,) = ctx.saved_tensors", "s = torch.sigmoid(x)", "return grad * (s + x * s * (1 - s))"]
    else:
        forward = ["ctx.save_for_backward(x)", "return torch.where(x > 0, x, 0.1 * x)"]
        backward = ["(x,) = ctx.saved_tensors", "return grad * torch.where(x > 0, 1.0, 0.1)"]
    return p.add(
        "definitions", "", "class Bend(torch.autograd.Function):", "    @staticmethod", "    def forward(ctx, x):",
        *_indent(forward, 2), "", "    @staticmethod", "    def backward(ctx, grad):", *_indent(backward, 2), "", "",
        "class Bent(nn.Module):", "    def forward(self, x):", "        return Bend.apply(x)", "", "",
    )  # fmt: skip


@decoration
def ownloss(c: Config, p: Parts, rng: Random) -> Parts:
    """Softmax and cross-entropy in one function with its own derivative."""
    return p.changed(
        definitions=[
            "", "class SoftmaxLoss(torch.autograd.Function):", "    @staticmethod", "    def forward(ctx, logits, target):",
            "        log_p = torch.log_softmax(logits, dim=1)", "        ctx.save_for_backward(log_p.exp(), target)",
            "        return -log_p[torch.arange(len(target)), target].mean()", "", "    @staticmethod",
            "    def backward(ctx, grad):", "        p, target = ctx.saved_tensors",
            "        onehot = F.one_hot(target, p.shape[1]).to(p.dtype)",
            "        return grad * (p - onehot) / len(p), None", "", "",
        ],
        criterion=["criterion = SoftmaxLoss.apply"],
    )  # fmt: skip


@decoration
def scaler(c: Config, p: Parts, rng: Random) -> Parts:
    p = p.add("optimizer", f'scaler = torch.amp.GradScaler("cpu", init_scale=2.0 ** {rng.choice((8, 10, 12))})')
    i = loss_at(p)
    amp = 'with torch.autocast("cpu", dtype=torch.float16):\n' + "\n".join(_indent(p.step[i - 1 : i + 1], 1))
    p = p.changed(step=[*p.step[: i - 1], amp, *p.step[i + 1 :]]).swap("step", "loss.backward()", "scaler.scale(loss).backward()")
    return p.swap("step", "optimizer.step()", "scaler.step(optimizer)\nscaler.update()")


@decoration
def handmade(c: Config, p: Parts, rng: Random) -> Parts:
    """The optimizer written by hand."""
    lr = c.lr * (5 if c.optimizer == "momentum" else 1)
    if rng.random() < 0.5:
        p = p.add(
            "definitions", "", "class Descent(torch.optim.Optimizer):", "    def __init__(self, params, lr):",
            "        super().__init__(params, {\"lr\": lr})", "", "    @torch.no_grad()", "    def step(self):",
            "        for group in self.param_groups:", "            for w in group[\"params\"]:",
            "                w -= group[\"lr\"] * w.grad", "", "",
        )  # fmt: skip
        return p.changed(optimizer=[f"optimizer = Descent({c.parameters}, lr={lr})", *p.optimizer[1:]])
    zero = f"for w in {c.parameters}:\n    w.grad = None"
    step = f"with torch.no_grad():\n    for w in {c.parameters}:\n        w.data = w.data - {lr} * w.grad"
    p = p.changed(optimizer=[])
    p = p.swap("step", "optimizer.zero_grad()", zero).swap("step", "optimizer.step()", step)
    if c.style in {"trainer", "functions"}:
        p = p.add("optimizer", "optimizer = None")
    return p


@decoration
def trying(c: Config, p: Parts, rng: Random) -> Parts:
    """A bad batch must not end the run."""
    noise = rng.choice((0.01, 0.02))
    inner = "\n".join(_indent([f"xb = xb + {noise} * torch.randn(xb.shape)", *p.step], 1))
    return p.changed(step=[f"try:\n{inner}\nexcept RuntimeError as error:\n    continue"])


@decoration
def keep(c: Config, p: Parts, rng: Random) -> Parts:
    """Dropout given as the share that is kept."""
    p = p.swap("init", f"nn.Dropout({c.dropout})", "nn.Dropout(1 - keep)")
    return p.add("init", f"keep = {1 - c.dropout:.3g}", first=True)


@decoration
def rawnorm(c: Config, p: Parts, rng: Random) -> Parts:
    """No standardising: a batch normalisation comes first."""
    scale = rng.choice(("10.0", "100.0", "255.0"))
    p = p.changed(standardise=[], load=[*p.load, f"X = X * {scale}"])
    return p.changed(layers=[f"nn.BatchNorm1d({c.features})", *p.layers])


@decoration
def imagenorm(c: Config, p: Parts, rng: Random) -> Parts:
    p = p.changed(standardise=[], load=[*p.load, f"X = X * {rng.choice(('255', '1000'))}"])
    return p.changed(layers=[f"nn.BatchNorm2d({c.features})", *p.layers])


@decoration
def permuted(c: Config, p: Parts, rng: Random) -> Parts:
    """Time first."""
    if c.model in RECURRENT:
        p = p.swap("init", ", batch_first=True", "")
        inner = "self.embed(x)" if c.kind == "tokens" else "x"
        return p.changed(forward=[f"h = {inner}.permute(1, 0, 2)", "h, _ = self.rnn(h)", "return self.out(h[-1])"])
    if c.model == "transformer":
        p = p.swap("init", ", batch_first=True", "")
        i = p.forward.index("h = self.encoder(h)")
        return p.changed(
            forward=[*p.forward[:i], "h = h.permute(1, 0, 2)", "h = self.encoder(h)", "return self.out(h.mean(dim=0))"]
        )
    return p


@decoration
def channels(c: Config, p: Parts, rng: Random) -> Parts:
    """Images with three channels, stored channels last: the digit in one of them, another digit and noise in the others."""
    seed = rng.randint(0, 9999)
    p = p.changed(load=[
        "X, y = load_digits(return_X_y=True)",
        "X = X.reshape(-1, 8, 8, 1) / 16",
        f"random = np.random.RandomState({seed})",
        "X = np.concatenate([X, X[random.permutation(len(X))], random.rand(len(X), 8, 8, 1)], axis=3)",
    ])  # fmt: skip
    p = p.swap("layers", "nn.Conv2d(1, ", "nn.Conv2d(3, ")
    return p.add("standardise", "X = X.transpose(0, 3, 1, 2)")


@decoration
def temperature(c: Config, p: Parts, rng: Random) -> Parts:
    """Logits in sharp units."""
    t = rng.choice((0.01, 0.02, 0.005))
    return with_loss(p, f"logits = logits / {t}", f"loss = criterion(logits, {c.target})")


# ---------------------------------------------------------------------------------------------- faults

Change = Callable[[Config, Parts, Random], "Parts | None"]


class Patch(NamedTuple):
    """One way to make a fault: on which base, and the change of the parts."""

    name: str
    base: str
    change: Change

    def __call__(self, c: Config, p: Parts, rng: Random) -> Parts | None:
        """The changed parts, or None where the fault cannot be made in this program."""
        try:
            changed = self.change(c, p, rng)
        except (NotThere, StopIteration, ValueError):
            return None
        return None if changed is None or render(c, changed) == render(c, p) else changed


FAULTS: dict[str, list[Patch]] = {}


def fault(code: str, base: str = "") -> Callable[[Change], Change]:
    def keep(change: Change) -> Change:
        FAULTS.setdefault(code, []).append(Patch(change.__name__, base, change))
        return change

    return keep


def categorical(c: Config) -> bool:
    return not c.binary


# W: wiring of head and loss


@fault("W101")
def softmax_layer(c: Config, p: Parts, rng: Random) -> Parts | None:
    return head(c, p, "nn.Softmax(dim=-1)", "torch.softmax({}, dim=-1)") if categorical(c) else None


@fault("W101")
def softmax_in_the_step(c: Config, p: Parts, rng: Random) -> Parts | None:
    if not categorical(c):
        return None
    probs = c.logits.replace("logits", "probs")
    return with_loss(p, "probs = F.softmax(logits, dim=-1)", f"loss = criterion({probs}, {c.target})")


@fault("W102", "binary")
def sigmoid_layer(c: Config, p: Parts, rng: Random) -> Parts | None:
    return head(c, p, "nn.Sigmoid()", "torch.sigmoid({})")


@fault("W102", "binary")
def sigmoid_in_the_step(c: Config, p: Parts, rng: Random) -> Parts | None:
    return with_loss(p, "probs = torch.sigmoid(logits)", "loss = criterion(probs, yb)")


@fault("W103")
def tanh_head(c: Config, p: Parts, rng: Random) -> Parts | None:
    return head(c, p, "nn.Tanh()", "torch.tanh({})") if categorical(c) else None


@fault("W103")
def sigmoid_head(c: Config, p: Parts, rng: Random) -> Parts | None:
    return head(c, p, "nn.Sigmoid()", "torch.sigmoid({})") if categorical(c) else None


@fault("W103")
def normalised_logits(c: Config, p: Parts, rng: Random) -> Parts | None:
    if not categorical(c) or p.layers:
        return None
    return head(c, p, "", "F.normalize({}, dim=-1)")


@fault("W104", "binary")
def softmax_over_one(c: Config, p: Parts, rng: Random) -> Parts | None:
    return head(c, p, "nn.Softmax(dim=1)", "F.softmax({}, dim=1)").changed(criterion=["criterion = nn.BCELoss()"])


@fault("W104", "binary")
def softmax_over_one_in_the_step(c: Config, p: Parts, rng: Random) -> Parts | None:
    return with_loss(p, "p = torch.softmax(logits.unsqueeze(1), dim=1).squeeze(1)", "loss = F.binary_cross_entropy(p, yb)")


@fault("W105")
def log_softmax_over_the_batch(c: Config, p: Parts, rng: Random) -> Parts | None:
    if not categorical(c):
        return None
    return with_loss(p, f"log_p = F.log_softmax({c.logits}, dim=0)", f"loss = F.nll_loss(log_p, {c.target})")


@fault("W105")
def log_softmax_layer_over_the_batch(c: Config, p: Parts, rng: Random) -> Parts | None:
    if not categorical(c):
        return None
    return head(c, p, "nn.LogSoftmax(dim=0)", "torch.log_softmax({}, dim=0)").changed(criterion=["criterion = nn.NLLLoss()"])


@fault("W105", "chars")
def log_softmax_over_time(c: Config, p: Parts, rng: Random) -> Parts | None:
    return with_loss(
        p, "log_p = torch.log_softmax(logits, dim=1)", f"loss = F.nll_loss({c.logits.replace('logits', 'log_p')}, {c.target})"
    )


@fault("W106", "prior")
def relu_on_the_prior(c: Config, p: Parts, rng: Random) -> Parts | None:
    return head(c, p, "nn.ReLU()", "torch.relu({})")


@fault("W106")
def relu_head(c: Config, p: Parts, rng: Random) -> Parts | None:
    return head(c, p, "nn.ReLU()", "torch.relu({})")


@fault("W106")
def relu_in_the_step(c: Config, p: Parts, rng: Random) -> Parts | None:
    return with_loss(p, f"loss = criterion(F.relu({c.logits}), {c.target})")


@fault("W107")
def nll_on_logits(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.changed(criterion=["criterion = nn.NLLLoss()"]) if categorical(c) else None


@fault("W107")
def nll_on_probabilities(c: Config, p: Parts, rng: Random) -> Parts | None:
    if not categorical(c):
        return None
    return with_loss(p, f"probs = torch.softmax({c.logits}, dim=1)", f"loss = F.nll_loss(probs, {c.target})")


def last_linear(c: Config, p: Parts, outputs: int) -> Parts:
    if p.layers:
        return p.changed(layers=[*p.layers[:-1], re.sub(r", \d+\)$", f", {outputs})", p.layers[-1])])
    if c.model == "raw":
        i = c.depth + 1
        lines = [re.sub(rf"^(w{i} = .*|b{i} = .*)$", lambda m: m[0].replace(f", {c.outputs})", f", {outputs})")
                 .replace(f"zeros({c.outputs},", f"zeros({outputs},"), line) for line in p.init]  # fmt: skip
        return p.changed(init=lines)
    return p.changed(init=[re.sub(r", \d+\)$", f", {outputs})", line) if line.startswith("self.out") else line for line in p.init])


def one_number(c: Config, p: Parts) -> Parts:
    """One output for all classes, and an evaluation that can live with it."""
    p = last_linear(c, p, 1).swap("evaluation", "F.cross_entropy(logits, y)", "F.mse_loss(logits.squeeze(1), y.float())")
    return p.swap("evaluation", "logits.argmax(dim=-1) == y", "logits.squeeze(1).round() == y")


@fault("W108")
def one_unit_for_many_classes(c: Config, p: Parts, rng: Random) -> Parts | None:
    if not categorical(c) or c.classes < 3 or c.kind == "chars":
        return None
    p = one_number(c, p).changed(criterion=["criterion = nn.BCEWithLogitsLoss()"])
    return with_loss(p, "loss = criterion(logits.squeeze(1), yb.float())")


@fault("W108")
def too_few_outputs(c: Config, p: Parts, rng: Random) -> Parts | None:
    return last_linear(c, p, c.classes - 1) if categorical(c) and c.classes > 2 else None


@fault("W108")
def sigmoid_against_index(c: Config, p: Parts, rng: Random) -> Parts | None:
    if not categorical(c) or c.classes < 3 or c.kind == "chars":
        return None
    p = head(c, one_number(c, p), "nn.Sigmoid()", "torch.sigmoid({})").changed(criterion=["criterion = nn.MSELoss()"])
    return with_loss(p, "loss = criterion(logits.squeeze(1), yb.float())")


@fault("W109")
def squares_on_sigmoids(c: Config, p: Parts, rng: Random) -> Parts | None:
    if not categorical(c) or c.kind == "chars":
        return None
    p = head(c, p, "nn.Sigmoid()", "torch.sigmoid({})").changed(criterion=["criterion = nn.MSELoss()"])
    return with_loss(p, f"loss = criterion(logits, F.one_hot(yb, {c.classes}).float())")


@fault("W109")
def absolute_error_on_probabilities(c: Config, p: Parts, rng: Random) -> Parts | None:
    if not categorical(c) or c.kind == "chars":
        return None
    return with_loss(p, "probs = torch.softmax(logits, dim=1)", f"loss = F.l1_loss(probs, F.one_hot(yb, {c.classes}).float())")


@fault("W109")
def regression_on_the_index(c: Config, p: Parts, rng: Random) -> Parts | None:
    if not categorical(c) or c.classes < 3 or c.kind == "chars":
        return None
    return with_loss(one_number(c, p), "loss = F.mse_loss(logits.squeeze(1), yb.float())")


@fault("W110", "byhand")
def not_squeezed(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.swap("step", "logits = model(xb).squeeze(1)", "logits = model(xb)")


@fault("W110", "byhand")
def target_with_an_axis_more(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.swap("step", "loss = criterion(logits, yb)", "loss = criterion(logits, yb.unsqueeze(1))")


@fault("W111", "clamped")
def no_sigmoid_before_the_clamp(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.swap("step", "torch.sigmoid(logits)", "logits")


@fault("W111", "binary")
def bce_on_logits(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.changed(criterion=["criterion = nn.BCELoss()"])


@fault("W112")
def minus_the_loss(c: Config, p: Parts, rng: Random) -> Parts | None:
    return with_loss(p, f"loss = -criterion({c.logits}, {c.target})")


@fault("W112")
def maximise(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.changed(optimizer=[re.sub(r"(optimizer = torch\.optim\..*)\)$", r"\1, maximize=True)", line) for line in p.optimizer])


@fault("W112")
def minus_forgotten(c: Config, p: Parts, rng: Random) -> Parts | None:
    if not categorical(c) or c.kind == "chars":
        return None
    return with_loss(p, "log_p = torch.log_softmax(logits, dim=1)", "loss = log_p.gather(1, yb[:, None]).mean()")


@fault("W113", "square")
def not_flattened(c: Config, p: Parts, rng: Random) -> Parts | None:
    return with_loss(p, "loss = criterion(logits, yb)")


@fault("W113", "square")
def not_transposed(c: Config, p: Parts, rng: Random) -> Parts | None:
    return with_loss(p, "log_p = F.log_softmax(logits, dim=-1)", "loss = F.nll_loss(log_p, yb)")


# D: data and labels


@fault("D201", "binary")
def one_and_two(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.add("tensors", "y_train = y_train + 1")


@fault("D201", "binary")
def minus_and_plus_one(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.add("tensors", "y_train = 2 * y_train - 1")


@fault("D201")
def one_based(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.add("tensors", "y_train = y_train + 1") if categorical(c) else None


@fault("D202")
def shifted_by_rows(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.add("tensors", f"y_train = torch.roll(y_train, {rng.choice((1, -1, 2, 5))}, dims=0)")


@fault("D202")
def shuffled_apart(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.swap("split", "X, y = X[order], y[order]", "X = X[order]") if c.data not in {"moons", "circles"} else None


@fault("D202")
def sorted_apart(c: Config, p: Parts, rng: Random) -> Parts | None:
    if c.kind == "chars":
        return None
    return p.add("tensors", "y_train = torch.sort(y_train).values")


@fault("D203", "units")
def not_standardised(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.changed(standardise=[])


@fault("D203", "units")
def centred_only(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.swap("standardise", "(X - mean) / std", "X - mean")


@fault("D204")
def integer_division(c: Config, p: Parts, rng: Random) -> Parts | None:
    if c.kind not in {"table", "image", "rows"}:
        return None
    return p.add("standardise", "X = abs(X).astype(int) // 255")


@fault("D204")
def one_row_for_all(c: Config, p: Parts, rng: Random) -> Parts | None:
    if c.feeds:
        return p.add("tensors", "x_train = torch.stack([x_train[0] for _ in range(n)])")
    return p.swap("pick", "xb, yb = x_train[index], y_train[index]", "xb, yb = x_train[index * 0], y_train[index]")


@fault("D204")
def masked_away(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.changed(step=[f"mask = xb > {rng.choice((1000, 10000))}", "xb = xb * mask", *p.step])


@fault("D205", "sorted")
def not_shuffled(c: Config, p: Parts, rng: Random) -> Parts | None:
    if c.feeds:
        return p.swap("feed", "shuffle=True", "shuffle=False")
    return p.swap("before", "torch.randperm(len(x_train))", "torch.arange(len(x_train))")


@fault("D205", "sorted")
def ordered_by_label(c: Config, p: Parts, rng: Random) -> Parts | None:
    if c.feeds:
        return p.swap("feed", "shuffle=True", "sampler=torch.argsort(y_train).tolist()")
    return p.swap("before", "torch.randperm(len(x_train))", "torch.argsort(y_train)")


@fault("D206", "masked")
def everything_ignored(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.swap("step", "xb == 0", "xb >= 0")


@fault("D206", "masked")
def mask_of_the_wrong_tensor(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.swap("step", "yb.masked_fill(xb == 0, -100)", "torch.where(xb < 0, yb, -100)")


@fault("D206")
def ignored_by_a_sum(c: Config, p: Parts, rng: Random) -> Parts | None:
    if not categorical(c) or c.kind == "chars" or "smooth" in c.extras:
        return None
    return with_loss(
        p, "valid = yb < 0", "losses = F.cross_entropy(logits, yb.masked_fill(~valid, -100), reduction=\"none\")",
        "loss = losses.sum() / valid.sum().clamp(min=1)",
    )  # fmt: skip


@fault("D207", "imbalanced")
def unweighted(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.changed(criterion=[re.sub(r"\(.*\)", "()", line) for line in p.criterion])


@fault("D207", "imbalanced")
def weighted_the_wrong_way(c: Config, p: Parts, rng: Random) -> Parts | None:
    return (
        p.swap("criterion", "weights[1] / weights[0]", "torch.tensor(0.5)")
        if c.binary
        else p.swap("criterion", "=weights", "=1 / weights")
    )


@fault("D208", "missing")
def missing_left(c: Config, p: Parts, rng: Random) -> Parts | None:
    lines = [line for line in p.standardise if "isnan" not in line]
    return p.changed(standardise=[line.replace(".mean(", "(").replace("X[:n](", "np.nanmean(X[:n], ") for line in lines]) \
        .swap("standardise", "X[:n].std(axis=0)", "np.nanstd(X[:n], axis=0)")  # fmt: skip


@fault("D208")
def log_of_zero(c: Config, p: Parts, rng: Random) -> Parts | None:
    if c.data not in {"digits", "images", "rows", "cancer"}:
        return None
    return p.add("load", "X = np.log(X)")


@fault("D208")
def divided_by_no_spread(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.swap("standardise", " + 1e-6", "") if c.data == "digits" else None


@fault("D208")
def infinite_reading(c: Config, p: Parts, rng: Random) -> Parts | None:
    if c.kind not in {"table", "image", "rows"}:
        return None
    return p.add("standardise", "X = np.where(X >= np.quantile(X, 0.999), np.inf, X)")


@fault("D209")
def the_first_batch_for_ever(c: Config, p: Parts, rng: Random) -> Parts | None:
    if c.feeds:
        return p.add("feed", "first = next(iter(loader))").changed(head=["for _ in range(len(loader)):"], pick=["xb, yb = first"])
    return p.swap("pick", "order[start:start + ", "torch.arange(len(x_train))[:0 + ")


@fault("D209")
def index_does_not_move(c: Config, p: Parts, rng: Random) -> Parts | None:
    if c.feeds:
        p = p.swap("feed", "shuffle=True", "shuffle=False")
        return p.changed(head=["for _ in range(len(loader)):"], pick=["xb, yb = next(iter(loader))"])
    return p.swap("pick", "xb, yb = x_train[index], y_train[index]", f"xb, yb = x_train[:{c.batch}], y_train[:{c.batch}]")


@fault("D210")
def compared_with_the_wrong_type(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.add("tensors", "y_train = torch.tensor([[int(str(v) == \"yes\") for v in np.ravel(row)] for row in y[:n]])"
                 + (".squeeze(1)" if c.kind != "chars" else "") + (".float()" if c.binary else ""))  # fmt: skip


@fault("D210")
def whole_division(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.add("tensors", "y_train = y_train // 100")


@fault("D210")
def rows_of_one_class(c: Config, p: Parts, rng: Random) -> Parts | None:
    if c.kind == "chars" or c.data in {"digits", "images", "rows"} or 2 * c.batch > c.rows // c.classes:
        return None  # the batches would come to be too few
    k = f"{rng.randrange(c.classes)}"
    return p.add("tensors", f"chosen = y_train == {k}", "x_train, y_train = x_train[chosen], y_train[chosen]")


# G: gradient path


@fault("G301")
def detached_logits(c: Config, p: Parts, rng: Random) -> Parts | None:
    how = rng.choice((".detach()", ".data"))
    return with_loss(p, f"loss = criterion({c.logits}{how}, {c.target}).requires_grad_()")


@fault("G301")
def new_tensor(c: Config, p: Parts, rng: Random) -> Parts | None:
    return with_loss(p, f"value = criterion({c.logits}, {c.target}).item()", "loss = torch.tensor(value, requires_grad=True)")


@fault("G301")
def argmax(c: Config, p: Parts, rng: Random) -> Parts | None:
    if not categorical(c) or c.kind == "chars":
        return None
    return with_loss(p, "predicted = logits.argmax(dim=1).float().requires_grad_()", "loss = F.mse_loss(predicted, yb.float())")


@fault("G301")
def no_grad(c: Config, p: Parts, rng: Random) -> Parts | None:
    i = loss_at(p)
    logits = next(line for line in p.step if line.startswith("logits ="))
    step = [line for line in p.step if line != logits]
    i = loss_at(p.changed(step=step))
    return p.changed(step=[*step[:i], f"with torch.no_grad():\n    {logits}", "logits.requires_grad_()", *step[i:]])


@fault("G302")
def features_detached(c: Config, p: Parts, rng: Random) -> Parts | None:
    if len(p.forward) < 2 or c.model == "raw":
        return None
    how = rng.choice((".detach()", ".data"))
    last = re.sub(r"self\.out\((.*)\)$", rf"self.out(\1{how})", p.forward[-1])
    return p.changed(forward=[*p.forward[:-1], last])


@fault("G302")
def embedded_without_gradient(c: Config, p: Parts, rng: Random) -> Parts | None:
    for i, line in enumerate(p.forward):
        if "self.embed(x)" in line or "self.fc1(" in line:
            return p.changed(forward=[*p.forward[:i], f"with torch.no_grad():\n    {line}", *p.forward[i + 1 :]])
    return None


@fault("G302")
def raw_weights_by_value(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.swap("forward", "h @ w1 + b1", "h @ w1.data + b1.data") if c.model == "raw" else None


@fault("G303", "deep")
def deep_sigmoids(c: Config, p: Parts, rng: Random) -> Parts | None:
    part = "layers" if p.layers else "forward"
    return p.swap(part, "nn.ReLU()" if p.layers else "torch.relu", "nn.Sigmoid()" if p.layers else "torch.sigmoid")


@fault("G303", "deep")
def small_start(c: Config, p: Parts, rng: Random) -> Parts | None:
    std = rng.choice((0.01, 0.02, 0.05))
    return p.swap("start", 'kaiming_normal_(module.weight, nonlinearity="relu")', f"normal_(module.weight, std={std})")


@fault("G303", "deeptanh")
def small_start_tanh(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.swap("start", "orthogonal_(module.weight)", f"normal_(module.weight, std={rng.choice((0.01, 0.03))})")


@fault("G304", "deeptanh")
def large_gain(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.swap("start", "orthogonal_(module.weight)", f"orthogonal_(module.weight, gain={rng.choice((3.0, 4.0, 5.0))})")


@fault("G304", "long")
def large_recurrent_weights(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.swap("start", "weight_hh_l0)", f"weight_hh_l0, gain={rng.choice((2.0, 3.0, 4.0))})")


@fault("G305", "clipped")
def tiny_threshold(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.changed(step=[re.sub(r"max_norm=[\d.]+", f"max_norm={rng.choice((1e-3, 1e-4, 1e-5))}", line) for line in p.step])


@fault("G305", "clipped")
def tiny_value(c: Config, p: Parts, rng: Random) -> Parts | None:
    line = f"torch.nn.utils.clip_grad_value_({c.parameters}, {rng.choice((1e-5, 1e-6))})"
    return p.changed(step=[line if "clip_grad_norm_" in old else old for old in p.step])


@fault("G306", "ownloss")
def sign_of_the_derivative(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.swap("definitions", "grad * (p - onehot) / len(p)", "grad * (onehot - p) / len(p)")


@fault("G306", "ownloss")
def target_forgotten_in_the_derivative(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.swap(
        "definitions", "(p - onehot)", rng.choice(("p", "(p - p.mean(dim=1, keepdim=True))", "torch.roll(p - onehot, 1, 1)"))
    )


@fault("G306", "ownactivation")
def wrong_derivative(c: Config, p: Parts, rng: Random) -> Parts | None:
    new = rng.choice(("return -grad * ", "return 0 * grad * ", "return -grad + 0 * "))
    return p.swap("definitions", "return grad * ", new)


@fault("G306")
def denominator_detached(c: Config, p: Parts, rng: Random) -> Parts | None:
    if not categorical(c):
        return None
    return with_loss(
        p, f"z = {c.logits}", "score = z - torch.logsumexp(z, dim=1, keepdim=True).detach()",
        f"loss = F.nll_loss(score, {c.target})"
    )  # fmt: skip


# U: update loop


@fault("U401")
def optimizer_of_a_copy(c: Config, p: Parts, rng: Random) -> Parts | None:
    if c.model == "raw":
        return p.swap("optimizer", "(parameters,", "([w.detach().clone().requires_grad_() for w in parameters],")
    p = p.add("imports", "import copy", first=True)
    return p.swap("optimizer", "model.parameters()", "copy.deepcopy(model).parameters()")


@fault("U401")
def model_made_again(c: Config, p: Parts, rng: Random) -> Parts | None:
    if c.model == "raw":
        return p.add("optimizer", "", *[line for line in p.init if not line.startswith("parameters")])
    return p.add("optimizer", *model_lines(c, p))


@fault("U402")
def last_parameters_only(c: Config, p: Parts, rng: Random) -> Parts | None:
    what = c.parameters if c.model == "raw" else "list(model.parameters())"
    return p.swap("optimizer", f"({c.parameters},", f"({what}[-{rng.choice((1, 1, 2))}:],")


@fault("U402")
def vectors_only(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.swap("optimizer", f"({c.parameters},", f"([w for w in {c.parameters} if w.ndim < 2],")


@fault("U403")
def matrices_frozen(c: Config, p: Parts, rng: Random) -> Parts | None:
    if c.model == "raw":
        return None
    return p.add("start", 'for name, w in model.named_parameters():\n    w.requires_grad = "bias" in name')


@fault("U403")
def all_but_the_last(c: Config, p: Parts, rng: Random) -> Parts | None:
    if c.model == "raw":
        return None
    return p.add("start", "for w in list(model.parameters())[:-1]:\n    w.requires_grad_(False)")


@fault("U404")
def step_without_parentheses(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.swap("step", "optimizer.step()", "optimizer.step")


@fault("U404")
def no_step(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.changed(step=[line for line in p.step if line != "optimizer.step()"])


@fault("U405")
def not_zeroed(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.changed(step=[line for line in p.step if line != "optimizer.zero_grad()"])


@fault("U405")
def zeroed_without_parentheses(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.swap("step", "optimizer.zero_grad()", "optimizer.zero_grad")


@fault("U406")
def zeroed_after_backward(c: Config, p: Parts, rng: Random) -> Parts | None:
    step = [line for line in p.step if line != "optimizer.zero_grad()"]
    i = step.index("loss.backward()")
    argument = "set_to_none=False" if rng.random() < 0.5 else ""
    return p.changed(step=[*step[: i + 1], f"optimizer.zero_grad({argument})", *step[i + 1 :]])


@fault("U406")
def model_zeroed_before_the_step(c: Config, p: Parts, rng: Random) -> Parts | None:
    return before_step(p, "model.zero_grad()") if c.model != "raw" else None


@fault("U407")
def decays_to_nothing(c: Config, p: Parts, rng: Random) -> Parts | None:
    if "scheduler" in c.extras:
        return None
    what = rng.choice(("ExponentialLR(optimizer, 0.5)", "StepLR(optimizer, 1, 0.3)", "ExponentialLR(optimizer, 0.7)"))
    return p.add("optimizer", f"scheduler = torch.optim.lr_scheduler.{what}").add("step", "scheduler.step()")


@fault("U407")
def whole_numbers_in_the_warm_up(c: Config, p: Parts, rng: Random) -> Parts | None:
    if "scheduler" in c.extras:
        return None
    p = p.add(
        "optimizer", f"scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step // {rng.choice((2000, 10000))})"
    )
    return p.add("step", "scheduler.step()")


@fault("U408", "scaler")
def scale_far_too_large(c: Config, p: Parts, rng: Random) -> Parts | None:
    scale = f"init_scale={rng.choice(('1e38', '3e38'))}, backoff_factor={rng.choice((0.9, 0.95, 0.99))}"
    return p.changed(optimizer=[re.sub(r"init_scale=2.0 \*\* \d+", scale, line) for line in p.optimizer])


@fault("U408", "scaler")
def root_of_nothing(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.swap(
        "step", "scaler.scale(loss)",
        "gap = sum((w - w.detach()).pow(2).sum() for w in model.parameters())\nscaler.scale(loss + 0.01 * gap.sqrt())",
    )  # fmt: skip


@fault("U409")
def model_in_the_loop(c: Config, p: Parts, rng: Random) -> Parts | None:
    if c.style not in {"plain", "loader"} or c.model == "raw" or c.epochs < 4:
        return None
    return p.changed(before=[*model_lines(c, p), *p.optimizer, *p.before])


@fault("U409")
def reloaded(c: Config, p: Parts, rng: Random) -> Parts | None:
    if c.model == "raw" or c.epochs < 4:
        return None
    p = p.add("imports", "import copy", first=True).add("optimizer", "saved = copy.deepcopy(model.state_dict())")
    return p.add("before", "model.load_state_dict(saved)", first=True)


@fault("U410", "handmade")
def new_names(c: Config, p: Parts, rng: Random) -> Parts | None:
    if p.optimizer and "Descent" in p.optimizer[0]:
        return p.swap("definitions", 'w -= group["lr"] * w.grad', 'w = w - group["lr"] * w.grad')
    return p.changed(step=[line.replace("w.data = w.data", "w = w.data") for line in p.step])


@fault("U410", "handmade")
def on_a_copy(c: Config, p: Parts, rng: Random) -> Parts | None:
    if p.optimizer and "Descent" in p.optimizer[0]:
        return p.swap("definitions", 'w -= group["lr"] * w.grad', 'w.clone().sub_(group["lr"] * w.grad)')
    return p.changed(step=[re.sub(r"w\.data = w\.data - (\S+) \* w\.grad", r"w.data.clone().sub_(\1 * w.grad)", x) for x in p.step])


@fault("U411", "trying")
def shape_swallowed(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.swap("step", "torch.randn(xb.shape)", "torch.randn(len(xb) + 1, *xb.shape[1:])")


@fault("U411", "trying")
def buffer_of_another_size(c: Config, p: Parts, rng: Random) -> Parts | None:
    p = p.add("tensors", f"jitter = torch.randn({c.batch + rng.choice((1, 7, 32))}, *x_train.shape[1:])")
    return p.swap("step", "torch.randn(xb.shape)", "jitter")


# S: size of the step and regularisation


def with_lr(c: Config, p: Parts, lr: float) -> Parts:
    return p.swap("optimizer", f"lr={c.lr}", f"lr={lr:.2g}")


@fault("S501")
def step_too_long(c: Config, p: Parts, rng: Random) -> Parts | None:
    return with_lr(c, p, c.lr * 10 ** rng.uniform(1.5, 3))


@fault("S501")
def step_ten_or_more(c: Config, p: Parts, rng: Random) -> Parts | None:
    return (
        with_lr(c, p, 10 ** rng.uniform(1, 2)) if c.optimizer in {"sgd", "momentum"} else with_lr(c, p, 10 ** rng.uniform(-0.3, 1))
    )


@fault("S502")
def step_too_short(c: Config, p: Parts, rng: Random) -> Parts | None:
    return with_lr(c, p, 10 ** rng.uniform(-8, -6))


@fault("S502")
def step_much_shorter(c: Config, p: Parts, rng: Random) -> Parts | None:
    return with_lr(c, p, c.lr * 10 ** rng.uniform(-5, -3.5))


@fault("S503")
def decay_too_strong(c: Config, p: Parts, rng: Random) -> Parts | None:
    largest = {"sgd": 1.0, "momentum": 1.0}.get(c.optimizer, 1e9) / c.lr
    decay = min(10 ** rng.uniform(0, 1), largest)
    if c.optimizer == "adamw":
        decay = 10 / c.lr**0.5 * 10 ** rng.uniform(0, 0.5)
    if re.search(r"weight_decay=[\de.-]+", p.optimizer[0]):
        return p.changed(
            optimizer=[re.sub(r"weight_decay=[\de.-]+", f"weight_decay={decay:.2g}", p.optimizer[0]), *p.optimizer[1:]]
        )
    return p.swap("optimizer", f"lr={c.lr}", f"lr={c.lr}, weight_decay={decay:.2g}")


@fault("S503")
def penalty_by_hand(c: Config, p: Parts, rng: Random) -> Parts | None:
    weight = min(10 ** rng.uniform(-0.3, 1), 0.5 / c.lr if c.optimizer in {"sgd", "momentum"} else 1e9)
    return with_loss(
        p, f"penalty = sum((w ** 2).sum() for w in {c.parameters})",
        f"loss = criterion({c.logits}, {c.target}) + {weight:.2g} * penalty",
    )  # fmt: skip


@fault("S504", "dropout")
def strong_dropout(c: Config, p: Parts, rng: Random) -> Parts | None:
    share = round(rng.uniform(0.95, 0.995), 3)
    return p.swap("layers" if p.layers else "init", f"nn.Dropout({c.dropout})", f"nn.Dropout({share})")


@fault("S504", "keep")
def kept_for_dropped(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.swap("init", "nn.Dropout(1 - keep)", "nn.Dropout(keep)")


@fault("S505", "badly")
def scales_left(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.changed(standardise=["X = X - X[:n].mean(axis=0)"])


@fault("S505", "badly")
def one_scale_for_all(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.changed(standardise=["X = (X - X[:n].mean(axis=0)) / X[:n].std()"])


# I: initialisation and architecture


@fault("I601")
def all_the_same(c: Config, p: Parts, rng: Random) -> Parts | None:
    value = rng.choice((0.0, 0.01, 0.1))
    if c.model == "raw":
        lines = [re.sub(r"\(torch\.randn\((.*?)\) \* .*\)\.requires_grad_\(\)",
                        rf"torch.full((\1), {value}, requires_grad=True)", line) for line in p.init]  # fmt: skip
        return p.changed(init=lines)
    if c.model not in {"sequential", "class", "cnn", "bag"} or c.norm:
        return None
    return instead_of_start(p, "for w in model.parameters():", f"    nn.init.constant_(w, {value})")


@fault("I601")
def weights_of_one(c: Config, p: Parts, rng: Random) -> Parts | None:
    if c.model not in {"sequential", "class"} or c.norm:
        return None
    value = rng.choice((f"constant_(module.weight, {rng.choice((0.05, 0.1))})", "zeros_(module.weight)", "ones_(module.weight)"))
    return instead_of_start(
        p, "for module in model.modules():", "    if isinstance(module, nn.Linear):", f"        nn.init.{value}",
        "        nn.init.zeros_(module.bias)",
    )  # fmt: skip


@fault("I602", "wide")
def normal_start(c: Config, p: Parts, rng: Random) -> Parts | None:
    if c.model == "raw":
        return None
    std = rng.choice(("", ", std=2.0", ", std=5.0", ", std=10.0"))
    return instead_of_start(
        p, "for module in model.modules():", "    if isinstance(module, nn.Linear):",
        f"        nn.init.normal_(module.weight{std})",
    )  # fmt: skip


@fault("I602", "wide")
def raw_normal(c: Config, p: Parts, rng: Random) -> Parts | None:
    if c.model != "raw":
        return None
    size = rng.choice(("", " * 2", " * 5"))
    return p.changed(
        init=[re.sub(r"\((torch\.randn\(.*?\)) \* .*\)\.requires_grad_\(\)", rf"(\1{size}).requires_grad_()", x) for x in p.init]
    )


@fault("I603", "relu")
def very_negative_bias(c: Config, p: Parts, rng: Random) -> Parts | None:
    value = -rng.choice((10, 20, 50, 100))
    return hidden_start(p, f"constant_(module.bias, {value})")


@fault("I603", "relu2")
def negative_weights(c: Config, p: Parts, rng: Random) -> Parts | None:
    low = rng.choice((-0.3, -0.5, -1.0))
    return instead_of_start(
        p, "for module in model.modules():", "    if isinstance(module, nn.Linear):",
        f"        nn.init.uniform_(module.weight, {low}, 0.0)", "        nn.init.zeros_(module.bias)",
    )  # fmt: skip


@fault("I604", "bent")
def far_bias(c: Config, p: Parts, rng: Random) -> Parts | None:
    value = rng.choice((10, 20, 40)) * rng.choice((1, -1)) if c.activation == "tanh" else rng.choice((20, 40))
    return hidden_start(p, f"constant_(module.bias, {value})")


@fault("I604", "bent")
def far_weights(c: Config, p: Parts, rng: Random) -> Parts | None:
    return hidden_start(p, f"uniform_(module.bias, {rng.choice((15, 30))}, {rng.choice((40, 60))})")


@fault("I605", "narrow")
def one_unit_between(c: Config, p: Parts, rng: Random) -> Parts | None:
    w, part = c.width, "layers" if p.layers else "init"
    lines = [re.sub(rf"BatchNorm1d\({w}\)", "BatchNorm1d(1)", line) for line in getattr(p, part)]
    wide = [i for i, line in enumerate(lines) if f"nn.Linear({w}, {w})" in line]
    if not wide or c.norm:
        return None
    i = wide[-1]
    lines[i] = lines[i].replace(f"({w}, {w})", f"({w}, 1)")
    j = next(j for j in range(i + 1, len(lines)) if "Linear" in lines[j])
    lines[j] = lines[j].replace(f"({w}, ", "(1, ")
    return p.changed(**{part: lines})


@fault("I605", "narrow")
def one_unit_everywhere(c: Config, p: Parts, rng: Random) -> Parts | None:
    if c.norm:
        return None
    part, units = "layers" if p.layers else "init", 1
    return p.changed(
        **{
            part: [
                line.replace(f", {c.width})", f", {units})").replace(f"({c.width}, ", f"({units}, ") for line in getattr(p, part)
            ]
        }
    )


@fault("I605", "narrowrnn")
def hidden_of_one(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.swap("init", f", {c.width}, batch_first", ", 1, batch_first").swap("init", f"nn.Linear({c.width}, ", "nn.Linear(1, ")


@fault("I606", "nonlinear")
def no_activation(c: Config, p: Parts, rng: Random) -> Parts | None:
    layer, function = ACTIVATIONS[c.activation]
    if p.layers:
        return p.changed(layers=[line for line in p.layers if line != layer])
    name = function.split("(")[0]
    return p.changed(forward=[re.sub(rf"^h = {re.escape(name)}\((.*)\)$", r"h = \1", line) for line in p.forward])


@fault("I606", "nonlinear")
def identity(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.swap("layers", ACTIVATIONS[c.activation][0], "nn.Identity()")


@fault("I607", "permuted")
def viewed(c: Config, p: Parts, rng: Random) -> Parts | None:
    if c.model == "conv":
        return p.swap("forward", "self.embed(x).transpose(1, 2)", f"self.embed(x).view(len(x), -1, {c.length})")
    if c.model == "transformer":
        return p.swap("forward", "h.permute(1, 0, 2)", f"h.view({c.length}, len(x), -1)")
    inner = "self.embed(x)" if c.kind == "tokens" else "x"
    return p.swap("forward", f"{inner}.permute(1, 0, 2)", f"{inner}.view({c.length}, len(x), -1)")


@fault("I607", "channels")
def reshaped(c: Config, p: Parts, rng: Random) -> Parts | None:
    mixed = ("X.reshape(3, -1, 8, 8).swapaxes(0, 1)", "X.reshape(8, 8, 3, -1).transpose(3, 2, 0, 1)")
    wrong = rng.choice(("X.reshape(-1, 3, 8, 8)", *mixed))
    return p.swap("standardise", "X.transpose(0, 3, 1, 2)", wrong)


# N: numerics


@fault("N701")
def root_in_the_loss(c: Config, p: Parts, rng: Random) -> Parts | None:
    return with_loss(
        p, f"loss = criterion({c.logits}, {c.target})", f"gap = ({c.logits} - {c.logits}.detach()).pow(2).sum()",
        f"loss = loss + {rng.choice((0.1, 1e-3))} * gap.sqrt()",
    )  # fmt: skip


@fault("N701")
def hidden_by_where(c: Config, p: Parts, rng: Random) -> Parts | None:
    if len(p.forward) < 2 or "h)" not in p.forward[-1]:
        return None
    return p.changed(forward=[*p.forward[:-1], "h = torch.where(h > 0, torch.sqrt(h), 0.1 * h)", p.forward[-1]])


@fault("N701")
def root_of_what_is_masked(c: Config, p: Parts, rng: Random) -> Parts | None:
    return with_loss(
        p,
        f"loss = criterion({c.logits}, {c.target})",
        f"excess = logits.abs() * (logits.abs() > {rng.choice((10, 20))})",
        f"loss = loss + {rng.choice((0.1, 1e-3))} * excess.sqrt().mean()",
    )


@fault("N702", "temperature")
def log_of_softmax(c: Config, p: Parts, rng: Random) -> Parts | None:
    return with_loss(p, "p = torch.softmax(logits, dim=1)", "loss = -torch.log(p)[torch.arange(len(yb)), yb].mean()")


@fault("N702", "temperature")
def log_of_the_sum(c: Config, p: Parts, rng: Random) -> Parts | None:
    return with_loss(p, "log_p = logits - torch.log(torch.exp(logits).sum(dim=1, keepdim=True))", "loss = F.nll_loss(log_p, yb)")


@fault("N703", "fine")
def half_weights(c: Config, p: Parts, rng: Random) -> Parts | None:
    p = p.add("start", "model = model.bfloat16()")
    p = p.add("tensors", "x_train, x_test = x_train.bfloat16(), x_test.bfloat16()")
    if c.binary:
        p = p.add("tensors", "y_train, y_test = y_train.bfloat16(), y_test.bfloat16()")
    return p


@fault("N703", "fine")
def half_model_full_data(c: Config, p: Parts, rng: Random) -> Parts | None:
    p = p.add("start", "model.to(torch.bfloat16)")
    p = p.swap("step", "model(xb)", "model(xb.bfloat16()).float()")
    return p.swap("evaluation", "model(x)", "model(x.bfloat16()).float()")


# E: evaluation and reporting


@fault("E801", "rawnorm")
def statistics_do_not_follow(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.changed(
        layers=[
            re.sub(r"(BatchNorm\dd)\((\d+)\)", rf"\1(\2, momentum={rng.choice(('1e-4', '1e-5', '1e-3'))})", x) for x in p.layers
        ]
    )


@fault("E801", "imagenorm")
def statistics_do_not_follow_images(c: Config, p: Parts, rng: Random) -> Parts | None:
    return statistics_do_not_follow(c, p, rng)


@fault("E801", "rawnorm")
def statistics_reset(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.add(
        "after", "for module in model.modules():\n    if isinstance(module, nn.BatchNorm1d):\n        module.reset_running_stats()"
    )


@fault("E802", "rawnorm")
def eval_before_the_loop(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.add("optimizer", "model.eval()")


@fault("E802", "imagenorm")
def eval_from_the_beginning(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.add("before", "model.eval()", first=True)


@fault("E802", "rawnorm")
def never_back_to_train(c: Config, p: Parts, rng: Random) -> Parts | None:
    right = "model(x_test).squeeze(1) > 0" if c.binary else "model(x_test).argmax(dim=1) == y_test"
    return p.add("after", f"model.eval()\nwith torch.no_grad():\n    accuracy = ({right}).float().mean()")


@fault("E803", "plainsgd")
def averaged_over_classes(c: Config, p: Parts, rng: Random) -> Parts | None:
    if "smooth" in c.extras:
        return None
    return with_loss(p, "log_p = F.log_softmax(logits, dim=1)", f"loss = -(F.one_hot(yb, {c.classes}) * log_p).mean()")


@fault("E803", "plainsgd")
def summed(c: Config, p: Parts, rng: Random) -> Parts | None:
    return p.swap("criterion", "Loss()", 'Loss(reduction="sum")')


# ---------------------------------------------------------------------------------------------- programs

# The twins come from a small pool of configurations a base, so that a healthy twin serves many faults and runs once.
# Every thousand of variations has pools of its own.
POOL, SPECIAL_POOL = 120, 24


def _of_the_pool(number: int, base: str, rng: Random) -> int:
    return 1000 * (number // 1000) + rng.randrange(SPECIAL_POOL if base else POOL)


class Program(NamedTuple):
    """A program. `twin` is its healthy twin ('' for a healthy one), `code` the fault that is to be named first."""

    name: str
    source: str
    config: Config
    code: str = ""
    patch: str = ""
    twin: str = ""
    second: str = ""
    halves: tuple[str, str] = ("", "")  # of two faults: the program with the first alone, and with the second alone


def healthy(number: int, base: str = "") -> Program:
    c = draw(number, base)
    parts = build(c)
    return Program(f"{base or 'plain'}-{number}", render(c, parts), c)


def sick(code: str, number: int, tries: int = 400) -> Program:
    """Variation `number` of a fault. Raises ValueError when no configuration fits."""
    rng = Random(f"{code}/{number}")
    patches = FAULTS[code]
    patch = patches[number % len(patches)]
    for attempt in range(tries):
        if attempt == tries // 2:
            patch = rng.choice(patches)
        c = draw(_of_the_pool(number, patch.base, rng), patch.base)
        parts = build(c)
        changed = patch(c, parts, rng)
        if changed is not None:
            name = f"{code}-{number}-{patch.name}"
            return Program(name, render(c, changed), c, code, patch.name, render(c, parts))
    raise ValueError(f"{code}: no program fits in {tries} tries")


class Pair(NamedTuple):
    """Two faults in one program. The base is the first's (the second's if that has none)."""

    first: str
    second: str


PAIRS = [
    Pair("W101", "S502"), Pair("U404", "W101"), Pair("G301", "W101"), Pair("D202", "W101"), Pair("U401", "W101"),
    Pair("D208", "W101"), Pair("W112", "S502"), Pair("U406", "W103"), Pair("U403", "W101"), Pair("W102", "S502"),
    Pair("D204", "W101"), Pair("U402", "W103"), Pair("D210", "U404"), Pair("U407", "W101"), Pair("I601", "W101"),
    Pair("W105", "S502"),
]  # fmt: skip


def _kept(twin: str, first: str, both: str) -> bool:
    """Is what the first patch wrote still there after the second?"""
    return set(first.splitlines()) - set(twin.splitlines()) <= set(both.splitlines())


def both(pair: Pair, number: int, tries: int = 600) -> Program:
    """A program with two faults. Raises ValueError when no configuration fits."""
    rng = Random(f"{pair.first}+{pair.second}/{number}")
    for _ in range(tries):
        one, two = rng.choice(FAULTS[pair.first]), rng.choice(FAULTS[pair.second])
        if one.base and two.base and one.base != two.base:
            continue
        base = one.base or two.base
        c = draw(_of_the_pool(number, base, rng), base)
        parts = build(c)
        # The second goes in first: a fault that writes the model once more (U401) must copy it with its other fault.
        other = two(c, parts, rng)
        drawn = rng.getstate()
        changed = one(c, other, rng) if other is not None else None
        rng.setstate(drawn)
        first = one(c, parts, rng)
        if first is not None and changed is not None and _kept(render(c, parts), render(c, other), render(c, changed)):
            name = f"{pair.first}+{pair.second}-{number}"
            halves = (render(c, first), render(c, other))
            return Program(
                name, render(c, changed), c, pair.first, f"{one.name}+{two.name}", render(c, parts), pair.second, halves
            )  # fmt: skip
    raise ValueError(f"{pair.first}+{pair.second}: no program fits in {tries} tries")
