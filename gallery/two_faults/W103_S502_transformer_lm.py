"""Small causal transformer on the characters of a standard-library module."""
import inspect
import textwrap

import torch
import torch.nn as nn
import torch.nn.functional as F

text = inspect.getsource(textwrap)
chars = sorted(set(text))
ids = torch.tensor([chars.index(c) for c in text])
V, BLOCK, DIM = len(chars), 24, 48


class TinyGPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok = nn.Embedding(V, DIM)
        self.pos = nn.Parameter(0.1 * torch.randn(BLOCK, DIM))
        self.layer = nn.TransformerEncoderLayer(DIM, 4, 96, dropout=0.0, batch_first=True,
                                                norm_first=True)
        self.norm = nn.LayerNorm(DIM)
        self.head = nn.Linear(DIM, V)
        self.register_buffer("mask", torch.full((BLOCK, BLOCK), float("-inf")).triu(1))

    def forward(self, x):
        h = self.norm(self.layer(self.tok(x) + self.pos, src_mask=self.mask))
        return torch.tanh(self.head(h))  # <- fault W103


torch.manual_seed(0)
model = TinyGPT()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-8)  # <- fault S502
for step in range(1, 241):
    starts = torch.randint(len(ids) - BLOCK - 1, (12, 1))
    chunk = ids[starts + torch.arange(BLOCK + 1)]
    out = model(chunk[:, :-1])
    loss = F.cross_entropy(out.reshape(-1, V), chunk[:, 1:].reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 30 == 0:
        acc = (out.argmax(-1) == chunk[:, 1:]).float().mean().item()
        print(f"step {step} loss {loss.item():.4f} accuracy {acc:.3f}")
