"""The older, re-entrant kind of checkpointing, over the middle of a convolutional network."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.checkpoint import checkpoint_sequential

torch.manual_seed(0)
d = load_digits()
x, y = torch.tensor(d.images / 16, dtype=torch.float32)[:, None], torch.tensor(d.target)
stem = nn.Conv2d(1, 8, 3, padding=1)
middle = nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU())
head = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
optimizer = torch.optim.Adam([*stem.parameters(), *middle.parameters(), *head.parameters()], lr=3e-3)
for epoch in range(4):
    total = 0.0
    for idx in torch.randperm(len(x)).split(64):
        out = head(checkpoint_sequential(middle, 2, stem(x[idx]), use_reentrant=True))
        loss = nn.functional.cross_entropy(out, y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    print(f"epoch {epoch + 1} loss {total / len(x):.4f}")
