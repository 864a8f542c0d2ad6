"""Character language model whose output layer shares its matrix with the embedding."""
import heapq

import torch
import torch.nn as nn
import torch.nn.functional as F

text = heapq.__about__[:3000]
chars = sorted(set(text))
ids = torch.tensor([chars.index(c) for c in text])


class TiedGRU(nn.Module):
    def __init__(self, v, d=48):
        super().__init__()
        self.emb = nn.Embedding(v, d)
        self.gru = nn.GRU(d, d, batch_first=True)
        self.out = nn.Linear(d, v, bias=False)
        self.out.weight = self.emb.weight
        nn.init.normal_(self.emb.weight, std=0.3)

    def forward(self, x):
        return self.out(self.gru(self.emb(x))[0])


torch.manual_seed(0)
model = TiedGRU(len(chars))
optimizer = torch.optim.Adam(model.parameters(), lr=8e-3)
for step in range(1, 201):
    i = torch.randint(len(ids) - 25, (16, 1)) + torch.arange(25)
    w = ids[i]
    logits = model(w[:, :-1])
    loss = F.cross_entropy(logits.reshape(-1, len(chars)), w[:, 1:].reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 25 == 0:
        print(f"step {step} loss {loss.item():.3f}")
