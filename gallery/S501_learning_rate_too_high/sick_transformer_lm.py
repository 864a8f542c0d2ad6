"""Character-level transformer language model on the source of the json package."""
import inspect
import json.decoder
import json.encoder

import torch
import torch.nn as nn

BLOCK, DIM, BATCH = 24, 48, 16
MAX_STEPS, LEARNING_RATE = 220, 0.3  # <- fault

text = inspect.getsource(json.decoder) + inspect.getsource(json.encoder)
alphabet = sorted(set(text))
lookup = {c: i for i, c in enumerate(alphabet)}
data = torch.tensor([lookup[c] for c in text])


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        out = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(out.transpose(1, 2).reshape(b, t, c))


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = Attention(dim, 4)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x):
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class LM(nn.Module):
    def __init__(self, vocab):
        super().__init__()
        self.tok = nn.Embedding(vocab, DIM)
        self.pos = nn.Embedding(BLOCK, DIM)
        self.blocks = nn.Sequential(Block(DIM), Block(DIM))
        self.ln = nn.LayerNorm(DIM)
        self.head = nn.Linear(DIM, vocab)

    def forward(self, idx):
        x = self.tok(idx) + self.pos(torch.arange(idx.shape[1]))
        return self.head(self.ln(self.blocks(x)))


torch.manual_seed(1)
model = LM(len(alphabet))
optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
for step in range(1, MAX_STEPS + 1):
    start = torch.randint(len(data) - BLOCK - 1, (BATCH, 1))
    chunk = data[start + torch.arange(BLOCK + 1)]
    logits = model(chunk[:, :-1])
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), chunk[:, 1:].flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if step % 20 == 0:
        print(f"{step:4d}/{MAX_STEPS}  loss {loss.item():.3f}")
