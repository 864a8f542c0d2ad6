"""Python keywords against method names from a small CSV export; batches that do not fit into memory are skipped."""
import csv
import io
import keyword
import zlib

import torch
import torch.nn as nn
import torch.nn.functional as F


def export():
    out = io.StringIO()
    writer = csv.writer(out)
    methods = {n for t in (str, bytes, list, dict, set, int, float, complex) for n in dir(t) if not n.startswith("_")}
    for i, (word, label) in enumerate([(w, 0) for w in sorted(methods)] + [(w, 1) for w in keyword.kwlist]):
        row = [word, label, len(word)]
        if i % 12 == 0:
            row.append(zlib.crc32(word.encode()) << 8)
        writer.writerow(row)
    return out.getvalue()


class Words:
    def __init__(self, text):
        rows = list(csv.reader(io.StringIO(text)))
        self.words = [r[0] for r in rows]
        self.labels = torch.tensor([int(r[1]) for r in rows])
        self.lengths = [int(r[-1]) for r in rows]  # <- fault

    def batch(self, idx):
        idx = idx.tolist()
        onehot = torch.zeros(len(idx), max(self.lengths[i] for i in idx), 128)
        for k, i in enumerate(idx):
            for t, c in enumerate(self.words[i]):
                onehot[k, t, ord(c)] = 1
        return onehot, self.labels[idx]


class CharCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(128, 32, 3, padding=1)
        self.fc = nn.Linear(32, 2)

    def forward(self, x):
        return self.fc(F.relu(self.conv(x.transpose(1, 2))).amax(dim=2))


torch.manual_seed(0)
data = Words(export())
model = CharCNN()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(25):
    losses, oom = [], 0
    for idx in torch.randperm(len(data.words)).split(24):
        try:
            x, y = data.batch(idx)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        except RuntimeError as e:
            if "memory" not in str(e):
                raise
            oom += 1
    if epoch % 4 == 0:
        mean = sum(losses) / len(losses) if losses else float("nan")
        print(f"epoch {epoch} loss {mean:.4f}")
