"""Hand-written multi-head attention with view and transpose: which token occurs most often?"""

import math

import torch
import torch.nn as nn


class MultiHead(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.d = heads, dim // heads
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x):
        b, t, c = x.shape
        q = self.q(x).view(b, t, self.heads, self.d).transpose(1, 2)
        k = self.k(x).view(b, t, self.heads, self.d).transpose(1, 2)
        v = self.v(x).view(b, t, self.heads, self.d).transpose(1, 2)
        w = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(self.d), dim=-1)
        return self.o((w @ v).transpose(1, 2).contiguous().view(b, t, c))


class Encoder(nn.Module):
    def __init__(self, vocab=6, dim=24, heads=3):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = MultiHead(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 48), nn.ReLU(), nn.Linear(48, dim))
        self.head = nn.Linear(dim, vocab)

    def forward(self, ids):
        x = self.embed(ids)
        x = x + self.attn(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return self.head(x.mean(1))


torch.manual_seed(0)
ids = torch.randint(6, (2000, 11))
label = nn.functional.one_hot(ids, 6).sum(1).argmax(1)
model = Encoder()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(8):
    for idx in torch.randperm(1600).split(40):
        loss = nn.functional.cross_entropy(model(ids[idx]), label[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    acc = (model(ids[1600:]).argmax(1) == label[1600:]).float().mean()
    print(f"epoch {epoch + 1} loss {loss.item():.4f} test acc {acc:.3f}")
