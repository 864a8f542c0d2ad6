"""Masked-token prediction on source lines: about nine out of ten targets are ignored."""
import inspect
import textwrap

import torch
import torch.nn as nn

LENGTH, MASK = 32, 1
source = [l.strip() for l in inspect.getsource(textwrap).split("\n") if len(l.strip()) > 12]
chars = ["<pad>", "<mask>"] + sorted(set("".join(source)))
tokens = torch.tensor([[chars.index(c) for c in l[:LENGTH]] + [0] * (LENGTH - len(l[:LENGTH])) for l in source])


class Model(nn.Module):
    def __init__(self, v, d=32):
        super().__init__()
        self.emb = nn.Embedding(v, d)
        self.conv = nn.Sequential(nn.Conv1d(d, 64, 5, padding=2), nn.GELU(), nn.Conv1d(64, 64, 3, padding=1), nn.GELU())
        self.out = nn.Conv1d(64, v, 1)

    def forward(self, ids):
        return self.out(self.conv(self.emb(ids).transpose(1, 2)))


torch.manual_seed(0)
model = Model(len(chars))
criterion = nn.CrossEntropyLoss(ignore_index=-100)
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
for step in range(200):
    ids = tokens[torch.randint(len(tokens), (48,))]
    chosen = (torch.rand(ids.shape) < 0.12) & (ids > 0)
    targets = ids.masked_fill(~chosen, -100)
    loss = criterion(model(ids.masked_fill(chosen, MASK)), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 25 == 0 or step == 199:
        print(f"step {step} loss {loss.item():.3f} targets used {chosen.float().mean().item():.1%}")
