"""Sanity check before the real run: can the network memorise one batch?"""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
d = load_digits()
loader = DataLoader(TensorDataset(torch.tensor(d.images / 16, dtype=torch.float32)[:, None], torch.tensor(d.target)),
                    batch_size=32, shuffle=True)
model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
x, y = next(iter(loader))
for step in range(200):
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 25 == 24:
        print(f"step {step + 1} loss {loss.item():.5f} acc {(model(x).argmax(1) == y).float().mean().item():.3f}")
