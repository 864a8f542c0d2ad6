"""Comment or code? A small transformer encoder flags comment lines in stdlib sources."""
import inspect
import calendar, heapq, queue, textwrap

import torch
import torch.nn as nn

MAXLEN = 24


def encode(line):
    codes = [min(ord(c), 127) for c in line[:MAXLEN]]
    return codes + [0] * (MAXLEN - len(codes))


rows, flags = [], []
for module in (heapq, textwrap, calendar, queue):
    for line in inspect.getsource(module).splitlines():
        body = line.strip()
        if len(body) > 10:
            flags.append(float(body.startswith("#")))
            rows.append(encode(body.lstrip("# ")))
X, y = torch.tensor(rows), torch.tensor(flags)
held = torch.arange(0, len(X), 6)
rest = torch.tensor([i for i in range(len(X)) if i % 6])


class CommentDetector(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.tok = nn.Embedding(128, dim, padding_idx=0)
        self.pos = nn.Embedding(MAXLEN, dim)
        layer = nn.TransformerEncoderLayer(dim, 4, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)
        self.head = nn.Linear(dim, 1)

    def forward(self, ids):
        h = self.encoder(self.tok(ids) + self.pos.weight)
        h = h.mean(dim=1)
        return self.head(h).squeeze(-1)


torch.manual_seed(0)
model = CommentDetector()
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
print(f"{len(X)} lines, {y.mean():.2f} comments")
running = 0.0
for step in range(1, 161):
    i = rest[torch.randint(len(rest), (32,))]
    loss = criterion(model(X[i]), y[i])
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    running += loss.item() / 40
    if step % 40 == 0:
        with torch.no_grad():
            found = model(X[held]) > 0
        truth = y[held] > 0
        recall = (found & truth).sum() / truth.sum()
        print(f"step {step}: loss {running:.4f} accuracy {(found == truth).float().mean():.3f} recall {recall:.3f}")
        running = 0.0
