"""Decoder-only transformer on the source of the queue and sched modules, GPT-style init hook."""
import inspect
import queue
import sched

import torch
from torch import nn


class TinyGPT(nn.Module):
    def __init__(self, vocab, dim=48, block=24, heads=4, layers=2):
        super().__init__()
        self.block = block
        self.tok = nn.Embedding(vocab, dim)
        self.pos = nn.Embedding(block, dim)
        make = lambda: nn.TransformerEncoderLayer(dim, heads, 2 * dim, 0.0, "gelu",
                                                  batch_first=True, norm_first=True)
        self.layers = nn.ModuleList(make() for _ in range(layers))
        self.head = nn.Linear(dim, vocab, bias=False)
        self.apply(self._init)

    def _init(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, idx):
        t = idx.shape[1]
        h = self.tok(idx) + self.pos(torch.arange(t))
        mask = torch.ones(t, t).triu(1).bool()
        for layer in self.layers:
            h = layer(h, src_mask=mask)
        return self.head(h)


torch.manual_seed(0)
text = inspect.getsource(queue) + inspect.getsource(sched)
chars = sorted(set(text))
data = torch.tensor([chars.index(c) for c in text])
model = TinyGPT(len(chars))
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
for it in range(201):
    ix = torch.randint(len(data) - model.block - 1, (16,))
    x = torch.stack([data[i:i + model.block] for i in ix])
    y = torch.stack([data[i + 1:i + 1 + model.block] for i in ix])
    loss = nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if it % 25 == 0:
        print(f"iter {it}: loss {loss.item():.4f}")
