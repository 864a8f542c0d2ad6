"""Which standard-library module does this line come from? Bag-of-characters classifier."""
import inspect
import bisect, calendar, colorsys, heapq, queue, textwrap

import torch
import torch.nn as nn

MODULES = [textwrap, bisect, colorsys, queue, calendar, heapq]
torch.manual_seed(0)
lines, labels = [], []
for k, m in enumerate(MODULES):
    good = [l.strip() for l in inspect.getsource(m).splitlines() if len(l.strip()) > 25]
    lines += good
    labels += [k] * len(good)


def features(line):
    v = torch.zeros(2048)
    for a, b, c in zip(line, line[1:], line[2:]):
        v[(ord(a) * 961 + ord(b) * 31 + ord(c)) % 2048] += 1
    return v / v.norm()


X = torch.stack([features(l) for l in lines])
y = torch.tensor(labels)
shuffled = torch.randperm(len(X))
train, val = shuffled[:-250], shuffled[-250:]
model = nn.Sequential(nn.Linear(2048, 64), nn.ReLU(), nn.Linear(64, len(MODULES)))
criterion = nn.CrossEntropyLoss()
opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
print(len(X), "lines,", len(MODULES), "modules")
for step in range(200):
    i = train[torch.randint(len(train), (32,))]
    out = model(X[i])
    loss = criterion(out, y[i])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 50 == 49:
        with torch.no_grad():
            guess = model(X[val]).argmax(1)
        print(f"{step + 1} loss {loss.item():.3f} val accuracy {(guess == y[val]).float().mean():.3f}")
