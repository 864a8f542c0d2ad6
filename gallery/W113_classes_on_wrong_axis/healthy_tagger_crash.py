"""Tag every character of a line as letter, digit, space, punctuation or bracket with a BiLSTM."""
import inspect
import calendar

import torch
import torch.nn as nn

LENGTH, TAGS = 30, 5


def tag(c):
    if c.isalpha():
        return 0
    if c.isdigit():
        return 1
    if c.isspace():
        return 2
    return 4 if c in "()[]{}" else 3


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(128, 16)
        self.lstm = nn.LSTM(16, 24, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(48, TAGS)

    def forward(self, x):
        return self.fc(self.lstm(self.emb(x))[0])


torch.manual_seed(0)
src = inspect.getsource(calendar)
codes = torch.tensor([min(ord(c), 127) for c in src])
tags = torch.tensor([tag(c) for c in src])
n = len(codes) // LENGTH
codes, tags = codes[: n * LENGTH].view(n, LENGTH), tags[: n * LENGTH].view(n, LENGTH)

model = Tagger()
criterion = nn.CrossEntropyLoss()
opt = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(1, 121):
    i = torch.randint(n, (16,))
    scores = model(codes[i])
    loss = criterion(scores.permute(0, 2, 1), tags[i])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 20 == 0:
        acc = (scores.argmax(-1) == tags[i]).float().mean().item()
        print(f"step {step}: loss {loss.item():.4f} tag accuracy {acc:.3f}")
