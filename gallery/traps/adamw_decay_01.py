"""AdamW with the weight decay of 0.1 that language models use, split into two parameter groups."""

import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
model = nn.Sequential(
    nn.Linear(64, 128),
    nn.LayerNorm(128),
    nn.GELU(),
    nn.Linear(128, 128),
    nn.GELU(),
    nn.Linear(128, 10),
)
decay = [p for p in model.parameters() if p.ndim >= 2]
rest = [p for p in model.parameters() if p.ndim < 2]
optimizer = torch.optim.AdamW(
    [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}],
    lr=1e-3,
    betas=(0.9, 0.95),
)
for epoch in range(1, 11):
    for idx in torch.randperm(1400).split(32):
        loss = nn.functional.cross_entropy(model(X[idx]), y[idx])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    acc = (model(X[1400:]).argmax(1) == y[1400:]).float().mean()
    size = sum(p.norm() ** 2 for p in decay).sqrt()
    print(f"epoch {epoch} loss {loss.item():.4f} test acc {acc:.3f} weight norm {size:.2f}")
