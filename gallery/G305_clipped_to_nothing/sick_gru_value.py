"""Next character in the source of bisect with a GRU; gradient values clipped, SGD."""
import bisect
import inspect

import torch
import torch.nn as nn
import torch.nn.functional as F

text = inspect.getsource(bisect)
chars = sorted(set(text))
index = {c: i for i, c in enumerate(chars)}
ids = torch.tensor([index[c] for c in text])
SEQ, BATCH = 24, 16


class CharGRU(nn.Module):
    def __init__(self, vocab, width=64):
        super().__init__()
        self.embed = nn.Embedding(vocab, 24)
        self.gru = nn.GRU(24, width, batch_first=True)
        self.out = nn.Linear(width, vocab)

    def forward(self, x):
        h, _ = self.gru(self.embed(x))
        return self.out(h)


class Trainer:
    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)

    def batch(self):
        start = torch.randint(len(ids) - SEQ - 1, (BATCH, 1))
        window = ids[start + torch.arange(SEQ + 1)]
        return window[:, :-1], window[:, 1:]

    def step(self):
        x, y = self.batch()
        loss = F.cross_entropy(self.model(x).flatten(0, 1), y.flatten())
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(self.model.parameters(), 1e-6)  # <- fault
        self.optimizer.step()
        return loss.item()


torch.manual_seed(0)
trainer = Trainer(CharGRU(len(chars)))
for block in range(8):
    losses = [trainer.step() for _ in range(40)]
    print(f"steps {40 * (block + 1):3d}  loss {sum(losses) / len(losses):.3f}")
