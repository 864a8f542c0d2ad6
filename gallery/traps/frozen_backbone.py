"""Backbone trained on the digits 0-4, then frozen and reused for 5-9 with a new head."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
d = load_digits()
x = torch.tensor(d.images / 16, dtype=torch.float32).unsqueeze(1)
y = torch.tensor(d.target)
backbone = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())


def fit(model, x, y, epochs, lr):
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=lr)
    for epoch in range(epochs):
        total = correct = 0
        for idx in torch.randperm(len(x)).split(32):
            out = model(x[idx])
            loss = nn.functional.cross_entropy(out, y[idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(idx)
            correct += (out.argmax(1) == y[idx]).sum().item()
        print(f"epoch {epoch} loss {total / len(x):.4f} acc {correct / len(x):.3f}")


low = y < 5
fit(nn.Sequential(backbone, nn.Linear(256, 5)), x[low], y[low], 3, 2e-3)
for p in backbone.parameters():
    p.requires_grad_(False)
fit(nn.Sequential(backbone, nn.Linear(256, 5)), x[~low], y[~low] - 5, 6, 3e-3)
