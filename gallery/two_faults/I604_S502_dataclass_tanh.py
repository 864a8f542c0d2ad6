"""Digits through two tanh layers with gains, SGD with momentum, dataclass configuration."""
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


@dataclass
class Config:
    width: int = 64
    offset: float = 12.0  # <- fault I604
    lr: float = 1e-7  # <- fault S502
    epochs: int = 10


def build(cfg):
    first, second = nn.Linear(64, cfg.width), nn.Linear(cfg.width, cfg.width)
    with torch.no_grad():
        for layer in (first, second):
            layer.bias.copy_(cfg.offset * torch.randn(cfg.width).sign())
    return nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), nn.Linear(cfg.width, 10))


def main(cfg):
    torch.manual_seed(0)
    digits = load_digits()
    x = torch.tensor(digits.data / 16, dtype=torch.float32)
    y = torch.tensor(digits.target)
    loader = DataLoader(TensorDataset(x, y), batch_size=40, shuffle=True)
    net = build(cfg)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=cfg.lr, momentum=0.9)
    for epoch in range(cfg.epochs):
        total, right = 0.0, 0
        for xb, yb in loader:
            out = net(xb)
            loss = criterion(out, yb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(yb)
            right += (out.argmax(1) == yb).sum().item()
        print(f"epoch {epoch + 1} loss {total / len(x):.4f} acc {right / len(x):.3f}")


if __name__ == "__main__":
    main(Config())
