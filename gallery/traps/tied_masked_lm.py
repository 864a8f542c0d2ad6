"""Masked language model with one matrix for embedding and output, on sentences of a toy grammar."""

import random

import torch
import torch.nn as nn
import torch.nn.functional as F

random.seed(0)
torch.manual_seed(0)
NOUNS, VERBS, ADJ = ["dog", "cat", "girl", "boy"], ["sees", "likes", "hears"], ["big", "old", "red"]
vocab = {w: i for i, w in enumerate(["<mask>", "the", *NOUNS, *VERBS, *ADJ])}


def sentence():
    a, b = random.sample(NOUNS, 2)
    k = NOUNS.index(a) % 3
    return ["the", ADJ[k], a, VERBS[(k + NOUNS.index(b)) % 3], "the", b]


data = torch.tensor([[vocab[w] for w in sentence()] for _ in range(1500)])


class MLM(nn.Module):
    def __init__(self, n, d=32):
        super().__init__()
        self.embed = nn.Embedding(n, d)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.pos = nn.Parameter(torch.randn(data.shape[1], d) * 0.02)
        layer = nn.TransformerEncoderLayer(d, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(
            layer, 2, norm=nn.LayerNorm(d), enable_nested_tensor=False
        )
        self.bias = nn.Parameter(torch.zeros(n))

    def forward(self, ids):
        return F.linear(self.encoder(self.embed(ids) + self.pos), self.embed.weight, self.bias)


model = MLM(len(vocab))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for epoch in range(8):
    for idx in torch.randperm(len(data)).split(50):
        ids = data[idx]
        hide = torch.rand(ids.shape) < 0.2
        logits = model(ids.masked_fill(hide, vocab["<mask>"]))
        loss = F.cross_entropy(logits.transpose(1, 2), ids.masked_fill(~hide, -100))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    acc = (logits.argmax(-1) == ids)[hide].float().mean()
    print(f"epoch {epoch + 1} loss {loss.item():.4f} masked acc {acc:.3f}")
