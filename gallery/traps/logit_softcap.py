"""Gemma-style soft-capped logits, 30 * tanh(x / 30), on a character model."""
import inspect
import heapq

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
src = inspect.getsource(heapq)
chars = sorted(set(src))
ids = torch.tensor([chars.index(c) for c in src])
V, CTX = len(chars), 8


class CappedLM(nn.Module):
    cap = 30.0

    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(V, 24)
        self.mlp = nn.Sequential(nn.Linear(CTX * 24, 128), nn.ReLU(), nn.Linear(128, V))

    def forward(self, x):
        return self.cap * torch.tanh(self.mlp(self.emb(x).flatten(1)) / self.cap)


w = ids.unfold(0, CTX + 1, 1)
model = CappedLM()
opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step in range(1, 401):
    b = w[torch.randint(len(w), (64,))]
    loss = F.cross_entropy(model(b[:, :-1]), b[:, -1])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 80 == 0:
        print(f"step {step}: loss {loss.item():.4f}")
