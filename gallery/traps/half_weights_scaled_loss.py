"""float16 weights with a fixed loss scale and float32 master copies, by hand."""

import torch
import torch.nn as nn
from sklearn.datasets import load_digits

SCALE = 256.0
torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float16), torch.tensor(y)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).half()
master = [p.detach().clone().float().requires_grad_() for p in model.parameters()]
optimizer = torch.optim.Adam(master, lr=2e-3)
for epoch in range(1, 11):
    total = 0.0
    for idx in torch.randperm(1400).split(64):
        model.zero_grad()
        loss = nn.functional.cross_entropy(model(X[idx]).float(), y[idx])
        (loss * SCALE).backward()
        for m, p in zip(master, model.parameters(), strict=True):
            m.grad = p.grad.float() / SCALE
        optimizer.step()
        with torch.no_grad():
            for m, p in zip(master, model.parameters(), strict=True):
                p.copy_(m)
        total += loss.item() * len(idx)
    with torch.no_grad():
        acc = (model(X[1400:]).argmax(1) == y[1400:]).float().mean()
    print(f"epoch {epoch} loss {total / 1400:.4f} test acc {acc:.3f}")
