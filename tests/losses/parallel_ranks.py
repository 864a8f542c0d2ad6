"""One rank of the vocabulary-parallel test: run as `python parallel_ranks.py RANK WORLD FILE`; exits 1 with a traceback where it
differs."""

from __future__ import annotations

import itertools
import sys

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.distributed.tensor import Replicate, distribute_tensor, init_device_mesh
from torch.distributed.tensor import Shard as Sharded

from unstuck.losses import cross_entropy
from unstuck.losses.parallel import vocabulary_parallel_cross_entropy

CLASSES, ROWS = 37, 11


def close(a: torch.Tensor, b: torch.Tensor, what: str) -> None:
    torch.testing.assert_close(a, b, rtol=2e-6, atol=1e-7, equal_nan=True, msg=lambda m: f"{what}: {m}")


def main() -> None:
    rank, world, file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world)
    torch.manual_seed(0)  # the same numbers on every rank
    # uneven shards; with four ranks one of them holds no class at all
    sizes = {2: [20, 17], 4: [10, 0, 20, 7]}[world]
    first = sum(sizes[:rank])
    own = slice(first, first + sizes[rank])
    for reduction, eps, zeta, weighted, soft in itertools.product(("mean", "sum", "none"), (0.0, 0.2), (0.0, 0.01), (0, 1), (0, 1)):
        what = f"{reduction} eps={eps} z={zeta} weighted={weighted} soft={soft}"
        full = (torch.randn(ROWS, CLASSES) * 4 + 300).requires_grad_()
        target = torch.softmax(torch.randn(ROWS, CLASSES), 1) if soft else torch.randint(0, CLASSES, (ROWS,))
        if not soft:
            target[3] = -100
        weight = torch.rand(CLASSES) if weighted else None
        seen: list = []
        expected = cross_entropy(full, target, weight, reduction=reduction, label_smoothing=eps, z_loss=zeta, telemetry=seen.append)
        upstream = torch.randn_like(expected)
        (gradient,) = torch.autograd.grad(expected, full, upstream)
        if not zeta:
            close(expected, F.cross_entropy(full, target, weight, reduction=reduction, label_smoothing=eps), what)
        mine = full.detach()[:, own].clone().requires_grad_()
        got: list = []
        loss = vocabulary_parallel_cross_entropy(
            mine,
            target[:, own] if soft else target,
            weight,
            reduction=reduction,
            label_smoothing=eps,
            z_loss=zeta,
            telemetry=got.append,
        )
        close(loss, expected, what)
        for _ in range(2):  # the second backward exchanges anew, and is not scaled twice
            (found,) = torch.autograd.grad(loss, mine, upstream, retain_graph=True)
            close(found, gradient[:, own], what)
        for name in ("predicted", "correct", "histogram", "rows"):
            assert torch.equal(getattr(got[0], name), getattr(seen[0], name)), (what, name)
        close(got[0].logsumexp, seen[0].logsumexp, what)
        torch.testing.assert_close(got[0].entropy, seen[0].entropy, rtol=1e-4, atol=1e-3)
        close(got[0].chance, seen[0].chance, what)
        close(got[0].base_rate, seen[0].base_rate, what)

    mesh = init_device_mesh("cpu", (world,))
    whole = torch.randn(ROWS, CLASSES)
    labels = torch.randint(0, CLASSES, (ROWS,))
    reference = whole.clone().requires_grad_()
    F.cross_entropy(reference, labels, label_smoothing=0.1).backward()
    for placement in (Sharded(1), Replicate()):
        logits = distribute_tensor(whole.clone(), mesh, [placement]).requires_grad_()
        loss = vocabulary_parallel_cross_entropy(logits, labels, label_smoothing=0.1)
        loss.backward()
        close(logits.grad.full_tensor(), reference.grad, f"DTensor {placement}")
    try:
        vocabulary_parallel_cross_entropy(distribute_tensor(whole, mesh, [Sharded(0)]), labels)
        raise SystemExit("a DTensor sharded along rows was accepted")
    except ValueError as error:
        assert "Shard(1)" in str(error)
    try:
        labels[2] = CLASSES
        vocabulary_parallel_cross_entropy(mine.detach(), labels)
        raise SystemExit("a label out of range was accepted")
    except IndexError as error:
        assert "target[2] is 37" in str(error)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
