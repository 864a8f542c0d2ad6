"""Next character from the five before it, one-hot targets, functional loss, annealed SGD."""
import argparse
import inspect
import textwrap

import torch
import torch.nn.functional as F

parser = argparse.ArgumentParser()
parser.add_argument("--context", type=int, default=5)
parser.add_argument("--steps", type=int, default=900)
parser.add_argument("--lr", type=float, default=1.0)
args = parser.parse_args()

text = inspect.getsource(textwrap)
alphabet = sorted(set(text))
V = len(alphabet)
ids = torch.tensor([alphabet.index(c) for c in text])
windows = ids.unfold(0, args.context + 1, 1)

g = torch.Generator().manual_seed(0)
emb = (torch.randn(V, 12, generator=g) * 0.5).requires_grad_()
w1 = (torch.randn(12 * args.context, 100, generator=g) * 0.13).requires_grad_()
b1 = torch.zeros(100, requires_grad=True)
w2 = (torch.randn(100, V, generator=g) * 0.05).requires_grad_()
b2 = torch.zeros(V, requires_grad=True)
optimizer = torch.optim.SGD([emb, w1, b1, w2, b2], lr=args.lr)
schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=args.steps)

recent = []
for step in range(1, args.steps + 1):
    batch = windows[torch.randint(len(windows), (64,), generator=g)]
    context, target = batch[:, :-1], F.one_hot(batch[:, -1], V)
    hidden = torch.tanh(emb[context].flatten(1) @ w1 + b1)
    logp = F.log_softmax(hidden @ w2 + b2, dim=-1)
    loss = (-target * logp).mean()  # <- fault
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    recent.append((logp.argmax(1) == batch[:, -1]).float().mean().item())
    if step % 100 == 0:
        print(f"step {step} loss {loss.item():.4f} accuracy {sum(recent[-100:]) / 100:.3f}")
