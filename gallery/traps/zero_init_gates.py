"""Transformer-like residual branches with ReZero gates that start at zero, and a zero output layer."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits


class ReZeroBlock(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.attn = nn.MultiheadAttention(d, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))
        self.gate = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        x = x + self.gate[0] * self.attn(x, x, x, need_weights=False)[0]
        return x + self.gate[1] * self.mlp(x)


class Model(nn.Module):
    def __init__(self, d=32, depth=3):
        super().__init__()
        self.embed = nn.Linear(8, d)
        self.pos = nn.Parameter(torch.randn(8, d) * 0.1)
        self.blocks = nn.Sequential(*[ReZeroBlock(d) for _ in range(depth)])
        self.head = nn.Linear(8 * d, 10)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        return self.head(self.blocks(self.embed(x) + self.pos).flatten(1))


torch.manual_seed(0)
d = load_digits()
x, y = torch.tensor(d.images / 16, dtype=torch.float32), torch.tensor(d.target)
model = Model()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(5):
    total = 0.0
    for idx in torch.randperm(len(x)).split(64):
        loss = nn.functional.cross_entropy(model(x[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    print(f"epoch {epoch + 1} loss {total / len(x):.4f} gates {[round(b.gate[0].item(), 3) for b in model.blocks]}")
