"""Train a breast-cancer classifier with a mean log-likelihood objective, Adam, and clipping."""
import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale

ap = argparse.ArgumentParser()
ap.add_argument("--lr", type=float, default=1e-3)
ap.add_argument("--epochs", type=int, default=15)
ap.add_argument("--clip", type=float, default=1.0)
opt = ap.parse_args()

torch.manual_seed(1)
X, y = load_breast_cancer(return_X_y=True)
X, y = torch.tensor(scale(X), dtype=torch.float32), torch.tensor(y)
net = torch.nn.Sequential(torch.nn.Linear(30, 32), torch.nn.SiLU(), torch.nn.Linear(32, 2))
optimizer = torch.optim.Adam(net.parameters(), lr=opt.lr)

for epoch in range(opt.epochs):
    nll_sum, ok = 0.0, 0
    for rows in torch.randperm(len(X)).split(32):
        logits = net(X[rows])
        nll = F.cross_entropy(logits, y[rows])
        optimizer.zero_grad()
        nll.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), opt.clip)
        optimizer.step()
        nll_sum += nll.item() * len(rows)
        ok += int((logits.argmax(1) == y[rows]).sum())
    print(f"epoch {epoch:2d} nll {nll_sum / len(X):.4f} acc {ok / len(X):.3f}")
