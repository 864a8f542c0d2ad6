"""Dunder names against ordinary words: an EmbeddingBag over their characters."""
import keyword
import random

import torch
from torch import nn

WORDS = sorted({w.strip("'.,:;()").lower() for m in (random, keyword) for w in (m.__doc__ or "").split()}
               | {n.lower() for n in dir(str) + dir(list) + dir(dict) + dir(int) + dir(set)})
WORDS = [w for w in WORDS if w and w.isascii()]


class CharBag(nn.Module):
    def __init__(self, n_classes=2):
        super().__init__()
        self.bag = nn.EmbeddingBag(128, 16, mode="mean")
        self.fc = nn.Linear(16, n_classes)

    def forward(self, flat, offsets):
        return self.fc(self.bag(flat, offsets))


def collate(words):
    codes = [torch.tensor([ord(c) for c in w]) for w in words]
    offsets = torch.tensor([0] + [len(c) for c in codes[:-1]]).cumsum(0)
    labels = torch.tensor([int(w.startswith("__")) for w in words])
    return torch.cat(codes), offsets, labels


torch.manual_seed(0)
loader = torch.utils.data.DataLoader(WORDS, batch_size=16, shuffle=True, collate_fn=collate)
model = CharBag()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
loss_fn = nn.CrossEntropyLoss()
print(len(WORDS), "words")
for epoch in range(15):
    total = right = 0
    for flat, offsets, labels in loader:
        optimizer.zero_grad()
        logits = model(flat, offsets)
        loss = loss_fn(logits, labels)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
        right += (logits.argmax(1) == labels).sum().item()
    print(f"epoch {epoch} loss {total / len(WORDS):.4f} acc {right / len(WORDS):.3f}")
