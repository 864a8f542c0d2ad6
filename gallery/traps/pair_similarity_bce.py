"""Siamese network: do two digits show the same number? One sigmoid, BCELoss, balanced pairs."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X).float() / 16, torch.tensor(y)
groups = [torch.where(y == k)[0] for k in range(10)]
embed = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 24))
out = nn.Linear(24, 1)
opt = torch.optim.Adam([*embed.parameters(), *out.parameters()], lr=4e-3)
for step in range(1, 301):
    a = torch.randint(len(X), (64,))
    b = torch.randint(len(X), (64,))
    for j in range(0, 64, 2):
        g = groups[y[a[j]]]
        b[j] = g[torch.randint(len(g), (1,))]
    same = (y[a] == y[b]).float()
    prob = torch.sigmoid(out((embed(X[a]) - embed(X[b])).abs())).squeeze(1)
    loss = nn.functional.binary_cross_entropy(prob, same)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 50 == 0:
        print(f"step {step}: bce {loss.item():.4f} acc {((prob > 0.5) == (same > 0.5)).float().mean():.3f}")
