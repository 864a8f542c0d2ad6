"""Character GRU on a short text; lingers near the frequencies of the letters."""

import codecs
import math
import this

import torch
import torch.nn as nn

torch.manual_seed(0)
text = codecs.decode(this.s, "rot13").lower() * 4
chars = sorted(set(text))
data = torch.tensor([chars.index(c) for c in text])
freq = torch.bincount(data).float() / len(data)
print(f"ln V {math.log(len(chars)):.3f} unigram entropy {-(freq * freq.log()).sum():.3f}")


class CharModel(nn.Module):
    def __init__(self, vocab, width=48):
        super().__init__()
        self.embed = nn.Embedding(vocab, 16)
        self.rnn = nn.GRU(16, width, batch_first=True)
        self.head = nn.Linear(width, vocab)

    def forward(self, x):
        h, _ = self.rnn(self.embed(x))
        return self.head(h)


model = CharModel(len(chars))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
T = 32
for step in range(1, 301):
    start = torch.randint(len(data) - T - 1, (16,))
    window = torch.stack([data[s : s + T + 1] for s in start.tolist()])
    logits = model(window[:, :-1])
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
    if step % 30 == 0:
        print(f"step {step} loss {loss.item():.3f}")
