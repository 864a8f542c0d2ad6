"""Disc or square? Per-pixel classes from a small encoder and a PixelShuffle decoder."""

import torch
import torch.nn as nn
import torch.nn.functional as F


def scenes(n, size=16):
    yy, xx = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    cy, cx = torch.randint(5, size - 5, (2, n, 1, 1))
    kind = torch.randint(2, (n, 1, 1))
    disc = (yy - cy) ** 2 + (xx - cx) ** 2 <= 14
    square = ((yy - cy).abs() <= 3) & ((xx - cx).abs() <= 3)
    mask = torch.where(kind == 0, disc.long(), 2 * square.long())
    image = (mask > 0).float() * torch.empty(n, 1, 1).uniform_(0.6, 1.4) + 0.2 * torch.randn(
        n, size, size
    )
    return image[:, None], mask


torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 16, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.Conv2d(16, 32, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.Conv2d(32, 64, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(64, 3 * 16, 1),
    nn.PixelShuffle(4),
)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(1, 161):
    image, mask = scenes(16)
    logits = model(image)
    loss = F.cross_entropy(logits, mask)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 0:
        pred = logits.argmax(1)
        iou = ((pred == mask) & (mask > 0)).sum() / ((pred > 0) | (mask > 0)).sum()
        print(f"step {step} loss {loss.item():.4f} iou {iou:.3f}")
