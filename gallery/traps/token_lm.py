"""Word-piece-ish language model: identifiers and symbols of a Python module as tokens."""
import inspect
import math
import re
import textwrap
from collections import Counter

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
tokens = re.findall(r"\w+|[^\w\s]|\n", inspect.getsource(textwrap))
common = [w for w, _ in Counter(tokens).most_common(255)]
index = {w: i + 1 for i, w in enumerate(common)}
ids = torch.tensor([index.get(t, 0) for t in tokens])
V = len(common) + 1
freq = torch.bincount(ids, minlength=V).float() / len(ids)
unigram = -(freq[freq > 0] * freq[freq > 0].log()).sum().item()
print(f"{len(ids)} tokens, ln V {math.log(V):.3f}, unigram entropy {unigram:.3f}")


class LM(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.embed = nn.Embedding(V, dim)
        self.embed.weight.data.mul_(0.1)
        self.gru = nn.GRU(dim, dim, batch_first=True)

    def forward(self, x):
        return F.linear(self.gru(self.embed(x))[0], self.embed.weight)


model = LM()
opt = torch.optim.AdamW(model.parameters(), lr=5e-3)
for step in range(251):
    s = torch.randint(len(ids) - 25, (16, 1))
    w = ids[s + torch.arange(25)]
    logits = model(w[:, :-1])
    loss = F.cross_entropy(logits.reshape(-1, V), w[:, 1:].reshape(-1))
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    if step % 50 == 0:
        print(f"step {step}: loss {loss.item():.4f} perplexity {loss.exp().item():.1f}")
