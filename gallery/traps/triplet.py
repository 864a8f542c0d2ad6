"""Metric learning on digits with a triplet margin loss."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X).float() / 16, torch.tensor(y)
by_class = [torch.where(y == k)[0] for k in range(10)]
embed = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
triplet = nn.TripletMarginLoss(margin=0.5)
opt = torch.optim.Adam(embed.parameters(), lr=1e-3)


def pick(k):
    pool = by_class[k]
    return pool[torch.randint(len(pool), (1,))]


for step in range(1, 201):
    a = torch.randint(10, (48,))
    n = (a + torch.randint(1, 10, (48,))) % 10
    anchor, pos, neg = (torch.cat([pick(k) for k in ks.tolist()]) for ks in (a, a, n))
    z = [F.normalize(embed(X[i]), dim=1) for i in (anchor, pos, neg)]
    loss = triplet(*z)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 40 == 0:
        print(f"step {step}: triplet {loss.item():.4f}")
