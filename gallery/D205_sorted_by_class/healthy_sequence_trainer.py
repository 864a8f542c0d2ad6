"""Which of six Markov chains wrote a string of letters? An LSTM in a Trainer class."""
import numpy as np
import torch
from torch import nn

LETTERS, CHAINS = 8, 6


def write(chain, n, length, rng):
    table = np.random.default_rng(chain).dirichlet(np.full(LETTERS, 0.4), LETTERS)
    out = np.zeros((n, length), dtype=np.int64)
    out[:, 0] = rng.integers(0, LETTERS, n)
    for t in range(1, length):
        cumulative = table[out[:, t - 1]].cumsum(1)
        out[:, t] = (rng.random((n, 1)) > cumulative).sum(1).clip(0, LETTERS - 1)
    return out


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(LETTERS, 12)
        self.lstm = nn.LSTM(12, 24, batch_first=True)
        self.head = nn.Linear(24, CHAINS)

    def forward(self, tokens):
        out, _ = self.lstm(self.embed(tokens))
        return self.head(out.mean(1))


class Trainer:
    def __init__(self, model, tokens, labels, batch_size=25):
        self.model, self.tokens, self.labels = model, tokens, labels
        self.batch_size = batch_size
        self.optimizer = torch.optim.Adam(model.parameters(), lr=0.02)

    def epoch(self):
        total = 0.0
        order = torch.randperm(len(self.labels))
        for rows in order.split(self.batch_size):
            loss = nn.functional.cross_entropy(self.model(self.tokens[rows]), self.labels[rows])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(rows)
        return total / len(self.labels)

    @torch.no_grad()
    def accuracy(self):
        return (self.model(self.tokens).argmax(1) == self.labels).float().mean().item()


torch.manual_seed(0)
rng = np.random.default_rng(0)
tokens = torch.from_numpy(np.concatenate([write(c, 200, 24, rng) for c in range(CHAINS)]))
labels = torch.arange(CHAINS).repeat_interleave(200)
trainer = Trainer(Reader(), tokens, labels)
for epoch in range(8):
    print(f"epoch {epoch + 1}: loss {trainer.epoch():.4f}, accuracy {trainer.accuracy():.3f}")
