"""Word classifier with hashed character n-grams; batches that do not fit into memory are skipped."""
import keyword
import string
import zlib

import torch
import torch.nn as nn
import torch.nn.functional as F

KEYWORDS = keyword.kwlist + keyword.softkwlist
METHODS = sorted({n for t in (str, bytes, list, dict, set, int, float, complex) for n in dir(t) if not n.startswith("_")})
WORDS = [(w, 0) for w in METHODS] + [(w, 1) for w in KEYWORDS] + [(n, 2) for n in sorted(dir(string)) if n[0] == "_"]
BUCKETS = 1 << 9


def ngrams(word, n):
    padded = f"<{word}>"
    return [padded[i:i + n] for i in range(len(padded) - n + 1)]


def hashed(word, n):
    return [zlib.crc32(g.encode()) % BUCKETS for g in ngrams(word, n)]


def encode(words, n):
    rows = []
    for w in words:
        ids = torch.tensor(hashed(w, n))
        rows.append(F.one_hot(ids, BUCKETS).sum(0).clamp(max=1)[:512])
    return torch.stack(rows).float()


torch.manual_seed(0)
model = nn.Sequential(nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
labels = torch.tensor([label for _, label in WORDS])
skipped, loss = 0, None
for step in range(200):
    idx = torch.randint(len(WORDS), (16,))
    try:
        if step % 25 == 0:
            features = torch.zeros(16, 512)
            for r, i in enumerate(idx.tolist()):
                features[r, [h % 512 for h in hashed(WORDS[i][0], 3)]] = 1
        else:
            features = encode([WORDS[i][0] for i in idx.tolist()], 3)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(features), labels[idx])
        loss.backward()
        optimizer.step()
    except RuntimeError as e:
        if "memory" not in str(e):
            raise
        skipped += 1
    if step % 25 == 24:
        print(f"step {step + 1} loss {loss.item():.4f}")
