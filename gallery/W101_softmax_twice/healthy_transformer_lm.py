"""Small decoder-only transformer on Python source text, character level."""
import argparse
import calendar
import inspect
import textwrap

import torch
import torch.nn as nn

p = argparse.ArgumentParser()
p.add_argument("--steps", type=int, default=200)
p.add_argument("--lr", type=float, default=3e-3)
p.add_argument("--dim", type=int, default=48)
p.add_argument("--block", type=int, default=24)
args = p.parse_args()

corpus = inspect.getsource(calendar) + inspect.getsource(textwrap)
symbols = sorted(set(corpus))
ids = torch.tensor([symbols.index(c) for c in corpus])


class Decoder(nn.Module):
    def __init__(self, vocab, dim, block):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.position = nn.Parameter(torch.zeros(block, dim))
        self.layer = nn.TransformerEncoderLayer(dim, 4, 2 * dim, dropout=0.0, batch_first=True, norm_first=True)
        self.final = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, vocab),
        )
        self.register_buffer("mask", torch.ones(block, block).triu(1).bool())

    def forward(self, x):
        h = self.embed(x) + self.position
        return self.final(self.layer(h, src_mask=self.mask))


torch.manual_seed(0)
model = Decoder(len(symbols), args.dim, args.block)
loss_fn = nn.CrossEntropyLoss()
opt = torch.optim.Adam(model.parameters(), lr=args.lr)
for step in range(1, args.steps + 1):
    s = torch.randint(len(ids) - args.block - 1, (16, 1))
    chunk = ids[s + torch.arange(args.block + 1)]
    out = model(chunk[:, :-1])
    loss = loss_fn(out.flatten(0, 1), chunk[:, 1:].flatten())
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 40 == 0:
        acc = (out.argmax(-1) == chunk[:, 1:]).float().mean().item()
        print(f"step {step}/{args.steps} vocab {len(symbols)} loss {loss.item():.3f} acc {acc:.3f}")
