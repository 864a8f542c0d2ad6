"""Each intervention against the same small script written correctly: same numbers where the mathematics allows it."""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unstuck.experiments.interventions import NotPossible, apply
from unstuck.experiments.kinds import SUPPORTED
from unstuck.findings import Intervention

HEAD = """
import torch, torch.nn.functional as F
from torch import nn
from torch.nn.functional import cross_entropy, softmax
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(3)
N, D, K = 240, 8, 4
CENTRES = 2 * torch.randn(K, D)
Y = torch.randint(K, (N,))
X = CENTRES[Y] + torch.randn(N, D)
B = (Y % 2).float()
def batches(size=40, epochs=10):
    for e in range(epochs):
        for rows in torch.randperm(N).split(size):
            yield rows
"""
LOOP = """
opt = torch.optim.{opt}
for rows in batches():
    loss = {loss}
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(float(loss))
WEIGHTS = [p.detach() for p in model.parameters()]
"""


class Trained(NamedTuple):
    losses: list[float]  # of each root of a backward
    weights: list[Any]
    printed: str
    count: int
    reason: str


def train(source: str, kind: str = "", marked: bool = False, **arguments: Any) -> Trained:
    """Run HEAD + source under an intervention; `marked` gives it the line that ends with `# <-`."""
    source = HEAD + source
    file = os.path.abspath("script_under_test.py")
    if marked:
        line = next(n for n, text in enumerate(source.splitlines(), 1) if text.endswith("# <-"))
        arguments |= {"file": "script_under_test.py", "line": line}
    losses: list[float] = []
    main, printed, reason = types.ModuleType("__main__"), io.StringIO(), ""
    before = sys.modules["__main__"]
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    with apply(Intervention(kind, arguments) if kind else None) as applied:
        original = torch.autograd.backward

        def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            root = tensors[0] if isinstance(tensors, (tuple, list)) else tensors
            losses.append(float(root.detach()))
            return original(tensors, *args, **kwargs)

        torch.autograd.backward = backward
        try:
            sys.modules["__main__"] = main
            with contextlib.redirect_stdout(printed):
                exec(compile(source, file, "exec"), main.__dict__)
        except NotPossible as stop:
            reason = stop.reason
        finally:
            torch.autograd.backward = original
            sys.modules["__main__"] = before
    assert not reason or reason == applied.reason
    return Trained(losses, main.__dict__.get("WEIGHTS", []), printed.getvalue(), applied.count, applied.reason)


def same(a: Trained, b: Trained) -> None:
    """To the last bit."""
    assert a.losses and a.losses == b.losses
    assert len(a.weights) == len(b.weights)
    assert all(torch.equal(x, y) for x, y in zip(a.weights, b.weights))


def loop(loss: str, opt: str = "SGD(model.parameters(), lr=0.1)") -> str:
    return LOOP.format(loss=loss, opt=opt)


def falls(run: Trained, below: float) -> None:
    assert run.count > 0 and not run.reason
    assert np.mean(run.losses[-5:]) < below


@pytest.fixture(autouse=True)
def _everything_is_restored() -> Any:
    watched = {
        (owner, name): value
        for owner in (torch, torch.Tensor, F, nn.Module, nn.Sequential, torch.optim.Optimizer, torch.optim.SGD, torch.autograd,
                      torch.utils.data.DataLoader, torch.nn.utils, nn.LSTM, nn.modules.batchnorm._BatchNorm, torch.autocast)
        for name, value in vars(owner).items() if callable(value)
    }  # fmt: skip
    own = set(vars(torch.Tensor))
    yield
    changed = [name for (owner, name), value in watched.items() if vars(owner).get(name) is not value]
    # torch itself wraps some: the step of a class when its first object is made, manual_seed when dynamo is imported
    assert not set(changed) - {"step", "manual_seed"}
    assert set(vars(torch.Tensor)) == own
    assert "TORCHDYNAMO_DISABLE" not in os.environ


# ---------------------------------------------------------------------------------------------------- in general

PLAIN = "model = nn.Sequential(nn.Linear(D, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, K))\n" + loop(
    "cross_entropy(model(X[rows]), Y[rows])", "Adam(model.parameters(), lr=0.01)"
)


def test_the_kinds_are_those_that_have_code() -> None:
    from unstuck.experiments import interventions_data, interventions_loop, interventions_loss, interventions_model

    modules = (interventions_loss, interventions_loop, interventions_model, interventions_data)
    names = [k for m in modules for k in m.KINDS]
    assert set(names) == SUPPORTED - {"together"}  # which is made of the others
    assert len(names) == len(set(names))


def test_an_unknown_kind_and_a_missing_argument_are_refused() -> None:
    with pytest.raises(NotPossible, match="no experiment is known"), apply(Intervention("reattach")):
        pass
    with pytest.raises(NotPossible, match="needs the argument 'factor'"), apply(Intervention("scale-learning-rate")):
        pass


def test_placebo_changes_nothing_and_runs_every_hook() -> None:
    control, placebo = train(PLAIN), train(PLAIN, "placebo")
    same(placebo, control)
    assert placebo.printed == control.printed
    assert placebo.count == 2 * len(control.losses)  # loss call and step


# ---------------------------------------------------------------------------------------------------- activations

CLASSIFIERS = {
    "function": ("z = F.softmax(z, dim=1)  # <-", "z = z"),
    "imported name": ("z = softmax(z, dim=1)  # <-", "z = z"),
    "torch function": ("z = torch.softmax(z, 1)  # <-", "z = z"),
    "method": ("z = z.softmax(-1)  # <-", "z = z"),
    "module attribute": ("z = self.act(z)  # <-", "z = z"),
    "then moved": ("z = F.softmax(z, dim=1)  # <-", "z = z"),
}
NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(2, 8), nn.Linear(2, 8), nn.Linear(2, 8)
        self.out = nn.Linear(8, K)
        self.act = nn.Softmax(dim=1)
        self.attention = nn.Softmax(dim=-1)
    def forward(self, x):
        x = x.view(len(x), D // 2, 2)
        w = F.softmax(self.q(x) @ self.k(x).transpose(1, 2), dim=-1)
        w = 0.5 * w + 0.5 * self.attention(self.q(x) @ self.q(x).transpose(1, 2))
        z = self.out((w @ self.v(x)).mean(1))
        {last}
        return z{moved}
model = Net()
"""
METRIC = "\nprint((softmax(model(X), dim=1).amax(1) > 0.9).float().mean())\n"


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("how", CLASSIFIERS)
def test_a_softmax_is_removed_and_those_elsewhere_stay(how: str, known: bool) -> None:
    moved = ".unsqueeze(1).transpose(1, 2).reshape(len(x), K, 1).permute(0, 2, 1)[:, 0].float()" if how == "then moved" else ""
    body = loop("cross_entropy(model(X[rows]), Y[rows])") + METRIC
    sick = NET.format(last=CLASSIFIERS[how][0], moved=moved) + body
    right = NET.format(last=CLASSIFIERS[how][1], moved=moved) + body
    fixed = train(sick, "remove-activation", marked=known, activation="softmax")
    same(fixed, train(right))
    assert train(sick).losses != fixed.losses
    if known:  # without the line the model's own output stays, and only the loss gets what stood before it
        assert fixed.printed == train(right).printed


def test_a_softmax_module_in_a_sequential_is_found_by_the_line_that_made_or_ran_it() -> None:
    sick = "model = nn.Sequential(\n    nn.Linear(D, K),\n    nn.Softmax(dim=1),{}\n)\n"
    body = loop("cross_entropy(model(X[rows]), Y[rows]){}")
    right = train("model = nn.Sequential(nn.Linear(D, K))\n" + body.format(""))
    same(train(sick.format("  # <-") + body.format(""), "remove-activation", True, activation="softmax"), right)
    same(train(sick.format("") + body.format("  # <-"), "remove-activation", True, activation="softmax"), right)


def test_attention_of_torch_run_from_the_same_line_keeps_its_softmax() -> None:
    model = "model = nn.Sequential(nn.Linear(D, 8), nn.TransformerEncoderLayer(8, 2, 16, 0.0), nn.Linear(8, K){})\n"
    body = loop("cross_entropy(model(X[rows]), Y[rows])  # <-")
    fixed = train(model.format(", nn.Softmax(1)") + body, "remove-activation", True, activation="softmax")
    same(fixed, train(model.format("") + body))


def test_call_names_the_last_of_several_activations_of_one_line() -> None:
    model = "def act(z):\n    return torch.tanh(z)  # <-\nl1, l2 = nn.Linear(D, 8), nn.Linear(8, K)\n"
    model += "model = nn.ModuleList([l1, l2])\n"
    sick = model + loop("cross_entropy(act(l2(act(l1(X[rows])))), Y[rows])")
    right = model + loop("cross_entropy(l2(act(l1(X[rows]))), Y[rows])")
    same(train(sick, "remove-activation", True, activation="tanh", call=2), train(right))


def test_where_only_the_inverse_is_left_the_logits_agree_for_a_hundred_steps() -> None:
    body = "LAYER = nn.Linear(D, K)\nmodel = LAYER\ndef batches():\n    return torch.randperm(N).repeat(100, 1)[:, :60]\n"
    hand = "(lambda e: e / e.sum(1, keepdim=True))(LAYER(X[rows]).exp())"
    fixed = train(body + loop(f"cross_entropy({hand}, Y[rows])"), "remove-activation", activation="softmax")
    right = train(body + loop("cross_entropy(model(X[rows]), Y[rows])"))
    assert fixed.count == 100
    assert np.abs(np.subtract(fixed.losses, right.losses)).max() < 1e-5
    fixed = train(body + loop("F.binary_cross_entropy_with_logits(1 / (1 + torch.exp(-LAYER(X[rows])[:, 0])), B[rows])"),
                  "remove-activation", activation="sigmoid")  # fmt: skip
    right = train(body + loop("F.binary_cross_entropy_with_logits(model(X[rows])[:, 0], B[rows])"))
    assert np.abs(np.subtract(fixed.losses, right.losses)).max() < 1e-5


@pytest.mark.parametrize(("activation", "call"), [("sigmoid", "z.sigmoid()"), ("relu", "F.relu(z)"), ("tanh", "z.tanh_()"),
                                                  ("relu", "nn.ReLU(inplace=True)(z)"),
                                                  ("log_softmax", "z.log_softmax(1)")])  # fmt: skip
def test_other_activations(activation: str, call: str) -> None:
    sick = f"model = nn.Linear(D, K)\ndef net(x):\n    z = model(x)\n    return {call}  # <-\n"
    body = loop("nn.CrossEntropyLoss()(net(X[rows]), target=Y[rows])")
    same(
        train(sick + body, "remove-activation", True, activation=activation),
        train(sick.replace(call, "z").replace("# <-", "") + body),
    )


def test_an_activation_that_is_not_there_is_said_to_be_missing() -> None:
    run = train(PLAIN, "remove-activation", activation="sigmoid")
    assert "no sigmoid" in run.reason and run.count == 0


LINEAR = "model = nn.Sequential(nn.Linear(D, 16), nn.Tanh(), nn.Linear(16, K))\n"


def test_insert_activation() -> None:
    sick = LINEAR + loop("nn.NLLLoss()(model(X[rows]), Y[rows])")
    same(
        train(sick, "insert-activation", activation="log_softmax", dim=1),
        train(LINEAR + loop("cross_entropy(model(X[rows]), Y[rows])")),
    )
    sick = LINEAR + loop("nn.BCELoss()(model(X[rows]).clamp(0, 1)[:, 0], B[rows])")
    right = LINEAR + loop("F.binary_cross_entropy(torch.sigmoid(model(X[rows]).clamp(0, 1)[:, 0]), B[rows])")
    same(train(sick, "insert-activation", activation="sigmoid"), train(right))


@pytest.mark.parametrize("made", ["F.softmax(z, dim=0)", "torch.log_softmax(z, 0).exp()", "z.softmax(dim=0)", "nn.Softmax(0)(z)"])
def test_change_dim(made: str) -> None:
    source = "model = nn.Linear(D, K)\ndef net(x):\n    z = model(x)\n    return {}  # <-\n"
    body = loop("F.nll_loss((net(X[rows]) + 1e-8).log(), Y[rows])")
    right = made.replace("dim=0", "dim=1").replace("(0)", "(1)").replace(", 0)", ", 1)")
    same(train(source.format(made) + body, "change-dim", True, dim=1), train(source.format(right) + body))


# ---------------------------------------------------------------------------------------------------- the loss

HEADS = {"softmax": "torch.softmax({}, 1)", "sigmoid": "{}.sigmoid()", "linear": "{}"}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    "loss", ["F.mse_loss({}, F.one_hot(Y[rows], K).float())", "nn.MSELoss()(target=F.one_hot(Y[rows], K).float(), input={})"]
)
def test_cross_entropy_instead_of_mse_on_one_hot(head: str, loss: str) -> None:
    sick = LINEAR + loop(loss.format(HEADS[head].format("model(X[rows])")))
    right = LINEAR + loop("cross_entropy(model(X[rows]), Y[rows])")
    same(train(sick, "replace-loss", loss="cross_entropy", **{"from": "mse_loss"}), train(right))


@pytest.mark.parametrize("loss", [
    "F.nll_loss(model(X[rows]), Y[rows])",
    "F.nll_loss(model(X[rows]).softmax(1), Y[rows])",
    "nn.NLLLoss()(nn.Softmax(1)(model(X[rows])), Y[rows])",
    "F.l1_loss(softmax(model(X[rows]), 1), F.one_hot(Y[rows], K).float())",
    "nn.BCELoss()(softmax(model(X[rows]), 1), F.one_hot(Y[rows], K).float())",
    "F.binary_cross_entropy_with_logits(model(X[rows]), F.one_hot(Y[rows], K).float())",
    "nn.MSELoss()(model(X[rows]), Y[rows].float().unsqueeze(1))",
    "F.smooth_l1_loss(model(X[rows]).view(-1, K, 1).squeeze(2), Y[rows].float()[:, None])",
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_cross_entropy_instead_of_other_losses(loss: str) -> None:
    right = LINEAR + loop("cross_entropy(model(X[rows]), Y[rows])")
    same(train(LINEAR + loop(loss), "replace-loss", loss="cross_entropy"), train(right))


def test_the_binary_loss_on_the_logits() -> None:
    model = "model = nn.Linear(D, 1)\n"
    right = train(model + loop("F.binary_cross_entropy_with_logits(model(X[rows]).squeeze(1), B[rows])"))
    sick = model + loop("F.mse_loss(model(X[rows]).sigmoid().squeeze(1), B[rows])")
    same(train(sick, "replace-loss", loss="bce_with_logits", **{"from": "mse_loss"}), right)
    same(train(sick, "replace-loss", loss="cross_entropy"), right)  # one unit, two classes: the binary loss is meant


def test_a_model_without_one_output_per_class_cannot_get_a_cross_entropy() -> None:
    run = train(
        "model = nn.Linear(D, 1)\n" + loop("F.mse_loss(model(X[rows]).squeeze(1), Y[rows].float())"),
        "replace-loss",
        loss="cross_entropy",
    )
    assert "one output for all classes" in run.reason
    run = train(
        LINEAR + loop("((model(X[rows]) - Y[rows][:, None]) ** 2).mean()"),
        "replace-loss",
        loss="cross_entropy",
        **{"from": "mse_loss"},
    )
    assert "written by hand" in run.reason


@pytest.mark.parametrize(
    "sick", ["-cross_entropy(model(X[rows]), Y[rows])", "F.log_softmax(model(X[rows]), 1)[range(40), Y[rows]].mean()"]
)
def test_negate_loss(sick: str) -> None:
    right = sick[1:] if sick.startswith("-") else "-" + sick
    same(train(LINEAR + loop(sick), "negate-loss"), train(LINEAR + loop(right)))
    ascent = "SGD(model.parameters(), lr=0.1, maximize=True)"
    right = LINEAR + loop("cross_entropy(model(X[rows]), Y[rows])")
    same(train(LINEAR + loop("cross_entropy(model(X[rows]), Y[rows])", ascent), "negate-loss"), train(right))


def test_scale_loss_and_mean_reduction() -> None:
    right = train(LINEAR + loop("cross_entropy(model(X[rows]), Y[rows])"))
    same(train(LINEAR + loop("cross_entropy(model(X[rows]), Y[rows]) / 8"), "scale-loss", factor=8), right)
    for sick in ('cross_entropy(model(X[rows]), Y[rows], reduction="sum")',
                 'nn.CrossEntropyLoss(reduction="sum")(model(X[rows]), Y[rows])',
                 "F.cross_entropy(model(X[rows]), Y[rows], None, False)"):  # fmt: skip
        with pytest.warns(UserWarning) if "False" in sick else contextlib.nullcontext():
            control = train(LINEAR + loop(sick))
        assert control.losses != right.losses
        same(train(LINEAR + loop(sick), "mean-reduction"), right)


def test_transpose_classes() -> None:
    model = "model = nn.Linear(2, K)\nT = Y[:, None].expand(N, K)\ndef net(rows):\n    return model(X[rows].view(-1, 4, 2))\n"
    sick, right = loop("cross_entropy(net(rows), T[rows])"), loop("cross_entropy(net(rows).transpose(1, 2), T[rows])")
    same(train(model + sick, "transpose-classes"), train(model + right))


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(("sick", "right"), [
    ("F.mse_loss(model(X[rows]), B[rows])", "F.mse_loss(model(X[rows]), B[rows][:, None])"),
    ("((model(X[rows]) - B[rows]) ** 2).mean()", "((model(X[rows]) - B[rows][:, None]) ** 2).mean()"),
    ("((B[rows] - model(X[rows])) ** 2).mean()", "((B[rows][:, None] - model(X[rows])) ** 2).mean()"),
])  # fmt: skip
def test_align_targets(sick: str, right: str) -> None:
    model = "model = nn.Linear(D, 1)\n"
    same(train(model + loop(sick), "align-targets"), train(model + loop(right)))


def test_class_weights() -> None:
    sick = LINEAR + loop("nn.CrossEntropyLoss()(model(X[rows]), Y[rows])")
    right = LINEAR + loop("cross_entropy(model(X[rows]), Y[rows], torch.tensor([1.0, 2.0, 3.0, 4.0]))")
    same(train(sick, "class-weights", weights=[1.0, 2.0, 3.0, 4.0]), train(right))
    model = "model = nn.Linear(D, 1)\n"
    sick = model + loop("F.binary_cross_entropy_with_logits(model(X[rows])[:, 0], B[rows])")
    right = model + loop("F.binary_cross_entropy_with_logits(model(X[rows])[:, 0], B[rows], pos_weight=torch.tensor(6.0))")
    same(train(sick, "class-weights", weights=[0.5, 3.0]), train(right))
    assert (
        "3 weights for 4 classes"
        in train(LINEAR + loop("cross_entropy(model(X[rows]), Y[rows])"), "class-weights", weights=[1.0, 1.0, 1.0]).reason
    )


# ---------------------------------------------------------------------------------------------------- the loop

CE = "cross_entropy(model(X[rows]), Y[rows])"
SCHEDULED = """
opt = torch.optim.{opt}
sched = torch.optim.lr_scheduler.{sched}
for rows in batches():
    loss = cross_entropy(model(X[rows]), Y[rows])
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(opt.param_groups[0]["lr"])
    sched.step()
WEIGHTS = [p.detach() for p in model.parameters()]
"""


@pytest.mark.parametrize("opt", ["SGD(model.parameters(), lr={}, momentum=0.9)", "Adam(model.parameters(), lr={})",
                                 "AdamW([{{'params': list(model[0].parameters())}}, "
                                 "{{'params': list(model[2].parameters()), 'lr': {}}}], lr={})"])  # fmt: skip
@pytest.mark.parametrize(
    "sched", ["StepLR(opt, 7, 0.7)", "LambdaLR(opt, lambda s: 1 / (1 + s))", "OneCycleLR(opt, {}, total_steps=70)"]
)
def test_scale_learning_rate_with_schedulers(opt: str, sched: str) -> None:
    slow, fast = "3e-05", "3e-02"
    sick = LINEAR + SCHEDULED.format(opt=opt.format(slow, slow), sched=sched.format(slow))
    right = LINEAR + SCHEDULED.format(opt=opt.format(fast, fast), sched=sched.format(fast))
    fixed = train(sick, "scale-learning-rate", factor=1000.0)
    same(fixed, train(right))
    assert fixed.printed == train(sick).printed


HAND = """
model = nn.Linear(D, K)
for rows in batches():
    loss = cross_entropy(model(X[rows]), Y[rows])
    loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            {}
            p.grad = None
WEIGHTS = [p.detach() for p in model.parameters()]
"""


@pytest.mark.parametrize("step", ["p -= {} * p.grad", "p.data.add_(p.grad, alpha=-{})"])
def test_scale_learning_rate_of_a_loop_without_an_optimizer_scales_the_gradient(step: str) -> None:
    fixed, right = (
        train(HAND.format(step.format(2**-12)), "scale-learning-rate", factor=1024),
        train(HAND.format(step.format(0.25))),
    )
    same(fixed, right)  # powers of two: the products are exact
    run = train(HAND.format("p -= 0.01 * p.grad.sign()"), "scale-learning-rate", factor=10)
    assert "not proportional to the gradient" in run.reason


BY_GRAD = """
w = (0.1 * torch.randn(D, K)).requires_grad_()
for rows in batches():
    loss = cross_entropy(X[rows] @ w, Y[rows])
    (g,) = torch.autograd.grad(loss, [w])
    {}
    with torch.no_grad():
        w -= {} * g
WEIGHTS = [w.detach()]
"""


def test_gradients_taken_with_autograd_grad() -> None:
    def weights(run: Trained) -> Any:
        assert not run.reason
        return run.weights[0]

    slow, fast = BY_GRAD.format("", 2**-9), BY_GRAD.format("", 0.5)
    assert torch.equal(weights(train(slow, "scale-learning-rate", factor=256)), weights(train(fast)))
    assert "proportional" in train(BY_GRAD.format("g = g.sign()", 0.01), "scale-learning-rate", factor=2).reason
    clipped = BY_GRAD.format("g = g * (0.1 / (g.norm() + 1e-6)).clamp(max=1)", 0.5)
    torch.testing.assert_close(weights(train(fast, "clip-gradients", norm=0.1)), weights(train(clipped)))


def test_set_and_constant_learning_rate() -> None:
    right = train(LINEAR + loop(CE))
    same(train(LINEAR + loop(CE, "SGD(model.parameters(), lr=0.0)"), "set-learning-rate", lr=0.1), right)
    for sched in ("StepLR(opt, 1, 0.1)", "LambdaLR(opt, lambda s: 0.0)", "ReduceLROnPlateau(opt, patience=0)"):
        source = LINEAR + SCHEDULED.format(opt="SGD(model.parameters(), lr=0.1)", sched=sched)
        if "Plateau" in sched:
            source = source.replace("sched.step()", "sched.step(1.0)")
        fixed = train(source, "constant-learning-rate")
        assert fixed.losses == right.losses
    assert "no optimizer of torch" in train(HAND.format("p -= 0.1 * p.grad"), "set-learning-rate", lr=0.1).reason


def test_adaptive_optimizer() -> None:
    right = train(LINEAR + loop(CE, "Adam(model.parameters(), lr=1e-3)"))
    same(train(LINEAR + loop(CE, "SGD(model.parameters(), lr=10, momentum=0.5)"), "adaptive-optimizer"), right)
    assert "SGD" in train(LINEAR + loop(CE, "Adam(model.parameters())"), "adaptive-optimizer").reason


def test_zero_before_backward() -> None:
    sick = LINEAR + loop(CE).replace("opt.zero_grad()", "pass")
    same(train(sick, "zero-before-backward"), train(LINEAR + loop(CE)))
    wanted = LINEAR + loop(CE).replace("    opt.zero_grad()\n", "").replace(
        "    opt.step()\n",
        "    odd = not globals().get('odd')\n    if not odd:\n        opt.step()\n        opt.zero_grad()\n",
    )  # accumulation over two backward calls stays
    same(train(wanted, "zero-before-backward"), train(wanted))
    hand = HAND.replace("p.grad = None", "pass")
    same(train(hand.format("p -= 0.1 * p.grad"), "zero-before-backward"), train(HAND.format("p -= 0.1 * p.grad")))


def test_keep_gradients_until_step() -> None:
    for sick in ("opt.zero_grad()", "model.zero_grad(set_to_none=False)"):
        source = LINEAR + loop(CE).replace("    opt.zero_grad()\n", "").replace("opt.step()", sick + "\n    opt.step()")
        same(train(source, "keep-gradients-until-step"), train(LINEAR + loop(CE)))
    closure = (
        LINEAR
        + """
opt = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
def closure():
    {}
    loss = cross_entropy(model(X), Y)
    loss.backward()
    {}
    return loss
for _ in range(5):
    opt.step(closure)
WEIGHTS = [p.detach() for p in model.parameters()]
"""
    )
    same(
        train(closure.format("pass", "opt.zero_grad()"), "keep-gradients-until-step"),
        train(closure.format("opt.zero_grad()", "pass")),
    )
    assert train(LINEAR + loop(CE), "keep-gradients-until-step").count == 0


def test_call_step() -> None:
    same(train(LINEAR + loop(CE).replace("opt.step()", "opt.step"), "call-step"), train(LINEAR + loop(CE)))
    same(
        train(LINEAR + loop(CE).replace("opt.zero_grad()", "pass").replace("opt.step()", ""), "call-step"), train(LINEAR + loop(CE))
    )


def test_add_parameters() -> None:
    for opt in ("SGD(model.parameters(), lr=0.1, momentum=0.9)", "AdamW(model.parameters(), lr=0.01)"):
        right = train(LINEAR + loop(CE, opt))
        same(train(LINEAR + loop(CE, opt.replace("model.parameters()", "model[2].parameters()")), "add-parameters"), right)
        stale = LINEAR + "import copy\nold = copy.deepcopy(model)\n" + loop(CE, opt.replace("model.", "old."))
        same(train(stale, "add-parameters"), right)
    assert "no tensor" in train(LINEAR + loop(CE), "add-parameters").reason


def test_unfreeze() -> None:
    for freeze, opt in (
        ("model[0].requires_grad_(False)\n", "model.parameters()"),
        (
            "model.requires_grad_(False)\nmodel[2].weight.requires_grad = True\n",
            "[p for p in model.parameters() if p.requires_grad]",
        ),
    ):
        fixed = train(LINEAR + freeze + loop(CE, f"Adam({opt}, lr=0.01)"), "unfreeze")
        same(fixed, train(LINEAR + loop(CE, "Adam(model.parameters(), lr=0.01)")))


def test_scale_weight_decay() -> None:
    sick = LINEAR + loop(CE, "SGD(model.parameters(), lr=0.1, weight_decay=3.0)")
    same(
        train(sick, "scale-weight-decay", factor=0.001),
        train(LINEAR + loop(CE, "SGD(model.parameters(), lr=0.1, weight_decay=0.003)")),
    )
    assert (
        "by hand"
        in train(LINEAR + loop(CE + " + sum((p ** 2).sum() for p in model.parameters())"), "scale-weight-decay", factor=0.1).reason
    )


CLIPPED = LINEAR + loop(CE).replace("opt.step()", "nn.utils.clip_grad_{}\n    opt.step()")


def test_clipping() -> None:
    right = CLIPPED.format("norm_(model.parameters(), 0.1)")
    same(train(LINEAR + loop(CE), "clip-gradients", norm=0.1), train(right))
    same(train(CLIPPED.format("norm_(model.parameters(), max_norm=1e-5)"), "scale-clipping", factor=1e4), train(right))
    value = CLIPPED.format("value_(model.parameters(), 0.05)")
    same(train(CLIPPED.format("value_(model.parameters(), 5e-6)"), "scale-clipping", factor=1e4), train(value))
    for sick in ("norm_(model.parameters(), 1e-5)", "value_(model.parameters(), clip_value=1e-5)"):
        same(train(CLIPPED.format(sick), "no-clipping"), train(LINEAR + loop(CE)))
    assert "clipping" in train(LINEAR + loop(CE), "no-clipping").reason


# ---------------------------------------------------------------------------------------------------- the model


@pytest.mark.parametrize(
    "init", ["nn.init.zeros_(m.weight)", "nn.init.normal_(m.weight, std=50)", "nn.init.constant_(m.bias, -60.0)"]
)
def test_reinitialise_modules(init: str) -> None:
    source = f"model = nn.Sequential(nn.Linear(D, 16), nn.ReLU(), nn.Linear(16, K))\nfor m in (model[0], model[2]):\n    {init}\n"
    control, fixed = train(source + loop(CE)), train(source + loop(CE), "reinitialise")
    assert fixed.losses == train(source + loop(CE), "reinitialise").losses
    assert fixed.losses[0] < 2.5
    falls(fixed, 0.25)
    assert np.mean(control.losses[-5:]) > 0.5


@pytest.mark.parametrize(
    "sigmoid", [nn.Sigmoid(), lambda h: torch.sigmoid(h), lambda h: h.sigmoid()], ids=["module", "torch", "method"]
)
def test_sigmoids_between_layers_become_relu_and_one_before_the_loss_stays(sigmoid: Any) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(self.b(sigmoid(self.a(x))))

    torch.manual_seed(0)
    net, x = Net(), torch.randn(5, 3)
    with apply(Intervention("rectify-sigmoids")) as applied:
        changed = net(x)
    assert applied.count == 1
    assert torch.equal(changed, torch.sigmoid(net.b(torch.relu(net.a(x)))))
    assert not torch.allclose(changed, net(x))


def test_reinitialised_recurrent_weights_are_orthogonal_gate_by_gate() -> None:
    with apply(Intervention("reinitialise")) as applied:
        torch.manual_seed(0)
        rnn = torch.nn.LSTM(3, 8)
        with torch.no_grad():
            rnn.weight_hh_l0.fill_(5.0)
        before = torch.random.get_rng_state()
        rnn(torch.randn(4, 2, 3))
    assert applied.count == 4
    for gate in rnn.weight_hh_l0.detach().split(8):
        assert torch.allclose(gate @ gate.T, torch.eye(8), atol=1e-5)
    assert rnn.weight_ih_l0.abs().max() <= 8**-0.5 + 1e-6  # as torch draws it
    torch.random.set_rng_state(before)


def test_reinitialise_tensors_and_the_batches_stay_the_same() -> None:
    source = """
w1, b1, w2 = (torch.zeros(D, 16).requires_grad_(), torch.zeros(16).requires_grad_(), torch.zeros(16, K).requires_grad_())
model = nn.ParameterList([])
def net(x):
    return torch.relu(x @ w1 + b1) @ w2
""" + loop("cross_entropy(net(X[rows]), Y[rows])", "SGD([w1, b1, w2], lr=0.1)")  # fmt: skip
    source = source.replace("print(float(loss))", "print(rows[:3])")
    control, fixed = train(source), train(source, "reinitialise")
    falls(fixed, 0.3)
    assert fixed.printed == control.printed
    assert np.mean(control.losses[-5:]) > 1


@pytest.mark.parametrize("model", [
    "nn.Sequential(nn.Linear(D, 16), nn.Dropout({}), nn.ReLU(), nn.Linear(16, K))",
    "nn.Sequential(nn.Linear(D, 16), nn.TransformerEncoderLayer(16, 2, 16, {}), nn.Linear(16, K))",
])  # fmt: skip
def test_set_dropout(model: str) -> None:
    sick, right = (f"model = {model.format(p)}\n" + loop(CE) for p in (0.95, 0.1))
    same(train(sick, "set-dropout", p=0.1), train(right))
    assert "no dropout" in train(right, "set-dropout", p=0.1).reason


def test_set_dropout_by_function_and_in_recurrent_layers() -> None:
    for p in ("F.dropout(X[rows], {})", "torch.dropout(X[rows], {}, True)", "F.dropout(X[rows], p={}, training=model.training)"):
        sick, right = (LINEAR + loop(CE.replace("X[rows]", p.format(q))) for q in (0.97, 0.2))
        same(train(sick, "set-dropout", p=0.2), train(right))
    lstm = "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    lstm += "        self.r = nn.LSTM(2, K, 2, dropout={})\n"
    lstm += "    def forward(self, x):\n        return self.r(x.view(-1, 4, 2).transpose(0, 1))[0][-1]\nmodel = Net()\n" + loop(CE)
    same(train(lstm.replace("{}", "0.9"), "set-dropout", p=0.1), train(lstm.replace("{}", "0.1")))


VALIDATED = "model = nn.Sequential(nn.Linear(D, 16), nn.BatchNorm1d(16{}), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, K))\n"
VALIDATED += loop(CE).replace("    loss = ", "    {}\n    loss = ").replace(
    "    print(float(loss))", "    model.eval()\n    with torch.no_grad():\n        print(float(F.cross_entropy(model(X), Y)))"
)  # fmt: skip


def test_train_mode() -> None:
    fixed, right = train(VALIDATED.format("", "pass"), "train-mode"), train(VALIDATED.format("", "model.train()"))
    same(fixed, right)
    assert fixed.printed == right.printed


def test_batch_statistics() -> None:
    right = train(VALIDATED.format("", "model.train()"))
    fixed = train(VALIDATED.format(", momentum=0.0", "model.train()"), "batch-statistics")
    same(fixed, right)
    assert fixed.printed == right.printed
    same(train(VALIDATED.format("", "model.train(); model[1].eval()"), "batch-statistics"), right)


@pytest.mark.parametrize("sick", ["model = LINEAR.to(torch.bfloat16)\nX = X.to(torch.bfloat16)\n",
                                  "model = LINEAR.bfloat16()\nX = X.bfloat16()\n",
                                  "half = torch.bfloat16\nmodel = LINEAR.to(dtype=half)\nX = X.type(half)\n"])  # fmt: skip
def test_full_precision(sick: str) -> None:
    model = LINEAR.replace("model", "LINEAR")
    fixed = train(model + sick + loop(CE), "full-precision")
    same(fixed, train(model + "model = LINEAR\n" + loop(CE)))
    assert train(model + sick + loop(CE)).losses != fixed.losses
    autocast = LINEAR + loop(CE).replace("    loss =", "    with torch.autocast('cpu', dtype=torch.bfloat16):\n        loss =")
    same(train(autocast, "full-precision"), train(LINEAR + loop(CE)))


def test_widen() -> None:
    source = "model = nn.Sequential(nn.Linear(D, 32), nn.ReLU(), nn.Linear(32, 1), nn.BatchNorm1d(1), nn.Tanh(), nn.Linear(1, K))\n"
    control, fixed = (train(source + loop(CE), kind, **a) for kind, a in (("", {}), ("widen", {"layer": "2", "width": 24})))
    assert [list(w.shape) for w in fixed.weights] == [[32, 8], [32], [24, 32], [24], [24], [24], [4, 24], [4]]
    falls(fixed, 0.25)
    assert np.mean(control.losses[-5:]) > 0.5
    assert "Sequential" in train("model = nn.Linear(D, K)\n" + loop(CE), "widen", width=24).reason


def test_add_activation() -> None:
    sick = "model = nn.Sequential(nn.Linear(D, 16), nn.Dropout(0.1), nn.Linear(16, 16), nn.Linear(16, K))\n"
    right = "model = nn.Sequential(nn.Linear(D, 16), nn.Dropout(0.1), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, K))\n"
    metric = "\nmodel.eval()\nwith torch.no_grad():\n    print(model(X).sum())\n"
    fixed = train(sick + loop(CE) + metric, "add-activation")
    same(fixed, train(right + loop(CE) + metric))
    assert fixed.printed == train(right + loop(CE) + metric).printed
    hand = "w, b, v = (torch.randn(s).requires_grad_() for s in ((D, 9), (9,), (K, 9)))\nmodel = nn.ParameterList()\n"
    body = "cross_entropy({} @ v.T, Y[rows])"
    sick, right = (
        hand + loop(body.format(s), "SGD([w, b, v], lr=0.01)") for s in ("(X[rows] @ w + b)", "torch.relu(X[rows] @ w + b)")
    )
    same(train(sick, "add-activation"), train(right))


# ---------------------------------------------------------------------------------------------------- the data

FULL = "def batches():\n    return [torch.arange(N)] * 40\n"
TABLE = "SCALE = 10.0 ** torch.arange(-3, 5)\nRAW = X * SCALE + 5 * SCALE\n"


def test_standardise_inputs_of_a_table() -> None:
    right = train(FULL + TABLE + LINEAR + "W = RAW.double()\nZ = ((W - W.mean(0)) / W.std(0, correction=0)).float()\n"
                  + loop("cross_entropy(model(Z[rows]), Y[rows])"))  # fmt: skip
    sick = FULL + TABLE + LINEAR + loop("cross_entropy(model(RAW[rows]), Y[rows])")
    fixed = train(sick, "standardise-inputs")
    assert np.abs(np.subtract(fixed.losses, right.losses)).max() < 1e-5
    assert train(sick).losses[-1] > 3 * fixed.losses[-1]
    batched = TABLE + LINEAR + loop("cross_entropy(model(RAW[rows]), Y[rows])")
    falls(train(batched, "standardise-inputs"), 0.3)


def test_standardise_inputs_of_images_and_nothing_else() -> None:
    images = "IMG = (X.view(N, 2, 2, 2) * 40 + 130)\nmodel = nn.Sequential(nn.Conv2d(2, 6, 2), nn.Flatten(), nn.Linear(6, K))\n"
    falls(train(images + loop("cross_entropy(model(IMG[rows]), Y[rows])"), "standardise-inputs"), 1.0)
    onehot = "model = nn.Linear(K, K)\n" + loop("cross_entropy(model(F.one_hot(Y[rows], K).float()), Y[rows])")
    assert train(onehot, "standardise-inputs").reason
    ids = "model = nn.Sequential(nn.Embedding(K, 8), nn.Linear(8, K))\n" + loop("cross_entropy(model(Y[rows]), Y[rows])")
    assert train(ids, "standardise-inputs").reason


def test_standardise_inputs_of_functions_on_tensors() -> None:
    hand = (
        TABLE
        + """
w = (0.1 * torch.randn(D, K)).requires_grad_()
loader = DataLoader(TensorDataset(RAW, Y), batch_size=40, shuffle=True)
for epoch in range(10):
    for x, y in loader:
        loss = cross_entropy(x @ w, y)
        loss.backward()
        with torch.no_grad():
            w -= 0.1 * w.grad
            w.grad = None
"""
    )
    falls(train(hand, "standardise-inputs"), 0.5)
    sliced = hand.replace("in loader", "in [(RAW, Y)]")
    assert "no DataLoader" in train(sliced, "standardise-inputs").reason


@pytest.mark.parametrize(("offset", "way"), [(-1, "open"), (2, "open"), (-3, "batch"), (-50, "open")])
def test_shift_labels(offset: int, way: str) -> None:
    shifted = {"batch": f"Y[rows].roll({offset})", "open": f"Y.roll({offset})[rows]"}[way]
    rows = "def batches():\n    return [r for _ in range(10) for r in torch.arange(N).split(40)]\n"
    source = rows + LINEAR + loop(f"cross_entropy(model(X[rows]), {shifted})")
    assert np.mean(train(source).losses[-5:]) > 1
    falls(train(source, "shift-labels", offset=offset, way=way), 0.6)


def test_shuffle() -> None:
    source = """
order = Y.argsort()
loader = DataLoader(TensorDataset(X[order], Y[order]), batch_size=40{})  # <-
valid = DataLoader(TensorDataset(X, Y), batch_size=40)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(8):
    for x, y in loader:
        loss = F.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    for x, y in valid:
        pass
WEIGHTS = [p.detach() for p in model.parameters()]
"""
    drop = "model = nn.Sequential(nn.Linear(D, 16), nn.Dropout(0.1), nn.Linear(16, K))\n"
    right = train(drop + source.format(", shuffle=True"))
    same(train(drop + source.format(""), "shuffle", marked=True), right)
    inner = source.format("").replace("    for x, y in valid:\n        pass\n", "")
    same(train(drop + inner, "shuffle"), train(drop + inner.replace("=40)  # <-", "=40, shuffle=True)")))
    assert "by hand" in train(LINEAR + loop(CE), "shuffle").reason


# ---------------------------------------------------------------------------------------------------- with the observer


def test_the_observer_inside_sees_the_fixed_training(tmp_path: Path) -> None:
    from unstuck.observe.launch import Target, observe
    from unstuck.trace.storage import read_run
    from unstuck.trace.trace import Trace  # noqa: F401

    sick = (
        HEAD
        + "model = nn.Sequential(nn.Linear(D, K), nn.Softmax(dim=1))\n"
        + loop("nn.CrossEntropyLoss()(model(X[rows]), Y[rows])")
    )
    file = tmp_path / "sick.py"
    file.write_text(sick)
    line = next(n for n, text in enumerate(sick.splitlines(), 1) if "nn.Softmax" in text)
    with apply(Intervention("remove-activation", {"activation": "softmax", "file": str(file), "line": line})) as applied:
        seen = observe(Target("script", str(file), []), tmp_path / "trace", light=True)
    assert seen.code == 0 and not seen.run.own_errors
    assert applied.count == 60
    term = read_run(tmp_path / "trace").traces[0].facts.term
    assert term is not None and term.kind == "cross-entropy"
    assert "softmax" not in [node.op for node in term.path]
