"""RankNet on diabetes: all pairs in the batch, an N x N matrix of score differences on purpose."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_diabetes

torch.manual_seed(0)
X, y = load_diabetes(return_X_y=True)
X, y = torch.tensor(X).float() * 21, torch.tensor(y).float()
scorer = nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 1))
opt = torch.optim.Adam(scorer.parameters(), lr=2e-3)
for step in range(1, 301):
    i = torch.randint(len(X), (32,))
    s = scorer(X[i])
    better = (y[i][:, None] > y[i][None, :]).float()
    pairs = y[i][:, None] != y[i][None, :]
    loss = F.binary_cross_entropy_with_logits((s - s.t())[pairs], better[pairs])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 50 == 0:
        with torch.no_grad():
            r = scorer(X).squeeze(1)
        ok = ((r[:, None] > r) == (y[:, None] > y)).float().mean()
        print(f"step {step}: pair loss {loss.item():.4f} concordance {ok:.3f}")
