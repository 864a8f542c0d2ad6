"""Next character in the source of heapq: an Elman network of raw tensors, SGD."""
import heapq
import inspect

import torch
import torch.nn.functional as F

torch.manual_seed(0)
text = inspect.getsource(heapq)[:12000]
chars = sorted(set(text))
data = torch.tensor([chars.index(c) for c in text])
V, H, T, B = len(chars), 64, 40, 16

Wxh = torch.randn(V, H) * 0.5
Whh = torch.randn(H, H) * 3 / H ** 0.5  # <- fault
Why = torch.randn(H, V) / H ** 0.5
bh, by = torch.zeros(H), torch.zeros(V)
params = [Wxh, Whh, Why, bh, by]
for p in params:
    p.requires_grad_()


def unroll(tokens):
    h = torch.zeros(len(tokens), H)
    outputs = []
    for t in range(tokens.shape[1]):
        h = torch.tanh(Wxh[tokens[:, t]] + h @ Whh + bh)
        outputs.append(h @ Why + by)
    return torch.stack(outputs, dim=1)


lr, smooth = 0.3, None
for step in range(1, 401):
    start = torch.randint(len(data) - T - 1, (B, 1))
    window = data[start + torch.arange(T + 1)]
    logits = unroll(window[:, :-1])
    loss = F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
    for p, g in zip(params, torch.autograd.grad(loss, params)):
        p.data.sub_(lr * g)
    smooth = loss.item() if smooth is None else 0.95 * smooth + 0.05 * loss.item()
    if step % 40 == 0:
        print(f"step {step:3d} loss {smooth:.3f}")
