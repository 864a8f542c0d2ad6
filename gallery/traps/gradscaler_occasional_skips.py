"""float16 autocast with a gradient scaler that grows quickly, so that a step is skipped from time to time."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0 ** 22, growth_interval=12)
skipped = 0
for epoch in range(8):
    total = 0.0
    for idx in torch.randperm(len(X)).split(64):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = nn.functional.cross_entropy(model(X[idx]), y[idx])
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        before = scaler.get_scale()
        scaler.update()
        skipped += scaler.get_scale() < before
        total += loss.item() * len(idx)
    print(f"epoch {epoch + 1} loss {total / len(X):.4f} scale 2^{torch.tensor(scaler.get_scale()).log2().item():.0f} skipped {skipped}")
