"""Each kind of edit on small programs; what must stay as it is, stays to the byte; what must not be touched, is not."""

from __future__ import annotations

import difflib
import hashlib
import os
import stat
import sysconfig
import time
import warnings
from pathlib import Path

import pytest

from unstuck.errors import UsageError
from unstuck.findings import Diagnosis, Finding, Fix, Intervention, Symptom, Training
from unstuck.repair import Bench, Change, change, fill, write
from unstuck.repair.edits import EDITS
from unstuck.repair.source import Source, lines_of
from unstuck.trace.facts import Run, Site

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
MARK = "# <-"


def run_of(folder: Path, *files: Path) -> Run:
    sources = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    return Run(script=files[0].name if files else "train.py", directory=str(folder), started=time.time() + 5, sources=sources)


def finding_of(kind: str, arguments: dict | None = None, *places: tuple[str, int], code: str = "X000") -> Finding:
    return Finding(
        code, "a-fault", "certain", "It is wrong.", locations=[Site(f, n) for f, n in places],
        fix=Fix("Mend it.", intervention=Intervention(kind, arguments or {})),
    )  # fmt: skip


def made(folder: Path, text: str, kind: str, arguments: dict | None = None, places: list[int] | None = None) -> Change:
    """The change for the lines with the mark (in the order of the file), or for the lines given."""
    file = folder / "train.py"
    file.write_bytes(text.encode())
    lines = places or [n for n, row in enumerate(text.splitlines(), 1) if MARK in row]
    done = change(finding_of(kind, arguments, *(("train.py", n) for n in lines)), run_of(folder, file))
    assert done is not None
    return done


TABLE = [
    # remove-activation
    ("remove-activation", {"activation": "softmax"}, "return F.softmax(x, dim=1)  # <-", "return x  # <-", "safe"),
    ("remove-activation", {"activation": "softmax"}, "return F.softmax(a + b, dim=1).squeeze(1)  # <-", "return (a + b).squeeze(1)  # <-", "safe"),
    ("remove-activation", {"activation": "softmax"}, "return self.head(x).softmax(-1)  # <-", "return self.head(x)  # <-", "safe"),
    ("remove-activation", {"activation": "softmax"}, "y = torch.softmax(input=x, dim=-1)  # <-", "y = x  # <-", "safe"),
    ("remove-activation", {"activation": "softmax"}, "y = 2 * torch.softmax(a + b, -1)  # <-", "y = 2 * (a + b)  # <-", "safe"),
    ("remove-activation", {"activation": "sigmoid"}, "return torch.sigmoid(self.fc(x))  # <-", "return self.fc(x)  # <-", "safe"),
    ("remove-activation", {"activation": "sigmoid"}, "p = torch.sigmoid(z)  # <-\nhit = p > 0.5", "p = z  # <-\nhit = p > 0.5", "unsafe"),
    ("remove-activation", {"activation": "softmax"}, "x = f(y)\nx = F.softmax(x, 1)  # <-\ng(x)", "x = f(y)\ng(x)", "safe"),
    ("remove-activation", {}, "return F.softmax(\n    net(x),  # logits\n    dim=1)  # <-", "return net(x)  # <-", "safe"),
    ("remove-activation", {"activation": "log_softmax"}, "m = nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(dim=1))  # <-",
     "m = nn.Sequential(nn.Linear(4, 3))  # <-", "safe"),
    ("remove-activation", {"activation": "softmax"}, "m = nn.Sequential(\n    nn.Linear(4, 3),  # head\n    nn.Softmax(dim=1),  # <-\n)",
     "m = nn.Sequential(\n    nn.Linear(4, 3),  # head\n)", "safe"),
    ("remove-activation", {"activation": "softmax"}, "m = nn.Sequential(\n    nn.Linear(4, 3),  # head\n    nn.Softmax(dim=1))  # <-",
     "m = nn.Sequential(\n    nn.Linear(4, 3),  # head\n    )  # <-", "safe"),
    ("remove-activation", {"activation": "tanh"}, "m = nn.Sequential(\n    nn.Linear(4, 3), nn.Tanh(),  # <-\n)",
     "m = nn.Sequential(\n    nn.Linear(4, 3),  # <-\n)", "safe"),
    ("remove-activation", {"activation": "softmax"}, "m = nn.Sequential(nn.Linear(4, 3), nn.Softmax(1), nn.Flatten())  # <-",
     "m = nn.Sequential(nn.Linear(4, 3), nn.Identity(), nn.Flatten())  # <-", "safe"),
    ("remove-activation", {"activation": "relu"}, "class A:\n    def __init__(self):\n        self.act = nn.ReLU()  # <-",
     "class A:\n    def __init__(self):\n        self.act = nn.Identity()  # <-", "safe"),
    ("remove-activation", {"activation": "softmax"},
     "class A:\n    def __init__(self):\n        self.out = nn.Softmax(1)  # <-\n\n    def forward(self, x):\n        return self.out(self.fc(x))  # <-",
     "class A:\n    def __init__(self):\n        self.out = nn.Softmax(1)  # <-\n\n    def forward(self, x):\n        return self.fc(x)  # <-", "safe"),
    # insert-activation
    ("insert-activation", {"activation": "log_softmax", "dim": 1}, "loss = F.nll_loss(out, y)  # <-", "loss = F.cross_entropy(out, y)  # <-", "safe"),
    ("insert-activation", {"activation": "log_softmax"}, "c = nn.NLLLoss(ignore_index=0)  # <-", "c = nn.CrossEntropyLoss(ignore_index=0)  # <-", "safe"),
    ("insert-activation", {"activation": "sigmoid"}, "c = torch.nn.BCELoss()  # <-", "c = torch.nn.BCEWithLogitsLoss()  # <-", "safe"),
    ("insert-activation", {"activation": "sigmoid"}, "l = F.binary_cross_entropy(p, y)  # <-",
     "l = F.binary_cross_entropy_with_logits(p, y)  # <-", "safe"),
    ("insert-activation", {"activation": "log_softmax"}, "p = F.softmax(x, 1)  # <-\nl = F.nll_loss(p, y)  # <-",
     "p = F.log_softmax(x, 1)  # <-\nl = F.nll_loss(p, y)  # <-", "safe"),
    ("insert-activation", {"activation": "sigmoid"},
     "m = nn.Sequential(\n    nn.Linear(4, 1),  # <-\n)\np = m(x)\np = p.clamp(1e-6, 1)\nl = F.binary_cross_entropy(p, y)  # <-",
     "m = nn.Sequential(\n    nn.Linear(4, 1),  # <-\n    nn.Sigmoid(),\n)\np = m(x)\np = p.clamp(1e-6, 1)\nl = F.binary_cross_entropy(p, y)  # <-", "safe"),
    # replace-loss
    ("replace-loss", {"loss": "cross_entropy", "from": "mse_loss"}, "t = F.one_hot(y).float()\nc = nn.MSELoss()  # <-\nl = c(out, t)",
     "t = F.one_hot(y).float()\nc = nn.CrossEntropyLoss()  # <-\nl = c(out, t)", "unsafe"),
    ("replace-loss", {"loss": "cross_entropy", "from": "l1_loss"}, "p = F.softmax(net(x), 1)\nl = F.l1_loss(p, F.one_hot(y, 10).float())  # <-",
     "p = net(x)\nl = F.cross_entropy(p, F.one_hot(y, 10).float())  # <-", "unsafe"),
    ("replace-loss", {"loss": "cross_entropy", "from": "mse_loss"}, "l = F.mse_loss(out, y.float())  # <-", "l = F.cross_entropy(out, y)  # <-", "unsafe"),
    ("replace-loss", {"loss": "cross_entropy", "from": "nll_loss", "activation": "softmax", "activation_file": "train.py", "activation_line": 4},
     "m = nn.Sequential(nn.Linear(2, 2), nn.Softmax(dim=1))\nc = nn.NLLLoss(ignore_index=3)  # <-",
     "m = nn.Sequential(nn.Linear(2, 2))\nc = nn.CrossEntropyLoss(ignore_index=3)  # <-", "safe"),
    # change-dim, transpose-classes, align-targets
    ("change-dim", {"dim": 1.0}, "p = F.softmax(w(x), dim=0)  # <-", "p = F.softmax(w(x), dim=1)  # <-", "safe"),
    ("change-dim", {"dim": 1}, "p = torch.log_softmax(x, 0)  # <-", "p = torch.log_softmax(x, 1)  # <-", "safe"),
    ("change-dim", {"dim": 2}, "s = nn.LogSoftmax(dim=1)  # <-", "s = nn.LogSoftmax(dim=2)  # <-", "safe"),
    ("change-dim", {"dim": 1}, "p = x.softmax(0)  # <-", "p = x.softmax(1)  # <-", "safe"),
    ("change-dim", {"dim": 1}, "p = F.softmax(x)  # <-", "p = F.softmax(x, dim=1)  # <-", "safe"),
    ("transpose-classes", {}, "l = F.cross_entropy(logits, y)  # <-", "l = F.cross_entropy(logits.movedim(-1, 1), y)  # <-", "safe"),
    ("align-targets", {}, "criterion = nn.MSELoss()\nl = criterion(pred, y)  # <-", "criterion = nn.MSELoss()\nl = criterion(pred, y.view_as(pred))  # <-", "safe"),
    ("align-targets", {}, "l = F.mse_loss(net(x), y)  # <-", "l = F.mse_loss(net(x).flatten(), y.flatten())  # <-", "safe"),
    # negate-loss, reductions
    ("negate-loss", {}, "loss = -criterion(x, y)  # <-", "loss = criterion(x, y)  # <-", "unsafe"),
    ("negate-loss", {}, "(-loss).backward()  # <-", "(loss).backward()  # <-", "unsafe"),
    ("negate-loss", {}, "def f(p):\n    return p.mean()  # <-", "def f(p):\n    return -p.mean()  # <-", "unsafe"),
    ("negate-loss", {}, "p += lr * p.grad  # <-", "p -= lr * p.grad  # <-", "unsafe"),
    ("negate-loss", {}, "o = torch.optim.Adam(ps, lr=1e-3, maximize=True)  # <-", "o = torch.optim.Adam(ps, lr=1e-3)  # <-", "unsafe"),
    ("mean-reduction", {}, 'c = nn.CrossEntropyLoss(reduction="sum")  # <-', 'c = nn.CrossEntropyLoss(reduction="mean")  # <-', "unsafe"),
    ("mean-reduction", {}, "loss = ((p - y) ** 2).sum()  # <-", "loss = ((p - y) ** 2).mean()  # <-", "unsafe"),
    ("scale-loss", {"factor": 10.0}, "loss = -(t * logp).mean()  # <-", "loss = -(t * logp).sum(-1).mean()  # <-", "unsafe"),
    ("scale-loss", {"factor": 10.0}, "loss = c(out, y) / 10  # <-", "loss = 10.0 * (c(out, y) / 10)  # <-", "unsafe"),
    ("class-weights", {"weights": [0.5, 2.0]}, "c = nn.CrossEntropyLoss()  # <-", "c = nn.CrossEntropyLoss(weight=torch.tensor([0.5, 2.0]))  # <-", "unsafe"),
    ("class-weights", {"weights": [0.5, 2.0]}, "c = nn.BCEWithLogitsLoss()  # <-", "c = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([4.0]))  # <-", "unsafe"),
    # numbers
    ("scale-learning-rate", {"factor": 0.01}, "o = torch.optim.SGD(ps, lr=10.0, momentum=0.9)  # <-", "o = torch.optim.SGD(ps, lr=0.1, momentum=0.9)  # <-", "unsafe"),
    ("scale-learning-rate", {"factor": 1000.0}, "o = torch.optim.SGD(ps, 1e-7)  # <-", "o = torch.optim.SGD(ps, 0.0001)  # <-", "unsafe"),
    ("scale-learning-rate", {"factor": 0.01}, "STEPS, RATE = 220, 0.3\no = torch.optim.SGD(ps, lr=RATE)  # <-", "STEPS, RATE = 220, 0.003\no = torch.optim.SGD(ps, lr=RATE)  # <-", "unsafe"),
    ("scale-learning-rate", {"factor": 10}, "def fit(lr):\n    o = torch.optim.SGD(ps, lr=lr)  # <-\n\n\nfit(1e-6)", "def fit(lr):\n    o = torch.optim.SGD(ps, lr=lr)  # <-\n\n\nfit(1e-5)", "unsafe"),
    ("scale-learning-rate", {"factor": 10}, "class C:\n    lr: float = 1e-6\n\n\ncfg = C()\no = torch.optim.SGD(ps, lr=cfg.lr)  # <-",
     "class C:\n    lr: float = 1e-5\n\n\ncfg = C()\no = torch.optim.SGD(ps, lr=cfg.lr)  # <-", "unsafe"),
    ("scale-learning-rate", {"factor": 10}, 'o = torch.optim.SGD([{"params": a, "lr": 1e-6}, {"params": b}], lr=1e-5)  # <-',
     'o = torch.optim.SGD([{"params": a, "lr": 1e-5}, {"params": b}], lr=0.0001)  # <-', "unsafe"),
    ("set-learning-rate", {"lr": 0.01}, "o = torch.optim.SGD(ps, lr=0)  # <-", "o = torch.optim.SGD(ps, lr=0.01)  # <-", "unsafe"),
    ("scale-weight-decay", {"factor": 0.001}, "o = torch.optim.SGD(ps, lr=1, weight_decay=0.5)  # <-", "o = torch.optim.SGD(ps, lr=1, weight_decay=0.0005)  # <-", "unsafe"),
    ("scale-weight-decay", {"factor": 0.001}, 'o = {"lr": 1, "weight_decay": 1.5}\no = torch.optim.SGD(ps, **o)  # <-'.replace("o =", "opts =", 1).replace("**o", "**opts"),
     'opts = {"lr": 1, "weight_decay": 0.0015}\no = torch.optim.SGD(ps, **opts)  # <-', "unsafe"),
    ("set-dropout", {"p": 0.1}, "d = nn.Dropout(0.97)  # <-", "d = nn.Dropout(0.1)  # <-", "unsafe"),
    ("set-dropout", {"p": 0.1}, "P = 0.95\nd = nn.Dropout(p=P)  # <-", "P = 0.1\nd = nn.Dropout(p=P)  # <-", "unsafe"),
    ("set-dropout", {"p": 0.1}, "h = F.dropout(h, p=1 - keep)  # <-", "h = F.dropout(h, p=0.1)  # <-", "unsafe"),
    ("scale-clipping", {"factor": 1e4}, "nn.utils.clip_grad_norm_(m.parameters(), 1e-4)  # <-", "nn.utils.clip_grad_norm_(m.parameters(), 1.0)  # <-", "unsafe"),
    ("no-clipping", {}, "l.backward()\nnn.utils.clip_grad_norm_(ps, 0.0)  # <-\no.step()", "l.backward()\no.step()", "unsafe"),
    ("clip-gradients", {"norm": 1.0}, "o = torch.optim.SGD(m.parameters(), lr=1)\nl.backward()\no.step()  # <-",
     "o = torch.optim.SGD(m.parameters(), lr=1)\nl.backward()\nnn.utils.clip_grad_norm_(m.parameters(), 1.0)\no.step()  # <-", "unsafe"),
    ("adaptive-optimizer", {}, "o = torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9)  # <-", "o = torch.optim.Adam(m.parameters(), lr=0.001)  # <-", "unsafe"),
    ("adaptive-optimizer", {}, "from torch.optim import SGD\no = SGD(ps, 0.1, weight_decay=1e-4)  # <-", "from torch.optim import SGD\no = torch.optim.Adam(ps, lr=0.001, weight_decay=1e-4)  # <-", "unsafe"),
    ("constant-learning-rate", {}, 's = torch.optim.lr_scheduler.ReduceLROnPlateau(o, mode="max")  # <-', 's = torch.optim.lr_scheduler.ReduceLROnPlateau(o, mode="min")  # <-', "unsafe"),
    ("constant-learning-rate", {}, "s = torch.optim.lr_scheduler.StepLR(o, 1)  # <-\nfor x in d:\n    f(x)\n    s.step()", "s = torch.optim.lr_scheduler.StepLR(o, 1)  # <-\nfor x in d:\n    f(x)", "unsafe"),
    # the loop
    ("zero-before-backward", {}, "for x in d:\n    l = f(x)\n    l.backward()  # <-\n    opt.step()", "for x in d:\n    l = f(x)\n    opt.zero_grad()\n    l.backward()  # <-\n    opt.step()", "safe"),
    ("zero-before-backward", {}, "for x in d:\n    f(x).backward(); opt.step()  # <-", "for x in d:\n    opt.zero_grad()\n    f(x).backward(); opt.step()  # <-", "safe"),
    ("zero-before-backward", {}, "for i in d:\n    f(i).backward()  # <-\n    if i % 4 == 3:\n        opt.step()", "for i in d:\n    f(i).backward()  # <-\n    if i % 4 == 3:\n        opt.step()\n        opt.zero_grad()", "safe"),
    ("zero-before-backward", {}, "for i in d:\n    scaler.scale(l).backward()  # <-\n    scaler.step(opt)\n    scheduler.step()",
     "for i in d:\n    opt.zero_grad()\n    scaler.scale(l).backward()  # <-\n    scaler.step(opt)\n    scheduler.step()", "safe"),
    ("keep-gradients-until-step", {}, "l.backward()\nopt.zero_grad()  # <-\nopt.step()", "opt.zero_grad()\nl.backward()\nopt.step()", "safe"),
    ("keep-gradients-until-step", {},
     "class T:\n    def a(self):\n        self.l.backward()\n        self.m.zero_grad()  # <-\n        g()\n\n    def b(self):\n        self.o.step()",
     "class T:\n    def a(self):\n        self.m.zero_grad()\n        self.l.backward()\n        g()\n\n    def b(self):\n        self.o.step()", "safe"),
    ("call-step", {}, "o = torch.optim.SGD(ps, lr=1)\nfor x in d:\n    o.zero_grad()\n    f(x).backward()  # <-", "o = torch.optim.SGD(ps, lr=1)\nfor x in d:\n    o.zero_grad()\n    f(x).backward()  # <-\n    o.step()", "safe"),
    ("call-step", {}, "for x in d:\n    f(x).backward()  # <-\n    optimizer.step", "for x in d:\n    f(x).backward()  # <-\n    optimizer.step()", "safe"),
    ("train-mode", {}, "model.eval()\nfor x in d:\n    l = f(model(x))  # <-\n    l.backward()", "model.eval()\nfor x in d:\n    model.train()\n    l = f(model(x))  # <-\n    l.backward()", "unsafe"),
    ("train-mode", {}, "for e in range(9):\n    m.eval()\n    for x in d:\n        f(m(x)).backward()  # <-", "for e in range(9):\n    m.train()\n    for x in d:\n        f(m(x)).backward()  # <-", "unsafe"),
    ("train-mode", {}, "for e in range(9):\n    for x in d:\n        f(m(x)).backward()  # <-\n    m.eval()", "for e in range(9):\n    m.train()\n    for x in d:\n        f(m(x)).backward()  # <-\n    m.eval()", "unsafe"),
    # data, layers
    ("shuffle", {}, "d = DataLoader(s, batch_size=4)  # <-", "d = DataLoader(s, batch_size=4, shuffle=True)  # <-", "safe"),
    ("shuffle", {}, "d = DataLoader(\n    s,\n    batch_size=4,  # few\n)\n", "d = DataLoader(\n    s,\n    batch_size=4,  # few\n    shuffle=True,\n)\n", "safe"),
    ("shuffle", {}, "d = DataLoader(s, 4, False)  # <-", "d = DataLoader(s, 4, True)  # <-", "safe"),
    ("unfreeze", {}, "for p in m.parameters():\n    p.requires_grad = False  # <-", "for p in m.parameters():\n    p.requires_grad = True  # <-", "unsafe"),
    ("unfreeze", {}, "m.requires_grad_(False)  # <-", "m.requires_grad_(True)  # <-", "unsafe"),
    ("add-parameters", {}, "o = torch.optim.Adam(m.head.parameters(), lr=1)  # <-", "o = torch.optim.Adam(m.parameters(), lr=1)  # <-", "unsafe"),
    ("add-parameters", {}, "m = Net()\no = torch.optim.Adam(m.parameters(), lr=1)  # <-\nm = Net()  # <-", "m = Net()\nm = Net()  # <-\no = torch.optim.Adam(m.parameters(), lr=1)", "unsafe"),
    ("reinitialise", {}, "def init(m):\n    nn.init.constant_(m.weight, 0.1)\n    nn.init.zeros_(m.bias)\n\n\nl = nn.Linear(2, 2)  # <-", "def init(m):\n    nn.init.zeros_(m.bias)\n\n\nl = nn.Linear(2, 2)  # <-", "unsafe"),
    ("reinitialise", {}, "def init(m):\n    nn.init.zeros_(m.weight)  # <-", "def init(m):\n    pass  # <-", "unsafe"),
    ("full-precision", {}, "m = net.bfloat16()  # <-\nx = x.to(torch.bfloat16)", "m = net  # <-\nx = x.to(torch.float32)", "unsafe"),
    ("full-precision", {}, "m.half()  # <-\nx = x.half()\ny = f(x.half())", "y = f(x)", "unsafe"),
    ("add-activation", {}, "m = nn.Sequential(nn.Linear(2, 8), nn.Linear(8, 8), nn.Linear(8, 1))  # <-",
     "m = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))  # <-", "unsafe"),
    ("add-activation", {}, "m = nn.Sequential(\n    nn.Linear(2, 8),  # <-\n    nn.Linear(8, 1),\n)", "m = nn.Sequential(\n    nn.Linear(2, 8),  # <-\n    nn.ReLU(),\n    nn.Linear(8, 1),\n)", "unsafe"),
    ("widen", {"width": 32}, "width = 1\nm = nn.Sequential(nn.Linear(2, width), nn.Linear(width, 2))  # <-", "width = 32\nm = nn.Sequential(nn.Linear(2, width), nn.Linear(width, 2))  # <-", "unsafe"),
    ("widen", {"width": 32}, "m = nn.Sequential(nn.Linear(2, 1), nn.Tanh(), nn.Linear(1, 2))  # <-", "m = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))  # <-", "unsafe"),
    ("reattach", {}, "logits = self.head(z.detach())  # <-", "logits = self.head(z)  # <-", "unsafe"),
    ("batch-statistics", {}, "b = nn.BatchNorm1d(8, momentum=0.0)  # <-", "b = nn.BatchNorm1d(8, momentum=0.1)  # <-", "unsafe"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "arguments", "before", "after", "applicability"), TABLE, ids=[f"{i}-{t[0]}" for i, t in enumerate(TABLE)])
def test_the_edit(tmp_path: Path, kind: str, arguments: dict, before: str, after: str, applicability: str) -> None:
    head = HEAD + ("from torch.utils.data import DataLoader\n" if "DataLoader" in before else "")
    before, after = head + before + "\n", head + after + "\n"
    places = [n for n, row in enumerate(before.splitlines(), 1) if "DataLoader(" in row] if MARK not in before else None
    done = made(tmp_path, before, kind, arguments, places)
    assert (done.new_source.decode(), done.applicability) == (after, applicability), done.note


def test_an_import_is_extended_where_nothing_else_leads_to_the_name(tmp_path: Path) -> None:
    done = made(tmp_path, "from torch.optim import SGD as S\no = S(ps, lr=1)  # <-\n", "adaptive-optimizer")
    assert "SGD" in done.note  # the alias hides what it is
    done = made(tmp_path, "from torch.nn import (\n    Linear,\n    NLLLoss,\n)\nc = NLLLoss()  # <-\n", "insert-activation")
    assert done.new_source.decode() == (
        "from torch.nn import (\n    Linear,\n    NLLLoss, CrossEntropyLoss,\n)\nc = CrossEntropyLoss()  # <-\n"
    )
    done = made(tmp_path, "from mine import NLLLoss\nc = NLLLoss()  # <-\n", "insert-activation")
    assert "not imported" in done.note


def test_every_edit_is_tried_here() -> None:
    assert {t[0] for t in TABLE} == set(EDITS)


@pytest.mark.parametrize(
    ("kind", "arguments", "text", "reason"),
    [
        ("scale-learning-rate", {"factor": 10},
         'p.add_argument("--lr", type=float, default=1e-6)\no = torch.optim.SGD(ps, lr=args.lr)  # <-', "option --lr"),
        ("scale-learning-rate", {"factor": 10}, "lr = 1\nlr = lr / 2\no = torch.optim.SGD(ps, lr=lr)  # <-", "2 places"),
        ("scale-learning-rate", {"factor": 10}, "from settings import LR\no = torch.optim.SGD(ps, lr=LR)  # <-", "another file"),
        ("scale-learning-rate", {}, "o = torch.optim.SGD(ps, lr=1)  # <-", "factor is not known"),
        ("remove-activation", {"activation": "relu"},
         "def block(a, b):\n    return [nn.Linear(a, b), nn.ReLU()]  # <-\n\n\nlayers = block(1, 2) + block(2, 3)", "several layers"),
        ("remove-activation", {"activation": "relu"}, "def forward(self, x):\n    for l in self.ls:\n        x = torch.relu(l(x))  # <-\n    return x", "loop"),
        ("remove-activation", {"activation": "softmax"}, "y = g(x)  # <-", "no activation"),
        ("shuffle", {}, "for i in range(0, n, 32):\n    x = X[i:i + 32]  # <-", "randperm"),
        ("shuffle", {}, "d = DataLoader(s, sampler=w)  # <-", "sampler"),
        ("zero-before-backward", {}, "def f(l):\n    l.backward()  # <-", "no step"),
        ("call-step", {}, "for i in d:\n    f(i).backward()  # <-\n    if i % 99 == 98:\n        opt.step()", "not reached"),
        ("call-step", {}, "def f(l):\n    l.backward()  # <-", "name of the optimizer"),
        ("replace-loss", {"loss": "cross_entropy", "from": "mse_loss"}, "l = F.mse_loss(out.squeeze(1), y.float())  # <-", "one number per sample"),
        ("add-parameters", {}, "o = torch.optim.Adam(groups, lr=1)  # <-", "has to be seen"),
        ("reinitialise", {}, "nn.init.zeros_(a.weight)\nnn.init.zeros_(b.weight)\nl = nn.Linear(1, 1)  # <-", "several lines"),
        ("shift-labels", {"offset": 1}, "x = 1  # <-", "by hand"),
        ("set-learning-rate", {"lr": 0.1}, "x = 1  # <-", "no optimizer"),
    ],
)  # fmt: skip
def test_where_a_machine_would_have_to_guess_it_says_why(tmp_path: Path, kind: str, arguments: dict, text: str, reason: str) -> None:
    done = made(tmp_path, f"{HEAD}{text}\n", kind, arguments)
    assert (done.applicability, done.diff, done.new_source) == ("display", "", b"")
    assert reason in done.note
    assert done.note.endswith(".")


@pytest.mark.parametrize("kind", sorted(EDITS))
@pytest.mark.parametrize("text", ["x = 1  # <-\n", "def f(:  # <-\n", "f'{g(x)}'  # <-\n", "\n", "class A:  # <-\n    pass\n", "lambda: 0  # <-"])
def test_no_edit_breaks_on_a_line_without_its_subject(tmp_path: Path, kind: str, text: str) -> None:
    done = made(tmp_path, text, kind, {"dim": 1, "factor": 2.0, "lr": 0.1, "p": 0.1, "norm": 1.0, "width": 3, "weights": [1, 2]}, [1])
    assert done.applicability == "display"
    assert done.note


# ---------------------------------------------------------------------- to the byte

ODD = "class Net:\n\tdef forward(self, x):  # tabs\n\t\tx = self.fc( x )   ;   y = 1\n\x0c\n\t\treturn F.softmax(x, dim=1) # <-\n\ts = 'a\\z'  \n"


@pytest.mark.parametrize(
    ("newline", "encoding"), [(n, e) for n in ("\n", "\r\n") for e in ("utf-8", "utf-8-sig", "latin-1", "cp1252")] + [("\r", "utf-8")]
)
@pytest.mark.parametrize("end", ["", "\n", "  # the end"])
def test_every_other_byte_stays(tmp_path: Path, newline: str, encoding: str, end: str) -> None:
    declared = "" if encoding.startswith("utf") else f"# -*- coding: {encoding} -*-\n"
    text = (declared + HEAD + "name = 'Grüße'  # é\n" + ODD + "last = 'ü'" + end).replace("\n", newline)
    file = tmp_path / "net.py"
    file.write_bytes(text.encode(encoding))
    line = next(n for n, row in enumerate(lines_of(text), 1) if "<-" in row)
    done = change(finding_of("remove-activation", {"activation": "softmax"}, ("net.py", line)), run_of(tmp_path, file))
    assert done is not None
    assert done.new_source == text.replace("F.softmax(x, dim=1)", "x").encode(encoding), done.note
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the odd string
        compile(done.new_source, "net.py", "exec")


def test_lines_that_are_not_in_the_diff_are_untouched_and_patch_could_apply_it(tmp_path: Path) -> None:
    text = HEAD + "for x in d:\n    a = 1\n\n    l.backward()  # <-\n    opt.step()"
    done = made(tmp_path, text, "zero-before-backward")
    assert done.diff.startswith("--- train.py\n+++ train.py\n@@ ")
    added = [row for row in done.diff.splitlines()[2:] if row.startswith("+")]
    removed = [row for row in done.diff.splitlines()[2:] if row.startswith("-")]
    assert (added, removed) == (["+    opt.zero_grad()"], [])
    assert "\\ No newline at end of file" in done.diff
    rows = done.new_source.decode().split("\n")
    rows.remove("    opt.zero_grad()")
    assert "\n".join(rows) == text


def test_a_mixture_of_newlines_stays_a_mixture(tmp_path: Path) -> None:
    text = HEAD.replace("\n", "\r\n") + "for x in d:\n    l.backward()\r\n    opt.step()\n"
    done = made(tmp_path, text, "zero-before-backward", places=[5])
    assert done.new_source.decode() == text.replace("    l.back", "    opt.zero_grad()\r\n    l.back")


def test_a_file_that_cannot_be_read_exactly_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_bytes(b"x = '\xff'\n")
    done = change(finding_of("remove-activation", {}, ("train.py", 1)), run_of(tmp_path, file))
    assert done is not None and done.applicability == "display"
    assert "cannot be parsed" in done.note


# ---------------------------------------------------------------------- which files

SICK = HEAD + "def forward(x):\n    return F.softmax(x, dim=1)\n"


def asked(file: str = "train.py") -> Finding:
    return finding_of("remove-activation", {"activation": "softmax"}, (file, 5))


def test_a_file_that_changed_since_the_run_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_text(SICK)
    run = run_of(tmp_path, file)
    file.write_text(SICK + "# later\n")
    done = change(asked(), run)
    assert done is not None and done.stale and done.note == "train.py has changed since this run."


def test_a_file_that_changed_while_it_ran_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SICK)
    done = change(asked(), Run(script="train.py", directory=str(tmp_path), sources={"train.py": ""}))
    assert done is not None and done.stale and "while it ran" in done.note


def test_without_hashes_the_time_and_the_lines_decide(tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_text(SICK)
    run = Run(script="train.py", directory=str(tmp_path), started=time.time() + 5)
    finding = asked()
    finding.locations = [Site("train.py", 5, "return F.softmax(x, dim=1)")]
    done = change(finding, run)
    assert done is not None and done.applicability == "safe"
    finding.locations = [Site("train.py", 5, "return F.softmax(x, dim=0)")]
    done = change(finding, run)
    assert done is not None and done.stale
    run.started = time.time() - 100
    finding.locations = [Site("train.py", 5)]
    done = change(finding, run)
    assert done is not None and done.stale


@pytest.mark.parametrize("place", ["installed", "standard", "elsewhere", "read-only", "gone", "string"])
def test_files_that_are_not_the_users_to_change(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / ("lib/site-packages" if place == "installed" else "other" if place == "elsewhere" else "work")
    folder.mkdir(parents=True)
    file = folder / "train.py"
    file.write_text(SICK)
    run = run_of(tmp_path / "work" if place == "elsewhere" else tmp_path, file)
    run.script = "-m train"
    run.sources = {}
    name = str(file)
    if place == "read-only":
        file.chmod(0o444)
    if place == "gone":
        file.unlink()
    if place == "standard":
        name = str(Path(sysconfig.get_path("stdlib")) / "textwrap.py")
    if place == "string":
        name = "<string>"
    done = change(asked(name), run)
    assert done is not None and done.applicability == "display" and not done.diff
    words = {"installed": "installed package", "standard": "own library", "elsewhere": "outside", "read-only": "read-only",
             "gone": "not there any more", "string": "in no file"}  # fmt: skip
    assert words[place] in done.note


def test_a_finding_without_intervention_has_no_change(tmp_path: Path) -> None:
    finding = asked()
    finding.fix = Fix("Look at it.")
    assert change(finding, run_of(tmp_path)) is None
    finding.fix = Fix("", intervention=Intervention("placebo"))
    assert change(finding, run_of(tmp_path)) is None


# ---------------------------------------------------------------------- writing


def test_writing_keeps_the_mode_and_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_text(SICK)
    file.chmod(0o750)
    done = change(asked(), run_of(tmp_path, file))
    assert done is not None
    write(done)
    assert file.read_bytes() == done.new_source
    assert stat.S_IMODE(file.stat().st_mode) == 0o750
    assert os.listdir(tmp_path) == ["train.py"]


def test_a_link_stays_a_link_and_its_target_is_changed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real = tmp_path / "real" / "net.py"
    real.write_text(SICK)
    link = tmp_path / "train.py"
    link.symlink_to(real)
    done = change(asked(), run_of(tmp_path, link))
    assert done is not None
    write(done)
    assert link.is_symlink()
    assert "softmax" not in real.read_text()


def test_a_link_out_of_the_users_folders_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    (tmp_path / "away.py").write_text(SICK)
    (tmp_path / "work" / "train.py").symlink_to(tmp_path / "away.py")
    done = change(asked(), run_of(tmp_path / "work", tmp_path / "work" / "train.py"))
    assert done is not None and "outside" in done.note


def test_what_changed_in_between_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_text(SICK)
    done = change(asked(), run_of(tmp_path, file))
    assert done is not None
    file.write_text("# mine\n")
    with pytest.raises(UsageError, match="nothing was written"):
        write(done)
    assert file.read_text() == "# mine\n"


def test_a_write_that_fails_leaves_the_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "train.py"
    file.write_text(SICK)
    done = change(asked(), run_of(tmp_path, file))
    assert done is not None

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UsageError, match="No space left"):
        write(done)
    assert (file.read_text(), os.listdir(tmp_path)) == (SICK, ["train.py"])


def test_two_findings_change_one_file_one_after_another(tmp_path: Path) -> None:
    text = HEAD + "for x in d:\n    p = F.softmax(net(x), dim=1)\n    l = c(p)\n    l.backward()\n    opt.step()\n"
    file = tmp_path / "train.py"
    file.write_text(text)
    bench = Bench(run_of(tmp_path, file))
    loop = finding_of("zero-before-backward", {}, ("train.py", 7))
    first = bench.change(finding_of("call-step", {}, ("train.py", 7)))
    assert first is not None and "not reached" in first.note
    for finding in (loop, finding_of("remove-activation", {"activation": "softmax"}, ("train.py", 5)), finding_of("negate-loss", {}, ("train.py", 6))):
        done = bench.change(finding)
        assert done is not None and done.diff, done
        write(done)
        bench.keep(done)
    assert file.read_text() == text.replace("F.softmax(net(x), dim=1)", "net(x)").replace("= c(p)", "= -c(p)").replace(
        "    l.back", "    opt.zero_grad()\n    l.back"
    )
    again = bench.change(finding_of("remove-activation", {}, ("train.py", 5)))
    assert again is not None and "another fix has changed it" in again.note


def test_a_change_over_two_files_is_shown_not_made(tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_text(HEAD + "l = F.nll_loss(p, y)\n")
    arguments = {"loss": "cross_entropy", "from": "nll_loss", "activation": "softmax", "activation_file": "net.py", "activation_line": 3}
    done = change(finding_of("replace-loss", arguments, ("train.py", 4)), run_of(tmp_path, file))
    assert done is not None and "two files" in done.note


# ---------------------------------------------------------------------- in the diagnosis


def test_the_diagnosis_gets_diff_and_applicability(tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_text(SICK)
    note, cause, other = asked(), asked(), asked("nowhere.py")
    note.role = "note"
    diagnosis = Diagnosis(run_of(tmp_path, file), [Training(Symptom("at-chance"), [cause, other, note])])
    fill(diagnosis)
    assert cause.fix is not None and cause.fix.applicability == "safe"
    assert cause.fix.diff is not None and "-    return F.softmax(x, dim=1)\n+    return x\n" in cause.fix.diff
    assert other.fix is not None and (other.fix.applicability, other.fix.diff) == ("display", None)
    assert note.fix is not None and note.fix.diff is None
    assert difflib.SequenceMatcher(None, file.read_text(), SICK).ratio() == 1


def test_a_fault_of_ours_costs_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "train.py"
    file.write_text(SICK)
    cause = asked()
    monkeypatch.setitem(EDITS, "remove-activation", lambda *_: 1 / 0)
    fill(Diagnosis(run_of(tmp_path, file), [Training(Symptom("at-chance"), [cause])]))
    assert cause.fix is not None and cause.fix.diff is None


def test_positions_count_characters_not_bytes() -> None:
    source = Source("x = 'äöü'; y = f(a)\n".encode())
    call = source.calls(1)[0]
    assert source.of(call) == "f(a)"
