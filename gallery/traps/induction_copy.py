"""Repeated random sequences: a two-layer attention model must discover how to copy."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
V, HALF, D, H = 12, 8, 32, 2


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(D)
        self.qkv = nn.Linear(D, 3 * D, bias=False)
        self.out = nn.Linear(D, D, bias=False)

    def forward(self, x):
        B, T, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).view(B, T, 3, H, D // H).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.out(y.transpose(1, 2).reshape(B, T, D))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok = nn.Embedding(V, D)
        self.pos = nn.Embedding(2 * HALF, D)
        self.blocks = nn.Sequential(Block(), Block())
        self.head = nn.Linear(D, V)

    def forward(self, ids):
        return self.head(self.blocks(self.tok(ids) + self.pos.weight[: ids.shape[1]]))


model = Model()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
print(f"ln V {math.log(V):.3f} floor {math.log(V) * (HALF - 1) / (2 * HALF - 1):.3f}")
for step in range(1, 401):
    seq = torch.randint(V, (32, HALF)).repeat(1, 2)
    logits = model(seq[:, :-1])
    loss = F.cross_entropy(logits.reshape(-1, V), seq[:, 1:].reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0:
        second = (logits[:, HALF - 1 :].argmax(-1) == seq[:, HALF:]).float().mean()
        print(f"step {step} loss {loss.item():.4f} copied {second:.3f}")
