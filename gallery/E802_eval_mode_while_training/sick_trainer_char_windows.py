"""Character model of the Zen of Python with dropout, Trainer class, validated on the last lines."""
import codecs
import contextlib
import io

import torch
import torch.nn as nn
import torch.nn.functional as F

with contextlib.redirect_stdout(io.StringIO()):
    import this

text = codecs.decode(this.s, "rot13").lower()
chars = sorted(set(text))
ids = torch.tensor([chars.index(c) for c in text])
SPLIT, BLOCK = 600, 5


class CharNet(nn.Module):
    def __init__(self, vocab, dim=24, hidden=192):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.inner = nn.Linear(BLOCK * dim, hidden)
        self.drop = nn.Dropout(0.6)
        self.out = nn.Linear(hidden, vocab)

    def forward(self, x):
        h = self.drop(self.embed(x).flatten(1))
        return self.out(self.drop(torch.relu(self.inner(h))))


class Trainer:
    def __init__(self, model, ids):
        self.model = model
        windows = ids.unfold(0, BLOCK + 1, 1)
        self.train_set, self.val_set = windows[:SPLIT], windows[SPLIT:]
        self.optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    def loss(self, windows):
        return F.cross_entropy(self.model(windows[:, :-1]), windows[:, -1])

    def train_epoch(self):
        losses = []  # <- fault
        for batch in self.train_set[torch.randperm(len(self.train_set))].split(20):
            loss = self.loss(batch)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return sum(losses) / len(losses)

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        return self.loss(self.train_set).item(), self.loss(self.val_set).item()


torch.manual_seed(0)
trainer = Trainer(CharNet(len(chars)), ids)
for epoch in range(20):
    running = trainer.train_epoch()
    train, val = trainer.validate()
    print(f"epoch {epoch + 1:2d} running {running:.3f} train {train:.3f} validation {val:.3f}")
