"""Stripe directions in noisy patches: six conv layers with an init function, Trainer class."""
import math

import torch
import torch.nn.functional as F
from torch import nn


def patches(n, gen, size=10):
    label = torch.randint(4, (n,), generator=gen)
    angle = label * math.pi / 4
    grid = torch.arange(size).float()
    u = angle.cos()[:, None, None] * grid + angle.sin()[:, None, None] * grid[:, None]
    phase = 2 * math.pi * torch.rand(n, 1, 1, generator=gen)
    image = torch.sin(1.5 * u + phase) + 0.5 * torch.randn(n, size, size, generator=gen)
    return image.unsqueeze(1), label


def init_weights(module):
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(module.bias)


class StripeNet(nn.Module):
    def __init__(self, width=8, depth=6):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(1 if i == 0 else width, width, 3) if i < 3
            else nn.Conv2d(width, width, 3, padding=1) for i in range(depth))
        self.fc = nn.Linear(width, 4)
        self.apply(init_weights)

    def forward(self, x):
        for conv in self.convs:
            x = F.relu(conv(x))
        return self.fc(x.mean((2, 3)))


class Trainer:
    def __init__(self, model, lr):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)

    def epoch(self, x, y, size=40):
        losses, hits = [], 0
        for rows in torch.randperm(len(x)).split(size):
            logits = self.model(x[rows])
            loss = F.cross_entropy(logits, y[rows])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
            hits += (logits.argmax(1) == y[rows]).sum().item()
        return sum(losses) / len(losses), hits / len(x)


torch.manual_seed(0)
x, y = patches(1200, torch.Generator().manual_seed(0))
trainer = Trainer(StripeNet(), lr=0.01)
for epoch in range(1, 9):
    print("epoch %d loss %.4f accuracy %.3f" % (epoch, *trainer.epoch(x, y)))
