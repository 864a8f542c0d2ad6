"""Circles, squares, crosses and bars in small generated images: CNN, SGD with momentum."""
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset


class Shapes(Dataset):
    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        grid = np.arange(14)
        self.items = []
        for _ in range(n):
            kind, cy, cx, r = rng.integers(4), *rng.uniform(5, 9, 2), rng.uniform(3, 5)
            dy, dx = np.abs(grid[:, None] - cy), np.abs(grid[None, :] - cx)
            image = [
                np.abs(np.hypot(dy, dx) - r) < 0.9,
                np.abs(np.maximum(dy, dx) - r) < 0.9,
                (np.minimum(dy, dx) < 0.9) & (np.maximum(dy, dx) < r),
                (dy < 0.9) & (dx < 14),
            ][kind]
            noisy = image + 0.2 * rng.standard_normal((14, 14))
            self.items.append((torch.tensor(noisy, dtype=torch.float32)[None], int(kind)))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


torch.manual_seed(0)
train = DataLoader(Shapes(900, 0), batch_size=30, shuffle=True)
valid = DataLoader(Shapes(200, 1), batch_size=200)
net = nn.Sequential(
    nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(8, 16, 3), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(64, 4),
)
hparams = {
    "lr": 0.03,
    "momentum": 0.8,
    "weight_decay": 5e-4,
}
optimizer = torch.optim.SGD(net.parameters(), **hparams)
loss_fn = nn.CrossEntropyLoss()
for epoch in range(12):
    running = 0.0
    for images, labels in train:
        optimizer.zero_grad()
        loss = loss_fn(net(images), labels)
        loss.backward()
        optimizer.step()
        running += loss.item()
    with torch.no_grad():
        images, labels = next(iter(valid))
        acc = (net(images).argmax(1) == labels).float().mean().item()
    print(f"epoch {epoch + 1} loss {running / len(train):.4f} valid acc {acc:.3f}")
