"""Character transformer on the source of textwrap, windows drawn with a seeded generator."""
import inspect
import textwrap

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

text = inspect.getsource(textwrap)
chars = sorted(set(text))
data = torch.tensor([chars.index(c) for c in text])
split = int(0.85 * len(data))
train_data, val_data = data[:split], data[split:]
CONTEXT, BATCH = 32, 16


def get_batch(source, seed, step=0):
    rng = np.random.default_rng(seed)  # <- fault
    starts = torch.from_numpy(rng.integers(0, len(source) - CONTEXT - 1, BATCH))
    window = source[starts[:, None] + torch.arange(CONTEXT + 1)]
    return window[:, :-1], window[:, 1:]


class CharTransformer(nn.Module):
    def __init__(self, vocab, width=48):
        super().__init__()
        self.tokens = nn.Embedding(vocab, width)
        self.places = nn.Embedding(CONTEXT, width)
        self.block = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(width, vocab)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(CONTEXT))

    def forward(self, x):
        h = self.tokens(x) + self.places(torch.arange(x.shape[1]))
        return self.head(self.block(h, src_mask=self.mask, is_causal=True))


def lm_loss(model, x, y):
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten())


torch.manual_seed(0)
model = CharTransformer(len(chars))
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
for step in range(1, 241):
    loss = lm_loss(model, *get_batch(train_data, seed=7, step=step))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0:
        with torch.no_grad():
            held_out = lm_loss(model, *get_batch(val_data, seed=11)).item()
        print(f"step {step}: loss {loss.item():.3f}, held-out loss {held_out:.3f}")
