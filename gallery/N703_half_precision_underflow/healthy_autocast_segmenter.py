"""Mixed-precision segmentation of digits (ink or paper under noise), fully convolutional."""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


@dataclass
class Config:
    lr: float = 1e-2
    epochs: int = 12
    batch: int = 60
    pixel_weight: float = 1e-4
    scale_loss: bool = True


class Segmenter(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, 2, 1),
        )

    def forward(self, x):
        return self.net(x)


def main(cfg):
    torch.manual_seed(0)
    clean = torch.tensor(load_digits().images[:600], dtype=torch.float32).unsqueeze(1) / 16
    y = (clean.squeeze(1) > 0.4).long()
    x = clean + 0.3 * torch.randn_like(clean)
    model = Segmenter()
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    scaler = torch.amp.GradScaler("cpu", enabled=cfg.scale_loss)
    for epoch in range(cfg.epochs):
        total, hits = 0.0, 0.0
        for rows in torch.randperm(len(x)).split(cfg.batch):
            with torch.autocast("cpu", dtype=torch.float16):
                out = model(x[rows])
                loss = cfg.pixel_weight * F.cross_entropy(out.float(), y[rows])
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            total += loss.item() / cfg.pixel_weight * len(rows)
            hits += (out.argmax(1) == y[rows]).float().mean().item() * len(rows)
        if epoch % 2 == 1:
            print(f"epoch {epoch + 1} loss {total / len(x):.4f} pixels {hits / len(x):.3f}")


if __name__ == "__main__":
    main(Config())
