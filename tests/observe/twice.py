"""Small trainings, run plainly and observed: what is left behind in either case, number for number.

`python twice.py FOLDER [NAME ...]` runs each script of SCRIPTS twice, each time in a forked process, and writes
FOLDER/results.json. A script's own globals are looked at when it has ended and the observer has finished.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sys
import textwrap
import traceback
import types
from pathlib import Path
from typing import Any

BEGIN = """
import random
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F
torch.manual_seed(0); np.random.seed(0); random.seed(0)
X, Y = torch.randn(96, 10), torch.randint(0, 3, (96,))
STEPS = 52

def train(model, opt, steps=STEPS, forward=None):
    for step in range(steps):
        rows = torch.randint(0, 96, (16,))
        opt.zero_grad()
        loss = F.cross_entropy((forward or model)(X[rows]), Y[rows])
        loss.backward()
        opt.step()
        if step % 10 == 0:
            print(step, loss.item(), torch.rand(1).item(), np.random.rand(), random.random())
"""

# name -> the script after BEGIN
SCRIPTS = {
    "dropout, Adam": """
        model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
        opt = torch.optim.Adam(model.parameters(), lr=1e-2)
        train(model, opt)
    """,
    "batch norm, momentum": """
        model = nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
        opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.StepLR(opt, 10)
        for _ in range(3):
            train(model, opt, 20)
            scheduler.step()
        model.eval()
        print(model(X).sum().item())
    """,
    "batch norm without averages, steps too long": """
        model = nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16, momentum=None), nn.ReLU(), nn.Linear(16, 3))
        opt = torch.optim.SGD(model.parameters(), lr=30.0)
        train(model, opt)
    """,
    "workers that augment": """
        class Data(torch.utils.data.Dataset):
            def __len__(self): return 48
            def __getitem__(self, i):
                return X[i] + 0.1 * torch.randn(10) + float(np.random.rand()) + random.random(), Y[i]
        model = nn.Sequential(nn.Linear(10, 16), nn.Dropout(0.2), nn.ReLU(), nn.Linear(16, 3))
        opt = torch.optim.Adam(model.parameters())
        loader = torch.utils.data.DataLoader(Data(), batch_size=8, shuffle=True, num_workers=1)
        for epoch in range(2):
            for x, y in loader:
                opt.zero_grad()
                loss = F.cross_entropy(model(x), y)
                loss.backward()
                opt.step()
                print(loss.item(), x.sum().item(), np.random.rand())
    """,
    "numpy and random inside forward": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Linear(10, 16), nn.Linear(16, 3)
            def forward(self, x):
                x = x + np.random.normal() * 0.1 + random.gauss(0, 0.1)
                return self.b(torch.relu(self.a(x)) * torch.from_numpy(np.random.rand(16)).float())
        model = Net()
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        train(model, opt)
    """,
    "global generators inside forward": """
        of_numpy, of_torch, of_python = np.random.default_rng(1), torch.Generator(), random.Random(3)
        old = np.random.RandomState(4)
        of_torch.manual_seed(2)
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Linear(10, 16), nn.Linear(16, 3)
            def forward(self, x):
                keep = torch.rand(16, generator=of_torch) < 0.7
                x = x + of_numpy.normal() + of_python.random() + old.rand()
                return self.b(torch.relu(self.a(x)) * keep)
        model = Net()
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        train(model, opt)
        print(of_numpy.random(), of_python.random(), old.rand(), torch.rand(1, generator=of_torch))
    """,
    "a counter, a list, a dict and a set": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b, self.calls, self.seen = nn.Linear(10, 16), nn.Linear(16, 3), 0, []
                self.by_size, self.kinds, self.average = {}, set(), torch.zeros(16)
            def forward(self, x):
                self.calls += 1
                h = torch.relu(self.a(x))
                self.seen.append(float(h.detach().mean()))
                self.by_size[len(self.seen)] = x.shape
                self.kinds.add(round(float(x[0, 0]), 3))
                self.average.mul_(0.9).add_(0.1 * h.detach().mean(0))
                return self.b(h) * (1 + 0.01 * self.calls)
        model = Net()
        opt = torch.optim.Adam(model.parameters())
        train(model, opt)
        print(model.calls, len(model.seen), model.average.sum().item())
    """,
    "prints in forward": """
        import sys
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Linear(10, 16), nn.Linear(16, 3)
            def forward(self, x):
                print("forward", x.shape, x.sum().item())
                print("to stderr", x.mean().item(), file=sys.stderr)
                return self.b(torch.relu(self.a(x)))
        model = Net()
        opt = torch.optim.Adam(model.parameters())
        train(model, opt)
    """,
    "forward hooks that append": """
        noted, before = [], []
        model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))
        for layer in model:
            layer.register_forward_hook(lambda m, args, out: noted.append(float(out.detach().mean())))
            layer.register_forward_pre_hook(lambda m, args: before.append(float(args[0].detach().mean())))
        backward = []
        model[3].register_full_backward_hook(lambda m, into, out: backward.append(float(out[0].mean())))
        model[3].weight.register_hook(lambda g: backward.append(float(g.sum())))
        opt = torch.optim.Adam(model.parameters())
        train(model, opt)
        print(len(noted), len(before), len(backward))
    """,
    "a forward hook that changes the output": """
        count = [0]
        def scale(module, args, out):
            count[0] += 1
            return out * (1 + 0.1 * torch.randn(()))
        model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3))
        model[0].register_forward_hook(scale)
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        train(model, opt)
    """,
    "spectral norm, old": """
        model = nn.Sequential(nn.utils.spectral_norm(nn.Linear(10, 16)), nn.ReLU(), nn.utils.spectral_norm(nn.Linear(16, 3)))
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        train(model, opt)
    """,
    "spectral norm and weight norm, parametrized": """
        norms = nn.utils.parametrizations
        model = nn.Sequential(norms.spectral_norm(nn.Linear(10, 16)), nn.ReLU(), norms.weight_norm(nn.Linear(16, 3)))
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        train(model, opt)
    """,
    "an LSTM that keeps its state": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.lstm, self.head, self.state = nn.LSTM(5, 12, 2, batch_first=True, dropout=0.2), nn.Linear(12, 3), None
            def forward(self, x):
                out, state = self.lstm(x.view(16, 2, 5), self.state)
                self.state = tuple(s.detach() for s in state)
                return self.head(out[:, -1])
        model = Net()
        opt = torch.optim.Adam(model.parameters(), lr=1e-2)
        train(model, opt)
        print(model.state[0].sum().item())
    """,
    "weight tying": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.table, self.mix, self.head = nn.Embedding(20, 16), nn.Linear(16, 16), nn.Linear(16, 20, bias=False)
                self.head.weight = self.table.weight
            def forward(self, ids):
                return self.head(torch.tanh(self.mix(self.table(ids))))
        model = Net()
        opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)
        for step in range(STEPS):
            ids = torch.randint(0, 20, (4, 9))
            opt.zero_grad()
            loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
            loss.backward()
            opt.step()
            print(loss.item())
    """,
    "accumulated gradients, clipped": """
        model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))
        opt = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for step in range(120):
            rows = torch.randint(0, 96, (8,))
            loss = F.cross_entropy(model(X[rows]), Y[rows]) / 4
            loss.backward()
            if step % 4 == 3:
                norm = nn.utils.clip_grad_norm_(model.parameters(), 0.1)
                opt.step()
                opt.zero_grad()
                print(norm.item(), loss.item())
    """,
    "clipped by a generator of parameters": """
        model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3))
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(STEPS):
            rows = torch.randint(0, 96, (8,))
            opt.zero_grad()
            loss = F.cross_entropy(model(X[rows]), Y[rows])
            loss.backward()
            nn.utils.clip_grad_value_((p for p in model.parameters()), 0.01)
            opt.step()
    """,
    "LBFGS with a closure": """
        model = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 3))
        opt = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
        for step in range(12):
            def closure():
                opt.zero_grad()
                loss = F.cross_entropy(model(X), Y)
                loss.backward()
                return loss
            print(opt.step(closure).item())
    """,
    "updates by hand": """
        model = nn.Sequential(nn.Linear(10, 16), nn.Dropout(0.2), nn.ReLU(), nn.Linear(16, 3))
        for step in range(STEPS):
            rows = torch.randint(0, 96, (16,))
            loss = F.cross_entropy(model(X[rows]), Y[rows])
            model.zero_grad()
            loss.backward()
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.1 * p.grad
            if step % 10 == 0: print(loss.item())
    """,
    "raw tensors": """
        w1, b1 = (torch.randn(10, 16) / 3).requires_grad_(), torch.zeros(16, requires_grad=True)
        w2, b2 = (torch.randn(16, 3) / 4).requires_grad_(), torch.zeros(3, requires_grad=True)
        weights = [w1, b1, w2, b2]
        for step in range(STEPS):
            rows = torch.randint(0, 96, (16,))
            h = F.dropout(torch.relu(X[rows] @ w1 + b1), 0.2, training=True)
            loss = F.cross_entropy(h @ w2 + b2, Y[rows])
            loss.backward()
            with torch.no_grad():
                for w in weights:
                    w -= 0.1 * w.grad
                    w.grad = None
            if step % 10 == 0: print(loss.item())
    """,
    "new tensors at each step": """
        w, b = (torch.randn(10, 3) / 3).requires_grad_(), torch.zeros(3, requires_grad=True)
        for step in range(STEPS):
            rows = torch.randint(0, 96, (16,))
            loss = F.cross_entropy(X[rows] @ w + b, Y[rows])
            gw, gb = torch.autograd.grad(loss, [w, b])
            w, b = (w - 0.1 * gw).detach().requires_grad_(), (b - 0.1 * gb).detach().requires_grad_()
        print(loss.item())
    """,
    "a function of one's own, outside of a module": """
        class Square(torch.autograd.Function):
            calls = 0
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x * x
            @staticmethod
            def backward(ctx, g):
                return -2 * ctx.saved_tensors[0] * g
        w = (torch.randn(10, 3) / 3).requires_grad_()
        opt = torch.optim.SGD([w], lr=0.01)
        train(None, opt, forward=lambda x: F.dropout(Square.apply(x @ w), 0.2))
    """,
    "F.dropout in forward": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Linear(10, 16), nn.Linear(16, 3)
            def forward(self, x):
                return self.b(F.dropout(torch.relu(self.a(x)), 0.4, training=self.training))
        model = Net()
        opt = torch.optim.Adam(model.parameters())
        train(model, opt)
    """,
    "autocast": """
        model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
        opt = torch.optim.Adam(model.parameters(), lr=1e-2)
        for step in range(STEPS):
            rows = torch.randint(0, 96, (16,))
            opt.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.cross_entropy(model(X[rows]), Y[rows])
            loss.backward()
            opt.step()
            if step % 10 == 0: print(loss.item())
    """,
    "bfloat16 weights": """
        model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3)).bfloat16()
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        train(model, opt, forward=lambda x: model(x.bfloat16()))
    """,
    "a forward that assigns a global": """
        calls = 0
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a = nn.Linear(10, 3)
            def forward(self, x):
                global calls
                calls += 1
                return self.a(x)
        model = Net()
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        train(model, opt)
        print(calls)
    """,
    "modes by layer": """
        model = nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
        model[1].eval()
        opt = torch.optim.Adam(model.parameters(), lr=1e-2)
        train(model, opt)
        model.eval()
        with torch.no_grad(): print(model(X).sum().item())
        model.train()
        train(model, opt)
    """,
    "attention with dropout, learns nothing": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.up = nn.Linear(2, 16)
                self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, 0.1, batch_first=True), 2)
                self.head = nn.Linear(16, 3)
            def forward(self, x):
                return self.head(self.body(self.up(x.view(16, 5, 2))).mean(1))
        model = Net()
        opt = torch.optim.Adam(model.parameters(), lr=1e-3)
        train(model, opt)
    """,
    "convolutions, in-place ReLU": """
        model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(32, 3))
        opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        train(model, opt, forward=lambda x: model(x.unsqueeze(1)))
    """,
    "two losses and two models": """
        body, head, other = nn.Linear(10, 16), nn.Linear(16, 3), nn.Linear(16, 10)
        opt = torch.optim.Adam([*body.parameters(), *head.parameters(), *other.parameters()], lr=1e-2)
        for step in range(STEPS):
            rows = torch.randint(0, 96, (16,))
            opt.zero_grad()
            h = torch.tanh(body(X[rows]))
            loss = F.cross_entropy(head(h), Y[rows]) + 0.1 * F.mse_loss(other(h), X[rows])
            loss.backward()
            opt.step()
        print(loss.item())
    """,
    "many short steps": """
        model = nn.Sequential(nn.Linear(10, 4), nn.Dropout(0.2), nn.ReLU(), nn.Linear(4, 3))
        opt = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        train(model, opt, 320)
    """,
    "logits written into a tensor of one's own": """
        model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3))
        opt = torch.optim.SGD(model.parameters(), lr=0.5)
        for step in range(STEPS):
            rows = torch.randint(0, 96, (16,))
            opt.zero_grad()
            out = torch.zeros(16, 3)
            out[:8] = model(X[rows[:8]])
            out[8:] = model(X[rows[8:]])
            loss = F.cross_entropy(out, Y[rows])
            loss.backward()
            opt.step()
            print(loss.item(), out.sum().item())
    """,
    "logits added up in place": """
        model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3))
        opt = torch.optim.SGD(model.parameters(), lr=0.5)
        for step in range(STEPS):
            rows = torch.randint(0, 96, (16,))
            opt.zero_grad()
            out = torch.zeros(16, 3)
            for shift in range(3):
                out += model(X[rows] + shift)
            loss = F.cross_entropy(out, Y[rows])
            loss.backward()
            opt.step()
            print(loss.item(), out.sum().item())
    """,
    "SAM": """
        model = nn.Sequential(nn.Linear(10, 16), nn.Dropout(0.2), nn.Tanh(), nn.Linear(16, 3))
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(STEPS):
            rows = torch.randint(0, 96, (16,))
            opt.zero_grad()
            F.cross_entropy(model(X[rows]), Y[rows]).backward()
            with torch.no_grad():
                moves = [0.05 * p.grad for p in model.parameters()]
                for p, d in zip(model.parameters(), moves): p.add_(d)
            opt.zero_grad()
            F.cross_entropy(model(X[rows]), Y[rows]).backward()
            with torch.no_grad():
                for p, d in zip(model.parameters(), moves): p.sub_(d)
            opt.step()
    """,
    "a teacher, an average of the weights, a retained graph": """
        import copy
        model = nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 3))
        average = torch.optim.swa_utils.AveragedModel(model)
        teacher = copy.deepcopy(model)
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(STEPS):
            rows = torch.randint(0, 96, (16,))
            with torch.no_grad(): soft = teacher(X[rows]).softmax(1)
            out = model(X[rows])
            opt.zero_grad()
            F.cross_entropy(out, Y[rows]).backward(retain_graph=step % 2 == 0)
            if step % 2 == 0: F.kl_div(out.log_softmax(1), soft, reduction="batchmean").backward()
            opt.step()
            average.update_parameters(model)
    """,
    "functional_call": """
        model = nn.Sequential(nn.Linear(10, 16), nn.Dropout(0.2), nn.Tanh(), nn.Linear(16, 3))
        weights = {n: p.detach().clone().requires_grad_() for n, p in model.named_parameters()}
        opt = torch.optim.SGD(weights.values(), lr=0.1)
        train(model, opt, forward=lambda x: torch.func.functional_call(model, weights, (x,)))
    """,
    "a checkpoint with dropout": """
        from torch.utils.checkpoint import checkpoint
        a, b = nn.Sequential(nn.Linear(10, 16), nn.Dropout(0.3), nn.ReLU()), nn.Linear(16, 3)
        opt = torch.optim.SGD([*a.parameters(), *b.parameters()], lr=0.1)
        train(None, opt, forward=lambda x: b(checkpoint(a, x, use_reentrant=False)))
    """,
    "a buffer that is filled again for each batch": """
        buffer, labels = torch.zeros(16, 10), torch.zeros(16, dtype=torch.long)
        model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3))
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(STEPS):
            rows = torch.randint(0, 96, (16,))
            buffer.copy_(X[rows]); labels.copy_(Y[rows])
            opt.zero_grad()
            F.cross_entropy(model(buffer), labels).backward()
            buffer.zero_()
            opt.step()
    """,
    "warnings": """
        import warnings
        warnings.simplefilter("always")
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a = nn.Linear(10, 3)
            def forward(self, x):
                warnings.warn("each time")
                return self.a(x)
        model = Net()
        train(model, torch.optim.SGD(model.parameters(), lr=0.1))
    """,
}


# ---------------------------------------------------------------------- what is left behind


def fingerprint(module: types.ModuleType) -> dict[str, Any]:
    """Path -> number or hash, for everything that can be reached from the globals of a script."""
    import numpy
    import torch

    found: dict[str, Any] = {}
    seen: dict[int, str] = {}
    alive = []  # or a number of one that is gone could be another's

    def walk(path: str, value: Any, depth: int) -> None:
        if value is None or isinstance(value, (bool, int, float, str, bytes)):
            found[path] = repr(value)
            return
        if id(value) in seen or depth > 12:
            found[path] = f"as {seen.get(id(value))}"
            return
        if isinstance(value, (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type)):
            return
        seen[id(value)] = path
        alive.append(value)
        if isinstance(value, torch.Tensor):
            found[path] = f"{value.dtype} {tuple(value.shape)} {value.requires_grad} {number(value)}"
            if value.is_leaf:
                found[f"{path}.grad"] = None if value.grad is None else number(value.grad)
        elif isinstance(value, torch.Generator):
            found[path] = number(value.get_state())
        elif isinstance(value, random.Random):
            found[path] = hash(value.getstate())
        elif isinstance(value, numpy.random.Generator):
            found[path] = repr(value.bit_generator.state)
        elif isinstance(value, numpy.random.RandomState):
            found[path] = digest(repr(value.get_state()[2:]).encode() + value.get_state()[1].tobytes())
        elif isinstance(value, numpy.ndarray):
            found[path] = digest(value.tobytes())
        elif isinstance(value, dict):
            for key, item in value.items():
                walk(f"{path}[{key!r}]" if isinstance(key, (str, int)) else f"{path}[{len(found)}]", item, depth + 1)
        elif isinstance(value, (list, tuple)):
            found[f"{path} length"] = len(value)
            for i, item in enumerate(value):
                walk(f"{path}[{i}]", item, depth + 1)
        elif isinstance(value, (set, frozenset)):
            found[path] = repr(sorted(map(repr, value)))
        elif isinstance(value, torch.optim.Optimizer):
            walk(f"{path}.state", [list(value.state[p].items()) for g in value.param_groups for p in g["params"]], depth + 1)
            walk(f"{path}.groups", [{k: v for k, v in g.items() if k != "params"} for g in value.param_groups], depth + 1)
        elif hasattr(value, "__dict__") and not type(value).__module__.startswith(("unstuck", "typing")):
            for name, item in vars(value).items():
                if name.endswith("_hooks") and isinstance(item, dict):  # their keys count all hooks of the process
                    found[f"{path}.{name}"] = len(item)
                    continue
                walk(f"{path}.{name}", item, depth + 1)

    def number(tensor: Any) -> str:
        plain = tensor.detach().contiguous()
        return digest(plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")

    def digest(data: bytes) -> str:
        return hashlib.sha1(data).hexdigest()[:12]

    for name, value in list(vars(module).items()):
        if not name.startswith("__"):
            walk(name, value, 0)
    walk("numpy", numpy.random.mtrand._rand, 0)
    found["torch"] = digest(torch.get_rng_state().numpy().tobytes())
    found["random"] = digest(repr(random.getstate()).encode())
    found["grad mode"], found["autocast"] = torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
    found["modes on the stack"] = torch._C._len_torch_function_stack()
    found["stdout"] = sys.stdout is sys.__stdout__
    return found


def run(name: str, folder: Path, observed: bool) -> dict[str, Any]:
    """One script in this process: what it leaves behind, and what the observer saw."""
    from unstuck.observe.launch import Target, observe

    target = Target("script", str(folder / "script.py"), [])
    result: dict[str, Any] = {}
    if observed:
        from unstuck.trace.storage import read_run

        seen = observe(target, folder / "trace", suspicious=lambda training: True)
        facts = [t.facts for t in read_run(folder / "trace").traces]
        result = {
            "exit": seen.run.exit, "own errors": seen.run.own_errors, "trainings": len(facts),
            "probes": sum(len(f.probes) for f in facts), "checks": sum(len(f.gradient_checks) for f in facts),
            "unfaithful": sum(p.again != p.before for f in facts for p in f.probes),
            "absent": [f.absent for f in facts],
        }  # fmt: skip
        module = sys.modules["__unstuck_script__"]
    else:
        target.execute()
        module = sys.modules["__main__"]
    sys.stdout.flush()
    return {"left": fingerprint(module), **result}


def main(folder: Path, names: list[str]) -> None:
    import torch

    import unstuck.observe.torch_loop
    import unstuck.trace.storage  # noqa: F401

    # An optimizer's first step loads half of torch: once here, not in each child. No backward: its engine is not for forks.
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    torch.optim.Adam([weight]).step()
    results: dict[str, Any] = {}
    for number, name in enumerate(names or SCRIPTS):
        for way in ("plain", "observed"):
            here = folder / str(number)  # the same for both: lines of the script are printed with their path
            shutil.rmtree(here, ignore_errors=True)
            here.mkdir()
            (here / "script.py").write_text(BEGIN + textwrap.dedent(SCRIPTS[name]))
            child = os.fork()
            if not child:
                code = 0
                try:
                    os.chdir(here)
                    for stream, file in ((1, "out.txt"), (2, "err.txt")):
                        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), stream)
                    result = run(name, Path("."), way == "observed")
                    Path("result.json").write_text(json.dumps(result))
                except BaseException:
                    traceback.print_exc()
                    code = 1
                finally:
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(code)
            os.waitpid(child, 0)
            file = here / "result.json"
            results.setdefault(name, {})[way] = {
                **(json.loads(file.read_text()) if file.exists() else {"left": {}}),
                "out": (here / "out.txt").read_text(), "err": (here / "err.txt").read_text(),
            }  # fmt: skip
    (folder / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
