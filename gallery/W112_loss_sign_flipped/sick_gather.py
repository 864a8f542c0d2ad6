"""Softmax regression with one hidden layer; the log-likelihood is gathered by hand."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X, dtype=torch.float32) / 16, torch.tensor(y)
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
opt = torch.optim.SGD(model.parameters(), lr=0.1)


def cross_entropy(logits, target):
    logp = F.log_softmax(logits, dim=-1)
    picked = logp.gather(1, target.unsqueeze(1)).squeeze(1)
    return picked.mean()  # <- fault


for step in range(1, 301):
    i = torch.randint(0, 1797, (64,))
    loss = cross_entropy(model(X[i]), y[i])
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    if step % 50 == 0:
        with torch.no_grad():
            acc = (model(X).argmax(-1) == y).float().mean().item()
        print(f"step {step:3d} loss {loss.item():10.4f} acc {acc:.3f}")
