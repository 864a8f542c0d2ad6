"""The graph of a loss, read back: which loss, which path, which axis. The definition is torch itself."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unstuck.observe import torch_graph as graph
from unstuck.trace.facts import OpNode

N, K = 8, 5


def logits() -> torch.Tensor:
    return nn.Linear(4, K)(torch.randn(N, 4))


def labels() -> torch.Tensor:
    return torch.randint(0, K, (N,))


def one_hot() -> torch.Tensor:
    return F.one_hot(labels(), K).float()


def terms(loss: torch.Tensor) -> list[graph.Found]:
    return graph.find_terms(loss.grad_fn)


ROWS = torch.arange(N)
LOSSES = {
    "cross_entropy": (lambda: F.cross_entropy(logits(), labels()), "cross-entropy"),
    "smoothing": (lambda: F.cross_entropy(logits(), labels(), label_smoothing=0.1), "cross-entropy"),
    "smoothing and weight": (
        lambda: F.cross_entropy(logits(), labels(), weight=torch.rand(K), label_smoothing=0.1),
        "cross-entropy",
    ),
    "probability targets": (lambda: F.cross_entropy(logits(), one_hot()), "soft-cross-entropy"),
    "sum": (lambda: F.cross_entropy(logits(), labels(), reduction="sum") / N, "cross-entropy"),
    "none, mean": (lambda: F.cross_entropy(logits(), labels(), reduction="none").mean(), "cross-entropy"),
    "log_softmax, nll": (lambda: F.nll_loss(F.log_softmax(logits(), 1), labels()), "cross-entropy"),
    "log(softmax), nll": (lambda: F.nll_loss(torch.log(F.softmax(logits(), 1) + 1e-9), labels()), "cross-entropy"),
    "gather": (lambda: -F.log_softmax(logits(), 1).gather(1, labels()[:, None]).mean(), "cross-entropy"),
    "index": (lambda: -F.log_softmax(logits(), 1)[ROWS, labels()].mean(), "cross-entropy"),
    "index of log of softmax": (lambda: -torch.log(F.softmax(logits(), 1)[ROWS, labels()]).mean(), "cross-entropy"),
    "one-hot": (lambda: -(one_hot() * F.log_softmax(logits(), 1)).sum(1).mean(), "soft-cross-entropy"),
    "logsumexp": (lambda: (lambda z, y: (z.logsumexp(1) - z[ROWS, y]).mean())(logits(), labels()), "cross-entropy"),
    "logits minus logsumexp": (
        lambda: -(lambda z: z - z.logsumexp(1, keepdim=True))(logits())[ROWS, labels()].mean(),
        "cross-entropy",
    ),
    "minus in the targets": (lambda: (-one_hot() * F.log_softmax(logits(), 1)).sum(1).mean(), "soft-cross-entropy"),
    "nll on logits": (lambda: F.nll_loss(logits(), labels()), "nll"),
    "nll on softmax": (lambda: F.nll_loss(F.softmax(logits(), 1), labels()), "nll"),
    "minus probability": (lambda: -(one_hot() * F.softmax(logits(), 1)).sum(1).mean(), "nll"),
    "bce": (lambda: F.binary_cross_entropy(logits().sigmoid(), one_hot()), "bce"),
    "bce with logits": (lambda: F.binary_cross_entropy_with_logits(logits(), one_hot()), "bce-logits"),
    "bce by hand": (
        lambda: (lambda p, t: -(t * p.log() + (1 - t) * (1 - p).log()).mean())(logits().sigmoid(), one_hot()),
        "bce",
    ),
    "mse": (lambda: F.mse_loss(logits(), one_hot()), "mse"),
    "mse by hand": (lambda: ((logits() - one_hot()) ** 2).mean(), "mse"),
    "l1": (lambda: F.l1_loss(logits(), one_hot()), "l1"),
    "huber": (lambda: F.huber_loss(logits(), one_hot()), "huber"),
    "segmentation": (
        lambda: F.cross_entropy(nn.Conv2d(1, K, 1)(torch.randn(2, 1, 3, 3)), torch.randint(0, K, (2, 3, 3))),
        "cross-entropy",
    ),
    "accumulated": (lambda: F.cross_entropy(logits(), labels()) / 4, "cross-entropy"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_is_recognised(name: str) -> None:
    make, kind = LOSSES[name]
    found = terms(make())
    assert [t.kind for t in found] == [kind]
    assert found[0].sign == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: (-F.log_softmax(logits(), 1).gather(1, labels()[:, None]) * torch.randn(N, 1)).mean(),  # policy gradient
        lambda: logits().pow(2).sum(),
        lambda: (logits().sigmoid().log()).mean(),  # one logarithm only: not binary cross-entropy
        lambda: (logits().exp() - torch.rand(N, K) * logits()).mean(),  # Poisson by hand
        lambda: (F.softmax(logits(), 1) * torch.randn(N, K)).sum(1).mean(),  # expected reward
        lambda: -torch.logsumexp(F.log_softmax(logits(), 1) + torch.randn(N, K), 1).mean(),  # mixture density
    ],
)
def test_what_is_no_classification_loss_is_not_taken_for_one(make) -> None:
    assert all(t.kind == "unknown" or t.weighted for t in terms(make()))


@pytest.mark.parametrize(
    ("make", "sign"),
    [
        (lambda: -F.cross_entropy(logits(), labels()), -1),
        (lambda: F.cross_entropy(logits(), labels()) * -0.5, -1),
        (lambda: 1 - F.cross_entropy(logits(), labels()), -1),
        (lambda: (-F.cross_entropy(logits(), labels())).neg(), 1),
        (lambda: F.log_softmax(logits(), 1)[ROWS, labels()].mean(), -1),
        (lambda: 0.0 - F.log_softmax(logits(), 1)[ROWS, labels()].mean(), 1),
        (lambda: F.log_softmax(logits(), 1)[ROWS, labels()].mean() / -3.0, 1),
    ],
)
def test_the_sign_is_that_of_the_slope(make, sign: int) -> None:
    found = terms(make())
    assert [t.sign for t in found] == [sign]


def test_focal_loss_has_no_sign_to_complain_about() -> None:
    ce = F.cross_entropy(logits(), labels(), reduction="none")
    found = terms(((1 - torch.exp(-ce)) ** 2 * ce).mean())
    assert [t.kind for t in found] == ["cross-entropy"]
    assert found[0].sign == 1 and not found[0].linear


def test_two_terms_are_both_found_with_their_coefficients() -> None:
    loss = F.cross_entropy(logits(), labels()) + 0.25 * F.mse_loss(logits(), one_hot())
    assert {(t.kind, t.coefficient) for t in terms(loss)} == {("cross-entropy", 1.0), ("mse", 0.25)}


def nothing(_: object) -> tuple[None, str, None, list[str], bool]:
    return None, "", None, [], False


def path(x: torch.Tensor) -> tuple[list[str], str]:
    nodes, end = graph.path_to_head(x.grad_fn, nothing, str)
    return [n.op for n in nodes], end


@pytest.mark.parametrize(
    ("make", "ops"),
    [
        (lambda z: z, ["linear"]),
        (lambda z: F.softmax(z, 1), ["softmax", "linear"]),
        (lambda z: F.softmax(z, 1).view(-1, K).contiguous(), ["view", "softmax", "linear"]),
        (lambda z: z.exp() / z.exp().sum(1, keepdim=True), None),
        (lambda z: (lambda e: e / e.sum(1, keepdim=True))(z.exp()), ["softmax", "linear"]),
        (lambda z: (lambda e: e / e.sum(1, keepdim=True))((z - z.max(1, keepdim=True)[0]).exp()), ["softmax", "linear"]),
        (lambda z: 3 * torch.tanh(z), ["mul", "tanh", "linear"]),
        (lambda z: F.relu(z), ["relu", "linear"]),
        (lambda z: z.double().float(), ["cast", "cast", "linear"]),
    ],
)
def test_the_path_from_loss_to_head(make, ops: list[str] | None) -> None:
    found, end = path(make(logits()))
    if ops is None:
        assert end == "merge"
    else:
        assert (found, end) == (ops, "parametric")


def test_raw_tensors_and_frozen_heads_end_a_path() -> None:
    w, b = torch.randn(4, K, requires_grad=True), torch.zeros(K, requires_grad=True)
    assert path(torch.randn(N, 4) @ w + b) == (["add", "linear"], "parametric")
    body, head = nn.Linear(4, 4), nn.Linear(4, K).requires_grad_(False)
    nodes, _ = graph.path_to_head(head(body(torch.randn(N, 4))).grad_fn, nothing, str)
    assert nodes[-1].frozen and not nodes[-1].parameters


def test_a_cosine_head_is_one() -> None:
    w = nn.Parameter(torch.randn(K, 4))
    z = 16 * F.linear(F.normalize(nn.Linear(4, 4)(torch.randn(N, 4))), F.normalize(w))
    assert path(z) == (["mul", "cosine_similarity"], "parametric")


# ---------------------------------------------------------------------- the axis of the head's units


OPERATIONS = ("view-merge", "view-split", "transpose", "scramble", "unsqueeze", "flatten")


@settings(max_examples=300, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([2, 3, 4, 6]), min_size=2, max_size=3),
    moves=st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 3), st.integers(0, 3)), max_size=3),
    axis=st.integers(0, 3),
)
def test_feature_axis_against_brute_force(sizes: list[int], moves: list[tuple[str, int, int]], axis: int) -> None:
    """Follow real index tensors through the same operations: which original indices vary along each final axis?"""
    layer = nn.Linear(3, sizes[-1])
    z = layer(torch.randn(*sizes[:-1], 3))
    index = torch.arange(math.prod(sizes)).view(*sizes)
    for name, a, b in moves:
        rank = z.dim()
        a, b = a % rank, b % rank
        if name == "transpose":
            z, index = z.transpose(a, b), index.transpose(a, b)
        elif name == "unsqueeze":
            z, index = z.unsqueeze(a), index.unsqueeze(a)
        elif name == "flatten":
            z, index = z.flatten(0, a), index.flatten(0, a)
        elif name == "view-split" and z.shape[a] in {4, 6}:
            shape = [*z.shape[:a], 2, z.shape[a] // 2, *z.shape[a + 1 :]]
            z, index = z.reshape(shape), index.reshape(shape)
        elif name == "view-merge" and rank > 2 and a + 1 < rank:
            z, index = z.flatten(a, a + 1), index.flatten(a, a + 1)
        elif name == "scramble" and a != b:
            shape = list(z.shape)
            shape[a], shape[b] = shape[b], shape[a]
            z, index = z.reshape(shape), index.reshape(shape)
    axis %= z.dim()
    nodes, _ = graph.path_to_head(z.grad_fn, nothing, str)
    found, mixed = graph.feature_axis(nodes, axis)
    if found is None or z.shape[axis] == 1:
        return
    # Along an axis, does only the unit change (index % units), only other axes (index // units), or both?
    line = index.movedim(axis, -1).reshape(-1, z.shape[axis])
    units = sizes[-1]
    unit_moves = bool(((line % units) != (line % units)[:, :1]).any())
    other_moves = bool(((line // units) != (line // units)[:, :1]).any())
    if found == axis and not mixed:
        assert unit_moves and not other_moves
    elif found == axis and mixed:
        assert unit_moves and other_moves
    else:
        assert other_moves and not unit_moves


def test_unknown_operations_claim_nothing() -> None:
    head = OpNode("linear", shape=[6, 5])
    assert graph.feature_axis([OpNode("einsum-like", shape=[5, 6]), head], 0) == (None, False)
    assert graph.feature_axis([], 1) == (None, False)


def test_walk_and_signature_agree_on_the_leaves() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, K))
    loss = F.cross_entropy(model(torch.randn(N, 4)), labels())
    _, leaves, hidden = graph.walk(loss.grad_fn)
    assert {id(p) for p in leaves} == {id(p) for p in model.parameters()}
    assert not hidden
    _, anchor = graph.signature(loss.grad_fn)
    assert anchor is model[2].bias


def test_saved_options_are_read() -> None:
    from unstuck.trace.facts import LossTerm

    loss = F.cross_entropy(logits(), labels(), weight=torch.tensor([1.0, 2, 3, 4, 5]), ignore_index=-7, reduction="sum")
    term = LossTerm("cross-entropy")
    graph.options(term, loss.grad_fn)
    assert (term.weight, term.ignore_index, term.reduction) == ([1.0, 2, 3, 4, 5], -7, "sum")


@pytest.mark.parametrize("name", [n for n, (_, kind) in LOSSES.items() if kind != "unknown"])
def test_the_route_leads_back_to_the_term(name: str) -> None:
    """The next step's graph is read along the recorded edges: they must end at the node that was found."""
    loss = LOSSES[name][0]()
    for found in terms(loss):
        assert graph.follow(loss.grad_fn, found.route) is found.node
