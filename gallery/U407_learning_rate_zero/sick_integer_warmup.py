"""Tiny transformer language model on difflib's documentation, AdamW with linear warm-up."""
import difflib

import torch
import torch.nn as nn
import torch.nn.functional as F

text = difflib.__doc__ + difflib.SequenceMatcher.__doc__ + difflib.Differ.__doc__
vocab = sorted(set(text))
ids = torch.tensor([vocab.index(c) for c in text])
BLOCK, BATCH, STEPS, WARMUP = 24, 12, 200, 40


class TinyLM(nn.Module):
    def __init__(self, n_vocab, d=32):
        super().__init__()
        self.tok = nn.Embedding(n_vocab, d)
        self.pos = nn.Embedding(BLOCK, d)
        self.layer = nn.TransformerEncoderLayer(d, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, n_vocab)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(BLOCK))

    def forward(self, x):
        h = self.tok(x) + self.pos(torch.arange(x.size(1)))
        return self.head(self.norm(self.layer(h, src_mask=self.mask)))


def warmup(step):
    return min(1, (step + 1) // STEPS)  # <- fault


torch.manual_seed(0)
model = TinyLM(len(vocab))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup)
for step in range(STEPS):
    i = torch.randint(len(ids) - BLOCK - 1, (BATCH, 1)) + torch.arange(BLOCK)
    logits = model(ids[i])
    loss = F.cross_entropy(logits.transpose(1, 2), ids[i + 1])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    if step % 20 == 0:
        print(f"step {step:4d} loss {loss.item():.3f} ppl {loss.exp().item():.1f}")
print(f"final loss {loss.item():.3f}")
