"""Swin-style windows on digits: view, permute and view again, there and back."""

import torch
import torch.nn as nn
from sklearn.datasets import load_digits


def to_windows(x, w):
    b, h, v, c = x.shape
    x = x.view(b, h // w, w, v // w, w, c).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, w * w, c)


def from_windows(x, w, h, v):
    b = x.shape[0] // (h * v // w // w)
    x = x.view(b, h // w, v // w, w, w, -1).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h, v, -1)


class WindowBlock(nn.Module):
    def __init__(self, dim, shift):
        super().__init__()
        self.shift = shift
        self.norm = nn.LayerNorm(dim)
        self.attn = nn.MultiheadAttention(dim, 2, batch_first=True)
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)
        )

    def forward(self, x):
        h = to_windows(torch.roll(self.norm(x), (-self.shift, -self.shift), (1, 2)), 4)
        h = self.attn(h, h, h, need_weights=False)[0]
        x = x + torch.roll(from_windows(h, 4, 8, 8), (self.shift, self.shift), (1, 2))
        return x + self.mlp(x)


torch.manual_seed(0)
d = load_digits()
images = torch.tensor(d.images / 16, dtype=torch.float32)[..., None]
labels = torch.tensor(d.target)
embed, blocks = nn.Linear(1, 16), nn.Sequential(WindowBlock(16, 0), WindowBlock(16, 2))
pos, head = nn.Parameter(torch.randn(8, 8, 16) * 0.2), nn.Linear(64, 10)
params = [pos, *embed.parameters(), *blocks.parameters(), *head.parameters()]
optimizer = torch.optim.AdamW(params, lr=4e-3)


def forward(x):
    h = blocks(embed(x) + pos)
    return head(h.unfold(1, 4, 4).unfold(2, 4, 4).mean((4, 5)).flatten(1))


for epoch in range(7):
    for idx in torch.randperm(1000).split(50):
        loss = nn.functional.cross_entropy(forward(images[idx]), labels[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        acc = (forward(images[1400:]).argmax(1) == labels[1400:]).float().mean()
    print(f"epoch {epoch + 1} loss {loss.item():.4f} test acc {acc:.3f}")
