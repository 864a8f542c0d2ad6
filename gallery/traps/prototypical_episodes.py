"""Prototypical network: five-way episodes with fresh class numbers every time, digits."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

WAY, SHOT, QUERY = 5, 3, 6
torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
by_class = [X[y == c] for c in range(10)]
encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-3)


def episode(classes):
    chosen = torch.tensor(classes)[torch.randperm(len(classes))[:WAY]]
    rows = [by_class[c][torch.randperm(len(by_class[c]))[: SHOT + QUERY]] for c in chosen.tolist()]
    block = torch.stack(rows)
    return (
        block[:, :SHOT],
        block[:, SHOT:].flatten(0, 1),
        torch.arange(WAY).repeat_interleave(QUERY),
    )


def run(classes):
    support, query, target = episode(classes)
    proto = encoder(support).mean(1)
    logits = -torch.cdist(encoder(query), proto).pow(2)
    return F.cross_entropy(logits, target), (logits.argmax(1) == target).float().mean()


for step in range(1, 401):
    loss, acc = run(range(8))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        with torch.no_grad():
            seen = sum(run(range(10))[1].item() for _ in range(20)) / 20
        print(f"episode {step} loss {loss.item():.4f} acc {acc:.3f} all ten classes {seen:.3f}")
