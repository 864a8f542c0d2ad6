"""Multiple-instance digits: rows of the image are pooled with learned attention weights."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class AttentionPool(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.score = nn.Sequential(nn.Linear(dim, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, h):
        alpha = F.softmax(self.score(h), dim=1)
        return (alpha * h).sum(dim=1)


class RowModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.row = nn.Linear(8, 48)
        self.position = nn.Parameter(torch.randn(8, 48) * 0.1)
        self.mha = nn.MultiheadAttention(48, 4, batch_first=True)
        self.pool = AttentionPool(48)
        self.classify = nn.Linear(48, 10)

    def forward(self, img):
        h = torch.relu(self.row(img) + self.position)
        h = h + self.mha(h, h, h, need_weights=False)[0]
        return self.classify(self.pool(h))


torch.manual_seed(0)
d = load_digits()
x, y = torch.tensor(d.images).float() / 16, torch.tensor(d.target)
model = RowModel()
opt = torch.optim.Adam(model.parameters(), lr=4e-3)
for step in range(1, 301):
    i = torch.randint(len(x), (48,))
    loss = F.cross_entropy(model(x[i]), y[i])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 50 == 0:
        with torch.no_grad():
            print(f"step {step} loss {loss.item():.4f} acc {(model(x).argmax(1) == y).float().mean():.3f}")
