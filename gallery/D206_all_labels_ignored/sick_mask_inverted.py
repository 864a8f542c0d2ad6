"""Predict masked characters of the Zen of Python with a small transformer encoder."""
import codecs
import contextlib
import io

import torch
import torch.nn as nn
import torch.nn.functional as F

with contextlib.redirect_stdout(io.StringIO()):
    import this

lines = [l for l in codecs.decode(this.s, "rot13").lower().split("\n") if l]
chars = ["<pad>", "<mask>"] + sorted(set("".join(lines)))
PAD, MASK, LENGTH = 0, 1, 32


def encode(line):
    ids = [chars.index(c) for c in line[:LENGTH]]
    return ids + [PAD] * (LENGTH - len(ids))


tokens = torch.tensor([encode(l) for l in lines])


def corrupt(ids):
    labels = ids.clone()
    chosen = (torch.rand(ids.shape) < 0.2) & (ids != PAD)
    inputs = ids.masked_fill(chosen, MASK)
    labels[inputs != PAD] = -100  # <- fault
    labels[ids == PAD] = -100
    return inputs, labels


class Encoder(nn.Module):
    def __init__(self, v, d=48):
        super().__init__()
        self.tok = nn.Embedding(v, d)
        self.pos = nn.Parameter(0.1 * torch.randn(LENGTH, d))
        self.layers = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(d, 4, 96, dropout=0.0, batch_first=True), 1, enable_nested_tensor=False)
        self.out = nn.Linear(d, v)

    def forward(self, x):
        return self.out(self.layers(self.tok(x) + self.pos))


torch.manual_seed(0)
model = Encoder(len(chars))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(200):
    inputs, labels = corrupt(tokens)
    logits = model(inputs)
    loss = F.cross_entropy(logits.view(-1, len(chars)), labels.view(-1), ignore_index=-100)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 0 or step == 199:
        print(f"step {step} mlm loss {loss.item():.4f}")
