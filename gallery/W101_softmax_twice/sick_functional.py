"""Character-level language model (GRU) on the source of a standard-library module."""
import inspect
import textwrap

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(1337)
text = inspect.getsource(textwrap)
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
data = torch.tensor([stoi[c] for c in text])
V = len(chars)


class CharGRU(nn.Module):
    def __init__(self, vocab, emb=32, hidden=96):
        super().__init__()
        self.emb = nn.Embedding(vocab, emb)
        self.rnn = nn.GRU(emb, hidden, batch_first=True)
        self.out = nn.Linear(hidden, vocab)

    def forward(self, idx):
        h, _ = self.rnn(self.emb(idx))
        x = self.out(h)
        return F.softmax(x, dim=-1)  # <- fault


def get_batch(batch_size=16, block=32):
    ix = torch.randint(len(data) - block - 1, (batch_size,))
    x = torch.stack([data[i:i + block] for i in ix])
    y = torch.stack([data[i + 1:i + block + 1] for i in ix])
    return x, y


net = CharGRU(V)
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
print("vocabulary", V, "characters", len(data))
for step in range(201):
    xb, yb = get_batch()
    out = net(xb)
    loss = F.cross_entropy(out.reshape(-1, V), yb.reshape(-1))
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 40 == 0:
        print(f"step {step:4d} | loss {loss.item():.4f}")
