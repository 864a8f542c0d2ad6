"""Digits with a warm-up of the learning rate from zero over most of the run."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.optim.lr_scheduler import LambdaLR

STEPS, WARMUP = 450, 300
torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
model = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
scheduler = LambdaLR(optimizer, lambda step: min(1.0, (step / WARMUP) ** 2))
for step in range(STEPS):
    idx = torch.randint(len(X), (64,))
    loss = nn.functional.cross_entropy(model(X[idx]), y[idx])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    if step % 50 == 49:
        print(f"step {step + 1} lr {scheduler.get_last_lr()[0]:.2e} loss {loss.item():.4f}")
