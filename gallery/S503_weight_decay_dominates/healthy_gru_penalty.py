"""Next-character GRU on the source of heapq with an L2 penalty written by hand."""
import heapq
import inspect

import torch
import torch.nn as nn
import torch.nn.functional as F

source = inspect.getsource(heapq)
chars = sorted(set(source))
ids = torch.tensor([chars.index(c) for c in source])
seq_len, batch_size = 30, 16
l2 = 1e-6


class CharModel(nn.Module):
    def __init__(self, vocab):
        super().__init__()
        self.embedding = nn.Embedding(vocab, 24)
        self.gru = nn.GRU(24, 80, batch_first=True)
        self.decoder = nn.Linear(80, vocab)

    def forward(self, x):
        h, _ = self.gru(self.embedding(x))
        return self.decoder(h)


def sample_batch():
    start = torch.randint(len(ids) - seq_len - 1, (batch_size, 1))
    window = ids[start + torch.arange(seq_len + 1)]
    return window[:, :-1], window[:, 1:]


torch.manual_seed(5)
model = CharModel(len(chars))
optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
for step in range(1, 241):
    x, y = sample_batch()
    nll = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    penalty = sum(p.pow(2).sum() for p in model.parameters())
    loss = nll + l2 * penalty
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 30 == 0:
        print(f"step {step:3d}  nll {nll.item():.3f}  penalty {penalty.item():.2f}")
