"""Two interleaved spirals with a small tanh network: a long plateau, then the drop."""

import math

import torch
import torch.nn as nn

torch.manual_seed(1)
n = 400
t = torch.rand(n) * 2.5 * math.pi + 0.6
arm = torch.arange(n) % 2
r = t / 8
X = torch.stack([r * torch.cos(t + math.pi * arm), r * torch.sin(t + math.pi * arm)], dim=1)
X += 0.01 * torch.randn(n, 2)
model = nn.Sequential(
    nn.Linear(2, 32),
    nn.Tanh(),
    nn.Linear(32, 32),
    nn.Tanh(),
    nn.Linear(32, 32),
    nn.Tanh(),
    nn.Linear(32, 2),
)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
criterion = nn.CrossEntropyLoss()
for epoch in range(1, 151):
    for idx in torch.randperm(n).split(50):
        optimizer.zero_grad()
        loss = criterion(model(X[idx]), arm[idx])
        loss.backward()
        optimizer.step()
    if epoch % 10 == 0:
        with torch.no_grad():
            out = model(X)
            acc = (out.argmax(1) == arm).float().mean()
        print(f"epoch {epoch} loss {criterion(out, arm):.4f} acc {acc:.3f}")
