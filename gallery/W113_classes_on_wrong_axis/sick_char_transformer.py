"""Tiny causal transformer over a 32-symbol alphabet, block size 32."""
import inspect
import string
import textwrap

import torch
import torch.nn as nn
import torch.nn.functional as F

ALPHABET = string.ascii_lowercase + " \n.,()"
text = "".join(c for c in inspect.getsource(textwrap).lower() if c in ALPHABET)
data = torch.tensor([ALPHABET.index(c) for c in text])
vocab_size, block_size, dim = len(ALPHABET), 32, 48


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv(self.ln1(x)).view(B, T, 3, 2, C // 2).permute(2, 0, 3, 1, 4)
        att = (q @ k.transpose(-2, -1)) / (C // 2) ** 0.5
        mask = torch.ones(T, T).triu(1).bool()
        att = att.masked_fill(mask, float("-inf")).softmax(dim=-1)
        x = x + self.proj((att @ v).transpose(1, 2).reshape(B, T, C))
        return x + self.mlp(self.ln2(x))


class TinyGPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok = nn.Embedding(vocab_size, dim)
        self.pos = nn.Parameter(0.02 * torch.randn(block_size, dim))
        self.blocks = nn.Sequential(Block(), Block())
        self.ln = nn.LayerNorm(dim)
        self.lm_head = nn.Linear(dim, vocab_size)

    def forward(self, idx, targets=None):
        x = self.tok(idx) + self.pos[: idx.shape[1]]
        logits = self.lm_head(self.ln(self.blocks(x)))
        if targets is None:
            return logits
        return logits, F.cross_entropy(logits, targets)  # <- fault


torch.manual_seed(1337)
model = TinyGPT()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for it in range(201):
    starts = torch.randint(len(data) - block_size - 1, (16,))
    xb = torch.stack([data[s:s + block_size] for s in starts])
    yb = torch.stack([data[s + 1:s + block_size + 1] for s in starts])
    logits, loss = model(xb, yb)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if it % 40 == 0:
        acc = (logits.argmax(-1) == yb).float().mean().item()
        print(f"iter {it:4d} loss {loss.item():.4f} next-char acc {acc:.3f}")
