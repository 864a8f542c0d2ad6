"""Which of four modules a piece of source text comes from: one transformer encoder layer."""
import bisect
import calendar
import colorsys
import inspect
import shlex

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

LENGTH = 32


def pieces():
    texts, labels = [], []
    for k, module in enumerate((bisect, calendar, colorsys, shlex)):
        source = " ".join(inspect.getsource(module).split())
        starts = range(0, min(len(source), 4000) - LENGTH, 16)
        texts += [source[i:i + LENGTH] for i in starts]
        labels += [k] * len(starts)
    chars = sorted(set("".join(texts)))
    return (torch.tensor([[chars.index(c) for c in t] for t in texts]),
            torch.tensor(labels), len(chars))


class Classifier(nn.Module):
    def __init__(self, vocab, dim=40, dropout=0.1):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.position = nn.Parameter(0.1 * torch.randn(LENGTH, dim))
        self.encoder = nn.TransformerEncoderLayer(dim, 2, 64, dropout=0.0, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(dim, 4)

    def forward(self, x):
        h = self.encoder(self.embed(x) + self.position).amax(dim=1)
        return self.head(self.dropout(h))


if __name__ == "__main__":
    torch.manual_seed(0)
    x, y, vocab = pieces()
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
    model = Classifier(vocab)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for epoch in range(1, 13):
        model.train()
        total = hits = 0
        for xb, yb in loader:
            logits = model(xb)
            loss = nn.functional.cross_entropy(logits, yb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(yb)
            hits += (logits.argmax(1) == yb).sum().item()
        print(f"epoch {epoch:2d} loss {total / len(y):.4f} acc {hits / len(y):.3f}")
