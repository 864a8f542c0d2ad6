"""Digit recognition with a configurable MLP and a training function."""
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


@dataclass
class ModelConfig:
    n_inputs: int = 64
    hidden: list = field(default_factory=lambda: [48])
    n_classes: int = 10


def build(cfg):
    sizes = [cfg.n_inputs, *cfg.hidden]
    layers = []
    for i, o in zip(sizes, sizes[1:]):
        layers.extend([nn.Linear(i, o), nn.LayerNorm(o), nn.GELU()])
    return nn.Sequential(*layers, nn.Linear(sizes[-1], cfg.n_classes))


def train(model, x, y, steps=250, batch=64, lr=3e-3):
    opt = torch.optim.AdamW(model.parameters(), lr=lr)
    for step in range(1, steps + 1):
        b = torch.randint(len(x), (batch,))
        loss = F.cross_entropy(model(x[b]), y[b])
        opt.zero_grad()
        loss.backward()
        opt.step()
        if step % 50 == 0:
            print("step", step, "loss", round(loss.item(), 4))
    with torch.no_grad():
        print("accuracy", (model(x).argmax(-1) == y).float().mean().item())


torch.manual_seed(0)
digits = load_digits()
train(build(ModelConfig()), torch.tensor(digits.data).float() / 16, torch.tensor(digits.target))
