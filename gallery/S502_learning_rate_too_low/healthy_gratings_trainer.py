"""Orientation of noisy gratings with a CNN, wrapped in a Trainer with a config dataclass."""
import math
from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class Config:
    classes: int = 6
    size: int = 12
    samples: int = 1200
    epochs: int = 10
    batch_size: int = 40
    lr: float = 3e-3


def gratings(n, cfg, gen):
    y = torch.randint(cfg.classes, (n,), generator=gen)
    angle = (math.pi * y / cfg.classes).view(-1, 1, 1)
    phase = 2 * math.pi * torch.rand(n, 1, 1, generator=gen)
    axis = torch.arange(cfg.size).float()
    rows, cols = torch.meshgrid(axis, axis, indexing="ij")
    wave = torch.sin(1.2 * (rows * torch.sin(angle) + cols * torch.cos(angle)) + phase)
    return (wave + 0.3 * torch.randn(wave.shape, generator=gen)).unsqueeze(1), y


class Trainer:
    def __init__(self, model, cfg):
        self.model, self.cfg = model, cfg
        self.gen = torch.Generator().manual_seed(0)
        self.train = gratings(cfg.samples, cfg, self.gen)
        self.val = gratings(300, cfg, self.gen)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=cfg.lr)
        self.criterion = nn.CrossEntropyLoss()

    def batches(self):
        x, y = self.train
        for idx in torch.randperm(len(x), generator=self.gen).split(self.cfg.batch_size):
            yield x[idx], y[idx]

    def run(self):
        for epoch in range(self.cfg.epochs):
            self.model.train()
            total = 0.0
            for x, y in self.batches():
                self.optimizer.zero_grad()
                loss = self.criterion(self.model(x), y)
                loss.backward()
                self.optimizer.step()
                total += loss.item() * len(x)
            self.model.eval()
            with torch.no_grad():
                acc = (self.model(self.val[0]).argmax(1) == self.val[1]).float().mean().item()
            mean = total / self.cfg.samples
            print(f"[{epoch + 1}/{self.cfg.epochs}] loss={mean:.4f} val={acc:.3f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 12, 5, stride=2), nn.ReLU(),
        nn.Conv2d(12, 24, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(24 * 4, 6),
    )
    Trainer(net, Config()).run()
