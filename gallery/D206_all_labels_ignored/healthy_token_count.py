"""Sequence tagging (vowel, consonant, digit, other) of source code characters; loss summed and divided by the tokens."""
import inspect
import textwrap

import torch
import torch.nn as nn

IGNORE = -100
source = inspect.getsource(textwrap)[:6000]


def tag(c):
    return 0 if c.lower() in "aeiou" else 1 if c.isalpha() else 2 if c.isdigit() else 3


def make_example(chunk, width=40):
    ids = [min(ord(c), 127) for c in chunk]
    labels = [tag(c) for c in chunk]
    pad = width - len(ids)
    attention = [1] * len(ids) + [0] * pad
    labels = [l if a else IGNORE for l, a in zip(labels + [IGNORE] * pad, attention)]
    return ids + [0] * pad, labels


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(128, 12)
        self.lstm = nn.LSTM(12, 16, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(32, 4)

    def forward(self, x):
        return self.fc(self.lstm(self.emb(x))[0])


torch.manual_seed(0)
examples = [make_example(line[:40]) for line in source.split("\n") if line.strip()]
ids = torch.tensor([e[0] for e in examples])
labels = torch.tensor([e[1] for e in examples])
model = Tagger()
criterion = nn.CrossEntropyLoss(ignore_index=IGNORE, reduction="sum")
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
for epoch in range(10):
    total = n_tokens = 0
    for idx in torch.randperm(len(ids)).split(16):
        count = (labels[idx] != IGNORE).sum().clamp(min=1)
        loss = criterion(model(ids[idx]).transpose(1, 2), labels[idx]) / count
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * count.item()
        n_tokens += count.item()
    with torch.no_grad():
        acc = (model(ids).argmax(-1) == torch.tensor([[tag(chr(i)) for i in r] for r in ids.tolist()]))[ids > 0]
    print(f"epoch {epoch + 1} loss {total / n_tokens:.4f} tag accuracy {acc.float().mean().item():.3f}")
